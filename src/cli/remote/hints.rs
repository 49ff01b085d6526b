//! What to do about a node's refusal. Looking it up may ask the node again; when
//! that fails there is no hint, and the refusal stands as it was.
//!
//! Nothing is asked for here that takes another right than `read`, unless the user has shown to
//! have it: a refused attempt would stand in the audit log that nobody has made.

use super::error::{Error, Result};
use super::path::{Place, escape, path};
use super::rows::{Hold, Kind, Removal, maybe_text, number, text};
use super::session::Session;
use super::show::{many, minute, span};
use crate::client::Answer;
use crate::codec::RemovalId;

/// Names that are offered in place of one that is not there.
const OFFERED: usize = 3;
/// Removals of one name that are told apart.
const CANDIDATES: usize = 10;
/// How like two names are at least, of 1, for one to be offered.
const LIKENESS: f64 = 0.8;

/// Whether what is removed may be looked at where the refusal came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bin {
    /// The command that was refused takes the right to see it as well.
    Open,
    /// Nobody knows.
    Closed,
}

/// Adds to an error what it is about and what to do.
pub(super) async fn explain(session: &mut Session, place: &Place, error: Error, bin: Bin) -> Error {
    let place = session.at_home(place);
    match hint(session, &place, &error, bin).await {
        Ok(Some(hint)) => error.about(&place).hinted(hint),
        Ok(None) | Err(_) => error.about(&place),
    }
}

async fn hint(
    session: &mut Session,
    place: &Place,
    error: &Error,
    bin: Bin,
) -> Result<Option<String>> {
    let named = quoted(&error.why.to_string());
    Ok(Some(match error.code() {
        "NOSUCHBUCKET" | "NOSUCHNAMESPACE" | "NOSUCHREMOVAL" => {
            return similar(session, place, error.code(), bin).await;
        }
        "BUCKETBEINGREMOVED" => {
            format!("it lies in the bin: `lethe restore {place}` brings it back")
        }
        "NAMESPACEBEINGREMOVED" => {
            let whole = path(&named, None);
            format!(
                "`lethe restore {whole}` brings all of it back; `lethe ls {whole}` tells the ids \
                 of what is in it, and `lethe restore ID --as NAMESPACE/BUCKET` takes one bucket out"
            )
        }
        "PROTECTED" if error.why.to_string().contains("Namespace '") => {
            format!("take the protection off first: NAMESPACE PROTECT {} OFF", escape(&named))
        }
        "PROTECTED" => {
            format!("take the protection off first: BUCKET.PROTECT {} OFF", escape(&named))
        }
        "HELD" => match locked(&error.why.to_string()) {
            Some(why) => why.to_owned(),
            None => return held(session, place).await,
        },
        "QUOTAEXCEEDED" => "NAMESPACE POLICY shows the quotas and how much there is".to_owned(),
        "AMBIGUOUSREMOVED" => return candidates(session, place, error, bin).await,
        "REMOVEDEXPIRED" => {
            "--allow-expired brings it back as long as it is not purging".to_owned()
        }
        "BUCKETALREADYEXISTS" => {
            "--as gives it another name; --replace removes the one that has the name".to_owned()
        }
        "NAMESPACEALREADYEXISTS" => "--as gives it another path".to_owned(),
        "ALREADYPURGING" => "its purge has begun: only a backup has it still".to_owned(),
        "PURGEPAUSED" => "PURGE.RESUME lets destruction go on".to_owned(),
        "CLOCKSUSPECT" => {
            "CLUSTER.CLOCK shows the clocks, CLUSTER.CLOCK CONFIRM accepts the time".to_owned()
        }
        "NOPERM" => "another user is named by --url redis://user@host:port or LETHE_URL".to_owned(),
        "ERR" if error.why.to_string().ends_with("is not removed") => {
            format!("it is there: `lethe ls {place}`; only what was removed is restored or purged")
        }
        _ => return Ok(None),
    }))
}

/// What to do about a lock or a minimum, if it was one that refused.
fn locked(message: &str) -> Option<&'static str> {
    const WHOSE: &str = "nobody ends that early; NAMESPACE POLICY shows which namespace says so";
    if message.contains("(governance") {
        return Some(
            "BYPASS-GOVERNANCE passes by the lock, with the rights purge and admin; \
             NAMESPACE POLICY shows which namespace locks it",
        );
    }
    (message.contains("(compliance") || message.contains("the minimum of its policy"))
        .then_some(WHOSE)
}

/// What stands between the first quotes of a message.
fn quoted(message: &str) -> String {
    let rest = message.split_once('\'').map_or("", |(_, rest)| rest);
    rest.rsplit_once('\'').map_or("", |(name, _)| name).to_owned()
}

/// Names like one that is not there.
async fn similar(
    session: &mut Session,
    place: &Place,
    code: &str,
    bin: Bin,
) -> Result<Option<String>> {
    let in_the_bin = "`lethe bin` lists what was removed, with its ids".to_owned();
    let (namespace, bucket) = match place {
        Place::Bucket { namespace: Some(namespace), bucket } => (namespace, bucket),
        Place::Namespace(namespace) => return similar_namespace(session, namespace).await,
        _ => return Ok(Some(in_the_bin)),
    };
    if code == "NOSUCHNAMESPACE" {
        return similar_namespace(session, namespace).await;
    }
    if let Some((more, bucket)) = bucket.rsplit_once('/') {
        let namespace = format!("{namespace}.{}", more.replace('/', "."));
        let meant = path(&namespace, Some(bucket));
        return Ok(Some(format!("namespaces are separated by dots: did you mean {meant}?")));
    }
    let exists = session.call(&["NAMESPACE", "EXISTS", bucket]).await;
    if exists.is_ok_and(|answer| answer.line() == "1") {
        let meant = path(bucket, None);
        return Ok(Some(format!("there is a namespace of this name: to mean it, write {meant}")));
    }
    let mut names = Vec::new();
    let mut add = |name: &str, active| {
        if let Some(like) = like(bucket, name) {
            names.push((path(namespace, Some(name)), like, active));
        }
    };
    // Who may restore need not be allowed to read.
    if let Ok(active) = session.list(&["BUCKET.LIST", "NAMESPACE", namespace]).await {
        active.items.iter().filter_map(Answer::text).for_each(|name| add(name, true));
    }
    if bin == Bin::Open {
        let removed = session.list(&["BUCKET.REMOVED", "NAMESPACE", namespace]).await?;
        for row in &removed.items {
            add(&text(row, "bucket")?, false);
        }
    }
    Ok(Some(offer(names).unwrap_or(in_the_bin)))
}

async fn similar_namespace(session: &mut Session, namespace: &str) -> Result<Option<String>> {
    let (parent, last) = match namespace.rsplit_once('.') {
        Some((parent, last)) => (Some(parent), last),
        None => (None, namespace),
    };
    let active: Vec<&str> = ["NAMESPACE", "LIST"].into_iter().chain(parent).collect();
    let mut names = Vec::new();
    for row in session.list(&active).await?.items {
        if let Some((name, like)) = row.text().and_then(|name| Some((name, like(last, name)?))) {
            let whole = parent.map_or_else(|| name.to_owned(), |it| format!("{it}.{name}"));
            names.push((path(&whole, None), like, true));
        }
    }
    Ok(Some(offer(names).unwrap_or_else(|| "`lethe ls` lists the namespaces".to_owned())))
}

/// How like a name is to the one that was given, if it is at all.
fn like(given: &str, name: &str) -> Option<f64> {
    let likeness = strsim::jaro_winkler(&given.to_lowercase(), &name.to_lowercase());
    (likeness >= LIKENESS).then_some(likeness)
}

fn offer(mut names: Vec<(String, f64, bool)>) -> Option<String> {
    names.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    names.dedup_by(|a, b| a.0 == b.0);
    names.truncate(OFFERED);
    let names: Vec<String> = names
        .into_iter()
        .map(|(name, _, active)| if active { name } else { format!("{name} (removed)") })
        .collect();
    (!names.is_empty()).then(|| format!("did you mean {}?", names.join(", ")))
}

/// The removals that a place may mean, newest first.
pub(super) async fn removals(session: &mut Session, place: &Place) -> Result<Vec<Removal>> {
    let now = session.now().await?;
    let (kind, rows) = match place {
        Place::Bucket { namespace, bucket } => {
            let namespace = namespace.as_deref().unwrap_or(session.home()).to_owned();
            let command = ["BUCKET.REMOVED", bucket, "NAMESPACE", &namespace];
            (Kind::Bucket, session.list(&command).await?)
        }
        Place::Namespace(namespace) => {
            let parent = namespace.rsplit_once('.').map(|(parent, _)| parent);
            let command: Vec<&str> = ["NAMESPACE", "REMOVED"].into_iter().chain(parent).collect();
            (Kind::Namespace, session.list(&command).await?)
        }
        Place::Root | Place::BucketId(_) | Place::NamespaceId(_) | Place::Removal(_) => {
            return Ok(Vec::new());
        }
    };
    let mut removals = Vec::new();
    for row in rows.items.iter().rev() {
        let removal = Removal::read(kind, row, now)?;
        let same = match place {
            Place::Namespace(namespace) => removal.namespace == *namespace,
            _ => true,
        };
        if same && removal.state == "removed" {
            removals.push(removal);
        }
    }
    Ok(removals)
}

/// The ids that AMBIGUOUSREMOVED names, newest first.
pub(super) fn candidate_ids(error: &Error) -> Vec<String> {
    let message = error.why.to_string();
    let ids = message.rsplit(": ").next().unwrap_or_default();
    ids.split(' ').filter(|id| RemovalId::parse(id).is_some()).map(str::to_owned).collect()
}

/// One line for each of several removals of a name.
async fn candidates(
    session: &mut Session,
    place: &Place,
    error: &Error,
    bin: Bin,
) -> Result<Option<String>> {
    let mut lines =
        vec!["--latest takes the first of these; an id in place of the name any:".to_owned()];
    let kind = if let Place::Namespace(_) = place { Kind::Namespace } else { Kind::Bucket };
    if bin == Bin::Open && kind == Kind::Bucket {
        let now = session.now().await?;
        for removal in removals(session, place).await?.iter().take(CANDIDATES) {
            let reason =
                removal.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
            lines.push(escape(&format!(
                "{}  removed {} ago by {}{reason}",
                removal.removal_id,
                span(removal.age(now)),
                removal.removed_by,
            )));
        }
    } else {
        for id in candidate_ids(error).iter().take(CANDIDATES) {
            let mut argv = kind.command("DESCRIBE");
            argv.push(id.clone());
            let row = session.call(&argv).await?;
            let documents = many(number(&row, "documents").unwrap_or_default(), "document");
            let until = maybe_text(&row, "expires_at")
                .map_or_else(|| "for ever".to_owned(), |at| format!("until {}", minute(&at)));
            lines.push(format!("{id}  {documents}, kept {until}"));
        }
    }
    Ok(Some(lines.join("\n    ")))
}

/// Which hold it is.
async fn held(session: &mut Session, place: &Place) -> Result<Option<String>> {
    let (kind, target) = match place {
        Place::Bucket { namespace, bucket } => {
            let home = session.home().to_owned();
            session.enter(namespace.as_deref().unwrap_or(&home)).await?;
            (Kind::Bucket, bucket)
        }
        Place::BucketId(id) | Place::Removal(id) => (Kind::Bucket, id),
        Place::Namespace(path) | Place::NamespaceId(path) => (Kind::Namespace, path),
        Place::Root => return Ok(None),
    };
    let mut argv = kind.command("DESCRIBE");
    argv.push(target.clone());
    let row = session.call(&argv).await;
    let found = row.ok().and_then(|row| {
        let hold = Hold::of(&row).ok().flatten()?;
        Some((maybe_text(&row, "removal_id")?, hold))
    });
    let Some((removal, hold)) = found else {
        return Ok(Some(
            "`lethe bin --held` lists what is on hold; UNHOLD lifts a hold".to_owned(),
        ));
    };
    let lift = kind.command("UNHOLD").join(" ");
    let since = hold.since.as_deref().map_or_else(String::new, |since| format!(" since {since}"));
    let review = hold
        .review_at
        .as_deref()
        .map_or_else(String::new, |at| format!(", to be reviewed on {at}"));
    Ok(Some(escape(&format!(
        "held by {}{since}{review}; {lift} {removal} lifts the hold",
        hold.owner
    ))))
}
