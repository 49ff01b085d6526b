//! Whether a session may run a command: the one place that all commands come through.
//!
//! What a command needs stands in `rights`; the judgement is `access`'s. An id tells a place only
//! when it is looked up; who has the right nowhere is refused before, and the refusal is the same
//! whether the id leads anywhere or not.

use std::sync::Arc;

use super::rights::{self, Wanted, Where};
use super::{Args, Context, Error, Result, Services, Spec, flags};
use crate::access::{Account, Commands, Need, Permit, Place, Right};
use crate::codec::ObjectKind;
use crate::lifecycle::target;
use crate::metadata::{Caller, Path};
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

/// Judges a call as far as its words tell.
///
/// # Errors
/// `NOAUTH`, `NOPERM`.
pub(super) fn judge(
    ctx: &mut Context<'_>,
    (index, spec): (usize, &'static Spec),
    command: &'static str,
    args: &Args,
) -> Result<Verdict> {
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
        return decide(ctx.session, services, &account, command, needs, args).map(Verdict::Free);
    }
    // Who may do it everywhere need not know where.
    let everywhere: Vec<Need> = wanted.iter().cloned().map(Wanted::need).collect();
    if let Ok(permit) = Permit::of(&account, command, everywhere.clone()) {
        return Ok(Verdict::Free(Some(permit)));
    }
    let nowhere = everywhere.iter().any(|need| !account.user.has_somewhere(command, need));
    if nowhere {
        let refused = decide(ctx.session, services, &account, command, everywhere, args);
        return refused.map(Verdict::Free);
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
    let Depends { account, wanted } = depends;
    if let Ok(permit) = Permit::of(&account, command, needs) {
        return Ok(permit);
    }
    // Said as of what is nowhere.
    let nowhere: Vec<Need> = wanted.into_iter().map(Wanted::need).collect();
    let error = match Permit::of(&account, command, nowhere.clone()) {
        Err(error) => error,
        Ok(permit) => permit.denied(),
    };
    note_refusal(ctx.session, ctx.services, &nowhere, args, &error);
    Err(error)
}

fn decide(
    session: &Session,
    services: &Services,
    account: &Arc<Account>,
    command: &'static str,
    needs: Vec<Need>,
    args: &Args,
) -> Result<Option<Permit>> {
    match Permit::judged(account, command, &needs) {
        Ok(own_only) => Ok(Some(Permit::new(account, command, needs, own_only))),
        Err(error) => {
            note_refusal(session, services, &needs, args, &error);
            Err(error)
        }
    }
}

/// Enters a refused attempt into the audit log, unless it was only to read or to write.
fn note_refusal(
    session: &Session,
    services: &Services,
    needs: &[Need],
    args: &Args,
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
    let named = args.get(0).filter(|_| !is_tree && right != Right::Admin).unwrap_or_default();
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
