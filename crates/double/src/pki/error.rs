//! Why a certificate could not be made, read or written.

use std::{io, path::PathBuf};

/// Why a certificate could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name is not a valid DNS name, or the library refused a parameter.
    #[error("cannot make the certificate")]
    Certificate(#[from] rcgen::Error),
    /// A PEM text holds no certificate or no key.
    #[error("cannot read the PEM text")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// A file could not be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
