//! Files of certificates: of authorities, which vouch for others, and of clients.
//!
//! In: the bytes of a PEM file, the time. Out: what is said of it, or its flaw. Among authorities, a certificate that cannot vouch
//! for another one is a flaw: whoever names a server's certificate here means the authority that signed it, and no connection would ever be
//! trusted. A certificate that signed itself is let through, because it vouches for itself.

use crate::flaw::Flaw;
use base::clock::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

/// Whose certificates a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Those who sign others'.
    Authorities,
    /// Somebody's own, perhaps with the chain above it.
    Somebody,
}

/// What a sound file of certificates holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// How many certificates.
    pub(crate) count: usize,
    /// Those whose validity is over: subject and end.
    pub(crate) ended: Vec<(String, String)>,
    /// Those that are no authority and vouch for themselves alone.
    pub(crate) alone: Vec<String>,
}

/// Looks at the content of a file. The reasons continue "names the file x, which".
pub(crate) fn look(bytes: &[u8], of: Of, now: Timestamp) -> Result<Found, Flaw> {
    let again = "get the file from its authority again";
    let mut found = Found::default();
    for der in CertificateDer::pem_slice_iter(bytes) {
        found.count += 1;
        let der = der.map_err(|_not_pem| Flaw::new("has a PEM block that cannot be read", again))?;
        let unreadable = |_: x509_parser::nom::Err<_>| {
            Flaw::new(format!("has a certificate that cannot be read (number {})", found.count), again)
        };
        let (_, certificate) = X509Certificate::from_der(&der).map_err(unreadable)?;
        let subject = certificate.subject().to_string();
        if of == Of::Authorities && !is_authority(&certificate) {
            if certificate.subject() != certificate.issuer() {
                return Err(Flaw::new(
                    format!("holds {subject:?}, a certificate that is no authority"),
                    format!(
                        "name the certificate of the authority that signed it, {:?}",
                        certificate.issuer().to_string()
                    ),
                ));
            }
            found.alone.push(subject.clone());
        }
        let end = Timestamp::from_millis(certificate.validity().not_after.timestamp().saturating_mul(1000));
        if end < now {
            found.ended.push((subject, end.to_rfc3339().unwrap_or_default()));
        }
    }
    if found.count == 0 {
        let hint = "name a file with a line `-----BEGIN CERTIFICATE-----` in it";
        return Err(Flaw::new("holds no PEM certificate", hint));
    }
    Ok(found)
}

/// Whether a certificate may sign others (RFC 5280 sections 4.2.1.3 and 4.2.1.9). Version 1 has no word for it.
fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    let may_sign = certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
    match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca && may_sign,
        Ok(None) => certificate.version() != X509Version::V3,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};

    fn parameters(name: &str, is_ca: IsCa, year: i32) -> CertificateParams {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = is_ca;
        parameters.not_after = date_time_ymd(year, 1, 1);
        parameters
    }

    fn signed_by_itself(name: &str, is_ca: IsCa, year: i32) -> String {
        parameters(name, is_ca, year).self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn said(text: &str) -> Result<Found, String> {
        look(text.as_bytes(), Of::Authorities, Timestamp::from_millis(1_800_000_000_000)).map_err(|flaw| flaw.reason)
    }

    /// (F3) Only what may sign others is an authority, whatever stands beside it in the file.
    #[test]
    fn a_certificate_that_may_sign_nothing_is_no_authority() {
        let ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = signed_by_itself("root", ca, 2050);
        assert_eq!(said(&root), Ok(Found { count: 1, ..Found::default() }));
        let issuer = Issuer::new(parameters("root", ca, 2050), KeyPair::generate().unwrap());
        let mut forbidden = parameters("b", ca, 2050);
        forbidden.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        for leaf in [parameters("a", IsCa::NoCa, 2050), parameters("c", IsCa::ExplicitNoCa, 2050), forbidden] {
            let pem = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().pem();
            let reason = said(&format!("{root}{pem}")).unwrap_err();
            assert!(reason.ends_with("a certificate that is no authority"), "{reason}");
        }
        assert_eq!(said(&signed_by_itself("self", IsCa::NoCa, 2050)).unwrap().alone.len(), 1);
    }

    /// (F3) What holds no certificate, or a broken one, is refused; what has ended is told.
    #[test]
    fn a_file_is_read_to_its_end() {
        let root = signed_by_itself("root", IsCa::Ca(BasicConstraints::Unconstrained), 2020);
        assert_eq!(said(&root).unwrap().ended[0].1, "2020-01-01T00:00:00Z");
        let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
        for (text, reason) in [
            ("", "holds no PEM certificate"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds no PEM certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "has a PEM block that cannot be read"),
            ("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n", "has a PEM block that cannot be read"),
            (empty, "has a certificate that cannot be read (number 1)"),
            (&format!("{root}{empty}"), "has a certificate that cannot be read (number 2)"),
        ] {
            assert_eq!(said(text).unwrap_err(), reason, "{text}");
        }
    }
}
