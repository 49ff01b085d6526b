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
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::error::{Error, Result};
use super::{Out, RemoteArgs, Session};
use crate::codec::duration::parse_duration;
use sample::{Sample, Sight};
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
    /// Only the node itself, which everybody may see; the rest takes the right admin
    #[arg(long)]
    node_only: bool,
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
    let sight = if args.node_only { Sight::Node } else { Sight::of_admin(&mut session).await? };
    let first = Sample::take(&mut session, sight, None).await?;
    if out.json || args.once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal()
    {
        let document =
            serde_json::to_value(&first).map_err(|error| Error::odd(error.to_string()))?;
        return out.tell(&document, |paint| view::lines(&first, paint));
    }
    let (mut screen, mut keys) = Screen::open()?;
    let (interval, paint) = (args.interval, out.paint);
    let mut watch = Watch { session, sight, lost: false };
    let draw = |sample: &Sample, trouble: Option<&str>| {
        let mut lines = view::lines(sample, paint);
        lines.push(String::new());
        lines.push(view::foot(interval, trouble, paint));
        screen.draw(&lines)
    };
    live(&mut watch, interval, first, &mut keys, draw).await
}

/// Draws what is seen, anew at an interval, until somebody leaves.
async fn live(
    watch: &mut Watch,
    interval: Duration,
    first: Sample,
    keys: &mut mpsc::Receiver<Key>,
    mut draw: impl FnMut(&Sample, Option<&str>) -> std::io::Result<()>,
) -> Result<()> {
    let (mut last, mut trouble) = (first, None);
    loop {
        draw(&last, trouble.as_deref())?;
        tokio::select! {
            key = keys.recv() => if key != Some(Key::Again) { return Ok(()) },
            () = sleep(interval) => {}
        }
        // A node may take its time, and nobody waits for it who wants to leave.
        let mut looking = Box::pin(watch.look(&last));
        let looked = loop {
            tokio::select! {
                looked = &mut looking => break looked,
                key = keys.recv() => match key {
                    Some(Key::Again) => draw(&last, trouble.as_deref())?,
                    Some(Key::Leave) | None => return Ok(()),
                },
            }
        };
        drop(looking);
        match looked {
            Ok(sample) => (last, trouble) = (sample, None),
            // Who may not look any more is told so once, not at each look anew.
            Err(error) if ["NOPERM", "NOAUTH", "WRONGPASS"].contains(&error.code()) => {
                return Err(error);
            }
            // It goes on trying: a node that starts again is there again.
            Err(error) => trouble = Some(error.why.to_string()),
        }
    }
}

/// Who looks, again and again.
struct Watch {
    session: Session,
    sight: Sight,
    lost: bool,
}

impl Watch {
    /// The next look, over a new connection if the last one was lost.
    async fn look(&mut self, last: &Sample) -> Result<Sample> {
        // Lost until it has proved to be there, also for who does not wait for that.
        if std::mem::replace(&mut self.lost, true) {
            // With the password that was typed at the beginning: the terminal is taken.
            self.session.reconnect().await?;
        }
        let looked = Sample::take(&mut self.session, self.sight, Some(last)).await;
        // Where it is not the node that said no.
        self.lost = matches!(&looked, Err(error) if error.code().is_empty());
        looked
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;
    use crate::client::Address;

    /// Longer than any test.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Answers what a connection begins with and some looks, then no more; gives what was asked.
    async fn serve(stream: TcpStream, looks: usize, hang_up: bool) -> Vec<String> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let (mut asked, mut looked) = (Vec::new(), 0);
        while let Some(head) = lines.next_line().await.unwrap() {
            let mut words = Vec::new();
            for _ in 0..head.trim_start_matches('*').parse().unwrap() {
                lines.next_line().await.unwrap();
                words.push(lines.next_line().await.unwrap().unwrap());
            }
            asked.push(words.join(" "));
            if words[0] == "INFO" {
                if looked == looks {
                    if hang_up {
                        return asked;
                    }
                    continue;
                }
                looked += 1;
            }
            writer.write_all(b"$6\r\nglobal\r\n").await.unwrap();
        }
        asked
    }

    async fn node() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn accept(listener: &TcpListener, looks: usize, hang_up: bool) -> Vec<String> {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, looks, hang_up).await
    }

    async fn watch(address: SocketAddr) -> (Watch, Sample) {
        let address: Address = format!("redis://ada:geheim@{address}").parse().unwrap();
        let mut session = Session::connect(address).await.unwrap();
        let first = Sample::take(&mut session, Sight::Node, None).await.unwrap();
        (Watch { session, sight: Sight::Node, lost: false }, first)
    }

    #[tokio::test]
    async fn a_lost_connection_is_made_again_with_the_same_password() {
        let (listener, address) = node().await;
        let server = tokio::spawn(async move {
            let first = accept(&listener, 1, true).await;
            let second = accept(&listener, 1, true).await;
            (first, second)
        });
        let (mut watching, first) = watch(address).await;
        let (keys, mut typed) = mpsc::channel(1);
        let (mut troubles, mut keys) = (Vec::new(), Some(keys));
        let draw = |_: &Sample, trouble: Option<&str>| {
            troubles.push(trouble.map(str::to_owned));
            if troubles.len() == 3 {
                // It is there again; whoever could type is gone.
                keys = None;
            }
            Ok(())
        };
        let ended = live(&mut watching, INTERVAL_MIN, first, &mut typed, draw);
        timeout(PATIENCE, ended).await.unwrap().unwrap();
        drop(watching);
        let (asked, again) = server.await.unwrap();
        assert_eq!(asked[0], "AUTH ada geheim");
        assert_eq!(again[0], "AUTH ada geheim");
        assert!(troubles[0].is_none() && troubles[2].is_none(), "{troubles:?}");
        assert!(troubles[1].as_ref().unwrap().contains("is lost"), "{troubles:?}");
    }

    #[tokio::test]
    async fn who_leaves_does_not_wait_for_a_node_that_is_silent() {
        let (listener, address) = node().await;
        let server = tokio::spawn(async move { accept(&listener, 1, false).await });
        let (mut watching, first) = watch(address).await;
        let (keys, mut typed) = mpsc::channel(3);
        // To look at once; then, while the node says nothing, to draw again and to leave.
        for key in [Key::Again, Key::Again, Key::Leave] {
            keys.try_send(key).unwrap();
        }
        let mut drawn = 0;
        let draw = |_: &Sample, _: Option<&str>| {
            drawn += 1;
            Ok(())
        };
        let ended = live(&mut watching, PATIENCE, first, &mut typed, draw);
        timeout(PATIENCE / 2, ended).await.unwrap().unwrap();
        assert_eq!(drawn, 2);
        drop(watching);
        server.await.unwrap();
    }
}
