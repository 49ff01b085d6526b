//! Connections, within bounds that a hostile client cannot stretch.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request};
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::seats::{Seat, Seats};
use crate::tls::{Certificates, Port};

/// Connections that may wait to be taken.
const BACKLOG: i32 = 128;

/// Bytes and fields of the head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 64;

/// How long the head of a request may take to come, and a connection may wait for the next.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lives, however slowly its client reads; who wants more connects again.
const LIFE: Duration = Duration::from_secs(60);

/// How much longer a request may take that is being answered then: a purge that waits, a long undelete.
const WORK_MAX: Duration = Duration::from_mins(10);

/// How long a connection that is to end may take to finish the answer under way.
const LAST_CALL: Duration = Duration::from_secs(1);

/// How long accepting rests when the machine has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Both ends of a connection, and what is between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) local: SocketAddr,
    /// Whether it came through TLS.
    pub(super) tls: bool,
}

pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves all listeners until told to stop; HTTPS if there are certificates.
pub(super) async fn run(
    listeners: Vec<TcpListener>,
    routes: Router,
    certificates: Option<Arc<Certificates>>,
    connections_max: usize,
    stop: CancellationToken,
) {
    let seats = Seats::new(connections_max);
    let mut loops = JoinSet::new();
    for listener in listeners {
        let (routes, certificates) = (routes.clone(), certificates.clone());
        loops.spawn(accept(listener, routes, certificates, Arc::clone(&seats), stop.clone()));
    }
    while loops.join_next().await.is_some() {}
}

async fn accept(
    listener: TcpListener,
    routes: Router,
    certificates: Option<Arc<Certificates>>,
    seats: Arc<Seats>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                // While there is none, further ones wait in the queue of the system.
                let seat = tokio::select! {
                    () = stop.cancelled() => break,
                    seat = seats.take() => seat,
                };
                let local = stream.local_addr().unwrap_or(address);
                let tls = certificates.is_some();
                let routes = routes.clone().layer(Extension(Peer { address, local, tls }));
                let (certificates, stop) = (certificates.clone(), stop.clone());
                connections.spawn(async move {
                    match certificates {
                        None => serve(stream, routes, seat, stop).await,
                        Some(certificates) => {
                            Box::pin(serve_tls(stream, &certificates, routes, seat, stop)).await;
                        }
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves a connection that begins with a handshake, which is bounded in time.
async fn serve_tls(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    certificates: &Certificates,
    routes: Router,
    seat: Seat,
    stop: CancellationToken,
) {
    let accepted = tokio::select! {
        accepted = certificates.accept(Port::Http, stream) => accepted,
        () = seat.lost() => None,
        () = stop.cancelled() => None,
    };
    if let Some(stream) = accepted {
        serve(stream, routes, seat, stop).await;
    }
}

pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    routes: Router,
    seat: Seat,
    stop: CancellationToken,
) {
    let seat = Arc::new(seat);
    let (routes, asked) = (TowerToHyperService::new(routes), Arc::clone(&seat));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let seat = Arc::clone(&asked);
        // A form has yet to come; who takes it says when it is there.
        if request.method() != Method::POST {
            seat.begin();
        }
        request.extensions_mut().insert(Arc::clone(&seat));
        let answer = routes.call(request);
        async move {
            let answer = answer.await;
            seat.end();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(FIELDS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // What a client does wrong is its own affair.
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP connection ended badly");
            }
            return;
        }
        () = seat.lost() => {
            tracing::debug!("an HTTP connection that asked for nothing made room for another");
            return;
        }
        () = tokio::time::sleep(LIFE) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = seat.idle() => {}
        () = tokio::time::sleep(WORK_MAX) => {}
        () = stop.cancelled() => {}
    }
    if tokio::time::timeout(LAST_CALL, connection).await.is_err() {
        tracing::debug!("an HTTP connection was cut off");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    /// A connection with a page that no buffer of ours holds, and its end.
    fn connection() -> (DuplexStream, tokio::task::JoinHandle<()>, CancellationToken) {
        let (client, server) = duplex(64);
        let slow = || async {
            tokio::time::sleep(2 * LIFE).await;
            "done"
        };
        let routes = Router::new()
            .route("/", get(|| async { "x".repeat(1 << 20) }))
            .route("/slow", get(slow));
        let stop = CancellationToken::new();
        let served = {
            let stop = stop.clone();
            tokio::spawn(
                async move { serve(server, routes, Seats::new(1).take().await, stop).await },
            )
        };
        (client, served, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_answered_when_the_life_of_its_connection_ends_is_answered() {
        let (mut client, served, _stop) = connection();
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_ends_the_connection() {
        let (mut client, served, _stop) = connection();
        let began = Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        served.await.unwrap();
        assert!(began.elapsed() <= HEAD_TIMEOUT + LAST_CALL, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off() {
        let (mut client, served, _stop) = connection();
        let began = Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        served.await.unwrap();
        assert!(began.elapsed() <= LIFE + LAST_CALL, "{:?}", began.elapsed());
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() <= 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_an_idle_connection_at_once() {
        let (_client, served, stop) = connection();
        tokio::task::yield_now().await;
        let began = Instant::now();
        stop.cancel();
        served.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
