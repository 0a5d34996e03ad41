//! The double's `POST /token`: three encodings, two grants, and tokens that are remembered until they expire.
//!
//! In: headers and body of a token request. Out: the vendor's answer (`docs/linxo-api.md` section 2), and for each later
//! call the [`Holder`] of the token that it shows. Nothing here logs: the secrets are only those of tests, but tests look for secrets in the log.

use crate::{
    settings::Settings,
    wire::{TokenBody, pairs},
};
use base64::Engine as _;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// On whose behalf a token speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The integrator itself: each call says for which user.
    Client,
    /// One user.
    User(String),
}

/// Every token that was given out and still holds.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    held: HashMap<String, (Holder, Instant)>,
    issued: u64,
}

impl Tokens {
    pub(crate) fn issued(&self) -> u64 {
        self.issued
    }

    pub(crate) fn forget_all(&mut self) {
        self.held.clear();
    }

    pub(crate) fn holder(&self, token: &str) -> Option<&Holder> {
        self.held.get(token).filter(|(_, ends)| Instant::now() < *ends).map(|(holder, _)| holder)
    }

    fn issue(&mut self, holder: Holder, lifetime: Duration) -> String {
        self.issued = self.issued.saturating_add(1);
        let token = format!("simulated.{}.{:032x}", self.issued, fastrand::u128(..));
        let now = Instant::now();
        self.held.retain(|_, (_, ends)| now < *ends);
        self.held.insert(token.clone(), (holder, now.checked_add(lifetime).unwrap_or(now)));
        token
    }

    /// Answers one token request.
    pub(crate) fn answer(&mut self, settings: &Settings, headers: &HeaderMap, body: &[u8]) -> (StatusCode, Value) {
        let Some(asked) = Asked::read(headers, body) else {
            return refuse(StatusCode::BAD_REQUEST, "invalid_request", "The body is neither JSON nor a form");
        };
        if settings.token_body.is_some_and(|only| only != asked.encoding) {
            return refuse(StatusCode::BAD_REQUEST, "invalid_request", "Credentials are expected elsewhere");
        }
        let is_client = asked.text("client_id") == Some(&settings.client_id)
            && asked.text("client_secret").is_some_and(|secret| settings.client_secret.matches(secret.as_bytes()));
        if !is_client {
            return refuse(StatusCode::UNAUTHORIZED, "invalid_client", "Bad client credentials");
        }
        let holder = match asked.text("grant_type") {
            Some("client_credentials") => Holder::Client,
            Some("password") => {
                let user = settings.users.iter().find(|user| {
                    asked.text("username") == Some(&user.username)
                        && asked.text("password").is_some_and(|password| user.password.matches(password.as_bytes()))
                });
                match user {
                    Some(user) => Holder::User(user.id.clone()),
                    None => return refuse(StatusCode::BAD_REQUEST, "invalid_grant", "Bad user credentials"),
                }
            }
            _ => return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type", "Unsupported grant type"),
        };
        let token = self.issue(holder, settings.token_lifetime);
        let seconds = settings.token_lifetime.as_secs();
        let expires_in = if settings.expires_in_text { json!(seconds.to_string()) } else { json!(seconds) };
        let mut answer = json!({ "access_token": token, "token_type": "Bearer", "expires_in": expires_in });
        if let (Some(scope), Some(members)) = (asked.text("scope"), answer.as_object_mut()) {
            members.insert("scope".to_owned(), json!(scope));
        }
        (StatusCode::OK, answer)
    }
}

struct Asked {
    encoding: TokenBody,
    members: HashMap<String, String>,
}

impl Asked {
    fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type.starts_with("application/json") {
            let members: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
            let members = members
                .into_iter()
                .filter_map(|(name, value)| value.as_str().map(|text| (name, text.to_owned())))
                .collect();
            return Some(Self { encoding: TokenBody::Json, members });
        }
        if !content_type.starts_with("application/x-www-form-urlencoded") {
            return None;
        }
        let mut members: HashMap<String, String> = pairs(std::str::from_utf8(body).ok()?).collect();
        let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
        let Some(basic) = basic else { return Some(Self { encoding: TokenBody::Form, members }) };
        let decoded = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(basic).ok()?).ok()?;
        let (id, secret) = decoded.split_once(':')?;
        // RFC 6749 section 2.3.1: both are form-encoded before they are joined.
        let decode = |text| pairs(text).next().map(|(text, _)| text).unwrap_or_default();
        members.insert("client_id".to_owned(), decode(id));
        members.insert("client_secret".to_owned(), decode(secret));
        Some(Self { encoding: TokenBody::Basic, members })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).map(String::as_str)
    }
}

fn refuse(status: StatusCode, error: &str, description: &str) -> (StatusCode, Value) {
    (status, json!({ "error": error, "error_description": description }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::User;
    use base::secret::Secret;

    fn headers(content_type: &'static str, authorization: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    fn settings() -> Settings {
        let zoe = User {
            id: "300001".to_owned(),
            username: "zoe@example.org".to_owned(),
            password: Secret::new("p w".to_owned()),
        };
        Settings { users: vec![zoe], ..Settings::default() }
    }

    #[test]
    fn all_three_encodings_are_understood() {
        let mut tokens = Tokens::default();
        let json = headers("application/json", None);
        let body = br#"{"client_id":"demo","client_secret":"demo-secret","grant_type":"client_credentials"}"#;
        assert_eq!(tokens.answer(&settings(), &json, body).0, StatusCode::OK);
        let form = headers("application/x-www-form-urlencoded", None);
        let body =
            b"client_id=demo&client_secret=demo%2Dsecret&grant_type=password&username=zoe%40example.org&password=p+w";
        let (status, answer) = tokens.answer(&settings(), &form, body);
        assert_eq!(status, StatusCode::OK);
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(tokens.holder(token), Some(&Holder::User("300001".to_owned())));
        let basic = base64::engine::general_purpose::STANDARD.encode("demo:demo%2Dsecret");
        let basic = headers("application/x-www-form-urlencoded", Some(&format!("Basic {basic}")));
        assert_eq!(tokens.answer(&settings(), &basic, b"grant_type=client_credentials").0, StatusCode::OK);
        let only = Settings { token_body: Some(TokenBody::Json), ..settings() };
        assert_eq!(tokens.answer(&only, &basic, b"grant_type=client_credentials").0, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn wrong_credentials_are_refused_and_tokens_expire() {
        let mut tokens = Tokens::default();
        let json = headers("application/json", None);
        let body = br#"{"client_id":"demo","client_secret":"wrong","grant_type":"client_credentials"}"#;
        let (status, answer) = tokens.answer(&settings(), &json, body);
        assert_eq!((status, answer["error"].as_str()), (StatusCode::UNAUTHORIZED, Some("invalid_client")));
        let body = br#"{"client_id":"demo","client_secret":"demo-secret","grant_type":"client_credentials"}"#;
        let short = Settings { token_lifetime: Duration::ZERO, expires_in_text: true, ..settings() };
        let (_, answer) = tokens.answer(&short, &json, body);
        assert_eq!(answer["expires_in"], json!("0"));
        assert_eq!(tokens.holder(answer["access_token"].as_str().unwrap()), None);
    }
}
