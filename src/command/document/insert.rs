use bson::oid::ObjectId;

use super::{document_limits, id_reply};
use crate::command::unit::Unit;
use crate::command::{Args, Context, Error, Reply, Result, support};
use crate::document::{self, Document, Home, NewDocument, Origin};
use crate::metadata::{LiveBucket, name};
use crate::session::DocumentFormat;
use crate::store::Transaction;

/// `BUCKET.INSERT <bucket> [OPID <id>] DOCS <document> [<document> ...]`.
pub(super) async fn insert(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let opid = if args.is(1, "OPID") { Some(args.required(2)?) } else { None };
    let documents = parse(ctx, &args, if opid.is_some() { 3 } else { 1 })?;
    let unit = Unit::of(ctx)?;
    let at = unit.catalog().now();
    let batch = documents.as_slice();
    let namespace = &ctx.session.namespace;
    let body = |txn: Transaction, live: LiveBucket| async move {
        let home = Home::from(&live);
        document::insert(&txn, &home, batch, at).await
    };
    if opid.is_none() {
        unit.write("insert", namespace, bucket, body).await?;
        return Ok(Reply::Array(documents.iter().map(|new| id_reply(ctx, &new.id())).collect()));
    }
    // The ids are part of the stored result: a repeated command makes others.
    let caller = support::caller(ctx.session, "BUCKET.INSERT", &args, opid)?;
    let body = &body;
    let body = |txn: Transaction, live: LiveBucket| async move {
        body(txn, live).await?;
        Ok(batch.iter().map(NewDocument::id).collect::<Vec<ObjectId>>())
    };
    // In a box, as it is larger than what a stack should hold on FoundationDB.
    let ids = Box::pin(unit.write_once("insert", &caller, namespace, bucket, body)).await?;
    Ok(Reply::Array(ids.iter().map(|id| id_reply(ctx, id)).collect()))
}

/// The documents with their ids, which stay the same however often the transaction is tried.
fn parse(ctx: &Context<'_>, args: &Args, keyword: usize) -> Result<Vec<NewDocument>> {
    if !args.is(keyword, "DOCS") {
        let word = String::from_utf8_lossy(args.required(keyword)?).into_owned();
        return Err(Error::Syntax(format!("Unknown '{word}' argument")));
    }
    let first = keyword + 1;
    let count = args.len().saturating_sub(first);
    if count == 0 {
        return Err(Error::syntax("No documents provided"));
    }
    let limits = document_limits(ctx.services);
    let mut documents = Vec::with_capacity(count);
    for index in first..args.len() {
        let (document, origin) = match ctx.session.attributes.input_type {
            DocumentFormat::Json => {
                (Document::from_json(args.required(index)?, limits), Origin::Json)
            }
            DocumentFormat::Bson => (Document::from_bson(args.bytes(index)?, limits), Origin::Bson),
        };
        let document = document.map_err(|error| match count {
            1 => Error::Syntax(error.to_string()),
            _ => Error::Syntax(format!("{error} (document {} of {count})", index - keyword)),
        })?;
        documents.push(NewDocument::new(document, origin, &ctx.services.object_ids)?);
    }
    Ok(documents)
}
