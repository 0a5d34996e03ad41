//! The vendor's API, as far as this service needs it: tokens, and pages of accounts.
//!
//! In: a user and a connection. Out: raw account objects with their digits and unknown members, or an [`Error`] that says
//! whether trying again can help. One request at a time is this module's business; which pages to ask for, what to keep
//! and when to give up is `work::complete`'s.
//!
//! There is no trait: tests point the client at the simulator over a real socket. Facts about the API are marked with their
//! section of `linxo-api.md`; few are documented by the vendor, so what is uncertain is configuration.

mod accounts;
mod breaker;
mod code;
mod connection;
mod error;
mod gate;
mod logins;
mod probes;
mod slots;
mod token;
mod transport;

pub use accounts::{Account, AccountsPage};
pub use connection::Connection;
pub use error::{Disposition, Error, Missing, Peer};

use crate::{
    config::{self, ApiVersion, Reread},
    metrics::{Metrics, Outcome},
};
use bytes::Bytes;
use error::outcome;
use event::{ConnectionId, UserId};
use reqwest::{
    Request, Url,
    header::{self, HeaderValue},
};
use std::{fmt::Write as _, sync::Arc, time::Duration};
use token::{Token, Tokens};
use transport::{Lane, Options, Transport, built};

/// A server that takes no notice of the limit may send this many times as many items as were asked for,
const MORE_THAN_ASKED: u32 = 10;
/// and this many in any case.
const LEAST_ITEMS: u32 = 1000;

/// Readers of foreign bytes, for `fuzz/` alone.
#[cfg(fuzzing)]
pub mod fuzzing {
    use bytes::Bytes;
    use event::ConnectionId;

    /// A page of accounts: every item is one of the connection's or a foreign one.
    pub fn accounts(body: &[u8]) {
        let body = Bytes::copy_from_slice(body);
        if let Ok(page) = super::AccountsPage::parse(&body, &ConnectionId::new("7"), 1000) {
            assert_eq!(page.received as usize, page.accounts.len() + page.foreign.len());
        }
    }
}

/// A client of one environment (production or sandbox) of the API.
#[derive(Debug)]
pub struct Client {
    api: Transport,
    base: Url,
    config: config::Linxo,
    tokens: Tokens,
    metrics: Arc<Metrics>,
}

impl Client {
    /// Prepares a client; nothing is asked of the API yet.
    ///
    /// # Errors
    /// [`Error::Build`] when a file is unusable or the system has no CA certificates.
    pub fn new(config: config::Linxo, metrics: Arc<Metrics>) -> Result<Self, Error> {
        Self::build(config, metrics, None)
    }

    /// A client with other settings that takes the place of this one: what is under way counts for both, servers that are
    /// left alone stay so, and tokens are used on where the credentials are the same.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn reconfigured(&self, config: config::Linxo) -> Result<Self, Error> {
        Self::build(config, Arc::clone(&self.metrics), Some(self))
    }

    fn build(config: config::Linxo, metrics: Arc<Metrics>, before: Option<&Self>) -> Result<Self, Error> {
        let base = Url::parse(&config.api).map_err(|error| Error::Build(format!("linxo.api: {error}")))?;
        if base.cannot_be_a_base() {
            return Err(Error::Build("linxo.api: paths cannot be appended to it".to_owned()));
        }
        let lane_of = |peer, same: Option<&Transport>| match same {
            Some(before) => Arc::clone(&before.lane),
            None => Lane::new(peer, &metrics),
        };
        // Both servers are the vendor's, who has set one rate.
        let pace = before.map_or_else(Arc::default, |before| Arc::clone(&before.api.pace));
        let transport = |lane| {
            let pace = Arc::clone(&pace);
            let options = Options { lane, pace, rate: config.rate, authorities: &config.authorities, identity: None };
            Transport::new(&config, options)
        };
        let same_api = before.filter(|before| before.config.api == config.api).map(|before| &before.api);
        let same_auth = before.filter(|before| before.config.auth == config.auth).map(|before| &before.tokens.auth);
        let api = transport(lane_of(Peer::Linxo, same_api))?;
        let auth = transport(lane_of(Peer::Auth, same_auth))?;
        let tokens = Tokens::new(&config, auth, Arc::clone(&metrics), before.map(|before| &before.tokens))?;
        Ok(Self { api, base, config, tokens, metrics })
    }

    /// How many pages of one listing are asked for side by side.
    #[must_use]
    pub fn page_concurrency(&self) -> usize {
        self.config.page_concurrency.max(1)
    }

    /// What bounds one listing.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            accounts: self.config.max_accounts,
            bytes: self.config.max_size,
            time: self.config.list_timeout,
            always_reread: self.config.reread == Reread::Always,
        }
    }

    /// From the first failure to read a user's accounts to giving up.
    #[must_use]
    pub fn retry_for(&self) -> Duration {
        self.config.retry_for
    }

    /// For how long nothing can be asked of the API, because it, or the server that gives the one token for all users, is
    /// left alone.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        self.api.pause().max(self.tokens.pause())
    }

    /// What stands for the credentials with which a user's accounts are asked for: another text for other credentials,
    /// the same after a restart. Says nothing about them.
    pub async fn credentials(&self, user: Option<&UserId>) -> String {
        self.tokens.credentials(user).await
    }

    /// Whether another try may end otherwise than the one after which this [sign](Error::sign) was kept. Where a token was
    /// lacking, one is asked for from time to time, at an interval that grows up to ten minutes.
    pub async fn may_help(&self, user: Option<&UserId>, sign: &str) -> bool {
        self.tokens.may_help(user, sign).await
    }

    /// Asks for one page (from 1) of a connection's accounts. A token that is refused is renewed once.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn accounts(
        &self,
        user: Option<&UserId>,
        connection: &ConnectionId,
        page: u32,
    ) -> Result<AccountsPage, Error> {
        let (page, limit) = (page.to_string(), self.config.page_limit.to_string());
        let query =
            [(self.config.connection_parameter.as_str(), connection.as_str()), ("page", &page), ("limit", &limit)];
        let most = self.config.page_limit.saturating_mul(MORE_THAN_ASKED).max(LEAST_ITEMS);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.ask(user, "accounts", &query, |body| AccountsPage::parse(&body, connection, most)).await
    }

    /// Asks for a connection. A token that is refused is renewed once.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn connection(&self, user: Option<&UserId>, connection: &ConnectionId) -> Result<Connection, Error> {
        let id = encoded(connection.as_str());
        let id = id.ok_or(Error::Unaskable("the connection's id cannot stand in a URL"))?;
        self.ask(user, &format!("connections/{id}"), &[], |body| Connection::parse(&body, connection)).await
    }

    /// Asks for a token, to see whether the credentials work.
    ///
    /// # Errors
    /// See [`Error::disposition`]; [`Error::NoCredentials`] where only a user's token can be asked for.
    pub async fn check(&self) -> Result<(), Error> {
        self.tokens.get(None).await.map(drop)
    }

    /// Asks for something of a user, at a path below the API's base.
    async fn ask<T>(
        &self,
        user: Option<&UserId>,
        path: &str,
        query: &[(&str, &str)],
        parse: impl Fn(Bytes) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let acts_for = self.acts_for(user)?;
        let mut is_renewed = false;
        loop {
            let granted = self.tokens.get(user).await?;
            let turn = self.api.turn().await.inspect_err(|error| self.count(error.word()))?;
            // The wait for it may have been longer than the token's life.
            let granted = if granted.has_ended() { self.tokens.get(user).await? } else { granted };
            let request = self.request(&granted.token, user, acts_for.clone(), path, query)?;
            let answer = self.api.send(&turn, request, &[granted.token.expose()]).await;
            drop(turn);
            // Wiping is for tokens, and there are none in these.
            let result = answer.and_then(|mut body| parse(Bytes::from(std::mem::take(&mut *body))));
            self.count(outcome(&result));
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

    /// The header that says for whom a client token acts (`linxo-api.md` section 2, "Getting a token", way 2).
    fn acts_for(&self, user: Option<&UserId>) -> Result<Option<HeaderValue>, Error> {
        let (ApiVersion::V2_1, config::Users::Client, Some(user)) = (self.config.version, &self.config.users, user)
        else {
            return Ok(None);
        };
        let user = user.as_str();
        // Spaces around a value are cut off on the way, and what is left may be somebody else.
        let is_fit = !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::from_str(user).ok().filter(|_| is_fit);
        value.map(Some).ok_or(Error::Unaskable("the user's id cannot stand in a header"))
    }

    fn request(
        &self,
        token: &Token,
        user: Option<&UserId>,
        acts_for: Option<HeaderValue>,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Request, Error> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        let mut request = self
            .api
            .http
            .get(url)
            .query(query)
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, token.header());
        if let (ApiVersion::V3, Some(user)) = (self.config.version, user) {
            request = request.query(&[("user_id", user.as_str())]);
        }
        if let Some(user) = acts_for {
            request = request.header("x-linxo-user-id", user);
        }
        built(request)
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.api_requests.get_or_create(&Outcome { outcome }).inc();
    }
}

/// An id as one segment of a URL's path; `None` for what can be none: `.` and `..` lead elsewhere, however they are encoded,
/// and nothing at all is the folder itself.
fn encoded(id: &str) -> Option<String> {
    if matches!(id, "" | "." | "..") {
        return None;
    }
    let mut encoded = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String does not fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    Some(encoded)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_one_segment_of_a_url() {
        assert_eq!(encoded("12-a_b.c~").unwrap(), "12-a_b.c~");
        assert_eq!(encoded("../é?x=1#&/").unwrap(), "..%2F%C3%A9%3Fx%3D1%23%26%2F");
        assert_eq!(encoded(".\n.").unwrap(), ".%0A.");
        for elsewhere in ["", ".", ".."] {
            assert_eq!(encoded(elsewhere), None);
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_no_server_is_not_connected_to() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let text =
            "[linxo]\napi = \"https://metadata.test/v2.1\"\n[linxo.users]\nmode = \"static\"\ntoken = { env = \"T\" }";
        std::fs::write(&file, text).unwrap();
        let config = config::load(Some(&file), [("T".to_owned(), "t".to_owned())]).unwrap();
        let client = Client::new(config.linxo.unwrap(), Arc::new(Metrics::new())).unwrap();
        let error = client.accounts(None, &ConnectionId::new("7"), 1).await.unwrap_err();
        let said = base::error::chain(&error);
        assert!(said.starts_with("the Linxo API could not be reached") && said.contains("link-local"), "{said}");
    }
}
