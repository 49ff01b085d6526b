//! Ids from indexes, in their order, each once.
//!
//! A point of an index is in the order of ids already and is read page by page;
//! a range is not, so its ids are read at once and sorted, up to a bound. Both
//! are merged: unions by taking the next of any, intersections by skipping in
//! each to the farthest of all.

use std::collections::VecDeque;
use std::ops::Bound;

use bson::oid::ObjectId;

use super::covered::Hit;
use super::reading::{RANGES_AT_ONCE, Reading, between, pages, stretches};
use crate::codec::keys;
use crate::error::Result;
use crate::index::{self, Covered, KeyRange};
use crate::query::plan::{Access, Known, Leaf};

/// Ids in order: read already, and those of a point still to be read.
struct Part {
    ready: VecDeque<Hit>,
    /// What the keys of the point begin with, and what is left of it.
    rest: Option<(Vec<u8>, KeyRange)>,
    rows: usize,
    covered: bool,
}

/// How a set is opened.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a> {
    /// Of the ids that it does not admit as few as possible are read.
    pub(super) access: &'a Access,
    /// Behind this id, where a batch goes on.
    pub(super) after: Option<ObjectId>,
    /// Of the first page of a point.
    pub(super) rows: usize,
    /// What entries hold is wanted along with the ids.
    pub(super) covered: bool,
}

/// The ids of one leaf: all parts together.
struct LeafIds(Vec<Part>);

/// The ids that are in all leaves of a group.
struct Group {
    leaves: Vec<LeafIds>,
    head: Head,
}

#[derive(Clone, Copy)]
enum Head {
    Unknown,
    At(ObjectId),
    End,
}

/// The ids that are in any of the groups.
pub(super) struct IdSet {
    groups: Vec<Group>,
    ended: bool,
}

/// What comes next.
pub(super) enum Next {
    Id(ObjectId, Option<Covered>),
    /// No more entries may be looked at; nothing before this id is left out.
    Spent(ObjectId),
    End,
}

/// Ids collected from ranges do not fit into their bound.
pub(super) struct TooMany;

const ROWS_MAX: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;
/// Of what the entries of ranges hold, no more is kept; the documents of the others are read.
const HELD_BYTES_MAX: usize = 8 << 20;

impl IdSet {
    /// Opens groups of leaves. A leaf of a
    /// group that has too many ids is left out when the group has another, so
    /// the caller has to ask the documents everything then: the flag says so.
    pub(super) async fn open(
        reading: &mut Reading<'_>,
        known: &Known<'_>,
        groups: &[Vec<Leaf>],
        opening: Opening<'_>,
    ) -> Result<std::result::Result<(Self, bool), TooMany>> {
        let (mut opened, mut complete) = (Vec::with_capacity(groups.len()), true);
        for group in groups {
            let mut leaves = Vec::with_capacity(group.len());
            for leaf in group {
                match LeafIds::open(reading, known, leaf, opening).await? {
                    Some(ids) => leaves.push(ids),
                    None => complete = false,
                }
            }
            if leaves.is_empty() {
                return Ok(Err(TooMany));
            }
            opened.push(Group { leaves, head: Head::Unknown });
        }
        Ok(Ok((Self { groups: opened, ended: false }, complete)))
    }

    /// Whether there is certainly no more.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The next id.
    pub(super) async fn next(&mut self, reading: &mut Reading<'_>) -> Result<Next> {
        let unknown = self.groups.iter_mut().filter(|group| matches!(group.head, Head::Unknown));
        let parts = unknown.flat_map(|group| &mut group.leaves).flat_map(|leaf| &mut leaf.0);
        fill(parts.collect(), reading).await?;
        let mut first: Option<ObjectId> = None;
        for group in &mut self.groups {
            if matches!(group.head, Head::Unknown)
                && let Some(at) = group.advance(reading).await?
            {
                // What other groups have in front of it comes again as well.
                let at = first.map_or(at, |first| reading.nearer(first, at));
                return Ok(Next::Spent(self.nearest(reading, at)));
            }
            if let Head::At(id) = group.head {
                first = Some(first.map_or(id, |first| reading.nearer(first, id)));
            }
        }
        let Some(first) = first else {
            self.ended = true;
            return Ok(Next::End);
        };
        let mut covered = None;
        for group in &mut self.groups {
            if matches!(group.head, Head::At(id) if id == first) {
                covered = group.pass(first);
            }
        }
        Ok(Next::Id(first, covered))
    }

    fn nearest(&self, reading: &Reading<'_>, at: ObjectId) -> ObjectId {
        self.groups.iter().fold(at, |at, group| match group.head {
            Head::At(id) => reading.nearer(at, id),
            Head::Unknown | Head::End => at,
        })
    }
}

impl Group {
    /// Finds the next id that all leaves have. Gives how far it came when no more may be read.
    async fn advance(&mut self, reading: &mut Reading<'_>) -> Result<Option<ObjectId>> {
        let mut target: Option<ObjectId> = None;
        loop {
            let (mut farthest, mut same) = (None, true);
            for leaf in &mut self.leaves {
                if let Some(target) = target {
                    leaf.skip_to(target, reading);
                }
                let Some(id) = leaf.peek(reading).await? else {
                    self.head = Head::End;
                    return Ok(None);
                };
                farthest = match farthest {
                    Some(other) if other != id => {
                        same = false;
                        Some(reading.farther(other, id))
                    }
                    _ => Some(id),
                };
            }
            let Some(id) = farthest else {
                self.head = Head::End;
                return Ok(None);
            };
            if same {
                self.head = Head::At(id);
                return Ok(None);
            }
            target = Some(id);
            if reading.is_spent() {
                return Ok(Some(id));
            }
        }
    }

    /// Goes on behind an id; gives what an entry of it held.
    fn pass(&mut self, id: ObjectId) -> Option<Covered> {
        let mut held = None;
        for part in self.leaves.iter_mut().flat_map(|leaf| &mut leaf.0) {
            if let Some((_, covered)) = part.ready.pop_front_if(|(front, _)| *front == id) {
                held = covered;
            }
        }
        self.head = Head::Unknown;
        held
    }
}

impl LeafIds {
    async fn open(
        reading: &mut Reading<'_>,
        known: &Known<'_>,
        leaf: &Leaf,
        opening: Opening<'_>,
    ) -> Result<Option<Self>> {
        let Opening { access, after, rows, covered } = opening;
        let stretches = stretches(reading.home, known, leaf);
        if leaf.in_order_of_ids() {
            let parts = stretches.into_iter().flat_map(|(head, ranges)| {
                ranges.into_iter().map(move |range| Part {
                    ready: VecDeque::new(),
                    rest: Some((head.clone(), range)),
                    rows: rows.clamp(1, ROWS_MAX),
                    covered,
                })
            });
            let mut leaf = Self(parts.collect());
            leaf.narrow(access, after, reading);
            return Ok(Some(leaf));
        }
        let (mut hits, mut held_bytes, mut passed) = (Vec::<Hit>::new(), 0, 0);
        let mut ranges: Vec<_> = stretches.into_iter().flat_map(|(_, ranges)| ranges).collect();
        while !ranges.is_empty() {
            let now = ranges.split_off(ranges.len().saturating_sub(RANGES_AT_ONCE));
            let scan = reading.scan(ROWS_MAX, PAGE_BYTES);
            let wanted = now.iter().map(|range| (range, scan)).collect();
            for page in pages(reading.txn, wanted).await? {
                reading.collected(page.entries.len()).await;
                passed += page.entries.len();
                for index::Entry { id, covered: held, .. } in page.entries {
                    if access.admits(&id) {
                        held_bytes += held.size();
                        let kept = covered && held_bytes <= HELD_BYTES_MAX;
                        hits.push((id, kept.then_some(held)));
                    }
                }
                ranges.extend(page.rest);
            }
            if passed > reading.budget.examined_max || reading.is_late() {
                return Ok(None);
            }
        }
        hits.sort_unstable_by_key(|(id, _)| id.bytes());
        hits.dedup_by_key(|(id, _)| *id);
        if reading.descending {
            hits.reverse();
        }
        let mut ready = VecDeque::from(hits);
        if let Some(after) = after {
            while ready.front().is_some_and(|(id, _)| !reading.is_behind(id, &after)) {
                ready.pop_front();
            }
        }
        Ok(Some(Self(vec![Part { ready, rest: None, rows: 0, covered }])))
    }

    /// Leaves out what is not admitted, and what a batch has passed that goes on behind an id.
    fn narrow(&mut self, access: &Access, after: Option<ObjectId>, reading: &Reading<'_>) {
        let passed = after.map_or(Bound::Unbounded, Bound::Excluded);
        for part in &mut self.0 {
            if let Access::Range { begin, end } = access {
                part.narrow(*begin, *end);
            }
            if reading.descending {
                part.narrow(Bound::Unbounded, passed);
            } else {
                part.narrow(passed, Bound::Unbounded);
            }
        }
    }

    fn skip_to(&mut self, target: ObjectId, reading: &Reading<'_>) {
        for part in &mut self.0 {
            while part.ready.front().is_some_and(|(id, _)| reading.is_behind(&target, id)) {
                part.ready.pop_front();
            }
            if part.ready.is_empty() {
                if reading.descending {
                    part.narrow(Bound::Unbounded, Bound::Included(target));
                } else {
                    part.narrow(Bound::Included(target), Bound::Unbounded);
                }
            }
        }
    }

    async fn peek(&mut self, reading: &mut Reading<'_>) -> Result<Option<ObjectId>> {
        fill(self.0.iter_mut().collect(), reading).await?;
        let ready = self.0.iter().filter_map(|part| part.ready.front().map(|(id, _)| *id));
        Ok(ready.reduce(|first, id| reading.nearer(first, id)))
    }
}

/// Reads on where a part has nothing ready, in many parts at the same time.
async fn fill(mut parts: Vec<&mut Part>, reading: &mut Reading<'_>) -> Result<()> {
    loop {
        parts.retain(|part| part.ready.is_empty() && part.rest.is_some());
        if parts.is_empty() {
            return Ok(());
        }
        for parts in parts.chunks_mut(RANGES_AT_ONCE) {
            let wanted = parts.iter().filter_map(|part| {
                let (_, range) = part.rest.as_ref()?;
                Some((range, reading.scan(part.rows, PAGE_BYTES)))
            });
            let pages = pages(reading.txn, wanted.collect()).await?;
            for (part, page) in parts.iter_mut().zip(pages) {
                reading.streamed(page.entries.len()).await;
                part.take(page);
            }
        }
    }
}

impl Part {
    /// Leaves out of what is still to be read all ids but these.
    fn narrow(&mut self, begin: Bound<ObjectId>, end: Bound<ObjectId>) {
        let Some((head, range)) = &mut self.rest else { return };
        let key = |id: ObjectId| [&head[..], &id.bytes()].concat();
        let begin = match begin {
            Bound::Included(id) => Some(key(id)),
            Bound::Excluded(id) => Some(keys::next(&key(id))),
            Bound::Unbounded => None,
        };
        let end = match end {
            Bound::Included(id) => Some(keys::next(&key(id))),
            Bound::Excluded(id) => Some(key(id)),
            Bound::Unbounded => None,
        };
        *range = between(range, begin, end);
    }

    fn take(&mut self, page: index::Page) {
        let covered = self.covered;
        let hit = |entry: index::Entry| (entry.id, covered.then_some(entry.covered));
        self.ready.extend(page.entries.into_iter().map(hit));
        let head = self.rest.take().map(|(head, _)| head);
        self.rest = head.zip(page.rest);
        self.rows = self.rows.saturating_mul(4).clamp(16, ROWS_MAX);
    }
}
