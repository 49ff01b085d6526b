use std::net::SocketAddr;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Error;

/// A connection to the node: sends one command, reads one reply, in RESP2.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(1 << 16) })
    }

    pub(crate) async fn call(&mut self, argv: &[&str]) -> Result<Answer, Error> {
        let mut frame = format!("*{}\r\n", argv.len()).into_bytes();
        for argument in argv {
            frame.extend_from_slice(format!("${}\r\n{argument}\r\n", argument.len()).as_bytes());
        }
        self.stream.write_all(&frame).await?;
        loop {
            if let Some((frame, _, _)) = decode_bytes_mut(&mut self.buffer)? {
                return Ok(Answer::from(frame));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

/// A reply, as the story looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A simple or a bulk string.
    Text(String),
    Error(String),
    Integer(i64),
    Null,
    List(Vec<Answer>),
}

impl From<BytesFrame> for Answer {
    fn from(frame: BytesFrame) -> Self {
        match frame {
            BytesFrame::SimpleString(bytes) | BytesFrame::BulkString(bytes) => {
                Self::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            BytesFrame::Error(text) => Self::Error(text.to_string()),
            BytesFrame::Integer(number) => Self::Integer(number),
            BytesFrame::Array(frames) => Self::List(frames.into_iter().map(Self::from).collect()),
            BytesFrame::Null => Self::Null,
        }
    }
}

impl Answer {
    pub(crate) fn list(&self) -> &[Answer] {
        if let Self::List(items) = self { items } else { &[] }
    }

    /// A field of a map, which RESP2 lays out flat.
    pub(crate) fn field(&self, name: &str) -> Option<&Answer> {
        let (pairs, _) = self.list().as_chunks::<2>();
        pairs
            .iter()
            .find(|[key, _]| matches!(key, Self::Text(text) if text == name))
            .map(|[_, value]| value)
    }

    /// On one line, as the story prints it.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
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
