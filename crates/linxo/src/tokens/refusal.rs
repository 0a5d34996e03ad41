//! A refused request for a token.

use crate::error::{Error, Peer};

/// What a refusal said.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) peer: Peer,
    pub(super) status: u16,
    pub(super) code: Option<String>,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Credentials { peer: refusal.peer, status: refusal.status, code: refusal.code }
    }
}

/// A 4xx to a request for a token concerns the credentials, whatever its number: never the user's connections.
pub(super) fn of_token(error: Error) -> Error {
    match error {
        Error::Status { status: 408 | 409 | 423 | 425 | 429, .. } => error,
        Error::Status { peer, status: status @ 400..500, code, .. } => Error::Credentials { peer, status, code },
        _ => error,
    }
}
