use clap::Args;
use serde_json::json;

use super::error::{Error, Result};
use super::hints::explain;
use super::path::Place;
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
const NAMESPACES_MAX: usize = 10_000;

/// What was found, and whether there was more than is looked at.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) more: bool,
}

pub(super) async fn run(args: &LsArgs, out: Out) -> Result<()> {
    let mut session = Session::open(&args.remote).await?;
    let place = args.place.clone().unwrap_or(Place::Root);
    let listed = list(&mut session, &place, args).await;
    let mut found = match listed {
        Ok(found) => found,
        Err(error) => return Err(explain(&mut session, &place, error).await),
    };
    if !args.removed {
        // What is looked at by its id may be removed itself.
        let asked = matches!(place, Place::BucketId(_) | Place::NamespaceId(_) | Place::Removal(_));
        found.entries.retain(|entry| asked || entry.state != "purging" && entry.state != "removed");
    }
    if args.sum {
        for entry in found.entries.iter_mut().filter(|entry| entry.kind == Kind::Namespace) {
            if entry.state == "active" {
                found.more |= sum(&mut session, entry).await?;
            }
        }
    }
    let now = if args.removed { Some(session.now().await?) } else { None };
    let document = json!({ "entries": found.entries, "complete": !found.more });
    out.tell(&document, |paint| lines(&found.entries, args.long, now, paint))?;
    if found.entries.is_empty() {
        out.note(&format!("there is nothing in {place}"));
    }
    if found.more {
        out.note("there is more than is shown here");
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
                let here = level(session, &home, args.removed).await?;
                found.more |= here.more;
                found.entries.extend(here.entries);
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
        Place::NamespaceId(id) => found = inside(session, id).await?,
        Place::Removal(id) => match session.call(&["BUCKET.DESCRIBE", id]).await {
            Ok(row) => found.entries.push(Entry::described(Kind::Bucket, &row)?),
            // It may be a namespace that was removed.
            Err(error) if error.code() == "NOSUCHREMOVAL" => found = inside(session, id).await?,
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
    Ok(Found { entries, more })
}

/// What is directly in a namespace.
async fn level(session: &mut Session, namespace: &str, removed: bool) -> Result<Found> {
    let mut found = namespaces(session, Some(namespace), removed).await?;
    let listed = session.list(&["BUCKET.LIST", "ALL", "NAMESPACE", namespace]).await?;
    found.more |= listed.more;
    found.entries.extend(buckets(session, namespace, &listed.items, removed).await?);
    Ok(found)
}

/// The buckets in rows of BUCKET.LIST ALL, described.
async fn buckets(
    session: &mut Session,
    namespace: &str,
    rows: &[Answer],
    removed: bool,
) -> Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let entry = Entry::listed(namespace, row)?;
        if removed || entry.state == "active" {
            entries.push(entry);
        }
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
    Ok(described)
}

/// What is directly in a namespace that is named by an id, removed or not.
async fn inside(session: &mut Session, id: &str) -> Result<Found> {
    let row = session.call(&["NAMESPACE", "DESCRIBE", id]).await?;
    let itself = Entry::described(Kind::Namespace, &row)?;
    let listed = session.list(&["BUCKET.LIST", "ALL", "NAMESPACE", id]).await?;
    let mut entries = buckets(session, &itself.namespace, &listed.items, true).await?;
    entries.insert(0, itself);
    Ok(Found { entries, more: listed.more })
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
            Err(error) if ["NOSUCHNAMESPACE", "NAMESPACEBEINGREMOVED"].contains(&error.code()) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        found.more |= below.more;
        left.extend(below.entries.iter().rev().filter(is_open).map(|it| it.namespace.clone()));
        found.entries.extend(below.entries);
    }
    Ok(())
}

/// What is in a namespace, however deep.
pub(super) async fn whole(session: &mut Session, namespace: &str) -> Result<Found> {
    let mut found = level(session, namespace, false).await?;
    walk(session, &mut found, false).await?;
    Ok(found)
}

/// Adds up what is in a namespace; gives whether there was more.
async fn sum(session: &mut Session, entry: &mut Entry) -> Result<bool> {
    let found = match whole(session, &entry.namespace).await {
        Ok(found) => found,
        Err(error) if ["NOSUCHNAMESPACE", "NAMESPACEBEINGREMOVED"].contains(&error.code()) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    // A namespace shows what is in its buckets.
    let buckets = || found.entries.iter().filter(|entry| entry.kind == Kind::Bucket);
    let add = |of: fn(&Entry) -> Option<i64>| buckets().filter_map(of).sum();
    entry.documents = Some(add(|entry| entry.documents));
    entry.bytes = Some(add(|entry| entry.bytes));
    Ok(found.more)
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
