//! The transaction that a session opens by BEGIN and that its data commands join.
//!
//! One snapshot, one write buffer, one commit, over any buckets and namespaces.
//! Each command runs once in it and is never tried again: only the client knows
//! what it has made of what it read.
//!
//! # Invariants
//!
//! * Every bucket is opened through the fence, in this transaction's snapshot,
//!   and each command looks anew whether it has been removed since (protocol.md,
//!   rule 6): a removed bucket answers at once and not only at COMMIT.
//! * A command that fails leaves nothing of its own behind, and everything of
//!   the commands before it.
//! * A commit whose result is unknown is looked up in its attempt slot (rule 21).
//! * Dropping the last handle rolls everything back. What could not be committed
//!   any more, for its age, is not kept in memory.
//!
//! Not here: what a command does in it (`command`), who owns it (`session`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Serialize, de::DeserializeOwned};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::cluster::slots::SlotGuard;
use crate::codec::Versionstamp;
use crate::error::{Error, Result};
use crate::store::limits::TRANSACTION_TIME_MAX;
use crate::store::{self, Savepoint, Transaction};

use super::bucket;
use super::cache::LiveBucket;
use super::catalog::Catalog;
use super::operation::Caller;

/// What BEGIN opened. A cheap handle: clones are the same transaction.
#[derive(Debug, Clone)]
pub struct OpenTransaction(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    catalog: Catalog,
    txn: Transaction,
    /// This transaction's alone from before its snapshot to behind its commit.
    slot: SlotGuard,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    touched: Vec<Touched>,
    /// The metadata version at which all of `touched` were last found active.
    checked_at: Option<Versionstamp>,
    begun: Option<Begun>,
}

/// The snapshot has been taken.
#[derive(Debug)]
struct Begun {
    at: Instant,
    /// Gives the transaction up when it is too old.
    end: AbortHandle,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.end.abort();
    }
}

/// A bucket that this transaction has opened.
#[derive(Debug, Clone)]
struct Touched {
    path: Arc<str>,
    name: Arc<str>,
    bucket: LiveBucket,
    /// When the trim is due that this transaction schedules.
    trim_at: Option<i64>,
}

impl OpenTransaction {
    /// Costs nothing: the snapshot is taken by the first command that reads.
    #[must_use]
    pub fn begin(catalog: &Catalog) -> Self {
        let slot = catalog.cluster().slots().acquire();
        let txn = catalog.store().begin("transaction");
        Self(Arc::new(Inner { catalog: catalog.clone(), txn, slot, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version that everything in it is read at.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn read_version(&self) -> Result<u64> {
        let version = self.0.txn.read_version().await?;
        let mut state = self.state();
        if state.begun.is_none() {
            let inner = Arc::downgrade(&self.0);
            let end = tokio::spawn(async move {
                sleep(TRANSACTION_TIME_MAX).await;
                if let Some(inner) = inner.upgrade() {
                    inner.txn.give_up(store::Error::TooOld);
                }
            });
            state.begun = Some(Begun { at: Instant::now(), end: end.abort_handle() });
        }
        Ok(version)
    }

    /// About how many bytes the commit will carry.
    #[must_use]
    pub fn approximate_size(&self) -> usize {
        self.0.txn.approximate_size()
    }

    /// Runs a command that only reads documents of one bucket.
    ///
    /// # Errors
    /// Those of opening the bucket, of the body and of the store.
    pub async fn read<T, F>(
        &self,
        path: &str,
        name: &str,
        body: impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let live = self.open(path, name).await?;
        body(self.0.txn.clone(), live).await
    }

    /// Runs a command that writes documents of one bucket: all that it writes, or nothing.
    ///
    /// # Errors
    /// Those of opening the bucket, of the body and of the store.
    pub async fn write<T, F>(
        &self,
        path: &str,
        name: &str,
        body: impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let live = self.open(path, name).await?;
        live.expect_no_copy()?;
        if let Some(pause) = live.pause(self.0.catalog.now()) {
            // Its snapshot is from before the end of the pause: only a new transaction can write.
            self.0.catalog.pause_over(live.id(), pause).await;
            return Err(store::Error::Conflict.into());
        }
        let savepoint = self.savepoint()?;
        let value = body(self.0.txn.clone(), live.clone()).await?;
        self.schedule_trim(&live)?;
        savepoint.keep();
        Ok(value)
    }

    /// As [`OpenTransaction::write`], for a command whose client chose an operation
    /// id: its row is part of this transaction.
    ///
    /// # Errors
    /// As [`OpenTransaction::write`]; `ERR` when the id was used for another command.
    pub async fn write_once<T, F>(
        &self,
        caller: &Caller,
        path: &str,
        name: &str,
        body: impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T>>,
    {
        let Some(operation) = &caller.operation else { return self.write(path, name, body).await };
        self.read_version().await?;
        if let Some(result) = operation.replay(&self.0.txn, &caller.actor).await? {
            return Ok(result);
        }
        let body = &body;
        self.write(path, name, |txn, live| async move {
            let value = body(txn.clone(), live).await?;
            operation.record(&txn, &caller.actor, &value, self.0.catalog.now())?;
            Ok(value)
        })
        .await
    }

    fn savepoint(&self) -> Result<Savepoint> {
        Ok(self.0.txn.savepoint()?)
    }

    /// Who writes changes sees to it that they are trimmed one day.
    fn schedule_trim(&self, live: &LiveBucket) -> Result<()> {
        let now = self.0.catalog.now();
        let mut state = self.state();
        let touched = state.touched.iter_mut().find(|touched| touched.bucket.id() == live.id());
        if let Some(touched) = touched
            && touched.trim_at.is_none()
            && live.trim_scheduled_until() <= now
        {
            let at = self.0.catalog.trim_due_at(now);
            bucket::schedule_trim(&self.0.txn, live.id(), at)?;
            touched.trim_at = Some(at);
        }
        Ok(())
    }

    /// The active bucket of this name in this transaction's snapshot, if it has not been removed since.
    async fn open(&self, path: &str, name: &str) -> Result<LiveBucket> {
        self.read_version().await?;
        let known = {
            let state = self.state();
            let mut touched = state.touched.iter();
            touched.find(|touched| *touched.path == *path && *touched.name == *name).cloned()
        };
        let touched = if let Some(touched) = known {
            touched
        } else {
            let bucket = self.0.catalog.handles().open(&self.0.txn, path, name).await?;
            let touched = Touched { path: path.into(), name: name.into(), bucket, trim_at: None };
            let mut state = self.state();
            state.touched.push(touched.clone());
            state.checked_at = None;
            drop(state);
            touched
        };
        self.expect_active(std::slice::from_ref(&touched)).await?;
        Ok(touched.bucket)
    }

    /// Looks, in a snapshot of its own, whether these are still what their names mean.
    async fn expect_active(&self, touched: &[Touched]) -> Result<()> {
        if touched.is_empty() {
            return Ok(());
        }
        let seen = self.0.txn.metadata_version().await?;
        let (store, handles) = (self.0.catalog.store(), self.0.catalog.handles());
        let fresh = store.begin("fence");
        let now = fresh.metadata_version().await?;
        if now == seen || Some(now) == self.state().checked_at {
            return Ok(());
        }
        for Touched { path, name, bucket, .. } in touched {
            handles.expect_active(&fresh, path, name, bucket).await?;
        }
        let mut state = self.state();
        if touched.len() == state.touched.len() {
            state.checked_at = Some(now);
        }
        Ok(())
    }

    /// Commits, under an operation row if the caller has an operation: then what
    /// was committed before under it is the answer, and this is rolled back.
    /// `None`: there was nothing to commit.
    ///
    /// # Errors
    /// `BUCKETBEINGREMOVED` and its like when a bucket that was used is no longer
    /// active; those of the store, of which a conflict means that nothing was
    /// committed.
    pub async fn commit(self, caller: &Caller) -> Result<Option<Versionstamp>> {
        let inner = &*self.0;
        let begun = self.state().begun.as_ref().map(|begun| begun.at);
        if begun.is_some_and(|at| at.elapsed() >= TRANSACTION_TIME_MAX) {
            return Err(store::Error::TooOld.into());
        }
        if let Some(operation) = &caller.operation {
            self.read_version().await?;
            if let Some(result) = operation.replay_stamped(&inner.txn, &caller.actor).await? {
                return Ok(result);
            }
        }
        let writes = inner.txn.has_writes();
        let touched = self.state().touched.clone();
        if let Some(operation) = &caller.operation {
            operation.record_stamped(&inner.txn, &caller.actor, writes, inner.catalog.now())?;
        } else if !writes {
            self.expect_active(&touched).await?;
            return Ok(None);
        }
        let mistaken = inner.catalog.handles().mutations().unknown_is_not_committed;
        let slot = (!mistaken).then(|| inner.slot.slot());
        let store = inner.catalog.store();
        let versionstamp = match store.commit_once(inner.txn.clone(), slot.as_ref()).await {
            Ok(committed) => committed.versionstamp,
            Err(store::Error::Conflict) => return Err(self.conflict(&touched).await),
            Err(store::Error::CommitUnknown) if mistaken => {
                return Err(store::Error::Conflict.into());
            }
            Err(error) => return Err(error.into()),
        };
        for Touched { bucket, trim_at, .. } in &touched {
            if let Some(at) = trim_at {
                bucket.note_trim_scheduled(*at);
            }
        }
        Ok(versionstamp.filter(|_| writes))
    }

    /// What a commit under this operation answered, if there was one; if there was
    /// none, then none that is still under way will land. The versionstamp is
    /// `None` for a commit that had nothing to commit.
    ///
    /// # Errors
    /// Those of the store; `ERR` when the id was used for another command.
    pub async fn committed_before(
        catalog: &Catalog,
        caller: &Caller,
    ) -> Result<Option<Option<Versionstamp>>> {
        let Some(operation) = &caller.operation else { return Ok(None) };
        catalog
            .read("commit-look-up", |txn: Transaction| async move {
                let found = operation.replay_stamped(&txn, &caller.actor).await?;
                if found.is_none() {
                    txn.add_write_conflict_key(&operation.key(&caller.actor))?;
                }
                Ok(found)
            })
            .await
    }

    /// What a conflict was about: a bucket that is no longer active, or anything else.
    async fn conflict(&self, touched: &[Touched]) -> Error {
        let (store, handles) = (self.0.catalog.store(), self.0.catalog.handles());
        for Touched { path, name, bucket, .. } in touched {
            let fresh = store.begin("fence");
            match handles.expect_active(&fresh, path, name, bucket).await {
                Ok(()) => {}
                // Whoever asks again learns it; that nothing was committed is certain.
                Err(Error::Store(_)) => break,
                Err(error) => return error,
            }
        }
        store::Error::Conflict.into()
    }
}
