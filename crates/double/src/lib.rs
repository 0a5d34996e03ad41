//! The vendor double: Linxo's token endpoint and accounts API, with every fault that a network and a vendor can have,
//! and Linxo's other side, which makes events and posts them.
//!
//! In: [`Settings`] with the bank's connections, and a [`Script`] of faults that can be changed while it runs. Out: a
//! server on a real socket, plain or over TLS, and a journal of what it was asked. Tests, the demo, benchmarks and the
//! `simulate` command all use this one double, so that what is tried by hand is what is tested.
//!
//! | file | what |
//! | --- | --- |
//! | `accounts` | connections and accounts, and how they come and go |
//! | `token` | `POST /token` |
//! | `routes` | one call, from its head to its answer |
//! | `faults` | the script: which fault on which call; **the file format is documented there** |
//! | `bodies` | bodies that drip, stall, break or never end |
//! | `events` | webhook events as the vendor sends them |
//! | `load` | posts events, many at once, and measures |
//!
//! Why a server of our own and not a mocking library: none of those can break a connection in the middle of a body, let
//! a list change between two pages, or run for hours beside a benchmark.

mod accounts;
mod bodies;
pub mod events;
mod faults;
pub mod load;
pub mod pki;
mod routes;
mod token;
mod wire;

pub use accounts::{CANARY, Connection, account_id, account_json};
pub use faults::{Endpoint, Error as ScriptError, Fault, Random, Rule, Script, Target};
pub use token::User;
pub use wire::{ApiVersion, TokenBody};

use accounts::World;
use base::secret::Secret;
use faults::Player;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use pki::Identity;
use serde::Serialize;
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use token::Tokens;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::broadcast,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How the double behaves; [`Settings::default`] is a plain-HTTP server on a free port of the loopback interface.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address to bind; port 0 picks a free one.
    pub address: SocketAddr,
    /// Serves TLS with this certificate (it should name `localhost`); `None`: plain HTTP.
    pub identity: Option<Identity>,
    /// Offers HTTP/2 besides HTTP/1.1 over TLS.
    pub http2: bool,
    /// Shapes and parameter names.
    pub version: ApiVersion,
    /// The one client id that gets tokens.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// The one encoding of token requests that is accepted; `None`: any.
    pub token_body: Option<TokenBody>,
    /// Life of a token.
    pub token_lifetime: Duration,
    /// Writes `expires_in` as a JSON string, as the vendor's own example does.
    pub expires_in_text: bool,
    /// A token that always holds, for every user.
    pub fixed_token: Option<Secret>,
    /// Who can log in with the password grant.
    pub users: Vec<User>,
    /// What the bank holds.
    pub connections: Vec<Connection>,
    /// Name of the connection filter; any other name is ignored, so that every account of the user is listed.
    pub connection_parameter: String,
    /// Largest page, whatever `limit` asks for.
    pub page_cap: usize,
    /// Page size without a `limit`.
    pub default_page: usize,
    /// Before every answer.
    pub latency: Duration,
    /// What goes wrong.
    pub script: Script,
    /// How many requests the journal keeps; older ones are forgotten.
    pub journal: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            identity: None,
            http2: true,
            version: ApiVersion::V2_1,
            client_id: "demo".to_owned(),
            client_secret: Secret::new("demo-secret".to_owned()),
            token_body: None,
            token_lifetime: Duration::from_hours(1),
            expires_in_text: false,
            fixed_token: None,
            users: Vec::new(),
            connections: vec![Connection::documented()],
            connection_parameter: "connection_id".to_owned(),
            page_cap: 100,
            default_page: 100,
            latency: Duration::ZERO,
            script: Script::default(),
            journal: 100_000,
        }
    }
}

/// One request that the double got; never the value of a header, nor a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// What was asked for.
    pub endpoint: Endpoint,
    /// HTTP method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Query, without `?`.
    pub query: String,
    /// `page`, if there was one.
    pub page: Option<u64>,
    /// The connection that the filter or the path names.
    pub connection: Option<String>,
    /// The user on whose behalf the caller asks.
    pub user: Option<String>,
    /// Names of the headers that came, sorted.
    pub headers: Vec<String>,
    /// Status of the answer; `None`: the connection was dropped.
    pub status: Option<u16>,
    /// Faults that were played.
    pub faults: Vec<&'static str>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests answered or dropped.
    pub requests: u64,
    /// Requests on which at least one fault was played.
    pub faulted: u64,
    /// Tokens given out.
    pub tokens: u64,
    /// Most requests that were open at once.
    pub peak_in_flight: u64,
    /// Connections accepted.
    pub sockets: u64,
}

/// A running double; it stops when this value is dropped.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Simulator {
    /// Binds and serves until stopped.
    ///
    /// # Errors
    /// The address cannot be bound, or the identity is not one that TLS can use ([`io::ErrorKind::InvalidInput`]).
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let acceptor = settings.identity.as_ref().map(|identity| acceptor(identity, settings.http2)).transpose()?;
        let listener = TcpListener::bind(settings.address).await?;
        let address = listener.local_addr()?;
        // A certificate names localhost; without one the address itself is safest, as localhost may mean IPv6 first.
        let origin = match (&acceptor, address.ip().is_unspecified()) {
            (Some(_), _) => format!("https://localhost:{}", address.port()),
            (None, true) => format!("http://localhost:{}", address.port()),
            (None, false) => format!("http://{address}"),
        };
        let shared = Arc::new(Shared {
            origin,
            address,
            world: Mutex::new(World::new(&settings.connections)),
            tokens: Mutex::default(),
            player: Mutex::new(Player::new(settings.script.clone())),
            journal: Mutex::default(),
            follow: broadcast::channel(1024).0,
            requests: AtomicU64::new(0),
            faulted: AtomicU64::new(0),
            sockets: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            peak_in_flight: AtomicU64::new(0),
            settings,
        });
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Ok(Self { shared, accepting })
    }

    /// Address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// `linxo.api` of a configuration that points here.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}{}", self.shared.origin, self.shared.api_path())
    }

    /// `linxo.auth` of a configuration that points here.
    #[must_use]
    pub fn auth_url(&self) -> String {
        self.shared.origin.clone()
    }

    /// Replaces the script; counts of rules begin anew.
    pub fn script(&self, script: Script) {
        *self.shared.player() = Player::new(script);
    }

    /// Adds a connection, or puts its accounts back to what they were at first.
    pub fn put_connection(&self, connection: &Connection) {
        self.shared.world().put(connection);
    }

    /// Takes a connection away: 404 from now on.
    pub fn remove_connection(&self, connection: &str) {
        self.shared.world().remove(connection);
    }

    /// Adds and takes away accounts of a connection at random places.
    pub fn change_accounts(&self, connection: &str, insert: u32, remove: u32, seed: u64) {
        self.shared.world().change(Some(connection), insert, remove, &mut fastrand::Rng::with_seed(seed));
    }

    /// Ids of the accounts that a connection has now, in the order of its listing.
    #[must_use]
    pub fn accounts(&self, connection: &str) -> Vec<String> {
        self.shared.world().ids(connection)
    }

    /// Ids of the accounts that existed from the start until now, whatever else came and went.
    #[must_use]
    pub fn accounts_throughout(&self, connection: &str) -> Vec<String> {
        self.shared.world().ids_throughout(connection)
    }

    /// Ends every token that was given out.
    pub fn expire_tokens(&self) {
        self.shared.tokens().forget_all();
    }

    /// The journal, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.journal).iter().cloned().collect()
    }

    /// Empties the journal.
    pub fn forget_requests(&self) {
        lock(&self.shared.journal).clear();
    }

    /// Every request from now on, as it is answered; a slow reader misses some.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Request> {
        self.shared.follow.subscribe()
    }

    /// Counts since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            requests: self.shared.requests.load(Ordering::Relaxed),
            faulted: self.shared.faulted.load(Ordering::Relaxed),
            tokens: self.shared.tokens().issued(),
            peak_in_flight: self.shared.peak_in_flight.load(Ordering::Relaxed),
            sockets: self.shared.sockets.load(Ordering::Relaxed),
        }
    }

    /// Stops listening and drops every connection; the port is free when this returns.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // The only way in which this task ends is the abort.
        (&mut self.accepting).await.unwrap_or_default();
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What all connections of one double share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    address: SocketAddr,
    /// Scheme, host and port.
    origin: String,
    world: Mutex<World>,
    tokens: Mutex<Tokens>,
    player: Mutex<Player>,
    journal: Mutex<VecDeque<Request>>,
    follow: broadcast::Sender<Request>,
    requests: AtomicU64,
    faulted: AtomicU64,
    sockets: AtomicU64,
    in_flight: AtomicU64,
    peak_in_flight: AtomicU64,
}

impl Shared {
    fn api_path(&self) -> &'static str {
        match self.settings.version {
            ApiVersion::V2_1 => "/v2.1",
            ApiVersion::V3 => "/v3",
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens)
    }

    fn player(&self) -> MutexGuard<'_, Player> {
        lock(&self.player)
    }

    fn record(&self, request: Request) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !request.faults.is_empty() {
            self.faulted.fetch_add(1, Ordering::Relaxed);
        }
        if self.follow.receiver_count() > 0 {
            // Fails only when the last reader has just left.
            self.follow.send(request.clone()).unwrap_or_default();
        }
        let mut journal = lock(&self.journal);
        while journal.len() >= self.settings.journal.max(1) {
            journal.pop_front();
        }
        journal.push_back(request);
    }
}

/// A thread that panicked with the lock has left nothing half done here: every change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn acceptor(identity: &Identity, http2: bool) -> io::Result<TlsAcceptor> {
    let unusable = |error: Box<dyn std::error::Error + Send + Sync>| io::Error::new(io::ErrorKind::InvalidInput, error);
    let chain = identity.certificates().map_err(|error| unusable(error.into()))?;
    let key = identity.key().map_err(|error| unusable(error.into()))?;
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| unusable(error.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts until aborted; connections end with it, as the set that holds them is dropped.
async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else {
                    // Out of descriptors: waiting is all that helps.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                shared.sockets.fetch_add(1, Ordering::Relaxed);
                socket.set_nodelay(true).unwrap_or_default();
                let shared = Arc::clone(&shared);
                match acceptor.clone() {
                    None => connections.spawn(serve(socket, shared)),
                    Some(acceptor) => connections.spawn(async move {
                        if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(socket)).await {
                            serve(stream, shared).await;
                        }
                    }),
                };
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| routes::answer(Arc::clone(&shared), request));
    // Broken connections are this server's trade: an error here is a fault played, or a caller that hung up.
    if let Err(error) = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await {
        tracing::trace!(error, "a connection to the vendor double ended early");
    }
}

#[cfg(test)]
mod tests;
