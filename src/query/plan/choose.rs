//! Choosing among the ways to the documents.
//!
//! Costs are in documents read one after the other. They only ever decide how
//! fast an answer comes: each way gives the same one.

use std::sync::OnceLock;

use crate::codec::record::IndexField;
use crate::index::Index;
use crate::query::ast::Ast;
use crate::query::execute::Purpose;
use crate::query::sort::{Direction, Order, Sort};
use crate::value::Path;

use super::cover::cover;
use super::leaf::{interest, leaf, mismatched};
use super::{Access, Choice, Known, Leaf, Rejected, Route, Routed};

/// Reading one entry of an index.
const ENTRY: f64 = 0.2;
/// Reading one document that an index led to.
const FETCH: f64 = 2.0;
/// Making a document of what an entry holds.
const COVERED: f64 = 0.1;
/// Beginning to read somewhere.
const SEEK: f64 = 3.0;
/// Putting one document in order in memory.
const SORT: f64 = 0.3;
/// A union of more branches than this is not considered.
const BRANCHES_MAX: usize = 64;
/// Streams that are merged into one order.
const STREAMS_MAX: usize = 64;

/// What is to be answered, taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// The parts of the filter, which must all hold.
    pub parts: &'a [&'a Ast],
    pub access: &'a Access,
    /// The order by a field that is wanted; that of ids is not one.
    pub order: Option<&'a Sort>,
    /// All of the order, where batches before have come in it.
    pub exact: Option<&'a Order>,
    pub limit: usize,
    pub purpose: Purpose,
    /// All that is needed of the documents that match, besides their ids; `None`: everything.
    pub fields: Option<&'a [Path]>,
    /// Whether any order will do. Not when a batch goes on in the order of ids.
    pub any_order: bool,
    /// What was found out on the way.
    pub notes: &'a Notes,
}

/// What is worked out once for a question, whichever ways are looked at.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The leaf of each index, where somebody has asked for it.
    leaves: OnceLock<Vec<OnceLock<Option<Leaf>>>>,
    share: OnceLock<f64>,
}

impl Notes {
    /// Where the way is known and nobody looks at what it costs: that would take the leaves of all indexes.
    pub(crate) fn unpriced() -> Self {
        Self { share: OnceLock::from(1.0), ..Self::default() }
    }
}

impl Question<'_> {
    /// The part of each index in which all that matches lies.
    fn leaves(&self, known: &Known<'_>) -> impl Iterator<Item = &Leaf> {
        (0..known.indexes.len()).filter_map(|at| self.leaf(known, at))
    }

    /// That of one index.
    fn leaf(&self, known: &Known<'_>, at: usize) -> Option<&Leaf> {
        let count = known.indexes.len();
        let leaves = self.notes.leaves.get_or_init(|| vec![OnceLock::new(); count]);
        leaves.get(at)?.get_or_init(|| leaf(self.parts, known, at, None)).as_ref()
    }
}

/// One way, and what it is thought to cost.
struct Candidate {
    route: Route,
    choice: Choice,
    settled: Vec<usize>,
    /// Documents or entries that it leads to.
    rows: f64,
    cost: f64,
}

/// The best way. `known` has what was learnt about the indexes in this transaction.
pub(crate) fn choose(question: &Question<'_>, known: &Known<'_>) -> Routed {
    let mut rejected = Vec::new();
    let mut candidates = vec![whole(question, known)];
    let mut leaves = Vec::new();
    for (at, index) in known.indexes.iter().enumerate() {
        if let Some(ordered) = ordered(question, known, at) {
            match ordered {
                Ok(candidate) => candidates.push(candidate),
                Err(rejection) => rejected.push(rejection),
            }
        }
        if let Some(leaf) = question.leaf(known, at) {
            leaves.push(leaf.clone());
        } else if mismatched(question.parts, index) {
            rejected.push(Rejected {
                collation: true,
                ..Rejected::new(index.name(), "its collation is not that of the query")
            });
        } else if question.order.is_none() {
            let reason = "the filter does not restrict its first field";
            rejected.push(Rejected::new(index.name(), reason));
        }
    }
    if leaves.iter().any(Leaf::is_empty) {
        return Routed::nothing();
    }
    for leaf in &leaves {
        // Where both cost the same: this one reads no more than it needs, however wrong the estimate is.
        candidates.extend(implied(question, known, leaf));
        candidates.push(single(question, known, leaf.clone()));
    }
    candidates.extend(both(question, known, &leaves));
    for part in 0..question.parts.len() {
        candidates.extend(union(question, known, part));
    }
    let best = (0..candidates.len())
        .min_by(|left, right| cost_at(&candidates, *left).total_cmp(&cost_at(&candidates, *right)))
        .unwrap_or_default();
    let chosen = candidates.swap_remove(best);
    for candidate in candidates {
        let reason = format!(
            "costs {:.0}, {} costs {:.0}",
            candidate.cost,
            chosen.choice.name(known),
            chosen.cost
        );
        rejected.push(Rejected {
            index: candidate.choice.name(known),
            reason,
            cost: Some(candidate.cost),
            collation: false,
        });
    }
    chosen.routed(question, known, rejected)
}

/// The way that was chosen before for a filter of this shape, for these values.
/// `None` when it is no way any more.
pub(crate) fn follow(
    question: &Question<'_>,
    known: &Known<'_>,
    choice: &Choice,
) -> Option<Routed> {
    let at = |id: u32| known.indexes.iter().position(|index| index.id() == id);
    let candidate = match choice {
        Choice::Whole => whole(question, known),
        Choice::Single(id) => single(question, known, question.leaf(known, at(*id)?)?.clone()),
        Choice::Ordered(id) => ordered(question, known, at(*id)?)?.ok()?,
        Choice::Implied(id) => implied(question, known, question.leaf(known, at(*id)?)?)?,
        Choice::Both(first, second) => {
            let leaves = [at(*first)?, at(*second)?]
                .into_iter()
                .map(|at| question.leaf(known, at).cloned())
                .collect::<Option<Vec<_>>>()?;
            both(question, known, &leaves)?
        }
        Choice::Union(part) => union(question, known, *part)?,
        Choice::Nothing => return None,
    };
    if candidate.route.leaves().any(Leaf::is_empty) {
        return Some(Routed::nothing());
    }
    Some(candidate.routed(question, known, Vec::new()))
}

fn cost_at(candidates: &[Candidate], at: usize) -> f64 {
    candidates.get(at).map_or(f64::INFINITY, |candidate| candidate.cost)
}

impl Rejected {
    fn new(index: &str, reason: &str) -> Self {
        let (index, reason) = (index.to_owned(), reason.to_owned());
        Self { index, reason, cost: None, collation: false }
    }
}

impl Candidate {
    fn routed(self, question: &Question<'_>, known: &Known<'_>, rejected: Vec<Rejected>) -> Routed {
        let residual =
            (0..question.parts.len()).filter(|part| !self.settled.contains(part)).collect();
        // Where entries come in order, documents are not asked for it.
        let asked = match self.route {
            Route::Ordered(..) => Question { order: None, exact: None, ..*question },
            _ => *question,
        };
        let cover = self.route.only_leaf().and_then(|leaf| covered(&asked, known, leaf));
        Routed {
            cover,
            route: self.route,
            choice: self.choice,
            residual,
            rows: self.rows,
            cost: self.cost,
            rejected,
            cached: false,
        }
    }
}

#[allow(clippy::cast_precision_loss, clippy::as_conversions, reason = "an estimate")]
fn rows_of(count: usize) -> f64 {
    count as f64
}

/// How many of `rows` must be looked at to fill a batch, when `share` of them match.
fn until_full(question: &Question<'_>, rows: f64, share: f64) -> f64 {
    if question.order.is_some() {
        return rows;
    }
    rows.min(rows_of(question.limit) / share.clamp(1e-9, 1.0))
}

/// The part of all documents that matches, by what the indexes know.
fn matching(question: &Question<'_>, known: &Known<'_>) -> f64 {
    *question.notes.share.get_or_init(|| {
        let documents = known.documents().max(1.0);
        let leaves = question.leaves(known);
        let share = leaves.map(|leaf| leaf.rows / documents).fold(1.0, f64::min);
        if share >= 1.0 && !question.parts.is_empty() { 0.1 } else { share.clamp(1e-9, 1.0) }
    })
}

/// All documents, or those with the ids that the filter admits.
fn whole(question: &Question<'_>, known: &Known<'_>) -> Candidate {
    let documents = match question.access {
        Access::Nothing => 0.0,
        Access::Points(ids) => rows_of(ids.len()).min(known.documents()),
        Access::Range { begin, end } => {
            let open = [begin, end]
                .iter()
                .filter(|bound| matches!(bound, std::ops::Bound::Unbounded))
                .count();
            known.documents() * [0.1, 0.3, 1.0].get(open).copied().unwrap_or(1.0)
        }
    };
    let looked_at = until_full(question, documents, matching(question, known));
    let sorting = if question.order.is_some() { documents * SORT } else { 0.0 };
    Candidate {
        route: Route::Whole,
        choice: Choice::Whole,
        settled: Vec::new(),
        rows: documents,
        cost: SEEK + looked_at + sorting,
    }
}

/// Which fields of a leaf's index answer the query, where they do.
fn covered(question: &Question<'_>, known: &Known<'_>, leaf: &Leaf) -> Option<Vec<usize>> {
    cover(question, known.indexes.get(leaf.index)?, &leaf.settled)
}

/// What a document behind an entry of a leaf costs.
fn fetch(question: &Question<'_>, known: &Known<'_>, leaf: &Leaf) -> f64 {
    let held = !leaf.several && covered(question, known, leaf).is_some();
    if held { COVERED } else { FETCH }
}

/// What reading the entries of a leaf costs, of which `wanted` documents are read.
fn cost_of(question: &Question<'_>, known: &Known<'_>, leaf: &Leaf) -> f64 {
    let seeks =
        rows_of(leaf.combinations() * leaf.then.as_ref().map_or(1, |spans| spans.list().len()));
    let share =
        (matching(question, known) * known.documents().max(1.0) / leaf.rows.max(1e-9)).min(1.0);
    let documents = until_full(question, leaf.rows, share);
    let entries = if leaf.in_order_of_ids() { documents } else { leaf.rows };
    let sorting = if question.order.is_some() { documents * SORT } else { 0.0 };
    SEEK * seeks + entries * ENTRY + documents * fetch(question, known, leaf) + sorting
}

/// One index, its documents in the order of their ids.
fn single(question: &Question<'_>, known: &Known<'_>, leaf: Leaf) -> Candidate {
    let id = known.id(leaf.index);
    Candidate {
        cost: cost_of(question, known, &leaf),
        choice: Choice::Single(id),
        settled: leaf.settled.clone(),
        rows: leaf.rows,
        route: Route::Ids(vec![vec![leaf]]),
    }
}

/// An index that gives the wanted order. `None` when it has nothing to do with it.
fn ordered(
    question: &Question<'_>,
    known: &Known<'_>,
    at: usize,
) -> Option<Result<Candidate, Rejected>> {
    let sort = question.order?;
    let index = known.indexes.get(at)?;
    let mut fields = index.fields();
    let position = fields.position(|(_, path)| path.segments() == sort.path.segments())?;
    let reject = |reason: &str| Some(Err(Rejected::new(index.name(), reason)));
    if sort.collator.as_ref() != index.collator() {
        let reason = "its collation is not that of the query";
        return Some(Err(Rejected { collation: true, ..Rejected::new(index.name(), reason) }));
    }
    let order = order_of(index, position, sort);
    if question.exact.is_some_and(|exact| *exact != order) {
        return reject("the batches before came in another order among equal values");
    }
    if known.has_array(at, position) {
        return reject("there are arrays in the field of the order");
    }
    let mut behind = position + 1..index.fields().len();
    // Documents would come once for each element, and at places that are not theirs.
    if behind.clone().any(|position| known.has_array(at, position)) {
        return reject("there are arrays in a field behind that of the order");
    }
    if known.has_cut(at, position) || behind.any(|position| known.has_cut(at, position)) {
        return reject("there are values too long to be in order");
    }
    let Some(leaf) = leaf(question.parts, known, at, Some(position)) else {
        return reject("the filter does not fix the fields in front of that of the order");
    };
    if leaf.fixed.len() != position {
        return reject("the filter does not fix the fields in front of that of the order");
    }
    if leaf.combinations() > STREAMS_MAX {
        return reject("too many values of the fields in front of that of the order");
    }
    let share =
        (matching(question, known) * known.documents().max(1.0) / leaf.rows.max(1e-9)).min(1.0);
    let documents = leaf.rows.min(rows_of(question.limit) / share.clamp(1e-9, 1.0));
    let each = ENTRY + fetch(&Question { order: None, exact: None, ..*question }, known, &leaf);
    let cost = SEEK * rows_of(leaf.combinations()) + documents * each;
    Some(Ok(Candidate {
        choice: Choice::Ordered(index.id()),
        settled: leaf.settled.clone(),
        rows: leaf.rows,
        route: Route::Ordered(leaf, order),
        cost,
    }))
}

/// The order in which an index has its entries from a field on, when that one is read in this order:
/// from the beginning or from the end, with what follows going the way it goes there.
fn order_of(index: &Index, position: usize, sort: &Sort) -> Order {
    let fields = || index.fields().skip(position);
    let reverse = fields()
        .next()
        .is_some_and(|(first, _)| (sort.direction == Direction::Descending) != first.descending);
    let towards = |descending| {
        if descending == reverse { Direction::Ascending } else { Direction::Descending }
    };
    let field = |(field, path): (&IndexField, &Path)| Sort {
        path: path.clone(),
        direction: towards(field.descending),
        collator: sort.collator.clone(),
    };
    Order { fields: fields().map(field).collect(), ids: towards(false) }
}

/// Where any order will do: a range in the order of its own field, so that a
/// batch reads no more of it than it gives back.
fn implied(question: &Question<'_>, known: &Known<'_>, leaf: &Leaf) -> Option<Candidate> {
    let wanted =
        question.any_order && question.order.is_none() && question.purpose == Purpose::Read;
    if !wanted || leaf.in_order_of_ids() {
        return None;
    }
    let index = known.indexes.get(leaf.index)?;
    let (_, path) = index.field(leaf.fixed.len())?;
    let mut sort = Sort::new(path.clone(), Direction::Ascending);
    sort.collator = index.collator().cloned();
    let question = Question { order: Some(&sort), ..*question };
    let candidate = ordered(&question, known, leaf.index)?.ok()?;
    Some(Candidate { choice: Choice::Implied(index.id()), ..candidate })
}

/// The documents that are in two indexes.
fn both(question: &Question<'_>, known: &Known<'_>, leaves: &[Leaf]) -> Option<Candidate> {
    let mut order: Vec<&Leaf> = leaves.iter().collect();
    order.sort_by(|left, right| left.rows.total_cmp(&right.rows));
    let (first, second) = (*order.first()?, *order.get(1)?);
    let together = first.rows * (second.rows / known.documents().max(1.0)).min(1.0);
    let entries = first.rows
        + if second.in_order_of_ids() { first.rows.min(second.rows) } else { second.rows };
    let seeks = rows_of(first.combinations() + second.combinations());
    let sorting = if question.order.is_some() { together * SORT } else { 0.0 };
    let mut settled = [first.settled.as_slice(), &second.settled].concat();
    settled.sort_unstable();
    settled.dedup();
    Some(Candidate {
        choice: Choice::Both(known.id(first.index), known.id(second.index)),
        cost: SEEK * seeks + entries * ENTRY * 2.0 + together * FETCH + sorting,
        settled,
        rows: together,
        route: Route::Ids(vec![vec![first.clone(), second.clone()]]),
    })
}

/// The documents that an `$or` leads to, each of its branches by an index.
fn union(question: &Question<'_>, known: &Known<'_>, part: usize) -> Option<Candidate> {
    let Ast::Or(branches) = question.parts.get(part)? else { return None };
    if branches.len() > BRANCHES_MAX {
        return None;
    }
    let (mut groups, mut rows, mut cost, mut exact) = (Vec::new(), 0.0, 0.0, true);
    for (at, branch) in branches.iter().enumerate() {
        let parts: Vec<&Ast> = match branch {
            Ast::And(parts) => parts.iter().collect(),
            branch => vec![branch],
        };
        let notes = &Notes::default();
        let inner =
            Question { parts: &parts, order: None, exact: None, fields: None, notes, ..*question };
        let leaves = inner.leaves(known);
        let best = leaves.min_by(|left, right| {
            cost_of(&inner, known, left).total_cmp(&cost_of(&inner, known, right))
        });
        let best = best?.clone();
        if best.is_empty() {
            continue;
        }
        exact &= best.settled.len() == parts.len();
        rows += best.rows;
        cost += cost_of(&inner, known, &best);
        groups.push(vec![Leaf { branch: Some((part, at)), ..best }]);
    }
    if question.order.is_some() {
        cost += rows * SORT;
    }
    Some(Candidate {
        route: Route::Ids(groups),
        choice: Choice::Union(part),
        settled: if exact { vec![part] } else { Vec::new() },
        rows,
        cost,
    })
}

/// Which indexes are worth a look at what they have seen of arrays.
pub(crate) fn marks_wanted(
    question: &Question<'_>,
    known: &Known<'_>,
    explained: bool,
) -> Vec<usize> {
    let order = question.order;
    let wanted = |at: &usize| {
        let Some(index) = known.indexes.get(*at) else { return false };
        let sorts = order.is_some_and(|sort| {
            index.fields().any(|(_, path)| path.segments() == sort.path.segments())
        });
        let branches = question.parts.iter().filter_map(|part| match part {
            Ast::Or(branches) => Some(branches),
            _ => None,
        });
        let inner = branches.flatten().any(|branch| {
            let parts: Vec<&Ast> = match branch {
                Ast::And(parts) => parts.iter().collect(),
                branch => vec![branch],
            };
            let interest = interest(&parts, index);
            interest.starts && interest.marks
        });
        let own = interest(question.parts, index);
        sorts || inner || own.starts && (own.marks || explained)
    };
    (0..known.indexes.len()).filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::record::{IndexRecord, IndexStatus, IndexType};
    use crate::query::plan::Figures;
    use crate::query::{Limits, parse};

    fn index(id: u32, selector: &str) -> Index {
        let field = IndexField {
            selector: selector.to_owned(),
            bson_type: IndexType::Int32,
            descending: false,
            multi_key: false,
        };
        Index::new(IndexRecord {
            id,
            name: format!("i{id}"),
            fields: vec![field],
            unique: false,
            collation: None,
            collation_data: String::new(),
            status: IndexStatus::Ready,
            created_at: 0,
        })
    }

    /// How many leaves are worked out on the way to an answer of this shape.
    fn leaves_of(notes: &Notes, way: impl FnOnce(&Question<'_>, &Known<'_>)) -> usize {
        let indexes = [index(1, "a"), index(2, "b"), index(3, "c")];
        let figures = Arc::new(Figures::new(1e6, std::collections::HashMap::new()));
        let known = Known::new(indexes.iter().collect(), figures);
        let filter = parse(&"{a: 1, b: 2, c: 3}".into(), &Limits::default()).unwrap();
        let parts = crate::query::execute::parts(&filter);
        let range =
            Access::Range { begin: std::ops::Bound::Unbounded, end: std::ops::Bound::Unbounded };
        let question = Question {
            parts: &parts,
            access: &range,
            order: None,
            exact: None,
            limit: 10,
            purpose: Purpose::Read,
            fields: None,
            any_order: true,
            notes,
        };
        way(&question, &known);
        let leaves = notes.leaves.get().unwrap();
        leaves.iter().filter(|leaf| leaf.get().is_some()).count()
    }

    #[test]
    fn a_remembered_choice_needs_the_leaf_of_its_own_index_only() {
        let choice = &Choice::Single(2);
        let followed = |question: &Question<'_>, known: &Known<'_>| {
            assert_eq!(follow(question, known, choice).unwrap().choice, *choice);
        };
        assert_eq!(leaves_of(&Notes::unpriced(), followed), 1);
        // Where somebody wants to see its cost, that depends on all of them.
        assert_eq!(leaves_of(&Notes::default(), followed), 3);
    }
}
