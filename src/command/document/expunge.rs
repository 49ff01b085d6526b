//! BUCKET.EXPUNGE and BUCKET.VACUUM: deleted documents are destroyed.
//!
//! Both go through a bucket page by page, each page a transaction of its own;
//! whoever sends the command again goes on with what is left. A page is for the
//! instance with which the command began: if the name comes to mean another one
//! meanwhile, the command ends. With an OPID each page writes how far the command is
//! into its operation row, so that sent again it goes on there and counts on.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::deleted::Which;
use crate::codec::{BucketId, RemovalId};
use crate::command::{Args, Context, Error, Reply, Result, support};
use crate::document::{self, Home, Tombstone, replica};
use crate::lifecycle::Lifecycle;
use crate::lifecycle::lock::{self, Locked};
use crate::metadata::audit::{self, Entry};
use crate::metadata::bucket::counts;
use crate::metadata::{Caller, LiveBucket, name};
use crate::query::Budget;
use crate::query::deleted::{Deleted, DeletedPosition, Looking, Wanted, deleted};
use crate::store::{Read, Transaction};

/// Deleted documents that one transaction destroys.
const PAGE: usize = 500;

/// Where a command works.
struct Place<'a> {
    lifecycle: &'a Lifecycle,
    namespace: &'a str,
    bucket: &'a str,
}

impl Place<'_> {
    /// One page in one transaction, in which destruction must be allowed. `begun`
    /// is the instance with which the command began.
    async fn page<T, F>(
        &self,
        label: &'static str,
        begun: Option<BucketId>,
        body: impl Fn(Transaction, LiveBucket) -> F,
    ) -> Result<(T, BucketId)>
    where
        F: Future<Output = Result<T>>,
    {
        let (catalog, body) = (self.lifecycle.catalog(), &body);
        let outcome = catalog
            .write_data(label, self.namespace, self.bucket, |txn, live: LiveBucket| async move {
                let id = live.id();
                if begun.is_some_and(|begun| begun != id) {
                    return Err(Error::NoSuchBucket(self.bucket.to_owned()));
                }
                self.lifecycle.expect_destruction(&txn).await?;
                Ok((body(txn, live).await?, id))
            })
            .await?;
        Ok(outcome.value)
    }
}

/// Refuses to destroy what a lock or a minimum keeps.
fn expect_not_locked(
    home: &Home,
    found: &[Tombstone],
    now: i64,
    bypass: Option<&Caller>,
) -> Result<()> {
    let mut passed = None;
    for tombstone in found {
        let (promise, expires_at) = (tombstone.promise(home), tombstone.record.expires_at);
        let locked = |bypass| lock::locked(&promise, expires_at, home.clock(now), bypass);
        if let Some(locked) = locked(bypass.is_some()) {
            let until = locked.until.map(|clock| home.cluster_time(clock));
            let what = format!("Deleted document '{}'", tombstone.id.to_hex());
            return Err(Locked { until, ..locked }.refusal(&what));
        }
        passed = passed.or_else(|| bypass.filter(|_| locked(false).is_some()));
    }
    passed.map_or(Ok(()), |caller| home.policy().expect_bypass(caller))
}

/// How far an EXPUNGE is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    /// The instance with which it began.
    bucket: Option<u64>,
    from: DeletedPosition,
    purged: i64,
    waiting: i64,
    /// When it began, which says how long the operation is remembered.
    at: i64,
}

/// `BUCKET.EXPUNGE <bucket> <filter> | REMOVAL <removal-id> [COLLATION <json>]
/// [BYPASS-GOVERNANCE] [OPID <id>]`.
pub(super) async fn expunge(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let (mut which, mut options) = Which::begin(&args)?;
    let (mut opid, mut bypass) = (None, false);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"BYPASS-GOVERNANCE" => bypass = true,
            b"OPID" => opid = Some(options.value()?),
            _ if which.accept(option, &mut options)? => {}
            _ => return Err(options.unknown()),
        }
    }
    which.expect_some()?;
    let removal = which.removal();
    let search = which.search(ctx, Wanted::Rows)?.search;
    let caller = &support::caller(ctx.session, "BUCKET.EXPUNGE", &args, opid)?;
    let (namespace, path) = (ctx.session.namespace.clone(), support::current(ctx)?);
    let lifecycle = ctx.services.lifecycle()?;
    let catalog = lifecycle.catalog();
    let place = Place { lifecycle, namespace: &namespace, bucket };
    let job = &Job { caller, search, removal, bypass };
    let read = |txn: Transaction| async move { job.known(&txn).await };
    let mut known = match &caller.operation {
        Some(_) => catalog.read("expunge-operation", read).await?,
        None => None,
    };
    let begun = Progress {
        bucket: None,
        from: DeletedPosition::Start,
        purged: 0,
        waiting: 0,
        at: catalog.now(),
    };
    let mut progress = known.clone().unwrap_or(begun);
    while progress.from != DeletedPosition::End {
        let (at, now) = (catalog.now(), catalog.certain_now());
        let (last, here) = (known.as_ref(), &progress);
        let body = |txn: Transaction, live: LiveBucket| async move {
            job.page(&txn, &live, last, here, (at, now)).await
        };
        let begun = progress.bucket.map(BucketId);
        let paged = Box::pin(place.page("expunge", begun, body)).await;
        lifecycle.note_refusal(caller, "expunge", (&path, bucket), &paged);
        let (next, _) = paged?;
        if caller.operation.is_some() {
            known = Some(next.clone());
        }
        progress = next;
    }
    Ok(Reply::map([
        ("purged", Reply::Integer(progress.purged)),
        ("waiting_for_replicas", Reply::Integer(progress.waiting)),
    ]))
}

/// What an EXPUNGE is to do.
struct Job<'a> {
    caller: &'a Caller,
    search: Arc<Deleted>,
    removal: Option<RemovalId>,
    /// A lock of governance does not count.
    bypass: bool,
}

impl Job<'_> {
    /// How far it is, if it has an id and was sent before.
    async fn known(&self, txn: &Transaction) -> Result<Option<Progress>> {
        match &self.caller.operation {
            Some(operation) => operation.replay(txn, &self.caller.actor).await,
            None => Ok(None),
        }
    }

    /// One page. `last` is what the operation row is to say: if it says something else
    /// the same command is also under way elsewhere, and this one goes on from there.
    async fn page(
        &self,
        txn: &Transaction,
        live: &LiveBucket,
        last: Option<&Progress>,
        here: &Progress,
        (at, now): (i64, i64),
    ) -> Result<Progress> {
        if let Some(known) = self.known(txn).await?.filter(|known| last != Some(known)) {
            return Ok(known);
        }
        self.caller.hold(txn).await?;
        let home = &Home::from(live);
        let search = self.search.in_bucket(live.collator());
        let budget = &Budget::default();
        let looking = Looking { limit: PAGE, read: Read::Snapshot, budget, clock: home.clock(now) };
        let batch = deleted(txn, home, &search, &here.from, looking).await?;
        let found: Vec<Tombstone> = batch.found.into_iter().map(|found| found.tombstone).collect();
        let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
        expect_not_locked(home, &found, now, self.bypass.then_some(self.caller))?;
        let readers = replica::readers(txn, home).await?;
        let done = document::expunge(txn, home, &readers, found, at).await?;
        let Caller { actor, operation, .. } = self.caller;
        if count > 0 {
            // Not the filter: it may hold what is to be forgotten.
            let entry = Entry {
                action: "expunge",
                namespace: live.path(),
                bucket: live.name(),
                id: Some(live.id().into()),
                removal: self.removal,
                reason: None,
            };
            audit::append(txn, 0, actor, at, &entry, "OK", count)?;
        }
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let next = Progress {
            bucket: Some(live.id().0),
            from: batch.next,
            purged: here.purged.saturating_add(number(done.purged)),
            waiting: here.waiting.saturating_add(number(done.waiting)),
            at: here.at,
        };
        if let Some(operation) = operation {
            operation.record(txn, actor, &next, here.at)?;
        }
        Ok(next)
    }
}

/// `BUCKET.VACUUM <bucket>`.
pub(super) async fn vacuum(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let caller = &support::caller(ctx.session, "BUCKET.VACUUM", &args, None)?;
    let (namespace, path) = (ctx.session.namespace.clone(), support::current(ctx)?);
    let lifecycle = ctx.services.lifecycle()?;
    let place = Place { lifecycle, namespace: &namespace, bucket };
    // What expires while this runs is left to the next one, so that it ends.
    let now = lifecycle.catalog().certain_now();
    let (mut begun, mut purged) = (None, 0);
    loop {
        let body = |txn: Transaction, live: LiveBucket| async move {
            caller.hold(&txn).await?;
            document::vacuum(&txn, &Home::from(&live), now).await
        };
        let paged = Box::pin(place.page("vacuum-now", begun, body)).await;
        lifecycle.note_refusal(caller, "vacuum", (&path, bucket), &paged);
        let ((page, more), id) = paged?;
        purged += page.purged;
        begun = Some(id);
        if !more {
            break;
        }
    }
    let (mut waiting, mut from) = (0, None::<Vec<u8>>);
    let left = loop {
        let begin = from.as_deref();
        let read = |txn: Transaction, live: LiveBucket| async move {
            let counted = document::count_waiting(&txn, &Home::from(&live), begin).await?;
            Ok((counted, counts(&txn, live.id()).await?.tombstones))
        };
        let read = lifecycle.catalog().read_data("vacuum-left", &namespace, bucket, read);
        let ((counted, next), left) = read.await?;
        waiting += counted;
        match next {
            Some(next) => from = Some(next),
            None => break usize::try_from(left).unwrap_or_default(),
        }
    };
    Ok(Reply::map([
        ("purged", integer(purged)),
        ("kept", integer(left.saturating_sub(waiting))),
        ("waiting_for_replicas", integer(waiting)),
    ]))
}

fn integer(count: usize) -> Reply {
    Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}
