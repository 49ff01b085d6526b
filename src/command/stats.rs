use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::registry;

/// How often one command ran, and for how long.
#[derive(Debug, Default)]
pub struct CommandStats {
    calls: AtomicU64,
    microseconds: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
}

impl CommandStats {
    /// Counts a call that ran.
    pub fn note(&self, took: Duration, failed: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if microseconds > 0 {
            self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        }
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call that was refused before its handler ran.
    pub fn note_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls, microseconds, rejected calls and failed calls.
    pub fn read(&self) -> (u64, u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.calls), load(&self.microseconds), load(&self.rejected), load(&self.failed))
    }
}

/// What INFO counts, since the start.
#[derive(Debug)]
pub struct Stats {
    commands: Vec<CommandStats>,
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
}
