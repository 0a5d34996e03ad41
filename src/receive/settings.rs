//! What the public listener is told: `[listener]`, `[tls]`, `[tls.clients]`, `[sender]`.
//!
//! Whether certificates and keys are sound is for [`tls`] to say, which loads them again while the service runs.

use super::tls::{self, Validity, pair, revocations};
use base::{clock, error::chain, secret::Secret};
use settings::{
    At, Flaw, Networks, Read, Words as _, address, aside, authorities, duration, files, networks, number, path,
    secrets, section, size, switch, text, texts, word, words,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// Where a certificate for this machine is made on the first start.
const CERTIFICATE: &str = "certs/server.pem";
/// Its key.
const KEY: &str = "certs/server.key";
/// Fewer characters of a path secret could be guessed.
const SHORTEST_PATH_SECRET: usize = 16;

section! {
    /// The public HTTPS listener.
    pub struct Listener {
        /// Address of the public HTTPS listener. Not given, it is 0.0.0.0:8443 where a path secret, selective
        /// sender.networks or required client certificates keep strangers out, and else 127.0.0.1:8443, which only this
        /// machine reaches. Port 0 picks a free one, which the log line `listening` names. A socket that systemd hands
        /// over goes before it.
        pub address: Option<SocketAddr> = address().example("\"0.0.0.0:8443\"").optional(),
        /// Whether the address was given, and not chosen.
        pub is_address_given: bool = aside(),
        /// Path of the webhook. The URL to register with the vendor is `https://<your host><path>`, or with a path
        /// secret `https://<your host><path>/<secret>`.
        pub path: String = text(webhook_path).default("/webhooks/linxo"),
        /// Largest body of a request. A connection of 100 accounts takes about 50 KB. A larger body is answered 413.
        pub max_body: u64 = size().default("8 MiB").between("1 KiB", "1 GiB"),
        /// Largest head of a request, its fields included. A longer one is answered 431. Over HTTP/2 each field counts 32
        /// bytes more.
        pub max_head: u32 = size().default("16 KiB").between("8 KiB", "1 MiB"),
        /// Fields in the head of a request. More are answered 431.
        pub max_headers: usize = number().default("100").between("16", "1000"),
        /// Open connections in total. Further ones are closed at once. The process needs about 256 file descriptors
        /// beside them: where its limit (`ulimit -n`) leaves fewer, fewer are taken, and the log says so at the start.
        pub max_connections: usize = number().default("4096").between("1", "1000000"),
        /// Open connections from one address; an IPv6 /64 counts as one, and a /48 has twice as many at the most. Behind a load balancer without
        /// `proxy_protocol`, all callers have the address of the balancer: set this as high as `max_connections` there.
        pub max_connections_per_address: usize = number().default("1024").between("1", "1000000"),
        /// TLS handshakes under way at once. Where there are as many, the oldest one that has sent nothing makes room for the
        /// next. An address has the same share of them as of the connections (max_connections_per_address of
        /// max_connections), and callers from sender.networks go first.
        pub max_handshakes: usize = number().default("2048").between("1", "1000000"),
        /// Requests that are being answered at once. Further ones wait a moment for a place, and are then answered 503.
        pub max_requests: usize = number().default("4096").between("1", "1000000"),
        /// Memory for the bodies and the large heads of all requests together. A request that needs more is answered 503.
        pub body_memory: u64 = size().default("256 MiB").between("1 KiB", "1 TiB"),
        /// Requests at once on one HTTP/2 connection. Each may take `max_head` for its head several times over.
        pub http2_streams: u32 = number().default("16").between("1", "10000"),
        /// Longest time from accepting a connection to the end of its TLS handshake.
        pub handshake_timeout: Duration = duration().default("5s").between("100ms", "5m"),
        /// Longest time for the head of a request, from its first byte (or from the end of the handshake).
        pub header_timeout: Duration = duration().default("5s").between("100ms", "5m"),
        /// Longest time for the whole body of a request.
        pub body_timeout: Duration = duration().default("15s").between("100ms", "1h"),
        /// How long a connection without a request stays open.
        pub idle_timeout: Duration = duration().default("75s").between("100ms", "1h"),
        /// Longest time from SIGTERM to the forced end of open requests.
        pub drain_timeout: Duration = duration().default("20s").between("100ms", "1h"),
        /// Whether each connection begins with a PROXY header (version 1 or 2), which a TCP load balancer in front
        /// sends. Callers then have the address that the header names, everywhere: in networks, limits, logs and
        /// entries.
        pub proxy_protocol: bool = switch(
            ("off", "Callers connect directly, and no header is read."),
            ("required", "Each connection begins with the header."),
        ).default("off"),
        /// Addresses of the load balancer, as networks. Connections from elsewhere are closed. Needed where
        /// `proxy_protocol` is required.
        pub proxy_networks: Networks = networks(),
    }
    check(at) {
        room_for_a_body(at, &max_body, &body_memory);
        proxies(at, proxy_protocol, &proxy_networks);
    }
}

section! {
    /// Certificate and key of the public listener.
    pub struct Tls {
        /// PEM file of the server certificate with its full chain. Where certificate and key are left at these defaults
        /// and neither file exists, a certificate for localhost is made on the first start.
        pub certificate: PathBuf = path().default(CERTIFICATE),
        /// PEM file of the private key of the certificate.
        pub key: PathBuf = path().default(KEY),
        /// Whether both paths are the defaults, so that a certificate for localhost may be made on the first start.
        pub may_generate: bool = aside(),
        /// Lowest TLS version that is offered.
        pub minimum_version: TlsVersion = word().default("1.2"),
        /// Client certificates.
        pub clients: TlsClients = section(),
    }
    check(at) {
        if let (Ok(certificate), Ok(key)) = (&certificate, &key) {
            may_generate = server_files(at, certificate, key);
        }
    }
}

words! {
    /// Lowest TLS version.
    pub enum TlsVersion {
        /// TLS 1.2 and TLS 1.3.
        V1_2 = "1.2",
        /// TLS 1.3 only.
        V1_3 = "1.3",
    }
}

section! {
    /// Client certificates: by which certificates callers are recognised.
    pub struct TlsClients {
        /// Whether callers are asked for a certificate, and what happens without a good one.
        pub mode: ClientMode = word().default("off"),
        /// PEM files of the authorities that sign client certificates; several during a change. Needed unless mode is
        /// off.
        pub authorities: Vec<PathBuf> = authorities(),
        /// PEM files of revocation lists, of intermediate authorities too. Where any is given, a certificate that no
        /// list covers is refused, and so is every certificate below an authority whose list has ended.
        pub revocations: Vec<PathBuf> = files(),
        /// What accepted certificates are made for.
        pub usage: ClientUsage = word().default("client"),
        /// Accepted DNS names, as they stand in the subject alternative names of the certificate, without wildcards. Neither
        /// names nor subjects given: any. Public authorities need names or fingerprints.
        pub names: Vec<String> = texts(client_name),
        /// Accepted common names of the subject, for authorities that issue no subject alternative names. Where names are
        /// given too, one of both must fit. An authority below yours that may sign for one domain only can still write any
        /// common name.
        pub subjects: Vec<String> = texts(client_name),
        /// Accepted public keys: the SHA-256 of the SubjectPublicKeyInfo in hexadecimal. None given: any key. Where
        /// names or subjects are given too, both must fit.
        pub fingerprints: Vec<String> = texts(fingerprint),
    }
    check(at) {
        revocation_files(at, &revocations);
        if let Ok(mode) = &mode {
            let bounds = [
                ("authorities", is_given(&authorities)),
                ("revocations", is_given(&revocations)),
                ("usage", usage == Ok(ClientUsage::Any)),
                ("names", is_given(&names)),
                ("subjects", is_given(&subjects)),
                ("fingerprints", is_given(&fingerprints)),
            ];
            match mode {
                ClientMode::Off => refuse_bounds(at, &bounds),
                ClientMode::Observe | ClientMode::Required => {
                    need_authorities(at, *mode, &authorities);
                    need_names(at, usage, is_given(&names) || is_given(&fingerprints));
                }
            }
        }
    }
}

words! {
    /// What is asked of the certificate of a caller, the least first.
    pub enum ClientMode {
        /// No certificate is asked for.
        Off = "off",
        /// A certificate is asked for, judged and logged, but nobody is refused. This shows what `required` would do.
        Observe = "observe",
        /// A good certificate is needed to finish the handshake.
        Required = "required",
    }
}

words! {
    /// What accepted client certificates are made for, the least first.
    pub enum ClientUsage {
        /// For clients, or for anything.
        Client = "client",
        /// Also only for servers. Needs names or fingerprints, and no public authority.
        Any = "any",
    }
}

section! {
    /// How callers are recognised besides client certificates.
    pub struct Sender {
        /// Secret last segment of the webhook's URL, at least 16 characters (`openssl rand -hex 24`). During a change
        /// give a list, the newest first.
        pub path_secrets("path_secret"): Vec<Secret> = secrets(path_secret).example("{ file = \"secrets/path\" }"),
        /// Networks or single addresses that callers may come from. Others are answered 403. None given: any.
        pub networks: Networks = networks(),
        /// Whether an event is believed, or is only a hint that something happened.
        pub confirm: bool = switch(
            ("off", "The event is believed."),
            (
                "api",
                "The connection and its accounts are fetched from the API before anything is delivered, and of the event \
                 itself only its id and its kind are passed on. This needs `[linxo]`, and a linxo.scope that allows reading \
                 connections (connections_manage). An event of a connection that the API does not know is parked.",
            ),
        ).default("off"),
    }
}

/// Where no address is given, and strangers are kept out.
const EVERYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);
/// Where no address is given, and strangers are not kept out.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

impl Listener {
    /// Address of the public HTTPS listener.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address.unwrap_or(HERE)
    }

    /// Chooses the address, where none is given.
    pub fn choose_address(&mut self, keeps_strangers_out: bool) {
        self.is_address_given = self.address.is_some();
        self.address.get_or_insert(if keeps_strangers_out { EVERYWHERE } else { HERE });
    }

    /// Balancers that begin each connection with a PROXY header; `None`: callers connect directly.
    #[must_use]
    pub fn proxies(&self) -> Option<&Networks> {
        self.proxy_protocol.then_some(&self.proxy_networks)
    }
}

impl Tls {
    /// The files that it is loaded from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let clients = &self.clients;
        let own = [&self.certificate, &self.key];
        own.into_iter().chain(&clients.authorities).chain(&clients.revocations).map(PathBuf::as_path)
    }
}

fn room_for_a_body(at: &mut At<'_, '_>, max_body: &Read<u64>, body_memory: &Read<u64>) {
    if let (Ok(max_body), Ok(body_memory)) = (max_body, body_memory)
        && body_memory < max_body
    {
        let hint = "set listener.body_memory to several times listener.max_body";
        at.flawed("body_memory", Flaw::new("has no room for one body of listener.max_body", hint));
    }
}

/// The balancers whose PROXY headers are believed must be named: anybody else could claim any address.
fn proxies(at: &mut At<'_, '_>, protocol: Read<bool>, networks: &Read<Networks>) {
    let (Ok(is_required), Ok(networks)) = (protocol, networks) else { return };
    let flaw = match (is_required, networks.is_empty()) {
        (true, true) => Flaw::new(
            "must name the load balancer where listener.proxy_protocol = \"required\"",
            "write proxy_networks = [\"10.0.0.0/28\"], the addresses that the balancer connects from",
        ),
        (false, false) => Flaw::new(
            "has no effect where listener.proxy_protocol = \"off\"",
            "set listener.proxy_protocol = \"required\", or remove the networks",
        ),
        _ => return,
    };
    at.flawed("proxy_networks", flaw);
}

/// The path is compared with what callers send byte for byte, so it must be one that a request line can hold.
fn webhook_path(text: &str) -> Result<String, Flaw> {
    let flaw = |reason: &str| Flaw::new(reason, "write a path such as \"/webhooks/linxo\"");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()+,;=:@".contains(c);
    if !text.starts_with('/') {
        return Err(flaw("must begin with `/`"));
    }
    if text.len() > 1 && text.ends_with('/') {
        return Err(flaw("must not end with `/`"));
    }
    if text.len() > 1 && text.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(flaw("has an empty segment, `.` or `..`"));
    }
    match text.chars().find(|c| !is_plain(*c)) {
        Some(c) => Err(flaw(&format!("must not contain `{}`", c.escape_debug()))),
        None => Ok(text.to_owned()),
    }
}

/// The server's certificate and key must be there, unless both are the defaults and neither was made yet. Returns
/// whether they may be made.
fn server_files(at: &mut At<'_, '_>, certificate: &Path, key: &Path) -> Read<bool> {
    let may_generate = certificate == Path::new(CERTIFICATE) && key == Path::new(KEY);
    if may_generate && !certificate.exists() && !key.exists() {
        // They are made on the first start.
        at.uses("certificate", certificate);
        at.uses("key", key);
        return Ok(true);
    }
    let facts = at.must_be_readable("certificate", certificate).and_then(|file| tried(at, pair::certificate(&file)));
    if let Ok(facts) = &facts {
        server_certificate(at, certificate, facts);
    }
    let sound = at.must_be_private("key", key).and_then(|file| tried(at, pair::key(&file)));
    facts.and(sound).and_then(|()| tried(at, pair::together(certificate, key))).map(|()| may_generate)
}

fn tried<T>(at: &mut At<'_, '_>, result: Result<T, tls::Error>) -> Read<T> {
    result.map_err(|error| at.flawed(error.key(), flaw(&error)))
}

/// One that has ended keeps no service from starting: the clock may be wrong.
fn server_certificate(at: &mut At<'_, '_>, file: &Path, facts: &tls::Certificate) {
    if facts.validity(clock::now()) == Validity::Expired {
        let (file, end) = (file.display(), facts.not_after.to_rfc3339().unwrap_or_default());
        let reason = format!("names the file {file}, whose certificate ended on {end}: callers refuse it");
        at.ended(
            "certificate",
            Flaw::new(reason, "renew the certificate; if it is new, check the clock of this machine"),
        );
    }
}

/// Each file must hold lists, whatever they say.
fn revocation_files(at: &mut At<'_, '_>, files: &Read<Vec<PathBuf>>) {
    for error in files.iter().flatten().filter_map(|file| revocations::look(file).err()) {
        at.flawed("revocations", flaw(&error));
    }
}

/// What is wrong with files of TLS, as a flaw of the key that names them.
#[must_use]
pub fn flaw(error: &tls::Error) -> Flaw {
    Flaw::new(format!("cannot be used: {}", chain(error)), error.remedy())
}

fn is_given<T>(list: &Read<Vec<T>>) -> bool {
    list.as_ref().is_ok_and(|list| !list.is_empty())
}

/// Names and fingerprints narrow down whom the authorities vouch for; alone they would trust any chain.
fn need_authorities(at: &mut At<'_, '_>, mode: ClientMode, authorities: &Read<Vec<PathBuf>>) {
    if authorities.as_ref().is_ok_and(Vec::is_empty) {
        let flaw = Flaw::new(
            format!("must name at least one file where tls.clients.mode = \"{}\"", mode.word()),
            "write authorities = [\"certs/clients-ca.pem\"], the authority that signs the callers' certificates",
        );
        at.flawed("authorities", flaw);
    }
}

/// An authority that signs for servers signs for many: they must be told apart.
fn need_names(at: &mut At<'_, '_>, usage: Read<ClientUsage>, are_given: bool) {
    if usage == Ok(ClientUsage::Any) && !are_given {
        let hint = "say in tls.clients.names or tls.clients.fingerprints who the callers are";
        at.flawed("usage", Flaw::new("lets in every server that the authorities certify", hint));
    }
}

/// Where no certificate is asked for, nothing narrows it down: each of these that holds something is refused.
fn refuse_bounds(at: &mut At<'_, '_>, bounds: &[(&str, bool)]) {
    for (name, _) in bounds.iter().filter(|(_, is_given)| *is_given) {
        let hint = format!("set tls.clients.mode = \"required\", or remove the {name}");
        at.flawed(name, Flaw::new("has no effect where tls.clients.mode = \"off\"", hint));
    }
}

/// Kept in lower case: DNS names are compared without regard to case.
pub(crate) fn client_name(text: &str) -> Result<String, Flaw> {
    if text.trim() != text || text.is_empty() || text.chars().any(char::is_control) {
        return Err(Flaw::new("is empty, or has spaces around it", "write the name as it stands in the certificate"));
    }
    if text.contains('*') {
        return Err(Flaw::new("has a wildcard", "write each accepted name in full"));
    }
    Ok(text.to_ascii_lowercase())
}

/// SHA-256 in hexadecimal; colons and upper case, as tools print it, are fine.
fn fingerprint(text: &str) -> Result<String, Flaw> {
    let digits: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    Err(Flaw::new(
        "is not a SHA-256 in hexadecimal (64 digits)",
        "take it from `openssl x509 -in client.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum`",
    ))
}

fn path_secret(text: &str) -> Result<(), Flaw> {
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
        return Err(Flaw::new(
            "is not fit for a URL",
            "use letters, digits, `-`, `.`, `_` and `~` only, for example the output of `openssl rand -hex 24`",
        ));
    }
    if text.len() < SHORTEST_PATH_SECRET {
        return Err(Flaw::new(
            format!("is shorter than {SHORTEST_PATH_SECRET} characters"),
            "take the output of `openssl rand -hex 24`",
        ));
    }
    Ok(())
}
