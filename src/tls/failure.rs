use std::io;

use super::rustls::Error;

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client's certificate is missing, expired, or of an authority that is not known.
    ClientCertificate,
    /// The client hung up.
    Gone,
    /// What came is not TLS, or not as we speak it.
    Protocol,
    /// The client does not want us: as a rule it does not trust our certificate.
    RefusedByClient,
    /// It took too long.
    Timeout,
}

impl Failure {
    /// All of them, each at its place.
    pub const ALL: [Self; 5] =
        [Self::ClientCertificate, Self::Gone, Self::Protocol, Self::RefusedByClient, Self::Timeout];

    /// As metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientCertificate => "client_certificate",
            Self::Gone => "gone",
            Self::Protocol => "protocol",
            Self::RefusedByClient => "refused_by_client",
            Self::Timeout => "timeout",
        }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => {
                Self::ClientCertificate
            }
            Some(Error::AlertReceived(_)) => Self::RefusedByClient,
            Some(_) => Self::Protocol,
            None => Self::Gone,
        }
    }
}
