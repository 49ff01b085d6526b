//! A transaction: reads at one snapshot, a write buffer, and the sets of what it read and wrote.
//!
//! All of it is the same on every engine; where the snapshot comes from and who commits is in `engine`.

mod savepoint;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

pub use savepoint::Savepoint;

use super::conflicts::ConflictSet;
use super::engine::{AnyEngine, Snapshot, Source};
use super::limits::{
    TRANSACTION_BYTES_MAX, VERSIONSTAMP_BYTES, WRITE_BYTES, check_key, check_range, check_value,
};
use super::merge::Merge;
use super::overlay::{Overlay, Seen, apply_changes};
use super::sequencer::Intent;
use super::shared::lock;
use super::types::{Atomic, Committed, Page, RangeRead, Read, key_after};
use super::watch::{Arming, Expected, Watch};
use super::{Error, Result};
use crate::codec::Versionstamp;

/// A serializable transaction. Dropping it without [`Transaction::commit`] changes nothing.
///
/// A cheap handle: clones are the same transaction. Whatever is done with one after its commit gives
/// [`Error::UsedDuringCommit`].
///
/// Its snapshot is taken by its first read (or [`Transaction::read_version`]), not by [`super::Store::begin`], and lives
/// five seconds; later reads and a commit that has read give [`Error::TooOld`]. All methods take `&self`; reads may run in
/// parallel.
#[derive(Clone)]
pub struct Transaction {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    client: Arc<str>,
    label: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    overlay: Overlay,
    reads: ConflictSet,
    writes: ConflictSet,
    size: usize,
    watches: Vec<Arming>,
    /// Numbers given out by [`Transaction::next_order`].
    orders: u32,
    /// Committed or given up: what any further use answers.
    ended: Option<Error>,
}

impl State {
    /// With so many bytes in front of each key.
    fn size(&self, per_key: usize) -> usize {
        self.size + self.reads.bytes(per_key) + self.writes.bytes(per_key)
    }

    /// What is read with conflict counts, too, so that a transaction cannot grow by reading.
    fn check_size(&self, more: usize, per_key: usize) -> Result<()> {
        let size = self.size(per_key) + more;
        if size > TRANSACTION_BYTES_MAX {
            return Err(Error::TransactionTooLarge { size, limit: TRANSACTION_BYTES_MAX });
        }
        Ok(())
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("client", &self.inner.client)
            .field("label", &self.inner.label)
            .field("read_version", &self.inner.source.read_version())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.source.counters().open_transactions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Transaction {
    pub(super) fn new(engine: &AnyEngine, client: Arc<str>, label: &'static str) -> Self {
        let source = engine.source();
        source.counters().open_transactions.fetch_add(1, Ordering::Relaxed);
        Self { inner: Arc::new(Inner { source, client, label, state: Mutex::default() }) }
    }

    pub fn label(&self) -> &'static str {
        self.inner.label
    }

    /// The version that it reads at; takes the snapshot if there is none yet.
    pub async fn read_version(&self) -> Result<u64> {
        Ok(self.snapshot().await?.version())
    }

    /// The metadata version at the snapshot: free of charge, without a conflict.
    ///
    /// After [`Transaction::touch_metadata_version`] it is [`Error::AccessedUnreadable`].
    pub async fn metadata_version(&self) -> Result<Versionstamp> {
        let snapshot = self.snapshot().await?;
        if self.state()?.overlay.touched() {
            return Err(Error::AccessedUnreadable);
        }
        snapshot.metadata_version().await
    }

    /// The value of a key, own writes included.
    pub async fn get(&self, key: &[u8], read: Read) -> Result<Option<Bytes>> {
        check_key(key)?;
        let snapshot = self.snapshot().await?;
        let seen = {
            let mut state = self.state()?;
            let seen = state.overlay.seen(key)?;
            if read == Read::Conflict && !matches!(seen, Seen::Decided(_)) {
                state.reads.add_point(key);
                state.check_size(0, self.inner.source.bytes_per_key())?;
            }
            seen
        };
        if !matches!(seen, Seen::Decided(_)) {
            self.count_read();
        }
        match seen {
            Seen::Decided(value) => Ok(value),
            Seen::Stored => snapshot.get(key).await,
            Seen::Changed(changes) => Ok(apply_changes(snapshot.get(key).await?, &changes)),
        }
    }

    fn count_read(&self) {
        self.inner.source.counters().reads.fetch_add(1, Ordering::Relaxed);
    }

    /// A page of a range, own writes included; [`RangeRead::after`] makes the next one.
    ///
    /// A read with conflict covers the range up to the end of the page.
    pub async fn range(&self, range: RangeRead) -> Result<Page> {
        check_range(&range.begin, &range.end)?;
        let snapshot = self.snapshot().await?;
        let part = self.state()?.overlay.part(&range.begin, &range.end)?;
        self.count_read();
        let page = snapshot.scan(Merge::new(part, &range)).await?;
        if range.read == Read::Conflict {
            let last = page.rows.last().filter(|_| page.more);
            let mut state = self.state()?;
            match last {
                Some((key, _)) if range.reverse => state.reads.add_range(key, &range.end),
                Some((key, _)) => state.reads.add_range(&range.begin, &key_after(key)),
                None => state.reads.add_range(&range.begin, &range.end),
            }
            state.check_size(0, self.inner.source.bytes_per_key())?;
        }
        Ok(page)
    }

    /// Writes a value.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<()> {
        check_key(key)?;
        check_value(value)?;
        self.write(3, 3 * key.len() + value.len(), |overlay| {
            overlay.set(key, value);
            Ok(())
        })
    }

    /// Takes a key away.
    pub fn clear(&self, key: &[u8]) -> Result<()> {
        check_key(key)?;
        // FoundationDB makes a range of it, in the mutation too.
        self.write(4, 4 * key.len() + 2, |overlay| {
            overlay.clear(key);
            Ok(())
        })
    }

    /// Takes all keys of `begin..end` away.
    ///
    /// The embedded engine writes a mark for each of them: for whole prefixes see [`Transaction::drop_prefix`].
    pub fn clear_range(&self, begin: &[u8], end: &[u8]) -> Result<()> {
        check_range(begin, end)?;
        self.write(4, 2 * (begin.len() + end.len()), |overlay| {
            overlay.clear_range(begin, end);
            Ok(())
        })
    }

    /// Changes a value without reading it.
    pub fn atomic(&self, op: Atomic, key: &[u8], operand: &[u8]) -> Result<()> {
        check_key(key)?;
        check_value(operand)?;
        self.write(3, 3 * key.len() + operand.len(), |overlay| overlay.atomic(op, key, operand))
    }

    /// Writes a value under a key with the commit's versionstamp in it.
    ///
    /// The key is in FoundationDB's form: its last four bytes are the little-endian offset of a place of ten bytes.
    /// Reading where it may lie gives [`Error::AccessedUnreadable`].
    pub fn set_versionstamped_key(&self, key: &[u8], value: &[u8]) -> Result<()> {
        check_key(key.get(..key.len().saturating_sub(4)).unwrap_or_default())?;
        check_value(value)?;
        self.write(3, 3 * key.len() + value.len(), |overlay| overlay.set_stamped_key(key, value))
    }

    /// Writes a value with the commit's versionstamp in it, in the same form.
    pub fn set_versionstamped_value(&self, key: &[u8], value: &[u8]) -> Result<()> {
        check_key(key)?;
        check_value(value.get(..value.len().saturating_sub(4)).unwrap_or_default())?;
        self.write(3, 3 * key.len() + value.len(), |overlay| overlay.set_stamped_value(key, value))
    }

    /// A number that tells the versionstamped keys of one transaction apart: 0, 1, 2 and so on. `None` once the 65,536
    /// numbers that a versionstamp has room for are used up.
    pub fn next_order(&self) -> Result<Option<u16>> {
        let mut state = self.state()?;
        let order = u16::try_from(state.orders).ok();
        state.orders += u32::from(order.is_some());
        Ok(order)
    }

    /// Makes the metadata version this commit's versionstamp. Conflicts with nothing.
    pub fn touch_metadata_version(&self) -> Result<()> {
        self.write(0, VERSIONSTAMP_BYTES, |overlay| {
            overlay.touch();
            Ok(())
        })
    }

    /// Destroys all keys below a prefix that will never be used again.
    ///
    /// Invisible with this commit, durable, and as fast for a million keys as for one; the bytes are given back later: see
    /// [`super::Store::reclaim_progress`]. What is written below the prefix afterwards may or may not be seen.
    pub fn drop_prefix(&self, prefix: &[u8]) -> Result<()> {
        check_key(prefix)?;
        if prefix.is_empty() {
            return Err(Error::KeyOutsideLegalRange);
        }
        self.write(4, 4 * prefix.len(), |overlay| {
            overlay.drop_prefix(prefix);
            Ok(())
        })
    }

    /// As if the key had been read.
    pub fn add_read_conflict_key(&self, key: &[u8]) -> Result<()> {
        check_key(key)?;
        self.state()?.reads.add_point(key);
        Ok(())
    }

    /// As if the range had been read.
    pub fn add_read_conflict_range(&self, begin: &[u8], end: &[u8]) -> Result<()> {
        check_range(begin, end)?;
        self.state()?.reads.add_range(begin, end);
        Ok(())
    }

    /// As if the key had been written.
    pub fn add_write_conflict_key(&self, key: &[u8]) -> Result<()> {
        check_key(key)?;
        self.state()?.writes.add_point(key);
        Ok(())
    }

    /// As if the range had been written.
    pub fn add_write_conflict_range(&self, begin: &[u8], end: &[u8]) -> Result<()> {
        check_range(begin, end)?;
        self.state()?.writes.add_range(begin, end);
        Ok(())
    }

    /// Watches a key: see [`Watch`]. Armed by the commit, also of a transaction that only reads.
    pub fn watch(&self, key: &[u8]) -> Result<Watch> {
        check_key(key)?;
        let (watch, arming) = self.inner.source.watches().reserve(key)?;
        self.state()?.watches.push(arming);
        Ok(watch)
    }

    /// About how many bytes the commit will carry, what was read with conflict included; the limit is 10 MB.
    pub fn approximate_size(&self) -> usize {
        lock(&self.inner.state).size(self.inner.source.bytes_per_key())
    }

    /// What the commit will check, as sorted, disjoint ranges; a key is the range up to the key after it.
    pub fn read_conflicts(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        lock(&self.inner.state).reads.merged()
    }

    /// What the commit will make others conflict with, in the same form. A versionstamped key stands there as the
    /// range in which it may come to lie; a dropped prefix as the range of its keys.
    pub fn write_conflicts(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let state = lock(&self.inner.state);
        state.overlay.all_write_conflicts(&state.writes)
    }

    /// Whether the commit would change anything.
    pub fn has_writes(&self) -> bool {
        let state = lock(&self.inner.state);
        !state.overlay.is_empty() || !state.writes.is_empty()
    }

    /// Rolls back and lets go of everything; every further use gives this error.
    pub fn give_up(&self, error: Error) {
        let mut state = lock(&self.inner.state);
        if state.ended.is_none() {
            let watches = std::mem::take(&mut state.watches);
            for arming in watches {
                arming.fail(&error);
            }
            *state = State { ended: Some(error), ..State::default() };
        }
    }

    /// Commits. On success everything is durable and visible to every transaction that begins afterwards.
    ///
    /// An error for which [`Error::maybe_committed`] holds leaves it open whether it has landed or will; all others
    /// mean that it has not and will not. [`super::Store::run`] does this and the retries.
    pub async fn commit(self) -> Result<Committed> {
        let mut state = {
            let mut state = self.state()?;
            std::mem::replace(
                &mut *state,
                State { ended: Some(Error::UsedDuringCommit), ..State::default() },
            )
        };
        let mut watches = std::mem::take(&mut state.watches);
        let Inner { source, client, label, .. } = &*self.inner;
        match self.prepare(state, &mut watches).await {
            Ok(Prepared::ReadOnly { version }) => {
                source.arm(watches);
                Ok(Committed { version, versionstamp: None })
            }
            Ok(Prepared::Writes(mut intent)) => {
                intent.watches = watches;
                source.commit(client, label, *intent).await
            }
            Err(error) => {
                for arming in watches {
                    arming.fail(&error);
                }
                Err(error)
            }
        }
    }

    async fn prepare(&self, state: State, watches: &mut [Arming]) -> Result<Prepared> {
        state.check_size(0, self.inner.source.bytes_per_key())?;
        let State { overlay, reads, writes, .. } = state;
        if overlay.is_empty() && writes.is_empty() {
            let snapshot = self.snapshot().await?;
            fill_watches(&snapshot, &overlay, watches).await?;
            return Ok(Prepared::ReadOnly { version: snapshot.version() });
        }
        if !reads.is_empty() || !watches.is_empty() {
            let snapshot = self.snapshot().await?;
            fill_watches(&snapshot, &overlay, watches).await?;
        }
        let (extra_writes, watches) = (writes, Vec::new());
        let intent = Intent { pin: None, reads, extra_writes, overlay, watches };
        Ok(Prepared::Writes(Box::new(intent)))
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = lock(&self.inner.state);
        match &state.ended {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }

    /// The state that this transaction reads.
    async fn snapshot(&self) -> Result<Snapshot<'_>> {
        self.inner.source.snapshot(&self.inner.client, self.inner.label).await
    }

    /// Counts as FoundationDB does: a key stands once in its mutation and twice in its conflict range.
    fn write(
        &self,
        keys: usize,
        bytes: usize,
        change: impl FnOnce(&mut Overlay) -> Result<()>,
    ) -> Result<()> {
        let mut state = self.state()?;
        let per_key = self.inner.source.bytes_per_key();
        let size = bytes + WRITE_BYTES + keys * per_key;
        state.check_size(size, per_key)?;
        change(&mut state.overlay)?;
        state.size += size;
        Ok(())
    }
}

enum Prepared {
    ReadOnly { version: u64 },
    Writes(Box<Intent>),
}

/// Finds out what this transaction saw in the keys that it watches and did not write.
async fn fill_watches(
    snapshot: &Snapshot<'_>,
    overlay: &Overlay,
    watches: &mut [Arming],
) -> Result<()> {
    let stored = |arming: &&mut Arming| matches!(overlay.seen(&arming.key), Ok(Seen::Stored));
    let watches: Vec<&mut Arming> = watches.iter_mut().filter(stored).collect();
    let keys: Vec<&[u8]> = watches.iter().map(|arming| arming.key.as_ref()).collect();
    let values = snapshot.get_all(&keys).await?;
    for (arming, value) in watches.into_iter().zip(values) {
        arming.expected = Expected::Value(value);
    }
    Ok(())
}
