use super::id_reply;
use crate::command::{Args, Context, Error, Reply, Result};
use crate::document::{self, ChangeOrder, Document, Home, Limits, NewDocument, Origin};
use crate::metadata::name;
use crate::session::DocumentFormat;

/// `BUCKET.INSERT <bucket> DOCS <document> [<document> ...]`.
pub(super) async fn insert(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let documents = parse(ctx, &args)?;
    let catalog = ctx.services.lifecycle()?.catalog();
    let at = catalog.now();
    let batch = documents.as_slice();
    catalog
        .write_data("insert", &ctx.session.namespace, bucket, |txn, live| async move {
            let home = Home::from(&live);
            document::insert(&txn, &home, batch, &mut ChangeOrder::default(), at).await
        })
        .await?;
    Ok(Reply::Array(documents.iter().map(|new| id_reply(ctx, &new.id())).collect()))
}

/// The documents with their ids, which stay the same however often the transaction is tried.
fn parse(ctx: &Context<'_>, args: &Args) -> Result<Vec<NewDocument>> {
    if !args.is(1, "DOCS") {
        let word = String::from_utf8_lossy(args.required(1)?).into_owned();
        return Err(Error::Syntax(format!("Unknown '{word}' argument")));
    }
    let count = args.len() - 2;
    if count == 0 {
        return Err(Error::syntax("No documents provided"));
    }
    let limits = Limits::default();
    let mut documents = Vec::with_capacity(count);
    for index in 2..args.len() {
        let (document, origin) = match ctx.session.attributes.input_type {
            DocumentFormat::Json => {
                (Document::from_json(args.required(index)?, limits), Origin::Json)
            }
            DocumentFormat::Bson => (Document::from_bson(args.bytes(index)?, limits), Origin::Bson),
        };
        let document = document.map_err(|error| match count {
            1 => Error::Syntax(error.to_string()),
            _ => Error::Syntax(format!("{error} (document {} of {count})", index - 1)),
        })?;
        documents.push(NewDocument::new(document, origin, &ctx.services.object_ids)?);
    }
    Ok(documents)
}
