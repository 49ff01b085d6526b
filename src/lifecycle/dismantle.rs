//! Takes apart what was in a namespace that was purged.
//!
//! The flip has deleted the record of the namespace, so whatever is still below it is
//! out of reach of everybody: its ids lead to nothing and its names hang on nothing.
//! From there it goes in small transactions, each of which starts at the top anew:
//! down to a namespace that has none in it, its buckets, then itself. What is gone is
//! gone whole, with its prefix handed to the engine in the same commit, so a crash at
//! any point leaves a smaller tree and the same job.
//!
//! What had been removed on its own before gets its own grave and its own audit row;
//! for what was active the row of the namespace speaks.
//!
//! Not here: who takes the steps, and how fast (`worker::reclaim`).

use crate::codec::record::{self, GraveRecord, ReclaimRecord, RemovalRecord};
use crate::codec::{BucketId, NamespaceId, Object, ObjectKind, RemovalId, Versionstamp, keys};
use crate::error::Result;
use crate::metadata::bucket;
use crate::store::{self, RangeRead, Read, Transaction};

use super::bury::{self, Burial};
use super::remove::{Rows, unlist};
use super::{Lifecycle, copy};

/// Objects that one transaction takes.
const STEP: usize = 100;

/// What one step did.
#[derive(Debug, Default)]
pub struct Step {
    /// Nothing is left: the job is gone, too.
    pub done: bool,
    /// The buckets whose prefixes were handed to the engine.
    pub dropped: Vec<BucketId>,
    /// Buckets and namespaces that are gone.
    pub objects: u64,
}

/// A namespace on the way down.
struct Inside {
    id: NamespaceId,
    path: String,
    /// How its parent finds it.
    found: Found,
}

enum Found {
    /// It is the one that was purged.
    Top,
    /// By this pointer.
    Active(Vec<u8>),
    /// By its own removal.
    Removed(Box<OwnRemoval>),
}

/// A removal of something in it, from before.
struct OwnRemoval {
    id: RemovalId,
    version: Versionstamp,
    record: RemovalRecord,
    expires_at: Option<i64>,
}

/// The work of one step.
struct Work<'a> {
    txn: &'a Transaction,
    burial: Burial<'a>,
    job: ReclaimRecord,
    dropped: Vec<BucketId>,
    left: usize,
}

impl Lifecycle {
    /// Takes a part of what was in a purged namespace, in a transaction of the caller's.
    ///
    /// # Errors
    /// `PURGEPAUSED`, `CLOCKSUSPECT`; those of the store; damage.
    pub async fn dismantle(&self, txn: &Transaction, removal: RemovalId) -> Result<Step> {
        self.expect_destruction(txn).await?;
        let Some(job) = txn.get(&keys::reclaim(removal), Read::Conflict).await? else {
            return Ok(Step { done: true, ..Step::default() });
        };
        let job: ReclaimRecord = record::decode("reclaim", &job)?;
        let Object::Namespace(top) = job.object else { return Ok(Step::default()) };
        let by = match txn.get(&keys::grave(removal), Read::Snapshot).await? {
            Some(grave) => record::decode::<GraveRecord>("grave", &grave)?.purged_by,
            None => job.removed_by.clone(),
        };
        let now = self.catalog().now();
        let reason = format!("with the namespace {}", job.namespace_path);
        let burial = Burial {
            by: &by,
            now,
            grave_until: now.saturating_add(self.options().grave_retention_ms),
            reason: Some(&reason),
            order: 0,
        };
        let path = job.namespace_path.clone();
        let mut work = Work { txn, burial, job, dropped: Vec::new(), left: STEP };
        let done = work.take(Inside { id: top, path, found: Found::Top }).await?;
        let objects = u64::try_from(STEP.saturating_sub(work.left)).unwrap_or(u64::MAX);
        let Work { mut job, dropped, .. } = work;
        if done {
            txn.clear(&keys::reclaim(removal))?;
            unlist(txn, ObjectKind::Namespace, job.namespace, job.version)?;
        } else {
            job.dropped = true;
            txn.set(&keys::reclaim(removal), &record::encode(&job))?;
        }
        Ok(Step { done, dropped, objects })
    }
}

impl Work<'_> {
    /// Takes what it may; true when nothing is left.
    async fn take(&mut self, top: Inside) -> Result<bool> {
        let mut above: Vec<Inside> = Vec::new();
        let mut at = top;
        while self.left > 0 {
            if let Some(child) = self.first_namespace(&at).await? {
                above.push(at);
                at = child;
                continue;
            }
            self.take_buckets(&at).await?;
            self.take_removed_buckets(&at).await?;
            if self.left == 0 {
                break;
            }
            let Some(parent) = above.pop() else { return Ok(true) };
            self.take_namespace(at)?;
            at = parent;
        }
        Ok(false)
    }

    async fn first_namespace(&self, at: &Inside) -> Result<Option<Inside>> {
        let names = RangeRead::prefix(keys::namespace_name_prefix(at.id)).limit(1);
        if let Some((key, value)) = self.txn.range(names).await?.rows.first() {
            let (_, segment) = keys::parse_namespace_name(key)?;
            let id = NamespaceId(number("namespace/name", value)?);
            let path = format!("{}.{segment}", at.path);
            return Ok(Some(Inside { id, path, found: Found::Active(key.to_vec()) }));
        }
        let removed = keys::removed_in_namespace_prefix(ObjectKind::Namespace, at.id);
        let page = self.txn.range(RangeRead::prefix(removed).limit(1)).await?;
        let Some((key, _)) = page.rows.first() else { return Ok(None) };
        let own = self.own_removal(keys::parse_removed_by_name(key)?.2).await?;
        let id = NamespaceId(own.record.object.number());
        let path = format!("{}.{}", at.path, own.record.name);
        Ok(Some(Inside { id, path, found: Found::Removed(Box::new(own)) }))
    }

    async fn own_removal(&self, id: RemovalId) -> Result<OwnRemoval> {
        let missing = |what| crate::codec::DecodeError::new(what, format!("removal {id} has none"));
        let row = self.txn.get(&keys::removal(id), Read::Conflict).await?;
        let row = row.ok_or_else(|| missing("removal"))?;
        let (version, record) = record::decode_versioned("removal", &row)?;
        let retention = self.txn.get(&keys::retention(id), Read::Conflict).await?;
        let retention = retention.ok_or_else(|| missing("retention"))?;
        let record::RetentionRecord { expires_at, .. } = record::decode("retention", &retention)?;
        Ok(OwnRemoval { id, version, record, expires_at })
    }

    /// A namespace that nothing is in any more.
    fn take_namespace(&mut self, at: Inside) -> Result<()> {
        match at.found {
            Found::Top => {}
            Found::Active(pointer) => self.txn.clear(&pointer)?,
            Found::Removed(own) => self.end_removal(&own, &at.path, "")?,
        }
        bury::forget_namespace(self.txn, at.id)?;
        self.took();
        Ok(())
    }

    async fn take_buckets(&mut self, at: &Inside) -> Result<()> {
        let names = RangeRead::prefix(keys::bucket_name_prefix(at.id)).limit(self.left);
        for (key, value) in &self.txn.range(names).await?.rows {
            self.txn.clear(key)?;
            self.take_bucket(BucketId(number("bucket/name", value)?)).await?;
        }
        Ok(())
    }

    async fn take_removed_buckets(&mut self, at: &Inside) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        let removed = keys::removed_in_namespace_prefix(ObjectKind::Bucket, at.id);
        let page = self.txn.range(RangeRead::prefix(removed).limit(self.left)).await?;
        for (key, _) in &page.rows {
            let own = self.own_removal(keys::parse_removed_by_name(key)?.2).await?;
            self.end_removal(&own, &at.path, &own.record.name)?;
            self.take_bucket(BucketId(own.record.object.number())).await?;
        }
        Ok(())
    }

    async fn take_bucket(&mut self, id: BucketId) -> Result<()> {
        let txn = self.txn;
        // No data, then nothing is counted, due or queued either. Nobody writes to it any
        // more: no conflict is needed.
        let prefix = keys::data_prefix(id);
        let any = match txn.range(RangeRead::prefix(prefix.clone()).limit(1).snapshot()).await {
            Ok(page) => !page.rows.is_empty(),
            // A copy of it was taken in this transaction, and is no reader of it any more.
            Err(store::Error::AccessedUnreadable) => true,
            Err(error) => return Err(error.into()),
        };
        let mut ttl = false;
        if any {
            let counts = bucket::counts(txn, id).await?;
            self.job.documents = self.job.documents.saturating_add(counts.documents);
            self.job.bytes = self.job.bytes.saturating_add(counts.bytes);
            // Its source may have been taken out of here, and goes on.
            let record = bucket::read_record(txn, id, Read::Snapshot).await?;
            ttl = record.ttl.is_some();
            if let Some(of) = record.copy {
                copy::let_go(txn, id, of, self.burial.now).await?;
            }
        }
        bury::forget_bucket(txn, id, ttl).await?;
        if any {
            txn.drop_prefix(&prefix)?;
            self.dropped.push(id);
        }
        self.took();
        Ok(())
    }

    /// What had been removed on its own, and waited: it goes with the rest.
    fn end_removal(&mut self, own: &OwnRemoval, namespace: &str, bucket: &str) -> Result<()> {
        let OwnRemoval { id, version, record, expires_at } = own;
        Rows { removal: *id, record, expires_at: *expires_at }.clear(self.txn)?;
        unlist(self.txn, record.object.kind(), record.namespace, *version)?;
        bury::entomb(self.txn, *id, record, (namespace, bucket), &self.burial)?;
        self.burial.order += 1;
        Ok(())
    }

    fn took(&mut self) {
        self.job.objects += 1;
        self.left = self.left.saturating_sub(1);
    }
}

/// The id that a name pointer holds.
fn number(what: &'static str, value: &[u8]) -> Result<u64> {
    let bytes = <[u8; 8]>::try_from(value)
        .map_err(|_| crate::codec::DecodeError::new(what, "not eight bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}
