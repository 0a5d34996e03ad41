//! From values to the types of the configuration, one function for each section; sinks have their own file.
//!
//! Each function reads all of its keys before it gives up on any, so that one problem does not hide another. Checks that
//! concern several keys stand here, beside the section that is refused.

use super::{
    Admin, ApiVersion, ClientMode, Config, Inbox, Linxo, Listener, Log, LogFormat, Networks, Origin, Reread, Sender,
    Store, Tls, TlsClients, TlsVersion, TokenBody, Users, Worker, keys,
    reader::{Flaw, Read, Reader, Section},
    sinks, urls, users,
};
use std::{num::NonZeroU32, path::PathBuf};
use tracing::Level;

/// Fewer characters of a path secret could be guessed.
const SHORTEST_PATH_SECRET: usize = 16;

/// Everything.
pub(super) fn config(reader: &mut Reader<'_>) -> Read<Config> {
    let listener = listener(&mut reader.section("listener"));
    let tls = tls(reader);
    let sender = sender(&mut reader.section("sender"));
    let inbox = inbox(&mut reader.section("inbox"));
    let worker = reader.section("worker").integer("concurrency").map(|concurrency| Worker { concurrency });
    let linxo = reader.at("linxo").is_some().then(|| linxo(reader)).transpose();
    let sinks = sinks::sinks(reader);
    let admin = admin(&mut reader.section("admin"));
    let log = log(&mut reader.section("log"));
    reader.refuse_later();
    if matches!((&sender, &linxo), (Ok(Sender { confirm: true, .. }), Ok(None))) {
        let hint = "add a [linxo] section with the credentials for the API";
        let flaw = Flaw::new("asks for the vendor's API, and there is no [linxo] section", hint);
        return Err(reader.section("sender").flawed("confirm", flaw));
    }
    Ok(Config {
        listener: listener?,
        tls: tls?,
        sender: sender?,
        inbox: inbox?,
        worker: worker?,
        linxo: linxo?,
        sinks: sinks?,
        admin: admin?,
        log: log?,
        warnings: Vec::new(),
        origin: Origin::default(),
    })
}

fn listener(section: &mut Section<'_, '_>) -> Read<Listener> {
    let address = section.address("address");
    let path = section.text("path", webhook_path);
    let max_body = section.size("max_body");
    let max_head = section.size("max_head").map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
    let max_headers = section.integer("max_headers");
    let max_connections = section.integer("max_connections");
    let max_connections_per_address = section.integer("max_connections_per_address");
    let max_handshakes = section.integer("max_handshakes");
    let max_requests = section.integer("max_requests");
    let body_memory = section.size("body_memory");
    let http2_streams = section.integer("http2_streams");
    let handshake_timeout = section.duration("handshake_timeout");
    let header_timeout = section.duration("header_timeout");
    let body_timeout = section.duration("body_timeout");
    let idle_timeout = section.duration("idle_timeout");
    let drain_timeout = section.duration("drain_timeout");
    let proxies = proxies(section);
    if let (Ok(max_body), Ok(body_memory)) = (max_body, body_memory)
        && body_memory < max_body
    {
        let hint = "set listener.body_memory to several times listener.max_body";
        return Err(section.flawed("body_memory", Flaw::new("has no room for one body of listener.max_body", hint)));
    }
    Ok(Listener {
        address: address?,
        path: path?,
        max_body: max_body?,
        max_head: max_head?,
        max_headers: max_headers?,
        max_connections: max_connections?,
        max_connections_per_address: max_connections_per_address?,
        max_handshakes: max_handshakes?,
        max_requests: max_requests?,
        body_memory: body_memory?,
        http2_streams: http2_streams?,
        handshake_timeout: handshake_timeout?,
        header_timeout: header_timeout?,
        body_timeout: body_timeout?,
        idle_timeout: idle_timeout?,
        drain_timeout: drain_timeout?,
        proxies: proxies?,
    })
}

/// The balancers whose PROXY headers are believed: anybody else could claim any address.
fn proxies(section: &mut Section<'_, '_>) -> Read<Option<Networks>> {
    let is_required = section.word("proxy_protocol", |word| match word {
        "off" => Some(false),
        "required" => Some(true),
        _ => None,
    });
    let networks = section.networks("proxy_networks");
    let (is_required, networks) = (is_required?, networks?);
    match (is_required, networks.is_empty()) {
        (true, true) => Err(section.flawed(
            "proxy_networks",
            Flaw::new(
                "must name the load balancer where listener.proxy_protocol = \"required\"",
                "write proxy_networks = [\"10.0.0.0/28\"], the addresses that the balancer connects from",
            ),
        )),
        (false, false) => Err(section.flawed(
            "proxy_networks",
            Flaw::new(
                "has no effect where listener.proxy_protocol = \"off\"",
                "set listener.proxy_protocol = \"required\", or remove the networks",
            ),
        )),
        (true, false) => Ok(Some(networks)),
        (false, true) => Ok(None),
    }
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

fn tls(reader: &mut Reader<'_>) -> Read<Tls> {
    let section = &mut reader.section("tls");
    let certificate = section.path("certificate");
    let key = section.path("key");
    let minimum_version = section.word("minimum_version", |word| match word {
        "1.2" => Some(TlsVersion::V1_2),
        "1.3" => Some(TlsVersion::V1_3),
        _ => None,
    });
    let files = match (certificate, key) {
        (Ok(certificate), Ok(key)) => server_files(section, certificate, key),
        (Err(reported), _) | (_, Err(reported)) => Err(reported),
    };
    let clients = clients(&mut reader.section("tls.clients"));
    let (certificate, key, may_generate) = files?;
    Ok(Tls { certificate, key, may_generate, minimum_version: minimum_version?, clients: clients? })
}

/// The server's certificate and key must be there, unless both are the defaults and neither was made yet.
fn server_files(section: &mut Section<'_, '_>, certificate: PathBuf, key: PathBuf) -> Read<(PathBuf, PathBuf, bool)> {
    let default = |path: &str| keys::find(path).and_then(|key| key.default).map(PathBuf::from);
    let may_generate =
        Some(&certificate) == default("tls.certificate").as_ref() && Some(&key) == default("tls.key").as_ref();
    if may_generate && !certificate.exists() && !key.exists() {
        return Ok((certificate, key, true));
    }
    let certificate = section.must_be_readable("certificate", &certificate);
    let key = section.must_be_private("key", &key);
    Ok((certificate?, key?, may_generate))
}

fn clients(section: &mut Section<'_, '_>) -> Read<TlsClients> {
    let mode = section.word("mode", |word| match word {
        "off" => Some(ClientMode::Off),
        "observe" => Some(ClientMode::Observe),
        "required" => Some(ClientMode::Required),
        _ => None,
    });
    let authorities = section.readable_files("authorities");
    let revocations = section.readable_files("revocations");
    let names = section.texts("names", client_name);
    let fingerprints = section.texts("fingerprints", fingerprint);
    let clients = TlsClients {
        mode: mode?,
        authorities: authorities?,
        revocations: revocations?,
        names: names?,
        fingerprints: fingerprints?,
    };
    if clients.mode == ClientMode::Off {
        let given = [
            ("authorities", clients.authorities.is_empty()),
            ("revocations", clients.revocations.is_empty()),
            ("names", clients.names.is_empty()),
            ("fingerprints", clients.fingerprints.is_empty()),
        ];
        let mut refused = Ok(());
        for (name, _) in given.into_iter().filter(|(_, is_empty)| !is_empty) {
            refused = Err(section.flawed(
                name,
                Flaw::new(
                    "has no effect where tls.clients.mode = \"off\"",
                    format!("set tls.clients.mode = \"required\", or remove the {name}"),
                ),
            ));
        }
        refused?;
    } else if clients.authorities.is_empty() {
        // Names and fingerprints narrow down whom the authorities vouch for; alone they would trust any chain.
        let mode = if clients.mode == ClientMode::Observe { "observe" } else { "required" };
        return Err(section.flawed(
            "authorities",
            Flaw::new(
                format!("must name at least one file where tls.clients.mode = \"{mode}\""),
                "write authorities = [\"certs/clients-ca.pem\"], the authority that signs the callers' certificates",
            ),
        ));
    }
    Ok(clients)
}

/// Kept in lower case: DNS names are compared without regard to case.
fn client_name(text: &str) -> Result<String, Flaw> {
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

fn sender(section: &mut Section<'_, '_>) -> Read<Sender> {
    let path_secrets = section.secrets("path_secret", |text| {
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
    });
    let networks = section.networks("networks");
    let confirm = section.word("confirm", |word| match word {
        "off" => Some(false),
        "api" => Some(true),
        _ => None,
    });
    Ok(Sender { path_secrets: path_secrets?, networks: networks?, confirm: confirm? })
}

fn inbox(section: &mut Section<'_, '_>) -> Read<Inbox> {
    let store = section.text("url", store);
    let retention = section.duration("retention");
    let max_waiting = section.integer("max_waiting");
    let min_free_disk = section.size("min_free_disk");
    let refused = section.integer("refused");
    Ok(Inbox {
        store: store?,
        retention: retention?,
        max_waiting: max_waiting?,
        min_free_disk: min_free_disk?,
        refused: refused?,
    })
}

fn store(text: &str) -> Result<Store, Flaw> {
    const HINT: &str = "write \"sqlite:data/inbox.db\" or \"sqlite:/var/lib/linxo-webhook/inbox.db\"";
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        return Err(Flaw::new("names PostgreSQL, which is not available in this version", HINT));
    }
    let Some(path) = text.strip_prefix("sqlite:") else {
        return Err(Flaw::new("must begin with `sqlite:`", HINT));
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') {
        return Err(Flaw::new("does not name a file", HINT));
    }
    if path.starts_with(':') || path.contains('?') {
        return Err(Flaw::new("must be the plain path of a file: an event that was answered has to be on disk", HINT));
    }
    Ok(Store::Sqlite(path.into()))
}

fn linxo(reader: &mut Reader<'_>) -> Read<Linxo> {
    let section = &mut reader.section("linxo");
    let api = section.text("api", urls::base);
    let auth = section.text("auth", urls::base);
    let version = section.word("version", |word| match word {
        "v2.1" => Some(ApiVersion::V2_1),
        "v3" => Some(ApiVersion::V3),
        _ => None,
    });
    if let (Ok(api), Ok(version)) = (&api, version) {
        same_version(section, api, version);
    }
    let client_id = section.optional_text("client_id");
    let client_secret = section.secret("client_secret", header_safe);
    let token_body = section.word("token_body", |word| match word {
        "json" => Some(TokenBody::Json),
        "form" => Some(TokenBody::Form),
        "basic" => Some(TokenBody::Basic),
        _ => None,
    });
    let scope = section.text("scope", |text| Ok(text.to_owned()));
    let provider = section.optional_text("provider");
    let connection_parameter = section.text("connection_parameter", parameter);
    let page_limit = section.integer("page_limit");
    let page_concurrency = section.integer("page_concurrency");
    let reread = section.word("reread", |word| match word {
        "doubt" => Some(Reread::Doubt),
        "always" => Some(Reread::Always),
        _ => None,
    });
    let max_requests = section.integer("max_requests");
    let rate = section.integer("rate").map(NonZeroU32::new);
    let max_accounts = section.integer("max_accounts");
    let max_size = section.size("max_size");
    let timeout = section.duration("timeout");
    let list_timeout = section.duration("list_timeout");
    let retry_for = section.duration("retry_for");
    let authorities = section.readable_files("authorities");
    let has_own_roots = section.is_given("authorities");
    for (name, url) in [("api", &api), ("auth", &auth)] {
        if !has_own_roots && url.as_ref().is_ok_and(|url| urls::is_private(url)) {
            let hint = "the vendor is on the public internet; for a double of your own, name its authority in linxo.authorities";
            section.flawed(name, Flaw::new("is an address of a private network", hint));
        }
    }

    let users = users::read(&mut reader.section("linxo.users"));
    let section = &mut reader.section("linxo");
    let (client_id, client_secret) = if matches!(users, Ok(Users::Client(_) | Users::Password(_))) {
        let flaw = || {
            Flaw::new(
                "is required",
                "take it from the vendor's console, or remove [linxo]: truncated events are then parked",
            )
        };
        let id = client_id.and_then(|id| id.ok_or_else(|| section.flawed("client_id", flaw())));
        let secret = client_secret.and_then(|secret| secret.ok_or_else(|| section.flawed("client_secret", flaw())));
        (id.map(Some), secret.map(Some))
    } else {
        (client_id, client_secret)
    };
    Ok(Linxo {
        api: api?,
        auth: auth?,
        version: version?,
        client_id: client_id?,
        client_secret: client_secret?,
        token_body: token_body?,
        scope: scope?,
        provider: provider?,
        connection_parameter: connection_parameter?,
        page_limit: page_limit?,
        page_concurrency: page_concurrency?,
        reread: reread?,
        max_requests: max_requests?,
        rate: rate?,
        max_accounts: max_accounts?,
        max_size: max_size?,
        timeout: timeout?,
        list_timeout: list_timeout?,
        retry_for: retry_for?,
        authorities: authorities?,
        users: users?,
    })
}

/// A base URL that ends with one version while the shapes of the other are expected would fail at every call.
fn same_version(section: &mut Section<'_, '_>, api: &str, version: ApiVersion) {
    let (expected, other) = match version {
        ApiVersion::V2_1 => ("v2.1", "v3"),
        ApiVersion::V3 => ("v3", "v2.1"),
    };
    if api.rsplit('/').next() == Some(other) {
        let hint = format!("end linxo.api with /{expected}, or set linxo.version = \"{other}\"");
        section.flawed("version", Flaw::new(format!("is not the version that linxo.api ends with ({other})"), hint));
    }
}

/// Secrets that travel in a header or a token request.
pub(super) fn header_safe(text: &str) -> Result<(), Flaw> {
    if text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(Flaw::new(
            "has spaces, line ends or characters outside of ASCII",
            "write the secret alone, without quotation marks or a name before it",
        ))
    }
}

fn parameter(text: &str) -> Result<String, Flaw> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err("may have letters, digits, `_`, `-`, `.` and brackets only".into())
    }
}

fn admin(section: &mut Section<'_, '_>) -> Read<Option<Admin>> {
    let address = section.address_or_off("address");
    let token = section.secret("token", header_safe);
    let (Some(address), token) = (address?, token?) else { return Ok(None) };
    if token.is_none() && !address.ip().is_loopback() {
        return Err(section.flawed(
            "address",
            Flaw::new(
                "can be reached from other machines, but there is no admin.token",
                "set admin.token, or listen on 127.0.0.1",
            ),
        ));
    }
    Ok(Some(Admin { address, token }))
}

fn log(section: &mut Section<'_, '_>) -> Read<Log> {
    let format = section.word("format", |word| match word {
        "json" => Some(LogFormat::Json),
        "text" => Some(LogFormat::Text),
        _ => None,
    });
    let level = section.word("level", |word| match word {
        "error" => Some(Level::ERROR),
        "warn" => Some(Level::WARN),
        "info" => Some(Level::INFO),
        "debug" => Some(Level::DEBUG),
        "trace" => Some(Level::TRACE),
        _ => None,
    });
    Ok(Log { format: format?, level: level? })
}
