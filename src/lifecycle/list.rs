//! Listing what is removed and what is purging.

use crate::codec::record::{self, HoldRecord, ReclaimRecord};
use crate::codec::{BucketId, NamespaceId, Object, ObjectKind, RemovalId, Versionstamp, keys};
use crate::error::Result;
use crate::metadata::Path;
use crate::metadata::bucket;
use crate::metadata::namespace;
use crate::store::{RangeRead, Read, Transaction};

use super::Lifecycle;
use super::lock::Locked;
use super::target::{self, Target};

/// Rows looked at in one transaction.
const PAGE: usize = 100;

/// One removed or purging instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub removal: RemovalId,
    pub object: Object,
    /// The path: of a bucket of what it was removed from, of a namespace its own.
    pub namespace: String,
    pub name: String,
    /// Its metadata are gone; its bytes are being given back.
    pub purging: bool,
    pub removed_at: i64,
    pub removed_by: String,
    pub reason: Option<String>,
    pub expires_at: Option<i64>,
    /// It has expired, and nothing keeps it.
    pub expired: bool,
    pub hold: Option<HoldRecord>,
    /// What keeps it from being purged now.
    pub locked: Option<Locked>,
    pub documents: i64,
    pub bytes: i64,
    pub version: Versionstamp,
}

/// Which removals to list.
#[derive(Debug, Clone)]
pub struct Filter {
    pub kind: ObjectKind,
    /// Those directly in this namespace, active or removed; without it those of all.
    pub within: Option<Target>,
    pub name: Option<String>,
    pub by: Option<String>,
    pub after: Option<i64>,
    pub before: Option<i64>,
    pub expiring_before: Option<i64>,
    pub newest_first: bool,
    /// Only this one.
    pub only: Option<RemovalId>,
}

impl Filter {
    /// All of one kind.
    #[must_use]
    pub const fn new(kind: ObjectKind, within: Option<Target>) -> Self {
        Self {
            kind,
            within,
            name: None,
            by: None,
            after: None,
            before: None,
            expiring_before: None,
            newest_first: false,
            only: None,
        }
    }

    fn admits(&self, listed: &Listed) -> bool {
        self.only.is_none_or(|only| only == listed.removal)
            && self.name.as_ref().is_none_or(|name| *name == listed.name)
            && self.by.as_ref().is_none_or(|by| *by == listed.removed_by)
            && self.after.is_none_or(|at| listed.removed_at > at)
            && self.before.is_none_or(|at| listed.removed_at < at)
            && self
                .expiring_before
                .is_none_or(|at| listed.expires_at.is_some_and(|expires| expires < at))
    }
}

impl Lifecycle {
    /// Removed and purging instances in the filter's order, behind `after` if given, at
    /// most `limit`; and where to go on, `None` when there are no more.
    ///
    /// Reads in short transactions: what is removed or restored meanwhile may
    /// or may not be listed.
    ///
    /// # Errors
    /// `NOSUCHNAMESPACE`; those of the store.
    pub async fn removed(
        &self,
        filter: &Filter,
        after: Option<Versionstamp>,
        limit: usize,
    ) -> Result<(Vec<Listed>, Option<Versionstamp>)> {
        if let (Some(only), None) = (filter.only, &filter.within) {
            let row = self.listed(only).await?.filter(|row| row.object.kind() == filter.kind);
            return Ok((row.into_iter().filter(|row| filter.admits(row)).collect(), None));
        }
        let now = self.catalog().certain_now();
        let mut listed = Vec::new();
        let mut position = after;
        loop {
            let (rows, more) = self
                .catalog()
                .read("removed", |txn: Transaction| async move {
                    let txn = &txn;
                    let id = match &filter.within {
                        Some(within) => target::namespace(txn, within).await?.id(),
                        None => NamespaceId::ROOT,
                    };
                    page(txn, filter, id, position, now).await
                })
                .await?;
            for (version, row) in rows {
                if listed.len() == limit {
                    return Ok((listed, position));
                }
                position = Some(version);
                listed.extend(row.filter(|row| filter.admits(row)));
            }
            if !more {
                return Ok((listed, None));
            }
        }
    }

    /// One instance, removed or purging.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn listed(&self, removal: RemovalId) -> Result<Option<Listed>> {
        let now = self.catalog().certain_now();
        self.catalog()
            .read("removed", |txn: Transaction| async move { read(&txn, removal, now).await })
            .await
    }
}

type Row = (Versionstamp, Option<Listed>);

async fn page(
    txn: &Transaction,
    filter: &Filter,
    namespace: NamespaceId,
    after: Option<Versionstamp>,
    now: i64,
) -> Result<(Vec<Row>, bool)> {
    let (begin, end) = keys::range(&keys::removed_by_time_prefix(filter.kind, namespace));
    let last = after.map(|at| keys::removed_by_time(filter.kind, namespace, at));
    let range = if filter.newest_first {
        RangeRead::new(begin, last.unwrap_or(end)).reverse()
    } else {
        RangeRead::new(last.map_or(begin, |last| keys::next(&last)), end)
    };
    let page = txn.range(range.limit(PAGE).snapshot()).await?;
    let mut rows = Vec::with_capacity(page.rows.len());
    for (key, value) in &page.rows {
        let (_, version) = keys::parse_removed_by_time(key)?;
        let number = <[u8; 8]>::try_from(&value[..])
            .map_err(|_| crate::codec::DecodeError::new("removed-by-time", "not eight bytes"))?;
        let removal = RemovalId(u64::from_be_bytes(number));
        rows.push((version, read(txn, removal, now).await?));
    }
    Ok((rows, page.more))
}

async fn read(txn: &Transaction, removal: RemovalId, now: i64) -> Result<Option<Listed>> {
    if let Some(removed) = target::read(txn, removal, Read::Snapshot).await? {
        let counts = match removed.object() {
            Object::Bucket(id) => bucket::counts(txn, id).await?,
            Object::Namespace(_) => bucket::Counts::default(),
        };
        return Ok(Some(Listed {
            removal,
            object: removed.object(),
            namespace: removed.place().0,
            expires_at: removed.expires_at(),
            expired: removed.is_expired(now),
            locked: removed.locked(now, false),
            name: removed.record.name,
            purging: false,
            removed_at: removed.record.removed_at,
            removed_by: removed.record.removed_by.user,
            reason: removed.record.reason,
            hold: removed.hold,
            documents: counts.documents,
            bytes: counts.bytes,
            version: removed.version,
        }));
    }
    let Some(value) = txn.get(&keys::reclaim(removal), Read::Snapshot).await? else {
        return Ok(None);
    };
    let job: ReclaimRecord = record::decode("reclaim", &value)?;
    Ok(Some(Listed {
        removal,
        object: job.object,
        namespace: job.namespace_path,
        name: job.name,
        purging: true,
        removed_at: job.removed_at,
        removed_by: job.removed_by.user,
        reason: job.reason,
        expires_at: None,
        expired: true,
        hold: None,
        locked: None,
        documents: job.documents,
        bytes: job.bytes,
        version: job.version,
    }))
}

impl Lifecycle {
    /// How many shards have witnessed a version, and how many there are.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn witnessed(&self, version: Versionstamp) -> Result<(usize, usize)> {
        let count = self.catalog().cluster().shard_count();
        let witnessed = self
            .catalog()
            .read("witnessed", |txn: Transaction| async move {
                let txn = &txn;
                let witnesses = RangeRead::prefix(keys::kind_prefix(keys::kind::WITNESS));
                let page = txn.range(witnesses.limit(usize::from(count)).snapshot()).await?;
                let mut witnessed = 0;
                for (_, value) in &page.rows {
                    witnessed += usize::from(Versionstamp::decode(value)? >= version);
                }
                Ok(witnessed)
            })
            .await?;
        Ok((witnessed, usize::from(count)))
    }

    /// How far the engine has come with the bytes of a purged bucket.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn reclaim_progress(&self, bucket: BucketId) -> Result<crate::store::Reclaim> {
        Ok(self.catalog().store().reclaim_progress(&keys::data_prefix(bucket)).await?)
    }

    /// The reclaim jobs there are, at most `limit`; with a target only its own.
    ///
    /// # Errors
    /// Those of [`target::resolve`].
    pub async fn reclaim_jobs(
        &self,
        here: &Path,
        target: Option<&Target>,
        limit: usize,
    ) -> Result<Vec<(RemovalId, ReclaimRecord)>> {
        self.catalog()
            .read("reclaim-jobs", |txn: Transaction| async move {
                let txn = &txn;
                if let Some(target) = target {
                    let removal = purging(txn, here, target).await?;
                    let value = match removal {
                        Some(removal) => txn.get(&keys::reclaim(removal), Read::Snapshot).await?,
                        None => None,
                    };
                    return removal
                        .zip(value)
                        .map(|(removal, value)| Ok((removal, record::decode("reclaim", &value)?)))
                        .into_iter()
                        .collect();
                }
                let mut jobs = Vec::new();
                let all = RangeRead::prefix(keys::kind_prefix(keys::kind::RECLAIM)).snapshot();
                let mut next = Some(all);
                while let Some(range) = next {
                    let page = txn.range(range.clone()).await?;
                    for (key, value) in &page.rows {
                        let removal = RemovalId(keys::parse_number("reclaim", key)?);
                        jobs.push((removal, record::decode("reclaim", value)?));
                        if jobs.len() == limit {
                            return Ok(jobs);
                        }
                    }
                    next = range.after(&page);
                }
                Ok(jobs)
            })
            .await
    }
}

/// The removal that a target of PURGE.STATUS means, when it is purging or purged.
async fn purging(txn: &Transaction, here: &Path, target: &Target) -> Result<Option<RemovalId>> {
    if let Target::Name(name) = target {
        // A purging bucket has no name any more, but its job knows the one it had.
        let here = namespace::resolve(txn, here, Read::Snapshot).await?.id();
        let all = RangeRead::prefix(keys::kind_prefix(keys::kind::RECLAIM)).snapshot();
        let mut next = Some(all);
        while let Some(range) = next {
            let page = txn.range(range.clone()).await?;
            for (key, value) in &page.rows {
                let job: ReclaimRecord = record::decode("reclaim", value)?;
                if job.namespace == here && job.name == *name {
                    return Ok(Some(RemovalId(keys::parse_number("reclaim", key)?)));
                }
            }
            next = range.after(&page);
        }
        return Ok(None);
    }
    // A removal id may be of either kind.
    if let Target::Removal(removal) = target
        && txn.get(&keys::reclaim(*removal), Read::Snapshot).await?.is_some()
    {
        return Ok(Some(*removal));
    }
    match target::resolve(txn, here, target, false).await? {
        target::Resolved::Gone(removal) => Ok(Some(removal)),
        target::Resolved::Removed(_) => Ok(None),
    }
}
