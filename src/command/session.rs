//! What the connection remembers: SESSION.ATTRIBUTE, SESSION.CLOSE.

use super::{Args, Argument, Context, Error, Group, Handler, Reply, Result, Spec, flags};
use crate::session::{DocumentFormat, ObjectIdFormat};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "SESSION.ATTRIBUTE",
        arity: -2,
        flags: flags::FAST | flags::CONNECTION,
        since: "0.1",
        group: Group::Session,
        summary: "Shows and sets how documents and ids look on this connection.",
        complexity: "Depends on the subcommand",
        arguments: &[],
        handler: Handler::Container(|name| {
            Error::Syntax(format!("Invalid subcommand status: {name}"))
        }),
    },
    Spec {
        name: "SESSION.ATTRIBUTE LIST",
        arity: 2,
        flags: flags::FAST | flags::CONNECTION,
        since: "0.1",
        group: Group::Session,
        summary: "Shows the attributes of this session.",
        complexity: "O(1)",
        arguments: &[],
        handler: Handler::Sync(list),
    },
    Spec {
        name: "SESSION.ATTRIBUTE SET",
        // The contract has its own message for a missing value.
        arity: -2,
        flags: flags::FAST | flags::CONNECTION,
        since: "0.1",
        group: Group::Session,
        summary: "Sets an attribute of this session.",
        complexity: "O(1)",
        arguments: &[Argument::one_of(
            "attribute",
            &[
                Argument::one_of("format", FORMATS).after("REPLY_TYPE"),
                Argument::one_of("format", FORMATS).after("INPUT_TYPE"),
                Argument::integer("limit").after("LIMIT"),
                Argument::one_of(
                    "format",
                    &[Argument::keyword("hex", "HEX"), Argument::keyword("bytes", "BYTES")],
                )
                .after("OBJECT_ID_FORMAT"),
            ],
        )],
        handler: Handler::Sync(set),
    },
    Spec {
        name: "SESSION.CLOSE",
        arity: 1,
        flags: flags::FAST | flags::CONNECTION,
        since: "0.1",
        group: Group::Session,
        summary: "Ends cursors and the open transaction and restores the defaults of the session.",
        complexity: "O(N) in open cursors",
        arguments: &[],
        handler: Handler::Sync(close),
    },
];

const FORMATS: &[Argument] =
    &[Argument::keyword("json", "JSON"), Argument::keyword("bson", "BSON")];

fn list(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    let attributes = ctx.session.attributes;
    Ok(Reply::map([
        ("reply_type", Reply::literal(attributes.reply_type.name())),
        ("input_type", Reply::literal(attributes.input_type.name())),
        ("limit", Reply::Integer(i64::from(attributes.limit))),
        ("object_id_format", Reply::literal(attributes.object_id_format.name())),
    ]))
}

fn set(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    if args.len() != 2 {
        return Err(Error::syntax("invalid number of parameters"));
    }
    let value = args.text(1)?;
    let wrong = |what: &str| Error::Syntax(format!("Invalid {what}: {value}"));
    let attributes = &mut ctx.session.attributes;
    if args.is(0, "reply_type") {
        attributes.reply_type = DocumentFormat::parse(value).ok_or_else(|| wrong("reply type"))?;
    } else if args.is(0, "input_type") {
        attributes.input_type = DocumentFormat::parse(value).ok_or_else(|| wrong("input type"))?;
    } else if args.is(0, "limit") {
        attributes.limit = match i32::try_from(args.integer(1)?) {
            Err(_) => return Err(super::args::not_an_integer()),
            Ok(limit) => u32::try_from(limit)
                .ok()
                .filter(|limit| *limit > 0)
                .ok_or_else(|| Error::syntax("'limit' must be greater than 0"))?,
        };
    } else if args.is(0, "object_id_format") {
        attributes.object_id_format =
            ObjectIdFormat::parse(value).ok_or_else(|| wrong("object id format"))?;
    } else {
        let name = String::from_utf8_lossy(args.required(0)?);
        return Err(Error::Syntax(format!("Invalid session attribute: '{name}'")));
    }
    Ok(Reply::Ok)
}

fn close(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    ctx.session.close();
    Ok(Reply::Ok)
}
