//! A small client of our own protocol, for what this program asks of nodes: the
//! demo, `lethe backup --node`, `lethe replicate`.
//!
//! One command at a time, RESP2, no TLS. What a reply means is for the caller to say.
//!
//! Not here: the server's side of the protocol (`resp`).

use std::io;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};

/// More of a reply is not read: no node sends as much.
const REPLY_BYTES_MAX: usize = 256 << 20;

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came from the node is no RESP.
    #[error("the reply is not RESP: {0}")]
    Protocol(#[from] redis_protocol::error::RedisProtocolError),
}

/// A connection to a node: sends one command, reads one reply.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Client {
    pub async fn connect(address: impl ToSocketAddrs) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(1 << 16) })
    }

    pub async fn call<W: AsRef<[u8]>>(&mut self, argv: &[W]) -> Result<Answer, Error> {
        let mut frame = format!("*{}\r\n", argv.len()).into_bytes();
        for argument in argv {
            let argument = argument.as_ref();
            frame.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            frame.extend_from_slice(argument);
            frame.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&frame).await?;
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
