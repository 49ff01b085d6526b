//! Puts commits in order: validates them against what was written since they
//! read, merges those that pass into one batch, has the engine make it durable,
//! publishes it, and wakes the watches. Shared by the local engines.
//!
//! # Invariants
//!
//! * One sequencer per store; commit versions only grow, and every batch has its own.
//! * Nothing is published before the engine has made it durable.
//! * After an engine has failed once, nothing is written any more.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::time::Instant;

use super::conflicts::{ConflictSet, RangeSet};
use super::history::History;
use super::limits::TRANSACTION_TIME_MAX;
use super::overlay::{Entry, Overlay, apply_changes};
use super::shared::Shared;
use super::types::{Committed, prefix_end};
use super::view::{Published, View};
use super::watch::{Arming, Expected};
use super::{Error, Result};
use crate::codec::Versionstamp;

/// A commit as it is handed to the committer.
#[derive(Debug)]
pub(super) struct Intent {
    /// The state it has read; `None`: it has read nothing.
    pub(super) pin: Option<Arc<Published>>,
    pub(super) reads: ConflictSet,
    pub(super) extra_writes: ConflictSet,
    pub(super) overlay: Overlay,
    pub(super) watches: Vec<Arming>,
}

impl Intent {
    /// Whether it drops a prefix.
    pub(super) fn drops(&self) -> bool {
        !self.overlay.dropped().is_empty()
    }

    /// A change by the store itself, which conflicts with nothing.
    pub(super) fn internal() -> Self {
        Self {
            pin: None,
            reads: ConflictSet::default(),
            extra_writes: ConflictSet::default(),
            overlay: Overlay::default(),
            watches: Vec::new(),
        }
    }
}

/// What one batch changes. Ranges are cleared before single keys are written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) version: u64,
    pub(super) cleared: RangeSet,
    pub(super) writes: BTreeMap<Bytes, Option<Bytes>>,
    pub(super) dropped: Vec<Bytes>,
    pub(super) forgotten: Vec<Bytes>,
    pub(super) metadata_version: Option<Versionstamp>,
}

impl Batch {
    /// The value of a key after what was merged so far.
    fn lookup(&self, base: &Published, key: &[u8]) -> Result<Option<Bytes>> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None if self.cleared.contains(key) => Ok(None),
            None => base.get(key),
        }
    }

    fn clear_range(&mut self, begin: &Bytes, end: &Bytes) {
        let covered: Vec<Bytes> =
            self.writes.range(begin.clone()..end.clone()).map(|(key, _)| key.clone()).collect();
        for key in covered {
            self.writes.remove(&key);
        }
        self.cleared.insert(begin.clone(), end.clone());
    }

    /// Adds one commit, with its atomic changes worked out and its versionstamps filled in.
    fn merge(
        &mut self,
        base: &Published,
        intent: &mut Intent,
        versionstamp: Versionstamp,
    ) -> Result<()> {
        let overlay = &intent.overlay;
        // What fails must fail before the batch is changed.
        let mut resolved = Vec::new();
        for (key, entry) in overlay.entries() {
            let value = match entry {
                Entry::Value(value) => value.clone(),
                Entry::Changes(changes) => apply_changes(self.lookup(base, key)?, changes),
                Entry::Stamped(value) => Some(value.fill(versionstamp).into()),
            };
            resolved.push((key.clone(), value));
        }
        for (begin, end) in overlay.cleared() {
            self.clear_range(begin, end);
        }
        self.writes.extend(resolved);
        self.writes
            .extend(overlay.stamped_keys(versionstamp).map(|(key, value)| (key, Some(value))));
        self.dropped.extend(overlay.dropped().iter().cloned());
        if overlay.touched() {
            self.metadata_version = Some(versionstamp);
        }
        for arming in &mut intent.watches {
            if matches!(arming.expected, Expected::Unknown) {
                arming.expected = Expected::Value(self.lookup(base, &arming.key)?);
            }
        }
        Ok(())
    }

    /// Bytes of keys and values that it writes.
    fn bytes(&self) -> u64 {
        let size = |(key, value): (&Bytes, &Option<Bytes>)| {
            count(key.len().saturating_add(value.as_ref().map_or(0, Bytes::len)))
        };
        self.writes.iter().map(size).sum()
    }

    /// Whether this batch may have changed the value of a key.
    pub(super) fn touches(&self, key: &[u8]) -> bool {
        self.writes.contains_key(key) || self.cleared.contains(key)
    }
}

/// The part that keeps the data.
pub(super) trait Engine: Send + Debug {
    /// Makes the batch durable and gives the picture after it.
    ///
    /// An error means that nothing may be written any more; reads go on.
    fn apply(&mut self, batch: &Batch, base: &Published) -> Result<Box<dyn View>>;

    /// Whether a dropped prefix stays on disk for a while and must be hidden.
    fn keeps_dropped(&self) -> bool;
}

/// A state that may still be read.
#[derive(Debug)]
struct Open {
    version: u64,
    published: Weak<Published>,
    superseded: Option<Instant>,
}

/// The one place where commits happen.
#[derive(Debug)]
pub(super) struct Sequencer<E> {
    engine: E,
    history: History,
    open: VecDeque<Open>,
}

impl<E: Engine> Sequencer<E> {
    /// Goes on from the state that is published.
    pub(super) fn new(engine: E, shared: &Shared) -> Self {
        let published = shared.published.load_full();
        let version = published.version;
        let open = Open { version, published: Arc::downgrade(&published), superseded: None };
        Self { engine, history: History::new(version), open: VecDeque::from([open]) }
    }

    pub(super) const fn engine(&mut self) -> &mut E {
        &mut self.engine
    }

    /// Ends everything: nothing is committed and no state can be read any more.
    pub(super) fn close(&mut self, shared: &Shared) {
        shared.stop(closed());
        for open in self.open.drain(..) {
            if let Some(published) = open.published.upgrade() {
                published.close();
            }
        }
        shared.published.load().close();
    }

    /// The version of the oldest state that somebody may still read.
    pub(super) fn oldest_open(&mut self) -> u64 {
        self.expire();
        self.open.front().map_or(0, |open| open.version)
    }

    /// Lets go of states that nobody reads or that are too old to be read.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(open) = self.open.front() {
            let Some(superseded) = open.superseded else { break };
            if open.published.strong_count() > 0 {
                if now.saturating_duration_since(superseded) < TRANSACTION_TIME_MAX {
                    break;
                }
                if let Some(published) = open.published.upgrade() {
                    published.expire();
                }
            }
            self.open.pop_front();
        }
        if let Some(open) = self.open.front() {
            self.history.forget(open.version);
        }
    }

    /// Forgets marks of dropped prefixes, in a batch of its own.
    pub(super) fn forget(&mut self, shared: &Shared, prefixes: Vec<Bytes>) -> Result<Committed> {
        let mut intents = vec![Intent::internal()];
        let results = self.commit_with(shared, &mut intents, prefixes);
        results.into_iter().next().unwrap_or(Err(Error::Cancelled))
    }

    /// Commits what passes; one result per intent, in order.
    pub(super) fn commit(
        &mut self,
        shared: &Shared,
        intents: &mut [Intent],
    ) -> Vec<Result<Committed>> {
        self.commit_with(shared, intents, Vec::new())
    }

    fn commit_with(
        &mut self,
        shared: &Shared,
        intents: &mut [Intent],
        forgotten: Vec<Bytes>,
    ) -> Vec<Result<Committed>> {
        if let Some(stopped) = shared.stopped.get() {
            return intents.iter().map(|_| Err(stopped.clone())).collect();
        }
        self.expire();
        let base = shared.published.load_full();
        let version = base.version + 1;
        let mut batch = Batch { version, forgotten, ..Batch::default() };
        let mut order = 0u16;
        let results: Vec<Result<Committed>> = intents
            .iter_mut()
            .map(|intent| {
                self.validate(intent)?;
                let versionstamp = Versionstamp::new(version, order);
                batch.merge(&base, intent, versionstamp)?;
                order += 1;
                self.record(intent, versionstamp);
                Ok(Committed { version, versionstamp: Some(versionstamp) })
            })
            .collect();
        let conflicts =
            results.iter().filter(|result| matches!(result, Err(Error::Conflict))).count();
        shared.counters.conflicts.fetch_add(count(conflicts), Ordering::Relaxed);
        if order == 0 {
            return results;
        }
        let began = Instant::now();
        let view = match self.engine.apply(&batch, &base) {
            Ok(view) => view,
            Err(error) => {
                shared.stop(error.clone());
                return results.into_iter().map(|result| result.and(Err(error.clone()))).collect();
            }
        };
        let took = began.elapsed();
        self.publish(shared, &base, &batch, view);
        shared.counters.batch(u64::from(order), batch.bytes(), took);
        shared.counters.history.store(count(self.history.len()), Ordering::Relaxed);
        for (intent, result) in intents.iter_mut().zip(&results) {
            if result.is_ok() {
                for arming in intent.watches.drain(..) {
                    shared.watches.arm(arming, &shared.published);
                }
            }
        }
        results
    }

    fn validate(&self, intent: &Intent) -> Result<()> {
        if intent.reads.is_empty() {
            return Ok(());
        }
        let read_version = intent.pin.as_ref().map_or(u64::MAX, |pin| pin.version);
        if read_version < self.history.floor() {
            return Err(Error::TooOld);
        }
        if self.history.conflicts(read_version, &intent.reads) {
            Err(Error::Conflict)
        } else {
            Ok(())
        }
    }

    fn record(&mut self, intent: &Intent, versionstamp: Versionstamp) {
        let mut writes = intent.overlay.written(versionstamp);
        writes.points.extend(intent.extra_writes.points.iter().cloned());
        writes.ranges.extend(intent.extra_writes.ranges.iter().cloned());
        for prefix in intent.overlay.dropped() {
            writes.add_range(prefix, &prefix_end(prefix));
        }
        self.history.record(versionstamp.version(), writes);
    }

    fn publish(
        &mut self,
        shared: &Shared,
        base: &Arc<Published>,
        batch: &Batch,
        view: Box<dyn View>,
    ) {
        let metadata_version = batch.metadata_version.unwrap_or(base.metadata_version);
        let added = if self.engine.keeps_dropped() { batch.dropped.as_slice() } else { &[] };
        let dropped = base.dropped.changed(added, &batch.forgotten);
        let published = Arc::new(Published::new(batch.version, metadata_version, dropped, view));
        if let Some(last) = self.open.back_mut() {
            last.superseded = Some(Instant::now());
        }
        let open = Open {
            version: batch.version,
            published: Arc::downgrade(&published),
            superseded: None,
        };
        self.open.push_back(open);
        shared.published.store(Arc::clone(&published));
        shared.watches.notify(batch, &published);
        if !batch.forgotten.is_empty() {
            shared.reclaimed.notify_waiters();
        }
    }
}

/// What a closed store answers.
pub(super) fn closed() -> Error {
    Error::Unavailable("the store is closed".to_owned())
}

/// A length as a counter.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
