//! REMOVE: hide an instance at once, destroy nothing.

use serde::{Deserialize, Serialize};

use crate::cluster::journal;
use crate::codec::duration::Retention;
use crate::codec::record::{
    self, Event, EventKind, RemovalRecord, RequestRecord, RetentionRecord, State,
};
use crate::codec::{BucketId, NamespaceId, RemovalId, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::metadata::audit::{self, Entry};
use crate::metadata::bucket::{self, Counts, Found};
use crate::metadata::namespace::{self, Resolved};
use crate::metadata::{Caller, Path};
use crate::store::{Read, Transaction};

use super::{Lifecycle, copy, note_removal};

/// Until when a removed instance is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As the settings say.
    Default,
    For(Retention),
    /// Milliseconds since 1970.
    Until(i64),
}

impl Keep {
    /// The absolute expiry of something removed at `now`; `None` means never.
    ///
    /// # Errors
    /// `RETENTIONOUTOFRANGE` for an instant that has passed.
    pub fn expires_at(self, now: i64, default: Retention) -> Result<Option<i64>> {
        match self {
            Self::Default => Self::For(default).expires_at(now, default),
            Self::For(Retention::Forever) => Ok(None),
            Self::For(Retention::For(duration)) => {
                Ok(Some(now.saturating_add(crate::clock::milliseconds(duration))))
            }
            Self::Until(at) if at < now => Err(Error::RetentionOutOfRange(format!(
                "the time {} has passed; it is {}",
                crate::codec::duration::format_instant(at),
                crate::codec::duration::format_instant(now)
            ))),
            Self::Until(at) => Ok(Some(at)),
        }
    }
}

/// What REMOVE was asked to do.
#[derive(Debug, Clone)]
pub struct RemoveRequest {
    pub namespace: Path,
    pub bucket: String,
    pub keep: Keep,
    pub reason: Option<String>,
    pub reserve_name: bool,
    pub if_exists: bool,
    pub dry_run: bool,
}

/// What REMOVE did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    pub removal: RemovalId,
    pub bucket: BucketId,
    pub removed_at: i64,
    pub expires_at: Option<i64>,
}

/// The rows of one removal, as REMOVE writes them and RESTORE and the flip
/// take them away.
pub(super) struct Rows<'a> {
    pub(super) removal: RemovalId,
    pub(super) record: &'a RemovalRecord,
    pub(super) expires_at: Option<i64>,
}

impl Rows<'_> {
    fn write(&self, txn: &Transaction) -> Result<()> {
        let RemovalRecord { bucket, namespace, name, .. } = self.record;
        let id = self.removal.0.to_be_bytes();
        txn.set_versionstamped_value(
            &keys::removal(self.removal),
            &record::encode_versioned_now(self.record),
        )?;
        let retention = RetentionRecord { expires_at: self.expires_at };
        txn.set(&keys::retention(self.removal), &record::encode(&retention))?;
        txn.set_versionstamped_value(
            &keys::removed_by_name(*namespace, name, self.removal),
            &Versionstamp::placeholder(),
        )?;
        // Once for its namespace, and once for the listing of all of them.
        for listed in [*namespace, NamespaceId::ROOT] {
            txn.set_versionstamped_key(&keys::removed_by_time_now(listed), &id)?;
        }
        txn.set(&keys::removal_of(bucket.0), &id)?;
        if let Some(at) = self.expires_at {
            txn.set(&keys::expiry(at, keys::due::REMOVAL, &id), b"")?;
        }
        if self.record.reserved {
            txn.set(&keys::reserved_name(*namespace, name), &id)?;
        }
        Ok(())
    }

    /// Takes away what makes the instance removed. The rows that list it by
    /// time stay: the caller says when they go.
    pub(super) fn clear(&self, txn: &Transaction) -> Result<()> {
        let RemovalRecord { namespace, name, .. } = self.record;
        let id = self.removal.0.to_be_bytes();
        txn.clear(&keys::removal(self.removal))?;
        txn.clear(&keys::retention(self.removal))?;
        txn.clear(&keys::hold(self.removal))?;
        txn.clear(&keys::request(self.removal))?;
        txn.clear(&keys::removed_by_name(*namespace, name, self.removal))?;
        if let Some(at) = self.expires_at {
            txn.clear(&keys::expiry(at, keys::due::REMOVAL, &id))?;
        }
        if self.record.reserved {
            txn.clear(&keys::reserved_name(*namespace, name))?;
        }
        Ok(())
    }
}

/// Takes a removal off the listings by time.
pub(super) fn unlist(
    txn: &Transaction,
    namespace: NamespaceId,
    version: Versionstamp,
) -> Result<()> {
    for listed in [namespace, NamespaceId::ROOT] {
        txn.clear(&keys::removed_by_time(listed, version))?;
    }
    Ok(())
}

/// How one instance is removed: decided before the first attempt.
#[derive(Debug, Clone)]
pub(super) struct Plan<'a> {
    pub(super) caller: &'a Caller,
    pub(super) removal: RemovalId,
    pub(super) now: i64,
    pub(super) expires_at: Option<i64>,
    pub(super) reason: Option<&'a str>,
    pub(super) reserve_name: bool,
}

/// Removes an active bucket that was found with conflict. `order` tells the
/// events of one transaction apart.
pub(super) async fn write(
    txn: &Transaction,
    namespace: &Resolved,
    found: &Found,
    plan: &Plan<'_>,
    order: u16,
) -> Result<()> {
    if let Some(of) = found.record.copy {
        // A log is not kept for what nobody goes on with.
        copy::fail(txn, found.id, of, "it was removed while it was being made", plan.now).await?;
    }
    let name = found.record.name.clone();
    let record = RemovalRecord {
        bucket: found.id,
        namespace: namespace.id(),
        name: name.clone(),
        removed_at: plan.now,
        removed_by: plan.caller.actor.clone(),
        reason: plan.reason.map(str::to_owned),
        reserved: plan.reserve_name,
    };
    txn.clear(&keys::bucket_name(namespace.id(), &name))?;
    let mut bucket_record = found.record.clone();
    bucket_record.state = State::Removed;
    txn.set(&keys::bucket_record(found.id), &record::encode(&bucket_record))?;
    Rows { removal: plan.removal, record: &record, expires_at: plan.expires_at }.write(txn)?;
    if plan.expires_at.is_some_and(|at| at <= plan.now) {
        // No retention at all: as if its purge had been asked for.
        let request = RequestRecord { by: plan.caller.actor.clone(), at: plan.now };
        txn.set(&keys::request(plan.removal), &record::encode(&request))?;
    }
    bucket::invalidate(txn, found.id.0)?;
    let event = Event { kind: EventKind::Removed, object: found.id.0, removal: Some(plan.removal) };
    journal::append(txn, order, &event)?;
    let entry = Entry {
        action: "remove",
        namespace: namespace.path.as_str(),
        bucket: &name,
        id: Some(found.id),
        removal: Some(plan.removal),
        reason: plan.reason,
    };
    audit::append(txn, order, &plan.caller.actor, plan.now, &entry, "OK", 1)
}

impl Lifecycle {
    /// Removes a bucket. `None`: there was none and `if_exists` was set.
    ///
    /// One transaction, whatever the size; once it is committed no write to the
    /// bucket commits any more, on any node. With `dry_run` nothing is changed.
    ///
    /// # Errors
    /// `NOSUCHNAMESPACE`, `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`, `PROTECTED`,
    /// `RETENTIONOUTOFRANGE`.
    pub async fn remove(
        &self,
        caller: &Caller,
        request: &RemoveRequest,
    ) -> Result<Option<Removal>> {
        let catalog = self.catalog();
        let now = catalog.now();
        let expires_at = request.keep.expires_at(now, self.options().retention)?;
        let plan = Plan {
            caller,
            removal: RemovalId(catalog.cluster().ids().next().await?),
            now,
            expires_at,
            reason: request.reason.as_deref(),
            reserve_name: request.reserve_name || self.options().reserve_names,
        };
        let plan = &plan;
        let body = |txn: Transaction| async move {
            let txn = &txn;
            let namespace = namespace::resolve(txn, &request.namespace, Read::Conflict).await?;
            namespace.conflict_on_fences(txn)?;
            let found = match bucket::find(txn, namespace.id(), &request.bucket).await {
                Ok(found) => found,
                Err(Error::NoSuchBucket(_) | Error::BucketBeingRemoved(_)) if request.if_exists => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            if found.record.protected {
                return Err(Error::Protected(request.bucket.clone()));
            }
            if !request.dry_run {
                write(txn, &namespace, &found, plan, 0).await?;
            }
            Ok(Some(Removal {
                removal: plan.removal,
                bucket: found.id,
                removed_at: now,
                expires_at,
            }))
        };
        let result = if request.dry_run {
            catalog.read("remove-dry-run", body).await
        } else {
            catalog.run("remove", caller, body).await
        };
        if let Err(error @ Error::Protected(_)) = &result {
            self.refuse(caller, "remove", &request.namespace, &request.bucket, error);
        }
        let removal = result?;
        if let Some(removal) = &removal {
            note_removal(removal.removal);
        }
        self.wake_workers();
        Ok(removal)
    }

    /// What an instance holds. Of a removed one the counts no longer change.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn counts(&self, bucket: BucketId) -> Result<Counts> {
        self.catalog()
            .read("counts", |txn: Transaction| async move { bucket::counts(&txn, bucket).await })
            .await
    }
}
