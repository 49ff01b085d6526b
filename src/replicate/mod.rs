//! `lethe replicate`: follows a bucket of one cluster and keeps a bucket of
//! another the same.
//!
//! ```text
//!   source                                          target
//!   REPLICA REGISTER      from here on it misses nothing
//!   QUERY, page by page ──────────────────────────► APPLY, and what is not there goes
//!   ACK                   the snapshot is complete
//!   CHANGES WITH-DOCS ────────────────────────────► APPLY
//!   ACK                   only behind the target's commit
//! ```
//!
//! What is sent is the state of documents, so that sending it again changes
//! nothing. Where it stands the source knows, by the replica's checkpoint; the
//! replica bears the name of the target's instance, so that another target begins
//! with a snapshot of its own. Nothing is kept here: the process may end at any
//! point, and either side may be away for as long as the lease lasts.
//! How far a snapshot is the target notes, with the pages that it takes over, so that one
//! which was interrupted goes on there.
//!
//! Not here: the commands it uses (`command::feed`), the terminal (`cli`).

mod follow;
mod peer;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use crate::client::Address;

use crate::client;
use follow::Follower;

/// The first and the longest pause before it tries again.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is to be replicated.
#[derive(Debug, Clone)]
pub struct Options {
    pub from: Address,
    pub to: Address,
    /// Of the source.
    pub bucket: String,
    /// Of the target, which is made if it is not there.
    pub to_bucket: String,
    /// Name of the replica; `None`: made of the target's instance.
    pub name: Option<String>,
    /// How long the replica may be silent, as `REGISTER` takes it; `None`: what the source has as default.
    pub lease: Option<String>,
    /// Ends when nothing is left to take over.
    pub once: bool,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A node refused, and will again.
    #[error("{side}: {command}: {error}")]
    Refused { side: &'static str, command: String, error: String },
    /// A node answered something that cannot be understood.
    #[error("{side}: {command}: unexpected answer {answer}")]
    Unexpected { side: &'static str, command: String, answer: String },
    /// A node cannot be reached, or not at the moment.
    #[error("{side}: {error}")]
    Away { side: &'static str, error: String },
}

impl Error {
    fn client(side: &'static str) -> impl Fn(client::Error) -> Self {
        move |error| match error {
            client::Error::NotLetIn(error) => {
                Self::Refused { side, command: "AUTH".to_owned(), error }
            }
            client::Error::Untrusted { .. } | client::Error::Tls(_) => {
                Self::Refused { side, command: "TLS".to_owned(), error: error.to_string() }
            }
            client::Error::Io(_)
            | client::Error::Protocol(_)
            | client::Error::Unreachable { .. } => Self::Away { side, error: error.to_string() },
        }
    }

    /// Whether it may go on when it is tried again.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// What is done at the moment, for people to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A snapshot that had been interrupted goes on behind this document.
    Resumed { after: String },
    /// Documents of the snapshot that have been compared, and those that were
    /// deleted at the target because the source has them no more.
    Snapshot { documents: u64, deleted: u64 },
    /// Changes taken over since it began, and those that are left (up to 10,000 are counted).
    Changes { applied: u64, behind: u64 },
    /// There is nothing left at the moment.
    CaughtUp { applied: u64 },
    /// A node is away.
    Waiting { error: String, again_in: Duration },
}

/// Replicates until there is nothing left, if that was asked for, or until `stop`.
///
/// # Errors
/// The first that trying again would not mend; with `once` also that a node is away.
pub async fn run(
    options: &Options,
    stop: &CancellationToken,
    mut report: impl FnMut(Progress),
) -> Result<(), Error> {
    let mut pause = PAUSE_MIN;
    loop {
        let begun = Instant::now();
        let followed = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            followed = follow(options, &mut report) => followed,
        };
        let error = match followed {
            Err(error) if error.is_passing() && !options.once => error.to_string(),
            ended => return ended,
        };
        // It went well for a while: this is a new trouble.
        if begun.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        report(Progress::Waiting { error, again_in: pause });
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn follow(options: &Options, report: &mut impl FnMut(Progress)) -> Result<(), Error> {
    let mut follower = Follower::connect(options).await?;
    loop {
        follower.settle(report).await?;
        match follower.changes(report).await? {
            follow::End::CaughtUp => return Ok(()),
            follow::End::Resync => {}
        }
    }
}
