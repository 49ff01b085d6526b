//! The catalog: what commands call to change or read metadata, each a
//! transaction of its own, and the runner of data transactions.

use std::future::Future;
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::access::Right;
use crate::cluster::Cluster;
use crate::cluster::mutation::Mutations;
use crate::codec::record::BucketRecord;
use crate::codec::{BucketId, RemovalId, keys};
use crate::error::{Error, Result};
use crate::store::{Outcome, Read, Resolve, Store, Transaction};

use super::bucket;
use super::bucket::NewBucket;
use super::cache::{Handles, LiveBucket};
use super::name::{DEPTH_MAX, Path};
use super::namespace;
use super::operation::{Caller, Operation};
use super::policy::{self, Policy, Settings};
use super::relocate::Move;

/// How a catalog is set up.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// The namespace in which sessions start; it always exists.
    pub default_namespace: Path,
    /// Most bucket handles kept in memory.
    pub handles_max: usize,
    /// How long changes are kept in a bucket's log, in milliseconds.
    pub changes_retention_ms: i64,
    /// What applies where no policy says otherwise.
    pub settings: Settings,
    pub mutations: Mutations,
}

/// Namespaces and buckets of the store. One for each node; cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    cluster: Cluster,
    handles: Handles,
    default_namespace: Path,
    changes_retention_ms: i64,
    settings: Settings,
}

impl Catalog {
    /// A catalog over a store, on behalf of a member of the cluster. Creates
    /// the default namespace if it is missing.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(store: Store, cluster: Cluster, options: CatalogOptions) -> Result<Self> {
        let handles = Handles::new(options.handles_max, options.mutations);
        let inner = Inner {
            store,
            cluster,
            handles,
            default_namespace: options.default_namespace,
            changes_retention_ms: options.changes_retention_ms,
            settings: options.settings,
        };
        let catalog = Self(Arc::new(inner));
        let caller = Caller::system("start");
        let path = catalog.default_namespace().clone();
        match catalog.create_namespace(&caller, &path).await {
            Ok(()) | Err(Error::NamespaceAlreadyExists(_)) => Ok(catalog),
            Err(error) => Err(error),
        }
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    #[must_use]
    pub fn handles(&self) -> &Handles {
        &self.0.handles
    }

    #[must_use]
    pub fn default_namespace(&self) -> &Path {
        &self.0.default_namespace
    }

    /// What applies where no policy says otherwise.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Refuses to take the default namespace away, or one above it.
    ///
    /// # Errors
    /// `ERR Cannot <what> the default namespace`.
    pub fn expect_not_default(&self, what: &str, path: &Path) -> Result<()> {
        let default = self.default_namespace();
        if default.is_within(path) {
            return Err(Error::syntax(format!("Cannot {what} the default namespace: '{default}'")));
        }
        Ok(())
    }

    /// Cluster time, in milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.0.cluster.time().now()
    }

    /// The time that has surely come: what expires by it has expired. Promises
    /// are stamped with [`Catalog::now`], which may be ahead of it.
    #[must_use]
    pub fn certain_now(&self) -> i64 {
        self.0.cluster.time().certain()
    }

    /// Runs a metadata transaction under an operation row: if the operation was
    /// committed before, the stored result is the answer and `body` does not
    /// run. Without an `OPID` a row is written only on engines whose commits
    /// can have unknown results.
    ///
    /// # Errors
    /// Those of the body and of the store.
    pub async fn run<T, F>(
        &self,
        label: &'static str,
        caller: &Caller,
        mut body: impl FnMut(Transaction) -> F,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Clone,
        F: Future<Output = Result<T>>,
    {
        let body = |txn: Transaction| {
            let result = body(txn);
            async move {
                let value = result.await?;
                Ok((Some(value.clone()), value))
            }
        };
        self.run_recording(label, caller, |recorded| recorded, body).await
    }

    /// As [`Catalog::run`], for commands that may have to wait and go on with
    /// the same operation: the body gives what is to be recorded, if anything,
    /// and its value; `replay` makes a value of what was recorded before.
    ///
    /// # Errors
    /// Those of the body and of the store.
    pub async fn run_recording<R, T, F>(
        &self,
        label: &'static str,
        caller: &Caller,
        replay: impl Fn(R) -> T,
        mut body: impl FnMut(Transaction) -> F,
    ) -> Result<T>
    where
        R: Serialize + DeserializeOwned,
        F: Future<Output = Result<(Option<R>, T)>>,
    {
        let operation = match &caller.operation {
            Some(operation) => Some(operation.clone()),
            None if self.0.store.commit_may_be_unknown() => {
                Some(Operation::internal(self.0.cluster.ids().next().await?))
            }
            None => None,
        };
        let (operation, replay, actor) = (operation.as_ref(), &replay, &caller.actor);
        let outcome = self
            .0
            .store
            .run(label, Resolve::Idempotent, |txn: Transaction| {
                let result = body(txn.clone());
                async move {
                    caller.hold(&txn).await?;
                    if let Some(operation) = operation
                        && let Some(result) = operation.replay(&txn, actor).await?
                    {
                        return Ok(replay(result));
                    }
                    let (recorded, value) = result.await?;
                    if let Some((operation, recorded)) = operation.zip(recorded) {
                        operation.record(&txn, actor, &recorded, self.now())?;
                    }
                    Ok::<T, Error>(value)
                }
            })
            .await?;
        Ok(outcome.value)
    }

    /// Runs a transaction that only reads.
    ///
    /// # Errors
    /// Those of the body and of the store.
    pub async fn read<T, F>(
        &self,
        label: &'static str,
        body: impl FnMut(Transaction) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        Ok(self.0.store.run(label, Resolve::Idempotent, body).await?.value)
    }

    /// Runs a transaction that writes documents of one bucket. The body gets the
    /// bucket as the transaction's snapshot has it, and its commit fails if the
    /// bucket is removed before. An unknown result is resolved by an attempt
    /// slot, so that nothing is applied twice (protocol.md, rule 21).
    ///
    /// # Errors
    /// Those of [`Handles::open`], of the body and of the store.
    pub async fn write_data<T, F>(
        &self,
        label: &'static str,
        path: &str,
        name: &str,
        body: impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<Outcome<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let body = &body;
        self.past_pauses(|waited| self.try_write_data(label, (path, name), waited, body)).await
    }

    async fn try_write_data<T, F>(
        &self,
        label: &'static str,
        (path, name): (&str, &str),
        waited: Option<RemovalId>,
        body: &impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<Outcome<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let (resolve, _slot) = self.0.cluster.slots().resolve(&self.0.store);
        let now = self.now();
        let trim_at = self.trim_due_at(now);
        let outcome = self
            .0
            .store
            .run(label, resolve, |txn: Transaction| async move {
                let live = self.0.handles.open(&txn, path, name).await?;
                live.expect_writable(now, waited)?;
                let value = body(txn.clone(), live.clone()).await?;
                // Who writes changes sees to it that they are trimmed one day.
                if live.trim_scheduled_until() <= now {
                    bucket::schedule_trim(&txn, live.id(), trim_at)?;
                }
                Ok::<_, Error>((value, live))
            })
            .await?;
        let (value, live) = outcome.value;
        if live.trim_scheduled_until() <= now {
            live.note_trim_scheduled(trim_at);
        }
        Ok(Outcome { value, committed: outcome.committed, attempts: outcome.attempts })
    }

    /// As [`Catalog::write_data`], for a command whose client chose an operation
    /// id: sent again it gets the stored result, whatever has become of the bucket
    /// since.
    ///
    /// # Errors
    /// Those of [`Handles::open`], of the body and of the store; `ERR` when the
    /// id was used for another command.
    pub async fn write_data_once<T, F>(
        &self,
        label: &'static str,
        caller: &Caller,
        path: &str,
        name: &str,
        body: impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Clone,
        F: Future<Output = Result<T>>,
    {
        let body = &body;
        let write = |waited: Option<RemovalId>| {
            let now = self.now();
            let trim_at = self.trim_due_at(now);
            self.run(label, caller, move |txn: Transaction| async move {
                let live = self.0.handles.open(&txn, path, name).await?;
                live.expect_writable(now, waited)?;
                bucket::schedule_trim(&txn, live.id(), trim_at)?;
                body(txn, live).await
            })
        };
        self.past_pauses(write).await
    }

    /// When a trim that a write at `now` schedules is due.
    pub(super) fn trim_due_at(&self, now: i64) -> i64 {
        trim_due_at(now, self.0.changes_retention_ms)
    }

    /// Runs a transaction that only reads documents of one bucket.
    ///
    /// # Errors
    /// Those of [`Handles::open`], of the body and of the store.
    pub async fn read_data<T, F>(
        &self,
        label: &'static str,
        path: &str,
        name: &str,
        body: impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let body = &body;
        self.read(label, |txn: Transaction| async move {
            let live = self.0.handles.open(&txn, path, name).await?;
            body(txn, live).await
        })
        .await
    }

    /// Creates a namespace and what is missing above it.
    ///
    /// # Errors
    /// `NAMESPACEALREADYEXISTS`.
    pub async fn create_namespace(&self, caller: &Caller, path: &Path) -> Result<()> {
        let ids = self.ids_for(Some(path)).await?;
        let (now, ids) = (self.now(), &ids);
        self.run("create-namespace", caller, |txn: Transaction| async move {
            let txn = &txn;
            namespace::create(txn, path, ids, now).await
        })
        .await
    }

    /// Ids for the namespaces of a path, as many as may be missing: they are made
    /// before the first attempt.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn ids_for(&self, path: Option<&Path>) -> Result<Vec<u64>> {
        let mut ids = Vec::with_capacity(DEPTH_MAX);
        for _ in path.into_iter().flat_map(Path::segments) {
            ids.push(self.0.cluster.ids().next().await?);
        }
        Ok(ids)
    }

    /// Gives a namespace another path, with all that is in it. What is missing above
    /// that is made.
    ///
    /// # Errors
    /// Those of [`Move::run`]; `ERR` for the default namespace.
    pub async fn move_namespace(
        &self,
        caller: &Caller,
        from: &Path,
        to: &Path,
        bypass: bool,
    ) -> Result<()> {
        self.expect_not_default("move", from)?;
        let ids = self.ids_for(Some(to)).await?;
        let asked = &Move::new(
            (from, to),
            &ids,
            (self.settings(), self.handles().usages()),
            bypass,
            self.now(),
        );
        self.run("move-namespace", caller, |txn: Transaction| async move {
            let txn = &txn;
            asked.run(txn, caller).await
        })
        .await
    }

    /// Protects a namespace, and with it those above it, against REMOVE, or lifts the
    /// protection.
    ///
    /// # Errors
    /// `NOSUCHNAMESPACE`, `NAMESPACEBEINGREMOVED`.
    pub async fn protect_namespace(
        &self,
        caller: &Caller,
        path: &Path,
        protected: bool,
    ) -> Result<()> {
        let now = self.now();
        self.run("protect-namespace", caller, |txn: Transaction| async move {
            let txn = &txn;
            namespace::protect(txn, caller, path, protected, now).await
        })
        .await
    }

    /// Changes the policy of a namespace.
    ///
    /// # Errors
    /// Those of [`policy::change`].
    pub async fn change_policy(
        &self,
        caller: &Caller,
        path: &Path,
        changes: &[policy::Change],
    ) -> Result<()> {
        let (now, settings) = (self.now(), self.settings());
        self.run("namespace-policy", caller, |txn: Transaction| async move {
            policy::change(&txn, caller, path, changes, settings, now).await
        })
        .await
    }

    /// Whether a namespace exists and is active.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn namespace_exists(&self, path: &Path) -> Result<bool> {
        self.read("namespace", |txn: Transaction| async move {
            let txn = &txn;
            match namespace::resolve(txn, path, Read::Snapshot).await {
                Ok(_) => Ok(true),
                Err(Error::NoSuchNamespace(_)) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Creates a bucket. With no shards named it gets one, chosen by its id.
    /// With `if_not_exists` an active bucket of that name is a success.
    ///
    /// # Errors
    /// `NOSUCHNAMESPACE`, `BUCKETALREADYEXISTS`, `BUCKETBEINGREMOVED` for a
    /// reserved name.
    pub async fn create_bucket(
        &self,
        caller: &Caller,
        path: &Path,
        name: &str,
        new: &NewBucket,
    ) -> Result<()> {
        let count = self.0.cluster.shard_count();
        let shards = new.shards.as_deref();
        if let Some(unknown) = shards.and_then(|ids| ids.iter().find(|id| **id >= count)) {
            return Err(Error::syntax(format!("No route found for Bucket shard: {unknown}")));
        }
        let id = BucketId(self.0.cluster.ids().next().await?);
        // One shard, so that a small bucket has one change log; the id spreads
        // the buckets over the shards.
        let chosen = shards.map_or_else(
            || vec![u16::try_from(id.0 % u64::from(count)).unwrap_or(0)],
            <[u16]>::to_vec,
        );
        let (now, chosen) = (self.now(), &chosen);
        self.run("create-bucket", caller, |txn: Transaction| async move {
            let txn = &txn;
            let namespace = namespace::resolve(txn, path, Read::Snapshot).await?;
            namespace.conflict_on_fences(txn)?;
            if new.tombstone_retention.is_some() {
                let above = namespace::lineage(txn, namespace.id(), Read::Snapshot).await?;
                let policy = Policy::of(&above.chain);
                policy.expect_own(None, new.tombstone_retention, self.settings())?;
                if policy.own_is_shorter(new.tombstone_retention, self.settings()) {
                    // Whatever anybody deletes in it goes sooner than is usual.
                    caller.expect(Right::Purge)?;
                }
            }
            match bucket::expect_free(txn, namespace.id(), name).await {
                Ok(()) => bucket::create(txn, &namespace, name, id, chosen.clone(), new, now),
                Err(Error::BucketAlreadyExists(_)) if new.if_not_exists => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Gives a bucket another name.
    ///
    /// # Errors
    /// `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`, `BUCKETALREADYEXISTS`.
    pub async fn rename_bucket(
        &self,
        caller: &Caller,
        path: &Path,
        from: &str,
        to: &str,
    ) -> Result<()> {
        let now = self.now();
        self.run("rename-bucket", caller, |txn: Transaction| async move {
            let txn = &txn;
            let namespace = namespace::resolve(txn, path, Read::Conflict).await?;
            bucket::rename(txn, caller, &namespace, from, to, now).await
        })
        .await
    }

    /// Protects a bucket against REMOVE, or lifts the protection.
    ///
    /// # Errors
    /// `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`.
    pub async fn protect_bucket(
        &self,
        caller: &Caller,
        path: &Path,
        name: &str,
        protected: bool,
    ) -> Result<()> {
        let now = self.now();
        self.run("protect-bucket", caller, |txn: Transaction| async move {
            let txn = &txn;
            let namespace = namespace::resolve(txn, path, Read::Conflict).await?;
            bucket::protect(txn, caller, &namespace, name, protected, now).await
        })
        .await
    }

    /// The record of an active bucket, as it is now.
    ///
    /// # Errors
    /// As [`Handles::open`].
    pub async fn bucket(&self, path: &str, name: &str) -> Result<(BucketId, BucketRecord)> {
        self.read_data("bucket", path, name, |_, bucket| async move {
            Ok((bucket.id(), bucket.record().clone()))
        })
        .await
    }

    /// The fence of an object, as it is now: when it was last changed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn fence(&self, object: u64) -> Result<Option<crate::codec::Versionstamp>> {
        self.read("fence", |txn: Transaction| async move {
            let txn = &txn;
            let value = txn.get(&keys::fence(object), Read::Snapshot).await?;
            Ok(value.map(|value| crate::codec::Versionstamp::decode(&value)).transpose()?)
        })
        .await
    }
}

/// When a trim that a write at `now` schedules is due: behind the retention,
/// rounded up to a quarter of it, so that many writers schedule the same row.
fn trim_due_at(now: i64, retention_ms: i64) -> i64 {
    let step = (retention_ms / 4).max(1_000);
    (now.saturating_add(retention_ms) / step).saturating_add(1).saturating_mul(step)
}
