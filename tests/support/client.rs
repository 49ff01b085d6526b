//! A small RESP2 and RESP3 client that keeps every type of reply apart.
//!
//! Client libraries turn simple strings, bulk strings and errors into values of
//! their own; a test of the wire wants to see which one came. Blocking, one
//! connection, with a deadline on every read so that a lost reply fails the test.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// No reply of a test takes longer than this.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A reply, exactly as it stood on the wire.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`.
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Double(f64),
    Boolean(bool),
    BigNumber(String),
    Verbatim(String),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: std::net::SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Sends one command and waits for its reply. An error reply is a value, not an `Err`.
    pub(crate) fn call<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> io::Result<Value> {
        self.send(argv)?;
        self.read()
    }

    /// Sends one command and waits for nothing.
    pub(crate) fn send<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> io::Result<()> {
        self.stream.get_mut().write_all(&encode(argv))
    }

    /// The next reply.
    pub(crate) fn read(&mut self) -> io::Result<Value> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed(&line))?;
        Ok(match kind {
            "+" => Value::Simple(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Integer(number(rest)?),
            "_" => Value::Null,
            "," => Value::Double(double(rest)?),
            "#" => Value::Boolean(rest == "t"),
            "(" => Value::BigNumber(rest.to_owned()),
            "$" | "=" | "!" => {
                let Ok(length) = usize::try_from(number(rest)?) else { return Ok(Value::Null) };
                let bytes = self.bytes(length)?;
                let text = || String::from_utf8_lossy(&bytes).into_owned();
                match kind {
                    "$" => Value::Bulk(bytes),
                    "!" => Value::Error(text()),
                    _ => Value::Verbatim(text().chars().skip(4).collect()),
                }
            }
            "*" | "~" | ">" => {
                let Ok(count) = usize::try_from(number(rest)?) else { return Ok(Value::Null) };
                let items = (0..count).map(|_| self.read()).collect::<io::Result<_>>()?;
                match kind {
                    "*" => Value::Array(items),
                    "~" => Value::Set(items),
                    _ => Value::Push(items),
                }
            }
            "%" => {
                let pairs = (0..number(rest)?).map(|_| Ok((self.read()?, self.read()?)));
                Value::Map(pairs.collect::<io::Result<_>>()?)
            }
            _ => return Err(malformed(&line)),
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            match byte {
                [b'\n'] if bytes.last() == Some(&b'\r') => break,
                [other] => bytes.push(other),
            }
        }
        bytes.pop();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn encode<A: AsRef<[u8]>>(argv: &[A]) -> Vec<u8> {
    let mut frame = format!("*{}\r\n", argv.len()).into_bytes();
    for argument in argv {
        let argument = argument.as_ref();
        frame.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        frame.extend_from_slice(argument);
        frame.extend_from_slice(b"\r\n");
    }
    frame
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| malformed(text))
}

fn double(text: &str) -> io::Result<f64> {
    text.parse().map_err(|_| malformed(text))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a RESP reply: {what:?}"))
}
