use std::io;
use std::path::{Path, PathBuf};

use super::rustls;
use crate::codec::duration::format_instant;

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in the file is not what should be there.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong; never what stands there.
        why: String,
    },
    /// Two files that don't belong together.
    #[error(
        "the private key in {} does not belong to the certificate in {}", key.display(), cert.display()
    )]
    Mismatch {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// Its time is over.
    #[error("the certificate in {} has expired: it was valid until {}", path.display(), format_instant(*until))]
    Expired {
        /// The file.
        path: PathBuf,
        /// Milliseconds since 1970.
        until: i64,
    },
    /// Its time has not come.
    #[error("the certificate in {} is not valid yet: it will be from {} on", path.display(), format_instant(*from))]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// Milliseconds since 1970.
        from: i64,
    },
    /// This machine trusts nobody.
    #[error("this machine has no certificates of authorities ({0}): name a file with them")]
    NoAuthorities(String),
    /// All is there and can't be put together.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl TlsError {
    pub(super) fn content(path: &Path, why: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), why: why.into() }
    }
}
