//! What may go wrong in the store, told apart by what the caller may do next.

use std::sync::Arc;

/// What the store answers when it does not answer with success.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something this transaction read was written since. Try again.
    #[error("the transaction conflicts with another one")]
    Conflict,
    /// The snapshot is older than five seconds. Try again.
    #[error("the transaction is older than 5 seconds")]
    TooOld,
    /// The storage server has not reached the read version yet. Try again.
    #[error("the read version is not available yet")]
    FutureVersion,
    /// The commit has landed, or has not, or will land later.
    #[error("the outcome of the commit is unknown")]
    CommitUnknown,
    /// The time allowed ran out; a commit under way may still land.
    #[error("the store did not answer in time")]
    TimedOut,
    /// The operation was given up; a commit under way may still land.
    #[error("the operation was cancelled")]
    Cancelled,
    /// More bytes than one transaction may carry.
    #[error("the transaction has {size} bytes, more than the limit of {limit}")]
    TransactionTooLarge { size: usize, limit: usize },
    /// A longer key than the store takes.
    #[error("a key has {size} bytes, more than the limit of {limit}")]
    KeyTooLarge { size: usize, limit: usize },
    /// A longer value than the store takes.
    #[error("a value has {size} bytes, more than the limit of {limit}")]
    ValueTooLarge { size: usize, limit: usize },
    /// Keys from `\xff` on belong to the store itself.
    #[error("a key lies outside the legal range")]
    KeyOutsideLegalRange,
    /// A range ends before it begins.
    #[error("a range ends before it begins")]
    InvertedRange,
    /// A place for a versionstamp lies outside its key or value.
    #[error("the place of a versionstamp lies outside its key or value")]
    BadVersionstampOffset,
    /// Too many watches are armed or about to be.
    #[error("more than {limit} watches")]
    TooManyWatches { limit: usize },
    /// The transaction was used while its commit was under way.
    #[error("the transaction was used while it was being committed")]
    UsedDuringCommit,
    /// A key was read whose value only the commit will decide.
    #[error("a key was read whose value is only known after the commit")]
    AccessedUnreadable,
    /// Writing has stopped for good: a failed sync, a full disk. Reads go on.
    #[error("the store has stopped writing: {reason}")]
    Stopped { reason: String },
    /// Stored bytes are not what was written.
    #[error("the store is damaged: {detail}")]
    Corrupt { detail: String },
    /// The store cannot be reached. Nothing was changed.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// An error of FoundationDB that has no name of its own here.
    #[error("{message}")]
    FoundationDb { code: i32, message: &'static str, retryable: bool },
    /// The operating system refused.
    #[error("{context}: {source}")]
    Io { context: String, source: Arc<std::io::Error> },
    /// This engine cannot do it; the message says what can.
    #[error("{0}")]
    Unsupported(String),
    /// The data folder is not one that this program may use.
    #[error("{0}")]
    Format(String),
}

impl Error {
    /// Whether running the whole transaction again may succeed soon.
    ///
    /// True for [`Error::CommitUnknown`] as well: whether it may be *repeated* is for [`super::Resolve`] to say.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Conflict
                | Self::TooOld
                | Self::FutureVersion
                | Self::CommitUnknown
                | Self::TimedOut
                | Self::Cancelled
                | Self::FoundationDb { retryable: true, .. }
        )
    }

    /// Whether a commit that ended with this error may have landed or may still land.
    pub const fn maybe_committed(&self) -> bool {
        matches!(self, Self::CommitUnknown | Self::TimedOut | Self::Cancelled)
    }

    /// An error of the operating system, with what was being done.
    pub fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { context: context.into(), source: Arc::new(source) }
    }
}

/// What a store operation gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;
