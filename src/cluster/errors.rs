//! What can go wrong between a node and its cluster.

use crate::codec::DecodeError;
use crate::{error, store};

/// A result of the cluster layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the cluster layer answers when it does not answer with success.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Damaged(#[from] DecodeError),
    /// This node left the cluster or was evicted: nothing that it does as this
    /// incarnation may land any more.
    #[error("node '{node}' is no member of the cluster as incarnation {incarnation}")]
    NotMember { node: String, incarnation: u64 },
    /// Work for a shard that belongs to somebody else by now, or again.
    #[error("shard {shard} is no longer owned under epoch {epoch}")]
    ShardMoved { shard: u16, epoch: i64 },
    /// The work was told to stop before or while it ran.
    #[error("the work was stopped: what it works on is being removed or given away")]
    WorkStopped,
    /// The node's settings are not those that its cluster was made with.
    #[error("{0}")]
    Setting(String),
}

impl store::Failure for Error {
    fn store(&self) -> Option<&store::Error> {
        match self {
            Self::Store(error) => Some(error),
            Self::Damaged(_)
            | Self::NotMember { .. }
            | Self::ShardMoved { .. }
            | Self::WorkStopped
            | Self::Setting(_) => None,
        }
    }
}

impl From<Error> for error::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error.into(),
            Error::Damaged(error) => error.into(),
            error @ (Error::NotMember { .. }
            | Error::ShardMoved { .. }
            | Error::WorkStopped
            | Error::Setting(_)) => Self::Internal(error.to_string()),
        }
    }
}

impl Error {
    /// Whether only the store is out of reach just now: waiting may help, and
    /// nobody is to blame.
    pub(super) fn is_outage(&self) -> bool {
        use store::Error as E;
        matches!(
            self,
            Self::Store(
                E::Conflict
                    | E::TooOld
                    | E::FutureVersion
                    | E::CommitUnknown
                    | E::TimedOut
                    | E::Cancelled
                    | E::Unavailable(_)
                    | E::FoundationDb { .. }
                    | E::Stopped { .. }
                    | E::Io { .. }
                    | E::TooManyWatches { .. }
            )
        )
    }
}
