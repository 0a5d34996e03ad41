//! Access tokens: where they come from, how long they are used, and that only one request at a time asks for one.

use super::{Error, error_code, outcome, read};
use crate::{
    config::{self, TokenBody, Users},
    event::UserId,
    metrics::{Metrics, Outcome},
    secret::Secret,
};
use reqwest::header::HeaderValue;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Used where the answer does not say how long a token lives.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// No token is kept longer than this, whatever the answer says.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);

/// An access token, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token(Secret);

impl Token {
    /// `Authorization: Bearer ...`, marked so that nothing prints it.
    pub(super) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0.expose()))
            .unwrap_or_else(|_control_characters| HeaderValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }
}

/// Gives out tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    http: reqwest::Client,
    source: Source,
    metrics: Arc<Metrics>,
    /// Held while a token is asked for, so that a hundred callers send one request.
    current: Mutex<Option<Kept>>,
}

#[derive(Debug)]
enum Source {
    Static(Token),
    Client(Request),
}

#[derive(Debug)]
struct Kept {
    token: Token,
    renew_at: Instant,
}

/// A client-credentials request (linxo-api.md section 2).
#[derive(Debug)]
struct Request {
    url: String,
    body: TokenBody,
    client_id: String,
    client_secret: Secret,
    scope: String,
}

#[derive(Serialize)]
struct Grant<'a> {
    #[serde(rename = "grant_type")]
    flow: &'static str,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

impl Tokens {
    pub(super) fn new(http: reqwest::Client, config: &config::Linxo, metrics: Arc<Metrics>) -> Self {
        let source = match &config.users {
            Users::Static(token) => Source::Static(Token(token.clone())),
            Users::Client => Source::Client(Request {
                url: format!("{}/token", config.auth),
                body: config.token_body,
                client_id: config.client_id.clone().unwrap_or_default(),
                client_secret: config.client_secret.clone().unwrap_or_default(),
                scope: config.scope.clone(),
            }),
        };
        Self { http, source, metrics, current: Mutex::default() }
    }

    /// A token that lives for a while yet.
    pub(super) async fn get(&self, _user: Option<&UserId>) -> Result<Token, Error> {
        let request = match &self.source {
            Source::Static(token) => return Ok(token.clone()),
            Source::Client(request) => request,
        };
        let mut current = self.current.lock().await;
        if let Some(kept) = &*current
            && Instant::now() < kept.renew_at
        {
            return Ok(kept.token.clone());
        }
        let result = request.send(&self.http).await;
        self.metrics.token_requests.get_or_create(&Outcome { outcome: outcome(&result) }).inc();
        let kept = result?;
        let token = kept.token.clone();
        *current = Some(kept);
        Ok(token)
    }

    /// Forgets a token that was refused, unless it was renewed in the meantime.
    pub(super) async fn discard(&self, _user: Option<&UserId>, refused: &Token) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|kept| kept.token == *refused) {
            *current = None;
        }
    }
}

impl Request {
    async fn send(&self, http: &reqwest::Client) -> Result<Kept, Error> {
        let in_body = self.body != TokenBody::Basic;
        let grant = Grant {
            flow: "client_credentials",
            scope: &self.scope,
            client_id: in_body.then_some(&self.client_id),
            client_secret: in_body.then(|| self.client_secret.expose()),
        };
        let request = http.post(&self.url).header(reqwest::header::ACCEPT, "application/json");
        let request = match self.body {
            TokenBody::Json => request.json(&grant),
            TokenBody::Form => request.form(&grant),
            TokenBody::Basic => request.basic_auth(&self.client_id, Some(self.client_secret.expose())).form(&grant),
        };
        let asked = Instant::now();
        let response = request.send().await.map_err(Error::network)?;
        // 400 and 401 are how OAuth2 refuses credentials (RFC 6749 section 5.2); anything else may pass.
        let status = response.status().as_u16();
        if matches!(status, 400 | 401 | 403) {
            return Err(Error::Credentials { status, code: error_code(response).await });
        }
        let body = read(response).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_quotes_the_token| Error::Answer("to a token request holds no access_token".to_owned()))?;
        let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME);
        // Renewed a little early, so that a token does not expire on its way.
        let margin = (lifetime / 10).min(Duration::from_mins(1));
        Ok(Kept { token: Token(Secret::new(answer.access_token)), renew_at: asked + lifetime.saturating_sub(margin) })
    }
}

/// Seconds as a number or, as in the vendor's own example, a string; nonsense and negatives count as absent.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Visitor;
    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
    deserializer.deserialize_any(Visitor)
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
            (r#"{"access_token":"a","expires_in":"soon"}"#, None),
            (r#"{"access_token":"a","expires_in":null}"#, None),
            (r#"{"access_token":"a"}"#, None),
        ] {
            assert_eq!(serde_json::from_str::<Answer>(json).unwrap().expires_in, expected, "{json}");
        }
    }

    #[test]
    fn a_token_prints_nothing() {
        let token = Token(Secret::new("canary".to_owned()));
        assert!(!format!("{token:?} {:?}", token.header()).contains("canary"));
    }
}
