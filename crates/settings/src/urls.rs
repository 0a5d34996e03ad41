//! URLs that bank data may be sent to.
//!
//! Plain `http://` is for this machine alone (a test double, a sidecar). A private network is no exception: names there
//! resolve to whatever the network says, and the contents are account numbers and names. Addresses that are no
//! server's, such as those of a cloud's metadata service, are refused however they are written; what a name resolves to
//! is judged when a connection is made, see [`base::outbound`].

use crate::flaw::Flaw;
use base::outbound;
use std::{fmt, net::IpAddr};
use url::{Host, Url};

/// An absolute URL without credentials and fragment, encrypted unless it stays on this machine.
///
/// # Errors
/// Why nothing may be sent there.
pub fn destination(text: &str) -> Result<Url, Flaw> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Flaw::new("holds credentials", "URLs end up in logs; remove what stands before the `@`"));
    }
    if url.fragment().is_some() {
        return Err(Flaw::new("has a fragment", "remove the `#` and what follows"));
    }
    let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case(url.scheme()) || rest.starts_with('/') || has_odd_characters(text) {
        let hint = "write scheme, host and path plainly, such as \"https://app.internal/linxo\"";
        return Err(Flaw::new("means something else than it looks like", hint));
    }
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    if path.split('/').skip(1).any(is_dots) {
        return Err(Flaw::new("has a `.` or `..` in its path", "write the path that is meant"));
    }
    if let Some(refusal) = address(&url).and_then(outbound::refusal) {
        return Err(Flaw::new(refusal, "name the server that is meant"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(Flaw::new(
            "is not encrypted",
            "bank data goes there: use https://; http:// is only for localhost, 127.0.0.0/8 and [::1]",
        )),
        _ => Err(Flaw::new("is neither https:// nor http://", "write a URL such as \"https://app.internal/linxo\"")),
    }
}

/// A destination that paths are appended to: no query, no trailing slash.
///
/// # Errors
/// Why nothing may be sent there, or appended to it.
pub fn base(text: &str) -> Result<String, Flaw> {
    let url = destination(text)?;
    if url.query().is_some() {
        return Err(Flaw::new("has a query", "remove the `?` and what follows: paths are appended to this URL"));
    }
    if url.path().contains("//") {
        return Err(Flaw::new("has an empty segment in its path", "write the path with single slashes"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A proxy that connections to a destination go through: scheme, host and port, and nothing else.
///
/// # Errors
/// What it has besides, or why nothing may be sent there.
pub fn proxy(text: &str) -> Result<String, Flaw> {
    const HINT: &str = "write a URL such as \"http://proxy.internal:3128\"";
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let (Some("http" | "https"), Some((_, rest))) = (scheme, text.split_once("://")) else {
        return Err(Flaw::new("is neither http:// nor https://", HINT));
    };
    // Judged as an encrypted destination: what goes through is encrypted for the one behind it.
    let url = destination(&format!("https://{rest}"))?;
    if url.path() != "/" || url.query().is_some() {
        return Err(Flaw::new("has something behind host and port", HINT));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The two schemes of a protocol, and the port that each has where none is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schemes {
    /// Encrypted from the start, or before the first secret.
    pub encrypted: (&'static str, u16),
    /// For this machine alone.
    pub plain: (&'static str, u16),
}

/// A server that is spoken to in another protocol than HTTP: scheme, host and port, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    text: String,
    /// Whether TLS is spoken there.
    pub is_encrypted: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// As it was written, or else that of the scheme.
    pub port: u16,
}

impl Server {
    /// Host and port, as people write them.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A server of a protocol with these schemes, under the rules of [`destination`].
///
/// # Errors
/// Why nothing may be sent there.
pub fn server(text: &str, schemes: &Schemes) -> Result<Server, Flaw> {
    let ((encrypted, _), (plain, _)) = (schemes.encrypted, schemes.plain);
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let is_encrypted = scheme == encrypted;
    if !is_encrypted && scheme != plain {
        let hint = format!("write a server such as \"{encrypted}://broker.internal\"");
        return Err(Flaw::new(format!("is neither {encrypted}:// nor {plain}://"), hint));
    }
    let url = destination(&format!("https://{rest}"))?;
    if rest.contains(['/', '?']) {
        let hint = format!("write host and port alone, such as \"{encrypted}://{}\"", url.authority());
        return Err(Flaw::new("has something behind host and port", hint));
    }
    if !is_encrypted && !is_loopback(&url) {
        let hint = format!(
            "bank data goes there: use {encrypted}://; {plain}:// is only for localhost, 127.0.0.0/8 and [::1]"
        );
        return Err(Flaw::new("is not encrypted", hint));
    }
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        _ => url.host_str().unwrap_or_default().to_owned(),
    };
    // A port that is HTTP's own is not shown by the URL that stands for the server's.
    let written = url.port().or_else(|| Url::parse(&format!("http://{rest}")).ok()?.port());
    let port = written.unwrap_or(if is_encrypted { schemes.encrypted.1 } else { schemes.plain.1 });
    Ok(Server { text: text.to_owned(), is_encrypted, host, port })
}

/// Whether a URL names an address of a private network.
#[must_use]
pub fn is_private(text: &str) -> bool {
    Url::parse(text).ok().as_ref().and_then(address).is_some_and(outbound::is_private)
}

/// What URLs are read without: white space and line ends are cut out, and backslashes turned around.
fn has_odd_characters(text: &str) -> bool {
    text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\')
}

/// Encoded dots are dots to those who read URLs.
fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// The host, where it is an address in any notation.
fn address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        _ => address(url).is_some_and(|address| address.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_or_local() {
        for fine in ["https://app.internal/x?y=1", "http://localhost:8080", "http://127.1.2.3/", "http://[::1]:1/x"] {
            assert!(destination(fine).is_ok(), "{fine}");
        }
        for (refused, reason) in [
            ("http://app.internal/", "is not encrypted"),
            ("http://10.0.0.1/", "is not encrypted"),
            ("http://localhost.example.com/", "is not encrypted"),
            ("http://[::ffff:10.0.0.1]/", "is not encrypted"),
            ("https://me:secret@app.internal/", "holds credentials"),
            ("https://app.internal/#x", "has a fragment"),
            ("ftp://app.internal/", "is neither https:// nor http://"),
            ("app.internal", "is not a URL: relative URL without a base"),
            ("https:app.internal/x", "means something else than it looks like"),
            ("https:///app.internal/x", "means something else than it looks like"),
            ("https:\\\\app.internal/x", "means something else than it looks like"),
            ("https://app.internal/a\tb", "means something else than it looks like"),
            ("https://app.internal/a/../b", "has a `.` or `..` in its path"),
            ("https://app.internal/a/%2E%2e/b", "has a `.` or `..` in its path"),
            ("https://app.internal/.", "has a `.` or `..` in its path"),
        ] {
            assert_eq!(destination(refused).unwrap_err().reason, reason, "{refused}");
        }
    }

    #[test]
    fn no_address_that_is_no_servers_in_any_notation() {
        for refused in [
            "https://169.254.169.254/latest",
            "http://169.254.169.254/latest",
            "https://2852039166/",
            "https://0xA9FEA9FE/",
            "https://0251.0376.0251.0376/",
            "https://169.254.43518/",
            "https://169.254.169.254./",
            "https://[::ffff:169.254.169.254]/",
            "https://[::ffff:a9fe:a9fe]:8443/",
            "https://[fe80::1]/",
            "https://[fd00:ec2::254]/",
            "https://0.0.0.0/",
            "http://0/",
            "https://[::]/",
            "https://224.0.0.1/",
            "https://[ff02::1]/",
            "https://255.255.255.255/",
        ] {
            let reason = destination(refused).unwrap_err().reason;
            assert!(reason.contains("address"), "{refused}: {reason}");
        }
        assert!(destination("https://10.0.0.1/").is_ok() && is_private("https://10.0.0.1/"));
        assert!(
            is_private("https://167772161/")
                && is_private("https://[fd12::1]/")
                && is_private("https://[::ffff:10.0.0.1]/")
        );
        assert!(!is_private("https://app.internal/") && !is_private("http://127.0.0.1/"));
    }

    #[test]
    fn a_proxy_is_scheme_host_and_port() {
        assert_eq!(proxy("http://proxy.internal:3128/").unwrap(), "http://proxy.internal:3128");
        assert_eq!(proxy("https://10.0.0.1:443").unwrap(), "https://10.0.0.1:443");
        for (text, reason) in [
            ("proxy.internal:3128", "is neither http:// nor https://"),
            ("socks5://proxy.internal", "is neither http:// nor https://"),
            ("http://me:canary@proxy.internal", "holds credentials"),
            ("http://proxy.internal/path", "has something behind host and port"),
            ("http://proxy.internal?x", "has something behind host and port"),
            ("http://169.254.169.254", "is a link-local address, as the metadata services of clouds have"),
        ] {
            assert_eq!(proxy(text).unwrap_err().reason, reason, "{text}");
        }
    }

    #[test]
    fn a_server_is_host_and_port_encrypted_or_local() {
        const AMQP: Schemes = Schemes { encrypted: ("amqps", 5671), plain: ("amqp", 5672) };
        for (text, host, port, is_encrypted) in [
            ("amqps://rabbit.internal", "rabbit.internal", 5671, true),
            ("amqps://rabbit.internal:443", "rabbit.internal", 443, true),
            ("amqps://10.0.0.1:80", "10.0.0.1", 80, true),
            ("amqp://localhost", "localhost", 5672, false),
            ("amqp://[::1]:5", "::1", 5, false),
        ] {
            let server = server(text, &AMQP).unwrap();
            assert_eq!((server.host.as_str(), server.port, server.is_encrypted), (host, port, is_encrypted), "{text}");
            assert_eq!(server.to_string(), text);
        }
        for (text, reason) in [
            ("amqp://rabbit.internal", "is not encrypted"),
            ("amqp://10.0.0.1:5672", "is not encrypted"),
            ("AMQPS://rabbit.internal", "is neither amqps:// nor amqp://"),
            ("rabbit.internal:5671", "is neither amqps:// nor amqp://"),
            ("https://rabbit.internal", "is neither amqps:// nor amqp://"),
            ("amqps://me:canary@rabbit.internal", "holds credentials"),
            ("amqps://rabbit.internal/vhost", "has something behind host and port"),
            ("amqps://rabbit.internal?heartbeat=1", "has something behind host and port"),
            ("amqps://169.254.169.254", "is a link-local address, as the metadata services of clouds have"),
            ("amqps://", "is not a URL: empty host"),
        ] {
            assert_eq!(server(text, &AMQP).unwrap_err().reason, reason, "{text}");
        }
        assert_eq!(server("amqp://[::1]", &AMQP).unwrap().authority(), "[::1]:5672");
    }

    #[test]
    fn a_base_ends_without_a_slash() {
        assert_eq!(base("https://api.oxlin.io/v2.1/").unwrap(), "https://api.oxlin.io/v2.1");
        assert_eq!(base("https://auth.oxlin.io").unwrap(), "https://auth.oxlin.io");
        assert!(base("https://auth.oxlin.io?x=1").is_err());
        assert!(base("https://api.oxlin.io//v2.1").is_err() && base("https://api.oxlin.io/v2.1//").is_err());
    }
}
