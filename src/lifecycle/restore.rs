//! RESTORE: bring the same instance back, with all it had.

use serde::{Deserialize, Serialize};

use crate::cluster::journal;
use crate::codec::record::{self, Event, EventKind, State};
use crate::codec::{BucketId, RemovalId, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::index;
use crate::metadata::audit::{self, Entry};
use crate::metadata::bucket;
use crate::metadata::namespace;
use crate::metadata::{Caller, Path};
use crate::store::{Read, Transaction};

use super::remove::{self, Plan, Rows};
use super::target::{self, Target};
use super::{Lifecycle, copy, note_removal, remove::Keep};

/// What RESTORE was asked to do.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The session's namespace, in which a name is looked up.
    pub namespace: Path,
    pub target: Target,
    pub latest: bool,
    /// The new name; else the old one.
    pub name: Option<String>,
    /// The destination; else the namespace it was removed from.
    pub into: Option<Path>,
    /// Remove the active bucket that has the name, in the same transaction.
    pub replace: bool,
    pub allow_expired: bool,
    pub dry_run: bool,
}

/// What RESTORE did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    pub removal: RemovalId,
    pub bucket: BucketId,
    pub namespace: String,
    pub name: String,
    /// The removal of the bucket that had the name, with `REPLACE`.
    pub replaced: Option<RemovalId>,
}

impl Lifecycle {
    /// Restores a removed bucket: the same instance, with all its documents.
    ///
    /// # Errors
    /// Those of [`target::resolve_removed`]; `REMOVEDEXPIRED`,
    /// `BUCKETALREADYEXISTS`, `BUCKETBEINGREMOVED` when the name is reserved by
    /// another removal, `NOSUCHNAMESPACE`, `PROTECTED` when `replace` meets a
    /// protected bucket.
    pub async fn restore(&self, caller: &Caller, request: &RestoreRequest) -> Result<Restored> {
        let catalog = self.catalog();
        let now = catalog.now();
        let replacing = RemovalId(catalog.cluster().ids().next().await?);
        let body = |txn: Transaction| async move {
            self.restore_in(&txn, caller, request, now, replacing).await
        };
        let restored = if request.dry_run {
            catalog.read("restore-dry-run", body).await
        } else {
            catalog.run("restore", caller, body).await
        };
        if let Err(error @ Error::Protected(name)) = &restored {
            self.refuse(caller, "remove", &request.namespace, name, error);
        }
        if let Ok(restored) = &restored {
            note_removal(restored.removal);
        }
        restored
    }

    async fn restore_in(
        &self,
        txn: &Transaction,
        caller: &Caller,
        request: &RestoreRequest,
        now: i64,
        replacing: RemovalId,
    ) -> Result<Restored> {
        let here = match request.target {
            Target::Name(_) => {
                namespace::resolve(txn, &request.namespace, Read::Conflict).await?.id()
            }
            // Ids name one instance wherever it is.
            Target::Instance(_) | Target::Removal(_) => crate::codec::NamespaceId::ROOT,
        };
        let removed = target::resolve_removed(txn, here, &request.target, request.latest).await?;
        if removed.is_expired(now) && !request.allow_expired {
            return Err(Error::RemovedExpired(format!(
                "Bucket '{}' expired at {}",
                removed.record.name,
                crate::codec::duration::format_instant(
                    removed.retention.expires_at.unwrap_or_default()
                )
            )));
        }
        let destination = match &request.into {
            Some(path) => namespace::resolve(txn, path, Read::Conflict).await?,
            None => namespace::path_of(txn, removed.record.namespace, Read::Conflict).await?,
        };
        destination.conflict_on_fences(txn)?;
        let name = request.name.clone().unwrap_or_else(|| removed.record.name.clone());
        let mut restored = Restored {
            removal: removed.removal,
            bucket: removed.record.bucket,
            namespace: destination.path.to_string(),
            name: name.clone(),
            replaced: None,
        };

        let mut order = 0;
        match bucket::find_active(txn, destination.id(), &name).await? {
            Some(active) if request.replace => {
                if active.record.protected {
                    return Err(Error::Protected(name));
                }
                let plan = Plan {
                    caller,
                    removal: replacing,
                    now,
                    expires_at: Keep::Default.expires_at(now, self.options().retention)?,
                    reason: Some("replaced by a restore"),
                    reserve_name: false,
                };
                if !request.dry_run {
                    remove::write(txn, &destination, &active, &plan, order).await?;
                }
                order += 1;
                restored.replaced = Some(replacing);
            }
            Some(_) => return Err(Error::BucketAlreadyExists(name)),
            None => {}
        }
        let reserved =
            txn.get(&keys::reserved_name(destination.id(), &name), Read::Conflict).await?;
        if reserved.is_some_and(|by| by[..] != removed.removal.0.to_be_bytes()) {
            return Err(Error::BucketBeingRemoved(name));
        }
        if request.dry_run {
            return Ok(restored);
        }

        if txn.get(&self.request_key(&removed), Read::Conflict).await?.is_some() {
            // Whoever waits for the purge is to learn that there will be none.
            txn.set_versionstamped_value(&keys::barrier_signal(), &Versionstamp::placeholder())?;
        }
        let rows = Rows {
            removal: removed.removal,
            record: &removed.record,
            expires_at: removed.retention.expires_at,
        };
        rows.clear(txn)?;
        remove::unlist(txn, removed.record.namespace, removed.version)?;
        txn.clear(&keys::removal_of(removed.record.bucket.0))?;
        // Trims that came due while the bucket was removed left the queue.
        for at in bucket::scheduled_trims(txn, removed.record.bucket).await? {
            let number = removed.record.bucket.0.to_be_bytes();
            txn.set(&keys::expiry(at, keys::due::TRIM, &number), b"")?;
        }
        for at in bucket::scheduled_vacuums(txn, removed.record.bucket).await? {
            let number = removed.record.bucket.0.to_be_bytes();
            txn.set(&keys::expiry(at, keys::due::VACUUM, &number), b"")?;
        }
        index::task::wake_for(txn, removed.record.bucket).await?;
        copy::wake_for(txn, removed.record.bucket).await?;
        let mut active = removed.bucket;
        let stood_still = now.saturating_sub(removed.record.removed_at).max(0);
        active.stood_still_ms = active.stood_still_ms.saturating_add(stood_still);
        active.state = State::Active;
        active.namespace = destination.id();
        active.name.clone_from(&name);
        txn.set(
            &keys::bucket_name(destination.id(), &name),
            &removed.record.bucket.0.to_be_bytes(),
        )?;
        txn.set(&keys::bucket_record(removed.record.bucket), &record::encode(&active))?;
        let event = Event {
            kind: EventKind::Restored,
            object: removed.record.bucket.0,
            removal: Some(removed.removal),
        };
        journal::append(txn, order, &event)?;
        let entry = Entry {
            action: "restore",
            namespace: destination.path.as_str(),
            bucket: &name,
            id: Some(removed.record.bucket),
            removal: Some(removed.removal),
            reason: None,
        };
        audit::append(txn, order, &caller.actor, now, &entry, "OK", 1)?;
        Ok(restored)
    }
}
