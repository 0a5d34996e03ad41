//! Access tokens: where they come from, how long they are used, and that only one request at a time asks for one.
//!
//! In: the user whom an event names. Out: a token that lives for a while yet. Each user has a slot; whoever needs its
//! token while it is being asked for waits for the one answer. Slots are kept for [`MAX_SLOTS`] users, the least used
//! leave first. A refusal is believed for a moment, so that a hundred waiting callers do not become a hundred tries with
//! a wrong password. Tokens and passwords are wiped when dropped; the HTTP library's own copies are not in our hands.

use super::{
    Error, Peer,
    error::outcome,
    logins::Logins,
    transport::{Options, Transport},
};
use crate::{
    config::{self, Passwords, TokenBody, UserEndpoint, Users, users::USER_ID},
    event::UserId,
    metrics::{Metrics, Outcome},
    secret::Secret,
};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{self, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::Sha256;
use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Used where the answer does not say how long a token lives.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// No token is kept longer than this, whatever the answer says.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);
/// How long a refusal is believed without asking again.
const REFUSAL_BELIEVED: Duration = Duration::from_secs(5);
/// Users whose tokens are kept.
const MAX_SLOTS: usize = 10_000;

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
    linxo: Arc<Transport>,
    source: Source,
    slots: Mutex<HashMap<Option<UserId>, Arc<Slot>>>,
    /// Counts uses, to tell which slot was used longest ago.
    uses: AtomicU64,
    /// What credentials are recognised by, without the user's own; see [`Tokens::credentials`].
    seal: Hmac<Sha256>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum Source {
    Static(Token),
    Client(Grants),
    Password(Grants, Logins),
    Endpoint(Endpoint),
}

#[derive(Debug, Default)]
struct Slot {
    /// Held while a token is asked for.
    current: tokio::sync::Mutex<Option<Kept>>,
    used: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    result: Result<Token, Refusal>,
    until: Instant,
}

/// What a refusal said.
#[derive(Clone, Debug)]
struct Refusal {
    peer: Peer,
    status: u16,
    code: Option<String>,
}

/// Requests to the vendor's token endpoint (linxo-api.md section 2).
#[derive(Debug)]
struct Grants {
    url: String,
    body: TokenBody,
    client_id: String,
    client_secret: Secret,
    scope: String,
    provider: Option<String>,
}

#[derive(Serialize)]
struct Grant<'a> {
    #[serde(rename = "grant_type")]
    flow: &'static str,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
}

/// The integrator's own endpoint.
#[derive(Debug)]
struct Endpoint {
    transport: Transport,
    url: String,
    bearer: Option<Token>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "secret")]
    access_token: Secret,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

impl Tokens {
    pub(super) fn new(config: &config::Linxo, linxo: Arc<Transport>, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let grants = || Grants {
            url: format!("{}/token", config.auth),
            body: config.token_body,
            client_id: config.client_id.clone().unwrap_or_default(),
            client_secret: config.client_secret.clone().unwrap_or_default(),
            scope: config.scope.clone(),
            provider: config.provider.clone(),
        };
        let source = match &config.users {
            Users::Static(token) => Source::Static(Token(token.clone())),
            Users::Client => Source::Client(grants()),
            Users::Password(passwords) => Source::Password(grants(), Logins::new(passwords)?),
            Users::Endpoint(endpoint) => {
                let options = Options {
                    peer: Peer::Users,
                    authorities: &endpoint.authorities,
                    identity: endpoint.identity.as_ref(),
                    rate: None,
                };
                Source::Endpoint(Endpoint {
                    transport: Transport::new(config, &options, &metrics)?,
                    url: endpoint.url.clone(),
                    bearer: endpoint.bearer.clone().map(Token),
                })
            }
        };
        Ok(Self { linxo, source, slots: Mutex::default(), uses: AtomicU64::new(0), seal: seal(config), metrics })
    }

    /// A token for a user that lives for a while yet.
    pub(super) async fn get(&self, user: Option<&UserId>) -> Result<Token, Error> {
        let key = match (&self.source, user) {
            (Source::Static(token), _) => return Ok(token.clone()),
            (Source::Client(_), _) => None,
            (Source::Password(..) | Source::Endpoint(_), None) => {
                return Err(Error::NoCredentials("the event names no user, and [linxo.users] goes by the user"));
            }
            (Source::Password(..) | Source::Endpoint(_), user) => user.cloned(),
        };
        self.refresh().await;
        let slot = self.slot(key);
        let mut current = slot.current.lock().await;
        if let Some(kept) = &*current
            && Instant::now() < kept.until
        {
            return kept.result.clone().map_err(Refusal::into);
        }
        let result = self.ask(user).await;
        self.metrics.token_requests.get_or_create(&Outcome { outcome: outcome(&result) }).inc();
        match result {
            Ok((token, until)) => {
                *current = Some(Kept { result: Ok(token.clone()), until });
                Ok(token)
            }
            Err(Error::Credentials { peer, status, code }) => {
                let refusal = Refusal { peer, status, code };
                *current = Some(Kept { result: Err(refusal.clone()), until: Instant::now() + REFUSAL_BELIEVED });
                Err(refusal.into())
            }
            Err(error) => {
                *current = None;
                Err(error)
            }
        }
    }

    /// Forgets a token that was refused, unless it was renewed in the meantime.
    pub(super) async fn discard(&self, user: Option<&UserId>, refused: &Token) {
        let key = if matches!(self.source, Source::Client(_)) { None } else { user.cloned() };
        let slot = self.slot(key);
        let mut current = slot.current.lock().await;
        if current.as_ref().is_some_and(|kept| kept.result.as_ref().is_ok_and(|token| token == refused)) {
            *current = None;
        }
    }

    /// What stands for the credentials that a user's token is asked for with: another text for other credentials. It is
    /// kept in the inbox, so it says nothing about them: a keyed hash, whose key is the client's secret.
    pub(super) async fn credentials(&self, user: Option<&UserId>) -> String {
        self.refresh().await;
        let mut seal = self.seal.clone();
        if let (Source::Password(_, logins), Some(user)) = (&self.source, user)
            && let Some(login) = logins.login(user)
        {
            add(&mut seal, login.username.as_bytes());
            add(&mut seal, login.password.expose().as_bytes());
        }
        let mut text = String::with_capacity(16);
        for byte in seal.finalize().into_bytes().iter().take(8) {
            // Writing into a String does not fail.
            write!(text, "{byte:02x}").ok();
        }
        text
    }

    /// Looks whether the table of passwords changed; users with other credentials lose their tokens.
    async fn refresh(&self) {
        if let Source::Password(_, logins) = &self.source {
            let changed = logins.refresh().await;
            if !changed.is_empty() {
                let mut slots = self.slots();
                for user in changed {
                    slots.remove(&Some(UserId::new(user)));
                }
            }
        }
    }

    async fn ask(&self, user: Option<&UserId>) -> Result<(Token, Instant), Error> {
        let asked = Instant::now();
        let (peer, body) = match (&self.source, user) {
            (Source::Client(grants), _) => (Peer::Linxo, grants.send(&self.linxo, None).await?),
            (Source::Password(grants, logins), Some(user)) => {
                let login = logins
                    .login(user)
                    .ok_or(Error::NoCredentials("the user is not in the table of linxo.users.table"))?;
                (Peer::Linxo, grants.send(&self.linxo, Some(&login)).await?)
            }
            (Source::Endpoint(endpoint), Some(user)) => (Peer::Users, endpoint.send(user).await?),
            (Source::Static(_), _) | (_, None) => return Err(Error::NoCredentials("nothing to ask with")),
        };
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_quotes_the_token| Error::answer(peer, "to a token request holds no access_token"))?;
        let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME);
        // Renewed a little early, so that a token does not expire on its way.
        let margin = (lifetime / 10).min(Duration::from_mins(1));
        Ok((Token(answer.access_token), asked + lifetime.saturating_sub(margin)))
    }

    fn slot(&self, key: Option<UserId>) -> Arc<Slot> {
        let use_number = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.slots();
        if slots.len() >= MAX_SLOTS && !slots.contains_key(&key) {
            let mut uses: Vec<u64> = slots.values().map(|slot| slot.used.load(Ordering::Relaxed)).collect();
            // An eighth at once, so that the search is rare.
            let (_, oldest_kept, _) = uses.select_nth_unstable(MAX_SLOTS / 8);
            let oldest_kept = *oldest_kept;
            slots.retain(|_, slot| slot.used.load(Ordering::Relaxed) >= oldest_kept || Arc::strong_count(slot) > 1);
        }
        let slot = slots.entry(key).or_default();
        slot.used.store(use_number, Ordering::Relaxed);
        Arc::clone(slot)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Option<UserId>, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Credentials { peer: refusal.peer, status: refusal.status, code: refusal.code }
    }
}

impl Grants {
    async fn send(
        &self,
        transport: &Transport,
        login: Option<&config::users::Login>,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
        let in_body = self.body != TokenBody::Basic;
        let grant = Grant {
            flow: if login.is_some() { "password" } else { "client_credentials" },
            scope: &self.scope,
            provider: self.provider.as_deref(),
            client_id: in_body.then_some(&self.client_id),
            client_secret: in_body.then(|| self.client_secret.expose()),
            username: login.map(|login| login.username.as_str()),
            password: login.map(|login| login.password.expose()),
        };
        let request = transport.http.post(&self.url).header(header::ACCEPT, "application/json");
        let request = match self.body {
            TokenBody::Json => request.json(&grant),
            TokenBody::Form => request.form(&grant),
            TokenBody::Basic => {
                // RFC 6749 section 2.3.1: both are form-encoded before they are joined.
                let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let secret = zeroize::Zeroizing::new(encoded(self.client_secret.expose()));
                request.basic_auth(encoded(&self.client_id), Some(secret.as_str())).form(&grant)
            }
        };
        transport.call(request).await.map_err(refused)
    }
}

impl Endpoint {
    async fn send(&self, user: &UserId) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
        let url = self.url.replace(USER_ID, &percent_encoded(user.as_str())?);
        let mut request = self.transport.http.get(url).header(header::ACCEPT, "application/json");
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer.header());
        }
        self.transport.call(request).await.map_err(|error| match error {
            Error::Status { status: 404, .. } => {
                Error::NoCredentials("the endpoint of linxo.users.url does not know the user")
            }
            other => refused(other),
        })
    }
}

/// A 4xx to a request for a token concerns the credentials, whatever its number: never the user's connections.
fn refused(error: Error) -> Error {
    match error {
        Error::Status { status: 408 | 425 | 429, .. } => error,
        Error::Status { peer, status: status @ 400..500, code, .. } => Error::Credentials { peer, status, code },
        _ => error,
    }
}

/// A user's id for a URL. `.` and `..` would lead elsewhere, however they are encoded.
fn percent_encoded(user: &str) -> Result<String, Error> {
    if matches!(user, "." | "..") {
        return Err(Error::NoCredentials("the user's id cannot stand in a URL"));
    }
    let mut encoded = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String does not fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    Ok(encoded)
}

/// Everything that a token depends on besides the user.
fn seal(config: &config::Linxo) -> Hmac<Sha256> {
    let empty = Secret::default();
    let key = match &config.users {
        Users::Static(token) => token,
        Users::Endpoint(endpoint) => endpoint.bearer.as_ref().unwrap_or(&empty),
        Users::Client | Users::Password(_) => config.client_secret.as_ref().unwrap_or(&empty),
    };
    let mut seal = keyed(key);
    for part in [&config.api, &config.auth, &config.scope, &config.connection_parameter] {
        add(&mut seal, part.as_bytes());
    }
    add(&mut seal, config.client_id.as_deref().unwrap_or_default().as_bytes());
    add(&mut seal, config.provider.as_deref().unwrap_or_default().as_bytes());
    add(&mut seal, format!("{:?} {:?}", config.token_body, config.version).as_bytes());
    match &config.users {
        Users::Endpoint(UserEndpoint { url, .. }) => add(&mut seal, url.as_bytes()),
        Users::Password(Passwords::Derived { .. }) => add(&mut seal, b"derived"),
        Users::Password(Passwords::Table(_)) => add(&mut seal, b"table"),
        Users::Client => add(&mut seal, b"client"),
        Users::Static(_) => add(&mut seal, b"static"),
    }
    seal
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub(super) fn keyed(key: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(key.expose().as_bytes()).expect("a key of any length")
}

/// Adds a part with its length, so that no two lists of parts read alike.
fn add(seal: &mut Hmac<Sha256>, part: &[u8]) {
    seal.update(&part.len().to_le_bytes());
    seal.update(part);
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
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
    fn a_user_id_stays_one_segment_of_a_url() {
        assert_eq!(percent_encoded("12-a_b.c~").unwrap(), "12-a_b.c~");
        assert_eq!(percent_encoded("../é?x=1#&/").unwrap(), "..%2F%C3%A9%3Fx%3D1%23%26%2F");
        for elsewhere in [".", ".."] {
            assert!(matches!(percent_encoded(elsewhere), Err(Error::NoCredentials(_))));
        }
    }

    #[test]
    fn a_token_prints_nothing() {
        let token = Token(Secret::new("canary".to_owned()));
        assert!(!format!("{token:?} {:?}", token.header()).contains("canary"));
    }
}
