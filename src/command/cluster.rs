//! PURGE.STATUS, PURGE.PAUSE, PURGE.RESUME, AUDIT.LOG, CLUSTER.*.

use super::support::{LIST_MAX, Paging, bad_cursor, caller, current, time_reply};
use super::{Args, Argument, Context, Error, Group, Reply, Result, Spec, flags, run};
use crate::cluster::barrier::{BarrierState, Busy};
use crate::codec::duration::format_instant;
use crate::codec::{Sequence, Versionstamp};
use crate::lifecycle::Target;
use crate::lifecycle::audit_log::Part;
use crate::metadata::Path;
use crate::store::Reclaim;

const fn spec(name: &'static str, arity: i8, flags: u16, summary: &'static str) -> Spec {
    Spec {
        name,
        arity,
        flags,
        since: "0.1",
        group: Group::Cluster,
        summary,
        complexity: "O(1)",
        arguments: &[],
        handler: run!(describe),
    }
}

const WHOLE: u16 = flags::WRITE | flags::ADMIN | flags::NO_TRANSACTION;

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        handler: run!(status),
        complexity: "O(N) in the jobs",
        arguments: &[Argument::string("target").optional()],
        ..spec(
            "PURGE.STATUS",
            -1,
            flags::READ,
            "Shows how far the bytes of purged buckets have been given back.",
        )
    },
    Spec {
        handler: run!(pause),
        ..spec("PURGE.PAUSE", 1, WHOLE, "Stops all destruction in the whole cluster.")
    },
    Spec { handler: run!(resume), ..spec("PURGE.RESUME", 1, WHOLE, "Lets destruction go on.") },
    Spec {
        handler: run!(audit_log),
        complexity: "O(N) in the rows looked at",
        arguments: &[
            Argument::integer("count").after("COUNT").optional(),
            Argument::string("namespace").after("NAMESPACE").optional(),
            Argument::string("bucket").after("BUCKET").optional(),
            Argument::string("user").after("BY").optional(),
            Argument::string("action").after("ACTION").optional(),
            Argument::string("cursor").after("CURSOR").optional(),
        ],
        ..spec(
            "AUDIT.LOG",
            -1,
            flags::READ | flags::ADMIN,
            "Shows who removed, restored and purged what, newest first.",
        )
    },
    Spec { ..spec("CLUSTER.DESCRIBE", 1, flags::READ, "Describes the cluster as a whole.") },
    Spec {
        handler: run!(members),
        complexity: "O(N) in members",
        ..spec("CLUSTER.MEMBERS", 1, flags::READ, "Lists the members of the cluster.")
    },
    Spec {
        handler: run!(shards),
        complexity: "O(N) in shards",
        ..spec(
            "CLUSTER.SHARDS",
            1,
            flags::READ,
            "Lists the shards, their owners and what they have witnessed.",
        )
    },
    Spec {
        handler: run!(clock),
        complexity: "O(N) in members",
        arguments: &[Argument::keyword("confirm", "CONFIRM").optional()],
        ..spec(
            "CLUSTER.CLOCK",
            -1,
            flags::READ | flags::ADMIN,
            "Shows the members' clocks; CONFIRM accepts the present time.",
        )
    },
];

async fn status(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    if args.len() > 1 {
        return Err(super::wrong_arity("PURGE.STATUS"));
    }
    let target = args.get(0).map(Target::parse_either).transpose()?;
    let path = current(ctx)?;
    let lifecycle = ctx.services.lifecycle()?;
    let jobs = lifecycle.reclaim_jobs(&path, target.as_ref(), LIST_MAX).await?;
    let mut items = Vec::with_capacity(jobs.len());
    for (removal, job) in jobs {
        let bucket = job.object.bucket();
        // What was in a namespace is many prefixes: the engine tells of each alone.
        let progress = match bucket {
            Some(bucket) => lifecycle.reclaim_progress(bucket).await?,
            None => Reclaim::default(),
        };
        let bytes = |bytes: Option<u64>| bytes.map_or(Reply::Null, Reply::from);
        items.push(Reply::map([
            ("removal_id", Reply::Text(removal.to_string())),
            ("id", Reply::Text(job.object.to_string())),
            ("namespace", Reply::Text(job.namespace_path)),
            ("bucket", bucket.map_or(Reply::Null, |_| Reply::Text(job.name))),
            ("phase", Reply::literal(if job.dropped { "reclaiming" } else { "queued" })),
            ("purged_at", Reply::Text(format_instant(job.purged_at))),
            ("bytes_cleared", Reply::Integer(if job.dropped { job.bytes } else { 0 })),
            ("bytes_pending", bytes(progress.pending_bytes)),
            ("bytes_returned", bytes(progress.returned_bytes)),
            (
                "rate",
                bytes(rate(progress.returned_bytes, job.purged_at, lifecycle.catalog().now())),
            ),
            ("objects", bucket.map_or(Reply::Integer(job.objects), |_| Reply::Null)),
            ("last_error", Reply::text_or_null(job.last_error)),
        ]));
    }
    Ok(Reply::Array(items))
}

/// Bytes a second since the purge.
fn rate(returned: Option<u64>, since: i64, now: i64) -> Option<u64> {
    let seconds = u64::try_from(now.saturating_sub(since)).ok()?.div_ceil(1_000).max(1);
    returned.map(|bytes| bytes / seconds)
}

async fn pause(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let caller = caller(ctx.session, "PURGE.PAUSE", &args, None)?;
    ctx.services.lifecycle()?.pause_purging(&caller).await?;
    Ok(Reply::Ok)
}

async fn resume(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let caller = caller(ctx.session, "PURGE.RESUME", &args, None)?;
    ctx.services.lifecycle()?.resume_purging(&caller).await?;
    Ok(Reply::Ok)
}

async fn audit_log(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let (mut count, mut namespace, mut bucket, mut by, mut action) = (100, None, None, None, None);
    let mut cursor = None;
    let mut options = args.options(0);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"COUNT" => {
                count = usize::try_from(options.integer()?)
                    .ok()
                    .filter(|count| (1..=LIST_MAX).contains(count))
                    .ok_or_else(|| {
                        Error::Syntax(format!("COUNT must be between 1 and {LIST_MAX}"))
                    })?;
            }
            b"NAMESPACE" => namespace = Some(Path::parse(options.value()?)?.to_string()),
            b"BUCKET" => bucket = Some(options.text()?.to_owned()),
            b"BY" => by = Some(options.text()?.to_owned()),
            b"ACTION" => action = Some(options.text()?.to_owned()),
            b"CURSOR" => cursor = Some(options.text()?.to_owned()),
            _ => return Err(options.unknown()),
        }
    }
    let before = match cursor.as_deref() {
        None | Some("0") => None,
        Some(text) => Some(text.parse::<Sequence>().map_err(|_| bad_cursor())?),
    };
    // Who pages gets what a page finds among so many rows; who doesn't, all of what is asked for.
    let look_at = if cursor.is_some() { LIST_MAX } else { usize::MAX };
    let part = Part { before, limit: count, look_at };
    let lifecycle = ctx.services.lifecycle()?;
    let (rows, next) = lifecycle
        .audit_log(part, |row| {
            namespace.as_ref().is_none_or(|namespace| *namespace == row.namespace)
                && bucket.as_ref().is_none_or(|bucket| *bucket == row.bucket)
                && by.as_ref().is_none_or(|by| *by == row.by.user)
                && action.as_ref().is_none_or(|action| *action == row.action)
        })
        .await?;
    let items = rows.into_iter().map(|row| {
        let text = |text: String| if text.is_empty() { Reply::Null } else { Reply::Text(text) };
        Reply::map([
            ("time", Reply::Text(format_instant(row.at))),
            ("user", Reply::Text(row.by.user)),
            ("client", text(row.by.client)),
            ("action", Reply::Text(row.action)),
            ("namespace", text(row.namespace)),
            ("bucket", text(row.bucket)),
            ("id", text(row.id)),
            ("removal_id", Reply::text_or_null(row.removal)),
            ("reason", Reply::text_or_null(row.reason)),
            ("outcome", Reply::Text(row.outcome)),
            ("count", Reply::Integer(row.count)),
        ])
    });
    let paging = Paging { cursor, ..Paging::default() };
    Ok(paging.reply(items.collect(), next.map(|next| next.to_string())))
}

fn busy_reply(busy: &[Busy]) -> Reply {
    let rows = busy.iter().map(|busy| {
        Reply::map([
            ("node", Reply::Text(busy.node.clone())),
            ("what", Reply::Text(busy.what.join(", "))),
            ("since", Reply::Text(format_instant(busy.since))),
        ])
    });
    Reply::Array(rows.collect())
}

/// A barrier: one map for each shard, then one for each member that lags.
pub(super) fn barrier_reply(version: Versionstamp, state: &BarrierState) -> Reply {
    let shards = state.shards.iter().map(|shard| {
        Reply::map([
            ("shard", Reply::Integer(i64::from(shard.shard))),
            ("node", Reply::Text(shard.node.clone())),
            ("epoch", Reply::Integer(shard.epoch)),
            ("required", Reply::Text(version.to_string())),
            ("witnessed", Reply::Text(shard.witnessed.to_string())),
            ("busy", busy_reply(&shard.busy)),
            ("satisfied", Reply::Boolean(shard.satisfied)),
        ])
    });
    let members = state.lagging.iter().map(|member| {
        Reply::map([
            ("shard", Reply::Null),
            ("node", Reply::Text(member.node.clone())),
            ("epoch", Reply::Null),
            ("required", Reply::Text(version.to_string())),
            ("witnessed", Reply::Text(member.seen.to_string())),
            ("busy", busy_reply(&member.busy)),
            ("satisfied", Reply::Boolean(false)),
        ])
    });
    Reply::Array(shards.chain(members).collect())
}

async fn describe(ctx: &mut Context<'_>, _: Args) -> Result<Reply> {
    let lifecycle = ctx.services.lifecycle()?;
    let cluster = lifecycle.catalog().cluster();
    let view = cluster.view().await?;
    let paused = lifecycle.paused().await?;
    let stopped = paused
        .map(|pause| format!("paused by {} since {}", pause.by.user, format_instant(pause.since)))
        .or_else(|| cluster.time().suspect());
    Ok(Reply::map([
        ("cluster", Reply::Text(cluster.record().name.clone())),
        ("store", Reply::literal(ctx.services.config.store.name())),
        ("node", Reply::Text(cluster.node().to_owned())),
        ("shards", Reply::Integer(i64::from(cluster.shard_count()))),
        ("members", Reply::from(view.members.len())),
        ("journal_head", Reply::Text(view.journal_head.to_string())),
        ("cluster_time", time_reply(Some(lifecycle.catalog().now()))),
        ("purging_stopped", Reply::text_or_null(stopped)),
    ]))
}

async fn members(ctx: &mut Context<'_>, _: Args) -> Result<Reply> {
    let view = ctx.services.lifecycle()?.catalog().cluster().view().await?;
    let items = view.members.into_iter().map(|member| {
        let shards = member.shards.iter().map(|shard| Reply::Integer(i64::from(*shard)));
        Reply::map([
            ("node", Reply::Text(member.node.clone())),
            ("address", Reply::Text(member.address.clone())),
            ("status", Reply::literal(if member.alive { "alive" } else { "silent" })),
            ("last_seen_ms", Reply::Integer(member.last_seen_ms)),
            ("behind", Reply::from(member.behind)),
            ("shards", Reply::Array(shards.collect())),
            ("clock_offset_ms", member.clock_offset_ms.map_or(Reply::Null, Reply::Integer)),
        ])
    });
    Ok(Reply::Array(items.collect()))
}

async fn shards(ctx: &mut Context<'_>, _: Args) -> Result<Reply> {
    let view = ctx.services.lifecycle()?.catalog().cluster().view().await?;
    let items = view.shards.into_iter().map(|shard| {
        Reply::map([
            ("shard", Reply::Integer(i64::from(shard.shard))),
            ("node", Reply::Text(shard.node.clone())),
            ("epoch", Reply::Integer(shard.epoch)),
            ("status", Reply::literal(if shard.owned { "owned" } else { "orphaned" })),
            ("witnessed", Reply::Text(shard.witnessed.to_string())),
        ])
    });
    Ok(Reply::Array(items.collect()))
}

async fn clock(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let confirm = args.is(0, "CONFIRM");
    if args.len() > 1 || (args.len() == 1 && !confirm) {
        return Err(Error::syntax("CLUSTER.CLOCK takes nothing or CONFIRM"));
    }
    let cluster = ctx.services.lifecycle()?.catalog().cluster();
    if confirm {
        cluster.confirm_time().await?;
        ctx.services.lifecycle()?.wake_workers();
    }
    let view = cluster.view().await?;
    let time = cluster.time().certain();
    let members = view.members.into_iter().map(|member| {
        Reply::map([
            ("node", Reply::Text(member.node.clone())),
            ("clock", time_reply(member.clock_offset_ms.map(|offset| offset + time))),
            ("clock_offset_ms", member.clock_offset_ms.map_or(Reply::Null, Reply::Integer)),
        ])
    });
    Ok(Reply::map([
        ("cluster_time", time_reply(Some(cluster.time().now()))),
        ("suspect", Reply::text_or_null(cluster.time().suspect())),
        ("members", Reply::Array(members.collect())),
    ]))
}
