//! The URL of a PostgreSQL: which servers, which database, whether the way there is encrypted.
//!
//! In: `postgres://user@host/database?sslmode=verify-full`. Out: a [`Server`] that can be connected to, or what is wrong with it
//! and what to write instead. A URL ends up in logs, so it may hold no password. `sslmode` is read here and not by the library,
//! whose words leave the server's certificate unchecked: absent means `verify-full`.

use crate::flaw::Flaw;
use base::outbound;
use std::{fmt, net::IpAddr};
use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

/// What may stand behind the `?`.
const PARAMETERS: &str = "sslmode, schema, application_name, host, port, user and dbname";
/// How the service introduces itself, as `pg_stat_activity` shows it.
const APPLICATION: &str = "linxo-webhook";
/// Bytes of a name that PostgreSQL keeps (NAMEDATALEN - 1).
const LONGEST_NAME: usize = 63;
const HINT: &str = "write \"postgres://user@host/database\"";

/// How those who read such a URL call what stands beside it, and what they say of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Where a password belongs, which the URL may not hold.
    pub password: &'static str,
    /// The key that names the authorities of the server's certificate.
    pub authorities: &'static str,
    /// Checks the schema.
    pub schema: fn(&str) -> Result<String, Flaw>,
}

impl Words {
    /// Those of a section that has its keys beside the URL.
    pub const BESIDE: Self = Self {
        password: "URLs end up in logs; write password = { file = \"secrets/postgres\" } beside it",
        authorities: "`authorities`",
        schema: name,
    };
}

/// PostgreSQL, and the schema in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// As it was given. It holds no password.
    text: String,
    config: Config,
    schema: Option<String>,
}

impl Server {
    /// Hosts, user, database, as the library wants them. Without a password.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The schema, where the URL names one: a plain name that needs no quotation marks.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// Whether the way there is encrypted, and the server's certificate is checked.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.config.get_ssl_mode() == SslMode::Require
    }

    /// Reads a URL, beside which its keys stand.
    ///
    /// # Errors
    /// As those of [`parse_in`](Self::parse_in).
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        Self::parse_in(text, &Words::BESIDE)
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without a piece of it that may be secret.
    pub fn parse_in(text: &str, words: &Words) -> Result<Self, Flaw> {
        let (start, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut sslmode, mut schema, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "sslmode" => sslmode = Some(value),
                "schema" => schema = Some(value),
                "password" => return Err(password(words)),
                "application_name" | "host" | "port" | "user" | "dbname" => rest.push(pair),
                _ => {
                    let reason = format!("has the parameter {}, which is not known here", base::text::printable(name));
                    return Err(Flaw::new(reason, format!("what may stand behind the `?` is {PARAMETERS}")));
                }
            }
        }
        let rest = if rest.is_empty() { start.to_owned() } else { format!("{start}?{}", rest.join("&")) };
        // The error may repeat a piece of the text, and that may be a password.
        let mut config: Config =
            rest.parse().map_err(|_untold: tokio_postgres::Error| Flaw::new("is not a URL of PostgreSQL", HINT))?;
        if config.get_password().is_some() {
            return Err(password(words));
        }
        for (part, is_there) in [
            ("user", config.get_user().is_some_and(|user| !user.is_empty())),
            ("host", !config.get_hosts().is_empty()),
            ("database", config.get_dbname().is_some_and(|name| !name.is_empty())),
        ] {
            if !is_there {
                return Err(Flaw::new(format!("names no {part}"), HINT));
            }
        }
        if config.get_ports().len() > 1 && config.get_ports().len() != config.get_hosts().len() {
            return Err(Flaw::new(
                "has another number of ports than of hosts",
                "give each host its port, or all the same one",
            ));
        }
        config.ssl_mode(encryption(config.get_hosts(), sslmode, words)?);
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION);
        }
        // Of several hosts only the one that takes writes is the right one.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self { text: text.to_owned(), config, schema: schema.map(words.schema).transpose()? })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

fn password(words: &Words) -> Flaw {
    Flaw::new("holds a password", words.password)
}

/// Whether the way to these hosts is encrypted.
fn encryption(hosts: &[Host], sslmode: Option<&str>, words: &Words) -> Result<SslMode, Flaw> {
    let sockets = hosts.iter().filter(|host| matches!(host, Host::Unix(_))).count();
    if sockets > 0 && sockets < hosts.len() {
        return Err(Flaw::new("names sockets and other hosts", "name one kind of them"));
    }
    for host in hosts {
        let address = if let Host::Tcp(name) = host { name.parse::<IpAddr>().ok() } else { None };
        if let Some(refusal) = address.and_then(outbound::refusal) {
            return Err(Flaw::new(format!("names a host that {refusal}"), "name the server that is meant"));
        }
    }
    let is_near = hosts.iter().all(is_loopback);
    match sslmode {
        // PostgreSQL has no TLS on sockets.
        None | Some("verify-full" | "disable") if sockets > 0 => Ok(SslMode::Disable),
        None | Some("verify-full") => Ok(SslMode::Require),
        Some("disable") if is_near => Ok(SslMode::Disable),
        Some("disable") => Err(Flaw::new(
            "has sslmode=disable with a host that is not this machine",
            "bank data goes there: remove it, which means verify-full; disable is only for localhost, 127.0.0.0/8, [::1] and sockets",
        )),
        Some("require" | "prefer" | "allow" | "verify-ca") => Err(Flaw::new(
            "has an sslmode that does not tell the server from an impostor",
            format!(
                "write sslmode=verify-full, and name the authority of the server's certificate in {}",
                words.authorities
            ),
        )),
        Some(_) => Err(Flaw::new("has an sslmode that is not known", "write sslmode=verify-full")),
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
        }
    }
}

/// A name that needs no quotation marks in SQL, such as that of a table.
///
/// # Errors
/// What it must consist of.
pub fn name(name: &str) -> Result<String, Flaw> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if is_plain && starts_well && name.len() <= LONGEST_NAME && !name.starts_with("pg_") {
        Ok(name.to_owned())
    } else {
        Err(Flaw::new(
            "has a name that is not plain",
            "take lower-case letters, digits and `_`, at most 63, such as \"linxo_webhook\"; `pg_` is PostgreSQL's own",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_means() {
        for (text, is_encrypted) in [
            ("postgres://u@db.internal/inbox", true),
            ("postgresql://u@db.internal/inbox?sslmode=verify-full", true),
            ("postgres://u@a.internal:5433,b.internal:5434/inbox", true),
            ("postgres://u@localhost/inbox", true),
            ("postgres://u@localhost/inbox?sslmode=disable", false),
            ("postgres://u@127.0.0.9:5433/inbox?sslmode=disable&schema=other", false),
            ("postgres://u@[::1]/inbox?sslmode=disable", false),
            ("postgres://u@%2Fvar%2Frun%2Fpostgresql/inbox", false),
            ("postgres:///inbox?host=/var/run/postgresql&user=u", false),
        ] {
            let server = Server::parse(text).unwrap();
            assert_eq!((server.is_encrypted(), server.to_string().as_str()), (is_encrypted, text));
            assert_eq!(server.config().get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
            assert_eq!(server.schema(), text.contains("schema=").then_some("other"));
        }
    }

    #[test]
    fn what_a_url_must_not_say() {
        for (text, reason) in [
            ("postgres://u:canary@h/d", "holds a password"),
            ("postgres://u@h/d?password=canary", "holds a password"),
            ("postgres://u@h/d?sslmode=require", "has an sslmode that does not tell the server from an impostor"),
            ("postgres://u@h/d?sslmode=canary", "has an sslmode that is not known"),
            ("postgres://u@h/d?sslmode=disable", "has sslmode=disable with a host that is not this machine"),
            ("postgres://u@localhost,h/d?sslmode=disable", "has sslmode=disable with a host that is not this machine"),
            (
                "postgres://u@169.254.169.254/d",
                "names a host that is a link-local address, as the metadata services of clouds have",
            ),
            ("postgres://u@h,%2Frun/d", "names sockets and other hosts"),
            ("postgres://u@h:1,h:2,h:3:canary/d", "is not a URL of PostgreSQL"),
            ("postgres://h/d", "names no user"),
            ("postgres://u@/d", "names no host"),
            ("postgres://u@h", "names no database"),
            ("postgres://u@h/d?options=-c%20x", "has the parameter options, which is not known here"),
            ("postgres://u@h/d?schema=Pg\"", "has a name that is not plain"),
            ("postgres://u@h/d?schema=pg_x", "has a name that is not plain"),
        ] {
            let flaw = Server::parse(text).unwrap_err();
            assert_eq!(flaw.reason, reason);
            let told = format!("{} {}", flaw.reason, flaw.hint.unwrap_or_default());
            assert!(!told.contains("canary"), "{told}");
        }
    }
}
