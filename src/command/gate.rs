//! Whether a session may run a command: the one place that all commands come through.
//!
//! What a command needs stands in `rights`; the judgement is `access`'s. An id tells a place only
//! when it is looked up; who has the right nowhere is refused before, and the refusal is the same
//! whether the id leads anywhere or not.

use std::sync::Arc;

use super::rights::{self, Wanted, Where};
use super::{Args, Context, Error, Result, Services, Spec, flags, registry};
use crate::access::{Account, Commands, Need, Permit, Place, Right};
use crate::codec::ObjectKind;
use crate::lifecycle::target;
use crate::metadata::{Caller, Path};
use crate::resp::Words;
use crate::session::Session;
use crate::store::Transaction;

/// Bytes of a bucket's name in the row of a refusal: all of a name that can be one.
const NAME_BYTES_MAX: usize = 255;

/// What is known before anything is looked up.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The command may run.
    Free(Option<Permit>),
    /// It depends on where an id leads.
    Depends(Depends),
}

/// What has to be looked up.
#[derive(Debug)]
pub(super) struct Depends {
    account: Arc<Account>,
    wanted: Vec<Wanted>,
}

/// A refusal, and what would have been needed.
#[derive(Debug)]
struct Refused {
    error: Error,
    needs: Vec<Need>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, needs: Vec::new() }
    }
}

impl Refused {
    /// Enters it into the audit log.
    fn note(self, ctx: &Context<'_>, args: &Args) -> Error {
        note_refusal(ctx.session, ctx.services, &self.needs, args.get(0), &self.error);
        self.error
    }
}

/// Judges a call as far as its words tell.
///
/// # Errors
/// `NOAUTH`, `NOPERM`.
pub(super) fn judge(
    ctx: &mut Context<'_>,
    of: (usize, &'static Spec),
    command: &'static str,
    args: &Args,
) -> Result<Verdict> {
    weigh(ctx, of, command, args).map_err(|refused| refused.note(ctx, args))
}

/// Whether a call would be allowed: it is not made, and its refusal is entered nowhere. Gives what
/// would allow it, which is nothing where nobody has to log in for it.
///
/// # Errors
/// `NOAUTH`, `NOPERM` as the call itself; those of the store; a command that isn't there.
pub async fn allowed(ctx: &mut Context<'_>, words: Words) -> Result<Option<Permit>> {
    let (of, command, args) = registry::call(ctx.services, words)?;
    match weigh(ctx, of, command, &args).map_err(|refused| refused.error)? {
        Verdict::Free(permit) => Ok(permit),
        Verdict::Depends(depends) => {
            let needs = look_up(ctx.services, &depends).await?;
            conclude_as(depends, needs, command).map(Some).map_err(|refused| refused.error)
        }
    }
}

/// Whether such a call would be allowed anywhere, wherever its words point.
pub fn allowed_somewhere(ctx: &mut Context<'_>, words: Words) -> bool {
    let services = ctx.services;
    let Ok(((index, _), command, args)) = registry::call(services, words) else { return false };
    let Some(account) = ctx.session.account(&services.users) else { return false };
    let wanted = rights::wanted(index, ctx.session, &args, &services.config, 0);
    if wanted.is_empty() {
        return account.user.judge(command, &[]).is_ok();
    }
    wanted.into_iter().all(|one| account.user.has_somewhere(command, &one.need()))
}

fn weigh(
    ctx: &mut Context<'_>,
    (index, spec): (usize, &'static Spec),
    command: &'static str,
    args: &Args,
) -> std::result::Result<Verdict, Refused> {
    if spec.has(flags::NO_AUTH) {
        return Ok(Verdict::Free(None));
    }
    let services = ctx.services;
    let account = ctx.session.account(&services.users).ok_or(Error::NotLoggedIn)?;
    if let Some(permit) = ctx.session.permit()
        && rights::is_here_alone(index)
        && permit.repeats(&account, command, &ctx.session.namespace)
    {
        return Ok(Verdict::Free(Some(permit.clone())));
    }
    let now = services.lifecycle().map_or(0, |lifecycle| lifecycle.catalog().now());
    let wanted = rights::wanted(index, ctx.session, args, &services.config, now);
    if wanted.is_empty() {
        return Ok(Verdict::Free(Some(Permit::of(&account, command, Vec::new())?)));
    }
    let led = |it: &Wanted| matches!(it.place, Where::Led(_));
    if !wanted.iter().any(led) {
        let needs: Vec<Need> = wanted.into_iter().map(Wanted::need).collect();
        return decide(&account, command, needs).map(Verdict::Free);
    }
    // Who may do it everywhere need not know where.
    let everywhere: Vec<Need> = wanted.iter().cloned().map(Wanted::need).collect();
    if let Ok(permit) = Permit::of(&account, command, everywhere.clone()) {
        return Ok(Verdict::Free(Some(permit)));
    }
    let nowhere = everywhere.iter().any(|need| !account.user.has_somewhere(command, need));
    if nowhere {
        return decide(&account, command, everywhere).map(Verdict::Free);
    }
    Ok(Verdict::Depends(Depends { account, wanted }))
}

/// Looks up where the ids lead.
///
/// # Errors
/// Those of the store.
pub(super) async fn look_up(services: &Services, depends: &Depends) -> Result<Vec<Need>> {
    let catalog = services.lifecycle()?.catalog();
    let mut needs = Vec::with_capacity(depends.wanted.len());
    for one in depends.wanted.iter().cloned() {
        let Where::Led(target) = &one.place else {
            needs.push(one.need());
            continue;
        };
        let found = catalog
            .read("whose", |txn: Transaction| async move {
                target::namespace_of(&txn, target, catalog.default_namespace()).await
            })
            .await?;
        let place = match (found, target.kind()) {
            (Some(path), ObjectKind::Bucket) => Place::Namespace(path),
            (Some(path), ObjectKind::Namespace) => Place::Tree(path),
            (None, _) => Place::Everywhere,
        };
        needs.push(Need { right: one.right, place, own: one.own });
    }
    Ok(needs)
}

/// Judges what had to be looked up.
///
/// # Errors
/// `NOPERM`, the same for an id that leads to a foreign place and for one that leads nowhere.
pub(super) fn conclude(
    ctx: &Context<'_>,
    depends: Depends,
    needs: Vec<Need>,
    command: &'static str,
    args: &Args,
) -> Result<Permit> {
    conclude_as(depends, needs, command).map_err(|refused| refused.note(ctx, args))
}

fn conclude_as(
    depends: Depends,
    needs: Vec<Need>,
    command: &'static str,
) -> std::result::Result<Permit, Refused> {
    let Depends { account, wanted } = depends;
    if let Ok(permit) = Permit::of(&account, command, needs.clone()) {
        return Ok(permit);
    }
    // Said as of what is nowhere.
    let nowhere: Vec<Need> = wanted.into_iter().map(Wanted::need).collect();
    let error = match Permit::of(&account, command, nowhere.clone()) {
        Err(error) => error,
        Ok(permit) => permit.denied(),
    };
    // The log says where it was.
    Err(Refused { error, needs: if leads_nowhere(&needs) { nowhere } else { needs } })
}

fn leads_nowhere(needs: &[Need]) -> bool {
    needs.iter().all(|need| need.place == Place::Everywhere)
}

fn decide(
    account: &Arc<Account>,
    command: &'static str,
    needs: Vec<Need>,
) -> std::result::Result<Option<Permit>, Refused> {
    match Permit::judged(account, command, &needs) {
        Ok(own_only) => Ok(Some(Permit::new(account, command, needs, own_only))),
        Err(error) => Err(Refused { error, needs }),
    }
}

/// Words with which commands begin that are about no bucket of that name: lists with options, and cursors. A bucket
/// that is called so stands in the log without its name when it is refused.
const OPTIONS: [&[u8]; 12] = [
    b"ALL",
    b"NAMESPACE",
    b"COUNT",
    b"CURSOR",
    b"MATCH",
    b"REMOVAL",
    b"BY",
    b"ORDER",
    b"AFTER",
    b"BEFORE",
    b"EXPIRING-BEFORE",
    b"DELETE",
];

/// Enters into the audit log that what a transaction holds may not be committed any more.
pub(super) fn note_revoked(ctx: &Context<'_>, permits: &[Permit], error: &Error) {
    if matches!(error, Error::NoPermission(_)) {
        for permit in permits {
            note_refusal(ctx.session, ctx.services, permit.needs(), None, error);
        }
    }
}

/// Enters a refused attempt into the audit log, unless it was only to read or to write.
fn note_refusal(
    session: &Session,
    services: &Services,
    needs: &[Need],
    named: Option<&[u8]>,
    error: &Error,
) {
    let mut grave = needs.iter().filter(|need| !matches!(need.right, Right::Read | Right::Write));
    let (Some(need), Ok(lifecycle)) = (grave.next_back(), services.lifecycle()) else { return };
    let right = match need.right {
        Right::RestoreOwn => Right::Restore,
        right => right,
    };
    let (path, is_tree) = match &need.place {
        Place::Namespace(path) | Place::Seen(path) => (path.as_str(), false),
        Place::Tree(path) => (path.as_str(), true),
        Place::Everywhere => (session.namespace.as_str(), false),
    };
    let Ok(path) =
        Path::parse(path.as_bytes()).or_else(|_| Path::parse(session.namespace.as_bytes()))
    else {
        return;
    };
    let named = named.filter(|word| {
        !is_tree && right != Right::Admin && !OPTIONS.iter().any(|it| word.eq_ignore_ascii_case(it))
    });
    let named = named.unwrap_or_default();
    let named = String::from_utf8_lossy(named.get(..NAME_BYTES_MAX).unwrap_or(named)).into_owned();
    let caller = Caller {
        actor: super::support::actor(session),
        operation: None,
        permit: session.permit().cloned(),
    };
    lifecycle.refuse(&caller, right.name(), &path, &named, error);
}

/// The table of commands, as rules need it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known;

impl Commands for Known {
    fn exists(&self, name: &str) -> bool {
        super::registry::table().find(name.as_bytes()).is_some()
    }

    fn takes(&self, name: &str, right: Right) -> bool {
        let table = super::registry::table();
        let Some((_, spec)) = table.find(name.as_bytes()) else { return false };
        std::iter::once(spec)
            .chain(table.subcommands(spec))
            .any(|spec| rights::rights_of(spec).any(|of| of == right))
    }
}
