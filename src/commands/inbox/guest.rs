//! What every action of `inbox` needs: the store beside whoever owns it, words for its failures, a line for the person.

use crate::commands::{Failure, Global, chain};
use inbox::{Access, Error, Inbox, SinkName};
use std::io::{self, Write};

/// Opens the configured store as a guest: the server may be running.
pub(super) fn open(global: &Global) -> Result<Inbox, Failure> {
    let config = global.load()?;
    let sinks: Vec<SinkName> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    inbox::open(&config.inbox, &sinks, Access::Guest).map_err(|error| failure(&error))
}

pub(super) fn failure(error: &Error) -> Failure {
    let message = chain(error);
    match error {
        Error::Open { .. } => Failure::ours(message),
        _ => Failure::not_now(message),
    }
}

/// A line for the person at the terminal.
pub(super) fn note(text: std::fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stderr(), "{text}")
}
