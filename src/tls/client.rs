use std::path::PathBuf;
use std::sync::Arc;

use super::error::TlsError;
use super::rustls::client::WantsClientCert;
use super::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use super::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use super::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use super::rustls::sign::SingleCertAndKey;
use super::rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error as RustlsError, RootCertStore,
    SignatureScheme, WantsVerifier,
};
use super::{files, provider};

/// Whom a client trusts, and what it shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The authorities of nodes' certificates; `None`: those that this machine trusts.
    pub ca_file: Option<PathBuf>,
    /// The certificate to show, and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What a client needs to talk to a node, whose certificate it checks.
///
/// # Errors
/// The first thing that is wrong with the files.
pub fn connector(trust: &Trust) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &trust.ca_file {
        Some(file) => files::authorities(file)?,
        None => of_this_machine()?,
    };
    identified(builder()?.with_root_certificates(roots), trust)
}

/// The same for who asks its own machine what everybody may know: any certificate will do, as nothing secret is sent, and
/// the name by which the machine calls itself stands in none.
///
/// # Errors
/// The first thing that is wrong with the files.
pub fn local_connector(trust: &Trust) -> Result<Arc<ClientConfig>, TlsError> {
    let any = AnyCertificate(provider().signature_verification_algorithms);
    let builder = builder()?.dangerous().with_custom_certificate_verifier(Arc::new(any));
    identified(builder, trust)
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?)
}

fn identified(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    trust: &Trust,
) -> Result<Arc<ClientConfig>, TlsError> {
    Ok(Arc::new(match &trust.identity {
        Some((cert, key)) => {
            let identity = files::identity(cert, key)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    }))
}

/// The authorities that this machine trusts; what it has of them that nobody can read is left out.
fn of_this_machine() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoAuthorities(why));
    }
    Ok(roots)
}

/// Takes whoever can prove that the certificate he shows is his.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
