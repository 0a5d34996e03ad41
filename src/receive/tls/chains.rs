//! Verifies that an authority of ours vouches for a client certificate, and that no list revokes it.
//!
//! Revocation: where lists are configured, one that covers the caller's own certificate must exist, be signed by its
//! authority and not have ended; anything else refuses. An intermediate authority is looked up too, but needs no list:
//! few authorities publish one for those below them. The library has one policy for a whole chain, so this takes two passes.
//!
//! Two authorities may have one name: one that changed its key, with the old and the new key in use for a while. The library
//! looks up lists by the name alone, and takes the first. So authorities of one name are tried one after the other, and so
//! are their lists, by the key that signed them. Of the lists that one key signed, only the newest counts. A list of another
//! key never decides anything, because its signature does not fit.
//!
//! Why not rustls' own verifier: it insists on certificates that are made for clients, and it knows lists by names alone.

use super::{error::Error, revocations::ReadList};
use crate::receive::settings::ClientUsage;
use rustls::{
    CertRevocationListError, CertificateError, DistinguishedName, OtherError, RootCertStore,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, TrustAnchor, UnixTime},
};
use std::sync::Arc;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter,
    KeyUsage, OwnedCertRevocationList, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

/// Most ways to choose among the lists of several keys.
const MOST_CHOICES: usize = 16;

/// What chains are verified with.
#[derive(Debug)]
pub(super) struct Chains {
    /// Authorities, in sets within which no two have the same name.
    authorities: Vec<RootCertStore>,
    lists: Vec<CertRevocationList<'static>>,
    /// The ways to choose lists, of one key for each name, as places in `lists`; the newest first.
    choices: Vec<Vec<usize>>,
    usage: ClientUsage,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Chains {
    /// Puts authorities and lists together; the lists stand newest first.
    pub(super) fn new(
        anchors: Vec<TrustAnchor<'static>>,
        lists: &[ReadList],
        usage: ClientUsage,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, Error> {
        let mut authorities: Vec<RootCertStore> = Vec::new();
        for anchor in anchors {
            let has_name = |set: &RootCertStore| set.roots.iter().any(|other| other.subject == anchor.subject);
            match authorities.iter_mut().find(|set| !has_name(set)) {
                Some(set) => set.roots.push(anchor),
                None => authorities.push(RootCertStore { roots: vec![anchor] }),
            }
        }
        let read = |list: &ReadList| OwnedCertRevocationList::from_der(&list.der).map(CertRevocationList::from);
        let choices = choices(lists).ok_or(Error::TooManyRevocations { most: MOST_CHOICES })?;
        let lists =
            lists.iter().map(read).collect::<Result<_, _>>().map_err(|error| Error::Verifier(refusal(error)))?;
        Ok(Self { authorities, lists, choices, usage, algorithms })
    }

    pub(super) const fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// Names of the authorities, each once: a caller may pick its certificate by them.
    pub(super) fn names(&self) -> Vec<DistinguishedName> {
        // The first set has an authority of every name.
        self.authorities.first().map_or_else(Vec::new, RootCertStore::subjects)
    }

    /// Whether one of the authorities vouches for a certificate.
    pub(super) fn verify(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let own = EndEntityCert::try_from(own).map_err(refusal)?;
        let mut worst = webpki::Error::UnknownIssuer;
        for set in &self.authorities {
            match self.verify_below(&set.roots, &own, intermediates, now) {
                Ok(()) => return Ok(()),
                // What the authority says that signed it is worth more than what others of its name say.
                Err(error) if weight(&error) > weight(&worst) => worst = error,
                Err(_) => {}
            }
        }
        Err(refusal(worst))
    }

    fn verify_below(
        &self,
        authorities: &[TrustAnchor<'_>],
        own: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let pass = |lists: &[&CertRevocationList<'_>], depth, unknown| {
            let revocation = RevocationOptionsBuilder::new(lists).ok().map(|options| {
                options
                    .with_depth(depth)
                    .with_status_policy(unknown)
                    .with_expiration_policy(ExpirationPolicy::Enforce)
                    .build()
            });
            let (algorithms, usage) = (self.algorithms.all, Usage(self.usage));
            own.verify_for_usage(algorithms, authorities, intermediates, now, usage, revocation, None).map(drop)
        };
        let mut verdict = Err(webpki::Error::UnknownIssuer);
        for choice in &self.choices {
            let lists: Vec<_> = choice.iter().filter_map(|place| self.lists.get(*place)).collect();
            verdict = pass(&lists, RevocationCheckDepth::Chain, UnknownStatusPolicy::Allow);
            if verdict.is_ok() && !lists.is_empty() {
                verdict = pass(&lists, RevocationCheckDepth::EndEntity, UnknownStatusPolicy::Deny);
            }
            if !verdict.as_ref().is_err_and(is_of_another_key) {
                break;
            }
        }
        verdict
    }
}

/// Places of the lists of one name, by the key that signed them.
type ByKey<'a> = Vec<(Option<&'a [u8]>, Vec<usize>)>;

/// The ways to choose lists such that those of each name are of one key; `None`: there are too many.
fn choices(lists: &[ReadList]) -> Option<Vec<Vec<usize>>> {
    // By name, and by key within a name, in the order of the newest list.
    let mut names: Vec<(&[u8], ByKey<'_>)> = Vec::new();
    for (place, list) in lists.iter().enumerate() {
        let key = list.facts.key.as_deref();
        let known = names.iter().position(|(name, _)| *name == list.issuer);
        let keys = if let Some(known) = known {
            names.get_mut(known)
        } else {
            names.push((&list.issuer, Vec::new()));
            names.last_mut()
        };
        let (_, keys) = keys?;
        match keys.iter_mut().find(|(other, _)| *other == key) {
            Some((_, places)) => places.push(place),
            None => keys.push((key, vec![place])),
        }
    }
    let mut choices = vec![Vec::new()];
    for (_, keys) in &names {
        choices = choices
            .iter()
            .flat_map(|choice: &Vec<usize>| keys.iter().map(move |(_, places)| [choice.as_slice(), places].concat()))
            .collect();
        if choices.len() > MOST_CHOICES {
            return None;
        }
    }
    Some(choices)
}

/// Whether a list was found by its name that another key signed.
const fn is_of_another_key(error: &webpki::Error) -> bool {
    matches!(
        error,
        webpki::Error::InvalidCrlSignatureForPublicKey
            | webpki::Error::UnsupportedCrlSignatureAlgorithmContext(_)
            | webpki::Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
    )
}

/// How much an error says about the certificate, and not only that another authority signed it.
const fn weight(error: &webpki::Error) -> u8 {
    match error {
        webpki::Error::UnknownIssuer => 0,
        webpki::Error::InvalidSignatureForPublicKey
        | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => 1,
        _ => 2,
    }
}

/// What a certificate may have been made for. One that says nothing may be used for anything.
struct Usage(ClientUsage);

impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        // id-kp-serverAuth, 1.3.6.1.5.5.7.3.1 (RFC 5280 section 4.2.1.12), and id-kp-clientAuth.
        const SERVER: KeyPurposeId<'_> = KeyPurposeId::new(&[0x2b, 6, 1, 5, 5, 7, 3, 1]);
        const CLIENT: KeyPurposeId<'_> = KeyPurposeId::new(&[0x2b, 6, 1, 5, 5, 7, 3, 2]);
        let mut present = Vec::new();
        for purpose in purposes {
            let purpose = purpose?;
            if purpose == CLIENT || (self.0 == ClientUsage::Any && purpose == SERVER) {
                return Ok(());
            }
            present.push(purpose.to_decoded_oid());
        }
        if present.is_empty() {
            return Ok(());
        }
        let required = KeyUsage::client_auth();
        Err(webpki::Error::RequiredEkuNotFoundContext(webpki::RequiredEkuNotFoundContext { required, present }))
    }
}

/// The same in the words of rustls, which has an alert for each.
fn refusal(error: webpki::Error) -> rustls::Error {
    use webpki::Error as Bad;
    match error {
        Bad::BadDer | Bad::BadDerTime | Bad::TrailingData(_) => CertificateError::BadEncoding.into(),
        Bad::CertExpired { .. } | Bad::InvalidCertValidity => CertificateError::Expired.into(),
        Bad::CertNotValidYet { .. } => CertificateError::NotValidYet.into(),
        Bad::UnknownIssuer => CertificateError::UnknownIssuer.into(),
        Bad::CertRevoked => CertificateError::Revoked.into(),
        Bad::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus.into(),
        Bad::CrlExpired { .. } => CertificateError::ExpiredRevocationList.into(),
        Bad::InvalidSignatureForPublicKey
        | Bad::UnsupportedSignatureAlgorithmContext(_)
        | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => CertificateError::BadSignature.into(),
        Bad::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose.into(),
        Bad::IssuerNotCrlSigner => CertRevocationListError::IssuerInvalidForCrl.into(),
        ref other if is_of_another_key(other) => CertRevocationListError::BadSignature.into(),
        other => CertificateError::Other(OtherError(Arc::new(other))).into(),
    }
}
