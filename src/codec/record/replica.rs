use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::Sequence;

/// `replica/<bucket>/<name>`: a registered reader of a bucket's change log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// Everything at or below it has been taken over. Never goes back.
    pub checkpoint: Sequence,
    /// How long it may be silent; `None` for readers inside the cluster, which are never stale.
    pub lease_ms: Option<i64>,
    /// When its lease is over, on the bucket's own clock.
    pub lease_until: Option<i64>,
    pub registered_at: i64,
    /// `None`: it has said nothing since it was registered.
    #[serde(default)]
    pub last_ack_at: Option<i64>,
    /// Something that it had not read was destroyed after its lease was over.
    #[serde(default)]
    pub stale: bool,
}

/// `data/<bucket>/origin`: the buckets, of this or of other clusters, whose
/// changes this one takes over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginRecord {
    /// Those that it follows, and those that these follow.
    pub origins: Vec<String>,
    /// Up to where the changes of each that it follows were sent to it.
    #[serde(default)]
    pub applied: BTreeMap<String, Sequence>,
    /// How far the snapshot is of those of which it has not all yet.
    #[serde(default)]
    pub snapshots: BTreeMap<String, SnapshotRecord>,
}

/// How far a snapshot of another bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Where the changes begin that are to be taken over after it.
    pub sequence: Sequence,
    /// The last document of the origin, in the order of their ids, that was compared.
    pub after: [u8; 12],
}
