//! BACKUP: a consistent copy of the store while the node runs.

use std::path::Path;

use super::{Args, Argument, Context, Error, Group, Reply, Result, Spec, flags, run};
use crate::store;

pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "BACKUP",
    arity: 2,
    flags: flags::ADMIN | flags::READ | flags::BLOCKING | flags::NO_TRANSACTION,
    since: "0.1",
    group: Group::Server,
    summary: "Copies the whole store, as of now, into a folder on the node's machine.",
    complexity: "O(N) in what is stored",
    arguments: &[Argument::string("folder")],
    handler: run!(backup),
}];

async fn backup(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    // It writes files with the node's rights, so only who is on its machine may ask.
    if !ctx.session.client().address().ip().is_loopback() {
        return Err(Error::NoPermission(
            "BACKUP is allowed only from the machine of the node".to_owned(),
        ));
    }
    let folder = Path::new(args.text(0)?);
    if !folder.is_absolute() {
        return Err(Error::syntax("BACKUP takes an absolute path of a folder"));
    }
    let summary = store::backup(ctx.services.lifecycle()?.catalog().store(), folder).await?;
    Ok(Reply::map([
        ("version", Reply::from(summary.version)),
        ("rows", Reply::from(summary.rows)),
        ("bytes", Reply::from(summary.bytes)),
    ]))
}
