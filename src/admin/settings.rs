//! What the admin listener is told: `[admin]`, `[[admin.token]]`, `[admin.tls]`.

use crate::receive::settings::{ClientMode, ClientUsage, Tls, TlsClients, TlsVersion, client_name};
use base::secret::Secret;
use settings::{
    At, Flaw, Read, address_or_off, authorities, certificate, files, header_safe, optional, private_file, secret,
    section, sections_or_secret, text, texts, word, words,
};
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// Who has the token of a configuration with one token alone.
const ALONE: &str = "admin";
/// Fewer characters of a token could be guessed.
const SHORTEST_TOKEN: usize = 16;
/// Longest name of a person or a program.
const LONGEST_NAME: usize = 64;

section! {
    /// The listener for those who run the service.
    pub struct Admin {
        /// Address of health, metrics, the page and its API, or "off". Port 0 picks a free one.
        pub address: Option<SocketAddr> = address_or_off().default("127.0.0.1:9090"),
        /// Bearer token that reads /metrics, and nothing else. Every other token, and every accepted client certificate, reads
        /// /metrics too. Where there is none of them, everybody who reaches the listener does.
        pub metrics_token: Option<Secret> =
            secret(header_safe).example("{ file = \"secrets/metrics\" }").optional(),
        /// Names by which browsers reach the page, beside IP addresses and the names of this machine. A request that calls the
        /// listener by another name is refused: a page of a stranger could have it point here.
        pub hosts: Vec<String> = texts(host),
        /// Who may use the page and the API.
        pub tokens("token"): Vec<Token> = sections_or_secret("name", header_safe, Token::alone),
        /// TLS of the admin listener.
        pub tls: Option<AdminTls> = optional("the admin listener speaks plain HTTP"),
    }
    check(at) {
        token_for_others(at, &address, &metrics_token, &tokens, &tls);
        different_tokens(at, &tokens);
    }
}

section! {
    /// Tokens for the page and its API, each of a person or a program. Without any, and without client certificates
    /// (admin.tls), both are closed. Instead of a list, the section above may have one secret alone, as `token = { file = "..." }`:
    /// that is a token of the name "admin" which may read.
    pub struct Token {
        /// Whose token this is. The audit trail says this name.
        pub name: String = text(person).example("\"anna\""),
        /// What the token is good for.
        pub may: May = word().default("read"),
        /// The token itself, at least 16 characters (`openssl rand -hex 24`).
        pub secret: Secret = secret(token).example("{ env = \"ANNA_TOKEN\" }"),
    }
}

words! {
    /// What somebody may do, the least first.
    pub enum May {
        /// Look at everything but bank data.
        Read = "read",
        /// Also replay, park, pause and resume, and reveal bank data. Each is written to the audit trail.
        Act = "act",
    }
}

section! {
    /// TLS of the admin listener: its certificate, and the client certificates by which callers are known without a token.
    pub struct AdminTls {
        /// PEM file of the server certificate with its full chain.
        pub certificate: PathBuf = certificate().example("\"certs/admin.pem\""),
        /// PEM file of the private key of the certificate.
        pub key: PathBuf = private_file().example("\"certs/admin.key\""),
        /// Lowest TLS version that is offered.
        pub minimum_version: TlsVersion = word().default("1.2"),
        /// PEM files of the authorities that sign client certificates. Needs `read` or `act`.
        pub authorities: Vec<PathBuf> = authorities(),
        /// PEM files of revocation lists. Where any is given, a certificate that no list covers is refused.
        pub revocations: Vec<PathBuf> = files(),
        /// DNS names of client certificates, as they stand in the subject alternative names, that may read.
        pub read: Vec<String> = texts(client_name),
        /// DNS names of client certificates that may also act. The audit trail says the name.
        pub act: Vec<String> = texts(client_name),
    }
    check(at) {
        names_and_authorities(at, &authorities, &revocations, &read, &act);
    }
}

impl Token {
    /// The token of a configuration with one alone. Such tokens were given out to read figures, so this one changes nothing.
    fn alone(secret: Secret) -> Self {
        Self { name: ALONE.to_owned(), may: May::Read, secret }
    }
}

impl Admin {
    /// Whether callers can be told apart, so that not everybody reads the figures.
    #[must_use]
    pub fn knows_somebody(&self) -> bool {
        self.metrics_token.is_some()
            || !self.tokens.is_empty()
            || self.tls.as_ref().is_some_and(AdminTls::knows_clients)
    }

    /// The files of its certificates.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.tls.iter().flat_map(|tls| {
            let own = [&tls.certificate, &tls.key];
            own.into_iter().chain(&tls.authorities).chain(&tls.revocations).map(PathBuf::as_path)
        })
    }
}

impl AdminTls {
    /// Whether callers can be known by their certificates.
    #[must_use]
    pub fn knows_clients(&self) -> bool {
        !self.authorities.is_empty()
    }

    /// As the public listener's settings are.
    pub(super) fn as_tls(&self) -> Tls {
        Tls {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            may_generate: false,
            minimum_version: self.minimum_version,
            clients: TlsClients {
                mode: ClientMode::Off,
                authorities: self.authorities.clone(),
                revocations: self.revocations.clone(),
                usage: ClientUsage::Client,
                names: self.read.iter().chain(&self.act).cloned().collect(),
                subjects: Vec::new(),
                fingerprints: Vec::new(),
            },
        }
    }
}

fn token_for_others(
    at: &mut At<'_, '_>,
    address: &Read<Option<SocketAddr>>,
    metrics_token: &Read<Option<Secret>>,
    tokens: &Read<Vec<Token>>,
    tls: &Read<Option<AdminTls>>,
) {
    let (Ok(Some(address)), Ok(None), Ok(tokens), Ok(tls)) = (address, metrics_token, tokens, tls) else { return };
    let is_known = !tokens.is_empty() || tls.as_ref().is_some_and(AdminTls::knows_clients);
    if !is_known && !address.ip().is_loopback() {
        let reason = "can be reached from other machines, but there is no admin.token";
        at.flawed("address", Flaw::new(reason, "set admin.token, or listen on 127.0.0.1"));
    }
}

/// One secret cannot stand for two people: the audit trail would name the wrong one.
fn different_tokens(at: &mut At<'_, '_>, tokens: &Read<Vec<Token>>) {
    let Ok(tokens) = tokens else { return };
    for (index, token) in tokens.iter().enumerate() {
        if let Some(other) = tokens.iter().take(index).find(|other| other.secret == token.secret) {
            let reason = format!("has the secret of {:?} for {:?} too", other.name, token.name);
            at.flawed("token", Flaw::new(reason, "give each token a secret of its own"));
        }
    }
}

fn names_and_authorities(
    at: &mut At<'_, '_>,
    authorities: &Read<Vec<PathBuf>>,
    revocations: &Read<Vec<PathBuf>>,
    read: &Read<Vec<String>>,
    act: &Read<Vec<String>>,
) {
    let (Ok(authorities), Ok(revocations), Ok(read), Ok(act)) = (authorities, revocations, read, act) else { return };
    let are_named = !read.is_empty() || !act.is_empty();
    if authorities.is_empty() {
        let given = [("revocations", !revocations.is_empty()), ("read", !read.is_empty()), ("act", !act.is_empty())];
        for (name, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
            let hint = "write authorities = [\"certs/operators-ca.pem\"], the authority that signs client certificates";
            at.flawed(name, Flaw::new("has no effect without admin.tls.authorities", hint));
        }
    } else if !are_named {
        let hint = "say in admin.tls.read or admin.tls.act which names may come in";
        at.flawed("authorities", Flaw::new("vouches for callers of whom none is named", hint));
    }
    for name in act.iter().filter(|name| read.contains(name)) {
        at.flawed("act", Flaw::new(format!("holds {name:?}, which is in read too"), "leave the name in one of both"));
    }
}

fn person(text: &str) -> Result<String, Flaw> {
    if text.trim() != text || text.chars().any(char::is_control) || text.chars().count() > LONGEST_NAME {
        return Err(Flaw::new("has spaces around it, or is longer than 64 characters", "write a short name"));
    }
    Ok(text.to_owned())
}

fn token(text: &str) -> Result<(), Flaw> {
    header_safe(text)?;
    if text.len() < SHORTEST_TOKEN {
        let reason = format!("is shorter than {SHORTEST_TOKEN} characters");
        return Err(Flaw::new(reason, "take the output of `openssl rand -hex 24`"));
    }
    Ok(())
}

/// A name alone, in lower case: the port does not matter.
fn host(text: &str) -> Result<String, Flaw> {
    let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if !is_name || text.parse::<IpAddr>().is_ok() {
        return Err(Flaw::new(
            "is not a host name",
            "write names such as \"linxo.internal\", without scheme and port; IP addresses need not be listed",
        ));
    }
    Ok(text.to_ascii_lowercase())
}
