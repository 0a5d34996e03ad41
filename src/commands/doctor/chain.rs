//! The certificate of the public listener as a caller sees it: which chain is shown, with which versions of TLS, and what a caller
//! would think of it.

use super::report::Section;
use crate::{commands::health::reachable, config::Config, receive::tls::Validity};
use base::{clock, clock::Timestamp};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// For one handshake.
const PATIENCE: Duration = Duration::from_secs(5);

type Chain = Vec<CertificateDer<'static>>;

/// Looks at the listener, where it can be reached, else at the files. `host`: the name under which Linxo calls. Returns what was
/// found, and the names and authorities of the chain, for the vendor.
pub(super) async fn look(config: &Config, listens: bool, host: Option<&str>) -> (Section, Vec<String>) {
    let mut section = Section::new("Certificate");
    let tls = &config.tls;
    let from_file: Option<Chain> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .ok()
        .filter(|chain: &Chain| !chain.is_empty());
    let shown = if listens { shown(&mut section, config, host).await } else { None };
    if shown.is_none() {
        let told = format!(
            "looked at in {}, because nothing listens at {}",
            tls.certificate.display(),
            config.listener.address()
        );
        section.note(told);
    }
    if let (Some(shown), Some(file)) = (&shown, &from_file)
        && shown.first() != file.first()
    {
        section.warn(
            format_args!("the listener shows another certificate than {} holds", tls.certificate.display()),
            "the log says why the new one was not taken (`reload`); mend it, or restart the service",
        );
    }
    let Some(chain) = shown.or(from_file) else {
        if tls.may_generate {
            section.note("there is none yet: `serve` makes a throwaway one for localhost, which no vendor trusts");
        } else {
            section.error(
                format_args!("{} holds none", tls.certificate.display()),
                "name a file with the certificate, and those of its authorities behind it",
            );
        }
        return (section, Vec::new());
    };
    let facts = judge(&mut section, &chain, &public(), (host, clock::now()));
    if !chain.is_empty() && tls.key.exists() {
        // Whether the two belong together was found out when the configuration was read.
        section.ok("the key belongs to the certificate");
    }
    (section, facts)
}

/// The chain that the listener shows, with each version of TLS.
async fn shown(section: &mut Section, config: &Config, host: Option<&str>) -> Option<Chain> {
    let address = reachable(config.listener.address());
    let mut chain = None;
    for (word, version) in [("1.3", &TLS13), ("1.2", &TLS12)] {
        match handshake(address, host, version).await {
            Some(found) => {
                section.ok(format_args!("the listener at {address} takes TLS {word}"));
                chain = Some(found);
            }
            None if word == "1.2" && chain.is_some() => {
                section.note(format_args!("the listener at {address} does not take TLS 1.2 (tls.minimum_version)"));
            }
            None => section.warn(
                format_args!("no handshake of TLS {word} with the listener at {address}"),
                "with a proxy in front (listener.proxy_protocol) only the proxy can make one; else look at the service's log",
            ),
        }
    }
    chain
}

/// The chain of one handshake. Where callers must show a certificate, the handshake fails after that, and the chain was seen.
async fn handshake(
    address: SocketAddr,
    host: Option<&str>,
    version: &'static SupportedProtocolVersion,
) -> Option<Chain> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let seen = Arc::new(Seen { chain: Mutex::default(), provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as _)
        .with_no_client_auth();
    let name = host.and_then(|host| ServerName::try_from(host.to_owned()).ok());
    let name = name.unwrap_or_else(|| ServerName::from(address.ip()));
    let exchange = async {
        let socket = TcpStream::connect(address).await.ok()?;
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.ok()
    };
    // What was seen before it failed is all that is wanted.
    drop(timeout(PATIENCE, exchange).await);
    base::sync::lock(&seen.chain).take()
}

/// Takes any certificate, and keeps it: nothing is sent to who shows it.
#[derive(Debug)]
struct Seen {
    chain: Mutex<Option<Chain>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(first).chain(rest).map(|one| one.clone().into_owned()).collect();
        *base::sync::lock(&self.chain) = Some(chain);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The authorities that browsers trust.
fn public() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    Arc::new(roots)
}

/// What a caller that has these authorities would think of a chain. Returns who is in it, one line each.
fn judge(
    section: &mut Section,
    chain: &[CertificateDer<'static>],
    roots: &Arc<RootCertStore>,
    (host, now): (Option<&str>, Timestamp),
) -> Vec<String> {
    let parsed: Vec<X509Certificate<'_>> =
        chain.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect();
    let Some(first) = parsed.first().filter(|_| parsed.len() == chain.len()) else {
        section.error("a certificate of the chain cannot be read", "write the file again, as the authority gave it");
        return Vec::new();
    };
    let facts: Vec<String> =
        parsed.iter().map(|one| format!("{}, issued by {}", one.subject(), one.issuer())).collect();
    ends(section, first, now);
    let is_alone = first.subject() == first.issuer();
    if let Some((one, next)) =
        parsed.iter().zip(parsed.iter().skip(1)).find(|(one, next)| one.issuer() != next.subject())
    {
        section.error(
            format_args!(
                "the chain is out of order: {} is followed by {}, which did not issue it",
                one.subject(),
                next.subject()
            ),
            "put the certificate first, and behind each one that of its issuer",
        );
    } else {
        section.ok(format_args!("the chain of {} is in order", parsed.len()));
    }
    if !is_alone && parsed.iter().skip(1).any(|one| one.subject() == one.issuer()) {
        section.note("the chain holds a root, which callers have or do not believe: it can be left out");
    }
    trusted(section, chain, roots, (is_alone, parsed.last().unwrap_or(first)));
    of_name(section, chain, host);
    facts
}

fn ends(section: &mut Section, first: &X509Certificate<'_>, now: Timestamp) {
    let millis = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
    let (from, until) = (first.validity().not_before.timestamp(), first.validity().not_after.timestamp());
    let facts = crate::receive::tls::Certificate {
        subject: first.subject().to_string(),
        names: Vec::new(),
        not_before: millis(from),
        not_after: millis(until),
    };
    let days = facts.not_after.since(now).as_secs() / 86_400;
    let date = facts.not_after.to_rfc3339().unwrap_or_default();
    match facts.validity(now) {
        Validity::Good => section.ok(format_args!("valid for {days} days more, until {date}")),
        Validity::EndsSoon { .. } => {
            section.warn(
                format_args!("valid for {days} days more, until {date}"),
                "renew it, and put it in place: it is taken up without a restart",
            );
        }
        Validity::Expired => {
            section.error(format_args!("it ended on {date}"), "renew it, or set the clock of this machine");
        }
        Validity::NotYet => section.error("it is not valid yet", "set the clock of this machine, or wait"),
    }
}

/// Whether the chain leads to one of the authorities.
fn trusted(
    section: &mut Section,
    chain: &[CertificateDer<'static>],
    roots: &Arc<RootCertStore>,
    (is_alone, last): (bool, &X509Certificate<'_>),
) {
    let Some((first, rest)) = chain.split_first() else { return };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider).build() else { return };
    // The name is another question.
    let nobody = ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED));
    let Err(error) = verifier.verify_server_cert(first, rest, &nobody, &[], UnixTime::now()) else { return };
    match error {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => section.ok("a caller that has the public authorities believes the chain"),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) if is_alone => section.warn(
            "it is signed by itself: no caller believes it that was not given it",
            "get one of a public authority, or ask Linxo whether it takes a private one",
        ),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => section.warn(
            format_args!("the chain ends with {}, whose issuer is no public authority: {}", last.subject(), last.issuer()),
            "if the authority is public, a certificate of the chain is missing: put it behind the others; else Linxo must be given the authority",
        ),
        // Said above.
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => {}
        error => section.error(format_args!("a caller would refuse the chain: {error}"), "get a certificate that is made for servers"),
    }
}

/// Whether the certificate is for the name that Linxo calls.
fn of_name(section: &mut Section, chain: &[CertificateDer<'static>], host: Option<&str>) {
    let Some(host) = host else {
        return section.note("not compared with the public name: give --url https://NAME:PORT/PATH as Linxo has it");
    };
    let is_for = ServerName::try_from(host).is_ok_and(|name| {
        let first = chain.first().and_then(|first| webpki::EndEntityCert::try_from(first).ok());
        first.is_some_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    });
    if is_for {
        section.ok(format_args!("it is for {host}"));
    } else {
        section.error(
            format_args!("it is not for {host}"),
            "get a certificate whose subject alternative names have the host of the URL",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{super::report::Level, *};
    use double::pki::{Authority, Leaf};

    fn chain(pem: &str) -> Chain {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
    }

    fn judged(pem: &str, host: Option<&str>) -> Vec<(Level, String)> {
        let mut section = Section::new("Certificate");
        judge(&mut section, &chain(pem), &public(), (host, clock::now()));
        assert!(section.lines.iter().all(|line| (line.level > Level::Note) == line.remedy.is_some()), "{section:?}");
        section.lines.into_iter().map(|line| (line.level, line.text)).collect()
    }

    fn has(found: &[(Level, String)], level: Level, part: &str) -> bool {
        found.iter().any(|(of, text)| *of == level && text.contains(part))
    }

    #[test]
    fn order_names_and_issuers_are_told() {
        let authority = Authority::new("Private root").unwrap();
        let leaf = authority.server(&["hooks.example"]).unwrap();
        let root = authority.certificate_pem();
        let found = judged(&leaf.certificate_pem, Some("hooks.example"));
        assert!(has(&found, Level::Ok, "it is for hooks.example"), "{found:?}");
        assert!(has(&found, Level::Warning, "whose issuer is no public authority"), "{found:?}");
        assert!(has(
            &judged(&leaf.certificate_pem, Some("other.example")),
            Level::Error,
            "it is not for other.example"
        ));
        assert!(has(&judged(&leaf.certificate_pem, None), Level::Note, "give --url"));
        let whole = format!("{}{root}", leaf.certificate_pem);
        let found = judged(&whole, None);
        assert!(
            has(&found, Level::Ok, "the chain of 2 is in order") && has(&found, Level::Note, "holds a root"),
            "{found:?}"
        );
        let other = Authority::new("Another root").unwrap();
        let other = other.certificate_pem();
        let found = judged(&format!("{}{other}{root}", leaf.certificate_pem), None);
        assert!(has(&found, Level::Error, "the chain is out of order"), "{found:?}");
        let alone = rcgen::generate_simple_self_signed(["hooks.example".to_owned()]).unwrap().cert.pem();
        assert!(has(&judged(&alone, None), Level::Warning, "it is signed by itself"));
        assert!(has(&judged(root, None), Level::Error, "a caller would refuse the chain"));
        let ended = authority.issue(&Leaf::server(&["hooks.example"]).expired()).unwrap().certificate_pem;
        assert!(has(&judged(&ended, None), Level::Error, "it ended on "));
        let mut section = Section::new("Certificate");
        assert!(
            judge(&mut section, &[CertificateDer::from(vec![1, 2, 3])], &public(), (None, clock::now())).is_empty()
        );
        assert_eq!(section.lines[0].level, Level::Error);
    }

    #[test]
    fn a_chain_to_a_known_authority_is_believed() {
        let authority = Authority::new("Root").unwrap();
        let leaf = authority.server(&["hooks.example"]).unwrap().certificate_pem;
        let mut roots = RootCertStore::empty();
        roots.add(chain(authority.certificate_pem()).remove(0)).unwrap();
        let mut section = Section::new("Certificate");
        judge(&mut section, &chain(&leaf), &Arc::new(roots), (Some("hooks.example"), clock::now()));
        assert!(section.lines.iter().all(|line| line.level == Level::Ok), "{section:?}");
        assert!(section.lines.iter().any(|line| line.text.contains("believes the chain")), "{section:?}");
    }
}
