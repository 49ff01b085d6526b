//! Queues of long jobs on buckets, and how the owner of a shard runs them: several at the same time, each for as long as
//! it takes.
//!
//! A job is a row in its queue and does its work in transactions of its own, which check the shard's epoch. A job that ends
//! before its row does is begun again when there is a reason to look at the queue: a signal, other shards, a pause.
//!
//! Not here: what a job does (`copy`, `index_task`), what is due at a time (`queue`).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::codec::{BucketId, keys};
use crate::error::Result;
use crate::store::{Page, RangeRead, Transaction, Watch};

use super::{DEADMAN, Workers, put_off};

/// Queue rows taken in one transaction.
const PAGE: usize = 100;

/// Why a job ended, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There is nothing left to do.
    Over,
    /// It was told to stop: look again whether it is still ours.
    Stopped,
    /// It cannot go on, and somebody will say when it can: its bucket is not active, or has newer data than this program.
    Aside,
    /// It could not be done now.
    Later,
}

/// What a job needs of the node that runs it.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) workers: Workers,
    pub(super) stop: CancellationToken,
    /// The shard that it belongs to, and under which epoch that is ours.
    pub(super) shard: u16,
    pub(super) epoch: i64,
}

/// A queue of jobs of one kind.
pub(super) trait Queue {
    /// A row of it.
    type Row: Copy + Ord + Send + 'static;
    /// What its transactions are called, and the work in the log.
    const LABEL: &'static str;
    const WHAT: &'static str;
    /// The kind of its keys.
    const KIND: u16;
    /// Jobs of one node at the same time.
    const JOBS_MAX: usize;
    /// After so long something that could not be done is tried again.
    const AGAIN: Duration;

    /// The key that is written when there is something new in the queue.
    fn signal() -> Vec<u8>;

    /// What a key says, and the bucket whose shard it belongs to. `None`: a newer program wrote it and knows what to do.
    fn parse(key: &[u8]) -> Result<Option<(Self::Row, BucketId)>>;

    /// Does the job.
    fn job(row: Self::Row, turn: Turn) -> impl Future<Output = End> + Send + 'static;

    /// The job does not run here any more.
    fn ended(_workers: &Workers, _row: Self::Row) {}
}

/// The jobs that run here.
struct Running<Q: Queue> {
    tasks: JoinSet<(Q::Row, End)>,
    rows: BTreeSet<Q::Row>,
}

/// Runs the jobs of a queue whose shards are ours, until `stop`; then waits until each has ended.
pub(super) async fn run<Q: Queue>(workers: Workers, stop: CancellationToken) {
    let mut shards = workers.lifecycle.catalog().cluster().owned_shards();
    let mut running = Running::<Q> { tasks: JoinSet::new(), rows: BTreeSet::new() };
    while !stop.is_cancelled() {
        shards.mark_unchanged();
        let (mut pause, signal) = match running.pass(&workers, &stop).await {
            Ok(watch) => (DEADMAN, Some(watch)),
            Err(error) => {
                put_off(Q::WHAT, &"queue", &error);
                (Q::AGAIN, None)
            }
        };
        let signal = async {
            match signal {
                Some(watch) => drop(watch.await),
                None => std::future::pending().await,
            }
        };
        tokio::pin!(signal);
        // Until there is a reason to look at the queue again.
        loop {
            tokio::select! {
                biased;
                Some(ended) = running.tasks.join_next(), if !running.tasks.is_empty() => {
                    match running.forget(&workers, ended) {
                        End::Over | End::Stopped => break,
                        End::Later => pause = Q::AGAIN,
                        End::Aside => {}
                    }
                }
                _ = shards.changed() => break,
                () = &mut signal => break,
                () = sleep(pause) => break,
                () = stop.cancelled() => break,
            }
        }
    }
    while let Some(ended) = running.tasks.join_next().await {
        running.forget(&workers, ended);
    }
}

impl<Q: Queue> Running<Q> {
    fn forget(
        &mut self,
        workers: &Workers,
        ended: std::result::Result<(Q::Row, End), JoinError>,
    ) -> End {
        match ended {
            Ok((row, end)) => {
                self.rows.remove(&row);
                Q::ended(workers, row);
                end
            }
            Err(panic) => {
                tracing::error!(%panic, what = Q::WHAT, "worker: a job ended by a panic");
                // Nobody knows which: each is entered again when it is looked at.
                self.rows.clear();
                End::Later
            }
        }
    }

    /// Begins the queued jobs of our shards that are not running; gives a watch
    /// that fires when there may be others.
    async fn pass(&mut self, workers: &Workers, stop: &CancellationToken) -> Result<Watch> {
        // Armed before anything is looked at, so that nothing is missed.
        let catalog = workers.lifecycle.catalog();
        let txn = catalog.store().begin(Q::LABEL);
        let watch = txn.watch(&Q::signal())?;
        txn.commit().await?;
        let owned = workers.owned();
        let all = RangeRead::prefix(keys::kind_prefix(Q::KIND)).limit(PAGE).snapshot();
        let mut next = Some(all);
        while let Some(range) = next {
            let range = &range;
            let read = |txn: Transaction| async move { Ok(txn.range(range.clone()).await?) };
            let page: Page = catalog.read(Q::LABEL, read).await?;
            for (key, _) in &page.rows {
                let Some((row, bucket)) = Q::parse(key)? else { continue };
                let shard = workers.shard_of(bucket.0);
                let Some(epoch) = owned.get(&shard).copied() else { continue };
                if self.tasks.len() >= Q::JOBS_MAX || !self.rows.insert(row) {
                    continue;
                }
                let turn = Turn { workers: workers.clone(), stop: stop.clone(), shard, epoch };
                let job = Q::job(row, turn);
                self.tasks.spawn(async move { (row, job.await) });
            }
            next = range.after(&page);
        }
        Ok(watch)
    }
}
