//! A certificate with its chain and key, as PEM texts and as rustls takes them.

use super::error::Error;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{fmt, fs, path::Path};
use zeroize::Zeroizing;

/// A certificate with its chain and its key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, then its intermediates; never the root.
    pub certificate_pem: String,
    /// PKCS #8.
    pub key_pem: Zeroizing<String>,
    /// Serial number of the certificate, big-endian; empty when read from a file.
    pub serial: Vec<u8>,
}

impl Identity {
    /// Reads an identity from two PEM files.
    ///
    /// # Errors
    /// [`Error::File`] when one cannot be read, [`Error::Pem`] when one holds no certificate or no key.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let text =
            |path: &Path| fs::read_to_string(path).map_err(|source| Error::File { path: path.to_path_buf(), source });
        let identity =
            Self { certificate_pem: text(certificate)?, key_pem: Zeroizing::new(text(key)?), serial: Vec::new() };
        identity.certificates()?;
        identity.key()?;
        Ok(identity)
    }

    /// The certificates as rustls takes them, the leaf first.
    ///
    /// # Errors
    /// [`Error::Pem`] when there is none, or when one is damaged.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect::<Result<_, _>>()?;
        if chain.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound.into()) } else { Ok(chain) }
    }

    /// The key as rustls takes it.
    ///
    /// # Errors
    /// [`Error::Pem`] when there is none.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        Ok(PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}
