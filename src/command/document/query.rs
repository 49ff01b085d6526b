use std::sync::Arc;

use bytes::Bytes;

use super::{Action, change, delete, deleted, document_limits, document_reply, undelete, update};
use crate::command::unit::Unit;
use crate::command::{Args, Context, Error, Options, Reply, Result, Services, collation};
use crate::document::{Document, Home};
use crate::metadata::name;
use crate::query::{
    self, Asked, Batch, Budget, Collate, Direction, Limits, Path, Position, Projection, Query,
    QueryCursor, Sort,
};
use crate::resp::Protocol;
use crate::update::weight;
use crate::value::Raw;

/// Bytes of a filter or a projection: every open cursor keeps its own.
const FILTER_BYTES_MAX: usize = 1 << 20;

/// `LIMIT` must stay below.
const LIMIT_MAX: i64 = 10_000;

/// `BUCKET.QUERY <bucket> <filter> [SORTBY ...] [RESULTSORT ...] [PROJECTION <spec>] [LIMIT <n>]
/// [COLLATION <spec>]`.
pub(super) async fn query(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let filter = args.bytes(1)?;
    let (asked, projection_bytes) = parse(ctx, &filter, &args, None)?;
    let asked = Arc::new(asked);
    let namespace = ctx.session.namespace.clone();
    change::expect_room(ctx, 0)?;
    let (next, documents, asked) =
        run(&Unit::of(ctx)?, &namespace, bucket, &asked, &Position::Start).await?;
    let cursor = QueryCursor::new(&namespace, bucket, &filter, Arc::clone(&asked), next);
    let id = if cursor.is_exhausted() {
        ctx.session.cursors.open_exhausted(cursor)
    } else {
        // Nothing was changed yet, so that this need not be known before.
        let weight = weight::asked(&asked, projection_bytes);
        change::expect_room(ctx, weight)?;
        let opened = ctx.session.cursors.open(cursor, weight);
        opened.map_err(|error| Error::Syntax(error.to_string()))?
    };
    Ok(reply(ctx, id, documents))
}

/// `BUCKET.ADVANCE QUERY|UPDATE|DELETE|DELETED|UNDELETE <cursor-id>`.
pub(super) async fn advance(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let action = Action::parse(args.required(0)?)?;
    let unknown = || {
        let action = action.name().to_ascii_lowercase();
        Error::Syntax(format!(
            "No previous query context found for '{action}' operation with the given cursor id"
        ))
    };
    let id = u64::try_from(args.integer(1)?).map_err(|_| unknown())?;
    match action {
        Action::Query => {}
        Action::Update => return update::advance(ctx, id).await?.ok_or_else(unknown),
        Action::Delete => return delete::advance(ctx, &args, id).await?.ok_or_else(unknown),
        Action::Deleted => return deleted::advance(ctx, id).await?.ok_or_else(unknown),
        Action::Undelete => return undelete::advance(ctx, id).await?.ok_or_else(unknown),
    }
    let Some(cursor) = ctx.session.cursors.get_mut::<QueryCursor>(id) else {
        // What DELETED opens is asked in the same way.
        return deleted::advance(ctx, id).await?.ok_or_else(unknown);
    };
    let (namespace, bucket) = (cursor.namespace.clone(), cursor.bucket.clone());
    let Some((asked, position)) = cursor.rest() else {
        check_bucket(&Unit::of(ctx)?, &namespace, &bucket).await?;
        return Ok(reply(ctx, id, Vec::new()));
    };
    let (next, documents, _) = run(&Unit::of(ctx)?, &namespace, &bucket, &asked, &position).await?;
    if let Some(cursor) = ctx.session.cursors.get_mut::<QueryCursor>(id) {
        cursor.advance(next);
        if cursor.is_exhausted() {
            ctx.session.cursors.exhaust(id);
        }
    }
    Ok(reply(ctx, id, documents))
}

/// One batch, at one snapshot: that of a short transaction, or of the one of BEGIN. Gives where
/// the next begins, the documents as they are shown, and what was asked, now under the
/// collation that counts in this bucket.
async fn run(
    unit: &Unit<'_>,
    namespace: &str,
    bucket: &str,
    asked: &Arc<Asked>,
    from: &Position,
) -> Result<(Position, Vec<Document>, Arc<Asked>)> {
    let (budget, read) = (&budget(unit), unit.reads());
    let found = unit.read("query", namespace, bucket, |txn, live| async move {
        let home = Home::from(&live);
        let asked = asked.in_bucket(live.collator());
        let batch = query::run(&txn, &home, &asked.query, from, read, budget).await?;
        Ok((batch, asked))
    });
    let (Batch { documents, next, .. }, asked) = found.await?;
    let documents = asked.shape(documents, budget.steps_max).await?;
    Ok((next, documents, asked))
}

/// What a batch may cost, by the settings.
pub(super) fn budget(unit: &Unit<'_>) -> Budget {
    let config = unit.config().query;
    Budget {
        examined_max: config.examined_max,
        time_max: config.time_max,
        sort_bytes_max: config.sort_bytes_max,
        ..Budget::default()
    }
}

/// What a filter may be, by the settings.
pub(super) fn filter_limits(services: &Services) -> Limits {
    let mut limits = Limits { document: document_limits(services), ..Limits::default() };
    limits.document.bytes_max = limits.document.bytes_max.min(FILTER_BYTES_MAX);
    limits
}

/// A removed bucket answers so also to a cursor that has nothing more to give.
async fn check_bucket(unit: &Unit<'_>, namespace: &str, bucket: &str) -> Result<()> {
    unit.read("query", namespace, bucket, |_, _| async { Ok(()) }).await
}

fn reply(ctx: &Context<'_>, id: u64, documents: Vec<Document>) -> Reply {
    let format = ctx.session.attributes.reply_type;
    let entries = documents.into_iter().map(|document| document_reply(format, document)).collect();
    batch_reply(ctx.session.protocol(), id, "entries", entries)
}

/// What all commands with cursors answer: a map in RESP3, a pair in RESP2.
pub(super) fn batch_reply(
    protocol: Protocol,
    id: u64,
    what: &'static str,
    items: Vec<Reply>,
) -> Reply {
    let id = Reply::Integer(i64::try_from(id).unwrap_or(i64::MAX));
    match protocol {
        Protocol::Resp2 => Reply::Array(vec![id, Reply::Array(items)]),
        Protocol::Resp3 => Reply::map([("cursor_id", id), (what, Reply::Array(items))]),
    }
}

/// Reads a filter and the options behind it. `ANALYZE` is one where somebody wants to know.
/// Gives the length of the projection as well.
pub(super) fn parse(
    ctx: &Context<'_>,
    filter: &Bytes,
    args: &Args,
    mut analyze: Option<&mut bool>,
) -> Result<(Asked, usize)> {
    let limits = filter_limits(ctx.services);
    let (mut order, mut result_sort, mut projection, mut limit) = (None, None, None, 0);
    let (mut collate, mut projection_bytes) = (Collate::default(), 0);
    let mut options = args.options(2);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"SORTBY" => order = Some(sort("SORTBY", &mut options)?),
            b"RESULTSORT" => result_sort = Some(sort("RESULTSORT", &mut options)?),
            b"PROJECTION" => {
                let text = options.bytes()?;
                projection_bytes = text.len();
                let spec = Projection::parse(&text, limits.document);
                projection = Some(spec.map_err(|error| Error::Syntax(error.to_string()))?);
            }
            b"LIMIT" => limit = limit_option(&mut options)?,
            b"ANALYZE" if analyze.is_some() => {
                if let Some(analyze) = analyze.as_deref_mut() {
                    *analyze = true;
                }
            }
            b"COLLATION" => collate = collation::option(&mut options)?,
            _ => return Err(options.unknown()),
        }
    }
    if let (Some(order), Some(result)) = (&order, &result_sort)
        && order.path == result.path
    {
        let field = order.path.text();
        return Err(Error::Syntax(format!(
            "SORTBY and RESULTSORT cannot use the same field: '{field}'"
        )));
    }
    let filter = query::parse(&kept(filter), &limits);
    let filter = filter.map_err(|error| Error::Syntax(error.to_string()))?;
    let fields = needed(projection.as_ref(), result_sort.as_ref());
    let query = Query::new(filter.clone(), order, limit_or_default(ctx, limit)).with_fields(fields);
    let asked = Asked::shown(query, filter, collate, (result_sort, projection));
    Ok((asked, projection_bytes))
}

/// What a cursor may keep for long: of BSON a copy, since what is parsed of it would
/// keep the memory of the whole request. JSON becomes a document of its own.
pub(super) fn kept(input: &Bytes) -> Bytes {
    if Raw::new(input).is_some() { Bytes::copy_from_slice(input) } else { input.clone() }
}

/// What is needed of the documents that are found, when it can be named.
fn needed(projection: Option<&Projection>, result_sort: Option<&Sort>) -> Option<Vec<Path>> {
    let mut fields = projection?.fields()?;
    fields.extend(result_sort.map(|sort| sort.path.clone()));
    Some(fields)
}

/// The documents of a batch: what `LIMIT` said, or what the session has as its default.
pub(super) fn limit_or_default(ctx: &Context<'_>, limit: usize) -> usize {
    match limit {
        0 => usize::try_from(ctx.session.attributes.limit).unwrap_or(1).max(1),
        limit => limit,
    }
}

pub(super) fn sort(option: &str, options: &mut Options<'_>) -> Result<Sort> {
    let missing = || {
        Error::Syntax(format!(
            "{option} argument must be followed by a field name and direction (ASC or DESC)"
        ))
    };
    if options.remaining() < 2 {
        return Err(missing());
    }
    let path = Path::new(options.text()?);
    let direction = options.value()?;
    let direction = match direction.to_ascii_uppercase().as_slice() {
        b"ASC" => Direction::Ascending,
        b"DESC" => Direction::Descending,
        _ => {
            let word = String::from_utf8_lossy(direction);
            return Err(Error::Syntax(format!("Invalid sort direction: {word}")));
        }
    };
    Ok(Sort::new(path, direction))
}

/// 0 stands for the session's default.
pub(super) fn limit_option(options: &mut Options<'_>) -> Result<usize> {
    if options.remaining() == 0 {
        return Err(Error::syntax("LIMIT argument must be followed by a positive integer"));
    }
    let limit = options.integer()?;
    if limit >= LIMIT_MAX {
        return Err(Error::Syntax(format!("Maximum limit value is {LIMIT_MAX}")));
    }
    usize::try_from(limit)
        .map_err(|_| Error::syntax("LIMIT argument must be a non-negative integer"))
}
