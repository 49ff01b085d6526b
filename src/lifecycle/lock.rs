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

    /// # Errors
    /// `HELD` with the lock and its end.
    pub(super) fn expect_not_locked(&self, now: i64, bypass: bool) -> Result<()> {
        let what = format!("{} '{}'", self.object().kind().title(), self.title());
        self.locked(now, bypass).map_or(Ok(()), |locked| Err(locked.refusal(&what)))
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
        let lock = counted(self.promise().lock, bypass);
        documents_locked(txn, id, lock, self.record.removed_at.saturating_sub(clock), now).await
    }
}

/// The lock that counts. `bypass`: one of governance does not.
pub(super) const fn counted(lock: Lock, bypass: bool) -> Lock {
    match lock {
        Lock::Governance if bypass => Lock::None,
        lock => lock,
    }
}

/// What keeps the documents that were deleted in a bucket under a lock; its own clock is so
/// far behind.
///
/// # Errors
/// Those of the store; damage.
pub(super) async fn documents_locked(
    txn: &Transaction,
    id: BucketId,
    lock: Lock,
    behind_ms: i64,
    now: i64,
) -> Result<Option<Locked>> {
    if lock == Lock::None {
        return Ok(None);
    }
    let Some(at) = document::last_expiry(txn, id).await? else { return Ok(None) };
    let until = (at != keys::NEVER).then(|| at.saturating_add(behind_ms));
    Ok(until.is_none_or(|until| until > now).then_some(Locked { lock, until }))
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
                "{what} is locked {until} (governance): with the purge right, BYPASS-GOVERNANCE passes by the lock"
            ),
            Lock::Compliance => format!("{what} is locked {until} (compliance)"),
        })
    }
}

/// Takes the lock under which something was removed into account where it is stricter.
pub(super) fn keep_promised(policy: &mut Policy, removed: &Removed) {
    let lock = removed.retention.promise.lock;
    if lock > policy.lock() {
        let (id, path) = (removed.above.id(), removed.above.path().into());
        policy.lock = Some(Set { value: lock, id, path });
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
    bypass: bool,
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
        let promise = |lock, at_least_until| PromiseRecord { lock, at_least_until };
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
