//! Finding the way for one batch: what is true of the indexes in this
//! transaction, and the choice by it.

use std::sync::Arc;

use super::{Goal, Position, parts};
use crate::document::{Home, join_all};
use crate::error::Result;
use crate::index;
use crate::query::plan::cache::{Memory, Remembered, shape};
use crate::query::plan::{
    Access, Figures, Known, Notes, Question, Routed, choose, follow, marks_wanted,
};
use crate::store::{Read, Transaction};

/// The way to the documents of a batch; `None` where no index can be of use.
pub(super) async fn route<'a>(
    txn: &Transaction,
    home: &'a Home,
    goal: &Goal<'_>,
    read: Read,
) -> Result<Option<(Known<'a>, Routed)>> {
    find(txn, home, goal, read, false).await
}

/// The same for people, with all that was considered, also where the choice is a remembered one.
pub(in crate::query) async fn explained<'a>(
    txn: &Transaction,
    home: &'a Home,
    goal: &Goal<'_>,
    read: Read,
) -> Result<Option<(Known<'a>, Routed)>> {
    find(txn, home, goal, read, true).await
}

async fn find<'a>(
    txn: &Transaction,
    home: &'a Home,
    goal: &Goal<'_>,
    read: Read,
    explained: bool,
) -> Result<Option<(Known<'a>, Routed)>> {
    let query = goal.query;
    if matches!(query.plan.access, Access::Points(_)) {
        return Ok(None);
    }
    let indexes: Vec<_> = home.indexes().ready().collect();
    let parts = parts(&query.plan.residual);
    if indexes.is_empty() || parts.is_empty() && goal.order.is_none() {
        return Ok(None);
    }
    let memory = home.indexes().memory::<Memory>();
    let figures = figures(txn, home, &memory).await?;
    let mut known = Known::new(indexes, figures);
    let question = Question {
        parts: &parts,
        access: &query.plan.access,
        order: goal.order,
        exact: goal.exact,
        fields: query.fields.as_deref(),
        limit: query.limit,
        purpose: query.purpose,
        any_order: query.order.is_none() && matches!(goal.from, Position::Start),
        notes: &Notes::default(),
    };
    look(txn, home, &question, &mut known, read, explained).await?;
    let shape = shape(&question);
    let unpriced = Notes::unpriced();
    let notes = if explained { question.notes } else { &unpriced };
    if let Some(remembered) = memory.find(shape)
        && let Some(routed) = follow(&Question { notes, ..question }, &known, &remembered.choice)
        && remembered.fits(routed.rows)
    {
        let rejected =
            if explained { choose(&question, &known).instead(&routed, &known) } else { Vec::new() };
        return Ok(Some((known, Routed { cached: true, rejected, ..routed })));
    }
    let routed = choose(&question, &known);
    memory.remember(shape, Remembered { choice: routed.choice.clone(), rows: routed.rows });
    Ok(Some((known, routed)))
}

/// How many documents there are and how they are spread; read every few seconds.
async fn figures(txn: &Transaction, home: &Home, memory: &Memory) -> Result<Arc<Figures>> {
    let refresh = match memory.figures() {
        Ok(figures) => return Ok(figures),
        Err(refresh) => refresh,
    };
    let figures = Arc::new(Figures::read(txn, home).await?);
    refresh.keep(Arc::clone(&figures));
    Ok(figures)
}

/// Reads what the indexes that matter have seen of arrays.
async fn look(
    txn: &Transaction,
    home: &Home,
    question: &Question<'_>,
    known: &mut Known<'_>,
    read: Read,
    explained: bool,
) -> Result<()> {
    let wanted = marks_wanted(question, known, explained);
    let indexes = known.indexes.clone();
    let reads = wanted.iter().filter_map(|at| {
        let index = *indexes.get(*at)?;
        Some(async move { index::marks(txn, home.bucket(), index, read).await })
    });
    for (at, marks) in wanted.iter().zip(join_all(reads).await?) {
        known.note(*at, marks);
    }
    Ok(())
}
