//! Why TLS settings cannot be used: each with the file, the key that names it, and what to do.

use base::error::chain;
use rustls::pki_types::pem;
use std::{io, path::PathBuf};

/// Why the TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        key: &'static str,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{path} is not a PEM file")]
    Pem {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        key: &'static str,
        /// The parser's words.
        #[source]
        source: pem::Error,
    },
    /// A PEM file without a certificate.
    #[error("{path} holds no certificate")]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        key: &'static str,
    },
    /// A certificate that cannot be parsed.
    #[error("the first certificate in {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// A PEM file without a private key.
    #[error("{path} holds no private key")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A key of a kind that cannot be used.
    #[error("the key in {path} cannot be used")]
    Key {
        /// The file.
        path: PathBuf,
        /// The library's words.
        #[source]
        source: rustls::Error,
    },
    /// Certificate and key are not a pair.
    #[error("the key in {key} does not belong to the first certificate in {certificate}")]
    Mismatch {
        /// `tls.certificate`
        certificate: PathBuf,
        /// `tls.key`
        key: PathBuf,
    },
    /// Client certificates are asked for, but no authority is named.
    #[error("client certificates are asked for, and no authority is named")]
    NoAuthorities,
    /// A certificate that cannot be an authority.
    #[error("a certificate in {path} cannot be used as an authority of client certificates")]
    Authority {
        /// The file.
        path: PathBuf,
        /// The library's words.
        #[source]
        source: rustls::Error,
    },
    /// A PEM file without a revocation list.
    #[error("{path} holds no revocation list")]
    NoRevocations {
        /// The file.
        path: PathBuf,
    },
    /// A revocation list that cannot be parsed, or that does not say when it ends.
    #[error("a revocation list in {path} cannot be read")]
    Revocations {
        /// The file.
        path: PathBuf,
    },
    /// An authority that signs certificates for anybody, and nothing that says who is meant.
    #[error("the authority {name} in {path} is public and signs certificates for anybody, so it keeps nobody out")]
    PublicAuthority {
        /// The file.
        path: PathBuf,
        /// Its distinguished name.
        name: String,
    },
    /// An authority that signs certificates for anybody, where those for servers are accepted.
    #[error(
        "the authority {name} in {path} is public: with tls.clients.usage = \"any\" every server that it certifies is a caller"
    )]
    PublicUsage {
        /// The file.
        path: PathBuf,
        /// Its distinguished name.
        name: String,
    },
    /// Too many ways to choose among the lists of authorities that changed their keys.
    #[error(
        "there are lists of so many keys of the same names that there are more than {most} ways to choose among them"
    )]
    TooManyRevocations {
        /// How many there may be.
        most: usize,
    },
    /// The verifier of client certificates cannot be built.
    #[error("client certificates cannot be verified with these revocation lists")]
    Verifier(#[source] rustls::Error),
    /// The library refused.
    #[error("the TLS settings cannot be used")]
    Settings(#[source] rustls::Error),
}

impl Error {
    /// The key that is at fault, without `tls.`
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Read { key, .. } | Self::Pem { key, .. } | Self::NoCertificate { key, .. } => {
                key.strip_prefix("tls.").unwrap_or(key)
            }
            Self::Unreadable { .. } | Self::Settings(_) => "certificate",
            Self::NoKey { .. } | Self::Key { .. } | Self::Mismatch { .. } => "key",
            Self::NoAuthorities | Self::Authority { .. } | Self::PublicAuthority { .. } | Self::PublicUsage { .. } => {
                "clients.authorities"
            }
            Self::NoRevocations { .. }
            | Self::Revocations { .. }
            | Self::TooManyRevocations { .. }
            | Self::Verifier(_) => "clients.revocations",
        }
    }

    /// What to do.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path (from the working directory) and who may read the file",
            Self::Pem { .. } => "name a PEM file: text with lines that begin with -----BEGIN",
            Self::NoCertificate { .. } => "name a file with a -----BEGIN CERTIFICATE----- block",
            Self::Unreadable { .. } => "ask its authority for a new one",
            Self::NoKey { .. } => "name a file with a -----BEGIN PRIVATE KEY----- block that is not encrypted",
            Self::Key { .. } => "use an ECDSA (P-256, P-384, P-521), RSA (2048 bits or more) or Ed25519 key",
            Self::Mismatch { .. } => "put the pair together again",
            Self::NoAuthorities => "name the PEM file of the authority that signs the callers' certificates",
            Self::Authority { .. } => "name the certificate of an authority",
            Self::NoRevocations { .. } => "name a file with a -----BEGIN X509 CRL----- block",
            Self::Revocations { .. } => "get the list from its authority again",
            Self::PublicAuthority { .. } => {
                "say in tls.clients.names or tls.clients.fingerprints who the callers are, or use an authority of their own"
            }
            Self::PublicUsage { .. } => "set tls.clients.usage = \"client\", or use an authority of the callers' own",
            Self::TooManyRevocations { .. } => "remove the lists of keys that are not in use any more",
            Self::Verifier(_) => "get the lists from their authorities again",
            Self::Settings(_) => "this is a fault of the program or of the machine's randomness: please report it",
        }
    }

    /// Everything in one line, for the log.
    #[must_use]
    pub fn told(&self) -> String {
        format!("{}: {}", chain(self), self.remedy())
    }
}
