use clap::{Args, ValueEnum};
use serde_json::json;

use super::error::{Error, Result};
use super::hints::{Bin, explain};
use super::ls::{GONE, NAMESPACES_MAX, tone};
use super::path::{Place, escape, path};
use super::rows::{Kind, Removal, text};
use super::show::{Cell, Paint, Side, Table, Tone, count, size, span};
use super::{Out, RemoteArgs, Session};
use crate::codec::duration::{format_instant, parse_duration, parse_instant};

/// Show the recycle bin: what is removed, by whom, why, and how long it can be restored
///
/// `lethe restore` with a name or an id of this list brings it back.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lethe bin\n  lethe bin --by ada --after 2h\n  lethe bin --expiring-within 1d --sort left\n  lethe bin production/"
)]
pub(in crate::cli) struct BinArgs {
    /// Only what was removed under this name, or from this namespace and those in it; of a namespace that is no more there, that one
    #[arg(value_name = "PATH")]
    place: Option<Place>,
    /// Only what this user removed
    #[arg(long, value_name = "USER")]
    by: Option<String>,
    /// Only what was removed later than this: a time, or a duration such as 2h for as long ago
    #[arg(long, value_name = "WHEN")]
    after: Option<String>,
    /// Only what was removed earlier than this
    #[arg(long, value_name = "WHEN")]
    before: Option<String>,
    /// Only what expires within this time
    #[arg(long, value_name = "DURATION")]
    expiring_within: Option<String>,
    /// Only what has a name like this (of a namespace the last part): * and ? stand for anything
    #[arg(long, value_name = "PATTERN")]
    matching: Option<String>,
    /// Only what is on hold
    #[arg(long)]
    held: bool,
    /// In which order
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// In the opposite order
    #[arg(short, long)]
    reverse: bool,
    /// Show at most so many
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    limit: usize,
    /// Reasons in full, holds, and the progress of what is purging
    #[arg(short, long)]
    long: bool,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Sort {
    /// What was removed last first
    #[default]
    Removed,
    /// What expires next first
    Left,
    /// The largest first
    Size,
    /// By path
    Name,
}

/// Columns of a reason that are shown unless all of it is asked for.
const REASON_WIDTH: usize = 40;

pub(super) async fn run(args: &BinArgs, out: Out) -> Result<()> {
    let mut session = Session::open(&args.remote).await?;
    let now = session.now().await?;
    let listed = list(&mut session, args, now).await;
    let Found { mut removals, mut more, closed } = match listed {
        Ok(found) => found,
        Err(error) => {
            let place = args.place.clone().unwrap_or(Place::Root);
            let error = match error.code() {
                "NOPERM" => error.hinted(
                    "the bin takes the right restore wherever it looks: name a namespace in which you have it",
                ),
                _ => error,
            };
            return Err(explain(&mut session, &place, error, Bin::Closed).await);
        }
    };
    removals.retain(|removal| !args.held || removal.hold.is_some());
    // What was removed later stands first among equals.
    removals.sort_by(|a, b| b.removed_at.cmp(&a.removed_at).then_with(|| a.path.cmp(&b.path)));
    match args.sort {
        Sort::Removed => {}
        Sort::Left => removals.sort_by_key(|removal| removal.seconds_left.unwrap_or(i64::MAX)),
        Sort::Size => removals.sort_by_key(|removal| -removal.bytes.unwrap_or_default()),
        Sort::Name => removals.sort_by(|a, b| a.path.cmp(&b.path)),
    }
    if args.reverse {
        removals.reverse();
    }
    more |= removals.len() > args.limit;
    removals.truncate(args.limit);
    let document = json!({ "removed": removals, "complete": !more && closed.is_empty() });
    out.tell(&document, |paint| lines(&removals, now, args.long, paint))?;
    if removals.is_empty() {
        out.note("the bin is empty, or holds nothing that was asked for");
    }
    if more {
        out.note("there is more than is shown here: see --limit");
    }
    if !closed.is_empty() {
        let closed = closed.join(" ");
        out.note(&format!("not all of these is shown, which takes the right restore: {closed}"));
    }
    Ok(())
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    removals: Vec<Removal>,
    more: bool,
    /// Paths of namespaces where there may be more that this user may not see.
    closed: Vec<String>,
}

/// Reads lists of one kind into what was found.
struct Lists<'a> {
    session: &'a mut Session,
    /// What chooses among removals, as the node takes it.
    options: Vec<String>,
    now: i64,
    found: Found,
}

impl Lists<'_> {
    /// Adds a list, of which a part is meant.
    async fn add(
        &mut self,
        kind: Kind,
        head: &[&str],
        is_meant: impl Fn(&Removal) -> bool,
    ) -> Result<()> {
        let options = self.options.iter().map(String::as_str);
        let command: Vec<&str> = head.iter().copied().chain(options).collect();
        let listed = self.session.list(&command).await?;
        self.found.more |= listed.more;
        for row in &listed.items {
            let removal = Removal::read(kind, row, self.now)?;
            if is_meant(&removal) {
                self.found.removals.push(removal);
            }
        }
        Ok(())
    }

    /// Everything.
    async fn all(&mut self, is_meant: impl Fn(&Removal) -> bool) -> Result<()> {
        self.add(Kind::Bucket, &["BUCKET.REMOVED", "NAMESPACE", "*"], &is_meant).await?;
        self.add(Kind::Namespace, &["NAMESPACE", "REMOVED"], &is_meant).await
    }

    /// What was removed from a namespace and from those in it.
    async fn below(&mut self, namespace: &str) -> Result<()> {
        let mut left = vec![namespace.to_owned()];
        let mut looked = 0;
        while let Some(here) = left.pop() {
            if looked == NAMESPACES_MAX {
                self.found.more = true;
                return Ok(());
            }
            looked += 1;
            let first = here == namespace;
            match self.add(Kind::Bucket, &["BUCKET.REMOVED", "NAMESPACE", &here], |_| true).await {
                Ok(()) => {}
                Err(error) if first => return Err(error),
                Err(error) if error.code() == "NOPERM" => {
                    self.found.closed.push(path(&here, None));
                    continue;
                }
                // Gone since it was listed.
                Err(error) if GONE.contains(&error.code()) => continue,
                Err(error) => return Err(error),
            }
            match self.add(Kind::Namespace, &["NAMESPACE", "REMOVED", &here], |_| true).await {
                Ok(()) => {}
                // It takes the right in all that is below.
                Err(error) if error.code() == "NOPERM" => {
                    self.found.closed.push(path(&here, None));
                }
                Err(error) if GONE.contains(&error.code()) => {}
                Err(error) => return Err(error),
            }
            let children = match self.session.list(&["NAMESPACE", "LIST", &here]).await {
                Ok(children) => children,
                Err(error) if GONE.contains(&error.code()) => continue,
                Err(error) => return Err(error),
            };
            self.found.more |= children.more;
            left.extend(children.items.iter().map(|name| format!("{here}.{}", name.line())));
        }
        Ok(())
    }

    /// What an id means, and from which namespace that was removed, if this user may know.
    async fn namespace_of(&mut self, kinds: &[Kind], id: &str) -> Option<(Kind, String)> {
        for kind in kinds {
            let mut argv = kind.command("DESCRIBE");
            argv.push(id.to_owned());
            if let Ok(row) = self.session.call(&argv).await {
                return Some((*kind, text(&row, "namespace").ok()?));
            }
        }
        None
    }
}

async fn list(session: &mut Session, args: &BinArgs, now: i64) -> Result<Found> {
    let mut options: Vec<String> = Vec::new();
    let mut option = |name: &str, value: String| options.extend([name.to_owned(), value]);
    if let Some(user) = &args.by {
        option("BY", user.clone());
    }
    if let Some(at) = &args.after {
        option("AFTER", when("--after", at, now)?);
    }
    if let Some(at) = &args.before {
        option("BEFORE", when("--before", at, now)?);
    }
    if let Some(within) = &args.expiring_within {
        let within = parse_duration(within)
            .and_then(|within| i64::try_from(within.as_millis()).ok())
            .ok_or_else(|| Error::usage("--expiring-within: give 45s, 30m, 48h or 7d"))?;
        option("EXPIRING-BEFORE", format_instant(now.saturating_add(within)));
    }
    if let Some(pattern) = &args.matching {
        option("MATCH", pattern.clone());
    }
    let place = args.place.as_ref().map_or(Place::Root, |place| session.at_home(place));
    let mut lists = Lists { session, options, now, found: Found::default() };
    let id_kinds: &[Kind] = match &place {
        Place::BucketId(_) => &[Kind::Bucket],
        Place::NamespaceId(_) => &[Kind::Namespace],
        _ => &[Kind::Bucket, Kind::Namespace],
    };
    match &place {
        Place::Root => lists.all(|_| true).await?,
        Place::Bucket { namespace, bucket } => {
            let namespace = namespace.as_deref().unwrap_or_default();
            let head = ["BUCKET.REMOVED", bucket, "NAMESPACE", namespace];
            lists.add(Kind::Bucket, &head, |_| true).await?;
        }
        Place::Namespace(namespace) => match lists.below(namespace).await {
            // It is itself what was removed, or was in it.
            Err(error) if GONE.contains(&error.code()) => {
                let inside = |removal: &Removal| {
                    let below = removal.namespace.strip_prefix(namespace.as_str());
                    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                lists.all(inside).await?;
            }
            done => done?,
        },
        Place::BucketId(id) | Place::NamespaceId(id) | Place::Removal(id) => {
            let is_meant = |removal: &Removal| {
                removal.id.eq_ignore_ascii_case(id) || removal.removal_id.eq_ignore_ascii_case(id)
            };
            let listed = match lists.namespace_of(id_kinds, id).await {
                Some((Kind::Bucket, namespace)) => {
                    let head = ["BUCKET.REMOVED", "NAMESPACE", &namespace];
                    lists.add(Kind::Bucket, &head, is_meant).await
                }
                Some((Kind::Namespace, namespace)) => {
                    let parent = namespace.rsplit_once('.').map(|(parent, _)| parent);
                    let head: Vec<&str> =
                        ["NAMESPACE", "REMOVED"].into_iter().chain(parent).collect();
                    lists.add(Kind::Namespace, &head, is_meant).await
                }
                None => Ok(()),
            };
            match listed {
                Err(error) if !GONE.contains(&error.code()) => return Err(error),
                // The namespace is removed, too, and another one may have its name.
                _ if lists.found.removals.is_empty() => lists.all(is_meant).await?,
                _ => {}
            }
        }
    }
    Ok(lists.found)
}

/// A time as the node takes it, from a time or from how long ago it was.
fn when(flag: &str, text: &str, now: i64) -> Result<String> {
    let ago = || {
        let ago = i64::try_from(parse_duration(text)?.as_millis()).ok()?;
        Some(now.saturating_sub(ago))
    };
    parse_instant(text).or_else(ago).map(format_instant).ok_or_else(|| {
        Error::usage(format!(
            "{flag}: give a time such as 2026-12-31T00:00:00Z, or how long ago, as 2h"
        ))
    })
}

fn lines(removals: &[Removal], now: i64, long: bool, paint: Paint) -> Vec<String> {
    if removals.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(&[
        ("NAME", Side::Left),
        ("STATE", Side::Left),
        ("DOCUMENTS", Side::Right),
        ("SIZE", Side::Right),
        ("REMOVED", Side::Left),
        ("BY", Side::Left),
        ("LEFT", Side::Left),
        ("WHY", Side::Left),
        ("ID", Side::Left),
    ]);
    for removal in removals {
        table.add(row(removal, now, long));
    }
    let mut lines = table.lines(paint);
    if long {
        // From the last one on, so that the places of the others stay.
        for (at, removal) in removals.iter().enumerate().rev() {
            for detail in details(removal).into_iter().rev() {
                lines.insert(at + 2, format!("    {}", paint.text(Tone::Faint, &detail)));
            }
        }
    }
    lines
}

fn row(removal: &Removal, now: i64, long: bool) -> Vec<Cell> {
    let state = removal.condition();
    let left = match (removal.state.as_str(), removal.seconds_left) {
        ("removed", None) => Cell::of("forever"),
        // By the cluster's time, which is not the one that the rest is reckoned by.
        ("removed", _) if !removal.restorable => Cell::of("expired").toned(Tone::Bad),
        ("removed", Some(left)) => {
            let tone = if left < 86_400 { Tone::Warning } else { Tone::Plain };
            Cell::made(span(left)).toned(tone)
        }
        _ => Cell::none(),
    };
    let why = removal.reason.as_ref().map_or_else(Cell::none, |reason| Cell::of(reason));
    vec![
        Cell::made(removal.path.clone()),
        Cell::of(state).toned(tone(state)),
        removal.documents.map_or_else(Cell::none, |it| Cell::made(count(it))),
        removal.bytes.map_or_else(Cell::none, |it| Cell::made(size(it))),
        Cell::made(format!("{} ago", span(removal.age(now)))),
        Cell::of(&removal.removed_by),
        left,
        if long { why } else { why.cut(REASON_WIDTH) },
        Cell::of(&removal.removal_id),
    ]
}

/// What does not fit into the row.
fn details(removal: &Removal) -> Vec<String> {
    let mut details = Vec::new();
    if let Some(hold) = &removal.hold {
        let review =
            hold.review_at.as_ref().map_or_else(String::new, |at| format!(", to be reviewed {at}"));
        details.push(format!("on hold by {}: {}{review}", hold.owner, hold.reason));
    }
    if let (Some(witnessed), Some(shards)) = (removal.shards_witnessed, removal.shards) {
        details.push(format!("{witnessed} of {shards} shards have seen the removal"));
    }
    if let Some(pending) = removal.pending_bytes {
        details.push(format!("{} still to be given back", size(pending)));
    }
    details.iter().map(|detail| escape(detail)).collect()
}
