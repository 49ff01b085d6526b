use bson::oid::ObjectId;
use serde::{Deserialize, Serialize};

use crate::codec::{BucketId, RemovalId, Sequence};

/// Of which bucket another one is being made as a copy, in the record of the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOf {
    pub source: BucketId,
    /// Deleted documents are left behind.
    #[serde(default)]
    pub live_only: bool,
}

/// A swap lets the writers of a bucket wait, in the record of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseOf {
    /// The removal that the swap is about to make: tells one swap from another.
    pub swap: RemovalId,
    /// When it is over whatever becomes of the swap, in cluster time.
    pub until: i64,
    /// How long it lasts altogether, in milliseconds.
    pub length_ms: i64,
}

/// What a copy is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyPhase {
    /// It takes over the documents, in the order of their ids.
    Documents,
    /// It takes over the deleted documents.
    Tombstones,
    /// It follows the change log of its source.
    Following,
    /// It cannot go on, and nobody tries any more.
    Failed,
}

impl CopyPhase {
    /// As DESCRIBE writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Tombstones => "tombstones",
            Self::Following => "following",
            Self::Failed => "failed",
        }
    }
}

/// `data/<copy>/copy`: how far a copy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRecord {
    pub phase: CopyPhase,
    /// What was committed in the source up to here was there when the documents were taken over.
    pub registered: Sequence,
    pub started_at: i64,
    /// The last document, or deleted document, that was taken over.
    #[serde(default)]
    pub cursor: Option<ObjectId>,
    /// Of a deleted document.
    #[serde(default)]
    pub cursor_removal: Option<RemovalId>,
    /// How far each shard of the log has been followed, in the order of the bucket's record.
    pub positions: Vec<Sequence>,
    /// Documents and deleted documents taken over, and about how many there are.
    #[serde(default)]
    pub done: i64,
    #[serde(default)]
    pub total: i64,
    /// Changes followed.
    #[serde(default)]
    pub changes: i64,
    /// What went wrong last. Gone when it goes on.
    #[serde(default)]
    pub error: Option<String>,
}

impl CopyRecord {
    /// What every shard has been followed up to: what the log need not be kept for.
    #[must_use]
    pub fn checkpoint(&self) -> Sequence {
        self.positions.iter().copied().min().unwrap_or_default().max(self.registered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Versionstamp;

    #[test]
    fn a_checkpoint_is_what_every_shard_was_followed_up_to_and_never_before_the_registration() {
        let registered = Sequence::last_visible_at(5);
        let record = |positions| CopyRecord {
            phase: CopyPhase::Following,
            registered,
            started_at: 0,
            cursor: None,
            cursor_removal: None,
            positions,
            done: 0,
            total: 0,
            changes: 0,
            error: None,
        };
        let (early, late) =
            (Sequence::new(Versionstamp::new(8, 0), 3), Sequence::last_visible_at(9));
        assert_eq!(record(vec![Sequence::START, late]).checkpoint(), registered);
        assert_eq!(record(vec![late, early]).checkpoint(), early);
        assert_eq!(record(Vec::new()).checkpoint(), registered);
    }
}
