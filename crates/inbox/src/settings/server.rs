//! The URL of an inbox on PostgreSQL: [`settings::postgres`] reads it, and the tables stand in a schema of their own unless it names
//! another.

use settings::{
    Flaw,
    postgres::{self, Words},
};
use std::fmt;
use tokio_postgres::Config;

/// The schema of the tables, where the URL names none.
const SCHEMA: &str = "linxo_webhook";
/// What the schema of the data keys is called behind the name of the inbox's.
const KEYS: &str = "_keys";
/// How the keys beside the URL are called.
const WORDS: Words = Words {
    password: "URLs end up in logs; write inbox.password = { file = \"secrets/postgres\" }",
    authorities: "inbox.authorities",
    schema,
};

/// PostgreSQL, and the inbox in it, or its data keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    url: postgres::Server,
    schema: String,
}

impl Server {
    /// Hosts, user, database, as the library wants them. Without a password.
    pub(crate) const fn config(&self) -> &Config {
        self.url.config()
    }

    /// The schema that holds the tables: a plain name that needs no quotation marks.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Whether the way there is encrypted, and the server's certificate is checked.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.url.is_encrypted()
    }

    /// Reads the URL of an inbox.
    pub(super) fn parse(text: &str) -> Result<Self, Flaw> {
        Self::parse_at(text, SCHEMA.to_owned())
    }

    /// Reads the URL of data keys that have a database of their own.
    pub(super) fn parse_keys(text: &str) -> Result<Self, Flaw> {
        Self::parse_at(text, format!("{SCHEMA}{KEYS}"))
    }

    fn parse_at(text: &str, schema: String) -> Result<Self, Flaw> {
        let url = postgres::Server::parse_in(text, &WORDS)?;
        let schema = url.schema().map_or(schema, str::to_owned);
        Ok(Self { url, schema })
    }

    /// Where the data keys of this inbox are, unless somebody says where else.
    pub(super) fn keys(&self) -> Self {
        Self { url: self.url.clone(), schema: format!("{}{KEYS}", self.schema) }
    }

    /// Whether both name the same tables.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.config() == other.config() && self.schema == other.schema
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

fn schema(name: &str) -> Result<String, Flaw> {
    postgres::name(name).map_err(|_not_plain| {
        Flaw::new(
            "has a schema that is no plain name",
            "take lower-case letters, digits and `_`, at most 63, such as schema=linxo_webhook; `pg_` is PostgreSQL's own",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use tokio_postgres::config::TargetSessionAttrs;

    #[rstest]
    #[case("postgres://u@db.internal/inbox", true)]
    #[case("postgresql://u@db.internal/inbox?sslmode=verify-full", true)]
    #[case("postgres://u@a.internal:5433,b.internal:5434/inbox", true)]
    #[case("postgres://u@localhost/inbox", true)]
    #[case("postgres://u@localhost/inbox?sslmode=disable", false)]
    #[case("postgres://u@127.0.0.9:5433/inbox?sslmode=disable&schema=other", false)]
    #[case("postgres://u@[::1]/inbox?sslmode=disable", false)]
    #[case("postgres://u@%2Fvar%2Frun%2Fpostgresql/inbox", false)]
    #[case("postgres:///inbox?host=/var/run/postgresql&user=u", false)]
    fn what_a_url_means(#[case] text: &str, #[case] is_encrypted: bool) {
        let server = Server::parse(text).unwrap();
        assert_eq!((server.is_encrypted(), server.to_string().as_str()), (is_encrypted, text));
        assert_eq!(server.config().get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        let schema = if text.contains("schema=") { "other" } else { "linxo_webhook" };
        assert_eq!(server.schema(), schema);
    }

    #[test]
    fn keys_have_a_schema_of_their_own() {
        let inbox = Server::parse("postgres://u@h/d?schema=bank").unwrap();
        assert_eq!(inbox.keys().schema(), "bank_keys");
        assert!(!inbox.keys().is_same(&inbox));
        assert_eq!(Server::parse_keys("postgres://u@h/d").unwrap().schema(), "linxo_webhook_keys");
        assert!(Server::parse_keys("postgres://u@h/d?schema=bank").unwrap().is_same(&inbox));
    }

    #[rstest]
    #[case("postgres://u:canary@h/d", "holds a password")]
    #[case("postgres://u@h/d?password=canary", "holds a password")]
    #[case("postgres://u@h/d?sslmode=require", "has an sslmode that does not tell the server from an impostor")]
    #[case("postgres://u@h/d?sslmode=canary", "has an sslmode that is not known")]
    #[case("postgres://u@h/d?sslmode=disable", "has sslmode=disable with a host that is not this machine")]
    #[case("postgres://u@localhost,h/d?sslmode=disable", "has sslmode=disable with a host that is not this machine")]
    #[case(
        "postgres://u@169.254.169.254/d",
        "names a host that is a link-local address, as the metadata services of clouds have"
    )]
    #[case("postgres://u@h,%2Frun/d", "names sockets and other hosts")]
    #[case("postgres://u@h:1,h:2,h:3:canary/d", "is not a URL of PostgreSQL")]
    #[case("postgres://h/d", "names no user")]
    #[case("postgres://u@/d", "names no host")]
    #[case("postgres://u@h", "names no database")]
    #[case("postgres://u@h/d?options=-c%20x", "has the parameter options, which is not known here")]
    #[case("postgres://u@h/d?schema=Pg\"", "has a schema that is no plain name")]
    #[case("postgres://u@h/d?schema=pg_x", "has a schema that is no plain name")]
    fn what_a_url_must_not_say(#[case] text: &str, #[case] reason: &str) {
        let flaw = Server::parse(text).unwrap_err();
        assert_eq!(flaw.reason, reason);
        let told = format!("{} {}", flaw.reason, flaw.hint.unwrap_or_default());
        assert!(!told.contains("canary"), "{told}");
    }
}
