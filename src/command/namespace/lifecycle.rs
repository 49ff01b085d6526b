//! NAMESPACE REMOVE, REMOVED, RESTORE, PURGE, RETAIN, HOLD, UNHOLD, BARRIER, PROTECT,
//! DESCRIBE, MOVE.

use super::{policy, spec};
use crate::codec::duration::format_instant;
use crate::codec::record::NamespaceRecord;
use crate::codec::{NamespaceId, Object, ObjectKind};
use crate::command::bucket::{on_or_off, only_opid, retention_reply};
use crate::command::lifecycle::{
    BARRIER, BYPASS, DRYRUN, EXPIRY, HOLD, LATEST, LIFECYCLE, ONE, OPID, ORDER, PURGE, RETAIN,
    UNHOLD, barrier_of, hold_object, list_removed, map, named_in_front, purge_object,
    remove_object, restored_reply, retain_object, unhold_object,
};
use crate::command::support::caller;
use crate::command::{Args, Argument, Context, Reply, Result, Spec, flags, run};
use crate::error::Error;
use crate::lifecycle::list::Filter;
use crate::lifecycle::namespace::RestoreNamespaceRequest;
use crate::lifecycle::target::{self, Instance, Removed};
use crate::lifecycle::{SUMMED_MAX, Target};
use crate::metadata::Path;
use crate::metadata::namespace::{self, Lineage};
use crate::metadata::policy::Policy;
use crate::store::{Read, Transaction};

pub(in crate::command) const COMMANDS: &[Spec] = &[
    Spec {
        handler: run!(remove),
        arguments: &[
            Argument::string("namespace"),
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
            "NAMESPACE REMOVE",
            -3,
            LIFECYCLE,
            "Removes a namespace with all that is in it at once; it can be restored until it expires.",
        )
    },
    Spec {
        handler: run!(removed),
        complexity: "O(N) in the removals looked at",
        arguments: &[
            Argument::string("parent").optional(),
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
        ..spec("NAMESPACE REMOVED", -2, flags::READ, "Lists removed namespaces, oldest first.")
    },
    Spec {
        handler: run!(restore),
        arguments: &[
            Argument::string("target"),
            LATEST,
            Argument::string("namespace").after("AS").optional(),
            Argument::keyword("allow-expired", "ALLOW-EXPIRED").optional(),
            BYPASS,
            OPID,
            DRYRUN,
        ],
        ..spec(
            "NAMESPACE RESTORE",
            -3,
            LIFECYCLE,
            "Brings a removed namespace back with all that was in it.",
        )
    },
    Spec {
        handler: run!(purge),
        arguments: PURGE,
        ..spec(
            "NAMESPACE PURGE",
            -3,
            LIFECYCLE | flags::BLOCKING | flags::DANGEROUS,
            "Erases a removed namespace for good, with all that is in it.",
        )
    },
    Spec {
        handler: run!(retain),
        arguments: RETAIN,
        ..spec("NAMESPACE RETAIN", -4, LIFECYCLE, "Changes when a removed namespace expires.")
    },
    Spec {
        handler: run!(hold),
        arguments: HOLD,
        ..spec(
            "NAMESPACE HOLD",
            -5,
            LIFECYCLE,
            "Orders that a removed namespace must not be purged by anybody.",
        )
    },
    Spec {
        handler: run!(unhold),
        arguments: UNHOLD,
        ..spec("NAMESPACE UNHOLD", -3, LIFECYCLE, "Lifts the hold of a removed namespace.")
    },
    Spec {
        handler: run!(barrier),
        complexity: "O(N) in shards and members",
        arguments: BARRIER,
        ..spec(
            "NAMESPACE BARRIER",
            -3,
            flags::READ,
            "Shows which shards and members have let go of a removed namespace.",
        )
    },
    Spec {
        handler: run!(protect),
        arguments: &[
            Argument::string("namespace"),
            Argument::one_of(
                "state",
                &[Argument::keyword("on", "ON"), Argument::keyword("off", "OFF")],
            ),
            OPID,
        ],
        ..spec(
            "NAMESPACE PROTECT",
            -4,
            LIFECYCLE,
            "Protects a namespace and those above it against REMOVE, or lifts the protection.",
        )
    },
    Spec {
        handler: run!(describe),
        complexity: "O(N) in its buckets, up to 1,000",
        arguments: &[Argument::string("target")],
        ..spec("NAMESPACE DESCRIBE", 3, flags::READ, "Describes a namespace, active or removed.")
    },
    Spec {
        handler: run!(move_to),
        arguments: &[
            Argument::string("namespace"),
            Argument::string("new-namespace"),
            BYPASS,
            OPID,
        ],
        ..spec(
            "NAMESPACE MOVE",
            -4,
            LIFECYCLE,
            "Gives a namespace another path, with all that is in it.",
        )
    },
];

fn target(args: &Args) -> Result<Target> {
    Target::parse_namespace(args.required(0)?)
}

async fn remove(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let path = Path::parse(args.required(0)?)?;
    remove_object(ctx, &args, "NAMESPACE REMOVE", path, None).await
}

async fn removed(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let parent = named_in_front(&args, &[]).map(Target::parse_namespace).transpose()?;
    let at = usize::from(parent.is_some());
    list_removed(ctx, &args, at, Filter::new(ObjectKind::Namespace, parent)).await
}

async fn restore(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let mut request = RestoreNamespaceRequest {
        target: target(&args)?,
        latest: false,
        path: None,
        allow_expired: false,
        bypass: false,
        dry_run: false,
    };
    let mut opid = None;
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"LATEST" => request.latest = true,
            b"AS" => request.path = Some(Path::parse(options.value()?)?),
            b"ALLOW-EXPIRED" => request.allow_expired = true,
            b"BYPASS-GOVERNANCE" => request.bypass = true,
            b"DRYRUN" => request.dry_run = true,
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let caller = caller(ctx.session, "NAMESPACE RESTORE", &args, opid)?;
    let restored = ctx.services.lifecycle()?.restore_namespace(&caller, &request).await?;
    Ok(if request.dry_run { restored_reply(restored) } else { Reply::Ok })
}

async fn purge(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = target(&args)?;
    if let Target::Namespace(path) = &target {
        ctx.services.lifecycle()?.catalog().expect_not_default("purge", path)?;
    }
    purge_object(ctx, &args, "NAMESPACE PURGE", target).await
}

async fn retain(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = target(&args)?;
    retain_object(ctx, &args, "NAMESPACE RETAIN", target).await
}

async fn hold(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = target(&args)?;
    hold_object(ctx, &args, "NAMESPACE HOLD", target).await
}

async fn unhold(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = target(&args)?;
    unhold_object(ctx, &args, "NAMESPACE UNHOLD", target).await
}

async fn barrier(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    barrier_of(ctx, &args, &target(&args)?).await
}

async fn protect(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let path = Path::parse(args.required(0)?)?;
    let protected = on_or_off(&args)?;
    let caller = caller(ctx.session, "NAMESPACE PROTECT", &args, only_opid(&args, 2)?)?;
    ctx.services.lifecycle()?.catalog().protect_namespace(&caller, &path, protected).await?;
    Ok(Reply::Ok)
}

async fn move_to(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let from = Path::parse(args.required(0)?)?;
    let to = Path::parse(args.required(1)?)?;
    let (mut bypass, mut opid) = (false, None);
    let mut options = args.options(2);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"BYPASS-GOVERNANCE" => bypass = true,
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let caller = caller(ctx.session, "NAMESPACE MOVE", &args, opid)?;
    let lifecycle = ctx.services.lifecycle()?;
    let result = lifecycle.catalog().move_namespace(&caller, &from, &to, bypass).await;
    lifecycle.note_refusal(&caller, "move", (&from, ""), &result);
    result?;
    Ok(Reply::Ok)
}

/// What DESCRIBE found: of a removed one its removal.
struct Described {
    id: NamespaceId,
    record: NamespaceRecord,
    above: Lineage,
    removal: Option<Box<Removed>>,
}

async fn describe(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = &target(&args)?;
    let lifecycle = ctx.services.lifecycle()?;
    let catalog = lifecycle.catalog();
    let here = catalog.default_namespace();
    let found = catalog
        .read("describe", |txn: Transaction| async move { find(&txn, here, target).await })
        .await?;
    let Described { id, record, above, removal } = found;
    let fence = catalog.fence(id.0).await?;
    let is_removed = removal.is_some() || above.removed().is_some();
    let policy = Policy::below(&above, Some((id, &record)));
    let mut reply = vec![
        ("id", Reply::Text(id.to_string())),
        ("namespace", Reply::Text(above.path_of(&record.segment))),
        ("state", Reply::literal(if is_removed { "removed" } else { "active" })),
        ("created_at", Reply::Text(format_instant(record.created_at))),
        ("version", Reply::text_or_null(fence.map(|fence| fence.to_string()))),
        ("protected", Reply::Boolean(record.protected)),
        ("retention", retention_reply(lifecycle, &policy)),
        ("policy", policy::reply(catalog, &policy, None).await?),
    ];
    reply.extend(crate::command::removed::sums_fields(
        lifecycle.sums(id, &mut { SUMMED_MAX }).await?,
    ));
    if let Some(removed) = removal {
        reply.extend(policy::removed_fields(&removed, catalog.certain_now()));
    }
    Ok(map(reply))
}

/// The active namespace that a target means, else the removed one.
async fn find(txn: &Transaction, here: &Path, target: &Target) -> Result<Described> {
    let active = match target {
        Target::Namespace(path) => match namespace::resolve(txn, path, Read::Snapshot).await {
            Ok(found) => Some(found.id()),
            // It may be this one itself that is removed.
            Err(Error::NamespaceBeingRemoved(removed)) if removed == path.as_str() => None,
            Err(error) => return Err(error),
        },
        Target::NamespaceInstance(id) => Some(*id),
        _ => None,
    };
    if let Some(id) = active {
        let mut above =
            namespace::lineage(txn, id, Read::Snapshot).await.map_err(|error| match error {
                Error::NoSuchNamespace(_) => Error::NoSuchNamespace(target.to_string()),
                error => error,
            })?;
        if let Some((_, record)) = above.chain.pop()
            && record.state == crate::codec::record::State::Active
        {
            return Ok(Described { id, record, above, removal: None });
        }
    }
    let removed = target::resolve_removed(txn, here, target, false).await?;
    match (removed.object(), &removed.instance) {
        (Object::Namespace(id), Instance::Namespace(record)) => {
            let (record, above) = (record.clone(), removed.above.clone());
            Ok(Described { id, record, above, removal: Some(Box::new(removed)) })
        }
        _ => Err(Error::NoSuchNamespace(target.to_string())),
    }
}
