//! The order of a field as an index has it: entries are merged from all
//! combinations of the fixed fields, each document read when its turn comes.
//!
//! Taken only where every document has one entry under that field, and none
//! that was cut: then the entries are in the order of the field and then of ids.

use std::collections::VecDeque;

use bson::oid::ObjectId;

use super::documents::{PAGE_ROWS, PAGE_ROWS_MIN, POINTS_AT_ONCE};
use super::reading::{Reading, stretches};
use super::{Batch, Goal, Position, all_match};
use crate::codec::keys;
use crate::document;
use crate::error::Result;
use crate::index::{self, KeyRange};
use crate::query::ast::{Ast, Operand};
use crate::query::plan::{Known, Leaf};
use crate::query::sort::{Direction, Sort};

const PAGE_BYTES: usize = 1 << 20;

/// The entries of one combination of the fixed fields.
struct Stream {
    head: usize,
    /// What is left, in the direction of the order.
    ranges: VecDeque<KeyRange>,
    ready: VecDeque<(Vec<u8>, ObjectId)>,
    rows: usize,
}

/// A batch in the order that the index has.
pub(super) async fn ordered(
    mut reading: Reading<'_>,
    known: &Known<'_>,
    leaf: &Leaf,
    sort: &Sort,
    implied: bool,
    goal: &Goal<'_>,
    residual: &[&Ast],
) -> Result<Batch> {
    reading.descending = sort.direction == Direction::Descending;
    let (query, budget) = (goal.query, reading.budget);
    let mut streams = open(&reading, known, leaf, goal);
    let (mut documents, mut batch_bytes, mut last) = (Vec::new(), 0, None);
    let mut passed: Option<Vec<u8>> = None;
    let mut ended = false;
    'batch: while !ended {
        let wanted = (query.limit - documents.len()).clamp(1, POINTS_AT_ONCE);
        let mut ids = Vec::with_capacity(wanted);
        while ids.len() < wanted {
            let Some((key, id)) = next(&mut streams, &mut reading).await? else {
                ended = true;
                break;
            };
            // A document in several of the streams comes once from each, one after the other.
            if passed.as_ref() != Some(&key) && query.plan.access.admits(&id) {
                ids.push(id);
            }
            passed = Some(key);
        }
        let found = document::get_many(reading.txn, reading.home, &ids, reading.read).await?;
        let count = found.len();
        for (at, (id, stored)) in found.into_iter().enumerate() {
            let document = stored.load(reading.txn, reading.home, reading.read).await?;
            reading.examined += 1;
            reading.examined_bytes += document.bytes().len();
            let spent = reading.is_spent_by_number() || batch_bytes >= budget.batch_bytes_max;
            let matched = all_match(residual, &document);
            let full = documents.len() + usize::from(matched) >= query.limit;
            if full || spent || at + 1 == count {
                last = Some((Operand::copy(&sort.key(document.raw())), id));
            }
            if matched {
                batch_bytes += document.bytes().len();
                documents.push(document);
            }
            if full || spent {
                ended &= at + 1 == count;
                break 'batch;
            }
        }
        if last.is_some() && reading.is_late() {
            break;
        }
    }
    let next = match last {
        Some((key, id)) if !ended => {
            Position::AfterKey { key, id, implied: implied.then(|| sort.clone()) }
        }
        _ => Position::End,
    };
    Ok(Batch { documents, next, examined: reading.examined, entries: reading.entries })
}

fn open(reading: &Reading<'_>, known: &Known<'_>, leaf: &Leaf, goal: &Goal<'_>) -> Vec<Stream> {
    let at = match (goal.from, known.indexes.get(leaf.index)) {
        (Position::AfterKey { key, id, .. }, Some(index)) => {
            Some([index::value_key(index, &key.value()).as_slice(), &id.bytes()].concat())
        }
        _ => None,
    };
    let streams = stretches(reading.home, known, leaf).into_iter().map(|(head, mut ranges)| {
        if let Some(at) = &at {
            let key = [&head[..], at].concat();
            for range in &mut ranges {
                if reading.descending {
                    range.end = key.clone().min(std::mem::take(&mut range.end));
                } else {
                    range.begin = keys::next(&key).max(std::mem::take(&mut range.begin));
                }
            }
        }
        ranges.retain(|range| !range.is_empty());
        if reading.descending {
            ranges.reverse();
        }
        let rows = goal.query.limit.clamp(1, PAGE_ROWS);
        Stream { head: head.len(), ranges: ranges.into(), ready: VecDeque::new(), rows }
    });
    streams.collect()
}

/// The next entry of all streams: what follows the fixed fields in its key, and its document.
async fn next(
    streams: &mut [Stream],
    reading: &mut Reading<'_>,
) -> Result<Option<(Vec<u8>, ObjectId)>> {
    for stream in streams.iter_mut() {
        stream.fill(reading).await?;
    }
    let heads = streams.iter_mut().filter(|stream| !stream.ready.is_empty());
    let first = if reading.descending {
        heads.max_by(|left, right| left.ready.front().cmp(&right.ready.front()))
    } else {
        heads.min_by(|left, right| left.ready.front().cmp(&right.ready.front()))
    };
    Ok(first.and_then(|stream| stream.ready.pop_front()))
}

impl Stream {
    async fn fill(&mut self, reading: &mut Reading<'_>) -> Result<()> {
        while self.ready.is_empty() {
            let Some(range) = self.ranges.pop_front() else { return Ok(()) };
            let page =
                index::scan(reading.txn, &range, reading.scan(self.rows, PAGE_BYTES)).await?;
            reading.streamed(page.entries.len()).await;
            let tail = |entry: index::Entry| {
                (entry.key.get(self.head..).unwrap_or_default().to_vec(), entry.id)
            };
            self.ready.extend(page.entries.into_iter().map(tail));
            if let Some(rest) = page.rest {
                self.ranges.push_front(rest);
            }
            self.rows = self.rows.saturating_mul(4).clamp(PAGE_ROWS_MIN, PAGE_ROWS);
        }
        Ok(())
    }
}
