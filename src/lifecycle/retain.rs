//! RETAIN, HOLD and UNHOLD: how long a removed instance is kept, and by whose order.

use crate::cluster::journal;
use crate::codec::duration::Retention;
use crate::codec::keys;
use crate::codec::record::{self, Event, EventKind, HoldRecord, RetentionRecord};
use crate::error::Result;
use crate::metadata::audit::{self, Entry};
use crate::metadata::namespace;
use crate::metadata::{Caller, Path};
use crate::store::{Read, Transaction};

use super::Lifecycle;
use super::remove::Keep;
use super::target::{self, Removed, Target};

impl Lifecycle {
    /// Sets the expiry of a removed instance, counted from now. It is kept as
    /// an absolute instant.
    ///
    /// # Errors
    /// Those of [`target::resolve_removed`]; `RETENTIONOUTOFRANGE`.
    pub async fn retain(
        &self,
        caller: &Caller,
        namespace: &Path,
        target: &Target,
        latest: bool,
        keep: Keep,
    ) -> Result<()> {
        let now = self.catalog().now();
        let expires_at = keep.expires_at(now, Retention::Forever)?;
        self.change(caller, "retain", namespace, target, latest, |txn, removed| {
            let number = removed.removal.0.to_be_bytes();
            if let Some(at) = removed.retention.expires_at {
                txn.clear(&keys::expiry(at, keys::due::REMOVAL, &number))?;
            }
            // What is on hold is not due, whatever its expiry.
            if let Some(at) = expires_at.filter(|_| removed.hold.is_none()) {
                txn.set(&keys::expiry(at, keys::due::REMOVAL, &number), b"")?;
            }
            let row = RetentionRecord { expires_at };
            txn.set(&keys::retention(removed.removal), &record::encode(&row))?;
            let until = expires_at
                .map_or_else(|| "forever".to_owned(), crate::codec::duration::format_instant);
            Ok(Some(until))
        })
        .await?;
        self.wake_workers();
        Ok(())
    }

    /// Orders that a removed instance must not be purged by anybody.
    ///
    /// # Errors
    /// Those of [`target::resolve_removed`].
    pub async fn hold(
        &self,
        caller: &Caller,
        namespace: &Path,
        target: &Target,
        latest: bool,
        reason: &str,
        review_at: Option<i64>,
    ) -> Result<()> {
        let now = self.catalog().now();
        self.change(caller, "hold", namespace, target, latest, |txn, removed| {
            let row = HoldRecord {
                owner: caller.actor.user.clone(),
                reason: reason.to_owned(),
                review_at,
                since: now,
            };
            txn.set(&keys::hold(removed.removal), &record::encode(&row))?;
            // Held ones leave the queue of what is due, so that nobody has to
            // pass over them again and again.
            if let Some(at) = removed.retention.expires_at {
                let number = removed.removal.0.to_be_bytes();
                txn.clear(&keys::expiry(at, keys::due::REMOVAL, &number))?;
            }
            Ok(Some(reason.to_owned()))
        })
        .await
    }

    /// Lifts the hold. Without one nothing happens.
    ///
    /// # Errors
    /// Those of [`target::resolve_removed`].
    pub async fn unhold(
        &self,
        caller: &Caller,
        namespace: &Path,
        target: &Target,
        latest: bool,
    ) -> Result<()> {
        self.change(caller, "unhold", namespace, target, latest, |txn, removed| {
            txn.clear(&keys::hold(removed.removal))?;
            if let Some(at) = removed.retention.expires_at {
                let number = removed.removal.0.to_be_bytes();
                txn.set(&keys::expiry(at, keys::due::REMOVAL, &number), b"")?;
            }
            Ok(None)
        })
        .await?;
        self.wake_workers();
        Ok(())
    }

    /// Changes something about one removed instance, with an audit row whose
    /// reason is what `body` gives.
    async fn change(
        &self,
        caller: &Caller,
        action: &'static str,
        path: &Path,
        target: &Target,
        latest: bool,
        write: impl Fn(&Transaction, &Removed) -> Result<Option<String>>,
    ) -> Result<()> {
        let write = &write;
        let now = self.catalog().now();
        self.catalog()
            .run(action, caller, |txn: Transaction| async move {
                let txn = &txn;
                let here = namespace::resolve(txn, path, Read::Conflict).await?;
                let removed = target::resolve_removed(txn, here.id(), target, latest).await?;
                let reason = write(txn, &removed)?;
                // Workers on all nodes look again at what is due.
                let event = Event {
                    kind: EventKind::Changed,
                    object: removed.record.bucket.0,
                    removal: Some(removed.removal),
                };
                journal::append(txn, 0, &event)?;
                let above =
                    namespace::path_of(txn, removed.record.namespace, Read::Snapshot).await?;
                let entry = Entry {
                    action,
                    namespace: above.path.as_str(),
                    bucket: &removed.record.name,
                    id: Some(removed.record.bucket),
                    removal: Some(removed.removal),
                    reason: reason.as_deref(),
                };
                audit::append(txn, 0, &caller.actor, now, &entry, "OK", 1)
            })
            .await
    }
}
