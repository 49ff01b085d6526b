//! Which documents to ask, and what is left to ask them.
//!
//! Every document has exactly one `_id`, an ObjectId, so conditions on it
//! narrow down the keys to be read without changing the answer. Everything
//! else is asked of each document as the residual filter.

use std::ops::Bound;

use bson::oid::ObjectId;

use crate::query::ast::{Ast, Comparison, Test};
use crate::value::{Collator, Value};

/// Where the candidates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The filter contradicts itself about `_id`.
    Nothing,
    /// These ids, in order, each once: one point read each.
    Points(Vec<ObjectId>),
    /// A range of ids; unbounded on both sides it is a full scan.
    Range { begin: Bound<ObjectId>, end: Bound<ObjectId> },
}

/// How a filter is answered.
#[derive(Clone, Debug)]
pub struct Plan {
    pub access: Access,
    /// What every candidate is still asked.
    pub residual: Ast,
}

impl Plan {
    /// Makes the plan for a normalised filter.
    pub fn new(filter: Ast) -> Self {
        let mut access = Access::Range { begin: Bound::Unbounded, end: Bound::Unbounded };
        let parts = match filter {
            Ast::And(parts) => parts,
            Ast::Nothing => return Self { access: Access::Nothing, residual: Ast::Nothing },
            filter => vec![filter],
        };
        let mut residual = Vec::with_capacity(parts.len());
        for part in parts {
            match narrowed(&part) {
                Some(narrower) => access = access.and(narrower),
                None => residual.push(part),
            }
        }
        let residual = match residual.len() {
            0 => Ast::All,
            1 => residual.swap_remove(0),
            _ => Ast::And(residual),
        };
        Self { access, residual }
    }

    /// The same plan under a collation. Ids are no strings, so the candidates are the same.
    #[must_use]
    pub fn collated(self, collator: &Collator) -> Self {
        Self { residual: self.residual.collated(collator), ..self }
    }
}

/// The ids that a condition on `_id` admits, when ids alone decide it.
fn narrowed(part: &Ast) -> Option<Access> {
    let Ast::Field { path, test } = part else { return None };
    if !path.is_id() {
        return None;
    }
    let range = |begin, end| Access::Range { begin, end };
    match test {
        Test::Equal(operand) => Some(match operand.value() {
            Value::ObjectId(id) => Access::Points(vec![id]),
            _ => Access::Nothing,
        }),
        Test::In(members) => {
            let ids = members.values().iter().filter_map(|operand| match operand.value() {
                Value::ObjectId(id) => Some(id),
                _ => None,
            });
            Some(Access::Points(ids.collect()))
        }
        Test::Compare(comparison, operand) => {
            let Value::ObjectId(id) = operand.value() else { return Some(Access::Nothing) };
            Some(match comparison {
                Comparison::Less => range(Bound::Unbounded, Bound::Excluded(id)),
                Comparison::LessOrEqual => range(Bound::Unbounded, Bound::Included(id)),
                Comparison::Greater => range(Bound::Excluded(id), Bound::Unbounded),
                Comparison::GreaterOrEqual => range(Bound::Included(id), Bound::Unbounded),
            })
        }
        _ => None,
    }
}

impl Access {
    /// The ids that both admit.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, _) | (_, Self::Nothing) => Self::Nothing,
            (Self::Points(mut ids), other) | (other, Self::Points(mut ids)) => {
                ids.retain(|id| other.admits(id));
                if ids.is_empty() { Self::Nothing } else { Self::Points(ids) }
            }
            (Self::Range { begin, end }, Self::Range { begin: other_begin, end: other_end }) => {
                let begin = tighter(begin, other_begin, |new, old| new > old);
                let end = tighter(end, other_end, |new, old| new < old);
                if is_empty(begin, end) { Self::Nothing } else { Self::Range { begin, end } }
            }
        }
    }

    /// Whether an id is among them.
    pub fn admits(&self, id: &ObjectId) -> bool {
        match self {
            Self::Nothing => false,
            Self::Points(ids) => ids.binary_search(id).is_ok(),
            Self::Range { begin, end } => {
                let after = match begin {
                    Bound::Included(begin) => id >= begin,
                    Bound::Excluded(begin) => id > begin,
                    Bound::Unbounded => true,
                };
                let before = match end {
                    Bound::Included(end) => id <= end,
                    Bound::Excluded(end) => id < end,
                    Bound::Unbounded => true,
                };
                after && before
            }
        }
    }
}

fn tighter(
    left: Bound<ObjectId>,
    right: Bound<ObjectId>,
    beyond: impl Fn(&ObjectId, &ObjectId) -> bool,
) -> Bound<ObjectId> {
    let id = |bound: &Bound<ObjectId>| match bound {
        Bound::Included(id) | Bound::Excluded(id) => Some(*id),
        Bound::Unbounded => None,
    };
    match (id(&left), id(&right)) {
        (None, _) => right,
        (Some(left_id), Some(right_id)) if beyond(&right_id, &left_id) => right,
        (Some(left_id), Some(right_id)) if left_id == right_id => {
            if matches!(right, Bound::Excluded(_)) { right } else { left }
        }
        _ => left,
    }
}

fn is_empty(begin: Bound<ObjectId>, end: Bound<ObjectId>) -> bool {
    match (begin, end) {
        (Bound::Included(begin), Bound::Included(end)) => begin > end,
        (
            Bound::Included(begin) | Bound::Excluded(begin),
            Bound::Included(end) | Bound::Excluded(end),
        ) => begin >= end,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Limits, parse};

    fn id(last: u8) -> ObjectId {
        let mut bytes = [0; 12];
        bytes[11] = last;
        ObjectId::from_bytes(bytes)
    }

    #[track_caller]
    fn check(filter: &str, expected: &Access, residual_is_all: bool) {
        let filter = filter.replace('#', "00000000000000000000000");
        let plan = Plan::new(parse(&filter.into(), &Limits::default()).unwrap());
        assert_eq!(&plan.access, expected);
        assert_eq!(matches!(plan.residual, Ast::All), residual_is_all);
    }

    #[test]
    fn conditions_on_the_id_become_points_and_ranges() {
        let everything = Access::Range { begin: Bound::Unbounded, end: Bound::Unbounded };
        check("{}", &everything, true);
        check("{'_id': '#3'}", &Access::Points(vec![id(3)]), true);
        check("{'_id': '#3', a: 1}", &Access::Points(vec![id(3)]), false);
        check("{'_id': {$in: ['#3', '#1', 7, '#3']}}", &Access::Points(vec![id(1), id(3)]), true);
        check("{'_id': {$in: ['#3', '#1'], $gt: '#1'}}", &Access::Points(vec![id(3)]), true);
        check(
            "{'_id': {$gte: '#1', $gt: '#1', $lte: '#4'}}",
            &Access::Range { begin: Bound::Excluded(id(1)), end: Bound::Included(id(4)) },
            true,
        );
        check("{'_id': {$gt: '#4', $lt: '#4'}}", &Access::Nothing, true);
        check("{'_id': 5}", &Access::Nothing, true);
        check("{'_id': {$ne: '#3'}}", &everything, false);
        check("{$or: [{'_id': '#3'}, {a: 1}]}", &everything, false);
    }
}
