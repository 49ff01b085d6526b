//! Handles on active buckets, and the fence that makes them safe.
//!
//! A handle is what a node remembers of a bucket: its id, shards, and the
//! fences of the bucket and of every namespace above it. In each transaction:
//!
//! 1. The metadata version of the snapshot, which costs nothing to read, equals
//!    the stamp of the handle: nothing that invalidates handles has happened
//!    since the handle was checked, so it holds.
//! 2. Else the fences are read. All as they were: the handle holds and gets the
//!    new stamp. One differs or is absent: the handle is thrown away and the
//!    names are resolved again.
//! 3. Always the fences join the transaction's read conflicts, so that a REMOVE
//!    which commits first makes this commit fail.
//!
//! # Invariants
//!
//! * Only active buckets have handles; absence is never cached.
//! * An absent fence never equals anything (protocol.md, rule 3).
//! * Only [`Handles::open`] makes a [`LiveBucket`], and it is good for the
//!   transaction it was opened in and no other.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::Equivalent;

use crate::cluster::mutation::Mutations;
use crate::codec::duration::Retention;
use crate::codec::record::{self, BucketRecord};
use crate::codec::{BucketId, NamespaceId, ObjectKind, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Transaction};
use crate::value::Collator;

use super::indexes::Indexes;
use super::name::Path;
use super::namespace::{self, parse_object_id};
use super::policy::{Applied, Kept, NOTHING, Policy, retention};
use super::usage::{Governed, Usages};

/// What is remembered of an active bucket.
#[derive(Debug)]
struct Handle {
    id: BucketId,
    namespace: NamespaceId,
    path: Arc<str>,
    name: Arc<str>,
    record: BucketRecord,
    indexes: Arc<Indexes>,
    collator: Option<Collator>,
    /// What the policies of its namespaces say; `None`: nothing.
    governed: Option<Arc<Governed>>,
    /// By how much its own clock is behind cluster time.
    stood_still_ms: i64,
    fences: Vec<(Vec<u8>, Versionstamp)>,
    /// The metadata version at which the fences were last seen unchanged.
    stamp: Mutex<Versionstamp>,
    /// Until when (cluster time) a trim of the change log is scheduled.
    trim_scheduled_until: AtomicI64,
}

/// An active bucket, in the transaction in which it was opened.
#[derive(Debug, Clone)]
pub struct LiveBucket(Arc<Handle>, Mutations);

impl LiveBucket {
    #[must_use]
    pub fn id(&self) -> BucketId {
        self.0.id
    }

    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        self.0.namespace
    }

    /// The path of the namespace, as it was resolved.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The shards among which documents are spread; never empty.
    #[must_use]
    pub fn shards(&self) -> &[u16] {
        &self.0.record.shards
    }

    #[must_use]
    pub fn record(&self) -> &BucketRecord {
        &self.0.record
    }

    /// The keys that are written when it is no longer what it is now: its own
    /// fence and those of the namespaces above it.
    #[must_use]
    pub fn fence_keys(&self) -> Vec<Vec<u8>> {
        self.0.fences.iter().map(|(key, _)| key.clone()).collect()
    }

    /// How long deleted documents are kept where a command does not say: as the
    /// bucket says, else as the policies of its namespaces do, else as the setting does.
    #[must_use]
    pub fn tombstone_retention(&self, setting: Retention) -> Retention {
        retention(self.applied_to_documents(setting).ms)
    }

    /// The same, and by whom.
    #[must_use]
    pub fn applied_to_documents(&self, setting: Retention) -> Applied {
        let own = self.0.record.tombstone_retention.map(Retention::from);
        self.policy().applied(Kept::Documents, own, setting)
    }

    /// By how much the bucket's own clock is behind cluster time: as long as it and the
    /// namespaces above it have been removed.
    #[must_use]
    pub fn stood_still_ms(&self) -> i64 {
        self.0.stood_still_ms
    }

    /// Its indexes, parsed.
    #[must_use]
    pub fn indexes(&self) -> &Arc<Indexes> {
        &self.0.indexes
    }

    /// How strings are compared where a query does not say; `None`: by their bytes.
    #[must_use]
    pub fn collator(&self) -> Option<&Collator> {
        self.0.collator.as_ref()
    }

    /// The deliberate mistakes of tests.
    pub(crate) const fn mutations(&self) -> Mutations {
        self.1
    }

    /// What the policies of its namespaces say.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        self.0.governed.as_ref().map_or(&NOTHING, |governed| &governed.policy)
    }

    /// The same with how much those namespaces hold; `None`: nothing is set.
    #[must_use]
    pub fn governed(&self) -> Option<&Arc<Governed>> {
        self.0.governed.as_ref()
    }

    /// Until when (milliseconds of cluster time) this handle knows that a trim
    /// of the change log is scheduled.
    #[must_use]
    pub fn trim_scheduled_until(&self) -> i64 {
        self.0.trim_scheduled_until.load(Ordering::Relaxed)
    }

    /// Notes that a trim is scheduled. To be called only after the commit that
    /// scheduled it.
    pub fn note_trim_scheduled(&self, until: i64) {
        self.0.trim_scheduled_until.fetch_max(until, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    path: Arc<str>,
    bucket: Arc<str>,
}

#[derive(Debug)]
struct NameRef<'a> {
    path: &'a str,
    bucket: &'a str,
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
        self.bucket.hash(state);
    }
}

impl Hash for NameRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
        self.bucket.hash(state);
    }
}

impl Equivalent<Name> for NameRef<'_> {
    fn equivalent(&self, key: &Name) -> bool {
        *self.path == *key.path && *self.bucket == *key.bucket
    }
}

/// A bounded cache of handles.
#[derive(Debug)]
pub struct Handles {
    cache: quick_cache::sync::Cache<Name, Arc<Handle>>,
    /// Under which name a bucket's handle is, so that a removal finds it. May
    /// know of handles that are gone.
    names: Mutex<HashMap<BucketId, Name>>,
    capacity: usize,
    mutations: Mutations,
    usages: Usages,
}

impl Handles {
    /// A cache of at most about `capacity` handles.
    #[must_use]
    pub fn new(capacity: usize, mutations: Mutations) -> Self {
        let capacity = capacity.max(1);
        let cache = quick_cache::sync::Cache::new(capacity);
        Self { cache, names: Mutex::default(), capacity, mutations, usages: Usages::default() }
    }

    /// Opens the active bucket that a name means in this transaction's snapshot.
    ///
    /// With a handle in the cache and no change of metadata since, this costs
    /// no read at all.
    ///
    /// # Errors
    /// `NOSUCHNAMESPACE`; `NOSUCHBUCKET`, or `BUCKETBEINGREMOVED` when a removed
    /// instance has that name.
    pub async fn open(&self, txn: &Transaction, path: &str, bucket: &str) -> Result<LiveBucket> {
        let now = txn.metadata_version().await?;
        let wanted = NameRef { path, bucket };
        if let Some(handle) = self.cache.get(&wanted) {
            if self.holds(txn, &handle, now).await? {
                return self.admit(txn, handle);
            }
            self.cache.remove(&wanted);
        }
        let handle = Arc::new(self.load(txn, path, bucket, now).await?);
        let name = Name { path: handle.path.clone(), bucket: handle.name.clone() };
        self.note_name(handle.id, name.clone());
        self.cache.insert(name, handle.clone());
        self.admit(txn, handle)
    }

    /// Opens an active bucket by its id, for background work. Reads the record.
    ///
    /// # Errors
    /// `NOSUCHBUCKET` when the instance or a namespace above it is gone,
    /// `BUCKETBEINGREMOVED` when it is removed, `NAMESPACEBEINGREMOVED` when only
    /// a namespace above it is.
    pub async fn open_id(&self, txn: &Transaction, id: BucketId) -> Result<LiveBucket> {
        let now = txn.metadata_version().await?;
        let record = super::bucket::read_record(txn, id, Read::Snapshot).await?;
        let above = match namespace::lineage(txn, record.namespace, Read::Snapshot).await {
            Err(Error::NoSuchNamespace(_)) => return Err(Error::NoSuchBucket(id.to_string())),
            above => above?,
        };
        // The pointer tells whether the instance is active under that name.
        let pointer = keys::bucket_name(record.namespace, &record.name);
        let active = match txn.get(&pointer, Read::Snapshot).await? {
            Some(value) => parse_object_id("bucket/name", &value)? == id.0,
            None => false,
        };
        if !active {
            return Err(Error::BucketBeingRemoved(record.name));
        }
        above.expect_active()?;
        let handle = handle(txn, id, record, (&above, &self.usages), now).await?;
        self.admit(txn, Arc::new(handle))
    }

    /// Whether an instance that another transaction opened under this name is
    /// still the active one of that name, as of this transaction's snapshot.
    ///
    /// # Errors
    /// As [`Handles::open`]; as [`Handles::open_id`] when the name means another
    /// instance now.
    pub async fn expect_active(
        &self,
        txn: &Transaction,
        path: &str,
        bucket: &str,
        opened: &LiveBucket,
    ) -> Result<()> {
        let now = self.open(txn, path, bucket).await?;
        if now.id() != opened.id() {
            self.open_id(txn, opened.id()).await?;
        }
        Ok(())
    }

    async fn load(
        &self,
        txn: &Transaction,
        path: &str,
        bucket: &str,
        now: Versionstamp,
    ) -> Result<Handle> {
        // Snapshot reads suffice: whatever changes the meaning of a name writes the
        // fence of what had it, and those fences are among our conflicts.
        let path = Path::parse(path.as_bytes())?;
        let found = namespace::resolve(txn, &path, Read::Snapshot).await?;
        let pointer = keys::bucket_name(found.id(), bucket);
        let Some(value) = txn.get(&pointer, Read::Snapshot).await? else {
            return Err(missing(txn, found.id(), bucket).await?);
        };
        let id = BucketId(parse_object_id("bucket/name", &value)?);
        let value = txn.get(&keys::bucket_record(id), Read::Snapshot).await?.ok_or_else(|| {
            crate::codec::DecodeError::new(
                "bucket/record",
                format!("{id} has a name but no record"),
            )
        })?;
        let record: BucketRecord = record::decode("bucket/record", &value)?;
        let above = namespace::lineage(txn, found.id(), Read::Snapshot).await?;
        handle(txn, id, record, (&above, &self.usages), now).await
    }

    fn admit(&self, txn: &Transaction, handle: Arc<Handle>) -> Result<LiveBucket> {
        if !self.mutations.no_fence_conflict {
            for (key, _) in &handle.fences {
                txn.add_read_conflict_key(key)?;
            }
        }
        Ok(LiveBucket(handle, self.mutations))
    }

    /// What the namespaces hold that have quotas.
    #[must_use]
    pub const fn usages(&self) -> &Usages {
        &self.usages
    }

    pub(super) const fn mutations(&self) -> Mutations {
        self.mutations
    }

    async fn holds(&self, txn: &Transaction, handle: &Handle, now: Versionstamp) -> Result<bool> {
        let stamp = *handle.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp == now || self.mutations.level_one_ignores_metadata_version {
            return Ok(true);
        }
        for (key, expected) in &handle.fences {
            let found = txn.get(key, Read::Snapshot).await?;
            let equal = match found {
                Some(value) => Versionstamp::decode(&value)? == *expected,
                None => self.mutations.absent_fence_equals,
            };
            if !equal {
                return Ok(false);
            }
        }
        *handle.stamp.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(true)
    }

    /// Drops the handle on a bucket. Not needed for safety, which the fence
    /// gives: it frees the memory.
    pub fn forget(&self, bucket: BucketId) {
        let name = self.names().remove(&bucket);
        if let Some(name) = name {
            self.cache.remove(&name);
        }
    }

    fn note_name(&self, bucket: BucketId, name: Name) {
        let mut names = self.names();
        names.insert(bucket, name);
        if names.len() > 2 * self.capacity {
            names.retain(|_, name| self.cache.peek(name).is_some());
        }
    }

    fn names(&self) -> MutexGuard<'_, HashMap<BucketId, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many handles there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }
}

async fn read_fences(txn: &Transaction, objects: &[u64]) -> Result<Vec<(Vec<u8>, Versionstamp)>> {
    let mut fences = Vec::with_capacity(objects.len());
    for object in objects {
        let key = keys::fence(*object);
        let value = txn.get(&key, Read::Snapshot).await?.ok_or_else(|| {
            crate::codec::DecodeError::new(
                "fence",
                format!("object {object} is active without one"),
            )
        })?;
        fences.push((key, Versionstamp::decode(&value)?));
    }
    Ok(fences)
}

/// The bucket's default collation, ready to compare.
fn collator(record: &BucketRecord) -> Result<Option<Collator>> {
    let collator = record.collation.as_ref().map(Collator::of).transpose();
    Ok(collator.map_err(|error| crate::codec::DecodeError::new("bucket/record", error))?)
}

/// A handle on an active bucket, from what a transaction has read of it.
async fn handle(
    txn: &Transaction,
    id: BucketId,
    record: BucketRecord,
    (above, usages): (&namespace::Lineage, &Usages),
    now: Versionstamp,
) -> Result<Handle> {
    let collator = collator(&record)?;
    let mut objects: Vec<u64> = above.chain.iter().map(|(id, _)| id.0).collect();
    objects.push(id.0);
    Ok(Handle {
        id,
        namespace: above.id(),
        path: above.path().into(),
        name: record.name.as_str().into(),
        indexes: Arc::new(Indexes::of(&record)),
        stood_still_ms: record.stood_still_ms.saturating_add(above.stood_still_ms()),
        record,
        collator,
        governed: Governed::new(Policy::of(&above.chain), usages),
        fences: read_fences(txn, &objects).await?,
        stamp: Mutex::new(now),
        trim_scheduled_until: AtomicI64::new(0),
    })
}

/// Why no active bucket has this name.
///
/// # Errors
/// Those of the store.
pub(super) async fn missing(
    txn: &Transaction,
    namespace: NamespaceId,
    bucket: &str,
) -> Result<Error> {
    let removed =
        RangeRead::prefix(keys::removed_by_name_prefix(ObjectKind::Bucket, namespace, bucket))
            .limit(1);
    let page = txn.range(removed.snapshot()).await?;
    Ok(if page.rows.is_empty() {
        Error::NoSuchBucket(bucket.to_owned())
    } else {
        Error::BucketBeingRemoved(bucket.to_owned())
    })
}
