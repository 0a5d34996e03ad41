//! Judges client certificates: whom `[tls.clients]` lets in, and why it refuses the others.
//!
//! In: the authorities, revocation lists, names and fingerprints of the configuration; then the certificates of each full
//! handshake. Out: for rustls yes or no; for the metrics and the log a [`Reason`] from a closed set. First the chain is
//! verified, then the lists are looked at: nothing that a certificate says is believed, compared or logged before.
//!
//! With `mode = "observe"` every answer to rustls is yes, even where there is no certificate or no proof of its key, and
//! the judgement is only noted. Such sessions are never resumed, so that each handshake is judged.
//!
//! The note travels in a task-local: rustls asks its one shared verifier and has no place for what it found. The
//! alternative, a `ServerConfig` for each socket, costs every handshake.
//!
//! Revocation: where lists are configured, one that covers the caller's own certificate must exist, be signed by its
//! authority and not have ended; anything else refuses. An intermediate authority is looked up too, but needs no list:
//! few authorities publish one for those below them. Rustls has one policy for a whole chain, so this takes two passes.

use super::{Certificate, Error, RevocationList, certificates, read};
use crate::{
    config::TlsClients,
    receive::{identity, reason::Reason},
};
use base::clock::Timestamp;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use sha2::{Digest as _, Sha256};
use std::{cell::RefCell, path::Path, sync::Arc};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

/// Longest subject that is written to the log, in characters.
const LOGGED_SUBJECT: usize = 256;

/// What an error of rustls says about the client's certificate, if it is about that.
pub(in crate::receive) fn verdict_of(error: &rustls::Error) -> Option<Reason> {
    use CertificateError as Bad;
    Some(match error {
        rustls::Error::NoCertificatesPresented => Reason::NoCertificate,
        rustls::Error::InvalidCertificate(error) => match error {
            Bad::Expired | Bad::ExpiredContext { .. } => Reason::Expired,
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => Reason::NotYetValid,
            Bad::Revoked => Reason::Revoked,
            Bad::ExpiredRevocationList | Bad::ExpiredRevocationListContext { .. } => Reason::CrlExpired,
            Bad::UnknownRevocationStatus => Reason::UnknownRevocationStatus,
            Bad::UnknownIssuer => Reason::UnknownAuthority,
            Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => Reason::WrongUsage,
            Bad::BadSignature
            | Bad::UnsupportedSignatureAlgorithmContext { .. }
            | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Reason::BadSignature,
            _ => Reason::Malformed,
        },
        // A list that its authority did not sign, or may not have signed, says nothing.
        rustls::Error::InvalidCertRevocationList(_) => Reason::UnknownRevocationStatus,
        _ => return None,
    })
}

/// What was found out during a handshake.
#[derive(Debug, Default)]
pub(in crate::receive) struct Note {
    /// Why the certificate is refused, or would be.
    pub(in crate::receive) reason: Option<Reason>,
    /// Whether an authority of ours vouches for what the certificate says.
    pub(in crate::receive) is_vouched_for: bool,
    /// The subject of a certificate that is vouched for, but refused.
    pub(in crate::receive) subject: Option<String>,
}

tokio::task_local! {
    static NOTE: RefCell<Note>;
}

/// Drives a handshake and hands out what was noted meanwhile.
///
/// # Cancel safety
/// As that of the handshake.
pub(in crate::receive) async fn noting<F: Future>(handshake: F) -> (F::Output, Note) {
    let noted = async {
        let output = handshake.await;
        (output, NOTE.with(RefCell::take))
    };
    NOTE.scope(RefCell::default(), noted).await
}

fn note(change: impl FnOnce(&mut Note)) {
    // Outside of `noting` there is nobody to tell.
    NOTE.try_with(|note| change(&mut note.borrow_mut())).unwrap_or_default();
}

/// The verifier that rustls asks.
#[derive(Debug)]
pub(in crate::receive) struct Clients {
    /// Refuses what is revoked, at any depth.
    chain: Arc<dyn ClientCertVerifier>,
    /// Refuses a caller's own certificate that no list covers; `None` without lists.
    own: Option<Arc<dyn ClientCertVerifier>>,
    names: Vec<String>,
    fingerprints: Vec<String>,
    is_observing: bool,
}

/// What was loaded for judging clients.
#[derive(Debug)]
pub(in crate::receive) struct LoadedClients {
    pub(in crate::receive) verifier: Arc<Clients>,
    pub(in crate::receive) authorities: Vec<Certificate>,
    pub(in crate::receive) revocations: Vec<RevocationList>,
    /// What is allowed, but should be known.
    pub(in crate::receive) warnings: Vec<String>,
}

/// Reads authorities and revocation lists.
pub(in crate::receive) fn load(
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

struct ReadList {
    der: CertificateRevocationListDer<'static>,
    issuer: Vec<u8>,
    facts: RevocationList,
}

/// Reads the lists, the newest first: where there are several of one authority, the first that fits is the one used.
fn revocation_lists(config: &TlsClients) -> Result<Vec<ReadList>, Error> {
    const KEY: &str = "tls.clients.revocations";
    let mut lists = Vec::new();
    for path in &config.revocations {
        let text = read(path, KEY)?;
        let before = lists.len();
        for der in CertificateRevocationListDer::pem_slice_iter(&text) {
            let der = der.map_err(|source| Error::Pem { path: path.clone(), key: KEY, source })?;
            lists.push(revocation_list(path, der)?);
        }
        if lists.len() == before {
            return Err(Error::NoRevocations { path: path.clone() });
        }
    }
    lists.sort_by_key(|list| std::cmp::Reverse(list.facts.made));
    Ok(lists)
}

fn revocation_list(path: &Path, der: CertificateRevocationListDer<'static>) -> Result<ReadList, Error> {
    let unreadable = || Error::Revocations { path: path.to_owned() };
    let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_position| unreadable())?;
    let millis = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
    let facts = RevocationList {
        issuer: list.issuer().to_string(),
        made: millis(list.last_update().timestamp()),
        ends: millis(list.next_update().ok_or_else(unreadable)?.timestamp()),
    };
    let issuer = list.issuer().as_raw().to_vec();
    Ok(ReadList { der, issuer, facts })
}

impl Clients {
    /// Judges a chain: the authorities' word first, then our lists.
    fn judge(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let passes = [Some(&self.chain), self.own.as_ref()];
        let mut refusals = passes.into_iter().flatten().map(|pass| pass.verify_client_cert(own, intermediates, now));
        if let Some(error) = refusals.find_map(Result::err) {
            note(|note| note.reason = Some(verdict_of(&error).unwrap_or(Reason::Malformed)));
            return Err(error);
        }
        note(|note| note.is_vouched_for = true);
        if self.names.is_empty() && self.fingerprints.is_empty() {
            return Ok(());
        }
        // What the chain's verification could read, this can read too; if not, nothing in it is on a list.
        let certificate = X509Certificate::from_der(own).ok().map(|(_, certificate)| certificate);
        let Some(reason) = certificate.as_ref().map_or(Some(Reason::Malformed), |read| self.unlisted(read)) else {
            return Ok(());
        };
        note(|note| {
            note.reason = Some(reason);
            note.subject = certificate.map(|read| read.subject().to_string().chars().take(LOGGED_SUBJECT).collect());
        });
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn unlisted(&self, certificate: &X509Certificate<'_>) -> Option<Reason> {
        if !self.names.is_empty() {
            let is_listed = |name: &str| self.names.iter().any(|listed| listed.eq_ignore_ascii_case(name));
            let mut subject = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
            if !subject.any(is_listed) && !identity::dns_names(certificate).into_iter().any(is_listed) {
                return Some(Reason::NameNotListed);
            }
        }
        if !self.fingerprints.is_empty() {
            let fingerprint = identity::hex(&Sha256::digest(certificate.public_key().raw));
            if !self.fingerprints.contains(&fingerprint) {
                return Some(Reason::FingerprintNotListed);
            }
        }
        None
    }

    /// Lets an unproven key pass where nobody is refused, and notes that nothing in the certificate is proven then.
    fn proven(
        &self,
        verified: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if verified.is_err() && self.is_observing {
            note(|note| {
                let reason = note.reason.unwrap_or(Reason::BadSignature);
                *note = Note { reason: Some(reason), is_vouched_for: false, subject: None };
            });
            return Ok(HandshakeSignatureValid::assertion());
        }
        verified
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        !self.is_observing
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // The same while observing: a caller that picks its certificate by them must pick the same one.
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.judge(end_entity, intermediates, now) {
            Err(error) if !self.is_observing => Err(error),
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proven(self.chain.verify_tls12_signature(message, cert, dss))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proven(self.chain.verify_tls13_signature(message, cert, dss))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_what_is_wrong_with_a_certificate() {
        assert_eq!(verdict_of(&rustls::Error::NoCertificatesPresented), Some(Reason::NoCertificate));
        assert_eq!(verdict_of(&CertificateError::Expired.into()), Some(Reason::Expired));
        assert_eq!(verdict_of(&CertificateError::BadSignature.into()), Some(Reason::BadSignature));
        assert_eq!(verdict_of(&CertificateError::BadEncoding.into()), Some(Reason::Malformed));
        assert_eq!(verdict_of(&rustls::Error::DecryptError), None);
    }
}
