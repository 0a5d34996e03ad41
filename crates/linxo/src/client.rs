//! The client: one call at a time to the vendor's API, each with a token.
//!
//! In: a user and a connection. Out: raw account objects with their digits and unknown members, or an [`Error`] that says
//! whether trying again can help. Which pages to ask for, what to keep and when to give up is for the caller to say.

use crate::{
    accounts::AccountsPage,
    connection::Connection,
    credentials::{Fingerprint, FingerprintKey, Lacking},
    error::{Error, Peer, outcome},
    exchange::{Exchange, Told},
    figures::Figures,
    lane::{Lane, Limits},
    segment::encoded,
    settings::{ApiVersion, Linxo, Reread, Users},
    tokens::{Token, Tokens},
    transport::{Transport, Way, built},
};
use base::{
    clock::Timestamp,
    neighbour::Standing,
    trust::{Own, Proof, Verdict},
};
use bytes::Bytes;
use event::{ConnectionId, UserId};
use reqwest::{
    Request, Url,
    header::{self, HeaderValue},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A server that takes no notice of `limit` may send this many times as many items as it asks for.
const MORE_THAN_ASKED: u32 = 10;
/// A server may send this many items in any case.
const LEAST_ITEMS: u32 = 1000;

/// A client of one environment (production or sandbox) of the API.
#[derive(Debug)]
pub struct Client {
    api: Transport,
    base: Url,
    settings: Linxo,
    tokens: Tokens,
    key: FingerprintKey,
    figures: Figures,
}

impl Client {
    /// Prepares a client; nothing is asked of the API yet. Fingerprints of credentials are made under `key`.
    ///
    /// # Errors
    /// [`Error::Build`] when a file is unusable or the system has no CA certificates.
    pub fn new(settings: Linxo, key: FingerprintKey, figures: Figures) -> Result<Self, Error> {
        Self::build(settings, key, figures, None)
    }

    /// A client with other settings that takes the place of this one: what is under way counts for both, servers that are
    /// left alone stay so, and tokens are used on where the credentials are the same.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn reconfigured(&self, settings: Linxo) -> Result<Self, Error> {
        Self::build(settings, self.key.clone(), self.figures.clone(), Some(self))
    }

    fn build(settings: Linxo, key: FingerprintKey, figures: Figures, before: Option<&Self>) -> Result<Self, Error> {
        let base = Url::parse(&settings.api).map_err(|error| Error::Build(format!("linxo.api: {error}")))?;
        if base.cannot_be_a_base() {
            return Err(Error::Build("linxo.api: paths cannot be appended to it".to_owned()));
        }
        // Both servers are the vendor's, who has set one rate.
        let pace = before.map_or_else(Arc::default, |before| Arc::clone(&before.api.limits().pace));
        let transport = |peer, same: Option<&Transport>| {
            Transport::new(Way {
                lane: same.map_or_else(|| Lane::new(peer, &figures), |same| Arc::clone(same.lane())),
                limits: Limits { at_once: settings.max_requests, rate: settings.rate, pace: Arc::clone(&pace) },
                timeout: settings.timeout,
                authorities: &settings.authorities,
                identity: None,
            })
        };
        let same_api = before.filter(|before| before.settings.api == settings.api).map(|before| &before.api);
        let same_auth = before.filter(|before| before.settings.auth == settings.auth);
        let api = transport(Peer::Linxo, same_api)?;
        let auth = transport(Peer::Auth, same_auth.map(|before| before.tokens.auth()))?;
        let tokens = Tokens::new(&settings, auth, &key, &figures, before.map(|before| &before.tokens))?;
        Ok(Self { api, base, settings, tokens, key, figures })
    }

    /// How many pages of one listing are asked for side by side.
    #[must_use]
    pub fn page_concurrency(&self) -> usize {
        self.settings.page_concurrency.max(1)
    }

    /// What bounds one listing.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            accounts: self.settings.max_accounts,
            bytes: self.settings.max_size,
            time: self.settings.list_timeout,
            always_reread: self.settings.reread == Reread::Always,
        }
    }

    /// From the first failure to read a user's accounts to giving up.
    #[must_use]
    pub fn retry_for(&self) -> Duration {
        self.settings.retry_for
    }

    /// From acceptance on, how long a list that is shorter than announced, or an unknown connection, means "not yet".
    #[must_use]
    pub fn settle_for(&self) -> Duration {
        self.settings.settle_for
    }

    /// For how long no work need be taken up, because the API, or the server that gives the one token for all users, is left
    /// alone; and how much work may be taken up at once else, while it comes back.
    #[must_use]
    pub fn room(&self) -> (Option<Duration>, usize) {
        let (api, tokens) = (self.api.lane().room(), self.tokens.room());
        (api.0.max(tokens.0), api.1.min(tokens.1))
    }

    /// How the API stands, and since when every call of it has failed; where it is well, the same of the server of `linxo.auth`.
    #[must_use]
    pub fn standing(&self) -> (Standing, Option<Timestamp>) {
        let (api, auth) = (self.api.lane().standing(), self.tokens.auth().lane().standing());
        if api == (Standing::Well, None) { auth } else { api }
    }

    /// Tells how many pieces of work are done at once. Calls that hang hold at most half of them.
    pub fn set_hands(&self, hands: usize) {
        self.api.lane().set_hands(hands);
        self.tokens.set_hands(hands);
    }

    /// Gives up calls that hang, as far as they hold more than their share, because other work finds no room.
    pub fn make_room(&self) {
        self.api.lane().make_room(self.api.limits());
        self.tokens.make_room();
    }

    /// Nothing waits for the API, so there is nothing that fails: another receiver asked it, say, or a person gave the work up.
    pub fn nothing_waits(&self) {
        self.api.lane().nothing_waits();
        self.tokens.nothing_waits();
    }

    /// What was asked for of a connection came as a whole: nothing is held against the connection any more.
    pub fn succeeded(&self, connection: &ConnectionId) {
        self.api.lane().succeeded(connection.as_str());
    }

    /// What was asked for of a connection was refused: whether that is believed. `own` is what the work saw by itself.
    #[must_use]
    pub fn refused(&self, connection: &ConnectionId, error: &Error, own: Own, proof: Proof) -> Verdict {
        self.api.lane().refused(connection.as_str(), error.kind(), own, proof)
    }

    /// The fingerprint of the credentials with which a user's accounts are asked for.
    pub async fn fingerprint(&self, user: Option<&UserId>) -> Fingerprint {
        self.tokens.fingerprint(user).await
    }

    /// Whether another try may end better than the one that was [lacking](Error::lacking) these credentials. Where no token was
    /// given, one is asked for from time to time, at an interval that grows up to ten minutes.
    pub async fn may_help(&self, user: Option<&UserId>, lacking: Lacking) -> bool {
        self.tokens.may_help(user, lacking).await
    }

    /// Asks for one page (from 1) of a connection's accounts. A token that is refused is renewed once. `told` hears of each call.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn accounts(
        &self,
        user: Option<&UserId>,
        connection: &ConnectionId,
        page: u32,
        told: Told<'_>,
    ) -> Result<AccountsPage, Error> {
        let (page, limit) = (page.to_string(), self.settings.page_limit.to_string());
        let query =
            [(self.settings.connection_parameter.as_str(), connection.as_str()), ("page", &page), ("limit", &limit)];
        let most = self.settings.page_limit.saturating_mul(MORE_THAN_ASKED).max(LEAST_ITEMS);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let asked = Asked { user, connection, path: "accounts", query: &query };
        self.ask(asked, told, |body| AccountsPage::parse(&body, connection, most)).await
    }

    /// Asks for a connection. A token that is refused is renewed once. `told` hears of each call.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn connection(
        &self,
        user: Option<&UserId>,
        connection: &ConnectionId,
        told: Told<'_>,
    ) -> Result<Connection, Error> {
        let id = encoded(connection.as_str());
        let id = id.ok_or(Error::Unaskable("the connection's id cannot stand in a URL"))?;
        let asked = Asked { user, connection, path: &format!("connections/{id}"), query: &[] };
        self.ask(asked, told, |body| Connection::parse(&body, connection)).await
    }

    /// Asks for a token, to see whether the credentials work.
    ///
    /// # Errors
    /// See [`Error::disposition`]; [`Error::NoCredentials`] where a user is lacking.
    pub(crate) async fn token(&self, user: Option<&UserId>) -> Result<(), Error> {
        self.tokens.get(user, "").await.map(drop)
    }

    /// Asks, with a token.
    async fn ask<T>(
        &self,
        asked: Asked<'_>,
        told: Told<'_>,
        parse: impl Fn(Bytes) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Asked { user, connection, .. } = asked;
        let acts_for = self.acts_for(user)?;
        let who = connection.as_str();
        let mut is_renewed = false;
        loop {
            let granted = self.tokens.get(user, who).await?;
            let turn = self.api.turn(who).await.inspect_err(|error| self.count(error.word()))?;
            // The wait for it may have been longer than the token's life.
            let granted = if granted.has_ended() { self.tokens.get(user, who).await? } else { granted };
            let request = self.request(&granted.token, &asked, acts_for.clone())?;
            let began = Instant::now();
            let answer = self.api.send(turn, request, &[granted.token.expose()]).await;
            let took = began.elapsed();
            let status = answer.as_ref().map_or_else(Error::status, |answer| Some(answer.status.as_u16()));
            // Wiping is for tokens, and there are none in these.
            let result = answer.and_then(|mut answer| parse(Bytes::from(std::mem::take(&mut *answer.body))));
            self.count(outcome(&result));
            told(&Exchange {
                server: &self.base,
                began,
                took,
                status,
                error: result.as_ref().err(),
                is_resent: is_renewed,
            });
            match result {
                Err(Error::Status { status: 401, .. })
                    if !is_renewed && self.tokens.discard(user, &granted.token).await =>
                {
                    is_renewed = true;
                }
                result => return result,
            }
        }
    }

    /// The header that says for whom a client token acts (`docs/linxo-api.md` section 2, way 2).
    fn acts_for(&self, user: Option<&UserId>) -> Result<Option<HeaderValue>, Error> {
        let (ApiVersion::V2_1, Users::Client(_), Some(user)) = (self.settings.version, &self.settings.users, user)
        else {
            return Ok(None);
        };
        let user = user.as_str();
        // Spaces around the value of a header are cut off on the way, and what is left may be another user's id.
        let is_fit = !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::from_str(user).ok().filter(|_| is_fit);
        value.map(Some).ok_or(Error::Unaskable("the user's id cannot stand in a header"))
    }

    fn request(&self, token: &Token, asked: &Asked<'_>, acts_for: Option<HeaderValue>) -> Result<Request, Error> {
        let Asked { user, path, query, .. } = *asked;
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        let mut request = self
            .api
            .http()
            .get(url)
            .query(query)
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, token.header());
        if let (ApiVersion::V3, Some(user)) = (self.settings.version, user) {
            request = request.query(&[("user_id", user.as_str())]);
        }
        if let Some(user) = acts_for {
            request = request.header("x-linxo-user-id", user);
        }
        built(request)
    }

    fn count(&self, outcome: &'static str) {
        self.figures.count_request(outcome);
    }
}

/// What is asked for: something of a user's connection, at a path below the API's base.
#[derive(Clone, Copy)]
struct Asked<'a> {
    user: Option<&'a UserId>,
    connection: &'a ConnectionId,
    path: &'a str,
    query: &'a [(&'a str, &'a str)],
}

/// What bounds one listing.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Accounts at most.
    pub accounts: u64,
    /// Bytes of their JSON at most.
    pub bytes: u64,
    /// For reading it.
    pub time: Duration,
    /// Whether two readings must agree even where nothing looks wrong.
    pub always_reread: bool,
}
