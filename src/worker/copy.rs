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

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cluster::work::{Scope, Work};
use crate::codec::record::{CopyOf, PauseOf};
use crate::codec::{BucketId, keys};
use crate::error::{Error, Result};
use crate::lifecycle::copy::{self, Stepped};
use crate::metadata::Catalog;
use crate::store::{self, Read, Resolve, Transaction, Watch};

use super::jobs::{self, End, Queue, Turn};
use super::{DEADMAN, Workers, put_off};

/// Copies of one node at the same time.
const COPIES_MAX: usize = 64;
/// After so long something that could not be done is tried again, at first and at most.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// A queue row: the source, then the copy.
type Queued = (BucketId, BucketId);

/// The queue of copies.
struct Copies;

impl Queue for Copies {
    type Row = Queued;
    const LABEL: &'static str = "copy-queue";
    const WHAT: &'static str = "copy";
    const KIND: u16 = keys::kind::COPY;
    const JOBS_MAX: usize = COPIES_MAX;
    const AGAIN: Duration = AGAIN;

    fn signal() -> Vec<u8> {
        keys::copy::signal()
    }

    fn parse(key: &[u8]) -> Result<Option<(Queued, BucketId)>> {
        let (source, copy) = keys::copy::parse_queued(key)?;
        Ok(Some(((source, copy), copy)))
    }

    async fn job((source, copy): Queued, turn: Turn) -> End {
        let Turn { workers, stop, shard, epoch } = turn;
        Job { workers, stop, source, copy, shard, epoch }.run().await
    }

    fn ended(workers: &Workers, (_, copy): Queued) {
        workers.lifecycle.meters().copy_ended(copy);
    }
}

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    jobs::run::<Copies>(workers, stop).await;
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
