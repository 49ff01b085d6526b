use super::Action;
use super::delete::DeleteCursor;
use super::deleted::DeletedCursor;
use super::undelete::UndeleteCursor;
use super::update::UpdateCursor;
use crate::access::Right;
use crate::command::{Args, Context, Error, Reply, Result, wrong_arity};
use crate::query::QueryCursor;
use crate::session::Session;

/// What going on with the cursor that these words name needs, and in which namespace.
pub(in crate::command) fn cursor_right<'a>(
    session: &'a Session,
    args: &Args,
) -> Option<(Right, &'a str)> {
    let action = Action::parse(args.get(0)?).ok()?;
    let id = u64::try_from(args.integer(1).ok()?).ok()?;
    let cursors = &session.cursors;
    let deleted =
        || cursors.get::<DeletedCursor>(id).map(|it| (Right::Restore, it.namespace.as_str()));
    match action {
        Action::Query => cursors
            .get::<QueryCursor>(id)
            .map(|it| (Right::Read, it.namespace.as_str()))
            .or_else(deleted),
        Action::Update => {
            cursors.get::<UpdateCursor>(id).map(|it| (Right::Write, it.namespace.as_str()))
        }
        Action::Delete => {
            cursors.get::<DeleteCursor>(id).map(|it| (Right::Remove, it.namespace.as_str()))
        }
        Action::Deleted => deleted(),
        Action::Undelete => {
            cursors.get::<UndeleteCursor>(id).map(|it| (Right::Restore, it.namespace.as_str()))
        }
    }
}

/// `BUCKET.CLOSE QUERY|UPDATE|DELETE|DELETED|UNDELETE <cursor-id>`.
pub(super) fn close(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let action = Action::parse(args.required(0)?)?;
    let closed = match (u64::try_from(args.integer(1)?), action) {
        (Ok(id), Action::Query) => {
            ctx.session.cursors.close::<QueryCursor>(id)
                || ctx.session.cursors.close::<DeletedCursor>(id)
        }
        (Ok(id), Action::Update) => ctx.session.cursors.close::<UpdateCursor>(id),
        (Ok(id), Action::Delete) => ctx.session.cursors.close::<DeleteCursor>(id),
        (Ok(id), Action::Deleted) => ctx.session.cursors.close::<DeletedCursor>(id),
        (Ok(id), Action::Undelete) => ctx.session.cursors.close::<UndeleteCursor>(id),
        (Err(_), _) => false,
    };
    if closed { Ok(Reply::Ok) } else { Err(Error::syntax("no cursor found")) }
}

/// `BUCKET.CURSORS [QUERY|UPDATE|DELETE|DELETED|UNDELETE]`. Without one of them, the last two only where there are such.
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
        Action::Deleted => {
            cursors.iter::<DeletedCursor>().map(|(id, cursor)| shown(id, cursor.text())).collect()
        }
        Action::Undelete => {
            cursors.iter::<UndeleteCursor>().map(|(id, cursor)| shown(id, cursor.text())).collect()
        }
    };
    let all = args.is_empty();
    let maps = actions.into_iter().filter_map(|action| {
        let cursors: Vec<(Reply, Reply)> = of(action);
        let is_new = matches!(action, Action::Deleted | Action::Undelete);
        let shown = !(all && is_new && cursors.is_empty());
        shown.then(|| (Reply::literal(action.name()), Reply::Map(cursors)))
    });
    Ok(Reply::Map(maps.collect()))
}

fn shown(id: u64, text: &str) -> (Reply, Reply) {
    let id = Reply::Integer(i64::try_from(id).unwrap_or(i64::MAX));
    (id, Reply::Text(text.to_owned()))
}
