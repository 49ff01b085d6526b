//! BUCKET.UNDELETE and its cursors.

use std::sync::Arc;

use bson::oid::ObjectId;
use serde::{Deserialize, Serialize};

use super::change::{self, ChangeCursor, WRITTEN_BYTES_MAX};
use super::deleted::{Searched, Which};
use super::query::{limit_option, limit_or_default};
use crate::command::unit::Unit;
use crate::command::{Args, Context, Error, Options, Reply, Result, support};
use crate::document::{Home, undelete as bring_back};
use crate::metadata::{Caller, LiveBucket, name};
use crate::query::Budget;
use crate::query::deleted::{Deleted, DeletedPosition, FoundDeleted, Looking, Wanted, deleted};
use crate::store::Transaction;

/// What becomes of a document whose `_id` or unique value is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnConflict {
    /// The batch fails and changes nothing.
    Fail,
    /// It stays deleted, and the others come back.
    Skip,
}

/// What an UNDELETE does, with all its ADVANCEs.
#[derive(Debug)]
struct Job {
    search: Arc<Deleted>,
    weight: usize,
    limit: usize,
    on_conflict: OnConflict,
}

/// What a cursor of UNDELETE goes on with.
#[derive(Debug)]
pub(super) struct Rest {
    job: Arc<Job>,
    from: DeletedPosition,
}

impl change::Weigh for Rest {
    fn weight(&self) -> usize {
        self.job.weight
    }
}

pub(super) type UndeleteCursor = ChangeCursor<Rest>;

/// What one batch did.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Batch {
    ids: Vec<ObjectId>,
    next: DeletedPosition,
}

/// `BUCKET.UNDELETE <bucket> <filter> | REMOVAL <removal-id> [LIMIT <n>] [ON-CONFLICT FAIL|SKIP]
/// [COLLATION <json>] [OPID <id>]`.
pub(super) async fn undelete(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let (mut which, mut options) = Which::begin(&args)?;
    let (mut limit, mut on_conflict, mut opid) = (0, OnConflict::Fail, None);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"LIMIT" => limit = limit_option(&mut options)?,
            b"ON-CONFLICT" => on_conflict = conflict_option(&mut options)?,
            b"OPID" => opid = Some(options.value()?),
            _ if which.accept(option, &mut options)? => {}
            _ => return Err(options.unknown()),
        }
    }
    which.expect_some()?;
    let Searched { search, text, weight } = which.search(ctx, Wanted::Newest)?;
    let job = Job { search, weight, limit: limit_or_default(ctx, limit), on_conflict };
    let rest = Rest { job: Arc::new(job), from: DeletedPosition::Start };
    let namespace = ctx.session.namespace.clone();
    change::expect_room(ctx, weight)?;
    let opid = opid.map(|opid| support::caller(ctx.session, "BUCKET.UNDELETE", &args, Some(opid)));
    let opid = opid.transpose()?;
    let batch = run(&Unit::of(ctx)?, &namespace, bucket, &rest, opid.as_ref()).await?;
    let rest = after(&rest, &batch);
    let id = change::open(ctx, ChangeCursor::new((&namespace, bucket), &text, None, rest))?;
    Ok(change::reply(ctx, id, &batch.ids, None))
}

fn conflict_option(options: &mut Options<'_>) -> Result<OnConflict> {
    match options.value()?.to_ascii_uppercase().as_slice() {
        b"FAIL" => Ok(OnConflict::Fail),
        b"SKIP" => Ok(OnConflict::Skip),
        _ => Err(Error::syntax("ON-CONFLICT takes FAIL or SKIP")),
    }
}

/// `BUCKET.ADVANCE UNDELETE <cursor-id>`; `None`: there is no such cursor.
pub(super) async fn advance(ctx: &mut Context<'_>, id: u64) -> Result<Option<Reply>> {
    let Some(cursor) = ctx.session.cursors.get_mut::<UndeleteCursor>(id) else { return Ok(None) };
    let (namespace, bucket) = (cursor.namespace.clone(), cursor.bucket.clone());
    let Some(rest) = cursor.rest() else {
        change::check_bucket(&Unit::of(ctx)?, &namespace, &bucket).await?;
        return Ok(Some(change::reply(ctx, id, &[], None)));
    };
    let batch = run(&Unit::of(ctx)?, &namespace, &bucket, &rest, None).await?;
    change::go_on(ctx, id, after(&rest, &batch));
    Ok(Some(change::reply(ctx, id, &batch.ids, None)))
}

/// What is left to do after a batch.
fn after(rest: &Rest, batch: &Batch) -> Option<Rest> {
    let more = batch.next != DeletedPosition::End;
    more.then(|| Rest { job: Arc::clone(&rest.job), from: batch.next })
}

/// One batch in one transaction.
async fn run(
    unit: &Unit<'_>,
    namespace: &str,
    bucket: &str,
    rest: &Rest,
    once: Option<&Caller>,
) -> Result<Batch> {
    let (catalog, read, job) = (unit.catalog(), unit.reads(), &rest.job);
    let (at, now) = (catalog.now(), catalog.certain_now());
    let budget = &Budget { batch_bytes_max: WRITTEN_BYTES_MAX, ..super::query::budget(unit) };
    change::shrinking(unit, job.limit, |limit| async move {
        let body = |txn: Transaction, live: LiveBucket| async move {
            let home = &Home::from(&live);
            let search = job.search.in_bucket(live.collator());
            let mistaken = live.mutations().undelete_finds_expired;
            let clock = if mistaken { i64::MIN } else { home.clock(now) };
            let looking = Looking { limit, read, budget, clock };
            let batch = deleted(&txn, home, &search, &rest.from, looking).await?;
            let mut ids = Vec::with_capacity(batch.found.len());
            for found in &batch.found {
                if one(&txn, home, found, job.on_conflict, at).await? {
                    ids.push(found.tombstone.id);
                }
            }
            Ok(Batch { ids, next: batch.next })
        };
        match once {
            None => Box::pin(unit.write("undelete", namespace, bucket, body)).await,
            Some(caller) => {
                Box::pin(unit.write_once("undelete", caller, namespace, bucket, body)).await
            }
        }
    })
    .await
}

/// Brings one document back; false when it stays deleted.
async fn one(
    txn: &Transaction,
    home: &Home,
    found: &FoundDeleted,
    on_conflict: OnConflict,
    at: i64,
) -> Result<bool> {
    let FoundDeleted { tombstone, document: Some(document) } = found else { return Ok(false) };
    if on_conflict == OnConflict::Fail {
        bring_back(txn, home, tombstone, document, at).await?;
        return Ok(true);
    }
    let savepoint = txn.savepoint()?;
    match bring_back(txn, home, tombstone, document, at).await {
        Ok(()) => {
            savepoint.keep();
            Ok(true)
        }
        Err(Error::DuplicateKey(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
