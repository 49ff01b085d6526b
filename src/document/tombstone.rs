//! What a deleted document leaves behind.
//!
//! ```text
//! data/<bucket>/tombstone/<oid>/<removal>          version 10, record BSON, then what stood under the document's key
//! data/<bucket>/deleted-by/<removal>/<oid>         nothing: finds what one removal deleted
//! data/<bucket>/expiring/<time>/<removal>/<oid>    nothing: finds what expires first; none when kept for ever
//! ```
//!
//! A document in pieces keeps its body where it is; only the reference moves.
//! The time of expiry is on the bucket's own clock, which stands still while the
//! bucket is removed, so that a restored bucket still has what was deleted in it
//! for as long as it was promised.

use bson::oid::ObjectId;
use bytes::Bytes;

use super::change::{Sums, log};
use super::replica::{self, Readers};
use super::{Home, Stored};
use crate::codec::record::{self, ChangeOp, TombstoneRecord};
use crate::codec::{DecodeError, RemovalId, Sequence, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Transaction};

/// A deleted document.
#[derive(Clone, Debug)]
pub struct Tombstone {
    pub id: ObjectId,
    pub removal: RemovalId,
    /// Of the commit that deleted it.
    pub version: Versionstamp,
    pub record: TombstoneRecord,
    /// The document.
    pub stored: Stored,
}

impl Tombstone {
    /// Reads a row.
    pub fn decode(key: &[u8], value: &Bytes) -> Result<Self> {
        let (_, id, removal) = keys::parse_tombstone(key)?;
        let damaged = |detail| Error::Damaged(DecodeError::new("tombstone", detail));
        let (version, rest) = value.split_at_checked(10).ok_or_else(|| damaged("too short"))?;
        let length = rest
            .first_chunk::<4>()
            .and_then(|bytes| usize::try_from(i32::from_le_bytes(*bytes)).ok())
            .filter(|length| *length <= rest.len())
            .ok_or_else(|| damaged("its record is cut short"))?;
        Ok(Self {
            id: ObjectId::from_bytes(id),
            removal,
            version: Versionstamp::decode(version)?,
            record: record::decode("tombstone", rest.get(..length).unwrap_or_default())?,
            stored: Stored::decode(&value.slice(10 + length..))?,
        })
    }

    /// Whether it has expired when the bucket's own clock shows `clock`.
    pub fn is_expired(&self, clock: i64) -> bool {
        self.record.expires_at.is_some_and(|at| at <= clock)
    }
}

/// Writes the rows of a tombstone.
pub(super) fn write(
    txn: &Transaction,
    home: &Home,
    id: &ObjectId,
    removal: RemovalId,
    record: &TombstoneRecord,
    stored: &Stored,
) -> Result<()> {
    let mut value = vec![0xff; 10];
    value.extend_from_slice(&record::encode(record));
    value.extend_from_slice(&stored.encode());
    value.extend_from_slice(&0_u32.to_le_bytes());
    let key = keys::tombstone(home.bucket(), &id.bytes(), removal);
    txn.set_versionstamped_value(&key, &value)?;
    list(txn, home, id, removal, record)
}

/// When a document was deleted, and what is known of it.
pub(super) struct Row<'a> {
    pub(super) version: Versionstamp,
    pub(super) record: &'a TombstoneRecord,
}

/// Writes the rows of a tombstone that another bucket has. `document` is what
/// stands under the key of a live one.
pub(super) fn write_again(
    txn: &Transaction,
    home: &Home,
    id: &ObjectId,
    removal: RemovalId,
    row: &Row<'_>,
    document: &[u8],
) -> Result<()> {
    let mut value = record::encode_versioned(row.version, row.record);
    value.extend_from_slice(document);
    txn.set(&keys::tombstone(home.bucket(), &id.bytes(), removal), &value)?;
    list(txn, home, id, removal, row.record)
}

/// Writes the rows by which a tombstone is found.
fn list(
    txn: &Transaction,
    home: &Home,
    id: &ObjectId,
    removal: RemovalId,
    record: &TombstoneRecord,
) -> Result<()> {
    let (bucket, oid) = (home.bucket(), id.bytes());
    txn.set(&keys::deleted_by(bucket, removal, &oid), b"")?;
    if let Some(at) = record.expires_at {
        txn.set(&keys::expiring(bucket, at, removal, &oid), b"")?;
    }
    Ok(())
}

/// Clears the pieces of a document, if it has any.
pub(super) fn clear_body(txn: &Transaction, home: &Home, stored: &Stored) -> Result<()> {
    if let Stored::Reference(reference) = stored {
        let (begin, end) = keys::range(&keys::body_prefix(home.bucket(), reference.body()));
        txn.clear_range(&begin, &end)?;
    }
    Ok(())
}

/// Lets a tombstone expire when the bucket's own clock shows `clock`, unless it
/// does so before. It must have been read with conflict in this transaction.
pub(super) fn expire_at(
    txn: &Transaction,
    home: &Home,
    tombstone: &Tombstone,
    clock: i64,
) -> Result<()> {
    if tombstone.is_expired(clock) {
        return Ok(());
    }
    let (bucket, oid) = (home.bucket(), tombstone.id.bytes());
    if let Some(at) = tombstone.record.expires_at {
        txn.clear(&keys::expiring(bucket, at, tombstone.removal, &oid))?;
    }
    let record = TombstoneRecord { expires_at: Some(clock), ..tombstone.record.clone() };
    let mut value = record::encode_versioned(tombstone.version, &record);
    value.extend_from_slice(&tombstone.stored.encode());
    txn.set(&keys::tombstone(bucket, &oid, tombstone.removal), &value)?;
    Ok(txn.set(&keys::expiring(bucket, clock, tombstone.removal, &oid), b"")?)
}

/// Takes the rows of a tombstone away; its body stays.
pub(super) fn clear(txn: &Transaction, home: &Home, tombstone: &Tombstone) -> Result<()> {
    let (bucket, oid) = (home.bucket(), tombstone.id.bytes());
    txn.clear(&keys::tombstone(bucket, &oid, tombstone.removal))?;
    txn.clear(&keys::deleted_by(bucket, tombstone.removal, &oid))?;
    if let Some(at) = tombstone.record.expires_at {
        txn.clear(&keys::expiring(bucket, at, tombstone.removal, &oid))?;
    }
    Ok(())
}

/// What became of deleted documents that were to be destroyed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    pub purged: usize,
    /// Kept, because a reader of the change log has not passed their deletion.
    pub waiting: usize,
}

/// Destroys deleted documents for good, but for those that a reader of the
/// change log still has to hear of, and raises the bucket's floor. They must
/// have been read with conflict in this transaction, and `readers` in it too.
/// `at` is cluster time, for the change log.
///
/// # Errors
/// Those of the store.
pub fn purge(
    txn: &Transaction,
    home: &Home,
    readers: &Readers,
    tombstones: &[Tombstone],
    at: i64,
) -> Result<Purged> {
    let mut sums = Sums::default();
    let mut purged = Purged::default();
    let mut newest = None;
    for tombstone in tombstones {
        if !readers.have_passed(tombstone.version) {
            purged.waiting += 1;
            continue;
        }
        purged.purged += 1;
        newest = newest.max(Some(tombstone.version));
        clear(txn, home, tombstone)?;
        clear_body(txn, home, &tombstone.stored)?;
        log(txn, home, ChangeOp::Purge, &tombstone.id, at)?;
        sums.of(home, &tombstone.id).tombstone_taken_away();
    }
    if let Some(version) = newest {
        replica::raise_floor(txn, home.bucket(), Sequence::end_of(version))?;
    }
    sums.write(txn, home)?;
    Ok(purged)
}

/// Tombstones that have expired, the first to expire first.
#[derive(Debug)]
pub struct Due {
    pub tombstones: Vec<Tombstone>,
    /// When the next one expires, on the bucket's own clock; `None` when no further one will.
    pub next: Option<i64>,
    /// Where to go on for those that have expired and were not read; `None`: there are none.
    pub more: Option<Vec<u8>>,
}

/// Reads at most `rows_max` tombstones that have expired when the bucket's own
/// clock shows `clock`, with conflict; `from` is where an earlier call ended.
///
/// # Errors
/// Those of the store; damage.
pub async fn due(
    txn: &Transaction,
    home: &Home,
    clock: i64,
    rows_max: usize,
    from: Option<&[u8]>,
) -> Result<Due> {
    let expiring = keys::data_part(home.bucket(), keys::data::EXPIRING);
    // One more than is wanted, to tell when the next one is due.
    let mut rows = RangeRead::prefix(expiring).limit(rows_max.saturating_add(1)).snapshot();
    if let Some(from) = from {
        rows.begin = from.to_vec();
    }
    let page = txn.range(rows).await?;
    let mut due = Due { tombstones: Vec::new(), next: None, more: None };
    for (count, (key, _)) in page.rows.iter().enumerate() {
        let (bucket, at, removal, oid) = keys::parse_expiring(key)?;
        if at > clock || count >= rows_max {
            due.next = Some(at);
            due.more = (at <= clock).then(|| key.to_vec());
            break;
        }
        let key = keys::tombstone(bucket, &oid, removal);
        // Somebody else may have been faster.
        if let Some(value) = txn.get(&key, Read::Conflict).await? {
            due.tombstones.push(Tombstone::decode(&key, &value)?);
        }
    }
    Ok(due)
}
