//! `init`: makes the tables of an inbox on PostgreSQL.
//!
//! `serve` never does that: a receiver that is led to a server without the old data must not begin a new inbox there by itself.

use crate::commands::{
    Failure, Global,
    guest::{failure, note},
};

/// Makes the tables and the identity where they are missing; may be called again.
pub(super) async fn run(global: &Global) -> Result<(), Failure> {
    let config = global.load()?;
    match Box::pin(inbox::init(&config.inbox)).await.map_err(|error| failure(&error))? {
        None => note(format_args!("the inbox is a SQLite file, which the first start makes: there is nothing to do")),
        Some((identity, true)) => note(format_args!("made the inbox {identity:?}: start the receivers")),
        Some((identity, false)) => {
            note(format_args!("the inbox {identity:?} is there already, and its tables are up to date"));
        }
    }
    Ok(())
}
