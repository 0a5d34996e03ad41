//! What an error of PostgreSQL, or of the way to it, means for a delivery.
//!
//! The rule: what concerns one row is that event's own trouble, and is refused. Everything else (a missing table, a wrong
//! password, a full disk, a standby) concerns every event alike and mends itself or is mended by somebody, so it is passing: events
//! wait in their order, and none is parked before `retry_for`. The words are ours, with the server's code. The server's own words may
//! repeat what was to be stored.

use crate::{
    fault::words,
    sink::{Failure, FailureKind},
};
use base::error::chain;
use std::error::Error as StdError;
use tokio_postgres::{Error, error::SqlState};

/// What is known of a code, and what to do.
const KNOWN: [(SqlState, &str); 19] = [
    (SqlState::INVALID_PASSWORD, "it refuses the password: correct the sink's `password`"),
    (
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        "it does not let the user of the url in: see to pg_hba.conf and the role",
    ),
    (SqlState::INVALID_CATALOG_NAME, "the database of the url is missing: make it first"),
    (SqlState::INVALID_SCHEMA_NAME, "the schema of the url is missing: `linxo-webhook sink init` makes it"),
    (SqlState::UNDEFINED_TABLE, "a table is missing: `linxo-webhook sink init` makes it"),
    (
        SqlState::UNDEFINED_COLUMN,
        "a table has other columns than this sink fills: compare it with what `linxo-webhook sink init --print` writes",
    ),
    (
        SqlState::DATATYPE_MISMATCH,
        "a column has another type than this sink fills: compare it with what `linxo-webhook sink init --print` writes",
    ),
    (
        SqlState::INVALID_COLUMN_REFERENCE,
        "a table has no unique key to recognise repeats by: compare it with what `linxo-webhook sink init --print` writes",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "the user of the url lacks a right: grant it SELECT, INSERT and UPDATE on the tables, and USAGE on their schema",
    ),
    (SqlState::READ_ONLY_SQL_TRANSACTION, "it takes no writes: name the primary in the url, not a standby"),
    (SqlState::DISK_FULL, "its disk is full: make room there"),
    (SqlState::OUT_OF_MEMORY, "it is out of memory"),
    (
        SqlState::TOO_MANY_CONNECTIONS,
        "it has too many connections: raise max_connections, or lower the sink's `connections`",
    ),
    (SqlState::ADMIN_SHUTDOWN, "it is being shut down, or somebody ended the session"),
    (SqlState::CRASH_SHUTDOWN, "it crashed and starts again"),
    (SqlState::CANNOT_CONNECT_NOW, "it is starting or stopping"),
    (SqlState::QUERY_CANCELED, "the statement was cancelled, by somebody or by statement_timeout"),
    (SqlState::LOCK_NOT_AVAILABLE, "somebody holds a lock on a table for too long"),
    (SqlState::T_R_DEADLOCK_DETECTED, "another writer was in the way"),
];

/// Classes of codes that are about what a row holds (PostgreSQL manual, appendix A): data exceptions, constraints, limits of the
/// program. `P0001` is what a trigger raises.
const OF_A_ROW: [&str; 4] = ["22", "23", "54", "P0001"];

/// Whether the error is about what one of the rows holds, and not about the server.
pub(super) fn is_of_a_row(error: &Error) -> bool {
    error.code().is_some_and(|code| OF_A_ROW.iter().any(|class| code.code().starts_with(class)))
}

/// Codes of what cannot be stored at all. Of others the table is the cause.
const OF_A_TEXT: [SqlState; 3] =
    [SqlState::CHARACTER_NOT_IN_REPERTOIRE, SqlState::UNTRANSLATABLE_CHARACTER, SqlState::INVALID_TEXT_REPRESENTATION];

/// The failure that an error of a statement is.
pub(super) fn explain(error: &Error) -> Failure {
    let Some(code) = error.code() else {
        return Failure::transient(format!("the connection broke: {}", network(error)));
    };
    let number = code.code();
    if is_of_a_row(error) {
        let cause = if OF_A_TEXT.contains(code) {
            "an id of it has a character that PostgreSQL cannot store, such as U+0000, or its columns have other types than this sink \
             fills; another kind of sink can take it"
        } else {
            "see to constraints and triggers of the table, then replay the entry"
        };
        let reason = format!("PostgreSQL refuses the row of this event (SQLSTATE {number}): {cause}");
        return Failure::new(FailureKind::Refused { status: None }, reason);
    }
    let known = KNOWN.iter().find(|(known, _)| known == code).map(|(_, told)| *told);
    Failure::transient(format!("PostgreSQL: {} (SQLSTATE {number})", known.unwrap_or("it cannot do that")))
}

/// The failure that an error on the way to a connection is.
pub(super) fn unreachable(error: &Error) -> Failure {
    if error.code().is_some() {
        return explain(error);
    }
    Failure::transient(format!("could not connect: {}", network(error)))
}

/// What the network, TLS or the library says. Nothing that was sent is in it.
fn network(error: &Error) -> String {
    let error: &(dyn StdError + 'static) = error;
    if let Some(words) = words(error) {
        return words;
    }
    let text = chain(error);
    for (part, told) in [
        ("password missing", "it asks for a password: set the sink's `password`"),
        ("does not support TLS", "it does not offer TLS: switch `ssl` on there"),
        ("does not allow writes", "it takes no writes: name the primary in the url, not a standby"),
        ("connection closed", "connection closed"),
    ] {
        if text.contains(part) {
            return told.to_owned();
        }
    }
    text
}
