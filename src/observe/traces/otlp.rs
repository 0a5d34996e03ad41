//! One export: a POST of spans to the collector, by OTLP over HTTP with protobuf, and what its answer means.
//!
//! In: the bytes of an export. Out: how many spans the collector did not want, or why the export failed and whether it may be
//! tried again. No URL and no header is in an error: both may hold credentials.
//!
//! Why not the exporter of the library (`opentelemetry-otlp`): it takes settings from the environment beside ours, says of every
//! network fault only that there was one, and tells nobody how many spans a collector rejected.

use super::{headers, settings::Traces};
use base::{clock, error::chain, outbound::Resolver, retry_after};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use reqwest::{Certificate, Response, redirect};
use std::{fs, io, path::PathBuf, time::Duration};

/// Longest time to reach the collector, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Why the client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file of authorities.
    #[error("cannot use the file {} of traces.authorities", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// TLS.
    #[error("cannot build the client of traces.endpoint")]
    Client(#[source] reqwest::Error),
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the collector cannot be reached")]
    Network(#[source] reqwest::Error),
    #[error("the collector answered {status}")]
    Status { status: StatusCode, after: Option<Duration> },
}

impl Error {
    /// Whether another try may end better.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Network(_) => true,
            // The list of the specification ("Retryable Response Codes").
            Self::Status { status, .. } => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }

    /// What the collector asks for before the next try (`Retry-After`).
    pub(super) const fn asked(&self) -> Option<Duration> {
        match self {
            Self::Network(_) => None,
            Self::Status { after, .. } => *after,
        }
    }

    /// In one line for people.
    pub(super) fn told(&self) -> String {
        chain(self)
    }
}

/// The way to the collector.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    headers: HeaderMap,
}

impl Client {
    /// Reads the authorities; connects to nothing.
    pub(super) fn new(settings: &Traces) -> Result<Self, BuildError> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("linxo-webhook/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT.min(settings.timeout))
            .timeout(settings.timeout)
            // It would carry the headers to a host that nobody configured.
            .redirect(redirect::Policy::none())
            .referer(false)
            .dns_resolver(Resolver)
            .no_proxy();
        let builder = if settings.endpoint.starts_with("https:") {
            builder.https_only(true).tls_certs_merge(roots(&settings.authorities)?)
        } else {
            // Plain HTTP never reaches TLS; without this an image that has no CA certificates could not build the client.
            builder.tls_certs_only([])
        };
        let mut headers =
            settings.headers.as_ref().and_then(|secret| headers::parse(secret.expose())).unwrap_or_default();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Ok(Self {
            http: builder.build().map_err(BuildError::Client)?,
            url: format!("{}/v1/traces", settings.endpoint),
            headers,
        })
    }

    /// Sends an export once. Returns how many of its spans the collector rejected.
    ///
    /// # Cancel safety
    /// When dropped, the collector may or may not have the spans.
    pub(super) async fn export(&self, spans: Bytes) -> Result<u64, Error> {
        let request = self.http.post(&self.url).headers(self.headers.clone()).body(spans);
        let response = request.send().await.map_err(|error| Error::Network(error.without_url()))?;
        let status = response.status();
        if !status.is_success() {
            let after = retry_after::from_headers(response.headers(), clock::now());
            return Err(Error::Status { status, after });
        }
        Ok(rejected(&read(response).await))
    }
}

fn roots(files: &[PathBuf]) -> Result<Vec<Certificate>, BuildError> {
    let mut roots = Vec::new();
    for path in files {
        let pem = fs::read(path).map_err(|source| BuildError::File { path: path.clone(), source })?;
        roots.extend(Certificate::from_pem_bundle(&pem).map_err(BuildError::Client)?);
    }
    Ok(roots)
}

/// The answer's body within bounds, as far as it can be read: the spans were taken, whatever becomes of it.
async fn read(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Vec::new();
        }
        body.extend_from_slice(&chunk);
    }
    body
}

/// How many spans an answer says were rejected. Some collectors answer with something else than protobuf.
fn rejected(body: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
    answer.partial_success.map_or(0, |partial| partial.rejected_spans.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    #[test]
    fn an_answer_says_how_many_spans_were_rejected() {
        let answer = |rejected_spans| {
            let partial = ExportTracePartialSuccess { rejected_spans, error_message: "too old".to_owned() };
            ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        assert_eq!([rejected(&answer(7)), rejected(&answer(-1)), rejected(b""), rejected(b"{}")], [7, 0, 0, 0]);
    }

    #[test]
    fn only_what_the_specification_names_is_tried_again() {
        let passes =
            |status: u16| Error::Status { status: StatusCode::from_u16(status).unwrap(), after: None }.passes();
        for status in [429, 502, 503, 504] {
            assert!(passes(status), "{status}");
        }
        for status in [301, 400, 401, 404, 413, 500, 501] {
            assert!(!passes(status), "{status}");
        }
    }
}
