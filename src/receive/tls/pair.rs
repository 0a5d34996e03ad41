//! The server's certificate and its key.
//!
//! In: two PEM files. Out: a pair that can be used, with facts about the certificate; or everything that is wrong with the
//! files, for the configuration.

use super::{certificate::Certificate, error::Error, pem};
use rustls::{
    InconsistentKeys,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::Error as PemError, pem::PemObject as _},
    sign::CertifiedKey,
};
use std::path::Path;

/// Reads the pair.
pub(super) fn read(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Certificate), Error> {
    let (chain, facts) = read_chain(certificate)?;
    let private = read_key(key)?;
    let certified = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            Error::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        source => Error::Key { path: key.to_owned(), source },
    })?;
    Ok((certified, facts))
}

/// What the file of a certificate holds.
///
/// # Errors
/// What is wrong with the file.
pub(in crate::receive) fn certificate(file: &Path) -> Result<Certificate, Error> {
    read_chain(file).map(|(_, facts)| facts)
}

/// Whether the file of a key holds one.
///
/// # Errors
/// What is wrong with the file.
pub(in crate::receive) fn key(file: &Path) -> Result<(), Error> {
    read_key(file).map(drop)
}

/// Whether the two can be used together, where each is sound.
///
/// # Errors
/// What is wrong with the two.
pub(in crate::receive) fn together(certificate: &Path, key: &Path) -> Result<(), Error> {
    read(certificate, key, &aws_lc_rs::default_provider()).map(drop)
}

fn read_chain(path: &Path) -> Result<(Vec<CertificateDer<'static>>, Certificate), Error> {
    const KEY: &str = "tls.certificate";
    let chain = pem::certificates(path, KEY)?;
    let first = chain.first().ok_or_else(|| Error::NoCertificate { path: path.to_owned(), key: KEY })?;
    let facts = Certificate::of(first).ok_or_else(|| Error::Unreadable { path: path.to_owned() })?;
    Ok((chain, facts))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    const KEY: &str = "tls.key";
    PrivateKeyDer::from_pem_slice(&pem::read(path, KEY)?).map_err(|error| match error {
        PemError::NoItemsFound => Error::NoKey { path: path.to_owned() },
        source => Error::Pem { path: path.to_owned(), key: KEY, source },
    })
}
