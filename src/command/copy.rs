//! BUCKET.COPY, BUCKET.SWAP.

use super::support::{caller, current, timeout};
use super::{Args, Argument, Context, Group, Reply, Result, Spec, flags, run};
use crate::codec::duration::format_instant;
use crate::lifecycle::copy::swap::SwapRequest;
use crate::lifecycle::copy::{CopyRequest, CopyState};
use crate::metadata::name;

const OPID: Argument = Argument::string("id").after("OPID").optional();

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "BUCKET.COPY",
        arity: -3,
        flags: flags::WRITE | flags::NO_TRANSACTION,
        since: "0.1",
        group: Group::Bucket,
        summary: "Makes a copy of a bucket that goes on following its changes.",
        complexity: "O(1); the copying is done in the background",
        arguments: &[
            Argument::string("bucket"),
            Argument::string("new-bucket"),
            Argument::keyword("live-only", "LIVE-ONLY").optional(),
            OPID,
        ],
        handler: run!(copy),
    },
    Spec {
        name: "BUCKET.SWAP",
        arity: -3,
        flags: flags::WRITE | flags::NO_TRANSACTION | flags::BLOCKING,
        since: "0.1",
        group: Group::Bucket,
        summary: "Gives the name of a bucket to its copy and removes the bucket, restorable.",
        complexity: "O(N) in the changes that the copy has not followed yet",
        arguments: &[
            Argument::string("bucket"),
            Argument::string("new-bucket"),
            Argument::integer("milliseconds").after("TIMEOUT").optional(),
            OPID,
        ],
        handler: run!(swap),
    },
];

async fn copy(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let mut request = CopyRequest {
        namespace: current(ctx)?,
        bucket: name::bucket(args.required(0)?)?.to_owned(),
        copy: name::bucket(args.required(1)?)?.to_owned(),
        live_only: false,
    };
    let mut opid = None;
    let mut options = args.options(2);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"LIVE-ONLY" => request.live_only = true,
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let caller = caller(ctx.session, "BUCKET.COPY", &args, opid)?;
    ctx.services.lifecycle()?.copy(&caller, &request).await?;
    Ok(Reply::Ok)
}

async fn swap(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let lifecycle = ctx.services.lifecycle()?;
    let mut request = SwapRequest {
        namespace: current(ctx)?,
        bucket: name::bucket(args.required(0)?)?.to_owned(),
        copy: name::bucket(args.required(1)?)?.to_owned(),
        timeout: lifecycle.options().copy_wait,
    };
    let mut opid = None;
    let mut options = args.options(2);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"TIMEOUT" => request.timeout = timeout(&mut options)?,
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let caller = caller(ctx.session, "BUCKET.SWAP", &args, opid)?;
    lifecycle.swap(&caller, &request).await?;
    Ok(Reply::Ok)
}

/// How far a copy is, as DESCRIBE shows it.
pub(super) fn state_reply(state: &CopyState, now: i64) -> Reply {
    let record = &state.record;
    let lag_ms = state.lag.since.map_or(0, |since| now.saturating_sub(since).max(0));
    let changes = i64::try_from(state.lag.changes).unwrap_or(i64::MAX);
    Reply::map([
        ("source", Reply::text_or_null(state.name.clone())),
        ("source_id", Reply::Text(state.source.to_string())),
        ("live_only", Reply::Boolean(state.live_only)),
        ("phase", Reply::literal(record.phase.name())),
        ("started_at", Reply::Text(format_instant(record.started_at))),
        ("done", Reply::Integer(record.done)),
        ("total", Reply::Integer(record.total)),
        ("changes", Reply::Integer(record.changes)),
        ("behind", Reply::Integer(changes)),
        ("lag_ms", Reply::Integer(lag_ms)),
        ("last_error", Reply::text_or_null(record.error.clone())),
    ])
}
