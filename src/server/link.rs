use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::budget::Share;
use super::stream::Stream;
use crate::resp::{Protocol, Reply};
use crate::session::Client;

/// What is read at a time, at least.
const CHUNK: usize = 16 * 1024;

/// The most that a request's announcement makes us set aside before its bytes arrive.
const AHEAD: usize = KEEP;

/// Replies waiting to be sent that are sent before the next command is begun.
const FLUSH_AT: usize = 64 * 1024;

/// A buffer that has grown beyond this is given back when it is empty.
const KEEP: usize = 256 * 1024;

/// How long a refused connection may take to read why.
const LINGER: Duration = Duration::from_secs(1);

/// What reading brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Bytes, or nothing yet.
    Some,
    /// The client sends no more.
    End,
    /// Nothing: the request under way needs more memory than is left for all requests.
    Refused,
}

/// A stream and its two buffers.
#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    pub(super) input: BytesMut,
    output: BytesMut,
    /// The most that the input has held.
    largest: usize,
    share: Share,
    client: Arc<Client>,
    /// When the socket last took something and not all; none when nothing waits.
    stuck_since: Option<Instant>,
}

impl Link {
    pub(super) fn new(stream: Stream, client: Arc<Client>, share: Share) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            largest: 0,
            share,
            client,
            stuck_since: None,
        }
    }

    /// Waits until there is something to read, or room for what waits to be written.
    pub(super) async fn ready(&self, read: bool) -> io::Result<()> {
        if read && self.stream.has_more() {
            // Another task gets its turn all the same.
            tokio::task::coop::consume_budget().await;
            return Ok(());
        }
        let interest = match (read, self.is_drained()) {
            (true, true) => Interest::READABLE,
            (true, false) => Interest::READABLE | Interest::WRITABLE,
            (false, false) => Interest::WRITABLE,
            (false, true) => return std::future::pending().await,
        };
        self.stream.socket().ready(interest).await.map(|_| ())
    }

    /// Whether the client has hung up, although bytes of it are still unread.
    pub(super) async fn has_hung_up(&self) -> io::Result<bool> {
        Ok(self.stream.socket().ready(Interest::READABLE).await?.is_read_closed())
    }

    /// Reads what is there. `missing` is how much the request under way still needs.
    pub(super) fn receive(&mut self, missing: usize) -> io::Result<Received> {
        if self.input.is_empty() && self.largest > KEEP {
            // What a large request took is given back.
            self.input = BytesMut::new();
            self.largest = 0;
            self.shrink();
        }
        if self.input.capacity() - self.input.len() < CHUNK / 4 {
            // Doubling, so that an announced length alone takes little memory.
            let more = missing.min(self.input.len().max(AHEAD)).max(CHUNK);
            if !self.share.resize(self.input.len() + more + self.output.capacity()) {
                return Ok(Received::Refused);
            }
            self.input.reserve(more);
        }
        match self.stream.read(&mut self.input) {
            Ok(0) => Ok(Received::End),
            Ok(read) => {
                self.largest = self.largest.max(self.input.len());
                self.client.note_input(read, self.input.len());
                Ok(Received::Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Some),
            Err(error) => Err(error),
        }
    }

    /// Puts a reply behind those that wait. An error where it needs more memory than is left for all replies.
    pub(super) fn push(&mut self, reply: &Reply, protocol: Protocol) -> io::Result<()> {
        reply.encode(protocol, &mut self.output);
        let held = self.input.capacity() + self.output.capacity();
        if self.output.len() > KEEP && !self.share.resize(held) {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "the replies of all clients are larger than server.buffer_bytes_max",
            ));
        }
        Ok(())
    }

    /// Gives back what the buffers don't hold any more.
    fn shrink(&mut self) {
        let less = self.share.resize(self.input.capacity() + self.output.capacity());
        debug_assert!(less, "giving back is never refused");
    }

    /// Shows others which command takes its time.
    pub(super) fn note_running(&self, index: usize) {
        self.client.note_commands(0, Some(index), Instant::now());
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.output.len()
    }

    /// Whether all that was said has been given to the socket.
    pub(super) fn is_drained(&self) -> bool {
        self.output.is_empty() && !self.stream.has_unsent()
    }

    /// Since when nothing could be written, though something waits.
    pub(super) fn stuck_since(&self) -> Instant {
        self.stuck_since.unwrap_or_else(Instant::now)
    }

    /// Whether so much waits that it should go before the next command.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() >= FLUSH_AT
    }

    /// Writes as much as the socket takes now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let (mut written, mut moved) = (0, false);
        while !self.is_drained() {
            match self.stream.write(&self.output) {
                Ok(count) => {
                    moved = true;
                    written += count;
                    self.output.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if written > 0 {
            self.client.note_output(written, self.output.len());
        }
        if self.is_drained() {
            self.stuck_since = None;
        } else if moved || self.stuck_since.is_none() {
            self.stuck_since = Some(Instant::now());
        }
        if self.output.is_empty() && self.output.capacity() > KEEP {
            self.output = BytesMut::new();
            self.shrink();
        }
        Ok(())
    }

    /// Ends the connection so that the client can read the last reply: closing a socket with
    /// unread bytes resets it, and a reset overtakes what was written.
    pub(super) async fn close(&mut self, patience: Duration) {
        let ended = tokio::time::timeout(patience, async {
            self.finish().await?;
            self.stream.end();
            self.finish().await?;
            drain(self.stream.socket()).await
        });
        if let Ok(Err(error)) = ended.await {
            tracing::debug!(%error, "a connection was gone before it was closed");
        }
    }

    /// Ends the connection at once. Through TLS it still says so, if nothing else is to be said first: without
    /// that word a client could not tell an end from a wire that was cut.
    pub(super) fn break_off(&mut self) {
        if self.is_drained() {
            self.stream.end();
            if let Err(error) = self.flush() {
                tracing::debug!(%error, "a connection was gone before it was broken off");
            }
        }
    }

    /// Writes all that waits.
    async fn finish(&mut self) -> io::Result<()> {
        while !self.is_drained() {
            self.ready(false).await?;
            self.flush()?;
        }
        Ok(())
    }

    /// Tells a client that was not taken why.
    pub(super) async fn refuse(stream: TcpStream, why: &'static str) {
        let mut line = BytesMut::new();
        Reply::Error(why.to_owned()).encode(Protocol::Resp2, &mut line);
        let told = tokio::time::timeout(LINGER, async {
            stream.writable().await?;
            stream.try_write(&line)?;
            drain(&stream).await
        });
        if let Ok(Err(error)) = told.await {
            tracing::debug!(%error, "a refused connection was gone before it was told");
        }
    }
}

/// Says that nothing follows, and reads what still comes until the client hangs up too.
async fn drain(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).shutdown(Shutdown::Write)?;
    let mut scrap = vec![0_u8; CHUNK];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut scrap) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
