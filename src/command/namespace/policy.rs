//! NAMESPACE POLICY, and what applies where, as DESCRIBE shows it.

use crate::codec::Object;
use crate::codec::duration::{Retention, format_instant};
use crate::codec::record::{HoldRecord, KeptBy, Lock};
use crate::command::lifecycle::{LIFECYCLE, OPID};
use crate::command::support::{caller, retention, time_reply};
use crate::command::{Args, Argument, Context, Group, Options, Reply, Result, Spec, run};
use crate::error::Error;
use crate::lifecycle::lock::Locked;
use crate::lifecycle::target::Removed;
use crate::metadata::policy::{
    self, Applied, Change, Kept, Limits, Name, Policy, Set, Source, Value,
};
use crate::metadata::usage::{self, Sums};
use crate::metadata::{Catalog, Path, namespace};
use crate::store::{Read, Transaction};

const CHANGES: &[Argument] = &[Argument::string("name"), Argument::string("value")];

pub(in crate::command) const COMMANDS: &[Spec] = &[Spec {
    name: "NAMESPACE POLICY",
    arity: -3,
    flags: LIFECYCLE,
    since: "0.1",
    group: Group::Namespace,
    summary: "Shows or changes how long what is removed in a namespace is kept, who may end that, and how much it may hold.",
    complexity: "O(1); O(N) in its buckets to show how much a namespace with quotas holds",
    arguments: &[
        Argument::string("namespace"),
        Argument::one_of(
            "change",
            &[
                Argument::block("set", CHANGES).after("SET").multiple(),
                Argument::string("name").after("UNSET").multiple(),
            ],
        )
        .optional(),
        OPID,
    ],
    handler: run!(policy),
}];

async fn policy(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let path = Path::parse(args.required(0)?)?;
    let (mut changes, mut opid) = (Vec::new(), None);
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"SET" => {
                change(&mut options, &mut changes, true)?;
                while options.peek().is_some_and(|word| Name::parse(word).is_some()) {
                    change(&mut options, &mut changes, true)?;
                }
            }
            b"UNSET" => {
                change(&mut options, &mut changes, false)?;
                while options.peek().is_some_and(|word| Name::parse(word).is_some()) {
                    change(&mut options, &mut changes, false)?;
                }
            }
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let lifecycle = ctx.services.lifecycle()?;
    let catalog = lifecycle.catalog();
    if changes.is_empty() {
        let path = &path;
        let here = catalog
            .read("policy", |txn: Transaction| async move {
                let id = namespace::resolve(&txn, path, Read::Snapshot).await?.id();
                namespace::lineage(&txn, id, Read::Snapshot).await
            })
            .await?;
        return reply(catalog, &Policy::of(&here.chain), None).await;
    }
    let caller = caller(ctx.session, "NAMESPACE POLICY", &args, opid)?;
    let result = catalog.change_policy(&caller, &path, &changes).await;
    lifecycle.note_refusal(&caller, "policy", (&path, ""), &result);
    result?;
    lifecycle.wake_workers();
    Ok(Reply::Ok)
}

/// One name, and when it is set its value.
fn change(options: &mut Options<'_>, changes: &mut Vec<Change>, set: bool) -> Result<()> {
    let word = options.value()?;
    let name = Name::parse(word).ok_or_else(|| {
        let names: Vec<&str> = Name::ALL.iter().map(|name| name.text()).collect();
        Error::syntax(format!(
            "Unknown policy '{}': there are {}",
            String::from_utf8_lossy(word),
            names.join(", ")
        ))
    })?;
    if changes.iter().any(|(known, _)| *known == name) {
        return Err(Error::syntax(format!("'{}' is given twice", name.text())));
    }
    let value = if set { Some(value(name, options.text()?)?) } else { None };
    changes.push((name, value));
    Ok(())
}

fn value(name: Name, text: &str) -> Result<Value> {
    Ok(match name {
        Name::Lock => {
            let lock = Lock::ALL.into_iter().find(|lock| text.eq_ignore_ascii_case(lock.name()));
            Value::Lock(lock.ok_or_else(|| {
                Error::syntax(format!("Invalid lock '{text}': none, governance or compliance"))
            })?)
        }
        Name::QuotaDocuments | Name::QuotaBytes | Name::QuotaRemovedBytes => {
            let count = text.parse::<i64>().ok().filter(|count| *count >= 0);
            Value::Count(count.ok_or_else(|| {
                Error::syntax(format!("Invalid quota '{text}': a whole number, 0 or more"))
            })?)
        }
        Name::QuotaCountsRemoved if text.eq_ignore_ascii_case("yes") => Value::Flag(true),
        Name::QuotaCountsRemoved if text.eq_ignore_ascii_case("no") => Value::Flag(false),
        Name::QuotaCountsRemoved => {
            return Err(Error::syntax(format!("'{}' takes yes or no", name.text())));
        }
        _ => Value::Keep(retention(text)?.into()),
    })
}

/// What applies, and where it comes from. `own` is a bucket's own retention of deleted
/// documents.
pub(in crate::command) async fn reply(
    catalog: &Catalog,
    policy: &Policy,
    own: Option<Retention>,
) -> Result<Reply> {
    let settings = catalog.settings();
    let objects = policy.objects.applied(None, settings.retention);
    let documents = policy.applied(Kept::Documents, own, settings.tombstone_retention);
    let lock = policy.lock.as_ref();
    let mut fields = vec![("retention", applied(&objects))];
    fields.extend(limits(policy.limits(Kept::Objects), "retention-min", "retention-max"));
    fields.push(("tombstone-retention", applied(&documents)));
    let names = ("tombstone-retention-min", "tombstone-retention-max");
    fields.extend(limits(policy.limits(Kept::Documents), names.0, names.1));
    let shown = lock.map_or(Lock::None, |set| set.value).name();
    let by = lock.map_or_else(|| Reply::literal("default"), |set| Reply::Text(by(&set.path)));
    fields.push(("lock", sourced(Reply::literal(shown), by)));
    let mut quotas = Vec::with_capacity(policy.quotas.len());
    for quota in &policy.quotas {
        let count = |count: Option<i64>| count.map_or(Reply::Null, Reply::Integer);
        let (sums, at) = used(catalog, quota.id).await?;
        quotas.push(Reply::map([
            ("namespace", Reply::Text(quota.path.to_string())),
            ("quota-documents", count(quota.documents)),
            ("quota-bytes", count(quota.bytes)),
            ("quota-removed-bytes", count(quota.removed_bytes)),
            (
                "quota-counts-removed",
                Reply::literal(if quota.counts_removed { "yes" } else { "no" }),
            ),
            ("documents", Reply::Integer(sums.documents)),
            ("bytes", Reply::Integer(sums.bytes)),
            ("removed_documents", Reply::Integer(sums.removed_documents)),
            ("removed_bytes", Reply::Integer(sums.removed_bytes)),
            ("counted_at", Reply::Text(format_instant(at))),
        ]));
    }
    fields.push(("quotas", Reply::Array(quotas)));
    Ok(crate::command::lifecycle::map(fields))
}

/// What a namespace holds, as this node counted last; counted now if it never did.
async fn used(catalog: &Catalog, id: crate::codec::NamespaceId) -> Result<(Sums, i64)> {
    let usage = catalog.handles().usages().of(id);
    if let Some(last) = usage.last() {
        return Ok(last);
    }
    let sums = usage::count(catalog, id).await?;
    let now = catalog.now();
    usage.note(sums, now);
    Ok((sums, now))
}

fn sourced(value: Reply, source: Reply) -> Reply {
    Reply::map([("value", value), ("source", source)])
}

fn by(path: &str) -> String {
    format!("namespace {path}")
}

fn applied(applied: &Applied) -> Reply {
    let source = match &applied.source {
        Source::Setting => Reply::literal("setting"),
        Source::Bucket => Reply::literal("bucket"),
        Source::Namespace(_, path) => Reply::Text(by(path)),
    };
    sourced(Reply::Text(policy::show(applied.ms)), source)
}

fn limits(limits: &Limits, min: &'static str, max: &'static str) -> [(&'static str, Reply); 2] {
    let shown = |set: &Option<Set<i64>>| match set {
        None => Reply::Null,
        Some(set) => sourced(Reply::Text(policy::show(set.value)), Reply::Text(by(&set.path))),
    };
    [(min, shown(&limits.min)), (max, shown(&limits.max))]
}

/// What keeps something removed from being purged now.
pub(in crate::command) fn locked_reply(locked: Option<&Locked>) -> Reply {
    locked.map_or(Reply::Null, |locked| {
        let lock = if locked.lock == Lock::None { "minimum" } else { locked.lock.name() };
        Reply::map([("lock", Reply::literal(lock)), ("until", time_reply(locked.until))])
    })
}

/// A hold, wherever one is shown.
pub(in crate::command) fn hold_reply(hold: Option<&HoldRecord>, now: i64) -> Reply {
    hold.map_or(Reply::Null, |hold| {
        Reply::map([
            ("owner", Reply::Text(hold.owner.clone())),
            ("reason", Reply::Text(hold.reason.clone())),
            ("review_at", time_reply(hold.review_at)),
            ("review_overdue", Reply::Boolean(hold.is_overdue(now))),
            ("since", Reply::Text(format_instant(hold.since))),
        ])
    })
}

/// What DESCRIBE shows of something removed besides what it is.
pub(in crate::command) fn removed_fields(
    removed: &Removed,
    now: i64,
) -> Vec<(&'static str, Reply)> {
    let kept_by = match removed.retention.kept_by {
        None => Reply::Null,
        Some(KeptBy::Command) => Reply::literal("command"),
        Some(KeptBy::Setting) => Reply::literal("setting"),
        Some(KeptBy::Namespace(id)) if Object::Namespace(id) == removed.object() => {
            Reply::Text(by(&removed.title()))
        }
        Some(KeptBy::Namespace(id)) => {
            let at = removed.above.chain.iter().position(|(above, _)| *above == id);
            let path = at.and_then(|at| removed.above.chain.get(..=at)).map(|chain| {
                let segments: Vec<&str> =
                    chain.iter().map(|(_, record)| record.segment.as_str()).collect();
                segments.join(".")
            });
            // Not above any more.
            Reply::Text(by(&path.unwrap_or_else(|| id.to_string())))
        }
    };
    vec![
        ("removal_id", Reply::Text(removed.removal.to_string())),
        ("expires_at", time_reply(removed.expires_at())),
        ("expires_by", kept_by),
        ("hold", hold_reply(removed.hold.as_ref(), now)),
        ("locked", locked_reply(removed.locked(now, false).as_ref())),
    ]
}
