//! The answer to a request for a token: the token, and how long it is used.

use super::token::Token;
use crate::error::{Error, Peer};
use base::secret::Secret;
use serde::{Deserialize, Deserializer, de};
use std::{
    fmt,
    time::{Duration, Instant},
};

/// Used where the answer does not say how long a token lives.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// No token is kept longer than this, whatever the answer says.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);

#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "secret")]
    access_token: Secret,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

/// Reads an answer to a question of the moment `asked`: the token, and until when it is used.
pub(super) fn read(peer: Peer, body: &[u8], asked: Instant) -> Result<(Token, Instant), Error> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_quotes_the_token| Error::answer(peer, "to a token request holds no access_token"))?;
    let token = Token::new(answer.access_token).ok_or_else(|| {
        Error::answer(peer, "to a token request holds an access_token that is empty or cannot stand in a header")
    })?;
    let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME);
    // Renewed a little early, so that a token does not expire on its way.
    let margin = (lifetime / 10).min(Duration::from_mins(1));
    Ok((token, asked + lifetime.saturating_sub(margin)))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

/// Seconds as a number, or as a string as in the vendor's own example (`docs/linxo-api.md` section 2); nonsense, zero and
/// negatives count as absent.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Visitor;
    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("seconds")
        }
        fn visit_u64<E>(self, seconds: u64) -> Result<Option<u64>, E> {
            Ok(Some(seconds))
        }
        fn visit_i64<E>(self, seconds: i64) -> Result<Option<u64>, E> {
            Ok(u64::try_from(seconds).ok())
        }
        fn visit_f64<E>(self, _seconds: f64) -> Result<Option<u64>, E> {
            Ok(None)
        }
        fn visit_str<E>(self, seconds: &str) -> Result<Option<u64>, E> {
            Ok(seconds.trim().parse().ok())
        }
        fn visit_unit<E>(self) -> Result<Option<u64>, E> {
            Ok(None)
        }
        fn visit_none<E>(self) -> Result<Option<u64>, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<u64>, D::Error> {
            deserializer.deserialize_any(self)
        }
    }
    Ok(deserializer.deserialize_any(Visitor)?.filter(|seconds| *seconds > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_come_as_numbers_strings_or_not_at_all() {
        for (json, expected) in [
            (r#"{"access_token":"a","expires_in":3600}"#, Some(3600)),
            (r#"{"access_token":"a","expires_in":"3600"}"#, Some(3600)),
            (r#"{"access_token":"a","expires_in":-1}"#, None),
            (r#"{"access_token":"a","expires_in":0}"#, None),
            (r#"{"access_token":"a","expires_in":"soon"}"#, None),
            (r#"{"access_token":"a","expires_in":null}"#, None),
            (r#"{"access_token":"a"}"#, None),
        ] {
            assert_eq!(serde_json::from_str::<Answer>(json).unwrap().expires_in, expected, "{json}");
        }
    }

    #[test]
    fn a_token_is_used_until_a_little_before_its_end() {
        let asked = Instant::now();
        for (seconds, used) in [("3600", 3540), ("100", 90), ("999999999", 24 * 3600 - 60), ("null", 270)] {
            let body = format!(r#"{{"access_token":"a","expires_in":{seconds}}}"#);
            let (_, until) = read(Peer::Auth, body.as_bytes(), asked).unwrap();
            assert_eq!(until - asked, Duration::from_secs(used), "{seconds}");
        }
    }
}
