//! Building an index anew, under another number: on demand, or because its
//! strings have keys of older collation data than this program's.
//!
//! One small transaction, whatever the size: the old entries are dropped as a
//! prefix, and the build goes on as that of a new index does. Until it is ready,
//! queries do without it.
//!
//! Not here: the build (`worker`).

use super::define;
use super::task;
use crate::codec::BucketId;
use crate::codec::record::{BucketRecord, IndexStatus, TaskKind};
use crate::error::{Error, Result};
use crate::metadata::bucket::{self, Found};
use crate::metadata::namespace::Resolved;
use crate::metadata::{Caller, LiveBucket};
use crate::store::Transaction;
use crate::value::collation::{self, DATA_VERSION};

/// Builds an index anew.
///
/// # Errors
/// `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`, `NOSUCHINDEX`; `ERR` for the primary
/// index, and while the index is being built with this program's data.
pub async fn reindex(
    txn: &Transaction,
    caller: &Caller,
    namespace: &Resolved,
    name: &str,
    index: &str,
    now: i64,
) -> Result<()> {
    let (mut found, at) = define::find(txn, namespace, name, index, "reindex").await?;
    let building = found.record.indexes.get(at).is_some_and(|record| {
        record.status == IndexStatus::Building && record.collation_data == DATA_VERSION
    });
    if building {
        return Err(Error::syntax("Index has active tasks"));
    }
    anew(txn, found.id, &mut found.record, at, now)?;
    define::changed(txn, found.id, &found.record)?;
    define::audit_row(txn, caller, namespace, &found, "reindex", index, now)
}

/// Builds anew all indexes of a bucket that have older collation data. False when
/// there is none: those with newer data wait for a newer program. The caller has checked the fence.
///
/// # Errors
/// `ERR` while the bucket is being copied; those of the store.
pub async fn refresh(txn: &Transaction, live: &LiveBucket, now: i64) -> Result<bool> {
    let old: Vec<usize> = live
        .indexes()
        .iter()
        .enumerate()
        .filter(|(_, index)| {
            index.is_stale() && collation::is_newer_than(&index.record().collation_data)
        })
        .map(|(at, _)| at)
        .collect();
    if old.is_empty() {
        return Ok(false);
    }
    let mut found = Found { id: live.id(), record: live.record().clone() };
    bucket::expect_same_indexes(txn, &found).await?;
    for at in old {
        anew(txn, found.id, &mut found.record, at, now)?;
    }
    define::changed(txn, found.id, &found.record)?;
    Ok(true)
}

fn anew(
    txn: &Transaction,
    bucket: BucketId,
    record: &mut BucketRecord,
    at: usize,
    now: i64,
) -> Result<()> {
    let id = record.next_index.max(1);
    let Some(index) = record.indexes.get_mut(at) else { return Ok(()) };
    define::forget(txn, bucket, index.id)?;
    index.id = id;
    index.status = IndexStatus::Building;
    DATA_VERSION.clone_into(&mut index.collation_data);
    record.next_index = id + 1;
    task::ask(txn, bucket, id, TaskKind::Build, now)
}
