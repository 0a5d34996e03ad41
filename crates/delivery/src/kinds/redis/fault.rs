//! What it means that Redis did not take an entry, with what a person can do.

use super::settings::Settings;
use crate::{
    broker::could_not_connect,
    sink::{Failure, FailureKind},
};
use ::redis::RedisError;
use base::text::printable;

/// Why there is no connection.
pub(super) fn of_connecting(error: &RedisError, settings: &Settings) -> Failure {
    match error.code() {
        Some("WRONGPASS" | "NOAUTH") => no_login(settings),
        _ if error.kind() == ::redis::ErrorKind::AuthenticationFailed => no_login(settings),
        Some(code) => of_answer(code, &words(error), settings),
        None => could_not_connect(error),
    }
}

fn no_login(settings: &Settings) -> Failure {
    let with = match (&settings.user, &settings.password) {
        (Some(_), _) => "`user` and `password`",
        (None, Some(_)) => "`password`",
        (None, None) => "`password`, which is not configured",
    };
    Failure::transient(format!("the server refused to log the sink in: check {with}"))
}

/// Why an entry was not appended.
pub(super) fn of_appending(error: &RedisError, settings: &Settings) -> Failure {
    match error.code() {
        Some(code) => of_answer(code, &words(error), settings),
        None if error.is_timeout() => late(settings),
        None => broke(),
    }
}

/// It was not answered in time.
pub(super) fn late(settings: &Settings) -> Failure {
    Failure::transient(format!("no answer came within {:?}: the server hangs or is slow", settings.timeout))
}

/// The connection is gone.
pub(super) fn broke() -> Failure {
    Failure::transient("the connection broke before the server answered")
}

fn words(error: &RedisError) -> String {
    printable(error.detail().unwrap_or_default())
}

/// What an error of the server means, by its first word.
fn of_answer(code: &str, words: &str, settings: &Settings) -> Failure {
    let key = settings.stream.to_string();
    match code {
        "WRONGPASS" | "NOAUTH" => no_login(settings),
        "NOPERM" => refused(
            403,
            format!("the server does not let this user append to {key:?}: allow XADD and the key ({words})"),
        ),
        "WRONGTYPE" => refused(
            409,
            format!("the key {key:?} holds something else than a stream: choose another key, or remove it"),
        ),
        "MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT" => refused(
            421,
            "the server is part of a cluster, which this sink does not speak to: name a single server".to_owned(),
        ),
        "READONLY" => Failure::transient("the server is a replica that takes no writes: name the primary"),
        "OOM" => Failure::transient("the server has no memory left (maxmemory): make room, or raise it"),
        "MISCONF" => Failure::transient(format!("the server cannot write to its disk: make room there ({words})")),
        "LOADING" => Failure::transient("the server is still reading its data after a start"),
        _ => Failure::transient(format!("the server did not take the entry: {} {words}", printable(code))),
    }
}

fn refused(status: u16, reason: String) -> Failure {
    Failure::new(FailureKind::Refused { status: Some(status) }, reason)
}
