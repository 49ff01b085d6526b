//! SWAP: the copy takes the name of its source, in one commit.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use crate::cluster::journal;
use crate::codec::record::{self, BucketRecord, CopyPhase, CopyRecord, Event, EventKind, PauseOf};
use crate::codec::{BucketId, RemovalId, keys};
use crate::document::{self, Home, feed, replica};
use crate::error::{Error, Result};
use crate::index;
use crate::lifecycle::remove::{self, Keep, Plan};
use crate::lifecycle::target::Instance;
use crate::lifecycle::{Lifecycle, note_removal};
use crate::metadata::audit::{self, Entry};
use crate::metadata::bucket::{self, Found};
use crate::metadata::guard;
use crate::metadata::namespace::{self, Resolved};
use crate::metadata::settings;
use crate::metadata::{Caller, Operation, Path};
use crate::store::{RangeRead, Read, Resolve, Transaction, Watch};

use super::{Lag, Stepped, lag, let_go, read, ready, step};

/// Writers are let wait only when no more changes than this are left to follow.
const CLOSE: usize = 500;

/// What SWAP was asked to do.
#[derive(Debug, Clone)]
pub struct SwapRequest {
    pub namespace: Path,
    pub bucket: String,
    pub copy: String,
    /// How long it waits for the copy to catch up, before any writer waits.
    pub timeout: Duration,
}

/// What SWAP did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swapped {
    /// Of the old instance.
    pub removal: RemovalId,
    pub removed: BucketId,
    /// The instance that has the name now.
    pub bucket: BucketId,
}

/// What a transaction of a swap found: that the command was done before, or something else.
enum Turn<T> {
    Done(Swapped),
    Here(T),
}

/// Whether it is time to let writers wait.
enum Distance {
    Close {
        source: BucketId,
        copy: BucketId,
    },
    /// How far it is, and a watch that fires when it has come closer.
    Far(String, Watch),
}

/// The two buckets of a swap, read with conflict.
struct Pair {
    namespace: Resolved,
    source: Found,
    copy: Found,
    progress: CopyRecord,
}

impl Lifecycle {
    /// Gives the name of a bucket to its copy, and removes the bucket, restorable.
    ///
    /// Waits until the copy is close behind; then writers wait, at most for
    /// [`copy_pause`](crate::lifecycle::LifecycleOptions::copy_pause), until the rest is followed and the swap is
    /// committed. If that takes longer the swap is given up, and nothing has changed.
    ///
    /// # Errors
    /// `NOSUCHNAMESPACE`, `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`, `PROTECTED`; `ERR` when
    /// the one is no copy of the other, when the copy has failed, or cannot catch up in time.
    pub async fn swap(&self, caller: &Caller, request: &SwapRequest) -> Result<Swapped> {
        let caller = &self.with_operation(caller).await?;
        let removal = RemovalId(self.catalog().cluster().ids().next().await?);
        let result = self.swap_as(caller, request, removal).await;
        if let Err(error @ Error::Protected(_)) = &result {
            self.refuse(caller, "swap", &request.namespace, &request.bucket, error);
        }
        if let Ok(swapped) = &result {
            note_removal(swapped.removal);
            self.wake_workers();
        }
        result
    }

    /// All transactions of one swap are one operation.
    async fn with_operation(&self, caller: &Caller) -> Result<Caller> {
        let mut caller = caller.clone();
        if caller.operation.is_none() && self.catalog().store().commit_may_be_unknown() {
            let unique = self.catalog().cluster().ids().next().await?;
            caller.operation = Some(Operation::internal(unique));
        }
        Ok(caller)
    }

    async fn swap_as(
        &self,
        caller: &Caller,
        request: &SwapRequest,
        removal: RemovalId,
    ) -> Result<Swapped> {
        let deadline = Instant::now() + request.timeout;
        let (source, copy) = loop {
            match self.look(caller, request).await? {
                Turn::Done(swapped) => return Ok(swapped),
                Turn::Here(Distance::Close { source, copy }) => break (source, copy),
                Turn::Here(Distance::Far(far, watch)) => {
                    let Ok(fired) = timeout_at(deadline, watch).await else {
                        return Err(Error::syntax(format!(
                            "Bucket '{}' was not swapped: its copy '{}' is not close enough: {far}",
                            request.bucket, request.copy
                        )));
                    };
                    fired?;
                }
            }
        };
        let pause = self.options().copy_pause;
        if let Turn::Done(swapped) = self.pause(caller, request, removal, pause).await? {
            return Ok(swapped);
        }
        let end = Instant::now() + pause;
        let given_up = match self.swap_until(caller, request, removal, (source, copy), end).await {
            Ok(swapped) => return Ok(swapped),
            Err(error) => error,
        };
        // From here on an attempt whose result is unknown cannot land any more, or has.
        match self.resume(caller, source, removal).await? {
            Turn::Done(swapped) => Ok(swapped),
            Turn::Here(()) => Err(given_up),
        }
    }

    /// Looks how far the copy is behind.
    async fn look(&self, caller: &Caller, request: &SwapRequest) -> Result<Turn<Distance>> {
        let now = self.catalog().now();
        self.swap_transaction("swap-look", caller, |txn: Transaction| async move {
            let pair = Pair::find(&txn, request).await?;
            if pair.source.record.paused.is_some_and(|pause| now < pause.until) {
                return Err(Error::syntax(format!(
                    "Bucket '{}' is being swapped by another command",
                    request.bucket
                )));
            }
            let home = Home::of_record(pair.source.id, &pair.source.record);
            let progress = &pair.progress;
            let far = if progress.phase == CopyPhase::Following {
                let Lag { changes, more, .. } =
                    lag(&txn, &home, &pair.source.record, progress, CLOSE + 1).await?;
                let far =
                    || format!("{changes}{} changes behind", if more { " or more" } else { "" });
                (more || changes > CLOSE).then(far)
            } else {
                let CopyRecord { phase, done, total, .. } = progress;
                Some(format!("it takes over {}, {done} of about {total}", phase.name()))
            };
            Ok((
                None,
                match far {
                    None => Distance::Close { source: pair.source.id, copy: pair.copy.id },
                    Some(far) => {
                        Distance::Far(far, txn.watch(&keys::copy::progress(pair.copy.id))?)
                    }
                },
            ))
        })
        .await
    }

    /// Lets the writers of the bucket wait.
    async fn pause(
        &self,
        caller: &Caller,
        request: &SwapRequest,
        swap: RemovalId,
        length: Duration,
    ) -> Result<Turn<()>> {
        let now = self.catalog().now();
        let length_ms = crate::clock::milliseconds(length);
        let pause = PauseOf { swap, until: now.saturating_add(length_ms), length_ms };
        self.swap_transaction("swap-pause", caller, |txn: Transaction| async move {
            let pair = Pair::find(&txn, request).await?;
            let record = BucketRecord { paused: Some(pause), ..pair.source.record };
            Ok((None, rewrite(&txn, pair.source.id, &record)?))
        })
        .await
    }

    /// Lets the writers go on, if they still wait for this swap.
    async fn resume(&self, caller: &Caller, source: BucketId, swap: RemovalId) -> Result<Turn<()>> {
        self.swap_transaction("swap-resume", caller, |txn: Transaction| async move {
            let txn = &txn;
            // An attempt of ours that has not landed has read this with conflict.
            txn.add_write_conflict_key(&keys::bucket_record(source))?;
            match bucket::read_record(txn, source, Read::Conflict).await {
                Ok(record) if record.paused.is_some_and(|pause| pause.swap == swap) => {
                    rewrite(txn, source, &BucketRecord { paused: None, ..record })?;
                }
                Ok(_) | Err(Error::NoSuchBucket(_)) => {}
                Err(error) => return Err(error),
            }
            Ok((None, ()))
        })
        .await
    }

    /// Follows what is left and swaps, while writers wait.
    async fn swap_until(
        &self,
        caller: &Caller,
        request: &SwapRequest,
        removal: RemovalId,
        (source, copy): (BucketId, BucketId),
        end: Instant,
    ) -> Result<Swapped> {
        let too_long = || {
            Error::syntax(format!(
                "Bucket '{}' was not swapped: its copy could not catch up within copy.pause; \
                 nothing has changed",
                request.bucket
            ))
        };
        let too_long = &too_long;
        let mistaken = self.options().mutations.swap_ignores_tail;
        loop {
            if !mistaken {
                let drained = timeout_at(end, self.drain(source, copy)).await;
                drained.map_err(|_| too_long())??;
            }
            let now = self.catalog().now();
            let plan = Plan {
                caller,
                removal,
                now,
                keep: Keep::Default,
                setting: self.options().retention,
                bypass: false,
                reason: Some("swapped for its copy"),
                reserve_name: false,
            };
            let plan = &plan;
            let swapped = self
                .swap_transaction("swap", caller, |txn: Transaction| async move {
                    if Instant::now() >= end {
                        return Err(too_long());
                    }
                    let pair = Pair::find(&txn, request).await?;
                    if pair.is_behind(&txn, mistaken).await? {
                        return Ok((None, None));
                    }
                    // In a box, as it is larger than what a stack should hold on FoundationDB.
                    let swapped = Box::pin(self.write_swap(&txn, &pair, plan)).await?;
                    Ok((Some(swapped.clone()), Some(swapped)))
                })
                .await?;
            match swapped {
                Turn::Done(swapped) | Turn::Here(Some(swapped)) => return Ok(swapped),
                Turn::Here(None) => {}
            }
        }
    }

    /// Follows the log until nothing of it is left.
    async fn drain(&self, source: BucketId, copy: BucketId) -> Result<()> {
        let catalog = self.catalog();
        loop {
            let stepped =
                catalog.store().run("swap-drain", Resolve::Idempotent, |txn| async move {
                    step(catalog, &txn, (source, copy), 1).await
                });
            match stepped.await?.value {
                Stepped::More => {}
                Stepped::CaughtUp | Stepped::Over => return Ok(()),
            }
        }
    }

    /// A transaction of a swap, under its operation: the body gives what is to be recorded, if
    /// anything, and what it found.
    async fn swap_transaction<T, F>(
        &self,
        label: &'static str,
        caller: &Caller,
        body: impl Fn(Transaction) -> F,
    ) -> Result<Turn<T>>
    where
        F: Future<Output = Result<(Option<Swapped>, T)>>,
    {
        let body = |txn: Transaction| {
            let found = body(txn);
            async move {
                let (recorded, found) = found.await?;
                Ok((recorded, Turn::Here(found)))
            }
        };
        self.catalog().run_recording(label, caller, Turn::Done, body).await
    }

    /// The swap itself. The caller has seen, with conflict, that the copy lacks nothing.
    async fn write_swap(&self, txn: &Transaction, pair: &Pair, plan: &Plan<'_>) -> Result<Swapped> {
        let Pair { namespace, source, copy, .. } = pair;
        let (name, now) = (source.record.name.clone(), plan.now);
        let mut old = source.clone();
        old.record.paused = None;
        let above = namespace::lineage(txn, namespace.id(), Read::Snapshot).await?;
        let (object, instance) = (source.id.into(), Instance::Bucket(old.record.clone()));
        remove::write(txn, &above, object, &instance, plan, 0).await?;
        if copy.record.protected {
            // What the copy is set to goes, and with it what spoke for it.
            guard::lower(txn, guard::PROTECTION, &above, copy.id.0).await?;
        }
        let (begin, end) = keys::range(&keys::copy::progress(copy.id));
        txn.clear_range(&begin, &end)?;
        if let Some(of) = copy.record.copy {
            let_go(txn, copy.id, of, now).await?;
        }
        // All that the bucket is set to, as it is now; its deleted documents expire by its clock.
        let record = BucketRecord {
            created_at: copy.record.created_at,
            indexes: copy.record.indexes.clone(),
            copy: None,
            ..old.record
        };
        txn.clear(&keys::bucket_name(namespace.id(), &copy.record.name))?;
        txn.set(&keys::bucket_name(namespace.id(), &name), &copy.id.0.to_be_bytes())?;
        txn.set(&keys::bucket_record(copy.id), &record::encode(&record))?;
        bucket::invalidate(txn, copy.id.0)?;
        let event = Event { kind: EventKind::Changed, object: copy.id.0, removal: None };
        journal::append(txn, 1, &event)?;
        take_readers(txn, source.id, copy.id).await?;
        let home = Home::of_record(copy.id, &record).below(above.stood_still_ms());
        // Neither was done while it was a copy: its log is as old as the source's.
        for at in bucket::scheduled_trims(txn, source.id).await? {
            bucket::schedule_trim(txn, copy.id, at)?;
        }
        if let Some(next) = document::next_expiry(txn, &home).await? {
            bucket::schedule_vacuum(txn, copy.id, next.max(now.saturating_add(1_000)))?;
        }
        let certain = self.catalog().certain_now();
        settings::move_ttl(txn, source.id, copy.id, &record, certain).await?;
        index::define::analyze_as(txn, source.id, copy.id, &record, now).await?;
        let entry = Entry {
            action: "swap",
            namespace: namespace.path.as_str(),
            bucket: &name,
            id: Some(copy.id.into()),
            removal: None,
            reason: Some(&copy.record.name),
        };
        audit::append(txn, 1, &plan.caller.actor, now, &entry, "OK", 1)?;
        Ok(Swapped { removal: plan.removal, removed: source.id, bucket: copy.id })
    }
}

impl Pair {
    async fn find(txn: &Transaction, request: &SwapRequest) -> Result<Self> {
        let namespace = namespace::resolve(txn, &request.namespace, Read::Conflict).await?;
        namespace.conflict_on_fences(txn)?;
        let source = bucket::find(txn, namespace.id(), &request.bucket).await?;
        let copy = bucket::find(txn, namespace.id(), &request.copy).await?;
        for found in [&source, &copy] {
            txn.add_read_conflict_key(&keys::fence(found.id.0))?;
        }
        let progress = match copy.record.copy {
            Some(of) if of.source == source.id => read(txn, copy.id, Read::Conflict).await?,
            _ => None,
        };
        let Some(progress) = progress else {
            return Err(Error::syntax(format!(
                "Bucket '{}' is no copy of '{}': make one with BUCKET.COPY",
                request.copy, request.bucket
            )));
        };
        if progress.phase == CopyPhase::Failed {
            return Err(Error::syntax(format!(
                "Bucket '{}' was not swapped: its copy '{}' has failed: {}",
                request.bucket,
                request.copy,
                progress.error.as_deref().unwrap_or_default()
            )));
        }
        if source.record.protected {
            return Err(Error::Protected(request.bucket.clone()));
        }
        if ready(&source.record) != copy.record.indexes
            || source.record.shards != copy.record.shards
        {
            return Err(Error::syntax(format!(
                "Bucket '{}' was not swapped: the indexes of its copy are others",
                request.bucket
            )));
        }
        Ok(Self { namespace, source, copy, progress })
    }

    /// Whether anything stands in the log that the copy has not followed, with conflict on its coming there.
    async fn is_behind(&self, txn: &Transaction, mistaken: bool) -> Result<bool> {
        if self.progress.phase != CopyPhase::Following {
            return Ok(true);
        }
        if mistaken {
            return Ok(false);
        }
        let home = Home::of_record(self.source.id, &self.source.record);
        for (shard, position) in home.shards().iter().zip(&self.progress.positions) {
            let (left, _) =
                feed::of_shard(txn, &home, *shard, *position, 1, Read::Conflict).await?;
            if !left.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Writes the record of a bucket, and makes all handles on it invalid.
fn rewrite(txn: &Transaction, id: BucketId, record: &BucketRecord) -> Result<()> {
    txn.set(&keys::bucket_record(id), &record::encode(record))?;
    bucket::invalidate(txn, id.0)
}

/// Those who read the log of the source go on in that of the copy, which has the same entries
/// under the same versions.
async fn take_readers(txn: &Transaction, source: BucketId, copy: BucketId) -> Result<()> {
    let floor = replica::floor(txn, source, Read::Conflict).await?;
    replica::raise_floor(txn, copy, floor)?;
    replica::note_registration(txn, copy)?;
    let mut next = Some(RangeRead::prefix(keys::feed::replica_prefix(source)));
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (key, value) in &page.rows {
            let (_, name) = keys::feed::parse_replica(key)?;
            // Another copy of the source stays with it.
            if !replica::is_internal(&name) {
                txn.set(&keys::feed::replica(copy, &name), value)?;
                txn.clear(key)?;
            }
        }
        next = range.after(&page);
    }
    Ok(())
}
