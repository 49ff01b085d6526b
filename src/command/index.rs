//! BUCKET.INDEX CREATE, LIST, DESCRIBE, DROP, REINDEX, TASKS, ANALYZE.

use super::bucket::only_opid;
use super::collation;
use super::support::{caller, current};
use super::{Args, Argument, Context, Error, Group, Handler, Reply, Result, Spec, flags, run};
use crate::codec::record::{IndexField, IndexTaskRecord, TaskKind};
use crate::document::{Document, Limits};
use crate::index::schema::{self, NewIndex, PRIMARY};
use crate::index::{Index, define, rebuild, statistics, task};
use crate::metadata::{LiveBucket, bucket, name, namespace};
use crate::store::{Read, Transaction};
use crate::value::collation::DATA_VERSION;

const INDEX: &[Argument] = &[Argument::string("bucket"), Argument::string("index")];

const fn spec(name: &'static str, arity: i8, flags: u16, summary: &'static str) -> Spec {
    Spec {
        name,
        arity,
        flags,
        since: "0.1",
        group: Group::Index,
        summary,
        complexity: "O(1)",
        arguments: INDEX,
        handler: Handler::Container(unknown),
    }
}

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        arguments: &[],
        ..spec("BUCKET.INDEX", -2, 0, "Creates, lists, describes, analyzes and drops indexes.")
    },
    Spec {
        handler: run!(create),
        complexity: "O(1); the documents are added in the background",
        arguments: &[
            Argument::string("bucket"),
            Argument::string("schema"),
            Argument::string("id").after("OPID").optional(),
        ],
        ..spec(
            "BUCKET.INDEX CREATE",
            -4,
            flags::WRITE | flags::NO_TRANSACTION,
            "Creates indexes on a bucket.",
        )
    },
    Spec {
        handler: run!(list),
        complexity: "O(N) in the indexes of the bucket",
        arguments: &[Argument::string("bucket")],
        ..spec("BUCKET.INDEX LIST", 3, flags::READ, "Lists the indexes of a bucket by name.")
    },
    Spec {
        handler: run!(describe),
        ..spec("BUCKET.INDEX DESCRIBE", 4, flags::READ, "Describes an index of a bucket.")
    },
    Spec {
        handler: run!(drop_index),
        arguments: &[
            Argument::string("bucket"),
            Argument::string("index"),
            Argument::string("id").after("OPID").optional(),
        ],
        ..spec(
            "BUCKET.INDEX DROP",
            -4,
            flags::WRITE | flags::NO_TRANSACTION,
            "Drops an index of a bucket.",
        )
    },
    Spec {
        handler: run!(reindex),
        complexity: "O(1); the documents are added in the background",
        arguments: &[
            Argument::string("bucket"),
            Argument::string("index"),
            Argument::string("id").after("OPID").optional(),
        ],
        ..spec(
            "BUCKET.INDEX REINDEX",
            -4,
            flags::WRITE | flags::NO_TRANSACTION,
            "Builds an index of a bucket anew.",
        )
    },
    Spec {
        handler: run!(tasks),
        ..spec(
            "BUCKET.INDEX TASKS",
            4,
            flags::READ,
            "Tells what is done about an index in the background.",
        )
    },
    Spec {
        handler: run!(analyze),
        complexity: "O(1); the entries are counted in the background",
        arguments: &[
            Argument::string("bucket"),
            Argument::string("index"),
            Argument::string("id").after("OPID").optional(),
        ],
        ..spec(
            "BUCKET.INDEX ANALYZE",
            -4,
            flags::WRITE | flags::NO_TRANSACTION,
            "Makes the statistics of an index anew.",
        )
    },
];

fn unknown(name: &str) -> Error {
    Error::Syntax(format!("unknown subcommand: '{name}'"))
}

/// Reads a schema, as JSON or BSON.
pub(super) fn parse_schema(args: &Args, at: usize) -> Result<Vec<NewIndex>> {
    let invalid = |_| Error::syntax("Invalid index schema");
    let schema = Document::sniff(&args.bytes(at)?, Limits::default()).map_err(invalid)?;
    schema::parse(schema.raw())
}

async fn create(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = name::bucket(args.required(0)?)?;
    let new = &parse_schema(&args, 1)?;
    let caller = &caller(ctx.session, "BUCKET.INDEX CREATE", &args, only_opid(&args, 2)?)?;
    let path = &current(ctx)?;
    let indexes_max = ctx.services.config.index.per_bucket_max;
    let catalog = ctx.services.lifecycle()?.catalog();
    let now = catalog.now();
    let body = |txn: Transaction| async move {
        let here = namespace::resolve(&txn, path, Read::Conflict).await?;
        define::create(&txn, caller, &here, name, new, indexes_max, now).await
    };
    catalog.run("create-index", caller, body).await?;
    Ok(Reply::Ok)
}

async fn drop_index(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = name::bucket(args.required(0)?)?;
    let index = args.text(1)?;
    let caller = &caller(ctx.session, "BUCKET.INDEX DROP", &args, only_opid(&args, 2)?)?;
    let path = &current(ctx)?;
    let catalog = ctx.services.lifecycle()?.catalog();
    let now = catalog.now();
    let body = |txn: Transaction| async move {
        let here = namespace::resolve(&txn, path, Read::Conflict).await?;
        define::drop(&txn, caller, &here, name, index, now).await
    };
    catalog.run("drop-index", caller, body).await?;
    Ok(Reply::Ok)
}

async fn reindex(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = name::bucket(args.required(0)?)?;
    let index = args.text(1)?;
    let caller = &caller(ctx.session, "BUCKET.INDEX REINDEX", &args, only_opid(&args, 2)?)?;
    let path = &current(ctx)?;
    let catalog = ctx.services.lifecycle()?.catalog();
    let now = catalog.now();
    let body = |txn: Transaction| async move {
        let here = namespace::resolve(&txn, path, Read::Conflict).await?;
        rebuild::reindex(&txn, caller, &here, name, index, now).await
    };
    catalog.run("reindex", caller, body).await?;
    Ok(Reply::Ok)
}

async fn analyze(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = name::bucket(args.required(0)?)?;
    let index = args.text(1)?;
    let caller = &caller(ctx.session, "BUCKET.INDEX ANALYZE", &args, only_opid(&args, 2)?)?;
    let path = ctx.session.namespace.as_str();
    let catalog = ctx.services.lifecycle()?.catalog();
    let now = catalog.now();
    let body = |txn: Transaction| async move {
        let live = catalog.handles().open(&txn, path, name).await?;
        define::analyze(&txn, &live, index, now).await
    };
    catalog.run("analyze-index", caller, body).await?;
    Ok(Reply::Ok)
}

async fn list(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = name::bucket(args.required(0)?)?;
    let catalog = ctx.services.lifecycle()?.catalog();
    let names = |_, live: LiveBucket| async move { Ok(names(&live)) };
    catalog.read_data("list-indexes", &ctx.session.namespace, name, names).await
}

fn names(live: &LiveBucket) -> Reply {
    let others = live.indexes().iter().map(|index| Reply::Text(index.name().to_owned()));
    Reply::Array(std::iter::once(Reply::literal(PRIMARY)).chain(others).collect())
}

async fn describe(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = name::bucket(args.required(0)?)?;
    let index = args.text(1)?;
    let catalog = ctx.services.lifecycle()?.catalog();
    let body = |txn: Transaction, live: LiveBucket| async move {
        if index == PRIMARY {
            let counts = bucket::counts(&txn, live.id()).await?;
            return Ok(primary_reply(counts.documents));
        }
        let found = find(&live, index)?;
        let entries = statistics::cardinality(&txn, live.id(), found.id()).await?;
        let build = task::read(&txn, live.id(), found.id(), TaskKind::Build, Read::Snapshot);
        let error = build.await?.and_then(|build| build.record.error);
        Ok(index_reply(found, entries, error))
    };
    catalog.read_data("describe-index", &ctx.session.namespace, name, body).await
}

fn find<'a>(live: &'a LiveBucket, index: &str) -> Result<&'a Index> {
    live.indexes().by_name(index).ok_or_else(|| Error::NoSuchIndex(index.to_owned()))
}

fn map(pairs: Vec<(&'static str, Reply)>) -> Reply {
    Reply::Map(pairs.into_iter().map(|(key, value)| (Reply::literal(key), value)).collect())
}

fn statistics_reply(entries: i64) -> Reply {
    Reply::map([("cardinality", Reply::Integer(entries))])
}

fn primary_reply(documents: i64) -> Reply {
    map(vec![
        ("index_type", Reply::literal("single_field")),
        ("id", Reply::Integer(0)),
        ("selector", Reply::literal("_id")),
        ("bson_type", Reply::literal("OBJECTID")),
        ("status", Reply::literal("READY")),
        ("unique", Reply::Boolean(true)),
        ("collation", collation::reply(None)),
        ("statistics", statistics_reply(documents)),
        ("multi_key", Reply::Boolean(false)),
        ("direction", Reply::literal("asc")),
    ])
}

fn direction(field: &IndexField) -> Reply {
    Reply::literal(if field.descending { "desc" } else { "asc" })
}

fn index_reply(index: &Index, entries: i64, error: Option<String>) -> Reply {
    let record = index.record();
    let kind = if index.is_compound() { "compound" } else { "single_field" };
    let mut reply =
        vec![("index_type", Reply::literal(kind)), ("id", Reply::Integer(i64::from(record.id)))];
    let common = [
        ("status", Reply::literal(if index.is_stale() { "STALE" } else { record.status.name() })),
        ("unique", Reply::Boolean(record.unique)),
        ("collation", collation::reply(record.collation.as_ref())),
        ("statistics", statistics_reply(entries)),
    ];
    match &record.fields[..] {
        [field] => {
            reply.push(("selector", Reply::Text(field.selector.clone())));
            reply.push(("bson_type", Reply::literal(field.bson_type.name())));
            reply.extend(common);
            reply.push(("multi_key", Reply::Boolean(field.multi_key)));
            reply.push(("direction", direction(field)));
        }
        fields => {
            let field = |field: &IndexField| {
                Reply::map([
                    ("selector", Reply::Text(field.selector.clone())),
                    ("bson_type", Reply::literal(field.bson_type.name())),
                    ("multi_key", Reply::Boolean(field.multi_key)),
                    ("direction", direction(field)),
                ])
            };
            reply.push(("fields", Reply::Array(fields.iter().map(field).collect())));
            reply.extend(common);
        }
    }
    let stale = index.is_stale().then(|| {
        format!("built with collation data {}, this node has {DATA_VERSION}", record.collation_data)
    });
    if let Some(error) = stale.or(error) {
        reply.push(("error", Reply::Text(error)));
    }
    map(reply)
}

async fn tasks(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = name::bucket(args.required(0)?)?;
    let index = args.text(1)?;
    let catalog = ctx.services.lifecycle()?.catalog();
    let now = catalog.now();
    let body = |txn: Transaction, live: LiveBucket| async move {
        if index == PRIMARY {
            return Ok(Reply::Map(Vec::new()));
        }
        let found = find(&live, index)?;
        let tasks = task::list(&txn, live.id(), found.id()).await?;
        let row = |task: &task::Task| {
            (Reply::Text(task.version.to_string()), task_reply(task.kind, &task.record, now))
        };
        Ok(Reply::Map(tasks.iter().map(row).collect()))
    };
    catalog.read_data("index-tasks", &ctx.session.namespace, name, body).await
}

fn task_reply(kind: TaskKind, task: &IndexTaskRecord, now: i64) -> Reply {
    let id =
        |id: Option<bson::oid::ObjectId>| Reply::text_or_null(id.map(bson::oid::ObjectId::to_hex));
    let mut reply = vec![("kind", Reply::literal(kind.name()))];
    if kind == TaskKind::Build {
        reply.extend([
            ("cursor", id(task.cursor)),
            ("lower", id(task.lower)),
            ("upper", id(task.upper)),
        ]);
    }
    reply.extend([
        ("status", Reply::literal(task.status.name())),
        ("error", Reply::text_or_null(task.error.clone())),
        ("done", Reply::Integer(task.done)),
        ("total", Reply::Integer(task.total)),
        ("rate", Reply::Integer(rate(task, now))),
    ]);
    map(reply)
}

/// How many a second, since the task was begun.
fn rate(task: &IndexTaskRecord, now: i64) -> i64 {
    let Some(started) = task.started_at else { return 0 };
    let took = task.ended_at.unwrap_or(now).saturating_sub(started).max(1);
    task.done.saturating_mul(1_000) / took
}
