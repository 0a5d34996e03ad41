//! One server, as it is asked: deadlines, bounds, limits of number and rate, and the breaker.
//!
//! In: a request. Out: the bytes of a successful answer within bounds, or an [`Error`]. Redirects are never followed,
//! nothing is decompressed, and names that lead to addresses which are no server's are not connected to. The limits hold
//! over all entries, and over clients with other settings that follow one another: what is remembered of a server is its
//! [`Lane`], which is handed on.

use super::{
    Error, Peer,
    breaker::{Breaker, Health},
    code,
    gate::{Gate, Inside, Pace},
};
use crate::{config, metrics::Metrics};
use base::{clock, error::chain, outbound, retry_after};
use reqwest::{Identity, Request, RequestBuilder, Response, StatusCode, header, redirect};
use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use zeroize::Zeroizing;

/// Bytes of one answer that are read at most.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Bytes of an error answer that are looked at.
const MAX_ERROR: usize = 8 * 1024;
/// From the start of a connection attempt to the end of its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is remembered of a server, whoever asks it.
#[derive(Debug)]
pub(super) struct Lane {
    peer: Peer,
    gate: Gate,
    breaker: Breaker,
}

impl Lane {
    pub(super) fn new(peer: Peer, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self { peer, gate: Gate::default(), breaker: Breaker::new(peer, metrics) })
    }
}

/// A server and the way to it.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) http: reqwest::Client,
    pub(super) lane: Arc<Lane>,
    pub(super) pace: Arc<Pace>,
    at_once: usize,
    rate: Option<NonZeroU32>,
}

/// What differs from one server to the other.
pub(super) struct Options<'a> {
    pub(super) lane: Arc<Lane>,
    /// Shared by the servers that the rate counts together.
    pub(super) pace: Arc<Pace>,
    pub(super) rate: Option<NonZeroU32>,
    pub(super) authorities: &'a [PathBuf],
    pub(super) identity: Option<&'a (PathBuf, PathBuf)>,
}

/// Leave to have one request under way.
#[derive(Debug)]
pub(super) struct Turn<'a>(#[expect(dead_code, reason = "held until the answer is there")] Inside<'a>);

impl Transport {
    pub(super) fn new(config: &config::Linxo, options: Options<'_>) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            // From connect to the last byte: no way of being slow gets past it.
            .timeout(config.timeout)
            // A redirect could carry a token to another origin; the API has no reason to send one.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("linxo-webhook/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(outbound::Resolver)
            .no_proxy();
        let mut roots = Vec::new();
        for path in options.authorities {
            let bundle = reqwest::Certificate::from_pem_bundle(&read_file(path)?);
            roots.extend(bundle.map_err(|error| Error::Build(format!("{}: {}", path.display(), chain(&error))))?);
        }
        if !roots.is_empty() {
            builder = builder.tls_certs_merge(roots);
        }
        if let Some((certificate, key)) = options.identity {
            let mut pem = read_file(certificate)?;
            pem.push(b'\n');
            pem.extend_from_slice(&read_file(key)?);
            let identity = Identity::from_pem(&pem);
            builder = builder.identity(
                identity.map_err(|error| Error::Build(format!("{}: {}", certificate.display(), chain(&error))))?,
            );
        }
        Ok(Self {
            http: builder.build().map_err(|error| Error::Build(chain(&error)))?,
            lane: options.lane,
            pace: options.pace,
            at_once: config.max_requests,
            rate: options.rate,
        })
    }

    /// How long the server is left alone yet.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.lane.breaker.pause()
    }

    /// Waits until a request may be sent.
    ///
    /// # Errors
    /// [`Error::Paused`].
    pub(super) async fn turn(&self) -> Result<Turn<'_>, Error> {
        self.lane.breaker.check()?;
        let inside = self.lane.gate.enter(self.at_once).await;
        self.pace.turn(self.rate).await;
        Ok(Turn(inside))
    }

    /// Sends a request when its turn comes, and reads the answer. No `secrets` of the request are in the error.
    pub(super) async fn call(&self, request: RequestBuilder, secrets: &[&str]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let request = built(request)?;
        let turn = self.turn().await?;
        self.send(&turn, request, secrets).await
    }

    /// [`call`](Self::call), in a turn that has come.
    pub(super) async fn send(
        &self,
        _turn: &Turn<'_>,
        request: Request,
        secrets: &[&str],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let admission = self.lane.breaker.admit().await?;
        let result = match self.http.execute(request).await {
            Ok(response) => self.read(response, secrets).await,
            Err(error) => Err(Error::network(self.lane.peer, error)),
        };
        admission.report(match &result {
            Err(Error::Network { .. } | Error::Status { status: 500.., .. }) => Health::Down,
            Err(Error::Answer { .. } | Error::Redirect { .. }) => Health::Unclear,
            _ => Health::Up,
        });
        result
    }

    /// Reads a successful answer within bounds, or turns it into an error. Wiped when dropped: it may hold a token.
    async fn read(&self, mut response: Response, secrets: &[&str]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (peer, status) = (self.lane.peer, response.status());
        if status.is_redirection() {
            return Err(Error::Redirect { peer, status: status.as_u16() });
        }
        if !status.is_success() {
            let asked = retry_after::from_headers(response.headers(), clock::now());
            if let (429 | 503, Some(asked)) = (status.as_u16(), asked) {
                self.lane.breaker.rest(asked);
            }
            let code = error_code(response, secrets).await;
            return Err(Error::Status { peer, status: status.as_u16(), code, after: asked.map(a_little_later) });
        }
        if response.headers().contains_key(header::CONTENT_ENCODING) {
            return Err(Error::answer(peer, "is compressed, which was not asked for"));
        }
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(|error| Error::network(peer, error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Error::TooLarge { peer, limit: MAX_ANSWER });
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::NO_CONTENT || body.is_empty() {
            return Err(Error::answer(peer, "is empty"));
        }
        Ok(body)
    }
}

/// The request itself. One that cannot be written says nothing about the server.
pub(super) fn built(request: RequestBuilder) -> Result<Request, Error> {
    request.build().map_err(|_quotes_the_value| Error::Unaskable("it cannot be written as an HTTP request"))
}

pub(super) fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    fs::read(path).map(Zeroizing::new).map_err(|error| Error::Build(format!("{}: {error}", path.display())))
}

/// At another moment for each, so that those who were sent away together do not come back together.
fn a_little_later(asked: Duration) -> Duration {
    let most = asked.min(Duration::from_secs(50)) / 10;
    asked + most.mul_f64(fastrand::f64())
}

/// The vendor's own code of an error answer, if it gave one.
async fn error_code(mut response: Response, secrets: &[&str]) -> Option<String> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > MAX_ERROR {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    code::of_answer(&body, secrets)
}
