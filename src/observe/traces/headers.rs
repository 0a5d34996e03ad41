//! Headers of exports, in the form of `OTEL_EXPORTER_OTLP_HEADERS`: `name=value`, separated by commas, values percent-encoded
//! where they hold a comma, a space or the like.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;
use settings::Flaw;

/// Whether a secret holds headers.
pub(super) fn check(text: &str) -> Result<(), Flaw> {
    // What is wrong is a part of a secret, and is not shown.
    let hint = "write `name=value`, several separated by commas, such as `api-key=abc`; `Bearer abc` is `Bearer%20abc`";
    match parse(text) {
        Some(headers) if headers.is_empty() => Err(Flaw::new("holds no header", hint)),
        Some(_) => Ok(()),
        None => Err(Flaw::new("is not a list of headers that an export may have", hint)),
    }
}

/// The headers, marked as secrets. `None` where one is none, comes twice, or belongs to the export itself.
pub(super) fn parse(text: &str) -> Option<HeaderMap> {
    const OURS: [HeaderName; 5] = [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
        header::HOST,
    ];
    let mut headers = HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let name: HeaderName = name.trim().parse().ok()?;
        let value: Vec<u8> = percent_decode_str(value.trim()).collect();
        let mut value = HeaderValue::from_bytes(&value).ok()?;
        value.set_sensitive(true);
        if OURS.contains(&name) || headers.insert(name, value).is_some() {
            return None;
        }
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_other_exporters_read_them() {
        let headers = parse("api-key=a=b, authorization = Bearer%20x%2Cy ,").unwrap();
        assert_eq!(
            (&headers["api-key"], &headers["authorization"]),
            (&"a=b".parse().unwrap(), &"Bearer x,y".parse().unwrap())
        );
        assert!(headers.values().all(HeaderValue::is_sensitive));
        for bad in ["api-key", "a b=c", "a=b%0d%0ac", "a=1,a=2", "content-type=x", "Host=x"] {
            assert!(parse(bad).is_none() && check(bad).is_err(), "{bad}");
        }
        assert!(check(",").is_err() && check("a=b").is_ok());
    }
}
