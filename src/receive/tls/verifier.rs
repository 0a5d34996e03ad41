//! Judges client certificates: whom `[tls.clients]` lets in.
//!
//! In: the certificates of each full handshake. Out: for rustls yes or no; for the metrics and the log a [`Reason`] from a
//! closed set (`note`). First the chain is verified, then the names and fingerprints are looked up. Nothing that a
//! certificate says is believed, compared or logged before its chain is verified.
//!
//! With `mode = "observe"` every answer to rustls is yes, even where there is no certificate or no proof of its key, and
//! the judgement is only noted. Such sessions are never resumed, so that each handshake is judged.

use super::note::{Note, note, verdict_of};
use crate::receive::{identity, reason::Reason};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest subject that is written to the log, in characters.
const LOGGED_SUBJECT: usize = 256;

/// The verifier that rustls asks.
#[derive(Debug)]
pub(super) struct Clients {
    /// Refuses what is revoked, at any depth.
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    /// Refuses a caller's own certificate that no list covers; `None` without lists.
    pub(super) own: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) names: Vec<String>,
    pub(super) fingerprints: Vec<String>,
    pub(super) is_observing: bool,
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
            let fingerprint = identity::fingerprint(certificate);
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
