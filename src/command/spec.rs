use std::future::Future;
use std::pin::Pin;

use super::{Args, Context};
use crate::error::{Error, Result};
use crate::resp::Reply;

/// A handler that has begun and awaits something.
pub type Pending<'a> = Pin<Box<dyn Future<Output = Result<Reply>> + Send + 'a>>;

/// How a command is run.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// Answers at once.
    Sync(fn(&mut Context<'_>, &Args) -> Result<Reply>),
    /// Awaits something; made with `run!`.
    Async(for<'a> fn(&'a mut Context<'_>, Args) -> Pending<'a>),
    /// Has subcommands and does nothing itself. The function makes the error for a
    /// subcommand that isn't there.
    Container(fn(&str) -> Error),
    /// As [`Handler::Container`], and alone it answers by the first function.
    AloneOrContainer(fn(&mut Context<'_>, &Args) -> Result<Reply>, fn(&str) -> Error),
}

impl Handler {
    /// Makes the error for a missing subcommand, where there are subcommands.
    pub const fn unknown_subcommand(&self) -> Option<fn(&str) -> Error> {
        match self {
            Self::Container(unknown) | Self::AloneOrContainer(_, unknown) => Some(*unknown),
            Self::Sync(_) | Self::Async(_) => None,
        }
    }
}

/// Makes a [`Handler::Async`] of an `async fn(&mut Context<'_>, Args) -> Result<Reply>`.
macro_rules! run {
    ($handler:path) => {
        $crate::command::Handler::Async(|ctx, args| Box::pin($handler(ctx, args)))
    };
}
pub(crate) use run;

/// What kind of command it is: what Redis calls flags and categories.
pub mod flags {
    /// May change what is stored.
    pub const WRITE: u16 = 1;
    /// Reads what is stored.
    pub const READ: u16 = 1 << 1;
    /// Constant time, no IO.
    pub const FAST: u16 = 1 << 2;
    /// For those who run the server.
    pub const ADMIN: u16 = 1 << 3;
    /// May wait for somebody else.
    pub const BLOCKING: u16 = 1 << 4;
    /// May destroy what can't be restored.
    pub const DANGEROUS: u16 = 1 << 5;
    /// Refused between BEGIN and COMMIT.
    pub const NO_TRANSACTION: u16 = 1 << 6;
    /// Answers before a client has logged in.
    pub const NO_AUTH: u16 = 1 << 7;
    /// Is about the connection itself.
    pub const CONNECTION: u16 = 1 << 8;
    /// Is given secrets: its arguments are never logged.
    pub const SECRET: u16 = 1 << 10;
    /// Exists in Redis, and always answers with an error that says what to use instead.
    pub const REFUSED: u16 = 1 << 9;
}

/// Which chapter of the manual a command is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The connection itself.
    Connection,
    /// What the connection remembers.
    Session,
    /// Namespaces.
    Namespace,
    /// Buckets and their lifecycle.
    Bucket,
    /// Documents and queries.
    Document,
    /// Indexes.
    Index,
    /// BEGIN, COMMIT, ROLLBACK.
    Transaction,
    /// Members, shards, purges, audit.
    Cluster,
    /// The running server.
    Server,
}

impl Group {
    /// As COMMAND DOCS shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Session => "session",
            Self::Namespace => "namespace",
            Self::Bucket => "bucket",
            Self::Document => "document",
            Self::Index => "index",
            Self::Transaction => "transactions",
            Self::Cluster => "cluster",
            Self::Server => "server",
        }
    }
}

/// What an argument is, in the words of COMMAND DOCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any bytes.
    String,
    /// A whole number.
    Integer,
    /// A glob pattern.
    Pattern,
    /// Only its token, nothing after it.
    PureToken,
    /// One of its parts.
    OneOf,
    /// All of its parts, in order.
    Block,
}

impl Kind {
    /// As COMMAND DOCS shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Pattern => "pattern",
            Self::PureToken => "pure-token",
            Self::OneOf => "oneof",
            Self::Block => "block",
        }
    }
}

/// One argument of a command, for COMMAND DOCS and the hints of redis-cli.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// In lower case.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The word that stands before it, in upper case.
    pub token: Option<&'static str>,
    /// Whether it may be left out.
    pub optional: bool,
    /// Whether it may come several times.
    pub multiple: bool,
    /// The parts of a [`Kind::OneOf`] or a [`Kind::Block`].
    pub parts: &'static [Argument],
}

impl Argument {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, token: None, optional: false, multiple: false, parts: &[] }
    }

    /// Any bytes.
    pub const fn string(name: &'static str) -> Self {
        Self::new(name, Kind::String)
    }

    /// A whole number.
    pub const fn integer(name: &'static str) -> Self {
        Self::new(name, Kind::Integer)
    }

    /// A glob pattern.
    pub const fn pattern(name: &'static str) -> Self {
        Self::new(name, Kind::Pattern)
    }

    /// A fixed word; `name` is what the manual calls it, `token` the word itself.
    pub const fn keyword(name: &'static str, token: &'static str) -> Self {
        Self::new(name, Kind::PureToken).after(token)
    }

    /// One of these.
    pub const fn one_of(name: &'static str, parts: &'static [Argument]) -> Self {
        Self { parts, ..Self::new(name, Kind::OneOf) }
    }

    /// These in order, together.
    pub const fn block(name: &'static str, parts: &'static [Argument]) -> Self {
        Self { parts, ..Self::new(name, Kind::Block) }
    }

    /// With this word before it.
    #[must_use]
    pub const fn after(self, token: &'static str) -> Self {
        Self { token: Some(token), ..self }
    }

    /// May be left out.
    #[must_use]
    pub const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// May come several times.
    #[must_use]
    pub const fn multiple(self) -> Self {
        Self { multiple: true, ..self }
    }
}

/// A command: what it is called, how it is used, what runs it.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// In upper case; a subcommand has the name of its container and a space before its own.
    pub name: &'static str,
    /// How many words a call has, all words of the name counted; -n: n or more.
    pub arity: i8,
    /// Of [`flags`], joined.
    pub flags: u16,
    /// The version that brought it.
    pub since: &'static str,
    /// Its chapter.
    pub group: Group,
    /// One sentence.
    pub summary: &'static str,
    /// What its cost grows with.
    pub complexity: &'static str,
    /// In the order in which they come.
    pub arguments: &'static [Argument],
    /// What runs it.
    pub handler: Handler,
}

impl Spec {
    /// Whether it has this one of the [`flags`].
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The name of the container and the own name of a subcommand.
    pub fn subcommand(&self) -> Option<(&'static str, &'static str)> {
        self.name.split_once(' ')
    }

    /// Whether a call of so many words can be right.
    pub fn takes(&self, words: usize) -> bool {
        let bound = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { words >= bound } else { words == bound }
    }

    /// As Redis writes it in messages and CLIENT LIST: `CLIENT|LIST`.
    pub fn full_name(&self) -> String {
        self.name.replace(' ', "|")
    }
}
