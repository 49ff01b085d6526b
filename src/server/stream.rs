use std::io::{self, BufRead, IoSlice, Read, Write};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::tls::rustls::ServerConnection;

/// Reads of a socket at a time: whoever sends much that holds nothing lets others have their turn.
const READS: usize = 32;

/// A socket, with or without TLS: what of it can be done now, without waiting.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    /// Large, and not on the way of those without.
    Tls(Box<Secured>),
}

/// A socket behind TLS. What both sides hold in between is bounded by the library: a record or two of what came, and 64 KiB
/// of what is to go.
#[derive(Debug)]
pub(super) struct Secured {
    socket: TcpStream,
    session: ServerConnection,
    /// Something is left that has been read from the socket already, or the end.
    has_more: bool,
}

impl From<TlsStream<TcpStream>> for Stream {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        let (socket, session) = stream.into_inner();
        // The first request may have come together with the end of the handshake.
        Self::Tls(Box::new(Secured { socket, session, has_more: true }))
    }
}

impl Stream {
    /// The socket itself, to wait for.
    pub(super) const fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(secured) => &secured.socket,
        }
    }

    /// Whether [`Stream::read`] brings something whatever the socket says.
    pub(super) fn has_more(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(secured) => secured.has_more,
        }
    }

    /// Whether something that was taken by [`Stream::write`] is still to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(secured) => secured.session.wants_write(),
        }
    }

    /// Reads into the room that there is; 0 at the end.
    pub(super) fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read_buf(into),
            Self::Tls(secured) => secured.read(into),
        }
    }

    /// Writes as much of this as can be written now, which may be nothing while what was taken earlier is sent.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => match socket.try_write(bytes)? {
                0 => Err(io::ErrorKind::WriteZero.into()),
                written => Ok(written),
            },
            Self::Tls(secured) => secured.write(bytes),
        }
    }

    /// Says that nothing follows; that is still to be sent.
    pub(super) fn end(&mut self) {
        if let Self::Tls(secured) = self {
            secured.session.send_close_notify();
        }
    }
}

impl Secured {
    fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let mut read = 0;
        for _ in 0..READS {
            read += self.take(into)?;
            if self.has_more {
                return Ok(read);
            }
            match self.session.read_tls(&mut Now(&self.socket)) {
                Ok(_) => self.decrypt()?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && read > 0 => {
                    return Ok(read);
                }
                Err(error) => return Err(error),
            }
        }
        read += self.take(into)?;
        if read > 0 || self.has_more { Ok(read) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Takes what has been decrypted, as far as there is room for it.
    fn take(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let mut taken = 0;
        self.has_more = loop {
            let room = into.capacity() - into.len();
            let mut reader = self.session.reader();
            match reader.fill_buf() {
                Ok([]) => break true,
                Ok(_) if room == 0 => break true,
                Ok(bytes) => {
                    let some = bytes.len().min(room);
                    into.extend_from_slice(&bytes[..some]);
                    reader.consume(some);
                    taken += some;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                // Hung up without a word, as many do: what came was whole, or the request under way is not.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break true,
                Err(error) => return Err(error),
            }
        };
        Ok(taken)
    }

    fn decrypt(&mut self) -> io::Result<()> {
        let Err(error) = self.session.process_new_packets() else { return Ok(()) };
        // What is wrong is told to the other side, if it is still there.
        if self.session.wants_write()
            && let Err(error) = self.send()
        {
            tracing::debug!(%error, "a client was gone before it was told what is wrong");
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.session.wants_write() {
            self.send()?;
            return Ok(0);
        }
        // Takes as much as the library holds at a time, and at least something.
        self.session.writer().write(bytes)
    }

    fn send(&mut self) -> io::Result<usize> {
        match self.session.write_tls(&mut Now(&self.socket))? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            sent => Ok(sent),
        }
    }
}

/// A socket of which only that is done which can be done now.
struct Now<'a>(&'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
