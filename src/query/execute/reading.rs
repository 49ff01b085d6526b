//! What all reading of one batch shares: the transaction, the direction, and
//! how much has been read.

use std::cmp::Ordering;

use bson::oid::ObjectId;
use tokio::time::Instant;

use super::Budget;
use crate::codec::keys;
use crate::document::{Document, Home};
use crate::error::Result;
use crate::index::{self, KeyRange};
use crate::query::ast::Ast;
use crate::query::evaluate::{Asking, matches_within};
use crate::query::plan::{Known, Leaf};
use crate::store::{Read, Transaction, join_all};
use crate::value::Steps;

/// Ranges of an index that are read at the same time.
pub(super) const RANGES_AT_ONCE: usize = 32;

/// One batch being read.
pub(super) struct Reading<'a> {
    pub(super) txn: &'a Transaction,
    pub(super) home: &'a Home,
    pub(super) read: Read,
    pub(super) descending: bool,
    pub(super) budget: &'a Budget,
    /// All has to be looked at before anything can be given back.
    pub(super) whole: bool,
    pub(super) started: Instant,
    /// Documents looked at, and their bytes.
    pub(super) examined: usize,
    pub(super) examined_bytes: usize,
    /// Entries of indexes read.
    pub(super) entries: usize,
    /// Those of them that count against the budget of the batch: what is collected has a bound of its own.
    streamed: usize,
    asking: Asking,
    /// Whether the time was over when others had been let run between two documents.
    overdue: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        txn: &'a Transaction,
        home: &'a Home,
        read: Read,
        descending: bool,
        budget: &'a Budget,
    ) -> Self {
        Self {
            txn,
            home,
            read,
            descending,
            budget,
            whole: false,
            started: Instant::now(),
            examined: 0,
            examined_bytes: 0,
            entries: 0,
            streamed: 0,
            asking: Asking::new(budget.steps_max),
            overdue: false,
        }
    }

    /// Whether the batch has read as much as it may.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent_by_number() || self.is_late()
    }

    /// By the number of documents and entries, and by their bytes.
    pub(super) fn is_spent_by_number(&self) -> bool {
        self.is_spent_by_documents()
            || !self.whole && self.examined + self.streamed >= self.budget.examined_max
    }

    /// By documents alone: those that entries have led to already are still looked at, however
    /// many entries were passed on the way.
    pub(super) fn is_spent_by_documents(&self) -> bool {
        !self.whole
            && (self.overdue
                || self.examined >= self.budget.examined_max
                || self.examined_bytes >= self.budget.examined_bytes_max)
    }

    /// Whether the time was over while documents were asked.
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue
    }

    /// Whether a document satisfies all of these. What takes long lets others
    /// run now and then; what takes too long on one document is refused.
    pub(super) async fn matches(
        &mut self,
        parts: &[&Ast],
        id: &ObjectId,
        document: &Document,
    ) -> Result<bool> {
        let ask =
            |steps: &Steps| parts.iter().all(|part| matches_within(part, document.raw(), steps));
        let (matched, paused) = self.asking.ask(id, ask).await?;
        if paused {
            self.overdue = self.is_late();
        }
        Ok(matched)
    }

    /// By the time it has taken.
    pub(super) fn is_late(&self) -> bool {
        let time_max = if self.whole { self.budget.sort_time_max } else { self.budget.time_max };
        self.started.elapsed() >= time_max
    }

    /// A page of an index.
    pub(super) fn scan(&self, rows_max: usize, bytes_max: usize) -> index::Scan {
        index::Scan { reverse: self.descending, rows_max, bytes_max, read: self.read }
    }

    /// Notes a page that was read on the way. A long scan lets others run, and
    /// ends here when its client has gone.
    pub(super) async fn streamed(&mut self, entries: usize) {
        if self.entries > 0 {
            tokio::task::yield_now().await;
        }
        self.entries += entries;
        self.streamed += entries;
    }

    /// Notes a page of a range whose ids are collected.
    pub(super) async fn collected(&mut self, entries: usize) {
        if self.entries > 0 {
            tokio::task::yield_now().await;
        }
        self.entries += entries;
    }

    /// The order of ids that is wanted.
    pub(super) fn order(&self, left: &ObjectId, right: &ObjectId) -> Ordering {
        let order = left.bytes().cmp(&right.bytes());
        if self.descending { order.reverse() } else { order }
    }

    /// Whether an id comes after another one.
    pub(super) fn is_behind(&self, id: &ObjectId, other: &ObjectId) -> bool {
        self.order(id, other).is_gt()
    }

    /// The one that comes first.
    pub(super) fn nearer(&self, left: ObjectId, right: ObjectId) -> ObjectId {
        if self.is_behind(&left, &right) { right } else { left }
    }

    /// The one that comes last.
    pub(super) fn farther(&self, left: ObjectId, right: ObjectId) -> ObjectId {
        if self.is_behind(&left, &right) { left } else { right }
    }

    /// The id right in front of one, so that what goes on behind it begins with that one.
    pub(super) fn in_front_of(&self, id: &ObjectId) -> ObjectId {
        let mut bytes = id.bytes();
        for byte in bytes.iter_mut().rev() {
            let (next, carry) =
                if self.descending { byte.overflowing_add(1) } else { byte.overflowing_sub(1) };
            *byte = next;
            if !carry {
                break;
            }
        }
        ObjectId::from_bytes(bytes)
    }
}

/// The ranges of keys of a leaf: for each combination of its fixed fields what
/// the keys begin with, and the ranges in their order.
pub(super) fn stretches(
    home: &Home,
    known: &Known<'_>,
    leaf: &Leaf,
) -> Vec<(Vec<u8>, Vec<KeyRange>)> {
    let Some(index) = known.indexes.get(leaf.index) else { return Vec::new() };
    let prefix = keys::index::entries(home.bucket(), index.id());
    let stretches = leaf.stretches().into_iter().map(|stretch| {
        let head = [&prefix[..], &stretch.prefix].concat();
        // Where nothing follows but the id, which may begin with any byte, the head alone bounds it.
        let ranges = if leaf.then.is_none() {
            vec![KeyRange { begin: head.clone(), end: keys::after(&head), exact: false }]
        } else {
            let range = |edges: &crate::query::plan::Span| KeyRange {
                begin: [&head[..], &edges.begin].concat(),
                end: [&head[..], &edges.end].concat(),
                exact: false,
            };
            stretch.spans.iter().map(range).collect()
        };
        (head, ranges)
    });
    stretches.collect()
}

/// What of a range lies from `begin` to before `end`.
pub(super) fn between(range: &KeyRange, begin: Option<Vec<u8>>, end: Option<Vec<u8>>) -> KeyRange {
    let begin = begin.map_or_else(|| range.begin.clone(), |begin| begin.max(range.begin.clone()));
    let end = end.map_or_else(|| range.end.clone(), |end| end.min(range.end.clone()));
    KeyRange { begin, end, exact: range.exact }
}

/// Reads the next page of each of these ranges, all at the same time.
pub(super) async fn pages(
    txn: &Transaction,
    ranges: Vec<(&KeyRange, index::Scan)>,
) -> Result<Vec<index::Page>> {
    let reads: Vec<_> =
        ranges.into_iter().map(|(range, scan)| index::scan(txn, range, scan)).collect();
    join_all(reads).await
}
