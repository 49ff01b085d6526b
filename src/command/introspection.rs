//! What commands there are: COMMAND, all of it made from the table.

use super::registry::{Table, table};
use super::{
    Args, Argument, Context, Error, Group, Handler, Kind, Reply, Result, Spec, flags, glob_matches,
    help, unknown_subcommand,
};

/// What all entries of this family have in common.
const BASE: Spec = Spec {
    name: "COMMAND",
    arity: -1,
    flags: flags::CONNECTION,
    since: "0.1",
    group: Group::Server,
    summary: "Describes all commands.",
    complexity: "O(N) in commands",
    arguments: &[],
    handler: Handler::AloneOrContainer(
        |_, _| Ok(all(table())),
        |name| unknown_subcommand("COMMAND", name),
    ),
};

const NAMES: &[Argument] = &[Argument::string("command-name").optional().multiple()];

const GET_KEYS: &[Argument] =
    &[Argument::string("command"), Argument::string("arg").optional().multiple()];

pub(super) const COMMANDS: &[Spec] = &[
    BASE,
    Spec {
        name: "COMMAND COUNT",
        arity: 2,
        summary: "Counts the commands.",
        handler: Handler::Sync(count),
        ..BASE
    },
    Spec {
        name: "COMMAND INFO",
        arity: -2,
        summary: "Describes some commands or all of them.",
        arguments: NAMES,
        handler: Handler::Sync(info),
        ..BASE
    },
    Spec {
        name: "COMMAND DOCS",
        arity: -2,
        summary: "Documents some commands or all of them.",
        arguments: NAMES,
        handler: Handler::Sync(docs),
        ..BASE
    },
    Spec {
        name: "COMMAND LIST",
        arity: -2,
        summary: "Lists the names of commands.",
        arguments: &[Argument::one_of(
            "filterby",
            &[
                Argument::string("module-name").after("MODULE"),
                Argument::string("category").after("ACLCAT"),
                Argument::pattern("pattern").after("PATTERN"),
            ],
        )
        .after("FILTERBY")
        .optional()],
        handler: Handler::Sync(list),
        ..BASE
    },
    Spec {
        name: "COMMAND GETKEYS",
        arity: -3,
        summary: "Refused, as no command here has keys.",
        arguments: GET_KEYS,
        handler: Handler::Sync(get_keys),
        ..BASE
    },
    Spec {
        name: "COMMAND GETKEYSANDFLAGS",
        arity: -3,
        summary: "Refused, as no command here has keys.",
        arguments: GET_KEYS,
        handler: Handler::Sync(get_keys),
        ..BASE
    },
    Spec {
        name: "COMMAND HELP",
        arity: 2,
        summary: "Shows the subcommands.",
        handler: Handler::Sync(|_, _| Ok(help("COMMAND"))),
        ..BASE
    },
];

fn all(table: &Table) -> Reply {
    Reply::Array(table.commands().map(|spec| describe(table, spec)).collect())
}

fn count(_: &mut Context<'_>, _: &Args) -> Result<Reply> {
    Ok(Reply::from(table().commands().count()))
}

fn info(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let table = table();
    if args.is_empty() {
        return Ok(all(table));
    }
    let describe =
        |name| table.find(name).map_or(Reply::NullArray, |(_, spec)| describe(table, spec));
    Ok(Reply::Array(args.iter().map(describe).collect()))
}

/// In lower case, and with a bar between a container and its subcommand, as Redis shows names.
fn shown_name(spec: &Spec) -> String {
    spec.full_name().to_ascii_lowercase()
}

/// The ten elements by which Redis describes a command. No command here has keys in the sense of Redis.
fn describe(table: &Table, spec: &Spec) -> Reply {
    Reply::Array(vec![
        Reply::Text(shown_name(spec)),
        Reply::Integer(i64::from(spec.arity)),
        Reply::Set(flag_names(spec).map(|name| Reply::Simple(name.into())).collect()),
        Reply::Integer(0),
        Reply::Integer(0),
        Reply::Integer(0),
        Reply::Set(categories(spec).map(|name| Reply::Simple(format!("@{name}").into())).collect()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(table.subcommands(spec).map(|inner| describe(table, inner)).collect()),
    ])
}

fn flag_names(spec: &Spec) -> impl Iterator<Item = &'static str> {
    const NAMES: &[(u16, &str)] = &[
        (flags::WRITE, "write"),
        (flags::READ, "readonly"),
        (flags::FAST, "fast"),
        (flags::ADMIN, "admin"),
        (flags::BLOCKING, "blocking"),
        (flags::NO_TRANSACTION, "no_multi"),
        (flags::NO_AUTH, "no_auth"),
    ];
    names_of(spec, NAMES)
}

/// The names of the flags that a command has.
fn names_of(
    spec: &Spec,
    names: &'static [(u16, &'static str)],
) -> impl Iterator<Item = &'static str> {
    names.iter().filter(|(flag, _)| spec.has(*flag)).map(|(_, name)| *name)
}

fn categories(spec: &Spec) -> impl Iterator<Item = &'static str> {
    const NAMES: &[(u16, &str)] = &[
        (flags::WRITE, "write"),
        (flags::READ, "read"),
        (flags::ADMIN, "admin"),
        (flags::DANGEROUS, "dangerous"),
        (flags::BLOCKING, "blocking"),
        (flags::CONNECTION, "connection"),
    ];
    let speed = if spec.has(flags::FAST) { "fast" } else { "slow" };
    names_of(spec, NAMES).chain([speed])
}

fn docs(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let table = table();
    let document = |spec: &Spec| (Reply::Text(shown_name(spec)), document(table, spec));
    Ok(Reply::Map(if args.is_empty() {
        table.commands().map(document).collect()
    } else {
        args.iter().filter_map(|name| table.find(name)).map(|(_, spec)| document(spec)).collect()
    }))
}

fn document(table: &Table, spec: &Spec) -> Reply {
    let mut fields = vec![
        (Reply::literal("summary"), Reply::literal(spec.summary)),
        (Reply::literal("since"), Reply::literal(spec.since)),
        (Reply::literal("group"), Reply::literal(spec.group.name())),
        (Reply::literal("complexity"), Reply::literal(spec.complexity)),
    ];
    if !spec.arguments.is_empty() {
        fields.push((Reply::literal("arguments"), arguments(spec.arguments)));
    }
    let inner: Vec<_> = table
        .subcommands(spec)
        .map(|inner| (Reply::Text(shown_name(inner)), document(table, inner)))
        .collect();
    if !inner.is_empty() {
        fields.push((Reply::literal("subcommands"), Reply::Map(inner)));
    }
    Reply::Map(fields)
}

fn arguments(arguments: &'static [Argument]) -> Reply {
    Reply::Array(arguments.iter().map(argument).collect())
}

fn argument(argument: &'static Argument) -> Reply {
    let mut fields = vec![
        (Reply::literal("name"), Reply::literal(argument.name)),
        (Reply::literal("type"), Reply::literal(argument.kind.name())),
    ];
    if !matches!(argument.kind, Kind::OneOf | Kind::Block) {
        fields.push((Reply::literal("display_text"), Reply::literal(argument.name)));
    }
    if let Some(token) = argument.token {
        fields.push((Reply::literal("token"), Reply::literal(token)));
    }
    let mut flags = Vec::new();
    if argument.optional {
        flags.push(Reply::Simple("optional".into()));
    }
    if argument.multiple {
        flags.push(Reply::Simple("multiple".into()));
    }
    if !flags.is_empty() {
        fields.push((Reply::literal("flags"), Reply::Set(flags)));
    }
    if !argument.parts.is_empty() {
        fields.push((Reply::literal("arguments"), arguments(argument.parts)));
    }
    Reply::Map(fields)
}

fn list(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    if !(args.is_empty() || args.len() == 3 && args.is(0, "FILTERBY")) {
        return Err(Error::syntax("syntax error"));
    }
    let value = args.get(2).unwrap_or_default();
    let wanted = |spec: &Spec| -> Result<bool> {
        match args.get(1).map(<[u8]>::to_ascii_uppercase).as_deref() {
            None => Ok(true),
            // There are no modules, so none of their commands.
            Some(b"MODULE") => Ok(false),
            Some(b"ACLCAT") => {
                Ok(categories(spec).any(|name| name.as_bytes().eq_ignore_ascii_case(value)))
            }
            Some(b"PATTERN") => {
                let pattern = value.to_ascii_lowercase();
                Ok(glob_matches(&pattern, shown_name(spec).as_bytes()))
            }
            Some(_) => Err(Error::syntax("syntax error")),
        }
    };
    let mut names = Vec::new();
    for spec in table().specs() {
        // Without a filter Redis lists subcommands not at all, with one also those that fit.
        if (!args.is_empty() || spec.subcommand().is_none()) && wanted(spec)? {
            names.push(Reply::Text(shown_name(spec)));
        }
    }
    Ok(Reply::Array(names))
}

fn get_keys(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let (_, spec) = table()
        .find(args.required(0)?)
        .ok_or_else(|| Error::syntax("Invalid command specified"))?;
    if !spec.takes(args.len()) {
        return Err(Error::syntax("Invalid number of arguments specified for command"));
    }
    Err(Error::syntax("The command has no key arguments"))
}
