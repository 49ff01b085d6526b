//! Purges deleted documents that have expired.
//!
//! A DELETE schedules a look at its bucket for when its tombstones expire (an
//! `expiry` row), so a bucket in which nothing is deleted costs nothing. The
//! owner of the bucket's shard looks, page by page, each page a data transaction
//! like any other: fenced, and under the shard's epoch. It is entered in the
//! table of open work before it looks whether the bucket is active (protocol.md,
//! rule 7), so that a removal stops it and the barrier names it until it has
//! stopped. While all destruction is paused, or the clocks are suspect, nothing
//! is purged and the look stays scheduled.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cluster::work::Scope;
use crate::codec::{BucketId, DecodeError, keys};
use crate::document::{self, Home, Tombstone};
use crate::error::{Error, Result};
use crate::metadata;
use crate::store::{RangeRead, Read, Resolve, Transaction};

use super::trim::set_aside;
use super::{DEADMAN, Workers, put_off};

/// Tombstones purged in one transaction.
const PAGE: usize = 100;
/// Due rows taken in one transaction.
const QUEUE_PAGE: usize = 100;

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    let mut shards = workers.lifecycle.catalog().cluster().owned_shards();
    let mut wakes = workers.lifecycle.wakes();
    while !stop.is_cancelled() {
        shards.mark_unchanged();
        wakes.mark_unchanged();
        let pause = match pass(&workers, &stop).await {
            Ok(pause) => pause,
            Err(error) => {
                put_off("vacuum", &"queue", &error);
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            biased;
            _ = shards.changed() => {}
            _ = wakes.changed() => {}
            () = sleep(pause.min(DEADMAN)) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Looks at all buckets that are due; gives how long until the next one is.
async fn pass(workers: &Workers, stop: &CancellationToken) -> Result<Duration> {
    let now = workers.lifecycle.catalog().certain_now();
    let all = RangeRead::prefix(keys::kind_prefix(keys::kind::EXPIRY));
    let mut next = Some(all.limit(QUEUE_PAGE).snapshot());
    while let Some(range) = next {
        let range = &range;
        let page = workers
            .lifecycle
            .catalog()
            .read(
                "vacuum-queue",
                |txn: Transaction| async move { Ok(txn.range(range.clone()).await?) },
            )
            .await?;
        for (key, _) in &page.rows {
            let (at, what, id) = keys::parse_expiry(key)?;
            if at > now {
                let wait = u64::try_from(at.saturating_sub(now)).unwrap_or(0);
                return Ok(Duration::from_millis(wait + 1));
            }
            if what != keys::due::VACUUM || stop.is_cancelled() {
                continue;
            }
            let bucket = <[u8; 8]>::try_from(&id[..])
                .map_err(|_| DecodeError::new("expiry", "not eight bytes"))?;
            let bucket = BucketId(u64::from_be_bytes(bucket));
            match vacuum(workers, bucket, key, at, now).await {
                // It goes on when purging does.
                Ok(()) | Err(Error::PurgePaused(_) | Error::ClockSuspect(_)) => {}
                Err(error) => put_off("vacuum", &bucket, &error),
            }
        }
        next = range.after(&page);
    }
    Ok(DEADMAN)
}

/// Purges what has expired in one bucket, if its shard is ours.
async fn vacuum(workers: &Workers, bucket: BucketId, due: &[u8], at: i64, now: i64) -> Result<()> {
    let catalog = workers.lifecycle.catalog();
    let shard = workers.shard_of(bucket.0);
    let Some(epoch) = workers.owned().get(&shard).copied() else { return Ok(()) };
    let opened = catalog
        .read("vacuum-open", |txn: Transaction| async move {
            catalog.handles().open_id(&txn, bucket).await
        })
        .await;
    match opened {
        Ok(_) => {}
        Err(Error::BucketBeingRemoved(_)) => return set_aside(workers, bucket, due).await,
        // Purged since the queue was read: its row went with it.
        Err(Error::NoSuchBucket(_)) => return Ok(()),
        Err(error) => return Err(error),
    }
    let work =
        catalog.cluster().work().enter(bucket, Scope::Shard(shard), "vacuum of deleted documents");
    let mut opened = false;
    loop {
        let outcome = catalog
            .store()
            .run("vacuum", Resolve::Idempotent, |txn: Transaction| async move {
                let txn = &txn;
                workers.check_shard(txn, shard, epoch).await?;
                let home = Home::from(&catalog.handles().open_id(txn, bucket).await?);
                workers.lifecycle.expect_destruction(txn).await?;
                page(txn, &home, now).await
            })
            .await;
        match outcome {
            Ok(outcome) if outcome.value => {}
            Ok(_) => break,
            Err(Error::BucketBeingRemoved(_) | Error::NoSuchBucket(_)) => return Ok(()),
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

/// Purges one page; true when there may be more that has expired.
async fn page(txn: &Transaction, home: &Home, now: i64) -> Result<bool> {
    let clock = home.clock(now);
    let due = document::due(txn, home, clock, PAGE).await?;
    let may_go: Vec<Tombstone> =
        due.tombstones.into_iter().filter(|tombstone| may_go(tombstone, clock)).collect();
    document::purge(txn, home, &may_go, now)?;
    Ok(!may_go.is_empty() && due.next.is_some_and(|next| next <= clock))
}

/// Whether a deleted document may be destroyed: what asks for it to be kept is asked here.
fn may_go(tombstone: &Tombstone, clock: i64) -> bool {
    tombstone.is_expired(clock)
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
            if let Some(next) = document::due(txn, &home, home.clock(now), 0).await?.next {
                let next = home.cluster_time(next).max(now.saturating_add(1_000));
                metadata::bucket::schedule_vacuum(txn, bucket, next)?;
            }
            Ok::<(), Error>(())
        })
        .await?;
    Ok(())
}
