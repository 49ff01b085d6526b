//! TLS: certificates from files, handshakes in bounded time, and what our own client trusts.
//!
//! ```text
//!   cert_file, key_file, client_ca_file ──► Loaded ──► accept ──► server, http
//!             └──── SIGHUP, CONFIG RELOAD-CERTIFICATES ──┘  (taken whole, or not at all)
//! ```
//!
//! # Invariants
//!
//! * What is read again replaces the old only if all of it is good: files, key, authorities, time.
//!   Connections that are open keep what they began with.
//! * Who does not end his handshake in time, or does it wrong, is gone before anything is done for him.
//! * Where certificates of clients are asked for, each handshake looks at one: sessions are not resumed.
//! * Nothing of a private key is in an error, in the log or in a debug form.
//! * TLS 1.2 or 1.3, with what rustls and ring hold for safe.
//!
//! Not here: sockets and what is said on them (`server`, `http`, `client`).

mod client;
mod error;
mod failure;
mod files;
mod node;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub use client::{Trust, connector, local_connector};
pub use error::TlsError;
pub use failure::Failure;
pub use node::{Certificates, Port};
pub use tokio_rustls::rustls;

/// The one there is, named, so that nothing depends on what other crates have chosen for the process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
