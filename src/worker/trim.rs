//! Cuts the change logs of buckets behind `changes.retention`, as far as every
//! live reader of them has come.
//!
//! The first write through a handle schedules a trim of its bucket when none is
//! (an `expiry` row), so a bucket that nobody writes to costs nothing. The work
//! is done for each shard of the bucket by the owner of that shard, page by
//! page, each page a data transaction like any other: fenced, and under the
//! shard's epoch. It is entered in the table of open work before it looks
//! whether the bucket is active (protocol.md, rule 7), so that a removal stops
//! it and the barrier names it until it has stopped.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cluster::work::Scope;
use crate::codec::{BucketId, NamespaceId, Sequence, keys, record};
use crate::document::{Home, replica};
use crate::error::{Error, Result};
use crate::lifecycle::park;
use crate::metadata;
use crate::store::{RangeRead, Read, Resolve, Transaction};

use super::{DEADMAN, Workers, put_off};

/// Changes cut in one transaction.
const PAGE: usize = 1_000;
/// Due rows taken in one transaction.
const QUEUE_PAGE: usize = 100;

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    let mut shards = workers.lifecycle.catalog().cluster().owned_shards();
    while !stop.is_cancelled() {
        shards.mark_unchanged();
        let pause = match pass(&workers, &stop).await {
            Ok(pause) => pause,
            Err(error) => {
                put_off("trim", &"queue", &error);
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            biased;
            _ = shards.changed() => {}
            () = sleep(pause.min(DEADMAN)) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Trims all buckets that are due; gives how long until the next one is.
async fn pass(workers: &Workers, stop: &CancellationToken) -> Result<Duration> {
    let now = workers.lifecycle.catalog().certain_now();
    let (begin, _) = keys::range(&keys::kind_prefix(keys::kind::EXPIRY));
    let end = keys::after(&keys::kind_prefix(keys::kind::EXPIRY));
    let mut next = Some(RangeRead::new(begin, end).limit(QUEUE_PAGE).snapshot());
    while let Some(range) = next {
        let range = &range;
        let page = workers
            .lifecycle
            .catalog()
            .read("trim", |txn: Transaction| async move { Ok(txn.range(range.clone()).await?) })
            .await?;
        for (key, _) in &page.rows {
            let (at, what, id) = keys::parse_expiry(key)?;
            if at > now {
                let wait = u64::try_from(at.saturating_sub(now)).unwrap_or(0);
                return Ok(Duration::from_millis(wait + 1));
            }
            if what != keys::due::TRIM || stop.is_cancelled() {
                continue;
            }
            let bucket = <[u8; 8]>::try_from(&id[..])
                .map_err(|_| crate::codec::DecodeError::new("expiry", "not eight bytes"))?;
            let bucket = BucketId(u64::from_be_bytes(bucket));
            match trim(workers, bucket, key, at, now).await {
                Ok(()) => {}
                Err(error) => put_off("trim", &bucket, &error),
            }
        }
        next = range.after(&page);
    }
    Ok(DEADMAN)
}

/// Trims one bucket, as far as its shards are ours; the owner of its first
/// shard settles the queue.
async fn trim(workers: &Workers, bucket: BucketId, due: &[u8], at: i64, now: i64) -> Result<()> {
    let catalog = workers.lifecycle.catalog();
    let owned = workers.owned();
    let opened = catalog
        .read(
            "trim",
            |txn: Transaction| async move { catalog.handles().open_id(&txn, bucket).await },
        )
        .await;
    let live = match opened {
        Ok(live) => live,
        Err(Error::BucketBeingRemoved(_) | Error::NamespaceBeingRemoved(_)) => {
            return set_aside(workers, bucket, due).await;
        }
        // Purged since the queue was read: its row went with it.
        Err(Error::NoSuchBucket(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let cutoff = now.saturating_sub(workers.options.changes_retention_ms);
    for shard in live.shards().to_vec() {
        let Some(epoch) = owned.get(&shard).copied() else { continue };
        let work =
            catalog.cluster().work().enter(bucket, Scope::Shard(shard), "trim of the change log");
        fail::fail_point!("trim-before-open");
        let mut opened = false;
        loop {
            let outcome = catalog
                .store()
                .run("trim", Resolve::Idempotent, |txn: Transaction| async move {
                    let txn = &txn;
                    workers.check_shard(txn, shard, epoch).await?;
                    let home = Home::from(&catalog.handles().open_id(txn, bucket).await?);
                    cut(txn, &home, shard, cutoff).await
                })
                .await;
            match outcome {
                Ok(outcome) if outcome.value => {}
                Ok(_) => break,
                Err(
                    Error::BucketBeingRemoved(_)
                    | Error::NamespaceBeingRemoved(_)
                    | Error::NoSuchBucket(_),
                ) => return Ok(()),
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
    }
    settle(workers, bucket, at, now).await
}

/// Clears one page of changes made before `cutoff` that every reader has
/// passed, and raises the floor; true when there may be more.
async fn cut(txn: &Transaction, home: &Home, shard: u16, cutoff: i64) -> Result<bool> {
    let bucket = home.bucket();
    let readers = replica::readers(txn, home).await?;
    let mut all = RangeRead::prefix(keys::change_prefix(bucket, shard)).limit(PAGE).snapshot();
    if let Some((lowest, _)) = &readers.lowest {
        // What a reader needs is not looked at again and again.
        all.end = keys::feed::change_behind(bucket, shard, *lowest);
    }
    let page = txn.range(all.clone()).await?;
    let mut last = None;
    for (key, value) in &page.rows {
        let (_, _, version, order) = keys::parse_change(key)?;
        let sequence = Sequence::new(version, order);
        if record::decode_change(value)?.at >= cutoff {
            break;
        }
        last = Some((key, sequence));
    }
    let Some((last, sequence)) = last else { return Ok(false) };
    txn.clear_range(&all.begin, &keys::next(last))?;
    replica::raise_floor(txn, bucket, sequence)?;
    Ok(page.more && page.rows.last().is_some_and(|(key, _)| key == last))
}

/// Takes the trim that was done off the schedule, and schedules the next one if
/// changes are left. A write to the bucket, so fenced like any other.
async fn settle(workers: &Workers, bucket: BucketId, at: i64, now: i64) -> Result<()> {
    let first = workers.shard_of(bucket.0);
    let Some(epoch) = workers.owned().get(&first).copied() else { return Ok(()) };
    let catalog = workers.lifecycle.catalog();
    let retention = workers.options.changes_retention_ms;
    catalog
        .store()
        .run("trim-settle", Resolve::Idempotent, |txn: Transaction| async move {
            let txn = &txn;
            workers.check_shard(txn, first, epoch).await?;
            catalog.handles().open_id(txn, bucket).await?;
            metadata::bucket::unschedule_trim(txn, bucket, at)?;
            // With conflict: a change that is written meanwhile must not be left
            // without a trim.
            let changes = RangeRead::prefix(keys::data_part(bucket, keys::data::CHANGE));
            let rest = txn.range(changes.limit(1)).await?;
            if !rest.rows.is_empty() {
                let again = now.saturating_add(retention.max(1_000));
                metadata::bucket::schedule_trim(txn, bucket, again)?;
            }
            Ok::<(), Error>(())
        })
        .await?;
    Ok(())
}

/// Takes what is due of a bucket that is removed, or in a removed namespace, out of the
/// queue: the bucket stands still, and a restore puts it back.
pub(super) async fn set_aside(workers: &Workers, bucket: BucketId, due: &[u8]) -> Result<()> {
    let first = workers.shard_of(bucket.0);
    let Some(epoch) = workers.owned().get(&first).copied() else { return Ok(()) };
    let (at, what, _) = keys::parse_expiry(due)?;
    workers
        .lifecycle
        .catalog()
        .store()
        .run("trim-aside", Resolve::Idempotent, |txn: Transaction| async move {
            let txn = &txn;
            workers.check_shard(txn, first, epoch).await?;
            let number = bucket.0.to_be_bytes();
            // A restore that commits first takes this key away.
            if txn.get(&keys::removal_of(bucket.0), Read::Conflict).await?.is_some() {
                txn.clear(due)?;
            } else if let Some(removed) = removed_above(txn, bucket).await?
                && txn.get(due, Read::Conflict).await?.is_some()
            {
                park::park(txn, removed, at, what, &number)?;
            }
            Ok::<(), Error>(())
        })
        .await?;
    Ok(())
}

/// The namespace above a bucket that is removed, if there is one, read with conflict.
async fn removed_above(txn: &Transaction, bucket: BucketId) -> Result<Option<NamespaceId>> {
    let record = metadata::bucket::read_record(txn, bucket, Read::Conflict).await;
    let above = match record {
        Ok(record) => metadata::namespace::lineage(txn, record.namespace, Read::Conflict).await,
        Err(error) => Err(error),
    };
    match above {
        Ok(above) => Ok(above.removed().map(|(id, _)| id)),
        Err(Error::NoSuchBucket(_) | Error::NoSuchNamespace(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
