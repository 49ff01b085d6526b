use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::TlsError;
use super::provider;
use super::rustls::pki_types::pem::PemObject;
use super::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use super::rustls::server::ParsedCertificate;
use super::rustls::sign::CertifiedKey;
use super::rustls::{Error as RustlsError, InconsistentKeys, RootCertStore};

/// More than the certificates of all authorities of a machine take.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A certificate, with those between it and its authority, and the private key that belongs to it.
pub(super) fn identity(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    if let Some(Err(error)) = chain.first().map(ParsedCertificate::try_from) {
        return Err(TlsError::content(
            cert,
            format!("the certificate in it cannot be used: {error}"),
        ));
    }
    let signing = provider().key_provider.load_private_key(private_key(key)?);
    // What the library says of a key is not repeated.
    let signing = signing.map_err(|_| {
        TlsError::content(key, "the private key in it is damaged, or of no kind that can be used")
    })?;
    let identity = CertifiedKey::new(chain, signing);
    match identity.keys_match() {
        Ok(()) | Err(RustlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(identity),
        Err(_) => Err(TlsError::Mismatch { cert: cert.to_owned(), key: key.to_owned() }),
    }
}

/// All certificates in a file, in their order; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|_| TlsError::content(path, "it is damaged, or not in PEM"))?;
    if found.is_empty() {
        let why = "there is no certificate in it, in PEM (-----BEGIN CERTIFICATE-----)";
        return Err(TlsError::content(path, why));
    }
    Ok(found)
}

/// The first private key in a file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(path)?;
    let found = PrivateKeyDer::pem_slice_iter(&pem).next();
    match found {
        Some(Ok(key)) => Ok(key),
        // What the library says of it would repeat a part of it.
        Some(Err(_)) => Err(TlsError::content(path, "the private key in it is damaged")),
        None => {
            let why = "there is no private key in it, in PEM and not encrypted \
                       (-----BEGIN PRIVATE KEY-----)";
            Err(TlsError::content(path, why))
        }
    }
}

/// The certificates in a file, as those of authorities.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(path)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            let why = format!("certificate {} in it cannot be used: {error}", index + 1);
            TlsError::content(path, why)
        })?;
    }
    Ok(roots)
}

/// A whole file of a bounded length. Nothing else than a file is opened: a pipe would never end.
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is no file")));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::content(path, format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
