//! The policy of a namespace: how long what is removed in it is kept, who may end that
//! earlier, and how much it may hold.
//!
//! What is set stands in the record of the namespace and applies to all below. It is
//! folded along the path whenever that is read, so nothing below is written, and whoever
//! decides by it has read the records with conflict or conflicts on the fences, which a
//! change writes. Along the path
//!
//! * a default: the nearest counts, but within the limits;
//! * a minimum: the longest counts, and it is stronger than a maximum;
//! * a maximum: the shortest counts;
//! * a lock: the strictest counts. Below one nobody says a shorter default, and at one of
//!   compliance no maximum counts from above: what it rests on stands in its own record
//!   ([`change()`]), so that nobody loosens it from there;
//! * quotas: every one counts, each for all that is below its own namespace.
//!
//! Not here: what a lock refuses (`lifecycle::lock`), how much there is (`usage`).

use std::sync::Arc;

use super::namespace::Lineage;
use super::operation::Caller;
use crate::access::{Place, Right};
use crate::codec::NamespaceId;
use crate::codec::duration::{Retention, format_retention};
use crate::codec::record::{
    KeepRecord, KeptBy, Lock, NamespaceRecord, PolicyRecord, PromiseRecord,
};
use crate::error::{Error, Result};

mod change;
mod names;

pub use change::{Change, change};
pub use names::{Name, Value};

/// A number of milliseconds that means for ever.
pub const FOREVER: i64 = i64::MAX;

/// Something that is set, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set<T> {
    pub value: T,
    pub id: NamespaceId,
    pub path: Arc<str>,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// A removed bucket or namespace.
    Objects,
    /// A deleted document.
    Documents,
}

/// How long something is kept, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub default: Option<Set<i64>>,
    pub min: Option<Set<i64>>,
    pub max: Option<Set<i64>>,
}

/// How much a namespace may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub id: NamespaceId,
    pub path: Arc<str>,
    pub documents: Option<i64>,
    pub bytes: Option<i64>,
    pub removed_bytes: Option<i64>,
    /// Whether what is removed counts towards the first two.
    pub counts_removed: bool,
}

/// All that applies somewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    pub objects: Limits,
    pub documents: Limits,
    pub lock: Option<Set<Lock>>,
    pub quotas: Vec<Quota>,
}

/// Where nothing is set.
pub static NOTHING: Policy = Policy {
    objects: Limits { default: None, min: None, max: None },
    documents: Limits { default: None, min: None, max: None },
    lock: None,
    quotas: Vec::new(),
};

/// The server's own settings, which apply where no policy says otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub retention: Retention,
    pub tombstone_retention: Retention,
}

/// What applies where the command says nothing, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub ms: i64,
    pub source: Source,
}

/// Where something comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The server's configuration.
    Setting,
    /// The bucket's own.
    Bucket,
    Namespace(NamespaceId, Arc<str>),
}

impl Source {
    /// As the record of a removal has it.
    #[must_use]
    pub const fn record(&self) -> KeptBy {
        match self {
            Self::Setting | Self::Bucket => KeptBy::Setting,
            Self::Namespace(id, _) => KeptBy::Namespace(*id),
        }
    }
}

/// Milliseconds of a retention; [`FOREVER`] where it has no end.
#[must_use]
pub fn ms(retention: Retention) -> i64 {
    KeepRecord::from(retention).ms.unwrap_or(FOREVER)
}

/// The opposite of [`ms`].
#[must_use]
pub fn retention(ms: i64) -> Retention {
    KeepRecord { ms: Some(ms).filter(|ms| *ms != FOREVER) }.into()
}

/// As messages and replies write it.
#[must_use]
pub fn show(ms: i64) -> String {
    format_retention(retention(ms))
}

impl Settings {
    const fn of(&self, kept: Kept) -> Retention {
        match kept {
            Kept::Objects => self.retention,
            Kept::Documents => self.tombstone_retention,
        }
    }
}

impl Limits {
    /// Takes one namespace further down into account. `locked`: there is a lock above it.
    fn fold(
        &mut self,
        at: &impl Fn(i64) -> Set<i64>,
        [default, min, max]: [Option<KeepRecord>; 3],
        locked: bool,
    ) {
        let given = |keep: Option<KeepRecord>| keep.map(|keep| keep.ms.unwrap_or(FOREVER));
        if let Some(value) = given(default)
            && !(locked && self.default.as_ref().is_some_and(|set| value < set.value))
        {
            self.default = Some(at(value));
        }
        // Of equals the topmost: nobody below can change it.
        if let Some(value) = given(min)
            && self.min.as_ref().is_none_or(|set| set.value < value)
        {
            self.min = Some(at(value));
        }
        // One that would shorten what a lock above keeps does not count.
        let default = self.default.as_ref();
        if let Some(value) = given(max)
            && self.max.as_ref().is_none_or(|set| set.value > value)
            && (!locked || default.is_some_and(|set| value >= set.value))
        {
            self.max = Some(at(value));
        }
    }

    /// What is kept how long where nobody says anything: the nearest default, within the
    /// limits. `own` is that of a bucket.
    #[must_use]
    pub fn applied(&self, own: Option<Retention>, setting: Retention) -> Applied {
        let by = |set: &Set<i64>| Applied {
            ms: set.value,
            source: Source::Namespace(set.id, set.path.clone()),
        };
        let mut applied = match (own, &self.default) {
            (Some(own), _) => Applied { ms: ms(own), source: Source::Bucket },
            (None, Some(set)) => by(set),
            (None, None) => Applied { ms: ms(setting), source: Source::Setting },
        };
        if let Some(max) = self.max.as_ref().filter(|max| max.value < applied.ms) {
            applied = by(max);
        }
        if let Some(min) = self.min.as_ref().filter(|min| min.value > applied.ms) {
            applied = by(min);
        }
        applied
    }

    /// # Errors
    /// `RETENTIONOUTOFRANGE` for a retention outside the limits.
    pub fn expect(&self, asked: i64) -> Result<()> {
        let refused = |what: &str, set: &Set<i64>| {
            Err(Error::RetentionOutOfRange(format!(
                "Retention {} is {what} of {}, set by namespace '{}'",
                show(asked),
                show(set.value),
                set.path
            )))
        };
        match (&self.min, &self.max) {
            (Some(min), _) if asked < min.value => refused("below the minimum", min),
            (min, Some(max))
                if asked > max.value && min.as_ref().is_none_or(|min| asked > min.value) =>
            {
                refused("above the maximum", max)
            }
            _ => Ok(()),
        }
    }
}

impl Policy {
    /// The policy of the lowest of a chain, the topmost first.
    #[must_use]
    pub fn of(chain: &[(NamespaceId, NamespaceRecord)]) -> Self {
        let mut policy = Self::default();
        if chain.iter().all(|(_, record)| record.policy.is_empty()) {
            return policy;
        }
        let mut path = String::new();
        let mut counts_removed = true;
        for (id, record) in chain {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&record.segment);
            if !record.policy.is_empty() {
                policy.fold(*id, &path.as_str().into(), &record.policy, &mut counts_removed);
            }
        }
        policy
    }

    /// That of what lies directly below `above`: for a namespace of its own record as well.
    #[must_use]
    pub fn below(above: &Lineage, own: Option<(NamespaceId, &NamespaceRecord)>) -> Self {
        match own {
            None => Self::of(&above.chain),
            Some((id, record)) => {
                let mut chain = above.chain.clone();
                chain.push((id, record.clone()));
                Self::of(&chain)
            }
        }
    }

    fn fold(
        &mut self,
        id: NamespaceId,
        path: &Arc<str>,
        set: &PolicyRecord,
        counts_removed: &mut bool,
    ) {
        let at = |value| Set { value, id, path: path.clone() };
        let locked = self.lock() != Lock::None;
        if set.lock == Some(Lock::Compliance) {
            (self.objects.max, self.documents.max) = (None, None);
        }
        self.objects.fold(&at, [set.retention, set.retention_min, set.retention_max], locked);
        let documents =
            [set.tombstone_retention, set.tombstone_retention_min, set.tombstone_retention_max];
        self.documents.fold(&at, documents, locked);
        if let Some(lock) = set.lock
            && self.lock.as_ref().is_none_or(|set| set.value < lock)
        {
            self.lock = Some(Set { value: lock, id, path: path.clone() });
        }
        *counts_removed = set.quota_counts_removed.unwrap_or(*counts_removed);
        let quotas = [set.quota_documents, set.quota_bytes, set.quota_removed_bytes];
        if quotas.iter().any(Option::is_some) {
            let [documents, bytes, removed_bytes] = quotas;
            let (path, counts_removed) = (path.clone(), *counts_removed);
            let quota = Quota { id, path, documents, bytes, removed_bytes, counts_removed };
            self.quotas.push(quota);
        }
    }

    /// How long something is kept where the command says nothing, and by whom. `own` is
    /// that of a bucket, which under a lock counts only if it is longer.
    #[must_use]
    pub fn applied(&self, kept: Kept, own: Option<Retention>, setting: Retention) -> Applied {
        let limits = self.limits(kept);
        let without = limits.applied(None, setting);
        match own {
            Some(own) if self.lock() == Lock::None || ms(own) >= without.ms => {
                limits.applied(Some(own), setting)
            }
            _ => without,
        }
    }

    /// How long something is kept at least that is to go as soon as it may; `applied` is how
    /// long it is kept where nobody says anything.
    #[must_use]
    pub fn soonest(&self, kept: Kept, applied: i64) -> i64 {
        if self.lock() != Lock::None {
            return applied;
        }
        self.limits(kept).min.as_ref().map_or(0, |min| min.value)
    }

    /// The limits of what is kept.
    #[must_use]
    pub const fn limits(&self, kept: Kept) -> &Limits {
        match kept {
            Kept::Objects => &self.objects,
            Kept::Documents => &self.documents,
        }
    }

    /// The strictest lock on the path.
    #[must_use]
    pub fn lock(&self) -> Lock {
        self.lock.as_ref().map(|set| set.value).unwrap_or_default()
    }

    /// What is promised to something that is removed or deleted at `at`.
    #[must_use]
    pub fn promise(&self, kept: Kept, at: i64) -> PromiseRecord {
        let min = self.limits(kept).min.as_ref().filter(|min| min.value > 0);
        PromiseRecord {
            lock: self.lock(),
            at_least_until: min.map(|min| at.saturating_add(min.value)),
            documents_until: match kept {
                Kept::Objects => {
                    let min = self.documents.min.as_ref().filter(|min| min.value > 0);
                    min.map(|min| at.saturating_add(min.value))
                }
                Kept::Documents => None,
            },
        }
    }

    /// How long something is kept for which the command asks this, `None` when it does not
    /// say. `bypass`: for whom a lock of governance does not count.
    ///
    /// # Errors
    /// `RETENTIONOUTOFRANGE`; those of [`Policy::expect_bypass`].
    pub fn keep(
        &self,
        kept: Kept,
        asked: Option<i64>,
        applied: &Applied,
        bypass: Option<&Caller>,
    ) -> Result<i64> {
        let Some(asked) = asked else { return Ok(applied.ms) };
        self.limits(kept).expect(asked)?;
        if let Some(lock) = self.lock.as_ref().filter(|lock| lock.value != Lock::None)
            && asked < applied.ms
        {
            if let Some(caller) = bypass.filter(|_| lock.value == Lock::Governance) {
                self.expect_bypass(caller)?;
                return Ok(asked);
            }
            return Err(Error::RetentionOutOfRange(format!(
                "Retention {} is shorter than the {} for which namespace '{}' keeps everything under its lock ({})",
                show(asked),
                show(applied.ms),
                lock.path,
                lock.value.name()
            )));
        }
        Ok(asked)
    }

    /// Refuses a retention of a bucket's own for deleted documents that the limits do not
    /// allow, or that is shorter than the one before under a lock.
    ///
    /// # Errors
    /// `RETENTIONOUTOFRANGE`.
    pub fn expect_own(
        &self,
        before: Option<Retention>,
        after: Option<Retention>,
        settings: &Settings,
    ) -> Result<()> {
        let setting = settings.tombstone_retention;
        let applied = |own| self.applied(Kept::Documents, own, setting);
        let asked = match after {
            Some(after) => {
                self.documents.expect(ms(after))?;
                ms(after)
            }
            None => applied(None).ms,
        };
        self.keep(Kept::Documents, Some(asked), &applied(before), None).map(drop)
    }

    /// Whether a retention of a bucket's own keeps deleted documents for less than is usual here.
    #[must_use]
    pub fn own_is_shorter(&self, own: Option<Retention>, settings: &Settings) -> bool {
        let applied = |own| self.applied(Kept::Documents, own, settings.tombstone_retention).ms;
        applied(own) < applied(None)
    }

    /// Whether this keeps everything at least as strictly as another one.
    #[must_use]
    pub fn is_as_strict_as(&self, other: &Self, settings: &Settings) -> bool {
        let min = |policy: &Self, kept| policy.limits(kept).min.as_ref().map_or(0, |set| set.value);
        // A lower maximum would shorten what somebody below keeps longer.
        let max =
            |policy: &Self, kept| policy.limits(kept).max.as_ref().map_or(FOREVER, |set| set.value);
        let applied = |policy: &Self, kept| policy.limits(kept).applied(None, settings.of(kept)).ms;
        self.lock() >= other.lock()
            && [Kept::Objects, Kept::Documents].into_iter().all(|kept| {
                min(self, kept) >= min(other, kept)
                    && max(self, kept) >= max(other, kept)
                    && applied(self, kept) >= applied(other, kept)
            })
    }

    /// The namespace that sets the lock, if that is one of governance.
    #[must_use]
    pub fn governed_by(&self) -> Option<NamespaceId> {
        let lock = self.lock.as_ref().filter(|lock| lock.value == Lock::Governance);
        lock.map(|lock| lock.id)
    }

    /// Judges who passes by a lock of governance: that takes what lifting it would, where it
    /// was set.
    ///
    /// # Errors
    /// `NOPERM`.
    pub fn expect_bypass(&self, caller: &Caller) -> Result<()> {
        match &self.lock {
            Some(lock) if lock.value == Lock::Governance => {
                caller.expect_at(Right::Admin, Place::Tree(lock.path.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to take something here from `place`, where another policy applies, if it would
    /// be kept less strictly. A minimum yields to nobody.
    ///
    /// # Errors
    /// `HELD` with the lock or the minimum that forbids it; `NOPERM` where nothing forbids it
    /// but something would be kept for less, without the right to purge; those of
    /// [`Policy::expect_bypass`].
    pub fn expect_as_strict(
        &self,
        from: &Self,
        settings: &Settings,
        what: &str,
        (caller, place, bypass): (&Caller, Place, bool),
    ) -> Result<()> {
        for kept in [Kept::Objects, Kept::Documents] {
            let own = self.limits(kept).min.as_ref().map_or(0, |set| set.value);
            if let Some(min) = from.limits(kept).min.as_ref().filter(|min| min.value > own) {
                return Err(Error::Held(format!(
                    "{what} is bound by the minimum {} of namespace '{}': it cannot be taken to where that is shorter",
                    show(min.value),
                    min.path
                )));
            }
        }
        if self.is_as_strict_as(from, settings) {
            return Ok(());
        }
        match from.lock.as_ref().filter(|lock| lock.value != Lock::None) {
            Some(lock) if lock.value == Lock::Governance && bypass => from.expect_bypass(caller)?,
            Some(lock) => {
                return Err(Error::Held(format!(
                    "{what} is locked ({}, by namespace '{}'): it cannot be taken to where it would be kept less strictly",
                    lock.value.name(),
                    lock.path
                )));
            }
            None => {}
        }
        caller.expect_at(Right::Purge, place)
    }
}

#[cfg(test)]
mod tests;
