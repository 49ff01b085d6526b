//! The commands: a table of what there is, and one file per family with what they do.
//!
//! ```text
//!   Words ──► registry::dispatch ──► known? arity? server state? transaction? ──► handler ──► Reply
//! ```
//!
//! # To add a command
//!
//! 1. Write the handler in the family's file. It parses its arguments into a
//!    struct, calls the domain, and turns the result into a [`Reply`]:
//!
//!    ```ignore
//!    async fn insert(ctx: &mut Context<'_>, args: Args) -> Result<Reply> { ... }     // awaits something
//!    fn ping(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> { ... }            // awaits nothing
//!    ```
//!
//!    [`Args`] holds what follows the name (for `CLIENT LIST` what follows both words); the arity
//!    has been checked. What it stores for longer than the command it copies.
//! 2. Add a [`Spec`] to the family's `COMMANDS`, its name in upper case, a subcommand as
//!    `"CONTAINER NAME"`, with `handler: run!(insert)` or `handler: Handler::Sync(ping)`:
//!
//!    ```ignore
//!    pub(super) const COMMANDS: &[Spec] = &[Spec {
//!        name: "BUCKET.INSERT", arity: -4, flags: flags::WRITE, since: "0.1", group: Group::Document,
//!        summary: "Inserts documents into a bucket, all or none.", complexity: "O(N) in documents",
//!        arguments: &[Argument::string("bucket"), Argument::keyword("DOCS"), Argument::string("document").multiple()],
//!        handler: run!(insert),
//!    }];
//!    ```
//!
//!    A command with subcommands has an entry of its own with [`Handler::Container`]. The arity is as in
//!    Redis: it counts every word of the name, and -n means n or more. What all entries of a family
//!    have in common may stand in one `BASE` (see `client.rs`).
//!    A command that reads or writes documents runs its body through `unit::Unit`, so that it
//!    joins the transaction of BEGIN.
//! 3. Say in `rights.rs` which right it needs, and where; a test finds what is missing there.
//! 4. A new family is added to `FAMILIES` in `registry.rs`. COMMAND, COMMAND DOCS, the hints of redis-cli
//!    and the arity errors follow from the table; a test checks it for sense.
//!
//! # Invariants
//!
//! * A handler sends nothing; it returns one [`Reply`] or one error.
//! * A handler may be dropped at any await (the client went away): what must not be
//!   lost half-way is one transaction, or work that is resumed.
//! * A panic in a handler is logged, answered, and ends that connection only.
//!
//! Not here: bytes (`resp`), sockets (`server`), what a connection remembers (`session`), storage.

#![allow(clippy::unnecessary_wraps, reason = "all handlers have one signature")]

mod accounts;
mod acl;
mod args;
mod backup;
mod bucket;
mod check;
mod client;
mod cluster;
mod collation;
mod connection;
mod copy;
mod document;
mod feed;
mod gate;
mod index;
mod introspection;
mod lifecycle;
mod namespace;
mod refused;
pub mod registry;
mod removed;
mod rights;
mod server;
mod services;
mod session;
mod settings;
mod slow;
mod slowlog;
mod spec;
mod stats;
mod support;
#[cfg(test)]
pub(crate) mod testing;
mod transaction;
mod unit;

pub use crate::codec::glob::glob_matches;
pub use args::{Args, Options};
pub use gate::{allowed, allowed_somewhere};
pub use registry::{Ended, Running, Step, dispatch, execute};
pub use rights::rights_of;

pub(crate) use server::resident_bytes;
pub use services::Services;
pub use slow::{SlowEntry, SlowLog};
pub(crate) use spec::run;
pub use spec::{Argument, Group, Handler, Kind, Pending, Spec, flags};
pub use stats::{CommandCounts, CommandStats, Stats};

pub use crate::error::{Error, Result};
pub use crate::resp::Reply;

use std::sync::Arc;

use crate::session::Session;

/// What a handler works with, besides its arguments.
#[derive(Debug)]
pub struct Context<'a> {
    /// The connection that asks.
    pub session: &'a mut Session,
    /// What all connections share.
    pub services: &'a Arc<Services>,
}

/// The error for a call with too many arguments, where the arity can't say so.
pub(crate) fn wrong_arity(name: &str) -> Error {
    Error::Syntax(format!("wrong number of arguments for '{}' command", name.replace(' ', "|")))
}

/// The error for a subcommand that isn't there, of a command that has HELP.
fn unknown_subcommand(container: &str, name: &str) -> Error {
    Error::Syntax(format!("unknown subcommand: '{name}'. Try {container} HELP."))
}

/// What HELP of a command with subcommands answers.
fn help(container: &str) -> Reply {
    let table = registry::table();
    let mut lines = vec![Reply::Simple(
        format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:").into(),
    )];
    if let Some((_, container)) = table.find(container.as_bytes()) {
        for spec in table.subcommands(container) {
            let (_, name) = spec.subcommand().unwrap_or_default();
            lines.push(Reply::Simple(name.into()));
            lines.push(Reply::Simple(format!("    {}", spec.summary).into()));
        }
    }
    Reply::Array(lines)
}
