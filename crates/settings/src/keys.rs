//! The one table of every key: its kind, default, limits and meaning.
//!
//! Known names, defaults, checks, the documentation test of `config/linxo-webhook.toml` and the JSON Schema all come from
//! here, so that they cannot drift apart. A path is written with dots; `sink.*` stands for one `[[sink]]`.
//! To add a key: one line here, one line in `build`, one field in the types, one line in the documented file; tests name
//! what is missing.

/// What a value is, and so how it is read and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, not empty.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number.
    Integer,
    /// `"5s"`
    Duration,
    /// `"8 MiB"`
    Size,
    /// `"127.0.0.1:9090"`
    Address,
    /// `"127.0.0.1:9090"`, or `"off"`.
    AddressOrOff,
    /// An absolute URL.
    Url,
    /// A path of a file.
    Path,
    /// A list of paths.
    Paths,
    /// A list of networks or addresses.
    Networks,
    /// A list of texts.
    Texts,
    /// `{ file = "..." }` or `{ env = "..." }`
    Secret,
    /// One secret, or a list of them, the newest first.
    Secrets,
    /// Reserved: known by name, refused when given something.
    Later,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// `listener.address`, `sink.*.name`
    pub(super) path: &'static str,
    /// What its value is.
    pub(super) kind: Kind,
    /// One sentence, with the unit where there is one.
    pub(super) doc: &'static str,
    /// As it would be written in the environment; `None`: optional or required, see `doc`.
    pub(super) default: Option<&'static str>,
    /// Smallest and largest value, as text of the same kind.
    pub(super) limits: Option<(&'static str, &'static str)>,
    /// Words that will mean something in a later version.
    pub(super) later: &'static [&'static str],
    /// Only where the key beside it has this value.
    pub(super) only: Option<(&'static str, &'static str)>,
}

impl Key {
    const fn new(path: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { path, kind, doc, default: None, limits: None, later: &[], only: None }
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn between(mut self, least: &'static str, most: &'static str) -> Self {
        self.limits = Some((least, most));
        self
    }

    const fn later(mut self, words: &'static [&'static str]) -> Self {
        self.later = words;
        self
    }

    const fn only(mut self, key: &'static str, value: &'static str) -> Self {
        self.only = Some((key, value));
        self
    }

    /// The section: `listener` for `listener.address`.
    pub(super) fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// The last part of the path.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// Whether the key can be used in this version.
    pub(super) fn is_available(&self) -> bool {
        self.kind != Kind::Later
    }
}

/// The key with this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether there are keys below this path.
pub(super) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// Names of the keys and sections directly below a section (`""`: the sections themselves), in the order of the table.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let below = if section.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        if let Some(name) = below.and_then(|rest| rest.split('.').next())
            && name != "*"
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// Every key, in the order of the documented file.
pub(super) static KEYS: &[Key] = &[
    Key::new("listener.address", Kind::Address, "Address of the public HTTPS listener; port 0 picks a free one")
        .default("0.0.0.0:8443"),
    Key::new("listener.path", Kind::Text, "Path of the webhook").default("/webhooks/linxo"),
    Key::new("listener.max_body", Kind::Size, "Largest body of a request").default("8 MiB").between("1 KiB", "1 GiB"),
    Key::new("listener.max_head", Kind::Size, "Largest head of a request, its fields included; a longer one is answered 431")
        .default("64 KiB")
        .between("8 KiB", "1 MiB"),
    Key::new(
        "listener.max_headers",
        Kind::Integer,
        "Fields in the head of an HTTP/1 request; over HTTP/2 each counts 32 bytes more against max_head",
    )
    .default("100")
    .between("16", "1000"),
    Key::new("listener.max_connections", Kind::Integer, "Open connections in total")
        .default("4096")
        .between("1", "1000000"),
    Key::new(
        "listener.max_connections_per_address",
        Kind::Integer,
        "Open connections from one address; an IPv6 /64 counts as one",
    )
    .default("1024")
    .between("1", "1000000"),
    Key::new("listener.max_handshakes", Kind::Integer, "TLS handshakes under way at once")
        .default("2048")
        .between("1", "1000000"),
    Key::new("listener.max_requests", Kind::Integer, "Requests being answered at once; further ones are answered 503")
        .default("4096")
        .between("1", "1000000"),
    Key::new(
        "listener.body_memory",
        Kind::Size,
        "Memory for the bodies of all requests together; what goes beyond is answered 503",
    )
    .default("256 MiB")
    .between("1 KiB", "1 TiB"),
    Key::new("listener.http2_streams", Kind::Integer, "Requests at once on one HTTP/2 connection")
        .default("128")
        .between("1", "10000"),
    Key::new("listener.handshake_timeout", Kind::Duration, "From accept to the end of the TLS handshake")
        .default("5s")
        .between("100ms", "5m"),
    Key::new("listener.header_timeout", Kind::Duration, "For the head of a request")
        .default("5s")
        .between("100ms", "5m"),
    Key::new("listener.body_timeout", Kind::Duration, "For the whole body of a request")
        .default("15s")
        .between("100ms", "1h"),
    Key::new("listener.idle_timeout", Kind::Duration, "For a connection without a request")
        .default("75s")
        .between("100ms", "1h"),
    Key::new("listener.drain_timeout", Kind::Duration, "From SIGTERM to the forced end of open requests")
        .default("20s")
        .between("100ms", "1h"),
    Key::new(
        "listener.proxy_protocol",
        Kind::Word(&["off", "required"]),
        "Whether each connection begins with the PROXY header, version 1 or 2, of a TCP load balancer in front",
    )
    .default("off"),
    Key::new(
        "listener.proxy_networks",
        Kind::Networks,
        "Addresses of the load balancer; needed where proxy_protocol = \"required\"",
    ),
    Key::new("tls.certificate", Kind::Path, "PEM file of the server certificate with its full chain")
        .default("certs/server.pem"),
    Key::new("tls.key", Kind::Path, "PEM file of the certificate's private key").default("certs/server.key"),
    Key::new("tls.minimum_version", Kind::Word(&["1.2", "1.3"]), "Lowest TLS version").default("1.2"),
    Key::new(
        "tls.clients.mode",
        Kind::Word(&["off", "observe", "required"]),
        "Whether callers are asked for a client certificate, and whether one that is not accepted is refused",
    )
    .default("off"),
    Key::new(
        "tls.clients.authorities",
        Kind::Paths,
        "PEM files of the authorities that sign client certificates; several during a change",
    ),
    Key::new(
        "tls.clients.revocations",
        Kind::Paths,
        "PEM files of revocation lists; with any, a certificate that no valid list covers is refused",
    ),
    Key::new(
        "tls.clients.names",
        Kind::Texts,
        "Accepted names: a DNS name of the client certificate or its subject's common name; empty: any",
    ),
    Key::new(
        "tls.clients.fingerprints",
        Kind::Texts,
        "Accepted public keys of client certificates, as hexadecimal SHA-256; empty: any",
    ),
    Key::new(
        "sender.path_secret",
        Kind::Secrets,
        "Secret last segment of the webhook's URL, at least 16 characters; several during a change",
    ),
    Key::new("sender.networks", Kind::Networks, "Networks that callers may come from; none: any"),
    Key::new(
        "sender.confirm",
        Kind::Word(&["off", "api"]),
        "Whether what an event claims is fetched from the vendor's API before it is delivered",
    )
    .default("off"),
    Key::new("inbox.url", Kind::Text, "Where entries are kept").default("sqlite:data/inbox.db"),
    Key::new("inbox.retention", Kind::Duration, "How long done entries are kept").default("30d").between("1m", "3650d"),
    Key::new("inbox.max_waiting", Kind::Integer, "Unfinished entries above which new events are answered 503")
        .default("1000000")
        .between("1", "1000000000"),
    Key::new("inbox.min_free_disk", Kind::Size, "Free disk space below which new events are answered 503")
        .default("256 MiB")
        .between("0 B", "100 TiB"),
    Key::new("inbox.refused", Kind::Integer, "Refused requests that are kept for inspection; 0: none")
        .default("1000")
        .between("0", "100000"),
    Key::new("worker.concurrency", Kind::Integer, "Entries worked on at once for each sink; 0: receive only")
        .default("32")
        .between("0", "10000"),
    Key::new("linxo.api", Kind::Url, "Base of the vendor's API, with its version; an address of a private network only with linxo.authorities").default("https://api.oxlin.io/v2.1"),
    Key::new("linxo.auth", Kind::Url, "Base of the vendor's authorisation server").default("https://auth.oxlin.io"),
    Key::new("linxo.version", Kind::Word(&["v2.1", "v3"]), "Version of the API: shapes and parameter names")
        .default("v2.1"),
    Key::new("linxo.client_id", Kind::Text, "OAuth2 client id; required unless users.mode = \"static\""),
    Key::new("linxo.client_secret", Kind::Secret, "OAuth2 client secret; required unless users.mode = \"static\""),
    Key::new("linxo.token_body", Kind::Word(&["json", "form", "basic"]), "How token requests carry the credentials")
        .default("json"),
    Key::new("linxo.scope", Kind::Text, "OAuth2 scope asked for").default("accounts_read"),
    Key::new("linxo.provider", Kind::Text, "The `provider` member of token requests; without one none is sent"),
    Key::new("linxo.connection_parameter", Kind::Text, "Query parameter that selects the connection in GET /accounts")
        .default("connection_id"),
    Key::new("linxo.page_limit", Kind::Integer, "Accounts asked for on one page; the server may give fewer")
        .default("100")
        .between("1", "10000"),
    Key::new("linxo.page_concurrency", Kind::Integer, "Pages of one listing fetched side by side")
        .default("8")
        .between("1", "64"),
    Key::new(
        "linxo.reread",
        Kind::Word(&["doubt", "always"]),
        "When a list of accounts is read a second time: in doubt, or always, for twice the requests",
    )
    .default("doubt"),
    Key::new("linxo.max_requests", Kind::Integer, "Requests to the API under way at once, over all events; token requests as many again")
        .default("16")
        .between("1", "1000"),
    Key::new("linxo.rate", Kind::Integer, "Requests to the vendor a second, over all events; 0: as many as it takes")
        .default("0")
        .between("0", "100000"),
    Key::new("linxo.max_accounts", Kind::Integer, "Accounts of one connection above which its events are parked")
        .default("200000")
        .between("1", "10000000"),
    Key::new("linxo.max_size", Kind::Size, "Size of one connection's accounts above which its events are parked")
        .default("1 GiB")
        .between("1 KiB", "100 GiB"),
    Key::new("linxo.timeout", Kind::Duration, "For one request to the vendor").default("10s").between("100ms", "10m"),
    Key::new("linxo.list_timeout", Kind::Duration, "For reading one connection's whole list, above which it is parked")
        .default("1h")
        .between("1s", "7d"),
    Key::new("linxo.retry_for", Kind::Duration, "From the first failed attempt at a list to parking")
        .default("3d")
        .between("1s", "365d"),
    Key::new("linxo.authorities", Kind::Paths, "PEM files of extra root certificates, for a test double; allows private addresses"),
    Key::new(
        "linxo.users.mode",
        Kind::Word(&["client", "password", "endpoint", "static"]),
        "Where the token for an event's user comes from: the client's own credentials, the user's password, an endpoint of yours, or one fixed token",
    )
    .default("client"),
    Key::new("linxo.users.table", Kind::Path, "CSV file of user_id,username,password; read again when it changes")
        .only("mode", "password"),
    Key::new("linxo.users.username", Kind::Text, "Instead of a table: a user name with {user_id} in it")
        .only("mode", "password"),
    Key::new(
        "linxo.users.password_secret",
        Kind::Secret,
        "Instead of a table: the password is the HMAC-SHA256 of the user id under this key, in hexadecimal",
    )
    .only("mode", "password"),
    Key::new("linxo.users.url", Kind::Url, "Where to ask for a user's token, with {user_id} in it")
        .only("mode", "endpoint"),
    Key::new("linxo.users.bearer", Kind::Secret, "Bearer token for your endpoint").only("mode", "endpoint"),
    Key::new("linxo.users.certificate", Kind::Path, "PEM file of a client certificate for your endpoint")
        .only("mode", "endpoint"),
    Key::new("linxo.users.key", Kind::Path, "PEM file of that certificate's private key").only("mode", "endpoint"),
    Key::new("linxo.users.authorities", Kind::Paths, "PEM files of extra root certificates for your endpoint")
        .only("mode", "endpoint"),
    Key::new("linxo.users.token", Kind::Secret, "The fixed token").only("mode", "static"),
    Key::new("sink.*.name", Kind::Text, "Unique name: letters a to z, digits, `-` and `_`; kept beside each entry"),
    Key::new("sink.*.type", Kind::Word(&["stdout", "file", "http"]), "Kind of destination")
        .later(&["postgres", "nats", "amqp", "kafka", "redis"]),
    Key::new("sink.*.retry_for", Kind::Duration, "From the first failed attempt to parking")
        .default("3d")
        .between("1s", "365d"),
    Key::new("sink.*.path", Kind::Path, "File that lines are appended to; its folder must exist").only("type", "file"),
    Key::new("sink.*.url", Kind::Url, "Where completed events are posted").only("type", "http"),
    Key::new(
        "sink.*.secret",
        Kind::Secrets,
        "Standard Webhooks signing secret, `whsec_...`; several during a change; without one nothing is signed",
    )
    .only("type", "http"),
    Key::new("sink.*.timeout", Kind::Duration, "For one attempt")
        .default("10s")
        .between("100ms", "10m")
        .only("type", "http"),
    Key::new("sink.*.authorities", Kind::Paths, "PEM files of extra root certificates").only("type", "http"),
    Key::new("admin.address", Kind::AddressOrOff, "Address of health, metrics and inbox pages, or \"off\"")
        .default("127.0.0.1:9090"),
    Key::new("admin.token", Kind::Secret, "Bearer token; required where the address is not loopback"),
    Key::new("log.format", Kind::Word(&["json", "text"]), "Shape of a log line").default("json"),
    Key::new(
        "log.level",
        Kind::Word(&["error", "warn", "info", "debug", "trace"]),
        "Lowest level written; libraries never get below warnings, because there they write down what was sent",
    )
    .default("info"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_path_is_given_twice() {
        let mut seen = HashSet::new();
        assert!(KEYS.iter().all(|key| seen.insert(key.path)));
    }

    #[test]
    fn knows_what_is_below_what() {
        assert_eq!(names_in(""), ["listener", "tls", "sender", "inbox", "worker", "linxo", "sink", "admin", "log"]);
        assert_eq!(names_in("tls"), ["certificate", "key", "minimum_version", "clients"]);
        assert_eq!(names_in("admin"), ["address", "token"]);
        assert!(is_section("sink.*") && is_section("linxo.users") && !is_section("admin.token"));
    }

    #[test]
    fn every_sentence_can_stand_in_a_list() {
        for key in KEYS {
            assert!(!key.doc.ends_with('.') && key.doc.starts_with(char::is_uppercase), "{}", key.path);
        }
    }
}
