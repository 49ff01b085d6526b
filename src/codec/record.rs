//! What the values of metadata keys hold.
//!
//! Records are BSON documents through serde, so that fields can be added: a
//! field that an older record lacks gets its default. Times are milliseconds
//! since 1970 in cluster time.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::collation::Collation;
use super::duration::Retention;
use super::{DecodeError, NamespaceId, Object, RemovalId, Versionstamp};

mod cluster;
mod copy;
mod index;
mod operation;
mod policy;
mod replica;
mod user;

pub use cluster::ClusterRecord;
pub use copy::{CopyOf, CopyPhase, CopyRecord, PauseOf};
pub use index::{
    AnalysisRecord, HistogramBucket, HistogramRecord, IndexField, IndexRecord, IndexStatus,
    IndexTaskRecord, IndexType, TaskKind, TaskStatus,
};
pub use operation::{OperationRecord, ResultRecord};
pub use policy::{
    HoldRecord, KeptBy, Lock, PolicyRecord, PromiseRecord, RequestRecord, RetentionRecord,
};
pub use replica::{OriginRecord, ReplicaRecord, SnapshotRecord};
pub use user::{SelectorRecord, UserRecord};

/// Writes a record.
///
/// # Panics
/// Never: records are plain structs that BSON can hold.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "our own structs of text, numbers and lists always fit BSON"
)]
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    bson::serialize_to_vec(record).expect("a record fits BSON")
}

/// Reads a record.
///
/// # Errors
/// When the bytes are no BSON document with the record's fields.
pub fn decode<T: DeserializeOwned>(what: &'static str, value: &[u8]) -> Result<T, DecodeError> {
    bson::deserialize_from_slice(value).map_err(|error| DecodeError::new(what, error))
}

/// Writes a record behind a versionstamp that the store fills in, as a value
/// for `set_versionstamped_value`.
#[must_use]
pub fn encode_versioned_now<T: Serialize>(record: &T) -> Vec<u8> {
    let mut value = vec![0xff; 10];
    value.extend(encode(record));
    value.extend(0_u32.to_le_bytes());
    value
}

/// Writes a record behind a known versionstamp.
#[must_use]
pub fn encode_versioned<T: Serialize>(version: Versionstamp, record: &T) -> Vec<u8> {
    let mut value = version.as_bytes().to_vec();
    value.extend(encode(record));
    value
}

/// Reads what [`encode_versioned_now`] or [`encode_versioned`] wrote.
///
/// # Errors
/// When the value is too short or its record does not decode.
pub fn decode_versioned<T: DeserializeOwned>(
    what: &'static str,
    value: &[u8],
) -> Result<(Versionstamp, T), DecodeError> {
    let (version, record) =
        value.split_at_checked(10).ok_or_else(|| DecodeError::new(what, "too short"))?;
    Ok((Versionstamp::decode(version)?, decode(what, record)?))
}

/// Writes a number as the little-endian 64-bit form that atomic adds use.
#[must_use]
pub const fn encode_sum(sum: i64) -> [u8; 8] {
    sum.to_le_bytes()
}

/// Reads a sum of atomic adds; a missing one is 0.
///
/// # Errors
/// When there are not exactly eight bytes.
pub fn decode_sum(what: &'static str, value: Option<&[u8]>) -> Result<i64, DecodeError> {
    value.map_or(Ok(0), |value| {
        <[u8; 8]>::try_from(value)
            .map(i64::from_le_bytes)
            .map_err(|_| DecodeError::new(what, "not eight bytes"))
    })
}

/// The states of a bucket or a namespace. Purging ones have no record any more:
/// only the reclaim job and the grave tell of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Active,
    Removed,
}

/// `namespace/record/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    pub parent: NamespaceId,
    pub segment: String,
    pub state: State,
    pub created_at: i64,
    #[serde(default)]
    pub protected: bool,
    /// By how much its clock is behind that of its parent; less than nothing after a MOVE.
    #[serde(default)]
    pub stood_still_ms: i64,
    /// When it was last restored: what was removed below before has a grace.
    #[serde(default)]
    pub restored_at: Option<i64>,
    #[serde(default, skip_serializing_if = "PolicyRecord::is_empty")]
    pub policy: PolicyRecord,
}

impl NamespaceRecord {
    /// A new active namespace, unprotected.
    #[must_use]
    pub fn new(parent: NamespaceId, segment: &str, created_at: i64) -> Self {
        Self {
            parent,
            segment: segment.to_owned(),
            state: State::Active,
            created_at,
            protected: false,
            stood_still_ms: 0,
            restored_at: None,
            policy: PolicyRecord::default(),
        }
    }
}

/// `bucket/record/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRecord {
    pub namespace: NamespaceId,
    pub name: String,
    pub state: State,
    pub created_at: i64,
    pub shards: Vec<u16>,
    #[serde(default)]
    pub protected: bool,
    /// By how much its own clock, by which documents expire, is behind that of its namespace.
    #[serde(default)]
    pub stood_still_ms: i64,
    /// How its strings are compared where a query or an index does not say.
    #[serde(default)]
    pub collation: Option<Collation>,
    #[serde(default)]
    pub indexes: Vec<IndexRecord>,
    /// The id of the next index: an id is never used again.
    #[serde(default)]
    pub next_index: u32,
    /// A write fails when a value is not of the type that an index declares.
    #[serde(default = "yes")]
    pub strict_types: bool,
    /// It is being made as a copy of another bucket.
    #[serde(default)]
    pub copy: Option<CopyOf>,
    /// Its writers wait for a swap.
    #[serde(default)]
    pub paused: Option<PauseOf>,
    /// How long deleted documents are kept where the command does not say; `None`: as the
    /// server's setting says.
    #[serde(default)]
    pub tombstone_retention: Option<KeepRecord>,
    /// When documents are deleted by themselves.
    #[serde(default)]
    pub ttl: Option<TtlRecord>,
}

impl BucketRecord {
    /// A new active bucket, unprotected and without indexes.
    #[must_use]
    pub fn new(namespace: NamespaceId, name: &str, shards: Vec<u16>, created_at: i64) -> Self {
        Self {
            namespace,
            name: name.to_owned(),
            state: State::Active,
            created_at,
            shards,
            protected: false,
            stood_still_ms: 0,
            collation: None,
            indexes: Vec::new(),
            next_index: 1,
            strict_types: true,
            copy: None,
            paused: None,
            tombstone_retention: None,
            ttl: None,
        }
    }
}

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepRecord {
    /// `None` means for ever.
    pub ms: Option<i64>,
}

impl From<Retention> for KeepRecord {
    fn from(retention: Retention) -> Self {
        match retention {
            Retention::For(duration) => {
                Self { ms: Some(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)) }
            }
            Retention::Forever => Self { ms: None },
        }
    }
}

impl From<KeepRecord> for Retention {
    fn from(keep: KeepRecord) -> Self {
        keep.ms.map_or(Self::Forever, |ms| {
            Self::For(Duration::from_millis(u64::try_from(ms).unwrap_or_default()))
        })
    }
}

/// Documents are deleted when the time in a field is older than this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtlRecord {
    /// Its names, joined by dots.
    pub field: String,
    pub after_ms: i64,
}

/// `data/<bucket>/ttl`: how far the search for documents that have expired has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtlProgressRecord {
    /// When it goes on: the time of its `expiry` row.
    pub due_at: i64,
    /// The id behind which the present pass goes on; `None`: it has not begun.
    #[serde(default)]
    pub after: Option<[u8; 12]>,
    /// What the present pass deletes is one removal.
    #[serde(default)]
    pub removal: Option<RemovalId>,
    /// When the last pass ended.
    #[serde(default)]
    pub last_at: Option<i64>,
    /// Documents deleted since it was switched on.
    #[serde(default)]
    pub deleted: i64,
}

impl TtlProgressRecord {
    /// Nothing was looked at yet.
    #[must_use]
    pub const fn new(due_at: i64) -> Self {
        Self { due_at, after: None, removal: None, last_at: None, deleted: 0 }
    }
}

fn yes() -> bool {
    true
}

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The user, or `system:expiry` and the like for what the system does.
    pub user: String,
    /// The client's address, empty for the system.
    pub client: String,
}

impl Actor {
    /// What a background worker does bears its name.
    #[must_use]
    pub fn system(worker: &str) -> Self {
        Self { user: format!("system:{worker}"), client: String::new() }
    }
}

/// `removal/<id>`, behind the version of the commit that removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalRecord {
    #[serde(flatten)]
    pub object: Object,
    /// What it was removed from: of a namespace its parent.
    pub namespace: NamespaceId,
    pub name: String,
    pub removed_at: i64,
    pub removed_by: Actor,
    #[serde(default)]
    pub reason: Option<String>,
    /// The name stays taken until the purge.
    #[serde(default)]
    pub reserved: bool,
    /// What the object's own clock showed; a restore lets it go on from there.
    #[serde(default)]
    pub clock: Option<i64>,
}

/// `data/<bucket>/tombstone/...`, between the version of the commit that deleted
/// and the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneRecord {
    pub deleted_at: i64,
    pub by: Actor,
    #[serde(default)]
    pub reason: Option<String>,
    /// On the bucket's own clock ([`BucketRecord::stood_still_ms`]); `None` means never.
    #[serde(default)]
    pub expires_at: Option<i64>,
    #[serde(default, skip_serializing_if = "PromiseRecord::is_none")]
    pub promise: PromiseRecord,
}

/// `grave/<removal>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraveRecord {
    #[serde(flatten)]
    pub object: Object,
    pub namespace: NamespaceId,
    pub namespace_path: String,
    pub name: String,
    pub removed_at: i64,
    pub purged_at: i64,
    pub purged_by: Actor,
    /// When the grave itself is forgotten.
    pub until: i64,
}

/// `reclaim/<removal>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReclaimRecord {
    #[serde(flatten)]
    pub object: Object,
    /// The version of the removal.
    pub version: Versionstamp,
    pub namespace: NamespaceId,
    pub namespace_path: String,
    pub name: String,
    pub removed_at: i64,
    pub removed_by: Actor,
    #[serde(default)]
    pub reason: Option<String>,
    pub purged_at: i64,
    pub documents: i64,
    pub bytes: i64,
    /// The engine has the prefix, or the children of a namespace are being taken apart.
    pub dropped: bool,
    /// Of a namespace: how many buckets and namespaces in it are gone already.
    #[serde(default)]
    pub objects: i64,
    #[serde(default)]
    pub last_error: Option<String>,
}

/// What a journal event tells its followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// Removed, or a removal announced again: let go of everything of it.
    Removed,
    Restored,
    Purged,
    /// Name, settings or protection changed: cached handles are stale.
    Changed,
}

/// `journal/<versionstamp>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub kind: EventKind,
    /// The bucket or namespace, by number.
    pub object: u64,
    #[serde(default)]
    pub removal: Option<RemovalId>,
}

/// `member/<node>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Of this start of the node; never used twice.
    pub incarnation: u64,
    /// Where clients reach it: `host:port`.
    pub address: String,
    pub joined_at: i64,
    pub version: String,
}

/// `beat/<node>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatRecord {
    pub incarnation: u64,
    pub counter: i64,
    /// The node's own wall clock.
    pub clock: i64,
}

/// `shard/<n>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    pub owner: String,
    pub epoch: i64,
}

/// `busy/<object>/<node>/<scope>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusyRecord {
    pub incarnation: u64,
    /// The epoch of the shard; 0 for work of the member itself.
    pub epoch: i64,
    /// What is still open, for people to read.
    pub what: Vec<String>,
    pub since: i64,
}

/// `observer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObserverRecord {
    pub node: String,
    pub incarnation: u64,
}

/// `cluster-time`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterTimeRecord {
    pub now: i64,
    /// Why purging is stopped, when the clocks cannot be trusted.
    #[serde(default)]
    pub suspect: Option<String>,
    /// While the clocks are ahead of `now` by more than is believed: what they
    /// say. What is promised meanwhile counts from here, so that accepting it
    /// later shortens no promise.
    #[serde(default)]
    pub pending: Option<i64>,
    /// Milliseconds of disagreement that were accepted, by an administrator or
    /// by ten quiet minutes; forgotten when the clocks agree again.
    #[serde(default)]
    pub accepted: Option<i64>,
    /// By how much `now` has advanced in all while it was suspect. Leases do not count it:
    /// nobody knows how much of it was time.
    #[serde(default)]
    pub doubted_ms: i64,
}

/// `journal-mark`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalMarkRecord {
    pub version: Versionstamp,
    pub at: i64,
}

/// `purge-pause`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
    pub by: Actor,
    pub since: i64,
}

/// `audit/<versionstamp>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    pub at: i64,
    pub by: Actor,
    pub action: String,
    pub namespace: String,
    pub bucket: String,
    pub id: String,
    #[serde(default)]
    pub removal: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    pub outcome: String,
    /// More than one where refused attempts were recorded together.
    pub count: i64,
}

/// What happened to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeOp {
    Insert,
    Update,
    Delete,
    Undelete,
    Purge,
}

/// `data/<bucket>/change/...`: ids only, so that a document that was destroyed
/// leaves no bytes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub op: ChangeOp,
    pub oid: [u8; 12],
    /// Cluster time of the writer, by which the log is trimmed.
    pub at: i64,
}

/// Writes a change: one byte of operation, twelve of id, eight of time.
#[must_use]
pub fn encode_change(change: &Change) -> [u8; 21] {
    let mut value = [0; 21];
    value[0] = match change.op {
        ChangeOp::Insert => 1,
        ChangeOp::Update => 2,
        ChangeOp::Delete => 3,
        ChangeOp::Undelete => 4,
        ChangeOp::Purge => 5,
    };
    value[1..13].copy_from_slice(&change.oid);
    value[13..].copy_from_slice(&change.at.to_be_bytes());
    value
}

/// Reads a change.
///
/// # Errors
/// When the length or the operation is unknown.
pub fn decode_change(value: &[u8]) -> Result<Change, DecodeError> {
    let wrong = |detail: &str| DecodeError::new("change", detail);
    let value = <[u8; 21]>::try_from(value).map_err(|_| wrong("not 21 bytes"))?;
    let op = match value[0] {
        1 => ChangeOp::Insert,
        2 => ChangeOp::Update,
        3 => ChangeOp::Delete,
        4 => ChangeOp::Undelete,
        5 => ChangeOp::Purge,
        _ => return Err(wrong("unknown operation")),
    };
    let mut oid = [0; 12];
    oid.copy_from_slice(&value[1..13]);
    let mut at = [0; 8];
    at.copy_from_slice(&value[13..]);
    Ok(Change { op, oid, at: i64::from_be_bytes(at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_back_and_nonsense_does_not() {
        let change = Change { op: ChangeOp::Delete, oid: [7; 12], at: -5 };
        let mut value = encode_change(&change);
        assert_eq!(decode_change(&value), Ok(change));
        value[0] = 99;
        assert!(decode_change(&value).is_err());
        assert!(decode_change(&value[..20]).is_err());
    }

    #[test]
    fn a_versioned_record_reads_back_and_a_short_one_does_not() {
        let record = RetentionRecord {
            expires_at: Some(5),
            set_at: None,
            promise: PromiseRecord::default(),
            kept_by: None,
        };
        let value = encode_versioned(Versionstamp::new(3, 1), &record);
        assert_eq!(
            decode_versioned::<RetentionRecord>("removal", &value),
            Ok((Versionstamp::new(3, 1), record))
        );
        assert!(decode_versioned::<RetentionRecord>("removal", &value[..9]).is_err());
        assert!(decode_versioned::<RetentionRecord>("removal", &value[..15]).is_err());
    }
}
