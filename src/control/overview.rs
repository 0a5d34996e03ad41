//! What is told of an inbox as a whole: its work by stage, its room, and what went wrong last.

use super::report::{SinkReport, word};
use base::{
    clock::{self, Timestamp},
    neighbour::Standing,
};
use inbox::{Failure, Receiver, ReceiverView, Stage, StageCounts, Stats};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A receiver that is not heard of for so long counts as gone.
const SILENT: Duration = Duration::from_mins(3);

/// An inbox as a whole. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// When it was so.
    pub at: String,
    /// Whether a service runs on it.
    pub is_running: bool,
    /// Whether the store tells what it holds; if not, because it cannot be used now, its figures are 0 and mean nothing. A service of an
    /// earlier version does not say.
    #[serde(default = "yes")]
    pub is_known: bool,
    /// Work that waits, over all stages.
    pub waiting: u64,
    /// Work under way.
    pub leased: u64,
    /// Work that is parked.
    pub parked: u64,
    /// When the oldest unfinished entry was accepted.
    pub oldest_waiting: Option<String>,
    /// When the newest entry was accepted.
    pub last_accepted: Option<String>,
    /// Accepted events that are in the journal and not yet in the store; not known without a service.
    pub unfolded: Option<u64>,
    /// Whether they cannot be moved at present; not known without a service.
    pub is_fold_stuck: Option<bool>,
    /// Bytes of the store on disk, log included.
    pub size_bytes: u64,
    /// Bytes of it that are used again before it grows.
    pub reusable_bytes: u64,
    /// Bytes of the journal; not known without a service.
    pub journal_bytes: Option<u64>,
    /// Bytes that are free on the disk.
    pub free_bytes: Option<u64>,
    /// Every fetch, the configured sinks, then sinks that are not configured any more and have work.
    pub stages: Vec<Work>,
    /// Who takes events into the inbox. A service of an earlier version does not say.
    #[serde(default)]
    pub receivers: Vec<Taker>,
}

const fn yes() -> bool {
    true
}

/// A receiver of an inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taker {
    /// Of its machine or pod.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// When it was started.
    pub since: String,
    /// When it was last heard of: once a minute, as a rule.
    pub seen: String,
    /// `ready`, `not_ready`; `silent`: not heard of for three minutes.
    pub state: String,
    /// Why it is not ready, or was not when it was last heard of.
    pub reason: Option<String>,
}

impl Taker {
    fn of(view: &ReceiverView, now: Timestamp) -> Self {
        let ReceiverView { receiver: Receiver { name, version, since, obstacle, .. }, seen } = view;
        let state = match obstacle {
            _ if now.since(*seen) > SILENT => "silent",
            Some(_) => "not_ready",
            None => "ready",
        };
        Self {
            name: name.clone(),
            version: version.clone(),
            since: text(*since),
            seen: text(*seen),
            state: state.to_owned(),
            reason: obstacle.clone(),
        }
    }
}

/// The work of one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// `completion`, or the sink's name.
    pub stage: String,
    /// `fetch`; of a sink its type; `None` for a sink that is not configured.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// As of a sink ([`SinkReport::state`]); `unconfigured` for a sink that is not configured, and for fetches without a `[linxo]`
    /// section.
    pub state: String,
    /// Since when it is paused or down; until when it rests.
    pub since: Option<String>,
    /// Since when everything failed; not known without a service.
    pub failing_since: Option<String>,
    /// Work that waits, without what is under way.
    pub waiting: u64,
    /// Work under way.
    pub leased: u64,
    /// Work that is parked.
    pub parked: u64,
    /// When the oldest entry was accepted that is to be worked on here.
    pub oldest_waiting: Option<String>,
    /// Its age.
    pub oldest_waiting_seconds: Option<u64>,
    /// The last attempt that failed.
    pub last_error: Option<LastError>,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When.
    pub at: String,
    /// Of which entry.
    pub seq: i64,
    /// What happened, in one sentence.
    pub reason: String,
}

/// What the figures of an inbox say. `api`: how the vendor's API stands; `None` without a service. `is_completing`: whether
/// there is a `[linxo]` section.
#[must_use]
pub fn overview(
    stats: &Stats,
    sinks: &[SinkReport],
    receivers: &[ReceiverView],
    api: Option<(Standing, Option<Timestamp>)>,
    (is_running, is_completing): (bool, bool),
) -> Overview {
    let now = clock::now();
    let rest = Rest { stats, sinks, api, is_completing, now };
    let total = |count: fn(&StageCounts) -> u64| stats.stages.iter().map(|(_, counts)| count(counts)).sum();
    Overview {
        at: text(now),
        is_running,
        // It has every fetch and every sink otherwise.
        is_known: !stats.stages.is_empty(),
        waiting: total(|counts| counts.waiting),
        leased: total(|counts| counts.leased),
        parked: total(|counts| counts.parked),
        oldest_waiting: stats.oldest_unfinished.map(text),
        last_accepted: stats.last_accepted.map(text),
        unfolded: is_running.then_some(stats.unfolded),
        is_fold_stuck: is_running.then_some(stats.is_fold_stuck),
        size_bytes: stats.size_bytes,
        reusable_bytes: stats.reusable_bytes,
        journal_bytes: is_running.then_some(stats.journal_bytes),
        free_bytes: stats.free_bytes,
        stages: stats.stages.iter().map(|(stage, counts)| rest.work(stage, *counts)).collect(),
        receivers: receivers.iter().map(|view| Taker::of(view, now)).collect(),
    }
}

/// What the work of a stage is told from, beside its counts.
struct Rest<'a> {
    stats: &'a Stats,
    sinks: &'a [SinkReport],
    api: Option<(Standing, Option<Timestamp>)>,
    is_completing: bool,
    now: Timestamp,
}

impl Rest<'_> {
    fn work(&self, stage: &Stage, counts: StageCounts) -> Work {
        let Stands { kind, state, since, failing_since } = self.standing(stage);
        let oldest = of(&self.stats.oldest_by_stage, stage);
        let error = of(&self.stats.failures, stage);
        Work {
            stage: stage.as_str().to_owned(),
            kind,
            state,
            since,
            failing_since,
            waiting: counts.waiting,
            leased: counts.leased,
            parked: counts.parked,
            oldest_waiting: oldest.map(|at| text(*at)),
            oldest_waiting_seconds: oldest.map(|at| self.now.since(*at).as_secs()),
            last_error: error.map(|Failure { at, seq, reason }| LastError {
                at: text(*at),
                seq: seq.0,
                reason: reason.clone(),
            }),
        }
    }

    fn standing(&self, stage: &Stage) -> Stands {
        let stands = |kind: Option<&str>, word: &str| Stands {
            kind: kind.map(str::to_owned),
            state: word.to_owned(),
            since: None,
            failing_since: None,
        };
        match (stage, self.api) {
            (Stage::Fetch(_), _) if !self.is_completing => stands(Some("fetch"), "unconfigured"),
            (Stage::Fetch(_), None) => stands(Some("fetch"), "stopped"),
            (Stage::Fetch(_), Some((standing, failing))) => {
                let (found, since) = word(standing);
                Stands { since: since.map(text), failing_since: failing.map(text), ..stands(Some("fetch"), found) }
            }
            (Stage::Deliver(name), _) => match self.sinks.iter().find(|sink| sink.name == name.as_str()) {
                Some(sink) => Stands {
                    since: sink.since.clone(),
                    failing_since: sink.failing_since.clone(),
                    ..stands(Some(&sink.kind), &sink.state)
                },
                None => stands(None, "unconfigured"),
            },
        }
    }
}

/// How the other side of a stage stands.
struct Stands {
    kind: Option<String>,
    state: String,
    since: Option<String>,
    failing_since: Option<String>,
}

fn of<'a, T>(list: &'a [(Stage, T)], stage: &Stage) -> Option<&'a T> {
    list.iter().find(|(found, _)| found == stage).map(|(_, value)| value)
}

/// RFC 3339; milliseconds where the year cannot be written.
fn text(at: Timestamp) -> String {
    at.to_rfc3339().unwrap_or_else(|| at.as_millis().to_string())
}
