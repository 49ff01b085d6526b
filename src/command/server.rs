//! The running server: TIME, INFO, CONFIG.

mod info;

pub(crate) use info::resident_bytes;

use super::{
    Args, Argument, Context, Error, Group, Handler, Reply, Result, Spec, flags, glob_matches, help,
    run, unknown_subcommand,
};
use crate::codec::duration::format_instant;
use crate::config::{Config, StoreKind};

const BASE: Spec = Spec {
    name: "CONFIG",
    arity: -2,
    flags: flags::ADMIN,
    since: "0.1",
    group: Group::Server,
    summary: "Shows settings, and reads certificates again.",
    complexity: "Depends on the subcommand",
    arguments: &[],
    handler: Handler::Container(|name| unknown_subcommand("CONFIG", name)),
};

pub(super) const COMMANDS: &[Spec] = &[
    BASE,
    Spec {
        name: "CONFIG GET",
        arity: -3,
        summary: "Shows the settings whose names match.",
        complexity: "O(N) in settings and patterns",
        arguments: &[Argument::pattern("parameter").multiple()],
        handler: Handler::Sync(config_get),
        ..BASE
    },
    Spec {
        name: "CONFIG RELOAD-CERTIFICATES",
        arity: 2,
        summary: "Reads the certificates of this node from their files again.",
        complexity: "O(1)",
        handler: run!(reload_certificates),
        ..BASE
    },
    Spec {
        name: "CONFIG HELP",
        arity: 2,
        flags: 0,
        summary: "Shows the subcommands.",
        complexity: "O(1)",
        handler: Handler::Sync(|_, _| Ok(help("CONFIG"))),
        ..BASE
    },
    Spec {
        name: "TIME",
        arity: 1,
        flags: flags::FAST,
        summary: "Shows the time of this node in seconds since 1970 and microseconds.",
        complexity: "O(1)",
        handler: Handler::Sync(time),
        ..BASE
    },
    Spec {
        name: "INFO",
        arity: -1,
        flags: 0,
        summary: "Shows the state of this node.",
        complexity: "O(1)",
        arguments: &[Argument::string("section").optional().multiple()],
        handler: Handler::Sync(info::info),
        ..BASE
    },
];

/// Settings of Redis that its own tools ask for: what is true of us in their words.
fn as_in_redis(config: &Config) -> [(&'static str, String); 5] {
    let logged = match config.store {
        StoreKind::Memory => "no",
        StoreKind::Embedded | StoreKind::FoundationDb => "yes",
    };
    // In microseconds; -1 switches it off there.
    let slower_than = config.slow_log.threshold.map(|threshold| threshold.as_micros().to_string());
    [
        ("appendonly", logged.to_owned()),
        ("databases", "1".to_owned()),
        ("save", String::new()),
        ("slowlog-log-slower-than", slower_than.unwrap_or_else(|| "-1".to_owned())),
        ("slowlog-max-len", config.slow_log.entries_max.to_string()),
    ]
}

fn config_get(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let config = &ctx.services.config;
    let entries = config.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let redis = as_in_redis(config);
    let redis = redis.iter().map(|(key, value)| (*key, value.as_str()));
    let matching = entries.chain(redis).filter(|(key, _)| {
        args.iter().any(|pattern| glob_matches(&pattern.to_ascii_lowercase(), key.as_bytes()))
    });
    Ok(Reply::Map(matching.map(|(key, value)| (Reply::from(key), Reply::from(value))).collect()))
}

async fn reload_certificates(ctx: &mut Context<'_>, _: Args) -> Result<Reply> {
    let certificates = ctx.services.certificates.clone().ok_or_else(|| {
        Error::syntax("no port of this node speaks TLS: see server.tls_bind and http.tls")
    })?;
    // It reads files.
    let read = tokio::task::spawn_blocking(move || certificates.reload()).await;
    let until = read
        .map_err(|error| Error::Internal(error.to_string()))?
        .map_err(|error| Error::Syntax(format!("{error}; nothing was changed")))?;
    Ok(Reply::map([("valid_until", Reply::Text(format_instant(until)))]))
}

fn time(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    let now = ctx.services.clock.now();
    let (seconds, milliseconds) = (now.div_euclid(1_000), now.rem_euclid(1_000));
    Ok(Reply::Array(vec![
        Reply::Text(seconds.to_string()),
        Reply::Text((milliseconds * 1_000).to_string()),
    ]))
}
