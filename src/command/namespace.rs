//! NAMESPACE CREATE, USE, CURRENT, EXISTS, LIST.

pub(super) mod lifecycle;
pub(super) mod policy;

use super::support::{Paging, caller, current, to_hex};
use super::{
    Args, Argument, Context, Error, Group, Handler, Reply, Result, Spec, flags, run, wrong_arity,
};
use crate::codec::NamespaceId;
use crate::metadata::Path;
use crate::metadata::namespace;
use crate::store::{Read, Transaction};

const NAMESPACE: &[Argument] = &[Argument::string("namespace")];

const fn spec(name: &'static str, arity: i8, flags: u16, summary: &'static str) -> Spec {
    Spec {
        name,
        arity,
        flags,
        since: "0.1",
        group: Group::Namespace,
        summary,
        complexity: "O(1)",
        arguments: NAMESPACE,
        handler: Handler::Container(unknown),
    }
}

pub(super) const COMMANDS: &[Spec] = &[
    Spec { arguments: &[], ..spec("NAMESPACE", -2, 0, "Creates, lists and chooses namespaces.") },
    Spec {
        handler: run!(create),
        arguments: &[
            Argument::string("namespace"),
            Argument::string("id").after("OPID").optional(),
        ],
        ..spec(
            "NAMESPACE CREATE",
            -3,
            flags::WRITE,
            "Creates a namespace and what is missing above it.",
        )
    },
    Spec {
        handler: run!(use_namespace),
        ..spec(
            "NAMESPACE USE",
            3,
            flags::READ,
            "Makes a namespace the current one of this connection.",
        )
    },
    Spec {
        handler: Handler::Sync(current_namespace),
        arguments: &[],
        ..spec(
            "NAMESPACE CURRENT",
            2,
            flags::FAST,
            "Tells the current namespace of this connection.",
        )
    },
    Spec {
        handler: run!(exists),
        ..spec("NAMESPACE EXISTS", 3, flags::READ, "Tells whether a namespace exists.")
    },
    Spec {
        handler: run!(list),
        complexity: "O(N) in the children listed",
        arguments: &[
            Argument::string("namespace").optional(),
            Argument::integer("count").after("COUNT").optional(),
            Argument::string("cursor").after("CURSOR").optional(),
            Argument::pattern("pattern").after("MATCH").optional(),
        ],
        ..spec(
            "NAMESPACE LIST",
            -2,
            flags::READ,
            "Lists the direct children of a namespace, or the topmost ones.",
        )
    },
];

fn unknown(name: &str) -> Error {
    if name.trim().is_empty() {
        return Error::syntax("invalid subcommand given");
    }
    Error::Syntax(format!("unknown subcommand: '{name}'"))
}

async fn create(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let path = Path::parse(args.required(0)?)?;
    let mut opid = None;
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let caller = caller(ctx.session, "NAMESPACE CREATE", &args, opid)?;
    ctx.services.lifecycle()?.catalog().create_namespace(&caller, &path).await?;
    Ok(Reply::Ok)
}

async fn use_namespace(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let path = Path::parse(args.required(0)?)?;
    if !ctx.services.lifecycle()?.catalog().namespace_exists(&path).await? {
        return Err(Error::NoSuchNamespace(path.to_string()));
    }
    ctx.session.namespace = path.to_string();
    Ok(Reply::Ok)
}

fn current_namespace(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    Ok(Reply::Text(current(ctx)?.to_string()))
}

async fn exists(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let path = Path::parse(args.required(0)?)?;
    let exists = ctx.services.lifecycle()?.catalog().namespace_exists(&path).await?;
    Ok(Reply::Integer(i64::from(exists)))
}

async fn list(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let mut paging = Paging::default();
    let is_option = |word: &[u8]| {
        ["COUNT", "CURSOR", "MATCH"].iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    // `NAMESPACE LIST count` lists the namespace of that name.
    let named =
        args.get(0).filter(|word| args.len() != 2 && (args.len() % 2 == 1 || !is_option(word)));
    let path = named.map(Path::parse).transpose()?;
    let mut options = args.options(usize::from(path.is_some()));
    while let Some(option) = options.next() {
        if path.is_none() && !is_option(option) {
            return Err(wrong_arity("NAMESPACE LIST"));
        }
        if !paging.accept(option, &mut options)? {
            return Err(options.unknown());
        }
    }
    let mut position = paging.position_name()?;
    let limit = paging.limit();
    let catalog = ctx.services.lifecycle()?.catalog();
    let mut items = Vec::new();
    loop {
        let (path, after) = (path.as_ref(), position.as_deref());
        let (names, more) = catalog
            .read("list-namespaces", |txn: Transaction| async move {
                let txn = &txn;
                let parent = match path {
                    Some(path) => namespace::resolve(txn, path, Read::Snapshot).await?.id(),
                    None => NamespaceId::ROOT,
                };
                namespace::children(txn, parent, after, limit).await
            })
            .await?;
        for name in names {
            if items.len() == limit {
                return Ok(paging.reply(items, position.map(|name| to_hex(&name))));
            }
            let whole = path.map_or_else(|| name.clone(), |path| format!("{path}.{name}"));
            let seen = ctx.session.permit().is_none_or(|permit| permit.user().may_see(&whole));
            if seen && paging.admits(&name) {
                items.push(Reply::Text(name.clone()));
            }
            position = Some(name);
        }
        if !more {
            return Ok(paging.reply(items, None));
        }
        // A page of the scan ends where it ended, also when little matched.
        if paging.is_paged() {
            return Ok(paging.reply(items, position.map(|name| to_hex(&name))));
        }
    }
}
