//! BUCKET.CREATE, LIST, LOCATE, DESCRIBE, RENAME, PROTECT.

use std::collections::BTreeSet;

use super::index::parse_schema;
use super::namespace::policy::{removed_fields, reply as describe_policy};
use super::settings::ttl_reply;
use super::support::{Paging, caller, current, retention, time_reply, to_hex};
use super::{Args, Argument, Context, Error, Group, Reply, Result, Spec, collation, flags, run};
use crate::codec::duration::{Retention, format_instant};
use crate::codec::record::State;
use crate::codec::{BucketId, Object, ObjectKind};
use crate::error::Error as DomainError;
use crate::index::define;
use crate::index::schema::PRIMARY;
use crate::lifecycle::list::{Filter, Listed};
use crate::lifecycle::target;
use crate::lifecycle::{Lifecycle, Target};
use crate::metadata::bucket::{self, Found, NewBucket};
use crate::metadata::policy::{self, Kept, Policy};
use crate::metadata::{Path, name, namespace, settings};
use crate::store::{Read, Transaction, join_all};

/// Records read at the same time.
const READS_AT_ONCE: usize = 64;

const BUCKET: &[Argument] = &[Argument::string("bucket")];

const fn spec(name: &'static str, arity: i8, flags: u16, summary: &'static str) -> Spec {
    Spec {
        name,
        arity,
        flags,
        since: "0.1",
        group: Group::Bucket,
        summary,
        complexity: "O(1)",
        arguments: BUCKET,
        handler: run!(create),
    }
}

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        arguments: &[
            Argument::string("bucket"),
            Argument::integer("shard").after("SHARDS").multiple().optional(),
            Argument::string("schema").after("INDEXES").optional(),
            Argument::string("collation").after("COLLATION").optional(),
            Argument::string("duration").after("TOMBSTONE-RETENTION").optional(),
            Argument::keyword("if-not-exists", "IF-NOT-EXISTS").optional(),
            Argument::string("id").after("OPID").optional(),
        ],
        ..spec("BUCKET.CREATE", -2, flags::WRITE, "Creates a bucket in the current namespace.")
    },
    Spec {
        handler: run!(list),
        complexity: "O(N) in the buckets listed",
        arguments: &[
            Argument::keyword("all", "ALL").optional(),
            Argument::string("namespace").after("NAMESPACE").optional(),
            Argument::integer("count").after("COUNT").optional(),
            Argument::string("cursor").after("CURSOR").optional(),
            Argument::pattern("pattern").after("MATCH").optional(),
        ],
        ..spec(
            "BUCKET.LIST",
            -1,
            flags::READ,
            "Lists the buckets of a namespace, with ALL the removed ones too.",
        )
    },
    Spec {
        handler: run!(locate),
        complexity: "O(N) in the bucket's shards",
        ..spec("BUCKET.LOCATE", 2, flags::READ, "Tells which member owns the shards of a bucket.")
    },
    Spec {
        handler: run!(describe),
        ..spec("BUCKET.DESCRIBE", 2, flags::READ, "Describes a bucket, active or removed.")
    },
    Spec {
        handler: run!(rename),
        arguments: &[
            Argument::string("bucket"),
            Argument::string("new-bucket"),
            Argument::string("id").after("OPID").optional(),
        ],
        ..spec(
            "BUCKET.RENAME",
            -3,
            flags::WRITE | flags::NO_TRANSACTION,
            "Gives a bucket another name in its namespace.",
        )
    },
    Spec {
        handler: run!(protect),
        arguments: &[
            Argument::string("bucket"),
            Argument::one_of(
                "state",
                &[Argument::keyword("on", "ON"), Argument::keyword("off", "OFF")],
            ),
            Argument::string("id").after("OPID").optional(),
        ],
        ..spec(
            "BUCKET.PROTECT",
            -3,
            flags::WRITE | flags::NO_TRANSACTION,
            "Protects a bucket against REMOVE, or lifts the protection.",
        )
    },
];

/// The options of CREATE, at which a list of shards ends.
const CREATE_OPTIONS: [&[u8]; 6] =
    [b"IF-NOT-EXISTS", b"OPID", b"SHARDS", b"COLLATION", b"INDEXES", b"TOMBSTONE-RETENTION"];

async fn create(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let mut new = NewBucket::default();
    let mut schema = None;
    let mut opid = None;
    let mut index = 1;
    while let Some(option) = args.get(index) {
        index += 1;
        match option.to_ascii_uppercase().as_slice() {
            b"IF-NOT-EXISTS" => new.if_not_exists = true,
            b"INDEXES" => {
                if args.get(index).is_none() {
                    return Err(Error::syntax("a value is missing after 'INDEXES'"));
                }
                schema = Some(parse_schema(&args, index)?);
                index += 1;
            }
            b"COLLATION" => {
                let spec = args
                    .bytes(index)
                    .map_err(|_| Error::syntax("a value is missing after 'COLLATION'"))?;
                new.collation = collation::parse(&spec)?;
                index += 1;
            }
            b"TOMBSTONE-RETENTION" => {
                let text = args
                    .text(index)
                    .map_err(|_| Error::syntax("a value is missing after 'TOMBSTONE-RETENTION'"))?;
                new.tombstone_retention = Some(retention(text)?);
                index += 1;
            }
            b"OPID" => {
                opid = Some(
                    args.get(index)
                        .ok_or_else(|| Error::syntax("a value is missing after 'OPID'"))?,
                );
                index += 1;
            }
            b"SHARDS" => {
                let list = new.shards.get_or_insert_default();
                while let Some(word) = args.get(index) {
                    if CREATE_OPTIONS.iter().any(|name| word.eq_ignore_ascii_case(name)) {
                        break;
                    }
                    let id = args.integer(index)?;
                    let id = u16::try_from(id).map_err(|_| {
                        Error::Syntax(format!("No route found for Bucket shard: {id}"))
                    })?;
                    if list.contains(&id) {
                        return Err(Error::Syntax(format!("Bucket shard {id} is named twice")));
                    }
                    list.push(id);
                    index += 1;
                }
                if list.is_empty() {
                    return Err(Error::syntax("SHARDS must be followed by shard ids"));
                }
            }
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(Error::Syntax(format!("Unknown '{option}' argument")));
            }
        }
    }
    let path = current(ctx)?;
    let caller = caller(ctx.session, "BUCKET.CREATE", &args, opid)?;
    let lifecycle = ctx.services.lifecycle()?;
    let catalog = lifecycle.catalog();
    let config = ctx.services.config.index;
    new.loose_types = !config.strict_types;
    if let Some(schema) = schema {
        let (inherited, now) = (new.collation.as_ref(), catalog.now());
        new.indexes = define::of_new_bucket(&schema, inherited, config.per_bucket_max, now)?;
    }
    let result = catalog.create_bucket(&caller, &path, bucket, &new).await;
    lifecycle.note_refusal(&caller, "create", (&path, bucket), &result);
    result?;
    Ok(Reply::Ok)
}

async fn list(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let mut all = false;
    let mut within = Target::Namespace(current(ctx)?);
    let mut paging = Paging::default();
    let mut options = args.options(0);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"ALL" => all = true,
            b"NAMESPACE" => within = Target::parse_namespace(options.value()?)?,
            _ if paging.accept(option, &mut options)? => {}
            _ => return Err(options.unknown()),
        }
    }
    let lifecycle = ctx.services.lifecycle()?;
    let mut position = paging.position_name()?;
    let limit = paging.limit();
    let mut items = Vec::new();
    let mut next = None;
    'pages: loop {
        let (within, after) = (&within, position.as_deref());
        let (above, names, copies, more) = lifecycle
            .catalog()
            .read("list-buckets", |txn: Transaction| async move {
                let above = target::namespace(&txn, within).await?;
                let (names, more) = bucket::names(&txn, above.id(), after, limit).await?;
                let copies = if all { copies(&txn, &names).await? } else { BTreeSet::new() };
                Ok((above, names, copies, more))
            })
            .await?;
        let is_removed = above.removed().is_some();
        for (name, id) in names {
            if items.len() == limit {
                next = position.map(|name| to_hex(&name));
                break 'pages;
            }
            if paging.admits(&name) {
                items.push(if all {
                    Reply::map([
                        ("bucket", Reply::Text(name.clone())),
                        ("id", Reply::Text(id.to_string())),
                        ("state", state_reply(is_removed, copies.contains(&id))),
                        ("removal_id", Reply::Null),
                        ("expires_at", Reply::Null),
                    ])
                } else {
                    Reply::Text(name.clone())
                });
            }
            position = Some(name);
        }
        if !more {
            break;
        }
        if paging.is_paged() {
            next = position.map(|name| to_hex(&name));
            break;
        }
    }
    // Removed ones stand at the end, all with the last page: the pages are of names.
    if all && next.is_none() {
        let room = if paging.is_paged() { usize::MAX } else { limit.saturating_sub(items.len()) };
        let filter = Filter::new(ObjectKind::Bucket, Some(within));
        let (removed, _) =
            lifecycle.removed(&filter, None, room.min(super::support::LIST_MAX)).await?;
        items.extend(removed.iter().filter(|row| paging.admits(&row.name)).map(removed_reply));
    }
    Ok(paging.reply(items, next))
}

/// The state of a bucket that has a name.
fn state_reply(is_removed: bool, is_copy: bool) -> Reply {
    Reply::literal(match (is_removed, is_copy) {
        (true, _) => "removed",
        (false, true) => "copying",
        (false, false) => "active",
    })
}

/// Those of these buckets that are copies which have not taken the place of their source.
async fn copies(
    txn: &Transaction,
    names: &[(String, BucketId)],
) -> std::result::Result<BTreeSet<BucketId>, DomainError> {
    let mut copies = BTreeSet::new();
    for part in names.chunks(READS_AT_ONCE) {
        let reads = part.iter().map(|(_, id)| bucket::read_record(txn, *id, Read::Snapshot));
        for ((_, id), record) in part.iter().zip(join_all(reads).await?) {
            copies.extend(record.copy.is_some().then_some(*id));
        }
    }
    Ok(copies)
}

fn removed_reply(row: &Listed) -> Reply {
    Reply::map([
        ("bucket", Reply::Text(row.name.clone())),
        ("id", Reply::Text(row.object.to_string())),
        ("state", Reply::literal(if row.purging { "purging" } else { "removed" })),
        ("removal_id", Reply::Text(row.removal.to_string())),
        ("expires_at", time_reply(row.expires_at)),
    ])
}

async fn locate(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = name::bucket(args.required(0)?)?;
    let catalog = ctx.services.lifecycle()?.catalog();
    let (_, record) = catalog.bucket(&ctx.session.namespace, name).await?;
    let view = catalog.cluster().view().await?;
    let mut items = Vec::new();
    for shard in record.shards {
        if let Some(owner) = view.members.iter().find(|member| member.shards.contains(&shard)) {
            items.push(Reply::Integer(i64::from(shard)));
            items.push(Reply::Text(owner.address.clone()));
            items.push(Reply::Array(Vec::new()));
        }
    }
    Ok(Reply::Array(items))
}

async fn describe(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let target = Target::parse(args.required(0)?)?;
    let path = current(ctx)?;
    let lifecycle = ctx.services.lifecycle()?;
    let catalog = lifecycle.catalog();
    // A name means the active bucket if there is one, else the removed one.
    let (target, path) = (&target, &path);
    let described = catalog
        .read("describe", |txn: Transaction| async move {
            let txn = &txn;
            let active = match target {
                Target::Name(name) => {
                    let here = namespace::resolve(txn, path, Read::Snapshot).await?.id();
                    bucket::find_active(txn, here, name).await?
                }
                Target::Instance(id) => {
                    let record = bucket::read_record(txn, *id, Read::Snapshot).await?;
                    (record.state == State::Active).then_some(Found { id: *id, record })
                }
                _ => None,
            };
            let (id, record, removal) = match active {
                Some(found) => (found.id, found.record, None),
                None => removed_bucket(txn, path, target).await?,
            };
            let above = match namespace::lineage(txn, record.namespace, Read::Snapshot).await {
                Err(DomainError::NoSuchNamespace(_)) => {
                    return Err(DomainError::NoSuchBucket(id.to_string()));
                }
                above => above?,
            };
            let counts = bucket::counts(txn, id).await?;
            let ttl = settings::ttl_progress(txn, id, Read::Snapshot).await?;
            Ok((id, record, removal, above, counts, ttl))
        })
        .await?;
    let (id, record, removal, above, counts, ttl) = described;
    let fence = catalog.fence(id.0).await?;
    let copy = lifecycle.copy_state(id, &record).await?;
    let is_removed = removal.is_some() || above.removed().is_some();
    let default = ctx.services.config.tombstone_retention;
    let policy = Policy::below(&above, None);
    let own = record.tombstone_retention.map(Retention::from);
    let deleted = policy::show(policy.applied(Kept::Documents, own, default).ms);
    let ttl = ttl_reply(&record, ttl.as_ref());
    let named = record.indexes.iter().map(|index| Reply::Text(index.name.clone()));
    let indexes = std::iter::once(Reply::literal(PRIMARY)).chain(named);
    let shards = record.shards.iter().map(|shard| Reply::Integer(i64::from(*shard))).collect();
    let mut reply = vec![
        ("id", Reply::Text(id.to_string())),
        ("namespace", Reply::Text(above.path())),
        ("bucket", Reply::Text(record.name)),
        ("state", state_reply(is_removed, copy.is_some())),
        ("created_at", Reply::Text(format_instant(record.created_at))),
        ("version", Reply::text_or_null(fence.map(|fence| fence.to_string()))),
        ("shards", Reply::Array(shards)),
        ("documents", Reply::Integer(counts.documents)),
        ("bytes", Reply::Integer(counts.bytes)),
        ("tombstones", Reply::Integer(counts.tombstones)),
        ("indexes", Reply::Array(indexes.collect())),
        ("protected", Reply::Boolean(record.protected)),
        ("collation", collation::reply(record.collation.as_ref())),
        ("retention", retention_reply(lifecycle, &policy)),
        ("tombstone_retention", Reply::Text(deleted)),
        ("ttl", ttl),
        ("policy", describe_policy(catalog, &policy, own).await?),
    ];
    if let Some(copy) = &copy {
        reply.push(("copy", super::copy::state_reply(copy, catalog.now())));
    }
    if let Some(removed) = removal {
        reply.extend(removed_fields(&removed, catalog.certain_now()));
    }
    Ok(Reply::Map(reply.into_iter().map(|(key, value)| (Reply::literal(key), value)).collect()))
}

/// How long something is kept that is removed with nothing said about it.
pub(super) fn retention_reply(lifecycle: &Lifecycle, policy: &Policy) -> Reply {
    Reply::Text(policy::show(policy.objects.applied(None, lifecycle.options().retention).ms))
}

type Described =
    (crate::codec::BucketId, crate::codec::record::BucketRecord, Option<Box<target::Removed>>);

async fn removed_bucket(txn: &Transaction, here: &Path, target: &Target) -> Result<Described> {
    let removed = target::resolve_removed(txn, here, target, false).await?;
    match (removed.object(), &removed.instance) {
        (Object::Bucket(id), target::Instance::Bucket(record)) => {
            Ok((id, record.clone(), Some(Box::new(removed))))
        }
        _ => Err(DomainError::NoSuchBucket(target.to_string())),
    }
}

async fn rename(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let from = name::bucket(args.required(0)?)?;
    let to = name::bucket(args.required(1)?)?;
    let opid = only_opid(&args, 2)?;
    let path = current(ctx)?;
    let caller = caller(ctx.session, "BUCKET.RENAME", &args, opid)?;
    ctx.services.lifecycle()?.catalog().rename_bucket(&caller, &path, from, to).await?;
    Ok(Reply::Ok)
}

async fn protect(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = name::bucket(args.required(0)?)?;
    let protected = on_or_off(&args)?;
    let opid = only_opid(&args, 2)?;
    let path = current(ctx)?;
    let caller = caller(ctx.session, "BUCKET.PROTECT", &args, opid)?;
    ctx.services.lifecycle()?.catalog().protect_bucket(&caller, &path, name, protected).await?;
    Ok(Reply::Ok)
}

/// What PROTECT is to do.
pub(super) fn on_or_off(args: &Args) -> Result<bool> {
    if args.is(1, "ON") {
        Ok(true)
    } else if args.is(1, "OFF") {
        Ok(false)
    } else {
        Err(DomainError::syntax("PROTECT takes ON or OFF"))
    }
}

/// The operation id, where nothing else may follow.
pub(super) fn only_opid(args: &Args, from: usize) -> Result<Option<&[u8]>> {
    let mut options = args.options(from);
    let mut opid = None;
    while let Some(option) = options.next() {
        if !option.eq_ignore_ascii_case(b"OPID") {
            return Err(options.unknown());
        }
        opid = Some(options.value()?);
    }
    Ok(opid)
}
