//! Purges deleted documents that have expired.
//!
//! A DELETE schedules a look at its bucket for when its tombstones expire (an
//! `expiry` row), so a bucket in which nothing is deleted costs nothing. The
//! owner of the bucket's shard looks, page by page, each page a data transaction
//! like any other: fenced, and under the shard's epoch. It is entered in the
//! table of open work before it looks whether the bucket is active (protocol.md,
//! rule 7), so that a removal stops it and the barrier names it until it has
//! stopped. What a reader of the change log has not passed stays, and is not met again
//! until that reader schedules a look itself or its lease is over. While a swap lets the bucket's
//! writers wait, it waits as they do. While all destruction is paused, or the clocks are suspect, nothing
//! is purged and the look stays scheduled.

use tokio_util::sync::CancellationToken;

use crate::cluster::work::Scope;
use crate::codec::{BucketId, keys};
use crate::document::{self, Home};
use crate::error::{Error, Result};
use crate::metadata;
use crate::store::{Read, Resolve, Transaction};

use super::Workers;
use super::queue::{self, DueBucket};

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    queue::run(&workers, keys::due::VACUUM, &stop, |due| vacuum(&workers, due)).await;
}

/// Purges what has expired in one bucket, if its shard is ours.
async fn vacuum(workers: &Workers, due: DueBucket) -> Result<()> {
    let DueBucket { bucket, at, now, .. } = due;
    let catalog = workers.lifecycle.catalog();
    let shard = workers.shard_of(bucket.0);
    let Some(epoch) = workers.owned().get(&shard).copied() else { return Ok(()) };
    if !queue::is_open(workers, &due).await? {
        return Ok(());
    }
    let work =
        catalog.cluster().work().enter(bucket, Scope::Shard(shard), "vacuum of deleted documents");
    let mut opened = false;
    let mut waited = None;
    loop {
        let outcome = catalog
            .store()
            .run("vacuum", Resolve::Idempotent, |txn: Transaction| async move {
                let txn = &txn;
                workers.check_shard(txn, shard, epoch).await?;
                let live = catalog.handles().open_id(txn, bucket).await?;
                live.expect_writable(catalog.now(), waited)?;
                let home = Home::from(&live);
                workers.lifecycle.expect_destruction(txn).await?;
                Ok::<_, Error>(document::vacuum(txn, &home, now).await?.1)
            })
            .await;
        match outcome {
            Ok(outcome) if !outcome.value => break,
            Ok(_) => {}
            Err(Error::WritesPaused { bucket, pause }) => {
                if !queue::past_pause(workers, &work, (bucket, pause)).await {
                    return Ok(());
                }
                waited = Some(pause.swap);
                continue;
            }
            Err(error) => return Err(error),
        }
        if !opened && work.open().is_err() {
            return Ok(());
        }
        opened = true;
        if work.is_stopped() {
            return Ok(());
        }
    }
    settle(workers, bucket, (shard, epoch), at, now).await
}

/// Takes the look that was done off the schedule, and schedules the next one if
/// anything is left that time alone will let go. A write to the bucket, so fenced like any other.
async fn settle(
    workers: &Workers,
    bucket: BucketId,
    (shard, epoch): (u16, i64),
    at: i64,
    now: i64,
) -> Result<()> {
    let catalog = workers.lifecycle.catalog();
    catalog
        .store()
        .run("vacuum-settle", Resolve::Idempotent, |txn: Transaction| async move {
            let txn = &txn;
            workers.check_shard(txn, shard, epoch).await?;
            let home = Home::from(&catalog.handles().open_id(txn, bucket).await?);
            // With conflict: a DELETE that schedules the same look meanwhile must not lose it.
            txn.get(&keys::vacuum(bucket, at), Read::Conflict).await?;
            metadata::bucket::unschedule_vacuum(txn, bucket, at)?;
            if let Some(next) = document::next_look(txn, &home, now).await? {
                metadata::bucket::schedule_vacuum(txn, bucket, next)?;
            }
            Ok::<(), Error>(())
        })
        .await?;
    Ok(())
}
