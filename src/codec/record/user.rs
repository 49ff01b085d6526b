//! Users and what they may do.

use serde::{Deserialize, Serialize};

/// `user/<name>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// Made anew with each user, so that a second one of the same name is another.
    pub born: i64,
    pub enabled: bool,
    /// Any password is taken, and none is asked for.
    pub nopass: bool,
    /// As argon2id writes them, with salt and parameters.
    pub passwords: Vec<String>,
    /// The first is the root; each gives rights of its own.
    pub selectors: Vec<SelectorRecord>,
    pub changed_at: i64,
    pub changed_by: String,
}

impl std::fmt::Debug for UserRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRecord")
            .field("enabled", &self.enabled)
            .field("nopass", &self.nopass)
            .field("passwords", &self.passwords.len())
            .field("selectors", &self.selectors)
            .finish_non_exhaustive()
    }
}

/// Rights in the namespaces that fit one of the patterns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectorRecord {
    /// By their names, such as `restore-own`.
    pub rights: Vec<String>,
    /// `+command` and `-command`, sorted by the name.
    pub commands: Vec<String>,
    pub patterns: Vec<String>,
}
