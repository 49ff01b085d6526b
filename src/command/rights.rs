//! Which command needs which right, and where: one table for all of them.
//!
//! A command that is not in it needs the right `admin` everywhere, and a test says that it is missing.
//! What an option needs besides is found by looking for its word wherever it may stand: rather once too
//! often than once too seldom.

use std::sync::LazyLock;

use super::document::cursors::cursor_right;
use super::{Args, Spec};
use crate::access::{Need, Place, Right};
use crate::clock::milliseconds;
use crate::codec::ObjectKind;
use crate::codec::duration::{Retention, parse_instant};
use crate::config::Config;
use crate::lifecycle::Target;
use crate::session::Session;

use Right::{Admin, Hold, Purge, Read, Remove, Restore, RestoreOwn, Write};

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// In the session's namespace.
    Here,
    /// In the namespace of the bucket that the first argument names: the session's, or where the id says.
    Bucket,
    /// In the namespace that the first argument names, and below it.
    Tree,
    /// The first argument names a namespace: any right in it will do.
    Seen,
    /// In that of the cursor that the first two arguments name.
    Cursor,
    /// In all namespaces.
    Everywhere,
}

/// What one command needs.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Nothing but to have logged in.
    Open,
    Needs(&'static [(Right, Whose)]),
    /// And what its options need.
    And(&'static [(Right, Whose)], More),
}

/// Adds what the options of a call need.
type More = fn(&Asked<'_>, &mut Vec<Wanted>);

use Rule::{And, Needs, Open};
use Whose::{Bucket, Cursor, Everywhere, Here, Seen, Tree};

/// By name; a name that ends in a space stands for all subcommands that have no row of their own.
const RULES: &[(&str, Rule)] = &[
    ("ACL", Open),
    ("ACL ", Needs(&[(Admin, Everywhere)])),
    ("ACL CAT", Open),
    ("ACL GENPASS", Open),
    ("ACL HELP", Open),
    ("ACL WHOAMI", Open),
    ("AUDIT.LOG", Needs(&[(Admin, Everywhere)])),
    ("AUTH", Open),
    ("BACKUP", Needs(&[(Admin, Everywhere)])),
    ("BEGIN", Open),
    ("BUCKET.ADVANCE", Needs(&[(Read, Cursor)])),
    ("BUCKET.ALTER", And(&[(Write, Here)], of_alter)),
    ("BUCKET.BARRIER", Needs(&[(Restore, Bucket)])),
    ("BUCKET.CHANGES", Needs(&[(Read, Here)])),
    ("BUCKET.CLOSE", Open),
    ("BUCKET.COPY", Needs(&[(Read, Here), (Write, Here)])),
    ("BUCKET.COUNT", Needs(&[(Read, Here)])),
    ("BUCKET.CREATE", Needs(&[(Write, Here)])),
    ("BUCKET.CURSORS", Open),
    ("BUCKET.DELETE", And(&[(Remove, Here)], of_delete)),
    ("BUCKET.DELETED", Needs(&[(Restore, Here)])),
    ("BUCKET.DESCRIBE", Needs(&[(Read, Bucket)])),
    ("BUCKET.EXPLAIN", Needs(&[(Read, Here)])),
    ("BUCKET.EXPUNGE", And(&[(Purge, Here)], bypassed)),
    ("BUCKET.HOLD", Needs(&[(Hold, Bucket)])),
    ("BUCKET.INDEX", Open),
    ("BUCKET.INDEX ", Needs(&[(Write, Here)])),
    ("BUCKET.INDEX DESCRIBE", Needs(&[(Read, Here)])),
    ("BUCKET.INDEX LIST", Needs(&[(Read, Here)])),
    ("BUCKET.INDEX TASKS", Needs(&[(Read, Here)])),
    ("BUCKET.INSERT", Needs(&[(Write, Here)])),
    ("BUCKET.LIST", And(&[(Read, Here)], of_list)),
    ("BUCKET.LOCATE", Needs(&[(Read, Here)])),
    ("BUCKET.PROTECT", Needs(&[(Hold, Here)])),
    ("BUCKET.PURGE", And(&[(Purge, Bucket)], bypassed)),
    ("BUCKET.QUERY", Needs(&[(Read, Here)])),
    ("BUCKET.REMOVE", And(&[(Remove, Here)], of_retain)),
    ("BUCKET.REMOVED", And(&[(RestoreOwn, Here)], of_removed)),
    ("BUCKET.RENAME", Needs(&[(Write, Here)])),
    ("BUCKET.REPLICA", Open),
    ("BUCKET.REPLICA ", Needs(&[(Write, Here)])),
    ("BUCKET.REPLICA APPLY", And(&[(Write, Here)], of_apply)),
    ("BUCKET.REPLICA LIST", Needs(&[(Read, Here)])),
    ("BUCKET.RESTORE", And(&[(RestoreOwn, Bucket)], of_restore)),
    // Shortening is judged when it is known what was kept for how long.
    ("BUCKET.RETAIN", And(&[(Restore, Bucket)], bypassed)),
    ("BUCKET.SWAP", Needs(&[(Write, Here), (Remove, Here)])),
    ("BUCKET.TTL", Needs(&[(Write, Here), (Remove, Here)])),
    ("BUCKET.UNDELETE", Needs(&[(Restore, Here)])),
    ("BUCKET.UNHOLD", Needs(&[(Hold, Bucket)])),
    ("BUCKET.UPDATE", Needs(&[(Write, Here)])),
    ("BUCKET.VACUUM", Needs(&[(Purge, Here)])),
    ("CHECK", Needs(&[(Admin, Everywhere)])),
    ("CLIENT", Open),
    ("CLIENT ", Open),
    ("CLIENT KILL", Needs(&[(Admin, Everywhere)])),
    ("CLIENT LIST", Needs(&[(Admin, Everywhere)])),
    ("CLUSTER.CLOCK", Needs(&[(Admin, Everywhere)])),
    ("CLUSTER.DESCRIBE", Needs(&[(Admin, Everywhere)])),
    ("CLUSTER.MEMBERS", Needs(&[(Admin, Everywhere)])),
    ("CLUSTER.SHARDS", Needs(&[(Admin, Everywhere)])),
    ("COMMAND", Open),
    ("COMMAND ", Open),
    // What was done in the transaction is judged again when it is to take effect.
    ("COMMIT", Open),
    ("CONFIG", Open),
    ("CONFIG ", Needs(&[(Admin, Everywhere)])),
    ("CONFIG HELP", Open),
    ("ECHO", Open),
    ("GETAPPROXIMATESIZE", Open),
    ("GETREADVERSION", Open),
    ("HELLO", Open),
    ("INFO", Open),
    ("NAMESPACE", Open),
    ("NAMESPACE BARRIER", Needs(&[(Restore, Tree)])),
    ("NAMESPACE CREATE", And(&[], of_create)),
    ("NAMESPACE CURRENT", Open),
    ("NAMESPACE DESCRIBE", And(&[], of_describe)),
    ("NAMESPACE EXISTS", Needs(&[(Read, Seen)])),
    ("NAMESPACE HOLD", Needs(&[(Hold, Tree)])),
    // Lists those that may be seen.
    ("NAMESPACE LIST", And(&[], of_namespace_list)),
    ("NAMESPACE MOVE", And(&[(Remove, Tree), (Read, Tree)], of_move)),
    ("NAMESPACE POLICY", And(&[], of_policy)),
    ("NAMESPACE PROTECT", Needs(&[(Hold, Tree)])),
    ("NAMESPACE PURGE", And(&[(Purge, Tree)], bypassed)),
    ("NAMESPACE REMOVE", And(&[(Remove, Tree)], of_retain)),
    ("NAMESPACE REMOVED", And(&[], of_removed_namespaces)),
    ("NAMESPACE RESTORE", And(&[(RestoreOwn, Tree)], of_restore)),
    ("NAMESPACE RETAIN", And(&[(Restore, Tree)], bypassed)),
    ("NAMESPACE UNHOLD", Needs(&[(Hold, Tree)])),
    ("NAMESPACE USE", Needs(&[(Read, Seen)])),
    ("PING", Open),
    ("PURGE.PAUSE", Needs(&[(Admin, Everywhere)])),
    ("PURGE.RESUME", Needs(&[(Admin, Everywhere)])),
    ("PURGE.STATUS", And(&[], of_status)),
    ("QUIT", Open),
    ("RESET", Open),
    ("ROLLBACK", Open),
    ("SELECT", Open),
    ("SESSION.ATTRIBUTE", Open),
    ("SESSION.ATTRIBUTE ", Open),
    ("SESSION.CLOSE", Open),
    ("SLOWLOG", Open),
    ("SLOWLOG ", Needs(&[(Admin, Everywhere)])),
    ("SLOWLOG HELP", Open),
    ("SNAPSHOTREAD", Open),
    ("TICK", Open),
    ("TIME", Open),
];

/// A right that a command needs, before it is known where an id leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) right: Right,
    pub(super) place: Where,
    pub(super) own: bool,
}

/// Where, as far as the words tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Known(Place),
    /// Where this id leads.
    Led(Target),
}

impl Wanted {
    /// Without an id to look up: its place, of an id everywhere.
    pub(super) fn need(self) -> Need {
        let place = match self.place {
            Where::Known(place) => place,
            Where::Led(_) => Place::Everywhere,
        };
        Need { right: self.right, place, own: self.own }
    }
}

/// Who asks for what.
struct Asked<'a> {
    session: &'a Session,
    args: &'a Args,
    config: &'a Config,
    /// The milliseconds of now, for what is given as a time.
    now: i64,
}

fn rule(spec: &Spec) -> Option<Rule> {
    let find = |name: &str| RULES.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule);
    if spec.has(super::flags::REFUSED) {
        return Some(Open);
    }
    #[cfg(test)]
    if spec.name.starts_with("TEST.") {
        return Some(Open);
    }
    find(spec.name).or_else(|| {
        let (container, _) = spec.subcommand()?;
        find(&format!("{container} "))
    })
}

/// The rules by the places of their commands in the table.
static BY_PLACE: LazyLock<Vec<Option<Rule>>> =
    LazyLock::new(|| super::registry::table().specs().iter().map(rule).collect());

/// Whether the table knows what this command needs.
#[cfg(test)]
pub(super) fn is_listed(spec: &Spec) -> bool {
    rule(spec).is_some()
}

/// The rights that a command is of, for rules about all commands of a right.
pub fn rights_of(spec: &Spec) -> impl Iterator<Item = Right> {
    let needs = match rule(spec) {
        Some(Needs(needs) | And(needs, _)) => needs,
        Some(Open) => &[],
        None => &[(Admin, Everywhere)],
    };
    // Those whose place alone depends on the words.
    let more: &[Right] = match spec.name {
        "NAMESPACE CREATE" | "NAMESPACE MOVE" => &[Write],
        "NAMESPACE DESCRIBE" => &[Read],
        "NAMESPACE POLICY" => &[Read, Admin],
        "NAMESPACE REMOVED" => &[Restore],
        "PURGE.STATUS" => &[Purge],
        _ => &[],
    };
    // To see a namespace any right will do.
    let exact = needs.iter().filter(|(_, whose)| *whose != Seen);
    let alone = exact.map(|(right, _)| match right {
        RestoreOwn => Restore,
        right => *right,
    });
    alone.chain(more.iter().copied())
}

/// What a call of a command needs, which is known by its place in the table.
pub(super) fn wanted(
    index: usize,
    session: &Session,
    args: &Args,
    config: &Config,
    now: i64,
) -> Vec<Wanted> {
    let asked = &Asked { session, args, config, now };
    let (needs, more): (&[(Right, Whose)], Option<More>) =
        match BY_PLACE.get(index).copied().flatten() {
            Some(Open) => return Vec::new(),
            Some(Needs(needs)) => (needs, None),
            Some(And(needs, more)) => (needs, Some(more)),
            None => (&[(Admin, Everywhere)], None),
        };
    let mut wanted: Vec<Wanted> =
        needs.iter().filter_map(|(right, whose)| asked.need(*right, *whose)).collect();
    if let Some(more) = more {
        more(asked, &mut wanted);
    }
    wanted
}

/// Whether a command needs the same rights in the session's namespace whatever its arguments are.
pub(super) fn is_here_alone(index: usize) -> bool {
    match BY_PLACE.get(index).copied().flatten() {
        Some(Open) => true,
        Some(Needs(needs)) => needs.iter().all(|(_, whose)| *whose == Here),
        Some(And(..)) | None => false,
    }
}

impl Asked<'_> {
    fn need(&self, right: Right, whose: Whose) -> Option<Wanted> {
        let known = |place| Some(Wanted { right, place: Where::Known(place), own: true });
        match whose {
            Here => known(self.here()),
            Everywhere => known(Place::Everywhere),
            Seen => known(Place::Seen(self.word(0))),
            Tree => Some(Wanted { right, place: self.tree(0), own: true }),
            Bucket => Some(Wanted { right, place: self.bucket(), own: true }),
            Cursor => {
                let (right, namespace) = cursor_right(self.session, self.args)?;
                Some(Wanted {
                    right,
                    place: Where::Known(Place::Namespace(namespace.to_owned())),
                    own: true,
                })
            }
        }
    }

    fn here(&self) -> Place {
        Place::Namespace(self.session.namespace.clone())
    }

    fn word(&self, index: usize) -> String {
        String::from_utf8_lossy(self.args.get(index).unwrap_or_default()).into_owned()
    }

    /// Where a bucket lies that the first argument names.
    fn bucket(&self) -> Where {
        match self.args.get(0).map(Target::parse_either) {
            Some(Ok(id @ (Target::Instance(_) | Target::Removal(_)))) => Where::Led(id),
            _ => Where::Known(self.here()),
        }
    }

    /// A namespace with all below it.
    fn tree(&self, index: usize) -> Where {
        match self.args.get(index).map(Target::parse_namespace) {
            Some(Ok(id @ (Target::NamespaceInstance(_) | Target::NamespaceRemoval(_)))) => {
                Where::Led(id)
            }
            _ => Where::Known(Place::Tree(self.word(index))),
        }
    }

    fn has(&self, option: &str) -> bool {
        self.args.iter().any(|word| word.eq_ignore_ascii_case(option.as_bytes()))
    }

    /// Where the values stand of an option, wherever its word does.
    fn values(&self, option: &str) -> impl Iterator<Item = usize> {
        let is = move |index: &usize| {
            index
                .checked_sub(1)
                .and_then(|before| self.args.get(before))
                .is_some_and(|word| word.eq_ignore_ascii_case(option.as_bytes()))
        };
        (1..self.args.len()).filter(is)
    }

    /// A namespace that is the value of an option; `*` are all.
    fn named(&self, index: usize) -> Where {
        if self.args.get(index) == Some(b"*") {
            return Where::Known(Place::Everywhere);
        }
        match self.tree(index) {
            Where::Known(_) => Where::Known(Place::Namespace(self.word(index))),
            led @ Where::Led(_) => led,
        }
    }
}

fn besides(right: Right, place: Where) -> Wanted {
    Wanted { right, place, own: false }
}

/// Keeping something for less than is usual is as good as purging it. What is usual by the policy
/// of the namespace is judged where that is read.
fn of_retain(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    shortened(asked, asked.config.removal.retention, wanted);
    bypassed(asked, wanted);
}

fn of_delete(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    shortened(asked, asked.config.tombstone_retention, wanted);
    bypassed(asked, wanted);
}

/// Passing by a lock of governance takes what lifting it would, and what destroying does.
fn bypassed(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    if !asked.has("BYPASS-GOVERNANCE") {
        return;
    }
    let place = wanted.first().map(|it| it.place.clone());
    wanted.extend(place.map(|place| besides(Admin, place)));
    // The last one is what a refusal is entered as.
    add_purge(wanted);
}

/// Who sees a namespace sees its policy; it is changed for all that is below.
fn of_policy(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    let shown = asked.args.len() < 2;
    let (right, place) = if shown { (Read, asked.named(0)) } else { (Admin, asked.tree(0)) };
    wanted.push(Wanted { right, place, own: true });
}

fn shortened(asked: &Asked<'_>, usual: Retention, wanted: &mut Vec<Wanted>) {
    let text = |index: usize| asked.args.text(index).unwrap_or_default();
    let retains =
        asked.values("RETAIN").any(|index| match (super::support::retention(text(index)), usual) {
            (Ok(Retention::For(time)), Retention::For(usual)) => time < usual,
            (Ok(Retention::For(_)), Retention::Forever) => true,
            (Ok(Retention::Forever) | Err(_), _) => false,
        });
    let until = asked.values("UNTIL").any(|index| {
        let Some(at) = parse_instant(text(index)) else { return false };
        match usual {
            // A minute for what passes between two commands.
            Retention::For(usual) => {
                at < asked.now.saturating_add(milliseconds(usual)).saturating_sub(60_000)
            }
            Retention::Forever => true,
        }
    });
    if retains || until {
        add_purge(wanted);
    }
}

fn add_purge(wanted: &mut Vec<Wanted>) {
    let place = wanted.first().map(|it| it.place.clone());
    wanted.extend(place.map(|place| besides(Purge, place)));
}

fn of_alter(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    if asked.has("TOMBSTONE-RETENTION") {
        add_purge(wanted);
    }
}

fn of_apply(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    let here = Where::Known(asked.here());
    if asked.has("DELETE") {
        wanted.push(besides(Remove, here.clone()));
    }
    if asked.has("PURGE") {
        wanted.push(besides(Remove, here.clone()));
        wanted.push(besides(Purge, here));
    }
}

fn of_list(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    let mut places: Vec<Where> = asked.values("NAMESPACE").map(|at| asked.named(at)).collect();
    if places.is_empty() {
        places.push(Where::Known(asked.here()));
    }
    wanted.clear();
    for place in places {
        if asked.has("ALL") {
            wanted.push(besides(Restore, place.clone()));
        }
        wanted.push(Wanted { right: Read, place, own: true });
    }
}

fn of_removed(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    let places: Vec<Where> = asked.values("NAMESPACE").map(|at| asked.named(at)).collect();
    if !places.is_empty() {
        *wanted = places
            .into_iter()
            .map(|place| Wanted { right: RestoreOwn, place, own: true })
            .collect();
    }
}

/// What is removed directly below a namespace; without a name, of the topmost ones.
fn of_removed_namespaces(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    let named = super::lifecycle::named_in_front(asked.args, &[]).is_some();
    let place = if named { asked.tree(0) } else { Where::Known(Place::Everywhere) };
    wanted.push(Wanted { right: RestoreOwn, place, own: true });
}

/// Elsewhere other rights hold: who brings something there must be allowed to have it.
fn of_restore(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    let Some(from) = wanted.first().map(|it| it.place.clone()) else { return };
    let is_namespace = match &from {
        Where::Known(place) => matches!(place, Place::Tree(_)),
        Where::Led(target) => target.kind() == ObjectKind::Namespace,
    };
    let option = if is_namespace { "AS" } else { "INTO" };
    let mut places: Vec<Where> = asked
        .values(option)
        .map(|at| if is_namespace { asked.tree(at) } else { asked.named(at) })
        .collect();
    if !places.is_empty() {
        wanted.push(besides(Read, from.clone()));
        wanted.extend(places.iter().map(|place| besides(Write, place.clone())));
    }
    if asked.has("REPLACE") {
        places.push(from.clone());
        wanted.extend(places.into_iter().map(|place| besides(Remove, place)));
    }
    if asked.has("ALLOW-EXPIRED") {
        wanted.push(besides(Purge, from));
    }
    bypassed(asked, wanted);
}

fn of_create(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    let place = Where::Known(Place::Namespace(asked.word(0)));
    wanted.push(Wanted { right: Write, place, own: true });
}

fn of_describe(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    wanted.push(Wanted { right: Read, place: asked.named(0), own: true });
}

fn of_namespace_list(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    const OPTIONS: [&str; 3] = ["COUNT", "CURSOR", "MATCH"];
    let is_option = OPTIONS.iter().any(|option| asked.args.is(0, option));
    // The first word is a name if it is no option, and where its number is odd even then.
    if !asked.args.is_empty() && (asked.args.len() % 2 == 1 || !is_option) {
        let place = Where::Known(Place::Seen(asked.word(0)));
        wanted.push(Wanted { right: Read, place, own: true });
    }
}

fn of_move(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    let place = Where::Known(Place::Tree(asked.word(1)));
    wanted.push(Wanted { right: Write, place, own: true });
    bypassed(asked, wanted);
}

fn of_status(asked: &Asked<'_>, wanted: &mut Vec<Wanted>) {
    let place = match asked.args.get(0).map(Target::parse_either) {
        None => Where::Known(Place::Everywhere),
        Some(Ok(
            id @ (Target::Instance(_) | Target::Removal(_) | Target::NamespaceInstance(_)),
        )) => Where::Led(id),
        Some(_) => Where::Known(asked.here()),
    };
    wanted.push(Wanted { right: Purge, place, own: true });
}

#[cfg(test)]
mod tests {
    use super::super::registry::table;
    use super::*;

    #[test]
    fn every_command_has_its_rights() {
        let missing: Vec<&str> =
            table().specs().iter().filter(|spec| !is_listed(spec)).map(|spec| spec.name).collect();
        assert!(missing.is_empty(), "say in RULES what they need: {missing:?}");
    }

    #[test]
    fn every_row_is_of_a_command() {
        for (name, _) in RULES {
            let found = table().find(name.trim_end().as_bytes());
            assert!(found.is_some(), "there is no {name}");
        }
    }
}
