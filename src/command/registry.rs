//! The table of all commands, and the way from words to a handler.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{Span, info_span};

use super::gate::{self, Verdict};
use super::slow::{Ran, WORDS_MAX};
use super::spec::Pending;
use super::{
    Args, Context, Handler, Services, Spec, acl, backup, bucket, check, client, cluster,
    connection, copy, document, feed, flags, index, introspection, lifecycle, namespace, refused,
    server, session, settings, slowlog, transaction,
};
use crate::access::Permit;
use crate::error::{Error, Result};
use crate::resp::{Reply, Words};
use crate::session::{Client, RequestId};

/// One table per family.
const FAMILIES: &[&[Spec]] = &[
    connection::COMMANDS,
    client::COMMANDS,
    acl::COMMANDS,
    introspection::COMMANDS,
    server::COMMANDS,
    slowlog::COMMANDS,
    session::COMMANDS,
    refused::COMMANDS,
    cluster::COMMANDS,
    backup::COMMANDS,
    check::COMMANDS,
    document::COMMANDS,
    feed::COMMANDS,
    lifecycle::COMMANDS,
    bucket::COMMANDS,
    copy::COMMANDS,
    settings::COMMANDS,
    index::COMMANDS,
    namespace::COMMANDS,
    namespace::lifecycle::COMMANDS,
    namespace::policy::COMMANDS,
    transaction::COMMANDS,
    #[cfg(test)]
    super::testing::COMMANDS,
];

/// The longest name that is looked up; longer ones are unknown without looking.
const NAME_BYTES_MAX: usize = 64;

/// Bytes of a bucket's name that are logged: all of a name that can be one.
const LOGGED_BYTES_MAX: usize = 255;

/// Bytes of arguments that the error for an unknown command repeats, as Redis does.
const ECHOED_BYTES_MAX: usize = 128;

/// All commands, sorted by name.
#[derive(Debug)]
pub struct Table {
    specs: Vec<Spec>,
    /// As rules and refusals name them: in lower case, with `|` before a subcommand.
    names: Vec<String>,
    by_name: HashMap<&'static str, usize>,
}

/// The table; made when it is first asked for.
pub fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        let mut specs: Vec<Spec> = FAMILIES.iter().copied().flatten().copied().collect();
        specs.sort_by_key(|spec| spec.name);
        let by_name = specs.iter().enumerate().map(|(index, spec)| (spec.name, index)).collect();
        let names = specs.iter().map(|spec| spec.full_name().to_ascii_lowercase()).collect();
        Table { specs, names, by_name }
    });
    &TABLE
}

impl Table {
    /// Commands and subcommands, sorted by name.
    pub fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// The name of a command by its place, as rules and refusals have it.
    pub(super) fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// Commands without their subcommands, sorted by name.
    pub fn commands(&self) -> impl Iterator<Item = &Spec> {
        self.specs.iter().filter(|spec| spec.subcommand().is_none())
    }

    /// The subcommands of a command, sorted by name.
    pub fn subcommands(&self, container: &Spec) -> impl Iterator<Item = &Spec> {
        let container = container.name;
        self.specs
            .iter()
            .filter(move |spec| spec.subcommand().is_some_and(|(outer, _)| outer == container))
    }

    /// A command or, with a space or `|` between the names, a subcommand, in any case.
    pub fn find(&self, name: &[u8]) -> Option<(usize, &Spec)> {
        let (outer, inner) = match name.iter().position(|byte| matches!(byte, b' ' | b'|')) {
            Some(at) => (name.get(..at)?, name.get(at + 1..)),
            None => (name, None),
        };
        self.look_up(outer, inner)
    }

    fn look_up(&self, name: &[u8], subcommand: Option<&[u8]>) -> Option<(usize, &Spec)> {
        // `CLIENT ID` in one word is no command, though the table has an entry of that name.
        if name.contains(&b' ') {
            return None;
        }
        let mut upper = [0_u8; NAME_BYTES_MAX];
        let length = match subcommand {
            None => name.len(),
            Some(subcommand) => {
                let start = name.len() + 1;
                let length = start + subcommand.len();
                upper.get_mut(start..length)?.copy_from_slice(subcommand);
                *upper.get_mut(name.len())? = b' ';
                length
            }
        };
        upper.get_mut(..name.len())?.copy_from_slice(name);
        let upper = upper.get_mut(..length)?;
        upper.make_ascii_uppercase();
        let index = *self.by_name.get(std::str::from_utf8(upper).ok()?)?;
        Some((index, self.specs.get(index)?))
    }
}

/// How far a command has come.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is made once and taken apart at once")]
pub enum Step<'a> {
    /// It has answered.
    Done(Reply),
    /// It awaits something. Dropping it cancels the command.
    Running(Running<'a>),
}

/// A command that awaits something; gives its reply, also where its handler panics.
pub struct Running<'a> {
    future: Pending<'a>,
    call: Call<'a>,
    /// What allows it, where that was known when it began.
    permit: Option<Permit>,
    /// Its words, where it may turn out to be slow.
    words: Words,
    client: Arc<Client>,
    started: Instant,
    ended: bool,
    span: Span,
}

/// What is counted, and where, when a command ends.
#[derive(Clone, Copy, Debug)]
struct Call<'a> {
    spec: &'static Spec,
    index: usize,
    services: &'a Services,
    request: RequestId,
}

impl Call<'_> {
    /// Counts a command that has ended, with an error of this code if with any.
    fn note(&self, took: Duration, code: Option<&'static str>, words: &Words, client: &Client) {
        let services = self.services;
        if let Some(stats) = services.stats.command(self.index) {
            stats.note(took, code.is_some());
        }
        if let Some(code) = code {
            services.stats.note_error(code);
        }
        let ran = Ran { spec: self.spec, words, client, request: self.request, took };
        services.slow_log.note(&ran, || services.clock.now());
    }

    /// The span of what the command logs; made only where it is wanted.
    fn span(&self, namespace: &str, args: &Args) -> Span {
        let bucket = || {
            let named = self.spec.arguments.first().is_some_and(|first| first.name == "bucket");
            args.get(0).filter(|_| named).map(|name| clip(name, LOGGED_BYTES_MAX))
        };
        info_span!(
            "command",
            request = %self.request,
            command = self.spec.name,
            namespace,
            bucket = bucket(),
            removal = tracing::field::Empty,
        )
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended
            && let Some(stats) = self.call.services.stats.command(self.call.index)
        {
            stats.note_cancelled();
        }
    }
}

impl std::fmt::Debug for Running<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("command", &self.call.spec.name).finish_non_exhaustive()
    }
}

impl Running<'_> {
    /// The place of the command in the table.
    pub const fn index(&self) -> usize {
        self.call.index
    }

    /// Ends a command that its user may not run any more. One that writes ends by itself: its
    /// transaction does not commit.
    pub fn revoked(&mut self) -> Option<Ended> {
        if self.call.spec.has(flags::WRITE) {
            return None;
        }
        let permit = self.permit.as_ref()?;
        let refused = match self.call.services.users.get(&permit.user().name) {
            Some(account) => permit.judge_again(&account.user),
            None => Err(Error::NotLoggedIn),
        };
        let error = refused.err()?;
        self.note(Some(error.code()));
        Some(Ended::Replied(to_reply(Err(error))))
    }

    fn note(&mut self, code: Option<&'static str>) {
        self.ended = true;
        let _within = self.span.enter();
        self.call.note(self.started.elapsed(), code, &self.words, &self.client);
    }
}

/// What a running command ended with.
#[derive(Debug)]
pub enum Ended {
    /// It answered.
    Replied(Reply),
    /// It panicked: this is its answer, and the connection's last.
    Panicked(Reply),
}

impl Future for Running<'_> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        let within = this.span.enter();
        let polled = catch_unwind(AssertUnwindSafe(|| this.future.as_mut().poll(cx)));
        drop(within);
        Poll::Ready(if let Ok(poll) = polled {
            let result = ready!(poll);
            this.note(code(&result));
            Ended::Replied(to_reply(result))
        } else {
            this.note(Some(PANICKED));
            Ended::Panicked(panicked(&this.call))
        })
    }
}

/// Starts the command that these words are: it is known, has the right number of arguments, the
/// server takes commands, the transaction allows it; then its handler runs.
pub fn dispatch<'a>(ctx: &'a mut Context<'_>, words: Words) -> Step<'a> {
    let ((index, spec), name, args) = match call(ctx.services, words) {
        Ok(call) => call,
        Err(error) => {
            ctx.services.stats.note_error(error.code());
            return Step::Done(to_reply(Err(error)));
        }
    };
    let services: &'a Services = ctx.services;
    let verdict = match admit(ctx, (index, spec), name, &args) {
        Ok(verdict) => verdict,
        Err(error) => {
            if let Some(stats) = services.stats.command(index) {
                stats.note_rejected();
            }
            services.stats.note_error(error.code());
            return Step::Done(to_reply(Err(error)));
        }
    };
    let depends = match verdict {
        Verdict::Free(permit) => {
            ctx.session.set_permit(permit);
            None
        }
        Verdict::Depends(depends) => Some(depends),
    };
    ctx.session.note_command(index);
    let call = Call { spec, index, services, request: ctx.session.request() };
    let span = call.span(&ctx.session.namespace, &args);
    match spec.handler {
        // It would run before it is known whether it may.
        Handler::Sync(_) | Handler::AloneOrContainer(..) if depends.is_some() => {
            let error = Error::Internal(format!("{} cannot take an id", spec.name));
            Step::Done(to_reply(Err(error)))
        }
        Handler::Sync(run) | Handler::AloneOrContainer(run, _) => {
            let within = span.enter();
            let result = catch_unwind(AssertUnwindSafe(|| run(ctx, &args)));
            let took = ctx.session.next_lap(Instant::now());
            let code = result.as_ref().map_or(Some(PANICKED), code);
            call.note(took, code, args.words(), ctx.session.client());
            drop(within);
            Step::Done(if let Ok(result) = result {
                to_reply(result)
            } else {
                ctx.session.close_after_reply();
                panicked(&call)
            })
        }
        Handler::Async(run) => {
            let started = ctx.session.lap();
            let client = Arc::clone(ctx.session.client());
            let slow = services.slow_log.is_on();
            let words = if slow { args.words().first(WORDS_MAX) } else { Words::default() };
            // Where an id leads is not known yet, and what was allowed before is another command.
            let permit = ctx.session.permit().filter(|_| depends.is_none()).cloned();
            let future = match depends {
                None => run(ctx, args),
                Some(depends) => Box::pin(async move {
                    let needs = gate::look_up(services, &depends).await?;
                    let permit = gate::conclude(ctx, depends, needs, name, &args)?;
                    ctx.session.set_permit(Some(permit));
                    run(ctx, args).await
                }),
            };
            Step::Running(Running {
                future,
                call,
                permit,
                words,
                client,
                started,
                ended: false,
                span,
            })
        }
        Handler::Container(unknown) => {
            let name = String::from_utf8_lossy(args.get(0).unwrap_or_default());
            let error = unknown(&name);
            services.stats.note_error(error.code());
            Step::Done(to_reply(Err(error)))
        }
    }
}

/// Runs a command to its end, for callers without a socket.
pub async fn execute(ctx: &mut Context<'_>, words: Words) -> Reply {
    ctx.session.next_lap(Instant::now());
    let ended = match dispatch(ctx, words) {
        Step::Done(reply) => return reply,
        Step::Running(running) => running.await,
    };
    match ended {
        Ended::Replied(reply) => reply,
        Ended::Panicked(reply) => {
            ctx.session.close_after_reply();
            reply
        }
    }
}

/// The command that these words are, its place, its name for rules, and its arguments.
pub(super) fn call(
    services: &Services,
    words: Words,
) -> Result<((usize, &'static Spec), &'static str, Args)> {
    let table = table();
    let (index, spec) = resolve(table, services, &words)?;
    let name_words = if spec.subcommand().is_some() { 2 } else { 1 };
    Ok(((index, spec), table.name(index), Args::new(words, name_words)))
}

fn resolve<'t>(table: &'t Table, services: &Services, words: &Words) -> Result<(usize, &'t Spec)> {
    let name = words.get(0).unwrap_or_default();
    let Some((index, spec)) = table.look_up(name, None) else {
        services.stats.unknown_commands.fetch_add(1, Ordering::Relaxed);
        return Err(unknown_command(words));
    };
    if let Some(unknown) = spec.handler.unknown_subcommand()
        && let Some(subcommand) = words.get(1)
    {
        return table
            .look_up(name, Some(subcommand))
            .ok_or_else(|| unknown(&String::from_utf8_lossy(subcommand)));
    }
    Ok((index, spec))
}

fn admit(
    ctx: &mut Context<'_>,
    (index, spec): (usize, &'static Spec),
    name: &'static str,
    args: &Args,
) -> Result<Verdict> {
    if !spec.takes(args.words().len()) {
        let name = spec.full_name();
        return Err(Error::Syntax(format!("wrong number of arguments for '{name}' command")));
    }
    if ctx.services.is_stopping() {
        return Err(Error::syntax("server is shutting down"));
    }
    let verdict = gate::judge(ctx, (index, spec), name, args)?;
    if spec.has(flags::NO_TRANSACTION) && ctx.session.in_transaction() {
        let name = spec.name;
        return Err(Error::Syntax(format!("{name} is not allowed within a transaction")));
    }
    Ok(verdict)
}

fn unknown_command(words: &Words) -> Error {
    let name = clip(words.get(0).unwrap_or_default(), ECHOED_BYTES_MAX);
    let mut args = String::new();
    for word in words.iter().skip(1) {
        let Some(room) = ECHOED_BYTES_MAX.checked_sub(args.len()).filter(|room| *room > 0) else {
            break;
        };
        args.push('\'');
        args.push_str(&clip(word, room));
        args.push_str("' ");
    }
    Error::Syntax(format!("unknown command '{name}', with args beginning with: {args}"))
}

fn clip(word: &[u8], room: usize) -> String {
    String::from_utf8_lossy(word.get(..room).unwrap_or(word)).into_owned()
}

/// Errors repeat what the client sent, which may be large; nobody reads that much.
const ERROR_BYTES_MAX: usize = 4 * 1_024;

fn to_reply(result: Result<Reply>) -> Reply {
    result.unwrap_or_else(|error| {
        let mut line = error.to_line();
        if line.len() > ERROR_BYTES_MAX {
            line.truncate(line.floor_char_boundary(ERROR_BYTES_MAX));
            line.push_str("...");
        }
        Reply::Error(line)
    })
}

/// The code of what a panic is answered with.
const PANICKED: &str = "ERR";

fn code(result: &Result<Reply>) -> Option<&'static str> {
    result.as_ref().err().map(Error::code)
}

fn panicked(call: &Call<'_>) -> Reply {
    let (request, command) = (call.request, call.spec.name);
    tracing::error!(%request, command, "a command panicked; its connection ends");
    Reply::Error(Error::Internal("the command failed; the log says where".to_owned()).to_line())
}

#[cfg(test)]
mod tests;
