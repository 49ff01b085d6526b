//! What a connection remembers between its commands.
//!
//! One connection is one [`Session`]; nobody else sees into it, and it ends
//! with the connection. What other connections may know of it (CLIENT LIST) and
//! do to it (CLIENT KILL) goes through its [`Client`], which the session and
//! the list of all [`Clients`] share.
//!
//! ```text
//!   Session ── id, protocol, namespace, attributes, cursors, open transaction
//!      └─ Arc<Client> ── address, name, library, counters, kill switch
//!                └─ Clients: everybody connected
//! ```
//!
//! # Invariants
//!
//! * A session without a socket is the same as one with: nothing here does IO.
//! * What a session keeps is bounded: cursors in number and in what they hold, names in length.
//! * [`Session::close`] and [`Session::reset`] leave nothing of the former user's state.
//!
//! Not here: sockets and buffers (`server`), what commands do (`command`).

mod attributes;
mod clients;
pub mod cursor;

use std::sync::Arc;
use std::time::Duration;

pub use attributes::{Attributes, DocumentFormat, ObjectIdFormat};
pub use clients::{Client, Clients, Library};
pub use cursor::Cursors;

use tokio::time::Instant;

use crate::access::{Account, DEFAULT, Login, Permit, Users};
use crate::config::Config;
use crate::metadata::OpenTransaction;
use crate::resp::Protocol;

/// Which replies a client wants to get (CLIENT REPLY).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// All of them.
    #[default]
    On,
    /// None until `CLIENT REPLY ON`.
    Off,
    /// All but that of the next command.
    SkipNext,
    /// None for the command that is running; then all again.
    Skip,
}

/// Which request something is about: the connection and the number of the command on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestId {
    /// The id of the client.
    pub client: u64,
    /// 1 for its first command.
    pub command: u64,
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.client, self.command)
    }
}

fn cursors(defaults: &Config) -> Cursors {
    Cursors::new(defaults.session.cursors_max, defaults.session.cursor_bytes_max)
}

/// Wrong passwords after which a connection ends.
const FAILURES_MAX: u32 = 10;

/// Whether somebody has logged in.
#[derive(Debug)]
enum Standing {
    /// Nobody yet: the default user, if that asks for no password.
    New,
    In(Login),
    /// The user is gone, or may not log in any more.
    Out,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    client: Arc<Client>,
    /// What it starts with, and returns to.
    defaults: Arc<Config>,
    protocol: Protocol,
    /// The current namespace, as NAMESPACE USE left it.
    pub namespace: String,
    /// How documents look on the wire.
    pub attributes: Attributes,
    /// Queries that have more to give.
    pub cursors: Cursors,
    /// Which replies are sent.
    pub replies: Replies,
    /// The open transaction of BEGIN; dropping it rolls it back.
    pub transaction: Option<OpenTransaction>,
    /// SNAPSHOTREAD: what queries of a transaction read need not hold at COMMIT.
    pub snapshot_read: bool,
    login: Standing,
    /// What allows the command that is running.
    permit: Option<Permit>,
    /// What the open transaction was allowed, to be judged again when it is to take effect.
    allowed: Vec<Permit>,
    /// Wrong passwords so far.
    failures: u32,
    closing: bool,
    /// Commands that the client's own counters don't know of yet.
    unpublished: u64,
    last_command: Option<usize>,
    /// Commands so far.
    sequence: u64,
    /// When the last thing happened that was timed.
    lap: Instant,
}

impl Session {
    /// A fresh session for this client.
    pub fn new(client: Arc<Client>, defaults: Arc<Config>) -> Self {
        Self {
            protocol: Protocol::default(),
            namespace: defaults.session.namespace.clone(),
            attributes: Attributes::from(&defaults.session),
            cursors: cursors(&defaults),
            replies: Replies::default(),
            transaction: None,
            snapshot_read: false,
            login: Standing::New,
            permit: None,
            allowed: Vec::new(),
            failures: 0,
            closing: false,
            unpublished: 0,
            last_command: None,
            sequence: 0,
            lap: Instant::now(),
            client,
            defaults,
        }
    }

    /// A number that no other connection of this process has or will have.
    pub fn id(&self) -> u64 {
        self.client.id()
    }

    /// The part of this session that others may see.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// How replies are encoded.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// HELLO.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.set_resp3(protocol == Protocol::Resp3);
    }

    /// Whether BEGIN is in force.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Who it is now; `None` where somebody has to log in.
    pub fn account(&mut self, users: &Users) -> Option<Arc<Account>> {
        if let Standing::New = self.login
            && let Some(login) = users.unnamed(self.client.address().ip())
        {
            self.client.set_user(login.account().user.name.clone());
            self.login = Standing::In(login);
        }
        let Standing::In(login) = &mut self.login else { return None };
        if users.refresh(login) {
            return Some(Arc::clone(login.account()));
        }
        self.log_out();
        self.login = Standing::Out;
        None
    }

    /// The name of who has logged in; the default user's where nobody has.
    pub fn user(&self) -> &str {
        match &self.login {
            Standing::In(login) => &login.account().user.name,
            Standing::New | Standing::Out => DEFAULT,
        }
    }

    /// Who has logged in, if anybody has.
    pub const fn login(&self) -> Option<&Login> {
        match &self.login {
            Standing::In(login) => Some(login),
            Standing::New | Standing::Out => None,
        }
    }

    /// AUTH. Another user finds nothing of the former one.
    pub fn log_in(&mut self, login: Login) {
        let name = &login.account().user.name;
        if !matches!(&self.login, Standing::In(former) if former.account().user.name == *name) {
            self.log_out();
        }
        self.failures = 0;
        self.client.set_user(login.account().user.name.clone());
        self.login = Standing::In(login);
    }

    /// Notes a wrong password; too many end the connection.
    pub fn note_failure(&mut self) {
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            self.close_after_reply();
        }
    }

    /// Forgets who it was, and what that user had open.
    fn log_out(&mut self) {
        self.transaction = None;
        self.allowed.clear();
        self.permit = None;
        self.cursors = cursors(&self.defaults);
        self.login = Standing::New;
    }

    /// What allows the command that is running.
    pub fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }

    /// Notes what allows the next command.
    pub fn set_permit(&mut self, permit: Option<Permit>) {
        if self.transaction.is_none() {
            self.allowed.clear();
        } else if let Some(permit) = &permit
            && !permit.needs().is_empty()
            && !self.allowed.iter().any(|known| known.is_like(permit))
        {
            self.allowed.push(permit.clone());
        }
        self.permit = permit;
    }

    /// What the open transaction was allowed so far.
    pub fn allowed(&self) -> &[Permit] {
        &self.allowed
    }

    /// Notes a command that begins, by its place in the table of commands.
    pub fn note_command(&mut self, index: usize) {
        self.unpublished += 1;
        self.sequence += 1;
        self.last_command = Some(index);
    }

    /// The command that was noted last.
    pub fn request(&self) -> RequestId {
        RequestId { client: self.client.id(), command: self.sequence }
    }

    /// When the last thing happened that was timed: the end of a command is the beginning of the next.
    pub const fn lap(&self) -> Instant {
        self.lap
    }

    /// Ends one lap and begins the next; gives how long it was.
    pub fn next_lap(&mut self, now: Instant) -> Duration {
        let took = now.saturating_duration_since(self.lap);
        self.lap = now;
        took
    }

    /// Shows others what was noted. Done once for all commands that arrived together, as it takes a lock.
    pub fn publish(&mut self, now: Instant) {
        self.client.note_commands(self.unpublished, self.last_command, now);
        self.unpublished = 0;
    }

    /// SESSION.CLOSE: the login, cursors and the open transaction go, attributes, namespace, name and library
    /// return to the start. The protocol version is kept.
    pub fn close(&mut self) {
        self.log_out();
        self.snapshot_read = false;
        self.attributes = Attributes::from(&self.defaults.session);
        self.namespace.clone_from(&self.defaults.session.namespace);
        self.client.set_name(None);
        self.client.set_library(Library::default());
    }

    /// RESET: as [`Session::close`], and replies are on and in RESP2 again. The library's name
    /// is kept, as in Redis.
    pub fn reset(&mut self) {
        let library = self.client.library();
        self.close();
        self.client.set_library(library);
        self.set_protocol(Protocol::Resp2);
        self.replies = Replies::On;
        self.client.set_no_evict(false);
        self.client.set_no_touch(false);
    }

    /// Ends the connection after the reply of the command that is running.
    pub fn close_after_reply(&mut self) {
        self.closing = true;
    }

    /// Whether the connection is to end after the reply.
    pub const fn is_closing(&self) -> bool {
        self.closing
    }

    /// Called once after each command: whether its reply is sent.
    pub fn reply_is_wanted(&mut self) -> bool {
        match self.replies {
            Replies::On => true,
            Replies::Off => false,
            Replies::SkipNext => {
                self.replies = Replies::Skip;
                false
            }
            Replies::Skip => {
                self.replies = Replies::On;
                false
            }
        }
    }
}
