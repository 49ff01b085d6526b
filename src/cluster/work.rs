//! The node's table of open work: what it keeps about buckets outside of
//! transactions (protocol.md, rule 7).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::errors::{Error, Result};
use crate::clock::Clock;
use crate::codec::BucketId;

/// On whose behalf work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The member itself: a subscription, a running scan.
    Member,
    /// The owner of a shard: an index build, a trim.
    Shard(u16),
}

impl Scope {
    /// The number of the scope in the key of a busy row.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Member => -1,
            Self::Shard(shard) => i32::from(shard),
        }
    }

    /// The scope with this number; `None` when there is none.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        if number == -1 { Some(Self::Member) } else { u16::try_from(number).ok().map(Self::Shard) }
    }
}

/// All open work of one incarnation of a node. A cheap handle.
///
/// Work is entered *before* it takes the snapshot in which it checks that its
/// bucket is active. The follower stops entries as removals come by, also
/// those that have not opened yet; so whoever checked too early is stopped, and
/// whoever checks later sees the removal.
#[derive(Clone)]
pub struct WorkTable {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Counts the ends of entries that somebody waits for.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    next: u64,
    entries: BTreeMap<u64, Entry>,
    /// Shards whose work is not taken: about to be given away, or not ours.
    blocked: BTreeSet<u16>,
    /// The incarnation is over.
    closed: bool,
}

struct Entry {
    bucket: BucketId,
    scope: Scope,
    what: Arc<str>,
    since: i64,
    stop: CancellationToken,
    stopped_at: Option<Instant>,
    /// Stands in a busy row, or would: its end is news to the follower.
    counted: bool,
}

/// One entry, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkInfo {
    pub id: u64,
    pub bucket: BucketId,
    pub scope: Scope,
    /// For people: what is done.
    pub what: Arc<str>,
    /// Wall clock of the node, milliseconds since 1970.
    pub since: i64,
    /// How long ago it was told to stop, if it was.
    pub stopped_for: Option<Duration>,
}

impl fmt::Debug for WorkTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl WorkTable {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (ended, _) = watch::channel(0);
        Self { inner: Arc::new(Inner { clock, state: Mutex::default(), ended }) }
    }

    /// Announces work on a bucket. Call it before the snapshot in which you
    /// check that the bucket is active, then [`Work::open`], then begin; drop
    /// the [`Work`] when nothing of it is left.
    ///
    /// For a shard that is being given away, or when the incarnation is over,
    /// the work is stopped from the start.
    #[must_use = "dropping it says that the work is over"]
    pub fn enter(&self, bucket: BucketId, scope: Scope, what: impl Into<Arc<str>>) -> Work {
        let since = self.inner.clock.now();
        let stop = CancellationToken::new();
        let mut state = self.inner.lock();
        let id = state.next;
        state.next += 1;
        let refused =
            state.closed || matches!(scope, Scope::Shard(shard) if state.blocked.contains(&shard));
        let mut entry = Entry {
            bucket,
            scope,
            what: what.into(),
            since,
            stop: stop.clone(),
            stopped_at: None,
            counted: false,
        };
        if refused {
            entry.stop(Instant::now());
        }
        state.entries.insert(id, entry);
        drop(state);
        Work { inner: Arc::clone(&self.inner), id, stop }
    }

    /// What is open, oldest first, stopped or not.
    #[must_use]
    pub fn list(&self) -> Vec<WorkInfo> {
        let now = Instant::now();
        let state = self.inner.lock();
        let info = |(id, entry): (&u64, &Entry)| WorkInfo {
            id: *id,
            bucket: entry.bucket,
            scope: entry.scope,
            what: Arc::clone(&entry.what),
            since: entry.since,
            stopped_for: entry.stopped_at.map(|at| now.duration_since(at)),
        };
        state.entries.iter().map(info).collect()
    }

    /// The buckets on which work is open.
    pub(super) fn buckets(&self) -> BTreeSet<BucketId> {
        self.inner.lock().entries.values().map(|entry| entry.bucket).collect()
    }

    /// Stops all work on these buckets and gives what may still end within the
    /// grace. What was stopped longer ago had its time: a removal that is
    /// announced again does not wait for it again.
    pub(super) fn stop_buckets(
        &self,
        buckets: &BTreeSet<BucketId>,
        grace: Duration,
    ) -> BTreeSet<u64> {
        let mut stopped = self.stop(|entry| buckets.contains(&entry.bucket));
        let state = self.inner.lock();
        stopped.retain(|id| {
            let stopped_at = state.entries.get(id).and_then(|entry| entry.stopped_at);
            stopped_at.is_some_and(|at| at.elapsed() < grace)
        });
        stopped
    }

    /// Stops the work of a shard and takes none for it until
    /// [`WorkTable::unblock`].
    pub(super) fn block(&self, shard: u16) -> BTreeSet<u64> {
        self.inner.lock().blocked.insert(shard);
        self.stop(|entry| entry.scope == Scope::Shard(shard))
    }

    /// Takes work for a shard again.
    pub(super) fn unblock(&self, shard: u16) {
        self.inner.lock().blocked.remove(&shard);
    }

    /// Stops everything; nothing opens any more.
    pub(super) fn close(&self) -> BTreeSet<u64> {
        self.inner.lock().closed = true;
        self.stop(|_| true)
    }

    /// Whether any work of this scope is left, opened or not.
    pub(super) fn has(&self, scope: Scope) -> bool {
        self.inner.lock().entries.values().any(|entry| entry.scope == scope)
    }

    /// Waits until none of these entries is left.
    pub(super) async fn drained(&self, entries: &BTreeSet<u64>) {
        let mut ended = self.ended();
        loop {
            ended.mark_unchanged();
            let left = {
                let state = self.inner.lock();
                entries.iter().any(|id| state.entries.contains_key(id))
            };
            // The sender lives as long as this table: waiting cannot fail.
            if !left || ended.changed().await.is_err() {
                return;
            }
        }
    }

    /// From now on the end of these entries is news, as that of stopped ones.
    pub(super) fn count(&self, entries: &BTreeSet<u64>) {
        let mut state = self.inner.lock();
        let mut gone = false;
        for id in entries {
            match state.entries.get_mut(id) {
                Some(entry) => entry.counted = true,
                None => gone = true,
            }
        }
        drop(state);
        if gone {
            self.inner.ended.send_modify(|ends| *ends += 1);
        }
    }

    /// Changes when an entry ends that was stopped or counted.
    pub(super) fn ended(&self) -> watch::Receiver<u64> {
        self.inner.ended.subscribe()
    }

    /// When the entry that has gone on longest after its stop was stopped.
    pub(super) fn oldest_stop(&self) -> Option<Instant> {
        self.inner.lock().entries.values().filter_map(|entry| entry.stopped_at).min()
    }

    fn stop(&self, which: impl Fn(&Entry) -> bool) -> BTreeSet<u64> {
        let now = Instant::now();
        let mut state = self.inner.lock();
        let mut stopped = BTreeSet::new();
        for (id, entry) in &mut state.entries {
            if which(entry) {
                entry.stop(now);
                stopped.insert(*id);
            }
        }
        stopped
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn stop(&mut self, now: Instant) {
        if self.stopped_at.is_none() {
            self.stopped_at = Some(now);
            self.stop.cancel();
        }
    }
}

/// A piece of work that is announced, perhaps open. It counts until dropped.
pub struct Work {
    inner: Arc<Inner>,
    id: u64,
    stop: CancellationToken,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("id", &self.id)
            .field("stopped", &self.is_stopped())
            .finish_non_exhaustive()
    }
}

impl Work {
    /// Says that the bucket was found active after this was entered, and that
    /// the work begins.
    ///
    /// # Errors
    /// [`Error::WorkStopped`] when it was told to stop meanwhile: do not begin.
    pub fn open(&self) -> Result<()> {
        // Under the lock, so that a stop is either seen here or finds it open.
        let state = self.inner.lock();
        let stopped = state.entries.get(&self.id).is_none_or(|entry| entry.stopped_at.is_some());
        if stopped { Err(Error::WorkStopped) } else { Ok(()) }
    }

    /// Whether it was told to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until it is told to stop.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Is cancelled when the work is told to stop; to hand to its parts.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let entry = self.inner.lock().entries.remove(&self.id);
        if entry.is_some_and(|entry| entry.counted || entry.stopped_at.is_some()) {
            self.inner.ended.send_modify(|ends| *ends += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;

    fn table() -> WorkTable {
        WorkTable::new(Arc::new(TestClock::starting_at(1_000)))
    }

    const GRACE: Duration = Duration::from_secs(2);

    fn one(bucket: u64) -> BTreeSet<BucketId> {
        BTreeSet::from([BucketId(bucket)])
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_entry_never_opens() {
        let table = table();
        let work = table.enter(BucketId(5), Scope::Member, "scan");
        let other = table.enter(BucketId(6), Scope::Member, "scan");
        assert_eq!(table.stop_buckets(&one(5), GRACE).len(), 1);
        assert!(matches!(work.open(), Err(Error::WorkStopped)));
        assert!(work.is_stopped());
        work.stopped().await;
        other.open().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn drained_waits_for_stopped_entries_and_for_no_others() {
        let table = table();
        let work = table.enter(BucketId(5), Scope::Shard(1), "build");
        let _other = table.enter(BucketId(6), Scope::Shard(1), "build");
        let stopped = table.stop_buckets(&one(5), GRACE);
        let wait = tokio::spawn({
            let table = table.clone();
            async move { table.drained(&stopped).await }
        });
        tokio::task::yield_now().await;
        assert!(!wait.is_finished());
        drop(work);
        wait.await.unwrap();
        assert!(table.has(Scope::Shard(1)));
        assert_eq!(table.buckets(), one(6));
    }

    #[tokio::test(start_paused = true)]
    async fn what_had_its_grace_is_not_waited_for_again() {
        let table = table();
        let _work = table.enter(BucketId(5), Scope::Member, "scan");
        assert_eq!(table.stop_buckets(&one(5), GRACE).len(), 1);
        tokio::time::advance(GRACE).await;
        assert_eq!(table.stop_buckets(&one(5), GRACE), BTreeSet::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_shard_takes_no_work() {
        let table = table();
        let before = table.enter(BucketId(5), Scope::Shard(2), "build");
        assert_eq!(table.block(2).len(), 1);
        assert!(before.is_stopped());
        assert!(table.enter(BucketId(5), Scope::Shard(2), "build").open().is_err());
        assert!(table.enter(BucketId(5), Scope::Shard(3), "build").open().is_ok());
        table.unblock(2);
        assert!(table.enter(BucketId(5), Scope::Shard(2), "build").open().is_ok());
        table.close();
        assert!(table.enter(BucketId(5), Scope::Member, "scan").open().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_counted_work_is_news_also_when_it_is_over_already() {
        let table = table();
        let (quiet, counted, gone) = (
            table.enter(BucketId(5), Scope::Member, "a"),
            table.enter(BucketId(5), Scope::Member, "b"),
            table.enter(BucketId(5), Scope::Member, "c"),
        );
        let mut ended = table.ended();
        let ids: Vec<u64> = table.list().iter().map(|info| info.id).collect();
        drop(quiet);
        drop(gone);
        assert!(!ended.has_changed().unwrap());
        table.count(&BTreeSet::from([ids[1], ids[2]]));
        assert!(ended.has_changed().unwrap());
        ended.mark_unchanged();
        drop(counted);
        assert!(ended.has_changed().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_tells_what_since_when_and_how_long_it_was_stopped() {
        let table = table();
        let _work = table.enter(BucketId(5), Scope::Shard(1), "index build");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(table.list()[0].stopped_for, None);
        table.close();
        tokio::time::advance(Duration::from_secs(2)).await;
        let list = table.list();
        assert_eq!((list[0].what.as_ref(), list[0].since), ("index build", 1_000));
        assert_eq!(list[0].stopped_for, Some(Duration::from_secs(2)));
        assert!(table.oldest_stop().is_some());
    }

    #[test]
    fn scopes_have_numbers() {
        for scope in [Scope::Member, Scope::Shard(0), Scope::Shard(u16::MAX)] {
            assert_eq!(Scope::from_number(scope.number()), Some(scope));
        }
        assert_eq!(Scope::from_number(-2), None);
        assert_eq!(Scope::from_number(1 << 16), None);
    }
}
