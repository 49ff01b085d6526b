//! What a deleted document leaves behind.
//!
//! ```text
//! data/<bucket>/tombstone/<oid>/<removal>          record BSON, then what stood under the document's key
//! data/<bucket>/deleted-by/<removal>/<oid>         nothing: finds what one removal deleted
//! data/<bucket>/expiring/<time>/<removal>/<oid>    version of the commit that deleted it: finds what expires first
//! data/<bucket>/waiting/<version>/<removal>/<oid>  nothing: finds what a reader of the change log passes first
//! ```
//!
//! What has expired and may not go, because a reader of the change log has not
//! passed its deletion, is in `waiting` instead of `expiring`, and its `deleted-by`
//! row has the version. So nobody meets it again before that reader has moved.
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

use super::{Home, Stored};
use crate::codec::record::{self, Lock, PromiseRecord, TombstoneRecord};
use crate::codec::{DecodeError, RemovalId, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::metadata::policy::Kept;
use crate::store::{self, Read, Transaction};

/// A deleted document.
#[derive(Clone, Debug)]
pub struct Tombstone {
    pub id: ObjectId,
    pub removal: RemovalId,
    /// Of the commit that deleted it; above all others as long as it was not looked up.
    pub version: Versionstamp,
    /// It has expired and a reader of the change log needs it; known with its version.
    pub waits: bool,
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
            waits: false,
            record: record::decode("tombstone", value.get(..length).unwrap_or_default())?,
            stored: (!stored.is_empty()).then(|| Stored::decode(&stored)).transpose()?,
        })
    }

    /// Whether it has expired when the bucket's own clock shows `clock`.
    pub fn is_expired(&self, clock: i64) -> bool {
        self.record.expires_at.is_some_and(|at| at <= clock)
    }

    pub(super) fn key(&self, home: &Home) -> Vec<u8> {
        keys::tombstone(home.bucket(), &self.id.bytes(), self.removal)
    }

    fn expiring_key(&self, home: &Home) -> Vec<u8> {
        let at = self.record.expires_at.unwrap_or(keys::NEVER);
        keys::expiring(home.bucket(), at, self.removal, &self.id.bytes())
    }

    fn listed_key(&self, home: &Home) -> Vec<u8> {
        keys::deleted_by(home.bucket(), self.removal, &self.id.bytes())
    }

    fn waiting_key(&self, home: &Home) -> Vec<u8> {
        keys::feed::waiting(home.bucket(), self.version, self.removal, &self.id.bytes())
    }

    /// Looks up the version of the commit that deleted it, and whether it waits for a
    /// reader. The version of this transaction is not known yet and lies above all others.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn look_up_version(&mut self, txn: &Transaction, home: &Home) -> Result<()> {
        match txn.get(&self.expiring_key(home), Read::Snapshot).await {
            Ok(Some(version)) => self.version = Versionstamp::decode(&version)?,
            Ok(None) => {
                let listed = txn.get(&self.listed_key(home), Read::Snapshot).await?;
                let version = listed.filter(|version| !version.is_empty());
                let version = version.ok_or_else(|| damaged("nothing says when it expires"))?;
                self.version = Versionstamp::decode(&version)?;
                self.waits = true;
            }
            Err(store::Error::AccessedUnreadable) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// What it was promised, or what it is promised now: the strictest.
    #[must_use]
    pub fn promise(&self, home: &Home) -> PromiseRecord {
        let deleted_at = home.clock(self.record.deleted_at);
        self.record.promise.and(home.policy().promise(Kept::Documents, deleted_at))
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

    /// Makes sure that it is still there, as it was read, when this commits, and
    /// still waits for a reader or still does not.
    pub(super) fn hold(&self, txn: &Transaction, home: &Home) -> Result<()> {
        txn.add_read_conflict_key(&self.key(home))?;
        Ok(txn.add_read_conflict_key(&self.listed_key(home))?)
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
/// does so before, or was promised to be kept longer. It must be held in this transaction,
/// and its version been looked up.
pub(super) fn expire_at(
    txn: &Transaction,
    home: &Home,
    tombstone: Tombstone,
    clock: i64,
) -> Result<()> {
    let promise = tombstone.promise(home);
    if tombstone.waits || tombstone.is_expired(clock) || promise.lock != Lock::None {
        return Ok(());
    }
    let clock = clock.max(promise.at_least_until.unwrap_or(clock));
    keep_until(txn, home, tombstone, clock)
}

/// Writes a tombstone anew that expires when the bucket's own clock shows `clock`. It must
/// be held in this transaction, not wait, and its version been looked up.
pub(super) fn keep_until(
    txn: &Transaction,
    home: &Home,
    mut tombstone: Tombstone,
    clock: i64,
) -> Result<()> {
    txn.clear(&tombstone.expiring_key(home))?;
    tombstone.record.expires_at = (clock != keys::NEVER).then_some(clock);
    let value = value(&tombstone.record, tombstone.stored.as_ref());
    txn.set(&tombstone.key(home), &value)?;
    Ok(txn.set(&tombstone.expiring_key(home), tombstone.version.as_bytes())?)
}

/// Lets a tombstone that has expired wait for the readers of the change log, unless it
/// does already. It must be held in this transaction, and its version been looked up.
pub(super) fn wait(txn: &Transaction, home: &Home, tombstone: &Tombstone) -> Result<()> {
    if tombstone.waits {
        return Ok(());
    }
    txn.clear(&tombstone.expiring_key(home))?;
    txn.set(&tombstone.listed_key(home), tombstone.version.as_bytes())?;
    Ok(txn.set(&tombstone.waiting_key(home), b"")?)
}

/// Destroys the document of a tombstone, which waits from now on. It must be held in
/// this transaction, and its version been looked up.
pub(super) fn strip(
    txn: &Transaction,
    home: &Home,
    mut tombstone: Tombstone,
    clock: i64,
) -> Result<()> {
    wait(txn, home, &tombstone)?;
    tombstone.record.expires_at =
        tombstone.record.expires_at.map_or(Some(clock), |at| Some(at.min(clock)));
    Ok(txn.set(&tombstone.key(home), &value(&tombstone.record, None))?)
}

/// Takes the rows of a tombstone away; its body stays. Its version must have been
/// looked up, if it may be one that waits.
pub(super) fn clear(txn: &Transaction, home: &Home, tombstone: &Tombstone) -> Result<()> {
    txn.clear(&tombstone.key(home))?;
    txn.clear(&tombstone.listed_key(home))?;
    let found = if tombstone.waits { Tombstone::waiting_key } else { Tombstone::expiring_key };
    Ok(txn.clear(&found(tombstone, home))?)
}
