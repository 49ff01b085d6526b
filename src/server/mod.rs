//! The door: listeners, one task per connection, limits, shutdown.
//!
//! ```text
//!   listener ──► connection ──► read ──► Scanner ──► dispatch ──► encode ──► write
//!                    ▲                   one after the other, in order         │
//!                    └───── all replies to what arrived together in one write ─┘
//! ```
//!
//! A connection is one task that owns its socket, its buffers and its
//! session. While a command runs it still listens: a client that hangs up,
//! and CLIENT KILL, drop the command at its next await.
//!
//! # Invariants
//!
//! * Commands of one connection run strictly in order, and each has exactly one reply.
//! * What a connection holds is bounded: the request under way, a chunk read ahead, and
//!   `server.output_bytes_max` plus one reply. Above that no further command of it is begun. What all of
//!   them hold together beyond a small part each is bounded by `server.buffer_bytes_max`.
//! * A handshake of TLS is a connection like any other: it has its place among `server.max_clients`, and keeps
//!   nobody from being accepted.
//! * A shutdown loses no reply of a command that ended in time, and no commit: a commit
//!   is the store's, and goes on when its command is dropped.
//!
//! Not here: what commands do (`command`), signals and the order of the shutdown as a whole (`node`).

mod budget;
mod connection;
mod link;
mod stream;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::command::Services;
use crate::session::Client;
use crate::tls::Port;
use budget::{Budget, Share};
use link::Link;
use stream::Stream;

/// Refused connections that are given time to read why; beyond it they are just closed.
const REFUSALS_MAX: usize = 64;

/// How long accepting rests when the machine has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listeners that are bound and not yet served.
#[derive(Debug)]
pub struct Server {
    services: Arc<Services>,
    listeners: Vec<(TcpListener, Wire)>,
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
}

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Plain,
    Tls,
}

impl Server {
    /// Binds all addresses of the configuration; port 0 takes any free one.
    /// From here on connections are queued; [`Server::run`] serves them.
    pub fn bind(services: Arc<Services>) -> io::Result<Self> {
        let config = &services.config.server;
        if !config.listen_tls.is_empty() && services.certificates.is_none() {
            return Err(io::Error::other("the node has no certificates for server.tls_bind"));
        }
        let mut listeners = Vec::new();
        let mut bind = |wanted: &[SocketAddr], wire| {
            let mut addresses = Vec::new();
            for address in wanted {
                let listener = listen(*address, config.backlog).map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
                })?;
                addresses.push(listener.local_addr()?);
                listeners.push((listener, wire));
            }
            Ok::<_, io::Error>(addresses)
        };
        let addresses = bind(&config.listen, Wire::Plain)?;
        let tls_addresses = bind(&config.listen_tls, Wire::Tls)?;
        Ok(Self { services, listeners, addresses, tls_addresses })
    }

    /// Where it listens without TLS, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens with TLS, in the order of the configuration.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Serves until `stop` is cancelled; then takes no more connections, lets commands that run end, answers those
    /// that wait with an error, and returns when all connections are closed, after
    /// `server.shutdown_timeout` at the latest.
    pub async fn run(self, stop: CancellationToken) {
        let budget = Budget::new(self.services.config.server.buffer_bytes_max);
        let refusals = AtomicUsize::new(0);
        let shared = Arc::new(Shared { services: self.services, refusals, budget });
        let mut loops = JoinSet::new();
        for (listener, wire) in self.listeners {
            loops.spawn(accept(listener, wire, Arc::clone(&shared), stop.clone()));
        }
        stop.cancelled().await;
        shared.services.stop();
        // Who connects after this sees the flag.
        for client in shared.services.clients.list() {
            client.wake();
        }
        let timeout = shared.services.config.server.shutdown_timeout;
        let ended =
            tokio::time::timeout(timeout, async { while loops.join_next().await.is_some() {} });
        if ended.await.is_err() {
            let clients = shared.services.clients.list();
            tracing::warn!(connections = clients.len(), "shutdown: commands did not end in time");
            for client in clients {
                client.kill();
            }
            while loops.join_next().await.is_some() {}
        }
    }
}

#[derive(Debug)]
struct Shared {
    services: Arc<Services>,
    refusals: AtomicUsize,
    budget: Arc<Budget>,
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // An IPv4 address is bound on its own where it is wanted.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections until told to stop, then waits for those it took.
async fn accept(listener: TcpListener, wire: Wire, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => take(stream, wire, address, &shared, &mut connections),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// Handlers' panics are caught where they run, so this one is ours.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended badly");
    }
}

fn take(
    stream: TcpStream,
    wire: Wire,
    address: SocketAddr,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    let services = &shared.services;
    let config = &services.config.server;
    if let Err(error) = prepare(&stream, config.keepalive) {
        tracing::debug!(%error, "a connection was gone before it was taken");
        return;
    }
    let Ok(local_address) = stream.local_addr() else { return };
    services.stats.connections.fetch_add(1, Ordering::Relaxed);
    if let Some(client) = services.clients.connect(config.max_clients, address, local_address) {
        let share = Share::new(Arc::clone(&shared.budget));
        let services = Arc::clone(services);
        match wire {
            Wire::Plain => {
                connections.spawn(connection::serve(Stream::Plain(stream), client, services, share))
            }
            Wire::Tls => connections.spawn(serve_tls(stream, client, services, share)),
        };
        return;
    }
    services.stats.connections_rejected.fetch_add(1, Ordering::Relaxed);
    if wire == Wire::Tls {
        // Without a handshake nothing can be said, and with one it would cost more than a client.
        return;
    }
    if shared.refusals.fetch_add(1, Ordering::Relaxed) < REFUSALS_MAX {
        let shared = Arc::clone(shared);
        connections.spawn(async move {
            Link::refuse(stream, "ERR max number of clients reached").await;
            shared.refusals.fetch_sub(1, Ordering::Relaxed);
        });
    } else {
        shared.refusals.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection that begins with a handshake.
async fn serve_tls(stream: TcpStream, client: Arc<Client>, services: Arc<Services>, share: Share) {
    match Box::pin(shake_hands(stream, &client, &services)).await {
        Some(stream) => connection::serve(stream, client, services, share).await,
        None => services.clients.disconnect(client.id()),
    }
}

/// The handshake, unless somebody kills the client or the server stops.
async fn shake_hands(
    stream: TcpStream,
    client: &Arc<Client>,
    services: &Arc<Services>,
) -> Option<Stream> {
    let certificates = services.certificates.as_ref()?;
    let mut accepting = std::pin::pin!(certificates.accept(Port::Resp, stream));
    let alert = client.alert();
    while !client.is_killed() && !services.is_stopping() {
        tokio::select! {
            accepted = accepting.as_mut() => return accepted.map(Stream::from),
            () = alert.notified() => {}
        }
    }
    None
}

fn prepare(stream: &TcpStream, keepalive: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(after) = keepalive {
        // As Redis: three probes within the time after which the first is sent.
        let probe = TcpKeepalive::new()
            .with_time(after)
            .with_interval((after / 3).max(Duration::from_secs(1)));
        SockRef::from(stream).set_tcp_keepalive(&probe)?;
    }
    Ok(())
}
