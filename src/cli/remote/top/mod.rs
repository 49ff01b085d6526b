//! `lethe top`: what a node and its cluster are at.
//!
//! On a terminal a page that is drawn anew at an interval until somebody leaves it;
//! elsewhere the same page once. Rates are between two looks; of a single look they
//! are averages since the node started.

mod sample;
mod screen;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep_until};

use super::error::{Error, Result, Why};
use super::{Out, RemoteArgs, Session};
use crate::codec::duration::parse_duration;
use sample::Sample;
use screen::{Key, Screen};

/// Show what a node is at: operations, what is removed, barriers, what is given back, members
///
/// q leaves, any other key looks at once. Where the output is no terminal, and with --json or --once, it is printed
/// once.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lethe top\n  lethe top --interval 5s\n  lethe top --once --json"
)]
pub(in crate::cli) struct TopArgs {
    /// How often to look
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print it once
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

/// No node is asked more often.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

fn interval(text: &str) -> std::result::Result<Duration, String> {
    parse_duration(text)
        .filter(|interval| *interval >= INTERVAL_MIN)
        .ok_or_else(|| "give 500ms, 2s or 1m, and no less than 100ms".to_owned())
}

pub(super) async fn run(args: &TopArgs, out: Out) -> Result<()> {
    let mut session = Session::open(&args.remote).await?;
    let first = Sample::take(&mut session, None).await?;
    if out.json || args.once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal()
    {
        let document =
            serde_json::to_value(&first).map_err(|error| Error::odd(error.to_string()))?;
        return out.tell(&document, |paint| view::lines(&first, paint));
    }
    live(args, out, session, first).await
}

async fn live(args: &TopArgs, out: Out, session: Session, first: Sample) -> Result<()> {
    let (mut screen, mut keys) = Screen::open()?;
    let (mut session, mut last, mut trouble) = (Some(session), first, None);
    loop {
        let mut lines = view::lines(&last, out.paint);
        lines.push(String::new());
        lines.push(view::foot(args.interval, trouble.as_deref(), out.paint));
        screen.draw(&lines)?;
        let next = Instant::now() + args.interval;
        let mut again = false;
        while !again {
            tokio::select! {
                key = keys.recv() => match key {
                    Some(Key::Leave) | None => return Ok(()),
                    Some(Key::Again) => again = true,
                },
                () = sleep_until(next) => again = true,
            }
        }
        match look(&mut session, args, &last).await {
            Ok(sample) => (last, trouble) = (sample, None),
            Err(error) => {
                // It goes on trying: a node that starts again is there again.
                if matches!(error.why, Why::Away(_)) {
                    session = None;
                }
                trouble = Some(error.why.to_string());
            }
        }
    }
}

/// The next look, over a new connection if the last one was lost.
async fn look(session: &mut Option<Session>, args: &TopArgs, last: &Sample) -> Result<Sample> {
    let connected = match session.take() {
        Some(connected) => connected,
        None => Session::open(&args.remote).await?,
    };
    Sample::take(session.insert(connected), Some(last)).await
}
