//! Words for what goes wrong on the way to a server, whatever is spoken there. They hold no address and no URL.

use base::outbound;
use std::{error::Error as StdError, io};

/// Why a connection could not be made, or broke, where one of the sources of the error says it.
pub(crate) fn words(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(error) = source::<rustls::Error>(error) {
        return Some(match error {
            rustls::Error::InvalidCertificate(problem) => {
                format!("the endpoint's certificate is not accepted ({})", certificate(problem))
            }
            rustls::Error::AlertReceived(alert) => format!("the endpoint ended the TLS handshake ({alert:?})"),
            _ => "the TLS handshake failed".to_owned(),
        });
    }
    if let Some(refused) = source::<outbound::Refused>(error) {
        return Some(refused.to_string());
    }
    Some(match source::<io::Error>(error)?.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route to the host".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            "connection closed".to_owned()
        }
        _ => return None,
    })
}

fn certificate(problem: &rustls::CertificateError) -> &'static str {
    use rustls::CertificateError as Problem;
    match problem {
        Problem::Expired | Problem::ExpiredContext { .. } => "expired",
        Problem::NotValidYet | Problem::NotValidYetContext { .. } => "not valid yet",
        Problem::NotValidForName | Problem::NotValidForNameContext { .. } => "made for another host name",
        Problem::Revoked => "revoked",
        Problem::UnknownIssuer => "unknown issuer",
        _ => "invalid",
    }
}

/// The first error of a type among the sources, looking into I/O errors too.
pub(crate) fn source<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
