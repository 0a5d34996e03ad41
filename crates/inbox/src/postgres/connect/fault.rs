//! What an error of PostgreSQL, or of the way to it, means.
//!
//! The server's own words are kept, without its details: those may repeat what was to be stored.

use crate::{Error, Identity};
use std::{error::Error as _, io};
use tokio_postgres::error::SqlState;

/// Why there is no connection, or none that may be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server cannot be reached, does not answer, starts, stops, or takes no writes. It may be there in a moment.
    #[error("{0}")]
    Away(String),
    /// Somebody must change something: the configuration, or the server. The text says what.
    #[error("{0}")]
    Unfit(String),
    /// The server holds no inbox.
    #[error(
        "PostgreSQL has no inbox in the schema {schema}, or its user may not see it: run `linxo-webhook inbox init` once, or grant the user \
         USAGE on the schema"
    )]
    Empty {
        /// Where it was looked for.
        schema: String,
    },
    /// The server holds another inbox than the one that this process knows.
    #[error(
        "PostgreSQL holds another inbox ({found:?}) than before ({expected:?}): it was restored or failed over to a server without \
         the old data; bring the old data back; or, to go on with the other inbox, move a journal of the old one away and restart this service"
    )]
    Foreign {
        /// The inbox that this process knows.
        expected: Identity,
        /// The one that is there.
        found: Identity,
    },
    /// The pool was closed.
    #[error("the inbox is closed")]
    Closed,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Closed => Self::Closed,
            Fault::Away(_) => Self::Away(Box::new(fault)),
            Fault::Unfit(_) | Fault::Empty { .. } | Fault::Foreign { .. } => {
                Self::Unusable { problem: fault.to_string() }
            }
        }
    }
}

/// What the server said: its code and its sentence, nothing of what it was sent.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
struct Said {
    code: String,
    message: String,
}

/// An error of a statement.
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let code = error.code().cloned();
        let source: crate::Source = match error.as_db_error() {
            Some(said) => Box::new(Said { code: said.code().code().to_owned(), message: said.message().to_owned() }),
            None => Box::new(error),
        };
        match code {
            Some(code) if is_full(&code) => Self::Full(Some(source)),
            Some(code) if !is_away_code(&code) => Self::Store(source),
            // Without a code it is the way that failed.
            _ => Self::Away(source),
        }
    }
}

/// Whether the server is away, rather than unwilling.
fn is_away(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => is_away_code(code),
        None => error.is_closed() || is_of_the_network(error),
    }
}

/// Why a connection could not be made.
impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let said = error.as_db_error().map_or_else(|| base::error::chain(&error), |said| said.message().to_owned());
        if is_away(&error) {
            return Self::Away(format!("PostgreSQL cannot be reached: {said}"));
        }
        let code = error.code();
        let remedy = match code {
            Some(code) if *code == SqlState::INVALID_PASSWORD => "give the right inbox.password",
            Some(code) if code.code().starts_with("28") => "let the user of inbox.url in, in pg_hba.conf of the server",
            Some(code) if *code == SqlState::UNDEFINED_DATABASE => "make the database first, such as with `createdb`",
            Some(code) if *code == SqlState::PROTOCOL_VIOLATION => {
                "a pooler such as PgBouncer seems to stand in between: name PostgreSQL itself in inbox.url"
            }
            Some(_) => "mend what PostgreSQL says",
            None => "look at the certificate of the server, at inbox.authorities, and at inbox.password",
        };
        Self::Unfit(format!("{said}; {remedy}"))
    }
}

/// Codes after which the same may work in a moment, on another connection (PostgreSQL manual, appendix A).
fn is_away_code(code: &SqlState) -> bool {
    // Class 08: connection exceptions, but for what a pooler says of the protocol.
    (code.code().starts_with("08") && *code != SqlState::PROTOCOL_VIOLATION)
        || [
            &SqlState::ADMIN_SHUTDOWN,
            &SqlState::CRASH_SHUTDOWN,
            &SqlState::CANNOT_CONNECT_NOW,
            &SqlState::TOO_MANY_CONNECTIONS,
            &SqlState::OUT_OF_MEMORY,
            &SqlState::READ_ONLY_SQL_TRANSACTION,
            &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            &SqlState::QUERY_CANCELED,
        ]
        .contains(&code)
}

fn is_full(code: &SqlState) -> bool {
    *code == SqlState::DISK_FULL
}

/// Whether the cause is one of the network, and none of TLS.
fn is_of_the_network(error: &tokio_postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_none();
        }
        cause = inner.source();
    }
    false
}
