//! SLOWLOG: the last commands that took long.

use super::{
    Args, Argument, Context, Error, Group, Handler, Reply, Result, Spec, flags, help,
    unknown_subcommand, wrong_arity,
};

/// Entries that SLOWLOG GET shows when it is not told how many.
const COUNT_DEFAULT: usize = 10;

const BASE: Spec = Spec {
    name: "SLOWLOG",
    arity: -2,
    flags: flags::ADMIN,
    since: "0.1",
    group: Group::Server,
    summary: "Shows the last commands that took long.",
    complexity: "Depends on the subcommand",
    arguments: &[],
    handler: Handler::Container(|name| unknown_subcommand("SLOWLOG", name)),
};

pub(super) const COMMANDS: &[Spec] = &[
    BASE,
    Spec {
        name: "SLOWLOG GET",
        summary: "Shows the last slow commands, newest first.",
        complexity: "O(N) in the entries shown",
        arguments: &[Argument::integer("count").optional()],
        handler: Handler::Sync(get),
        ..BASE
    },
    Spec {
        name: "SLOWLOG LEN",
        arity: 2,
        summary: "Shows how many slow commands are kept.",
        complexity: "O(1)",
        handler: Handler::Sync(|ctx, _| Ok(Reply::from(ctx.services.slow_log.len()))),
        ..BASE
    },
    Spec {
        name: "SLOWLOG RESET",
        arity: 2,
        summary: "Forgets the slow commands that are kept.",
        complexity: "O(N) in the entries kept",
        handler: Handler::Sync(reset),
        ..BASE
    },
    Spec {
        name: "SLOWLOG HELP",
        arity: 2,
        flags: 0,
        summary: "Shows the subcommands.",
        complexity: "O(1)",
        handler: Handler::Sync(|_, _| Ok(help("SLOWLOG"))),
        ..BASE
    },
];

fn get(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let count = match args.len() {
        0 => COUNT_DEFAULT,
        1 => match args.integer(0)? {
            -1 => usize::MAX,
            count => usize::try_from(count)
                .map_err(|_| Error::syntax("count should be greater than or equal to -1"))?,
        },
        _ => return Err(wrong_arity("SLOWLOG GET")),
    };
    let entries = ctx.services.slow_log.newest(count).into_iter().map(|entry| {
        let microseconds = u64::try_from(entry.took.as_micros()).unwrap_or(u64::MAX);
        Reply::Array(vec![
            Reply::from(entry.id),
            Reply::Integer(entry.at.div_euclid(1_000)),
            Reply::from(microseconds),
            Reply::Array(entry.words.into_iter().map(Reply::Text).collect()),
            Reply::Text(entry.address.to_string()),
            Reply::Text(entry.name),
        ])
    });
    Ok(Reply::Array(entries.collect()))
}

fn reset(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    ctx.services.slow_log.reset();
    Ok(Reply::Ok)
}
