//! What one user of a store has asked of it, counted alike on every engine.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Error;
use super::types::Transactions;

/// Counted since the handle was made; its clones count together, [`super::Store::as_client`] starts anew.
#[derive(Debug, Default)]
pub(super) struct Calls {
    begun: AtomicU64,
    committed: AtomicU64,
    conflicts: AtomicU64,
    too_old: AtomicU64,
    unknown: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
    retries: AtomicU64,
}

impl Calls {
    pub(super) fn begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn committed(&self) {
        self.committed.fetch_add(1, Ordering::Relaxed);
    }

    /// The body wanted no commit.
    pub(super) fn given_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt ended with this error.
    pub(super) fn failed(&self, error: &Error) {
        let counter = match error {
            Error::Conflict => &self.conflicts,
            Error::TooOld | Error::FutureVersion => &self.too_old,
            error if error.maybe_committed() => &self.unknown,
            _ => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Transactions {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Transactions {
            begun: read(&self.begun),
            committed: read(&self.committed),
            conflicts: read(&self.conflicts),
            too_old: read(&self.too_old),
            unknown: read(&self.unknown),
            failed: read(&self.failed),
            given_up: read(&self.given_up),
            retries: read(&self.retries),
        }
    }
}
