//! Batches and snapshots on fjall.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fjall::{Database, Keyspace, PersistMode, Readable, Snapshot};
use tokio::time::Instant;

use super::committed::{Committed, CommittedFile};
use super::state::{Chain, Kind, STATE_KEY, State, dropped_key};
use super::{Durability, EmbeddedOptions};
use crate::store::sequencer::{Batch, Engine};
use crate::store::view::{Published, RowSink, View};
use crate::store::{Error, Result};

/// Memtables and young tables that may wait for fjall's workers before writes wait for them. Below fjall's own bounds, at
/// which it waits without looking whether its workers are still alive.
const SEALED_MAX: usize = 3;
const YOUNG_TABLES_MAX: usize = 18;
const BACKPRESSURE_STEP: Duration = Duration::from_millis(2);

/// The handles of an open fjall database with its one keyspace.
#[derive(Clone)]
pub(super) struct Handles {
    pub(super) database: Database,
    pub(super) data: Keyspace,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles").finish_non_exhaustive()
    }
}

impl Handles {
    /// A picture of everything committed so far. Only the committer commits, so it calls this.
    pub(super) fn view(&self) -> FjallView {
        FjallView { snapshot: self.database.snapshot(), data: self.data.clone() }
    }

    /// Whether fjall still writes; it stops for good after a failed write, sync, flush or compaction.
    pub(super) fn healthy(&self) -> Result<()> {
        self.database.persist(PersistMode::Buffer).map_err(stopped)
    }
}

/// Writes batches.
#[derive(Debug)]
pub(super) struct FjallEngine {
    handles: Handles,
    state: State,
    /// Where the engine's sequence numbers stood after the last batch.
    sequence_end: u64,
    flushed: u64,
    committed: CommittedFile,
    durability: Durability,
    fsyncs: Arc<AtomicU64>,
    /// Batches written and not yet synced.
    dirty: bool,
    /// Batches written since what was in memory was last written to a table for their number, and when that was.
    batches: u32,
    tabled: Instant,
    table_batches: u32,
    table_every: Duration,
}

impl FjallEngine {
    pub(super) fn new(
        handles: Handles,
        state: State,
        committed: CommittedFile,
        options: &EmbeddedOptions,
        fsyncs: Arc<AtomicU64>,
    ) -> Self {
        let sequence_end = handles.database.visible_seqno();
        let durability = options.durability;
        Self {
            handles,
            state,
            sequence_end,
            flushed: 0,
            committed,
            durability,
            fsyncs,
            dirty: false,
            batches: 0,
            tabled: Instant::now(),
            table_batches: options.table_batches,
            table_every: options.table_every,
        }
    }

    /// Syncs what was written since the last sync.
    pub(super) fn sync(&mut self) -> Result<()> {
        if std::mem::take(&mut self.dirty) {
            self.handles.database.persist(PersistMode::SyncData).map_err(stopped)?;
            self.note_synced()?;
        }
        Ok(())
    }

    /// Syncs everything, COMMITTED too. `flushed` says that everything is in tables.
    pub(super) fn sync_all(&mut self, flushed: bool) -> Result<()> {
        self.handles.database.persist(PersistMode::SyncAll).map_err(stopped)?;
        if flushed {
            self.flushed = self.state.version;
        }
        self.note_synced()?;
        self.committed.sync()
    }

    fn note_synced(&mut self) -> Result<()> {
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.committed.write(Committed {
            version: self.state.version,
            chain: self.state.chain,
            sequence_end: self.sequence_end,
            flushed: self.flushed,
        })
    }

    /// Waits while fjall's workers are behind.
    fn backpressure(&self) -> Result<()> {
        let data = &self.handles.data;
        while data.sealed_memtable_count() >= SEALED_MAX
            || data.l0_table_count() >= YOUNG_TABLES_MAX
        {
            self.handles.healthy()?;
            std::thread::park_timeout(BACKPRESSURE_STEP);
        }
        Ok(())
    }

    /// Has fjall's workers write a table when memory holds too many versions.
    fn end_versions(&mut self) -> Result<()> {
        if self.batches >= self.table_batches && self.tabled.elapsed() >= self.table_every {
            self.handles.data.rotate_memtable().map_err(stopped)?;
            self.batches = 0;
            self.tabled = Instant::now();
        }
        self.batches = self.batches.saturating_add(1);
        Ok(())
    }

    /// The keys that the batch's cleared ranges take away. Below a dropped prefix nothing is touched one by one.
    fn cleared_keys(batch: &Batch, base: &Published) -> Result<Vec<Bytes>> {
        let dropped = base.dropped.changed(&batch.dropped, &[]);
        let mut keys = Vec::new();
        for (begin, end) in batch.cleared.iter() {
            base.scan_without(&dropped, begin, end, false, &mut |key, _| {
                if !batch.writes.contains_key(&key) {
                    keys.push(key);
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(keys)
    }

    fn write(&mut self, batch: &Batch, base: &Published) -> Result<()> {
        self.backpressure()?;
        let data = &self.handles.data;
        let mut chain = Chain::new(self.state.chain);
        let mut items = self.handles.database.batch();
        if self.durability == Durability::Sync {
            items = items.durability(Some(PersistMode::SyncData));
        } else {
            items = items.durability(Some(PersistMode::Buffer));
        }
        let mut put = |key: &[u8], value: Option<&[u8]>| {
            if let Some(value) = value {
                chain.item(Kind::Write, key, value);
                items.insert(data, key, value);
            } else {
                chain.item(Kind::Clear, key, &[]);
                items.remove(data, key);
            }
        };
        for key in Self::cleared_keys(batch, base)? {
            put(&key, None);
        }
        for (key, value) in &batch.writes {
            put(key, value.as_deref());
        }
        for prefix in &batch.dropped {
            put(&dropped_key(prefix), Some(&batch.version.to_be_bytes()));
        }
        for prefix in &batch.forgotten {
            put(&dropped_key(prefix), None);
        }
        let mut state = State {
            version: batch.version,
            metadata_version: batch.metadata_version.unwrap_or(base.metadata_version),
            previous: self.state.chain,
            previous_end: self.sequence_end,
            chain: 0,
        };
        state.chain = chain.finish(&state);
        items.insert(data, STATE_KEY, state.encode());
        items.commit().map_err(stopped)?;
        self.state = state;
        self.sequence_end = self.handles.database.visible_seqno();
        Ok(())
    }
}

impl Engine for FjallEngine {
    fn apply(&mut self, batch: &Batch, base: &Published) -> Result<Box<dyn View>> {
        // Before anything of the batch is written, so that it has not happened if this fails.
        self.end_versions()?;
        self.write(batch, base)?;
        match self.durability {
            Durability::Sync => self.note_synced()?,
            Durability::Interval(_) => self.dirty = true,
        }
        Ok(Box::new(self.handles.view()))
    }

    fn keeps_dropped(&self) -> bool {
        true
    }
}

/// An error after which nothing is written any more.
pub(super) fn stopped(error: fjall::Error) -> Error {
    let reason = match error {
        fjall::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            "the disk is full".to_owned()
        }
        fjall::Error::Io(error) => format!("writing to the disk failed: {error}"),
        fjall::Error::Poisoned => {
            "an earlier write to the disk failed (is it full?); see the log".to_owned()
        }
        other => format!("the engine failed: {other}"),
    };
    Error::Stopped { reason }
}

/// An error while reading.
pub(super) fn unreadable(error: fjall::Error) -> Error {
    match error {
        fjall::Error::Io(error) => Error::io("cannot read the store", error),
        other => Error::Corrupt { detail: format!("{other}") },
    }
}

/// A picture of the keyspace.
pub(super) struct FjallView {
    snapshot: Snapshot,
    data: Keyspace,
}

impl std::fmt::Debug for FjallView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallView")
            .field("sequence", &self.snapshot.seqno())
            .finish_non_exhaustive()
    }
}

impl View for FjallView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let value = self.snapshot.get(&self.data, key).map_err(unreadable)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, begin: &[u8], end: &[u8], reverse: bool, sink: RowSink<'_>) -> Result<()> {
        if begin >= end {
            return Ok(());
        }
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(begin), Bound::Excluded(end));
        let mut rows = self.snapshot.range::<&[u8], _>(&self.data, bounds);
        while let Some(row) = if reverse { rows.next_back() } else { rows.next() } {
            let (key, value) = row.into_inner().map_err(unreadable)?;
            let row = sink(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value));
            if row.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn blocks(&self) -> bool {
        true
    }
}
