//! What it means that an exchange with the endpoint failed before there was an answer: always worth another try.
//!
//! The words name the phase that failed, and hold no address and no URL, which may hold credentials.

use super::client::CONNECT;
use crate::{
    fault::{source, words},
    sink::Failure,
};
use std::{error::Error as StdError, io, time::Duration};

/// Says what happened; `timeout` is that of the whole attempt.
pub(super) fn explain(error: &reqwest::Error, timeout: Duration) -> Failure {
    Failure::transient(if error.is_timeout() && error.is_connect() {
        format!("could not connect within {:?}", CONNECT.min(timeout))
    } else if error.is_timeout() {
        format!("timed out after {timeout:?}")
    } else if error.is_connect() {
        format!("could not connect: {}", cause(error))
    } else {
        format!("the connection broke before the answer came: {}", cause(error))
    })
}

/// Why a connection could not be made or broke.
fn cause(error: &reqwest::Error) -> String {
    if let Some(words) = words(error) {
        return words;
    }
    match source::<io::Error>(error).map(io::Error::kind) {
        _ if error.is_connect() && chain_says(error, "dns error") => "the host name could not be resolved".to_owned(),
        Some(kind) => kind.to_string(),
        None if chain_says(error, "connection closed before message completed") => "connection closed".to_owned(),
        None => "not an HTTP exchange".to_owned(),
    }
}

/// Whether an error or one of its sources has this text; for the library's errors that have no type of their own.
fn chain_says(error: &(dyn StdError + 'static), text: &str) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(text) {
            return true;
        }
        next = error.source();
    }
    false
}
