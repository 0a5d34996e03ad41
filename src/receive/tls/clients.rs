//! Loads what client certificates are judged by.
//!
//! In: the authorities, revocation lists, names, subjects and fingerprints of `[tls.clients]`. Out: the verifier that rustls
//! asks, with facts about what was loaded.

use super::{
    certificate::Certificate,
    chains::Chains,
    error::Error,
    pem::certificates,
    public,
    revocations::{ReadList, RevocationList, revocation_lists},
    verifier::Clients,
};
use crate::receive::settings::{ClientUsage, TlsClients};
use rustls::{CertificateError, RootCertStore, crypto::CryptoProvider, pki_types::TrustAnchor};
use std::{path::Path, sync::Arc};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What is asked of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// A good certificate.
    Required,
    /// A certificate; nobody is refused.
    Observed,
    /// A good certificate, or none.
    Optional,
}

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
pub(super) fn load(config: &TlsClients, demand: Demand, provider: &CryptoProvider) -> Result<LoadedClients, Error> {
    let Authorities { anchors, facts, subjects } = authorities(config)?;
    if anchors.is_empty() {
        return Err(Error::NoAuthorities);
    }
    let lists = revocation_lists(&config.revocations)?;
    let warnings = if lists.is_empty() { Vec::new() } else { lacking(&subjects, &lists) };
    let chains = Chains::new(anchors, &lists, config.usage, provider.signature_verification_algorithms)?;
    let verifier = Arc::new(Clients {
        authorities: chains.names(),
        chains,
        names: config.names.clone(),
        subjects: config.subjects.clone(),
        fingerprints: config.fingerprints.clone(),
        is_observing: demand == Demand::Observed,
        is_optional: demand == Demand::Optional,
    });
    let revocations = lists.into_iter().map(|list| list.facts).collect();
    Ok(LoadedClients { verifier, authorities: facts, revocations, warnings })
}

/// The authorities of the configuration.
#[derive(Default)]
struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    facts: Vec<Certificate>,
    /// Of each, its subject for people, and as it stands in the certificate.
    subjects: Vec<(String, Vec<u8>)>,
}

fn authorities(config: &TlsClients) -> Result<Authorities, Error> {
    let mut found = Authorities::default();
    for path in &config.authorities {
        for der in certificates(path, "tls.clients.authorities")? {
            let unfit = |source| Error::Authority { path: path.clone(), source };
            let (_, certificate) =
                X509Certificate::from_der(&der).map_err(|_unreadable| unfit(CertificateError::BadEncoding.into()))?;
            if public::is_public(&certificate) {
                must_be_narrowed(config, path, &certificate)?;
            }
            let facts = Certificate::of(&der).ok_or_else(|| unfit(CertificateError::BadEncoding.into()))?;
            let mut store = RootCertStore::empty();
            store.add(der.clone()).map_err(unfit)?;
            for anchor in store.roots {
                let is_known = |other: &TrustAnchor<'_>| {
                    other.subject == anchor.subject && other.subject_public_key_info == anchor.subject_public_key_info
                };
                if !found.anchors.iter().any(is_known) {
                    found.subjects.push((certificate.subject().to_string(), certificate.subject().as_raw().to_vec()));
                    found.anchors.push(anchor);
                }
            }
            found.facts.push(facts);
        }
    }
    Ok(found)
}

/// An authority that signs for anybody keeps nobody out by itself, and what it signs for a server is in many hands.
fn must_be_narrowed(config: &TlsClients, path: &Path, authority: &X509Certificate<'_>) -> Result<(), Error> {
    let (path, name) = (path.to_owned(), authority.subject().to_string());
    if config.names.is_empty() && config.fingerprints.is_empty() {
        return Err(Error::PublicAuthority { path, name });
    }
    if config.usage == ClientUsage::Any {
        return Err(Error::PublicUsage { path, name });
    }
    Ok(())
}

/// What the lists lack: each authority needs one of its own.
fn lacking(subjects: &[(String, Vec<u8>)], lists: &[ReadList]) -> Vec<String> {
    let mut subjects = subjects.to_vec();
    subjects.sort_unstable();
    let of_one_name = subjects.chunk_by(|(_, one), (_, other)| one == other);
    let warning = |same: &[(String, Vec<u8>)]| {
        let (name, raw) = same.first()?;
        let mut keys: Vec<_> = lists.iter().filter(|list| list.issuer == *raw).map(|list| &list.facts.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let lack = match keys.len() {
            0 => format!("has no list of the authority {name}"),
            found if found < same.len() => {
                format!("has lists of {found} of the {} authorities that are named {name}", same.len())
            }
            _ => return None,
        };
        Some(format!(
            "tls.clients.revocations {lack}: certificates that it signs itself are refused, because nothing says whether they \
             were revoked"
        ))
    };
    of_one_name.filter_map(warning).collect()
}
