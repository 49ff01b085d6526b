//! The record of the cluster as a whole.

use serde::{Deserialize, Serialize};

/// What all nodes of a cluster agree on, written at the first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    pub name: String,
    /// Shards of background work and change logs; fixed for ever.
    pub shards: u16,
    /// The version of the key space.
    pub format: u32,
    pub created_at: i64,
    /// Drawn at the first start, so that no two clusters are taken for one.
    #[serde(default)]
    pub id: String,
}

impl ClusterRecord {
    /// What tells this cluster from every other.
    #[must_use]
    pub fn identity(&self) -> String {
        // Stores made before clusters drew an id have none.
        if self.id.is_empty() { format!("{:x}", self.created_at) } else { self.id.clone() }
    }
}
