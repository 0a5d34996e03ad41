//! `move`: hands over what a sink has left behind that is not configured any more, as after it was renamed.
//!
//! What is parked is moved first, then what waits, each in the order of the entries: so what comes to the new sink keeps its order there,
//! and where that sink keeps strict order, what waits stays behind what is parked. Called again, it goes on where it was cut short.

use super::{fill::unseen, progress::Bar};
use crate::{
    commands::{
        Failure,
        acts::{Unnoted, noted},
        guest::{failure, note},
    },
    config::Config,
};
use base::text::printable;
use clap::Args as ClapArgs;
use inbox::{Filter, Inbox, SinkName, State};

/// Entries moved in one commit.
const BATCH: usize = 500;

/// From which sink to which.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Args {
    /// A sink that is not configured any more
    #[arg(long, value_name = "NAME")]
    from: String,
    /// The sink that its work goes to
    #[arg(long, value_name = "NAME")]
    to: String,
}

/// Moves it.
pub(super) async fn run(config: &Config, inbox: &Inbox, args: &Args) -> Result<(), Failure> {
    let (from, to) = (SinkName::new(args.from.as_str()), SinkName::new(args.to.as_str()));
    let is_configured = |name: &SinkName| config.sinks.iter().any(|sink| sink.name == *name);
    if is_configured(&from) {
        return Err(Failure::usage(format_args!(
            "the sink {from} is configured: its work is delivered there\nhint: `inbox move` is for what a sink left behind that was \
             renamed or removed; take it out of the configuration and restart the service first"
        )));
    }
    if !is_configured(&to) {
        return Err(Failure::no_sink(config, &args.to));
    }
    let of_old = Filter { sink: Some(from.clone()), ..Filter::default() };
    if inbox.desk.list(&of_old, 1).await.map_err(|error| failure(&error))?.is_empty() {
        return Err(Failure::usage(format_args!(
            "no entry has work for the sink {}\nhint: `inbox stats` names the sinks that left something behind",
            printable(&args.from)
        )));
    }
    let which = format!("--from {from} --to {to}");
    let moved = noted(&*inbox.audit, ("move", which), Unnoted::Stops, async || {
        let mut moved = 0;
        let ended = hand_over(inbox, &of_old, &to, &mut moved).await;
        Ok(((ended, moved), moved))
    });
    let (ended, moved) = moved.await?;
    let entries = if moved == 1 { "entry" } else { "entries" };
    note(format_args!("{moved} {entries} moved from the sink {from} to the sink {to}"));
    ended
}

async fn hand_over(inbox: &Inbox, of_old: &Filter, to: &SinkName, moved: &mut u64) -> Result<(), Failure> {
    let bar = Bar::new(0);
    // What was under way when its process ended stands first in its line.
    for state in [State::Parked, State::Leased, State::Waiting] {
        let mut filter = Filter { state: Some(state), ..of_old.clone() };
        let mut left = 0;
        loop {
            let batch = inbox.desk.hand_over(&filter, to, BATCH).await.map_err(|error| failure(&error))?;
            let batch = batch.ok_or_else(|| unseen(to.as_str()))?;
            *moved += batch.changed;
            left += batch.left;
            bar.of(*moved);
            bar.at(*moved, state.as_str());
            let Some(last) = batch.last else { break };
            filter.after = Some(last);
        }
        if left > 0 {
            return Err(Failure::not_now(format_args!(
                "{left} of its entries are under way\nhint: stop every service that still has that sink configured, wait a minute, and \
                 run the same command again"
            )));
        }
    }
    Ok(())
}
