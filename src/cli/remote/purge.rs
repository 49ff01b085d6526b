use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::error::{Error, Result, Why};
use super::hints::{Bin, candidate_ids, explain, removals};
use super::path::{Place, escape};
use super::rows::{Entry, Kind};
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
        Err(error) => Err(explain(&mut session, &args.place, error, Bin::Closed).await),
        done => done,
    }
}

/// What is to be destroyed.
struct Doomed {
    entry: Entry,
    removal: String,
}

impl Doomed {
    /// By what DESCRIBE says; `None` of what is active.
    fn described(kind: Kind, row: &Answer) -> Result<Option<Self>> {
        let entry = Entry::described(kind, row)?;
        let removal = entry.removal_id.clone();
        Ok(removal.map(|removal| Self { entry, removal }))
    }

    /// Of which no more is known than its id: who may purge need not be allowed to read.
    fn unseen(kind: Kind, id: &str) -> Self {
        let entry = Entry { kind, path: id.to_owned(), ..Entry::namespace("") };
        Self { entry, removal: id.to_owned() }
    }

    /// What has to be typed for it.
    fn name(&self) -> String {
        let entry = &self.entry;
        match entry.bucket.as_ref().unwrap_or(&entry.namespace) {
            unknown if unknown.is_empty() => self.removal.clone(),
            name => escape(name),
        }
    }
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
        "namespace": Some(&entry.namespace).filter(|namespace| !namespace.is_empty()),
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
    for kind in &kinds {
        match session.call(&command(*kind, "DESCRIBE", id)).await {
            Ok(row) => {
                let active = Entry::described(*kind, &row)?.path;
                return Doomed::described(*kind, &row)?.ok_or_else(|| {
                    let message = format!("{active} is not removed");
                    Error::usage(message).hinted("`lethe rm` removes it")
                });
            }
            // The removal may be of the other kind.
            Err(error) if error.code() == "NOSUCHREMOVAL" => refused = Some(error),
            Err(error) if error.code() == "NOPERM" => return unseen(session, &kinds, id).await,
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::usage("it names nothing")))
}

/// Finds out, without looking, what an id is of that may be purged.
async fn unseen(session: &mut Session, kinds: &[Kind], id: &str) -> Result<Doomed> {
    let mut refused = None;
    for kind in kinds {
        let mut argv = command(*kind, "PURGE", id);
        argv.push("DRYRUN".to_owned());
        match session.call(&argv).await {
            Ok(_) => return Ok(Doomed::unseen(*kind, id)),
            // It is asked for, and waited for.
            Err(error) if error.code() == "BARRIERNOTSATISFIED" => {
                return Ok(Doomed::unseen(*kind, id));
            }
            Err(error) if error.code() == "NOSUCHREMOVAL" => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::usage("it names nothing")))
}

/// The words of a command on a name, which is looked up in the current namespace, or an id.
fn command(kind: Kind, verb: &str, target: &str) -> Vec<String> {
    let mut argv = kind.command(verb);
    argv.push(target.to_owned());
    argv
}

/// What a name means. It is looked at with the right `read`; nothing is asked for that takes more
/// than that and the right to purge, as long as there is another way.
async fn by_name(session: &mut Session, place: &Place, latest: bool) -> Result<Doomed> {
    let (kind, name) = match place {
        Place::Bucket { namespace, bucket } => {
            session.enter(namespace.as_deref().unwrap_or_default()).await?;
            (Kind::Bucket, bucket)
        }
        Place::Namespace(path) => (Kind::Namespace, path),
        _ => return Err(Error::usage("it names nothing")),
    };
    match session.call(&command(kind, "DESCRIBE", name)).await {
        Ok(row) => {
            if let Some(doomed) = Doomed::described(kind, &row)? {
                return Ok(doomed);
            }
        }
        Err(error) if error.code() == "NOPERM" => {
            return Err(error.hinted(
                "by its name it is purged by who has the right read as well; by its id, as \
                 `lethe bin` tells it, the right purge is enough",
            ));
        }
        Err(error) if error.code().is_empty() => return Err(error),
        // What the purge itself is told says it better.
        Err(_) => {}
    }
    // Nothing is removed under the name, or several, or one while something active has it.
    let mut argv = command(kind, "PURGE", name);
    argv.push("DRYRUN".to_owned());
    let newest = match session.call(&argv).await {
        Err(error) if latest && error.code() == "AMBIGUOUSREMOVED" => {
            let newest = candidate_ids(&error).into_iter().next();
            newest.ok_or(error)?
        }
        Err(error) if error.code() != "BARRIERNOTSATISFIED" => return Err(error),
        // Only the list tells which.
        Ok(_) | Err(_) => match removals(session, place).await?.as_slice() {
            [only] => only.removal_id.clone(),
            _ => return Err(Error::usage("what has this name has just changed; try again")),
        },
    };
    let row = session.call(&command(kind, "DESCRIBE", &newest)).await?;
    let changed = || Error::usage("what has this name has just changed; try again");
    Doomed::described(kind, &row)?.ok_or_else(changed)
}

/// Nothing is destroyed unless somebody has typed its name.
async fn agree(doomed: &Doomed, args: &PurgeArgs, out: Out) -> Result<()> {
    let entry = &doomed.entry;
    let name = doomed.name();
    let accepted = |answer: &str| {
        let whole = entry.path.strip_suffix('/').unwrap_or(&entry.path);
        [name.as_str(), whole, &entry.path, &doomed.removal].contains(&answer)
    };
    let answer = match &args.yes {
        Some(answer) => answer.clone(),
        None if out.can_ask() => {
            let until = entry.expires_at.as_ref().map_or_else(String::new, |at| {
                format!(", which can be restored until {}", minute(at))
            });
            let story = format!("{}{}{until}", entry.path, holds(entry));
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
        if bar.shards == 0 {
            bar.shards = shards(session).await?;
        }
        bar.show(&refused.why.to_string());
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

/// How many shards the cluster has.
async fn shards(session: &mut Session) -> Result<usize> {
    let info = session.call(&["INFO", "members"]).await?;
    let lines = info.text().unwrap_or_default().lines();
    let mut shards = lines.filter_map(|line| line.trim_end().strip_prefix("shards:"));
    Ok(shards.find_map(|shards| shards.parse().ok()).unwrap_or_default())
}

/// How many shards have let go, and what is missing: as the refusal of the purge says, since to see
/// more takes another right than to purge.
struct Bar {
    what: String,
    line: Line,
    quiet: bool,
    shards: usize,
    shown: String,
}

impl Bar {
    fn new(path: &str, out: Out) -> Self {
        let (what, line, shown) = (path.to_owned(), Line::new(), String::new());
        Self { what, line, quiet: out.json, shards: 0, shown }
    }

    fn show(&mut self, refusal: &str) {
        let text = self.text(refusal);
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

    fn text(&self, refusal: &str) -> String {
        // Behind the version that all have to have seen: who and what is missing.
        let missing = refusal.splitn(3, ": ").nth(2).unwrap_or_default();
        let missing: Vec<&str> = missing.split("; ").filter(|part| !part.is_empty()).collect();
        let lacking = missing.iter().filter(|part| part.starts_with("shard ")).count();
        let done = self.shards.saturating_sub(lacking);
        let full = (done * BAR).checked_div(self.shards).unwrap_or_default().min(BAR);
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(BAR - full));
        let waits = if missing.is_empty() {
            String::new()
        } else {
            format!("; waiting for {}", escape(&missing.join(", ")))
        };
        format!(
            "purging {}  [{bar}]  {done} of {} have let go{waits}",
            self.what,
            many(i64::try_from(self.shards).unwrap_or(i64::MAX), "shard")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Versionstamp;

    #[test]
    fn the_bar_counts_shards_and_names_what_is_missing() {
        let mut bar = Bar {
            what: "global/users".to_owned(),
            line: Line::new(),
            quiet: true,
            shards: 2,
            shown: String::new(),
        };
        let refusal = |missing: &str| {
            let line = crate::error::Error::barrier_not_satisfied(Versionstamp::MIN, missing);
            Error::refused(&format!("{} {line}", line.code())).why.to_string()
        };
        assert_eq!(
            bar.text(&refusal(
                "shard 1 on n\u{1b}1 busy with index build on n2 since 2027-01-15T08:00:00Z; member n2"
            )),
            "purging global/users  [##########..........]  1 of 2 shards have let go; waiting for \
             shard 1 on n\\u{1b}1 busy with index build on n2 since 2027-01-15T08:00:00Z, member n2"
        );
        bar.shards = 0;
        assert!(bar.text("nonsense").contains("0 of 0 shards"));
    }
}
