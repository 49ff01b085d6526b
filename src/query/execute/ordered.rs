//! An order as an index has it: entries are merged from all combinations of the
//! fixed fields, each document read when its turn comes.
//!
//! Taken only where every document has one entry under the field of the order
//! and those behind it, and none that was cut: then the entries are in the order of these
//! fields and of ids, the index read from one end or the other.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::covered::{self, Cover};
use super::documents::{PAGE_ROWS, PAGE_ROWS_MIN, POINTS_AT_ONCE};
use super::reading::{RANGES_AT_ONCE, Reading, between, pages, stretches};
use super::{Batch, Goal, Place, Position};
use crate::codec::keys;
use crate::error::Result;
use crate::index::{self, KeyRange};
use crate::query::ast::{Ast, Operand};
use crate::query::plan::{Known, Leaf};
use crate::query::sort::{Direction, Order};
use crate::value::Value;

const PAGE_BYTES: usize = 1 << 20;

/// The entries of one combination of the fixed fields.
struct Stream {
    /// Length of what all keys begin with.
    head: usize,
    /// What is left, in the direction of the order.
    parts: VecDeque<KeyRange>,
    ready: VecDeque<index::Entry>,
    rows: usize,
}

/// The way that is taken.
pub(super) struct Way<'a> {
    pub(super) leaf: &'a Leaf,
    pub(super) order: &'a Order,
    /// Nobody asked for the order.
    pub(super) implied: bool,
    pub(super) cover: Option<Cover<'a>>,
}

/// A batch in the order that the index has.
pub(super) async fn ordered(
    mut reading: Reading<'_>,
    known: &Known<'_>,
    way: &Way<'_>,
    goal: &Goal<'_>,
    residual: &[&Ast],
) -> Result<Batch> {
    let Way { leaf, order, implied, cover } = way;
    reading.descending = order.ids == Direction::Descending;
    let (query, budget) = (goal.query, reading.budget);
    let mut streams = open(&reading, known, leaf, goal);
    let (mut documents, mut batch_bytes, mut last) = (Vec::new(), 0, None);
    let mut passed: Option<(usize, index::Entry)> = None;
    let (mut ended, mut stopped_at) = (false, None);
    'batch: while !ended {
        let wanted = (query.limit - documents.len()).clamp(1, POINTS_AT_ONCE);
        let mut hits = Vec::with_capacity(wanted);
        while hits.len() < wanted {
            let Some((head, entry)) = next(&mut streams, &mut reading).await? else {
                ended = true;
                break;
            };
            // A document in several of the streams comes once from each, one after the other.
            let again = passed.as_ref().is_some_and(|(passed_head, passed)| {
                tail(passed, *passed_head) == tail(&entry, head)
            });
            let skipped = again || !query.plan.access.admits(&entry.id);
            // One that is not wanted is where the next batch goes on, when this one may read no further.
            stopped_at = (skipped && reading.is_spent()).then_some(entry.id);
            if !skipped || stopped_at.is_some() {
                let covered = cover.as_ref().map(|_| entry.covered.clone());
                hits.push((entry.id, covered));
            }
            passed = Some((head, entry));
            if stopped_at.is_some() {
                break;
            }
        }
        let found = covered::find(&reading, cover.as_ref(), hits).await?;
        let count = found.len();
        for (at, (id, found)) in found.into_iter().enumerate() {
            let held = found.entry();
            let document = found.load(&mut reading).await?;
            let heavy = reading.is_spent_by_documents() || batch_bytes >= budget.batch_bytes_max;
            let skipped = at + 1 == count && stopped_at == Some(id);
            let matched = !skipped && reading.matches(residual, &id, &document).await?;
            let full = documents.len() + usize::from(matched) >= query.limit;
            if full || heavy || at + 1 == count {
                let held = held.and_then(|entry| keys_held(&entry, leaf, order));
                let keys = held.unwrap_or_else(|| order.keys(document.raw()));
                last = Some((keys, id));
            }
            if matched {
                batch_bytes += document.bytes().len();
                documents.push(document);
            }
            if full || heavy {
                ended &= at + 1 == count;
                break 'batch;
            }
        }
        if last.is_some() && reading.is_spent() {
            break;
        }
    }
    let next = match last {
        Some((keys, id)) if !ended => {
            let order = Order::clone(order);
            Position::behind(Place { order, keys, id, implied: *implied })
        }
        _ => Position::End,
    };
    let Reading { examined, entries, .. } = reading;
    Ok(Batch { documents, next, order: Some(Order::clone(order)), examined, entries })
}

/// What an entry's key has behind the fixed fields: the other fields, and the id.
fn tail(entry: &index::Entry, head: usize) -> &[u8] {
    entry.key.get(head..).unwrap_or_default()
}

/// What a document is sorted by, as its entry has it.
fn keys_held(entry: &index::Covered, leaf: &Leaf, order: &Order) -> Option<Vec<Operand>> {
    let first = leaf.fixed.len();
    let positions = first..first + order.fields.len();
    let value = |position| Some(Operand::copy(&entry.value(position)?.unwrap_or(Value::Null)));
    positions.map(value).collect()
}

fn open(reading: &Reading<'_>, known: &Known<'_>, leaf: &Leaf, goal: &Goal<'_>) -> Vec<Stream> {
    let passed = match (goal.from, known.indexes.get(leaf.index)) {
        (Position::Behind(place), Some(index)) => {
            let keys = (leaf.fixed.len()..).zip(&place.keys);
            let keys = keys.flat_map(|(at, key)| index::field_key(index, at, &key.value()));
            Some(keys.chain(place.id.bytes()).collect::<Vec<u8>>())
        }
        _ => None,
    };
    let streams = stretches(reading.home, known, leaf).into_iter().map(|(head, ranges)| {
        let mut parts = VecDeque::from(ranges);
        if reading.descending {
            parts = parts.into_iter().rev().collect();
        }
        if let Some(passed) = &passed {
            let passed = [&head[..], passed].concat();
            for range in &mut parts {
                *range = if reading.descending {
                    between(range, None, Some(passed.clone()))
                } else {
                    between(range, Some(keys::next(&passed)), None)
                };
            }
        }
        parts.retain(|range| !range.is_empty());
        let rows = goal.query.limit.clamp(1, PAGE_ROWS);
        Stream { head: head.len(), parts, ready: VecDeque::new(), rows }
    });
    streams.collect()
}

/// The next entry of all streams, and how long what its key begins with is.
async fn next(
    streams: &mut [Stream],
    reading: &mut Reading<'_>,
) -> Result<Option<(usize, index::Entry)>> {
    fill(streams, reading).await?;
    let first =
        streams.iter_mut().filter(|stream| !stream.ready.is_empty()).min_by(|one, other| {
            let (Some(left), Some(right)) = (one.ready.front(), other.ready.front()) else {
                return Ordering::Equal;
            };
            let order = tail(left, one.head).cmp(tail(right, other.head));
            if reading.descending { order.reverse() } else { order }
        });
    Ok(first.and_then(|stream| Some((stream.head, stream.ready.pop_front()?))))
}

/// Reads on where a stream has nothing ready, in many streams at the same time.
async fn fill(streams: &mut [Stream], reading: &mut Reading<'_>) -> Result<()> {
    loop {
        let empty = streams.iter_mut().filter(|stream| stream.ready.is_empty());
        let empty = empty.filter_map(|stream| Some((stream.parts.pop_front()?, stream)));
        let mut empty: Vec<(KeyRange, &mut Stream)> = empty.take(RANGES_AT_ONCE).collect();
        if empty.is_empty() {
            return Ok(());
        }
        let wanted =
            empty.iter().map(|(range, stream)| (range, reading.scan(stream.rows, PAGE_BYTES)));
        let pages = pages(reading.txn, wanted.collect()).await?;
        for ((_, stream), page) in empty.drain(..).zip(pages) {
            reading.streamed(page.entries.len()).await;
            stream.take(page);
        }
    }
}

impl Stream {
    fn take(&mut self, page: index::Page) {
        self.ready.extend(page.entries);
        if let Some(rest) = page.rest {
            self.parts.push_front(rest);
        }
        if !self.ready.is_empty() {
            self.rows = self.rows.saturating_mul(4).clamp(PAGE_ROWS_MIN, PAGE_ROWS);
        }
    }
}
