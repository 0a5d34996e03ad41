//! What is said of a request by its head alone: its path, and how its body is wrapped.

use super::{asked::Asked, webhook::Webhook};
use crate::receive::problem::Refusal;
use axum::extract::FromRequestParts;
use base::secret::Secret;
use http::{
    HeaderMap, Version,
    header::{self, HeaderValue},
    request::Parts,
};
use inbox::TraceParent;
use std::{net::Ipv6Addr, sync::Arc};

/// The path is the webhook's, with the right secret where there is one.
pub(super) struct KnownPath;

impl FromRequestParts<Arc<Webhook>> for KnownPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, webhook: &Arc<Webhook>) -> Result<Self, Refusal> {
        let asked = parts.extensions.get::<Asked>().ok_or(Refusal::Internal)?;
        let is_ours = is_ours(parts.uri.path(), &webhook.path, &asked.sender.path_secrets);
        if is_ours { Ok(Self) } else { Err(Refusal::NotFound) }
    }
}

/// The head announces a body that can be an event.
pub(super) struct EventHead {
    /// The trace that the caller named, if it is one.
    pub(super) trace: Option<TraceParent>,
    /// Whether it says that the body is something else than JSON. The body itself decides.
    pub(super) is_of_odd_type: bool,
}

impl<S: Sync> FromRequestParts<S> for EventHead {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        if parts.version < Version::HTTP_2 && !is_plainly_framed(&parts.headers) {
            return Err(Refusal::TransferEncoding);
        }
        if !parts.headers.get_all(header::CONTENT_ENCODING).iter().all(is_identity) {
            return Err(Refusal::ContentEncoding);
        }
        let trace = trace_of(&parts.headers);
        let is_of_odd_type = !parts.headers.get_all(header::CONTENT_TYPE).iter().all(is_json);
        Ok(Self { trace, is_of_odd_type })
    }
}

/// The trace that a caller names. More than one `traceparent` is none; several `tracestate` are one list.
fn trace_of(headers: &HeaderMap) -> Option<TraceParent> {
    let mut parents = headers.get_all("traceparent").iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let states: Option<Vec<&str>> = headers.get_all("tracestate").iter().map(|state| state.to_str().ok()).collect();
    let state = states.filter(|states| !states.is_empty()).map(|states| states.join(","));
    TraceParent::of_caller(parent.to_str().ok()?, state.as_deref())
}

/// Whether a path is the webhook's, with one of its secrets as last segment where there are any. One slash at the end makes no
/// difference.
fn is_ours(path: &str, ours: &str, secrets: &[Secret]) -> bool {
    let (path, ours) = (path.strip_suffix('/').unwrap_or(path), ours.trim_end_matches('/'));
    if secrets.is_empty() {
        return path == ours;
    }
    let Some(segment) = path.strip_prefix(ours).and_then(|rest| rest.strip_prefix('/')) else {
        return false;
    };
    // No early end: which of several secrets it was must not show in the time either.
    secrets.iter().fold(false, |found, secret| found | secret.matches(segment.as_bytes()))
}

/// Hyper takes `chunked, chunked` and `gzip, chunked` for chunked; a proxy in front may see other borders between requests.
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Whether the head names the host that it is for in the way that RFC 9112 section 3.2 asks for: with HTTP/1.1 exactly one
/// field, and in every version of HTTP/1 none that is wrong. A proxy in front might follow the other field.
pub(super) fn names_one_host(version: Version, headers: &HeaderMap) -> bool {
    if version >= Version::HTTP_2 {
        return true;
    }
    let mut fields = headers.get_all(header::HOST).iter();
    match (fields.next(), fields.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => is_host(host.as_bytes()),
        (Some(_), Some(_)) => false,
    }
}

/// `uri-host [ ":" port ]` of RFC 9110 section 7.2; the host may be empty.
fn is_host(field: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(field) else { return false };
    let (is_good, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        // Sub-delimiters are allowed in a name, but no host has any.
        (name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)), port)
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    is_good && (port.is_empty() || port.starts_with(':')) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_json(content_type: &HeaderValue) -> bool {
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        return true;
    }
    let essence = essence.to_ascii_lowercase();
    essence
        .strip_prefix(b"application/")
        .and_then(|rest| rest.strip_suffix(b"+json"))
        .is_some_and(|subtype| !subtype.is_empty())
}

fn is_identity(content_encoding: &HeaderValue) -> bool {
    let coding = content_encoding.as_bytes().trim_ascii();
    coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::new((*text).to_owned())).collect()
    }

    #[test]
    fn only_the_exact_path_is_ours() {
        assert!(is_ours("/webhooks/linxo", "/webhooks/linxo", &[]));
        // (B7) One slash at the end is the same path.
        assert!(is_ours("/webhooks/linxo/", "/webhooks/linxo", &[]) && is_ours("/", "/", &[]));
        for other in
            ["/", "/webhooks", "/webhooks/linxo//", "/webhooks/linxo/x", "/Webhooks/linxo", "//webhooks/linxo", "//"]
        {
            assert!(!is_ours(other, "/webhooks/linxo", &[]), "{other}");
        }
    }

    #[test]
    fn each_of_several_secrets_opens_the_path() {
        let secrets = secrets(&["old-secret", "new-secret"]);
        assert!(is_ours("/hook/old-secret", "/hook", &secrets));
        assert!(is_ours("/hook/new-secret", "/hook", &secrets));
        assert!(is_ours("/new-secret", "/", &secrets));
        assert!(is_ours("/hook/old-secret/", "/hook", &secrets));
        for other in ["/hook", "/hook/", "/hook/old-secre", "/hook/old-secret//", "/hook/x/old-secret", "/old-secret"] {
            assert!(!is_ours(other, "/hook", &secrets), "{other}");
        }
    }

    #[test]
    fn json_media_types() {
        for yes in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/cloudevents+json",
            " application/json ",
        ] {
            assert!(is_json(&HeaderValue::from_str(yes).unwrap()), "{yes}");
        }
        for no in
            ["", "text/json", "application/+json", "application/jsonp", "application/x-www-form-urlencoded", "json"]
        {
            assert!(!is_json(&HeaderValue::from_str(no).unwrap()), "{no}");
        }
    }

    /// (B8) RFC 9112 section 3.2.
    #[test]
    fn a_request_names_one_host() {
        for good in ["localhost", "hooks.example:8443", "[2001:db8::1]:443", "[::1]", "192.0.2.7:", "", "h\u{61}-_.x"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in
            ["a b", "a/b", "user@host", "host:http", "a:1:2", "[::1", "[x]", "::1", "a,b/", "h\u{f6}st", "<x>", "a:1 "]
        {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
        let with = |version, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            names_one_host(version, &headers)
        };
        assert!(with(Version::HTTP_11, &["a"]) && with(Version::HTTP_10, &[]) && with(Version::HTTP_2, &[]));
        assert!(
            !with(Version::HTTP_11, &[]) && !with(Version::HTTP_11, &["a", "a"]) && !with(Version::HTTP_11, &["a b"])
        );
        assert!(!with(Version::HTTP_10, &["a", "b"]) && !with(Version::HTTP_10, &["a b"]));
    }

    #[test]
    fn one_chunked_and_nothing_else() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::TRANSFER_ENCODING, HeaderValue::from_static(value));
            }
            is_plainly_framed(&headers)
        };
        assert!(with(&[]) && with(&["chunked"]) && with(&["Chunked"]));
        assert!(!with(&["chunked, chunked"]) && !with(&["gzip, chunked"]) && !with(&["chunked", "chunked"]));
    }
}
