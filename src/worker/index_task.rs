//! Builds indexes over documents that were there before them, and analyzes indexes.
//!
//! A task is a row below its bucket (`data/<bucket>/task`), which holds how far
//! it is, and a row in the queue. The owner of the bucket's shard does it, in
//! small transactions. Each of them checks the fence and the shard's epoch and moves the cursor
//! in the same commit that adds the entries, so after a crash, with another
//! owner or after a restore the work goes on where it stands. The
//! work is entered in the table of open work before it looks whether the bucket
//! is active (protocol.md, rule 7), so that a removal stops it and the barrier
//! names it until it has stopped; the rows stay, and a restore wakes the workers.
//!
//! A build looks only at documents up to the last one that was there when it began: whatever
//! is written later keeps the index itself (see `index`), so a build never
//! chases a stream of inserts. Each document is read with conflict, and
//! a batch that met a write is tried again with half as many.
//!
//! Not here: what entries a document has (`index`), the commands.

use std::ops::{Bound, ControlFlow};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::work::{Scope, Work};
use crate::codec::record::{self, TaskKind, TaskStatus};
use crate::codec::{BucketId, keys};
use crate::document::{self, Home};
use crate::error::{Error, Result};
use crate::index::define::{self, Built};
use crate::index::statistics::{self, Analysis};
use crate::index::task::{self, Task};
use crate::index::{self, Index, rebuild};
use crate::metadata::{Catalog, LiveBucket};
use crate::store::limits::TRANSACTION_BYTES_MAX;
use crate::store::{RangeRead, Read, Resolve, Transaction};

use super::jobs::{self, End, Queue, Turn};
use super::{Workers, put_off};

/// Documents of one batch of a build.
const DOCUMENTS: usize = 200;
/// A batch ends when it has read so many bytes, will write so many, or has taken so long.
const READ_BYTES: usize = 1 << 20;
const WRITE_BYTES: usize = TRANSACTION_BYTES_MAX / 8;
const BATCH_TIME: Duration = Duration::from_secs(1);
/// Entries that an analysis reads at once, and how often in one transaction: once
/// at first, and more often as there is more to be kept of what was found.
const ENTRIES: usize = 1_000;
const PAGES: usize = 20;
/// Tasks of one node at the same time.
const TASKS_MAX: usize = 4;
/// After so long something that could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A queue row.
type Queued = (BucketId, u32, TaskKind);

/// The queue of builds and analyses.
struct Tasks;

impl Queue for Tasks {
    type Row = Queued;
    const LABEL: &'static str = "index-queue";
    const WHAT: &'static str = "index-task";
    const KIND: u16 = keys::kind::INDEX_TASK;
    const JOBS_MAX: usize = TASKS_MAX;
    const AGAIN: Duration = AGAIN;

    fn signal() -> Vec<u8> {
        keys::index::task_signal()
    }

    fn parse(key: &[u8]) -> Result<Option<(Queued, BucketId)>> {
        let (bucket, index, kind) = keys::index::parse_queued_task(key)?;
        Ok(TaskKind::from_number(kind).map(|kind| ((bucket, index, kind), bucket)))
    }

    async fn job((bucket, index, kind): Queued, turn: Turn) -> End {
        let Turn { workers, stop, shard, epoch } = turn;
        Job { workers, stop, bucket, index, kind, shard, epoch }.run().await
    }
}

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    jobs::run::<Tasks>(workers, stop).await;
}

/// One task, at the hands of the owner of its shard.
struct Job {
    workers: Workers,
    stop: CancellationToken,
    bucket: BucketId,
    index: u32,
    kind: TaskKind,
    shard: u16,
    epoch: i64,
}

/// What a transaction of a task found.
enum Found {
    /// Neither index nor task is there any more.
    Nothing,
    /// An index and the open task on it.
    Open(LiveBucket, Task),
}

impl Job {
    async fn run(self) -> End {
        let what = match self.kind {
            TaskKind::Build => format!("build of index {}", self.index),
            TaskKind::Analyze => format!("analysis of index {}", self.index),
        };
        let scope = Scope::Shard(self.shard);
        let work = self.catalog().cluster().work().enter(self.bucket, scope, what);
        fail::fail_point!("index-task-before-open");
        if work.is_stopped() {
            return End::Later;
        }
        let done = match self.kind {
            TaskKind::Build => self.build(&work).await,
            TaskKind::Analyze => self.analyze(&work).await,
        };
        match done {
            Ok(end) => end,
            Err(
                Error::BucketBeingRemoved(_)
                | Error::NoSuchBucket(_)
                | Error::NamespaceBeingRemoved(_)
                | Error::NoSuchNamespace(_)
                | Error::IndexStale { .. },
            ) => End::Aside,
            Err(error) => {
                put_off("index-task", &self.bucket, &error);
                End::Later
            }
        }
    }

    fn catalog(&self) -> &Catalog {
        self.workers.lifecycle.catalog()
    }

    fn is_stopped(&self, work: &Work) -> bool {
        work.is_stopped() || self.stop.is_cancelled()
    }

    /// The index and its task, after fence and epoch were checked: what every
    /// transaction of a task begins with.
    async fn look(&self, txn: &Transaction) -> Result<Found> {
        self.workers.check_shard(txn, self.shard, self.epoch).await?;
        let live = self.catalog().handles().open_id(txn, self.bucket).await?;
        let task = task::read(txn, self.bucket, self.index, self.kind, Read::Conflict).await?;
        let task = task.filter(|task| task.record.status.is_open());
        // Between entries of other collation data none of ours may stand.
        if let Some(index) = live.indexes().by_id(self.index).filter(|index| index.is_stale()) {
            if rebuild::refresh(txn, &live, self.catalog().now()).await? {
                return Ok(Found::Nothing);
            }
            return Err(index::stale(index));
        }
        let wanted = |index: &Index| match self.kind {
            TaskKind::Build => index.is_building(),
            TaskKind::Analyze => index.is_ready(),
        };
        match task {
            Some(task) if live.indexes().by_id(self.index).is_some_and(wanted) => {
                Ok(Found::Open(live, task))
            }
            _ => {
                // Nobody needs the row; a task that was asked for anew writes it anew.
                let kind = self.kind.number();
                txn.clear(&keys::index::queued_task(self.bucket, self.index, kind))?;
                Ok(Found::Nothing)
            }
        }
    }

    /// Runs one transaction of this task.
    async fn transact<T, F>(
        &self,
        label: &'static str,
        body: impl Fn(Transaction, u32, LiveBucket, Task) -> F,
    ) -> Result<ControlFlow<(), T>>
    where
        F: Future<Output = Result<T>>,
    {
        let attempts = std::sync::atomic::AtomicU32::new(0);
        let (attempts, body) = (&attempts, &body);
        let outcome = self
            .catalog()
            .store()
            .run(label, Resolve::Idempotent, |txn: Transaction| async move {
                let attempt = attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                match self.look(&txn).await? {
                    Found::Nothing => Ok(ControlFlow::Break(())),
                    Found::Open(live, task) => {
                        body(txn, attempt, live, task).await.map(ControlFlow::Continue)
                    }
                }
            })
            .await?;
        Ok(outcome.value)
    }

    async fn build(&self, work: &Work) -> Result<End> {
        let now = || self.catalog().now();
        // The documents to look at are those that are there now.
        let begun = self.transact("index-build", |txn, _, live, task| async move {
            self.begin(&txn, &live, task, now()).await
        });
        if begun.await?.is_break() {
            return Ok(End::Over);
        }
        if work.open().is_err() {
            return Ok(End::Stopped);
        }
        let built = loop {
            if self.is_stopped(work) {
                return Ok(End::Stopped);
            }
            let batch = self.transact("index-build", |txn, attempt, live, task| async move {
                self.batch(&txn, attempt, &live, task).await
            });
            match batch.await {
                Ok(ControlFlow::Break(())) => return Ok(End::Over),
                Ok(ControlFlow::Continue(true)) => {}
                Ok(ControlFlow::Continue(false)) => break Built::All,
                Err(
                    error @ (Error::DuplicateKey(_)
                    | Error::IndexTypeMismatch { .. }
                    | Error::Syntax(_)),
                ) => break Built::Refused(error.to_line()),
                Err(error) => return Err(error),
            }
            fail::fail_point!("index-build-between-batches");
        };
        let built = &built;
        let ended = self.transact("index-ready", |txn, _, live, _| async move {
            define::end_build(&txn, &live, self.index, built, now()).await
        });
        let (ControlFlow::Break(()) | ControlFlow::Continue(())) = ended.await?;
        Ok(End::Over)
    }

    /// Fixes what a build has to look at, the first time that it is begun.
    async fn begin(
        &self,
        txn: &Transaction,
        live: &LiveBucket,
        mut task: Task,
        now: i64,
    ) -> Result<()> {
        if task.record.status == TaskStatus::Running {
            return Ok(());
        }
        let home = Home::from(live);
        let edge = |reverse: bool| document::Scan {
            begin: Bound::Unbounded,
            end: Bound::Unbounded,
            reverse,
            rows_max: 1,
            bytes_max: usize::MAX,
            read: Read::Snapshot,
        };
        let first = document::scan(txn, &home, &edge(false)).await?;
        let last = document::scan(txn, &home, &edge(true)).await?;
        let counts = crate::metadata::bucket::counts(txn, self.bucket).await?;
        task.record.lower = first.rows.first().map(|(id, _)| *id);
        task.record.upper = last.rows.first().map(|(id, _)| *id);
        task.record.total = counts.documents;
        task.record.status = TaskStatus::Running;
        task.record.started_at = Some(now);
        task::write(txn, self.bucket, self.index, &task)
    }

    /// Adds the entries of the next documents; whether there are more.
    async fn batch(
        &self,
        txn: &Transaction,
        attempt: u32,
        live: &LiveBucket,
        mut task: Task,
    ) -> Result<bool> {
        let Some(index) = live.indexes().by_id(self.index) else { return Ok(false) };
        let Some(upper) = task.record.upper else { return Ok(false) };
        let (home, started) = (Home::from(live), Instant::now());
        let scan = document::Scan {
            begin: task.record.cursor.map_or(Bound::Unbounded, Bound::Excluded),
            end: Bound::Included(upper),
            reverse: false,
            rows_max: (DOCUMENTS >> attempt.min(8)).max(1),
            bytes_max: READ_BYTES,
            read: Read::Snapshot,
        };
        let page = document::scan(txn, &home, &scan).await?;
        let (mut read, mut left) = (0, page.rows.len());
        for (id, stored) in page.rows {
            // Whoever writes it after this snapshot wins, and the batch is made anew.
            txn.add_read_conflict_key(&home.key(&id))?;
            let document = stored.load(txn, &home, Read::Snapshot).await?;
            let (shard, strict) = (home.shard_of(&id), live.indexes().is_strict());
            index::add(txn, self.bucket, shard, index, strict, &id, document.raw()).await?;
            read += document.bytes().len();
            left -= 1;
            task.record.cursor = Some(id);
            task.record.done += 1;
            let full = read >= READ_BYTES || txn.approximate_size() >= WRITE_BYTES;
            if full || started.elapsed() >= BATCH_TIME {
                break;
            }
        }
        task::write(txn, self.bucket, self.index, &task)?;
        Ok(left > 0 || page.more)
    }

    /// Reads all entries once, in order, and writes how they are spread. What was
    /// found so far is in the task, so that another owner goes on from there.
    ///
    /// All are read, not a sample: in an ordered store nobody knows how many lie
    /// between two keys, so a sample would not say how much it stands for.
    async fn analyze(&self, work: &Work) -> Result<End> {
        let begun = self.transact("index-analyze", |txn, _, _, mut task| async move {
            if task.record.analysis.is_some() {
                return Ok(());
            }
            let entries = statistics::cardinality(&txn, self.bucket, self.index).await?;
            task.record.status = TaskStatus::Running;
            task.record.started_at = Some(self.catalog().now());
            task.record.total = entries;
            task.record.analysis = Some(Box::new(Analysis::new(entries).record()));
            task::write(&txn, self.bucket, self.index, &task)
        });
        if begun.await?.is_break() {
            return Ok(End::Over);
        }
        if work.open().is_err() {
            return Ok(End::Stopped);
        }
        loop {
            if self.is_stopped(work) {
                return Ok(End::Stopped);
            }
            let part = self.transact("index-analyze", |txn, attempt, _, task| async move {
                self.analyze_part(&txn, attempt, task).await
            });
            match part.await? {
                ControlFlow::Continue(true) => {}
                ControlFlow::Continue(false) | ControlFlow::Break(()) => return Ok(End::Over),
            }
        }
    }

    /// Looks at the next entries; whether there are more. Behind the last the histogram is written.
    async fn analyze_part(&self, txn: &Transaction, attempt: u32, mut task: Task) -> Result<bool> {
        let Some(found) = task.record.analysis.take() else { return Ok(false) };
        let (mut analysis, started) = (Analysis::resume(*found), Instant::now());
        let prefix = keys::index::entries(self.bucket, self.index);
        let mut range = RangeRead::prefix(prefix.clone()).limit(ENTRIES).snapshot();
        if let Some(last) = analysis.last() {
            range.begin = keys::next(&[prefix, last].concat());
        }
        let mut next = Some(range);
        let seen = usize::try_from(analysis.entries()).unwrap_or(usize::MAX);
        let pages = (seen / ENTRIES).clamp(1, PAGES) >> attempt.min(8);
        for _ in 0..pages.max(1) {
            let Some(range) = next else { break };
            let page = txn.range(range.clone()).await?;
            for (key, _) in &page.rows {
                let entry = keys::index::parse_entry(key)?;
                analysis.show(entry.values, entry.id);
            }
            next = range.after(&page);
            if started.elapsed() >= BATCH_TIME {
                break;
            }
        }
        task.record.done = analysis.entries();
        let more = next.is_some();
        if more {
            task.record.analysis = Some(Box::new(analysis.record()));
        } else {
            let now = self.catalog().now();
            let row = record::encode(&analysis.finish(now));
            txn.set(&keys::index::histogram(self.bucket, self.index), &row)?;
            task.record.status = TaskStatus::Completed;
            task.record.ended_at = Some(now);
        }
        task::write(txn, self.bucket, self.index, &task)?;
        Ok(more)
    }
}
