//! BUCKET.DELETE and its cursors.

use std::sync::Arc;

use bson::oid::ObjectId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::change::{self, Attempts, ChangeCursor, Found, Removal, Search, StoredPosition};
use super::query::{filter_limits, kept, limit_option, limit_or_default};
use crate::access::Right;
use crate::codec::RemovalId;
use crate::codec::duration::Retention;
use crate::command::lifecycle::reason;
use crate::command::unit::Unit;
use crate::command::{Args, Context, Error, Reply, Result, collation, support};
use crate::document::{self, Deletion, Document, Home};
use crate::metadata::policy::{self, Kept};
use crate::metadata::{Caller, LiveBucket, Path, name};
use crate::query::{self, Collate, Position, Query};
use crate::store::Transaction;
use crate::update::weight;

/// Bytes that a deleted document writes besides itself.
const TOMBSTONE_BYTES: usize = 600;
/// A larger document is in pieces, which stay where they are.
const MOVED_BYTES_MAX: usize = 90_000;

/// What a DELETE does, with all its ADVANCEs: they are one removal.
#[derive(Debug)]
struct Job {
    search: Search,
    reason: Option<String>,
    /// `None`: as the bucket says, or else the setting.
    retention: Option<Retention>,
    /// A lock of governance does not count.
    bypass: bool,
}

/// What a cursor of DELETE goes on with.
#[derive(Debug)]
pub(super) struct Rest {
    job: Arc<Job>,
    removal: RemovalId,
    from: Position,
}

impl change::Weigh for Rest {
    fn weight(&self) -> usize {
        self.job.search.weight() + weight::position(&self.from)
    }
}

pub(super) type DeleteCursor = ChangeCursor<Rest>;

/// What one batch did.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Batch {
    removal: RemovalId,
    ids: Vec<ObjectId>,
    next: StoredPosition,
}

/// `BUCKET.DELETE <bucket> <filter> [LIMIT <n>] [RETAIN <duration>] [REASON <text>] [INFO]
/// [BYPASS-GOVERNANCE] [OPID <id>]`.
pub(super) async fn delete(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let filter = args.bytes(1)?;
    let Parsed { job, info, opid } = parse(ctx, &filter, &args)?;
    let namespace = ctx.session.namespace.clone();
    change::expect_room(ctx, job.search.weight())?;
    let caller = support::caller(ctx.session, "BUCKET.DELETE", &args, opid)?;
    // The id is made before the first attempt, so that all attempts are one removal.
    let removal = RemovalId(Unit::of(ctx)?.catalog().cluster().ids().next().await?);
    let rest = Rest { job: Arc::new(job), removal, from: Position::Start };
    let batch = run(&Unit::of(ctx)?, &namespace, bucket, &rest, &caller).await;
    note(ctx, &caller, (&namespace, bucket), &batch)?;
    let batch = batch?;
    let removal = Removal { id: batch.removal, info };
    let rest = after(&rest, &batch);
    let cursor = ChangeCursor::new((&namespace, bucket), &filter, Some(removal), rest);
    let id = change::open(ctx, cursor)?;
    Ok(change::reply(ctx, id, &batch.ids, Some(removal)))
}

/// `BUCKET.ADVANCE DELETE <cursor-id>`; `None`: there is no such cursor.
pub(super) async fn advance(ctx: &mut Context<'_>, args: &Args, id: u64) -> Result<Option<Reply>> {
    let Some(cursor) = ctx.session.cursors.get_mut::<DeleteCursor>(id) else { return Ok(None) };
    let (namespace, bucket) = (cursor.namespace.clone(), cursor.bucket.clone());
    let removal = cursor.removal();
    let Some(rest) = cursor.rest() else {
        change::check_bucket(&Unit::of(ctx)?, &namespace, &bucket).await?;
        return Ok(Some(change::reply(ctx, id, &[], removal)));
    };
    let caller = support::caller(ctx.session, "BUCKET.ADVANCE", args, None)?;
    let batch = run(&Unit::of(ctx)?, &namespace, &bucket, &rest, &caller).await;
    note(ctx, &caller, (&namespace, &bucket), &batch)?;
    let batch = batch?;
    change::go_on(ctx, id, after(&rest, &batch));
    Ok(Some(change::reply(ctx, id, &batch.ids, removal)))
}

/// Enters a refused deletion into the audit log.
fn note(
    ctx: &Context<'_>,
    caller: &Caller,
    (namespace, bucket): (&str, &str),
    batch: &Result<Batch>,
) -> Result<()> {
    let place = (&Path::parse(namespace.as_bytes())?, bucket);
    ctx.services.lifecycle()?.note_refusal(caller, "delete", place, batch);
    Ok(())
}

/// What is left to do after a batch.
fn after(rest: &Rest, batch: &Batch) -> Option<Rest> {
    let from = Position::from(batch.next.clone());
    let more = !matches!(from, Position::End);
    more.then(|| Rest { job: Arc::clone(&rest.job), removal: batch.removal, from })
}

/// One batch in one transaction.
async fn run(
    unit: &Unit<'_>,
    namespace: &str,
    bucket: &str,
    rest: &Rest,
    caller: &Caller,
) -> Result<Batch> {
    let (at, budget, read) = (unit.catalog().now(), &change::budget(unit), change::reads(unit));
    let deletion = &Deletion {
        removal: rest.removal,
        by: caller.actor.clone(),
        reason: rest.job.reason.clone(),
        retention: unit.config().tombstone_retention,
        continues: !matches!(rest.from, Position::Start),
    };
    let (search, attempts) = (&rest.job.search, &Attempts::default());
    change::shrinking(unit, search.limit(), |limit| async move {
        let body = |txn: Transaction, live: LiveBucket| async move {
            let (attempt, limit) = attempts.begin(limit);
            let (home, search) = (&Home::from(&live), search.within(&live).attempt(attempt));
            let prepare = |id, document: Document| {
                let moved = document.bytes().len();
                let moved = if moved > MOVED_BYTES_MAX { 0 } else { moved };
                Ok(((id, document), moved + TOMBSTONE_BYTES))
            };
            let found = search.batch((&txn, home), &rest.from, limit, read, budget, prepare);
            let Found { items, next, .. } = found.await?;
            let mut deletion = deletion.clone();
            let mistakes = live.mutations();
            let setting = deletion.retention;
            let mut applied = live.applied_to_documents(setting);
            if mistakes.delete_ignores_bucket_retention {
                applied.ms = policy::ms(setting);
            }
            let said = rest.job.retention.filter(|_| !mistakes.delete_ignores_retain);
            let asked = said.map(policy::ms);
            let bypass = rest.job.bypass.then_some(caller);
            if let Some(caller) = bypass {
                caller.expect(Right::Admin)?;
            }
            if asked.is_some_and(|asked| asked < applied.ms) {
                caller.expect(Right::Purge)?;
            }
            let kept = live.policy().keep(Kept::Documents, asked, &applied, bypass)?;
            deletion.retention = policy::retention(kept);
            let ids = document::delete(&txn, home, &items, &deletion, at).await?;
            Ok(Batch { removal: deletion.removal, ids, next: next.into() })
        };
        if caller.operation.is_some() {
            Box::pin(unit.write_once("delete", caller, namespace, bucket, body)).await
        } else {
            Box::pin(unit.write("delete", namespace, bucket, body)).await
        }
    })
    .await
}

/// What was asked.
struct Parsed<'a> {
    job: Job,
    info: bool,
    opid: Option<&'a [u8]>,
}

fn parse<'a>(ctx: &Context<'_>, filter: &Bytes, args: &'a Args) -> Result<Parsed<'a>> {
    let (mut limit, mut why, mut info, mut opid) = (0, None, false, None);
    let mut collate = Collate::default();
    let (mut retention, mut bypass) = (None, false);
    let mut options = args.options(2);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"LIMIT" => limit = limit_option(&mut options)?,
            b"RETAIN" => retention = Some(support::retention(options.text()?)?),
            b"REASON" => why = Some(reason(options.text()?)?),
            b"INFO" => info = true,
            b"BYPASS-GOVERNANCE" => bypass = true,
            b"COLLATION" => collate = collation::option(&mut options)?,
            b"OPID" => opid = Some(options.value()?),
            b"SORTBY" => return Err(Error::syntax("'SORTBY' is an unsupported argument")),
            _ => return Err(options.unknown()),
        }
    }
    let limits = filter_limits(ctx.services);
    let filter =
        query::parse(&kept(filter), &limits).map_err(|error| Error::Syntax(error.to_string()))?;
    let query = Query::new(filter.clone(), None, limit_or_default(ctx, limit));
    let search = Search::new(query, filter, collate);
    Ok(Parsed { job: Job { search, reason: why, retention, bypass }, info, opid })
}
