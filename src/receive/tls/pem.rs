//! Reads PEM files.

use super::error::Error;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use std::{fs, path::Path};

/// All certificates of a PEM file; at least one.
pub(super) fn certificates(path: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path, key)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|source| Error::Pem { path: path.to_owned(), key, source })?;
    if found.is_empty() { Err(Error::NoCertificate { path: path.to_owned(), key }) } else { Ok(found) }
}

/// A whole file, wiped from memory when dropped.
pub(super) fn read(path: &Path, key: &'static str) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
    let text = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), key, source })?;
    Ok(zeroize::Zeroizing::new(text))
}
