//! What UPDATE and DELETE have in common: one batch of documents changed in one
//! transaction, and a cursor that goes on behind it.
//!
//! A transaction has its limits, so a batch ends early when what it writes
//! comes to [`WRITTEN_BYTES_MAX`], or when its time is over; the cursor goes on
//! with the rest. If the entries of indexes make it too large all the same, or if it takes
//! longer than a transaction lives, it is tried again with half as many documents.
//!
//! A batch claims that it found what matches and no others. One that looks at
//! all documents claims this of the end of the ids as well, where others insert,
//! perhaps faster than it commits. After many attempts it therefore ends with the
//! last document of its snapshot, as if its budget were used up there, and says
//! nothing of what comes in behind.

use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::oid::ObjectId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::id_reply;
use crate::codec::RemovalId;
use crate::command::unit::Unit;
use crate::command::{Context, Error, Reply, Result};
use crate::document::{self, Document, Home, Scan};
use crate::metadata::LiveBucket;
use crate::query::{
    self, Asked, Ast, Budget, Collate, Comparison, Direction, Operand, Order, Path, Place,
    Position, Query, Sort, Test,
};
use crate::resp::Protocol;
use crate::store::{self, Read, Transaction};
use crate::update::weight;
use crate::value::{Collator, Value, raw};

/// Bytes of documents that one batch writes, but for its first document: well
/// below the limit of a transaction, to which index entries count as well.
pub(super) const WRITTEN_BYTES_MAX: usize = 4 << 20;
/// Bytes of documents that one batch holds before it changes them.
const READ_BYTES_MAX: usize = 8 << 20;
/// After so many bytes of documents that are got ready others are let run.
const PREPARED_AT_ONCE: usize = 1 << 20;
/// When a batch stops writing, since it began to search: a transaction lives five seconds.
pub(super) const WRITE_TIME_MAX: Duration = Duration::from_secs(4);
/// An attempt that took so long before the next was too large for a transaction.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(4);
/// So many attempts, about a second of them, reach to the end of the ids.
pub(super) const WHOLE_ATTEMPTS: u32 = 16;

/// Which documents a command changes, under the collation that counts in its bucket. `$` and an
/// upsert refer to the whole filter.
#[derive(Debug)]
pub(super) struct Search {
    asked: Arc<Asked>,
    /// What is inserted behind the last document is left to the next batch.
    open: bool,
}

/// One batch of a search: documents with their ids, and where the next begins.
pub(super) struct Found<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Position,
    /// The order in which they came, where it begins with a field.
    pub(super) order: Option<Order>,
}

impl Search {
    pub(super) fn new(query: Query, filter: Ast, collate: Collate) -> Self {
        let asked = Arc::new(Asked::new(query.to_change(), filter, collate));
        Self { asked, open: false }
    }

    /// The same in this bucket, whose collation counts where none was asked for.
    pub(super) fn within(&self, live: &LiveBucket) -> Self {
        Self { asked: self.asked.in_bucket(live.collator()), open: self.open }
    }

    /// The same for an attempt, the first of which is 0.
    pub(super) fn attempt(self, attempt: u32) -> Self {
        let by_id = self
            .asked
            .query
            .order
            .as_ref()
            .is_none_or(|sort| sort.path.is_id() && sort.direction == Direction::Ascending);
        Self { open: attempt >= WHOLE_ATTEMPTS && by_id, ..self }
    }

    /// Where a batch ends that leaves the end open: with the last document there is.
    async fn end(&self, txn: &Transaction, home: &Home) -> Result<Option<ObjectId>> {
        if !self.open {
            return Ok(None);
        }
        let last = Scan {
            begin: Bound::Unbounded,
            end: Bound::Unbounded,
            reverse: true,
            rows_max: 1,
            bytes_max: 1,
            read: Read::Snapshot,
        };
        let page = document::scan(txn, home, &last).await?;
        let last = page.rows.first().map(|(id, _)| *id);
        Ok(Some(last.unwrap_or_else(|| ObjectId::from_bytes([0; 12]))))
    }

    /// Its query, up to this id.
    fn query(&self, limit: usize, end: Option<ObjectId>) -> Query {
        let query = &self.asked.query;
        let Some(end) = end else { return Query { limit, ..query.clone() } };
        let test = Test::Compare(Comparison::LessOrEqual, Operand::object_id(end));
        let before = Ast::Field { path: Path::new("_id"), test };
        let filter = Ast::And(vec![self.asked.filter.clone(), before]);
        Query::new(filter, query.order.clone(), limit).to_change()
    }

    pub(super) fn filter(&self) -> &Ast {
        &self.asked.filter
    }

    /// By what strings are compared, once [`Search::within`] a bucket.
    pub(super) fn collator(&self) -> Option<&Collator> {
        self.asked.collate.effective(None)
    }

    pub(super) fn limit(&self) -> usize {
        self.asked.query.limit
    }

    /// About how many bytes it holds.
    pub(super) fn weight(&self) -> usize {
        weight::asked(&self.asked, 0)
    }

    /// Finds one batch and lets `prepare` make of each document what is to be
    /// written and how many bytes that comes to. Nothing is written yet, so a
    /// batch that would write too much, or takes too long, ends with fewer documents.
    pub(super) async fn batch<T: Send>(
        &self,
        (txn, home): (&Transaction, &Home),
        from: &Position,
        limit: usize,
        read: Read,
        budget: &Budget,
        prepare: impl Fn(ObjectId, Document) -> Result<(T, usize)> + Send + Sync,
    ) -> Result<Found<T>> {
        let started = Instant::now();
        let end = self.end(txn, home).await?;
        let query = &self.query(limit, end);
        let batch = query::run(txn, home, query, from, read, budget).await?;
        let order = batch.order;
        let mut items = Vec::with_capacity(batch.documents.len());
        let (mut written, mut prepared) = (0_usize, 0);
        let mut last = None;
        for document in batch.documents {
            let id = id_of(&document)?;
            let here = behind(order.as_ref(), id, &document);
            prepared += document.bytes().len();
            let (item, bytes) = prepare(id, document)?;
            written = written.saturating_add(bytes.max(1));
            if let Some(last) = last
                && (written > WRITTEN_BYTES_MAX || started.elapsed() >= WRITE_TIME_MAX)
            {
                return Ok(Found { items, next: last, order });
            }
            items.push(item);
            last = Some(here);
            if prepared >= PREPARED_AT_ONCE {
                prepared = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(Found { items, next: go_on_behind(from, batch.next, end), order })
    }
}

/// Where a batch goes on whose documents came in this order, when it ended with this one.
pub(super) fn behind(order: Option<&Order>, id: ObjectId, document: &Document) -> Position {
    let Some(order) = order else { return Position::After(id) };
    let keys = order.keys(document.raw());
    Position::behind(Place { order: order.clone(), keys, id, implied: false })
}

/// Where the next batch begins: behind an end that was left open there may be more.
fn go_on_behind(from: &Position, next: Position, end: Option<ObjectId>) -> Position {
    match (next, end, from) {
        (Position::End, Some(end), Position::After(last)) if *last > end => from.clone(),
        (Position::End, Some(end), _) => Position::After(end),
        (next, _, _) => next,
    }
}

fn id_of(document: &Document) -> Result<ObjectId> {
    document
        .object_id()
        .ok_or_else(|| Error::Internal("a stored document has no ObjectId as _id".to_owned()))
}

/// How a batch looks for its documents: that it found these and no others must still hold when
/// it commits, inside BEGIN and outside, whatever SNAPSHOTREAD says.
pub(super) fn reads(unit: &Unit<'_>) -> Read {
    if unit.catalog().cluster().mutations().changes_search_by_snapshot {
        return Read::Snapshot;
    }
    Read::Conflict
}

/// What one batch may cost: that of a query, but that fewer bytes are held.
pub(super) fn budget(unit: &Unit<'_>) -> Budget {
    Budget { batch_bytes_max: READ_BYTES_MAX, ..super::query::budget(unit) }
}

/// Runs a batch, and again with half as many documents as long as its
/// transaction is too large. Inside BEGIN what was written stays written, so
/// there it is tried once.
pub(super) async fn shrinking<T, F>(
    unit: &Unit<'_>,
    limit: usize,
    run: impl Fn(usize) -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut limit = limit;
    loop {
        match run(limit).await {
            Err(Error::Store(store::Error::TransactionTooLarge { .. }))
                if limit > 1 && !unit.is_open() =>
            {
                limit /= 2;
            }
            result => return result,
        }
    }
}

/// The attempts of a batch.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Begun>);

#[derive(Debug, Default)]
struct Begun {
    count: u32,
    last: Option<Instant>,
    /// How often it was halved.
    halved: u32,
}

impl Attempts {
    /// Begins another: gives which it is, from 0, and how many documents it may
    /// have. When the last one took as long as a transaction lives it is half as many.
    pub(super) fn begin(&self, limit: usize) -> (u32, usize) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if begun.last.is_some_and(|last| now.duration_since(last) >= ATTEMPT_TIME_MAX) {
            begun.halved += 1;
        }
        begun.last = Some(now);
        let attempt = begun.count;
        begun.count += 1;
        (attempt, limit.checked_shr(begun.halved).unwrap_or_default().max(1))
    }
}

/// A [`Position`] as the stored reply of a command with an `OPID` keeps it. Changes have no
/// order but one that was asked for, whose collation the command says again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum StoredPosition {
    Start,
    After(ObjectId),
    Behind { fields: Vec<StoredKey>, id: ObjectId, ids_descend: bool },
    End,
}

/// One field of an order, and what a document is sorted by there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredKey {
    path: String,
    descends: bool,
    tag: u8,
    value: Vec<u8>,
}

fn direction(descends: bool) -> Direction {
    if descends { Direction::Descending } else { Direction::Ascending }
}

impl From<Position> for StoredPosition {
    fn from(position: Position) -> Self {
        match position {
            Position::Start => Self::Start,
            Position::After(id) => Self::After(id),
            Position::Behind(place) => {
                let key = |(sort, key): (&Sort, &Operand)| {
                    let (tag, value) = raw::encode(&key.value());
                    let descends = sort.direction == Direction::Descending;
                    StoredKey { path: sort.path.text().to_owned(), descends, tag, value }
                };
                let fields = place.order.fields.iter().zip(&place.keys).map(key).collect();
                let ids_descend = place.order.ids == Direction::Descending;
                Self::Behind { fields, id: place.id, ids_descend }
            }
            Position::End => Self::End,
        }
    }
}

impl From<StoredPosition> for Position {
    fn from(position: StoredPosition) -> Self {
        match position {
            StoredPosition::Start => Self::Start,
            StoredPosition::After(id) => Self::After(id),
            StoredPosition::Behind { fields, id, ids_descend } => {
                let sort = |field: &StoredKey| {
                    Sort::new(Path::new(&field.path), direction(field.descends))
                };
                let key = |field: &StoredKey| {
                    Operand::copy(&raw::decode(field.tag, &field.value).unwrap_or(Value::Null))
                };
                let order = Order {
                    fields: fields.iter().map(sort).collect(),
                    ids: direction(ids_descend),
                };
                let keys = fields.iter().map(key).collect();
                Self::behind(Place { order, keys, id, implied: false })
            }
            StoredPosition::End => Self::End,
        }
    }
}

/// What every cursor of a change has: where it works, its filter's text, and
/// what it goes on with, which is gone once it is exhausted.
#[derive(Debug)]
pub(super) struct ChangeCursor<R: Weigh> {
    pub(super) namespace: String,
    pub(super) bucket: String,
    text: String,
    removal: Option<Removal>,
    rest: Option<Arc<R>>,
}

/// What a cursor goes on with.
pub(super) trait Weigh {
    /// About how many bytes it holds.
    fn weight(&self) -> usize;
}

/// What the replies of a DELETE say besides the ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    pub(super) id: RemovalId,
    /// Whether replies in RESP2 have it, too.
    pub(super) info: bool,
}

impl<R: Weigh> ChangeCursor<R> {
    pub(super) fn new(
        (namespace, bucket): (&str, &str),
        filter: &Bytes,
        removal: Option<Removal>,
        rest: Option<R>,
    ) -> Self {
        Self {
            removal,
            namespace: namespace.to_owned(),
            bucket: bucket.to_owned(),
            text: query::filter_text(filter),
            rest: rest.map(Arc::new),
        }
    }

    /// The filter's text, as BUCKET.CURSORS shows it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn removal(&self) -> Option<Removal> {
        self.removal
    }

    pub(super) fn rest(&self) -> Option<Arc<R>> {
        self.rest.clone()
    }

    fn is_exhausted(&self) -> bool {
        self.rest.is_none()
    }

    fn weight(&self) -> usize {
        let names = self.namespace.len() + self.bucket.len() + self.text.len();
        size_of::<Self>() + names + self.rest.as_ref().map_or(0, |rest| rest.weight())
    }
}

/// Whether there will be room for a cursor that goes on with this, before anything is done.
pub(super) fn expect_room(ctx: &Context<'_>, weight: usize) -> Result<()> {
    ctx.session.cursors.expect_room(weight).map_err(|error| Error::Syntax(error.to_string()))
}

/// Whether cursors that come to hold more may go on.
pub(super) fn expect_bytes(ctx: &Context<'_>) -> Result<()> {
    ctx.session.cursors.expect_bytes().map_err(|error| Error::Syntax(error.to_string()))
}

/// What a cursor went on with, which was its own until now: for a batch that has succeeded.
pub(super) fn release<R: Weigh + Send + Sync + 'static>(
    ctx: &mut Context<'_>,
    id: u64,
    rest: Arc<R>,
) -> Option<R> {
    ctx.session.cursors.get_mut::<ChangeCursor<R>>(id)?.rest = None;
    Arc::into_inner(rest)
}

/// Opens the cursor of a command behind its first batch.
pub(super) fn open<R: Weigh + Send + Sync + 'static>(
    ctx: &mut Context<'_>,
    cursor: ChangeCursor<R>,
) -> Result<u64> {
    if cursor.is_exhausted() {
        return Ok(ctx.session.cursors.open_exhausted(cursor));
    }
    let weight = cursor.weight();
    ctx.session.cursors.open(cursor, weight).map_err(|error| Error::Syntax(error.to_string()))
}

/// Lets a cursor go on with this after its batch.
pub(super) fn go_on<R>(ctx: &mut Context<'_>, id: u64, rest: Option<R>)
where
    R: Weigh + Send + Sync + 'static,
{
    let Some(cursor) = ctx.session.cursors.get_mut::<ChangeCursor<R>>(id) else { return };
    cursor.rest = rest.map(Arc::new);
    let weight = cursor.weight();
    if cursor.is_exhausted() {
        ctx.session.cursors.exhaust(id);
    } else {
        ctx.session.cursors.weigh(id, weight);
    }
}

/// A removed bucket answers so also to a cursor that has nothing more to do.
pub(super) async fn check_bucket(unit: &Unit<'_>, namespace: &str, bucket: &str) -> Result<()> {
    unit.read("query", namespace, bucket, |_, _| async { Ok(()) }).await
}

/// The reply: a map in RESP3, in RESP2 a pair, with the removal of a DELETE as a third where it is wanted.
pub(super) fn reply(
    ctx: &Context<'_>,
    cursor: u64,
    ids: &[ObjectId],
    removal: Option<Removal>,
) -> Reply {
    let cursor = Reply::Integer(i64::try_from(cursor).unwrap_or(i64::MAX));
    let ids = Reply::Array(ids.iter().map(|id| id_reply(ctx, id)).collect());
    match (ctx.session.protocol(), removal) {
        (Protocol::Resp2, Some(Removal { id, info: true })) => {
            Reply::Array(vec![cursor, ids, Reply::Text(id.to_string())])
        }
        (Protocol::Resp2, _) => Reply::Array(vec![cursor, ids]),
        (Protocol::Resp3, None) => Reply::map([("cursor_id", cursor), ("object_ids", ids)]),
        (Protocol::Resp3, Some(Removal { id, .. })) => Reply::map([
            ("cursor_id", cursor),
            ("object_ids", ids),
            ("removal_id", Reply::Text(id.to_string())),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;
    use crate::document::{Limits, NewDocument, ObjectIds, Origin, insert};
    use crate::store::Store;

    /// Documents that are half a mebibyte each, numbered against the order of their ids.
    async fn bucket(count: i32) -> (Store, Home) {
        let (store, home) = (Store::memory(), Home::for_test(3, &[0]));
        let ids = ObjectIds::new([1; 5], Arc::new(TestClock::starting_at(1_700_000_000_000)));
        let text = "x".repeat(512 << 10);
        for n in 0..count {
            let text = format!("{{n: {}, text: '{text}'}}", count - n);
            let document = Document::from_json(text.as_bytes(), Limits::default()).unwrap();
            let new = NewDocument::new(document, Origin::Json, &ids).unwrap();
            let txn = store.begin("insert");
            insert(&txn, &home, &[new], 0).await.unwrap();
            txn.commit().await.unwrap();
        }
        (store, home)
    }

    fn number(document: &Document) -> i32 {
        match document.raw().get(b"n").unwrap().value() {
            Value::Int32(number) => number,
            value => panic!("{value:?}"),
        }
    }

    #[tokio::test]
    async fn a_batch_that_would_write_too_much_is_cut_and_not_searched_again() {
        let (store, home) = bucket(14).await;
        let up: Vec<i32> = (1..=14).collect();
        let down: Vec<i32> = (1..=14).rev().collect();
        for (order, expected) in
            [(None, down), (Some(Sort::new(Path::new("n"), Direction::Ascending)), up)]
        {
            let query = Query::new(Ast::All, order, 100).to_change();
            let before = store.stats().reads;
            let txn = store.begin("query");
            let budget = Budget { batch_bytes_max: READ_BYTES_MAX, ..Budget::default() };
            let from = Position::Start;
            query::run(&txn, &home, &query, &from, Read::Conflict, &budget).await.unwrap();
            let once = store.stats().reads - before;
            let search = Search::new(query, Ast::All, Collate::default());
            let (mut position, mut found, mut turns) = (Position::Start, Vec::new(), 0);
            while !matches!(position, Position::End) {
                let before = store.stats().reads;
                let txn = store.begin("update");
                let prepare =
                    |_, document: Document| Ok((number(&document), document.bytes().len()));
                let here = (&txn, &home);
                let batch = search.batch(here, &position, 100, Read::Conflict, &budget, prepare);
                let batch = batch.await.unwrap();
                assert!(store.stats().reads - before <= once, "turn {turns}");
                found.extend(batch.items);
                position = batch.next;
                turns += 1;
            }
            assert_eq!(found, expected);
            assert_eq!(turns, 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_outlived_its_transaction_is_followed_by_half_of_it() {
        let attempts = Attempts::default();
        assert_eq!(attempts.begin(10), (0, 10));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(attempts.begin(10), (1, 10));
        for (attempt, limit) in [(2, 5), (3, 2), (4, 1), (5, 1)] {
            tokio::time::advance(Duration::from_secs(5)).await;
            assert_eq!(attempts.begin(10), (attempt, limit));
        }
    }
}
