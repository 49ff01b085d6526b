use clap::Args;
use serde_json::json;

use super::error::{Error, Result};
use super::hints::{Bin, explain};
use super::path::{Place, path};
use super::rows::{Entry, Kind, maybe_text};
use super::show::{Cell, Paint, Side, Table, Tone, count, minute, size, span};
use super::{Out, RemoteArgs, Session};
use crate::client::Answer;
use crate::codec::duration::parse_instant;

/// List namespaces and buckets: their state, documents and size
///
/// PATH is `namespace/` or a namespace's name (what is in it), `namespace/bucket` (that bucket), or the id of a removed
/// namespace (what is in that). Without PATH: the topmost namespaces, and what is in the one that connections start in.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lethe ls\n  lethe ls -l production.orders/\n  lethe ls --removed global/"
)]
pub(in crate::cli) struct LsArgs {
    /// What to list
    #[arg(value_name = "PATH")]
    place: Option<Place>,
    /// More of each: deleted documents, indexes, protection, age, id
    #[arg(short, long)]
    long: bool,
    /// What is removed and not yet purged, too
    #[arg(long)]
    removed: bool,
    /// Whatever is below as well
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Add up the documents and bytes of namespaces, which looks at every bucket in them
    #[arg(short, long)]
    sum: bool,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

/// Namespaces that are looked into for one list or one sum.
pub(super) const NAMESPACES_MAX: usize = 10_000;

/// What is said of something that has gone since it was listed.
pub(super) const GONE: [&str; 4] =
    ["NOSUCHBUCKET", "BUCKETBEINGREMOVED", "NOSUCHNAMESPACE", "NAMESPACEBEINGREMOVED"];

/// What was found, and whether there was more than is looked at.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) more: bool,
    /// Namespaces in which this user may not look, only below them.
    closed: Vec<String>,
}

impl Found {
    fn take(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.more |= other.more;
        self.closed.extend(other.closed);
    }
}

pub(super) async fn run(args: &LsArgs, out: Out) -> Result<()> {
    let mut session = Session::open(&args.remote).await?;
    let place = args.place.clone().unwrap_or(Place::Root);
    let listed = list(&mut session, &place, args).await;
    let mut found = match listed {
        Ok(found) => found,
        Err(error) => {
            let error = match error.code() {
                "NOPERM" if args.removed => error.hinted(
                    "--removed takes the right restore wherever it looks: name a namespace in which you have it",
                ),
                _ => error,
            };
            return Err(explain(&mut session, &place, error, Bin::Closed).await);
        }
    };
    if !args.removed {
        // What is looked at by its id may be removed itself.
        let asked = matches!(place, Place::BucketId(_) | Place::NamespaceId(_) | Place::Removal(_));
        found.entries.retain(|entry| asked || entry.state != "purging" && entry.state != "removed");
    }
    if args.sum {
        for entry in found.entries.iter_mut().filter(|entry| entry.kind == Kind::Namespace) {
            if entry.state == "active" {
                let (more, closed) = sum(&mut session, entry).await?;
                found.more |= more;
                found.closed.extend(closed);
            }
        }
    }
    let now = if args.removed { Some(session.now().await?) } else { None };
    let complete = !found.more && found.closed.is_empty();
    let document = json!({ "entries": found.entries, "complete": complete });
    out.tell(&document, |paint| lines(&found.entries, args.long, now, paint))?;
    if found.entries.is_empty() {
        out.note(&format!("there is nothing in {place}"));
    }
    if found.more {
        out.note("there is more than is shown here");
    }
    found.closed.sort_unstable();
    found.closed.dedup();
    if !found.closed.is_empty() {
        let closed: Vec<String> = found.closed.iter().map(|it| path(it, None)).collect();
        out.note(&format!(
            "to see the buckets of these takes the right read: {}",
            closed.join(" ")
        ));
    }
    Ok(())
}

async fn list(session: &mut Session, place: &Place, args: &LsArgs) -> Result<Found> {
    let mut found = Found::default();
    match place {
        Place::Root => {
            found = namespaces(session, None, args.removed).await?;
            if args.recursive {
                walk(session, &mut found, args.removed).await?;
            } else if args.place.is_none() {
                let home = session.home().to_owned();
                match level(session, &home, args.removed).await {
                    Ok(here) => found.take(here),
                    // Nobody has asked for this one.
                    Err(error) if is_closed(&error, args.removed) => found.closed.push(home),
                    Err(error) => return Err(error),
                }
            }
        }
        Place::Bucket { namespace: None, bucket } => {
            // Without a slash both are tried: looking does no harm.
            let exists = session.call(&["NAMESPACE", "EXISTS", bucket]).await;
            if exists.is_ok_and(|answer| answer.line() == "1") {
                return Box::pin(list(session, &Place::Namespace(bucket.clone()), args)).await;
            }
            let home = session.home().to_owned();
            found.entries.push(bucket_at(session, &home, bucket).await?);
        }
        Place::Bucket { namespace: Some(namespace), bucket } => {
            found.entries.push(bucket_at(session, namespace, bucket).await?);
        }
        Place::Namespace(namespace) => {
            found = level(session, namespace, args.removed).await?;
            if args.recursive {
                walk(session, &mut found, args.removed).await?;
            }
        }
        Place::BucketId(id) => {
            let row = session.call(&["BUCKET.DESCRIBE", id]).await?;
            found.entries.push(Entry::described(Kind::Bucket, &row)?);
        }
        Place::NamespaceId(id) => found = inside(session, id, args.removed).await?,
        Place::Removal(id) => match session.call(&["BUCKET.DESCRIBE", id]).await {
            Ok(row) => found.entries.push(Entry::described(Kind::Bucket, &row)?),
            // It may be a namespace that was removed.
            Err(error) if error.code() == "NOSUCHREMOVAL" => {
                found = inside(session, id, args.removed).await?;
            }
            Err(error) => return Err(error),
        },
    }
    Ok(found)
}

async fn bucket_at(session: &mut Session, namespace: &str, bucket: &str) -> Result<Entry> {
    session.enter(namespace).await?;
    Entry::described(Kind::Bucket, &session.call(&["BUCKET.DESCRIBE", bucket]).await?)
}

/// The namespaces directly below one, or the topmost ones.
async fn namespaces(session: &mut Session, parent: Option<&str>, removed: bool) -> Result<Found> {
    let command: Vec<&str> = ["NAMESPACE", "LIST"].into_iter().chain(parent).collect();
    let listed = session.list(&command).await?;
    let whole = |name: &str| parent.map_or_else(|| name.to_owned(), |it| format!("{it}.{name}"));
    let mut entries: Vec<Entry> =
        listed.items.iter().map(|name| Entry::namespace(&whole(&name.line()))).collect();
    let about: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| vec!["NAMESPACE".into(), "DESCRIBE".into(), entry.namespace.clone()])
        .collect();
    for (entry, row) in entries.iter_mut().zip(session.call_all(&about).await?) {
        entry.fill(&row);
    }
    let mut more = listed.more;
    if removed {
        let command: Vec<&str> = ["NAMESPACE", "REMOVED"].into_iter().chain(parent).collect();
        let listed = session.list(&command).await?;
        more |= listed.more;
        for row in &listed.items {
            let mut entry = Entry::described(Kind::Namespace, row)?;
            // Without a parent all are listed, however deep.
            if parent.is_some() || !entry.namespace.contains('.') {
                entry.removal_id = maybe_text(row, "removal_id");
                entries.push(entry);
            }
        }
    }
    Ok(Found { entries, more, closed: Vec::new() })
}

/// What is directly in a namespace.
async fn level(session: &mut Session, namespace: &str, removed: bool) -> Result<Found> {
    let mut found = namespaces(session, Some(namespace), removed).await?;
    let buckets = if removed {
        buckets_by_id(session, namespace, namespace).await
    } else {
        active_buckets(session, namespace).await
    };
    match buckets {
        Ok((entries, more)) => {
            found.more |= more;
            found.entries.extend(entries);
        }
        // Who has rights only below it sees what is there.
        Err(error) if is_closed(&error, removed) && !found.entries.is_empty() => {
            found.closed.push(namespace.to_owned());
        }
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// Whether this user may not look somewhere. Who wants what is removed has asked for more than
/// that, and each such attempt is entered into the audit log: it ends there.
fn is_closed(error: &Error, removed: bool) -> bool {
    error.code() == "NOPERM" && !removed
}

/// The active buckets of a namespace, described, and whether there are more: with the right `read` alone.
async fn active_buckets(session: &mut Session, namespace: &str) -> Result<(Vec<Entry>, bool)> {
    let listed = session.list(&["BUCKET.LIST", "NAMESPACE", namespace]).await?;
    let names: Vec<String> = listed.items.iter().map(Answer::line).collect();
    if names.is_empty() {
        return Ok((Vec::new(), listed.more));
    }
    // A name is looked up where one is.
    session.enter(namespace).await?;
    let about: Vec<Vec<&str>> = names.iter().map(|name| vec!["BUCKET.DESCRIBE", name]).collect();
    let rows = session.call_all(&about).await?;
    let mut described = Vec::with_capacity(names.len());
    for (name, row) in names.iter().zip(rows) {
        let mut entry = Entry::active(namespace, name);
        match &row {
            Answer::Error(line) if GONE.iter().any(|code| line.starts_with(code)) => continue,
            // What may not be described is there all the same.
            Answer::Error(_) => {}
            row => entry.fill(row),
        }
        described.push(entry);
    }
    Ok((described, listed.more))
}

/// The buckets of a namespace by its path or id, removed ones too: with the right `restore`.
async fn buckets_by_id(
    session: &mut Session,
    namespace: &str,
    target: &str,
) -> Result<(Vec<Entry>, bool)> {
    let listed = session.list(&["BUCKET.LIST", "ALL", "NAMESPACE", target]).await?;
    let mut entries = Vec::with_capacity(listed.items.len());
    for row in &listed.items {
        entries.push(Entry::listed(namespace, row)?);
    }
    let about: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| vec!["BUCKET.DESCRIBE".into(), entry.id.clone().unwrap_or_default()])
        .collect();
    let rows = session.call_all(&about).await?;
    let mut described = Vec::with_capacity(entries.len());
    for (mut entry, row) in entries.into_iter().zip(rows) {
        match &row {
            // Purged since the list was made; of what is purging nothing is left to describe.
            Answer::Error(line) if entry.state == "active" && line.starts_with("NOSUCHBUCKET") => {
                continue;
            }
            Answer::Error(_) => {}
            row => entry.fill(row),
        }
        described.push(entry);
    }
    Ok((described, listed.more))
}

/// What is directly in a namespace that is named by an id, removed or not.
async fn inside(session: &mut Session, id: &str, removed: bool) -> Result<Found> {
    let row = session.call(&["NAMESPACE", "DESCRIBE", id]).await?;
    let itself = Entry::described(Kind::Namespace, &row)?;
    let namespace = itself.namespace.clone();
    // In a removed one all is removed.
    let (entries, more) = if removed || itself.state != "active" {
        buckets_by_id(session, &namespace, id).await?
    } else {
        active_buckets(session, &namespace).await?
    };
    let entries = std::iter::once(itself).chain(entries).collect();
    Ok(Found { entries, more, closed: Vec::new() })
}

/// Adds what is below the namespaces that were found.
async fn walk(session: &mut Session, found: &mut Found, removed: bool) -> Result<()> {
    let is_open = |entry: &&Entry| entry.kind == Kind::Namespace && entry.state == "active";
    let mut left: Vec<String> =
        found.entries.iter().filter(is_open).map(|entry| entry.namespace.clone()).collect();
    left.reverse();
    let mut looked = 0;
    while let Some(namespace) = left.pop() {
        if looked == NAMESPACES_MAX {
            found.more = true;
            return Ok(());
        }
        looked += 1;
        let below = match level(session, &namespace, removed).await {
            Ok(below) => below,
            // Gone since it was found.
            Err(error) if GONE.contains(&error.code()) => continue,
            Err(error) if is_closed(&error, removed) => {
                found.closed.push(namespace);
                continue;
            }
            Err(error) => return Err(error),
        };
        left.extend(below.entries.iter().rev().filter(is_open).map(|it| it.namespace.clone()));
        found.take(below);
    }
    Ok(())
}

/// What is in a namespace, however deep.
async fn whole(session: &mut Session, namespace: &str) -> Result<Found> {
    let mut found = level(session, namespace, false).await?;
    walk(session, &mut found, false).await?;
    Ok(found)
}

/// Adds up what is in a namespace; gives whether there was more, and what could not be looked into.
async fn sum(session: &mut Session, entry: &mut Entry) -> Result<(bool, Vec<String>)> {
    let found = match whole(session, &entry.namespace).await {
        Ok(found) => found,
        Err(error) if GONE.contains(&error.code()) => return Ok((false, Vec::new())),
        Err(error) => return Err(error),
    };
    // A namespace shows what is in its buckets.
    let buckets = || found.entries.iter().filter(|entry| entry.kind == Kind::Bucket);
    let add = |of: fn(&Entry) -> Option<i64>| buckets().filter_map(of).sum();
    entry.documents = Some(add(|entry| entry.documents));
    entry.bytes = Some(add(|entry| entry.bytes));
    Ok((found.more, found.closed))
}

fn lines(entries: &[Entry], long: bool, now: Option<i64>, paint: Paint) -> Vec<String> {
    if entries.is_empty() {
        return Vec::new();
    }
    let mut heads = vec![
        ("NAME", Side::Left),
        ("STATE", Side::Left),
        ("DOCUMENTS", Side::Right),
        ("SIZE", Side::Right),
    ];
    if long {
        heads.extend([
            ("DELETED", Side::Right),
            ("INDEXES", Side::Right),
            ("PROTECTED", Side::Left),
            ("CREATED", Side::Left),
        ]);
    }
    if now.is_some() {
        heads.push(("LEFT", Side::Left));
    }
    if long || now.is_some() {
        heads.push(("ID", Side::Left));
    }
    let mut table = Table::new(&heads);
    for entry in entries {
        let number =
            |number: Option<i64>| number.map_or_else(Cell::none, |it| Cell::made(count(it)));
        let mut row = vec![
            Cell::made(entry.path.clone()),
            Cell::of(&entry.state).toned(tone(&entry.state)),
            number(entry.documents),
            entry.bytes.map_or_else(Cell::none, |bytes| Cell::made(size(bytes))),
        ];
        if long {
            let indexes = entry.indexes.as_ref().and_then(|names| i64::try_from(names.len()).ok());
            row.extend([
                number(entry.tombstones),
                number(indexes),
                entry
                    .protected
                    .map_or_else(Cell::none, |yes| Cell::of(if yes { "yes" } else { "no" })),
                entry.created_at.as_ref().map_or_else(Cell::none, |at| Cell::made(minute(at))),
            ]);
        }
        if let Some(now) = now {
            row.push(left(entry, now));
        }
        if long || now.is_some() {
            // The removal, where there is one: it is what restoring and purging take.
            let id = entry.removal_id.as_ref().or(entry.id.as_ref());
            row.push(id.map_or_else(Cell::none, |id| Cell::of(id)));
        }
        table.add(row);
    }
    table.lines(paint)
}

fn left(entry: &Entry, now: i64) -> Cell {
    match (entry.state.as_str(), &entry.expires_at) {
        ("removed", None) if entry.removal_id.is_some() => Cell::of("forever"),
        (_, Some(at)) => {
            parse_instant(at).map_or_else(Cell::none, |at| Cell::made(span((at - now) / 1_000)))
        }
        _ => Cell::none(),
    }
}

/// How a state looks.
pub(super) fn tone(state: &str) -> Tone {
    match state {
        "active" => Tone::Plain,
        "removed" | "copying" => Tone::Warning,
        "held" => Tone::Good,
        _ => Tone::Bad,
    }
}

/// That a place is one that something can be done with.
pub(super) fn not_the_root(place: &Place, what: &str) -> Result<()> {
    if *place == Place::Root {
        return Err(Error::usage(format!("the whole database cannot be {what}")).about(place));
    }
    Ok(())
}
