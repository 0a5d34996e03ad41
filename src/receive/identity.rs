//! Who sent an event: the socket's address and, where one was asked for, the client certificate.
//!
//! In: a finished handshake. Out: one JSON object, kept with each entry, so that "who sent this?" has an answer later. Only
//! a certificate that an authority of ours vouches for is kept: what another one says is worth nothing. Certificates are
//! odd; what cannot be read is left out, never a panic.

use base::clock::Timestamp;
use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The authenticated sender of the events of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Identity {
    /// Address and port.
    peer: SocketAddr,
    /// `1.2` or `1.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'static str>,
    /// The client certificate, if one was asked for, shown and vouched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<ClientCertificate>,
    /// Why the caller would be refused if client certificates were required and not only observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_be_refused: Option<&'static str>,
}

/// What is worth keeping of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct ClientCertificate {
    /// Distinguished name.
    pub(super) subject: String,
    /// DNS names, addresses, URIs and mail addresses it is for.
    pub(super) names: Vec<String>,
    /// Distinguished name of the authority.
    pub(super) issuer: String,
    /// Hexadecimal.
    pub(super) serial: String,
    /// SHA-256 of the public key (SPKI), hexadecimal: stays the same when a certificate is renewed for the same key.
    pub(super) fingerprint: String,
    /// RFC 3339.
    pub(super) not_after: Option<String>,
    /// The same, for comparing.
    #[serde(skip)]
    pub(super) ends: Timestamp,
}

impl Identity {
    /// Reads the facts of a finished handshake; `certificate` if it was vouched for.
    pub(super) fn of(
        peer: SocketAddr,
        tls: &rustls::ServerConnection,
        certificate: Option<ClientCertificate>,
        would_be_refused: Option<&'static str>,
    ) -> Self {
        let version = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => Some("1.2"),
            Some(rustls::ProtocolVersion::TLSv1_3) => Some("1.3"),
            _ => None,
        };
        Self { peer, tls: version, certificate, would_be_refused }
    }

    /// As kept with an entry.
    pub(super) fn to_json(&self) -> String {
        // Texts always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl ClientCertificate {
    /// Reads a certificate; empty where it cannot be read.
    pub(super) fn of(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Self::default() };
        let ends = Timestamp::from_millis(certificate.validity().not_after.timestamp().saturating_mul(1000));
        Self {
            subject: certificate.subject().to_string(),
            names: names(&certificate),
            issuer: certificate.issuer().to_string(),
            serial: HEXLOWER.encode(certificate.raw_serial()),
            fingerprint: fingerprint(&certificate),
            not_after: ends.to_rfc3339(),
            ends,
        }
    }
}

/// The subject alternative names that are texts or addresses.
pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

/// The subject alternative names that are DNS names.
pub(super) fn dns_names<'a>(certificate: &'a X509Certificate<'a>) -> Vec<&'a str> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'a>| if let GeneralName::DNSName(text) = name { Some(*text) } else { None };
    extension.value.general_names.iter().filter_map(dns).collect()
}

/// The subject alternative names of a certificate that are DNS names; none where it cannot be read.
#[must_use]
pub fn dns_names_of(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    dns_names(&certificate).into_iter().map(str::to_owned).collect()
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|_length| <[u8; 16]>::try_from(octets).map(|octets| Ipv6Addr::from(octets).into())).ok()
}

/// SHA-256 of a certificate's public key (SPKI), hexadecimal.
pub(super) fn fingerprint(certificate: &X509Certificate<'_>) -> String {
    HEXLOWER.encode(&Sha256::digest(certificate.public_key().raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_subject_names_and_fingerprint() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["hooks.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Webhook sender");
        params.not_after = rcgen::date_time_ymd(2040, 1, 2);
        params.serial_number = Some(vec![1, 0xab].into());
        let certificate = ClientCertificate::of(params.self_signed(&key).unwrap().der());
        assert!(certificate.subject.contains("CN=Webhook sender"), "{}", certificate.subject);
        assert_eq!(certificate.issuer, certificate.subject);
        assert_eq!(certificate.names, ["hooks.example", "127.0.0.1"]);
        assert_eq!(certificate.serial, "01ab");
        assert_eq!(certificate.not_after.as_deref(), Some("2040-01-02T00:00:00Z"));
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        assert_eq!(certificate.fingerprint, HEXLOWER.encode(&Sha256::digest(spki)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(der in proptest::collection::vec(any::<u8>(), 0..512)) {
            ClientCertificate::of(&der);
        }

        #[test]
        fn no_broken_certificate_makes_it_panic(at in 0_usize..300, byte in any::<u8>()) {
            let certificate = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
            let mut der = certificate.cert.der().to_vec();
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            ClientCertificate::of(&der);
        }
    }
}
