//! BUCKET.REMOVE, REMOVED, RESTORE, PURGE, RETAIN, HOLD, UNHOLD, BARRIER.

use std::time::Duration;

use super::removed::{row_reply, sums_fields};
use super::support::{Paging, bad_cursor, caller, current, instant, retain, time_reply, timeout};
use super::{Args, Argument, Context, Error, Group, Reply, Result, Spec, flags, run};
use crate::codec::duration::{Retention, format_instant};
use crate::codec::{Object, ObjectKind, RemovalId, Versionstamp};
use crate::lifecycle::list::Filter;
use crate::lifecycle::purge::PurgeRequest;
use crate::lifecycle::remove::{Keep, RemoveRequest};
use crate::lifecycle::restore::{RestoreRequest, Restored};
use crate::lifecycle::{SUMMED_MAX, Target};
use crate::metadata::{Path, name};

/// Most bytes of a REASON.
const REASON_BYTES_MAX: usize = 1_024;

pub(super) const LIFECYCLE: u16 = flags::WRITE | flags::NO_TRANSACTION;

const fn spec(name: &'static str, arity: i8, flags: u16, summary: &'static str) -> Spec {
    Spec {
        name,
        arity,
        flags,
        since: "0.1",
        group: Group::Bucket,
        summary,
        complexity: "O(1)",
        arguments: &[],
        handler: run!(remove),
    }
}

pub(super) const EXPIRY: Argument = Argument::one_of(
    "expiry",
    &[Argument::string("duration").after("RETAIN"), Argument::string("time").after("UNTIL")],
)
.optional();
const WAIT: Argument = Argument::one_of(
    "wait",
    &[Argument::integer("milliseconds").after("TIMEOUT"), Argument::keyword("nowait", "NOWAIT")],
)
.optional();
const UNTIL: Argument = Argument::one_of(
    "expiry",
    &[Argument::string("duration"), Argument::string("time").after("UNTIL")],
);
pub(super) const OPID: Argument = Argument::string("id").after("OPID").optional();
pub(super) const BYPASS: Argument =
    Argument::keyword("bypass-governance", "BYPASS-GOVERNANCE").optional();
pub(super) const DRYRUN: Argument = Argument::keyword("dryrun", "DRYRUN").optional();
pub(super) const ORDER: Argument = Argument::one_of(
    "order",
    &[Argument::keyword("newest", "NEWEST"), Argument::keyword("oldest", "OLDEST")],
)
.after("ORDER")
.optional();
pub(super) const ONE: Argument = Argument::string("removal-id").after("REMOVAL").optional();
pub(super) const LATEST: Argument = Argument::keyword("latest", "LATEST").optional();

// What PURGE, RETAIN, HOLD, UNHOLD and BARRIER take, of a bucket as of a namespace.
pub(super) const PURGE: &[Argument] =
    &[Argument::string("target"), LATEST, WAIT, BYPASS, OPID, DRYRUN];
pub(super) const RETAIN: &[Argument] = &[Argument::string("target"), LATEST, UNTIL, BYPASS, OPID];
pub(super) const HOLD: &[Argument] = &[
    Argument::string("target"),
    LATEST,
    Argument::string("reason").after("REASON"),
    Argument::string("time").after("REVIEW").optional(),
    OPID,
];
pub(super) const UNHOLD: &[Argument] = &[Argument::string("target"), LATEST, OPID];
pub(super) const BARRIER: &[Argument] = &[Argument::string("target"), LATEST];

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        arguments: &[
            Argument::string("bucket"),
            EXPIRY,
            Argument::string("reason").after("REASON").optional(),
            Argument::keyword("reserve-name", "RESERVE-NAME").optional(),
            Argument::keyword("if-exists", "IF-EXISTS").optional(),
            Argument::keyword("info", "INFO").optional(),
            BYPASS,
            OPID,
            DRYRUN,
        ],
        ..spec(
            "BUCKET.REMOVE",
            -2,
            LIFECYCLE,
            "Removes a bucket at once; it can be restored until it expires.",
        )
    },
    Spec {
        handler: run!(removed),
        complexity: "O(N) in the removals looked at",
        arguments: &[
            Argument::string("bucket").optional(),
            Argument::string("namespace").after("NAMESPACE").optional(),
            Argument::string("user").after("BY").optional(),
            Argument::string("time").after("AFTER").optional(),
            Argument::string("time").after("BEFORE").optional(),
            Argument::string("time").after("EXPIRING-BEFORE").optional(),
            ORDER,
            ONE,
            Argument::integer("count").after("COUNT").optional(),
            Argument::string("cursor").after("CURSOR").optional(),
            Argument::pattern("pattern").after("MATCH").optional(),
        ],
        ..spec("BUCKET.REMOVED", -1, flags::READ, "Lists removed buckets, oldest first.")
    },
    Spec {
        handler: run!(restore),
        arguments: &[
            Argument::string("target"),
            LATEST,
            Argument::string("bucket").after("AS").optional(),
            Argument::string("namespace").after("INTO").optional(),
            Argument::keyword("replace", "REPLACE").optional(),
            Argument::keyword("allow-expired", "ALLOW-EXPIRED").optional(),
            BYPASS,
            OPID,
            DRYRUN,
        ],
        ..spec(
            "BUCKET.RESTORE",
            -2,
            LIFECYCLE,
            "Brings a removed bucket back with all its documents.",
        )
    },
    Spec {
        handler: run!(purge),
        arguments: PURGE,
        ..spec(
            "BUCKET.PURGE",
            -2,
            LIFECYCLE | flags::BLOCKING | flags::DANGEROUS,
            "Erases a removed bucket for good, once every shard and member has let go of it.",
        )
    },
    Spec {
        handler: run!(retain_removed),
        arguments: RETAIN,
        ..spec("BUCKET.RETAIN", -3, LIFECYCLE, "Changes when a removed bucket expires.")
    },
    Spec {
        handler: run!(hold),
        arguments: HOLD,
        ..spec(
            "BUCKET.HOLD",
            -4,
            LIFECYCLE,
            "Orders that a removed bucket must not be purged by anybody.",
        )
    },
    Spec {
        handler: run!(unhold),
        arguments: UNHOLD,
        ..spec("BUCKET.UNHOLD", -2, LIFECYCLE, "Lifts the hold of a removed bucket.")
    },
    Spec {
        handler: run!(barrier),
        complexity: "O(N) in shards and members",
        arguments: BARRIER,
        ..spec(
            "BUCKET.BARRIER",
            -2,
            flags::READ,
            "Shows which shards and members have let go of a removed bucket.",
        )
    },
];

/// The value of `REASON`.
pub(super) fn reason(text: &str) -> Result<String> {
    if text.len() > REASON_BYTES_MAX {
        return Err(Error::Syntax(format!("REASON is longer than {REASON_BYTES_MAX} bytes")));
    }
    Ok(text.to_owned())
}

async fn remove(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let (namespace, name) = (current(ctx)?, name::bucket(args.required(0)?)?.to_owned());
    remove_object(ctx, &args, "BUCKET.REMOVE", namespace, Some(name)).await
}

/// REMOVE of a bucket in a namespace, or of the namespace itself.
pub(super) async fn remove_object(
    ctx: &mut Context<'_>,
    args: &Args,
    command: &str,
    namespace: Path,
    bucket: Option<String>,
) -> Result<Reply> {
    let mut request = RemoveRequest {
        namespace,
        bucket,
        keep: Keep::Default,
        reason: None,
        reserve_name: false,
        if_exists: false,
        bypass: false,
        dry_run: false,
    };
    let (mut info, mut opid) = (false, None);
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            word @ (b"RETAIN" | b"UNTIL") => {
                if request.keep != Keep::Default {
                    return Err(Error::syntax("give RETAIN or UNTIL, and only once"));
                }
                request.keep = match word {
                    b"RETAIN" => retain(options.text()?)?,
                    _ => Keep::Until(instant(options.text()?)?),
                };
            }
            b"REASON" => request.reason = Some(reason(options.text()?)?),
            b"RESERVE-NAME" => request.reserve_name = true,
            b"IF-EXISTS" => request.if_exists = true,
            b"INFO" => info = true,
            b"BYPASS-GOVERNANCE" => request.bypass = true,
            b"DRYRUN" => request.dry_run = true,
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let caller = caller(ctx.session, command, args, opid)?;
    let lifecycle = ctx.services.lifecycle()?;
    let removal = lifecycle.remove(&caller, &request).await?;
    if !info && !request.dry_run {
        return Ok(Reply::Ok);
    }
    let Some(removal) = removal else { return Ok(Reply::Null) };
    let id = if request.dry_run { Reply::Null } else { Reply::Text(removal.removal.to_string()) };
    let mut reply = vec![
        ("removal_id", id),
        ("id", Reply::Text(removal.object.to_string())),
        ("removed_at", Reply::Text(format_instant(removal.removed_at))),
        ("expires_at", time_reply(removal.expires_at)),
    ];
    match removal.object {
        Object::Bucket(bucket) => {
            let counts = lifecycle.counts(bucket).await?;
            reply.push(("documents", Reply::Integer(counts.documents)));
            reply.push(("bytes", Reply::Integer(counts.bytes)));
        }
        Object::Namespace(id) => {
            reply.extend(sums_fields(lifecycle.sums(id, &mut { SUMMED_MAX }).await?));
        }
    }
    Ok(map(reply))
}

pub(super) fn map(fields: Vec<(&'static str, Reply)>) -> Reply {
    Reply::Map(fields.into_iter().map(|(key, value)| (Reply::literal(key), value)).collect())
}

async fn removed(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let here = Target::Namespace(current(ctx)?);
    let mut filter = Filter::new(ObjectKind::Bucket, Some(here));
    // Options come in pairs: a first word that makes the number odd is the bucket.
    let named = named_in_front(&args, &["NAMESPACE"]);
    if let Some(word) = named {
        filter.name = Some(name::bucket(word)?.to_owned());
    }
    list_removed(ctx, &args, usize::from(named.is_some()), filter).await
}

/// The word in front of options that come in pairs, if there is one.
pub(super) fn named_in_front<'a>(args: &'a Args, more: &[&str]) -> Option<&'a [u8]> {
    const OPTIONS: &[&str] = &[
        "BY",
        "AFTER",
        "BEFORE",
        "EXPIRING-BEFORE",
        "ORDER",
        "REMOVAL",
        "COUNT",
        "CURSOR",
        "MATCH",
    ];
    let is_option = |word: &[u8]| {
        let mut options = OPTIONS.iter().chain(more);
        options.any(|option| word.eq_ignore_ascii_case(option.as_bytes()))
    };
    args.get(0).filter(|word| args.len() % 2 == 1 || !is_option(word))
}

/// REMOVED, with its options from `at` on.
pub(super) async fn list_removed(
    ctx: &mut Context<'_>,
    args: &Args,
    at: usize,
    mut filter: Filter,
) -> Result<Reply> {
    let mut paging = Paging::default();
    let mut options = args.options(at);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"NAMESPACE" if filter.kind == ObjectKind::Bucket => {
                let word = options.value()?;
                let everywhere = word == b"*";
                filter.within = (!everywhere).then(|| Target::parse_namespace(word)).transpose()?;
            }
            b"BY" => filter.by = Some(options.text()?.to_owned()),
            b"AFTER" => filter.after = Some(instant(options.text()?)?),
            b"BEFORE" => filter.before = Some(instant(options.text()?)?),
            b"EXPIRING-BEFORE" => filter.expiring_before = Some(instant(options.text()?)?),
            b"REMOVAL" => {
                let text = options.text()?;
                let removal = RemovalId::parse(text);
                filter.only = Some(removal.ok_or_else(|| Error::NoSuchRemoval(text.to_owned()))?);
            }
            b"ORDER" => {
                filter.newest_first = match options.text()?.to_ascii_uppercase().as_str() {
                    "NEWEST" => true,
                    "OLDEST" => false,
                    _ => return Err(Error::syntax("ORDER is NEWEST or OLDEST")),
                };
            }
            _ if paging.accept(option, &mut options)? => {}
            _ => return Err(options.unknown()),
        }
    }
    let after = paging
        .position()
        .map(|cursor| cursor.parse::<Versionstamp>().map_err(|_| bad_cursor()))
        .transpose()?;
    if let Some(permit) = ctx.session.permit().filter(|permit| permit.own_only()) {
        let me = permit.user().name.as_str();
        if filter.by.as_deref().is_some_and(|by| by != me) {
            return Err(permit.denied());
        }
        filter.by = Some(me.to_owned());
    }
    let lifecycle = ctx.services.lifecycle()?;
    let (rows, next) = lifecycle.removed(&filter, after, paging.limit()).await?;
    let mut items = Vec::with_capacity(rows.len());
    let mut left = SUMMED_MAX;
    for row in rows.iter().filter(|row| paging.admits(&row.name)) {
        items.push(row_reply(lifecycle, row, &mut left).await?);
    }
    Ok(paging.reply(items, next.map(|next| next.to_string())))
}

async fn restore(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let mut request = RestoreRequest {
        namespace: current(ctx)?,
        target: Target::parse(args.required(0)?)?,
        latest: false,
        name: None,
        into: None,
        replace: false,
        allow_expired: false,
        bypass: false,
        dry_run: false,
    };
    let mut opid = None;
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"LATEST" => request.latest = true,
            b"AS" => request.name = Some(name::bucket(options.value()?)?.to_owned()),
            b"INTO" => request.into = Some(Path::parse(options.value()?)?),
            b"REPLACE" => request.replace = true,
            b"ALLOW-EXPIRED" => request.allow_expired = true,
            b"BYPASS-GOVERNANCE" => request.bypass = true,
            b"DRYRUN" => request.dry_run = true,
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let caller = caller(ctx.session, "BUCKET.RESTORE", &args, opid)?;
    let restored = Box::pin(ctx.services.lifecycle()?.restore(&caller, &request)).await?;
    if !request.dry_run {
        return Ok(Reply::Ok);
    }
    Ok(restored_reply(restored))
}

/// What RESTORE would do.
pub(super) fn restored_reply(restored: Restored) -> Reply {
    let removal = restored.removal.map(|removal| removal.to_string());
    let mut reply = vec![
        ("removal_id", Reply::text_or_null(removal)),
        ("id", Reply::Text(restored.object.to_string())),
        ("namespace", Reply::Text(restored.namespace)),
    ];
    if let Some(name) = restored.name {
        reply.push(("bucket", Reply::Text(name)));
        reply.push(("replaces", Reply::Boolean(restored.replaced.is_some())));
    }
    map(reply)
}

async fn purge(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = Target::parse(args.required(0)?)?;
    purge_object(ctx, &args, "BUCKET.PURGE", target).await
}

/// PURGE of what was removed.
pub(super) async fn purge_object(
    ctx: &mut Context<'_>,
    args: &Args,
    command: &str,
    target: Target,
) -> Result<Reply> {
    let lifecycle = ctx.services.lifecycle()?;
    let mut request = PurgeRequest {
        namespace: current(ctx)?,
        target,
        latest: false,
        timeout: lifecycle.options().purge_wait,
        bypass: false,
        dry_run: false,
    };
    let mut opid = None;
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"LATEST" => request.latest = true,
            b"TIMEOUT" => {
                request.timeout = timeout(&mut options)?;
            }
            b"NOWAIT" => request.timeout = Duration::ZERO,
            b"BYPASS-GOVERNANCE" => request.bypass = true,
            b"DRYRUN" => request.dry_run = true,
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let caller = caller(ctx.session, command, args, opid)?;
    lifecycle.purge(&caller, &request).await?;
    Ok(Reply::Ok)
}

async fn retain_removed(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = Target::parse(args.required(0)?)?;
    retain_object(ctx, &args, "BUCKET.RETAIN", target).await
}

/// RETAIN of what was removed.
pub(super) async fn retain_object(
    ctx: &mut Context<'_>,
    args: &Args,
    command: &str,
    target: Target,
) -> Result<Reply> {
    let (mut latest, mut keep, mut bypass, mut opid) = (false, None, false, None);
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"LATEST" => latest = true,
            b"OPID" => opid = Some(options.value()?),
            b"BYPASS-GOVERNANCE" => bypass = true,
            _ if keep.is_some() => return Err(options.unknown()),
            b"UNTIL" => keep = Some(Keep::Until(instant(options.text()?)?)),
            _ => keep = Some(retain(&String::from_utf8_lossy(option))?),
        }
    }
    let keep = keep.ok_or_else(|| Error::syntax("give a duration, or UNTIL and a time"))?;
    if keep == Keep::For(Retention::For(Duration::ZERO)) {
        // Nobody shortens to nothing by a typing error: that is what PURGE is for.
        return Err(Error::RetentionOutOfRange(format!(
            "a retention of 0 is a purge: use {}",
            purge_of(target.kind())
        )));
    }
    let path = current(ctx)?;
    let caller = caller(ctx.session, command, args, opid)?;
    ctx.services.lifecycle()?.retain(&caller, &path, &target, latest, keep, bypass).await?;
    Ok(Reply::Ok)
}

async fn hold(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = Target::parse(args.required(0)?)?;
    hold_object(ctx, &args, "BUCKET.HOLD", target).await
}

/// HOLD on what was removed.
pub(super) async fn hold_object(
    ctx: &mut Context<'_>,
    args: &Args,
    command: &str,
    target: Target,
) -> Result<Reply> {
    let (mut latest, mut why, mut review, mut opid) = (false, None, None, None);
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"LATEST" => latest = true,
            b"REASON" => why = Some(reason(options.text()?)?),
            b"REVIEW" => review = Some(instant(options.text()?)?),
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let why = why
        .filter(|why| !why.trim().is_empty())
        .ok_or_else(|| Error::syntax("HOLD needs a REASON"))?;
    let path = current(ctx)?;
    let caller = caller(ctx.session, command, args, opid)?;
    ctx.services.lifecycle()?.hold(&caller, &path, &target, latest, &why, review).await?;
    Ok(Reply::Ok)
}

async fn unhold(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = Target::parse(args.required(0)?)?;
    unhold_object(ctx, &args, "BUCKET.UNHOLD", target).await
}

/// UNHOLD of what was removed.
pub(super) async fn unhold_object(
    ctx: &mut Context<'_>,
    args: &Args,
    command: &str,
    target: Target,
) -> Result<Reply> {
    let (mut latest, mut opid) = (false, None);
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"LATEST" => latest = true,
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let path = current(ctx)?;
    let caller = caller(ctx.session, command, args, opid)?;
    ctx.services.lifecycle()?.unhold(&caller, &path, &target, latest).await?;
    Ok(Reply::Ok)
}

/// The command that purges this kind of object.
const fn purge_of(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Bucket => "BUCKET.PURGE",
        ObjectKind::Namespace => "NAMESPACE PURGE",
    }
}

async fn barrier(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = Target::parse(args.required(0)?)?;
    barrier_of(ctx, &args, &target).await
}

/// BARRIER of what was removed.
pub(super) async fn barrier_of(
    ctx: &mut Context<'_>,
    args: &Args,
    target: &Target,
) -> Result<Reply> {
    let mut latest = false;
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"LATEST" => latest = true,
            _ => return Err(options.unknown()),
        }
    }
    let path = current(ctx)?;
    let (version, state) = ctx.services.lifecycle()?.barrier(&path, target, latest).await?;
    Ok(super::cluster::barrier_reply(version, &state))
}
