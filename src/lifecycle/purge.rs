//! PURGE: the request, the wait for the barrier, and the flip.
//!
//! The flip is the only step that cannot be undone. It is one transaction that
//! re-reads, with conflict, everything it rests on (protocol.md, rule 17), so
//! whatever changes any of it first makes the flip fail and look again.

use std::borrow::Cow;
use std::sync::OnceLock;

use tokio::time::{Instant, timeout_at};

use crate::cluster::barrier::BarrierState;
use crate::codec::record::{self, HoldRecord, Lock, RemovalRecord, RequestRecord};
use crate::codec::{NamespaceId, Object, ObjectKind, RemovalId, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::metadata::bucket;
use crate::metadata::guard;
use crate::metadata::{Caller, Path};
use crate::store::{Read, Transaction, Watch};

use super::bury::{Burial, bury};
use super::lock::{self, Looked};
use super::target::{self, Instance, Removed, Resolved, Target};
use super::{Lifecycle, note_removal, park};

/// What PURGE was asked to do.
#[derive(Debug, Clone)]
pub struct PurgeRequest {
    /// The session's namespace, in which a name is looked up.
    pub namespace: Path,
    pub target: Target,
    pub latest: bool,
    /// How long to wait for the barrier; zero asks and does not wait.
    pub timeout: std::time::Duration,
    /// A lock of governance does not count.
    pub bypass: bool,
    pub dry_run: bool,
}

/// How far one attempt to purge got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Purged now, or before.
    Purged,
    /// The barrier is not reached: which version, and who and what is missing.
    Waits { version: Versionstamp, missing: String },
    /// The barrier is reached, but this was a dry run.
    Ready,
    /// What is in this namespace must be looked through first, for what is kept by this.
    Unlooked { namespace: NamespaceId, by: Looked, bypass: bool },
}

/// What examining has shown.
enum Examined {
    Barrier(BarrierState),
    Unlooked(NamespaceId, Looked),
}

/// The removal that a purge is about, once it has been looked up, and its
/// title. From then on it is about that one, whatever the name comes to
/// mean and whoever purges it: also in a retry, since an attempt with an unknown
/// result may have left its request.
type Bound = OnceLock<(RemovalId, String)>;

/// Why a flip may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asks now, by command.
    Asked {
        /// A lock of governance does not count.
        bypass: bool,
    },
    /// A request must be there, or it has expired by the time that has surely come.
    Due {
        certain: i64,
        /// As the request says.
        bypass: bool,
    },
}

impl Lifecycle {
    /// Purges a removed bucket or namespace: waits until the barrier is reached, at most as
    /// long as asked for, then flips. The request stays when time runs out, and
    /// the worker finishes it.
    ///
    /// # Errors
    /// Those of [`target::resolve`]; `BARRIERNOTSATISFIED`, `HELD`,
    /// `PURGEPAUSED`, `CLOCKSUSPECT`.
    pub async fn purge(&self, caller: &Caller, request: &PurgeRequest) -> Result<()> {
        let began = Instant::now();
        let result = self.purge_until(caller, request, began + request.timeout).await;
        if !request.dry_run {
            let took = began.elapsed();
            match &result {
                Ok(()) => self.meters().note_barrier(took, true),
                Err(Error::BarrierNotSatisfied(_)) => self.meters().note_barrier(took, false),
                Err(_) => {}
            }
        }
        let (namespace, bucket) = request.target.place(&request.namespace);
        self.note_refusal(caller, "purge", (namespace, &bucket), &result);
        result
    }

    async fn purge_until(
        &self,
        caller: &Caller,
        request: &PurgeRequest,
        deadline: Instant,
    ) -> Result<()> {
        let bound = Bound::new();
        let mut looked = None;
        loop {
            let (progress, watch) = self.attempt(caller, request, &bound, looked).await?;
            let (version, missing) = match progress {
                Progress::Purged | Progress::Ready => return Ok(()),
                Progress::Waits { version, missing } => (version, missing),
                Progress::Unlooked { namespace, by, bypass } => {
                    if let Some(kept) = self.kept_inside(namespace, by, bypass).await? {
                        return Err(kept.refusal());
                    }
                    looked = Some(by);
                    continue;
                }
            };
            self.wake_workers();
            let Some(watch) = watch else {
                return Err(Error::barrier_not_satisfied(version, &missing));
            };
            match timeout_at(deadline, watch).await {
                Ok(fired) => fired?,
                Err(_elapsed) => return Err(Error::barrier_not_satisfied(version, &missing)),
            }
        }
    }

    /// Purges if that is possible now. Else leaves the request, and gives a
    /// watch that fires when the barrier may have been reached.
    async fn attempt(
        &self,
        caller: &Caller,
        request: &PurgeRequest,
        bound: &Bound,
        looked: Option<Looked>,
    ) -> Result<(Progress, Option<Watch>)> {
        let catalog = self.catalog();
        if request.dry_run {
            let body = |txn: Transaction| async move {
                Ok::<_, Error>(match find(&txn, request).await? {
                    Resolved::Gone(_) => Progress::Purged,
                    Resolved::Removed(removed) => {
                        let bypass = request.bypass;
                        let by = bypass.then_some(caller);
                        match self.examine(&txn, &removed, by, looked).await? {
                            Examined::Unlooked(namespace, by) => {
                                Progress::Unlooked { namespace, by, bypass }
                            }
                            Examined::Barrier(state) if !state.satisfied() => {
                                let missing = state.missing_text();
                                Progress::Waits { version: removed.version, missing }
                            }
                            Examined::Barrier(_) => Progress::Ready,
                        }
                    }
                })
            };
            // All of it, but for the commit.
            return Ok((body(catalog.store().begin("purge-dry-run")).await?, None));
        }
        let (now, cause) = (catalog.now(), Cause::Asked { bypass: request.bypass });
        let body = |txn: Transaction| async move {
            let removed = match find_bound(&self.removal_reads(&txn), request, bound).await? {
                Resolved::Removed(removed) => *removed,
                Resolved::Gone(_) => return Ok((Some(()), (Progress::Purged, None))),
            };
            // The largest of all transactions: its state has a place of its own.
            let flip = self.flip(&txn, caller, &removed, cause, now, looked);
            let progress = Box::pin(flip).await?;
            match progress {
                Progress::Purged => return Ok((Some(()), (progress, None))),
                Progress::Unlooked { .. } => return Ok((None, (progress, None))),
                Progress::Waits { .. } | Progress::Ready => {}
            }
            let key = self.request_key(&removed);
            // Asked for again with more, it is asked for with more.
            if txn.get(&key, Read::Conflict).await?.is_none() || request.bypass {
                let (by, bypass) = (caller.actor.clone(), request.bypass);
                let passes = removed.policy().governed_by();
                let row = RequestRecord { by, at: now, bypass, passes };
                txn.set(&key, &record::encode(&row))?;
                super::signal_due(&txn)?;
            }
            let watch = txn.watch(&keys::barrier_signal())?;
            Ok((None, (progress, Some(watch))))
        };
        catalog.run_recording("flip", caller, |()| (Progress::Purged, None), body).await
    }

    /// The request row of a removal.
    pub(super) fn request_key(&self, removed: &Removed) -> Vec<u8> {
        if self.options().mutations.request_survives_restore {
            // Bound to the instance, so that RESTORE does not find it.
            return keys::request(RemovalId(removed.object().number()));
        }
        keys::request(removed.removal)
    }

    /// The removal that a request row asks to purge, if it is still there.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn requested(&self, request: RemovalId) -> Result<Option<RemovalId>> {
        if !self.options().mutations.request_survives_restore {
            return Ok(Some(request));
        }
        self.catalog()
            .read("requested", |txn: Transaction| async move {
                target::removal_of(&txn, request.0).await
            })
            .await
    }

    /// The transaction in which the flip reads the rows of its removal and the
    /// fence: its own. What a mistake reads elsewhere it does not conflict on.
    fn removal_reads(&self, txn: &Transaction) -> Transaction {
        self.own_or_other(txn, self.options().mutations.flip_ignores_removal_and_fence)
    }

    fn own_or_other(&self, txn: &Transaction, mistake: bool) -> Transaction {
        if mistake { self.catalog().store().begin("mistake") } else { txn.clone() }
    }

    /// Checks everything but the barrier that may forbid a purge, and evaluates
    /// the barrier. `looked`: by what what is in it was looked through. Writes nothing.
    async fn examine(
        &self,
        txn: &Transaction,
        removed: &Removed,
        bypass: Option<&Caller>,
        looked: Option<Looked>,
    ) -> Result<Examined> {
        self.expect_not_held(txn, removed).await?;
        let now = self.catalog().certain_now();
        removed.expect_not_locked(now, bypass)?;
        removed.expect_documents_not_locked(txn, now, bypass).await?;
        if let Object::Namespace(id) = removed.object() {
            let promise = removed.promise();
            if let Some(caller) = bypass.filter(|_| promise.lock == Lock::Governance) {
                removed.policy().expect_bypass(caller)?;
            }
            let by = Looked::of(&promise, bypass.is_some()).at(now);
            if looked != Some(by)
                && (!by.is_none() || guard::locked_below(txn, id).await?.is_some())
            {
                return Ok(Examined::Unlooked(id, by));
            }
        }
        self.expect_destruction(txn).await?;
        let object = removed.object().number();
        self.removal_reads(txn).get(&keys::fence(object), Read::Conflict).await?;
        let earlier = self.options().mutations.barrier_in_earlier_transaction;
        let txn = self.own_or_other(txn, earlier);
        let state = self.catalog().cluster().barrier(&txn, object, removed.version).await?;
        Ok(Examined::Barrier(state))
    }

    /// Refuses while somebody holds it, or something below it.
    async fn expect_not_held(&self, txn: &Transaction, removed: &Removed) -> Result<()> {
        let held = |removed: &Removed, hold: &HoldRecord| {
            Error::Held(format!(
                "{} '{}' is on hold by {}: {}",
                removed.object().kind().title(),
                removed.title(),
                hold.owner,
                hold.reason
            ))
        };
        if let Some(hold) = &removed.hold {
            return Err(held(removed, hold));
        }
        let Object::Namespace(id) = removed.object() else { return Ok(()) };
        guard::expect_unprotected(txn, id).await?;
        let Some(below) = guard::held_below(txn, id).await? else { return Ok(()) };
        let below = target::read(txn, below, Read::Conflict).await?;
        Err(match below.as_ref().and_then(|below| below.hold.as_ref().map(|hold| (below, hold))) {
            Some((below, hold)) => held(below, hold),
            None => Error::Internal(format!("what is on hold below {id} has no removal")),
        })
    }

    /// The flip of a removal that expired or whose purge was asked for, by `certain`, the
    /// time that has surely come; `now` is what its grave counts from. `None`: it was restored or purged meanwhile, also by an attempt of our own with
    /// an unknown result, or it waits for something above it.
    ///
    /// # Errors
    /// Those of [`Lifecycle::flip`].
    pub async fn flip_due(
        &self,
        txn: &Transaction,
        removal: RemovalId,
        now: i64,
        certain: i64,
        looked: Option<Looked>,
    ) -> Result<Option<Progress>> {
        let reads = self.removal_reads(txn);
        let Some(removed) = target::read(&reads, removal, Read::Conflict).await? else {
            return Ok(None);
        };
        let mut cause = Cause::Due { certain, bypass: false };
        let caller = match reads.get(&self.request_key(&removed), Read::Conflict).await? {
            Some(value) => {
                let row: RequestRecord = record::decode("request", &value)?;
                let by = removed.policy().governed_by();
                let bypass = row.bypass && (by.is_none() || by == row.passes);
                cause = Cause::Due { certain, bypass };
                Caller { actor: row.by, operation: None, permit: None }
            }
            None if park::put_off(txn, &removed, certain).await? => return Ok(None),
            None => Caller::system("expiry"),
        };
        Box::pin(self.flip(txn, &caller, &removed, cause, now, looked)).await.map(Some)
    }

    /// The flip, if all that it rests on allows it: deletes the metadata of the
    /// instance, leaves a grave, and hands its prefix to the reclaimer.
    ///
    /// `removed` must have been read by this transaction with conflict. `looked`: for what
    /// what is in it has been looked through ([`Lifecycle::kept_inside`]).
    ///
    /// # Errors
    /// `HELD`, `PURGEPAUSED`, `CLOCKSUSPECT`; `ERR` when nothing asks for it.
    pub async fn flip(
        &self,
        txn: &Transaction,
        caller: &Caller,
        removed: &Removed,
        cause: Cause,
        now: i64,
        looked: Option<Looked>,
    ) -> Result<Progress> {
        let removed = &self.meant(txn, removed).await?;
        let (Cause::Asked { bypass } | Cause::Due { bypass, .. }) = cause;
        let by = bypass.then_some(caller);
        let state = match self.examine(txn, removed, by, looked).await? {
            Examined::Barrier(state) => state,
            Examined::Unlooked(namespace, by) => {
                return Ok(Progress::Unlooked { namespace, by, bypass });
            }
        };
        // Also when it is asked for now: whoever clears the request forbids the purge.
        let (reads, key) = (self.removal_reads(txn), self.request_key(removed));
        let requested = reads.get(&key, Read::Conflict).await?.is_some();
        let over = match cause {
            Cause::Asked { .. } => true,
            Cause::Due { certain, .. } => requested || removed.is_expired(certain),
        };
        if !over {
            return Err(Error::syntax(format!(
                "Removal '{}' is neither expired nor was its purge asked for",
                removed.removal
            )));
        }
        if !state.satisfied() {
            return Ok(Progress::Waits { version: removed.version, missing: state.missing_text() });
        }
        // Nothing is let go that then stays.
        if let Object::Namespace(id) = removed.object()
            && lock::expect_none_locked_below(txn, id, self.catalog().certain_now(), by).await?
        {
            let missing = "what was locked below it is being let go".to_owned();
            return Ok(Progress::Waits { version: removed.version, missing });
        }
        removed.above.conflict_on_fences(txn)?;
        txn.clear(&self.request_key(removed))?;
        let grave_until = now.saturating_add(self.options().grave_retention_ms);
        let burial = Burial { by: &caller.actor, now, grave_until, reason: None, order: 0 };
        bury(txn, removed, &burial).await?;
        Ok(Progress::Purged)
    }

    /// The instance that a flip is about: the one of the removal, unless a
    /// mistake looks it up by name.
    async fn meant<'a>(&self, txn: &Transaction, removed: &'a Removed) -> Result<Cow<'a, Removed>> {
        if !self.options().mutations.purge_by_name || removed.object().bucket().is_none() {
            return Ok(Cow::Borrowed(removed));
        }
        let RemovalRecord { namespace, name, .. } = &removed.record;
        if let Some(active) = bucket::find_active(txn, *namespace, name).await? {
            let mut namesake = removed.clone();
            namesake.record.object = active.id.into();
            namesake.instance = Instance::Bucket(active.record);
            return Ok(Cow::Owned(namesake));
        }
        let (newest, here) =
            (Target::Name(name.clone()), Path::parse(removed.above.path().as_bytes())?);
        target::resolve_removed(txn, &here, &newest, true).await.map(Cow::Owned)
    }

    /// How far the barrier of something removed is.
    ///
    /// # Errors
    /// Those of [`target::resolve_removed`].
    pub async fn barrier(
        &self,
        here: &Path,
        target: &Target,
        latest: bool,
    ) -> Result<(Versionstamp, BarrierState)> {
        self.catalog()
            .read("barrier", |txn: Transaction| async move {
                let txn = &txn;
                let removed = target::resolve_removed(txn, here, target, latest).await?;
                let object = removed.object().number();
                let cluster = self.catalog().cluster();
                let state = cluster.barrier(txn, object, removed.version).await?;
                Ok((removed.version, state))
            })
            .await
    }
}

/// What a purge is about, read with conflict.
async fn find(txn: &Transaction, request: &PurgeRequest) -> Result<Resolved> {
    let PurgeRequest { namespace, target, latest, .. } = request;
    match target::resolve(txn, namespace, target, *latest).await {
        // As the contract has it.
        Err(Error::Syntax(_)) if target.kind() == ObjectKind::Namespace => Err(Error::syntax(
            format!("Namespace '{target}' must be logically removed before purge"),
        )),
        found => found,
    }
}

/// As [`find`]; once something was found it is always that.
async fn find_bound(txn: &Transaction, request: &PurgeRequest, bound: &Bound) -> Result<Resolved> {
    if let Some((removal, name)) = bound.get() {
        let target = match request.target.kind() {
            ObjectKind::Bucket => Target::Removal(*removal),
            ObjectKind::Namespace => Target::NamespaceRemoval(*removal),
        };
        return match target::resolve(txn, &request.namespace, &target, false).await {
            // It was restored meanwhile.
            Err(Error::NoSuchRemoval(_)) => {
                Err(target::is_not_removed(request.target.kind(), name))
            }
            found => found,
        };
    }
    let found = find(txn, request).await?;
    if let Resolved::Removed(removed) = &found {
        bound.get_or_init(|| {
            note_removal(removed.removal);
            (removed.removal, removed.title())
        });
    }
    Ok(found)
}
