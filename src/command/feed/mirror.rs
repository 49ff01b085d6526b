use bson::oid::ObjectId;

use super::changes::sequence;
use crate::codec::RemovalId;
use crate::codec::record::{OriginRecord, SnapshotRecord};
use crate::command::document::document_limits;
use crate::command::support::{actor, caller};
use crate::command::{Args, Context, Error, Reply, Result};
use crate::document::mirror::{self, Applying, Batch};
use crate::document::{Document, Home, NewDocument, Origin};
use crate::metadata::audit::{self, Entry};
use crate::metadata::{LiveBucket, name};
use crate::store::Transaction;

/// Longest name of a bucket among all clusters, in bytes.
const ORIGIN_BYTES_MAX: usize = 128;

/// What `BUCKET.REPLICA ORIGIN` is to do.
enum Change<'a> {
    Nothing,
    Add(Vec<&'a str>),
    Clear,
}

/// `BUCKET.REPLICA ORIGIN <bucket> [ADD <origin> [<origin> ...] | CLEAR]`.
pub(super) async fn origin(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let change = &parse_origin(&args)?;
    let caller = caller(ctx.session, "BUCKET.REPLICA ORIGIN", &args, None)?;
    let catalog = ctx.services.lifecycle()?.catalog();
    let namespace = ctx.session.namespace.as_str();
    let cluster = &catalog.cluster().record().identity();
    let body = |txn: Transaction| async move {
        let live = catalog.handles().open(&txn, namespace, bucket).await?;
        let (home, own) = (Home::from(&live), mirror::identity(cluster, live.id()));
        let others: &[&str] = match change {
            Change::Add(others) => others,
            Change::Nothing => &[],
            Change::Clear => {
                mirror::stand_alone(&txn, &home)?;
                return Ok((own, OriginRecord::default()));
            }
        };
        let known = mirror::follow(&txn, &home, &own, others).await?;
        Ok((own, known))
    };
    let (own, known) = catalog.run("replica-origin", &caller, body).await?;
    let OriginRecord { origins, snapshots, .. } = known;
    let origins = Reply::Array(origins.into_iter().map(Reply::Text).collect());
    let snapshots = Reply::Array(snapshots.into_iter().map(snapshot).collect());
    let bucket = Reply::Text(own);
    Ok(Reply::map([("bucket", bucket), ("origins", origins), ("snapshots", snapshots)]))
}

fn snapshot((origin, snapshot): (String, SnapshotRecord)) -> Reply {
    Reply::map([
        ("origin", Reply::Text(origin)),
        ("sequence", Reply::Text(snapshot.sequence.to_string())),
        ("after", Reply::Text(ObjectId::from_bytes(snapshot.after).to_hex())),
    ])
}

fn parse_origin(args: &Args) -> Result<Change<'_>> {
    if args.len() == 1 {
        return Ok(Change::Nothing);
    }
    if args.is(1, "CLEAR") && args.len() == 2 {
        return Ok(Change::Clear);
    }
    if !args.is(1, "ADD") || args.len() == 2 {
        let mut options = args.options(1);
        options.next();
        return Err(options.unknown());
    }
    (2..args.len()).map(|at| checked(args, at)).collect::<Result<_>>().map(Change::Add)
}

fn checked(args: &Args, at: usize) -> Result<&str> {
    let text = args.text(at)?;
    let is_plain = |byte: u8| byte.is_ascii_graphic();
    if text.is_empty() || text.len() > ORIGIN_BYTES_MAX || !text.bytes().all(is_plain) {
        return Err(Error::syntax(format!(
            "Invalid origin '{text}': give what BUCKET.REPLICA ORIGIN shows as 'bucket'"
        )));
    }
    Ok(text)
}

/// `BUCKET.REPLICA APPLY <bucket> <origin> <sequence> PUT <document> | DELETE <_id> | PURGE <_id> ... [SNAPSHOT <_id>]`.
pub(super) async fn apply(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let origin = checked(&args, 1)?;
    let sequence = sequence(args.text(2)?)?;
    let batch = &parse_batch(ctx, &args)?;
    let permit = ctx.session.permit();
    let lifecycle = ctx.services.lifecycle()?;
    let catalog = lifecycle.catalog();
    let ids = catalog.cluster().ids();
    let how = &Applying {
        origin,
        sequence,
        at: catalog.now(),
        by: actor(ctx.session),
        removals: [RemovalId(ids.next().await?), RemovalId(ids.next().await?)],
        retention: ctx.services.config.tombstone_retention,
    };
    let body = |txn: Transaction, live: LiveBucket| async move {
        let retention = live.tombstone_retention(how.retention);
        let how = Applying { retention, ..how.clone() };
        if let Some(permit) = permit {
            permit.hold(&txn).await?;
        }
        if !batch.purged.is_empty() {
            let entry = Entry {
                action: "expunge",
                namespace: live.path(),
                bucket: live.name(),
                id: Some(live.id().into()),
                removal: None,
                reason: Some("purged where it is replicated from"),
            };
            let count = i64::try_from(batch.purged.len()).unwrap_or(i64::MAX);
            audit::append(&txn, 0, &how.by, how.at, &entry, "OK", count)?;
        }
        mirror::apply(&txn, &Home::from(&live), batch, &how).await
    };
    let namespace = &ctx.session.namespace;
    let changed = catalog.write_data("replica-apply", namespace, bucket, body).await?.value;
    if !batch.purged.is_empty() {
        lifecycle.wake_workers();
    }
    Ok(Reply::Integer(i64::try_from(changed).unwrap_or(i64::MAX)))
}

fn parse_batch(ctx: &Context<'_>, args: &Args) -> Result<Batch> {
    let mut batch = Batch::default();
    let mut options = args.options(3);
    while let Some(option) = options.word() {
        match option.to_ascii_uppercase().as_slice() {
            b"PUT" => {
                let document = Document::sniff(&options.bytes()?, document_limits(ctx.services))
                    .map_err(|error| Error::Syntax(error.to_string()))?;
                if document.raw().get(b"_id").is_none() {
                    return Err(Error::syntax("A document that is put has an _id"));
                }
                let ids = &ctx.services.object_ids;
                batch.put.push(NewDocument::new(document, Origin::Json, ids)?);
            }
            b"DELETE" => batch.gone.push(object_id(options.text()?)?),
            b"PURGE" => batch.purged.push(object_id(options.text()?)?),
            b"SNAPSHOT" => batch.snapshot = Some(object_id(options.text()?)?),
            _ => return Err(options.unknown()),
        }
    }
    Ok(batch)
}

fn object_id(text: &str) -> Result<ObjectId> {
    ObjectId::parse_str(text)
        .map_err(|_| Error::syntax(format!("Invalid _id '{text}': give 24 hex digits")))
}
