//! Counts what is removed and what is being given back, for the metrics.
//!
//! Whoever owns the shard of a removal counts it, so the figures of all nodes add up. It is counted again when the
//! journal says that something has changed, not from time to time. The documents of a removed instance are frozen, so
//! they are read once; what is read again is one row for each removal, page by page.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::codec::record::{self, HoldRecord, ReclaimRecord, RemovalRecord};
use crate::codec::{Object, ObjectKind, RemovalId, keys};
use crate::error::Result;
use crate::lifecycle::Census;
use crate::metadata::bucket;
use crate::store::{RangeRead, Transaction};

use super::{DEADMAN, Workers, put_off};

/// Removals that are counted; beyond it the census says that there are more.
const COUNTED_MAX: usize = 100_000;
/// Holds that are counted.
const HOLDS_MAX: u64 = 100_000;
/// Between two counts lies at least this time, and this many times what the last one took: however
/// often something is removed, counting takes a small part of the node.
const REST_MIN: Duration = Duration::from_millis(500);
const REST_TIMES: u32 = 20;

/// What each removed instance is, and of a bucket its documents and bytes, which do not change any more.
type Frozen = HashMap<RemovalId, (ObjectKind, u64, u64)>;

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    let mut wakes = workers.lifecycle.wakes();
    let mut shards = workers.lifecycle.catalog().cluster().owned_shards();
    let mut frozen = Frozen::new();
    while !stop.is_cancelled() {
        wakes.mark_unchanged();
        shards.mark_unchanged();
        let began = Instant::now();
        match count(&workers, &mut frozen).await {
            Ok(census) => workers.lifecycle.meters().set_census(census),
            Err(error) => put_off("census", &"removals", &error),
        }
        let rest = REST_MIN.max(began.elapsed().saturating_mul(REST_TIMES));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(rest) => {}
        }
        tokio::select! {
            biased;
            _ = wakes.changed() => {}
            _ = shards.changed() => {}
            () = sleep(DEADMAN) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn count(workers: &Workers, frozen: &mut Frozen) -> Result<Census> {
    let owned = workers.owned();
    let mut census = Census::default();
    let mut still = Frozen::new();
    let mut next = Some(RangeRead::prefix(keys::kind_prefix(keys::kind::REMOVAL)).snapshot());
    'removals: while let Some(range) = next {
        let page = read(workers, &range).await?;
        for (key, value) in &page.rows {
            let removal = RemovalId(keys::parse_number("removal", key)?);
            if !owned.contains_key(&workers.shard_of(removal.0)) {
                continue;
            }
            if still.len() == COUNTED_MAX {
                census.incomplete = true;
                break 'removals;
            }
            let counts @ (kind, documents, bytes) = match frozen.get(&removal) {
                Some(counts) => *counts,
                None => counts(workers, value).await?,
            };
            match kind {
                ObjectKind::Bucket => census.removed_buckets += 1,
                ObjectKind::Namespace => census.removed_namespaces += 1,
            }
            census.removed_documents = census.removed_documents.saturating_add(documents);
            census.removed_bytes = census.removed_bytes.saturating_add(bytes);
            still.insert(removal, counts);
        }
        next = range.after(&page);
    }
    *frozen = still;
    count_holds(workers, &mut census).await?;
    let mut jobs = 0;
    let mut next = Some(RangeRead::prefix(keys::kind_prefix(keys::kind::RECLAIM)).snapshot());
    'jobs: while let Some(range) = next {
        let page = read(workers, &range).await?;
        for (key, value) in &page.rows {
            let removal = RemovalId(keys::parse_number("reclaim", key)?);
            if !owned.contains_key(&workers.shard_of(removal.0)) {
                continue;
            }
            if jobs == COUNTED_MAX {
                census.incomplete = true;
                break 'jobs;
            }
            jobs += 1;
            let job: ReclaimRecord = record::decode("reclaim", value)?;
            let phase =
                if job.dropped { &mut census.jobs_reclaiming } else { &mut census.jobs_queued };
            *phase += 1;
        }
        next = range.after(&page);
    }
    Ok(census)
}

async fn count_holds(workers: &Workers, census: &mut Census) -> Result<()> {
    let (owned, now) = (workers.owned(), workers.lifecycle.catalog().now());
    let mut next = Some(RangeRead::prefix(keys::kind_prefix(keys::kind::HOLD)).snapshot());
    while let Some(range) = next {
        let page = read(workers, &range).await?;
        for (key, value) in &page.rows {
            let removal = RemovalId(keys::parse_number("hold", key)?);
            if owned.contains_key(&workers.shard_of(removal.0)) {
                let hold: HoldRecord = record::decode("hold", value)?;
                census.holds += 1;
                census.holds_overdue += u64::from(hold.is_overdue(now));
            }
        }
        next = range.after(&page).filter(|_| census.holds < HOLDS_MAX);
    }
    Ok(())
}

async fn read(workers: &Workers, range: &RangeRead) -> Result<crate::store::Page> {
    workers
        .lifecycle
        .catalog()
        .read("census", |txn: Transaction| async move { Ok(txn.range(range.clone()).await?) })
        .await
}

/// What this removal has removed, and how much of it is counted. What is in a namespace is not: it has no sums of its own.
async fn counts(workers: &Workers, removal: &[u8]) -> Result<(ObjectKind, u64, u64)> {
    let (_, removed) = record::decode_versioned::<RemovalRecord>("removal", removal)?;
    let Object::Bucket(bucket) = removed.object else { return Ok((ObjectKind::Namespace, 0, 0)) };
    let counts = workers
        .lifecycle
        .catalog()
        .read("census", |txn: Transaction| async move {
            let txn = &txn;
            bucket::counts(txn, bucket).await
        })
        .await?;
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok((ObjectKind::Bucket, unsigned(counts.documents), unsigned(counts.bytes)))
}
