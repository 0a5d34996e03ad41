//! What commands on the inbox need: the store beside whoever owns it, words for its failures, a line for the person.

use super::{Failure, chain};
use crate::config::Config;
use inbox::{Access, Error, Inbox, SinkName};
use std::io::{self, Write};

/// Opens the configured store as a guest: the server may be running.
pub(super) async fn open(config: &Config) -> Result<Inbox, Failure> {
    let sinks: Vec<SinkName> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    Box::pin(inbox::connect(&config.inbox, &sinks, Access::Guest)).await.map_err(|error| failure(&error))
}

/// Opens the configured store as the service does, where none is running.
pub(super) async fn open_alone(config: &Config) -> Result<Inbox, Failure> {
    let sinks: Vec<SinkName> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    Box::pin(inbox::connect(&config.inbox, &sinks, Access::Owner)).await.map_err(|error| failure(&error))
}

/// The store may be there, and well, in a moment; a seal that does not fit is a matter of the configuration.
pub(super) fn failure(error: &Error) -> Failure {
    match error {
        Error::Seal { .. } | Error::Unusable { .. } => Failure::configuration(chain(error)),
        _ => Failure::not_now(chain(error)),
    }
}

/// The running service may do it in a moment.
pub(super) fn unreachable(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::not_now(chain(error))
}

/// A line for the person at the terminal. Where nobody reads it, the command goes on.
pub(super) fn note(text: std::fmt::Arguments<'_>) {
    writeln!(io::stderr(), "{text}").unwrap_or_default();
}
