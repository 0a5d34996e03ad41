//! Loads what client certificates are judged by.
//!
//! In: the authorities, revocation lists, names and fingerprints of `[tls.clients]`. Out: the verifier that rustls asks, with
//! facts about what was loaded.
//!
//! Revocation: where lists are configured, one that covers the caller's own certificate must exist, be signed by its
//! authority and not have ended; anything else refuses. An intermediate authority is looked up too, but needs no list:
//! few authorities publish one for those below them. Rustls has one policy for a whole chain, so this takes two passes.

use super::{
    certificate::Certificate,
    error::Error,
    pem::certificates,
    revocations::{RevocationList, revocation_lists},
    verifier::Clients,
};
use crate::receive::settings::TlsClients;
use rustls::{
    CertificateError, RootCertStore, crypto::CryptoProvider, pki_types::CertificateDer, server::WebPkiClientVerifier,
};
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What was loaded for judging clients.
#[derive(Debug)]
pub(super) struct LoadedClients {
    pub(super) verifier: Arc<Clients>,
    pub(super) authorities: Vec<Certificate>,
    pub(super) revocations: Vec<RevocationList>,
    /// What is allowed, but should be known.
    pub(super) warnings: Vec<String>,
}

/// Reads authorities and revocation lists.
pub(super) fn load(
    config: &TlsClients,
    is_observing: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<LoadedClients, Error> {
    let mut roots = RootCertStore::empty();
    let (mut authorities, mut subjects) = (Vec::new(), Vec::new());
    for path in &config.authorities {
        for certificate in certificates(path, "tls.clients.authorities")? {
            let unfit = |source| Error::Authority { path: path.clone(), source };
            let facts = Certificate::of(&certificate);
            authorities.push(facts.ok_or_else(|| unfit(CertificateError::BadEncoding.into()))?);
            subjects.extend(subject_of(&certificate));
            roots.add(certificate).map_err(unfit)?;
        }
    }
    if roots.is_empty() {
        return Err(Error::NoAuthorities);
    }
    let lists = revocation_lists(config)?;
    let mut warnings = Vec::new();
    if !lists.is_empty() {
        subjects.sort_unstable();
        subjects.dedup();
        for (name, _) in subjects.iter().filter(|(_, raw)| lists.iter().all(|list| list.issuer != *raw)) {
            warnings.push(format!(
                "tls.clients.revocations has no list of the authority {name}: certificates that it signs itself are \
                 refused, because nothing says whether they were revoked"
            ));
        }
    }
    let (ders, revocations): (Vec<_>, Vec<_>) = lists.into_iter().map(|list| (list.der, list.facts)).unzip();
    let roots = Arc::new(roots);
    let verifier = || {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
            .with_crls(ders.iter().cloned())
            .enforce_revocation_expiration()
    };
    let chain = verifier().allow_unknown_revocation_status().build().map_err(Error::Verifier)?;
    let own = if ders.is_empty() {
        None
    } else {
        Some(verifier().only_check_end_entity_revocation().build().map_err(Error::Verifier)?)
    };
    let verifier = Arc::new(Clients {
        chain,
        own,
        names: config.names.clone(),
        fingerprints: config.fingerprints.clone(),
        is_observing,
    });
    Ok(LoadedClients { verifier, authorities, revocations, warnings })
}

/// The subject for people, and as it stands in the certificate.
fn subject_of(certificate: &CertificateDer<'_>) -> Option<(String, Vec<u8>)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some((certificate.subject().to_string(), certificate.subject().as_raw().to_vec()))
}
