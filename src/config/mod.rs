//! Configuration: a TOML file, then the environment, become one [`Config`] that cannot be wrong.
//!
//! In: `--config` (or `config/linxo-webhook.toml` if it exists) and `LINXO_WEBHOOK__SECTION__KEY`. Out: plain
//! types that the rest of the program trusts without checking again. Every problem is reported at once, each
//! with its key, the value (unless secret), the reason and a hint. Nothing here binds a port or opens a store;
//! secrets are read and the named files opened, because a missing one must stop the start.
//!
//! The steps, each in its file: `raw` gathers file and environment in one tree and finds unknown keys; `reader` takes
//! values out of it by the table in `keys`; `build` and `sinks` make the types below and check what concerns several
//! keys. No derived deserialisation: it stops at the first problem and forgets where a value came from. Whether
//! certificates and keys are sound is for `receive` to say, which loads them again while running.

mod build;
mod effective;
mod keys;
mod networks;
mod origin;
mod problems;
mod raw;
mod reader;
mod schema;
mod sinks;
mod units;
mod urls;
pub mod users;

pub use networks::Networks;
pub use origin::Origin;
pub use problems::Problems;
pub use schema::schema;

use base::secret::Secret;
use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

/// Everything the program was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The public HTTPS listener.
    pub listener: Listener,
    /// Certificate, key and client certificates of the public listener.
    pub tls: Tls,
    /// How callers are recognised besides client certificates.
    pub sender: Sender,
    /// The durable middle.
    pub inbox: Inbox,
    /// Completion and delivery.
    pub worker: Worker,
    /// The vendor's API; `None`: truncated events are parked.
    pub linxo: Option<Linxo>,
    /// Where completed events go, in the order of the file; never empty.
    pub sinks: Vec<delivery::Settings>,
    /// Health and metrics; `None`: off.
    pub admin: Option<Admin>,
    /// Logging.
    pub log: Log,
    /// What is allowed but should be known, one sentence each; for `check` and the start of `serve`.
    pub warnings: Vec<String>,
    /// Where it came from, to load it again.
    pub origin: Origin,
}

/// `[listener]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Address to bind; port 0 picks a free one.
    pub address: SocketAddr,
    /// The exact path of the webhook, beginning with `/`.
    pub path: String,
    /// Largest body, in bytes, counted on the stream.
    pub max_body: u64,
    /// Largest head of a request, in bytes.
    pub max_head: u32,
    /// Fields in the head of an HTTP/1 request.
    pub max_headers: usize,
    /// Open connections in total.
    pub max_connections: usize,
    /// Open connections from one address (IPv6: one /64).
    pub max_connections_per_address: usize,
    /// TLS handshakes under way at once.
    pub max_handshakes: usize,
    /// Requests being answered at once.
    pub max_requests: usize,
    /// Bytes of bodies held in memory at once; at least `max_body`.
    pub body_memory: u64,
    /// Requests at once on one HTTP/2 connection.
    pub http2_streams: u32,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a head (or the end of the handshake) to its end.
    pub header_timeout: Duration,
    /// For the whole body.
    pub body_timeout: Duration,
    /// Keep-alive without a request.
    pub idle_timeout: Duration,
    /// From SIGTERM to the forced end of open requests.
    pub drain_timeout: Duration,
    /// Balancers that begin each connection with a PROXY header; `None`: callers connect directly.
    pub proxies: Option<Networks>,
}

/// `[tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM, full chain.
    pub certificate: PathBuf,
    /// PEM, the key of the first certificate.
    pub key: PathBuf,
    /// Whether both paths are the defaults, so that a certificate for `localhost` may be made on first start.
    pub may_generate: bool,
    /// Lowest protocol version offered.
    pub minimum_version: TlsVersion,
    /// `[tls.clients]`
    pub clients: TlsClients,
}

/// Lowest TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    V1_2,
    /// TLS 1.3 only.
    V1_3,
}

/// `[tls.clients]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsClients {
    /// Whether a client certificate is asked for and required.
    pub mode: ClientMode,
    /// PEM bundles of accepted authorities; never empty unless the mode is off.
    pub authorities: Vec<PathBuf>,
    /// PEM files of revocation lists; empty: nothing is revoked.
    pub revocations: Vec<PathBuf>,
    /// Accepted names (DNS names, or the subject's common name) in lower case; empty: any.
    pub names: Vec<String>,
    /// Accepted SHA-256 of the public key (SPKI), 64 lower-case hexadecimal digits; empty: any.
    pub fingerprints: Vec<String>,
}

/// What is asked of a caller's certificate, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientMode {
    /// Not asked for.
    Off,
    /// Asked for and judged, but nobody is refused: shows what `Required` would do.
    Observe,
    /// A valid one is needed to finish the handshake.
    Required,
}

/// `[sender]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// Accepted last path segments; empty: none is expected.
    pub path_secrets: Vec<Secret>,
    /// Where callers may come from; empty: anywhere.
    pub networks: Networks,
    /// Whether an event is only a hint, and what it claims is fetched from the vendor's API before it is delivered.
    pub confirm: bool,
}

/// `[inbox]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbox {
    /// Where entries are kept.
    pub store: Store,
    /// How long done entries are kept.
    pub retention: Duration,
    /// Unfinished entries above which new ones are answered 503.
    pub max_waiting: u64,
    /// Free bytes on the store's disk under which new entries are answered 503.
    pub min_free_disk: u64,
    /// Refused requests that are kept for inspection; 0: none.
    pub refused: u64,
}

/// The store behind the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// One SQLite file, owned by one process.
    Sqlite(PathBuf),
}

/// `[worker]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Entries worked on at once, per sink and for completion; 0: receive only.
    pub concurrency: usize,
}

/// `[linxo]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linxo {
    /// Base of the API with the version, no trailing slash: `https://api.oxlin.io/v2.1`.
    pub api: String,
    /// Base of the authorisation server, no trailing slash: `https://auth.oxlin.io`.
    pub auth: String,
    /// Shapes and parameter names.
    pub version: ApiVersion,
    /// OAuth2 client id; absent only with a static token.
    pub client_id: Option<String>,
    /// OAuth2 client secret; absent only with a static token.
    pub client_secret: Option<Secret>,
    /// How the token request carries the client's credentials.
    pub token_body: TokenBody,
    /// OAuth2 scope asked for.
    pub scope: String,
    /// The `provider` member of token requests, if one is sent (`linxo-api.md` section 2).
    pub provider: Option<String>,
    /// Name of the connection filter of `GET /accounts`.
    pub connection_parameter: String,
    /// Page size asked for.
    pub page_limit: u32,
    /// Pages of one listing fetched side by side.
    pub page_concurrency: usize,
    /// Whether a list is read a second time.
    pub reread: Reread,
    /// Requests under way at once, over all entries.
    pub max_requests: usize,
    /// Requests a second, over all entries; `None`: no limit.
    pub rate: Option<NonZeroU32>,
    /// Accounts of one connection at most.
    pub max_accounts: u64,
    /// Bytes of one connection's accounts at most.
    pub max_size: u64,
    /// For one request, from connect to the last byte.
    pub timeout: Duration,
    /// For one attempt at a whole list.
    pub list_timeout: Duration,
    /// From the first failed attempt to parking.
    pub retry_for: Duration,
    /// PEM files of extra roots.
    pub authorities: Vec<PathBuf>,
    /// Where the token for an event's user comes from.
    pub users: Users,
}

/// Wire version of the vendor's API (`linxo-api.md` section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    /// Bare arrays, the token selects the user.
    V2_1,
    /// Wrapped lists, `user_id` as a query parameter.
    V3,
}

/// Encoding of the token request (`linxo-api.md` section 2: clients of the vendor disagree).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenBody {
    /// A JSON object.
    Json,
    /// `application/x-www-form-urlencoded`, credentials in the body.
    Form,
    /// `application/x-www-form-urlencoded`, credentials in an `Authorization: Basic` header.
    Basic,
}

/// When a list of accounts is read a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reread {
    /// Where the number of accounts is not the announced one, or the list moved while it was read.
    Doubt,
    /// Always: until two readings in a row agree.
    Always,
}

/// `[linxo.users]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Users {
    /// A client-credentials token that acts for the event's user.
    Client,
    /// The password grant, with the credentials of the event's user.
    Password(Passwords),
    /// An endpoint of the integrator that gives out the token.
    Endpoint(UserEndpoint),
    /// One token for everything.
    Static(Secret),
}

/// Where a user's password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passwords {
    /// A CSV file, see [`users`]; read again when it changes.
    Table(PathBuf),
    /// Both follow from the user's id.
    Derived {
        /// With `{user_id}` in it.
        username: String,
        /// The password is HMAC-SHA256 of the user's id under this key, in hexadecimal.
        secret: Secret,
    },
}

/// `[linxo.users]` with `mode = "endpoint"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEndpoint {
    /// With `{user_id}` in it.
    pub url: String,
    /// Sent as a bearer token.
    pub bearer: Option<Secret>,
    /// PEM files of a client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// PEM files of extra roots.
    pub authorities: Vec<PathBuf>,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address to bind; port 0 picks a free one.
    pub address: SocketAddr,
    /// Bearer token; required when the address is not loopback.
    pub token: Option<Secret>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Shape of a line.
    pub format: LogFormat,
    /// Lowest level written.
    pub level: tracing::Level,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Tls {
    /// The files that it is loaded from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let clients = &self.clients;
        let own = [&self.certificate, &self.key];
        own.into_iter().chain(&clients.authorities).chain(&clients.revocations).map(PathBuf::as_path)
    }
}

impl Linxo {
    /// The files that a client of the API is built from, secrets apart. A table of users is none: it is watched where it is
    /// used.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let endpoint = if let Users::Endpoint(endpoint) = &self.users { Some(endpoint) } else { None };
        let identity = endpoint.and_then(|endpoint| endpoint.identity.as_ref());
        let identity = identity.into_iter().flat_map(|(certificate, key)| [certificate, key]);
        let authorities = endpoint.into_iter().flat_map(|endpoint| &endpoint.authorities);
        self.authorities.iter().chain(identity).chain(authorities).map(PathBuf::as_path)
    }
}

impl Config {
    /// Every file whose change means that there is something to load again.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let linxo = self.linxo.iter().flat_map(Linxo::files);
        self.origin
            .files()
            .chain(self.tls.files())
            .chain(linxo)
            .chain(self.sinks.iter().flat_map(delivery::Settings::files))
    }

    /// How callers are authenticated, in one line for people.
    #[must_use]
    pub fn authentication(&self) -> String {
        let clients = &self.tls.clients;
        let bounds: Vec<String> = [
            (clients.authorities.len(), "file of authorities", "files of authorities"),
            (clients.names.len(), "name", "names"),
            (clients.fingerprints.len(), "public key", "public keys"),
            (clients.revocations.len(), "file of revocations", "files of revocations"),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, several)| format!("{count} {}", if count == 1 { one } else { several }))
        .collect();
        let bounds = bounds.join(", ");
        let certificates = match clients.mode {
            ClientMode::Off => None,
            ClientMode::Observe => Some(format!("client certificates observed ({bounds}), nobody is refused for them")),
            ClientMode::Required => Some(format!("client certificates required ({bounds})")),
        };
        let path = (!self.sender.path_secrets.is_empty()).then(|| "path secret".to_owned());
        let networks = match self.sender.networks.len() {
            _ if !self.sender.networks.is_selective() => None,
            1 => Some("network (1 range)".to_owned()),
            count => Some(format!("network ({count} ranges)")),
        };
        let confirm = self.sender.confirm.then(|| "confirmation of every event through the API".to_owned());
        let ways: Vec<String> = [certificates, path, networks, confirm].into_iter().flatten().collect();
        if ways.is_empty() { "nobody: anyone who knows the URL can post".to_owned() } else { ways.join(" and ") }
    }

    /// What concerns several keys, is allowed, and should be known.
    fn remarks(&self) -> impl Iterator<Item = String> {
        let is_everybody = |networks: &Networks| !networks.is_empty() && !networks.is_selective();
        let senders = is_everybody(&self.sender.networks).then(|| {
            "sender.networks holds every address of IPv4 or of IPv6, so it keeps nobody out and counts as no way to know \
             a caller: name the networks that the caller really comes from, or remove the key"
                .to_owned()
        });
        let proxies = self.listener.proxies.as_ref().is_some_and(is_everybody).then(|| {
            "listener.proxy_networks holds every address of IPv4 or of IPv6, so anybody can claim to call from anywhere: \
             name the addresses of the load balancer"
                .to_owned()
        });
        [senders, proxies, self.exposure()].into_iter().flatten()
    }

    /// Why strangers can post events, if they can: nothing says who may call, and the address is reachable for others.
    fn exposure(&self) -> Option<String> {
        let is_open = self.tls.clients.mode != ClientMode::Required
            && self.sender.path_secrets.is_empty()
            && !self.sender.networks.is_selective()
            && !self.sender.confirm;
        // A balancer in front brings others to a loopback address as well.
        let is_balanced = self.listener.proxies.is_some();
        if !is_open || (self.listener.address.ip().to_canonical().is_loopback() && !is_balanced) {
            return None;
        }
        let (reached, instead) = if is_balanced {
            ("the load balancer in front of ", "")
        } else {
            ("", ", or listen on a loopback address")
        };
        Some(format!(
            "anyone who reaches {reached}{} can post events: require client certificates (tls.clients), set \
             sender.path_secret, sender.networks or sender.confirm{instead}",
            self.listener.address
        ))
    }

    /// The configuration that takes effect, defaults included, laid out as the file is; secrets are `***`.
    #[must_use]
    pub fn effective(&self) -> String {
        effective::write(self)
    }
}

/// Loads the configuration: `file` (or the default path, if it exists), then the environment.
///
/// The environment is a parameter so that tests have one of their own; secrets of the form `{ env = "..." }` come from it.
///
/// # Errors
/// Every problem found, each with key, value unless secret, reason and hint.
pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, Problems> {
    Origin::new(file, environment).load()
}

#[cfg(test)]
mod tests;
