//! What a policy consists of, by name.

use std::fmt;

use crate::codec::duration::format_retention;
use crate::codec::record::{KeepRecord, Lock, PolicyRecord};

/// One of the things that a policy may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Retention,
    RetentionMin,
    RetentionMax,
    TombstoneRetention,
    TombstoneRetentionMin,
    TombstoneRetentionMax,
    Lock,
    QuotaDocuments,
    QuotaBytes,
    QuotaRemovedBytes,
    QuotaCountsRemoved,
}

/// Its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    Keep(KeepRecord),
    Lock(Lock),
    Count(i64),
    Flag(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(keep) => f.write_str(&format_retention((*keep).into())),
            Self::Lock(lock) => f.write_str(lock.name()),
            Self::Count(count) => count.fmt(f),
            Self::Flag(flag) => f.write_str(if *flag { "yes" } else { "no" }),
        }
    }
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Retention,
        Self::RetentionMin,
        Self::RetentionMax,
        Self::TombstoneRetention,
        Self::TombstoneRetentionMin,
        Self::TombstoneRetentionMax,
        Self::Lock,
        Self::QuotaDocuments,
        Self::QuotaBytes,
        Self::QuotaRemovedBytes,
        Self::QuotaCountsRemoved,
    ];

    /// As commands and replies write it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::RetentionMin => "retention-min",
            Self::RetentionMax => "retention-max",
            Self::TombstoneRetention => "tombstone-retention",
            Self::TombstoneRetentionMin => "tombstone-retention-min",
            Self::TombstoneRetentionMax => "tombstone-retention-max",
            Self::Lock => "lock",
            Self::QuotaDocuments => "quota-documents",
            Self::QuotaBytes => "quota-bytes",
            Self::QuotaRemovedBytes => "quota-removed-bytes",
            Self::QuotaCountsRemoved => "quota-counts-removed",
        }
    }

    /// The one of this name, in any case.
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|name| word.eq_ignore_ascii_case(name.text().as_bytes()))
    }

    /// What a record sets it to.
    #[must_use]
    pub fn read(self, record: &PolicyRecord) -> Option<Value> {
        match self {
            Self::Retention => record.retention.map(Value::Keep),
            Self::RetentionMin => record.retention_min.map(Value::Keep),
            Self::RetentionMax => record.retention_max.map(Value::Keep),
            Self::TombstoneRetention => record.tombstone_retention.map(Value::Keep),
            Self::TombstoneRetentionMin => record.tombstone_retention_min.map(Value::Keep),
            Self::TombstoneRetentionMax => record.tombstone_retention_max.map(Value::Keep),
            Self::Lock => record.lock.map(Value::Lock),
            Self::QuotaDocuments => record.quota_documents.map(Value::Count),
            Self::QuotaBytes => record.quota_bytes.map(Value::Count),
            Self::QuotaRemovedBytes => record.quota_removed_bytes.map(Value::Count),
            Self::QuotaCountsRemoved => record.quota_counts_removed.map(Value::Flag),
        }
    }

    /// Sets it in a record, or unsets it. A value of another kind unsets it.
    pub fn write(self, record: &mut PolicyRecord, value: Option<Value>) {
        let keep = match value {
            Some(Value::Keep(keep)) => Some(keep),
            _ => None,
        };
        let count = match value {
            Some(Value::Count(count)) => Some(count),
            _ => None,
        };
        match self {
            Self::Retention => record.retention = keep,
            Self::RetentionMin => record.retention_min = keep,
            Self::RetentionMax => record.retention_max = keep,
            Self::TombstoneRetention => record.tombstone_retention = keep,
            Self::TombstoneRetentionMin => record.tombstone_retention_min = keep,
            Self::TombstoneRetentionMax => record.tombstone_retention_max = keep,
            Self::Lock => {
                record.lock = match value {
                    Some(Value::Lock(lock)) => Some(lock),
                    _ => None,
                }
            }
            Self::QuotaDocuments => record.quota_documents = count,
            Self::QuotaBytes => record.quota_bytes = count,
            Self::QuotaRemovedBytes => record.quota_removed_bytes = count,
            Self::QuotaCountsRemoved => {
                record.quota_counts_removed = match value {
                    Some(Value::Flag(flag)) => Some(flag),
                    _ => None,
                }
            }
        }
    }
}
