//! What is kept of a command that may be sent again.

use serde::{Deserialize, Serialize};

/// `operation/<user>/<operation id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Of the whole command, so that the id cannot be used for another one.
    pub hash: String,
    /// What the command answered, as its own result type writes it. Null when it lies in pieces.
    pub result: bson::Bson,
    /// Rows that hold the result instead, `operation/<user>/<operation id>/<piece>`.
    #[serde(default)]
    pub pieces: u32,
    pub until: i64,
}

/// A result that lies in pieces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultRecord {
    pub result: bson::Bson,
}
