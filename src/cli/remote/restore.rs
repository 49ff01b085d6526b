use clap::Args;
use serde_json::json;

use super::error::{Error, Result};
use super::hints::{Bin, explain};
use super::path::{Place, path};
use super::rows::{Entry, Kind, flag, maybe_text, text};
use super::show::{Tone, many, size};
use super::{Out, RemoteArgs, Session, ls};
use crate::client::Answer;

/// Bring a removed bucket or namespace back, whole
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lethe restore global/users\n  lethe restore global/users --as global/users-of-before\n  lethe restore production.orders/"
)]
pub(in crate::cli) struct RestoreArgs {
    /// `namespace/bucket`, `bucket`, `namespace/`, or an id that `lethe bin` tells
    #[arg(value_name = "PATH")]
    place: Place,
    /// Under another name: a bucket, `namespace/bucket`, or `namespace/`
    #[arg(long = "as", value_name = "PATH")]
    to: Option<Place>,
    /// The newest, where several of this name were removed
    #[arg(long)]
    latest: bool,
    /// In exchange for the active bucket that has the name, which is removed
    #[arg(long)]
    replace: bool,
    /// Also when it has expired, as long as it is not purging
    #[arg(long)]
    allow_expired: bool,
    /// Only say what would come back
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

pub(super) async fn run(args: &RestoreArgs, out: Out) -> Result<()> {
    let mut session = Session::open(&args.remote).await?;
    match one(&mut session, args, out).await {
        Err(error) => Err(explain(&mut session, &args.place, error, Bin::Open).await),
        done => done,
    }
}

async fn one(session: &mut Session, args: &RestoreArgs, out: Out) -> Result<()> {
    ls::not_the_root(&args.place, "restored")?;
    let (kind, namespace, plan) = plan(session, args).await?;
    let (to, bucket) = (text(&plan, "namespace")?, maybe_text(&plan, "bucket"));
    let mut restored = json!({
        "path": path(&to, bucket.as_deref()),
        "kind": kind,
        "namespace": to,
        "bucket": bucket,
        "id": text(&plan, "id")?,
        "removal_id": maybe_text(&plan, "removal_id"),
        "replaced": flag(&plan, "replaces").unwrap_or_default(),
        "documents": null,
        "bytes": null,
    });
    if !args.dry_run {
        // By the removal: what was looked at is what comes back, whatever happened meanwhile to its name.
        let target = maybe_text(&plan, "removal_id").unwrap_or(text(&plan, "id")?);
        let argv = argv(kind, &target, args)?;
        session.call_once(Some(&namespace), argv).await?;
    }
    if kind == Kind::Bucket {
        let row = session.call(&["BUCKET.DESCRIBE", &text(&plan, "id")?]).await;
        // It is back in any case; somebody may have removed it again.
        if let Ok(entry) = row.and_then(|row| Entry::described(kind, &row)) {
            restored["documents"] = entry.documents.into();
            restored["bytes"] = entry.bytes.into();
        }
    }
    let document = json!({ "restored": restored, "dry_run": args.dry_run });
    out.tell(&document, |paint| {
        let done = if args.dry_run { "would restore" } else { "restored" };
        let head = paint.text(Tone::Head, &format!("{done} {}", path(&to, bucket.as_deref())));
        let of = match (restored["documents"].as_i64(), restored["bytes"].as_i64()) {
            (Some(documents), Some(bytes)) => {
                format!(" ({}, {})", many(documents, "document"), size(bytes))
            }
            _ => ", with all that was in it".to_owned(),
        };
        let replaced = restored["replaced"].as_bool().unwrap_or_default();
        let exchanged = if replaced { "; the one that had the name is in the bin" } else { "" };
        vec![format!("{head}{of}{exchanged}")]
    })
}

/// What would come back, and which kind it is; and the namespace from which it is asked for.
async fn plan(session: &mut Session, args: &RestoreArgs) -> Result<(Kind, String, Answer)> {
    let home = session.home().to_owned();
    let (kinds, namespace, target): (&[Kind], _, _) = match session.at_home(&args.place) {
        Place::Bucket { namespace, bucket } => (&[Kind::Bucket], namespace.unwrap_or(home), bucket),
        Place::Namespace(path) => (&[Kind::Namespace], home, path),
        Place::BucketId(id) => (&[Kind::Bucket], home, id),
        Place::NamespaceId(id) => (&[Kind::Namespace], home, id),
        Place::Removal(id) => {
            let mut describe = Kind::Namespace.command("DESCRIBE");
            describe.push(id.clone());
            // Who may read is told which kind it is, and is not refused what nobody has asked for.
            let known = session.call(&describe).await.is_ok();
            let kinds: &[Kind] =
                if known { &[Kind::Namespace] } else { &[Kind::Bucket, Kind::Namespace] };
            (kinds, home, id)
        }
        Place::Root => return Err(Error::usage("it names nothing")),
    };
    session.enter(&namespace).await?;
    let mut refused = None;
    for kind in kinds {
        let mut argv = argv(*kind, &target, args)?;
        argv.push("DRYRUN".to_owned());
        match session.call(&argv).await {
            Ok(answer) => return Ok((*kind, namespace, answer)),
            // The removal may be of the other kind.
            Err(error) if error.code() == "NOSUCHREMOVAL" => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::usage("it names nothing")))
}

fn argv(kind: Kind, target: &str, args: &RestoreArgs) -> Result<Vec<String>> {
    let mut argv = kind.command("RESTORE");
    argv.push(target.to_owned());
    let mut option = |word: &str, value: Option<&str>| {
        argv.push(word.to_owned());
        argv.extend(value.map(str::to_owned));
    };
    match (kind, &args.to) {
        (_, None) => {}
        (Kind::Bucket, Some(Place::Bucket { namespace, bucket })) => {
            option("AS", Some(bucket));
            if namespace.is_some() {
                option("INTO", namespace.as_deref());
            }
        }
        (Kind::Bucket, Some(Place::Namespace(namespace))) => option("INTO", Some(namespace)),
        (
            Kind::Namespace,
            Some(Place::Namespace(path) | Place::Bucket { namespace: None, bucket: path }),
        ) => {
            option("AS", Some(path));
        }
        (kind, Some(to)) => {
            let kind = kind.name();
            return Err(Error::usage(format!("--as {to} is no name for a {kind}")));
        }
    }
    if args.latest {
        option("LATEST", None);
    }
    if args.replace {
        if kind == Kind::Namespace {
            return Err(Error::usage("--replace exchanges buckets, not namespaces"));
        }
        option("REPLACE", None);
    }
    if args.allow_expired {
        option("ALLOW-EXPIRED", None);
    }
    Ok(argv)
}
