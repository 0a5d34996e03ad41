//! Judges client certificates: whom `[tls.clients]` lets in.
//!
//! In: the certificates of each full handshake. Out: for rustls yes or no; for the metrics and the log a [`Reason`] from a
//! closed set (`note`). First the chain is verified, then names, subjects and fingerprints are looked up. Nothing that a
//! certificate says is believed, compared or logged before its chain is verified.
//!
//! DNS names come from the subject alternative names alone. The common name of a subject is another thing: an authority that
//! may sign for one domain only can still write any common name into a certificate, and nothing in a chain forbids that. So
//! common names have a setting of their own.
//!
//! With `mode = "observe"` every answer to rustls is yes, even where there is no certificate or no proof of its key, and
//! the judgement is only noted. Such sessions are never resumed, so that each handshake is judged.

use super::{
    chains::Chains,
    note::{Note, note, verdict_of},
};
use crate::receive::{identity, reason::Reason};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest subject that is written to the log, in characters.
const LOGGED_SUBJECT: usize = 256;

/// The verifier that rustls asks.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) chains: Chains,
    /// Names of the authorities, as callers are told.
    pub(super) authorities: Vec<DistinguishedName>,
    /// DNS names.
    pub(super) names: Vec<String>,
    /// Common names.
    pub(super) subjects: Vec<String>,
    pub(super) fingerprints: Vec<String>,
    pub(super) is_observing: bool,
    /// Whether a caller without a certificate is let through. One with a bad certificate is not.
    pub(super) is_optional: bool,
}

impl Clients {
    /// Judges a chain: the authorities' word first, then our lists.
    fn judge(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if let Err(error) = self.chains.verify(own, intermediates, now) {
            note(|note| note.reason = Some(verdict_of(&error).unwrap_or(Reason::Malformed)));
            return Err(error);
        }
        note(|note| note.is_vouched_for = true);
        if self.names.is_empty() && self.subjects.is_empty() && self.fingerprints.is_empty() {
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
        if !self.names.is_empty() || !self.subjects.is_empty() {
            let is_in = |list: &[String], name: &str| list.iter().any(|listed| listed.eq_ignore_ascii_case(name));
            let mut subjects = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
            let mut names = identity::dns_names(certificate).into_iter();
            if !names.any(|name| is_in(&self.names, name)) && !subjects.any(|subject| is_in(&self.subjects, subject)) {
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
        !self.is_observing && !self.is_optional
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // The same while observing: a caller that picks its certificate by them must pick the same one.
        &self.authorities
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
        self.proven(verify_tls12_signature(message, cert, dss, self.chains.algorithms()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proven(verify_tls13_signature(message, cert, dss, self.chains.algorithms()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.algorithms().supported_schemes()
    }
}
