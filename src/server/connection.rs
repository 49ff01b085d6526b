use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep, sleep_until};

use super::budget::Share;
use super::link::{Link, Received};
use super::stream::Stream;
use crate::command::{Context, Ended, Running, Services, Step, dispatch};
use crate::config::ServerConfig;
use crate::resp::{Limits, Reply, Request, Scanner, Words};
use crate::session::{Client, Session};

/// Bytes that are read while a command runs, only to learn whether the client is still there.
const READ_AHEAD: usize = 64 * 1024;

/// Commands after which a connection with many of them may have to let others go first.
const TURN: u32 = 64;

/// How often a client is looked after that has more than that waiting.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// How long a connection that ends may take to read what it was sent.
const LINGER: Duration = Duration::from_secs(1);

/// The same where nobody is expected to read any more.
const LINGER_BRIEFLY: Duration = Duration::from_millis(100);

/// How long commands that are under way when the server stops are still answered, with an error.
const LAST_CALL: Duration = Duration::from_millis(100);

/// Words and bytes of a request of somebody who has yet to log in: what that takes, and no memory that others need.
const STRANGERS_WORDS_MAX: usize = 10;
const STRANGERS_BYTES_MAX: usize = 16 * 1024;

/// Commands that try to make a browser's request look like ours: nobody who speaks the protocol sends them first.
const OF_A_BROWSER: [&[u8]; 2] = [b"POST", b"HOST:"];

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: Stream,
    client: Arc<Client>,
    services: Arc<Services>,
    share: Share,
) {
    let id = client.id();
    let config = &services.config.server;
    let mut connection = Connection {
        client: Arc::clone(&client),
        link: Link::new(stream, Arc::clone(&client), share),
        session: Session::new(Arc::clone(&client), Arc::clone(&services.config)),
        scanner: Scanner::new(limits(config, false)),
        is_known: false,
        alert: Alert::new(client.alert()),
        idle: config.idle_timeout.map(|after| Box::pin(tokio::time::sleep(after))),
        active: Instant::now(),
        hung_up: None,
        last_call: None,
    };
    let how = connection.run(&services).await;
    match how {
        Ok(End::Polite) => connection.link.close(LINGER).await,
        Ok(End::Quick) => connection.link.close(LINGER_BRIEFLY).await,
        Ok(End::Abrupt) => connection.link.break_off(),
        Err(error) => tracing::debug!(client = id, %error, "connection lost"),
    }
    // The list is left first and the socket closed then, so whoever sees the end finds the place free.
    services.clients.disconnect(id);
}

/// What a request may have; that of somebody who is not known less.
fn limits(config: &ServerConfig, is_known: bool) -> Limits {
    let most = |all: usize, strangers: usize| if is_known { all } else { all.min(strangers) };
    Limits {
        frame_bytes: most(config.request_bytes_max, STRANGERS_BYTES_MAX),
        arguments: most(config.arguments_max, STRANGERS_WORDS_MAX),
        nesting: config.nesting_max,
        inline_bytes: most(config.inline_bytes_max, STRANGERS_BYTES_MAX),
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// What waits is written first, and the client gets time to read it.
    Polite,
    /// As [`End::Polite`], in less time.
    Quick,
    /// At once.
    Abrupt,
}

#[derive(Debug)]
struct Connection {
    client: Arc<Client>,
    link: Link,
    session: Session,
    scanner: Scanner,
    /// Whether somebody has logged in, or needs not to: the scanner has the limits of that.
    is_known: bool,
    alert: Alert,
    idle: Option<Pin<Box<Sleep>>>,
    /// When something last came.
    active: Instant,
    /// When the client said that it sends no more.
    hung_up: Option<Instant>,
    /// Until when commands are answered while the server stops.
    last_call: Option<Instant>,
}

impl Connection {
    async fn run(&mut self, services: &Arc<Services>) -> io::Result<End> {
        loop {
            let config = &services.config.server;
            if self.client.is_killed() {
                return Ok(End::Abrupt);
            }
            if let Some(end) = self.run_buffered(services).await? {
                return Ok(end);
            }
            let stalled = self.link.waiting() >= config.output_bytes_max;
            self.link.flush()?;
            let choked = self.link.waiting() >= config.output_bytes_max;
            if stalled && !choked {
                // Commands have arrived already that had no room for their replies.
                tokio::task::coop::consume_budget().await;
                continue;
            }
            if !choked && self.hung_up.is_some() {
                return Ok(End::Quick);
            }
            if services.is_stopping() && self.last_call.is_none() {
                self.last_call = Some(Instant::now() + LAST_CALL);
            }
            if let Some(end) = self.wait(services, choked).await? {
                return Ok(end);
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, services: &Services, choked: bool) -> io::Result<Option<End>> {
        let config = &services.config.server;
        let patience = choked.then(|| self.link.stuck_since() + config.output_timeout);
        tokio::select! {
            // A client that never pauses can't keep the first two from being seen.
            biased;
            () = until(self.last_call) => {
                Ok(Some(if self.link.is_drained() { End::Abrupt } else { End::Quick }))
            }
            () = until(patience) => {
                count_one(&services.stats.closed_slow);
                let (client, waiting) = (self.client.id(), self.link.waiting());
                if let Some(suppressed) = services.warnings.admit(Instant::now()) {
                    tracing::warn!(client, waiting, suppressed, "closing a connection that does not read its replies");
                }
                Ok(Some(End::Abrupt))
            }
            ready = self.link.ready(!choked) => {
                ready?;
                if choked {
                    return Ok(None);
                }
                self.active = Instant::now();
                self.session.next_lap(self.active);
                let missing = self.scanner.missing(&self.link.input);
                match self.link.receive(missing)? {
                    Received::Some => Ok(None),
                    Received::End => {
                        self.hung_up = Some(self.active);
                        Ok(None)
                    }
                    Received::Refused => {
                        count_one(&services.stats.closed_memory);
                        let client = self.client.id();
                        if let Some(suppressed) = services.warnings.admit(self.active) {
                            tracing::warn!(client, missing, suppressed, "a request had no room beside those of others");
                        }
                        let busy = "ERR the requests of all clients are too large together, try again later";
                        self.answer(&Reply::Error(busy.to_owned()))?;
                        Ok(Some(End::Polite))
                    }
                }
            }
            // What it is about is seen by the caller's next turn.
            () = self.alert.raised() => Ok(None),
            () = expired(self.idle.as_mut(), self.active, config), if !choked => {
                count_one(&services.stats.closed_idle);
                if let Some(suppressed) = services.warnings.admit(Instant::now()) {
                    tracing::info!(client = self.client.id(), suppressed, "closing an idle connection");
                }
                self.answer(&Reply::Error("ERR idle timeout".to_owned()))?;
                Ok(Some(End::Polite))
            }
        }
    }

    /// Runs the commands that have arrived, one after the other.
    async fn run_buffered(&mut self, services: &Arc<Services>) -> io::Result<Option<End>> {
        let output_max = services.config.server.output_bytes_max;
        let mut count = 0_u32;
        while self.link.waiting() < output_max {
            count += 1;
            if count.is_multiple_of(TURN) {
                // Others on this thread get their turn.
                tokio::task::coop::consume_budget().await;
            }
            let is_known =
                self.session.login().is_some() || self.session.account(&services.users).is_some();
            if is_known != self.is_known {
                self.is_known = is_known;
                self.scanner.set_limits(limits(&services.config.server, is_known));
            }
            let words = match self.scanner.next(&mut self.link.input) {
                Ok(Some(Request::Command(words))) => words,
                Ok(Some(Request::Nested)) => {
                    let refused = "ERR the words of a command are bulk strings, not arrays";
                    self.answer(&Reply::Error(refused.to_owned()))?;
                    continue;
                }
                Ok(None) => break,
                Err(error) => {
                    count_one(&services.stats.closed_protocol);
                    if let Some(suppressed) = services.warnings.admit(self.active) {
                        tracing::info!(client = self.client.id(), %error, suppressed, "protocol error");
                    }
                    self.answer(&Reply::Error(format!("ERR Protocol error: {error}")))?;
                    return Ok(Some(End::Polite));
                }
            };
            if is_of_a_browser(&words) {
                if let Some(suppressed) = services.warnings.admit(self.active) {
                    tracing::warn!(
                        client = self.client.id(),
                        address = %self.client.address(),
                        suppressed,
                        "a browser's request, perhaps on behalf of a hostile page: connection closed"
                    );
                }
                return Ok(Some(End::Quick));
            }
            let mut ctx = Context { session: &mut self.session, services };
            let mut ran_on = false;
            let ended = match dispatch(&mut ctx, words) {
                Step::Done(reply) => Ended::Replied(reply),
                Step::Running(running) => {
                    ran_on = true;
                    let watch = Watch {
                        link: &mut self.link,
                        scanner: &self.scanner,
                        client: &self.client,
                        alert: &mut self.alert,
                        hung_up: &mut self.hung_up,
                        grace: services.config.server.hangup_grace,
                    };
                    match watch.run(running).await? {
                        Some(ended) => ended,
                        None => return Ok(Some(End::Abrupt)),
                    }
                }
            };
            if ran_on {
                self.session.next_lap(Instant::now());
            }
            let reply = match ended {
                Ended::Replied(reply) => reply,
                Ended::Panicked(reply) => {
                    self.session.close_after_reply();
                    reply
                }
            };
            self.answer(&reply)?;
            if self.session.is_closing() {
                return Ok(Some(End::Polite));
            }
            if self.link.is_full() {
                self.link.flush()?;
            }
        }
        self.session.publish(self.active);
        Ok(None)
    }

    fn answer(&mut self, reply: &Reply) -> io::Result<()> {
        if self.session.reply_is_wanted() {
            self.link.push(reply, self.session.protocol())?;
        }
        Ok(())
    }
}

/// What is looked after while a command runs.
struct Watch<'a> {
    link: &'a mut Link,
    scanner: &'a Scanner,
    client: &'a Client,
    alert: &'a mut Alert,
    hung_up: &'a mut Option<Instant>,
    grace: Duration,
}

impl Watch<'_> {
    /// Runs a command to its end; `None` when it was dropped because nobody waits for its reply any more.
    async fn run(self, running: Running<'_>) -> io::Result<Option<Ended>> {
        let mut running = pin!(running);
        // Most commands don't wait long: first they get a chance to end without any of the below.
        if let Some(ended) = poll_once(running.as_mut()).await {
            return Ok(Some(ended));
        }
        self.link.note_running(running.index());
        self.link.flush()?;
        loop {
            let read = self.hung_up.is_none() && self.link.input.len() < READ_AHEAD;
            let full = self.hung_up.is_none() && !read;
            let give_up = self.hung_up.map(|since| since + self.grace);
            tokio::select! {
                biased;
                ended = running.as_mut() => return Ok(Some(ended)),
                () = self.alert.raised() => {
                    if self.client.is_killed() {
                        return Ok(None);
                    }
                    if self.client.take_change_of_user()
                        && let Some(ended) = running.revoked()
                    {
                        return Ok(Some(ended));
                    }
                }
                () = until(give_up) => return Ok(None),
                ready = self.link.ready(read) => {
                    ready?;
                    self.link.flush()?;
                    if read {
                        let missing = self.scanner.missing(&self.link.input).min(READ_AHEAD);
                        if self.link.receive(missing)? == Received::End {
                            *self.hung_up = Some(Instant::now());
                        }
                    }
                }
                () = tokio::time::sleep(LOOK_AFTER), if full => {
                    if self.link.has_hung_up().await? {
                        *self.hung_up = Some(Instant::now());
                    }
                }
            }
        }
    }
}

/// Waits for [`Client::wake`], with one registration for many waits.
#[derive(Debug)]
struct Alert {
    source: Arc<Notify>,
    next: Pin<Box<OwnedNotified>>,
}

impl Alert {
    fn new(source: Arc<Notify>) -> Self {
        Self { next: Box::pin(Arc::clone(&source).notified_owned()), source }
    }

    async fn raised(&mut self) {
        self.next.as_mut().await;
        self.next.set(Arc::clone(&self.source).notified_owned());
    }
}

async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match Pin::new(&mut future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// Ends when nothing has come for the idle timeout; never without one.
async fn expired(idle: Option<&mut Pin<Box<Sleep>>>, active: Instant, config: &ServerConfig) {
    let (Some(idle), Some(after)) = (idle, config.idle_timeout) else {
        return std::future::pending().await;
    };
    loop {
        idle.as_mut().await;
        let due = active + after;
        if due <= Instant::now() {
            return;
        }
        // The timer is moved only when it fires, not with each command.
        idle.as_mut().reset(due);
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn is_of_a_browser(words: &Words) -> bool {
    let name = words.get(0).unwrap_or_default();
    OF_A_BROWSER.iter().any(|of| of.eq_ignore_ascii_case(name))
}

fn count_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
