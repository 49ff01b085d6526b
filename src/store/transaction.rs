//! A transaction of the local engines: reads at one snapshot, a write buffer, and the sets of what it read and wrote.

mod savepoint;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;
use tokio::time::Instant;

pub use savepoint::Savepoint;

use super::conflicts::ConflictSet;
use super::limits::{
    TRANSACTION_BYTES_MAX, TRANSACTION_TIME_MAX, VERSIONSTAMP_BYTES, check_key, check_range,
    check_value,
};
use super::local::Local;
use super::overlay::{Overlay, Part, Seen, apply_changes};
use super::sequencer::Intent;
use super::shared::lock;
use super::types::{Atomic, Committed, Page, RangeRead, Read, key_after};
use super::view::Published;
use super::watch::{Arming, Expected, Watch};
use super::{Error, Result};
use crate::codec::Versionstamp;

/// Rows of a range that are read on the caller's thread before the rest goes to the blocking pool.
const INLINE_ROWS: usize = 256;

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
    local: Arc<Local>,
    client: Arc<str>,
    label: &'static str,
    pin: OnceLock<Snapshot>,
    state: Mutex<State>,
}

#[derive(Debug, Clone)]
struct Snapshot {
    published: Arc<Published>,
    taken: Instant,
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
    fn size(&self) -> usize {
        self.size + self.reads.bytes() + self.writes.bytes()
    }

    /// What is read with conflict counts, too, so that a transaction cannot grow by reading.
    fn check_size(&self, more: usize) -> Result<()> {
        let size = self.size() + more;
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
            .field("read_version", &self.inner.pin.get().map(|pin| pin.published.version))
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.local.shared().counters.open_transactions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Transaction {
    pub(super) fn new(local: Arc<Local>, client: Arc<str>, label: &'static str) -> Self {
        local.shared().counters.open_transactions.fetch_add(1, Ordering::Relaxed);
        let (pin, state) = (OnceLock::new(), Mutex::default());
        Self { inner: Arc::new(Inner { local, client, label, pin, state }) }
    }

    pub fn label(&self) -> &'static str {
        self.inner.label
    }

    /// The version that it reads at; takes the snapshot if there is none yet.
    pub async fn read_version(&self) -> Result<u64> {
        Ok(self.snapshot().await?.version)
    }

    /// The metadata version at the snapshot: free of charge, without a conflict.
    ///
    /// After [`Transaction::touch_metadata_version`] it is [`Error::AccessedUnreadable`].
    pub async fn metadata_version(&self) -> Result<Versionstamp> {
        let version = self.snapshot().await?.metadata_version;
        if self.state()?.overlay.touched() { Err(Error::AccessedUnreadable) } else { Ok(version) }
    }

    /// The value of a key, own writes included.
    pub async fn get(&self, key: &[u8], read: Read) -> Result<Option<Bytes>> {
        check_key(key)?;
        let published = self.snapshot().await?;
        let seen = {
            let mut state = self.state()?;
            let seen = state.overlay.seen(key)?;
            if read == Read::Conflict && !matches!(seen, Seen::Decided(_)) {
                state.reads.add_point(key);
                state.check_size(0)?;
            }
            seen
        };
        match seen {
            Seen::Decided(value) => Ok(value),
            Seen::Stored => published.get(key),
            Seen::Changed(changes) => Ok(apply_changes(published.get(key)?, &changes)),
        }
    }

    /// A page of a range, own writes included; [`RangeRead::after`] makes the next one.
    ///
    /// A read with conflict covers the range up to the end of the page.
    pub async fn range(&self, range: RangeRead) -> Result<Page> {
        check_range(&range.begin, &range.end)?;
        let published = self.snapshot().await?;
        let part = self.state()?.overlay.part(&range.begin, &range.end)?;
        let page = self.scan(published, part, &range).await?;
        if range.read == Read::Conflict {
            let last = page.rows.last().filter(|_| page.more);
            let mut state = self.state()?;
            match last {
                Some((key, _)) if range.reverse => state.reads.add_range(key, &range.end),
                Some((key, _)) => state.reads.add_range(&range.begin, &key_after(key)),
                None => state.reads.add_range(&range.begin, &range.end),
            }
            state.check_size(0)?;
        }
        Ok(page)
    }

    async fn scan(&self, published: Arc<Published>, part: Part, range: &RangeRead) -> Result<Page> {
        let mut merge = Merge::new(part, range);
        if !published.blocks() {
            merge.scan(&published, usize::MAX)?;
            return Ok(merge.page());
        }
        if merge.scan(&published, INLINE_ROWS)? {
            return Ok(merge.page());
        }
        let _permit =
            self.inner.local.shared().scans.acquire().await.map_err(|_| Error::Cancelled)?;
        let rest = tokio::task::spawn_blocking(move || {
            merge.scan(&published, usize::MAX)?;
            Ok(merge.page())
        });
        rest.await.map_err(|_| Error::Cancelled)?
    }

    /// Writes a value.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<()> {
        check_key(key)?;
        check_value(value)?;
        self.write(3 * key.len() + value.len(), |overlay| {
            overlay.set(key, value);
            Ok(())
        })
    }

    /// Takes a key away.
    pub fn clear(&self, key: &[u8]) -> Result<()> {
        check_key(key)?;
        self.write(3 * key.len(), |overlay| {
            overlay.clear(key);
            Ok(())
        })
    }

    /// Takes all keys of `begin..end` away.
    ///
    /// The embedded engine writes a mark for each of them: for whole prefixes see [`Transaction::drop_prefix`].
    pub fn clear_range(&self, begin: &[u8], end: &[u8]) -> Result<()> {
        check_range(begin, end)?;
        self.write(2 * (begin.len() + end.len()), |overlay| {
            overlay.clear_range(begin, end);
            Ok(())
        })
    }

    /// Changes a value without reading it.
    pub fn atomic(&self, op: Atomic, key: &[u8], operand: &[u8]) -> Result<()> {
        check_key(key)?;
        check_value(operand)?;
        self.write(3 * key.len() + operand.len(), |overlay| overlay.atomic(op, key, operand))
    }

    /// Writes a value under a key with the commit's versionstamp in it.
    ///
    /// The key is in FoundationDB's form: its last four bytes are the little-endian offset of a place of ten bytes.
    /// Reading where it may lie gives [`Error::AccessedUnreadable`].
    pub fn set_versionstamped_key(&self, key: &[u8], value: &[u8]) -> Result<()> {
        check_key(key.get(..key.len().saturating_sub(4)).unwrap_or_default())?;
        check_value(value)?;
        self.write(3 * key.len() + value.len(), |overlay| overlay.set_stamped_key(key, value))
    }

    /// Writes a value with the commit's versionstamp in it, in the same form.
    pub fn set_versionstamped_value(&self, key: &[u8], value: &[u8]) -> Result<()> {
        check_key(key)?;
        check_value(value.get(..value.len().saturating_sub(4)).unwrap_or_default())?;
        self.write(3 * key.len() + value.len(), |overlay| overlay.set_stamped_value(key, value))
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
        self.write(VERSIONSTAMP_BYTES, |overlay| {
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
        self.write(3 * prefix.len(), |overlay| {
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
        let (watch, arming) = self.inner.local.shared().watches.reserve(key)?;
        self.state()?.watches.push(arming);
        Ok(watch)
    }

    /// About how many bytes the commit will carry, what was read with conflict included; the limit is 10 MB.
    pub fn approximate_size(&self) -> usize {
        lock(&self.inner.state).size()
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
            let given_up = State { ended: Some(error.clone()), ..State::default() };
            let given_up = std::mem::replace(&mut *state, given_up);
            drop(state);
            fail(given_up.watches, error);
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
        let watches = std::mem::take(&mut state.watches);
        match self.prepare(state).await {
            Ok(Prepared::ReadOnly(published)) => {
                self.arm(watches, &published)?;
                Ok(Committed { version: published.version, versionstamp: None })
            }
            Ok(Prepared::Writes(mut intent)) => {
                intent.watches = watches;
                if let Err(error) = self.fill_watches(&mut intent).await {
                    return Err(fail(std::mem::take(&mut intent.watches), error));
                }
                self.inner.local.commit(&self.inner.client, self.inner.label, *intent).await
            }
            Err(error) => Err(fail(watches, error)),
        }
    }

    async fn prepare(&self, state: State) -> Result<Prepared> {
        state.check_size(0)?;
        let State { overlay, reads, writes, .. } = state;
        if overlay.is_empty() && writes.is_empty() {
            return Ok(Prepared::ReadOnly(self.snapshot().await?));
        }
        if !reads.is_empty() {
            self.snapshot().await?;
        }
        let pin = self.inner.pin.get().map(|pin| Arc::clone(&pin.published));
        let (extra_writes, watches) = (writes, Vec::new());
        Ok(Prepared::Writes(Box::new(Intent { pin, reads, extra_writes, overlay, watches })))
    }

    /// Finds out what this transaction saw in the keys that it watches and did not write.
    async fn fill_watches(&self, intent: &mut Intent) -> Result<()> {
        if intent.watches.is_empty() {
            return Ok(());
        }
        let published = self.snapshot().await?;
        let Intent { overlay, watches, .. } = intent;
        for arming in watches {
            if matches!(overlay.seen(&arming.key), Ok(Seen::Stored)) {
                arming.expected = Expected::Value(published.get(&arming.key)?);
            }
        }
        Ok(())
    }

    fn arm(&self, watches: Vec<Arming>, published: &Published) -> Result<()> {
        let shared = self.inner.local.shared();
        for mut arming in watches {
            match published.get(&arming.key) {
                Ok(value) => arming.expected = Expected::Value(value),
                Err(error) => return Err(fail(vec![arming], error)),
            }
            shared.watches.arm(arming, &shared.published);
        }
        Ok(())
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = lock(&self.inner.state);
        match &state.ended {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }

    /// The state that this transaction reads, which is the newest when it reads for the first time.
    async fn snapshot(&self) -> Result<Arc<Published>> {
        self.inner.local.before_read(&self.inner.client, self.inner.label).await?;
        let take = || Snapshot {
            published: self.inner.local.shared().published.load_full(),
            taken: Instant::now(),
        };
        let snapshot = self.inner.pin.get_or_init(take);
        if snapshot.taken.elapsed() >= TRANSACTION_TIME_MAX {
            return Err(Error::TooOld);
        }
        Ok(Arc::clone(&snapshot.published))
    }

    fn write(&self, size: usize, change: impl FnOnce(&mut Overlay) -> Result<()>) -> Result<()> {
        let mut state = self.state()?;
        state.check_size(size)?;
        change(&mut state.overlay)?;
        state.size += size;
        Ok(())
    }
}

enum Prepared {
    ReadOnly(Arc<Published>),
    Writes(Box<Intent>),
}

/// Ends watches whose transaction was not committed.
fn fail(watches: Vec<Arming>, error: Error) -> Error {
    for arming in watches {
        arming.fail(&error);
    }
    error
}

/// Stored rows and own writes on their way into a page, in the order of the read.
struct Merge {
    own: std::iter::Peekable<std::vec::IntoIter<(Bytes, Seen)>>,
    cleared: super::conflicts::RangeSet,
    range: RangeRead,
    rows: Vec<(Bytes, Bytes)>,
    bytes: usize,
    full: bool,
}

impl Merge {
    fn new(part: Part, range: &RangeRead) -> Self {
        let mut own = part.entries;
        if range.reverse {
            own.reverse();
        }
        let full = range.limit == 0;
        Self {
            own: own.into_iter().peekable(),
            cleared: part.cleared,
            range: range.clone(),
            rows: Vec::new(),
            bytes: 0,
            full,
        }
    }

    /// Goes on for so many stored rows; `true` when the page is complete.
    fn scan(&mut self, published: &Published, stored_max: usize) -> Result<bool> {
        let (begin, end, reverse) =
            (self.range.begin.clone(), self.range.end.clone(), self.range.reverse);
        if self.full || begin >= end {
            return Ok(true);
        }
        let mut stored = 0;
        let mut last = None;
        published.scan(&begin, &end, reverse, &mut |key, value| {
            stored += 1;
            if stored == stored_max {
                last = Some(key.clone());
            }
            self.stored(key, value);
            if self.full || stored == stored_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        match last {
            Some(key) if !self.full => {
                // The rest of the range, for another call.
                if reverse {
                    self.range.end = key.to_vec();
                } else {
                    self.range.begin = key_after(&key);
                }
                Ok(false)
            }
            _ => {
                while !self.full
                    && let Some((key, seen)) = self.own.next()
                {
                    self.own_row(key, seen, None);
                }
                Ok(true)
            }
        }
    }

    fn stored(&mut self, key: Bytes, value: Bytes) {
        loop {
            if self.full {
                return;
            }
            let Some((own, _)) = self.own.peek() else { break };
            let earlier = if self.range.reverse { *own > key } else { *own < key };
            if !earlier && *own != key {
                break;
            }
            let Some((own, seen)) = self.own.next() else { break };
            if own == key {
                return self.own_row(own, seen, Some(value));
            }
            self.own_row(own, seen, None);
        }
        if !self.cleared.contains(&key) {
            self.push(key, value);
        }
    }

    fn own_row(&mut self, key: Bytes, seen: Seen, stored: Option<Bytes>) {
        let value = match seen {
            Seen::Decided(value) => value,
            Seen::Changed(changes) => apply_changes(stored, &changes),
            Seen::Stored => stored,
        };
        if let Some(value) = value {
            self.push(key, value);
        }
    }

    fn push(&mut self, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.rows.push((key, value));
        self.full = self.rows.len() >= self.range.limit || self.bytes >= self.range.bytes;
    }

    fn page(self) -> Page {
        Page { rows: self.rows, more: self.full }
    }
}
