use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::error::{Error, Result, Why};
use super::hints::{explain, removals};
use super::path::{Place, escape};
use super::rows::{Entry, Kind, flag, maybe_text, number, text};
use super::show::{Tone, cut, many, minute, size};
use super::{Out, RemoteArgs, Session, ask, ls};
use crate::cli::line::Line;
use crate::client::Answer;
use crate::codec::duration::parse_duration;

/// Destroy what was removed, for good
///
/// Asks the cluster to purge it and waits until every shard and every member has let go of it, showing which are
/// missing. The request stays whatever becomes of this program: the cluster finishes it alone.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lethe purge global/users\n  lethe purge global/users --yes users"
)]
pub(in crate::cli) struct PurgeArgs {
    /// `namespace/bucket`, `bucket`, `namespace/`, or an id that `lethe bin` tells
    #[arg(value_name = "PATH")]
    place: Place,
    /// The name of what is to be destroyed, as it would be typed when asked: for scripts
    #[arg(long, value_name = "NAME")]
    yes: Option<String>,
    /// The newest, where several of this name were removed
    #[arg(long)]
    latest: bool,
    /// How long to wait, as 30s or 10m; without it as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Do not wait
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

/// Between two looks at the barrier; the purge itself is told at once.
const LOOK: Duration = Duration::from_millis(500);
/// Parts of the bar.
const BAR: usize = 20;

fn duration(text: &str) -> std::result::Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "give 45s, 30m, 48h or a number of seconds".to_owned())
}

impl PurgeArgs {
    /// What is said when somebody stops the waiting.
    pub(super) fn left_behind(&self) -> String {
        let place = &self.place;
        format!(
            "stopped waiting; if the purge was asked for, the cluster finishes it alone: `lethe bin` \
             shows whether it is there still, `lethe restore {place}` takes it back until then"
        )
    }
}

pub(super) async fn run(args: &PurgeArgs, out: Out) -> Result<()> {
    let mut session = Session::open(&args.remote).await?;
    match one(&mut session, args, out).await {
        Err(error) => Err(explain(&mut session, &args.place, error).await),
        done => done,
    }
}

/// What is to be destroyed.
struct Doomed {
    entry: Entry,
    removal: String,
    /// Who removed it and when, for the question.
    story: String,
}

async fn one(session: &mut Session, args: &PurgeArgs, out: Out) -> Result<()> {
    ls::not_the_root(&args.place, "purged")?;
    let doomed = find(session, args).await?;
    agree(&doomed, args, out).await?;
    let entry = &doomed.entry;
    let done = wait(session, &doomed, args, out).await?;
    let state = if done { "purged" } else { "requested" };
    let document = json!({ "purged": {
        "path": entry.path,
        "kind": entry.kind,
        "namespace": entry.namespace,
        "bucket": entry.bucket,
        "id": entry.id,
        "removal_id": doomed.removal,
        "state": state,
        "documents": entry.documents,
        "bytes": entry.bytes,
    }});
    out.tell(&document, |paint| {
        vec![if done {
            let head = paint.text(Tone::Head, &format!("purged {}", entry.path));
            format!("{head}{}: gone for good, its bytes are being given back", holds(entry))
        } else {
            let head = paint.text(Tone::Head, &format!("asked to purge {}", entry.path));
            format!("{head}{}: the cluster does it as soon as all have let go of it", holds(entry))
        }]
    })
}

/// What a place means; whatever happens to names afterwards, it goes by the removal.
async fn find(session: &mut Session, args: &PurgeArgs) -> Result<Doomed> {
    let home = session.home().to_owned();
    let (kind, id) = match &args.place {
        Place::BucketId(id) => (Some(Kind::Bucket), id),
        Place::NamespaceId(id) => (Some(Kind::Namespace), id),
        Place::Removal(id) => (None, id),
        named => return by_name(session, &session.at_home(named), args.latest).await,
    };
    session.enter(&home).await?;
    let kinds = kind.map_or_else(|| vec![Kind::Bucket, Kind::Namespace], |kind| vec![kind]);
    let mut refused = None;
    for kind in kinds {
        let mut argv = kind.command("DESCRIBE");
        argv.push(id.clone());
        match session.call(&argv).await {
            Ok(row) => {
                let entry = Entry::described(kind, &row)?;
                let Some(removal) = entry.removal_id.clone() else {
                    let message = format!("{} is not removed", entry.path);
                    return Err(Error::usage(message).hinted("`lethe rm` removes it"));
                };
                return Ok(Doomed { entry, removal, story: String::new() });
            }
            // The removal may be of the other kind.
            Err(error) if error.code() == "NOSUCHREMOVAL" => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::usage("it names nothing")))
}

async fn by_name(session: &mut Session, place: &Place, latest: bool) -> Result<Doomed> {
    let found = match removals(session, place).await {
        Ok(found) => found,
        // The refusal of the purge itself says it better.
        Err(error) if error.code().is_empty() => return Err(error),
        Err(_) => Vec::new(),
    };
    let removal = match found.as_slice() {
        [only] => only,
        [newest, ..] if latest => newest,
        _ => {
            // None or several: the node says which, in its own words.
            let mut argv = match place {
                Place::Bucket { namespace, bucket } => {
                    session.enter(namespace.as_deref().unwrap_or_default()).await?;
                    let mut argv = Kind::Bucket.command("PURGE");
                    argv.push(bucket.clone());
                    argv
                }
                other => {
                    let mut argv = Kind::Namespace.command("PURGE");
                    argv.push(other.to_string().trim_end_matches('/').to_owned());
                    argv
                }
            };
            argv.push("DRYRUN".to_owned());
            let answer = session.call(&argv).await?;
            return Err(Error::odd(answer.line()));
        }
    };
    let reason =
        removal.reason.as_deref().map_or_else(String::new, |it| format!(": {}", escape(it)));
    let story = format!(
        ", removed {} by {}{reason}",
        minute(&removal.removed_at),
        escape(&removal.removed_by)
    );
    let entry = Entry {
        path: removal.path.clone(),
        kind: removal.kind,
        bucket: removal.bucket.clone(),
        id: Some(removal.id.clone()),
        state: removal.state.clone(),
        documents: removal.documents,
        bytes: removal.bytes,
        ..Entry::namespace(&removal.namespace)
    };
    Ok(Doomed { entry, removal: removal.removal_id.clone(), story })
}

/// Nothing is destroyed unless somebody has typed its name.
async fn agree(doomed: &Doomed, args: &PurgeArgs, out: Out) -> Result<()> {
    let entry = &doomed.entry;
    let name = escape(entry.bucket.as_ref().unwrap_or(&entry.namespace));
    let accepted = |answer: &str| {
        let whole = entry.path.strip_suffix('/').unwrap_or(&entry.path);
        [name.as_str(), whole, &entry.path, &doomed.removal].contains(&answer)
    };
    let answer = match &args.yes {
        Some(answer) => answer.clone(),
        None if out.can_ask() => {
            let story = format!("{}{}{}", entry.path, holds(entry), doomed.story);
            ask(format!(
                "{story}\nIt will be destroyed for good. Type its name, {name}, to purge it: "
            ))
            .await?
        }
        None => {
            return Err(Error::usage("a purge destroys for good, and must be agreed to")
                .about(&entry.path)
                .hinted(format!("give the name of what is to be destroyed: --yes {name}")));
        }
    };
    if accepted(&answer) {
        return Ok(());
    }
    let message = format!("the name given is not that of what would be purged, {name}");
    Err(Error::from(Why::Declined(message)).about(&entry.path))
}

fn holds(entry: &Entry) -> String {
    match (entry.documents, entry.bytes) {
        (Some(documents), Some(bytes)) => {
            format!(" ({}, {})", many(documents, "document"), size(bytes))
        }
        _ if entry.kind == Kind::Namespace => ", with all that is in it".to_owned(),
        _ => String::new(),
    }
}

/// Asks for the purge and waits for it, at most as long as was said; gives whether it has happened.
async fn wait(session: &mut Session, doomed: &Doomed, args: &PurgeArgs, out: Out) -> Result<bool> {
    let until = args.timeout.map(|timeout| Instant::now() + timeout);
    let mut bar = Bar::new(&doomed.entry.path, out);
    // The first time only to ask.
    let mut waits = Duration::ZERO;
    loop {
        let mut argv = doomed.entry.kind.command("PURGE");
        argv.extend([doomed.removal.clone(), "TIMEOUT".to_owned(), waits.as_millis().to_string()]);
        let Err(refused) = session.call_waiting(&argv, waits).await else {
            bar.line.clear();
            return Ok(true);
        };
        if refused.code() != "BARRIERNOTSATISFIED" {
            bar.line.end();
            return Err(match refused.why {
                Why::Away(_) => refused.hinted(format!(
                    "the request stays, and the cluster finishes it alone: `lethe bin` on another \
                     node shows whether it is there still, `lethe purge {}` goes on waiting",
                    doomed.removal
                )),
                _ => refused,
            });
        }
        if args.no_wait {
            return Ok(false);
        }
        let mut look = doomed.entry.kind.command("BARRIER");
        look.push(doomed.removal.clone());
        match session.call(&look).await {
            Ok(rows) => bar.show(rows.list()),
            // Purged, or taken back, in between: the next attempt says which.
            Err(error) if matches!(error.why, Why::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            bar.line.end();
            let message = format!("not purged yet: {}", refused.why);
            return Err(Error::from(Why::Waiting(message)).hinted(
                "the request stays, and the cluster finishes it as soon as all have let go of it",
            ));
        }
        waits = left.map_or(LOOK, |left| left.min(LOOK)).max(Duration::from_millis(1));
    }
}

/// How many shards have let go, and what is missing.
struct Bar {
    what: String,
    line: Line,
    quiet: bool,
    shown: String,
}

impl Bar {
    fn new(path: &str, out: Out) -> Self {
        Self { what: path.to_owned(), line: Line::new(), quiet: out.json, shown: String::new() }
    }

    fn show(&mut self, rows: &[Answer]) {
        let text = self.text(rows);
        // Elsewhere than on a terminal each state is one line.
        if self.quiet || text == self.shown {
            return;
        }
        let width = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let line =
            if self.line.is_terminal() { cut(&text, width.max(2) - 1) } else { text.clone() };
        self.line.show(&line);
        self.shown = text;
    }

    fn text(&self, rows: &[Answer]) -> String {
        let is_done = |row: &&Answer| flag(row, "satisfied").unwrap_or_default();
        let shards = rows.iter().filter(|row| number(row, "shard").is_some()).count();
        let done = rows.iter().filter(is_done).count();
        let full = (done * BAR).checked_div(shards).unwrap_or_default().min(BAR);
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(BAR - full));
        let missing: Vec<String> = rows.iter().filter(|row| !is_done(row)).map(missing).collect();
        let waits = if missing.is_empty() {
            String::new()
        } else {
            format!("; waiting for {}", missing.join(", "))
        };
        format!(
            "purging {}  [{bar}]  {done} of {} have let go{waits}",
            self.what,
            many(i64::try_from(shards).unwrap_or(i64::MAX), "shard")
        )
    }
}

/// A shard or a member that has not let go, and what it is busy with.
fn missing(row: &Answer) -> String {
    let node = maybe_text(row, "node").unwrap_or_default();
    let who = match number(row, "shard") {
        Some(shard) => format!("shard {shard} on {node}"),
        None => format!("member {node}"),
    };
    let busy: Vec<String> = row
        .field("busy")
        .map(Answer::list)
        .unwrap_or_default()
        .iter()
        .filter_map(|busy| {
            let since =
                maybe_text(busy, "since").map_or_else(String::new, |at| format!(" since {at}"));
            Some(format!("{}{since}", text(busy, "what").ok()?))
        })
        .collect();
    let busy = if busy.is_empty() { String::new() } else { format!(" ({})", busy.join(", ")) };
    escape(&format!("{who}{busy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Answer {
        Answer::Text(text.to_owned())
    }

    fn row(shard: Answer, busy: Vec<Answer>, satisfied: i64) -> Answer {
        Answer::List(vec![
            word("shard"),
            shard,
            word("node"),
            word("n\u{1b}1"),
            word("busy"),
            Answer::List(busy),
            word("satisfied"),
            Answer::Integer(satisfied),
        ])
    }

    #[test]
    fn the_bar_counts_shards_and_names_what_is_missing() {
        let bar = Bar {
            what: "global/users".to_owned(),
            line: Line::new(),
            quiet: true,
            shown: String::new(),
        };
        let busy =
            Answer::List(vec![word("what"), word("index build"), word("since"), word("noon")]);
        let rows = [
            row(Answer::Integer(0), Vec::new(), 1),
            row(Answer::Integer(1), vec![busy], 0),
            row(Answer::Null, Vec::new(), 0),
        ];
        assert_eq!(
            bar.text(&rows),
            "purging global/users  [##########..........]  1 of 2 shards have let go; waiting for \
             shard 1 on n\\u{1b}1 (index build since noon), member n\\u{1b}1"
        );
        assert!(bar.text(&[]).contains("0 of 0 shards"));
    }
}
