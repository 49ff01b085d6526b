use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::registry;
use crate::meter::{Distribution, Times};

/// How often one command ran, how it ended, and how long it took.
#[derive(Debug)]
pub struct CommandStats {
    times: Times,
    rejected: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
}

/// A copy of [`CommandStats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandCounts {
    /// How long each call took that ran to its end, in microseconds.
    pub times: Distribution<17>,
    /// Calls refused before their handler ran.
    pub rejected: u64,
    /// Calls that ended with an error.
    pub failed: u64,
    /// Calls dropped before their end, because nobody waited any more.
    pub cancelled: u64,
}

impl CommandCounts {
    /// Calls that ran to their end.
    pub fn calls(&self) -> u64 {
        self.times.count()
    }

    /// Calls that ended without an error.
    pub fn succeeded(&self) -> u64 {
        self.calls().saturating_sub(self.failed)
    }

    /// Whether there was no call at all.
    pub fn is_unused(&self) -> bool {
        self.calls() == 0 && self.rejected == 0 && self.cancelled == 0
    }
}

impl Default for CommandStats {
    fn default() -> Self {
        Self {
            times: Times::times(),
            rejected: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
        }
    }
}

impl CommandStats {
    /// Counts a call that ran to its end.
    pub fn note(&self, took: Duration, failed: bool) {
        self.times.note_time(took);
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call that was refused before its handler ran.
    pub fn note_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that was dropped before its end.
    pub fn note_cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> CommandCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CommandCounts {
            times: self.times.read(),
            rejected: load(&self.rejected),
            failed: load(&self.failed),
            cancelled: load(&self.cancelled),
        }
    }
}

/// What a node counts about its clients, since its start. INFO and the metrics page show it.
#[derive(Debug)]
pub struct Stats {
    commands: Vec<CommandStats>,
    /// By the first word of the reply. A lock, since errors are not the hot path.
    errors: Mutex<BTreeMap<&'static str, u64>>,
    /// Connections taken.
    pub connections: AtomicU64,
    /// Connections refused because there were too many.
    pub connections_rejected: AtomicU64,
    /// Connections closed because nothing came from them.
    pub closed_idle: AtomicU64,
    /// Connections closed because they did not read their replies.
    pub closed_slow: AtomicU64,
    /// Connections closed because what came from them can't be read.
    pub closed_protocol: AtomicU64,
    /// Connections closed because their request had no room beside those of others.
    pub closed_memory: AtomicU64,
    /// Commands that aren't in the table.
    pub unknown_commands: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        let count = registry::table().specs().len();
        Self {
            commands: std::iter::repeat_with(CommandStats::default).take(count).collect(),
            errors: Mutex::default(),
            connections: AtomicU64::new(0),
            connections_rejected: AtomicU64::new(0),
            closed_idle: AtomicU64::new(0),
            closed_slow: AtomicU64::new(0),
            closed_protocol: AtomicU64::new(0),
            closed_memory: AtomicU64::new(0),
            unknown_commands: AtomicU64::new(0),
        }
    }
}

impl Stats {
    /// The counters of the command at this place of the table.
    pub fn command(&self, index: usize) -> Option<&CommandStats> {
        self.commands.get(index)
    }

    /// What was counted of every command, in the order of the table.
    pub fn commands(&self) -> impl Iterator<Item = CommandCounts> {
        self.commands.iter().map(CommandStats::read)
    }

    /// Counts an error reply by its code.
    pub fn note_error(&self, code: &'static str) {
        *self.lock_errors().entry(code).or_default() += 1;
    }

    /// How many error replies there were of each code.
    pub fn errors(&self) -> BTreeMap<&'static str, u64> {
        self.lock_errors().clone()
    }

    fn lock_errors(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
