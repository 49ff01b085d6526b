//! Destroys what lies below dropped prefixes, and forgets their marks when nothing is left.
//!
//! ```text
//!   dropped ──► no older snapshot open ──► memtable flushed ──► whole tables dropped ──► the rest compacted away ──► raw scan finds nothing ──► mark forgotten
//! ```
//!
//! Each step may be done again, and the marks are in the store, so a crash only means that it starts over. While it compacts, a filter
//! throws away every key below a prefix that is being destroyed. Prefixes dropped while a pass runs wait for the next one, and
//! passes rest in proportion to what they took, so that many purges cost few compactions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};
use fjall::{AbstractTree, UserKey};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::committer::{Chore, Queue};
use super::engine::Handles;

use crate::store::shared::{Shared, lock};
use crate::store::types::{Reclaim, prefix_end};
use crate::store::view::Dropped;
use crate::store::{Error, Result};

/// After so many bytes it is told how far a pass is.
const TOLD_BYTES: u64 = 1 << 20;
/// A pass that took one second is followed by at least so many seconds of rest.
const REST_FACTOR: u32 = 3;
const REST_MIN: Duration = Duration::from_millis(20);
const REST_MAX: Duration = Duration::from_secs(3600);
/// How often it looks whether older snapshots are closed and memtables flushed.
const STEP: Duration = Duration::from_millis(10);

/// Keys below these prefixes are thrown away by every compaction.
#[derive(Debug, Default)]
pub(super) struct Condemned {
    prefixes: RwLock<Dropped>,
    destroyed: AtomicU64,
    /// Bytes of keys and values that the present pass has looked through.
    seen_bytes: AtomicU64,
    /// Who waits is told when it has come further.
    moved: OnceLock<Arc<Notify>>,
}

impl Condemned {
    /// Says whom to tell how far it is.
    pub(super) fn tell(&self, shared: &Shared) {
        // Set once, when the store is opened.
        drop(self.moved.set(Arc::clone(&shared.reclaimed)));
    }

    fn saw(&self, bytes: u64) {
        self.seen_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(moved) = self.moved.get() {
            moved.notify_waiters();
        }
    }

    /// Bytes that the present pass has looked through.
    pub(super) fn seen_bytes(&self) -> u64 {
        self.seen_bytes.load(Ordering::Relaxed)
    }
}

/// Makes the filters of compactions.
#[derive(Debug)]
pub(super) struct CondemnedFactory(pub(super) Arc<Condemned>);

impl Factory for CondemnedFactory {
    fn name(&self) -> &'static str {
        "dropped prefixes"
    }

    fn make_filter(&self, _context: &Context) -> Box<dyn CompactionFilter> {
        let prefixes = self.0.prefixes.read().unwrap_or_else(PoisonError::into_inner).clone();
        let condemned = Arc::clone(&self.0);
        Box::new(CondemnedFilter { prefixes, condemned, destroyed: 0, seen: 0 })
    }
}

struct CondemnedFilter {
    prefixes: Dropped,
    condemned: Arc<Condemned>,
    destroyed: u64,
    /// Bytes looked through that were not told of yet.
    seen: u64,
}

impl CompactionFilter for CondemnedFilter {
    fn filter_item(
        &mut self,
        item: ItemAccessor<'_>,
        _context: &Context,
    ) -> CompactionFilterResult {
        if self.prefixes.len() > 0 {
            let value = item.value().map_or(0, |value| value.len());
            self.seen += u64::try_from(item.key().len() + value).unwrap_or(0);
            if self.seen >= TOLD_BYTES {
                self.condemned.saw(std::mem::take(&mut self.seen));
            }
        }
        if !self.prefixes.hides(item.key()) {
            return Ok(Verdict::Keep);
        }
        self.destroyed += 1;
        Ok(Verdict::Destroy)
    }

    fn finish(self: Box<Self>) {
        self.condemned.destroyed.fetch_add(self.destroyed, Ordering::Relaxed);
    }
}

/// What the reclaimer tells and is told.
#[derive(Debug, Default)]
pub(super) struct Board {
    state: Mutex<BoardState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct BoardState {
    closing: bool,
    /// Raised by each drop, so that none is slept through.
    called: bool,
    /// Bytes returned by prefixes destroyed since the store was opened.
    returned: BTreeMap<Bytes, u64>,
    /// The same of those that the present pass destroys.
    so_far: BTreeMap<Bytes, u64>,
}

/// Finished prefixes that are remembered to answer for them.
const REMEMBERED_MAX: usize = 10_000;

impl Board {
    /// A prefix was dropped.
    pub(super) fn call(&self) {
        lock(&self.state).called = true;
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        lock(&self.state).closing = true;
        self.changed.notify_all();
    }

    /// How far a prefix is.
    pub(super) fn progress(&self, prefix: &[u8], dropped: &Dropped, pending: u64) -> Reclaim {
        if dropped.contains(prefix) {
            let so_far = lock(&self.state).so_far.get(prefix).copied();
            return Reclaim {
                done: false,
                pending_bytes: Some(pending),
                returned_bytes: Some(so_far.unwrap_or(0)),
            };
        }
        let returned_bytes = lock(&self.state).returned.get(prefix).copied();
        Reclaim { done: true, pending_bytes: Some(0), returned_bytes }
    }

    /// Waits for `timeout` or until closing; `true` when closing.
    fn pause(&self, timeout: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, timeout, |state| !state.closing);
        waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    /// Waits until a prefix is dropped; `true` when closing.
    fn wait_for_call(&self) -> bool {
        let state = lock(&self.state);
        let waited = self.changed.wait_while(state, |state| !state.closing && !state.called);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.called = false;
        state.closing
    }

    /// What the present pass has given back so far.
    fn note(&self, so_far: BTreeMap<Bytes, u64>) {
        lock(&self.state).so_far = so_far;
    }

    fn remember(&self, prefixes: &BTreeMap<Bytes, u64>) {
        let returned = &mut lock(&self.state).returned;
        if returned.len() + prefixes.len() > REMEMBERED_MAX {
            returned.clear();
        }
        returned.extend(prefixes.iter().map(|(prefix, bytes)| (prefix.clone(), *bytes)));
    }
}

/// The thread's means.
pub(super) struct Reclaimer {
    pub(super) handles: Handles,
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<Queue>,
    pub(super) board: Arc<Board>,
    pub(super) condemned: Arc<Condemned>,
}

impl Reclaimer {
    /// Starts the thread; it ends after [`Board::close`].
    pub(super) fn start(self) -> Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("lethe-reclaim".to_owned())
            .spawn(move || self.run())
            .map_err(|error| Error::io("cannot start the reclaimer", error))
    }

    fn run(&self) {
        // What an earlier process left is there without a call.
        self.board.call();
        while !self.board.wait_for_call() {
            loop {
                let (dropped, version) = {
                    let published = self.shared.published.load();
                    (published.dropped.clone(), published.version)
                };
                if dropped.len() == 0 {
                    break;
                }
                let started = Instant::now();
                match self.pass(&dropped, version) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        warn!(%error, "reclaim: dropped prefixes stay on disk until the store is opened again");
                        return;
                    }
                }
                let rest = (started.elapsed() * REST_FACTOR).clamp(REST_MIN, REST_MAX);
                if self.board.pause(rest) {
                    return;
                }
            }
        }
    }

    /// One pass over all prefixes dropped up to `version`; `false` when closing.
    fn pass(&self, dropped: &Dropped, version: u64) -> Result<bool> {
        if !self.wait_for_snapshots(version) || !self.flush()? {
            return Ok(false);
        }
        let tree = &self.handles.data.tree;
        *self.condemned.prefixes.write().unwrap_or_else(PoisonError::into_inner) = dropped.clone();
        let mut returned = BTreeMap::new();
        for prefix in dropped.iter() {
            let before = self.handles.data.disk_space();
            let range = prefix.to_vec()..prefix_end(prefix);
            tree.drop_range(range).map_err(storage)?;
            returned.insert(prefix.clone(), before.saturating_sub(self.handles.data.disk_space()));
            self.board.note(returned.clone());
            self.condemned.saw(0);
        }
        let left = self.held_by_tables(dropped)?;
        if !left.is_empty() {
            let before = self.handles.data.disk_space();
            self.handles.data.major_compact().map_err(|error| Error::Corrupt {
                detail: format!("a compaction failed: {error}"),
            })?;
            let after = self.handles.data.disk_space();
            // The tables were shared, so that what they shrank by is shared out too.
            let share = before.saturating_sub(after) / u64::try_from(left.len()).unwrap_or(1);
            for prefix in &left {
                if let Some(bytes) = returned.get_mut(prefix) {
                    *bytes += share;
                }
            }
        }
        let held = self.held_by_tables(dropped)?;
        let empty: Vec<Bytes> = dropped
            .iter()
            .filter(|prefix| !held.contains(*prefix) && self.is_empty(prefix))
            .cloned()
            .collect();
        self.board.note(BTreeMap::new());
        self.condemned.seen_bytes.store(0, Ordering::Relaxed);
        returned.retain(|prefix, _| empty.contains(prefix));
        let (reply, answer) = mpsc::channel();
        if !empty.is_empty() {
            self.board.remember(&returned);
            if !self.queue.chore(Chore::Forget(empty.clone(), reply)) {
                return Ok(false);
            }
            match answer.recv() {
                Ok(result) => drop(result?),
                Err(_) => return Ok(false),
            }
        }
        *self.condemned.prefixes.write().unwrap_or_else(PoisonError::into_inner) =
            Dropped::default();
        let bytes: u64 = returned.values().sum();
        let keys = self.condemned.destroyed.swap(0, Ordering::Relaxed);
        info!(prefixes = empty.len(), bytes, keys, "reclaim: dropped prefixes are destroyed");
        Ok(true)
    }

    /// The prefixes of which a table holds a key, in any version, or the mark of a cleared one.
    fn held_by_tables(&self, dropped: &Dropped) -> Result<BTreeSet<Bytes>> {
        let mut held = BTreeSet::new();
        for table in self.handles.data.tree.current_version().iter_tables() {
            for prefix in dropped.iter() {
                let range = UserKey::from(prefix.as_ref())..UserKey::from(prefix_end(prefix));
                if let Some(item) = table.range(range).next() {
                    item.map_err(storage)?;
                    held.insert(prefix.clone());
                }
            }
        }
        Ok(held)
    }

    /// Whether no key is left below a prefix, in memory or in tables.
    fn is_empty(&self, prefix: &Bytes) -> bool {
        let range = prefix.to_vec()..prefix_end(prefix);
        self.handles.data.range(range).next().is_none()
    }

    /// Waits until nobody can read a state from before `version`; `false` when closing.
    fn wait_for_snapshots(&self, version: u64) -> bool {
        loop {
            let (reply, answer) = mpsc::channel();
            if !self.queue.chore(Chore::OldestOpen(reply)) {
                return false;
            }
            match answer.recv() {
                Ok(oldest) if oldest >= version && self.unpinned() => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
            if self.board.pause(STEP) {
                return false;
            }
        }
    }

    /// Whether nobody holds a snapshot beyond the life of a transaction. Those taken from now on see the drops.
    fn unpinned(&self) -> bool {
        self.shared.pins.load(Ordering::SeqCst) == 0
    }

    /// Moves everything from memory into tables; `false` when closing.
    fn flush(&self) -> Result<bool> {
        flush(&self.handles, || self.board.pause(STEP))
    }
}

/// Moves everything from memory into tables. `pause` waits a little and says whether to give up.
pub(super) fn flush(handles: &Handles, pause: impl Fn() -> bool) -> Result<bool> {
    handles.data.rotate_memtable().map_err(super::engine::stopped)?;
    while handles.data.sealed_memtable_count() > 0 {
        handles.healthy()?;
        if pause() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn storage(error: fjall::LsmError) -> Error {
    super::engine::unreadable(error.into())
}
