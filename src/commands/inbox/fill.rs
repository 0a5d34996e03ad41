//! `replay --sink NAME`, with nothing else but a span of time: gives a sink what it has not had, from what the inbox still holds.
//!
//! What is parked at the sink goes back in line. Then entries are looked at in the order of their numbers, and one that has no part for
//! the sink gets one; what waits or is done there stays as it is. All of it is done in batches, each a commit of its own, so that the
//! service beside gets to write in between. The command may be cut short and run again, and running it twice makes nothing twice.
//!
//! What it must not do is fill the inbox up: above `inbox.max_waiting` events from Linxo are refused. So it waits while half of that
//! waits for the sink, and gives up when the sink takes nothing meanwhile.

use super::{
    progress::Bar,
    selection::{EVERY, Selection},
};
use crate::{
    commands::{
        Failure,
        acts::{Unnoted, noted},
        guest::{failure, note},
    },
    config::Config,
    story::{
        change::{Change, change},
        find::bounded,
    },
};
use base::text::printable;
use clap::Args;
use inbox::{Fill, Filter, Inbox, Seq, SinkName, State};
use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};
use tokio::time;

/// Entries looked at in one commit.
const BATCH: usize = 500;
/// So many are given to the sink between two looks at what waits for it, or fewer where fewer may wait.
const LOOK_AFTER: u64 = 20_000;
/// Between two looks while it waits for the sink.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the sink may take nothing before the command gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// How a sink is filled.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct How {
    /// With --sink and a span of time: only say how many entries the sink would get
    #[arg(long)]
    dry_run: bool,
    /// With --sink and a span of time: give the sink at most so many entries a second, such as 100/s
    #[arg(long, value_name = "COUNT/s", value_parser = rate)]
    rate: Option<NonZeroU32>,
}

impl How {
    /// Refuses options that only mean something where a sink is filled.
    pub(super) fn check(self, selection: &Selection) -> Result<(), Failure> {
        let is_given = self.dry_run || self.rate.is_some();
        if is_given && selection.fills().is_none() {
            return Err(Failure::usage(
                "--dry-run and --rate are for filling a sink with what it has not had\nhint: name the sink and a span of time alone: \
                 `inbox replay --sink NAME --since 30d`",
            ));
        }
        Ok(())
    }
}

/// `100/s`, or `100`.
fn rate(text: &str) -> Result<NonZeroU32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    number.parse().map_err(|_no_number| "expected a number of entries a second, such as 100/s".to_owned())
}

/// Gives a sink what it has not had.
pub(super) async fn run(config: &Config, inbox: &Inbox, selection: &Selection, how: How) -> Result<(), Failure> {
    let Some(sink) = selection.fills() else { return Ok(()) };
    if config.sinks.iter().all(|known| known.name != sink) {
        return Err(Failure::no_sink(config, sink.as_str()));
    }
    let mut filling = Filling { config, inbox, sink: &sink, how, parked: 0, given: 0, had: 0, looked_at: None };
    if how.dry_run {
        filling.all(selection).await?;
        filling.tell("would go back in line", "would get one; nothing was changed");
        return Ok(());
    }
    let mut which = selection.words();
    if let Some(rate) = how.rate {
        which.extend([" --rate ", &rate.to_string(), "/s"]);
    }
    let filled = noted(&*inbox.audit, ("replay", which), Unnoted::Stops, async || {
        let filled = filling.all(selection).await;
        let changed = filling.parked + filling.given;
        Ok(((filled, filling), changed))
    });
    let (filled, filling) = filled.await?;
    filling.tell("went back in line", "got one");
    filled
}

/// A sink that is being filled.
struct Filling<'a> {
    config: &'a Config,
    inbox: &'a Inbox,
    sink: &'a SinkName,
    how: How,
    /// What was parked there and goes back in line.
    parked: u64,
    /// What had no part for it and gets one.
    given: u64,
    /// What has a part for it, which may be parked.
    had: u64,
    /// What was given when it was last looked what waits for the sink.
    looked_at: Option<u64>,
}

impl Filling<'_> {
    /// What is parked goes first: it is what the sink lacks in lines that it has begun.
    async fn all(&mut self, selection: &Selection) -> Result<(), Failure> {
        let limit = selection.limit.unwrap_or(EVERY) as u64;
        self.resume(selection, limit).await?;
        self.fill(selection, limit - self.parked).await
    }

    /// Puts back in line what is parked at the sink; in a trial only counts it.
    async fn resume(&mut self, selection: &Selection, limit: u64) -> Result<(), Failure> {
        let wanted = Filter { state: Some(State::Parked), ..selection.filter() };
        let desk = &*self.inbox.desk;
        if !self.how.dry_run {
            let resumed = change(desk, wanted, limit, Change::Replay).await;
            self.parked = resumed.map_err(|error| failure(&error))?.changed;
            return Ok(());
        }
        let mut filter = bounded(desk, wanted).await.map_err(|error| failure(&error))?;
        while self.parked < limit {
            let most = BATCH.min(usize::try_from(limit - self.parked).unwrap_or(BATCH));
            let found = desk.list(&filter, most).await.map_err(|error| failure(&error))?;
            let Some(last) = found.last() else { break };
            filter.before = Some(last.seq);
            self.parked += found.len() as u64;
        }
        Ok(())
    }

    /// Says what became of the entries.
    fn tell(&self, resumed: &str, given: &str) {
        let Self { sink, parked, had, .. } = self;
        let others = had.saturating_sub(*parked);
        let entries = if self.given == 1 { "entry" } else { "entries" };
        note(format_args!(
            "of the sink {sink}, {parked} parked and {resumed}; {others} waiting or done and left as they are; {} {entries} had no part \
             for it and {given}",
            self.given
        ));
    }

    /// Goes through the entries, and gives the sink what it never had.
    async fn fill(&mut self, selection: &Selection, limit: u64) -> Result<(), Failure> {
        let wanted = Filter { sink: None, ..selection.filter() };
        let mut filter = bounded(&*self.inbox.desk, wanted).await.map_err(|error| failure(&error))?;
        let span = self.inbox.desk.between(filter.accepted).await.map_err(|error| failure(&error))?;
        let (Seq(first), Seq(last)) = span.unwrap_or((Seq(1), Seq(0)));
        let bar = Bar::new(last.saturating_sub(first).saturating_add(1).max(0).unsigned_abs());
        let began = Instant::now();
        while self.given < limit {
            self.wait_for_room(&bar).await?;
            let fill = if self.how.dry_run { Fill::Trial } else { Fill::Real };
            let batch = self.inbox.desk.fill(self.sink, &filter, self.batch(limit), fill).await;
            let batch = batch.map_err(|error| failure(&error))?.ok_or_else(|| unseen(self.sink.as_str()))?;
            self.given += batch.changed;
            self.had += batch.left;
            let Some(Seq(at)) = batch.last else { break };
            filter.after = batch.last;
            bar.at(at.saturating_sub(first).saturating_add(1).max(0).unsigned_abs(), &format!("{} given", self.given));
            if let Some(rate) = self.how.rate.filter(|_| !self.how.dry_run) {
                let due = Duration::from_secs(self.given) / rate.get();
                time::sleep(due.saturating_sub(began.elapsed())).await;
            }
        }
        Ok(())
    }

    /// Entries for the next commit: no more than the rate allows in a second.
    fn batch(&self, limit: u64) -> usize {
        let most = self.how.rate.map_or(BATCH, |rate| BATCH.min(usize::try_from(rate.get()).unwrap_or(BATCH)));
        most.min(usize::try_from(limit - self.given).unwrap_or(BATCH))
    }

    /// Waits until few enough entries wait for the sink.
    async fn wait_for_room(&mut self, bar: &Bar) -> Result<(), Failure> {
        let most = (self.config.inbox.max_waiting / 2).max(1);
        let step = LOOK_AFTER.min(most / 4).max(1);
        if self.how.dry_run || self.looked_at.is_some_and(|looked_at| self.given < looked_at + step) {
            return Ok(());
        }
        let (mut fewest, mut since) = (u64::MAX, Instant::now());
        loop {
            let stats = self.inbox.upkeep.stats().await.map_err(|error| failure(&error))?;
            let counts = stats.of_sink(self.sink);
            let waiting = counts.waiting + counts.leased;
            if waiting < most {
                self.looked_at = Some(self.given);
                return Ok(());
            }
            if waiting < fewest {
                (fewest, since) = (waiting, Instant::now());
            } else if since.elapsed() >= PATIENCE {
                return Err(Failure::not_now(format_args!(
                    "{} entries were given to the sink {}; {waiting} wait for it, and it takes none: more could fill the inbox up \
                     (inbox.max_waiting)\nhint: see `sink ls`, and run the same command again when the sink has taken them",
                    self.given, self.sink
                )));
            }
            bar.say(&format!("{waiting} wait for the sink"));
            time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The service gives a sink its number, at its start.
pub(super) fn unseen(sink: &str) -> Failure {
    Failure::not_now(format_args!(
        "the inbox has never seen the sink {}\nhint: start the service with it first, then run the same command again",
        printable(sink)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_of_entries_a_second() {
        for (text, entries) in [("1", 1), ("100/s", 100)] {
            assert_eq!(rate(text).unwrap().get(), entries);
        }
        for text in ["", "0", "0/s", "-1", "1.5/s", "10/m", "s"] {
            assert!(rate(text).unwrap_err().ends_with("such as 100/s"), "{text}");
        }
    }
}
