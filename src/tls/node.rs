use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::error::TlsError;
use super::failure::Failure;
use super::rustls::client::verify_server_cert_signed_by_trust_anchor;
use super::rustls::pki_types::{CertificateDer, UnixTime};
use super::rustls::server::danger::ClientCertVerifier;
use super::rustls::server::{
    NoClientAuth, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
    WebPkiClientVerifier,
};
use super::rustls::sign::SingleCertAndKey;
use super::rustls::time_provider::TimeProvider;
use super::rustls::{CertificateError, Error as RustlsError, RootCertStore, ServerConfig};
use super::{files, provider};
use crate::clock::Clock;
use crate::config::{ClientCertificates, Config, TlsConfig};

/// Which of the node's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The one of clients.
    Resp,
    /// The one of metrics, health and the console.
    Http,
}

impl Port {
    /// All of them, each at its place.
    pub const ALL: [Self; 2] = [Self::Resp, Self::Http];

    /// As metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resp => "resp",
            Self::Http => "http",
        }
    }
}

/// The certificates of a node, which can be read again while it runs.
pub struct Certificates {
    config: TlsConfig,
    asked: [ClientCertificates; 2],
    clock: Arc<dyn Clock>,
    loaded: ArcSwap<Loaded>,
    /// Who reads last has read the newest.
    reloading: Mutex<()>,
    failures: [[AtomicU64; Failure::ALL.len()]; Port::ALL.len()],
    reloads: AtomicU64,
    reloads_failed: AtomicU64,
}

/// What was in the files.
struct Loaded {
    configs: [Arc<ServerConfig>; 2],
    validity: Validity,
    /// Whether the log says already that it has expired.
    told: AtomicBool,
}

/// When a certificate is valid, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Validity {
    until: i64,
    /// Where that is still to come.
    from: Option<i64>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files that the settings name; `None` where no port speaks TLS.
    ///
    /// A certificate that is not valid at the moment is taken, and the log says so: who has a port without TLS as well
    /// is better served than by nothing.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn load(config: &Config, clock: Arc<dyn Clock>) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(files) = &config.tls else { return Ok(None) };
        let asked = [config.server.client_certificates, config.http.client_certificates];
        let loaded = Loaded::read(files, asked, &clock)?;
        if let Err(error) = loaded.validity.check(&files.cert_file, clock.now()) {
            tracing::error!(%error, "clients that check certificates will not connect");
        }
        Ok(Some(Arc::new(Self {
            config: files.clone(),
            asked,
            clock,
            loaded: ArcSwap::from_pointee(loaded),
            reloading: Mutex::default(),
            failures: Default::default(),
            reloads: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
        })))
    }

    /// Reads the files again, for connections that come from now on. What is wrong or not valid at the moment is not
    /// taken, and nothing changes. Gives until when the new certificate is valid. Reads files: not for a thread
    /// of the runtime.
    ///
    /// # Errors
    /// The first thing that is wrong with them, which the log says as well.
    pub fn reload(&self) -> Result<i64, TlsError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let file = &self.config.cert_file;
        let read = Loaded::read(&self.config, self.asked, &self.clock)
            .and_then(|loaded| loaded.validity.check(file, self.clock.now()).map(|()| loaded));
        match read {
            Ok(loaded) => {
                let until = loaded.validity.until;
                self.loaded.store(Arc::new(loaded));
                self.reloads.fetch_add(1, Ordering::Relaxed);
                let until_text = crate::codec::duration::format_instant(until);
                tracing::info!(file = %file.display(), until = until_text, "certificates read again");
                Ok(until)
            }
            Err(error) => {
                self.reloads_failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "the certificates were not read again: the old ones stay in force");
                Err(error)
            }
        }
    }

    /// Does the handshake with who has connected, in bounded time; `None` when it failed.
    pub async fn accept<S>(&self, port: Port, stream: S) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let loaded = self.loaded.load_full();
        loaded.tell_if_expired(&self.config.cert_file, self.clock.now());
        let acceptor = TlsAcceptor::from(Arc::clone(&loaded.configs[port as usize]));
        let patience = self.config.handshake_timeout;
        let (failure, error) = match tokio::time::timeout(patience, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => (Failure::of(&error), error.to_string()),
            Err(elapsed) => (Failure::Timeout, elapsed.to_string()),
        };
        self.failures[port as usize][failure as usize].fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            port = port.name(),
            reason = failure.name(),
            error,
            "a TLS handshake failed"
        );
        None
    }

    /// How many handshakes failed at a port for a reason.
    #[must_use]
    pub fn failures(&self, port: Port, failure: Failure) -> u64 {
        self.failures[port as usize][failure as usize].load(Ordering::Relaxed)
    }

    /// How often the files were read again, and how often that failed.
    #[must_use]
    pub fn reloads(&self) -> (u64, u64) {
        (self.reloads.load(Ordering::Relaxed), self.reloads_failed.load(Ordering::Relaxed))
    }

    /// How long the certificate is still valid; below zero, for how long it has not been.
    #[must_use]
    pub fn milliseconds_left(&self) -> i64 {
        self.loaded.load().validity.until.saturating_sub(self.clock.now())
    }
}

impl Loaded {
    fn read(
        files: &TlsConfig,
        asked: [ClientCertificates; 2],
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let identity = files::identity(&files.cert_file, &files.key_file)?;
        let validity = Validity::of(&files.cert_file, identity.end_entity_cert()?, clock.now())?;
        let authorities = match &files.client_ca_file {
            Some(file) => Arc::new(files::authorities(file)?),
            None => Arc::new(RootCertStore::empty()),
        };
        let identity: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(identity));
        let config = |port: Port| {
            let verifier = verifier(asked[port as usize], &authorities)?;
            let time = Arc::new(Wall(Arc::clone(clock)));
            let mut config = ServerConfig::builder_with_details(provider(), time)
                .with_safe_default_protocol_versions()?
                .with_client_cert_verifier(verifier)
                .with_cert_resolver(Arc::clone(&identity));
            if port == Port::Http {
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
            }
            if asked[port as usize].are_asked_for() {
                // A session that is resumed would not look at the certificate again.
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
            Ok::<_, TlsError>(Arc::new(config))
        };
        let configs = [config(Port::Resp)?, config(Port::Http)?];
        Ok(Self { configs, validity, told: AtomicBool::new(false) })
    }

    /// Once for each certificate: then the next handshake tells nothing new.
    fn tell_if_expired(&self, file: &Path, now: i64) {
        if self.validity.until >= now || self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.validity.check(file, now) {
            tracing::error!(%error, "clients that check certificates do not connect any more");
        }
    }
}

fn verifier(
    asked: ClientCertificates,
    authorities: &Arc<RootCertStore>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder =
        || WebPkiClientVerifier::builder_with_provider(Arc::clone(authorities), provider());
    let built = match asked {
        ClientCertificates::Off => return Ok(Arc::new(NoClientAuth)),
        ClientCertificates::Optional => builder().allow_unauthenticated().build(),
        ClientCertificates::Required => builder().build(),
    };
    Ok(built.map_err(|error| RustlsError::General(error.to_string()))?)
}

impl Validity {
    /// The library tells times only of a certificate that is not valid: so it is asked about the end of time, which no
    /// certificate reaches, and about now. Both answers come before it asks who has signed.
    fn of(file: &Path, certificate: &CertificateDer<'_>, now: i64) -> Result<Self, TlsError> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let judge = |at: Duration| {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &RootCertStore::empty(),
                &[],
                UnixTime::since_unix_epoch(at),
                provider().signature_verification_algorithms.all,
            )
        };
        let until = match judge(Duration::from_secs(u64::MAX)) {
            Err(RustlsError::InvalidCertificate(CertificateError::ExpiredContext {
                not_after,
                ..
            })) => milliseconds(not_after),
            Err(error) => {
                let why = format!("the certificate in it cannot be used: {error}");
                return Err(TlsError::content(file, why));
            }
            Ok(()) => i64::MAX,
        };
        let from = match judge(Duration::from_millis(u64::try_from(now).unwrap_or_default())) {
            Err(RustlsError::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => Some(milliseconds(not_before)),
            _ => None,
        };
        Ok(Self { until, from })
    }

    fn check(self, file: &Path, now: i64) -> Result<(), TlsError> {
        let path = file.to_owned();
        match self.from {
            Some(from) if from > now => Err(TlsError::NotYetValid { path, from }),
            _ if self.until < now => Err(TlsError::Expired { path, until: self.until }),
            _ => Ok(()),
        }
    }
}

fn milliseconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000)
}

/// Our clock, for what is said about the certificates of clients.
#[derive(Debug)]
struct Wall(Arc<dyn Clock>);

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        let now = u64::try_from(self.0.now()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(now)))
    }
}
