//! The connection itself: HELLO, AUTH, PING, ECHO, SELECT, RESET, QUIT.

use super::client::check_name;
use super::{
    Args, Argument, Context, Error, Group, Handler, Reply, Result, Spec, flags, run, wrong_arity,
};
use crate::access::DEFAULT;
use crate::resp::Protocol;

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
    Spec {
        name: "HELLO",
        arity: -1,
        flags: flags::FAST | flags::CONNECTION | flags::NO_AUTH | flags::SECRET,
        since: "0.1",
        group: Group::Connection,
        summary: "Chooses the protocol version and describes the server.",
        complexity: "O(1)",
        arguments: &[Argument::block(
            "arguments",
            &[
                Argument::integer("protover"),
                Argument::block(
                    "auth",
                    &[Argument::string("username"), Argument::string("password")],
                )
                .after("AUTH")
                .optional(),
                Argument::string("clientname").after("SETNAME").optional(),
            ],
        )
        .optional()],
        handler: run!(hello),
    },
    Spec {
        name: "AUTH",
        arity: -2,
        flags: flags::FAST | flags::CONNECTION | flags::NO_AUTH | flags::SECRET,
        since: "0.1",
        group: Group::Connection,
        summary: "Logs in.",
        complexity: "O(1)",
        arguments: &[Argument::string("username").optional(), Argument::string("password")],
        handler: run!(auth),
    },
    Spec {
        name: "SELECT",
        arity: 2,
        flags: flags::FAST | flags::CONNECTION,
        since: "0.1",
        group: Group::Connection,
        summary: "Takes database 0, the only one; see NAMESPACE USE.",
        complexity: "O(1)",
        arguments: &[Argument::integer("index")],
        handler: Handler::Sync(select),
    },
    Spec {
        name: "RESET",
        arity: 1,
        flags: flags::FAST | flags::CONNECTION | flags::NO_AUTH,
        since: "0.1",
        group: Group::Connection,
        summary: "Makes the connection as it was when it was new.",
        complexity: "O(N) in open cursors",
        arguments: &[],
        handler: Handler::Sync(reset),
    },
    Spec {
        name: "QUIT",
        arity: -1,
        flags: flags::FAST | flags::CONNECTION | flags::NO_AUTH,
        since: "0.1",
        group: Group::Connection,
        summary: "Closes the connection.",
        complexity: "O(1)",
        arguments: &[],
        handler: Handler::Sync(quit),
    },
];

fn ping(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    match args.get(0) {
        _ if args.len() > 1 => Err(wrong_arity("PING")),
        None | Some([]) => Ok(Reply::Simple("PONG".into())),
        Some(_) => Ok(Reply::Bulk(args.bytes(0)?)),
    }
}

fn echo(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    Ok(Reply::Bulk(args.bytes(0)?))
}

async fn hello(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let protocol = match args.get(0) {
        None => ctx.session.protocol(),
        Some(_) => match args.integer(0) {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return Err(Error::UnsupportedProtocol),
            Err(_) => {
                return Err(Error::syntax("Protocol version is not an integer or out of range"));
            }
        },
    };
    let (mut name, mut credentials) = (None, None);
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"AUTH") && options.remaining() >= 2 {
            credentials = Some((options.value()?, options.value()?));
        } else if option.eq_ignore_ascii_case(b"SETNAME") && options.remaining() >= 1 {
            name = Some(check_name(options.value()?)?);
        } else {
            let option = String::from_utf8_lossy(option);
            return Err(Error::Syntax(format!("Syntax error in HELLO option '{option}'")));
        }
    }
    // Nothing is changed unless all of it can be.
    if let Some((user, password)) = credentials {
        log_in(ctx, user, password).await?;
    } else if ctx.session.account(&ctx.services.users).is_none() {
        // What the server is and which connection this is are nothing for strangers.
        return Err(Error::HelloNotLoggedIn);
    }
    if let Some(name) = name {
        ctx.session.client().set_name(name);
    }
    ctx.session.set_protocol(protocol);
    Ok(Reply::map([
        ("server", Reply::literal("lethe")),
        ("version", Reply::literal(env!("CARGO_PKG_VERSION"))),
        ("proto", Reply::Integer(protocol.number())),
        ("id", Reply::from(ctx.session.id())),
        ("mode", Reply::literal("standalone")),
        ("role", Reply::literal("master")),
        ("modules", Reply::Array(Vec::new())),
    ]))
}

async fn auth(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    match args.len() {
        1 => {
            let from = ctx.session.client().address().ip();
            if ctx.services.users.unnamed(from).is_some() {
                return Err(Error::syntax(
                    "AUTH <password> called without any password configured for the default user. \
                     Are you sure your configuration is correct?",
                ));
            }
            log_in(ctx, DEFAULT.as_bytes(), args.required(0)?).await?;
        }
        2 => log_in(ctx, args.required(0)?, args.required(1)?).await?,
        _ => return Err(wrong_arity("AUTH")),
    }
    Ok(Reply::Ok)
}

/// Makes the session that of this user, if the password is right.
async fn log_in(ctx: &mut Context<'_>, user: &[u8], password: &[u8]) -> Result<()> {
    let from = ctx.session.client().address().ip();
    // A name that is no text is of nobody.
    let name = std::str::from_utf8(user).unwrap_or_default();
    match ctx.services.users.log_in(from, name, password).await {
        Ok(login) => {
            ctx.session.log_in(login);
            Ok(())
        }
        Err(error) => {
            if matches!(error, Error::WrongPassword) {
                ctx.session.note_failure();
            }
            Err(error)
        }
    }
}

fn select(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    match args.integer(0)? {
        0 => Ok(Reply::Ok),
        _ => Err(Error::syntax("DB index is out of range")),
    }
}

fn reset(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    ctx.session.reset();
    Ok(Reply::Simple("RESET".into()))
}

fn quit(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    ctx.session.close_after_reply();
    Ok(Reply::Ok)
}
