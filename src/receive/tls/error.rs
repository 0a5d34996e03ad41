//! Why TLS settings cannot be used; each names the file, and what to do.

use rustls::pki_types::pem;
use std::{io, path::PathBuf};

/// Why the TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}: check {key} and who may read the file")]
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
    #[error("{path} is not a PEM file: {key} needs text that begins with -----BEGIN")]
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
    #[error("{path} holds no certificate: {key} needs a -----BEGIN CERTIFICATE----- block")]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        key: &'static str,
    },
    /// A certificate that cannot be parsed.
    #[error("the first certificate in {path} cannot be read: ask its authority for a new one")]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// A PEM file without a private key.
    #[error("{path} holds no private key: tls.key needs a -----BEGIN PRIVATE KEY----- block that is not encrypted")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A key of a kind that cannot be used.
    #[error(
        "the key in {path} cannot be used: it must be an ECDSA (P-256, P-384, P-521), RSA (2048 bits or more) or Ed25519 key"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// The library's words.
        #[source]
        source: rustls::Error,
    },
    /// Certificate and key are not a pair.
    #[error("the key {key} does not belong to the first certificate in {certificate}: put the pair together again")]
    Mismatch {
        /// `tls.certificate`
        certificate: PathBuf,
        /// `tls.key`
        key: PathBuf,
    },
    /// Client certificates are asked for, but no authority is named.
    #[error(
        "client certificates are asked for, but tls.clients.authorities names no authority: add the PEM file of the \
         authority that signs them"
    )]
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
    #[error("{path} holds no revocation list: tls.clients.revocations needs a -----BEGIN X509 CRL----- block")]
    NoRevocations {
        /// The file.
        path: PathBuf,
    },
    /// A revocation list that cannot be parsed, or that does not say when it ends.
    #[error("a revocation list in {path} cannot be read: get it from its authority again")]
    Revocations {
        /// The file.
        path: PathBuf,
    },
    /// An authority that signs certificates for anybody, and nothing that says who is meant.
    #[error(
        "the authority {name} in {path} is public and signs certificates for anybody, so it keeps nobody out: say in \
         tls.clients.names or tls.clients.fingerprints who the callers are, or use an authority of the callers' own"
    )]
    PublicAuthority {
        /// The file.
        path: PathBuf,
        /// Its distinguished name.
        name: String,
    },
    /// An authority that signs certificates for anybody, where those for servers are accepted.
    #[error(
        "the authority {name} in {path} is public: with tls.clients.usage = \"any\" every server that it certifies is a \
         caller; set tls.clients.usage = \"client\", or use an authority of the callers' own"
    )]
    PublicUsage {
        /// The file.
        path: PathBuf,
        /// Its distinguished name.
        name: String,
    },
    /// Too many ways to choose among the lists of authorities that changed their keys.
    #[error(
        "tls.clients.revocations holds lists of so many keys of the same names that there are more than {most} ways to \
         choose among them: remove the lists of keys that are not in use any more"
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
