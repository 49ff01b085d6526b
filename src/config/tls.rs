use std::path::PathBuf;
use std::time::Duration;

use super::check::{Result, duration, refuse};
use super::raw::RawTls;
use super::{HttpConfig, ServerConfig};

/// What clients that come with TLS have to show of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nothing; none is asked for.
    Off,
    /// Nothing, but what they do show has to be good.
    Optional,
    /// A certificate of an authority that the node knows.
    Required,
}

impl ClientCertificates {
    pub(super) fn parse(key: &'static str, text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Self::Off),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            other => Err(refuse(key, other, "off, optional or required")),
        }
    }

    /// Whether they are asked for one.
    pub fn are_asked_for(self) -> bool {
        self != Self::Off
    }
}

/// What TLS stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate of the node and those between it and its authority.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The authorities of clients' certificates, where some port asks for them.
    pub client_ca_file: Option<PathBuf>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl RawTls {
    /// `None` where no port speaks TLS. What is written and would not be obeyed is refused: who writes it
    /// takes his node for safer than it is.
    pub(super) fn check(
        &self,
        server: &ServerConfig,
        http: &HttpConfig,
    ) -> Result<Option<TlsConfig>> {
        let handshake_timeout = duration("tls.handshake_timeout", &self.handshake_timeout)?;
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&handshake_timeout) {
            return Err(refuse("tls.handshake_timeout", &self.handshake_timeout, "100ms to 60s"));
        }
        let ports = [
            (
                "server.tls_client_certificates",
                server.client_certificates,
                !server.listen_tls.is_empty(),
            ),
            ("http.tls_client_certificates", http.client_certificates, http.tls),
        ];
        for (key, asked, speaks) in ports {
            if asked.are_asked_for() && !speaks {
                let value =
                    if asked == ClientCertificates::Required { "required" } else { "optional" };
                let allowed = "off, while this port speaks no TLS (server.tls_bind, http.tls)";
                return Err(refuse(key, value, allowed));
            }
        }
        let used = ports.iter().any(|(_, _, speaks)| *speaks);
        let asked = ports.iter().any(|(_, asked, _)| asked.are_asked_for());
        let files = [
            (
                "tls.cert_file",
                &self.cert_file,
                used,
                "the file with the certificate in PEM, as server.tls_bind or http.tls asks for TLS",
            ),
            (
                "tls.key_file",
                &self.key_file,
                used,
                "the file with the private key in PEM, as server.tls_bind or http.tls asks for TLS",
            ),
            (
                "tls.client_ca_file",
                &self.client_ca_file,
                asked,
                "the file with the authorities of clients in PEM, as their certificates are asked for",
            ),
        ];
        for (key, file, needed, what) in files {
            if needed && file.is_empty() {
                return Err(refuse(key, file, what));
            }
            if !needed && !file.is_empty() {
                let nobody = if key == "tls.client_ca_file" {
                    "leave it empty, nothing uses it: set server.tls_client_certificates or http.tls_client_certificates"
                } else {
                    "leave it empty, nothing uses it: set server.tls_bind or http.tls"
                };
                return Err(refuse(key, file, nobody));
            }
        }
        Ok(used.then(|| TlsConfig {
            cert_file: PathBuf::from(&self.cert_file),
            key_file: PathBuf::from(&self.key_file),
            client_ca_file: asked.then(|| PathBuf::from(&self.client_ca_file)),
            handshake_timeout,
        }))
    }
}
