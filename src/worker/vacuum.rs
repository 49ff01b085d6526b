//! Purges deleted documents that have expired.
//!
//! A DELETE schedules a look at its bucket for when its tombstones expire (an
//! `expiry` row), so a bucket in which nothing is deleted costs nothing. The
//! owner of the bucket's shard looks, page by page, each page a data transaction
//! like any other: fenced, and under the shard's epoch. It is entered in the
//! table of open work before it looks whether the bucket is active (protocol.md,
//! rule 7), so that a removal stops it and the barrier names it until it has
//! stopped. What a reader of the change log has not passed stays: when it has, it
//! schedules a look itself. While all destruction is paused, or the clocks are suspect, nothing
//! is purged and the look stays scheduled.

use tokio_util::sync::CancellationToken;

use crate::cluster::work::Scope;
use crate::codec::{BucketId, keys};
use crate::document::{self, Home, replica};
use crate::error::{Error, Result};
use crate::metadata;
use crate::store::{RangeRead, Read, Resolve, Transaction};

use super::Workers;
use super::queue::{self, DueBucket};

/// The next look at a bucket is no sooner than this, in milliseconds.
const SOON_MS: i64 = 1_000;
/// A bucket in which a reader keeps something from going is looked at this
/// often, in milliseconds, whatever that reader says.
const AGAIN_MS: i64 = 3_600_000;

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
    let mut from: Option<Vec<u8>> = None;
    loop {
        let begin = from.as_deref();
        let outcome = catalog
            .store()
            .run("vacuum", Resolve::Idempotent, |txn: Transaction| async move {
                let txn = &txn;
                workers.check_shard(txn, shard, epoch).await?;
                let home = Home::from(&catalog.handles().open_id(txn, bucket).await?);
                workers.lifecycle.expect_destruction(txn).await?;
                Ok(document::vacuum(txn, &home, now, begin).await?.1)
            })
            .await;
        match outcome {
            Ok(outcome) => match outcome.value {
                Some(next) => from = Some(next),
                None => break,
            },
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
/// anything is left that will expire. A write to the bucket, so fenced like any other.
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
            if let Some(next) = next_look(txn, &home, now).await? {
                metadata::bucket::schedule_vacuum(txn, bucket, next)?;
            }
            Ok::<(), Error>(())
        })
        .await?;
    Ok(())
}

/// When to look again, in cluster time; `None`: nothing is left that will expire.
async fn next_look(txn: &Transaction, home: &Home, now: i64) -> Result<Option<i64>> {
    let (bucket, clock) = (home.bucket(), home.clock(now));
    let Some(first) = document::due(txn, home, clock, 0, None).await?.next else { return Ok(None) };
    let soon = now.saturating_add(SOON_MS);
    if first > clock {
        return Ok(Some(home.cluster_time(first).max(soon)));
    }
    // It has expired: a reader needs it, who says when it does not any more, or falls silent.
    let (begin, end) = keys::range(&keys::data_part(bucket, keys::data::EXPIRING));
    let begin = keys::feed::expiring_from(bucket, clock.saturating_add(1)).max(begin);
    let page = txn.range(RangeRead::new(begin, end).limit(1).snapshot()).await?;
    let later = page.rows.first().map(|(key, _)| keys::parse_expiring(key)).transpose()?;
    let later = later.filter(|(_, at, ..)| *at != keys::NEVER);
    let readers = replica::readers(txn, home).await?;
    let next = match &readers.lowest {
        Some(_) => later.map(|(_, at, ..)| at).into_iter().chain(readers.lease_ends).min(),
        None => Some(clock),
    };
    let again = now.saturating_add(AGAIN_MS);
    let next = next.map_or(again, |at| home.cluster_time(at).saturating_add(1));
    Ok(Some(next.clamp(soon, again.max(soon))))
}
