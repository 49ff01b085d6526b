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
//! * Dropping the last handle rolls everything back.
//!
//! Not here: what a command does in it (`command`), who owns it (`session`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Serialize, de::DeserializeOwned};

use crate::codec::Versionstamp;
use crate::error::Result;
use crate::store::Transaction;

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
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    touched: Vec<Touched>,
    /// The metadata version at which all of `touched` were last found unchanged.
    checked_at: Option<Versionstamp>,
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
        let txn = catalog.store().begin("transaction");
        let inner = Inner { catalog: catalog.clone(), txn, state: Mutex::default() };
        Self(Arc::new(inner))
    }

    /// The transaction of the store.
    #[must_use]
    pub fn store(&self) -> &Transaction {
        &self.0.txn
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let value = body(self.0.txn.clone(), live.clone()).await?;
        self.schedule_trim(&live)?;
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
        let (store, handles) = (self.0.catalog.store(), self.0.catalog.handles());
        let known = {
            let state = self.state();
            let mut touched = state.touched.iter();
            touched.find(|touched| *touched.path == *path && *touched.name == *name).cloned()
        };
        let touched = if let Some(touched) = known {
            touched
        } else {
            let bucket = handles.open(&self.0.txn, path, name).await?;
            let touched = Touched { path: path.into(), name: name.into(), bucket, trim_at: None };
            self.state().touched.push(touched.clone());
            touched
        };
        let seen = self.0.txn.metadata_version().await?;
        let fresh = store.begin("fence");
        let now = fresh.metadata_version().await?;
        let checked_at = self.state().checked_at.unwrap_or(seen);
        if now != seen && now != checked_at {
            handles.expect_active(&fresh, path, name, &touched.bucket).await?;
        }
        Ok(touched.bucket)
    }
}
