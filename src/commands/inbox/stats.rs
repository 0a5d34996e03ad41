//! `stats`: the inbox as a whole, for a first look.
//!
//! Asks the running service, which keeps the figures. Where none runs, they are counted in the inbox file.

use super::{output::emit, view::dash};
use crate::{
    commands::{
        Failure, Global,
        guest::{failure, note, open, unreachable},
        table::{plain, trimmed},
    },
    config::Config,
    control::{self, Client, LastError, Overview, Taker, Work},
    story::words::size,
};
use base::text::printable;
use std::fmt::Write;

/// Prints the overview.
pub(super) async fn stats(global: &Global, is_json: bool) -> Result<(), Failure> {
    let config = global.load()?;
    let service = Client::find(&control::path(&config.inbox)).map_err(|error| unreachable(&error))?;
    let overview = match service {
        Some(service) => service.overview().await.map_err(|error| unreachable(&error))?,
        None => stored(&config).await?,
    };
    show(&overview, is_json)
}

/// The overview, for people or for programs.
pub(super) fn show(overview: &Overview, is_json: bool) -> Result<(), Failure> {
    if !overview.is_known {
        note(format_args!(
            "the store cannot be used now, so nobody knows what it holds: the log of the service and `linxo-webhook check --online` say why"
        ));
    }
    if !is_json {
        return emit(page(overview).as_bytes()).map(drop);
    }
    let mut line = serde_json::to_vec(overview)
        .map_err(|error| Failure::ours(format_args!("the figures cannot be written as JSON: {error}")))?;
    line.push(b'\n');
    emit(&line).map(drop)
}

/// What the inbox file says.
async fn stored(config: &Config) -> Result<Overview, Failure> {
    let inbox = open(config).await?;
    let stats = inbox.upkeep.stats().await.map_err(|error| failure(&error))?;
    let paused = inbox.sinks.paused().await.map_err(|error| failure(&error))?;
    let receivers = inbox.receivers.receivers().await.map_err(|error| failure(&error))?;
    inbox.upkeep.close().await;
    note(format_args!("no service runs on this inbox: this is what the inbox holds"));
    let sinks = config.sinks.iter().map(|sink| {
        let since = paused.get(&sink.name).copied();
        control::report(&sink.name, sink.kind.word(), stats.of_sink(&sink.name), None, since)
    });
    let sinks: Vec<_> = sinks.collect();
    Ok(control::overview(&stats, &sinks, &receivers, None, (false, config.linxo.is_some())))
}

/// The overview for people.
fn page(overview: &Overview) -> String {
    let mut table = plain();
    table.set_header([
        "WORK",
        "STATE",
        "SINCE",
        "FAILING SINCE",
        "WAITING",
        "LEASED",
        "PARKED",
        "OLDEST",
        "LAST ERROR",
    ]);
    for work in &overview.stages {
        let Work { since, failing_since, oldest_waiting_seconds: oldest, last_error, .. } = work;
        table.add_row([
            printable(&work.stage),
            work.state.clone(),
            since.clone().unwrap_or_else(dash),
            failing_since.clone().unwrap_or_else(dash),
            work.waiting.to_string(),
            work.leased.to_string(),
            work.parked.to_string(),
            oldest.map_or_else(dash, age),
            last_error.as_ref().map_or_else(dash, error),
        ]);
    }
    let Overview { waiting, leased, parked, is_known, .. } = overview;
    let total = |count: &u64| if *is_known { count.to_string() } else { dash() };
    table.add_row(["total", "", "", "", &total(waiting), &total(leased), &total(parked), "", ""]);
    let mut text = trimmed(&table);
    text.push('\n');
    let receivers: String = overview.receivers.iter().map(receiver).collect::<Vec<_>>().join(", ");
    for (name, value) in [
        ("last accepted", overview.last_accepted.clone()),
        ("in the journal alone", overview.unfolded.map(|events| format!("{events} events"))),
        (
            "journal moves on",
            overview.is_fold_stuck.map(|stuck| if stuck { "no: see the log" } else { "yes" }.to_owned()),
        ),
        (
            "inbox file",
            is_known.then(|| {
                format!("{} ({} of it free for use)", size(overview.size_bytes), size(overview.reusable_bytes))
            }),
        ),
        ("journal", overview.journal_bytes.map(size)),
        ("free on the disk", overview.free_bytes.map(size)),
        ("receivers", Some(receivers).filter(|text| !text.is_empty())),
    ] {
        // Writing into a String does not fail.
        writeln!(text, "{name:<22}{}", value.unwrap_or_else(dash)).ok();
    }
    text
}

fn receiver(Taker { name, state, seen, .. }: &Taker) -> String {
    match state.as_str() {
        "silent" => format!("{} (not heard of since {seen})", printable(name)),
        state => format!("{} ({})", printable(name), state.replace('_', " ")),
    }
}

fn error(LastError { at, seq, reason }: &LastError) -> String {
    format!("{at} entry {seq}: {}", printable(reason))
}

/// Its two largest units.
fn age(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, name) in UNITS.into_iter().skip(first).take(2) {
        if rest >= unit || parts.is_empty() {
            parts.push(format!("{}{name}", rest / unit));
        }
        rest %= unit;
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let ages = [0, 59, 60, 61, 3_600, 3_665, 90_000, 1_000_000].map(age);
        assert_eq!(ages, ["0s", "59s", "1m", "1m 1s", "1h", "1h 1m", "1d 1h", "11d 13h"]);
    }
}
