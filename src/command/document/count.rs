//! `BUCKET.COUNT`.

use bytes::Bytes;

use super::query::{budget, filter_limits};
use crate::command::unit::Unit;
use crate::command::{Args, Context, Error, Reply, Result, collation};
use crate::document::Home;
use crate::metadata::{LiveBucket, name};
use crate::query::{self, Collate, Query};

/// `BUCKET.COUNT <bucket> [<filter>] [COLLATION <spec>]`.
pub(super) async fn count(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let filter = if args.len() > 1 { args.bytes(1)? } else { Bytes::from_static(b"{}") };
    let mut collate = Collate::default();
    let mut options = args.options(2);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"COLLATION" => collate = collation::option(&mut options)?,
            _ => return Err(options.unknown()),
        }
    }
    let filter = query::parse(&filter, &filter_limits(ctx.services))
        .map_err(|error| Error::Syntax(error.to_string()))?;
    let query = &Query::new(filter, None, usize::MAX);
    let collate = &collate;
    let unit = Unit::of(ctx)?;
    let (budget, read) = (&budget(&unit), unit.reads());
    let namespace = ctx.session.namespace.clone();
    let body = |txn, live: LiveBucket| async move {
        let home = Home::from(&live);
        match collate.effective(live.collator()) {
            None => query::count(&txn, &home, query, read, budget).await,
            Some(collator) => {
                let query = query.clone().collated(collator);
                query::count(&txn, &home, &query, read, budget).await
            }
        }
    };
    let count = unit.read("count", &namespace, bucket, body).await?;
    Ok(Reply::Integer(i64::try_from(count.documents).unwrap_or(i64::MAX)))
}
