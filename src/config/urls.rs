//! URLs that bank data may be sent to.
//!
//! Plain `http://` is for this machine alone (a test double, a sidecar). A private network is no exception: names there
//! resolve to whatever the network says, and the contents are account numbers and names.

use super::reader::Flaw;
use url::{Host, Url};

/// An absolute URL without credentials and fragment, encrypted unless it stays on this machine.
pub(super) fn destination(text: &str) -> Result<Url, Flaw> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Flaw::new("holds credentials", "URLs end up in logs; remove what stands before the `@`"));
    }
    if url.fragment().is_some() {
        return Err(Flaw::new("has a fragment", "remove the `#` and what follows"));
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
pub(super) fn base(text: &str) -> Result<String, Flaw> {
    let url = destination(text)?;
    if url.query().is_some() {
        return Err(Flaw::new("has a query", "remove the `?` and what follows: paths are appended to this URL"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
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
        ] {
            assert_eq!(destination(refused).unwrap_err().reason, reason, "{refused}");
        }
    }

    #[test]
    fn a_base_ends_without_a_slash() {
        assert_eq!(base("https://api.oxlin.io/v2.1/").unwrap(), "https://api.oxlin.io/v2.1");
        assert_eq!(base("https://auth.oxlin.io").unwrap(), "https://auth.oxlin.io");
        assert!(base("https://auth.oxlin.io?x=1").is_err());
    }
}
