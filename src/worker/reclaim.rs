//! Gives back the bytes of what was purged.
//!
//! Each purged instance is a job of its own, so none waits for another. First
//! its prefix is handed to the engine in one small transaction: from then on
//! nothing of it can be read. The engine destroys it physically; when it says
//! that nothing is left, and a read finds nothing, the job goes.

use std::collections::HashSet;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::codec::record::{self, ReclaimRecord};
use crate::codec::{NamespaceId, RemovalId, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Resolve, Transaction};

use super::{DEADMAN, Workers, put_off};

/// Most jobs that one node has under way.
const JOBS_MAX: usize = 4;
/// How long to wait before a job that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    let mut wakes = workers.lifecycle.wakes();
    let mut shards = workers.lifecycle.catalog().cluster().owned_shards();
    let mut jobs = JoinSet::new();
    let mut under_way = HashSet::new();
    while !stop.is_cancelled() {
        wakes.mark_unchanged();
        shards.mark_unchanged();
        match waiting_jobs(&workers, &under_way).await {
            Ok(found) => {
                for removal in found.into_iter().take(JOBS_MAX.saturating_sub(under_way.len())) {
                    under_way.insert(removal);
                    let workers = workers.clone();
                    jobs.spawn(async move {
                        let result = reclaim(&workers, removal).await;
                        (removal, result)
                    });
                }
            }
            Err(error) => put_off("reclaim", &"queue", &error),
        }
        tokio::select! {
            biased;
            _ = wakes.changed() => {}
            _ = shards.changed() => {}
            Some(ended) = jobs.join_next() => match ended {
                Ok((removal, Ok(()))) => {
                    workers.lifecycle.meters().note_reclaim_left(removal, false);
                    under_way.remove(&removal);
                }
                Ok((removal, Err(error))) => {
                    workers.lifecycle.meters().note_reclaim_left(removal, true);
                    put_off("reclaim", &removal, &error);
                    note_error(&workers, removal, &error).await;
                    tokio::select! {
            biased;
                        () = sleep(AGAIN) => {}
                        () = stop.cancelled() => {}
                    }
                    under_way.remove(&removal);
                }
                // Those that were ended after another's panic.
                Err(ended) if ended.is_cancelled() => {}
                Err(panic) => {
                    tracing::error!(%panic, "reclaim: a job ended by a panic");
                    under_way.clear();
                    jobs.abort_all();
                }
            },
            () = sleep(DEADMAN) => {}
            () = stop.cancelled() => {}
        }
    }
    jobs.shutdown().await;
}

/// The jobs of this node's shards that nobody here works at.
async fn waiting_jobs(workers: &Workers, under_way: &HashSet<RemovalId>) -> Result<Vec<RemovalId>> {
    let owned = workers.owned();
    if workers.lifecycle.paused().await?.is_some() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut next = Some(RangeRead::prefix(keys::kind_prefix(keys::kind::RECLAIM)).snapshot());
    while let Some(range) = next {
        let range = &range;
        let page = workers
            .lifecycle
            .catalog()
            .read("reclaim", |txn: Transaction| async move { Ok(txn.range(range.clone()).await?) })
            .await?;
        for (key, _) in &page.rows {
            let removal = RemovalId(keys::parse_number("reclaim", key)?);
            if owned.contains_key(&workers.shard_of(removal.0)) && !under_way.contains(&removal) {
                found.push(removal);
            }
            if found.len() >= JOBS_MAX {
                return Ok(found);
            }
        }
        next = range.after(&page);
    }
    Ok(found)
}

async fn reclaim(workers: &Workers, removal: RemovalId) -> Result<()> {
    let shard = workers.shard_of(removal.0);
    let Some(epoch) = workers.owned().get(&shard).copied() else { return Ok(()) };
    let store = workers.lifecycle.catalog().store();
    let outcome = store
        .run("reclaim-drop", Resolve::Idempotent, |txn: Transaction| async move {
            let txn = &txn;
            workers.check_shard(txn, shard, epoch).await?;
            let Some(mut job) = read(txn, removal).await? else { return Ok(None) };
            if !job.dropped {
                txn.drop_prefix(&keys::data_prefix(job.bucket))?;
                job.dropped = true;
                txn.set(&keys::reclaim(removal), &record::encode(&job))?;
            }
            Ok::<_, Error>(Some(job))
        })
        .await?;
    let Some(job) = outcome.value else { return Ok(()) };

    let (job, prefix) = (&job, &keys::data_prefix(job.bucket));
    let progress = returned(workers, removal, prefix).await?;
    store
        .run("reclaim-done", Resolve::Idempotent, |txn: Transaction| async move {
            let txn = &txn;
            workers.check_shard(txn, shard, epoch).await?;
            if read(txn, removal).await?.is_none() {
                return Ok(());
            }
            let rest = txn.range(RangeRead::prefix(prefix.clone()).limit(1)).await?;
            if let Some((key, _)) = rest.rows.first() {
                return Err(Error::Internal(format!(
                    "{} still has keys after its prefix was dropped, the first of {} bytes",
                    job.bucket,
                    key.len()
                )));
            }
            txn.clear(&keys::reclaim(removal))?;
            for listed in [job.namespace, NamespaceId::ROOT] {
                txn.clear(&keys::removed_by_time(listed, job.version))?;
            }
            Ok::<(), Error>(())
        })
        .await?;
    workers.lifecycle.meters().note_reclaimed(removal, progress);
    info!(%removal, bucket = %job.bucket, returned_bytes = progress.returned_bytes, "reclaim: done");
    workers.lifecycle.wake_workers();
    Ok(())
}

async fn read(txn: &Transaction, removal: RemovalId) -> Result<Option<ReclaimRecord>> {
    let value = txn.get(&keys::reclaim(removal), Read::Conflict).await?;
    Ok(value.map(|value| record::decode("reclaim", &value)).transpose()?)
}

/// Waits until the engine has given back all below a dropped prefix.
async fn returned(
    workers: &Workers,
    removal: RemovalId,
    prefix: &[u8],
) -> Result<crate::store::Reclaim> {
    let store = workers.lifecycle.catalog().store();
    workers.lifecycle.meters().note_reclaiming(removal, store.reclaim_progress(prefix).await?);
    Ok(store.reclaimed(prefix).await?)
}

/// Leaves the error where PURGE.STATUS shows it.
async fn note_error(workers: &Workers, removal: RemovalId, error: &Error) {
    let text = &error.to_string();
    let noted = workers
        .lifecycle
        .catalog()
        .store()
        .run("reclaim-error", Resolve::Idempotent, |txn: Transaction| async move {
            let txn = &txn;
            if let Some(mut job) = read(txn, removal).await? {
                job.last_error = Some(text.clone());
                txn.set(&keys::reclaim(removal), &record::encode(&job))?;
            }
            Ok::<(), Error>(())
        })
        .await;
    if let Err(error) = noted {
        put_off("reclaim-error", &removal, &error);
    }
}
