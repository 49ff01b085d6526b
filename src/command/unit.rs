//! How a data command runs: in a transaction of its own, or in the one of BEGIN.
//!
//! Every command that reads or writes documents takes its [`Unit`] and runs its
//! body through it. Outside BEGIN the unit is one auto-committed transaction,
//! tried again on a conflict: the body runs at least once, and keeps nothing
//! from one run to the next. Inside BEGIN the body runs exactly once, in the
//! session's transaction, on top of what that has written.
//!
//! ```ignore
//! let unit = Unit::of(ctx)?;
//! let body = |txn: Transaction, live: LiveBucket| async move { ... };
//! unit.write("insert", namespace, bucket, body).await
//! ```
//!
//! Not here: BEGIN and COMMIT themselves (`transaction`), the fence (`metadata`).

use serde::{Serialize, de::DeserializeOwned};

use super::{Context, Error, Result, Services};
use crate::access::Permit;
use crate::config::Config;
use crate::document::ObjectIds;
use crate::index::rebuild;
use crate::metadata::{Caller, Catalog, LiveBucket, OpenTransaction};
use crate::store::{Read, Transaction};

/// Where the data commands of a session run at the moment.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    services: &'a Services,
    catalog: &'a Catalog,
    open: Option<OpenTransaction>,
    read: Read,
    permit: Option<Permit>,
}

impl<'a> Unit<'a> {
    /// That of this session. Costs nothing outside BEGIN.
    pub(super) fn of(ctx: &Context<'a>) -> Result<Self> {
        let catalog = ctx.services.lifecycle()?.catalog();
        let open = ctx.session.transaction.clone();
        let read = match open {
            Some(_) if !ctx.session.snapshot_read => Read::Conflict,
            Some(_) | None => Read::Snapshot,
        };
        let permit = ctx.session.permit().cloned();
        Ok(Self { services: ctx.services, catalog, open, read, permit })
    }

    pub(super) fn config(&self) -> &'a Config {
        &self.services.config
    }

    /// Whether this is the transaction of BEGIN.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn object_ids(&self) -> &'a ObjectIds {
        &self.services.object_ids
    }

    pub(super) fn catalog(&self) -> &'a Catalog {
        self.catalog
    }

    /// How a command that only reads has to read. Inside BEGIN what is read must
    /// still hold at COMMIT, unless SNAPSHOTREAD is on. A command that writes
    /// always reads with conflict.
    pub(super) fn reads(&self) -> Read {
        self.read
    }

    /// Runs a body that only reads documents of one bucket, as [`Unit::reads`] says.
    pub(super) async fn read<T, F>(
        &self,
        label: &'static str,
        namespace: &str,
        bucket: &str,
        body: impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let permit = self.permit.as_ref();
        let body = |txn: Transaction, live: LiveBucket| {
            let result = body(txn.clone(), live);
            held(permit, txn, result)
        };
        let body = &body;
        match &self.open {
            None => self.catalog.read_data(label, namespace, bucket, body).await,
            Some(open) => open.read(namespace, bucket, body).await,
        }
    }

    /// Runs a body that writes documents of one bucket: all that it writes takes
    /// effect, or nothing.
    pub(super) async fn write<T, F>(
        &self,
        label: &'static str,
        namespace: &str,
        bucket: &str,
        body: impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let permit = self.permit.as_ref();
        let body = |txn: Transaction, live: LiveBucket| {
            let result = body(txn.clone(), live);
            held(permit, txn, result)
        };
        let body = &body;
        let run = || async move {
            match &self.open {
                None => Ok(self.catalog.write_data(label, namespace, bucket, body).await?.value),
                Some(open) => open.write(namespace, bucket, body).await,
            }
        };
        self.refreshing(namespace, bucket, run).await
    }

    /// As [`Unit::write`], for a command whose client chose an `OPID`: sent again
    /// it gets the stored result. Inside BEGIN it is stored by COMMIT.
    pub(super) async fn write_once<T, F>(
        &self,
        label: &'static str,
        caller: &Caller,
        namespace: &str,
        bucket: &str,
        body: impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Clone,
        F: Future<Output = Result<T>>,
    {
        let permit = self.permit.as_ref();
        let body = |txn: Transaction, live: LiveBucket| {
            let result = body(txn.clone(), live);
            held(permit, txn, result)
        };
        let body = &body;
        let run = || async move {
            match &self.open {
                None => self.catalog.write_data_once(label, caller, namespace, bucket, body).await,
                Some(open) => open.write_once(caller, namespace, bucket, body).await,
            }
        };
        self.refreshing(namespace, bucket, run).await
    }

    /// Runs a write. One that meets an index of older collation data has it built
    /// anew first, in a transaction of its own; that of BEGIN cannot go on over that.
    async fn refreshing<T, F>(
        &self,
        namespace: &str,
        bucket: &str,
        run: impl Fn() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let result = run().await;
        let Err(error @ Error::IndexStale { .. }) = result else { return result };
        let now = self.catalog.now();
        let refresh = |txn: Transaction, live: LiveBucket| async move {
            rebuild::refresh(&txn, &live, now).await
        };
        let refreshed = self.catalog.write_data("reindex", namespace, bucket, refresh).await?;
        if refreshed.value && !self.is_open() { run().await } else { Err(error) }
    }
}

/// Runs a body in a transaction that obeys what the user may do in its snapshot.
async fn held<T>(
    permit: Option<&Permit>,
    txn: Transaction,
    body: impl Future<Output = Result<T>>,
) -> Result<T> {
    if let Some(permit) = permit {
        permit.hold(&txn).await?;
    }
    body.await
}
