use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::codec::Sequence;
use crate::codec::record::ChangeOp;
use crate::command::document::{document_reply, id_reply};
use crate::command::{Args, Context, Error, Reply, Result};
use crate::document::feed::{self, Entry, From, Page};
use crate::document::{Home, Places};
use crate::metadata::{LiveBucket, name};
use crate::store::Transaction;

/// Changes of a reply when the client does not say.
const COUNT_DEFAULT: usize = 100;
/// Most changes of a reply.
const COUNT_MAX: i64 = 10_000;

/// What `BUCKET.CHANGES` was asked.
struct Asked {
    from: From,
    count: usize,
    block: Option<Duration>,
    with_documents: bool,
}

/// `BUCKET.CHANGES <bucket> [FROM <sequence>] [COUNT <n>] [BLOCK <milliseconds>] [WITH-DOCS]`.
pub(super) async fn changes(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let asked = parse(&args, ctx.services.config.changes.block_max)?;
    let page = read(ctx, bucket, &asked).await?;
    let changes = page.changes.into_iter().map(|change| entry(ctx, change, asked.with_documents));
    let changes = Reply::Array(changes.collect());
    Ok(Reply::map([("sequence", Reply::Text(page.next.to_string())), ("changes", changes)]))
}

fn parse(args: &Args, block_max: Duration) -> Result<Asked> {
    let mut asked =
        Asked { from: From::Oldest, count: COUNT_DEFAULT, block: None, with_documents: false };
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"FROM" => {
                asked.from = match options.text()? {
                    "$" => From::Now,
                    text => From::After(sequence(text)?),
                };
            }
            b"COUNT" => {
                let count = options.integer()?;
                let count =
                    usize::try_from(count).ok().filter(|_| (1..=COUNT_MAX).contains(&count));
                asked.count = count.ok_or_else(|| {
                    Error::syntax(format!("COUNT must be between 1 and {COUNT_MAX}"))
                })?;
            }
            b"BLOCK" => {
                let block = u64::try_from(options.integer()?)
                    .map_err(|_| Error::syntax("timeout is negative"))?;
                // As in Redis 0 is for ever, as far as the configuration goes.
                let block = if block == 0 { Duration::MAX } else { Duration::from_millis(block) };
                asked.block = Some(block.min(block_max));
            }
            b"WITH-DOCS" => asked.with_documents = true,
            _ => return Err(options.unknown()),
        }
    }
    Ok(asked)
}

/// Reads a position, as the client got it.
pub(super) fn sequence(text: &str) -> Result<Sequence> {
    text.parse().map_err(|_| {
        Error::syntax(format!("Invalid sequence '{text}': give 0, or what a reply has named"))
    })
}

/// One page with changes in it; an empty one when there were none in time.
async fn read(ctx: &mut Context<'_>, bucket: &str, asked: &Asked) -> Result<Page> {
    let catalog = ctx.services.lifecycle()?.catalog();
    let namespace = ctx.session.namespace.as_str();
    let deadline = asked.block.map(|block| Instant::now() + block);
    let mut from = asked.from;
    let mut waiter = None;
    loop {
        let body = |txn: Transaction, live: LiveBucket| async move {
            live.expect_own_log()?;
            let home = Home::from(&live);
            let page = feed::changes(&txn, &home, from, asked.count, asked.with_documents).await?;
            Ok((page, Places::of(&live)))
        };
        let (page, places) = catalog.read_data("changes", namespace, bucket, body).await?;
        let Some(deadline) = deadline.filter(|_| page.changes.is_empty()) else { return Ok(page) };
        from = From::After(page.next);
        let Some(waiting) = &mut waiter else {
            // What came before it waited is seen by another look.
            waiter = Some(ctx.services.waiters()?.join(&places).await?);
            continue;
        };
        tokio::select! {
            biased;
            same = waiting.changed() => if !same { waiter = None },
            () = ctx.services.stopping() => return Ok(page),
            () = sleep_until(deadline) => return Ok(page),
        }
    }
}

fn entry(ctx: &Context<'_>, change: Entry, with_document: bool) -> Reply {
    let op = match change.op {
        ChangeOp::Insert => "insert",
        ChangeOp::Update => "update",
        ChangeOp::Delete => "delete",
        ChangeOp::Undelete => "undelete",
        ChangeOp::Purge => "purge",
    };
    let mut pairs = vec![
        (Reply::literal("sequence"), Reply::Text(change.sequence.to_string())),
        (Reply::literal("op"), Reply::literal(op)),
        (Reply::literal("_id"), id_reply(ctx, &change.id)),
    ];
    if with_document {
        let format = ctx.session.attributes.reply_type;
        let document = change.document.map(|document| document_reply(format, document));
        pairs.push((Reply::literal("document"), document.unwrap_or(Reply::Null)));
    }
    Reply::Map(pairs)
}
