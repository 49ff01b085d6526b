//! Who is connected: CLIENT.

use std::fmt::Write;
use std::sync::Arc;

use tokio::time::Instant;

use super::registry::table;
use super::{
    Args, Argument, Context, Error, Group, Handler, Reply, Result, Spec, flags, help,
    unknown_subcommand,
};
use crate::access::DEFAULT;
use crate::session::{Client, Library, Replies};

const ON_OFF: &[Argument] = &[Argument::keyword("on", "ON"), Argument::keyword("off", "OFF")];

const TYPES: &[Argument] = &[
    Argument::keyword("normal", "NORMAL"),
    Argument::keyword("master", "MASTER"),
    Argument::keyword("replica", "REPLICA"),
    Argument::keyword("pubsub", "PUBSUB"),
];

const FILTERS: &[Argument] = &[
    Argument::integer("client-id").after("ID"),
    Argument::one_of("client-type", TYPES).after("TYPE"),
    Argument::string("username").after("USER"),
    Argument::string("ip:port").after("ADDR"),
    Argument::string("ip:port").after("LADDR"),
    Argument::one_of("skipme", &[Argument::keyword("yes", "YES"), Argument::keyword("no", "NO")])
        .after("SKIPME"),
    Argument::integer("maxage").after("MAXAGE"),
];

/// What all entries of this family have in common.
const BASE: Spec = Spec {
    name: "CLIENT",
    arity: -2,
    flags: flags::CONNECTION,
    since: "0.1",
    group: Group::Connection,
    summary: "Shows and manages connections.",
    complexity: "Depends on the subcommand",
    arguments: &[],
    handler: Handler::Container(|name| unknown_subcommand("CLIENT", name)),
};

pub(super) const COMMANDS: &[Spec] = &[
    BASE,
    Spec {
        name: "CLIENT ID",
        arity: 2,
        summary: "Shows the number of this connection.",
        complexity: "O(1)",
        handler: Handler::Sync(id),
        ..BASE
    },
    Spec {
        name: "CLIENT GETNAME",
        arity: 2,
        summary: "Shows the name of this connection.",
        complexity: "O(1)",
        handler: Handler::Sync(get_name),
        ..BASE
    },
    Spec {
        name: "CLIENT SETNAME",
        arity: 3,
        summary: "Names this connection.",
        complexity: "O(1)",
        arguments: &[Argument::string("connection-name")],
        handler: Handler::Sync(set_name),
        ..BASE
    },
    Spec {
        name: "CLIENT SETINFO",
        arity: 4,
        summary: "Says which library uses this connection.",
        complexity: "O(1)",
        arguments: &[Argument::one_of(
            "attr",
            &[
                Argument::string("libname").after("LIB-NAME"),
                Argument::string("libver").after("LIB-VER"),
            ],
        )],
        handler: Handler::Sync(set_info),
        ..BASE
    },
    Spec {
        name: "CLIENT INFO",
        arity: 2,
        summary: "Shows this connection.",
        complexity: "O(1)",
        handler: Handler::Sync(info),
        ..BASE
    },
    Spec {
        name: "CLIENT LIST",
        arity: -2,
        flags: flags::CONNECTION | flags::ADMIN,
        summary: "Lists connections.",
        complexity: "O(N) in connections",
        arguments: &[
            Argument::one_of("client-type", TYPES).after("TYPE").optional(),
            Argument::integer("client-id").after("ID").optional().multiple(),
        ],
        handler: Handler::Sync(list),
        ..BASE
    },
    Spec {
        name: "CLIENT KILL",
        arity: -3,
        flags: flags::CONNECTION | flags::ADMIN,
        summary: "Ends connections, and the commands that they run.",
        complexity: "O(N) in connections",
        arguments: &[Argument::one_of(
            "filter",
            &[Argument::string("ip:port"), Argument::one_of("new-format", FILTERS).multiple()],
        )],
        handler: Handler::Sync(kill),
        ..BASE
    },
    Spec {
        name: "CLIENT REPLY",
        arity: 3,
        summary: "Turns replies on and off, or skips the next one.",
        complexity: "O(1)",
        arguments: &[Argument::one_of(
            "action",
            &[
                Argument::keyword("on", "ON"),
                Argument::keyword("off", "OFF"),
                Argument::keyword("skip", "SKIP"),
            ],
        )],
        handler: Handler::Sync(reply),
        ..BASE
    },
    Spec {
        name: "CLIENT NO-EVICT",
        arity: 3,
        flags: flags::CONNECTION | flags::ADMIN,
        summary: "Accepted for compatibility: connections are never evicted here.",
        complexity: "O(1)",
        arguments: &[Argument::one_of("enabled", ON_OFF)],
        handler: Handler::Sync(no_evict),
        ..BASE
    },
    Spec {
        name: "CLIENT NO-TOUCH",
        arity: 3,
        summary: "Accepted for compatibility: reading changes no access times here.",
        complexity: "O(1)",
        arguments: &[Argument::one_of("enabled", ON_OFF)],
        handler: Handler::Sync(no_touch),
        ..BASE
    },
    Spec {
        name: "CLIENT HELP",
        arity: 2,
        summary: "Shows the subcommands.",
        complexity: "O(1)",
        handler: Handler::Sync(|_, _| Ok(help("CLIENT"))),
        ..BASE
    },
];

/// Longer names are refused: everybody who lists connections gets them.
const NAME_BYTES_MAX: usize = 255;

/// A name of a connection or library as it may be shown in a list: printable, without spaces. Empty takes it away.
pub(super) fn check_name(name: &[u8]) -> Result<Option<String>> {
    checked(name, "Client names")
}

fn checked(name: &[u8], what: &str) -> Result<Option<String>> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::Syntax(format!("{what} cannot be longer than {NAME_BYTES_MAX} bytes.")));
    }
    let text = std::str::from_utf8(name).ok();
    match text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic())) {
        Some("") => Ok(None),
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Error::Syntax(format!(
            "{what} cannot contain spaces, newlines or special characters."
        ))),
    }
}

fn id(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    Ok(Reply::from(ctx.session.id()))
}

fn get_name(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    Ok(Reply::text_or_null(ctx.session.client().name()))
}

fn set_name(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    ctx.session.client().set_name(check_name(args.required(0)?)?);
    Ok(Reply::Ok)
}

fn set_info(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let client = ctx.session.client();
    let mut library: Library = client.library();
    if args.is(0, "lib-name") {
        library.name = checked(args.required(1)?, "lib-name")?;
    } else if args.is(0, "lib-ver") {
        library.version = checked(args.required(1)?, "lib-ver")?;
    } else {
        let option = String::from_utf8_lossy(args.required(0)?);
        return Err(Error::Syntax(format!("Unrecognized option '{option}'")));
    }
    client.set_library(library);
    Ok(Reply::Ok)
}

fn info(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    ctx.session.publish(Instant::now());
    Ok(Reply::Verbatim(line(ctx.session.client())))
}

fn list(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    ctx.session.publish(Instant::now());
    let mut clients = ctx.services.clients.list();
    let mut options = args.options(0);
    if let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"TYPE") && options.remaining() == 1 {
            if !is_normal(options.value()?)? {
                clients.clear();
            }
        } else if option.eq_ignore_ascii_case(b"ID") && options.remaining() > 0 {
            let mut ids = Vec::new();
            while options.remaining() > 0 {
                ids.push(client_id(options.value()?)?);
            }
            clients.retain(|client| ids.contains(&client.id()));
        } else {
            return Err(Error::syntax("syntax error"));
        }
    }
    Ok(Reply::Verbatim(clients.iter().map(|client| line(client)).collect()))
}

fn client_id(text: &[u8]) -> Result<u64> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|id| *id > 0)
        .ok_or_else(|| Error::syntax("client-id should be greater than 0"))
}

/// All connections are normal ones; the other types are known and have no members.
fn is_normal(name: &[u8]) -> Result<bool> {
    match name.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(false),
        _ => {
            let name = String::from_utf8_lossy(name);
            Err(Error::Syntax(format!("Unknown client type '{name}'")))
        }
    }
}

/// One line of CLIENT LIST, with the field names of Redis.
fn line(client: &Client) -> String {
    let library = client.library();
    let (bytes_in, bytes_out) = client.traffic();
    let (input, output) = client.buffers();
    let mut flags = String::from("N");
    if client.no_evict() {
        flags.push('e');
    }
    if client.no_touch() {
        flags.push('T');
    }
    let command = client
        .last_command()
        .and_then(|index| table().specs().get(index))
        .map_or_else(|| "NULL".to_owned(), |spec| spec.full_name().to_ascii_lowercase());
    let mut text = String::new();
    let written = writeln!(
        text,
        "id={} addr={} laddr={} name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 ssub=0 multi=-1 \
         watch=0 qbuf={input} omem={output} events=r cmd={command} user={} redir=-1 resp={} \
         lib-name={} lib-ver={} tot-net-in={bytes_in} tot-net-out={bytes_out} tot-cmds={}",
        client.id(),
        client.address(),
        client.local_address(),
        client.name().unwrap_or_default(),
        client.age().as_secs(),
        client.idle().as_secs(),
        shown_user(client),
        client.protocol_number(),
        library.name.unwrap_or_default(),
        library.version.unwrap_or_default(),
        client.commands(),
    );
    debug_assert!(written.is_ok(), "writing to a string can't fail");
    text
}

/// Which connections CLIENT KILL is about.
#[derive(Default)]
struct Victims<'a> {
    id: Option<u64>,
    nobody: bool,
    user: Option<&'a [u8]>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    age_at_least: Option<u64>,
    with_me: bool,
}

fn kill(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let clients = ctx.services.clients.list();
    if args.len() == 1 {
        let address = args.required(0)?;
        let found = clients.iter().find(|client| is_at(client.address(), address));
        let client = found.ok_or_else(|| Error::syntax("No such client"))?;
        end(ctx, client);
        return Ok(Reply::Ok);
    }
    let victims = Victims::parse(args)?;
    if let Some(user) = victims.user
        && std::str::from_utf8(user).ok().and_then(|name| ctx.services.users.get(name)).is_none()
    {
        let user = String::from_utf8_lossy(user);
        return Err(Error::Syntax(format!("No such user '{user}'")));
    }
    let me = ctx.session.id();
    let mut count = 0_i64;
    for client in clients.iter().filter(|client| victims.include(client, me)) {
        end(ctx, client);
        count += 1;
    }
    Ok(Reply::Integer(count))
}

/// Who ends its own connection still gets the reply.
fn end(ctx: &mut Context<'_>, client: &Arc<Client>) {
    if client.id() == ctx.session.id() {
        ctx.session.close_after_reply();
    } else {
        client.kill();
    }
}

/// Who it is; one that has not said so is, or would be, the default user.
fn shown_user(client: &Client) -> String {
    let user = client.user();
    if user.is_empty() { DEFAULT.to_owned() } else { user }
}

fn is_at(address: std::net::SocketAddr, text: &[u8]) -> bool {
    address.to_string().as_bytes() == text
}

impl<'a> Victims<'a> {
    fn parse(args: &'a Args) -> Result<Self> {
        let mut victims = Self::default();
        let mut options = args.options(0);
        while let Some(option) = options.next() {
            let value = options.value().map_err(|_| Error::syntax("syntax error"))?;
            match option.to_ascii_uppercase().as_slice() {
                b"ID" => victims.id = Some(client_id(value)?),
                b"TYPE" => victims.nobody |= !is_normal(value)?,
                b"USER" => victims.user = Some(value),
                b"ADDR" => victims.address = Some(value),
                b"LADDR" => victims.local_address = Some(value),
                b"SKIPME" if value.eq_ignore_ascii_case(b"yes") => victims.with_me = false,
                b"SKIPME" if value.eq_ignore_ascii_case(b"no") => victims.with_me = true,
                b"MAXAGE" => {
                    let age = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    victims.age_at_least = Some(age.ok_or_else(|| {
                        Error::syntax("maxage is not an integer or out of range")
                    })?);
                }
                _ => return Err(Error::syntax("syntax error")),
            }
        }
        Ok(victims)
    }

    fn include(&self, client: &Client, me: u64) -> bool {
        !self.nobody
            && (self.with_me || client.id() != me)
            && self.id.is_none_or(|id| client.id() == id)
            && self.address.is_none_or(|address| is_at(client.address(), address))
            && self.local_address.is_none_or(|address| is_at(client.local_address(), address))
            && self.user.is_none_or(|user| shown_user(client).as_bytes() == user)
            && self.age_at_least.is_none_or(|age| client.age().as_secs() >= age)
    }
}

fn reply(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    if args.is(0, "on") {
        ctx.session.replies = Replies::On;
        Ok(Reply::Ok)
    } else if args.is(0, "off") {
        ctx.session.replies = Replies::Off;
        Ok(Reply::NoReply)
    } else if args.is(0, "skip") {
        if ctx.session.replies != Replies::Off {
            ctx.session.replies = Replies::SkipNext;
        }
        Ok(Reply::NoReply)
    } else {
        Err(Error::syntax("syntax error"))
    }
}

fn on_or_off(args: &Args) -> Result<bool> {
    match args.required(0)? {
        word if word.eq_ignore_ascii_case(b"on") => Ok(true),
        word if word.eq_ignore_ascii_case(b"off") => Ok(false),
        _ => Err(Error::syntax("syntax error")),
    }
}

fn no_evict(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    ctx.session.client().set_no_evict(on_or_off(args)?);
    Ok(Reply::Ok)
}

fn no_touch(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    ctx.session.client().set_no_touch(on_or_off(args)?);
    Ok(Reply::Ok)
}
