//! Deletes documents whose time is over: BUCKET.TTL.
//!
//! Each bucket with a TTL has one row in the queue of what is due (an `expiry`
//! row), and in its data how far the search has come. When the row is due, the
//! owner of the bucket's shard searches for documents whose date is older than
//! the duration and deletes them as BUCKET.DELETE does, one batch in a
//! transaction: fenced, under the shard's epoch, and with the progress in the
//! same commit, so that another owner goes on where this one stopped. Of a
//! field with an index only what has expired is read, every `ttl.every`; without
//! one all documents are looked at, in batches with a pause between them, and
//! the next pass begins `ttl.scan_every` after the last.
//!
//! What time it is is cluster time. While that is suspect, while all destruction
//! is paused and while the bucket is removed nothing is deleted. While a swap lets the bucket's
//! writers wait, a pass waits as they do.

use std::ops::ControlFlow;
use std::time::Duration;

use bson::oid::ObjectId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::milliseconds;
use crate::cluster::work::{Scope, Work};
use crate::codec::record::{Actor, TtlProgressRecord, TtlRecord};
use crate::codec::{RemovalId, keys};
use crate::document::{self, Deletion, Document, Home};
use crate::error::{Error, Result};
use crate::metadata::{LiveBucket, settings};
use crate::query::{self, Ast, Budget, Comparison, Operand, Path, Position, Query, Test};
use crate::store::{self, Read, Resolve, Transaction};
use crate::value::Value;

use super::Workers;
use super::queue::{self, DueBucket};

/// Documents deleted in one transaction.
const BATCH: usize = 100;
/// Bytes of documents in one transaction, but for its first.
const BATCH_BYTES: usize = 4 << 20;
/// Documents looked at in one transaction where there is no index.
const EXAMINED_MAX: usize = 1_000;
/// From one batch of a pass that looks at all documents to the next.
const PACE: Duration = Duration::from_millis(50);

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    queue::run(&workers, keys::due::TTL, &stop, |due| expire(&workers, due)).await;
}

/// Deletes what has expired in one bucket, if its shard is ours.
async fn expire(workers: &Workers, due: DueBucket) -> Result<()> {
    let (catalog, meters) = (workers.lifecycle.catalog(), workers.lifecycle.meters());
    let shard = workers.shard_of(due.bucket.0);
    let Some(epoch) = workers.owned().get(&shard).copied() else {
        meters.ttl_done(due.bucket);
        return Ok(());
    };
    if !queue::is_open(workers, &due).await? {
        meters.ttl_done(due.bucket);
        return Ok(());
    }
    meters.ttl_due(due.bucket, due.at);
    let work = catalog.cluster().work().enter(due.bucket, Scope::Shard(shard), "deletion by TTL");
    let mut pass = Pass { workers, due, shard, epoch, work, limit: BATCH, waited: None };
    pass.run().await?;
    meters.ttl_done(due.bucket);
    Ok(())
}

/// A pass over one bucket, or the rest of one.
struct Pass<'a> {
    workers: &'a Workers,
    due: DueBucket,
    shard: u16,
    epoch: i64,
    work: Work,
    limit: usize,
    /// The swap whose pause was waited for.
    waited: Option<RemovalId>,
}

/// What comes after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    AtOnce,
    AfterPause,
}

impl Pass<'_> {
    async fn run(&mut self) -> Result<()> {
        let catalog = self.workers.lifecycle.catalog();
        // Made before the first attempt, so that all attempts are one removal.
        let fresh = RemovalId(catalog.cluster().ids().next().await?);
        let mut opened = false;
        loop {
            let this = &*self;
            let outcome = catalog
                .store()
                .run("ttl", Resolve::Idempotent, |txn: Transaction| async move {
                    this.batch(&txn, fresh).await
                })
                .await;
            let next = match outcome {
                Ok(outcome) => {
                    let (next, deleted) = outcome.value;
                    self.workers.lifecycle.meters().note_ttl(deleted);
                    next
                }
                Err(Error::Store(store::Error::TransactionTooLarge { .. })) if self.limit > 1 => {
                    self.limit /= 2;
                    continue;
                }
                Err(Error::WritesPaused { bucket, pause }) => {
                    if !queue::past_pause(self.workers, &self.work, (bucket, pause)).await {
                        return Ok(());
                    }
                    self.waited = Some(pause.swap);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !opened && self.work.open().is_err() {
                return Ok(());
            }
            opened = true;
            match next {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(Next::AtOnce) => {}
                ControlFlow::Continue(Next::AfterPause) => tokio::select! {
                    biased;
                    () = self.work.stopped() => {}
                    () = sleep(PACE) => {}
                },
            }
            if self.work.is_stopped() {
                return Ok(());
            }
        }
    }

    /// One batch, and where the next begins, in one transaction; and how many it deleted.
    async fn batch(
        &self,
        txn: &Transaction,
        fresh: RemovalId,
    ) -> Result<(ControlFlow<(), Next>, u64)> {
        let (workers, bucket) = (self.workers, self.due.bucket);
        let catalog = workers.lifecycle.catalog();
        workers.check_shard(txn, self.shard, self.epoch).await?;
        let live = catalog.handles().open_id(txn, bucket).await?;
        live.expect_writable(catalog.now(), self.waited)?;
        let mistakes = live.mutations();
        if !mistakes.ttl_ignores_pause {
            workers.lifecycle.expect_destruction(txn).await?;
        }
        let progress = settings::ttl_progress(txn, bucket, Read::Conflict).await?;
        // It was switched off or changed since the queue was read.
        let Some(progress) = progress.filter(|progress| progress.due_at == self.due.at) else {
            return Ok((ControlFlow::Break(()), 0));
        };
        let Some(ttl) = live.record().ttl.clone() else { return Ok((ControlFlow::Break(()), 0)) };
        let indexed = is_indexed(&live, &ttl.field);
        let own = mistakes.ttl_by_own_clock.then(|| catalog.cluster().own_clock());
        let now = own.unwrap_or_else(|| catalog.certain_now());
        let home = Home::from(&live);
        let (documents, next) = self.search(txn, &home, &ttl, &progress, indexed, now).await?;
        let mut deletion = self.deletion(&live, &ttl, &progress);
        if progress.removal.is_none() {
            deletion.removal = fresh;
        }
        let deleted = document::delete(txn, &home, &documents, &deletion, catalog.now()).await?;
        let count = i64::try_from(deleted.len()).unwrap_or(i64::MAX);
        let mut progress = TtlProgressRecord {
            removal: Some(deletion.removal),
            deleted: progress.deleted.saturating_add(count),
            ..progress
        };
        let flow = match next {
            Position::After(id) => {
                progress.after = Some(id.bytes());
                let next = if indexed { Next::AtOnce } else { Next::AfterPause };
                ControlFlow::Continue(next)
            }
            Position::Start | Position::Behind(_) | Position::End => {
                let every = workers.options.ttl;
                let pause = milliseconds(if indexed { every.every } else { every.scan_every });
                (progress.after, progress.removal) = (None, None);
                progress.last_at = Some(now);
                progress.due_at = now.saturating_add(pause).max(self.due.at.saturating_add(1));
                ControlFlow::Break(())
            }
        };
        settings::write_ttl_progress(txn, bucket, Some(self.due.at), &progress)?;
        Ok((flow, u64::try_from(deleted.len()).unwrap_or(u64::MAX)))
    }

    async fn search(
        &self,
        txn: &Transaction,
        home: &Home,
        ttl: &TtlRecord,
        progress: &TtlProgressRecord,
        indexed: bool,
        now: i64,
    ) -> Result<(Vec<(ObjectId, Document)>, Position)> {
        let cutoff = Value::DateTime(now.saturating_sub(ttl.after_ms));
        let test = Test::Compare(Comparison::LessOrEqual, Operand::copy(&cutoff));
        let filter = Ast::Field { path: Path::new(&ttl.field), test };
        let query = Query::new(filter, None, self.limit).to_change();
        let mut budget = Budget { batch_bytes_max: BATCH_BYTES, ..Budget::default() };
        if !indexed {
            budget.examined_max = EXAMINED_MAX;
        }
        let from =
            progress.after.map_or(Position::Start, |id| Position::After(ObjectId::from_bytes(id)));
        let batch = query::run(txn, home, &query, &from, Read::Snapshot, &budget).await?;
        let mut documents = Vec::with_capacity(batch.documents.len());
        for document in batch.documents {
            match document.raw().get(b"_id").map(|field| field.value()) {
                Some(Value::ObjectId(id)) => documents.push((id, document)),
                _ => return Err(Error::Internal("a document without an ObjectId".to_owned())),
            }
        }
        Ok((documents, batch.next))
    }

    fn deletion(
        &self,
        live: &LiveBucket,
        ttl: &TtlRecord,
        progress: &TtlProgressRecord,
    ) -> Deletion {
        Deletion {
            removal: progress.removal.unwrap_or(RemovalId(0)),
            by: Actor::system("ttl"),
            reason: Some(format!("TTL of {}", ttl.field)),
            retention: live.tombstone_retention(self.workers.options.tombstone_retention),
            continues: progress.removal.is_some(),
        }
    }
}

/// Whether an index leads to the dates of a field.
fn is_indexed(live: &LiveBucket, field: &str) -> bool {
    let leads = |index: &crate::metadata::Index| {
        index.is_ready() && index.field(0).is_some_and(|(first, _)| first.selector == *field)
    };
    live.indexes().ready().any(leads)
}
