//! Running a plan: one batch of documents, and where to go on.
//!
//! A batch is read in one short transaction. It ends when it has as many
//! documents as were asked for or when its [`Budget`] is used up; then the next
//! batch goes on behind the last document that was examined. What is kept
//! between two batches is a [`Position`], never a snapshot.

mod count;
mod covered;
mod documents;
mod ids;
mod ordered;
mod reading;
pub(super) mod route;
mod sorted;

use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;

use super::{
    ast::{Ast, Operand},
    plan::{Access, Plan, Route},
    sort::{Direction, Order, Sort},
};
use crate::document::{Document, Home};
use crate::error::Result;
use crate::store::{Read, Transaction};
use crate::value::Path;
use covered::Cover;
use documents::Documents;
use ids::IdSet;
use reading::Reading;

pub use count::{Count, count};

/// A query as it was asked, to be run batch by batch.
#[derive(Clone, Debug)]
pub struct Query {
    pub plan: Arc<Plan>,
    /// The order of all results, over all batches.
    pub order: Option<Sort>,
    /// Documents per batch.
    pub limit: usize,
    /// What becomes of the documents.
    pub purpose: Purpose,
    /// The paths that are needed of a document that is found, its id aside. `None`: all of it.
    pub fields: Option<Vec<Path>>,
}

/// What becomes of the documents that a query finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// They are shown.
    Read,
    /// They are changed between one batch and the next, so without a wanted order they come in
    /// that of their ids, whatever index finds them: a change never moves one in front of the cursor.
    Change,
}

impl Query {
    /// A query for documents to be shown.
    pub fn new(filter: Ast, order: Option<Sort>, limit: usize) -> Self {
        let plan = Arc::new(Plan::new(filter));
        Self { plan, order, limit, purpose: Purpose::Read, fields: None }
    }

    /// The same query, of whose documents only these paths and the id are needed. What it
    /// finds may then be no more than that.
    #[must_use]
    pub fn with_fields(self, fields: Option<Vec<Path>>) -> Self {
        Self { fields, ..self }
    }

    /// The same query, for documents to be changed batch by batch.
    #[must_use]
    pub fn to_change(self) -> Self {
        Self { purpose: Purpose::Change, fields: None, ..self }
    }
}

/// Where the next batch begins: a place in the order of ids, or in one that begins
/// with a field. It says nothing of indexes, so that the next batch may take
/// another one, or none.
#[derive(Clone, Debug)]
pub enum Position {
    Start,
    /// Behind this document, in the order of ids or against it.
    After(ObjectId),
    /// Behind a document in an order that begins with a field.
    Behind(Box<Place>),
    /// There is no more.
    End,
}

/// The place of a document in an order that begins with a field.
#[derive(Clone, Debug)]
pub struct Place {
    /// The order that the batches before came in.
    pub order: Order,
    /// What the document is sorted by there.
    pub keys: Vec<Operand>,
    pub id: ObjectId,
    /// Nobody asked for the order: an index came along with it.
    pub implied: bool,
}

impl Position {
    /// Behind this place.
    pub fn behind(place: Place) -> Self {
        Self::Behind(Box::new(place))
    }
}

/// What one batch may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Documents looked at.
    pub examined_max: usize,
    /// Bytes of documents looked at.
    pub examined_bytes_max: usize,
    /// Bytes of documents given back.
    pub batch_bytes_max: usize,
    /// Time, well below the five seconds of a transaction.
    pub time_max: Duration,
    /// Fields and elements passed while one document is asked whether it matches.
    pub steps_max: u64,
    /// Bytes of documents held while sorting by a field.
    pub sort_bytes_max: usize,
    /// Time for a batch that has to look at everything in order to sort.
    pub sort_time_max: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            examined_max: 50_000,
            examined_bytes_max: 256 << 20,
            batch_bytes_max: 32 << 20,
            time_max: Duration::from_secs(2),
            steps_max: 50_000_000,
            sort_bytes_max: 64 << 20,
            sort_time_max: Duration::from_millis(4500),
        }
    }
}

/// What a batch found.
#[derive(Debug)]
pub struct Batch {
    pub documents: Vec<Document>,
    pub next: Position,
    /// The order of its documents, where it begins with a field.
    pub order: Option<Order>,
    /// Documents looked at.
    pub examined: usize,
    /// Entries of indexes read.
    pub entries: usize,
}

impl Batch {
    fn nothing() -> Self {
        Self { documents: Vec::new(), next: Position::End, order: None, examined: 0, entries: 0 }
    }
}

/// Runs one batch from a position.
///
/// # Errors
/// Those of the store; a sort that exceeds its budget.
pub async fn run(
    txn: &Transaction,
    home: &Home,
    query: &Query,
    from: &Position,
    read: Read,
    budget: &Budget,
) -> Result<Batch> {
    if matches!(from, Position::End) || matches!(query.plan.access, Access::Nothing) {
        return Ok(Batch::nothing());
    }
    let by_id = query.order.as_ref().is_none_or(|sort| sort.path.is_id());
    let wanted = query.order.as_ref().filter(|_| !by_id);
    let (exact, implied) = match (from, wanted) {
        (Position::Behind(place), None) => (Some(place.order.clone()), true),
        (Position::Behind(place), Some(sort)) => {
            (Some(place.order.compared_by(sort.collator.as_ref())), false)
        }
        _ => (None, false),
    };
    let exact = exact.as_ref();
    let order = wanted.or_else(|| exact?.fields.first());
    let goal = Goal { query, order, exact, implied, from };
    let routed = route::route(txn, home, &goal, read).await?;
    let descending = match order {
        Some(_) => false,
        None => query.order.as_ref().is_some_and(|sort| sort.direction == Direction::Descending),
    };
    let mut reading = Reading::new(txn, home, read, descending, budget);
    let parts = parts(&query.plan.residual);
    let Some((known, routed)) = routed else {
        let documents = Documents::new(reading, &query.plan.access, after(from));
        return from_documents(documents, &goal, &parts, budget).await;
    };
    let residual: Vec<&Ast> =
        routed.residual.iter().filter_map(|at| parts.get(*at).copied()).collect();
    match &routed.route {
        Route::Nothing => Ok(Batch::nothing()),
        Route::Ordered(leaf, order) => {
            let implied = implied || routed.choice.is_implied();
            let cover = Cover::of(&known, &routed);
            let way = ordered::Way { leaf, order, implied, cover };
            ordered::ordered(reading, &known, &way, &goal, &residual).await
        }
        Route::Ids(groups) => {
            let cover = Cover::of(&known, &routed);
            let opening = ids::Opening {
                access: &query.plan.access,
                after: after(from),
                rows: query.limit,
                covered: cover.is_some(),
            };
            match IdSet::open(&mut reading, &known, groups, opening).await? {
                Ok((set, complete)) => {
                    let documents = Documents::of_set(reading, &query.plan.access, set, cover);
                    let asked = if complete { &residual } else { &parts };
                    from_documents(documents, &goal, asked, budget).await
                }
                // Too many ids to sort: then all documents, in the same order.
                Err(_too_many) => {
                    let documents = Documents::new(reading, &query.plan.access, after(from));
                    from_documents(documents, &goal, &parts, budget).await
                }
            }
        }
        Route::Whole => {
            let documents = Documents::new(reading, &query.plan.access, after(from));
            from_documents(documents, &goal, &parts, budget).await
        }
    }
}

/// A query and where one of its batches begins.
#[derive(Clone, Copy)]
pub(super) struct Goal<'a> {
    pub(super) query: &'a Query,
    /// The order of a field, wanted or implied.
    pub(super) order: Option<&'a Sort>,
    /// All of it, where batches before have settled that.
    pub(super) exact: Option<&'a Order>,
    /// An index came along with it in an earlier batch; nobody asked for it.
    pub(super) implied: bool,
    pub(super) from: &'a Position,
}

/// The parts of a filter that must all hold.
pub(super) fn parts(filter: &Ast) -> Vec<&Ast> {
    match filter {
        Ast::All => Vec::new(),
        Ast::And(parts) => parts.iter().collect(),
        filter => vec![filter],
    }
}

fn after(from: &Position) -> Option<ObjectId> {
    match from {
        Position::After(id) => Some(*id),
        _ => None,
    }
}

async fn from_documents(
    documents: Documents<'_>,
    goal: &Goal<'_>,
    residual: &[&Ast],
    budget: &Budget,
) -> Result<Batch> {
    match goal.order {
        Some(sort) => sorted::sorted(documents, goal, sort, residual, budget).await,
        None => in_order_of_ids(documents, goal.query, residual, budget).await,
    }
}

async fn in_order_of_ids(
    mut candidates: Documents<'_>,
    query: &Query,
    residual: &[&Ast],
    budget: &Budget,
) -> Result<Batch> {
    let (mut documents, mut batch_bytes, mut last) = (Vec::new(), 0, None);
    candidates.expect(query.limit, residual.is_empty());
    while let Some((id, document)) = candidates.next().await? {
        last = Some(id);
        if candidates.reading.matches(residual, &id, &document).await? {
            batch_bytes += document.bytes().len();
            documents.push(document);
        }
        let full = documents.len() >= query.limit || batch_bytes >= budget.batch_bytes_max;
        if full || candidates.is_spent() {
            break;
        }
    }
    let next = match (last, candidates.stopped_at()) {
        (_, Some(id)) if candidates.page_is_empty() => Position::After(id),
        (Some(id), _) if !candidates.is_exhausted() => Position::After(id),
        _ => Position::End,
    };
    let Reading { examined, entries, .. } = candidates.reading;
    Ok(Batch { documents, next, order: None, examined, entries })
}

#[cfg(test)]
mod tests;
