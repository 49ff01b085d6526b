use super::Action;
use crate::command::{Args, Context, Error, Reply, Result, wrong_arity};
use crate::query::QueryCursor;

/// `BUCKET.CLOSE QUERY|UPDATE|DELETE <cursor-id>`.
pub(super) fn close(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let action = Action::parse(args.required(0)?)?;
    let closed = match (u64::try_from(args.integer(1)?), action) {
        (Ok(id), Action::Query) => ctx.session.cursors.close::<QueryCursor>(id),
        (Ok(_), Action::Update | Action::Delete) | (Err(_), _) => false,
    };
    if closed { Ok(Reply::Ok) } else { Err(Error::syntax("no cursor found")) }
}

/// `BUCKET.CURSORS [QUERY|UPDATE|DELETE]`.
pub(super) fn cursors(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let actions = match args.get(0) {
        None => Action::ALL.to_vec(),
        Some(_) if args.len() > 1 => return Err(wrong_arity("BUCKET.CURSORS")),
        Some(word) => vec![Action::parse(word)?],
    };
    let of = |action| match action {
        Action::Query => ctx.session.cursors.iter::<QueryCursor>().map(shown).collect(),
        Action::Update | Action::Delete => Vec::new(),
    };
    let maps =
        actions.into_iter().map(|action| (Reply::literal(action.name()), Reply::Map(of(action))));
    Ok(Reply::Map(maps.collect()))
}

fn shown((id, cursor): (u64, &QueryCursor)) -> (Reply, Reply) {
    let id = Reply::Integer(i64::try_from(id).unwrap_or(i64::MAX));
    (id, Reply::Text(cursor.text().to_owned()))
}
