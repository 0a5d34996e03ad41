//! What the verifier of client certificates found out during a handshake, for the metrics and the log.
//!
//! The note travels in a task-local: rustls asks its one shared verifier and has no place for what the verifier found. The
//! alternative, a `ServerConfig` for each socket, would cost every handshake.

use crate::receive::reason::Reason;
use rustls::CertificateError;
use std::cell::RefCell;

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

pub(super) fn note(change: impl FnOnce(&mut Note)) {
    // Outside of `noting` there is nobody to tell.
    NOTE.try_with(|note| change(&mut note.borrow_mut())).unwrap_or_default();
}

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
