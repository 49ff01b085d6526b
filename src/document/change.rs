//! What every write of a document leaves besides it: an entry of the change
//! log, sums, and what indexes keep of it.

use std::collections::BTreeMap;

use bson::oid::ObjectId;

use super::{Document, Home, join_all};
use crate::codec::record::{Change, ChangeOp, encode_change, encode_sum};
use crate::codec::{Versionstamp, keys};
use crate::error::{Error, Result};
use crate::index::{self, Written};
use crate::store::{Atomic, Read, Transaction};

/// What becomes of a document, for [`indexes`].
pub(super) fn written<'a>(
    home: &Home,
    id: &ObjectId,
    old: Option<&'a Document>,
    new: Option<&'a Document>,
) -> Written<'a> {
    let (old, new) = (old.map(Document::raw), new.map(Document::raw));
    Written { shard: home.shard_of(id), id: *id, old, new }
}

/// Brings the indexes up to the writes of these documents; see [`index::maintain`].
pub(super) async fn indexes(
    txn: &Transaction,
    home: &Home,
    documents: &[Written<'_>],
) -> Result<()> {
    index::maintain(txn, home.bucket(), home.indexes(), documents).await
}

/// A document with this `_id` is there already.
pub(super) fn taken(id: &ObjectId) -> Error {
    Error::DuplicateKey(format!("_id '{}'", id.to_hex()))
}

/// Writes one entry of the change log. `at` is cluster time.
pub(super) fn log(
    txn: &Transaction,
    home: &Home,
    op: ChangeOp,
    id: &ObjectId,
    at: i64,
) -> Result<()> {
    let order = txn
        .next_order()?
        .ok_or_else(|| Error::syntax("a transaction can change at most 65536 documents"))?;
    let key = keys::change_now(home.bucket(), home.shard_of(id), order);
    let change = Change { op, oid: id.bytes(), at };
    Ok(txn.set_versionstamped_key(&key, &encode_change(&change))?)
}

/// What a transaction adds to the counters of a bucket: collected, so that each
/// counter is written once.
#[derive(Debug, Default)]
pub(super) struct Sums(BTreeMap<u16, Sum>);

/// What is added to the counters of one shard.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sum {
    documents: i64,
    bytes: i64,
    tombstones: i64,
}

impl Sums {
    /// The sum that a document counts to.
    pub(super) fn of(&mut self, home: &Home, id: &ObjectId) -> &mut Sum {
        self.0.entry(home.shard_of(id)).or_default()
    }

    /// Adds them to the counters, and notes in which shards of the change log this
    /// commit is. Counters that do not change are not touched.
    ///
    /// # Errors
    /// `QUOTAEXCEEDED`; those of the store.
    pub(super) fn write(self, txn: &Transaction, home: &Home) -> Result<()> {
        let total = |of: fn(&Sum) -> i64| self.0.values().map(of).sum::<i64>();
        home.expect_room(total(|sum| sum.documents), total(|sum| sum.bytes))?;
        for (shard, sum) in self.0 {
            // Blind, so that it conflicts with nothing: whoever waits for changes watches it.
            let head = keys::feed::head(home.bucket(), shard);
            txn.set_versionstamped_value(&head, &Versionstamp::placeholder())?;
            let counters = [
                (keys::counted::DOCUMENTS, sum.documents),
                (keys::counted::BYTES, sum.bytes),
                (keys::counted::TOMBSTONES, sum.tombstones),
            ];
            for (what, sum) in counters {
                if sum != 0 {
                    let key = keys::count(home.bucket(), shard, what);
                    txn.atomic(Atomic::Add, &key, &encode_sum(sum))?;
                }
            }
        }
        Ok(())
    }
}

/// Whether no document of a bucket was written by a commit after this version; with conflict on
/// any that comes. Not in a transaction that writes some itself.
///
/// # Errors
/// Those of the store; damage.
pub async fn is_unchanged(txn: &Transaction, home: &Home, version: u64) -> Result<bool> {
    let heads = home.shards().iter().map(|shard| async move {
        let head = txn.get(&keys::feed::head(home.bucket(), *shard), Read::Conflict).await?;
        head.map(|head| Versionstamp::decode(&head)).transpose().map_err(Error::from)
    });
    let heads = join_all(heads).await?;
    Ok(heads.into_iter().flatten().all(|head| head.version() <= version))
}

impl Sum {
    pub(super) fn inserted(&mut self, document: &Document) {
        self.documents += 1;
        self.bytes += bytes(document);
    }

    pub(super) fn replaced(&mut self, old: &Document, new: &Document) {
        self.bytes += bytes(new) - bytes(old);
    }

    pub(super) fn deleted(&mut self, document: &Document) {
        self.documents -= 1;
        self.bytes -= bytes(document);
    }

    pub(super) fn tombstone_added(&mut self) {
        self.tombstones += 1;
    }

    pub(super) fn tombstone_taken_away(&mut self) {
        self.tombstones -= 1;
    }
}

fn bytes(document: &Document) -> i64 {
    i64::try_from(document.bytes().len()).unwrap_or(i64::MAX)
}
