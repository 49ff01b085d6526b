use serde::{Deserialize, Serialize};

use super::{Actor, KeepRecord};
use crate::codec::NamespaceId;

/// Who may end the time of something removed before it is over.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Lock {
    /// Whoever has the purge right, once the minimum is over.
    #[default]
    None,
    /// The same, but only who says so with `BYPASS-GOVERNANCE`.
    Governance,
    /// Nobody.
    Compliance,
}

impl Lock {
    /// All of them, the strictest last.
    pub const ALL: [Self; 3] = [Self::None, Self::Governance, Self::Compliance];

    /// As commands and replies write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }
}

/// What is set at a namespace, in its record: for all that is in it. What is not set
/// is as above it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<KeepRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_min: Option<KeepRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_max: Option<KeepRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tombstone_retention: Option<KeepRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tombstone_retention_min: Option<KeepRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tombstone_retention_max: Option<KeepRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_documents: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_removed_bytes: Option<i64>,
    /// Whether what is removed counts towards the other two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_counts_removed: Option<bool>,
}

impl PolicyRecord {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How long what is removed is kept: where nobody says, at least, and at most.
    pub const fn objects(&mut self) -> [&mut Option<KeepRecord>; 3] {
        [&mut self.retention, &mut self.retention_min, &mut self.retention_max]
    }

    /// The same of deleted documents.
    pub const fn documents(&mut self) -> [&mut Option<KeepRecord>; 3] {
        [
            &mut self.tombstone_retention,
            &mut self.tombstone_retention_min,
            &mut self.tombstone_retention_max,
        ]
    }

    /// Whether it says how long something must or may be kept, so that whoever removes
    /// a namespace above has to obey it.
    #[must_use]
    pub fn binds(&self) -> bool {
        self.lock.is_some_and(|lock| lock != Lock::None)
            || self.retention_min.is_some()
            || self.retention_max.is_some()
            || self.tombstone_retention_min.is_some()
            || self.tombstone_retention_max.is_some()
    }
}

/// What was promised when something was removed or deleted, whatever the policy says later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PromiseRecord {
    pub lock: Lock,
    /// Until when nobody destroys it; `i64::MAX`: ever. Of deleted documents on the
    /// bucket's own clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least_until: Option<i64>,
    /// Until when nobody destroys what was deleted in it before; `i64::MAX`: ever. It binds
    /// only where something was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents_until: Option<i64>,
}

impl PromiseRecord {
    /// Whether nothing was promised.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The strictest of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            lock: self.lock.max(other.lock),
            at_least_until: self.at_least_until.max(other.at_least_until),
            documents_until: self.documents_until.max(other.documents_until),
        }
    }
}

/// Who said how long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeptBy {
    Command,
    /// The server's configuration.
    Setting,
    /// The policy of this namespace.
    Namespace(NamespaceId),
}

/// `retention/<removal>`: when it expires; `None` means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionRecord {
    pub expires_at: Option<i64>,
    /// When RETAIN said so: what was restored above before gives no grace.
    #[serde(default)]
    pub set_at: Option<i64>,
    #[serde(default, skip_serializing_if = "PromiseRecord::is_none")]
    pub promise: PromiseRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_by: Option<KeptBy>,
}

/// `hold/<removal>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    pub owner: String,
    pub reason: String,
    #[serde(default)]
    pub review_at: Option<i64>,
    pub since: i64,
}

impl HoldRecord {
    /// Whether the date has passed on which it was to be looked at.
    #[must_use]
    pub fn is_overdue(&self, now: i64) -> bool {
        self.review_at.is_some_and(|at| at <= now)
    }
}

/// `request/<removal>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    pub by: Actor,
    pub at: i64,
    /// A lock of governance is to be passed by.
    #[serde(default)]
    pub bypass: bool,
    /// The namespace whose lock that was. One that another sets later is not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<NamespaceId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_promises_the_strictest_holds() {
        let promise = |lock, at_least_until| PromiseRecord {
            lock,
            at_least_until,
            ..PromiseRecord::default()
        };
        let one = promise(Lock::Governance, None);
        let other = promise(Lock::None, Some(7));
        assert_eq!(one.and(other), promise(Lock::Governance, Some(7)));
        assert_eq!(other.and(promise(Lock::Compliance, Some(5))).at_least_until, Some(7));
        let documents = PromiseRecord { documents_until: Some(9), ..PromiseRecord::default() };
        assert_eq!(documents.and(one).and(other).documents_until, Some(9));
        assert!(!documents.is_none(), "what is above it has to look");
        assert!(PromiseRecord::default().is_none() && !one.is_none() && !other.is_none());
    }

    #[test]
    fn a_default_and_quotas_bind_nobody_above() {
        let mut policy = PolicyRecord { quota_bytes: Some(1), ..PolicyRecord::default() };
        policy.retention = Some(KeepRecord { ms: Some(1) });
        assert!(!policy.binds() && !policy.is_empty());
        policy.lock = Some(Lock::None);
        assert!(!policy.binds());
        policy.lock = Some(Lock::Governance);
        assert!(policy.binds());
    }
}
