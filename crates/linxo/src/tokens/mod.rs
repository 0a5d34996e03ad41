//! Access tokens: where they come from, how long they are used, and that only one request at a time asks for one.
//!
//! In: the user whom an event names. Out: a token that lives for a while yet. Whoever needs a token while it is being
//! asked for waits for the one answer, and takes it even if it lasts for no time at all. A refusal is believed for a
//! moment, so that a hundred waiting callers do not become a hundred tries with a wrong password. Tokens and passwords are
//! wiped when dropped; the HTTP library's own copies are not in our hands.

use super::{
    Error, Peer, encoded,
    error::{Missing, NO_TOKEN, outcome},
    gate::Pace,
    logins::Logins,
    probes::Probes,
    slots::{Kept, Key, Refusal, Slots},
    transport::{Lane, Options, Transport, read_file},
};
use crate::{
    config::{self, Passwords, TokenBody, UserEndpoint, Users, users::USER_ID},
    metrics::{Metrics, Outcome},
};
use base::secret::Secret;
use event::UserId;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{self, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::Sha256;
use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

/// Used where the answer does not say how long a token lives.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// No token is kept longer than this, whatever the answer says.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);
/// How long a refusal is believed without asking again.
const REFUSAL_BELIEVED: Duration = Duration::from_secs(5);

/// An access token, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token(Secret);

impl Token {
    /// `None` for what cannot stand in a header.
    fn new(text: Secret) -> Option<Self> {
        let is_fit = !text.is_empty() && text.expose().bytes().all(|byte| byte.is_ascii_graphic());
        is_fit.then_some(Self(text))
    }

    /// `Authorization: Bearer ...`, marked so that nothing prints it.
    pub(super) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0.expose()))
            .unwrap_or_else(|_excluded_by_new| HeaderValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }

    pub(super) fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// A token that was given to a caller.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) token: Token,
    /// `None`: for as long as the caller likes.
    until: Option<Instant>,
}

impl Granted {
    /// Whether its time is over.
    pub(super) fn has_ended(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

/// Gives out tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) auth: Transport,
    source: Source,
    /// What the source was made of.
    users: Users,
    slots: Arc<Slots>,
    probes: Probes,
    /// What credentials are recognised by, without the user's own; see [`Tokens::credentials`].
    seal: Hmac<Sha256>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum Source {
    Static(Token),
    Client(Grants),
    Password(Grants, Arc<Logins>),
    Endpoint(Endpoint),
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
    /// Tokens that are held by those `before` are used on where the credentials are the same.
    pub(super) fn new(
        config: &config::Linxo,
        auth: Transport,
        metrics: Arc<Metrics>,
        before: Option<&Self>,
    ) -> Result<Self, Error> {
        let grants = || Grants {
            url: format!("{}/token", config.auth),
            body: config.token_body,
            client_id: config.client_id.clone().unwrap_or_default(),
            client_secret: config.client_secret.clone().unwrap_or_default(),
            scope: config.scope.clone(),
            provider: config.provider.clone(),
        };
        let token = |text: &Secret| {
            let problem = || Error::Build("a token of [linxo.users] cannot stand in a header".to_owned());
            Token::new(text.clone()).ok_or_else(problem)
        };
        let seal = seal(config)?;
        // Another table, endpoint or secret has nothing to do with what was before.
        let before = before.filter(|before| before.users == config.users);
        let source = match (&config.users, before.map(|before| &before.source)) {
            (Users::Static(text), _) => Source::Static(token(text)?),
            (Users::Client, _) => Source::Client(grants()),
            (Users::Password(_), Some(Source::Password(_, logins))) => Source::Password(grants(), Arc::clone(logins)),
            (Users::Password(passwords), _) => Source::Password(grants(), Arc::new(Logins::new(passwords)?)),
            (Users::Endpoint(endpoint), before) => {
                let lane = match before {
                    Some(Source::Endpoint(before)) => Arc::clone(&before.transport.lane),
                    _ => Lane::new(Peer::Users, &metrics),
                };
                let options = Options {
                    lane,
                    pace: Arc::<Pace>::default(),
                    rate: None,
                    authorities: &endpoint.authorities,
                    identity: endpoint.identity.as_ref(),
                };
                Source::Endpoint(Endpoint {
                    transport: Transport::new(config, options)?,
                    url: endpoint.url.clone(),
                    bearer: endpoint.bearer.as_ref().map(token).transpose()?,
                })
            }
        };
        let slots = match before {
            Some(before) if text_of(&before.seal) == text_of(&seal) => Arc::clone(&before.slots),
            _ => Arc::default(),
        };
        let users = config.users.clone();
        Ok(Self { auth, source, users, slots, probes: Probes::default(), seal, metrics })
    }

    /// A token for a user that lives for a while yet.
    pub(super) async fn get(&self, user: Option<&UserId>) -> Result<Granted, Error> {
        let came = Instant::now();
        let key = match (&self.source, user) {
            (Source::Static(token), _) => return Ok(Granted { token: token.clone(), until: None }),
            (Source::Password(..) | Source::Endpoint(_), None) => return Err(Error::NoCredentials(Missing::User)),
            (_, user) => self.key(user),
        };
        self.refresh().await;
        let slot = self.slots.slot(key);
        let mut current = slot.current.lock().await;
        if let Some(kept) = &*current
            && kept.serves(came)
        {
            let token = kept.result.clone()?;
            // One that has ended already is used at once, or not at all.
            return Ok(Granted { token, until: Some(kept.until).filter(|until| Instant::now() < *until) });
        }
        let result = self.ask(user).await;
        self.metrics.token_requests.get_or_create(&Outcome { outcome: outcome(&result) }).inc();
        let came = Instant::now();
        match result {
            Ok((token, until)) => {
                *current = Some(Kept { result: Ok(token.clone()), came, until });
                Ok(Granted { token, until: Some(until).filter(|until| came < *until) })
            }
            Err(Error::Credentials { peer, status, code }) => {
                let refusal = Refusal { peer, status, code };
                *current = Some(Kept { result: Err(refusal.clone()), came, until: came + REFUSAL_BELIEVED });
                Err(refusal.into())
            }
            Err(error) => {
                *current = None;
                Err(error)
            }
        }
    }

    /// Forgets a token that was refused, unless it was renewed in the meantime; false where there is no other to be had.
    pub(super) async fn discard(&self, user: Option<&UserId>, refused: &Token) -> bool {
        if matches!(self.source, Source::Static(_)) {
            return false;
        }
        let slot = self.slots.slot(self.key(user));
        let mut current = slot.current.lock().await;
        if current.as_ref().is_some_and(|kept| kept.result.as_ref().is_ok_and(|token| token == refused)) {
            *current = None;
        }
        true
    }

    /// For how long no token can be asked for, where one that is lacking serves all users.
    pub(super) fn pause(&self) -> Option<Duration> {
        // Looked at in any case, for its figure.
        let pause = self.auth.pause();
        pause.filter(|_| matches!(self.source, Source::Client(_)) && !self.slots.holds(&None))
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
        text_of(&seal)
    }

    /// Whether another try may end otherwise than the one after which this sign was kept: the credentials are others, or
    /// a token is to be had where none was.
    pub(super) async fn may_help(&self, user: Option<&UserId>, sign: &str) -> bool {
        let present = self.credentials(user).await;
        match sign.strip_suffix(NO_TOKEN) {
            Some(before) => before != present || self.can_be_had(user).await,
            None => sign != present,
        }
    }

    /// Whether there is a token; asks for one, if it is time to.
    async fn can_be_had(&self, user: Option<&UserId>) -> bool {
        // Not with a user's password: a wrong one that is tried again and again locks the user out.
        let is_to_be_asked = match &self.source {
            Source::Client(_) => true,
            Source::Endpoint(_) => user.is_some(),
            Source::Password(..) | Source::Static(_) => false,
        };
        let key = self.key(user);
        is_to_be_asked && (self.slots.holds(&key) || (self.probes.is_due(&key) && self.get(user).await.is_ok()))
    }

    fn key(&self, user: Option<&UserId>) -> Key {
        if matches!(self.source, Source::Client(_)) { None } else { user.cloned() }
    }

    /// Looks whether the table of passwords changed; users with other credentials lose their tokens.
    async fn refresh(&self) {
        if let Source::Password(_, logins) = &self.source {
            self.slots.forget(logins.refresh().await);
        }
    }

    async fn ask(&self, user: Option<&UserId>) -> Result<(Token, Instant), Error> {
        let asked = Instant::now();
        let (peer, body) = match (&self.source, user) {
            (Source::Client(grants), _) => (Peer::Auth, grants.send(&self.auth, None).await?),
            (Source::Password(grants, logins), Some(user)) => {
                let login = logins.login(user).ok_or(Error::NoCredentials(Missing::Login))?;
                (Peer::Auth, grants.send(&self.auth, Some(&login)).await?)
            }
            (Source::Endpoint(endpoint), Some(user)) => (Peer::Users, endpoint.send(user).await?),
            (Source::Static(_), _) | (_, None) => return Err(Error::NoCredentials(Missing::User)),
        };
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_quotes_the_token| Error::answer(peer, "to a token request holds no access_token"))?;
        let token = Token::new(answer.access_token).ok_or_else(|| {
            Error::answer(peer, "to a token request holds an access_token that is empty or cannot stand in a header")
        })?;
        let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME);
        // Renewed a little early, so that a token does not expire on its way.
        let margin = (lifetime / 10).min(Duration::from_mins(1));
        Ok((token, asked + lifetime.saturating_sub(margin)))
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
        let mut secrets = vec![self.client_secret.expose()];
        secrets.extend(login.iter().flat_map(|login| [login.username.as_str(), login.password.expose()]));
        transport.call(request, &secrets).await.map_err(refused)
    }
}

impl Endpoint {
    async fn send(&self, user: &UserId) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
        let user = encoded(user.as_str()).ok_or(Error::Unaskable("the user's id cannot stand in a URL"))?;
        let url = self.url.replace(USER_ID, &user);
        let mut request = self.transport.http.get(url).header(header::ACCEPT, "application/json");
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer.header());
        }
        let secrets: Vec<&str> = self.bearer.iter().map(Token::expose).collect();
        self.transport.call(request, &secrets).await.map_err(|error| match error {
            Error::Status { status: 404, .. } => Error::NoCredentials(Missing::Endpoint),
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

/// Everything that a token depends on besides the user.
fn seal(config: &config::Linxo) -> Result<Hmac<Sha256>, Error> {
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
        Users::Endpoint(UserEndpoint { url, identity, .. }) => {
            add(&mut seal, url.as_bytes());
            for file in identity.iter().flat_map(|(certificate, key)| [certificate, key]) {
                add(&mut seal, &read_file(file)?);
            }
        }
        Users::Password(Passwords::Derived { .. }) => add(&mut seal, b"derived"),
        Users::Password(Passwords::Table(_)) => add(&mut seal, b"table"),
        Users::Client => add(&mut seal, b"client"),
        Users::Static(_) => add(&mut seal, b"static"),
    }
    Ok(seal)
}

/// A short text for a hash.
fn text_of(seal: &Hmac<Sha256>) -> String {
    let mut text = String::with_capacity(16);
    for byte in seal.clone().finalize().into_bytes().iter().take(8) {
        // Writing into a String does not fail.
        write!(text, "{byte:02x}").ok();
    }
    text
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

/// Seconds as a number or, as in the vendor's own example, a string; nonsense, zero and negatives count as absent.
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
    fn what_cannot_stand_in_a_header_is_no_token() {
        for text in ["", "a b", "a\n", "\u{7f}", "tök"] {
            assert_eq!(Token::new(Secret::new(text.to_owned())), None, "{text:?}");
        }
        assert_eq!(Token::new(Secret::new("a.b-c~/+=".to_owned())).unwrap().header(), "Bearer a.b-c~/+=");
    }

    #[test]
    fn a_token_prints_nothing() {
        let token = Token(Secret::new("canary".to_owned()));
        assert!(!format!("{token:?} {:?}", token.header()).contains("canary"));
    }
}
