//! What the handles of one local store have in common.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore};

use super::types::{Stats, Transactions};
use super::view::{Published, RowSink, View};
use super::watch::WatchTable;
use super::{Error, Result};
use crate::codec::Versionstamp;
use crate::meter::{Sizes, Times};

/// Long scans that may wait for the disk at the same time.
const SCANS_MAX: usize = 16;

/// The published state and what hangs on it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) published: ArcSwap<Published>,
    pub(super) watches: WatchTable,
    pub(super) counters: Counters,
    /// Told when marks of dropped prefixes are forgotten, and when the store closes.
    pub(super) reclaimed: Arc<Notify>,
    /// Snapshots held for longer than transactions may: what they show must not be destroyed.
    pub(super) pins: AtomicU64,
    /// Why nothing is committed any more.
    pub(super) stopped: OnceLock<Error>,
    /// Bounds the threads that long scans take from the blocking pool.
    pub(super) scans: Semaphore,
}

impl Shared {
    pub(super) fn new(published: Published) -> Self {
        Self {
            published: ArcSwap::from_pointee(published),
            watches: WatchTable::default(),
            counters: Counters::default(),
            reclaimed: Arc::new(Notify::new()),
            pins: AtomicU64::new(0),
            stopped: OnceLock::new(),
            scans: Semaphore::new(SCANS_MAX),
        }
    }

    /// Refuses all further commits, for the first reason that is given.
    pub(super) fn stop(&self, error: Error) {
        let _first = self.stopped.set(error);
    }

    pub(super) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let published = self.published.load();
        Stats {
            commits: read(&counters.commits),
            reads: read(&counters.reads),
            conflicts: read(&counters.conflicts),
            batches: read(&counters.batches),
            batch_max: read(&counters.batch_max),
            fsyncs: read(&counters.fsyncs),
            open_transactions: read(&counters.open_transactions),
            watches: self.watches.len(),
            version: published.version,
            history: read(&counters.history),
            dropped_prefixes: super::sequencer::count(published.dropped.len()),
            disk_bytes: 0,
            written_bytes: read(&counters.written_bytes),
            batch_sizes: counters.batch_sizes.read(),
            batch_times: counters.batch_times.read(),
            transactions: Transactions::default(),
        }
    }
}

/// A snapshot that does not expire.
#[derive(Debug)]
pub(super) struct Pin {
    shared: Arc<Shared>,
    published: Arc<Published>,
    view: Arc<Box<dyn View>>,
}

impl Pin {
    /// The newest state.
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self> {
        // Counted before it is taken: whoever finds no pin can be sure that later ones are newer.
        shared.pins.fetch_add(1, Ordering::SeqCst);
        let published = shared.published.load_full();
        match published.view() {
            Ok(view) => Ok(Self { shared, published, view }),
            Err(error) => {
                shared.pins.fetch_sub(1, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.published.version
    }

    pub(super) fn metadata_version(&self) -> Versionstamp {
        self.published.metadata_version
    }

    /// All rows of a range.
    pub(super) fn scan(&self, begin: &[u8], end: &[u8], sink: RowSink<'_>) -> Result<()> {
        self.published.dropped.scan(&**self.view, begin, end, false, sink)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.pins.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counted since the store was opened.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) batch_max: AtomicU64,
    pub(super) fsyncs: AtomicU64,
    pub(super) open_transactions: AtomicU64,
    pub(super) history: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) batch_sizes: Sizes,
    pub(super) batch_times: Times,
    /// Makes attempt tokens and jitter, the same in each run of a simulation.
    pub(super) sequence: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            commits: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            batch_max: AtomicU64::new(0),
            fsyncs: AtomicU64::new(0),
            open_transactions: AtomicU64::new(0),
            history: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            batch_sizes: Sizes::sizes(),
            batch_times: Times::times(),
            sequence: AtomicU64::new(0),
        }
    }
}

impl Counters {
    pub(super) fn batch(&self, commits: u64, bytes: u64, took: Duration) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.batch_sizes.note(commits);
        self.batch_times.note_time(took);
        self.commits.fetch_add(commits, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.batch_max.fetch_max(commits, Ordering::Relaxed);
    }
}

/// A lock whose holders cannot leave the value half changed, so that a panic elsewhere does not matter.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
