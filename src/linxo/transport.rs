//! One server, as it is asked: deadlines, bounds, limits of number and rate, and the breaker.
//!
//! In: a request. Out: the bytes of a successful answer within bounds, or an [`Error`]. Redirects are never followed and
//! nothing is decompressed. The limits hold over all entries: whoever has to wait waits here, in the order of coming.

use super::{
    Error, Peer,
    breaker::{Breaker, Health},
};
use crate::{clock, config, error::chain, metrics::Metrics, retry_after};
use reqwest::{Identity, RequestBuilder, Response, StatusCode, header, redirect};
use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use zeroize::Zeroizing;

/// Bytes of one answer that are read at most.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Bytes of an error answer that are looked at.
const MAX_ERROR: usize = 8 * 1024;
/// From the start of a connection attempt to the end of its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server and the way to it.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) http: reqwest::Client,
    peer: Peer,
    permits: Semaphore,
    pace: Option<Pace>,
    breaker: Breaker,
}

/// What differs from one server to the other.
pub(super) struct Options<'a> {
    pub(super) peer: Peer,
    pub(super) authorities: &'a [PathBuf],
    pub(super) identity: Option<&'a (PathBuf, PathBuf)>,
    pub(super) rate: Option<NonZeroU32>,
}

impl Transport {
    pub(super) fn new(config: &config::Linxo, options: &Options<'_>, metrics: &Metrics) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            // From connect to the last byte: no way of being slow gets past it.
            .timeout(config.timeout)
            // A redirect could carry a token to another origin; the API has no reason to send one.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("linxo-webhook/", env!("CARGO_PKG_VERSION")))
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
            peer: options.peer,
            permits: Semaphore::new(config.max_requests.max(1)),
            pace: options.rate.map(Pace::new),
            breaker: Breaker::new(options.peer, metrics),
        })
    }

    /// How long the server is left alone yet.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.breaker.pause()
    }

    /// Sends a request when its turn comes, and reads the answer.
    pub(super) async fn call(&self, request: RequestBuilder) -> Result<Zeroizing<Vec<u8>>, Error> {
        if let Some(after) = self.breaker.pause() {
            return Err(Error::Paused { peer: self.peer, after });
        }
        // Never closed.
        let _permit = self.permits.acquire().await;
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
        let admission = self.breaker.admit().await?;
        let result = match request.send().await {
            Ok(response) => self.read(response).await,
            Err(error) => Err(Error::network(self.peer, error)),
        };
        admission.report(match &result {
            Err(Error::Network { .. } | Error::Status { status: 500.., .. }) => Health::Down,
            Err(Error::Answer { .. } | Error::Redirect { .. }) => Health::Unclear,
            _ => Health::Up,
        });
        result
    }

    /// Reads a successful answer within bounds, or turns it into an error. Wiped when dropped: it may hold a token.
    async fn read(&self, mut response: Response) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (peer, status) = (self.peer, response.status());
        if status.is_redirection() {
            return Err(Error::Redirect { peer, status: status.as_u16() });
        }
        if !status.is_success() {
            let after = retry_after::from_headers(response.headers(), clock::now());
            return Err(Error::Status { peer, status: status.as_u16(), code: error_code(response).await, after });
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

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    fs::read(path).map(Zeroizing::new).map_err(|error| Error::Build(format!("{}: {error}", path.display())))
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
        if body.len() + chunk.len() > MAX_ERROR {
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

/// Spreads requests evenly: each gets a moment of its own, the next a fixed time after it.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    fn new(rate: NonZeroU32) -> Self {
        Self { interval: Duration::from_secs(1) / rate.get(), next: Mutex::default() }
    }

    /// Waits for this caller's moment. A caller that gives up leaves its moment unused.
    async fn turn(&self) {
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = next.map_or_else(Instant::now, |next| next.max(Instant::now()));
            *next = Some(at + self.interval);
            at
        };
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_over_the_second() {
        let pace = Pace::new(NonZeroU32::new(10).unwrap());
        let start = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..21 {
            pace.turn().await;
            turns.push(start.elapsed());
        }
        assert_eq!(turns[0], Duration::ZERO);
        for pair in turns.windows(2) {
            assert!(pair[1].saturating_sub(pair[0]) >= Duration::from_millis(100), "{pair:?}");
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let rested = start.elapsed();
        pace.turn().await;
        assert_eq!(start.elapsed(), rested, "a rest earns no burst and costs no wait");
    }
}
