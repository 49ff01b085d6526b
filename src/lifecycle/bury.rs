//! What the flip writes: metadata gone, a grave, and a job for what is left.
//!
//! A bucket leaves its prefix behind, a namespace what is in it. Nothing of either
//! can be reached from here on: a bucket has no record, and what lies below a
//! namespace without a record is found neither by path nor by id. The reclaimer
//! takes it apart, each object a job of its own.

use crate::cluster::journal;
use crate::codec::record::{
    self, Actor, Event, EventKind, GraveRecord, ReclaimRecord, RemovalRecord,
};
use crate::codec::{BucketId, NamespaceId, Object, RemovalId, keys};
use crate::document::replica;
use crate::error::Result;
use crate::index;
use crate::metadata::audit::{self, Entry};
use crate::metadata::bucket;
use crate::store::Transaction;

use super::target::{Instance, Removed};
use super::{copy, lock, park};

/// When something is buried, and by whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Burial<'a> {
    pub(super) by: &'a Actor,
    pub(super) now: i64,
    pub(super) grave_until: i64,
    pub(super) reason: Option<&'a str>,
    /// Tells the events of one transaction apart.
    pub(super) order: u16,
}

/// Deletes the metadata of a removed instance and of its removal, leaves a grave, and
/// hands what is left to the reclaimer.
///
/// # Errors
/// Those of the store; damage.
pub(super) async fn bury(txn: &Transaction, removed: &Removed, burial: &Burial<'_>) -> Result<()> {
    let (object, record) = (removed.object(), &removed.record);
    let (namespace, bucket_name) = removed.place();
    let counts = match object {
        // Frozen since the removal: no conflict is needed.
        Object::Bucket(id) => bucket::counts(txn, id).await?,
        Object::Namespace(_) => bucket::Counts::default(),
    };
    removed.rows().clear(txn)?;
    if !removed.retention.promise.is_none() {
        lock::let_go(txn, removed).await?;
    }
    match &removed.instance {
        Instance::Bucket(found) => {
            let id = BucketId(object.number());
            if let Some(of) = found.copy {
                copy::let_go(txn, id, of, burial.now).await?;
            }
            forget_bucket(txn, id, found.ttl.is_some()).await?;
        }
        Instance::Namespace(_) => {
            let id = NamespaceId(object.number());
            park::stop_waking(txn, id)?;
            forget_namespace(txn, id)?;
        }
    }
    entomb(txn, removed.removal, record, (&namespace, bucket_name), burial)?;
    let job = ReclaimRecord {
        object,
        version: removed.version,
        namespace: record.namespace,
        namespace_path: namespace,
        name: record.name.clone(),
        removed_at: record.removed_at,
        removed_by: record.removed_by.clone(),
        reason: record.reason.clone(),
        purged_at: burial.now,
        documents: counts.documents,
        bytes: counts.bytes,
        dropped: false,
        objects: 0,
        last_error: None,
    };
    txn.set(&keys::reclaim(removed.removal), &record::encode(&job))?;
    Ok(())
}

/// Leaves a grave, and tells journal and audit log. `place` is the namespace and the
/// bucket as the audit log has them.
///
/// # Errors
/// Those of the store.
pub(super) fn entomb(
    txn: &Transaction,
    removal: RemovalId,
    record: &RemovalRecord,
    (namespace, bucket): (&str, &str),
    burial: &Burial<'_>,
) -> Result<()> {
    let Burial { by, now, grave_until, reason, order } = *burial;
    let object = record.object;
    let grave = GraveRecord {
        object,
        namespace: record.namespace,
        namespace_path: namespace.to_owned(),
        name: record.name.clone(),
        removed_at: record.removed_at,
        purged_at: now,
        purged_by: by.clone(),
        until: grave_until,
    };
    txn.set(&keys::grave(removal), &record::encode(&grave))?;
    let number = removal.0.to_be_bytes();
    txn.set(&keys::expiry(grave_until, keys::due::GRAVE, &number), b"")?;
    let event = Event { kind: EventKind::Purged, object: object.number(), removal: Some(removal) };
    journal::append(txn, order, &event)?;
    let entry = Entry {
        action: "purge",
        namespace,
        bucket,
        id: Some(object),
        removal: Some(removal),
        reason,
    };
    audit::append(txn, order, by, now, &entry, "OK", 1)
}

/// Deletes what a bucket has beside its data and its name: record, fence, busy rows,
/// and what is due or queued for it, with its TTL if it has one.
///
/// # Errors
/// Those of the store.
pub(super) async fn forget_bucket(txn: &Transaction, id: BucketId, ttl: bool) -> Result<()> {
    park::unschedule_bucket(txn, id, ttl).await?;
    index::task::forget_bucket(txn, id)?;
    replica::forget_bucket(txn, id)?;
    txn.clear(&keys::bucket_record(id))?;
    forget_fence(txn, id.0)
}

/// Deletes what a namespace has beside its name and what is in it.
///
/// # Errors
/// Those of the store.
pub(super) fn forget_namespace(txn: &Transaction, id: NamespaceId) -> Result<()> {
    let (begin, end) = keys::range(&keys::parked_prefix(id));
    txn.clear_range(&begin, &end)?;
    txn.clear(&keys::namespace_record(id))?;
    forget_fence(txn, id.0)
}

fn forget_fence(txn: &Transaction, object: u64) -> Result<()> {
    txn.clear(&keys::fence(object))?;
    let (begin, end) = keys::range(&keys::busy_prefix(object));
    txn.clear_range(&begin, &end)?;
    Ok(())
}
