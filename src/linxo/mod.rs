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
mod connection;
mod error;
mod logins;
mod token;
mod transport;

pub use accounts::{Account, AccountsPage};
pub use connection::Connection;
pub use error::{Disposition, Error, Peer};

use crate::{
    config::{self, ApiVersion, Reread},
    event::{ConnectionId, UserId},
    metrics::{Metrics, Outcome},
};
use error::outcome;
use reqwest::{Url, header};
use std::{fmt, sync::Arc, time::Duration};
use token::Tokens;
use transport::{Options, Transport};
use zeroize::Zeroizing;

/// A client of one environment (production or sandbox) of the API.
#[derive(Debug)]
pub struct Client {
    linxo: Arc<Transport>,
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
        let options =
            Options { peer: Peer::Linxo, authorities: &config.authorities, identity: None, rate: config.rate };
        let linxo = Arc::new(Transport::new(&config, &options, &metrics)?);
        let tokens = Tokens::new(&config, Arc::clone(&linxo), Arc::clone(&metrics))?;
        Ok(Self { linxo, config, tokens, metrics })
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

    /// For how long the API is left alone yet, because it failed.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        self.linxo.pause()
    }

    /// What stands for the credentials with which a user's accounts are asked for: another text for other credentials,
    /// the same after a restart. Says nothing about them.
    pub async fn credentials(&self, user: Option<&UserId>) -> String {
        self.tokens.credentials(user).await
    }

    /// Asks for one page (from 1) of a connection's accounts; [`read_accounts`](Self::read_accounts) says what is on it. Apart,
    /// so that the next page can be asked for before this one is read. A token that is refused is renewed once.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn accounts(&self, user: Option<&UserId>, connection: &ConnectionId, page: u32) -> Result<Answer, Error> {
        let (page, limit) = (page.to_string(), self.config.page_limit.to_string());
        let query =
            [(self.config.connection_parameter.as_str(), connection.as_str()), ("page", &page), ("limit", &limit)];
        self.ask(user, &["accounts"], &query).await
    }

    /// Reads a page of a connection's accounts.
    ///
    /// # Errors
    /// [`Error::Answer`]
    pub fn read_accounts(&self, answer: &Answer, connection: &ConnectionId) -> Result<AccountsPage, Error> {
        self.counted(AccountsPage::parse(&answer.0, connection))
    }

    /// Asks for a connection. A token that is refused is renewed once.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn connection(&self, user: Option<&UserId>, connection: &ConnectionId) -> Result<Connection, Error> {
        let answer = self.ask(user, &["connections", connection.as_str()], &[]).await?;
        self.counted(Connection::parse(&answer.0, connection))
    }

    /// Asks for a token, to see whether the credentials work.
    ///
    /// # Errors
    /// See [`Error::disposition`]; [`Error::NoCredentials`] where only a user's token can be asked for.
    pub async fn check(&self) -> Result<(), Error> {
        self.tokens.get(None).await.map(drop)
    }

    /// Asks for something of a user, at a path below the API's base. What is answered is counted when it is read.
    async fn ask(&self, user: Option<&UserId>, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, Error> {
        let token = self.tokens.get(user).await?;
        match self.ask_with(&token, user, path, query).await {
            Err(Error::Status { status: 401, .. }) => {
                self.tokens.discard(user, &token).await;
                let token = self.tokens.get(user).await?;
                self.ask_with(&token, user, path, query).await
            }
            answer => answer,
        }
    }

    async fn ask_with(
        &self,
        token: &token::Token,
        user: Option<&UserId>,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Answer, Error> {
        let mut request = self
            .linxo
            .http
            .get(self.url(path)?)
            .query(query)
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, token.header());
        if let (ApiVersion::V3, Some(user)) = (self.config.version, user) {
            request = request.query(&[("user_id", user.as_str())]);
        }
        if let (ApiVersion::V2_1, config::Users::Client, Some(user)) = (self.config.version, &self.config.users, user) {
            // A client token that acts for a user: linxo-api.md section 2, "Getting a token", way 2.
            request = request.header("x-linxo-user-id", user.as_str());
        }
        match self.linxo.call(request).await {
            Ok(body) => Ok(Answer(body)),
            Err(error) => self.counted(Err(error)),
        }
    }

    /// Counts how a request ended.
    fn counted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        self.metrics.api_requests.get_or_create(&Outcome { outcome: outcome(&result) }).inc();
        result
    }

    /// A path below the API's base; each segment is encoded, because ids come from whoever sent an event.
    fn url(&self, path: &[&str]) -> Result<Url, Error> {
        let mut url = Url::parse(&self.config.api).map_err(|error| Error::Build(format!("linxo.api: {error}")))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        Ok(url)
    }
}

/// A successful answer, not read yet. Wiped when dropped.
pub struct Answer(Zeroizing<Vec<u8>>);

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} bytes)", self.0.len())
    }
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
