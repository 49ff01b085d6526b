//! How much namespaces with quotas hold, as this node counted last, and whether a write
//! still fits.
//!
//! A write asks what is in memory: it costs no read. What it asks is counted anew behind
//! it, so it is late by about a second and by how long counting takes: a quota is soft by
//! what is written meanwhile. It goes on being counted for half a minute, since other nodes
//! write as well. Where nobody writes nothing is counted, and a namespace that was never
//! counted lets the first writes through.
//!
//! Not here: who counts, and how often (`worker::usage`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::policy::{Policy, Quota};
use super::{Catalog, bucket, namespace};
use crate::codec::record::{self, RemovalRecord};
use crate::codec::{BucketId, NamespaceId, ObjectKind, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Transaction};

/// Objects looked at in one transaction.
const PAGE: usize = 200;
/// Buckets whose counters are read at the same time.
const READS_AT_ONCE: usize = 32;

/// Counts that follow the last one that was asked for: other nodes write, too.
const WARM: u32 = 30;

/// Documents and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Of active buckets.
    pub documents: i64,
    pub bytes: i64,
    /// Of buckets that are removed, or that lie in a removed namespace.
    pub removed_documents: i64,
    pub removed_bytes: i64,
}

impl Sums {
    /// How many of them count towards a quota: documents and bytes.
    #[must_use]
    pub const fn towards(&self, quota: &Quota) -> (i64, i64) {
        if !quota.counts_removed {
            return (self.documents, self.bytes);
        }
        (
            self.documents.saturating_add(self.removed_documents),
            self.bytes.saturating_add(self.removed_bytes),
        )
    }

    fn add(&mut self, counts: bucket::Counts, removed: bool) {
        if removed {
            self.removed_documents = self.removed_documents.saturating_add(counts.documents);
            self.removed_bytes = self.removed_bytes.saturating_add(counts.bytes);
        } else {
            self.documents = self.documents.saturating_add(counts.documents);
            self.bytes = self.bytes.saturating_add(counts.bytes);
        }
    }
}

/// What one namespace holds, as it was counted last.
#[derive(Debug)]
pub struct Usage {
    id: NamespaceId,
    sums: Mutex<Option<Sums>>,
    /// Somebody has asked since it was counted.
    asked: AtomicBool,
    /// How often it is still counted without being asked for.
    warm: AtomicU32,
    counted_at: AtomicI64,
    wake: Arc<Notify>,
}

impl Usage {
    /// The namespace.
    #[must_use]
    pub const fn id(&self) -> NamespaceId {
        self.id
    }

    /// Asks for it to be counted anew.
    pub fn ask(&self) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Whether it is to be counted now.
    fn take(&self) -> bool {
        if self.asked.swap(false, Ordering::Relaxed) {
            self.warm.store(WARM, Ordering::Relaxed);
            return true;
        }
        let less = |warm: u32| warm.checked_sub(1);
        self.warm.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// What was counted last, and when in cluster time; asks for it to be counted anew.
    #[must_use]
    pub fn last(&self) -> Option<(Sums, i64)> {
        self.ask();
        let sums = *self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.map(|sums| (sums, self.counted_at.load(Ordering::Relaxed)))
    }

    /// Notes what was counted.
    pub fn note(&self, sums: Sums, now: i64) {
        *self.sums.lock().unwrap_or_else(PoisonError::into_inner) = Some(sums);
        self.counted_at.store(now, Ordering::Relaxed);
    }
}

/// The namespaces with quotas that this node knows of. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Usages {
    known: Arc<Mutex<HashMap<NamespaceId, Arc<Usage>>>>,
    wake: Arc<Notify>,
}

impl Usages {
    /// That of a namespace, known from now on.
    #[must_use]
    pub fn of(&self, id: NamespaceId) -> Arc<Usage> {
        let fresh = || Usage {
            id,
            sums: Mutex::default(),
            asked: AtomicBool::new(false),
            warm: AtomicU32::new(0),
            counted_at: AtomicI64::new(0),
            wake: Arc::clone(&self.wake),
        };
        Arc::clone(self.known().entry(id).or_insert_with(|| Arc::new(fresh())))
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        self.wake.notified().await;
    }

    /// Asks for all of them: something was removed, restored or purged.
    pub fn ask_all(&self) {
        self.known().values().for_each(|usage| usage.ask());
    }

    /// Those that were asked for since they were counted last, or not long before. What no
    /// handle rests on any more is forgotten.
    #[must_use]
    pub fn take_asked(&self) -> Vec<Arc<Usage>> {
        let mut known = self.known();
        known.retain(|_, usage| {
            Arc::strong_count(usage) > 1
                || usage.asked.load(Ordering::Relaxed)
                || usage.warm.load(Ordering::Relaxed) > 0
        });
        known.values().filter(|usage| usage.take()).cloned().collect()
    }

    /// Whether any is to be counted again without being asked for.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.known().values().any(|usage| usage.warm.load(Ordering::Relaxed) > 0)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<NamespaceId, Arc<Usage>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What applies to a bucket, and how much the namespaces hold whose quotas do.
#[derive(Debug)]
pub struct Governed {
    pub policy: Policy,
    usages: Vec<Arc<Usage>>,
}

impl Governed {
    /// That of a policy; `None` where nothing is set.
    #[must_use]
    pub fn new(policy: Policy, usages: &Usages) -> Option<Arc<Self>> {
        if policy == Policy::default() {
            return None;
        }
        let usages = policy.quotas.iter().map(|quota| usages.of(quota.id)).collect();
        Some(Arc::new(Self { policy, usages }))
    }

    /// Refuses a write that adds so much, if a quota would be exceeded.
    ///
    /// # Errors
    /// `QUOTAEXCEEDED`.
    pub fn expect_room(&self, documents: i64, bytes: i64) -> Result<()> {
        if documents <= 0 && bytes <= 0 {
            // It makes room: the next write is to know.
            self.usages.iter().for_each(|usage| usage.ask());
            return Ok(());
        }
        for (quota, usage) in self.policy.quotas.iter().zip(&self.usages) {
            if let Some((sums, _)) = usage.last() {
                expect_room(quota, &sums, documents, bytes)?;
            }
        }
        Ok(())
    }
}

/// Refuses to add so much to what there is.
///
/// # Errors
/// `QUOTAEXCEEDED`.
pub fn expect_room(quota: &Quota, sums: &Sums, documents: i64, bytes: i64) -> Result<()> {
    let with = if quota.counts_removed { ", removed ones included" } else { "" };
    let exceeded = |used: i64, most: i64, what: &str| {
        Err(Error::QuotaExceeded(format!(
            "Namespace '{}': {used} of {most} {what} (counted up to a few seconds ago)",
            quota.path
        )))
    };
    let (used_documents, used_bytes) = sums.towards(quota);
    if let Some(most) = quota.documents
        && documents > 0
        && used_documents.saturating_add(documents) > most
    {
        return exceeded(used_documents, most, &format!("documents{with}"));
    }
    if let Some(most) = quota.bytes
        && bytes > 0
        && used_bytes.saturating_add(bytes) > most
    {
        return exceeded(used_bytes, most, &format!("bytes{with}"));
    }
    match quota.removed_bytes {
        Some(most) if sums.removed_bytes > most && (documents > 0 || bytes > 0) => exceeded(
            sums.removed_bytes,
            most,
            "removed bytes: purge something, or let it expire, before more is written",
        ),
        _ => Ok(()),
    }
}

/// Refuses to take a namespace to where these quotas count for it anew, if they are full already:
/// how much comes with it would have to be summed over all that is in it.
///
/// # Errors
/// `QUOTAEXCEEDED`.
pub fn expect_room_for_more<'a>(
    usages: &Usages,
    quotas: impl Iterator<Item = &'a Quota>,
) -> Result<()> {
    for quota in quotas {
        if let Some((sums, _)) = usages.of(quota.id).last() {
            // It is one of the removed ones that are too many.
            let quota = Quota { removed_bytes: None, ..quota.clone() };
            expect_room(&quota, &sums, 1, 1)?;
        }
    }
    Ok(())
}

/// A namespace on the way down.
struct Inside {
    id: NamespaceId,
    removed: bool,
}

/// Counts what is in a namespace, in short transactions, so that it is no snapshot.
///
/// # Errors
/// Those of the store; damage.
pub async fn count(catalog: &Catalog, id: NamespaceId) -> Result<Sums> {
    let mut sums = Sums::default();
    let record = catalog.read("usage", |txn: Transaction| async move {
        namespace::read_record(&txn, id, Read::Snapshot).await
    });
    let removed = match record.await {
        Ok(record) => record.state == record::State::Removed,
        Err(Error::NoSuchNamespace(_)) => return Ok(sums),
        Err(error) => return Err(error),
    };
    let mut below = vec![Inside { id, removed }];
    while let Some(at) = below.pop() {
        let names = [keys::bucket_name_prefix(at.id), keys::namespace_name_prefix(at.id)];
        for (prefix, is_bucket) in names.into_iter().zip([true, false]) {
            let mut next = Some(RangeRead::prefix(prefix).limit(PAGE).snapshot());
            while let Some(range) = next {
                let (ids, more) = active(catalog, &range).await?;
                take(catalog, &ids, is_bucket, at.removed, &mut sums, &mut below).await?;
                next = more;
            }
        }
        for kind in [ObjectKind::Bucket, ObjectKind::Namespace] {
            let prefix = keys::removed_in_namespace_prefix(kind, at.id);
            let mut next = Some(RangeRead::prefix(prefix).limit(PAGE).snapshot());
            while let Some(range) = next {
                let (ids, more) = removed_ones(catalog, &range).await?;
                let is_bucket = kind == ObjectKind::Bucket;
                take(catalog, &ids, is_bucket, true, &mut sums, &mut below).await?;
                next = more;
            }
        }
    }
    Ok(sums)
}

async fn take(
    catalog: &Catalog,
    ids: &[u64],
    is_bucket: bool,
    removed: bool,
    sums: &mut Sums,
    below: &mut Vec<Inside>,
) -> Result<()> {
    if !is_bucket {
        below.extend(ids.iter().map(|id| Inside { id: NamespaceId(*id), removed }));
        return Ok(());
    }
    for part in ids.chunks(READS_AT_ONCE) {
        let counts = catalog
            .read("usage", |txn: Transaction| async move {
                let txn = &txn;
                let reads = part.iter().map(|id| bucket::counts(txn, BucketId(*id)));
                crate::store::join_all(reads).await
            })
            .await?;
        for counts in counts {
            sums.add(counts, removed);
        }
    }
    Ok(())
}

type Ids = (Vec<u64>, Option<RangeRead>);

/// The ids that a page of names points at.
async fn active(catalog: &Catalog, range: &RangeRead) -> Result<Ids> {
    catalog
        .read("usage", |txn: Transaction| async move {
            let page = txn.range(range.clone()).await?;
            let ids = page.rows.iter().map(|(_, id)| namespace::parse_object_id("name", id));
            Ok((ids.collect::<Result<Vec<u64>>>()?, range.after(&page)))
        })
        .await
}

/// The objects of a page of removals.
async fn removed_ones(catalog: &Catalog, range: &RangeRead) -> Result<Ids> {
    catalog
        .read("usage", |txn: Transaction| async move {
            let txn = &txn;
            let page = txn.range(range.clone()).await?;
            let mut ids = Vec::with_capacity(page.rows.len());
            for (key, _) in &page.rows {
                let (_, _, removal) = keys::parse_removed_by_name(key)?;
                let Some(row) = txn.get(&keys::removal(removal), Read::Snapshot).await? else {
                    continue;
                };
                let (_, row) = record::decode_versioned::<RemovalRecord>("removal", &row)?;
                ids.push(row.object.number());
            }
            Ok((ids, range.after(&page)))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota() -> Quota {
        let path = "shop".into();
        let (documents, bytes, removed_bytes) = (Some(10), Some(100), None);
        Quota { id: NamespaceId(1), path, documents, bytes, removed_bytes, counts_removed: true }
    }

    #[test]
    fn what_is_removed_counts_if_the_quota_says_so() {
        let sums = Sums { documents: 4, bytes: 40, removed_documents: 6, removed_bytes: 20 };
        let (with, without) = (quota(), Quota { counts_removed: false, ..quota() });
        let error = expect_room(&with, &sums, 1, 1).map_err(|error| error.to_line());
        let said = "QUOTAEXCEEDED Namespace 'shop': 10 of 10 documents, removed ones included \
                    (counted up to a few seconds ago)";
        assert_eq!(error, Err(said.to_owned()));
        assert!(expect_room(&without, &sums, 1, 1).is_ok());
        assert!(expect_room(&without, &sums, 6, 60).is_ok());
        assert!(expect_room(&without, &sums, 6, 61).is_err());
        // What takes away, and what only changes, always fits.
        assert!(expect_room(&with, &sums, 0, 0).is_ok());
        assert!(expect_room(&with, &sums, -1, -10).is_ok());
        let full = Quota { removed_bytes: Some(19), ..without };
        assert!(
            expect_room(&full, &sums, 1, 1).is_err() && expect_room(&full, &sums, 0, -1).is_ok()
        );
    }

    #[tokio::test]
    async fn what_is_asked_for_is_counted_for_a_while_and_what_nobody_needs_forgotten() {
        let usages = Usages::default();
        let usage = usages.of(NamespaceId(1));
        assert!(usages.take_asked().is_empty() && !usages.is_warm());
        assert_eq!(usage.last(), None);
        usages.asked().await;
        for _ in 0..=WARM {
            assert_eq!(usages.take_asked().len(), 1);
        }
        assert!(usages.take_asked().is_empty() && !usages.is_warm());
        usage.note(Sums { documents: 3, ..Sums::default() }, 9);
        assert_eq!(usage.last().map(|(sums, at)| (sums.documents, at)), Some((3, 9)));
        drop(usage);
        for _ in 0..WARM + 2 {
            let _counted = usages.take_asked();
        }
        assert!(usages.known().is_empty());
    }
}
