//! What the person on call sees first: whether anything needs a look, and how everything stands.

#![expect(
    clippy::unused_self,
    clippy::trivially_copy_pass_by_ref,
    clippy::ref_option,
    reason = "templates call methods of what they show, with references to its fields"
)]

use super::{
    frame::{Frame, refused, time_or},
    html::html,
    plot::{Chart, chart},
    words::{ago, time},
};
use crate::{
    admin::{desk::Desk, problem::Problem},
    control::{Overview, Taker, Work},
    story::words::size,
};
use askama::Template;
use axum::{extract::State, response::Response};
use base::{
    clock::{self, Timestamp},
    text::printable,
};
use inbox::{EntryView, Filter, Minute, Span};
use std::{collections::BTreeMap, time::Duration};

/// Parked entries that are looked at for their causes.
const CAUSES: usize = 100;
const HOUR: Duration = Duration::from_hours(1);

#[derive(Template)]
#[template(path = "now.html")]
struct Now {
    frame: Frame,
    overview: Overview,
    /// What needs a person, the gravest first.
    troubles: Vec<Trouble>,
    hour: Minute,
    recent: Chart,
    causes: Vec<Cause>,
    are_cut: bool,
    looked: usize,
    certificates: Vec<Certificate>,
}

/// Something that needs a person.
struct Trouble {
    what: String,
    /// Where there is more about it.
    at: Option<String>,
    /// Whether events are held up or lost by it.
    is_grave: bool,
}

/// One of a listener.
struct Certificate {
    listener: &'static str,
    names: String,
    end: String,
    /// What is to be done about it.
    problem: Option<String>,
}

struct Cause {
    word: &'static str,
    count: usize,
    reason: String,
}

impl Now {
    /// How the whole looks: `good`, `warn`, `bad`.
    fn gravity(&self) -> &'static str {
        match self.troubles.first() {
            None => "good",
            Some(trouble) if trouble.is_grave => "bad",
            Some(_) => "warn",
        }
    }

    fn ago(&self, at: &str) -> String {
        let at: Result<jiff::Timestamp, _> = at.parse();
        at.map(|at| ago(Timestamp::from_millis(at.as_millisecond()), clock::now())).unwrap_or_default()
    }

    fn size(&self, bytes: &u64) -> String {
        size(*bytes)
    }

    fn is_sink(&self, work: &&Work) -> bool {
        work.kind.as_deref().is_some_and(|kind| kind != "fetch")
    }

    fn state_word(&self, state: &str) -> String {
        state.replace('_', " ")
    }

    fn short(&self, at: &str) -> String {
        shown(at)
    }

    fn time_or(&self, at: &Option<String>, or: &str) -> String {
        time_or(at.as_ref(), or)
    }
}

pub(super) async fn now(State(desk): State<Desk>, frame: Frame) -> Response {
    match now_of(&desk).await {
        Ok((overview, minutes, parked)) => {
            let are_cut = parked.len() == CAUSES;
            let looked = parked.len();
            let certificates = (desk.certificates)().into_iter().map(|(listener, certificate)| Certificate {
                listener: listener.as_str(),
                names: certificate.names.join(", "),
                end: time(certificate.not_after),
                problem: certificate.validity(clock::now()).problem(),
            });
            let certificates: Vec<Certificate> = certificates.collect();
            let troubles = troubles(&overview, &certificates);
            let (hour, recent) = last_hour(&minutes);
            let causes = causes(&parked);
            html(&Now { frame, overview, troubles, hour, recent, causes, are_cut, looked, certificates })
        }
        Err(error) => refused(frame, Problem::inbox(&error)),
    }
}

async fn now_of(desk: &Desk) -> Result<(Overview, Vec<Minute>, Vec<EntryView>), inbox::Error> {
    let overview = desk.control.overview().await?;
    let span = Span { since: Some(clock::now().before(HOUR)), until: None };
    let minutes = desk.inbox.charts.minutes(span, 1).await?;
    let parked = Filter { state: Some(inbox::State::Parked), ..Filter::default() };
    Ok((overview, minutes, desk.find(&parked, None, CAUSES).await?.entries))
}

/// What happened in it, as a sum and as a chart.
fn last_hour(minutes: &[Minute]) -> (Minute, Chart) {
    let mut hour = Minute::default();
    for minute in minutes {
        hour.received += minute.received;
        hour.delivered += minute.delivered;
    }
    let since = clock::now().before(HOUR);
    (hour, chart(("Received", "events"), minutes, since, (1, 1), |minute| minute.received))
}

fn causes(parked: &[EntryView]) -> Vec<Cause> {
    let mut causes: BTreeMap<&'static str, Cause> = BTreeMap::new();
    for entry in parked {
        let stage = entry.stages.iter().find(|stage| stage.cause.is_some());
        let Some((stage, cause)) = stage.and_then(|stage| Some((stage, stage.cause.as_ref()?))) else { continue };
        let word = cause.as_str();
        let reason = || printable(stage.reason.as_deref().unwrap_or_default());
        causes.entry(word).or_insert_with(|| Cause { word, count: 0, reason: reason() }).count += 1;
    }
    causes.into_values().collect()
}

/// What needs a person, the gravest first.
fn troubles(overview: &Overview, certificates: &[Certificate]) -> Vec<Trouble> {
    let mut found = Vec::new();
    let mut add = |is_grave, what: String, at: Option<String>| found.push(Trouble { what, at, is_grave });
    if overview.is_fold_stuck == Some(true) {
        add(true, "Accepted events cannot be moved from the journal to the store: see the log.".to_owned(), None);
    }
    for Taker { name, state, reason, seen, .. } in &overview.receivers {
        let at = Some("#receivers".to_owned());
        match (state.as_str(), reason) {
            ("silent", _) => add(true, format!("The receiver {name} was not heard of since {}.", shown(seen)), at),
            ("not_ready", Some(reason)) => add(true, format!("The receiver {name} takes no event: {reason}."), at),
            _ => {}
        }
    }
    for Work { stage, state, since, waiting, leased, parked, .. } in &overview.stages {
        let since = since.as_ref().map(|at| format!(" since {}", shown(at))).unwrap_or_default();
        let at = Some("#work".to_owned());
        match state.as_str() {
            "down" => add(true, format!("{stage} is down{since}."), at),
            "paused" => add(false, format!("{stage} is paused{since}."), at),
            "unconfigured" if waiting + leased + parked > 0 => {
                add(false, format!("{stage} has work and is not configured."), at);
            }
            _ => {}
        }
    }
    if overview.parked > 0 {
        let parts = if overview.parked == 1 { "1 part of the work is" } else { "Parts of the work are" };
        let count = if overview.parked == 1 { String::new() } else { format!(" ({})", overview.parked) };
        add(false, format!("{parts} parked{count}."), Some("/entries?state=parked".to_owned()));
    }
    for Certificate { listener, problem, .. } in certificates {
        if let Some(problem) = problem {
            add(false, format!("{listener} listener: {problem}."), Some("#certificates".to_owned()));
        }
    }
    found.sort_by_key(|trouble| !trouble.is_grave);
    found
}

fn shown(at: &str) -> String {
    time_or(Some(&at.to_owned()), "")
}
