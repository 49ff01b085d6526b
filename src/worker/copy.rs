//! Makes copies of buckets: takes over what is there, then follows the change log.
//!
//! A copy is a row below its bucket (`data/<copy>/copy`), which holds how far it is,
//! and a row in the queue. The owner of the copy's shard does it, in small transactions, each
//! of which checks the fences of the copy and of its source and the shard's epoch, and
//! moves on in the same commit that writes the documents (`lifecycle::copy`). After a crash, with
//! another owner or after a restore the work goes on where it stands. It is
//! entered in the table of open work for both buckets before it looks whether they are active
//! (protocol.md, rule 7), so that the removal of either stops it and the barrier names it until it has
//! stopped.
//!
//! A copy that has caught up waits for the heads of its source's log. While a swap lets the writers
//! wait it leaves the rest to the swap.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cluster::work::{Scope, Work};
use crate::codec::record::{CopyOf, PauseOf};
use crate::codec::{BucketId, keys};
use crate::error::{Error, Result};
use crate::lifecycle::copy::{self, Stepped};
use crate::metadata::Catalog;
use crate::store::{self, RangeRead, Read, Resolve, Transaction, Watch};

use super::{DEADMAN, Workers, put_off};

/// Copies of one node at the same time.
const COPIES_MAX: usize = 64;
/// Queue rows taken in one transaction.
const PAGE: usize = 100;
/// After so long something that could not be done is tried again, at first and at most.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// A queue row: the source, then the copy.
type Queued = (BucketId, BucketId);

/// Why the work on a copy ended, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is nothing left to do.
    Over,
    /// It was told to stop: look again whether it is still ours.
    Stopped,
    /// One of the two is not active, and somebody will say when it is.
    Aside,
}

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    let mut shards = workers.lifecycle.catalog().cluster().owned_shards();
    let mut tasks: JoinSet<(Queued, End)> = JoinSet::new();
    let mut running: BTreeSet<Queued> = BTreeSet::new();
    while !stop.is_cancelled() {
        shards.mark_unchanged();
        let (pause, signal) = match pass(&workers, &stop, &mut tasks, &mut running).await {
            Ok(watch) => (DEADMAN, Some(watch)),
            Err(error) => {
                put_off("copy", &"queue", &error);
                (AGAIN, None)
            }
        };
        let signal = async {
            match signal {
                Some(watch) => drop(watch.await),
                None => std::future::pending().await,
            }
        };
        tokio::pin!(signal);
        loop {
            tokio::select! {
                biased;
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    match forget(&workers, &mut running, ended) {
                        End::Over | End::Stopped => break,
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
    while let Some(ended) = tasks.join_next().await {
        forget(&workers, &mut running, ended);
    }
}

fn forget(
    workers: &Workers,
    running: &mut BTreeSet<Queued>,
    ended: std::result::Result<(Queued, End), tokio::task::JoinError>,
) -> End {
    match ended {
        Ok((queued, end)) => {
            running.remove(&queued);
            workers.lifecycle.meters().copy_ended(queued.1);
            end
        }
        Err(panic) => {
            tracing::error!(%panic, "worker: a copy ended by a panic");
            // Nobody knows which: each is entered again when it is looked at.
            running.clear();
            End::Over
        }
    }
}

/// Begins the queued copies of our shards that are not running; gives a watch
/// that fires when there may be others.
async fn pass(
    workers: &Workers,
    stop: &CancellationToken,
    tasks: &mut JoinSet<(Queued, End)>,
    running: &mut BTreeSet<Queued>,
) -> Result<Watch> {
    // Armed before anything is looked at, so that nothing is missed.
    let catalog = workers.lifecycle.catalog();
    let txn = catalog.store().begin("copy-queue");
    let watch = txn.watch(&keys::copy::signal())?;
    txn.commit().await?;
    let owned = workers.owned();
    let all = RangeRead::prefix(keys::kind_prefix(keys::kind::COPY)).limit(PAGE).snapshot();
    let mut next = Some(all);
    while let Some(range) = next {
        let range = &range;
        let read = |txn: Transaction| async move { Ok(txn.range(range.clone()).await?) };
        let page: store::Page = catalog.read("copy-queue", read).await?;
        for (key, _) in &page.rows {
            let queued = keys::copy::parse_queued(key)?;
            let shard = workers.shard_of(queued.1.0);
            let Some(epoch) = owned.get(&shard).copied() else { continue };
            if tasks.len() >= COPIES_MAX || !running.insert(queued) {
                continue;
            }
            let (source, copy) = queued;
            let job =
                Job { workers: workers.clone(), stop: stop.clone(), source, copy, shard, epoch };
            tasks.spawn(async move { (queued, job.run().await) });
        }
        next = range.after(&page);
    }
    Ok(watch)
}

/// One copy, at the hands of the owner of its shard.
struct Job {
    workers: Workers,
    stop: CancellationToken,
    source: BucketId,
    copy: BucketId,
    shard: u16,
    epoch: i64,
}

/// What is to be done after a part of the work.
enum Next {
    GoOn,
    /// Everything is followed: when there is more, one of these fires.
    Wait(Vec<Watch>),
    /// A swap does the rest.
    Leave(PauseOf),
    Over,
}

impl Job {
    async fn run(self) -> End {
        let table = self.catalog().cluster().work();
        let scope = Scope::Shard(self.shard);
        let works = [
            table.enter(self.copy, scope, format!("copying of {}", self.source)),
            table.enter(self.source, scope, format!("copying to {}", self.copy)),
        ];
        fail::fail_point!("copy-before-open");
        if self.is_stopped(&works) {
            // Not ours any more, but perhaps again soon.
            return End::Aside;
        }
        let mut opened = false;
        let (mut part, mut again) = (0, AGAIN);
        loop {
            if self.is_stopped(&works) {
                return End::Stopped;
            }
            let next = match self.part(part).await {
                Ok(next) => next,
                Err(Error::Store(store::Error::TransactionTooLarge { .. })) if part < 16 => {
                    part += 1;
                    continue;
                }
                Err(error) => {
                    if let Some(end) = self.failed(error, &works, again).await {
                        return end;
                    }
                    again = (again * 2).min(AGAIN_MAX);
                    continue;
                }
            };
            if !opened && works.iter().any(|work| work.open().is_err()) {
                return End::Stopped;
            }
            (opened, part, again) = (true, 0, AGAIN);
            fail::fail_point!("copy-between-parts");
            match next {
                Next::GoOn => {}
                Next::Over => return End::Over,
                Next::Wait(heads) => self.until(&works, any(heads), DEADMAN).await,
                Next::Leave(pause) => {
                    let over = self.catalog().pause_over(self.source, pause);
                    self.until(&works, over, DEADMAN).await;
                }
            }
        }
    }

    fn catalog(&self) -> &Catalog {
        self.workers.lifecycle.catalog()
    }

    fn is_stopped(&self, works: &[Work; 2]) -> bool {
        self.stop.is_cancelled() || works.iter().any(Work::is_stopped)
    }

    /// Waits for `event`, at most so long, unless the work is told to stop.
    async fn until(
        &self,
        [copy, source]: &[Work; 2],
        event: impl Future<Output = ()>,
        most: Duration,
    ) {
        let end = Instant::now() + most;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = copy.stopped() => {}
            () = source.stopped() => {}
            () = event => {}
            () = sleep_until(end) => {}
        }
    }

    /// The next part of the work: one transaction.
    async fn part(&self, part: u32) -> Result<Next> {
        let (catalog, began) = (self.catalog(), self.catalog().now());
        // Armed before the log is read, so that nothing that comes later is missed.
        let heads = self.heads().await?;
        let stepped = catalog
            .store()
            .run("copy", Resolve::Idempotent, |txn: Transaction| async move {
                let txn = &txn;
                self.workers.check_shard(txn, self.shard, self.epoch).await?;
                let source = catalog.handles().open_id(txn, self.source).await;
                if let Some(pause) = source.ok().and_then(|live| live.pause(began)) {
                    return Ok(Err(pause));
                }
                copy::step(catalog, txn, (self.source, self.copy), part).await.map(Ok)
            })
            .await?
            .value;
        let meters = self.workers.lifecycle.meters();
        Ok(match stepped {
            Err(pause) => Next::Leave(pause),
            Ok(Stepped::Over) => Next::Over,
            Ok(Stepped::More) => {
                meters.copy_behind(self.copy, began);
                Next::GoOn
            }
            Ok(Stepped::CaughtUp) => {
                meters.copy_caught_up(self.copy);
                Next::Wait(heads)
            }
        })
    }

    /// Watches on all shards of the source's log.
    async fn heads(&self) -> Result<Vec<Watch>> {
        let txn = self.catalog().store().begin("copy-heads");
        let record = crate::metadata::bucket::read_record(&txn, self.source, Read::Snapshot).await;
        let record = match record {
            // The next part finds out.
            Err(Error::NoSuchBucket(_)) => return Ok(Vec::new()),
            record => record?,
        };
        let heads = record.shards.iter().map(|shard| keys::feed::head(self.source, *shard));
        let watches = heads.map(|head| Ok(txn.watch(&head)?)).collect::<Result<Vec<_>>>()?;
        txn.commit().await?;
        Ok(watches)
    }

    /// What an error means: the end, for now or for ever, or that it is tried again.
    async fn failed(&self, error: Error, works: &[Work; 2], again: Duration) -> Option<End> {
        let over = match &error {
            Error::BucketBeingRemoved(_)
            | Error::NamespaceBeingRemoved(_)
            | Error::NoSuchNamespace(_) => return Some(End::Aside),
            Error::NoSuchReplica(_)
            | Error::ResyncRequired { .. }
            | Error::Damaged(_)
            | Error::Store(store::Error::TransactionTooLarge { .. }) => true,
            _ => false,
        };
        put_off("copy", &self.copy, &error);
        let noted = self.note(&error, over).await;
        if over && noted.is_ok() {
            return Some(End::Over);
        }
        self.until(works, std::future::pending(), again).await;
        None
    }

    /// Writes down what went wrong, for DESCRIBE.
    async fn note(&self, error: &Error, over: bool) -> Result<()> {
        let (catalog, line) = (self.catalog(), error.to_line());
        let line = &line;
        catalog
            .store()
            .run("copy-error", Resolve::Idempotent, |txn: Transaction| async move {
                let txn = &txn;
                self.workers.check_shard(txn, self.shard, self.epoch).await?;
                catalog.handles().open_id(txn, self.copy).await?;
                let of = CopyOf { source: self.source, live_only: false };
                if over {
                    copy::fail(txn, self.copy, of, line, catalog.now()).await
                } else {
                    copy::note_error(txn, self.copy, line).await
                }
            })
            .await?;
        Ok(())
    }
}

/// Waits for the first of these; without any for ever.
async fn any(watches: Vec<Watch>) {
    let mut set = JoinSet::new();
    for watch in watches {
        set.spawn(async move { drop(watch.await) });
    }
    if set.join_next().await.is_none() {
        std::future::pending::<()>().await;
    }
}
