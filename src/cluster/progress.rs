//! How far this node's own follower is, for who asks whether the node is well.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::codec::Versionstamp;

/// What a node knows of its own following, without asking the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The last journal event that was applied.
    pub applied: Versionstamp,
    /// How long ago the store took the last heartbeat, which is written after the journal was
    /// applied; `None` before the first.
    pub beat_ago: Option<Duration>,
    /// The incarnation is over.
    pub ended: bool,
}

/// Where the follower notes it.
#[derive(Debug)]
pub(super) struct Notes(Mutex<Noted>);

#[derive(Debug)]
struct Noted {
    applied: Versionstamp,
    beat_at: Option<Instant>,
    ended: bool,
}

impl Notes {
    pub(super) fn new(applied: Versionstamp) -> Self {
        Self(Mutex::new(Noted { applied, beat_at: None, ended: false }))
    }

    pub(super) fn applied(&self, applied: Versionstamp) {
        self.lock().applied = applied;
    }

    pub(super) fn beat(&self, at: Instant) {
        self.lock().beat_at = Some(at);
    }

    pub(super) fn ended(&self) {
        self.lock().ended = true;
    }

    pub(super) fn read(&self) -> Progress {
        let noted = self.lock();
        Progress {
            applied: noted.applied,
            beat_ago: noted.beat_at.map(|at| at.elapsed()),
            ended: noted.ended,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
