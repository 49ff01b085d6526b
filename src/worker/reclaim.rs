//! Gives back the bytes of what was purged.
//!
//! Each purged instance is a job of its own, so none waits for another. First
//! its prefix is handed to the engine in one small transaction: from then on
//! nothing of it can be read. The engine destroys it physically; when it says
//! that nothing is left, and a read finds nothing, the job goes.
//!
//! A purged namespace is one job, too, however much was in it: its steps are small and
//! take at most half of the time. Such jobs have places of their own, and take turns
//! in them, so that a large one holds up neither buckets nor other namespaces.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::codec::record::{self, ReclaimRecord};
use crate::codec::{Object, ObjectKind, RemovalId, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Resolve, Transaction};

use super::{DEADMAN, Workers, put_off};

/// Most buckets that one node has under way.
const JOBS_MAX: usize = 4;
/// Most namespaces that one node has under way.
const NAMESPACES_MAX: usize = 2;
/// Steps at a namespace before another one has its turn.
const TURN: usize = 50;
/// How long to wait before a job that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    let mut wakes = workers.lifecycle.wakes();
    let mut shards = workers.lifecycle.catalog().cluster().owned_shards();
    let mut jobs = JoinSet::new();
    let mut places = Places::default();
    while !stop.is_cancelled() {
        wakes.mark_unchanged();
        shards.mark_unchanged();
        match waiting_jobs(&workers, &mut places).await {
            Ok(found) => {
                for (removal, kind) in found {
                    let (workers, stop) = (workers.clone(), stop.clone());
                    jobs.spawn(async move {
                        let result = match kind {
                            ObjectKind::Bucket => reclaim(&workers, removal).await,
                            ObjectKind::Namespace => dismantle(&workers, removal, &stop).await,
                        };
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
                    places.under_way.remove(&removal);
                }
                Ok((removal, Err(Error::PurgePaused(_) | Error::ClockSuspect(_)))) => {
                    workers.lifecycle.meters().note_reclaim_left(removal, false);
                    places.under_way.remove(&removal);
                    // It goes on when purging does, of which the workers are told.
                    tokio::select! {
                        biased;
                        _ = wakes.changed() => {}
                        () = sleep(AGAIN) => {}
                        () = stop.cancelled() => {}
                    }
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
                    places.under_way.remove(&removal);
                }
                // Those that were ended after another's panic.
                Err(ended) if ended.is_cancelled() => {}
                Err(panic) => {
                    tracing::error!(%panic, "reclaim: a job ended by a panic");
                    places.under_way.clear();
                    jobs.abort_all();
                }
            },
            () = sleep(DEADMAN) => {}
            () = stop.cancelled() => {}
        }
    }
    jobs.shutdown().await;
}

/// What this node works at.
#[derive(Debug, Default)]
struct Places {
    under_way: HashMap<RemovalId, ObjectKind>,
    /// The namespace that had its turn last.
    last: Option<RemovalId>,
}

impl Places {
    fn free(&self, kind: ObjectKind) -> usize {
        let most = match kind {
            ObjectKind::Bucket => JOBS_MAX,
            ObjectKind::Namespace => NAMESPACES_MAX,
        };
        most.saturating_sub(self.under_way.values().filter(|other| **other == kind).count())
    }
}

/// The jobs of this node's shards that are to be begun now: they are under way from
/// then on.
async fn waiting_jobs(
    workers: &Workers,
    places: &mut Places,
) -> Result<Vec<(RemovalId, ObjectKind)>> {
    let owned = workers.owned();
    if workers.lifecycle.paused().await?.is_some() {
        return Ok(Vec::new());
    }
    let (mut buckets, mut namespaces) = (Vec::new(), Vec::new());
    let mut next = Some(RangeRead::prefix(keys::kind_prefix(keys::kind::RECLAIM)).snapshot());
    while let Some(range) = next {
        let range = &range;
        let page = workers
            .lifecycle
            .catalog()
            .read("reclaim", |txn: Transaction| async move { Ok(txn.range(range.clone()).await?) })
            .await?;
        for (key, value) in &page.rows {
            let removal = RemovalId(keys::parse_number("reclaim", key)?);
            let ours = owned.contains_key(&workers.shard_of(removal.0));
            if !ours || places.under_way.contains_key(&removal) {
                continue;
            }
            match record::decode::<ReclaimRecord>("reclaim", value)?.object {
                Object::Bucket(_) => buckets.push(removal),
                Object::Namespace(_) => namespaces.push(removal),
            }
        }
        next = range.after(&page).filter(|_| buckets.len() < JOBS_MAX);
    }
    // Behind the one that had its turn last, and then from the beginning.
    let turn = namespaces.partition_point(|removal| Some(*removal) <= places.last);
    namespaces.rotate_left(turn);
    buckets.truncate(places.free(ObjectKind::Bucket));
    namespaces.truncate(places.free(ObjectKind::Namespace));
    places.last = namespaces.last().copied().or(places.last);
    let buckets = buckets.into_iter().map(|removal| (removal, ObjectKind::Bucket));
    let namespaces = namespaces.into_iter().map(|removal| (removal, ObjectKind::Namespace));
    let found: Vec<_> = buckets.chain(namespaces).collect();
    places.under_way.extend(found.iter().copied());
    Ok(found)
}

/// Takes apart what was in a purged namespace, as long as its turn lasts.
async fn dismantle(workers: &Workers, removal: RemovalId, stop: &CancellationToken) -> Result<()> {
    let shard = workers.shard_of(removal.0);
    let Some(epoch) = workers.owned().get(&shard).copied() else { return Ok(()) };
    let (lifecycle, mut dropped) = (&workers.lifecycle, Vec::new());
    let mut done = false;
    for _ in 0..TURN {
        let began = Instant::now();
        let step = lifecycle
            .catalog()
            .store()
            .run("dismantle", Resolve::Idempotent, |txn: Transaction| async move {
                let txn = &txn;
                workers.check_shard(txn, shard, epoch).await?;
                lifecycle.dismantle(txn, removal).await
            })
            .await?
            .value;
        lifecycle.meters().note_dismantled(step.objects);
        dropped.extend(step.dropped);
        done = step.done;
        if done || stop.is_cancelled() {
            break;
        }
        // Others are to get at the store as well.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = sleep(began.elapsed()) => {}
        }
    }
    for bucket in dropped {
        let progress = returned(workers, removal, &keys::data_prefix(bucket)).await?;
        lifecycle.meters().note_reclaimed(removal, progress);
    }
    if done {
        info!(%removal, "reclaim: nothing is left of a namespace");
        lifecycle.wake_workers();
    }
    Ok(())
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
            let Object::Bucket(bucket) = job.object else { return Ok(None) };
            if !job.dropped {
                txn.drop_prefix(&keys::data_prefix(bucket))?;
                job.dropped = true;
                txn.set(&keys::reclaim(removal), &record::encode(&job))?;
            }
            Ok::<_, Error>(Some((bucket, job)))
        })
        .await?;
    let Some((bucket, job)) = outcome.value else { return Ok(()) };

    let (job, prefix) = (&job, &keys::data_prefix(bucket));
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
                    "{bucket} still has keys after its prefix was dropped, the first of {} bytes",
                    key.len()
                )));
            }
            txn.clear(&keys::reclaim(removal))?;
            for listed in keys::lists_of(job.namespace) {
                txn.clear(&keys::removed_by_time(ObjectKind::Bucket, listed, job.version))?;
            }
            Ok::<(), Error>(())
        })
        .await?;
    workers.lifecycle.meters().note_reclaimed(removal, progress);
    info!(%removal, %bucket, returned_bytes = progress.returned_bytes, "reclaim: done");
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
    let (store, meters) = (workers.lifecycle.catalog().store(), workers.lifecycle.meters());
    Ok(store
        .reclaimed_telling(prefix, &|progress| meters.note_reclaiming(removal, progress))
        .await?)
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
