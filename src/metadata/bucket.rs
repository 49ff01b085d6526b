//! Buckets: creating, listing, describing, renaming, protecting.
//!
//! Functions here work inside a transaction of the caller's and neither retry
//! nor commit. Removing and restoring are the business of `lifecycle`.

use crate::cluster::journal;
use crate::codec::collation::Collation;
use crate::codec::duration::Retention;
use crate::codec::record::{self, BucketRecord, Event, EventKind, IndexRecord, KeepRecord};
use crate::codec::{BucketId, NamespaceId, ObjectKind, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Transaction};

use super::audit::{self, Entry};
use super::cache::missing;
use super::guard;
use super::namespace::{self, Resolved, parse_object_id};
use super::operation::Caller;

/// An active bucket as a metadata transaction found it, read with conflict.
#[derive(Debug, Clone)]
pub struct Found {
    pub id: BucketId,
    pub record: BucketRecord,
}

/// Finds the active bucket of a name, with conflicts on pointer and record.
///
/// # Errors
/// `NOSUCHBUCKET`, or `BUCKETBEINGREMOVED` when a removed instance has the name.
pub async fn find(txn: &Transaction, namespace: NamespaceId, name: &str) -> Result<Found> {
    match find_active(txn, namespace, name).await? {
        Some(found) => Ok(found),
        None => Err(missing(txn, namespace, name).await?),
    }
}

/// As [`find`], but `None` when no active bucket has the name.
///
/// # Errors
/// Those of the store.
pub async fn find_active(
    txn: &Transaction,
    namespace: NamespaceId,
    name: &str,
) -> Result<Option<Found>> {
    let pointer = keys::bucket_name(namespace, name);
    let Some(value) = txn.get(&pointer, Read::Conflict).await? else { return Ok(None) };
    let id = BucketId(parse_object_id("bucket/name", &value)?);
    Ok(Some(Found { id, record: read_record(txn, id, Read::Conflict).await? }))
}

/// The record of an instance, active or removed.
///
/// # Errors
/// `NOSUCHBUCKET` with the id when there is none.
pub async fn read_record(txn: &Transaction, id: BucketId, read: Read) -> Result<BucketRecord> {
    let value = txn
        .get(&keys::bucket_record(id), read)
        .await?
        .ok_or_else(|| Error::NoSuchBucket(id.to_string()))?;
    Ok(record::decode("bucket/record", &value)?)
}

/// Refuses a name that an active bucket has or that a removal keeps reserved.
///
/// # Errors
/// `BUCKETALREADYEXISTS`, or `BUCKETBEINGREMOVED` when reserved.
pub async fn expect_free(txn: &Transaction, namespace: NamespaceId, name: &str) -> Result<()> {
    if txn.get(&keys::bucket_name(namespace, name), Read::Conflict).await?.is_some() {
        return Err(Error::BucketAlreadyExists(name.to_owned()));
    }
    if txn
        .get(&keys::reserved_name(ObjectKind::Bucket, namespace, name), Read::Conflict)
        .await?
        .is_some()
    {
        return Err(Error::BucketBeingRemoved(name.to_owned()));
    }
    Ok(())
}

/// What a new bucket is to be.
#[derive(Debug, Clone, Default)]
pub struct NewBucket {
    /// Its shards; none: one is chosen.
    pub shards: Option<Vec<u16>>,
    /// How its strings are compared where nothing else is said.
    pub collation: Option<Collation>,
    /// Its indexes: it is empty, so they are ready.
    pub indexes: Vec<IndexRecord>,
    /// Values of other types than its indexes declare are taken.
    pub loose_types: bool,
    /// How long deleted documents are kept; none: as the server's setting says.
    pub tombstone_retention: Option<Retention>,
    /// An active bucket of the name is as good, whatever its settings.
    pub if_not_exists: bool,
}

/// Writes a new active bucket: its pointer, its record and its own fence, and
/// nothing that another bucket's command reads. The caller has checked that the
/// name is free and conflicts on the fences of the namespaces.
///
/// # Errors
/// Those of the store.
pub fn create(
    txn: &Transaction,
    namespace: &Resolved,
    name: &str,
    id: BucketId,
    shards: Vec<u16>,
    new: &NewBucket,
    now: i64,
) -> Result<()> {
    let next_index = new.indexes.iter().map(|index| index.id).max().unwrap_or(0) + 1;
    let record = BucketRecord {
        collation: new.collation.clone(),
        indexes: new.indexes.clone(),
        next_index,
        strict_types: !new.loose_types,
        tombstone_retention: new.tombstone_retention.map(KeepRecord::from),
        ..BucketRecord::new(namespace.id(), name, shards, now)
    };
    write_new(txn, id, &record)
}

/// Writes the pointer, the record and the fence of a new active bucket.
///
/// # Errors
/// Those of the store.
pub fn write_new(txn: &Transaction, id: BucketId, record: &BucketRecord) -> Result<()> {
    txn.set(&keys::bucket_name(record.namespace, &record.name), &id.0.to_be_bytes())?;
    txn.set(&keys::bucket_record(id), &record::encode(record))?;
    txn.set_versionstamped_value(&keys::fence(id.0), &Versionstamp::placeholder())?;
    Ok(())
}

/// Refuses to change a copy that is being made.
///
/// # Errors
/// `ERR`.
pub fn expect_no_copy(name: &str, record: &BucketRecord) -> Result<()> {
    if record.copy.is_none() {
        return Ok(());
    }
    Err(Error::syntax(format!(
        "Bucket '{name}' is a copy that is being made: it is read-only until BUCKET.SWAP"
    )))
}

/// Refuses to change the indexes of a bucket that is being copied, or of a copy.
///
/// # Errors
/// `ERR`.
pub async fn expect_same_indexes(txn: &Transaction, found: &Found) -> Result<()> {
    expect_no_copy(&found.record.name, &found.record)?;
    // With conflict: of a COPY at the same time one comes second.
    let copies = RangeRead::prefix(keys::copy::queued_prefix(found.id)).limit(1);
    let page = txn.range(copies).await?;
    let Some((key, _)) = page.rows.first() else { return Ok(()) };
    let (_, copy) = keys::copy::parse_queued(key)?;
    let copy = read_record(txn, copy, Read::Snapshot).await?.name;
    Err(Error::syntax(format!(
        "Bucket '{}' is being copied to '{copy}': swap the copy or remove it before its indexes change",
        found.record.name
    )))
}

/// Makes every cached handle and plan on an object invalid: protocol.md, rule 4.
///
/// # Errors
/// Those of the store.
pub fn invalidate(txn: &Transaction, object: u64) -> Result<()> {
    txn.set_versionstamped_value(&keys::fence(object), &Versionstamp::placeholder())?;
    txn.touch_metadata_version()?;
    Ok(())
}

/// Gives the active bucket another name in the same namespace.
///
/// # Errors
/// `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`, `BUCKETALREADYEXISTS`.
pub async fn rename(
    txn: &Transaction,
    caller: &Caller,
    namespace: &Resolved,
    from: &str,
    to: &str,
    now: i64,
) -> Result<()> {
    namespace.conflict_on_fences(txn)?;
    let mut found = find(txn, namespace.id(), from).await?;
    expect_free(txn, namespace.id(), to).await?;
    to.clone_into(&mut found.record.name);
    txn.clear(&keys::bucket_name(namespace.id(), from))?;
    txn.set(&keys::bucket_name(namespace.id(), to), &found.id.0.to_be_bytes())?;
    txn.set(&keys::bucket_record(found.id), &record::encode(&found.record))?;
    invalidate(txn, found.id.0)?;
    let event = Event { kind: EventKind::Changed, object: found.id.0, removal: None };
    journal::append(txn, 0, &event)?;
    let entry = Entry {
        action: "rename",
        namespace: namespace.path.as_str(),
        bucket: from,
        id: Some(found.id.into()),
        removal: None,
        reason: Some(to),
    };
    audit::append(txn, 0, &caller.actor, now, &entry, "OK", 1)
}

/// Sets or lifts the protection against REMOVE.
///
/// # Errors
/// `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`.
pub async fn protect(
    txn: &Transaction,
    caller: &Caller,
    namespace: &Resolved,
    name: &str,
    protected: bool,
    now: i64,
) -> Result<()> {
    namespace.conflict_on_fences(txn)?;
    let mut found = find(txn, namespace.id(), name).await?;
    if found.record.protected == protected {
        return Ok(());
    }
    found.record.protected = protected;
    if protected {
        guard::raise(txn, guard::PROTECTION, &namespace.chain, found.id.0)?;
    } else {
        let above = namespace::lineage(txn, namespace.id(), Read::Conflict).await?;
        guard::lower(txn, guard::PROTECTION, &above, found.id.0).await?;
    }
    let action = if protected { "protect" } else { "unprotect" };
    write_changed(txn, caller, namespace, &found, (action, None), now)
}

/// Writes the record of an active bucket after a change of what its handles
/// rest on, and tells everybody: protocol.md, rule 4. The action and what it was
/// about go into the audit log.
///
/// # Errors
/// Those of the store.
pub fn write_changed(
    txn: &Transaction,
    caller: &Caller,
    namespace: &Resolved,
    found: &Found,
    (action, reason): (&str, Option<&str>),
    now: i64,
) -> Result<()> {
    txn.set(&keys::bucket_record(found.id), &record::encode(&found.record))?;
    invalidate(txn, found.id.0)?;
    let event = Event { kind: EventKind::Changed, object: found.id.0, removal: None };
    journal::append(txn, 0, &event)?;
    let entry = Entry {
        action,
        namespace: namespace.path.as_str(),
        bucket: &found.record.name,
        id: Some(found.id.into()),
        removal: None,
        reason,
    };
    audit::append(txn, 0, &caller.actor, now, &entry, "OK", 1)
}

/// One page of active bucket names of a namespace in byte order, behind `after`
/// if given, and whether there are more.
///
/// # Errors
/// Those of the store.
pub async fn names(
    txn: &Transaction,
    namespace: NamespaceId,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<(String, BucketId)>, bool)> {
    let (begin, end) = keys::range(&keys::bucket_name_prefix(namespace));
    let begin = after.map_or(begin, |name| keys::next(&keys::bucket_name(namespace, name)));
    let page = txn.range(RangeRead::new(begin, end).limit(limit).snapshot()).await?;
    let names = page
        .rows
        .iter()
        .map(|(key, value)| {
            let id = BucketId(parse_object_id("bucket/name", value)?);
            Ok((keys::parse_bucket_name(key)?.1, id))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((names, page.more))
}

/// How much a bucket holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub documents: i64,
    pub bytes: i64,
    pub tombstones: i64,
}

/// Sums the counters of a bucket, as of the transaction's snapshot.
///
/// # Errors
/// Those of the store.
pub async fn counts(txn: &Transaction, id: BucketId) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut next = Some(RangeRead::prefix(keys::data_part(id, keys::data::COUNT)).snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (key, value) in &page.rows {
            let (_, _, what) = keys::parse_count(key)?;
            let sum = record::decode_sum("count", Some(value))?;
            match what {
                keys::counted::DOCUMENTS => counts.documents += sum,
                keys::counted::BYTES => counts.bytes += sum,
                keys::counted::TOMBSTONES => counts.tombstones += sum,
                _ => {}
            }
        }
        next = range.after(&page);
    }
    Ok(counts)
}

/// Schedules a trim of the change log, as part of a write to the bucket.
///
/// # Errors
/// Those of the store.
pub fn schedule_trim(txn: &Transaction, id: BucketId, at: i64) -> Result<()> {
    txn.set(&keys::trim(id, at), b"")?;
    txn.set(&keys::expiry(at, keys::due::TRIM, &id.0.to_be_bytes()), b"")?;
    Ok(())
}

/// Takes a trim off the schedule, as part of a write to the bucket.
///
/// # Errors
/// Those of the store.
pub fn unschedule_trim(txn: &Transaction, id: BucketId, at: i64) -> Result<()> {
    txn.clear(&keys::trim(id, at))?;
    txn.clear(&keys::expiry(at, keys::due::TRIM, &id.0.to_be_bytes()))?;
    Ok(())
}

/// When trims of a bucket are scheduled. Frozen while the bucket is removed.
///
/// # Errors
/// Those of the store.
pub async fn scheduled_trims(txn: &Transaction, id: BucketId) -> Result<Vec<i64>> {
    let mut times = Vec::new();
    let mut next = Some(RangeRead::prefix(keys::data_part(id, keys::data::TRIM)).snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (key, _) in &page.rows {
            times.push(keys::parse_trim(key)?.1);
        }
        next = range.after(&page);
    }
    Ok(times)
}

/// Schedules a look for expired tombstones, as part of a write to the bucket.
///
/// # Errors
/// Those of the store.
pub fn schedule_vacuum(txn: &Transaction, id: BucketId, at: i64) -> Result<()> {
    txn.set(&keys::vacuum(id, at), b"")?;
    txn.set(&keys::expiry(at, keys::due::VACUUM, &id.0.to_be_bytes()), b"")?;
    Ok(())
}

/// Takes a look for expired tombstones off the schedule, as part of a write to the bucket.
///
/// # Errors
/// Those of the store.
pub fn unschedule_vacuum(txn: &Transaction, id: BucketId, at: i64) -> Result<()> {
    txn.clear(&keys::vacuum(id, at))?;
    txn.clear(&keys::expiry(at, keys::due::VACUUM, &id.0.to_be_bytes()))?;
    Ok(())
}

/// When looks for expired tombstones are scheduled. Frozen while the bucket is removed.
///
/// # Errors
/// Those of the store.
pub async fn scheduled_vacuums(txn: &Transaction, id: BucketId) -> Result<Vec<i64>> {
    let mut times = Vec::new();
    let mut next = Some(RangeRead::prefix(keys::data_part(id, keys::data::VACUUM)).snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (key, _) in &page.rows {
            times.push(keys::parse_vacuum(key)?.1);
        }
        next = range.after(&page);
    }
    Ok(times)
}
