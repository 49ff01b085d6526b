//! What was written by recent commits, to find conflicts.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::conflicts::ConflictSet;

/// The write ranges of the versions after `floor`.
///
/// Single keys, by far the most, lie in an ordered map with the version of their last write. Ranges are few and
/// lie in a list, newest last, that is walked only down to the read version asked about.
#[derive(Debug)]
pub(super) struct History {
    floor: u64,
    newest: u64,
    points: BTreeMap<Bytes, u64>,
    ranges: VecDeque<(u64, Bytes, Bytes)>,
    written: VecDeque<(u64, Vec<Bytes>)>,
}

impl History {
    /// Knows nothing of `floor` and before.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            floor,
            newest: floor,
            points: BTreeMap::new(),
            ranges: VecDeque::new(),
            written: VecDeque::new(),
        }
    }

    /// Snapshots below this version can no longer be validated.
    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    /// Ranges and keys held.
    pub(super) fn len(&self) -> usize {
        self.points.len() + self.ranges.len()
    }

    /// Enters what the commits of `version` wrote; versions only grow.
    pub(super) fn record(&mut self, version: u64, writes: ConflictSet) {
        self.newest = version;
        for key in &writes.points {
            match self.points.get_mut(key) {
                Some(last) => *last = version,
                None => {
                    self.points.insert(key.clone(), version);
                }
            }
        }
        for (begin, end) in writes.ranges {
            self.ranges.push_back((version, begin, end));
        }
        match self.written.back_mut() {
            Some((last, keys)) if *last == version => keys.extend(writes.points),
            _ => self.written.push_back((version, writes.points)),
        }
    }

    /// Whether something in `reads` was written after `read_version`, which is not below the floor.
    pub(super) fn conflicts(&self, read_version: u64, reads: &ConflictSet) -> bool {
        if read_version >= self.newest || reads.is_empty() {
            return false;
        }
        let recent = |ranges: &VecDeque<(u64, Bytes, Bytes)>| {
            ranges.len() - ranges.partition_point(|(version, ..)| *version <= read_version)
        };
        let recent = recent(&self.ranges);
        let point = |key: &Bytes| {
            self.points.get(key).is_some_and(|version| *version > read_version)
                || self
                    .ranges
                    .iter()
                    .rev()
                    .take(recent)
                    .any(|(_, from, to)| from <= key && key < to)
        };
        let range = |(begin, end): &(Bytes, Bytes)| {
            let inside = (Bound::Included(begin.as_ref()), Bound::Excluded(end.as_ref()));
            self.points.range::<[u8], _>(inside).any(|(_, version)| *version > read_version)
                || self
                    .ranges
                    .iter()
                    .rev()
                    .take(recent)
                    .any(|(_, from, to)| from < end && begin < to)
        };
        reads.points.iter().any(point) || reads.ranges.iter().any(range)
    }

    /// Forgets what was written at `floor` and before.
    pub(super) fn forget(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        while self.written.front().is_some_and(|(version, _)| *version <= floor) {
            let Some((version, keys)) = self.written.pop_front() else { break };
            for key in keys {
                if self.points.get(&key) == Some(&version) {
                    self.points.remove(&key);
                }
            }
        }
        while self.ranges.front().is_some_and(|(version, ..)| *version <= floor) {
            self.ranges.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(ranges: &[(u8, u8)]) -> ConflictSet {
        let mut set = ConflictSet::default();
        for (begin, length) in ranges {
            match length {
                0 => set.add_point(&[*begin]),
                _ => set.add_range(&[*begin], &[begin + length]),
            }
        }
        set
    }

    fn covers(ranges: &[(u8, u8)], key: u8) -> bool {
        ranges.iter().any(|(begin, length)| (*begin..begin + (*length).max(1)).contains(&key))
    }

    proptest! {
        #[test]
        fn a_conflict_is_a_key_read_and_written_later(
            writes in proptest::collection::vec(proptest::collection::vec((0u8..30, 0u8..4), 0..4), 1..12),
            reads in proptest::collection::vec((0u8..30, 0u8..4), 0..4),
            read_version in 0u64..12,
            floor in 0u64..12,
        ) {
            let mut history = History::new(0);
            for (version, ranges) in (1u64..).zip(&writes) {
                history.record(version, set(ranges));
            }
            history.forget(floor);
            let read_version = read_version.max(floor);
            let later = writes.iter().skip(usize::try_from(read_version)?);
            let expected = (0u8..40).any(|key| covers(&reads, key) && later.clone().any(|w| covers(w, key)));
            prop_assert_eq!(history.conflicts(read_version, &set(&reads)), expected);
            history.forget(100);
            prop_assert_eq!(history.len(), 0);
        }
    }
}
