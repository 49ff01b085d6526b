//! BEGIN, COMMIT, ROLLBACK, and what one may ask of an open transaction.
//!
//! What the data commands do in it goes through `unit`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Args, Argument, Context, Error, Group, Handler, Reply, Result, Spec, flags, gate, run, support,
    wrong_arity,
};
use crate::access::Permit;
use crate::codec::Versionstamp;
use crate::metadata::{Caller, OpenTransaction, Operation};

/// How old the version may be that TICK CACHED gives.
const TICK_AGE_MAX: Duration = Duration::from_secs(1);

const NONE_OPEN: Error = Error::Transaction("there is no transaction in progress.");

const fn spec(name: &'static str, summary: &'static str, handler: Handler) -> Spec {
    Spec {
        name,
        arity: 1,
        flags: flags::FAST,
        since: "0.1",
        group: Group::Transaction,
        summary,
        complexity: "O(1)",
        arguments: &[],
        handler,
    }
}

pub(super) const COMMANDS: &[Spec] = &[
    spec("BEGIN", "Opens a transaction.", Handler::Sync(begin)),
    Spec {
        arity: -1,
        flags: flags::WRITE,
        complexity: "O(N) in what was written",
        arguments: &[
            Argument::one_of(
                "what",
                &[
                    Argument::keyword("committed-version", "COMMITTED-VERSION"),
                    Argument::keyword("versionstamp", "VERSIONSTAMP"),
                ],
            )
            .after("RETURNING")
            .optional(),
            Argument::string("id").after("OPID").optional(),
        ],
        ..spec(
            "COMMIT",
            "Makes all that the transaction has written take effect, or nothing.",
            run!(commit),
        )
    },
    spec("ROLLBACK", "Ends the transaction without effect.", Handler::Sync(rollback)),
    spec(
        "GETREADVERSION",
        "Tells the version that everything in the transaction is read at.",
        run!(read_version),
    ),
    spec(
        "GETAPPROXIMATESIZE",
        "Tells about how many bytes the transaction has grown to.",
        Handler::Sync(approximate_size),
    ),
    Spec {
        arity: 2,
        arguments: &[Argument::one_of(
            "switch",
            &[Argument::keyword("on", "ON"), Argument::keyword("off", "OFF")],
        )],
        ..spec(
            "SNAPSHOTREAD",
            "Sets whether what queries of a transaction read need not hold at COMMIT.",
            Handler::Sync(snapshot_read),
        )
    },
    Spec {
        arity: 2,
        arguments: &[Argument::one_of(
            "age",
            &[Argument::keyword("fresh", "FRESH"), Argument::keyword("cached", "CACHED")],
        )],
        ..spec("TICK", "Tells the version of the store.", run!(tick))
    },
];

fn begin(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    if ctx.session.in_transaction() {
        return Err(Error::Transaction("there is already a transaction in progress."));
    }
    let catalog = ctx.services.lifecycle()?.catalog();
    ctx.session.transaction = Some(OpenTransaction::begin(catalog));
    Ok(Reply::Ok)
}

/// What COMMIT answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returning {
    Nothing,
    Version,
    Versionstamp,
}

impl Returning {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Version => "committed-version",
            Self::Versionstamp => "versionstamp",
        }
    }

    fn reply(self, stamp: Option<Versionstamp>) -> Result<Reply> {
        match (self, stamp) {
            (Self::Nothing, _) => Ok(Reply::Ok),
            (Self::Version, None) => Ok(Reply::Integer(-1)),
            (Self::Version, Some(stamp)) => version_reply(stamp.version()),
            (Self::Versionstamp, None) => Err(Error::NoCommitVersion),
            (Self::Versionstamp, Some(stamp)) => {
                Ok(Reply::Bulk(Bytes::copy_from_slice(stamp.as_bytes())))
            }
        }
    }
}

fn version_reply(version: u64) -> Result<Reply> {
    let version = i64::try_from(version);
    version.map(Reply::Integer).map_err(|_| Error::Internal("a version above 63 bits".to_owned()))
}

/// `COMMIT [RETURNING committed-version|versionstamp] [OPID <id>]`.
async fn commit(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let (returning, opid) = parse(&args)?;
    // Another session may send it again, from another namespace.
    let words = [b"COMMIT".as_slice(), returning.name().as_bytes()];
    let operation = opid.map(|id| Operation::from_client(id, words.into_iter())).transpose()?;
    let permit = ctx.session.permit().cloned();
    let caller = Caller { actor: support::actor(ctx.session), operation, permit };
    if let Some(open) = ctx.session.transaction.take() {
        let allowed = ctx.session.allowed().to_vec();
        let committed = match still_allowed(ctx, &allowed) {
            Ok(()) => open.commit(&caller).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &committed {
            gate::note_revoked(ctx, &allowed, error);
        }
        return returning.reply(committed?);
    }
    let catalog = ctx.services.lifecycle()?.catalog();
    let before = OpenTransaction::committed_before(catalog, &caller).await?;
    returning.reply(before.ok_or(NONE_OPEN)?)
}

/// Whether the user may still do all that was done.
fn still_allowed(ctx: &Context<'_>, allowed: &[Permit]) -> Result<()> {
    for permit in allowed {
        match ctx.services.users.get(&permit.user().name) {
            Some(account) => permit.judge_again(&account.user)?,
            None => return Err(Error::NotLoggedIn),
        }
    }
    Ok(())
}

fn parse(args: &Args) -> Result<(Returning, Option<&[u8]>)> {
    let (mut returning, mut opid) = (None, None);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let text = |word| String::from_utf8_lossy(word).into_owned();
        if word.eq_ignore_ascii_case(b"RETURNING") && returning.is_none() {
            let what = words.next();
            let what = what.ok_or_else(|| Error::syntax("No arguments given for RETURNING"))?;
            returning = [Returning::Version, Returning::Versionstamp]
                .into_iter()
                .find(|known| what.eq_ignore_ascii_case(known.name().as_bytes()));
            if returning.is_none() {
                return Err(Error::Syntax(format!("Illegal argument: {}", text(what))));
            }
        } else if word.eq_ignore_ascii_case(b"OPID") && opid.is_none() {
            opid = Some(words.next().ok_or_else(|| wrong_arity("COMMIT"))?);
        } else if returning.is_none() && opid.is_none() {
            return Err(Error::Syntax(format!("unknown subcommand: '{}'", text(word))));
        } else {
            return Err(wrong_arity("COMMIT"));
        }
    }
    Ok((returning.unwrap_or(Returning::Nothing), opid))
}

fn rollback(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    ctx.session.transaction.take().map(|_| Reply::Ok).ok_or(NONE_OPEN)
}

async fn read_version(ctx: &mut Context<'_>, _: Args) -> Result<Reply> {
    let open = ctx.session.transaction.clone().ok_or(NONE_OPEN)?;
    version_reply(open.read_version().await?)
}

fn approximate_size(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    let open = ctx.session.transaction.as_ref().ok_or(NONE_OPEN)?;
    Ok(Reply::Integer(i64::try_from(open.approximate_size()).unwrap_or(i64::MAX)))
}

/// `SNAPSHOTREAD ON|OFF`.
fn snapshot_read(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    ctx.session.snapshot_read = match (args.is(0, "ON"), args.is(0, "OFF")) {
        (true, _) => true,
        (_, true) => false,
        _ => return Err(illegal("SNAPSHOTREAD", args)),
    };
    Ok(Reply::Ok)
}

fn illegal(command: &str, args: &Args) -> Error {
    let word = String::from_utf8_lossy(args.get(0).unwrap_or_default()).into_owned();
    Error::Syntax(format!("illegal argument for {command}: '{word}'"))
}

/// `TICK FRESH|CACHED`.
async fn tick(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let tick = &ctx.services.tick;
    if args.is(0, "CACHED") {
        if let Some(version) = tick.recent() {
            return version_reply(version);
        }
    } else if !args.is(0, "FRESH") {
        return Err(illegal("TICK", &args));
    }
    let asked = Instant::now();
    let store = ctx.services.lifecycle()?.catalog().store();
    let version = store.begin("tick").read_version().await?;
    tick.note(asked, version);
    version_reply(version)
}

/// The newest version of the store that was asked for, and when.
#[derive(Debug, Default)]
pub(super) struct Tick(Mutex<Option<(Instant, u64)>>);

impl Tick {
    fn recent(&self) -> Option<u64> {
        let newest = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest.filter(|(at, _)| at.elapsed() < TICK_AGE_MAX).map(|(_, version)| version)
    }

    fn note(&self, at: Instant, version: u64) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_none_or(|(_, known)| known <= version) {
            *newest = Some((at, version));
        }
    }
}
