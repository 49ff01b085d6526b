//! Background work: what is due is done, by whoever owns it.
//!
//! Each removal, reclaim job and bucket belongs to a shard (its number modulo
//! the shards), and the owner of the shard does its work. A worker remembers
//! nothing that the store does not hold: killed at any point, another owner
//! goes on.
//!
//! * [`census`]: counts what is removed, for the metrics.
//! * [`copy`]: makes copies of buckets. Entered in the table of open work, too.
//! * [`due`]: what has expired or was asked for: purges, operation rows, graves.
//! * [`index_task`]: builds and analyzes indexes. Entered in the table of open work, too.
//! * [`reclaim`]: gives back the bytes of what was purged.
//! * [`trim`]: cuts the change logs behind their retention. Its work is entered
//!   in the table of open work, so a removal stops it and the barrier waits.
//! * [`ttl`]: deletes documents whose time is over, in the same way.
//! * [`vacuum`]: purges deleted documents that have expired, in the same way.
//!
//! # Invariants
//!
//! * Every transaction of a worker reads owner and epoch of the shard it works
//!   for (protocol.md, rule 2), so one that lost its shard changes nothing.
//!
//! Not here: what a purge is (`lifecycle`), who owns which shard (`cluster`).

pub mod census;
pub mod copy;
pub mod due;
pub mod index_task;
mod jobs;
mod queue;
pub mod reclaim;
pub mod trim;
pub mod ttl;
pub mod usage;
pub mod vacuum;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, warn};

use crate::codec::duration::Retention;
use crate::config::TtlConfig;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::store::Transaction;

/// The settings of the workers.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// How long changes are kept in a bucket's log, in milliseconds.
    pub changes_retention_ms: i64,
    /// How long documents are kept that were deleted by a TTL, where the bucket does not say.
    pub tombstone_retention: Retention,
    /// How often documents are looked for whose time is over.
    pub ttl: TtlConfig,
    /// How long audit rows are kept, in milliseconds.
    pub audit_retention_ms: i64,
    /// How often a removal whose purge waits is announced again.
    pub announce_every: Duration,
}

/// A worker looks at the store at least this often, whatever it was told: a
/// watch that was lost delays work by no more.
pub(crate) const DEADMAN: Duration = Duration::from_secs(60);

/// What all workers share.
#[derive(Debug, Clone)]
pub struct Workers {
    pub lifecycle: Lifecycle,
    pub options: WorkerOptions,
}

impl Workers {
    /// Runs all workers until `stop`, then waits until each has ended its
    /// present transaction.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        spawn(&mut tasks, "census", census::run(self.clone(), stop.clone()));
        spawn(&mut tasks, "copy", copy::run(self.clone(), stop.clone()));
        spawn(&mut tasks, "due", due::run(self.clone(), stop.clone()));
        spawn(&mut tasks, "reclaim", reclaim::run(self.clone(), stop.clone()));
        spawn(&mut tasks, "index-task", index_task::run(self.clone(), stop.clone()));
        spawn(&mut tasks, "trim", trim::run(self.clone(), stop.clone()));
        spawn(&mut tasks, "ttl", ttl::run(self.clone(), stop.clone()));
        spawn(&mut tasks, "usage", usage::run(self.clone(), stop.clone()));
        spawn(&mut tasks, "vacuum", vacuum::run(self.clone(), stop.clone()));
        spawn(&mut tasks, "refusals", refusals(self.lifecycle.clone(), stop));
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended {
                error!(%panic, "worker: ended by a panic");
            }
        }
    }

    /// The shard that an object's background work belongs to.
    fn shard_of(&self, number: u64) -> u16 {
        let count = self.lifecycle.catalog().cluster().shard_count();
        u16::try_from(number % u64::from(count.max(1))).unwrap_or(0)
    }

    /// The shards that this node owns now, with their epochs.
    fn owned(&self) -> BTreeMap<u16, i64> {
        self.lifecycle.catalog().cluster().owned_shards().borrow().as_ref().clone()
    }

    /// Lets the transaction fail unless this node owns the shard at this epoch.
    async fn check_shard(&self, txn: &Transaction, shard: u16, epoch: i64) -> Result<()> {
        Ok(self.lifecycle.catalog().cluster().check_shard(txn, shard, epoch).await?)
    }
}

fn spawn(
    tasks: &mut JoinSet<()>,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(work.instrument(tracing::info_span!("worker", name)));
}

/// Logs what kept a worker from one piece of work; it will be tried again.
pub(crate) fn put_off(what: &str, subject: &dyn std::fmt::Display, error: &Error) {
    warn!(what, %subject, %error, "worker: put off");
}

/// Writes refusals into the audit log, at most once a second.
async fn refusals(lifecycle: Lifecycle, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = lifecycle.refusals().some() => {
                // The first of a burst waits for the others of its second.
                tokio::select! {
            biased;
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = stop.cancelled() => {}
                }
            }
            () = stop.cancelled() => {}
        }
        if let Err(error) = lifecycle.write_refusals().await {
            put_off("refusals", &"audit log", &error);
        }
        if stop.is_cancelled() {
            return;
        }
    }
}
