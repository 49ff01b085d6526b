//! `BUCKET.COUNT`.

use bytes::Bytes;

use super::query::{budget, filter_limits};
use crate::command::unit::Unit;
use crate::command::{Args, Context, Error, Reply, Result};
use crate::document::Home;
use crate::metadata::name;
use crate::query::{self, Query};

/// `BUCKET.COUNT <bucket> [<filter>]`.
pub(super) async fn count(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let filter = if args.len() > 1 { args.bytes(1)? } else { Bytes::from_static(b"{}") };
    if args.len() > 2 {
        let mut options = args.options(2);
        options.next();
        return Err(options.unknown());
    }
    let filter = query::parse(&filter, &filter_limits(ctx.services))
        .map_err(|error| Error::Syntax(error.to_string()))?;
    let query = &Query::new(filter, None, usize::MAX);
    let unit = Unit::of(ctx)?;
    let (budget, read) = (&budget(&unit), unit.reads());
    let namespace = ctx.session.namespace.clone();
    let body = |txn, live| async move {
        query::count(&txn, &Home::from(&live), query, read, budget).await
    };
    let count = unit.read("count", &namespace, bucket, body).await?;
    Ok(Reply::Integer(i64::try_from(count.documents).unwrap_or(i64::MAX)))
}
