//! The connection itself: PING, ECHO.

use super::{Args, Argument, Context, Group, Handler, Reply, Result, Spec, flags};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "PING",
        arity: -1,
        flags: flags::FAST | flags::CONNECTION,
        since: "0.1",
        group: Group::Connection,
        summary: "Answers PONG, or the message it is given.",
        complexity: "O(1)",
        arguments: &[Argument::string("message").optional()],
        handler: Handler::Sync(ping),
    },
    Spec {
        name: "ECHO",
        arity: 2,
        flags: flags::FAST | flags::CONNECTION,
        since: "0.1",
        group: Group::Connection,
        summary: "Answers the message it is given.",
        complexity: "O(1)",
        arguments: &[Argument::string("message")],
        handler: Handler::Sync(echo),
    },
];

fn ping(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    match args.len() {
        0 => Ok(Reply::Simple("PONG".into())),
        1 => {
            let message = args.bytes(0)?;
            Ok(if message.is_empty() { Reply::Simple("PONG".into()) } else { Reply::Bulk(message) })
        }
        _ => Err(super::wrong_arity("PING")),
    }
}

fn echo(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    Ok(Reply::Bulk(args.bytes(0)?))
}
