//! A published state of a local engine: what transactions read.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use super::sequencer::closed;
use super::types::prefix_end;
use super::{Error, Result};
use crate::codec::Versionstamp;

/// Takes rows in order and says whether it wants more.
pub(super) type RowSink<'a> = &'a mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>;

/// An unchanging picture of all keys, kept by an engine.
pub(super) trait View: Send + Sync + Debug {
    /// The value stored for a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// Hands over the rows of `begin..end` until the sink has had enough.
    fn scan(&self, begin: &[u8], end: &[u8], reverse: bool, sink: RowSink<'_>) -> Result<()>;

    /// Whether long scans wait for a disk and belong on the blocking pool.
    fn blocks(&self) -> bool;
}

/// Prefixes that were dropped and are not yet destroyed. No reader sees below them.
#[derive(Debug, Clone, Default)]
pub(super) struct Dropped(Arc<BTreeSet<Bytes>>);

impl Dropped {
    pub(super) fn new(prefixes: BTreeSet<Bytes>) -> Self {
        Self(Arc::new(prefixes))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, prefix: &[u8]) -> bool {
        self.0.contains(prefix)
    }

    /// The set after some were added and some forgotten.
    pub(super) fn changed(&self, added: &[Bytes], forgotten: &[Bytes]) -> Self {
        if added.is_empty() && forgotten.is_empty() {
            return self.clone();
        }
        let mut set = BTreeSet::clone(&self.0);
        set.extend(added.iter().cloned());
        for prefix in forgotten {
            set.remove(prefix);
        }
        Self(Arc::new(set))
    }

    /// Whether a key lies below a dropped prefix.
    pub(super) fn hides(&self, key: &[u8]) -> bool {
        // Prefixes of a key sort before it, but others may lie between, so that each length is asked for.
        if self.0.is_empty() {
            return false;
        }
        let mut bound = key;
        loop {
            let before = (Bound::Unbounded, Bound::Included(bound));
            let Some(prefix) = self.0.range::<[u8], _>(before).next_back() else { return false };
            if key.starts_with(prefix) {
                return true;
            }
            let common = key.iter().zip(prefix.iter()).take_while(|(a, b)| a == b).count();
            match key.get(..common) {
                Some(shorter) if shorter.len() < bound.len() => bound = shorter,
                _ => return false,
            }
        }
    }

    /// `begin..end` without what is hidden, in order.
    fn visible(&self, begin: &[u8], end: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut parts = Vec::new();
        let mut from = begin.to_vec();
        for prefix in self.0.iter() {
            let to = prefix_end(prefix);
            if to <= from {
                continue;
            }
            if prefix.as_ref() >= end {
                break;
            }
            if prefix.as_ref() > from.as_slice() {
                parts.push((from, prefix.to_vec()));
            }
            from = to;
        }
        if from.as_slice() < end {
            parts.push((from, end.to_vec()));
        }
        parts
    }
}

impl Dropped {
    /// Hands over the rows of `begin..end` that are not hidden.
    pub(super) fn scan(
        &self,
        view: &dyn View,
        begin: &[u8],
        end: &[u8],
        reverse: bool,
        sink: RowSink<'_>,
    ) -> Result<()> {
        if self.0.is_empty() {
            return view.scan(begin, end, reverse, sink);
        }
        let mut parts = self.visible(begin, end);
        if reverse {
            parts.reverse();
        }
        let mut flow = ControlFlow::Continue(());
        for (from, to) in parts {
            view.scan(&from, &to, reverse, &mut |key, value| {
                flow = sink(key, value);
                flow
            })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// What a batch left behind, with its version. Transactions pin one and read from it.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) version: u64,
    pub(super) metadata_version: Versionstamp,
    pub(super) dropped: Dropped,
    view: ArcSwapOption<Box<dyn View>>,
}

impl Published {
    pub(super) fn new(
        version: u64,
        metadata_version: Versionstamp,
        dropped: Dropped,
        view: Box<dyn View>,
    ) -> Self {
        Self { version, metadata_version, dropped, view: ArcSwapOption::from_pointee(view) }
    }

    /// Lets go of the engine's snapshot: whoever still reads is told that it is too old.
    pub(super) fn expire(&self) {
        self.view.store(None);
    }

    /// Lets go of the engine: the store is closed.
    pub(super) fn close(&self) {
        self.view.store(Some(Arc::new(Box::new(Closed))));
    }

    pub(super) fn blocks(&self) -> bool {
        self.view.load().as_ref().is_some_and(|view| view.blocks())
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let view = self.view.load();
        let view = view.as_ref().ok_or(Error::TooOld)?;
        if self.dropped.hides(key) { Ok(None) } else { view.get(key) }
    }

    /// Rows of `begin..end` that are not hidden.
    pub(super) fn scan(
        &self,
        begin: &[u8],
        end: &[u8],
        reverse: bool,
        sink: RowSink<'_>,
    ) -> Result<()> {
        self.scan_without(&self.dropped, begin, end, reverse, sink)
    }

    /// Rows of `begin..end` that these dropped prefixes do not hide.
    pub(super) fn scan_without(
        &self,
        dropped: &Dropped,
        begin: &[u8],
        end: &[u8],
        reverse: bool,
        sink: RowSink<'_>,
    ) -> Result<()> {
        dropped.scan(&**self.view()?, begin, end, reverse, sink)
    }

    /// The engine's picture, which stays open as long as somebody has it.
    pub(super) fn view(&self) -> Result<Arc<Box<dyn View>>> {
        self.view.load_full().ok_or(Error::TooOld)
    }
}

/// What a closed store shows.
#[derive(Debug)]
struct Closed;

impl View for Closed {
    fn get(&self, _key: &[u8]) -> Result<Option<Bytes>> {
        Err(closed())
    }

    fn scan(&self, _begin: &[u8], _end: &[u8], _reverse: bool, _sink: RowSink<'_>) -> Result<()> {
        Err(closed())
    }

    fn blocks(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_prefix_hides_what_is_below_it_and_nothing_else() {
        let set = ["b/", "b/x/", "c", "ca\u{1}"].map(|p| Bytes::from(p.as_bytes()));
        let dropped = Dropped::new(set.into_iter().collect());
        for (key, hidden) in
            [("a", false), ("b", false), ("b/", true), ("b/z", true), ("b0", false), ("cb", true)]
        {
            assert_eq!(dropped.hides(key.as_bytes()), hidden, "{key}");
        }
        let visible = dropped.visible(b"a", b"b/zz");
        assert_eq!(visible, vec![(b"a".to_vec(), b"b/".to_vec())]);
        assert_eq!(dropped.visible(b"b0", b"z").first(), Some(&(b"b0".to_vec(), b"c".to_vec())));
    }
}
