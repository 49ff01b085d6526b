//! The order of a field without an index that has it: all candidates are looked
//! at, and no more than one batch is held.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bson::oid::ObjectId;

use super::documents::{Documents, PAGE_ROWS};
use super::{Batch, Budget, Goal, Position, Reading};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::query::ast::{Ast, Operand};
use crate::query::sort::Sort;
use crate::value::Value;

/// The first documents behind the position in the order of a field and then of ids.
pub(super) async fn sorted(
    mut candidates: Documents<'_>,
    goal: &Goal<'_>,
    sort: &Sort,
    residual: &[&Ast],
    budget: &Budget,
) -> Result<Batch> {
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
        let key = sort.key(document.raw());
        if let Position::AfterKey { key: last, id: last_id, .. } = goal.from
            && order(sort, (&key, &id), (&last.value(), last_id)).is_le()
        {
            continue;
        }
        if best.len() >= limit {
            more = true;
            let better = best.peek().is_some_and(|worst| {
                order(sort, (&key, &id), (&worst.key.value(), &worst.id)).is_lt()
            });
            if !better {
                continue;
            }
            if let Some(worst) = best.pop() {
                held_bytes -= worst.document.bytes().len();
            }
        }
        let ranked = Ranked { sort, key: Operand::copy(&key), id, document };
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
        Some(last) if more => Position::AfterKey {
            key: last.key.clone(),
            id: last.id,
            implied: goal.implied.then(|| sort.clone()),
        },
        _ => Position::End,
    };
    let documents = best.into_iter().map(|ranked| ranked.document).collect();
    let Reading { examined, entries, .. } = candidates.reading;
    Ok(Batch { documents, next, examined, entries })
}

fn took_too_long(sort: &Sort, budget: &Budget) -> Error {
    Error::Syntax(format!(
        "SORTBY '{}' took longer than {} ms without an index. Hint: narrow the filter",
        sort.path.text(),
        budget.sort_time_max.as_millis()
    ))
}

/// By key and then by id, both in the direction of the sort: as an index has them from either end.
fn order(sort: &Sort, left: (&Value<'_>, &ObjectId), right: (&Value<'_>, &ObjectId)) -> Ordering {
    sort.compare(left.0, right.0)
        .then_with(|| sort.direction.apply(left.1.bytes().cmp(&right.1.bytes())))
}

/// A document with its place in the order of a field.
struct Ranked<'a> {
    sort: &'a Sort,
    key: Operand,
    id: ObjectId,
    document: Document,
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        order(self.sort, (&self.key.value(), &self.id), (&other.key.value(), &other.id))
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
