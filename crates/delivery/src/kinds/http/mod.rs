//! POST of the completed event to the integrator's own endpoint, signed, with the attributes as headers.
//!
//! In: a delivery. Out: the endpoint's answer as a decision (design section 4). The body is the completed event byte for
//! byte, white space included, streamed page by page with an exact `Content-Length`. Where there are secrets, one pass
//! over the pieces computes the signatures before the request begins, because `webhook-signature` is a header.
//!
//! The same entry carries the same `webhook-id` on every attempt, with a new timestamp and signature each time; the
//! receiver removes duplicates by that id. Redirects are not followed: they would carry an event with personal data to a
//! host that nobody configured. The answer's body is thrown away unread, apart from a small rest that keeps the
//! connection usable. Reasons name the status or the phase that failed, never the URL, which may hold credentials.

use super::{
    Content, Delivery, Failure, FailureKind, Problem, Replacement, Sink,
    cloudevent::header_value,
    signature::{Signer, Signing},
};
use crate::inbox;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use base::{
    clock,
    outbound::{self, Resolver},
    retry_after,
    secret::Secret,
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use reqwest::{Body, Certificate, Client, Response, Url, redirect};
use std::{error::Error as StdError, fs, io, path::PathBuf, sync::Arc, time::Duration};

/// To reach the endpoint, TLS included; less where the whole attempt may take less.
const CONNECT: Duration = Duration::from_secs(5);
/// Below what load balancers and servers commonly allow, so that a connection is not taken that they are about to close.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Of an answer's body, read to keep the connection usable.
const DRAINED: usize = 64 * 1024;
/// For that.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The sink. Its settings are swapped as a whole; what is under way ends with the old ones.
#[derive(Debug)]
pub(super) struct Http(ArcSwap<Settings>);

/// Where to, signed with what, and trusting whom.
#[derive(Debug)]
pub(super) struct Settings {
    client: Client,
    url: Url,
    signer: Signer,
    timeout: Duration,
}

impl Http {
    /// With these settings until they are replaced.
    pub(super) fn new(settings: Settings) -> Self {
        Self(ArcSwap::from_pointee(settings))
    }
}

impl Settings {
    /// Reads the authorities and builds the client; connects to nothing.
    pub(super) fn new(
        url: &str,
        secrets: &[Secret],
        timeout: Duration,
        authorities: &[PathBuf],
    ) -> Result<Self, Problem> {
        let url = Url::parse(url).map_err(|error| Problem::Url(error.to_string()))?;
        let signer = Signer::new(secrets)?;
        let mut builder = Client::builder()
            .user_agent(concat!("linxo-webhook/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT.min(timeout))
            .timeout(timeout)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(redirect::Policy::none())
            .referer(false)
            .dns_resolver(Resolver)
            .no_proxy()
            .tcp_nodelay(true);
        builder = if url.scheme() == "https" {
            builder.https_only(true).tls_certs_merge(roots(authorities)?)
        } else {
            // Plain HTTP never reaches TLS; without this an image that has no CA certificates could not build the client.
            builder.tls_certs_only([])
        };
        let client = builder.build().map_err(Problem::Client)?;
        Ok(Self { client, url, signer, timeout })
    }

    /// What the endpoint's answer means.
    fn judge(response: &Response) -> Result<(), Failure> {
        let status = response.status();
        let kind = match status {
            _ if status.is_success() => return Ok(()),
            StatusCode::GONE => FailureKind::Gone,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                FailureKind::Transient { after: retry_after::from_headers(response.headers(), clock::now()) }
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => FailureKind::Transient { after: None },
            _ if status.is_server_error() => FailureKind::Transient { after: None },
            _ => FailureKind::Refused,
        };
        let hint = if status.is_redirection() { "; redirects are not followed, correct the sink's url" } else { "" };
        // `Display` of a status holds the registered phrase, never what the endpoint wrote.
        Err(Failure { kind, reason: format!("the endpoint answered {}{hint}", known(status)) })
    }

    /// What a failed exchange means: always worth another try.
    fn explain(&self, error: &reqwest::Error) -> Failure {
        let reason = if let Some(error) = source::<inbox::Error>(error) {
            format!("the accounts of the delivery could not be read: {error}")
        } else if error.is_timeout() && error.is_connect() {
            format!("could not connect within {:?}", CONNECT.min(self.timeout))
        } else if error.is_timeout() {
            format!("timed out after {:?}", self.timeout)
        } else if error.is_connect() {
            format!("could not connect: {}", cause(error))
        } else {
            format!("the connection broke before the answer came: {}", cause(error))
        };
        Failure::transient(reason)
    }
}

#[async_trait]
impl Sink for Http {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Failure> {
        let settings = self.0.load_full();
        let headers = settings.headers(delivery).await?;
        let body = body(&delivery.content).await.map_err(|error| unreadable(&error))?;
        let request = settings.client.post(settings.url.clone()).headers(headers).body(body);
        let response = request.send().await.map_err(|error| settings.explain(&error))?;
        let judged = Settings::judge(&response);
        drain(response).await;
        judged
    }

    fn replace(&self, replacement: Replacement) {
        self.0.store(Arc::new(replacement.0));
    }
}

impl Settings {
    async fn headers(&self, delivery: &Delivery) -> Result<HeaderMap, Failure> {
        let attributes = &delivery.attributes;
        let mut headers = HeaderMap::with_capacity(20);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(attributes.datacontenttype));
        headers.insert(CONTENT_LENGTH, delivery.content.len().into());
        for (name, value) in attributes.headers() {
            headers.insert(name, text(value)?);
        }
        // The receiver checks the signature over what it finds in the header, so the encoded id is the one to sign.
        let id = header_value(&attributes.id);
        headers.insert(HeaderName::from_static("webhook-id"), text(id.to_string())?);
        if !self.signer.is_empty() {
            let timestamp = clock::now().as_millis() / 1000;
            let mut signing = self.signer.start(&id, timestamp);
            sign(&mut signing, &delivery.content).await.map_err(|error| unreadable(&error))?;
            headers.insert(HeaderName::from_static("webhook-timestamp"), timestamp.into());
            headers.insert(HeaderName::from_static("webhook-signature"), text(signing.finish())?);
        }
        Ok(headers)
    }
}

async fn sign(signing: &mut Signing, content: &Content) -> Result<(), inbox::Error> {
    let mut index = 0;
    while let Some(piece) = content.piece(index).await? {
        signing.update(&piece);
        index += 1;
    }
    Ok(())
}

/// The request's body: the bytes themselves where there is one piece, else a stream of the pieces.
async fn body(content: &Content) -> Result<Body, inbox::Error> {
    match content.piece(0).await? {
        Some(only) if only.len() as u64 == content.len() => Ok(Body::from(only)),
        _ => Ok(Body::wrap_stream(pieces(content.clone()))),
    }
}

fn pieces(content: Content) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    let room = content.len();
    stream::try_unfold((content, 0, room), |(content, index, room)| async move {
        let Some(piece) = content.piece(index).await? else { return Ok(None) };
        // Longer than announced would be cut short without a word.
        let room = room.checked_sub(piece.len() as u64).ok_or(BodyError::Grown)?;
        Ok(Some((piece, (content, index + 1, room))))
    })
}

/// Why a body could not be sent to its end.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("cannot read the accounts")]
    Inbox(#[from] inbox::Error),
    #[error("the accounts changed while they were sent")]
    Grown,
}

/// Reads a small rest of the answer, so that the connection can be used again; whatever happens here, the answer stands.
async fn drain(mut response: Response) {
    let read = async {
        let mut left = DRAINED;
        while let Ok(Some(chunk)) = response.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // An endless body costs at most this; the connection is then closed instead of kept.
    tokio::time::timeout(DRAIN_TIME, read).await.ok();
}

fn text(value: String) -> Result<HeaderValue, Failure> {
    HeaderValue::try_from(value).map_err(|_quotes_nothing| Failure {
        kind: FailureKind::Refused,
        reason: "an attribute of the event cannot be written as an HTTP header".to_owned(),
    })
}

fn unreadable(error: &inbox::Error) -> Failure {
    Failure::transient(format!("the accounts of the delivery could not be read: {error}"))
}

/// `404 Not Found`; the number alone where the status has no registered phrase.
fn known(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(phrase) => format!("{} {phrase}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// The first error of a type among the sources, looking into I/O errors too.
fn source<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Why a connection could not be made or broke, in words that hold no address and no URL.
fn cause(error: &reqwest::Error) -> String {
    if let Some(error) = source::<rustls::Error>(error) {
        return match error {
            rustls::Error::InvalidCertificate(problem) => {
                format!("the endpoint's certificate is not accepted ({})", certificate(problem))
            }
            rustls::Error::AlertReceived(alert) => format!("the endpoint ended the TLS handshake ({alert:?})"),
            _ => "the TLS handshake failed".to_owned(),
        };
    }
    if let Some(refused) = source::<outbound::Refused>(error) {
        return refused.to_string();
    }
    match source::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "no route to the host".to_owned(),
        Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => "connection closed".to_owned(),
        _ if error.is_connect() && chain_says(error, "dns error") => "the host name could not be resolved".to_owned(),
        Some(kind) => kind.to_string(),
        None if chain_says(error, "connection closed before message completed") => "connection closed".to_owned(),
        None => "not an HTTP exchange".to_owned(),
    }
}

fn certificate(problem: &rustls::CertificateError) -> &'static str {
    use rustls::CertificateError as Problem;
    match problem {
        Problem::Expired | Problem::ExpiredContext { .. } => "expired",
        Problem::NotValidYet | Problem::NotValidYetContext { .. } => "not valid yet",
        Problem::NotValidForName | Problem::NotValidForNameContext { .. } => "made for another host name",
        Problem::Revoked => "revoked",
        Problem::UnknownIssuer => "unknown issuer",
        _ => "invalid",
    }
}

/// Whether an error or one of its sources has this text; for the library's errors that have no type of their own.
fn chain_says(error: &(dyn StdError + 'static), text: &str) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(text) {
            return true;
        }
        next = error.source();
    }
    false
}

fn roots(authorities: &[PathBuf]) -> Result<Vec<Certificate>, Problem> {
    let mut roots = Vec::new();
    for path in authorities {
        let pem = fs::read(path).map_err(|source| Problem::File { path: path.clone(), source })?;
        let bundle = Certificate::from_pem_bundle(&pem).map_err(Problem::Client)?;
        if bundle.is_empty() {
            return Err(Problem::NoCertificate { path: path.clone() });
        }
        roots.extend(bundle);
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
