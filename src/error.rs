//! The answers that are not a success.
//!
//! [`Error`] says what the *client* may do; `store::Error` says what the
//! transaction runner may do. A variant exists only if somebody reacts to it
//! differently. This is the one place where codes and messages are made;
//! docs/errors.md lists them.

use crate::codec::record::PauseOf;
use crate::codec::{BucketId, DecodeError, Sequence, Versionstamp};
use crate::store;

pub type Result<T> = std::result::Result<T, Error>;

/// Everything a command can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Arity, an unknown option, a number that does not parse: the message
    /// says what was wrong and what is allowed.
    #[error("{0}")]
    Syntax(String),
    #[error("No such namespace: '{0}'")]
    NoSuchNamespace(String),
    #[error("Namespace already exists: {0}")]
    NamespaceAlreadyExists(String),
    /// The namespace, or the one above it that is named, is removed.
    #[error("Namespace '{0}' is being removed")]
    NamespaceBeingRemoved(String),
    #[error("No such bucket: '{0}'")]
    NoSuchBucket(String),
    #[error("Bucket already exists: {0}")]
    BucketAlreadyExists(String),
    #[error("Bucket '{0}' is being removed")]
    BucketBeingRemoved(String),
    /// The removal or instance id names nothing that is known.
    #[error("No such removal: '{0}'")]
    NoSuchRemoval(String),
    /// A name that fits several removed instances.
    #[error("{0}")]
    AmbiguousRemoved(String),
    #[error("{0}")]
    RemovedExpired(String),
    #[error("{0}")]
    AlreadyPurging(String),
    #[error("{0}")]
    BarrierNotSatisfied(String),
    #[error("{0}")]
    Held(String),
    #[error("Bucket '{0}' is protected")]
    Protected(String),
    #[error("Namespace '{0}' is protected")]
    NamespaceProtected(String),
    /// The clocks of the members cannot be trusted: nothing is purged.
    #[error("{0}")]
    ClockSuspect(String),
    /// PURGE.PAUSE is in force.
    #[error("{0}")]
    PurgePaused(String),
    #[error("{0}")]
    RetentionOutOfRange(String),
    /// A write that would let a namespace hold more than its quota.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The message begins with what is duplicate.
    #[error("Duplicate key: {0}")]
    DuplicateKey(String),
    #[error("No such replica: '{0}'")]
    NoSuchReplica(String),
    /// What it has not read may be gone.
    #[error(
        "Replica '{replica}' has to start again from a snapshot: it was silent for too long, or \
         asks for changes at or below {floor}, which are no longer kept"
    )]
    ResyncRequired { replica: String, floor: Sequence },
    /// A reader that asks for changes that are no longer kept.
    #[error("Changes at or below {0} are no longer kept: start from a snapshot")]
    FeedTruncated(Sequence),
    /// A bucket that would take over its own changes, perhaps by way of others.
    #[error("Bucket {0} would follow itself: replication goes one way")]
    ReplicationLoop(String),
    #[error("No such index: '{0}'")]
    NoSuchIndex(String),
    /// An index whose strings have keys of other collation data than this program's.
    #[error(
        "Index '{index}' was built with collation data {built}, and this node has {here}: it is \
         being built anew, or waits for BUCKET.INDEX REINDEX"
    )]
    IndexStale { index: String, built: String, here: &'static str },
    /// A value that an index with strict types refuses.
    #[error(
        "Index type mismatch: index '{index}' expects '{declared}', but selector '{selector}' \
         matched a value of type '{found}'"
    )]
    IndexTypeMismatch {
        index: String,
        declared: &'static str,
        selector: String,
        found: &'static str,
    },
    #[error("{0}")]
    Transaction(&'static str),
    /// A versionstamp was asked for and there was nothing to commit.
    #[error("Transaction is read-only and therefore does not have a commit version")]
    NoCommitVersion,
    /// A swap lets the writers of a bucket wait: they wait and begin anew.
    #[error("Writes wait for a swap")]
    WritesPaused { bucket: BucketId, pause: PauseOf },
    #[error("{0}")]
    NoPermission(String),
    #[error(
        "HELLO must be called with the client already authenticated, otherwise the \
         HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
         select the RESP protocol version at the same time"
    )]
    HelloNotLoggedIn,
    #[error("unsupported protocol version")]
    UnsupportedProtocol,
    /// The connection has not logged in, or its user is gone.
    #[error("Authentication required.")]
    NotLoggedIn,
    #[error("invalid username-password pair or user is disabled.")]
    WrongPassword,
    /// The store could not do it: conflict, limit, outage.
    #[error("{}", store_message(.0))]
    Store(#[from] store::Error),
    /// What is stored cannot be read: damage or a bug. Ours to look at.
    #[error("the stored data is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// Ours to fix: a broken invariant. The detail goes to the log.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// A syntax error with this message.
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::Syntax(message.into())
    }

    /// The first word of the RESP error. There is no catch-all arm, so that a
    /// new variant does not compile without a code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Syntax(_) | Self::Damaged(_) | Self::Internal(_) => "ERR",
            Self::NoSuchNamespace(_) => "NOSUCHNAMESPACE",
            Self::NamespaceAlreadyExists(_) => "NAMESPACEALREADYEXISTS",
            Self::NamespaceBeingRemoved(_) => "NAMESPACEBEINGREMOVED",
            Self::NoSuchBucket(_) => "NOSUCHBUCKET",
            Self::BucketAlreadyExists(_) => "BUCKETALREADYEXISTS",
            Self::BucketBeingRemoved(_) => "BUCKETBEINGREMOVED",
            Self::NoSuchRemoval(_) => "NOSUCHREMOVAL",
            Self::AmbiguousRemoved(_) => "AMBIGUOUSREMOVED",
            Self::RemovedExpired(_) => "REMOVEDEXPIRED",
            Self::AlreadyPurging(_) => "ALREADYPURGING",
            Self::BarrierNotSatisfied(_) => "BARRIERNOTSATISFIED",
            Self::Held(_) => "HELD",
            Self::Protected(_) | Self::NamespaceProtected(_) => "PROTECTED",
            Self::ClockSuspect(_) => "CLOCKSUSPECT",
            Self::PurgePaused(_) => "PURGEPAUSED",
            Self::RetentionOutOfRange(_) => "RETENTIONOUTOFRANGE",
            Self::QuotaExceeded(_) => "QUOTAEXCEEDED",
            Self::DuplicateKey(_) => "DUPLICATEKEY",
            Self::NoSuchReplica(_) => "NOSUCHREPLICA",
            Self::ResyncRequired { .. } => "RESYNCREQUIRED",
            Self::FeedTruncated(_) => "FEEDTRUNCATED",
            Self::ReplicationLoop(_) => "REPLICATIONLOOP",
            Self::NoSuchIndex(_) => "NOSUCHINDEX",
            Self::IndexStale { .. } => "INDEXSTALE",
            Self::IndexTypeMismatch { .. } => "INDEXTYPE_MISMATCH",
            Self::Transaction(_) => "TRANSACTION",
            Self::NoCommitVersion => "NO_COMMIT_VERSION",
            Self::WritesPaused { .. } => "TRYAGAIN",
            Self::NoPermission(_) => "NOPERM",
            Self::NotLoggedIn | Self::HelloNotLoggedIn => "NOAUTH",
            Self::UnsupportedProtocol => "NOPROTO",
            Self::WrongPassword => "WRONGPASS",
            Self::Store(error) => store_code(error),
        }
    }

    /// The beginning of the message that PURGE answers when not everybody has
    /// seen the removal; who and what is missing follows.
    #[must_use]
    pub fn barrier_not_satisfied(version: Versionstamp, missing: &str) -> Self {
        Self::BarrierNotSatisfied(format!(
            "Barrier not satisfied: not all shards observed version {version}: {missing}"
        ))
    }

    /// The whole line behind the `-` of a RESP error: code and message, without
    /// control characters, so that a name with a line end in it cannot end the
    /// frame.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{} {self}", self.code())
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect()
    }
}

/// The code of a store error: FoundationDB's name for it, where it has one.
const fn store_code(error: &store::Error) -> &'static str {
    match error {
        store::Error::Conflict => "NOT_COMMITTED",
        store::Error::TooOld => "TRANSACTION_TOO_OLD",
        store::Error::FutureVersion => "FUTURE_VERSION",
        store::Error::CommitUnknown => "COMMIT_UNKNOWN_RESULT",
        store::Error::TimedOut => "TRANSACTION_TIMED_OUT",
        store::Error::Cancelled => "TRANSACTION_CANCELLED",
        store::Error::TransactionTooLarge { .. } => "TRANSACTION_TOO_LARGE",
        store::Error::KeyTooLarge { .. } => "KEY_TOO_LARGE",
        store::Error::ValueTooLarge { .. } => "VALUE_TOO_LARGE",
        store::Error::InvertedRange => "INVERTED_RANGE",
        store::Error::TooManyWatches { .. } => "TOO_MANY_WATCHES",
        store::Error::UsedDuringCommit => "USED_DURING_COMMIT",
        store::Error::AccessedUnreadable => "ACCESSED_UNREADABLE",
        store::Error::Stopped { .. } => "STORESTOPPED",
        store::Error::Unavailable(_) => "STOREUNAVAILABLE",
        store::Error::Corrupt { .. } => "STOREDAMAGED",
        store::Error::FoundationDb { code, .. } => foundationdb_code(*code),
        store::Error::KeyOutsideLegalRange
        | store::Error::BadVersionstampOffset
        | store::Error::Io { .. }
        | store::Error::Unsupported(_)
        | store::Error::Format(_) => "ERR",
    }
}

/// The names of those codes of FoundationDB that applications know and that are not told apart above.
const fn foundationdb_code(code: i32) -> &'static str {
    match code {
        1004 => "TIMED_OUT",
        1032 => "TOO_MANY_WATCHES",
        1036 => "ACCESSED_UNREADABLE",
        2005 => "INVERTED_RANGE",
        2012 => "RANGE_LIMITS_INVALID",
        2017 => "USED_DURING_COMMIT",
        2021 => "NO_COMMIT_VERSION",
        2101 => "TRANSACTION_TOO_LARGE",
        2102 => "KEY_TOO_LARGE",
        2103 => "VALUE_TOO_LARGE",
        _ => "ERR",
    }
}

/// The message of a store error: FoundationDB's text for those that clients of
/// FoundationDB know, ours for the others.
fn store_message(error: &store::Error) -> String {
    match error {
        store::Error::Conflict => {
            "Transaction not committed due to conflict with another transaction".to_owned()
        }
        store::Error::TooOld => {
            "Transaction is too old to perform reads or be committed".to_owned()
        }
        store::Error::CommitUnknown => "Transaction may or may not have committed".to_owned(),
        store::Error::TransactionTooLarge { size, limit } => {
            format!("Transaction exceeds byte limit: {size} bytes, at most {limit}")
        }
        store::Error::KeyTooLarge { size, limit } => {
            format!("Key length exceeds limit: {size} bytes, at most {limit}")
        }
        store::Error::ValueTooLarge { size, limit } => {
            format!("Value length exceeds limit: {size} bytes, at most {limit}")
        }
        other => other.to_string(),
    }
}

impl store::Failure for Error {
    fn store(&self) -> Option<&store::Error> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
