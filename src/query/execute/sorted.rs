//! An order without an index that has it: all candidates are looked at, and no
//! more than one batch is held.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bson::oid::ObjectId;

use super::documents::{Documents, PAGE_ROWS};
use super::{Batch, Budget, Goal, Place, Position, Reading};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::query::ast::{Ast, Operand};
use crate::query::sort::{Order, Sort};

/// The first documents behind the position in an order that begins with a field.
pub(super) async fn sorted(
    mut candidates: Documents<'_>,
    goal: &Goal<'_>,
    sort: &Sort,
    residual: &[&Ast],
    budget: &Budget,
) -> Result<Batch> {
    let order = &goal.exact.map_or_else(|| Order::by(sort), Order::clone);
    let limit = goal.query.limit;
    let mut best: BinaryHeap<Ranked<'_>> = BinaryHeap::new();
    let (mut held_bytes, mut more) = (0, false);
    candidates.expect(PAGE_ROWS, false);
    candidates.reading.whole = true;
    while let Some((id, document)) = candidates.next().await? {
        let matched = candidates.reading.matches(residual, &id, &document).await?;
        if candidates.reading.is_overdue()
            || candidates.page_is_empty() && candidates.reading.is_late()
        {
            return Err(took_too_long(sort, budget));
        }
        if !matched {
            continue;
        }
        let here = (document.raw(), &id);
        if let Position::Behind(place) = goal.from
            && order.compare(here, (&place.keys, &place.id)).is_le()
        {
            continue;
        }
        if best.len() >= limit {
            more = true;
            let better = best
                .peek()
                .is_some_and(|worst| order.compare(here, (&worst.keys, &worst.id)).is_lt());
            if !better {
                continue;
            }
            if let Some(worst) = best.pop() {
                held_bytes -= worst.document.bytes().len();
            }
        }
        let ranked = Ranked { order, keys: order.keys(document.raw()), id, document };
        held_bytes += ranked.document.bytes().len();
        if held_bytes > budget.sort_bytes_max {
            return Err(Error::Syntax(format!(
                "SORTBY '{}' needs more than {} bytes of memory without an index. Hint: use a smaller LIMIT",
                sort.path.text(),
                budget.sort_bytes_max
            )));
        }
        best.push(ranked);
    }
    if candidates.stopped_at().is_some() {
        return Err(took_too_long(sort, budget));
    }
    let best = best.into_sorted_vec();
    let next = match best.last() {
        Some(last) if more => Position::behind(Place {
            order: order.clone(),
            keys: last.keys.clone(),
            id: last.id,
            implied: goal.implied,
        }),
        _ => Position::End,
    };
    let documents = best.into_iter().map(|ranked| ranked.document).collect();
    let Reading { examined, entries, .. } = candidates.reading;
    Ok(Batch { documents, next, order: Some(order.clone()), examined, entries })
}

fn took_too_long(sort: &Sort, budget: &Budget) -> Error {
    Error::Syntax(format!(
        "SORTBY '{}' took longer than {} ms without an index. Hint: narrow the filter",
        sort.path.text(),
        budget.sort_time_max.as_millis()
    ))
}

/// A document with its place in the order.
struct Ranked<'a> {
    order: &'a Order,
    keys: Vec<Operand>,
    id: ObjectId,
    document: Document,
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.compare_places((&self.keys, &self.id), (&other.keys, &other.id))
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked<'_> {}
