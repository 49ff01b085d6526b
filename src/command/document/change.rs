//! What UPDATE and DELETE have in common: one batch of documents changed in one
//! transaction, and a cursor that goes on behind it.
//!
//! A transaction has its limits, so a batch ends early when what it writes
//! comes to [`WRITTEN_BYTES_MAX`]; the cursor goes on with the rest. If the
//! entries of indexes make it too large all the same, it is tried again with
//! half as many documents.

use std::sync::Arc;

use bson::oid::ObjectId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::id_reply;
use crate::codec::RemovalId;
use crate::command::unit::Unit;
use crate::command::{Context, Error, Reply, Result};
use crate::document::{Document, Home};
use crate::metadata::LiveBucket;
use crate::query::{
    self, Asked, Ast, Budget, Collate, Direction, Operand, Path, Position, Query, Sort,
};
use crate::resp::Protocol;
use crate::store::{self, Read, Transaction};
use crate::value::{Value, raw};

/// Bytes of documents that one batch writes, but for its first document: well
/// below the limit of a transaction, to which index entries count as well.
const WRITTEN_BYTES_MAX: usize = 4 << 20;
/// Bytes of documents that one batch holds before it changes them.
const READ_BYTES_MAX: usize = 8 << 20;

/// Which documents a command changes, under the collation that counts in its bucket. `$` and an
/// upsert refer to the whole filter.
#[derive(Debug)]
pub(super) struct Search(pub(super) Arc<Asked>);

/// One batch of a search: documents with their ids, and where the next begins.
pub(super) struct Found<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Position,
}

impl Search {
    pub(super) fn new(query: Query, filter: Ast, collate: Collate) -> Self {
        let query = query.to_change();
        let (result_sort, projection) = (None, None);
        let asked = Asked { query, result_sort, projection, filter, collate: collate.clone() };
        Self(Arc::new(match collate {
            Collate::By(collator) => asked.collated(&collator),
            Collate::Bucket | Collate::Bytes => asked,
        }))
    }

    /// The same in this bucket, whose collation counts where none was asked for.
    pub(super) fn within(&self, live: &LiveBucket) -> Self {
        Self(self.0.in_bucket(live.collator()))
    }

    pub(super) fn filter(&self) -> &Ast {
        &self.0.filter
    }

    pub(super) fn limit(&self) -> usize {
        self.0.query.limit
    }

    /// Finds one batch and lets `prepare` make of each document what is to be
    /// written and how many bytes that comes to. Nothing is written yet, so a
    /// batch that would write too much is searched again with fewer documents.
    pub(super) async fn batch<T: Send>(
        &self,
        (txn, home): (&Transaction, &Home),
        from: &Position,
        limit: usize,
        read: Read,
        budget: &Budget,
        prepare: impl Fn(ObjectId, Document) -> Result<(T, usize)> + Send + Sync,
    ) -> Result<Found<T>> {
        let mut limit = limit;
        loop {
            let query = &Query { limit, ..self.0.query.clone() };
            let batch = query::run(txn, home, query, from, read, budget).await?;
            let count = batch.documents.len();
            let (mut items, mut written) = (Vec::with_capacity(count), 0_usize);
            for document in batch.documents {
                let (item, bytes) = prepare(id_of(&document)?, document)?;
                written = written.saturating_add(bytes);
                if written > WRITTEN_BYTES_MAX && !items.is_empty() {
                    break;
                }
                items.push(item);
            }
            if items.len() == count {
                return Ok(Found { items, next: batch.next });
            }
            limit = items.len();
        }
    }
}

fn id_of(document: &Document) -> Result<ObjectId> {
    match document.raw().get(b"_id").map(|field| field.value()) {
        Some(Value::ObjectId(id)) => Ok(id),
        _ => Err(Error::Internal("a stored document has no ObjectId as _id".to_owned())),
    }
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

/// A [`Position`] as the stored reply of a command with an `OPID` keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum StoredPosition {
    Start,
    After(ObjectId),
    AfterKey { tag: u8, value: Vec<u8>, id: ObjectId, implied: Option<(String, bool)> },
    End,
}

impl From<Position> for StoredPosition {
    fn from(position: Position) -> Self {
        match position {
            Position::Start => Self::Start,
            Position::After(id) => Self::After(id),
            Position::AfterKey { key, id, implied } => {
                let (tag, value) = raw::encode(&key.value());
                let implied = implied.map(|sort| {
                    (sort.path.text().to_owned(), sort.direction == Direction::Descending)
                });
                Self::AfterKey { tag, value, id, implied }
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
            StoredPosition::AfterKey { tag, value, id, implied } => {
                let key = raw::decode(tag, &value).unwrap_or(Value::Null);
                let implied = implied.map(|(path, descending)| Sort {
                    path: Path::new(&path),
                    collator: None,
                    direction: if descending {
                        Direction::Descending
                    } else {
                        Direction::Ascending
                    },
                });
                Self::AfterKey { key: Operand::copy(&key), id, implied }
            }
            StoredPosition::End => Self::End,
        }
    }
}

/// What every cursor of a change has: where it works, its filter's text, and
/// what it goes on with, which is gone once it is exhausted.
#[derive(Debug)]
pub(super) struct ChangeCursor<R> {
    pub(super) namespace: String,
    pub(super) bucket: String,
    text: String,
    removal: Option<Removal>,
    rest: Option<Arc<R>>,
}

/// What the replies of a DELETE say besides the ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    pub(super) id: RemovalId,
    /// Whether replies in RESP2 have it, too.
    pub(super) info: bool,
}

impl<R> ChangeCursor<R> {
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
}

/// Opens the cursor of a command behind its first batch.
pub(super) fn open<R: Send + Sync + 'static>(
    ctx: &mut Context<'_>,
    cursor: ChangeCursor<R>,
) -> Result<u64> {
    if cursor.is_exhausted() {
        return Ok(ctx.session.cursors.open_exhausted(cursor));
    }
    ctx.session.cursors.open(cursor).map_err(|error| Error::Syntax(error.to_string()))
}

/// Lets a cursor go on with this after its batch.
pub(super) fn go_on<R: Send + Sync + 'static>(ctx: &mut Context<'_>, id: u64, rest: Option<R>) {
    let Some(cursor) = ctx.session.cursors.get_mut::<ChangeCursor<R>>(id) else { return };
    cursor.rest = rest.map(Arc::new);
    if cursor.is_exhausted() {
        ctx.session.cursors.exhaust(id);
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
