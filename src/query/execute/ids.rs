//! Ids from indexes, in their order, each once.
//!
//! A point of an index is in the order of ids already and is read page by page;
//! a range is not, so its ids are read at once and sorted, up to a bound. Both
//! are merged: unions by taking the next of any, intersections by skipping in
//! each to the farthest of all.

use std::collections::VecDeque;

use bson::oid::ObjectId;

use super::reading::{Reading, stretches};
use crate::codec::keys;
use crate::error::Result;
use crate::index::{self, KeyRange};
use crate::query::plan::{Known, Leaf};

/// Ids in order: read already, and those of a point still to be read.
struct Part {
    ready: VecDeque<ObjectId>,
    /// What the keys of the point begin with, and what is left of it.
    rest: Option<(Vec<u8>, KeyRange)>,
    rows: usize,
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
    Id(ObjectId),
    /// No more entries may be looked at; nothing before this id is left out.
    Spent(ObjectId),
    End,
}

/// Ids collected from ranges do not fit into their bound.
pub(super) struct TooMany;

const ROWS_MAX: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;

impl IdSet {
    /// Opens groups of leaves, behind an id where a batch goes on. A leaf of a
    /// group that has too many ids is left out when the group has another, so
    /// the caller has to ask the documents everything then: the flag says so.
    pub(super) async fn open(
        reading: &mut Reading<'_>,
        known: &Known<'_>,
        groups: &[Vec<Leaf>],
        after: Option<ObjectId>,
        rows: usize,
    ) -> Result<std::result::Result<(Self, bool), TooMany>> {
        let (mut opened, mut complete) = (Vec::with_capacity(groups.len()), true);
        for group in groups {
            let mut leaves = Vec::with_capacity(group.len());
            for leaf in group {
                match LeafIds::open(reading, known, leaf, after, rows).await? {
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
        for group in &mut self.groups {
            if matches!(group.head, Head::At(id) if id == first) {
                group.pass(first);
            }
        }
        Ok(Next::Id(first))
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

    fn pass(&mut self, id: ObjectId) {
        for leaf in &mut self.leaves {
            for part in &mut leaf.0 {
                if part.ready.front() == Some(&id) {
                    part.ready.pop_front();
                }
            }
        }
        self.head = Head::Unknown;
    }
}

impl LeafIds {
    async fn open(
        reading: &mut Reading<'_>,
        known: &Known<'_>,
        leaf: &Leaf,
        after: Option<ObjectId>,
        rows: usize,
    ) -> Result<Option<Self>> {
        let stretches = stretches(reading.home, known, leaf);
        if leaf.in_order_of_ids() {
            let parts = stretches.into_iter().flat_map(|(head, ranges)| {
                ranges.into_iter().map(move |range| Part {
                    ready: VecDeque::new(),
                    rest: Some((head.clone(), range)),
                    rows: rows.clamp(1, ROWS_MAX),
                })
            });
            let mut leaf = Self(parts.collect());
            if let Some(after) = after {
                leaf.start_behind(after, reading);
            }
            return Ok(Some(leaf));
        }
        let mut ids = Vec::new();
        for range in stretches.into_iter().flat_map(|(_, ranges)| ranges) {
            let mut rest = Some(range);
            while let Some(range) = rest {
                let page =
                    index::scan(reading.txn, &range, reading.scan(ROWS_MAX, PAGE_BYTES)).await?;
                reading.collected(page.entries.len()).await;
                ids.extend(page.entries.iter().map(|entry| entry.id));
                if ids.len() > reading.budget.examined_max {
                    return Ok(None);
                }
                rest = page.rest;
            }
        }
        ids.sort_unstable_by_key(ObjectId::bytes);
        ids.dedup();
        if reading.descending {
            ids.reverse();
        }
        let mut ready = VecDeque::from(ids);
        if let Some(after) = after {
            while ready.front().is_some_and(|id| !reading.is_behind(id, &after)) {
                ready.pop_front();
            }
        }
        Ok(Some(Self(vec![Part { ready, rest: None, rows: 0 }])))
    }

    fn start_behind(&mut self, after: ObjectId, reading: &Reading<'_>) {
        for part in &mut self.0 {
            if let Some((head, range)) = &mut part.rest {
                let key = [&head[..], &after.bytes()].concat();
                if reading.descending {
                    range.end = key;
                } else {
                    range.begin = keys::next(&key);
                }
            }
        }
    }

    fn skip_to(&mut self, target: ObjectId, reading: &Reading<'_>) {
        for part in &mut self.0 {
            while part.ready.front().is_some_and(|id| reading.is_behind(&target, id)) {
                part.ready.pop_front();
            }
            if part.ready.is_empty()
                && let Some((head, range)) = &mut part.rest
            {
                let key = [&head[..], &target.bytes()].concat();
                if reading.descending {
                    range.end = keys::next(&key).min(std::mem::take(&mut range.end));
                } else {
                    range.begin = key.max(std::mem::take(&mut range.begin));
                }
            }
        }
    }

    async fn peek(&mut self, reading: &mut Reading<'_>) -> Result<Option<ObjectId>> {
        let mut first: Option<ObjectId> = None;
        for part in &mut self.0 {
            if let Some(id) = part.peek(reading).await? {
                first = Some(first.map_or(id, |first| reading.nearer(first, id)));
            }
        }
        Ok(first)
    }
}

impl Part {
    async fn peek(&mut self, reading: &mut Reading<'_>) -> Result<Option<ObjectId>> {
        while self.ready.is_empty() {
            let Some((head, range)) = self.rest.take() else { return Ok(None) };
            let page =
                index::scan(reading.txn, &range, reading.scan(self.rows, PAGE_BYTES)).await?;
            reading.streamed(page.entries.len()).await;
            self.ready.extend(page.entries.iter().map(|entry| entry.id));
            self.rest = page.rest.map(|rest| (head, rest));
            self.rows = self.rows.saturating_mul(4).clamp(16, ROWS_MAX);
        }
        Ok(self.ready.front().copied())
    }
}
