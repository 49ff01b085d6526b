use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::error::{Error, Result, Why};
use super::hints::{Bin, explain};
use super::path::{Place, path};
use super::rows::{Kind, flag, maybe_text, number, text};
use super::show::{Paint, Tone, many, minute, size};
use super::{Out, RemoteArgs, Session, ask, ls};
use crate::codec::duration::{Retention, parse_retention};

/// Remove buckets and namespaces; they can be restored until they expire
///
/// From that moment on every node refuses them. `lethe bin` lists them, `lethe restore` brings them back.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lethe rm global/users --reason \"moved to the archive\"\n  lethe rm production.orders/ --retention 30d --dry-run"
)]
pub(in crate::cli) struct RmArgs {
    /// `namespace/bucket`, `bucket`, or `namespace/` with all that is in it
    #[arg(value_name = "PATH", required = true)]
    places: Vec<Place>,
    /// Why, for whoever finds it in the bin
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long it can be restored: 45s, 30m, 48h, 7d, or forever [default: what the cluster is set to]
    #[arg(long, value_name = "DURATION", value_parser = retention)]
    retention: Option<String>,
    /// Until when it can be restored, as 2026-12-31T00:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "retention")]
    until: Option<String>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Ask nothing
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

/// Nothing is purged by a slip of a number.
fn retention(text: &str) -> std::result::Result<String, String> {
    match parse_retention(text) {
        Some(Retention::For(duration)) if duration.is_zero() => {
            Err("nothing could be restored; to destroy it, remove it and then use `lethe purge`"
                .to_owned())
        }
        Some(_) => Ok(text.to_owned()),
        None => Err("give 45s, 30m, 48h, 7d, P7D, a number of seconds, or forever".to_owned()),
    }
}

/// Something that was removed, or would be.
#[derive(Debug, Serialize)]
struct Outcome {
    path: String,
    kind: Kind,
    namespace: String,
    bucket: Option<String>,
    id: String,
    /// Null of what only would be removed.
    removal_id: Option<String>,
    removed_at: String,
    expires_at: Option<String>,
    documents: Option<i64>,
    bytes: Option<i64>,
}

pub(super) async fn run(args: &RmArgs, out: Out) -> Result<()> {
    let mut session = Session::open(&args.remote).await?;
    let (mut removed, mut failed) = (Vec::new(), None);
    for place in &args.places {
        match one(&mut session, place, args, out).await {
            Ok(one) => removed.push(one),
            Err(error) => {
                let error = explain(&mut session, place, error, Bin::Closed).await;
                let is_final = error.is_final();
                // The last error ends the program; those before it are told here.
                if let Some(earlier) = failed.replace(error) {
                    out.complain(&earlier);
                }
                if is_final {
                    break;
                }
            }
        }
    }
    let document = json!({ "removed": removed, "dry_run": args.dry_run });
    if !removed.is_empty() || failed.is_none() {
        out.tell(&document, |paint| {
            removed.iter().map(|it| line(it, args.dry_run, paint)).collect()
        })?;
    }
    failed.map_or(Ok(()), Err)
}

async fn one(session: &mut Session, place: &Place, args: &RmArgs, out: Out) -> Result<Outcome> {
    ls::not_the_root(place, "removed")?;
    let place = session.at_home(place);
    let (kind, namespace, bucket) = match &place {
        Place::Bucket { namespace, bucket } => {
            let namespace = namespace.clone().unwrap_or_default();
            (Kind::Bucket, namespace, Some(bucket.clone()))
        }
        Place::Namespace(namespace) => (Kind::Namespace, namespace.clone(), None),
        _ => return Err(Error::usage("what is active is removed by its name, not by an id")),
    };
    if kind == Kind::Namespace && !args.yes && !args.dry_run && out.can_ask() {
        confirm(session, &namespace).await?;
    }
    let mut argv = kind.command("REMOVE");
    argv.push(bucket.clone().unwrap_or_else(|| namespace.clone()));
    let mut option = |word: &str, value: &Option<String>| {
        argv.extend(value.iter().flat_map(|value| [word.to_owned(), value.clone()]));
    };
    option("RETAIN", &args.retention);
    option("UNTIL", &args.until);
    option("REASON", &args.reason);
    let within = bucket.as_ref().map(|_| namespace.as_str());
    let answer = if args.dry_run {
        argv.push("DRYRUN".to_owned());
        if let Some(namespace) = within {
            session.enter(namespace).await?;
        }
        session.call(&argv).await?
    } else {
        argv.push("INFO".to_owned());
        session.call_once(within, argv).await?
    };
    Ok(Outcome {
        path: path(&namespace, bucket.as_deref()),
        kind,
        namespace,
        bucket,
        id: text(&answer, "id")?,
        removal_id: maybe_text(&answer, "removal_id"),
        removed_at: text(&answer, "removed_at")?,
        expires_at: maybe_text(&answer, "expires_at"),
        documents: number(&answer, "documents"),
        bytes: number(&answer, "bytes"),
    })
}

/// Asks before a namespace goes that has something in it: what is in it whoever may remove it may know.
async fn confirm(session: &mut Session, namespace: &str) -> Result<()> {
    let plan = session.call(&["NAMESPACE", "REMOVE", namespace, "DRYRUN"]).await?;
    let below = session.list(&["NAMESPACE", "LIST", namespace]).await?;
    let of = |name| number(&plan, name).unwrap_or_default();
    let incomplete = flag(&plan, "incomplete").unwrap_or_default();
    if of("buckets") == 0 && !incomplete && below.items.is_empty() {
        return Ok(());
    }
    let question = format!(
        "{} holds {}{}, {} ({}), and has {} directly below it.\nRemove all of it? It can be restored. [y/N] ",
        path(namespace, None),
        if incomplete { "more than " } else { "" },
        many(of("buckets"), "bucket"),
        many(of("documents"), "document"),
        size(of("bytes")),
        many(i64::try_from(below.items.len()).unwrap_or(i64::MAX), "namespace"),
    );
    match ask(question).await?.to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Why::Declined("the answer was not yes".to_owned()).into()),
    }
}

fn line(removed: &Outcome, dry_run: bool, paint: Paint) -> String {
    let done = if dry_run { "would remove" } else { "removed" };
    let of = match (removed.documents, removed.bytes) {
        (Some(documents), Some(bytes)) => {
            format!(" ({}, {})", many(documents, "document"), size(bytes))
        }
        _ => String::new(),
    };
    let until = removed
        .expires_at
        .as_ref()
        .map_or_else(|| "for ever".to_owned(), |at| format!("until {}", minute(at)));
    let head = paint.text(Tone::Head, &format!("{done} {}", removed.path));
    let back = if dry_run { String::new() } else { format!(": lethe restore {}", removed.path) };
    format!("{head}{of}; restorable {until}{back}")
}
