//! What a transaction has written and not yet committed, and how its own reads see it.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::conflicts::{ConflictSet, RangeSet};
use super::limits::VERSIONSTAMP_BYTES;
use super::types::{Atomic, key_after, prefix_end};
use super::{Error, Result};
use crate::codec::Versionstamp;

/// What was written to one key.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// Its new value; `None`: cleared.
    Value(Option<Bytes>),
    /// Changes to a value that is not known yet.
    Changes(Vec<(Atomic, Bytes)>),
    /// A value with a place for the versionstamp.
    Stamped(Stamped),
}

/// Bytes with a place of ten bytes that the commit fills.
#[derive(Debug, Clone)]
pub(super) struct Stamped {
    template: Vec<u8>,
    offset: usize,
}

impl Stamped {
    /// From FoundationDB's form: the last four bytes are the little-endian offset of the place.
    fn parse(form: &[u8]) -> Result<Self> {
        let (template, offset) =
            form.split_last_chunk::<4>().ok_or(Error::BadVersionstampOffset)?;
        let offset = usize::try_from(u32::from_le_bytes(*offset))
            .map_err(|_| Error::BadVersionstampOffset)?;
        let end = offset.checked_add(VERSIONSTAMP_BYTES).ok_or(Error::BadVersionstampOffset)?;
        if end > template.len() {
            return Err(Error::BadVersionstampOffset);
        }
        Ok(Self { template: template.to_vec(), offset })
    }

    pub(super) fn fill(&self, versionstamp: Versionstamp) -> Vec<u8> {
        let mut bytes = self.template.clone();
        if let Some(place) = bytes.get_mut(self.offset..self.offset + VERSIONSTAMP_BYTES) {
            place.copy_from_slice(versionstamp.as_bytes());
        }
        bytes
    }

    /// The first and, excluded, the last key that it can become.
    fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        (self.fill(Versionstamp::MIN), key_after(&self.fill(Versionstamp::MAX)))
    }
}

/// A key that the commit decides.
#[derive(Debug, Clone)]
struct StampedKey {
    key: Stamped,
    value: Bytes,
    /// Clears that came after it and reach into where it may lie.
    cleared: RangeSet,
}

/// The write buffer. Clears come before entries: a clear removes the entries it covers.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    entries: BTreeMap<Bytes, Entry>,
    cleared: RangeSet,
    stamped: Vec<StampedKey>,
    dropped: Vec<Bytes>,
    touched: bool,
}

/// How the buffer changes one stored value.
#[derive(Debug)]
pub(super) enum Seen {
    /// The buffer alone decides.
    Decided(Option<Bytes>),
    /// These changes upon what is stored.
    Changed(Vec<(Atomic, Bytes)>),
    /// What is stored.
    Stored,
}

impl Overlay {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.cleared.is_empty()
            && self.stamped.is_empty()
            && self.dropped.is_empty()
            && !self.touched
    }

    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) {
        let value = Entry::Value(Some(Bytes::copy_from_slice(value)));
        self.entries.insert(Bytes::copy_from_slice(key), value);
    }

    pub(super) fn clear(&mut self, key: &[u8]) {
        self.entries.insert(Bytes::copy_from_slice(key), Entry::Value(None));
        self.clear_stamped(key, &key_after(key));
    }

    pub(super) fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        if begin >= end {
            return;
        }
        let covered = (Bound::Included(begin), Bound::Excluded(end));
        let covered: Vec<Bytes> =
            self.entries.range::<[u8], _>(covered).map(|(k, _)| k.clone()).collect();
        for key in covered {
            self.entries.remove(&key);
        }
        self.clear_stamped(begin, end);
        self.cleared.insert(Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
    }

    fn clear_stamped(&mut self, begin: &[u8], end: &[u8]) {
        for stamped in &mut self.stamped {
            let (from, to) = stamped.key.bounds();
            if from.as_slice() < end && begin < to.as_slice() {
                stamped.cleared.insert(Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
            }
        }
        self.stamped.retain(|stamped| {
            let (from, to) = stamped.key.bounds();
            !stamped.cleared.iter().any(|(begin, end)| *begin <= from && to <= *end)
        });
    }

    pub(super) fn drop_prefix(&mut self, prefix: &[u8]) {
        self.clear_range(prefix, &prefix_end(prefix));
        self.dropped.push(Bytes::copy_from_slice(prefix));
    }

    pub(super) fn atomic(&mut self, op: Atomic, key: &[u8], operand: &[u8]) -> Result<()> {
        let operand = Bytes::copy_from_slice(operand);
        let cleared = self.cleared.contains(key);
        match self.entries.get_mut(key) {
            Some(Entry::Value(value)) => *value = Some(op.apply(value.as_deref(), &operand)),
            Some(Entry::Changes(changes)) => match changes.last_mut() {
                // A thousand additions to one counter stay one.
                Some((last, total)) if *last == op && total.len() == operand.len() => {
                    *total = op.apply(Some(total), &operand);
                }
                _ => changes.push((op, operand)),
            },
            Some(Entry::Stamped(_)) => return Err(Error::AccessedUnreadable),
            None => {
                let entry = if cleared {
                    Entry::Value(Some(operand))
                } else {
                    Entry::Changes(vec![(op, operand)])
                };
                self.entries.insert(Bytes::copy_from_slice(key), entry);
            }
        }
        Ok(())
    }

    /// Takes the key in FoundationDB's form; gives the length of the key.
    pub(super) fn set_stamped_key(&mut self, form: &[u8], value: &[u8]) -> Result<()> {
        let key = Stamped::parse(form)?;
        let value = Bytes::copy_from_slice(value);
        self.stamped.push(StampedKey { key, value, cleared: RangeSet::default() });
        Ok(())
    }

    pub(super) fn set_stamped_value(&mut self, key: &[u8], form: &[u8]) -> Result<()> {
        let value = Stamped::parse(form)?;
        self.entries.insert(Bytes::copy_from_slice(key), Entry::Stamped(value));
        Ok(())
    }

    pub(super) fn touch(&mut self) {
        self.touched = true;
    }

    pub(super) const fn touched(&self) -> bool {
        self.touched
    }

    pub(super) fn dropped(&self) -> &[Bytes] {
        &self.dropped
    }

    pub(super) fn cleared(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.cleared.iter()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Bytes, &Entry)> {
        self.entries.iter()
    }

    /// The versionstamped keys that this commit makes.
    pub(super) fn stamped_keys(
        &self,
        versionstamp: Versionstamp,
    ) -> impl Iterator<Item = (Bytes, Bytes)> {
        self.stamped.iter().filter_map(move |stamped| {
            let key = Bytes::from(stamped.key.fill(versionstamp));
            (!stamped.cleared.contains(&key)).then(|| (key, stamped.value.clone()))
        })
    }

    /// How this transaction sees one key.
    pub(super) fn seen(&self, key: &[u8]) -> Result<Seen> {
        if self.stamped.iter().any(|stamped| {
            let (from, to) = stamped.key.bounds();
            from.as_slice() <= key && key < to.as_slice()
        }) {
            return Err(Error::AccessedUnreadable);
        }
        Ok(match self.entries.get(key) {
            Some(Entry::Value(value)) => Seen::Decided(value.clone()),
            Some(Entry::Changes(changes)) => Seen::Changed(changes.clone()),
            Some(Entry::Stamped(_)) => return Err(Error::AccessedUnreadable),
            None if self.cleared.contains(key) => Seen::Decided(None),
            None => Seen::Stored,
        })
    }

    /// The part of the buffer that lies in `begin..end`, for a range read.
    pub(super) fn part(&self, begin: &[u8], end: &[u8]) -> Result<Part> {
        let unreadable = self.stamped.iter().any(|stamped| {
            let (from, to) = stamped.key.bounds();
            from.as_slice() < end && begin < to.as_slice()
        });
        if unreadable {
            return Err(Error::AccessedUnreadable);
        }
        let mut entries = Vec::new();
        if begin < end && !self.entries.is_empty() {
            let inside = (Bound::Included(begin), Bound::Excluded(end));
            for (key, entry) in self.entries.range::<[u8], _>(inside) {
                let seen = match entry {
                    Entry::Value(value) => Seen::Decided(value.clone()),
                    Entry::Changes(changes) => Seen::Changed(changes.clone()),
                    Entry::Stamped(_) => return Err(Error::AccessedUnreadable),
                };
                entries.push((key.clone(), seen));
            }
        }
        let mut cleared = RangeSet::default();
        for (from, to) in self.cleared.overlapping(begin, end) {
            cleared.insert(from, to);
        }
        Ok(Part { entries, cleared })
    }

    /// What the commit writes, as far as it is known before the commit.
    pub(super) fn write_conflicts(&self) -> ConflictSet {
        let mut set = self.conflicts_without_stamps();
        for stamped in &self.stamped {
            let (from, to) = stamped.key.bounds();
            set.add_range(&from, &to);
        }
        set
    }

    /// The same with what was added by hand and what is dropped, as sorted, disjoint ranges.
    pub(super) fn all_write_conflicts(&self, more: &ConflictSet) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut set = self.write_conflicts();
        set.points.extend(more.points.iter().cloned());
        set.ranges.extend(more.ranges.iter().cloned());
        for prefix in self.dropped() {
            set.add_range(prefix, &prefix_end(prefix));
        }
        set.merged()
    }

    /// What the commit with this versionstamp writes.
    pub(super) fn written(&self, versionstamp: Versionstamp) -> ConflictSet {
        let mut set = self.conflicts_without_stamps();
        set.points.extend(self.stamped_keys(versionstamp).map(|(key, _)| key));
        set
    }

    fn conflicts_without_stamps(&self) -> ConflictSet {
        ConflictSet {
            points: self.entries.keys().cloned().collect(),
            ranges: self.cleared.iter().map(|(from, to)| (from.clone(), to.clone())).collect(),
        }
    }
}

/// What the buffer says about a range.
#[derive(Debug)]
pub(super) struct Part {
    /// In the order of keys.
    pub(super) entries: Vec<(Bytes, Seen)>,
    pub(super) cleared: RangeSet,
}

/// `changes`, one after the other, upon `stored`.
pub(super) fn apply_changes(stored: Option<Bytes>, changes: &[(Atomic, Bytes)]) -> Option<Bytes> {
    changes.iter().fold(stored, |value, (op, operand)| Some(op.apply(value.as_deref(), operand)))
}
