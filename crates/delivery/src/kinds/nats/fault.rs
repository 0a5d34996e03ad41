//! What it means that NATS did not take a message, with what a person can do.

use super::settings::Settings;
use crate::{
    broker::could_not_connect,
    sink::{Failure, FailureKind},
};
use async_nats::{
    ConnectError, ConnectErrorKind,
    jetstream::{self, context::PublishError},
};
use base::text::printable;
use std::error::Error as StdError;

/// Why there is no connection.
pub(super) fn of_connecting(error: &ConnectError, settings: &Settings) -> Failure {
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            let with = if settings.user.is_some() {
                "`user` and `password`"
            } else if settings.token.is_some() {
                "`token`"
            } else if settings.nkey.is_some() {
                "`nkey`"
            } else if settings.credentials.is_some() {
                "`credentials`"
            } else {
                "what the server asks for: no credentials are configured"
            };
            Failure::transient(format!("the server refused to log the sink in: check {with}"))
        }
        ConnectErrorKind::TimedOut => {
            Failure::transient(format!("could not connect within {:?}: the server hangs", settings.timeout))
        }
        _ => could_not_connect(error),
    }
}

/// A subject that the sink may not publish on.
pub(super) fn forbidden(settings: &Settings) -> Failure {
    refused(
        403,
        format!(
            "the server does not let this user publish on {:?}: allow it in the user's permissions",
            settings.subject.to_string()
        ),
    )
}

/// Acknowledgements have no way back.
pub(super) fn no_inbox() -> Failure {
    refused(
        403,
        "the server does not let this user subscribe to \"_INBOX.>\", so no acknowledgement can come: allow it in the \
         user's permissions"
            .to_owned(),
    )
}

/// No stream took the message.
pub(super) fn no_stream(settings: &Settings) -> Failure {
    let subject = settings.subject.to_string();
    refused(404, format!("no JetStream stream takes the subject {subject:?}: make one, or add the subject to one"))
}

/// Nobody answers for streams.
pub(super) fn no_jetstream() -> Failure {
    Failure::transient(
        "no stream answered: JetStream is off on this server or for this account, or the stream has no leader just now",
    )
}

/// It was not acknowledged in time.
pub(super) fn late(settings: &Settings) -> Failure {
    let timeout = settings.timeout;
    Failure::transient(format!(
        "no acknowledgement came within {timeout:?}: the server hangs or is slow, or the stream has lost its quorum"
    ))
}

/// The stream answered, and did not take it; or something else that the library tells of.
pub(super) fn of_publishing(error: &PublishError) -> Failure {
    let Some(said) = crate::fault::source::<jetstream::Error>(error as &(dyn StdError + 'static)) else {
        return Failure::transient(format!("the message could not be published: {}", base::error::chain(error)));
    };
    let code = said.error_code().0;
    let by_class = (400..=499).contains(&said.code()).then(|| u16::try_from(code).unwrap_or(400));
    let (refused_with, remedy) = match code {
        // The server says of an account that has used up what it may (10002) that the request was bad.
        10_002 | 10_023 | 10_028 | 10_047 => {
            (None, "; the server or the account has no storage left: make room, or raise the limit")
        }
        10_054 => (Some(413), "; raise the stream's max_msg_size, then replay the entry"),
        10_077 => (by_class, "; the stream is full and discards what is new: make room, or raise its limits"),
        10_039 | 10_076 => (by_class, "; enable JetStream for this account"),
        _ => (by_class, ""),
    };
    let reason = format!("the stream did not take the message: {}{remedy}", printable(&said.to_string()));
    match refused_with {
        Some(status) => refused(status, reason),
        None => Failure::transient(reason),
    }
}

fn refused(status: u16, reason: String) -> Failure {
    Failure::new(FailureKind::Refused { status: Some(status) }, reason)
}
