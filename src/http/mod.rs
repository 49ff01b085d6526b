//! The second door, for those who run a node: metrics, health and the console over HTTP.
//!
//! ```text
//!   listener ──► at most http.max_connections ──► hyper (head, time) ──► routes ──► /metrics
//!                                                                                  /healthz
//!                                                                                  /readyz
//!                                                                                  /console
//! ```
//!
//! # Invariants
//!
//! * Outside the console nobody is asked who he is, so nothing there changes anything, and nothing shows
//!   what is stored: no names of namespaces and buckets, no documents.
//! * What a client costs is bounded: the connections, the head of a request, its time, the forms.
//! * With `http.tls` it speaks HTTPS only, and its cookies are for HTTPS only.
//! * It answers from before the node joins the cluster until after it has left.
//!
//! Not here: what is counted (`command`, `store`, `cluster`, `lifecycle`), what commands do.

mod console;
mod metrics;
mod ready;
mod seats;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::command::Services;
use console::Console;
use metrics::Looks;
use serve::Peer;

const TEXT: &str = "text/plain; charset=utf-8";

/// What Prometheus calls the form of [`metrics`].
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What all requests share.
#[derive(Debug, Clone)]
struct Shared {
    services: Arc<Services>,
    looks: Arc<Looks>,
    console: Arc<Console>,
}

/// Listeners that are bound and not yet served.
#[derive(Debug)]
pub struct Http {
    services: Arc<Services>,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Http {
    /// Binds all addresses of the configuration, which may be none.
    ///
    /// # Errors
    /// An address that is taken or not ours.
    pub fn bind(services: Arc<Services>) -> std::io::Result<Self> {
        let config = &services.config;
        // Whoever lets the system choose one port wants no fixed one beside it.
        let mut others = config.server.listen.iter().chain(&config.server.listen_tls);
        let any = others.all(|address| address.port() == 0);
        if config.http.tls && services.certificates.is_none() {
            return Err(std::io::Error::other("the node has no certificates for http.tls"));
        }
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in &config.http.listen {
            let port = if any { 0 } else { address.port() };
            let address = SocketAddr::new(address.ip(), port);
            let listener = serve::listen(address).map_err(|error| {
                let text = format!("cannot listen on {address} for HTTP (http.port): {error}");
                std::io::Error::new(error.kind(), text)
            })?;
            addresses.push(listener.local_addr()?);
            listeners.push(listener);
        }
        Ok(Self { services, listeners, addresses })
    }

    /// Where it listens, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let config = &self.services.config.http;
        let connections_max = config.max_connections;
        let certificates = self.services.certificates.clone().filter(|_| config.tls);
        let console = Arc::new(Console::new(Arc::clone(&self.services)));
        let shared = Shared { services: self.services, looks: Arc::default(), console };
        serve::run(self.listeners, routes(shared), certificates, connections_max, stop).await;
    }
}

/// All pages.
fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { plain(StatusCode::OK, "alive\n".to_owned()) }))
        .route("/readyz", get(show_ready))
        .route("/", get(|| async { Redirect::to(console::ROOT) }))
        .route("/console", any(show_console))
        .route("/console/", any(show_console))
        .route("/console/{*page}", any(show_console))
        .fallback(|| async { plain(StatusCode::NOT_FOUND, "no such page\n".to_owned()) })
        .method_not_allowed_fallback(|| async {
            plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned())
        })
        .with_state(shared)
}

async fn show_metrics(State(shared): State<Shared>) -> Response {
    let looked = shared.looks.look(&shared.services).await;
    match metrics::page(&shared.services, looked) {
        Ok(page) => answer(StatusCode::OK, OPEN_METRICS, page),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the log says why\n".to_owned())
        }
    }
}

async fn show_ready(State(shared): State<Shared>) -> Response {
    match ready::check(&shared.services).await {
        Ok(()) => plain(StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn show_console(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let mut response = shared.console.serve(peer, request).await;
    if peer.tls {
        secure_cookies(response.headers_mut());
    }
    response
}

/// What was set through TLS a browser is to keep from connections without: whatever cookie it is, and whoever set it.
fn secure_cookies(headers: &mut HeaderMap) {
    for (_, value) in headers.iter_mut().filter(|(name, _)| *name == SET_COOKIE) {
        if let Ok(secured) = HeaderValue::from_bytes(&[value.as_bytes(), b"; Secure"].concat()) {
            *value = secured;
        }
    }
}

fn plain(status: StatusCode, body: String) -> Response {
    answer(status, TEXT, body)
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response {
    const NO_SNIFF: (HeaderName, &str) =
        (HeaderName::from_static("x-content-type-options"), "nosniff");
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store"), NO_SNIFF], body).into_response()
}
