//! Counting: at one snapshot, and without documents where entries say enough.

use super::covered::Cover;
use super::documents::Documents;
use super::ids::{IdSet, Next, Opening};
use super::reading::{RANGES_AT_ONCE, Reading, pages, stretches};
use super::{Budget, Goal, Position, Query, parts, route};
use crate::codec::{keys, record};
use crate::document::Home;
use crate::error::{Error, Result};
use crate::query::ast::Ast;
use crate::query::plan::{Access, Known, Leaf, Route};
use crate::store::{RangeRead, Read, Transaction};

const PAGE_ROWS: usize = 10_000;
const PAGE_BYTES: usize = 1 << 20;

/// A count, and what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub documents: u64,
    /// Documents looked at.
    pub examined: usize,
    /// Entries of indexes read.
    pub entries: usize,
}

/// Counts the documents that a query would find, however many.
///
/// # Errors
/// `ERR` when it takes longer than the time for what has to look at everything;
/// those of the store.
pub async fn count(
    txn: &Transaction,
    home: &Home,
    query: &Query,
    read: Read,
    budget: &Budget,
) -> Result<Count> {
    let mut reading = Reading::new(txn, home, read, false, budget);
    reading.whole = true;
    let all = parts(&query.plan.residual);
    if matches!(query.plan.access, Access::Nothing) {
        return Ok(Count::default());
    }
    let every_id = matches!(&query.plan.access, Access::Range { begin, end }
        if matches!((begin, end), (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded)));
    // Of the documents nothing is needed but that they match.
    let query = &query.clone().with_fields(Some(Vec::new()));
    let goal = Goal { query, order: None, exact: None, implied: false, from: &Position::Start };
    if all.is_empty() && every_id {
        return counted(txn, home, read).await;
    }
    let Some((known, routed)) = route::route(txn, home, &goal, read).await? else {
        return of_documents(Documents::new(reading, &query.plan.access, None), &all).await;
    };
    let residual: Vec<&Ast> =
        routed.residual.iter().filter_map(|at| all.get(*at).copied()).collect();
    let cover = Cover::of(&known, &routed);
    let groups = match routed.route {
        Route::Nothing => return Ok(Count::default()),
        Route::Whole => {
            return of_documents(Documents::new(reading, &query.plan.access, None), &all).await;
        }
        Route::Ordered(leaf, _) => vec![vec![leaf]],
        Route::Ids(groups) => groups,
    };
    if let [group] = groups.as_slice()
        && let [leaf] = group.as_slice()
        && residual.is_empty()
        && every_id
        && !leaf.several
    {
        return of_entries(reading, &known, leaf).await;
    }
    let access = &query.plan.access;
    let opening = Opening { access, after: None, rows: PAGE_ROWS, covered: cover.is_some() };
    match IdSet::open(&mut reading, &known, &groups, opening).await? {
        Ok((set, complete)) if complete && residual.is_empty() => {
            of_ids(reading, &query.plan.access, set).await
        }
        Ok((set, complete)) => {
            let asked = if complete { &residual } else { &all };
            of_documents(Documents::of_set(reading, &query.plan.access, set, cover), asked).await
        }
        Err(_too_many) => {
            of_documents(Documents::new(reading, &query.plan.access, None), &all).await
        }
    }
}

/// All documents, as every write counts them.
async fn counted(txn: &Transaction, home: &Home, read: Read) -> Result<Count> {
    let range = RangeRead::prefix(keys::data_part(home.bucket(), keys::data::COUNT));
    let mut sum = 0_i64;
    for (key, value) in txn.range(RangeRead { read, ..range }).await?.rows {
        let (_, _, what) = keys::parse_count(&key)?;
        if what == keys::counted::DOCUMENTS {
            sum = sum.saturating_add(record::decode_sum("count", Some(&value))?);
        }
    }
    Ok(Count { documents: u64::try_from(sum).unwrap_or_default(), ..Count::default() })
}

/// Every document has one entry in the leaf, and all of them match.
async fn of_entries(mut reading: Reading<'_>, known: &Known<'_>, leaf: &Leaf) -> Result<Count> {
    let mut count = Count::default();
    let all = stretches(reading.home, known, leaf);
    let mut ranges: Vec<_> = all.into_iter().flat_map(|(_, ranges)| ranges).collect();
    while !ranges.is_empty() {
        let now = ranges.split_off(ranges.len().saturating_sub(RANGES_AT_ONCE));
        let scan = reading.scan(PAGE_ROWS, PAGE_BYTES);
        for page in pages(reading.txn, now.iter().map(|range| (range, scan)).collect()).await? {
            reading.streamed(page.entries.len()).await;
            count.documents += number(page.entries.len());
            ranges.extend(page.rest);
        }
        in_time(&reading)?;
    }
    Ok(Count { entries: reading.entries, ..count })
}

/// All documents of the set match.
async fn of_ids(mut reading: Reading<'_>, access: &Access, mut set: IdSet) -> Result<Count> {
    let mut count = Count::default();
    let mut entries = reading.entries;
    loop {
        let next = set.next(&mut reading).await?;
        if reading.entries > entries {
            entries = reading.entries;
            in_time(&reading)?;
        }
        match next {
            Next::Id(id, _) => count.documents += u64::from(access.admits(&id)),
            Next::Spent(_) => return Err(took_too_long(reading.budget)),
            Next::End => return Ok(Count { entries: reading.entries, ..count }),
        }
    }
}

async fn of_documents(mut documents: Documents<'_>, residual: &[&Ast]) -> Result<Count> {
    documents.reading.whole = true;
    let mut count = Count::default();
    while let Some((id, document)) = documents.next().await? {
        count.documents += u64::from(documents.reading.matches(residual, &id, &document).await?);
        if documents.page_is_empty() || documents.reading.is_overdue() {
            in_time(&documents.reading)?;
        }
    }
    if documents.stopped_at().is_some() {
        return Err(took_too_long(documents.reading.budget));
    }
    let Reading { examined, entries, .. } = documents.reading;
    Ok(Count { examined, entries, ..count })
}

fn in_time(reading: &Reading<'_>) -> Result<()> {
    if reading.is_late() { Err(took_too_long(reading.budget)) } else { Ok(()) }
}

fn took_too_long(budget: &Budget) -> Error {
    Error::Syntax(format!(
        "counting took longer than {} ms. Hint: narrow the filter, or create an index on a field of it",
        budget.sort_time_max.as_millis()
    ))
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
