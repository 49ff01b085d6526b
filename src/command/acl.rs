//! ACL: users and what they may do.

use super::gate::Known;
use super::registry::table;
use super::rights::rights_of;
use super::support::caller;
use super::{
    Args, Argument, Context, Error, Group, Handler, Reply, Result, Services, Spec, flags, help,
    run, unknown_subcommand, wrong_arity,
};
use crate::access::{self, DEFAULT, Right, Rules, Selector, User};
use crate::metadata::Caller;
use crate::metadata::audit::{self, Entry};
use crate::store::Transaction;

/// Bits of a password that ACL GENPASS makes, by default and at most.
const GENPASS_BITS_DEFAULT: usize = 256;
const GENPASS_BITS_MAX: usize = 4_096;

/// What stands for a password that is not shown.
const HIDDEN: &str = "(hidden)";

const BASE: Spec = Spec {
    name: "ACL",
    arity: -2,
    flags: flags::ADMIN,
    since: "0.1",
    group: Group::Server,
    summary: "Says who may do what.",
    complexity: "Depends on the subcommand",
    arguments: &[],
    handler: Handler::Container(|name| unknown_subcommand("ACL", name)),
};

pub(super) const COMMANDS: &[Spec] = &[
    BASE,
    Spec {
        name: "ACL SETUSER",
        arity: -3,
        flags: flags::ADMIN | flags::WRITE | flags::NO_TRANSACTION | flags::SECRET,
        summary: "Makes a user, or changes one, by rules: all of them or none.",
        complexity: "O(N) in the users and the rules; a password takes tens of milliseconds",
        arguments: &[Argument::string("username"), Argument::string("rule").optional().multiple()],
        handler: run!(set_user),
        ..BASE
    },
    Spec {
        name: "ACL GETUSER",
        arity: 3,
        summary: "Shows a user's rules, without the passwords.",
        complexity: "O(N) in the rules",
        arguments: &[Argument::string("username")],
        handler: Handler::Sync(get_user),
        ..BASE
    },
    Spec {
        name: "ACL DELUSER",
        arity: -3,
        flags: flags::ADMIN | flags::WRITE | flags::NO_TRANSACTION,
        summary: "Deletes users; what they have open ends at once, on every node.",
        complexity: "O(N) in the users",
        arguments: &[Argument::string("username").multiple()],
        handler: run!(del_user),
        ..BASE
    },
    Spec {
        name: "ACL LIST",
        arity: 2,
        summary: "Shows all users with their rules, without the passwords.",
        complexity: "O(N) in the users and their rules",
        handler: Handler::Sync(list),
        ..BASE
    },
    Spec {
        name: "ACL USERS",
        arity: 2,
        summary: "Shows the names of all users.",
        complexity: "O(N) in the users",
        handler: Handler::Sync(|ctx, _| {
            let users = ctx.services.users.all();
            Ok(Reply::Array(users.iter().map(|it| Reply::Text(it.user.name.clone())).collect()))
        }),
        ..BASE
    },
    Spec {
        name: "ACL WHOAMI",
        arity: 2,
        flags: flags::FAST,
        summary: "Tells the user of this connection.",
        complexity: "O(1)",
        handler: Handler::Sync(|ctx, _| Ok(Reply::Text(ctx.session.user().to_owned()))),
        ..BASE
    },
    Spec {
        name: "ACL CAT",
        flags: 0,
        summary: "Shows the rights, or the commands that are of one.",
        complexity: "O(N) in the commands",
        arguments: &[Argument::string("category").optional()],
        handler: Handler::Sync(categories),
        ..BASE
    },
    Spec {
        name: "ACL GENPASS",
        flags: flags::FAST,
        summary: "Makes a random password.",
        complexity: "O(1)",
        arguments: &[Argument::integer("bits").optional()],
        handler: Handler::Sync(generate),
        ..BASE
    },
    Spec {
        name: "ACL HELP",
        arity: 2,
        flags: 0,
        summary: "Shows the subcommands.",
        complexity: "O(1)",
        handler: Handler::Sync(|_, _| Ok(help("ACL"))),
        ..BASE
    },
];

async fn set_user(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let name = access::check_name(args.text(0)?)?.to_owned();
    let mut words = Vec::with_capacity(args.len());
    for index in 1..args.len() {
        let word = args.get(index).and_then(|word| std::str::from_utf8(word).ok());
        // It may be a password, so that it is not repeated.
        words.push(word.ok_or_else(|| Error::syntax("a rule of ACL SETUSER is not valid UTF-8"))?);
    }
    let rules = Rules::parse(words.into_iter(), &Known)?;
    // What says the same again would have other words, if only for the salt.
    let caller = caller(ctx.session, "ACL SETUSER", &args, None)?;
    change(ctx.services, &caller, &name, rules).await?;
    obey(ctx.services).await;
    Ok(Reply::Ok)
}

/// Lets this node obey before the reply; that it could not at once does not undo what was done.
async fn obey(services: &Services) {
    if let Err(error) = services.reload_users().await {
        tracing::debug!(%error, "the users will be read later");
    }
}

/// Makes or changes a user by rules, all of them or none.
async fn change(services: &Services, caller: &Caller, name: &str, rules: Rules) -> Result<()> {
    let catalog = services.lifecycle()?.catalog();
    let now = catalog.now();
    let born = born();
    let known = catalog
        .read("user", |txn: Transaction| async move { access::read(&txn, name).await })
        .await?;
    let user = known.unwrap_or_else(|| User::new(name, born));
    // Not within the transaction: it takes longer than one may live.
    let prepared = &rules.prepare(&user, services.users.hasher()).await?;
    let body = |txn: Transaction| async move {
        let known = access::read(&txn, name).await?;
        let action = if known.is_some() { "user-changed" } else { "user-created" };
        let mut user = known.unwrap_or_else(|| User::new(name, born));
        let was_on = user.enabled;
        prepared.apply(&mut user, &Known)?;
        if was_on && !user.enabled {
            // Who was logged in before is so no more, also when it is switched on again at once.
            user.born = born;
        }
        access::write(&txn, &user, now, &caller.actor.user).await?;
        told(&txn, caller, now, action, name, 0)
    };
    catalog.run("set-user", caller, body).await
}

/// Tells two users of one name apart.
fn born() -> i64 {
    rand::random_range(1..i64::MAX)
}

/// An audit row about a user, whose name stands as its reason: it is in no namespace.
fn told(
    txn: &Transaction,
    caller: &Caller,
    now: i64,
    action: &str,
    name: &str,
    order: u16,
) -> Result<()> {
    let entry =
        Entry { action, namespace: "", bucket: "", id: None, removal: None, reason: Some(name) };
    audit::append(txn, order, &caller.actor, now, &entry, "OK", 1)
}

async fn del_user(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let names: Vec<String> =
        args.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    if names.iter().any(|name| name == DEFAULT) {
        return Err(Error::syntax("The 'default' user cannot be removed"));
    }
    let caller = &caller(ctx.session, "ACL DELUSER", &args, None)?;
    let catalog = ctx.services.lifecycle()?.catalog();
    let (now, names) = (catalog.now(), &names);
    let body = |txn: Transaction| async move {
        let gone = access::remove(&txn, names).await?;
        for (order, name) in (0_u16..).zip(&gone) {
            told(&txn, caller, now, "user-deleted", name, order)?;
        }
        Ok(i64::try_from(gone.len()).unwrap_or(i64::MAX))
    };
    let count = catalog.run("del-user", caller, body).await?;
    obey(ctx.services).await;
    Ok(Reply::Integer(count))
}

fn get_user(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let found = ctx.services.users.get(args.text(0)?);
    let Some(account) = found else { return Ok(Reply::Null) };
    let user = &account.user;
    let mut flags = vec![Reply::literal(if user.enabled { "on" } else { "off" })];
    if user.nopass {
        flags.push(Reply::literal("nopass"));
    }
    let passwords = user.passwords.iter().map(|_| Reply::literal(HIDDEN)).collect();
    let selectors = user.selectors.iter().map(|it| Reply::Map(rules_of(it))).collect();
    let mut reply = vec![
        (Reply::literal("flags"), Reply::Set(flags)),
        (Reply::literal("passwords"), Reply::Array(passwords)),
    ];
    reply.extend(rules_of(&user.root));
    reply.push((Reply::literal("selectors"), Reply::Array(selectors)));
    Ok(Reply::Map(reply))
}

/// What a selector gives, as Redis names it: there are no channels.
fn rules_of(selector: &Selector) -> Vec<(Reply, Reply)> {
    vec![
        (Reply::literal("commands"), Reply::Text(selector.command_rules())),
        (Reply::literal("keys"), Reply::Text(selector.pattern_rules())),
        (Reply::literal("channels"), Reply::literal("")),
    ]
}

fn list(ctx: &mut Context<'_>, _: &Args) -> Result<Reply> {
    let users = ctx.services.users.all();
    Ok(Reply::Array(users.iter().map(|account| Reply::Text(line(&account.user))).collect()))
}

/// A user on one line.
fn line(user: &User) -> String {
    let mut words = vec![
        "user".to_owned(),
        user.name.clone(),
        if user.enabled { "on" } else { "off" }.to_owned(),
    ];
    if user.nopass {
        words.push("nopass".to_owned());
    }
    words.extend(user.passwords.iter().map(|_| format!("#{HIDDEN}")));
    words.push(both(&user.root));
    words.extend(user.selectors.iter().map(|selector| format!("({})", both(selector))));
    words.join(" ")
}

fn both(selector: &Selector) -> String {
    let (patterns, commands) = (selector.pattern_rules(), selector.command_rules());
    if patterns.is_empty() { commands } else { format!("{patterns} {commands}") }
}

fn categories(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    match args.len() {
        0 => Ok(Reply::Array(Right::ALL.iter().map(|it| Reply::literal(it.name())).collect())),
        1 => {
            let name = args.text(0)?;
            let right = Right::parse(name)
                .ok_or_else(|| Error::Syntax(format!("Unknown category '{name}'")))?;
            // Who restores his own runs the commands that restore.
            let right = if right == Right::RestoreOwn { Right::Restore } else { right };
            let of = table().specs().iter().filter(|spec| rights_of(spec).any(|of| of == right));
            let names = of.map(|spec| Reply::Text(spec.full_name().to_ascii_lowercase()));
            Ok(Reply::Array(names.collect()))
        }
        _ => Err(wrong_arity("ACL CAT")),
    }
}

fn generate(_: &mut Context<'_>, args: &Args) -> Result<Reply> {
    let bits = match args.len() {
        0 => GENPASS_BITS_DEFAULT,
        1 => usize::try_from(args.integer(0)?)
            .ok()
            .filter(|bits| (1..=GENPASS_BITS_MAX).contains(bits))
            .ok_or_else(|| {
                Error::Syntax(format!(
                    "ACL GENPASS argument must be the number of bits for the output password, a \
                     positive number up to {GENPASS_BITS_MAX}"
                ))
            })?,
        _ => return Err(wrong_arity("ACL GENPASS")),
    };
    let digits = bits.div_ceil(4);
    let text: String =
        (0..digits).filter_map(|_| char::from_digit(rand::random_range(0..16), 16)).collect();
    Ok(Reply::Text(text))
}
