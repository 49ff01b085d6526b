//! The order of a field as an index has it: entries are merged from all
//! combinations of the fixed fields, each document read when its turn comes.
//!
//! Taken only where every document has one entry under that field, and none
//! that was cut: then the entries are in the order of the field. Those of one value are in
//! the order of ids; where the field is descending that is against the order
//! that is wanted, and they are turned around value by value.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::covered::{self, Cover};
use super::documents::{PAGE_ROWS, PAGE_ROWS_MIN, POINTS_AT_ONCE};
use super::reading::{RANGES_AT_ONCE, Reading, between, pages, stretches};
use super::{Batch, Goal, Position};
use crate::codec::keys;
use crate::error::Result;
use crate::index::{self, KeyRange};
use crate::query::ast::{Ast, Operand};
use crate::query::plan::{Known, Leaf};
use crate::query::sort::{Direction, Sort};

const PAGE_BYTES: usize = 1 << 20;
const ID_BYTES: usize = 12;

/// How the entries of an index lie to the order that is wanted.
#[derive(Clone, Copy)]
struct Course {
    /// Values are read from the end of the index.
    reverse: bool,
    /// The field is descending, so that the ids of equal values lie against the order.
    turned: bool,
}

/// A range of entries that is left.
struct Part {
    range: KeyRange,
    /// All entries in it have one value, and are read against the course of the values.
    against: bool,
}

/// The entries of one combination of the fixed fields.
struct Stream {
    /// Length of what all keys begin with.
    head: usize,
    /// What is left, in the direction of the order.
    parts: VecDeque<Part>,
    ready: VecDeque<index::Entry>,
    rows: usize,
}

/// The way that is taken.
pub(super) struct Way<'a> {
    pub(super) leaf: &'a Leaf,
    pub(super) sort: &'a Sort,
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
    let Way { leaf, sort, implied, cover } = way;
    reading.descending = sort.direction == Direction::Descending;
    let (query, budget) = (goal.query, reading.budget);
    let course = Course::of(known, leaf, sort);
    let mut streams = open(&reading, known, leaf, goal, course);
    let (mut documents, mut batch_bytes, mut last) = (Vec::new(), 0, None);
    let mut passed: Option<(usize, index::Entry)> = None;
    let (mut ended, mut stopped_at) = (false, None);
    'batch: while !ended {
        let wanted = (query.limit - documents.len()).clamp(1, POINTS_AT_ONCE);
        let mut hits = Vec::with_capacity(wanted);
        while hits.len() < wanted {
            let Some((head, entry)) = next(&mut streams, &mut reading, course).await? else {
                ended = true;
                break;
            };
            // A document in several of the streams comes once from each, one after the other.
            let again = passed.as_ref().is_some_and(|(passed_head, passed)| {
                passed.id == entry.id && value_of(passed, *passed_head) == value_of(&entry, head)
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
            let held = found.value(leaf.fixed.len());
            let document = found.load(&mut reading).await?;
            let heavy = reading.is_spent_by_documents() || batch_bytes >= budget.batch_bytes_max;
            let skipped = at + 1 == count && stopped_at == Some(id);
            let matched = !skipped && reading.matches(residual, &id, &document).await?;
            let full = documents.len() + usize::from(matched) >= query.limit;
            if full || heavy || at + 1 == count {
                let key = held.unwrap_or_else(|| Operand::copy(&sort.key(document.raw())));
                last = Some((key, id));
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
        Some((key, id)) if !ended => {
            Position::AfterKey { key, id, implied: implied.then(|| Sort::clone(sort)) }
        }
        _ => Position::End,
    };
    Ok(Batch { documents, next, examined: reading.examined, entries: reading.entries })
}

impl Course {
    fn of(known: &Known<'_>, leaf: &Leaf, sort: &Sort) -> Self {
        let index = known.indexes.get(leaf.index);
        let turned = index
            .and_then(|index| index.field(leaf.fixed.len()))
            .is_some_and(|(field, _)| field.descending);
        Self { reverse: (sort.direction == Direction::Descending) != turned, turned }
    }
}

/// What an entry's key has between the fixed fields and the id.
fn value_of(entry: &index::Entry, head: usize) -> &[u8] {
    let value = entry.key.get(head..).unwrap_or_default();
    value.get(..value.len().saturating_sub(ID_BYTES)).unwrap_or_default()
}

fn open(
    reading: &Reading<'_>,
    known: &Known<'_>,
    leaf: &Leaf,
    goal: &Goal<'_>,
    course: Course,
) -> Vec<Stream> {
    let at = match (goal.from, known.indexes.get(leaf.index)) {
        (Position::AfterKey { key, id, .. }, Some(index)) => {
            Some((index::field_key(index, leaf.fixed.len(), &key.value()), id.bytes()))
        }
        _ => None,
    };
    let streams = stretches(reading.home, known, leaf).into_iter().map(|(head, ranges)| {
        let mut parts: VecDeque<Part> =
            ranges.into_iter().map(|range| Part { range, against: false }).collect();
        if course.reverse {
            parts = parts.into_iter().rev().collect();
        }
        if let Some((value, id)) = &at {
            let value = [&head[..], value].concat();
            let id = [&value[..], id].concat();
            let place = Place { value, id };
            parts =
                parts.into_iter().flat_map(|part| place.behind(&part, reading, course)).collect();
        }
        parts.retain(|part| !part.range.is_empty());
        // One more than is wanted: where ids are turned a page shows only then that a value has no further one.
        let rows =
            (goal.query.limit.clamp(1, PAGE_ROWS) + usize::from(course.turned)).min(PAGE_ROWS);
        Stream { head: head.len(), parts, ready: VecDeque::new(), rows }
    });
    streams.collect()
}

/// Where the last batch ended: what the keys of the value begin with, and the key of the entry.
struct Place {
    value: Vec<u8>,
    id: Vec<u8>,
}

impl Place {
    /// What of a part lies behind it.
    fn behind(&self, part: &Part, reading: &Reading<'_>, course: Course) -> Vec<Part> {
        let behind_id = || {
            if reading.descending {
                between(&part.range, None, Some(self.id.clone()))
            } else {
                between(&part.range, Some(keys::next(&self.id)), None)
            }
        };
        if !course.turned {
            return vec![Part { range: behind_id(), against: false }];
        }
        let of_value =
            between(&behind_id(), Some(self.value.clone()), Some(keys::after(&self.value)));
        let rest = if course.reverse {
            between(&part.range, None, Some(self.value.clone()))
        } else {
            between(&part.range, Some(keys::after(&self.value)), None)
        };
        vec![Part { range: of_value, against: true }, Part { range: rest, against: false }]
    }
}

/// The next entry of all streams, and how long what its key begins with is.
async fn next(
    streams: &mut [Stream],
    reading: &mut Reading<'_>,
    course: Course,
) -> Result<Option<(usize, index::Entry)>> {
    fill(streams, reading, course).await?;
    let first =
        streams.iter_mut().filter(|stream| !stream.ready.is_empty()).min_by(|one, other| {
            let (Some(left), Some(right)) = (one.ready.front(), other.ready.front()) else {
                return Ordering::Equal;
            };
            let values = value_of(left, one.head).cmp(value_of(right, other.head));
            let values = if course.reverse { values.reverse() } else { values };
            values.then_with(|| reading.order(&left.id, &right.id))
        });
    Ok(first.and_then(|stream| Some((stream.head, stream.ready.pop_front()?))))
}

/// Reads on where a stream has nothing ready, in many streams at the same time.
async fn fill(streams: &mut [Stream], reading: &mut Reading<'_>, course: Course) -> Result<()> {
    loop {
        let empty = streams.iter_mut().filter(|stream| stream.ready.is_empty());
        let empty = empty.filter_map(|stream| Some((stream.parts.pop_front()?, stream)));
        let mut empty: Vec<(Part, &mut Stream)> = empty.take(RANGES_AT_ONCE).collect();
        if empty.is_empty() {
            return Ok(());
        }
        let wanted = empty.iter().map(|(part, stream)| {
            let reverse = course.reverse != part.against;
            (&part.range, index::Scan { reverse, ..reading.scan(stream.rows, PAGE_BYTES) })
        });
        let pages = pages(reading.txn, wanted.collect()).await?;
        for ((part, stream), page) in empty.drain(..).zip(pages) {
            reading.streamed(page.entries.len()).await;
            stream.take(part, page, course);
        }
    }
}

impl Stream {
    fn take(&mut self, part: Part, page: index::Page, course: Course) {
        let Part { range, against } = part;
        if course.turned && !against {
            self.take_turned(page, &range, course);
        } else {
            self.ready.extend(page.entries);
            if let Some(range) = page.rest {
                self.parts.push_front(Part { range, against });
            }
        }
        if !self.ready.is_empty() {
            self.rows = self.rows.saturating_mul(4).clamp(PAGE_ROWS_MIN, PAGE_ROWS);
        }
    }

    /// Takes the entries of each value in the other direction. A value whose
    /// entries may go on behind the page is read again: with those behind it,
    /// or, where it fills the page, on its own and from its other end.
    fn take_turned(&mut self, page: index::Page, range: &KeyRange, course: Course) {
        let head = self.head;
        let more = page.rest.is_some();
        let mut entries = page.entries;
        let same = |left: &index::Entry, right: &index::Entry| {
            value_of(left, head) == value_of(right, head)
        };
        if more {
            let open = entries.chunk_by(same).next_back().map_or(0, <[_]>::len);
            let whole = entries.len() - open;
            let first = entries.get(whole).map(|entry| entry.key.to_vec()).unwrap_or_default();
            let value = first.get(..first.len().saturating_sub(ID_BYTES)).unwrap_or_default();
            if whole > 0 {
                let rest = if course.reverse {
                    between(range, None, Some(keys::next(&first)))
                } else {
                    between(range, Some(first), None)
                };
                self.parts.push_front(Part { range: rest, against: false });
            } else {
                let (begin, end) = (value.to_vec(), keys::after(value));
                let rest = if course.reverse {
                    between(range, None, Some(begin.clone()))
                } else {
                    between(range, Some(end.clone()), None)
                };
                self.parts.push_front(Part { range: rest, against: false });
                let of_value = between(range, Some(begin), Some(end));
                self.parts.push_front(Part { range: of_value, against: true });
            }
            entries.truncate(whole);
        }
        for group in entries.chunk_by(same) {
            self.ready.extend(group.iter().rev().cloned());
        }
        self.parts.retain(|part| !part.range.is_empty());
    }
}
