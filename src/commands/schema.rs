//! `schema`: prints a JSON Schema (2020-12), for editors, pipelines and those who read our deliveries.
//!
//! The schema of the configuration is made from the declarations of its sections. Those of events and deliveries are documents under
//! `docs/schema/`: they say what readers may rely on, which is less than what we happen to accept. Tests hold them
//! against the samples.

use super::{Failure, Global};
use crate::config;
use serde_json::{Map, Value};
use std::io::Write;

const EVENT: &str = include_str!("../../docs/schema/event.json");
const DELIVERY: &str = include_str!("../../docs/schema/delivery.json");

/// Options of `schema`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to describe
    #[arg(value_enum)]
    pub of: Subject,
}

/// What there is a schema of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// The configuration file
    Config,
    /// An event as the vendor sends it
    Event,
    /// A delivery as sinks other than HTTP write it
    Delivery,
}

/// Prints the schema.
///
/// # Errors
/// 70 when the output cannot be written.
pub fn run(args: &Args, _global: &Global) -> Result<(), Failure> {
    let text = text(args.of).map_err(|error| Failure::from_error(&error))?;
    writeln!(anstream::stdout(), "{text}")?;
    Ok(())
}

/// The schema as indented JSON; complete in itself.
fn text(of: Subject) -> Result<String, serde_json::Error> {
    let schema = match of {
        Subject::Config => config::schema(),
        Subject::Event => serde_json::from_str(EVENT)?,
        Subject::Delivery => {
            // The event's schema comes along as an embedded resource, found by its `$id`.
            let mut delivery: Map<String, Value> = serde_json::from_str(DELIVERY)?;
            let event = serde_json::from_str::<Value>(EVENT)?;
            delivery.insert("$defs".to_owned(), Map::from_iter([("event".to_owned(), event)]).into());
            delivery.into()
        }
    };
    serde_json::to_string_pretty(&schema)
}

#[cfg(test)]
mod tests;
