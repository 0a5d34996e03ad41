//! The vendor's API, as far as this service needs it: tokens, and pages of accounts.
//!
//! In: a user and a connection. Out: raw account objects with their digits and unknown members, or an [`Error`] that says
//! whether trying again can help. One request at a time is this module's business; which pages to ask for, what to keep
//! and when to give up is `work::complete`'s.
//!
//! There is no trait: tests point the client at the simulator over a real socket. Facts about the API are marked with their
//! section of `linxo-api.md`; few are documented by the vendor, so what is uncertain is configuration.

mod accounts;
mod token;

pub use accounts::{Account, AccountsPage};

use crate::{
    config::{self, ApiVersion},
    event::{ConnectionId, UserId},
    metrics::{Metrics, Outcome},
    retry_after,
};
use reqwest::{Response, StatusCode, header, redirect};
use std::{fs, sync::Arc, time::Duration};
use token::Tokens;

/// Bytes of one answer that are read at most.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// From the start of a connection attempt to the end of its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of one environment (production or sandbox) of the API.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    config: config::Linxo,
    tokens: Tokens,
    metrics: Arc<Metrics>,
}

impl Client {
    /// Prepares a client; nothing is asked of the API yet.
    ///
    /// # Errors
    /// [`Error::Build`] when a file of `linxo.authorities` is unusable or the system has no CA certificates.
    pub fn new(config: config::Linxo, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            .timeout(config.timeout)
            // A redirect could carry a token to another origin; the API has no reason to send one.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("linxo-webhook/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        let mut roots = Vec::new();
        for path in &config.authorities {
            let pem = fs::read(path).map_err(|error| Error::Build(format!("{}: {error}", path.display())))?;
            let bundle = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| Error::Build(format!("{}: {error}", path.display())))?;
            roots.extend(bundle);
        }
        if !roots.is_empty() {
            builder = builder.tls_certs_merge(roots);
        }
        let http = builder.build().map_err(|error| Error::Build(crate::error::chain(&error)))?;
        let tokens = Tokens::new(http.clone(), &config, Arc::clone(&metrics));
        Ok(Self { http, config, tokens, metrics })
    }

    /// The page size that is asked for.
    #[must_use]
    pub fn page_limit(&self) -> u32 {
        self.config.page_limit
    }

    /// How many pages of one listing are asked for side by side.
    #[must_use]
    pub fn page_concurrency(&self) -> usize {
        self.config.page_concurrency.max(1)
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
        let token = self.tokens.get(user).await?;
        match self.accounts_with(&token, user, connection, page).await {
            Err(Error::Status { status: 401, .. }) => {
                self.tokens.discard(user, &token).await;
                let token = self.tokens.get(user).await?;
                self.accounts_with(&token, user, connection, page).await
            }
            answer => answer,
        }
    }

    /// Asks for a token, to see whether the credentials work.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn check(&self) -> Result<(), Error> {
        self.tokens.get(None).await.map(drop)
    }

    async fn accounts_with(
        &self,
        token: &token::Token,
        user: Option<&UserId>,
        connection: &ConnectionId,
        page: u32,
    ) -> Result<AccountsPage, Error> {
        let (page, limit) = (page.to_string(), self.config.page_limit.to_string());
        let mut query =
            vec![(self.config.connection_parameter.as_str(), connection.as_str()), ("page", &page), ("limit", &limit)];
        if let (ApiVersion::V3, Some(user)) = (self.config.version, user) {
            query.push(("user_id", user.as_str()));
        }
        let mut request = self
            .http
            .get(format!("{}/accounts", self.config.api))
            .query(&query)
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, token.header());
        if let (ApiVersion::V2_1, config::Users::Client, Some(user)) = (self.config.version, &self.config.users, user) {
            // A client token that acts for a user: linxo-api.md section 2, "Getting a token", way 2.
            request = request.header("x-linxo-user-id", user.as_str());
        }
        let result = async {
            let body = read(request.send().await.map_err(Error::network)?).await?;
            AccountsPage::parse(&body, connection)
        }
        .await;
        self.metrics.api_requests.get_or_create(&Outcome { outcome: outcome(&result) }).inc();
        result
    }
}

/// Reads a successful answer within bounds, or turns it into an error.
async fn read(mut response: Response) -> Result<Vec<u8>, Error> {
    let status = response.status();
    if status.is_redirection() {
        return Err(Error::Redirect(status.as_u16()));
    }
    if !status.is_success() {
        let after = retry_after::from_headers(response.headers(), crate::clock::now());
        return Err(Error::Status { status: status.as_u16(), code: error_code(response).await, after });
    }
    if response.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(Error::Answer("is compressed, which was not asked for".to_owned()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Error::network)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Error::Answer(format!("is larger than {} MiB", MAX_ANSWER >> 20)));
        }
        body.extend_from_slice(&chunk);
    }
    if status == StatusCode::NO_CONTENT || body.is_empty() {
        return Err(Error::Answer("is empty".to_owned()));
    }
    Ok(body)
}

/// The vendor's error answer (linxo-api.md section 5).
#[derive(serde::Deserialize)]
struct ErrorAnswer {
    error: Option<String>,
    error_description: Option<String>,
}

/// The vendor's own code of an error answer, if it looks like one: letters, digits, underscores. Never free text, which
/// might quote the request.
async fn error_code(mut response: Response) -> Option<String> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > 8 * 1024 {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    let answer: ErrorAnswer = serde_json::from_slice(&body).ok()?;
    let is_code = |text: &String| {
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    // "ACCEPT_TERMS_AND_CONDITIONS_REQUIRED" was seen in the description, behind a general "error".
    answer.error_description.filter(is_code).or(answer.error.filter(is_code))
}

fn outcome<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Error::Status { status: 401, .. }) => "unauthorized",
        Err(Error::Status { status: 429, .. }) => "throttled",
        Err(Error::Status { status: 500.., .. }) => "server_error",
        Err(Error::Status { .. } | Error::Credentials { .. } | Error::Redirect(_)) => "refused",
        Err(Error::Network { .. }) => "network",
        Err(Error::Answer(_) | Error::Build(_)) => "invalid",
    }
}

/// Why the API did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client cannot be made.
    #[error("cannot prepare the client of the Linxo API: {0}")]
    Build(String),
    /// An answer other than 2xx.
    #[error("the Linxo API answered {status}{}", code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Status {
        /// HTTP status.
        status: u16,
        /// The vendor's own code, if it gave one.
        code: Option<String>,
        /// What `Retry-After` asks for.
        after: Option<Duration>,
    },
    /// The token endpoint refused the credentials for good.
    #[error("the token endpoint answered {status}{}", code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Credentials {
        /// HTTP status.
        status: u16,
        /// The vendor's own code, if it gave one.
        code: Option<String>,
    },
    /// A redirect, which is never followed.
    #[error("the Linxo API answered {0}, a redirect, which is not followed")]
    Redirect(u16),
    /// No answer, or half of one.
    #[error("the Linxo API {what}")]
    Network {
        /// `could not be reached`, `did not answer in time`, ...
        what: &'static str,
        /// The client's own error, without the URL.
        #[source]
        source: reqwest::Error,
    },
    /// A success that does not hold what it should.
    #[error("the answer of the Linxo API {0}")]
    Answer(String),
}

/// What an error means for trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Trying again can help; not before `after`, where the API said so.
    Transient {
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// A person must act first.
    Permanent,
}

impl Error {
    fn network(error: reqwest::Error) -> Self {
        let what = if error.is_timeout() {
            "did not answer in time"
        } else if error.is_connect() {
            "could not be reached"
        } else {
            "broke off its answer"
        };
        Self::Network { what, source: error.without_url() }
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Status { status: 408 | 425 | 429 | 500.., after, .. } => Disposition::Transient { after: *after },
            // What cannot be read today (a page of HTML, half an answer) is mostly an outage in disguise.
            Self::Network { .. } | Self::Answer(_) => Disposition::Transient { after: None },
            Self::Status { .. } | Self::Credentials { .. } | Self::Redirect(_) | Self::Build(_) => {
                Disposition::Permanent
            }
        }
    }

    /// What a person can do about a permanent error.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Credentials { .. } => {
                "check linxo.client_id, linxo.client_secret, linxo.token_body and linxo.auth, then replay"
            }
            Self::Status { status: 401, .. } => {
                "the token is not accepted: check linxo.users and the credentials, then replay"
            }
            Self::Status { status: 403, .. } => {
                "the token may not read this user's accounts: check linxo.scope and the user's consent, then replay"
            }
            Self::Status { status: 404, .. } => {
                "the connection is not known to the API (any more): replay, or purge the entry"
            }
            _ => "check the [linxo] section, then replay",
        }
    }
}
