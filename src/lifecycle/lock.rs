//! What keeps something removed from being destroyed before its time: the minimum and
//! the lock of its namespaces.
//!
//! What a removal was promised stands in its `retention` row; the policy in force now
//! counts as well, and of both the strictest. A removal that was promised anything has a
//! `guard` row above, so that the flip of a namespace above finds it (protocol.md, rule
//! 19). When its time is over that row goes as soon as somebody meets it.
//!
//! Not here: what a policy is (`metadata::policy`), holds (`retain`).

use crate::codec::duration::format_instant;
use crate::codec::record::{self, Lock, NamespaceRecord, PromiseRecord, RetentionRecord};
use crate::codec::{BucketId, NamespaceId, Object, keys};
use crate::document;
use crate::error::{Error, Result};
use crate::metadata::Caller;
use crate::metadata::guard;
use crate::metadata::policy::{FOREVER, Kept, Policy, Set};
use crate::store::{Read, Transaction};

use super::restore::clock_at_removal;
use super::target::{self, Instance, Removed};

/// Guards that have outlived their time that one flip lets go.
const PASSED_MAX: usize = 200;

/// Why something cannot be destroyed or be kept shorter yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locked {
    /// `None`: it is the minimum.
    pub lock: Lock,
    /// `None`: for ever.
    pub until: Option<i64>,
}

impl Removed {
    /// What applies to it now.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::below(&self.above, self.own_namespace())
    }

    fn own_namespace(&self) -> Option<(NamespaceId, &NamespaceRecord)> {
        match (self.record.object, &self.instance) {
            (Object::Namespace(id), Instance::Namespace(record)) => Some((id, record)),
            _ => None,
        }
    }

    /// What it was promised, or what it is promised now: the strictest.
    #[must_use]
    pub fn promise(&self) -> PromiseRecord {
        let now = self.policy().promise(Kept::Objects, self.record.removed_at);
        self.retention.promise.and(now)
    }

    /// What keeps it from being destroyed at `now`. `bypass`: a lock of governance does not.
    #[must_use]
    pub fn locked(&self, now: i64, bypass: bool) -> Option<Locked> {
        locked(&self.promise(), self.expires_at(), now, bypass)
    }

    /// As [`Removed::locked`], for a caller who may pass by a lock of governance.
    ///
    /// # Errors
    /// Those of [`Policy::expect_bypass`], when it is passed by.
    pub(super) fn locked_for(&self, now: i64, bypass: Option<&Caller>) -> Result<Option<Locked>> {
        let locked = self.locked(now, bypass.is_some());
        if let Some(caller) = bypass
            && locked != self.locked(now, false)
        {
            self.policy().expect_bypass(caller)?;
        }
        Ok(locked)
    }

    /// # Errors
    /// `HELD` with the lock and its end; those of [`Removed::locked_for`].
    pub(super) fn expect_not_locked(&self, now: i64, bypass: Option<&Caller>) -> Result<()> {
        let what = format!("{} '{}'", self.object().kind().title(), self.title());
        self.locked_for(now, bypass)?.map_or(Ok(()), |locked| Err(locked.refusal(&what)))
    }

    /// Refuses while documents that were deleted in this bucket are kept longer than it.
    ///
    /// # Errors
    /// `HELD`; those of [`Policy::expect_bypass`], when a lock is passed by.
    pub(super) async fn expect_documents_not_locked(
        &self,
        txn: &Transaction,
        now: i64,
        bypass: Option<&Caller>,
    ) -> Result<()> {
        if let Some(locked) = self.documents_locked(txn, now, bypass.is_some()).await? {
            let what = format!("A deleted document of bucket '{}'", self.title());
            return Err(locked.refusal(&what));
        }
        match bypass {
            Some(caller) if self.documents_locked(txn, now, false).await?.is_some() => {
                self.policy().expect_bypass(caller)
            }
            _ => Ok(()),
        }
    }

    /// What keeps the documents that were deleted in this bucket from going with it. Their
    /// time goes on for that, though the bucket's own clock stands still.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub(super) async fn documents_locked(
        &self,
        txn: &Transaction,
        now: i64,
        bypass: bool,
    ) -> Result<Option<Locked>> {
        let (Object::Bucket(id), Instance::Bucket(found)) = (self.object(), &self.instance) else {
            return Ok(None);
        };
        let clock = clock_at_removal(&self.record, &self.above, found.stood_still_ms);
        let behind = self.record.removed_at.saturating_sub(clock);
        documents_locked(txn, id, Looked::of(&self.promise(), bypass), behind, now).await
    }
}

/// The lock that counts. `bypass`: one of governance does not.
pub(super) const fn counted(lock: Lock, bypass: bool) -> Lock {
    match lock {
        Lock::Governance if bypass => Lock::None,
        lock => lock,
    }
}

/// What keeps deleted documents in what is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    lock: Lock,
    documents_until: Option<i64>,
}

impl Looked {
    /// By what was promised. `bypass`: a lock of governance does not count.
    pub(super) const fn of(promise: &PromiseRecord, bypass: bool) -> Self {
        Self { lock: counted(promise.lock, bypass), documents_until: promise.documents_until }
    }

    /// Under this lock as well.
    pub(super) fn under(self, lock: Lock, bypass: bool) -> Self {
        Self { lock: self.lock.max(counted(lock, bypass)), ..self }
    }

    /// What goes on counting at `now`.
    pub(super) fn at(self, now: i64) -> Self {
        Self { documents_until: self.documents_until.filter(|at| *at > now), ..self }
    }

    /// Whether nothing does.
    pub(super) fn is_none(&self) -> bool {
        self.lock == Lock::None && self.documents_until.is_none()
    }
}

/// What keeps the documents that were deleted in a bucket; its own clock is so far behind.
/// Under a lock that is until the last of them expires. A minimum, which may be later than
/// they were deleted, counts from the removal: when each was deleted is not looked at.
///
/// # Errors
/// Those of the store; damage.
pub(super) async fn documents_locked(
    txn: &Transaction,
    id: BucketId,
    by: Looked,
    behind_ms: i64,
    now: i64,
) -> Result<Option<Locked>> {
    let by @ Looked { lock, documents_until } = by.at(now);
    if by.is_none() {
        return Ok(None);
    }
    let last = document::last_expiry(txn, id).await?;
    let mut until = last.filter(|_| lock != Lock::None).map(|at| match at {
        keys::NEVER => FOREVER,
        at => at.saturating_add(behind_ms),
    });
    if documents_until > until && (last.is_some() || document::is_waiting(txn, id).await?) {
        until = documents_until;
    }
    let until = until.filter(|until| *until > now);
    Ok(until.map(|at| Locked { lock, until: Some(at).filter(|at| *at != FOREVER) }))
}

/// What keeps something from being destroyed that was promised this.
#[must_use]
pub fn locked(
    promise: &PromiseRecord,
    expires_at: Option<i64>,
    now: i64,
    bypass: bool,
) -> Option<Locked> {
    let lock = counted(promise.lock, bypass);
    if lock != Lock::None && expires_at.is_none_or(|at| at > now) {
        return Some(Locked { lock, until: expires_at });
    }
    let at = promise.at_least_until.filter(|at| *at > now)?;
    Some(Locked { lock: Lock::None, until: Some(at).filter(|at| *at != FOREVER) })
}

impl Locked {
    /// The error of a command that it forbids.
    #[must_use]
    pub fn refusal(&self, what: &str) -> Error {
        let until = self
            .until
            .map_or_else(|| "for ever".to_owned(), |at| format!("until {}", format_instant(at)));
        Error::Held(match self.lock {
            Lock::None => format!("{what} is kept {until} at least: the minimum of its policy"),
            Lock::Governance => format!(
                "{what} is locked {until} (governance): with the rights to purge and, where the lock was set, of an admin, BYPASS-GOVERNANCE passes by it"
            ),
            Lock::Compliance => format!("{what} is locked {until} (compliance)"),
        })
    }
}

/// Takes what something removed was promised into account where it is stricter: the lock, and
/// of a minimum what is left of it.
pub(super) fn keep_promised(policy: &mut Policy, removed: &Removed, now: i64) {
    let (id, path) = match removed.object() {
        Object::Namespace(id) => (id, removed.title()),
        Object::Bucket(_) => (removed.above.id(), removed.above.path()),
    };
    let PromiseRecord { lock, at_least_until, documents_until } = removed.retention.promise;
    if lock > policy.lock() {
        policy.lock = Some(Set { value: lock, id, path: path.as_str().into() });
    }
    // Never more than the whole of it, whichever node's clock is ahead.
    let now = now.max(removed.record.removed_at);
    let left = |until| if until == FOREVER { FOREVER } else { until - now };
    for (limits, until) in
        [(&mut policy.objects, at_least_until), (&mut policy.documents, documents_until)]
    {
        let left = until.map_or(0, left);
        if left > limits.min.as_ref().map_or(0, |set| set.value) {
            limits.min = Some(Set { value: left, id, path: path.as_str().into() });
        }
    }
}

/// Refuses while something below a removed namespace was promised to be kept longer.
/// Guards that have outlived their time go; true when there are more of them.
///
/// # Errors
/// `HELD`, which names it.
pub(super) async fn expect_none_locked_below(
    txn: &Transaction,
    id: NamespaceId,
    now: i64,
    bypass: Option<&Caller>,
) -> Result<bool> {
    for _ in 0..PASSED_MAX {
        let Some(removal) = guard::locked_below(txn, id).await? else { return Ok(false) };
        let Some(removed) = target::read(txn, removal, Read::Conflict).await? else {
            return Err(Error::Internal(format!("what is locked below {id} has no removal")));
        };
        removed.expect_not_locked(now, bypass)?;
        // The policy in force goes on counting.
        let row = RetentionRecord { promise: PromiseRecord::default(), ..removed.retention };
        txn.set(&keys::retention(removal), &record::encode(&row))?;
        let_go(txn, &removed).await?;
    }
    Ok(guard::locked_below(txn, id).await?.is_some())
}

/// Takes away what tells those above that this was promised a time. Its `retention` row
/// must not say so any more, or must be gone.
///
/// # Errors
/// Those of the store.
pub(super) async fn let_go(txn: &Transaction, removed: &Removed) -> Result<()> {
    match removed.object() {
        Object::Bucket(id) => guard::lower(txn, guard::LOCK, &removed.above, id.0).await,
        Object::Namespace(id) => {
            let above = removed.above.ids();
            guard::carry(txn, guard::LOCK, id, false, &removed.above, &above).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compliance_holds_until_it_expires_and_governance_until_somebody_says_so() {
        let promise = |lock, at_least_until| PromiseRecord {
            lock,
            at_least_until,
            ..PromiseRecord::default()
        };
        let until = |lock, until| Some(Locked { lock, until });
        let (none, min) = (promise(Lock::None, None), promise(Lock::None, Some(5)));
        assert_eq!(locked(&none, Some(9), 1, false), None);
        assert_eq!(locked(&min, Some(9), 4, true), until(Lock::None, Some(5)));
        assert_eq!(locked(&min, Some(9), 5, false), None);
        assert_eq!(
            locked(&promise(Lock::None, Some(FOREVER)), None, 5, true),
            until(Lock::None, None)
        );
        let governed = promise(Lock::Governance, Some(5));
        assert_eq!(locked(&governed, Some(9), 6, false), until(Lock::Governance, Some(9)));
        assert_eq!(locked(&governed, Some(9), 6, true), None);
        assert_eq!(locked(&governed, Some(9), 4, true), until(Lock::None, Some(5)));
        let locked_up = promise(Lock::Compliance, None);
        assert_eq!(locked(&locked_up, Some(9), 8, true), until(Lock::Compliance, Some(9)));
        assert_eq!(locked(&locked_up, None, 8, true), until(Lock::Compliance, None));
        assert_eq!(locked(&locked_up, Some(9), 9, false), None);
    }
}
