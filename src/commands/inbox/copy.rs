//! `copy`: moves an inbox between a SQLite file and PostgreSQL, while nobody uses either.

use super::progress::Bar;
use crate::commands::{
    Failure, Global,
    guest::{failure, note},
};
use clap::Args as ClapArgs;
use inbox::{
    settings::Store,
    transfer::{Progress, Transferred, transfer},
};
use std::str::FromStr as _;

/// From where to where.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Args {
    /// The inbox to copy, as `inbox.url` names it; it stays as it is
    #[arg(long, value_name = "URL")]
    from: String,
    /// Where the copy is made: a file that is not there, or a schema without an inbox
    #[arg(long, value_name = "URL")]
    to: String,
}

/// Copies, and compares both afterwards. Called again after it was cut short, it goes on.
pub(super) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let config = global.load()?;
    let [from, to] = [("--from", &args.from), ("--to", &args.to)].map(|(name, url)| {
        Store::from_str(url).map_err(|flaw| {
            let hint = flaw.hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
            Failure::usage(format_args!("{name} {}{hint}", flaw.reason))
        })
    });
    let (from, to) = (from?, to?);
    let bar = Bar::new(0);
    let tell = |progress: Progress| {
        let what = if progress.is_verified { "compared" } else { "copied" };
        bar.of(progress.of);
        bar.at(progress.rows, &format!("{} {what}", progress.table));
    };
    let copied = Box::pin(transfer(&config.inbox, (&from, &to), tell)).await;
    drop(bar);
    let Transferred { tables, keys } = copied.map_err(|error| failure(&error))?;
    for (table, rows) in tables.iter().filter(|(_, rows)| *rows > 0) {
        note(format_args!("{table}: {rows} rows, the same on both sides"));
    }
    if let Some(place) = keys {
        note(format_args!("its data keys are in {place}, encrypted with the same inbox.key: it stays as it is"));
    }
    note(format_args!(
        "copied: set inbox.url = \"{to}\", and start the service; keep {from} until you are sure, and never start a service on it again"
    ));
    Ok(())
}
