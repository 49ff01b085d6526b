//! Sets of keys and ranges: what a transaction has read, cleared and written.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::limits::READ_BYTES;
use super::types::key_after;

/// A set of keys made of disjoint ranges; neighbours are joined.
#[derive(Debug, Clone, Default)]
pub(super) struct RangeSet(BTreeMap<Bytes, Bytes>);

impl RangeSet {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `begin..end`; an empty range adds nothing.
    pub(super) fn insert(&mut self, begin: Bytes, end: Bytes) {
        if begin >= end {
            return;
        }
        let (mut begin, mut end) = (begin, end);
        let before = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(begin.as_ref())));
        if let Some((from, to)) = before.last()
            && *to >= begin
        {
            begin = from.clone();
            end = end.max(to.clone());
        }
        let inside = (Bound::Included(begin.as_ref()), Bound::Included(end.as_ref()));
        let swallowed: Vec<Bytes> =
            self.0.range::<[u8], _>(inside).map(|(k, _)| k.clone()).collect();
        for key in swallowed {
            if let Some(to) = self.0.remove(&key) {
                end = end.max(to);
            }
        }
        self.0.insert(begin, end);
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        let before = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        before.last().is_some_and(|(_, end)| key < end.as_ref())
    }

    /// The ranges that overlap `begin..end`, in order.
    pub(super) fn overlapping(&self, begin: &[u8], end: &[u8]) -> Vec<(Bytes, Bytes)> {
        if self.0.is_empty() || begin >= end {
            return Vec::new();
        }
        let first = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(begin))).next_back();
        let first = first.filter(|(_, to)| to.as_ref() > begin);
        let inside = (Bound::Included(begin), Bound::Excluded(end));
        let all = first.into_iter().chain(self.0.range::<[u8], _>(inside));
        all.map(|(from, to)| (from.clone(), to.clone())).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter()
    }
}

/// Keys and ranges in the order in which they were added, for the committer.
#[derive(Debug, Clone, Default)]
pub(super) struct ConflictSet {
    pub(super) points: Vec<Bytes>,
    pub(super) ranges: Vec<(Bytes, Bytes)>,
    /// Of what was added here, a key counted as the range that it is.
    pub(super) bytes: usize,
}

impl ConflictSet {
    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.ranges.is_empty()
    }

    /// How much of a transaction's size they are, with so many bytes in front of each key.
    pub(super) const fn bytes(&self, per_key: usize) -> usize {
        let count = self.points.len() + self.ranges.len();
        self.bytes + count * (READ_BYTES + 2 * per_key)
    }

    pub(super) fn add_point(&mut self, key: &[u8]) {
        if self.points.last().is_none_or(|last| last != key) {
            self.bytes += 2 * key.len() + 1;
            self.points.push(Bytes::copy_from_slice(key));
        }
    }

    pub(super) fn add_range(&mut self, begin: &[u8], end: &[u8]) {
        if begin >= end {
            return;
        }
        if end.len() == begin.len() + 1 && end.starts_with(begin) && end.ends_with(&[0]) {
            return self.add_point(begin);
        }
        let same = |(from, to): &(Bytes, Bytes)| from == begin && to == end;
        if !self.ranges.last().is_some_and(same) {
            self.bytes += begin.len() + end.len();
            self.ranges.push((Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end)));
        }
    }

    /// The set as sorted, disjoint ranges; a key is the range up to the key after it.
    pub(super) fn merged(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut set = RangeSet::default();
        for (begin, end) in &self.ranges {
            set.insert(begin.clone(), end.clone());
        }
        for key in &self.points {
            set.insert(key.clone(), key_after(key).into());
        }
        set.iter().map(|(begin, end)| (begin.to_vec(), end.to_vec())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n])
    }

    proptest! {
        #[test]
        fn a_range_set_holds_what_was_put_in(
            ranges in proptest::collection::vec((0u8..40, 0u8..40), 0..20),
            probe in (0u8..40, 0u8..40),
        ) {
            let mut set = RangeSet::default();
            let mut model = BTreeSet::new();
            for (begin, end) in ranges {
                set.insert(key(begin), key(end));
                model.extend(begin..end.max(begin));
            }
            for n in 0u8..40 {
                prop_assert_eq!(set.contains(&[n]), model.contains(&n));
            }
            let overlaps = !set.overlapping(&[probe.0], &[probe.1]).is_empty();
            prop_assert_eq!(overlaps, (probe.0..probe.1).any(|n| model.contains(&n)));
            let ends: Vec<_> = set.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "disjoint, joined");
        }
    }
}
