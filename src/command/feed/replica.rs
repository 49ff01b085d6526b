use std::cmp::Reverse;

use super::changes::sequence;
use crate::clock::milliseconds;
use crate::codec::Sequence;
use crate::codec::duration::Retention;
use crate::command::support::{caller, retention, time_reply};
use crate::command::{Args, Context, Error, Reply, Result};
use crate::document::replica::{self, Lease, Replica};
use crate::document::{Home, feed};
use crate::metadata::{LiveBucket, name};
use crate::store::Transaction;

/// Runs a body that changes one replica of a bucket, under an operation row where
/// the result of a commit may be unknown.
async fn change<F>(
    ctx: &mut Context<'_>,
    label: &'static str,
    args: &Args,
    body: impl Fn(Transaction, Home) -> F,
) -> Result<Reply>
where
    F: Future<Output = Result<()>>,
{
    let bucket = name::bucket(args.required(0)?)?;
    let caller = caller(ctx.session, label, args, None)?;
    let lifecycle = ctx.services.lifecycle()?;
    let (catalog, namespace) = (lifecycle.catalog(), ctx.session.namespace.as_str());
    let body = &body;
    catalog
        .run(label, &caller, |txn: Transaction| async move {
            let live = catalog.handles().open(&txn, namespace, bucket).await?;
            live.expect_own_log()?;
            body(txn, Home::from(&live)).await
        })
        .await?;
    Ok(Reply::Ok)
}

/// `BUCKET.REPLICA REGISTER <bucket> <name> [FROM <sequence>] [LEASE <duration>]`.
pub(super) async fn register(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = replica::check_name(args.required(1)?)?;
    let config = ctx.services.config.replica;
    let (mut from, mut lease) = (None, config.lease);
    let mut options = args.options(2);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"FROM" => from = Some(sequence(options.text()?)?),
            b"LEASE" => {
                lease = match retention(options.text()?)? {
                    Retention::For(lease) if !lease.is_zero() && lease <= config.lease_max => lease,
                    Retention::For(_) | Retention::Forever => {
                        return Err(Error::RetentionOutOfRange(format!(
                            "a lease is more than nothing and at most {} s: what a replica that \
                             never comes back has not read would be kept for ever",
                            config.lease_max.as_secs()
                        )));
                    }
                };
            }
            _ => return Err(options.unknown()),
        }
    }
    let (at, lease) = (now(ctx)?, Lease::For(milliseconds(lease)));
    change(ctx, "replica-register", &args, |txn, home| async move {
        replica::register(&txn, &home, name, from, lease, at).await.map(drop)
    })
    .await
}

/// `BUCKET.REPLICA ACK <bucket> <name> <sequence>`.
pub(super) async fn ack(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = replica::check_name(args.required(1)?)?;
    let (sequence, at) = (sequence(args.text(2)?)?, now(ctx)?);
    let reply = change(ctx, "replica-ack", &args, |txn, home| async move {
        replica::ack(&txn, &home, name, sequence, at).await
    })
    .await;
    // What waited for this replica may be due.
    ctx.services.lifecycle()?.wake_workers();
    reply
}

/// `BUCKET.REPLICA UNREGISTER <bucket> <name>`.
pub(super) async fn unregister(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = replica::check_name(args.required(1)?)?;
    let at = now(ctx)?;
    let reply = change(ctx, "replica-unregister", &args, |txn, home| async move {
        replica::unregister(&txn, &home, name, at).await
    })
    .await;
    ctx.services.lifecycle()?.wake_workers();
    reply
}

fn now(ctx: &Context<'_>) -> Result<i64> {
    Ok(ctx.services.lifecycle()?.catalog().now())
}

/// `BUCKET.REPLICA LIST <bucket>`.
pub(super) async fn list(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let catalog = ctx.services.lifecycle()?.catalog();
    let body = |txn: Transaction, live: LiveBucket| async move {
        let home = Home::from(&live);
        let mut replicas = replica::list(&txn, &home).await?;
        replicas.sort_by_key(|replica| Reverse(replica.record.checkpoint));
        let positions: Vec<Sequence> =
            replicas.iter().map(|replica| replica.record.checkpoint).collect();
        let behind = feed::behind(&txn, &home, &positions).await?;
        let mut rows: Vec<(Replica, u64)> = replicas.into_iter().zip(behind).collect();
        rows.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        Ok(rows)
    };
    let rows = catalog.read_data("replica-list", &ctx.session.namespace, bucket, body).await?;
    Ok(Reply::Array(rows.into_iter().map(|(replica, behind)| row(replica, behind)).collect()))
}

fn row(replica: Replica, behind: u64) -> Reply {
    let Replica { name, record, is_stale } = replica;
    let state = if is_stale { "stale" } else { "live" };
    Reply::map([
        ("replica", Reply::Text(name)),
        ("sequence", Reply::Text(record.checkpoint.to_string())),
        ("behind", Reply::Integer(i64::try_from(behind).unwrap_or(i64::MAX))),
        ("last_ack_at", time_reply(record.last_ack_at)),
        ("state", Reply::literal(state)),
    ])
}
