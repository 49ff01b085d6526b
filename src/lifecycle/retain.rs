//! RETAIN, HOLD and UNHOLD: how long a removed instance is kept, and by whose order.

use crate::access::Right;
use crate::cluster::journal;
use crate::codec::duration::{Retention, format_instant};
use crate::codec::record::{self, Event, EventKind, HoldRecord, KeptBy, Lock, RetentionRecord};
use crate::codec::{Object, keys};
use crate::error::{Error, Result};
use crate::metadata::audit::{self, Entry};
use crate::metadata::guard;
use crate::metadata::policy::FOREVER;
use crate::metadata::{Caller, Path};
use crate::store::Transaction;

use super::Lifecycle;
use super::remove::Keep;
use super::target::{self, Removed, Target};

impl Lifecycle {
    /// Sets the expiry of a removed instance, counted from now. It is kept as
    /// an absolute instant.
    ///
    /// # Errors
    /// Those of [`target::resolve_removed`]; `RETENTIONOUTOFRANGE`; `HELD` when a lock
    /// forbids to shorten it.
    pub async fn retain(
        &self,
        caller: &Caller,
        namespace: &Path,
        target: &Target,
        latest: bool,
        keep: Keep,
        bypass: bool,
    ) -> Result<()> {
        let (now, certain) = (self.catalog().now(), self.catalog().certain_now());
        let expires_at = keep.expires_at(now, Retention::Forever);
        let expires_at = match expires_at {
            Err(error) => {
                let (at, name) = target.place(namespace);
                self.refuse(caller, "retain", at, &name, &error);
                return Err(error);
            }
            Ok(expires_at) => expires_at,
        };
        let set = |txn: Transaction, removed: Removed| async move {
            let txn = &txn;
            let number = removed.removal.0.to_be_bytes();
            let forever = |at: Option<i64>| at.unwrap_or(i64::MAX);
            if forever(expires_at) < forever(removed.expires_at()) {
                // Who shortens lets it be destroyed earlier.
                caller.expect(Right::Purge)?;
            }
            expect_allowed(&removed, expires_at, certain, bypass.then_some(caller))?;
            if let Some(at) = removed.retention.expires_at {
                txn.clear(&keys::expiry(at, keys::due::REMOVAL, &number))?;
            }
            // What is on hold is not due, whatever its expiry.
            if let Some(at) = expires_at.filter(|_| removed.hold.is_none()) {
                txn.set(&keys::expiry(at, keys::due::REMOVAL, &number), b"")?;
            }
            let promise = removed.promise();
            let row = RetentionRecord {
                expires_at,
                set_at: Some(now),
                promise,
                kept_by: Some(KeptBy::Command),
            };
            txn.set(&keys::retention(removed.removal), &record::encode(&row))?;
            if !promise.is_none() {
                let above = removed.above.ids();
                guard::raise(txn, guard::LOCK, &above, removed.object().number())?;
            }
            let until = expires_at
                .map_or_else(|| "forever".to_owned(), crate::codec::duration::format_instant);
            Ok(Some(until))
        };
        let result = self.change(caller, "retain", namespace, target, latest, &set).await;
        let (at, name) = target.place(namespace);
        self.note_refusal(caller, "retain", (at, &name), &result);
        result?;
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
        let set = |txn: Transaction, removed: Removed| async move {
            let txn = &txn;
            let row = HoldRecord {
                owner: caller.actor.user.clone(),
                reason: reason.to_owned(),
                review_at,
                since: now,
            };
            txn.set(&keys::hold(removed.removal), &record::encode(&row))?;
            // Whoever purges something above it finds it there.
            guard::raise(txn, guard::HOLD, &removed.above.ids(), removed.object().number())?;
            // Held ones leave the queue of what is due, so that nobody has to
            // pass over them again and again.
            if let Some(at) = removed.retention.expires_at {
                let number = removed.removal.0.to_be_bytes();
                txn.clear(&keys::expiry(at, keys::due::REMOVAL, &number))?;
            }
            Ok(Some(reason.to_owned()))
        };
        self.change(caller, "hold", namespace, target, latest, &set).await
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
        let lift = |txn: Transaction, removed: Removed| async move {
            if removed.hold.is_none() {
                return Ok(None);
            }
            txn.clear(&keys::hold(removed.removal))?;
            let object = removed.object();
            let ids = removed.above.ids();
            match object {
                Object::Bucket(id) => {
                    guard::lower(&txn, guard::HOLD, &removed.above, id.0).await?;
                }
                Object::Namespace(id) => {
                    guard::carry(&txn, guard::HOLD, id, false, &removed.above, &ids).await?;
                }
            }
            if let Some(at) = removed.retention.expires_at {
                let number = removed.removal.0.to_be_bytes();
                txn.set(&keys::expiry(at, keys::due::REMOVAL, &number), b"")?;
            }
            Ok(None)
        };
        self.change(caller, "unhold", namespace, target, latest, &lift).await?;
        self.wake_workers();
        Ok(())
    }

    /// Changes something about one removed instance, with an audit row whose
    /// reason is what `body` gives.
    async fn change<F>(
        &self,
        caller: &Caller,
        action: &'static str,
        here: &Path,
        target: &Target,
        latest: bool,
        write: &impl Fn(Transaction, Removed) -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<Option<String>>>,
    {
        let now = self.catalog().now();
        self.catalog()
            .run(action, caller, |txn: Transaction| async move {
                let removed = target::resolve_removed(&txn, here, target, latest).await?;
                let reason = write(txn.clone(), removed.clone()).await?;
                let (txn, object) = (&txn, removed.object());
                // Workers on all nodes look again at what is due.
                let event = Event {
                    kind: EventKind::Changed,
                    object: object.number(),
                    removal: Some(removed.removal),
                };
                journal::append(txn, 0, &event)?;
                let (namespace, bucket) = removed.place();
                let entry = Entry {
                    action,
                    namespace: &namespace,
                    bucket,
                    id: Some(object),
                    removal: Some(removed.removal),
                    reason: reason.as_deref(),
                };
                audit::append(txn, 0, &caller.actor, now, &entry, "OK", 1)
            })
            .await
    }
}

/// Whether the policy, or what was promised, allows this expiry.
fn expect_allowed(
    removed: &Removed,
    expires_at: Option<i64>,
    now: i64,
    bypass: Option<&Caller>,
) -> Result<()> {
    let policy = removed.policy();
    let kept = expires_at.map_or(FOREVER, |at| at.saturating_sub(removed.record.removed_at));
    policy.objects.expect(kept)?;
    let least = removed.promise().at_least_until.unwrap_or(i64::MIN);
    if expires_at.is_some_and(|at| at < least) {
        return Err(Error::RetentionOutOfRange(format!(
            "{} '{}' was promised to be kept until {}",
            removed.object().kind().title(),
            removed.title(),
            if least == FOREVER { "for ever".to_owned() } else { format_instant(least) }
        )));
    }
    let before = removed.expires_at();
    let shorter = expires_at.is_some_and(|at| before.is_none_or(|before| at < before));
    if !shorter {
        return Ok(());
    }
    // The minimum has been looked at.
    match removed.locked_for(now, bypass)? {
        Some(locked) if locked.lock != Lock::None => Err(locked.refusal(&format!(
            "{} '{}'",
            removed.object().kind().title(),
            removed.title()
        ))),
        _ => Ok(()),
    }
}
