//! Reads the `Retry-After` header (RFC 9110 section 10.2.3) of servers that are not under our control. Pure.
//!
//! In: the header's text and the present time. Out: how long the server wants us to wait, at most [`LONGEST`]; `None`
//! for what is neither a number of seconds nor an HTTP date, so that the caller's own backoff applies. Some servers write the
//! instant at which they may be asked again, in seconds or milliseconds since 1970: a number from a thousand million on, which
//! as a wait would be over thirty years.

use crate::clock::Timestamp;
use std::time::{Duration, UNIX_EPOCH};

/// Longest wait that a server may ask for; a longer wish is cut, so that one wrong date cannot stop work for years.
pub const LONGEST: Duration = Duration::from_hours(1);

/// Numbers from here on are an instant, in seconds since 1970; from a thousand times that on, in milliseconds.
const AN_INSTANT: i64 = 1_000_000_000;
const AN_INSTANT_IN_MILLIS: i64 = AN_INSTANT * 1000;

/// The wish of one header value. A date in the past means "at once".
#[must_use]
pub fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds still mean "long".
        let Ok(number) = value.parse::<i64>() else { return Some(LONGEST) };
        let wait = if number < AN_INSTANT {
            Duration::from_secs(number.unsigned_abs())
        } else if number < AN_INSTANT_IN_MILLIS {
            Timestamp::from_millis(number.saturating_mul(1000)).since(now)
        } else {
            Timestamp::from_millis(number).since(now)
        };
        return Some(wait.min(LONGEST));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let date = Timestamp::from_millis(i64::try_from(date.as_millis()).ok()?);
    Some(date.since(now).min(LONGEST))
}

/// [`parse`] on the headers of an answer.
#[must_use]
pub fn from_headers(headers: &http::HeaderMap, now: Timestamp) -> Option<Duration> {
    parse(headers.get(http::header::RETRY_AFTER)?.to_str().ok()?, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 1994-11-06T08:49:37Z, the date of RFC 9110.
    const NOW: Timestamp = Timestamp::from_millis(784_111_777_000);

    #[test]
    fn reads_seconds_and_dates_and_ignores_nonsense() {
        let seconds = |count| Some(Duration::from_secs(count));
        for (value, expected) in [
            ("0", seconds(0)),
            ("120", seconds(120)),
            (" 7 ", seconds(7)),
            ("3601", seconds(3600)),
            ("99999999999999999999999999", seconds(3600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", seconds(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", seconds(60)),
            ("Sun Nov  6 08:50:37 1994", seconds(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", seconds(0)),
            ("Sun, 06 Nov 2044 08:49:37 GMT", seconds(3600)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("12 seconds", None),
            ("2026-11-23T10:00:00Z", None),
        ] {
            assert_eq!(parse(value, NOW), expected, "{value:?}");
        }
    }

    /// (A6) A number above a thousand million is an instant and not a duration.
    #[test]
    fn a_very_large_number_is_an_instant() {
        let now = Timestamp::from_millis(1_767_605_000_000);
        let seconds = |count| Some(Duration::from_secs(count));
        for (value, expected) in [
            ("999999999", seconds(3600)),
            ("1000000000", seconds(0)),
            ("1767604990", seconds(0)),
            ("1767605030", seconds(30)),
            ("1767605030000", seconds(30)),
            ("1000000000000", seconds(0)),
            ("1767691400", seconds(3600)),
            ("99999999999999999999999999", seconds(3600)),
        ] {
            assert_eq!(parse(value, now), expected, "{value}");
        }
    }

    #[test]
    fn the_header_of_an_answer_is_read() {
        let mut headers = http::HeaderMap::new();
        assert_eq!(from_headers(&headers, NOW), None);
        headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("7"));
        assert_eq!(from_headers(&headers, NOW), Some(Duration::from_secs(7)));
    }

    proptest! {
        #[test]
        fn never_panics_and_never_exceeds_the_cap(value in "\\PC{0,40}", now in any::<i64>()) {
            if let Some(wait) = parse(&value, Timestamp::from_millis(now)) {
                prop_assert!(wait <= LONGEST);
            }
        }
    }
}
