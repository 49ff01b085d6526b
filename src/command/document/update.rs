//! BUCKET.UPDATE and its cursors.

use std::collections::HashSet;
use std::sync::Arc;

use bson::oid::ObjectId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::change::{self, Attempts, ChangeCursor, Found, Search, StoredPosition, Weigh};
use super::document_limits;
use super::query::{filter_limits, kept, limit_option, limit_or_default, sort};
use crate::command::unit::Unit;
use crate::command::{Args, Context, Error, Reply, Result, collation, support};
use crate::document::{self, Document, Home, NewDocument, Origin, Replaced};
use crate::metadata::{LiveBucket, name};
use crate::query::{self, Budget, Collate, Limits, Position, Query, Steps, matches_within};
use crate::store::{Read, Transaction};
use crate::update::{Collated, Update, weight};

/// Documents that are written together, before the time is looked at.
const WRITTEN_AT_ONCE: usize = 256;
/// Changed documents that a cursor with SORTBY remembers, so as to change none twice.
const REMEMBERED_MAX: usize = 100_000;

/// What an UPDATE does, with all its ADVANCEs.
#[derive(Debug)]
struct Job {
    search: Search,
    update: Update,
}

/// What a cursor of UPDATE goes on with.
#[derive(Debug)]
pub(super) struct Rest {
    job: Arc<Job>,
    from: Position,
    /// Changed documents that the order of the search may show again.
    changed: HashSet<[u8; 12]>,
    /// Whether any document matched so far. If none did, an upsert inserts one in the end.
    matched: bool,
    /// What the search began at.
    since: Option<Since>,
}

/// At which version the first batch of a search looked at which bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Since {
    bucket: u64,
    version: u64,
}

impl Weigh for Rest {
    fn weight(&self) -> usize {
        let changed = self.changed.capacity() * (size_of::<[u8; 12]>() + 1);
        self.job.search.weight() + self.job.update.weight() + weight::position(&self.from) + changed
    }
}

pub(super) type UpdateCursor = ChangeCursor<Rest>;

/// What one batch did.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Batch {
    ids: Vec<ObjectId>,
    next: StoredPosition,
    matched: bool,
    /// Whether what was changed may be found again.
    may_return: bool,
    /// What the search began at, where an upsert will have to know.
    #[serde(default)]
    since: Option<Since>,
}

/// `BUCKET.UPDATE <bucket> <filter> <update> [SORTBY ...] [LIMIT <n>] [OPID <id>]`.
pub(super) async fn update(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let filter = args.bytes(1)?;
    let (job, opid) = parse(ctx, &filter, &args)?;
    let rest = Rest {
        job: Arc::new(job),
        from: Position::Start,
        changed: HashSet::new(),
        matched: false,
        since: None,
    };
    let namespace = ctx.session.namespace.clone();
    change::expect_room(ctx, rest.weight())?;
    let opid = opid.map(|opid| support::caller(ctx.session, "BUCKET.UPDATE", &args, Some(opid)));
    let opid = opid.transpose()?;
    let batch = run(&Unit::of(ctx)?, &namespace, bucket, &rest, opid.as_ref()).await?;
    let cursor = ChangeCursor::new((&namespace, bucket), &filter, None, after(rest, &batch));
    let id = change::open(ctx, cursor)?;
    Ok(change::reply(ctx, id, &batch.ids, None))
}

/// `BUCKET.ADVANCE UPDATE <cursor-id>`; `None`: there is no such cursor.
pub(super) async fn advance(ctx: &mut Context<'_>, id: u64) -> Result<Option<Reply>> {
    let Some(cursor) = ctx.session.cursors.get_mut::<UpdateCursor>(id) else { return Ok(None) };
    let (namespace, bucket) = (cursor.namespace.clone(), cursor.bucket.clone());
    let Some(rest) = cursor.rest() else {
        change::check_bucket(&Unit::of(ctx)?, &namespace, &bucket).await?;
        return Ok(Some(change::reply(ctx, id, &[], None)));
    };
    change::expect_bytes(ctx)?;
    // It stays with the cursor until the batch has succeeded.
    let batch = run(&Unit::of(ctx)?, &namespace, &bucket, &rest, None).await?;
    let rest = change::release(ctx, id, rest);
    let rest = rest.ok_or_else(|| Error::Internal("two commands share a cursor".to_owned()))?;
    change::go_on(ctx, id, after(rest, &batch));
    Ok(Some(change::reply(ctx, id, &batch.ids, None)))
}

/// What is left to do after a batch.
fn after(mut rest: Rest, batch: &Batch) -> Option<Rest> {
    rest.from = batch.next.clone().into();
    rest.matched |= batch.matched;
    rest.since = batch.since;
    if batch.may_return {
        rest.changed.extend(batch.ids.iter().map(ObjectId::bytes));
    }
    (!matches!(rest.from, Position::End)).then_some(rest)
}

/// One batch in one transaction.
async fn run(
    unit: &Unit<'_>,
    namespace: &str,
    bucket: &str,
    rest: &Rest,
    once: Option<&crate::metadata::Caller>,
) -> Result<Batch> {
    if rest.changed.len() > REMEMBERED_MAX {
        return Err(Error::syntax(format!(
            "UPDATE with SORTBY changes at most {REMEMBERED_MAX} documents through one cursor; \
             close it and send the command again"
        )));
    }
    let (at, budget, read) = (unit.catalog().now(), &change::budget(unit), change::reads(unit));
    let object_ids = unit.object_ids();
    let (limit, attempts) = (rest.job.search.limit(), &Attempts::default());
    change::shrinking(unit, limit, |limit| async move {
        let body = |txn: Transaction, live: LiveBucket| async move {
            let (home, mut search) = (&Home::from(&live), rest.job.search.within(&live));
            let (attempt, limit) = attempts.begin(limit);
            // An upsert has to know that nothing matches.
            if !rest.job.update.is_upsert() {
                search = search.attempt(attempt);
            }
            let search = &search;
            let update = &rest.job.update.within(search.collator());
            let looking = Looking { read, budget, alone: !unit.is_open() };
            let batch = Attempt { txn: &txn, home, rest, search, update, looking, at };
            batch.run(limit, object_ids).await
        };
        match once {
            None => Box::pin(unit.write("update", namespace, bucket, body)).await,
            Some(caller) => {
                Box::pin(unit.write_once("update", caller, namespace, bucket, body)).await
            }
        }
    })
    .await
}

/// One batch in the transaction that it is tried in.
struct Attempt<'a> {
    txn: &'a Transaction,
    home: &'a Home,
    rest: &'a Rest,
    search: &'a Search,
    update: &'a Collated<'a>,
    looking: Looking<'a>,
    at: i64,
}

/// How it looks for documents.
#[derive(Clone, Copy)]
struct Looking<'a> {
    read: Read,
    budget: &'a Budget,
    /// The transaction is that of this batch alone.
    alone: bool,
}

/// A document and what becomes of it.
struct Prepared {
    id: ObjectId,
    old: Document,
    new: Option<Document>,
}

impl Attempt<'_> {
    async fn run(&self, limit: usize, object_ids: &document::ObjectIds) -> Result<Batch> {
        let (rest, job, started) = (self.rest, &self.rest.job, Instant::now());
        let Looking { read, budget, .. } = self.looking;
        let prepare = |id, document| self.prepare(id, document);
        let here = (self.txn, self.home);
        let found = self.search.batch(here, &rest.from, limit, read, budget, prepare).await?;
        let Found { items, mut next, order } = found;
        let mut ids = Vec::with_capacity(items.len());
        let matched = !items.is_empty();
        let mut may_return = false;
        let in_order_of_ids = order.is_none();
        let mut items = items.into_iter();
        while !items.as_slice().is_empty() {
            // The last one that is not written, if none that is comes behind it.
            let (mut together, mut left) = (Vec::<Replaced>::new(), None);
            for Prepared { id, old, new } in items.by_ref().take(WRITTEN_AT_ONCE) {
                let Some(new) = new else {
                    left = Some((id, old));
                    continue;
                };
                left = None;
                may_return |= !in_order_of_ids && self.may_match(&new, budget);
                ids.push(id);
                together.push(Replaced { id, old, new });
            }
            document::replace_all(self.txn, self.home, &together, self.at).await?;
            let left = left.as_ref().map(|(id, old)| (*id, old));
            let last = left.or_else(|| together.last().map(|one| (one.id, &one.old)));
            if let Some((id, old)) = last
                && started.elapsed() >= change::WRITE_TIME_MAX
                && !items.as_slice().is_empty()
            {
                next = change::behind(order.as_ref(), id, old);
                break;
            }
        }
        let mut since = None;
        if job.update.is_upsert() && !matched && !rest.matched {
            since = self.since().await?;
            if matches!(next, Position::End) {
                if self.is_certain(started).await? {
                    ids.push(self.insert(object_ids).await?);
                } else {
                    // Somebody has inserted one: the search begins anew, and changes that.
                    (next, since) = (Position::Start, None);
                }
            }
        }
        Ok(Batch { ids, next: next.into(), matched, may_return, since })
    }

    /// What the search began at: this batch, if it is the first.
    async fn since(&self) -> Result<Option<Since>> {
        if !matches!(self.rest.from, Position::Start) {
            return Ok(self.rest.since);
        }
        let (bucket, version) = (self.home.bucket().0, self.txn.read_version().await?);
        Ok(Some(Since { bucket, version }))
    }

    /// Whether nothing matches in all that the search has looked at, now and until the commit. The batches before
    /// looked in transactions of their own: either nothing was written since the first of them, or
    /// it is searched again.
    async fn is_certain(&self, started: Instant) -> Result<bool> {
        if matches!(self.rest.from, Position::Start) {
            return Ok(true);
        }
        if let Some(since) = self.rest.since.filter(|_| self.looking.alone)
            && since.bucket == self.home.bucket().0
            && document::is_unchanged(self.txn, self.home, since.version).await?
        {
            return Ok(true);
        }
        let Looking { read, budget, .. } = self.looking;
        let (mut from, here) = (Position::Start, (self.txn, self.home));
        while !matches!(from, Position::End) {
            let prepare = |_, _| Ok(((), 0));
            let found = self.search.batch(here, &from, 1, read, budget, prepare).await?;
            if !found.items.is_empty() {
                return Ok(false);
            }
            if started.elapsed() >= change::WRITE_TIME_MAX {
                return Err(Error::syntax(
                    "others write while the upsert looks whether anything matches, and that takes longer than a \
                     transaction lives. Hint: create an index for the filter, or send it again",
                ));
            }
            from = found.next;
        }
        Ok(true)
    }

    fn prepare(&self, id: ObjectId, old: Document) -> Result<(Prepared, usize)> {
        if self.rest.changed.contains(&id.bytes()) {
            return Ok((Prepared { id, old, new: None }, 0));
        }
        let new = self.update.apply(self.search.filter(), &old).map_err(|error| match error {
            Error::Syntax(text) => Error::Syntax(format!("{text} (document {id})")),
            other => other,
        })?;
        let written = new.as_ref().map_or(0, |new| new.bytes().len());
        Ok((Prepared { id, old, new }, written))
    }

    /// Whether what was changed may be found again; where that takes too long, it may.
    fn may_match(&self, new: &Document, budget: &Budget) -> bool {
        let steps = Steps::new(budget.steps_max);
        matches_within(self.search.filter(), new.raw(), &steps) || steps.are_over()
    }

    async fn insert(&self, object_ids: &document::ObjectIds) -> Result<ObjectId> {
        let document = self.update.new_document(self.search.filter())?;
        let new = NewDocument::new(document, Origin::Bson, object_ids)?;
        document::insert(self.txn, self.home, std::slice::from_ref(&new), self.at).await?;
        Ok(new.id())
    }
}

fn parse<'a>(ctx: &Context<'_>, filter: &Bytes, args: &'a Args) -> Result<(Job, Option<&'a [u8]>)> {
    let limits = Limits { document: document_limits(ctx.services), ..Limits::default() };
    let update = Update::parse(&kept(&args.bytes(2)?), &limits, limits.document.bytes_max)?;
    let (mut order, mut limit, mut opid) = (None, 0, None);
    let mut collate = Collate::default();
    let mut options = args.options(3);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"SORTBY" => order = Some(sort("SORTBY", &mut options)?),
            b"LIMIT" => limit = limit_option(&mut options)?,
            b"COLLATION" => collate = collation::option(&mut options)?,
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let filter = query::parse(&kept(filter), &filter_limits(ctx.services))
        .map_err(|error| Error::Syntax(error.to_string()))?;
    update.expect_filter(&filter)?;
    let query = Query::new(filter.clone(), order, limit_or_default(ctx, limit));
    Ok((Job { search: Search::new(query, filter, collate), update }, opid))
}
