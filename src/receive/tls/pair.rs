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

/// The certificate of a pair; or what is wrong with each file, or with the two together.
///
/// # Errors
/// At least one.
pub(in crate::receive) fn look(certificate: &Path, key: &Path) -> Result<Certificate, Vec<Error>> {
    let (chain, private) = (read_chain(certificate).map(drop), read_key(key).map(drop));
    if chain.is_err() || private.is_err() {
        return Err([chain, private].into_iter().filter_map(Result::err).collect());
    }
    read(certificate, key, &aws_lc_rs::default_provider()).map(|(_, facts)| facts).map_err(|error| vec![error])
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
