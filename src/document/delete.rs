use std::collections::BTreeSet;
use std::time::Duration;

use bson::oid::ObjectId;

use super::change::{Sums, indexes, log, written};
use super::join_all;
use super::replace::hold;
use super::{Document, Home, replica, tombstone};
use crate::clock::milliseconds;
use crate::codec::duration::Retention;
use crate::codec::record::{Actor, ChangeOp, TombstoneRecord};
use crate::codec::{RemovalId, keys};
use crate::error::Result;
use crate::index;
use crate::metadata::bucket;
use crate::metadata::policy::Kept;
use crate::store::{Read, Transaction};

/// Tombstones looked up at the same time.
const READS_AT_ONCE: usize = 64;

/// One deletion: what all documents that it takes away have in common.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// The handle on all of them together.
    pub removal: RemovalId,
    pub by: Actor,
    pub reason: Option<String>,
    /// How long they are kept. Zero: not at all.
    pub retention: Retention,
    /// Whether another transaction may have deleted documents under this removal.
    pub continues: bool,
}

/// Deletes these documents, all read in this transaction, and gives the ids of
/// those that it deleted. That they are still as they were read is guarded
/// until the commit. `at` is cluster time.
///
/// A document whose `_id` this very deletion has taken away before was inserted
/// after it, and is left alone: a deletion is over once for each `_id`.
///
/// # Errors
/// Those of the store.
pub async fn delete(
    txn: &Transaction,
    home: &Home,
    documents: &[(ObjectId, Document)],
    deletion: &Deletion,
    at: i64,
) -> Result<Vec<ObjectId>> {
    let mut sums = Sums::default();
    let deleted = delete_counted(txn, home, documents, deletion, at, &mut sums).await?;
    sums.write(txn, home)?;
    Ok(deleted)
}

/// As [`delete`], which leaves it to the caller to write the sums.
pub(super) async fn delete_counted(
    txn: &Transaction,
    home: &Home,
    documents: &[(ObjectId, Document)],
    deletion: &Deletion,
    at: i64,
    sums: &mut Sums,
) -> Result<Vec<ObjectId>> {
    let keep = Keep::new(txn, home, deletion, at).await?;
    let mut deleted = Vec::with_capacity(documents.len());
    for part in documents.chunks(READS_AT_ONCE) {
        let again = tombstones_there(txn, home, part, deletion).await?;
        let gone: Vec<_> = part
            .iter()
            .zip(&again)
            .filter(|(_, again)| !**again)
            .map(|((id, document), _)| written(home, id, Some(document), None))
            .collect();
        indexes(txn, home, &gone).await?;
        for ((id, document), again) in part.iter().zip(again) {
            if again {
                continue;
            }
            let stored = hold(txn, home, id, document).await?;
            txn.clear(&home.key(id))?;
            match &keep {
                Keep::Nothing => tombstone::clear_body(txn, home, &stored)?,
                Keep::Rows(record) => {
                    tombstone::clear_body(txn, home, &stored)?;
                    tombstone::write(txn, home, id, deletion.removal, record, None)?;
                    sums.of(home, id).tombstone_added();
                }
                Keep::Document(record) => {
                    tombstone::write(txn, home, id, deletion.removal, record, Some(&stored))?;
                    sums.of(home, id).tombstone_added();
                }
            }
            log(txn, home, ChangeOp::Delete, id, at)?;
            if !matches!(keep, Keep::Document(_)) {
                log(txn, home, ChangeOp::Purge, id, at)?;
            }
            sums.of(home, id).deleted(document);
            deleted.push(*id);
        }
    }
    if !deleted.is_empty()
        && let Keep::Rows(TombstoneRecord { expires_at: Some(expires_at), .. })
        | Keep::Document(TombstoneRecord { expires_at: Some(expires_at), .. }) = &keep
    {
        let due = home.cluster_time(rounded_up(*expires_at, deletion.retention));
        bucket::schedule_vacuum(txn, home.bucket(), due)?;
    }
    if !matches!(keep, Keep::Document(_)) {
        let ids: BTreeSet<&ObjectId> = deleted.iter().collect();
        let gone = documents.iter().filter(|(id, _)| ids.contains(id));
        let gone: Vec<_> = gone.map(|(_, document)| Some(document.raw())).collect();
        index::forget_values(txn, home.bucket(), home.indexes(), &gone, at).await?;
    }
    Ok(deleted)
}

/// What stays of a deleted document.
enum Keep {
    /// Only its entries in the change log.
    Nothing,
    /// That it was deleted, until every reader of the change log has heard of it.
    Rows(TombstoneRecord),
    Document(TombstoneRecord),
}

impl Keep {
    async fn new(txn: &Transaction, home: &Home, deletion: &Deletion, at: i64) -> Result<Self> {
        let expires_at = match deletion.retention {
            Retention::For(duration) => Some(home.clock(at).saturating_add(milliseconds(duration))),
            Retention::Forever => None,
        };
        let record = TombstoneRecord {
            deleted_at: at,
            by: deletion.by.clone(),
            reason: deletion.reason.clone(),
            expires_at,
            promise: home.policy().promise(Kept::Documents, home.clock(at)),
        };
        if deletion.retention != Retention::For(Duration::ZERO) {
            return Ok(Self::Document(record));
        }
        let readers = replica::readers(txn, home).await?;
        Ok(if readers.lowest.is_some() { Self::Rows(record) } else { Self::Nothing })
    }
}

/// Which of these have a tombstone of this deletion.
async fn tombstones_there(
    txn: &Transaction,
    home: &Home,
    documents: &[(ObjectId, Document)],
    deletion: &Deletion,
) -> Result<Vec<bool>> {
    if !deletion.continues {
        return Ok(vec![false; documents.len()]);
    }
    let reads = documents.iter().map(|(id, _)| async move {
        let key = keys::tombstone(home.bucket(), &id.bytes(), deletion.removal);
        Ok::<_, crate::error::Error>(txn.get(&key, Read::Conflict).await?.is_some())
    });
    join_all(reads).await
}

/// When to look for what expires at `at`: rounded up to a small part of its
/// retention, so that many deletions schedule the same row.
fn rounded_up(at: i64, retention: Retention) -> i64 {
    const STEP_MS_MAX: i64 = 600_000;
    let step = match retention {
        Retention::For(duration) => (milliseconds(duration) / 64).clamp(1, STEP_MS_MAX),
        Retention::Forever => STEP_MS_MAX,
    };
    at.div_euclid(step).saturating_add(1).saturating_mul(step)
}

#[cfg(test)]
pub(super) mod tests;
