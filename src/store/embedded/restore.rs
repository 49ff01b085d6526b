//! Makes a new store out of rows.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;

use super::committed::{Committed, CommittedFile};
use super::engine::FjallEngine;
use super::folder::Folder;
use super::reclaim::{Condemned, flush};
use super::state::State;
use super::{CLOSE_STEP, Durability, EmbeddedOptions, open_fjall};
use crate::codec::Versionstamp;
use crate::store::sequencer::{Batch, Engine};
use crate::store::types::key_after;
use crate::store::view::{Dropped, Published};
use crate::store::{Error, Result};

/// Bytes of one batch while restoring.
const BATCH_BYTES: usize = 4 << 20;

/// A store on its way. Without [`Restoring::finish`] it is refused by whoever opens it.
#[derive(Debug)]
pub(in crate::store) struct Restoring {
    folder: Folder,
    engine: FjallEngine,
    base: Published,
    batch: Batch,
    bytes: usize,
    handles: super::engine::Handles,
    /// Rows come in the order of their keys.
    next: Bytes,
}

impl Restoring {
    /// Begins a store in an empty folder; its commits will follow `version`.
    pub(in crate::store) fn begin(
        path: &Path,
        version: u64,
        metadata_version: Versionstamp,
    ) -> Result<Self> {
        let folder = Folder::lock(path)?;
        let options = EmbeddedOptions {
            durability: Durability::Interval(CLOSE_STEP),
            ..EmbeddedOptions::default()
        };
        // Names a commit that is not there yet, so that a folder in which this never finished is refused.
        let unfinished = Committed { version: version + 1, ..Committed::default() };
        let committed = CommittedFile::create(&folder.committed(), unfinished)?;
        let handles = open_fjall(&folder, &options, &Arc::new(Condemned::default()))?;
        let state = State { version, metadata_version, ..State::default() };
        let fsyncs = Arc::new(AtomicU64::new(0));
        let engine = FjallEngine::new(handles.clone(), state, committed, &options, fsyncs);
        let view = Box::new(handles.view());
        let base = Published::new(version, metadata_version, Dropped::default(), view);
        let batch = Batch { version: version + 1, ..Batch::default() };
        Ok(Self { folder, engine, base, batch, bytes: 0, handles, next: Bytes::new() })
    }

    /// Adds a row.
    pub(in crate::store) fn put(&mut self, key: Bytes, value: Bytes) -> Result<()> {
        if key < self.next {
            return Err(Error::Corrupt {
                detail: "the rows of the copy are not in order".to_owned(),
            });
        }
        self.next = key_after(&key).into();
        self.bytes += key.len() + value.len();
        self.batch.writes.insert(key, Some(value));
        if self.bytes >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let next = Batch { version: self.batch.version + 1, ..Batch::default() };
        let batch = std::mem::replace(&mut self.batch, next);
        self.bytes = 0;
        self.engine.apply(&batch, &self.base).map(drop)
    }

    /// Makes it durable, and a store.
    pub(in crate::store) fn finish(mut self) -> Result<()> {
        self.write()?;
        let flushed = flush(&self.handles, || {
            std::thread::park_timeout(CLOSE_STEP);
            false
        })?;
        self.engine.sync_all(flushed)?;
        self.folder.write_format()
    }
}
