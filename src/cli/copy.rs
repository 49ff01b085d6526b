use std::io::Write;
use std::path::{Path, PathBuf};

use super::password::{PASSWORD, with_password};
use super::run::told_to_stop;
use super::shown::escape;
use super::{BackupArgs, Failure, Outcome, RestoreArgs};
use crate::client::{self, Address, Answer, Client};
use crate::store::{self, BackupSummary, EmbeddedOptions, Store};

/// `lethe backup`: by the node that runs, or from a folder that no node has open.
pub(super) async fn backup(args: &BackupArgs) -> Result<Outcome, Failure> {
    match &args.node {
        Some(node) => {
            // Before a password is asked for: without it Ctrl-C would leave a terminal behind that shows nothing.
            let told = told_to_stop();
            let address = with_password(args.trust.address(node)?, PASSWORD).await?;
            tokio::select! {
                done = Box::pin(by_node(&address, &args.to)) => done,
                () = told => Err(Failure::Told(format!(
                    "stopped; what is in {} is a copy only if it has a MANIFEST",
                    args.to.display()
                ))),
            }
        }
        None => from_folder(&args.data_dir, &args.to).await,
    }
}

async fn from_folder(folder: &Path, to: &Path) -> Result<Outcome, Failure> {
    if !folder.is_dir() {
        return Err(Failure::Told(format!("there is no data folder {}", folder.display())));
    }
    let store = Store::open(folder, EmbeddedOptions::default()).await.map_err(|error| {
        Failure::Told(format!(
            "{error}. While a node has the folder open, let it make the copy: lethe backup --node 127.0.0.1:5484 {}",
            to.display()
        ))
    })?;
    let summary = store::backup(&store, to).await;
    store.close().await;
    tell("copied", &summary?, to)
}

async fn by_node(node: &Address, to: &Path) -> Result<Outcome, Failure> {
    let to = absolute(to)?;
    let Some(folder) = to.to_str() else {
        return Err(Failure::Told("the folder's name is not UTF-8".to_owned()));
    };
    let told = |error: client::Error| Failure::Told(escape(&error.to_string()));
    let mut client = Client::open(node).await.map_err(told)?;
    match client.call(&["BACKUP", folder]).await.map_err(told)? {
        Answer::Error(error) => Err(Failure::Told(escape(&error))),
        Answer::List(fields) => {
            // Names and values in turn: version, rows, bytes.
            let number = |name: &str| {
                fields.chunks(2).find_map(|pair| match pair {
                    [Answer::Text(key), Answer::Integer(value)] if key == name => {
                        u64::try_from(*value).ok()
                    }
                    _ => None,
                })
            };
            let summary = BackupSummary {
                version: number("version").unwrap_or_default(),
                rows: number("rows").unwrap_or_default(),
                bytes: number("bytes").unwrap_or_default(),
            };
            tell("copied", &summary, &to)
        }
        answer => Err(Failure::Told(format!("the node answered {}", escape(&answer.line())))),
    }
}

/// `lethe restore-backup`.
pub(super) async fn restore(args: &RestoreArgs) -> Result<Outcome, Failure> {
    let summary = store::restore_backup(&args.from, &args.data_dir).await?;
    tell("restored", &summary, &args.data_dir)
}

fn tell(what: &str, summary: &BackupSummary, to: &Path) -> Result<Outcome, Failure> {
    let BackupSummary { version, rows, bytes } = summary;
    writeln!(
        std::io::stdout(),
        "{what} {rows} rows, {bytes} bytes, as of version {version}, to {}",
        to.display()
    )?;
    Ok(Outcome::Done)
}

fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}
