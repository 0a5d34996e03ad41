//! What it means that RabbitMQ did not take a message, with what a person can do. Numbers are the reply codes of AMQP 0-9-1.

use super::settings::Settings;
use crate::{
    broker::could_not_connect,
    sink::{Failure, FailureKind},
};
use base::text::printable;
use lapin::{Error, ErrorKind, message::BasicReturnMessage};

/// The broker's own words and number, where it said something.
fn said(error: &Error) -> Option<(u16, String)> {
    match error.kind() {
        ErrorKind::ProtocolError(said) => Some((said.get_id(), printable(said.get_message().as_str()))),
        _ => None,
    }
}

/// Why there is no connection.
pub(super) fn of_connecting(error: &Error, settings: &Settings) -> Failure {
    let vhost = &settings.vhost;
    match (said(error), error.kind()) {
        (Some((403, _)), _) => {
            let with = match (&settings.user, &settings.tls.certificate) {
                (None, Some(_)) => "the user that `certificate` names",
                (None, None) => "`user` and `password`, which are not configured",
                (Some(_), _) => "`user` and `password`",
            };
            Failure::transient(format!("the broker refused to log the sink in: check {with}"))
        }
        (Some((530, words)), _) => Failure::transient(format!(
            "the broker does not let the sink use the virtual host {vhost:?}: make it, or give the user permissions there \
             ({words})"
        )),
        (Some((code, words)), _) => Failure::transient(format!("the broker closed the connection: {code} {words}")),
        (None, ErrorKind::IOError(error)) => could_not_connect(&**error),
        (None, _) => could_not_connect(error),
    }
}

/// The connection is gone.
pub(super) fn broke() -> Failure {
    Failure::transient("the connection broke before the message was confirmed")
}

/// A channel could not be opened.
pub(super) fn of_channel(error: &Error) -> Failure {
    match said(error) {
        Some((code, words)) => Failure::transient(format!("the broker closed the channel: {code} {words}")),
        None => broke(),
    }
}

/// The exchange is not there.
pub(super) fn of_exchange(error: &Error, settings: &Settings) -> Failure {
    match said(error) {
        Some((404, _)) => refused(
            404,
            format!(
                "there is no exchange {:?} in the virtual host {:?}: declare it, durable, and bind a queue to it",
                settings.exchange.to_string(),
                settings.vhost
            ),
        ),
        _ => of_channel(error),
    }
}

/// A message was not confirmed, because its channel or connection ended.
pub(super) fn of_publishing(error: &Error, settings: &Settings) -> Failure {
    let exchange = settings.exchange.to_string();
    match said(error) {
        Some((403, words)) => refused(
            403,
            format!(
                "the broker does not let this user publish on {exchange:?}: give it the permission to write ({words})"
            ),
        ),
        Some((404, _)) => of_exchange(error, settings),
        Some((406, words)) if words.contains("larger than") => refused(
            413,
            format!(
                "the event is too large for the broker: raise its max_message_size, then replay the entry ({words})"
            ),
        ),
        Some((code @ (405 | 406), words)) => {
            refused(code, format!("the broker did not take the message: {code} {words}"))
        }
        Some((code, words)) => Failure::transient(format!("the broker did not take the message: {code} {words}")),
        None => broke(),
    }
}

/// No queue took the message, so it came back.
pub(super) fn returned(message: &BasicReturnMessage, settings: &Settings) -> Failure {
    let (exchange, key) = (settings.exchange.to_string(), settings.routing_key.to_string());
    refused(
        message.reply_code,
        format!(
            "no queue takes what goes to the exchange {exchange:?} with the routing key {key:?}: bind one ({} {})",
            message.reply_code,
            printable(message.reply_text.as_str())
        ),
    )
}

/// The broker says that it did not keep the message.
pub(super) fn not_kept() -> Failure {
    Failure::transient(
        "the broker did not keep the message: a queue is full and rejects what is published, or could not write it",
    )
}

/// Publishers are held up.
pub(super) fn blocked() -> Failure {
    Failure::transient(
        "the broker takes nothing from publishers just now: its memory or its disk is short (an alarm is on), make room there",
    )
}

/// It was not confirmed in time.
pub(super) fn late(settings: &Settings) -> Failure {
    Failure::transient(format!(
        "no confirmation came within {:?}: the broker hangs or is slow, or a queue has lost its quorum",
        settings.timeout
    ))
}

fn refused(status: u16, reason: String) -> Failure {
    Failure::new(FailureKind::Refused { status: Some(status) }, reason)
}
