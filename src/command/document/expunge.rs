//! BUCKET.EXPUNGE and BUCKET.VACUUM: deleted documents are destroyed.
//!
//! Both go through a bucket page by page, each page a transaction of its own;
//! whoever sends the command again goes on with what is left. A page is for the
//! instance with which the command began: if the name comes to mean another one
//! meanwhile, the command ends.

use super::deleted::Which;
use crate::codec::BucketId;
use crate::command::{Args, Context, Error, Reply, Result, support};
use crate::document::{self, Home, Purged, Tombstone, replica};
use crate::lifecycle::Lifecycle;
use crate::metadata::audit::{self, Entry};
use crate::metadata::bucket::counts;
use crate::metadata::{LiveBucket, name};
use crate::query::Budget;
use crate::query::deleted::{DeletedPosition, Looking, Wanted, deleted};
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

/// `BUCKET.EXPUNGE <bucket> <filter> | REMOVAL <removal-id> [COLLATION <json>]`.
pub(super) async fn expunge(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let (mut which, mut options) = Which::begin(&args)?;
    while let Some(option) = options.next() {
        if !which.accept(option, &mut options)? {
            return Err(options.unknown());
        }
    }
    which.expect_some()?;
    let removal = which.removal();
    let (search, _) = which.search(ctx, Wanted::Rows)?;
    let search = &search;
    let caller = &support::caller(ctx.session, "BUCKET.EXPUNGE", &args, None)?;
    let namespace = ctx.session.namespace.clone();
    let lifecycle = ctx.services.lifecycle()?;
    let catalog = lifecycle.catalog();
    let place = Place { lifecycle, namespace: &namespace, bucket };
    let budget = &Budget::default();
    let (mut begun, mut from) = (None, DeletedPosition::Start);
    let mut done = Purged::default();
    while from != DeletedPosition::End {
        let (at, now, begin) = (catalog.now(), catalog.certain_now(), from);
        let body = |txn: Transaction, live: LiveBucket| async move {
            let (txn, home) = (&txn, &Home::from(&live));
            let search = search.in_bucket(live.collator());
            let looking =
                Looking { limit: PAGE, read: Read::Snapshot, budget, clock: home.clock(now) };
            let batch = deleted(txn, home, &search, &begin, looking).await?;
            let found: Vec<Tombstone> =
                batch.found.into_iter().map(|found| found.tombstone).collect();
            let count = found.len();
            let readers = replica::readers(txn, home).await?;
            let purged = document::expunge(txn, home, &readers, found, at).await?;
            if count > 0 {
                // Not the filter: it may hold what is to be forgotten.
                let entry = Entry {
                    action: "expunge",
                    namespace: live.path(),
                    bucket: live.name(),
                    id: Some(live.id().into()),
                    removal,
                    reason: None,
                };
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                audit::append(txn, 0, &caller.actor, at, &entry, "OK", count)?;
            }
            Ok((purged, batch.next))
        };
        let ((purged, next), id) = Box::pin(place.page("expunge", begun, body)).await?;
        done.purged += purged.purged;
        done.waiting += purged.waiting;
        (begun, from) = (Some(id), next);
    }
    Ok(Reply::map([
        ("purged", integer(done.purged)),
        ("waiting_for_replicas", integer(done.waiting)),
    ]))
}

/// `BUCKET.VACUUM <bucket>`.
pub(super) async fn vacuum(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let namespace = ctx.session.namespace.clone();
    let lifecycle = ctx.services.lifecycle()?;
    let place = Place { lifecycle, namespace: &namespace, bucket };
    // What expires while this runs is left to the next one, so that it ends.
    let now = lifecycle.catalog().certain_now();
    let (mut begun, mut purged) = (None, 0);
    loop {
        let body = |txn: Transaction, live: LiveBucket| async move {
            document::vacuum(&txn, &Home::from(&live), now).await
        };
        let ((page, more), id) = Box::pin(place.page("vacuum-now", begun, body)).await?;
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
