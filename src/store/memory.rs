//! The engine in memory: the oracle for tests and the ground for simulation.
//!
//! Its state is one persistent map, so that a snapshot is a cheap clone of it.
//! It keeps nothing on disk. Dropped prefixes are destroyed at once.

use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use imbl::OrdMap;

use super::Result;
use super::sequencer::{Batch, Engine};
use super::view::{Dropped, Published, RowSink, View};
use crate::codec::Versionstamp;

/// The newest state.
#[derive(Debug, Default)]
pub(super) struct Memory {
    map: OrdMap<Bytes, Bytes>,
}

impl Memory {
    /// The state before the first commit.
    pub(super) fn empty() -> Published {
        let view = Box::new(MemoryView(OrdMap::new()));
        Published::new(0, Versionstamp::MIN, Dropped::new(BTreeSet::new()), view)
    }
}

impl Engine for Memory {
    fn apply(&mut self, batch: &Batch, _base: &Published) -> Result<Box<dyn View>> {
        for (begin, end) in batch.cleared.iter() {
            let covered: Vec<Bytes> =
                self.map.range(begin.clone()..end.clone()).map(|(key, _)| key.clone()).collect();
            for key in covered {
                self.map.remove(&key);
            }
        }
        for (key, value) in &batch.writes {
            match value {
                Some(value) => self.map.insert(key.clone(), value.clone()),
                None => self.map.remove(key),
            };
        }
        Ok(Box::new(MemoryView(self.map.clone())))
    }

    fn keeps_dropped(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct MemoryView(OrdMap<Bytes, Bytes>);

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, begin: &[u8], end: &[u8], reverse: bool, sink: RowSink<'_>) -> Result<()> {
        if begin >= end {
            return Ok(());
        }
        let mut rows = self.0.range::<_, [u8]>((Bound::Included(begin), Bound::Excluded(end)));
        while let Some((key, value)) = if reverse { rows.next_back() } else { rows.next() } {
            if let ControlFlow::Break(()) = sink(key.clone(), value.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn blocks(&self) -> bool {
        false
    }
}
