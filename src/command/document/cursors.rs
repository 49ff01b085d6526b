use super::Action;
use super::delete::DeleteCursor;
use super::update::UpdateCursor;
use crate::command::{Args, Context, Error, Reply, Result, wrong_arity};
use crate::query::QueryCursor;

/// `BUCKET.CLOSE QUERY|UPDATE|DELETE <cursor-id>`.
pub(super) fn close(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let action = Action::parse(args.required(0)?)?;
    let closed = match (u64::try_from(args.integer(1)?), action) {
        (Ok(id), Action::Query) => ctx.session.cursors.close::<QueryCursor>(id),
        (Ok(id), Action::Update) => ctx.session.cursors.close::<UpdateCursor>(id),
        (Ok(id), Action::Delete) => ctx.session.cursors.close::<DeleteCursor>(id),
        (Err(_), _) => false,
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
    let cursors = &ctx.session.cursors;
    let of = |action| match action {
        Action::Query => {
            cursors.iter::<QueryCursor>().map(|(id, cursor)| shown(id, cursor.text())).collect()
        }
        Action::Update => {
            cursors.iter::<UpdateCursor>().map(|(id, cursor)| shown(id, cursor.text())).collect()
        }
        Action::Delete => {
            cursors.iter::<DeleteCursor>().map(|(id, cursor)| shown(id, cursor.text())).collect()
        }
    };
    let maps =
        actions.into_iter().map(|action| (Reply::literal(action.name()), Reply::Map(of(action))));
    Ok(Reply::Map(maps.collect()))
}

fn shown(id: u64, text: &str) -> (Reply, Reply) {
    let id = Reply::Integer(i64::try_from(id).unwrap_or(i64::MAX));
    (id, Reply::Text(text.to_owned()))
}
