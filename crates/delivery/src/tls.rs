//! TLS towards the servers of sinks that speak another protocol than HTTP: whom the sink trusts, and what it shows of itself.
//!
//! The system's authorities are trusted, and those that are configured beside them, as for HTTP sinks. There is no switch that
//! leaves the server's certificate unverified.

use settings::{At, Flaw, Read, authorities, certificate, private_file, section};
use std::path::PathBuf;

section! {
    /// TLS towards the server.
    pub struct Tls {
        /// PEM files of extra root certificates.
        pub authorities: Vec<PathBuf> = authorities(),
        /// PEM file with the certificate that the sink shows to the server, and the chain above it.
        pub certificate: Option<PathBuf> = certificate().optional().example("\"certs/client.pem\""),
        /// PEM file with the key of that certificate.
        pub key: Option<PathBuf> = private_file().optional().example("\"certs/client.key\""),
    }
    check(at) {
        both_or_neither(at, &certificate, &key);
    }
}

fn both_or_neither(at: &mut At<'_, '_>, certificate: &Read<Option<PathBuf>>, key: &Read<Option<PathBuf>>) {
    let (Ok(certificate), Ok(key)) = (certificate, key) else { return };
    match (certificate, key) {
        (Some(_), None) => {
            at.flawed("key", Flaw::new("is required beside `certificate`", "name the file with the certificate's key"));
        }
        (None, Some(_)) => {
            let hint = "name the file with the certificate that the key is for";
            at.flawed("certificate", Flaw::new("is required beside `key`", hint));
        }
        _ => {}
    }
}

#[cfg(feature = "broker")]
impl Tls {
    /// The files that it is made of.
    pub(crate) fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.authorities.iter().chain(&self.certificate).chain(&self.key).map(PathBuf::as_path)
    }
}

#[cfg(feature = "broker")]
pub(crate) use client::{Problem, config};

#[cfg(feature = "broker")]
mod client {
    use super::Tls;
    use rustls::{ClientConfig, crypto::aws_lc_rs};
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    use rustls_platform_verifier::Verifier;
    use std::{
        path::{Path, PathBuf},
        sync::Arc,
    };

    /// Why TLS cannot be set up.
    #[derive(Debug, thiserror::Error)]
    pub(crate) enum Problem {
        /// A file that cannot be read, or holds no PEM of that kind.
        #[error("cannot use the file {}", path.display())]
        File {
            /// Which.
            path: PathBuf,
            /// Why.
            source: rustls_pki_types::pem::Error,
        },
        /// A file without a certificate in it.
        #[error("the file {} holds no PEM certificate", path.display())]
        NoCertificate {
            /// Which.
            path: PathBuf,
        },
        /// The system's authorities cannot be read, or a configured one is none.
        #[error("cannot use the authorities of the system and those of the sink")]
        Authorities(#[source] rustls::Error),
        /// The key is not that of the certificate.
        #[error("cannot use the certificate {} with its key", path.display())]
        Identity {
            /// Of the certificate.
            path: PathBuf,
            /// Why.
            source: rustls::Error,
        },
        /// The provider lacks something.
        #[error("cannot set up TLS")]
        Provider(#[source] rustls::Error),
    }

    /// Reads the files. Blocking.
    pub(crate) fn config(settings: &Tls) -> Result<ClientConfig, Problem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = Vec::new();
        for path in &settings.authorities {
            roots.extend(certificates(path)?);
        }
        let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider)).map_err(Problem::Authorities)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Problem::Provider)?
            .dangerous() // The name of the method; the verifier is the one that reqwest has.
            .with_custom_certificate_verifier(Arc::new(verifier));
        let (Some(path), Some(key)) = (&settings.certificate, &settings.key) else {
            return Ok(builder.with_no_client_auth());
        };
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| Problem::File { path: key.clone(), source })?;
        builder
            .with_client_auth_cert(certificates(path)?, key)
            .map_err(|source| Problem::Identity { path: path.clone(), source })
    }

    fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
        let file = |source| Problem::File { path: path.to_owned(), source };
        let found: Vec<_> =
            CertificateDer::pem_file_iter(path).map_err(file)?.collect::<Result<_, _>>().map_err(file)?;
        if found.is_empty() { Err(Problem::NoCertificate { path: path.to_owned() }) } else { Ok(found) }
    }
}
