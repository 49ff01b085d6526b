//! `BUCKET.EXPLAIN`.

use std::sync::Arc;

use super::query::{budget, parse};
use crate::command::unit::Unit;
use crate::command::{Args, Context, Reply, Result, collation};
use crate::document::Home;
use crate::metadata::{LiveBucket, name};
use crate::query::{self, Explained};

/// `BUCKET.EXPLAIN <bucket> <filter> [the options of BUCKET.QUERY] [ANALYZE]`.
pub(super) async fn explain(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let mut analyze = false;
    let (asked, _) = parse(ctx, &args.bytes(1)?, &args, Some(&mut analyze))?;
    let asked = &Arc::new(asked);
    let unit = Unit::of(ctx)?;
    let (budget, read) = (&budget(&unit), unit.reads());
    let namespace = ctx.session.namespace.clone();
    let body = |txn, live: LiveBucket| async move {
        let home = Home::from(&live);
        let asked = asked.in_bucket(live.collator());
        let collator = asked.collate.effective(live.collator());
        query::explain(&txn, &home, &asked.query, collator, read, budget, analyze).await
    };
    Ok(reply(unit.read("explain", &namespace, bucket, body).await?))
}

fn reply(explained: Explained) -> Reply {
    match explained {
        Explained::Null => Reply::Null,
        Explained::Text(text) => Reply::Text(text),
        Explained::Integer(number) => Reply::Integer(number),
        Explained::Boolean(flag) => Reply::Boolean(flag),
        Explained::Collation(collation) => collation::reply(collation.as_ref()),
        Explained::List(list) => Reply::Array(list.into_iter().map(reply).collect()),
        Explained::Map(pairs) => {
            let pair = |(name, value)| (Reply::literal(name), reply(value));
            Reply::Map(pairs.into_iter().map(pair).collect())
        }
    }
}
