//! What a query would do, and why, as a tree that a command turns into its reply.

use std::ops::Bound;
use std::time::Duration;

use tokio::time::Instant;

use super::ast::{Ast, Comparison, Operand, Test};
use super::execute::{Budget, Goal, Position, Query, parts, route, run};
use super::plan::{Access, Known, Leaf, Rejected, Route, Routed, Spans};
use super::sort::{Direction, Sort};
use crate::document::{Home, json};
use crate::error::Result;
use crate::store::{Read, Transaction};
use crate::value::{Collation, Collator, Path, Segment};

/// More of a filter or a value is not shown.
const TEXT_CHARS_MAX: usize = 200;
/// Nodes of a predicate, and listed ways that were not taken.
const LISTED_MAX: usize = 50;

/// A part of an explanation.
#[derive(Clone, Debug, PartialEq)]
pub enum Explained {
    Null,
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// How strings are ordered; `None`: by their bytes.
    Collation(Option<Collation>),
    List(Vec<Explained>),
    Map(Vec<(&'static str, Explained)>),
}

impl From<&str> for Explained {
    fn from(text: &str) -> Self {
        let mut shown: String = text.chars().take(TEXT_CHARS_MAX).collect();
        if shown.len() < text.len() {
            shown.push_str("...");
        }
        Self::Text(shown)
    }
}

impl From<usize> for Explained {
    fn from(number: usize) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// What running a query to its end took.
struct Analysis {
    batches: usize,
    entries: usize,
    documents: usize,
    returned: usize,
    elapsed: Duration,
    complete: bool,
}

/// Explains a query, as it would run now. With `analyze` it is run, batch by
/// batch at this one snapshot, until its end or until its time is over. The
/// query is under `collator` already, which is shown.
///
/// # Errors
/// Those of the store; of a query that cannot be run.
pub async fn explain(
    txn: &Transaction,
    home: &Home,
    query: &Query,
    collator: Option<&Collator>,
    read: Read,
    budget: &Budget,
    analyze: bool,
) -> Result<Explained> {
    let order = query.order.as_ref().filter(|sort| !sort.path.is_id());
    let goal = Goal { query, order, exact: None, implied: false, from: &Position::Start };
    let routed = route::explained(txn, home, &goal, read).await?;
    let analysis =
        if analyze { Some(analyse(txn, home, query, read, budget).await?) } else { None };
    let cached = routed.as_ref().is_some_and(|(_, routed)| routed.cached);
    let plan = match &routed {
        _ if matches!(query.plan.access, Access::Nothing) => Explained::Null,
        Some((_, Routed { route: Route::Nothing, .. })) => Explained::Null,
        Some((known, routed)) => {
            Explainer { query, home, known: Some(known), next: 0 }.plan(routed, order)
        }
        None => Explainer { query, home, known: None, next: 0 }.whole_plan(order),
    };
    let mut explained = vec![("is_cached", Explained::Boolean(cached))];
    if let Some(collator) = collator {
        let collation = Some(collator.collation().clone());
        explained.push(("query_collation", Explained::Collation(collation)));
    }
    explained.push(("plan", plan));
    if let Some(analysis) = analysis {
        explained.push(("analyze", analysis.node()));
    }
    Ok(Explained::Map(explained))
}

async fn analyse(
    txn: &Transaction,
    home: &Home,
    query: &Query,
    read: Read,
    budget: &Budget,
) -> Result<Analysis> {
    let started = Instant::now();
    let mut position = Position::Start;
    let mut analysis = Analysis {
        batches: 0,
        entries: 0,
        documents: 0,
        returned: 0,
        elapsed: Duration::ZERO,
        complete: false,
    };
    while !analysis.complete && analysis.elapsed < budget.sort_time_max {
        // The last batch ends with the time of all of them, not a whole batch later.
        let left = budget.sort_time_max.saturating_sub(analysis.elapsed);
        let budget = Budget { time_max: budget.time_max.min(left), ..*budget };
        let batch = run(txn, home, query, &position, read, &budget).await?;
        analysis.batches += 1;
        analysis.entries += batch.entries;
        analysis.documents += batch.examined;
        analysis.returned += batch.documents.len();
        analysis.elapsed = started.elapsed();
        analysis.complete = matches!(batch.next, Position::End);
        position = batch.next;
    }
    Ok(analysis)
}

impl Analysis {
    fn node(&self) -> Explained {
        let millis = i64::try_from(self.elapsed.as_millis()).unwrap_or(i64::MAX);
        Explained::Map(vec![
            ("examined_keys", self.entries.into()),
            ("examined_documents", self.documents.into()),
            ("returned", self.returned.into()),
            ("batches", self.batches.into()),
            ("milliseconds", Explained::Integer(millis)),
            ("complete", Explained::Boolean(self.complete)),
        ])
    }
}

struct Explainer<'a> {
    query: &'a Query,
    home: &'a Home,
    known: Option<&'a Known<'a>>,
    next: usize,
}

impl Explainer<'_> {
    fn id(&mut self) -> Explained {
        self.next += 1;
        self.next.into()
    }

    fn node(&mut self, kind: &str, scan: &str) -> Vec<(&'static str, Explained)> {
        vec![("nodeType", kind.into()), ("id", self.id()), ("scanType", scan.into())]
    }

    /// A plan that has no index to choose.
    fn whole_plan(mut self, order: Option<&Sort>) -> Explained {
        let all = parts(&self.query.plan.residual);
        let scan = self.primary();
        let mut plan = self.filtered(&all, scan);
        plan.push(("sort", self.sort(order, false)));
        let rejected = self.rejected(&[]);
        if !rejected.is_empty() {
            plan.push(("rejected", Explained::List(rejected)));
        }
        versioned(plan)
    }

    fn plan(mut self, routed: &Routed, order: Option<&Sort>) -> Explained {
        let all = parts(&self.query.plan.residual);
        let residual: Vec<&Ast> =
            routed.residual.iter().filter_map(|at| all.get(*at).copied()).collect();
        let (scan, residual, by_index) = match &routed.route {
            Route::Nothing | Route::Whole => (self.primary(), &all, false),
            Route::Ordered(leaf, order) => {
                let mut scan = self.leaf(
                    leaf,
                    leaf.then
                        .as_ref()
                        .is_some_and(|then| leaf.combinations() > 1 || then.list().len() > 1),
                );
                // Ids have no direction of their own: they go the way that the entries are read.
                if order.ids == Direction::Descending {
                    scan.push(("reverse", Explained::Boolean(true)));
                }
                (scan, &residual, true)
            }
            Route::Ids(groups) => (self.groups(groups), &residual, false),
        };
        let mut plan = self.filtered(residual, scan);
        plan.push(("sort", self.sort(order, by_index)));
        plan.push(("covered", Explained::Boolean(self.is_covered(routed))));
        plan.push(("estimated_rows", estimate(routed.rows)));
        plan.push(("estimated_cost", estimate(routed.cost)));
        plan.extend(self.mismatch(&routed.rejected));
        plan.push(("rejected", Explained::List(self.rejected(&routed.rejected))));
        versioned(plan)
    }

    /// Whether entries say all that is needed, apart from long values.
    fn is_covered(&self, routed: &Routed) -> bool {
        let (Some(known), Some(leaf)) = (self.known, routed.route.only_leaf()) else {
            return false;
        };
        let fields = known.indexes.get(leaf.index).map_or(0, |index| index.fields().len());
        routed.cover.is_some() && (0..fields).all(|position| !known.has_array(leaf.index, position))
    }

    /// The first index that was left aside because of its collation.
    fn mismatch(&self, rejected: &[Rejected]) -> Vec<(&'static str, Explained)> {
        let index = rejected.iter().find(|rejected| rejected.collation);
        let index = index.and_then(|rejected| self.home.indexes().by_name(&rejected.index));
        let Some(index) = index else { return Vec::new() };
        vec![
            ("collation_mismatch", Explained::Boolean(true)),
            ("rejected_index", index.name().into()),
            ("index_collation", Explained::Collation(index.record().collation.clone())),
        ]
    }

    /// The ways that were not taken, and the indexes that no query may take.
    fn rejected(&self, rejected: &[Rejected]) -> Vec<Explained> {
        let unready = self.home.indexes().iter().filter(|index| !index.is_ready());
        let unready = unready.map(|index| {
            let reason = if index.is_stale() {
                "it was built with other collation data"
            } else if index.is_building() {
                "it is being built"
            } else {
                "its build failed"
            };
            (index.name(), reason)
        });
        let considered = rejected.iter().map(|one| (one.index.as_str(), one.reason.as_str()));
        let row = |(index, reason): (&str, &str)| {
            Explained::Map(vec![("index", index.into()), ("reason", reason.into())])
        };
        considered.chain(unready).take(LISTED_MAX).map(row).collect()
    }

    /// The parts of the filter that a leaf is for.
    fn parts_of(&self, leaf: &Leaf) -> Vec<&Ast> {
        let all = parts(&self.query.plan.residual);
        let Some((part, branch)) = leaf.branch else { return all };
        match all.get(part) {
            Some(Ast::Or(branches)) => branches.get(branch).map(parts).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    fn sort(&self, order: Option<&Sort>, by_index: bool) -> Explained {
        match (&self.query.order, order) {
            (None, _) => "none".into(),
            (Some(_), None) => "primary-index".into(),
            (Some(_), Some(_)) if by_index => "index".into(),
            (Some(_), Some(_)) => "memory".into(),
        }
    }

    /// What is asked of each document that a scan leads to.
    fn filtered(
        &mut self,
        residual: &[&Ast],
        scan: Vec<(&'static str, Explained)>,
    ) -> Vec<(&'static str, Explained)> {
        if residual.is_empty() {
            return scan;
        }
        let mut left = LISTED_MAX;
        let predicate = match residual {
            [one] => predicate(one, &mut left),
            all => junction("AND", all.iter().copied(), &mut left),
        };
        let mut filtered = self.node("TransformWithResidualPredicate", "FILTER");
        filtered.push(("predicate", predicate));
        filtered.push(("children", Explained::List(vec![Explained::Map(scan)])));
        filtered
    }

    fn primary(&mut self) -> Vec<(&'static str, Explained)> {
        let id = |id: &bson::oid::ObjectId| Explained::Text(id.to_hex());
        let edge = |bound: &Bound<bson::oid::ObjectId>| match bound {
            Bound::Unbounded => (Explained::Null, false),
            Bound::Included(at) => (id(at), true),
            Bound::Excluded(at) => (id(at), false),
        };
        match &self.query.plan.access {
            Access::Range { begin: Bound::Unbounded, end: Bound::Unbounded } | Access::Nothing => {
                let mut node = self.node("FullScan", "FULL_SCAN");
                node.push(("index", "primary-index".into()));
                node
            }
            Access::Points(ids) => {
                let mut node = self.node("IndexScan", "INDEX_SCAN");
                let operator = if ids.len() == 1 { "EQ" } else { "IN" };
                let operand = match ids.as_slice() {
                    [one] => id(one),
                    many => Explained::List(many.iter().take(LISTED_MAX).map(id).collect()),
                };
                node.extend([
                    ("index", "primary-index".into()),
                    ("selector", "_id".into()),
                    ("operator", operator.into()),
                    ("operand", operand),
                ]);
                node
            }
            Access::Range { begin, end } => {
                let ((lower, includes_lower), (upper, includes_upper)) = (edge(begin), edge(end));
                let mut node = self.node("RangeScan", "RANGE_SCAN");
                node.extend([
                    ("index", "primary-index".into()),
                    ("selector", "_id".into()),
                    ("lowerBound", lower),
                    ("upperBound", upper),
                    ("includeLower", Explained::Boolean(includes_lower)),
                    ("includeUpper", Explained::Boolean(includes_upper)),
                ]);
                node
            }
        }
    }

    fn groups(&mut self, groups: &[Vec<Leaf>]) -> Vec<(&'static str, Explained)> {
        let mut children: Vec<_> = groups.iter().map(|group| self.group(group)).collect();
        if children.len() == 1
            && let Some(only) = children.pop()
        {
            return only;
        }
        let mut node = self.node("Union", "UNION");
        node.push((
            "children",
            Explained::List(children.into_iter().map(Explained::Map).collect()),
        ));
        node
    }

    fn group(&mut self, group: &[Leaf]) -> Vec<(&'static str, Explained)> {
        let mut children: Vec<_> = group.iter().map(|leaf| self.leaf(leaf, false)).collect();
        if children.len() == 1
            && let Some(only) = children.pop()
        {
            return only;
        }
        let mut node = self.node("Intersection", "INTERSECTION");
        node.push((
            "children",
            Explained::List(children.into_iter().map(Explained::Map).collect()),
        ));
        node
    }

    fn leaf(&mut self, leaf: &Leaf, merged: bool) -> Vec<(&'static str, Explained)> {
        let Some(index) = self.known.and_then(|known| known.indexes.get(leaf.index).copied())
        else {
            return Vec::new();
        };
        let used = leaf.fixed.len() + usize::from(leaf.then.is_some());
        let mut fields = Vec::new();
        let parts = self.parts_of(leaf);
        for (position, (_, path)) in index.fields().enumerate().take(used) {
            let spans = leaf.fixed.get(position).or(leaf.then.as_ref());
            let mut said = vec![("selector", Explained::from(path.text()))];
            said.extend(bounds(&parts, path, spans.is_some_and(Spans::are_points)));
            said.push(("ranges", spans.map_or(0, |spans| spans.list().len()).into()));
            fields.push(said);
        }
        let (kind, scan) = match (merged, index.is_compound(), leaf.then.is_some()) {
            (true, ..) => ("OrderedConcat", "ORDERED_CONCAT"),
            (false, true, _) => ("CompoundIndexScan", "COMPOUND_INDEX_SCAN"),
            (false, false, true) => ("RangeScan", "RANGE_SCAN"),
            (false, false, false) => ("IndexScan", "INDEX_SCAN"),
        };
        let mut node = self.node(kind, scan);
        node.push(("index", index.name().into()));
        if index.is_compound() {
            node.push((
                "filters",
                Explained::List(fields.into_iter().map(Explained::Map).collect()),
            ));
        } else if let Some(only) = fields.pop() {
            node.extend(only);
        }
        node
    }
}

/// The values that a filter names for a path: an operator and its operand, or both ends of a range.
fn bounds(parts: &[&Ast], path: &Path, points: bool) -> Vec<(&'static str, Explained)> {
    let mut tests = Vec::new();
    for part in parts {
        asked(part, path.segments(), &mut tests);
    }
    let (mut lower, mut upper) = (None, None);
    for test in tests {
        match test {
            Test::Compare(Comparison::Greater, operand) => lower = Some((operand, false)),
            Test::Compare(Comparison::GreaterOrEqual, operand) => lower = Some((operand, true)),
            Test::Compare(Comparison::Less, operand) => upper = Some((operand, false)),
            Test::Compare(Comparison::LessOrEqual, operand) => upper = Some((operand, true)),
            test if points => {
                if let Some(said) = operation(test) {
                    return said;
                }
            }
            _ => {}
        }
    }
    let shown = |edge: Option<(&Operand, bool)>| {
        edge.map_or(Explained::Null, |(operand, _)| value(operand))
    };
    vec![
        ("lowerBound", shown(lower)),
        ("upperBound", shown(upper)),
        ("includeLower", Explained::Boolean(lower.is_some_and(|(_, included)| included))),
        ("includeUpper", Explained::Boolean(upper.is_some_and(|(_, included)| included))),
    ]
}

/// What is asked of a path, also inside an `$elemMatch`.
fn asked<'a>(filter: &'a Ast, path: &[Segment], tests: &mut Vec<&'a Test>) {
    match filter {
        Ast::And(parts) => parts.iter().for_each(|part| asked(part, path, tests)),
        Ast::Field { path: own, test } => match (path.strip_prefix(own.segments()), test) {
            (Some([]), test) => tests.push(test),
            (Some(rest), Test::Element { filter, .. }) => asked(filter, rest, tests),
            _ => {}
        },
        _ => {}
    }
}

fn versioned(plan: Vec<(&'static str, Explained)>) -> Explained {
    let mut all = vec![("planner_version", Explained::Integer(1))];
    all.extend(plan);
    Explained::Map(all)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::as_conversions,
    reason = "an estimate; `as` saturates"
)]
fn estimate(number: f64) -> Explained {
    Explained::Integer(number.round() as i64)
}

fn value(operand: &Operand) -> Explained {
    let mut text = Vec::new();
    json::write_value(&operand.value(), &mut text);
    String::from_utf8_lossy(&text).as_ref().into()
}

fn list<'a>(operands: impl Iterator<Item = &'a Operand>) -> Explained {
    Explained::List(operands.take(LISTED_MAX).map(value).collect())
}

fn operation(test: &Test) -> Option<Vec<(&'static str, Explained)>> {
    let (operator, operand) = match test {
        Test::Equal(operand) => ("EQ", value(operand)),
        Test::NotEqual(operand) => ("NE", value(operand)),
        Test::Compare(Comparison::Less, operand) => ("LT", value(operand)),
        Test::Compare(Comparison::LessOrEqual, operand) => ("LTE", value(operand)),
        Test::Compare(Comparison::Greater, operand) => ("GT", value(operand)),
        Test::Compare(Comparison::GreaterOrEqual, operand) => ("GTE", value(operand)),
        Test::In(members) => ("IN", list(members.values().iter())),
        Test::Size(size) => ("SIZE", Explained::Integer(i64::try_from(*size).unwrap_or(i64::MAX))),
        Test::Exists => ("EXISTS", Explained::Boolean(true)),
        Test::Matches(pattern) => ("REGEX", pattern.text().into()),
        Test::All(members) => ("ALL", members.len().into()),
        Test::Element { .. } => return None,
    };
    Some(vec![("operator", operator.into()), ("operand", operand)])
}

/// A filter as a tree, up to so many nodes.
fn predicate(filter: &Ast, left: &mut usize) -> Explained {
    if *left == 0 {
        return "...".into();
    }
    *left -= 1;
    let named = |name: &str| Explained::Map(vec![("type", name.into())]);
    match filter {
        Ast::All => named("ALWAYS_TRUE"),
        Ast::Nothing => named("ALWAYS_FALSE"),
        Ast::And(parts) => junction("AND", parts.iter(), left),
        Ast::Or(parts) => junction("OR", parts.iter(), left),
        Ast::Not(part) => junction("NOT", std::iter::once(part.as_ref()), left),
        Ast::Field { path, test } => {
            let mut said = vec![("type", "PREDICATE".into()), ("selector", path.text().into())];
            match (operation(test), test) {
                (Some(operation), _) => said.extend(operation),
                (None, Test::Element { filter, .. }) => {
                    said.push(("operator", "ELEMMATCH".into()));
                    said.push(("operand", predicate(filter, left)));
                }
                (None, _) => {}
            }
            Explained::Map(said)
        }
    }
}

fn junction<'a>(name: &str, parts: impl Iterator<Item = &'a Ast>, left: &mut usize) -> Explained {
    let children = parts.map(|part| predicate(part, left)).collect();
    Explained::Map(vec![("type", name.into()), ("children", Explained::List(children))])
}
