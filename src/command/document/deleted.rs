//! BUCKET.DELETED, and how commands say which deleted documents they mean.

use std::sync::Arc;

use bytes::Bytes;

use super::change::{self, ChangeCursor};
use super::document_reply;
use super::query::{batch_reply, budget, filter_limits, kept, limit_option, limit_or_default};
use crate::codec::RemovalId;
use crate::command::unit::Unit;
use crate::command::{Args, Context, Error, Options, Reply, Result, collation};
use crate::document::{Document, Home};
use crate::metadata::{LiveBucket, name};
use crate::query::deleted::{Deleted, DeletedPosition, Looking, Wanted, deleted, entry};
use crate::query::{self, Ast, Collate};
use crate::store::Transaction;
use crate::update::weight;

/// Words that may stand where a filter may.
const OPTIONS: [&[u8]; 5] = [b"REMOVAL", b"LIMIT", b"COLLATION", b"ON-CONFLICT", b"OPID"];

/// `<filter> | REMOVAL <removal-id>`, or both, and `COLLATION`.
#[derive(Debug, Default)]
pub(super) struct Which {
    filter: Option<Bytes>,
    removal: Option<RemovalId>,
    collate: Collate,
}

impl Which {
    /// Takes the filter, if there is one; gives the options behind it, too.
    pub(super) fn begin(args: &Args) -> Result<(Self, Options<'_>)> {
        let mut which = Self::default();
        let is_option = |word: &[u8]| OPTIONS.iter().any(|name| word.eq_ignore_ascii_case(name));
        if args.get(1).is_some_and(|word| !is_option(word)) {
            which.filter = Some(args.bytes(1)?);
        }
        let options = args.options(if which.filter.is_some() { 2 } else { 1 });
        Ok((which, options))
    }

    /// Takes the option if it is one of these.
    pub(super) fn accept(&mut self, option: &[u8], options: &mut Options<'_>) -> Result<bool> {
        match option.to_ascii_uppercase().as_slice() {
            b"REMOVAL" => {
                let text = options.text()?;
                let removal = RemovalId::parse(text);
                self.removal = Some(removal.ok_or_else(|| Error::NoSuchRemoval(text.to_owned()))?);
            }
            b"COLLATION" => self.collate = collation::option(options)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The removal, if one was named.
    pub(super) const fn removal(&self) -> Option<RemovalId> {
        self.removal
    }

    /// Refuses a command that names nothing: nobody means everything by leaving it out.
    pub(super) fn expect_some(&self) -> Result<()> {
        if self.filter.is_none() && self.removal.is_none() {
            return Err(Error::syntax("give a filter, or REMOVAL and the id of a removal"));
        }
        Ok(())
    }

    /// The search for these.
    pub(super) fn search(self, ctx: &Context<'_>, wanted: Wanted) -> Result<Searched> {
        let filter = match &self.filter {
            None => Ast::All,
            Some(filter) => query::parse(&kept(filter), &filter_limits(ctx.services))
                .map_err(|error| Error::Syntax(error.to_string()))?,
        };
        let text = match (self.filter, self.removal) {
            (Some(filter), _) => filter,
            (None, Some(removal)) => Bytes::from(format!("REMOVAL {removal}")),
            (None, None) => Bytes::from_static(b"{}"),
        };
        // Beside how it was written it may stand under the collation of the bucket.
        let weight = size_of::<Deleted>() + 2 * weight::filter(&filter);
        let search = Arc::new(Deleted::new(filter, self.removal, self.collate, wanted));
        Ok(Searched { search, text, weight })
    }
}

/// A search, what a cursor of it is called by, and about how many bytes it holds.
#[derive(Debug)]
pub(super) struct Searched {
    pub(super) search: Arc<Deleted>,
    pub(super) text: Bytes,
    pub(super) weight: usize,
}

/// What a cursor of DELETED goes on with.
#[derive(Debug)]
pub(super) struct Rest {
    search: Arc<Deleted>,
    weight: usize,
    limit: usize,
    from: DeletedPosition,
}

impl change::Weigh for Rest {
    fn weight(&self) -> usize {
        self.weight
    }
}

pub(super) type DeletedCursor = ChangeCursor<Rest>;

/// `BUCKET.DELETED <bucket> [<filter>] [REMOVAL <removal-id>] [LIMIT <n>] [COLLATION <json>]`.
pub(super) async fn list(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let (mut which, mut options) = Which::begin(&args)?;
    let mut limit = 0;
    while let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"LIMIT") {
            limit = limit_option(&mut options)?;
        } else if !which.accept(option, &mut options)? {
            return Err(options.unknown());
        }
    }
    let Searched { search, text, weight } = which.search(ctx, Wanted::Each)?;
    let limit = limit_or_default(ctx, limit);
    let rest = Rest { search, weight, limit, from: DeletedPosition::Start };
    let namespace = ctx.session.namespace.clone();
    change::expect_room(ctx, weight)?;
    let (entries, rest) = run(&Unit::of(ctx)?, &namespace, bucket, &rest).await?;
    let id = change::open(ctx, ChangeCursor::new((&namespace, bucket), &text, None, rest))?;
    Ok(reply(ctx, id, entries))
}

fn reply(ctx: &Context<'_>, id: u64, entries: Vec<Document>) -> Reply {
    let format = ctx.session.attributes.reply_type;
    let entries = entries.into_iter().map(|entry| document_reply(format, entry)).collect();
    batch_reply(ctx.session.protocol(), id, "entries", entries)
}

/// `BUCKET.ADVANCE DELETED <cursor-id>`; `None`: there is no such cursor.
pub(super) async fn advance(ctx: &mut Context<'_>, id: u64) -> Result<Option<Reply>> {
    let Some(cursor) = ctx.session.cursors.get_mut::<DeletedCursor>(id) else { return Ok(None) };
    let (namespace, bucket) = (cursor.namespace.clone(), cursor.bucket.clone());
    let Some(rest) = cursor.rest() else {
        change::check_bucket(&Unit::of(ctx)?, &namespace, &bucket).await?;
        return Ok(Some(reply(ctx, id, Vec::new())));
    };
    let (entries, rest) = run(&Unit::of(ctx)?, &namespace, &bucket, &rest).await?;
    change::go_on(ctx, id, rest);
    Ok(Some(reply(ctx, id, entries)))
}

/// One batch, at one snapshot, and what is left to do after it.
async fn run(
    unit: &Unit<'_>,
    namespace: &str,
    bucket: &str,
    rest: &Rest,
) -> Result<(Vec<Document>, Option<Rest>)> {
    let (budget, read, now) = (&budget(unit), unit.reads(), unit.catalog().certain_now());
    let (entries, next) = unit
        .read("deleted", namespace, bucket, |txn: Transaction, live: LiveBucket| async move {
            let home = &Home::from(&live);
            let search = rest.search.in_bucket(live.collator());
            let looking = Looking { limit: rest.limit, read, budget, clock: home.clock(now) };
            let batch = deleted(&txn, home, &search, &rest.from, looking).await?;
            let entries = batch.found.iter().filter_map(|found| {
                found.document.as_ref().map(|document| entry(home, &found.tombstone, document))
            });
            Ok((entries.collect::<Vec<_>>(), batch.next))
        })
        .await?;
    let more = next != DeletedPosition::End;
    let rest = more.then(|| Rest { search: Arc::clone(&rest.search), from: next, ..*rest });
    Ok((entries, rest))
}
