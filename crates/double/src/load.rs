//! Posts events to a receiver, many at once, and measures: the vendor's side of a nightly burst.
//!
//! In: a [`Target`], a number of posts, and a function that makes the n-th body. Out: a [`Summary`] with every status and
//! the latency of each answer, read to its last byte.
//!
//! Each of the concurrent senders keeps one HTTP/1.1 connection of its own, straight on hyper: a pooled client would
//! cost more processor time than the receiver under test. The clock starts when all of them are connected. With a rate,
//! latency counts from the moment at which a post was due, not from when a busy sender got round to it; else a receiver
//! that stalls would look fast.

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::Barrier, task::JoinSet};
use tokio_rustls::TlsConnector;

/// Longest time for one post; a receiver that takes longer counts as failed.
const LIMIT: Duration = Duration::from_secs(30);

/// Where to post.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    /// Path and query.
    path: http::uri::PathAndQuery,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why an address cannot be posted to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not a URL at all.
    #[error("not a URL")]
    Syntax(#[from] http::uri::InvalidUri),
    /// Neither `http://` nor `https://`, or no host.
    #[error("the URL must begin with https:// (or http://) and name a host")]
    NotHttp,
    /// `https://` without trust settings.
    #[error("https needs certificates to trust")]
    NoTrust,
    /// A host that no certificate can name.
    #[error("the host is not a name that a certificate can hold")]
    Host(#[from] rustls::pki_types::InvalidDnsNameError),
}

impl Target {
    /// Reads a URL; `tls` is needed for `https`.
    ///
    /// # Errors
    /// [`TargetError`] says what is wrong with the URL.
    pub fn new(url: &str, tls: Option<Arc<rustls::ClientConfig>>) -> Result<Self, TargetError> {
        let uri: http::Uri = url.parse()?;
        let host = uri.host().ok_or(TargetError::NotHttp)?.trim_matches(['[', ']']).to_owned();
        let (standard_port, tls) = match uri.scheme_str() {
            Some("http") => (80, None),
            Some("https") => {
                let name = ServerName::try_from(host.clone())?;
                (443, Some((TlsConnector::from(tls.ok_or(TargetError::NoTrust)?), name)))
            }
            _ => return Err(TargetError::NotHttp),
        };
        let port = uri.port_u16().unwrap_or(standard_port);
        let path = uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        Ok(Self { host, port, path, tls })
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => handshake(TokioIo::new(socket)).await,
            Some((connector, name)) => handshake(TokioIo::new(connector.connect(name.clone(), socket).await?)).await,
        }
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        Request::post(self.path.clone())
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path may end in a secret.
        f.debug_struct("Target").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

async fn handshake<T>(io: TokioIo<T>) -> io::Result<SendRequest<Full<Bytes>>>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
    // It ends by itself when the sender is dropped or the peer leaves; its error is seen by the request in flight.
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    Ok(sender)
}

/// How much to post.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Posts in all.
    pub posts: u64,
    /// Senders at work at once, each with a connection of its own.
    pub concurrency: usize,
    /// Posts a second, all senders together; `None`: as fast as answers come.
    pub rate: Option<u32>,
    /// Opens a new connection for every post, to measure handshakes.
    pub reconnect: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Summary {
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Posts that got no answer, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Latency of every answer, in microseconds.
    pub latency: Histogram<u64>,
    /// From the first post to the last answer.
    pub elapsed: Duration,
}

impl Summary {
    /// Posts that got an answer.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Whether every post was answered 2xx.
    #[must_use]
    pub fn all_accepted(&self) -> bool {
        self.failures.is_empty() && self.statuses.keys().all(|status| (200..300).contains(status))
    }

    /// Posts that were not answered 2xx.
    #[must_use]
    pub fn not_accepted(&self) -> u64 {
        let refused = self.statuses.iter().filter(|(status, _)| !(200..300).contains(*status)).map(|(_, count)| count);
        refused.chain(self.failures.values()).sum()
    }

    /// Answers a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.answered()).saturating_mul(1_000_000) / micros).unwrap_or(u64::MAX)
    }

    /// Latency in microseconds under which this share of the answers stayed, such as 0.99.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        self.latency.value_at_quantile(share)
    }
}

/// How a receiver answered one post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, or its first part where it came in several.
    pub start: Bytes,
}

/// Posts bodies and waits for every answer. `make(n)` gives the n-th body, from 0. `done` is told the number of each post, and
/// its answer or why there was none.
///
/// # Errors
/// Only when the latency histogram cannot be made; failed posts are counted in the summary.
pub async fn load(
    target: &Target,
    load: Load,
    make: impl Fn(u64) -> Bytes + Send + Sync + 'static,
    done: impl Fn(u64, Result<Answer, &str>) + Send + Sync + 'static,
) -> Result<Summary, hdrhistogram::CreationError> {
    let concurrency = load.concurrency.max(1).min(usize::try_from(load.posts).unwrap_or(usize::MAX));
    let (next, connected) = (AtomicU64::new(0), Barrier::new(concurrency + 1));
    let shared = Arc::new(Work { target: target.clone(), load, next, connected, make, done });
    let mut senders = JoinSet::new();
    for _ in 0..concurrency {
        senders.spawn(send(Arc::clone(&shared), Histogram::new(3)?));
    }
    shared.connected.wait().await;
    let start = Instant::now();
    let mut summary = Summary {
        statuses: BTreeMap::new(),
        failures: BTreeMap::new(),
        latency: Histogram::new(3)?,
        elapsed: Duration::ZERO,
    };
    while let Some(sender) = senders.join_next().await {
        match sender {
            Ok(part) => {
                for (status, count) in part.statuses {
                    *summary.statuses.entry(status).or_default() += count;
                }
                for (reason, count) in part.failures {
                    *summary.failures.entry(reason).or_default() += count;
                }
                // Both resize by themselves, so adding cannot be out of range.
                summary.latency.add(&part.latency).unwrap_or_default();
            }
            Err(error) => *summary.failures.entry(format!("a sender stopped: {error}")).or_default() += 1,
        }
    }
    summary.elapsed = start.elapsed();
    Ok(summary)
}

struct Work<M, D> {
    target: Target,
    load: Load,
    next: AtomicU64,
    /// Passed by all when each sender is connected or knows that it cannot be.
    connected: Barrier,
    make: M,
    done: D,
}

struct Part {
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<String, u64>,
    latency: Histogram<u64>,
}

async fn send<M, D>(work: Arc<Work<M, D>>, latency: Histogram<u64>) -> Part
where
    M: Fn(u64) -> Bytes,
    D: Fn(u64, Result<Answer, &str>),
{
    let mut part = Part { statuses: BTreeMap::new(), failures: BTreeMap::new(), latency };
    let mut connection = None;
    // Why the first post of this sender fails.
    let mut failed = None;
    if !work.load.reconnect {
        match in_time(connect(&work.target)).await {
            Ok(open) => connection = Some(open),
            Err(reason) => failed = Some(reason),
        }
    }
    work.connected.wait().await;
    let start = Instant::now();
    loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        if number >= work.load.posts {
            return part;
        }
        let due = match work.load.rate {
            Some(rate) => {
                let nanos = u128::from(number).saturating_mul(1_000_000_000) / u128::from(rate.max(1));
                let due = start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
                tokio::time::sleep_until(due.into()).await;
                due
            }
            None => Instant::now(),
        };
        let body = (work.make)(number);
        let posted = match failed.take() {
            Some(reason) => Err(reason),
            None => in_time(post(&work.target, &mut connection, body)).await,
        };
        match posted {
            Ok(answer) => {
                *part.statuses.entry(answer.status).or_default() += 1;
                let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                // Not `saturating_record`, which clamps instead of growing; no post outlasts `LIMIT`, so it can grow.
                part.latency.record(micros).unwrap_or_default();
                (work.done)(number, Ok(answer));
            }
            Err(reason) => {
                (work.done)(number, Err(&reason));
                *part.failures.entry(reason).or_default() += 1;
                connection = None;
            }
        }
        if work.load.reconnect {
            connection = None;
        }
    }
}

/// Bounds what a sender does by [`LIMIT`].
async fn in_time<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| Err(format!("no answer within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(late)
}

async fn connect(target: &Target) -> Result<SendRequest<Full<Bytes>>, String> {
    target.connect().await.map_err(|error| format!("cannot connect: {error}"))
}

/// One post on the sender's connection, which is opened anew where it has closed meanwhile.
async fn post(
    target: &Target,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    body: Bytes,
) -> Result<Answer, String> {
    let usable = match connection.take() {
        Some(mut open) => open.ready().await.ok().map(|()| open),
        None => None,
    };
    let open = match usable {
        Some(open) => open,
        None => connect(target).await?,
    };
    let sender = connection.insert(open);
    let request = target.request(body).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| describe(&error))?;
    let status = answer.status().as_u16();
    let (mut content, mut start) = (answer.into_body(), Bytes::new());
    while let Some(frame) = content.frame().await {
        if let Ok(data) = frame.map_err(|error| describe(&error))?.into_data()
            && start.is_empty()
        {
            start = data;
        }
    }
    Ok(Answer { status, start })
}

fn describe(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error);
    // rustls has a long text for a peer that ends without saying so. That the peer ended is enough here.
    let died = source
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
    match source {
        _ if died || error.is_incomplete_message() => {
            "the receiver closed the connection before its answer was whole".to_owned()
        }
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, Fault, Rule, Script, Settings, Simulator, pki::Authority};

    fn trusting(authority: &Authority) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in authority.identity().certificates().unwrap() {
            roots.add(certificate).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Arc::new(
            rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth(),
        )
    }

    #[tokio::test]
    async fn counts_answers_and_keeps_connections() {
        let authority = Authority::new("test").unwrap();
        let identity = authority.server(&["localhost"]).unwrap();
        let script = Script::of([
            Rule { call: Some(1), ..Rule::always(Endpoint::Any, Fault::NoContent) },
            Rule { call: Some(2), ..Rule::always(Endpoint::Any, Fault::Reset) },
        ]);
        let settings = Settings { identity: Some(identity), script, ..Settings::default() };
        let receiver = Simulator::start(settings).await.unwrap();
        let url = format!("{}/somewhere", receiver.auth_url());
        let target = Target::new(&url, Some(trusting(&authority))).unwrap();
        let plan = Load { posts: 40, concurrency: 4, rate: Some(1000), reconnect: false };
        let (sender, answers) = std::sync::mpsc::channel();
        let told = move |number, answer: Result<Answer, &str>| {
            sender.send((number, answer.map(|answer| answer.status).ok())).unwrap();
        };
        let summary = load(&target, plan, |_| Bytes::from_static(b"{}"), told).await.unwrap();
        assert_eq!(summary.statuses, BTreeMap::from([(204, 1), (404, 38)]));
        assert_eq!(summary.failures.values().sum::<u64>(), 1);
        let mut told: Vec<_> = answers.iter().collect();
        told.sort_unstable();
        assert_eq!(told.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
        assert_eq!(told.iter().filter(|(_, status)| *status == Some(404)).count(), 38);
        assert_eq!(summary.latency.len(), 39);
        assert_eq!(summary.not_accepted(), 39);
        assert_eq!(receiver.counters().sockets, 5, "one for each sender, and one after the reset");
        receiver.stop().await;
    }

    #[tokio::test]
    async fn can_open_a_connection_for_each_post() {
        let receiver = Simulator::start(Settings::default()).await.unwrap();
        let target = Target::new(&receiver.auth_url(), None).unwrap();
        let plan = Load { posts: 10, concurrency: 2, rate: None, reconnect: true };
        load(&target, plan, |_| Bytes::new(), |_, _| {}).await.unwrap();
        assert_eq!(receiver.counters().sockets, 10);
    }

    #[test]
    fn wrong_urls_are_refused() {
        for url in ["", "localhost:8443/x", "ftp://localhost/", "/webhooks", "https://localhost"] {
            Target::new(url, None).unwrap_err();
        }
    }
}
