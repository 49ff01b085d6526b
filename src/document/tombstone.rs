//! What a deleted document leaves behind.
//!
//! ```text
//! data/<bucket>/tombstone/<oid>/<removal>          record BSON, then what stood under the document's key
//! data/<bucket>/deleted-by/<removal>/<oid>         nothing: finds what one removal deleted
//! data/<bucket>/expiring/<time>/<removal>/<oid>    version of the commit that deleted it: finds what expires first
//! ```
//!
//! A document in pieces keeps its body where it is; only the reference moves.
//! The time of expiry is on the bucket's own clock, which stands still while the
//! bucket is removed, so that a restored bucket still has what was deleted in it
//! for as long as it was promised. What is kept for ever stands at
//! [`keys::NEVER`].
//!
//! The version stands beside the document and not with it, because a
//! transaction cannot read what its own commit stamps: inside BEGIN what was
//! just deleted can be listed and brought back.
//!
//! A document that was destroyed before its time while somebody still has to
//! learn of its deletion leaves a tombstone with nothing behind its record.

use bson::oid::ObjectId;
use bytes::Bytes;

use super::change::{Sums, log};
use super::replica::{self, Readers};
use super::{Home, Stored};
use crate::codec::record::{self, ChangeOp, TombstoneRecord};
use crate::codec::{DecodeError, RemovalId, Sequence, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::metadata::bucket;
use crate::store::{self, RangeRead, Read, Transaction};

/// Tombstones purged in one transaction.
const VACUUM_PAGE: usize = 100;
/// When to look at what waits for a reader, from when it began to wait.
pub(super) const LOOK_AGAIN_MS: i64 = 1_000;

/// A deleted document.
#[derive(Clone, Debug)]
pub struct Tombstone {
    pub id: ObjectId,
    pub removal: RemovalId,
    /// Of the commit that deleted it; above all others as long as it was not looked up.
    pub version: Versionstamp,
    pub record: TombstoneRecord,
    /// The document; `None` when it was destroyed before its time.
    pub stored: Option<Stored>,
}

impl Tombstone {
    /// Reads a row.
    pub fn decode(key: &[u8], value: &Bytes) -> Result<Self> {
        let (_, id, removal) = keys::parse_tombstone(key)?;
        let length = value
            .first_chunk::<4>()
            .and_then(|bytes| usize::try_from(i32::from_le_bytes(*bytes)).ok())
            .filter(|length| *length <= value.len())
            .ok_or_else(|| damaged("its record is cut short"))?;
        let stored = value.slice(length..);
        Ok(Self {
            id: ObjectId::from_bytes(id),
            removal,
            version: Versionstamp::MAX,
            record: record::decode("tombstone", value.get(..length).unwrap_or_default())?,
            stored: (!stored.is_empty()).then(|| Stored::decode(&stored)).transpose()?,
        })
    }

    /// Whether it has expired when the bucket's own clock shows `clock`.
    pub fn is_expired(&self, clock: i64) -> bool {
        self.record.expires_at.is_some_and(|at| at <= clock)
    }

    fn key(&self, home: &Home) -> Vec<u8> {
        keys::tombstone(home.bucket(), &self.id.bytes(), self.removal)
    }

    fn expiring_key(&self, home: &Home) -> Vec<u8> {
        let at = self.record.expires_at.unwrap_or(keys::NEVER);
        keys::expiring(home.bucket(), at, self.removal, &self.id.bytes())
    }

    /// Looks up the version of the commit that deleted it. That of this transaction
    /// is not known yet and lies above all others.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn look_up_version(&mut self, txn: &Transaction, home: &Home) -> Result<()> {
        match txn.get(&self.expiring_key(home), Read::Snapshot).await {
            Ok(Some(version)) => self.version = Versionstamp::decode(&version)?,
            Ok(None) => return Err(damaged("nothing says when it expires")),
            Err(store::Error::AccessedUnreadable) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Bytes of the document.
    #[must_use]
    pub fn length(&self) -> usize {
        let length = self.stored.as_ref().map_or(0, Stored::length);
        usize::try_from(length).unwrap_or(usize::MAX)
    }

    /// The order in which tombstones of one `_id` were left. Those of one
    /// transaction have removals that were numbered one after the other.
    #[must_use]
    pub fn order(&self) -> (Versionstamp, RemovalId) {
        (self.version, self.removal)
    }

    /// Makes sure that it is still there, as it was read, when this commits.
    pub(super) fn hold(&self, txn: &Transaction, home: &Home) -> Result<()> {
        Ok(txn.add_read_conflict_key(&self.key(home))?)
    }
}

fn damaged(detail: &str) -> Error {
    Error::Damaged(DecodeError::new("tombstone", detail))
}

/// Writes the rows of a tombstone that this transaction makes.
pub(super) fn write(
    txn: &Transaction,
    home: &Home,
    id: &ObjectId,
    removal: RemovalId,
    record: &TombstoneRecord,
    stored: Option<&Stored>,
) -> Result<()> {
    txn.set(&keys::tombstone(home.bucket(), &id.bytes(), removal), &value(record, stored))?;
    let expiring = list(txn, home, id, removal, record)?;
    txn.set_versionstamped_value(&expiring, &Versionstamp::placeholder())?;
    Ok(())
}

/// Writes the rows of a tombstone that another bucket has. `stored` is what stands
/// under the key of a live document with what it held.
pub(super) fn write_again(
    txn: &Transaction,
    home: &Home,
    tombstone: &Tombstone,
    stored: &[u8],
) -> Result<()> {
    let Tombstone { id, removal, version, record, .. } = tombstone;
    txn.set(&tombstone.key(home), &[&record::encode(record), stored].concat())?;
    let expiring = list(txn, home, id, *removal, record)?;
    Ok(txn.set(&expiring, version.as_bytes())?)
}

/// Writes the row by which a tombstone is found by its removal; gives the key of the other one.
fn list(
    txn: &Transaction,
    home: &Home,
    id: &ObjectId,
    removal: RemovalId,
    record: &TombstoneRecord,
) -> Result<Vec<u8>> {
    let (bucket, oid) = (home.bucket(), id.bytes());
    txn.set(&keys::deleted_by(bucket, removal, &oid), b"")?;
    Ok(keys::expiring(bucket, record.expires_at.unwrap_or(keys::NEVER), removal, &oid))
}

fn value(record: &TombstoneRecord, stored: Option<&Stored>) -> Vec<u8> {
    let mut value = record::encode(record);
    if let Some(stored) = stored {
        value.extend_from_slice(&stored.encode());
    }
    value
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
/// does so before. It must have been read with conflict in this transaction, and its
/// version been looked up.
pub(super) fn expire_at(
    txn: &Transaction,
    home: &Home,
    tombstone: Tombstone,
    clock: i64,
) -> Result<()> {
    if tombstone.is_expired(clock) { Ok(()) } else { write_due(txn, home, tombstone, clock) }
}

/// Writes a tombstone anew that is due from `clock` on. Its version must have been looked up.
fn write_due(txn: &Transaction, home: &Home, mut tombstone: Tombstone, clock: i64) -> Result<()> {
    txn.clear(&tombstone.expiring_key(home))?;
    tombstone.record.expires_at = Some(clock);
    let value = value(&tombstone.record, tombstone.stored.as_ref());
    txn.set(&tombstone.key(home), &value)?;
    Ok(txn.set(&tombstone.expiring_key(home), tombstone.version.as_bytes())?)
}

/// Takes the rows of a tombstone away; its body stays.
pub(super) fn clear(txn: &Transaction, home: &Home, tombstone: &Tombstone) -> Result<()> {
    txn.clear(&tombstone.key(home))?;
    txn.clear(&keys::deleted_by(home.bucket(), tombstone.removal, &tombstone.id.bytes()))?;
    txn.clear(&tombstone.expiring_key(home))?;
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
    let mut purged = Purged::default();
    let mut newest = None;
    let mut sums = Sums::default();
    for tombstone in tombstones {
        if !readers.have_passed(tombstone.version) {
            purged.waiting += 1;
            continue;
        }
        purged.purged += 1;
        newest = newest.max(Some(tombstone.version));
        clear(txn, home, tombstone)?;
        if let Some(stored) = &tombstone.stored {
            clear_body(txn, home, stored)?;
            log(txn, home, ChangeOp::Purge, &tombstone.id, at)?;
        }
        sums.of(home, &tombstone.id).tombstone_taken_away();
    }
    if let Some(version) = newest {
        replica::raise_floor(txn, home.bucket(), Sequence::end_of(version))?;
    }
    sums.write(txn, home)?;
    Ok(purged)
}

/// Destroys deleted documents before their time, as [`purge`] does, but for this: of one
/// whose deletion a reader of the change log still has to hear of only the
/// document goes, at once, and the rest as soon as all have. That the tombstones
/// are as they were read is guarded until the commit.
///
/// # Errors
/// Those of the store; damage.
pub async fn expunge(
    txn: &Transaction,
    home: &Home,
    readers: &Readers,
    tombstones: Vec<Tombstone>,
    at: i64,
) -> Result<Purged> {
    let clock = home.clock(at);
    let mut passed = Vec::with_capacity(tombstones.len());
    let (mut waiting, mut sums) = (0, Sums::default());
    for mut tombstone in tombstones {
        tombstone.hold(txn, home)?;
        tombstone.look_up_version(txn, home).await?;
        if readers.have_passed(tombstone.version) {
            passed.push(tombstone);
            continue;
        }
        let Some(stored) = tombstone.stored.take() else { continue };
        waiting += 1;
        sums.of(home, &tombstone.id);
        clear_body(txn, home, &stored)?;
        log(txn, home, ChangeOp::Purge, &tombstone.id, at)?;
        write_due(txn, home, tombstone, clock)?;
    }
    if waiting > 0 {
        bucket::schedule_vacuum(txn, home.bucket(), at.saturating_add(LOOK_AGAIN_MS))?;
    }
    sums.write(txn, home)?;
    let Purged { purged, .. } = purge(txn, home, readers, &passed, at)?;
    Ok(Purged { purged, waiting })
}

/// Destroys one page of what has expired and no reader of the change log needs.
/// `now` is the time that has surely come. Gives where the next page begins, if
/// there is one.
///
/// # Errors
/// Those of the store; damage.
pub async fn vacuum(
    txn: &Transaction,
    home: &Home,
    now: i64,
    from: Option<&[u8]>,
) -> Result<(Purged, Option<Vec<u8>>)> {
    let due = due(txn, home, home.clock(now), VACUUM_PAGE, from).await?;
    let readers = replica::readers(txn, home).await?;
    Ok((purge(txn, home, &readers, &due.tombstones, now)?, due.more))
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
    for (count, (key, version)) in page.rows.iter().enumerate() {
        let (bucket, at, removal, oid) = keys::parse_expiring(key)?;
        if at > clock || count >= rows_max {
            due.next = (at != keys::NEVER).then_some(at);
            due.more = (at <= clock).then(|| key.to_vec());
            break;
        }
        let key = keys::tombstone(bucket, &oid, removal);
        // Somebody else may have been faster.
        if let Some(value) = txn.get(&key, Read::Conflict).await? {
            let version = Versionstamp::decode(version)?;
            due.tombstones.push(Tombstone { version, ..Tombstone::decode(&key, &value)? });
        }
    }
    Ok(due)
}
