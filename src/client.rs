//! A small client of our own protocol, for what this program asks of nodes: the
//! demo, `lethe backup --node`, `lethe replicate`, and what is told to a node from
//! the command line.
//!
//! RESP2, with TLS where the address says so. What a reply means is for the caller to say.
//!
//! Not here: the server's side of the protocol (`resp`).

mod address;
mod stream;

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;
use tokio_util::either::Either;

pub use crate::tls::Trust;
pub use address::{Address, AddressError, Secret};

use crate::tls::TlsError;
use stream::Stream;

/// More of a reply is not read: no node sends as much.
const REPLY_BYTES_MAX: usize = 256 << 20;
/// How long a node may take to accept a connection and a user.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Commands that are sent before the first reply is read: few enough that neither side has to wait for room.
const PIPELINE: usize = 100;

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came from the node is no RESP.
    #[error("the reply is not RESP: {0}")]
    Protocol(#[from] redis_protocol::error::RedisProtocolError),
    /// Nobody is there, or not in time.
    #[error("no connection to {place}: {error}")]
    Unreachable { place: String, error: io::Error },
    /// The node's certificate is not one that we trust, or ours not one that it trusts.
    #[error("no TLS with {place}: {why}")]
    Untrusted { place: String, why: String },
    /// The files with certificates that are to be trusted or shown.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The node does not let this user in: its own words.
    #[error("{0}")]
    NotLetIn(String),
}

/// A connection to a node: sends one command, reads one reply.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    buffer: BytesMut,
}

impl Client {
    pub async fn connect(address: impl ToSocketAddrs) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::on(Either::Left(stream)))
    }

    fn on(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(1 << 16) }
    }

    /// Connects to where an address says, as the user it names, in bounded time.
    ///
    /// # Errors
    /// That nobody is there, that one side does not trust the other, or that the node does not let this user in.
    pub async fn open(address: &Address) -> Result<Self, Error> {
        let away = |error| Error::Unreachable { place: address.place(), error };
        let silent = || away(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        let connected = timeout(CONNECT_TIMEOUT, Box::pin(stream::connect(address))).await;
        let mut client = Self::on(connected.map_err(|_elapsed| silent())??);
        if let Some(password) = &address.password {
            let argv: Vec<&str> = ["AUTH"]
                .into_iter()
                .chain(address.user.as_deref())
                .chain([password.reveal()])
                .collect();
            let answer = timeout(CONNECT_TIMEOUT, client.call(&argv)).await;
            if let Answer::Error(error) = answer.map_err(|_elapsed| silent())?? {
                return Err(Error::NotLetIn(error));
            }
        }
        Ok(client)
    }

    /// Sends one command and waits for its reply.
    pub async fn call<W: AsRef<[u8]>>(&mut self, argv: &[W]) -> Result<Answer, Error> {
        let mut frames = Vec::new();
        encode(&mut frames, argv);
        self.send(&frames).await?;
        self.read().await
    }

    /// Sends many commands without waiting in between; gives their replies in order.
    pub async fn call_all<W: AsRef<[u8]>>(
        &mut self,
        commands: &[Vec<W>],
    ) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(commands.len());
        for some in commands.chunks(PIPELINE) {
            let mut frames = Vec::new();
            for argv in some {
                encode(&mut frames, argv);
            }
            self.send(&frames).await?;
            for _ in some {
                answers.push(self.read().await?);
            }
        }
        Ok(answers)
    }

    async fn send(&mut self, frames: &[u8]) -> Result<(), Error> {
        self.stream.write_all(frames).await?;
        // With TLS what is written may still wait.
        Ok(self.stream.flush().await?)
    }

    async fn read(&mut self) -> Result<Answer, Error> {
        loop {
            if let Some((frame, _, _)) = decode_bytes_mut(&mut self.buffer)? {
                return Ok(Answer::from(frame));
            }
            if self.buffer.len() > REPLY_BYTES_MAX {
                return Err(
                    io::Error::new(io::ErrorKind::InvalidData, "the reply is too large").into()
                );
            }
            // Decoding begins at the front each time: large pieces keep it from doing so often.
            self.buffer.reserve(self.buffer.len().max(1 << 16));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

fn encode<W: AsRef<[u8]>>(frames: &mut Vec<u8>, argv: &[W]) {
    frames.extend_from_slice(format!("*{}\r\n", argv.len()).as_bytes());
    for argument in argv {
        let argument = argument.as_ref();
        frames.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        frames.extend_from_slice(argument);
        frames.extend_from_slice(b"\r\n");
    }
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A simple or a bulk string.
    Text(String),
    /// A bulk string that is no text.
    Bytes(Bytes),
    Error(String),
    Integer(i64),
    Null,
    List(Vec<Answer>),
}

impl From<BytesFrame> for Answer {
    fn from(frame: BytesFrame) -> Self {
        match frame {
            BytesFrame::SimpleString(bytes) | BytesFrame::BulkString(bytes) => {
                match std::str::from_utf8(&bytes) {
                    Ok(text) => Self::Text(text.to_owned()),
                    Err(_) => Self::Bytes(bytes),
                }
            }
            BytesFrame::Error(text) => Self::Error(text.to_string()),
            BytesFrame::Integer(number) => Self::Integer(number),
            BytesFrame::Array(frames) => Self::List(frames.into_iter().map(Self::from).collect()),
            BytesFrame::Null => Self::Null,
        }
    }
}

impl Answer {
    pub fn list(&self) -> &[Answer] {
        if let Self::List(items) = self { items } else { &[] }
    }

    /// A string, whether it is text or not.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            Self::Error(_) | Self::Integer(_) | Self::Null | Self::List(_) => None,
        }
    }

    /// A string that is text.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A field of a map, which RESP2 lays out flat.
    pub fn field(&self, name: &str) -> Option<&Answer> {
        let (pairs, _) = self.list().as_chunks::<2>();
        pairs
            .iter()
            .find(|[key, _]| matches!(key, Self::Text(text) if text == name))
            .map(|[_, value]| value)
    }

    /// On one line, for people.
    pub fn line(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Error(text) => format!("(error) {text}"),
            Self::Integer(number) => number.to_string(),
            Self::Null => "(nil)".to_owned(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::line).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }
}
