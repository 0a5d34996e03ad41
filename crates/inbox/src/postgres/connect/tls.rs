//! Encryption on the way to PostgreSQL: the server's certificate is always checked, with its name.

use super::fault::Fault;
use crate::Settings;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::{fmt::Display, path::Path, sync::Arc};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Reads authorities and the client's certificate.
pub(super) fn connector(settings: &Settings) -> Result<MakeRustlsConnect, Fault> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let builder = if settings.authorities.is_empty() {
        builder.with_platform_verifier().map_err(|error| unusable(&error))?
    } else {
        let mut roots = RootCertStore::empty();
        for file in &settings.authorities {
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(file, error))? {
                let certificate = certificate.map_err(|error| unreadable(file, error))?;
                roots.add(certificate).map_err(|error| unreadable(file, error))?;
            }
        }
        builder.with_root_certificates(roots)
    };
    let config = match settings.client_certificate() {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate).map_err(|error| unreadable(certificate, error))?;
            let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(certificate, error))?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| unreadable(key, error))?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn unusable(error: &rustls::Error) -> Fault {
    Fault::Unfit(format!(
        "TLS to PostgreSQL cannot be prepared: {error}; install CA certificates, or give inbox.authorities"
    ))
}

fn unreadable(file: &Path, error: impl Display) -> Fault {
    Fault::Unfit(format!("{} cannot be used on the way to PostgreSQL: {error}", file.display()))
}
