//! One server and the way to it: TLS, deadlines, bounds, and the reading of answers.
//!
//! In: a request. Out: the bytes of a successful answer within bounds, or an [`Error`]. Redirects are never followed, and names
//! that lead to addresses of no server are not connected to. Answers are asked for as they are; one that comes packed with
//! gzip all the same is unpacked within the same bounds. When a call may be made is for the server's [`Lane`] to say.

use crate::{
    code, coding,
    error::{Error, Peer},
    lane::{Lane, Limits, Turn},
};
use base::{
    clock::{self, Timestamp},
    error::chain,
    outbound, reach, retry_after,
};
use reqwest::{
    Identity, Request, RequestBuilder, Response, StatusCode, Url,
    header::{self, HeaderMap, HeaderValue},
    redirect,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};
use zeroize::Zeroizing;

/// Bytes of one answer that are read at most.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// Bytes of an error answer that are looked at.
const MAX_ERROR: usize = 8 * 1024;
/// From the start of a connection attempt to the end of its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server and the way to it.
#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    lane: Arc<Lane>,
    limits: Limits,
}

/// A successful answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Wiped when dropped: it may hold a token.
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// What leads to a server.
pub(crate) struct Way<'a> {
    pub(crate) lane: Arc<Lane>,
    pub(crate) limits: Limits,
    /// For one request, from connect to the last byte.
    pub(crate) timeout: Duration,
    /// PEM files of extra roots.
    pub(crate) authorities: &'a [PathBuf],
    /// PEM files of a client certificate and its key.
    pub(crate) identity: Option<(&'a Path, &'a Path)>,
}

impl Transport {
    /// Prepares a client; nothing is connected to yet.
    ///
    /// # Errors
    /// [`Error::Build`] when a file is unusable or the system has no CA certificates.
    pub(crate) fn new(way: Way<'_>) -> Result<Self, Error> {
        let http = builder(way.timeout, way.authorities, way.identity)?;
        let http = http.build().map_err(|error| Error::Build(chain(&error)))?;
        Ok(Self { http, lane: way.lane, limits: way.limits })
    }

    /// What makes requests.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// What is known of the server, to be handed on to the next client.
    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Its limits.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Waits until a request for this connection, or this user, may be sent.
    ///
    /// # Errors
    /// [`Error::Paused`].
    pub(crate) async fn turn(&self, who: &str) -> Result<Turn<'_>, Error> {
        self.lane.turn(&self.limits, who).await
    }

    /// Sends a request when its turn comes, and reads the answer. No `secrets` of the request are in the error.
    pub(crate) async fn call(
        &self,
        who: &str,
        request: RequestBuilder,
        secrets: &[&str],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let request = built(request)?;
        let turn = self.turn(who).await?;
        Ok(self.send(turn, request, secrets).await?.body)
    }

    /// [`call`](Self::call), in a turn that has come.
    pub(crate) async fn send(&self, mut turn: Turn<'_>, request: Request, secrets: &[&str]) -> Result<Answer, Error> {
        turn.begins();
        let started = Instant::now();
        let peer = self.lane.peer();
        let answer = async {
            match self.http.execute(request).await {
                Ok(response) => read(peer, response, secrets).await,
                Err(error) => Err(Error::network(peer, error)),
            }
        };
        let result = tokio::select! {
            result = answer => result,
            error = turn.given_up() => Err(error),
        };
        self.lane.took(started.elapsed());
        turn.ended(&result);
        result.map_err(a_little_later)
    }
}

/// Connects to a server as a [`Transport`] would, and sends nothing. Returns its host and port.
pub(crate) async fn reach(
    peer: Peer,
    url: &Url,
    timeout: Duration,
    (authorities, identity): (&[PathBuf], Option<(&Path, &Path)>),
) -> Result<String, Error> {
    let reached = reach::reach(builder(timeout, authorities, identity)?, url).await;
    reached
        .map(|()| reach::host(url))
        .map_err(|error| if error.is_builder() { Error::Build(chain(&error)) } else { Error::network(peer, error) })
}

/// The time by a server, as its answer to a request without credentials says; `None` where that says nothing.
pub(crate) async fn date(
    peer: Peer,
    url: &Url,
    timeout: Duration,
    authorities: &[PathBuf],
) -> Result<Option<Timestamp>, Error> {
    let client = builder(timeout, authorities, None)?.build().map_err(|error| Error::Build(chain(&error)))?;
    let mut bare = url.clone();
    bare.set_path("/");
    bare.set_query(None);
    let answer = client.head(bare).send().await.map_err(|error| Error::network(peer, error))?;
    let date = answer.headers().get(header::DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let since = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
    Ok(since.map(|since| Timestamp::default().after(since)))
}

fn builder(
    timeout: Duration,
    authorities: &[PathBuf],
    client: Option<(&Path, &Path)>,
) -> Result<reqwest::ClientBuilder, Error> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        // From connect to the last byte: no way of being slow gets past it.
        .timeout(timeout)
        // A redirect could carry a token to another origin; the API has no reason to send one.
        .redirect(redirect::Policy::none())
        .user_agent(concat!("linxo-webhook/", env!("CARGO_PKG_VERSION")))
        // Without it a server may choose any coding (RFC 9110 section 12.5.3).
        .default_headers(HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))]))
        .dns_resolver(outbound::Resolver)
        .no_proxy();
    let roots = roots(authorities)?;
    if !roots.is_empty() {
        builder = builder.tls_certs_merge(roots);
    }
    if let Some((certificate, key)) = client {
        builder = builder.identity(identity(certificate, key)?);
    }
    Ok(builder)
}

fn roots(files: &[PathBuf]) -> Result<Vec<reqwest::Certificate>, Error> {
    let mut roots = Vec::new();
    for path in files {
        let bundle = reqwest::Certificate::from_pem_bundle(&read_file(path)?);
        roots.extend(bundle.map_err(|error| Error::Build(format!("{}: {}", path.display(), chain(&error))))?);
    }
    Ok(roots)
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, Error> {
    let mut pem = read_file(certificate)?;
    pem.push(b'\n');
    pem.extend_from_slice(&read_file(key)?);
    let identity = Identity::from_pem(&pem);
    identity.map_err(|error| Error::Build(format!("{}: {}", certificate.display(), chain(&error))))
}

/// Reads a successful answer within bounds, or turns it into an error.
async fn read(peer: Peer, mut response: Response, secrets: &[&str]) -> Result<Answer, Error> {
    let status = response.status();
    if status.is_redirection() {
        return Err(Error::Redirect { peer, status: status.as_u16() });
    }
    if !status.is_success() {
        let after = retry_after::from_headers(response.headers(), clock::now());
        let code = error_code(response, secrets).await;
        return Err(Error::Status { peer, status: status.as_u16(), code, after });
    }
    let packed = coding::of(response.headers()).map_err(|problem| Error::answer(peer, problem))?;
    let mut body = Zeroizing::new(Vec::new());
    let url = response.url().clone();
    while let Some(chunk) = response.chunk().await.map_err(|error| Error::network(peer, error.with_url(url.clone())))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Error::TooLarge { peer, limit: MAX_ANSWER });
        }
        body.extend_from_slice(&chunk);
    }
    let mut body = coding::unpacked(packed, body, MAX_ANSWER).map_err(|failure| match failure {
        // Nobody asked for it to be packed: that may be another's mistake, and is not taken for a list that is too large.
        coding::Failure::TooLarge => {
            Error::answer(peer, format!("is packed and holds more than {} MiB", MAX_ANSWER >> 20))
        }
        coding::Failure::Broken => Error::answer(peer, "is packed and cannot be unpacked"),
    })?;
    // A reader may skip a byte order mark (RFC 8259 section 8.1).
    if body.starts_with(BYTE_ORDER_MARK) {
        body.drain(..BYTE_ORDER_MARK.len());
    }
    if status == StatusCode::NO_CONTENT || body.is_empty() {
        return Err(Error::Empty { peer });
    }
    Ok(Answer { status, body })
}

/// The request itself. One that cannot be written says nothing about the server.
pub(crate) fn built(request: RequestBuilder) -> Result<Request, Error> {
    request.build().map_err(|_quotes_the_value| Error::Unaskable("it cannot be written as an HTTP request"))
}

/// The bytes of a file of the configuration, wiped when dropped.
pub(crate) fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    fs::read(path).map(Zeroizing::new).map_err(|error| Error::Build(format!("{}: {error}", path.display())))
}

/// Moves what `Retry-After` asked for to a somewhat later moment, another one for each caller, so that callers that were sent
/// away together do not come back together.
fn a_little_later(error: Error) -> Error {
    match error {
        Error::Status { peer, status, code, after: Some(asked) } => {
            let most = asked.min(Duration::from_secs(50)) / 10;
            Error::Status { peer, status, code, after: Some(asked + most.mul_f64(fastrand::f64())) }
        }
        other => other,
    }
}

/// The vendor's own code of an error answer, if it gave one.
async fn error_code(mut response: Response, secrets: &[&str]) -> Option<String> {
    let packed = coding::of(response.headers()).ok()?;
    let mut body = Zeroizing::new(Vec::new());
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > MAX_ERROR {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    let body = coding::unpacked(packed, body, MAX_ERROR).ok()?;
    code::of_answer(&body, secrets)
}
