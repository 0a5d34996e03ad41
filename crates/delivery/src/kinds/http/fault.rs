//! What it means that an exchange with the endpoint failed before there was an answer: always worth another try.
//!
//! The words name the phase that failed, and hold no address and no URL, which may hold credentials.

use super::client::CONNECT;
use crate::sink::Failure;
use base::outbound;
use rustls::AlertDescription;
use std::{error::Error as StdError, io, time::Duration};

/// Says what happened; `timeout` is that of the whole attempt.
pub(super) fn explain(error: &reqwest::Error, timeout: Duration) -> Failure {
    Failure::transient(if error.is_timeout() && error.is_connect() {
        format!("could not connect within {:?}", CONNECT.min(timeout))
    } else if error.is_timeout() {
        format!("timed out after {timeout:?}")
    } else if error.is_connect() {
        format!("could not connect: {}", cause(error))
    } else {
        format!("the connection broke before the answer came: {}", cause(error))
    })
}

/// What the client's library says of a proxy's tunnel; it has no type for that.
const TUNNEL: [(&str, &str); 4] = [
    ("proxy authorization required", "the proxy asks for other credentials: see to the sink's proxy_credentials"),
    ("tunnel error: unsuccessful", "the proxy does not connect to the endpoint: see to the rules of the proxy"),
    ("tunnel error: unexpected end of file", "the proxy closed the connection"),
    ("tunnel error: proxy response headers too long", "the proxy's answer is too long"),
];

/// Why a connection could not be made or broke.
fn cause(error: &reqwest::Error) -> String {
    if let Some((_, told)) = TUNNEL.iter().find(|(text, _)| chain_says(error, text)) {
        return (*told).to_owned();
    }
    if chain_says(error, "tunnel error") {
        return format!("the proxy cannot be reached: {}", network(error));
    }
    network(error)
}

/// What the network or TLS says.
fn network(error: &reqwest::Error) -> String {
    if let Some(error) = source::<rustls::Error>(error) {
        return match error {
            rustls::Error::InvalidCertificate(problem) => {
                format!("the endpoint's certificate is not accepted ({})", certificate(problem))
            }
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
                "the endpoint asks for a client certificate: set the sink's certificate and key".to_owned()
            }
            rustls::Error::AlertReceived(alert) => format!("the endpoint ended the TLS handshake ({alert:?})"),
            _ => "the TLS handshake failed".to_owned(),
        };
    }
    if let Some(refused) = source::<outbound::Refused>(error) {
        return refused.to_string();
    }
    match source::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "no route to the host".to_owned(),
        Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => "connection closed".to_owned(),
        _ if error.is_connect() && chain_says(error, "dns error") => "the host name could not be resolved".to_owned(),
        Some(kind) => kind.to_string(),
        None if chain_says(error, "connection closed before message completed") => "connection closed".to_owned(),
        None => "not an HTTP exchange".to_owned(),
    }
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
fn source<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
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

/// Whether an error or one of its sources has this text; for the library's errors that have no type of their own.
fn chain_says(error: &(dyn StdError + 'static), text: &str) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(text) {
            return true;
        }
        next = error.source();
    }
    false
}
