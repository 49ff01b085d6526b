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

    /// Bytes of what it becomes.
    #[cfg(feature = "foundationdb")]
    pub(super) fn len(&self) -> usize {
        self.template.len()
    }

    /// FoundationDB's form of it, with the template changed and its place so much further behind.
    #[cfg(feature = "foundationdb")]
    pub(super) fn form(&self, shift: usize, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let mut form = change(&self.template);
        // An offset that does not fit cannot have been parsed.
        let offset = u32::try_from(self.offset + shift).unwrap_or(u32::MAX);
        form.extend_from_slice(&offset.to_le_bytes());
        form
    }

    /// The first and, excluded, the last key that it can become.
    fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        (self.fill(Versionstamp::MIN), key_after(&self.fill(Versionstamp::MAX)))
    }
}

/// A key that the commit decides.
#[derive(Debug, Clone)]
pub(super) struct StampedKey {
    pub(super) key: Stamped,
    pub(super) value: Bytes,
    /// Clears that came after it and reach into where it may lie.
    pub(super) cleared: RangeSet,
}

/// The write buffer. Clears come before entries: a clear removes the entries it covers.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    entries: BTreeMap<Bytes, Entry>,
    cleared: RangeSet,
    stamped: Vec<StampedKey>,
    dropped: Vec<Bytes>,
    touched: bool,
    /// Covers every place where a versionstamped key may lie, so that most reads need not look at each of them.
    unreadable: RangeSet,
    /// How to get back to each open savepoint; the newest last.
    undo: Vec<Undo>,
}

/// What was changed since a savepoint, as it was then.
#[derive(Debug, Clone, Default)]
struct Undo {
    entries: BTreeMap<Bytes, Option<Entry>>,
    cleared: Option<RangeSet>,
    stamped: Option<Vec<StampedKey>>,
    /// How many there were; more only came behind them, unless they are kept above.
    stamped_count: usize,
    dropped_count: usize,
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

    /// From here on changes can be taken back.
    pub(super) fn savepoint(&mut self) {
        self.undo.push(Undo {
            stamped_count: self.stamped.len(),
            dropped_count: self.dropped.len(),
            touched: self.touched,
            ..Undo::default()
        });
    }

    /// Takes back what was changed since the newest savepoint.
    pub(super) fn roll_back(&mut self) {
        let Some(undo) = self.undo.pop() else { return };
        for (key, entry) in undo.entries {
            match entry {
                Some(entry) => self.entries.insert(key, entry),
                None => self.entries.remove(&key),
            };
        }
        if let Some(cleared) = undo.cleared {
            self.cleared = cleared;
        }
        if let Some(stamped) = undo.stamped {
            self.stamped = stamped;
        }
        self.stamped.truncate(undo.stamped_count);
        self.dropped.truncate(undo.dropped_count);
        self.touched = undo.touched;
    }

    /// Forgets the newest savepoint; one before it then takes back both parts.
    pub(super) fn keep(&mut self) {
        let Some(inner) = self.undo.pop() else { return };
        let Some(outer) = self.undo.last_mut() else { return };
        for (key, entry) in inner.entries {
            outer.entries.entry(key).or_insert(entry);
        }
        outer.cleared = outer.cleared.take().or(inner.cleared);
        outer.stamped = outer.stamped.take().or(inner.stamped);
    }

    /// Notes what a key has before it is changed.
    fn remember(&mut self, key: &Bytes) {
        if let Some(undo) = self.undo.last_mut()
            && !undo.entries.contains_key(key)
        {
            undo.entries.insert(key.clone(), self.entries.get(key).cloned());
        }
    }

    fn put(&mut self, key: &[u8], entry: Entry) {
        let key = Bytes::copy_from_slice(key);
        self.remember(&key);
        self.entries.insert(key, entry);
    }

    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) {
        self.put(key, Entry::Value(Some(Bytes::copy_from_slice(value))));
    }

    pub(super) fn clear(&mut self, key: &[u8]) {
        self.put(key, Entry::Value(None));
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
            self.remember(&key);
            self.entries.remove(&key);
        }
        self.clear_stamped(begin, end);
        if let Some(undo) = self.undo.last_mut()
            && undo.cleared.is_none()
        {
            undo.cleared = Some(self.cleared.clone());
        }
        self.cleared.insert(Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end));
    }

    fn clear_stamped(&mut self, begin: &[u8], end: &[u8]) {
        if !self.may_be_stamped(begin, end) {
            return;
        }
        if let Some(undo) = self.undo.last_mut()
            && undo.stamped.is_none()
        {
            undo.stamped = Some(self.stamped.clone());
        }
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
        if !self.undo.is_empty() {
            self.remember(&Bytes::copy_from_slice(key));
        }
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
        let (from, to) = key.bounds();
        self.unreadable.insert(from.into(), to.into());
        self.stamped.push(StampedKey { key, value, cleared: RangeSet::default() });
        Ok(())
    }

    pub(super) fn set_stamped_value(&mut self, key: &[u8], form: &[u8]) -> Result<()> {
        let value = Stamped::parse(form)?;
        self.put(key, Entry::Stamped(value));
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

    /// The versionstamped keys before they are filled, in the order in which they were written.
    #[cfg(feature = "foundationdb")]
    pub(super) fn stamped(&self) -> impl Iterator<Item = &StampedKey> {
        self.stamped.iter()
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
        let lies_there = |stamped: &StampedKey| {
            let (from, to) = stamped.key.bounds();
            from.as_slice() <= key && key < to.as_slice()
        };
        if self.unreadable.contains(key) && self.stamped.iter().any(lies_there) {
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

    /// Whether a versionstamped key may lie in `begin..end`.
    fn may_be_stamped(&self, begin: &[u8], end: &[u8]) -> bool {
        !self.unreadable.overlapping(begin, end).is_empty()
            && self.stamped.iter().any(|stamped| {
                let (from, to) = stamped.key.bounds();
                from.as_slice() < end && begin < to.as_slice()
            })
    }

    /// The part of the buffer that lies in `begin..end`, for a range read.
    pub(super) fn part(&self, begin: &[u8], end: &[u8]) -> Result<Part> {
        if self.may_be_stamped(begin, end) {
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
            ..ConflictSet::default()
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
