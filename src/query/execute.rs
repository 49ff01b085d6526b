//! Running a plan: one batch of documents, and where to go on.
//!
//! A batch is read in one short transaction. It ends when it has as many
//! documents as were asked for or when its [`Budget`] is used up; then the next
//! batch goes on behind the last document that was examined. What is kept
//! between two batches is a [`Position`], never a snapshot.

use std::collections::BinaryHeap;
use std::ops::Bound;
use std::time::Duration;

use bson::oid::ObjectId;
use tokio::time::Instant;

use super::{
    ast::{Ast, Operand},
    evaluate::matches,
    plan::{Access, Plan},
    sort::{Direction, Sort},
};
use crate::document::{self, Document, Home, Scan, Stored};
use crate::error::{Error, Result};
use crate::store::{Read, Transaction};

/// A query as it was asked, to be run batch by batch.
#[derive(Clone, Debug)]
pub struct Query {
    pub plan: Plan,
    /// The order of all results, over all batches.
    pub order: Option<Sort>,
    /// Documents per batch.
    pub limit: usize,
    /// What becomes of the documents.
    pub purpose: Purpose,
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
        Self { plan: Plan::new(filter), order, limit, purpose: Purpose::Read }
    }

    /// The same query, for documents to be changed batch by batch.
    #[must_use]
    pub fn to_change(self) -> Self {
        Self { purpose: Purpose::Change, ..self }
    }
}

/// Where the next batch begins.
#[derive(Clone, Debug)]
pub enum Position {
    Start,
    /// Behind this document, in the order of ids or against it.
    After(ObjectId),
    /// Behind this document in the order of a field.
    AfterKey {
        key: Operand,
        id: ObjectId,
    },
    /// There is no more.
    End,
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
    /// Documents looked at.
    pub examined: usize,
}

/// Rows of one page of a scan; the first page is no longer than the batch that is asked for.
const PAGE_ROWS: usize = 1000;
const PAGE_ROWS_MIN: usize = 32;
const PAGE_BYTES: usize = 4 << 20;
/// Ids read in one go when a filter names them.
const POINTS_AT_ONCE: usize = 256;

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
    let by_id = query.order.as_ref().is_none_or(|sort| sort.path.is_id());
    if matches!(from, Position::End) || matches!(query.plan.access, Access::Nothing) {
        return Ok(Batch { documents: Vec::new(), next: Position::End, examined: 0 });
    }
    let descending =
        by_id && query.order.as_ref().is_some_and(|sort| sort.direction == Direction::Descending);
    let after = match from {
        Position::After(id) => Some(*id),
        _ => None,
    };
    let source = Source { txn, home, read, descending };
    let mut candidates = Candidates::new(source, &query.plan.access, after);
    match &query.order {
        Some(sort) if !by_id => sorted(&mut candidates, query, sort, from, budget).await,
        _ => in_order_of_ids(&mut candidates, query, budget).await,
    }
}

async fn in_order_of_ids(
    candidates: &mut Candidates<'_>,
    query: &Query,
    budget: &Budget,
) -> Result<Batch> {
    let started = Instant::now();
    let (mut documents, mut batch_bytes, mut last) = (Vec::new(), 0, None);
    candidates.expect(query);
    while let Some((id, document)) = candidates.next().await? {
        last = Some(id);
        if matches(&query.plan.residual, document.raw()) {
            batch_bytes += document.bytes().len();
            documents.push(document);
        }
        let full = documents.len() >= query.limit || batch_bytes >= budget.batch_bytes_max;
        let spent = candidates.examined >= budget.examined_max
            || candidates.examined_bytes >= budget.examined_bytes_max
            || candidates.page_is_empty() && started.elapsed() >= budget.time_max;
        if full || spent {
            break;
        }
    }
    let next = match last {
        Some(id) if !candidates.is_exhausted() => Position::After(id),
        _ => Position::End,
    };
    Ok(Batch { documents, next, examined: candidates.examined })
}

/// The first documents behind the position in the order of a field: looks at
/// all candidates and holds no more than one batch.
async fn sorted(
    candidates: &mut Candidates<'_>,
    query: &Query,
    sort: &Sort,
    from: &Position,
    budget: &Budget,
) -> Result<Batch> {
    let started = Instant::now();
    let field = sort.path.text();
    let mut best: BinaryHeap<Ranked<'_>> = BinaryHeap::new();
    let mut held_bytes = 0;
    let mut more = false;
    while let Some((id, document)) = candidates.next().await? {
        if candidates.page_is_empty() && started.elapsed() >= budget.sort_time_max {
            return Err(Error::Syntax(format!(
                "SORTBY '{field}' took longer than {} ms without an index. Hint: narrow the filter",
                budget.sort_time_max.as_millis()
            )));
        }
        if !matches(&query.plan.residual, document.raw()) {
            continue;
        }
        let key = sort.key(document.raw());
        if let Position::AfterKey { key: last, id: last_id } = from
            && sort.compare(&key, &last.value()).then(id.cmp(last_id)).is_le()
        {
            continue;
        }
        if best.len() >= query.limit {
            more = true;
            let better = best.peek().is_some_and(|worst| {
                sort.compare(&key, &worst.key.value()).then(id.cmp(&worst.id)).is_lt()
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
                "SORTBY '{field}' needs more than {} bytes of memory without an index. Hint: use a smaller LIMIT",
                budget.sort_bytes_max
            )));
        }
        best.push(ranked);
    }
    let best = best.into_sorted_vec();
    let next = match best.last() {
        Some(last) if more => Position::AfterKey { key: last.key.clone(), id: last.id },
        _ => Position::End,
    };
    let documents = best.into_iter().map(|ranked| ranked.document).collect();
    Ok(Batch { documents, next, examined: candidates.examined })
}

/// A document with its place in the order of a field.
struct Ranked<'a> {
    sort: &'a Sort,
    key: Operand,
    id: ObjectId,
    document: Document,
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.sort.compare(&self.key.value(), &other.key.value()).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked<'_> {}

#[derive(Clone, Copy)]
struct Source<'a> {
    txn: &'a Transaction,
    home: &'a Home,
    read: Read,
    descending: bool,
}

/// The documents that a plan looks at, page by page, each read when its turn comes.
struct Candidates<'a> {
    source: Source<'a>,
    rest: Rest,
    page: std::vec::IntoIter<(ObjectId, Stored)>,
    page_rows: usize,
    examined: usize,
    examined_bytes: usize,
}

/// What has not been read yet.
enum Rest {
    Points(std::vec::IntoIter<ObjectId>),
    Range { begin: Bound<ObjectId>, end: Bound<ObjectId> },
    Nothing,
}

impl<'a> Candidates<'a> {
    fn new(source: Source<'a>, access: &Access, after: Option<ObjectId>) -> Self {
        let passed = |id: &ObjectId| {
            after.is_some_and(|after| if source.descending { *id >= after } else { *id <= after })
        };
        let rest = match access {
            Access::Nothing => Rest::Nothing,
            Access::Points(ids) => {
                let mut ids: Vec<_> = ids.iter().copied().filter(|id| !passed(id)).collect();
                if source.descending {
                    ids.reverse();
                }
                Rest::Points(ids.into_iter())
            }
            Access::Range { begin, end } => match after {
                None => Rest::Range { begin: *begin, end: *end },
                Some(id) if source.descending => {
                    Rest::Range { begin: *begin, end: Bound::Excluded(id) }
                }
                Some(id) => Rest::Range { begin: Bound::Excluded(id), end: *end },
            },
        };
        let page = Vec::new().into_iter();
        Self { source, rest, page, page_rows: PAGE_ROWS, examined: 0, examined_bytes: 0 }
    }

    /// Where nothing is filtered out, no more is read than is asked for; else the pages grow from there.
    fn expect(&mut self, query: &Query) {
        let least = if matches!(query.plan.residual, Ast::All) { 1 } else { PAGE_ROWS_MIN };
        self.page_rows = query.limit.clamp(least, PAGE_ROWS);
    }

    /// Whether the next document needs another read.
    fn page_is_empty(&self) -> bool {
        self.page.as_slice().is_empty()
    }

    /// Whether there is certainly no further document.
    fn is_exhausted(&self) -> bool {
        self.page_is_empty()
            && match &self.rest {
                Rest::Nothing => true,
                Rest::Points(ids) => ids.as_slice().is_empty(),
                Rest::Range { .. } => false,
            }
    }

    async fn next(&mut self) -> Result<Option<(ObjectId, Document)>> {
        let Source { txn, home, read, .. } = self.source;
        loop {
            if let Some((id, stored)) = self.page.next() {
                let document = stored.load(txn, home, read).await?;
                self.examined += 1;
                self.examined_bytes += document.bytes().len();
                return Ok(Some((id, document)));
            }
            if self.is_exhausted() {
                return Ok(None);
            }
            self.turn_page().await?;
        }
    }

    async fn turn_page(&mut self) -> Result<()> {
        if self.examined > 0 {
            // A long scan lets others run, and ends here when its client has gone.
            tokio::task::yield_now().await;
        }
        let Source { txn, home, read, descending } = self.source;
        match &mut self.rest {
            Rest::Nothing => {}
            Rest::Points(ids) => {
                let now: Vec<_> = ids.by_ref().take(POINTS_AT_ONCE).collect();
                self.page = document::get_many(txn, home, &now, read).await?.into_iter();
            }
            Rest::Range { begin, end } => {
                let scan = Scan {
                    begin: *begin,
                    end: *end,
                    reverse: descending,
                    rows_max: self.page_rows,
                    bytes_max: PAGE_BYTES,
                    read,
                };
                let page = document::scan(txn, home, &scan).await?;
                match page.rows.last() {
                    Some((last, _)) if page.more && descending => *end = Bound::Excluded(*last),
                    Some((last, _)) if page.more => *begin = Bound::Excluded(*last),
                    _ => self.rest = Rest::Nothing,
                }
                self.page_rows = self.page_rows.saturating_mul(4).clamp(PAGE_ROWS_MIN, PAGE_ROWS);
                self.page = page.rows.into_iter();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
