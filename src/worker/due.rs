//! What is due: removals that expired or whose purge was asked for, operation
//! rows, graves, audit rows.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::codec::record::{self, AuditRecord, GraveRecord, OperationRecord, RequestRecord};
use crate::codec::{NamespaceId, RemovalId, keys};
use crate::error::{Error, Result};
use crate::lifecycle::park;
use crate::lifecycle::purge::Progress;
use crate::lifecycle::target;
use crate::lifecycle::{WaitingPurge, WaitsFor};
use crate::store::{RangeRead, Read, Resolve, Transaction, Watch, prefix_end};

use super::{DEADMAN, Workers, put_off};

/// Rows taken from a queue in one transaction.
const PAGE: usize = 100;
/// Audit rows are looked through for old ones this often.
const AUDIT_EVERY: Duration = Duration::from_hours(1);

/// What waits, between two passes.
#[derive(Debug, Default)]
struct Waiting {
    /// When each removal that waits for its barrier was last announced.
    announced: HashMap<RemovalId, Instant>,
    audit_trimmed: Option<Instant>,
}

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    let mut waiting = Waiting::default();
    let mut wakes = workers.lifecycle.wakes();
    let mut shards = workers.lifecycle.catalog().cluster().owned_shards();
    // Something of this node's waits for its barrier. Only then does it watch
    // the barriers as well, which every acknowledgment of every member touches.
    let mut waits = false;
    while !stop.is_cancelled() {
        wakes.mark_unchanged();
        shards.mark_unchanged();
        let (pause, signal) = match pass(&workers, &mut waiting, waits).await {
            // What it waits for may have come before it was watched.
            Ok(pass) if pass.waits && !waits => {
                waits = true;
                continue;
            }
            Ok(pass) => {
                waits = pass.waits;
                (pass.pause, Some(pass.signals))
            }
            Err(error) => {
                put_off("due", &"queue", &error);
                (Duration::from_secs(1), None)
            }
        };
        let signal = async {
            match signal {
                Some(Signals { due, barrier: Some(barrier) }) => tokio::select! {
                    biased;
                    result = due => drop(result),
                    result = barrier => drop(result),
                },
                Some(Signals { due, barrier: None }) => drop(due.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = wakes.changed() => {}
            _ = shards.changed() => {}
            () = signal => {}
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// What a pass leaves.
struct Pass {
    /// How long there is nothing to do.
    pause: Duration,
    /// A removal of this node's waits for its barrier.
    waits: bool,
    signals: Signals,
}

/// What fires when something has changed since before the pass.
struct Signals {
    /// Something may be due that was not before.
    due: Watch,
    /// A barrier may have been reached.
    barrier: Option<Watch>,
}

/// Does all that is due. With `watched` it watches the barriers meanwhile.
async fn pass(workers: &Workers, waiting: &mut Waiting, watched: bool) -> Result<Pass> {
    // Armed before anything is looked at, so that nothing is missed.
    let signals = arm(workers, watched).await?;
    let mut pending = Vec::new();
    let now = workers.lifecycle.catalog().certain_now();
    let (begin, _) = keys::range(&keys::kind_prefix(keys::kind::EXPIRY));
    let mut next =
        Some(RangeRead::new(begin, keys::expiry(now + 1, 0, b"")).limit(PAGE).snapshot());
    while let Some(range) = next {
        let page = read(workers, &range).await?;
        for (key, _) in &page.rows {
            let (at, what, id) = keys::parse_expiry(key)?;
            match what {
                keys::due::REMOVAL => pending.push((removal_id(&id)?, at)),
                keys::due::OPERATION => forget_operation(workers, key, &id).await?,
                keys::due::GRAVE => forget_grave(workers, key, removal_id(&id)?).await?,
                keys::due::UNPARK => unpark(workers, key, removal_id(&id)?.0).await?,
                // The trimmer takes its own.
                _ => {}
            }
        }
        next = range.after(&page);
    }
    let mut next =
        Some(RangeRead::prefix(keys::kind_prefix(keys::kind::REQUEST)).limit(PAGE).snapshot());
    while let Some(range) = next {
        let page = read(workers, &range).await?;
        for (key, value) in &page.rows {
            let request = RemovalId(keys::parse_number("request", key)?);
            let asked: RequestRecord = record::decode("request", value)?;
            let removal = workers.lifecycle.requested(request).await?;
            pending.extend(removal.map(|removal| (removal, asked.at)));
        }
        next = range.after(&page);
    }
    pending.sort_unstable();
    // Due twice, it is due since the earlier.
    pending.dedup_by_key(|(removal, _)| *removal);
    waiting.announced.retain(|removal, _| {
        pending.binary_search_by_key(removal, |(removal, _)| *removal).is_ok()
    });
    let mut overdue = Vec::new();
    for (removal, due_at) in pending {
        let waits_for = purge(workers, waiting, removal).await;
        overdue.extend(waits_for.map(|waits_for| WaitingPurge { waits_for, due_at }));
    }
    let again =
        |purge: &WaitingPurge| matches!(purge.waits_for, WaitsFor::Barrier | WaitsFor::Error);
    let waits = overdue.iter().any(again);
    workers.lifecycle.meters().set_waiting(overdue);
    trim_audit(workers, waiting, now).await?;

    let after = RangeRead::new(
        keys::expiry(now + 1, 0, b""),
        keys::after(&keys::kind_prefix(keys::kind::EXPIRY)),
    );
    let upcoming = read(workers, &after.limit(1).snapshot()).await?;
    let pause = match upcoming.rows.first() {
        Some((key, _)) => {
            let at = keys::parse_expiry(key)?.0;
            Duration::from_millis(u64::try_from(at.saturating_sub(now)).unwrap_or(0) + 1)
        }
        None => DEADMAN,
    };
    let pause = pause.min(DEADMAN);
    let pause = if waits { pause.min(workers.options.announce_every) } else { pause };
    Ok(Pass { pause, waits, signals })
}

async fn arm(workers: &Workers, barrier: bool) -> Result<Signals> {
    let store = workers.lifecycle.catalog().store();
    let txn = store.begin("due");
    let due = txn.watch(&keys::due_signal())?;
    let barrier = barrier.then(|| txn.watch(&keys::barrier_signal())).transpose()?;
    txn.commit().await?;
    Ok(Signals { due, barrier })
}

async fn read(workers: &Workers, range: &RangeRead) -> Result<crate::store::Page> {
    workers
        .lifecycle
        .catalog()
        .read("due", |txn: Transaction| async move { Ok(txn.range(range.clone()).await?) })
        .await
}

fn removal_id(id: &[u8]) -> Result<RemovalId> {
    let bytes = <[u8; 8]>::try_from(id)
        .map_err(|_| crate::codec::DecodeError::new("expiry", "its id has not eight bytes"))?;
    Ok(RemovalId(u64::from_be_bytes(bytes)))
}

/// Purges one removal that is due, if it is this node's. Gives why not, if it may not be yet.
async fn purge(workers: &Workers, waiting: &mut Waiting, removal: RemovalId) -> Option<WaitsFor> {
    let shard = workers.shard_of(removal.0);
    let epoch = workers.owned().get(&shard).copied()?;
    match flip(workers, removal, shard, epoch).await {
        Ok(Some(Progress::Waits { version, missing })) => {
            debug!(%removal, %version, missing, "purge: waits for the barrier");
            let due = waiting
                .announced
                .get(&removal)
                .is_none_or(|at| at.elapsed() >= workers.options.announce_every);
            if due {
                waiting.announced.insert(removal, Instant::now());
                if let Err(error) = announce(workers, removal, shard, epoch).await {
                    put_off("announce", &removal, &error);
                }
            }
            Some(WaitsFor::Barrier)
        }
        Ok(_) => {
            info!(%removal, "purge: done");
            waiting.announced.remove(&removal);
            workers.lifecycle.wake_workers();
            None
        }
        Err(error) => {
            let waits_for = match &error {
                Error::Held(_) => Some(WaitsFor::Hold),
                Error::PurgePaused(_) => Some(WaitsFor::Pause),
                Error::ClockSuspect(_) => Some(WaitsFor::Clock),
                // Neither expired nor asked for any more.
                Error::Syntax(_) => None,
                _ => {
                    put_off("purge", &removal, &error);
                    return Some(WaitsFor::Error);
                }
            };
            debug!(%removal, %error, "purge: not now");
            waits_for
        }
    }
}

async fn flip(
    workers: &Workers,
    removal: RemovalId,
    shard: u16,
    epoch: i64,
) -> Result<Option<Progress>> {
    let lifecycle = &workers.lifecycle;
    let catalog = lifecycle.catalog();
    // What is promised counts from the later of two times, what is over from the earlier.
    let (now, certain) = (catalog.now(), catalog.certain_now());
    let mut looked = None;
    loop {
        let outcome = catalog
            .store()
            .run("flip", Resolve::Idempotent, |txn: Transaction| async move {
                let txn = &txn;
                workers.check_shard(txn, shard, epoch).await?;
                lifecycle.flip_due(txn, removal, now, certain, looked).await
            })
            .await?;
        let Some(Progress::Unlooked { namespace, by, bypass }) = outcome.value else {
            return Ok(outcome.value);
        };
        if let Some(kept) = lifecycle.kept_inside(namespace, by, bypass).await? {
            let kept = &kept;
            catalog
                .store()
                .run("keep-inside", Resolve::Idempotent, |txn: Transaction| async move {
                    workers.check_shard(&txn, shard, epoch).await?;
                    lifecycle.keep_for(&txn, removal, kept).await
                })
                .await?;
            return Err(kept.refusal());
        }
        looked = Some(by);
    }
}

async fn announce(workers: &Workers, removal: RemovalId, shard: u16, epoch: i64) -> Result<()> {
    workers
        .lifecycle
        .catalog()
        .store()
        .run("announce", Resolve::Idempotent, |txn: Transaction| async move {
            let txn = &txn;
            workers.check_shard(txn, shard, epoch).await?;
            match target::read(txn, removal, Read::Conflict).await? {
                Some(removed) => Ok::<(), Error>(workers.lifecycle.catalog().cluster().announce(
                    txn,
                    removed.object().number(),
                    removal,
                )?),
                None => Ok(()),
            }
        })
        .await?;
    Ok(())
}

/// Forgets an operation whose result has been kept long enough.
async fn forget_operation(workers: &Workers, due: &[u8], operation: &[u8]) -> Result<()> {
    let Some(epoch) = workers.owned().get(&0).copied() else { return Ok(()) };
    let now = workers.lifecycle.catalog().certain_now();
    workers
        .lifecycle
        .catalog()
        .store()
        .run("forget-operation", Resolve::Idempotent, |txn: Transaction| async move {
            let txn = &txn;
            workers.check_shard(txn, 0, epoch).await?;
            txn.clear(due)?;
            // The id may have been used again since this row was scheduled.
            if let Some(value) = txn.get(operation, Read::Conflict).await? {
                let row: OperationRecord = record::decode("operation", &value)?;
                if row.until <= now {
                    // The pieces of its result stand below it.
                    txn.clear_range(operation, &prefix_end(operation))?;
                }
            }
            Ok::<(), Error>(())
        })
        .await?;
    Ok(())
}

/// Forgets a purge: its grave, and the way to it from the instance.
async fn forget_grave(workers: &Workers, due: &[u8], removal: RemovalId) -> Result<()> {
    let shard = workers.shard_of(removal.0);
    let Some(epoch) = workers.owned().get(&shard).copied() else { return Ok(()) };
    workers
        .lifecycle
        .catalog()
        .store()
        .run("forget-grave", Resolve::Idempotent, |txn: Transaction| async move {
            let txn = &txn;
            workers.check_shard(txn, shard, epoch).await?;
            if let Some(value) = txn.get(&keys::grave(removal), Read::Conflict).await? {
                let grave: GraveRecord = record::decode("grave", &value)?;
                txn.clear(&keys::removal_of(grave.object.number()))?;
                txn.clear(&keys::grave(removal))?;
            }
            txn.clear(due)?;
            Ok::<(), Error>(())
        })
        .await?;
    Ok(())
}

/// Puts back what is parked under a namespace that was restored.
async fn unpark(workers: &Workers, due: &[u8], namespace: u64) -> Result<()> {
    let shard = workers.shard_of(namespace);
    let Some(epoch) = workers.owned().get(&shard).copied() else { return Ok(()) };
    loop {
        let outcome = workers
            .lifecycle
            .catalog()
            .store()
            .run("unpark", Resolve::Idempotent, |txn: Transaction| async move {
                let txn = &txn;
                workers.check_shard(txn, shard, epoch).await?;
                park::unpark(txn, NamespaceId(namespace), due).await
            })
            .await?;
        if !outcome.value {
            workers.lifecycle.wake_workers();
            return Ok(());
        }
    }
}

/// Clears audit rows behind their retention; the log is in the order of time.
async fn trim_audit(workers: &Workers, waiting: &mut Waiting, now: i64) -> Result<()> {
    let fresh = waiting.audit_trimmed.is_some_and(|at| at.elapsed() < AUDIT_EVERY);
    let Some(epoch) = workers.owned().get(&0).copied().filter(|_| !fresh) else { return Ok(()) };
    let cutoff = now.saturating_sub(workers.options.audit_retention_ms);
    let all = RangeRead::prefix(keys::kind_prefix(keys::kind::AUDIT)).limit(PAGE).snapshot();
    let all = &all;
    loop {
        let page = read(workers, all).await?;
        let mut old = Vec::new();
        for (key, value) in &page.rows {
            let row: AuditRecord = record::decode("audit", value)?;
            if row.at >= cutoff {
                break;
            }
            old.push(key.clone());
        }
        let Some(last) = old.last() else { break };
        let end = &keys::next(last);
        workers
            .lifecycle
            .catalog()
            .store()
            .run("trim-audit", Resolve::Idempotent, |txn: Transaction| async move {
                let txn = &txn;
                workers.check_shard(txn, 0, epoch).await?;
                txn.clear_range(&all.begin, end)?;
                Ok::<(), Error>(())
            })
            .await?;
    }
    waiting.audit_trimmed = Some(Instant::now());
    Ok(())
}
