//! What is told to a node, or asked of it: `ls`, `rm`, `restore`, `purge`, `bin`, `top`.
//!
//! ```text
//!   PATH ──► path ──► session ──► commands of the contract ──► rows ──► show
//!                        └─ a refusal ──► hints: what to do about it
//! ```
//!
//! Each subcommand is a client like any other and decides nothing itself. What
//! comes from a node is shown escaped, since names and reasons are written by
//! others. With `--json` the standard output is one document and an error one line
//! on the standard error; docs/cli.md lists the fields and the exit codes.
//!
//! Not here: the wire (`client`), what the commands do (`command`, `lifecycle`).

mod bin;
mod error;
mod hints;
mod ls;
mod path;
mod purge;
mod restore;
mod rm;
mod rows;
mod session;
mod show;
mod top;

use std::io::{BufRead, IsTerminal, Write};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::run::told_to_stop;
use super::{Outcome, TrustArgs};
use error::{Error, Result, Why};
use session::Session;
use show::{Color, Paint};

/// A subcommand that talks to a node.
#[derive(Debug, Subcommand)]
pub(super) enum Remote {
    Ls(ls::LsArgs),
    Rm(rm::RmArgs),
    Restore(restore::RestoreArgs),
    Purge(purge::PurgeArgs),
    Bin(bin::BinArgs),
    Top(top::TopArgs),
}

// What all of them take. No doc comment: clap would make it the text of each of them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Node and output")]
struct RemoteArgs {
    /// The node: redis://user@host:port/namespace, of which all but the host may be left out; rediss:// for TLS. The password is taken
    /// from LETHE_PASSWORD, or asked for on a terminal
    #[arg(
        long,
        value_name = "URL",
        env = "LETHE_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:5484"
    )]
    url: String,
    #[command(flatten)]
    trust: TrustArgs,
    /// Print one JSON document, and errors as JSON on the standard error
    #[arg(long)]
    json: bool,
    /// Whether to print in colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    color: Color,
}

impl Remote {
    const fn args(&self) -> &RemoteArgs {
        match self {
            Self::Ls(args) => &args.remote,
            Self::Rm(args) => &args.remote,
            Self::Restore(args) => &args.remote,
            Self::Purge(args) => &args.remote,
            Self::Bin(args) => &args.remote,
            Self::Top(args) => &args.remote,
        }
    }

    async fn run(&self, out: Out) -> Result<()> {
        match self {
            Self::Ls(args) => ls::run(args, out).await,
            Self::Rm(args) => rm::run(args, out).await,
            Self::Restore(args) => restore::run(args, out).await,
            Self::Purge(args) => purge::run(args, out).await,
            Self::Bin(args) => bin::run(args, out).await,
            Self::Top(args) => top::run(args, out).await,
        }
    }
}

/// Runs one of them to its end, or until somebody stops it.
pub(super) async fn run(remote: &Remote) -> Outcome {
    let args = remote.args();
    let out = Out { json: args.json, paint: Paint::new(args.color) };
    let stopped = told_to_stop();
    let ended = tokio::select! {
        ended = Box::pin(remote.run(out)) => ended,
        () = stopped => {
            super::line::Line::break_off();
            Err(Why::Interrupted(match remote {
                Remote::Ls(_) | Remote::Bin(_) | Remote::Top(_) => "stopped".to_owned(),
                Remote::Rm(_) | Remote::Restore(_) => {
                    "stopped; what was sent happens all the same: `lethe ls` and `lethe bin` tell".to_owned()
                }
                Remote::Purge(args) => args.left_behind(),
            }).into())
        }
    };
    match ended {
        Ok(()) => Outcome::Done,
        // Whoever read the output wants no more of it.
        Err(error) if error.is_broken_pipe() => Outcome::Done,
        Err(error) => {
            out.complain(&error);
            Outcome::Status(error.status())
        }
    }
}

/// What is wrong with the arguments, as an error in JSON; of several paragraphs the first, which says it.
pub(super) fn usage_json(text: &str) -> String {
    let said = text.split("\n\n").next().unwrap_or_default();
    let said: Vec<&str> = said.trim_start_matches("error: ").split_whitespace().collect();
    Error::usage(said.join(" ")).json()
}

/// Where results and errors go, and in which form.
#[derive(Debug, Clone, Copy)]
struct Out {
    json: bool,
    paint: Paint,
}

impl Out {
    /// The one document, or what is said to people.
    fn tell(self, document: &Value, text: impl FnOnce(Paint) -> Vec<String>) -> Result<()> {
        let mut whole =
            if self.json { format!("{document:#}") } else { text(self.paint).join("\n") };
        if !whole.is_empty() {
            whole.push('\n');
        }
        let mut out = std::io::stdout().lock();
        out.write_all(whole.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// An error, on the standard error.
    fn complain(self, error: &Error) {
        let text = if self.json { error.json() } else { error.text() };
        // Nothing is left to be done when even this cannot be written.
        drop(writeln!(std::io::stderr(), "{text}"));
    }

    /// Something beside the result that people should know.
    fn note(self, text: &str) {
        if !self.json {
            drop(writeln!(std::io::stderr(), "lethe: {text}"));
        }
    }

    /// Whether somebody sits there who can be asked.
    fn can_ask(self) -> bool {
        !self.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }
}

/// Asks a person, and gives the answer without blanks around it.
async fn ask(question: String) -> Result<String> {
    // Reading blocks until a line is there, so not on a thread of the runtime.
    let asked = tokio::task::spawn_blocking(move || {
        let mut err = std::io::stderr();
        write!(err, "{question}")?;
        err.flush()?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        Ok::<String, std::io::Error>(line.trim().to_owned())
    });
    Ok(asked.await.map_err(std::io::Error::other)??)
}
