//! What this node counts about removals and purges.
//!
//! The workers write here what they see of the shards they own, so that nobody has to look through the store to
//! know it. The figures of all nodes together are those of the cluster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::codec::record::EventKind;
use crate::codec::{BucketId, RemovalId};
use crate::meter::{Distribution, Times};
use crate::store::Reclaim;

/// Counters and the last look of each worker.
#[derive(Debug)]
pub struct Meters {
    barrier_reached: Times,
    barrier_timed_out: Times,
    /// In the order of [`event_name`].
    events: [AtomicU64; 4],
    reclaimed: AtomicU64,
    reclaimed_bytes: AtomicU64,
    reclaim_failures: AtomicU64,
    dismantled: AtomicU64,
    ttl_deleted: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<WaitingPurge>,
    census: Census,
    reclaiming: BTreeMap<RemovalId, Reclaim>,
    /// Since when each copy that is being made has not caught up.
    copies: BTreeMap<BucketId, Option<i64>>,
    /// Since when each bucket is due that is to be searched for documents whose time is over.
    ttl_due: BTreeMap<BucketId, i64>,
}

/// Why a purge that is due has not happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitsFor {
    /// Not everybody has seen the removal.
    Barrier,
    /// Somebody has put it on hold.
    Hold,
    /// PURGE.PAUSE is in force.
    Pause,
    /// The clocks cannot be trusted.
    Clock,
    /// Something went wrong; it is tried again.
    Error,
}

impl WaitsFor {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Barrier, Self::Hold, Self::Pause, Self::Clock, Self::Error];

    /// As the metrics call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Barrier => "barrier",
            Self::Hold => "hold",
            Self::Pause => "pause",
            Self::Clock => "clock",
            Self::Error => "error",
        }
    }
}

/// A purge that is due and has not happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingPurge {
    pub waits_for: WaitsFor,
    /// Since when it is due: cluster time in milliseconds since 1970.
    pub due_at: i64,
}

/// What is removed and what is being given back, of the shards of this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    pub removed_buckets: u64,
    pub removed_namespaces: u64,
    pub removed_documents: u64,
    pub removed_bytes: u64,
    pub holds: u64,
    /// Of them those whose review date has passed.
    pub holds_overdue: u64,
    /// Purged instances whose bytes nobody has begun to give back.
    pub jobs_queued: u64,
    pub jobs_reclaiming: u64,
    /// There are more than are counted.
    pub incomplete: bool,
}

/// The bytes of purged instances that this node gives back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaims {
    /// Jobs that are done.
    pub done: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Buckets and namespaces that were taken out of purged namespaces.
    pub dismantled: u64,
    /// Bytes on disk given back, those of jobs under way included.
    pub returned_bytes: u64,
    /// Bytes on disk still to be looked through by the jobs under way.
    pub pending_bytes: u64,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            barrier_reached: Times::times(),
            barrier_timed_out: Times::times(),
            events: Default::default(),
            reclaimed: AtomicU64::new(0),
            reclaimed_bytes: AtomicU64::new(0),
            reclaim_failures: AtomicU64::new(0),
            dismantled: AtomicU64::new(0),
            ttl_deleted: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }
}

/// As the metrics call it.
const fn event_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Removed => "removed",
        EventKind::Restored => "restored",
        EventKind::Purged => "purged",
        EventKind::Changed => "changed",
    }
}

const EVENTS: [EventKind; 4] =
    [EventKind::Removed, EventKind::Restored, EventKind::Purged, EventKind::Changed];

impl Meters {
    /// Counts how long a PURGE waited for its barrier.
    pub(super) fn note_barrier(&self, took: Duration, reached: bool) {
        let times = if reached { &self.barrier_reached } else { &self.barrier_timed_out };
        times.note_time(took);
    }

    /// How long PURGEs waited until the barrier was reached, and how long until they gave up.
    #[must_use]
    pub fn barrier_waits(&self) -> [(&'static str, Distribution<17>); 2] {
        [("reached", self.barrier_reached.read()), ("timed_out", self.barrier_timed_out.read())]
    }

    /// Counts a journal event that this node has applied.
    pub fn note_event(&self, kind: EventKind) {
        if let Some(place) = EVENTS.iter().position(|known| *known == kind)
            && let Some(counter) = self.events.get(place)
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many journal events of each kind this node has applied.
    #[must_use]
    pub fn events(&self) -> Vec<(&'static str, u64)> {
        let counts = self.events.iter().map(|counter| counter.load(Ordering::Relaxed));
        EVENTS.iter().map(|kind| event_name(*kind)).zip(counts).collect()
    }

    /// Replaces the purges that are due and wait.
    pub fn set_waiting(&self, waiting: Vec<WaitingPurge>) {
        self.lock().waiting = waiting;
    }

    /// How many purges that are due wait for each reason.
    #[must_use]
    pub fn waiting(&self) -> Vec<(WaitsFor, u64)> {
        let state = self.lock();
        let count = |reason: WaitsFor| {
            let waits = state.waiting.iter().filter(|purge| purge.waits_for == reason);
            waits.fold(0_u64, |count, _| count + 1)
        };
        WaitsFor::ALL.iter().map(|reason| (*reason, count(*reason))).collect()
    }

    /// Since when the oldest of them is due that nobody holds.
    #[must_use]
    pub fn oldest_due_at(&self) -> Option<i64> {
        let state = self.lock();
        let due = state.waiting.iter().filter(|purge| purge.waits_for != WaitsFor::Hold);
        due.map(|purge| purge.due_at).min()
    }

    /// Replaces the census.
    pub fn set_census(&self, census: Census) {
        self.lock().census = census;
    }

    /// What was counted last.
    #[must_use]
    pub fn census(&self) -> Census {
        self.lock().census
    }

    /// Notes how far a job of this node is.
    pub fn note_reclaiming(&self, removal: RemovalId, progress: Reclaim) {
        self.lock().reclaiming.insert(removal, progress);
    }

    /// Notes that a job is done.
    pub fn note_reclaimed(&self, removal: RemovalId, progress: Reclaim) {
        self.reclaimed.fetch_add(1, Ordering::Relaxed);
        self.reclaimed_bytes.fetch_add(progress.returned_bytes.unwrap_or(0), Ordering::Relaxed);
        self.lock().reclaiming.remove(&removal);
    }

    /// Notes that a job failed or was left to another node.
    pub fn note_reclaim_left(&self, removal: RemovalId, failed: bool) {
        if failed {
            self.reclaim_failures.fetch_add(1, Ordering::Relaxed);
        }
        self.lock().reclaiming.remove(&removal);
    }

    /// Counts what was taken out of a purged namespace.
    pub fn note_dismantled(&self, objects: u64) {
        self.dismantled.fetch_add(objects, Ordering::Relaxed);
    }

    /// Counts documents that were deleted because their time was over.
    pub fn note_ttl(&self, deleted: u64) {
        self.ttl_deleted.fetch_add(deleted, Ordering::Relaxed);
    }

    /// Notes since when a bucket is to be searched for such documents.
    pub fn ttl_due(&self, bucket: BucketId, at: i64) {
        self.lock().ttl_due.insert(bucket, at);
    }

    /// Notes that a bucket has been searched, or is not this node's to search.
    pub fn ttl_done(&self, bucket: BucketId) {
        self.lock().ttl_due.remove(&bucket);
    }

    /// How many documents this node has deleted because their time was over, and since
    /// when the bucket is due whose search has not ended and was due first.
    #[must_use]
    pub fn ttl(&self) -> (u64, Option<i64>) {
        let since = self.lock().ttl_due.values().copied().min();
        (self.ttl_deleted.load(Ordering::Relaxed), since)
    }

    /// Notes that a copy has more to do, and had at `now`.
    pub fn copy_behind(&self, copy: BucketId, now: i64) {
        self.lock().copies.entry(copy).or_default().get_or_insert(now);
    }

    /// Notes that a copy has caught up with its source.
    pub fn copy_caught_up(&self, copy: BucketId) {
        self.lock().copies.insert(copy, None);
    }

    /// Notes that this node does not work on a copy any more.
    pub fn copy_ended(&self, copy: BucketId) {
        self.lock().copies.remove(&copy);
    }

    /// How many copies this node makes, and since when the one that is behind longest is behind.
    #[must_use]
    pub fn copies(&self) -> (usize, Option<i64>) {
        let state = self.lock();
        (state.copies.len(), state.copies.values().flatten().copied().min())
    }

    /// The bytes that this node gives back.
    #[must_use]
    pub fn reclaims(&self) -> Reclaims {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let state = self.lock();
        let sum = |bytes: fn(&Reclaim) -> Option<u64>| {
            state.reclaiming.values().filter_map(bytes).fold(0_u64, u64::saturating_add)
        };
        Reclaims {
            done: read(&self.reclaimed),
            failures: read(&self.reclaim_failures),
            dismantled: read(&self.dismantled),
            returned_bytes: read(&self.reclaimed_bytes)
                .saturating_add(sum(|progress| progress.returned_bytes)),
            pending_bytes: sum(|progress| progress.pending_bytes),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_purge_waits_and_is_not_overdue() {
        let meters = Meters::default();
        assert_eq!(meters.oldest_due_at(), None);
        meters.set_waiting(vec![
            WaitingPurge { waits_for: WaitsFor::Hold, due_at: 1 },
            WaitingPurge { waits_for: WaitsFor::Barrier, due_at: 3 },
            WaitingPurge { waits_for: WaitsFor::Barrier, due_at: 2 },
        ]);
        assert_eq!(meters.oldest_due_at(), Some(2));
        let waiting = meters.waiting();
        assert_eq!(&waiting[..2], [(WaitsFor::Barrier, 2), (WaitsFor::Hold, 1)]);
        meters.set_waiting(Vec::new());
        assert_eq!(meters.oldest_due_at(), None);
    }

    #[test]
    fn bytes_of_jobs_under_way_count_once() {
        let meters = Meters::default();
        let at = |pending, returned| Reclaim {
            done: false,
            pending_bytes: Some(pending),
            returned_bytes: Some(returned),
        };
        meters.note_reclaiming(RemovalId(1), at(10, 1));
        meters.note_reclaiming(RemovalId(1), at(5, 6));
        meters.note_reclaiming(RemovalId(2), at(7, 0));
        let reclaims = meters.reclaims();
        assert_eq!((reclaims.pending_bytes, reclaims.returned_bytes), (12, 6));
        meters.note_reclaimed(RemovalId(1), at(0, 11));
        meters.note_reclaim_left(RemovalId(2), true);
        let expected =
            Reclaims { done: 1, failures: 1, dismantled: 0, returned_bytes: 11, pending_bytes: 0 };
        assert_eq!(meters.reclaims(), expected);
    }

    #[test]
    fn the_search_that_was_due_first_says_how_far_behind_they_are() {
        let (meters, one, other) = (Meters::default(), BucketId(1), BucketId(2));
        assert_eq!(meters.ttl(), (0, None));
        meters.ttl_due(one, 5);
        meters.ttl_due(other, 3);
        meters.note_ttl(7);
        assert_eq!(meters.ttl(), (7, Some(3)));
        meters.ttl_done(other);
        assert_eq!(meters.ttl(), (7, Some(5)));
    }

    #[test]
    fn a_copy_is_behind_since_it_last_caught_up() {
        let (meters, one, other) = (Meters::default(), BucketId(1), BucketId(2));
        for now in [5, 6] {
            meters.copy_behind(one, now);
        }
        meters.copy_behind(other, 3);
        assert_eq!(meters.copies(), (2, Some(3)));
        meters.copy_caught_up(other);
        assert_eq!(meters.copies(), (2, Some(5)));
        meters.copy_ended(one);
        assert_eq!(meters.copies(), (1, None));
    }

    #[test]
    fn every_kind_of_event_is_counted() {
        let meters = Meters::default();
        for kind in EVENTS {
            meters.note_event(kind);
        }
        assert!(meters.events().iter().all(|(_, count)| *count == 1));
    }
}
