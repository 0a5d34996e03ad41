//! What only shows: now, charts, entries, one entry, refused requests, the audit trail.

#![expect(
    clippy::unused_self,
    clippy::trivially_copy_pass_by_ref,
    clippy::ref_option,
    clippy::struct_field_names,
    reason = "templates call methods of what they show, with references to its fields"
)]

use super::{
    frame::{Frame, refused, time_or},
    html::html,
    words::{open_work, sender, time},
};
use crate::{
    admin::{
        api::{Asked, At, Back, Search},
        desk::Desk,
        problem::Problem,
    },
    control::{Overview, Work},
    story::{
        find::tell,
        told::{Next, Told, happened, next},
        words::accounts,
    },
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use base::{
    clock::{self, Timestamp},
    text::printable,
};
use inbox::{ActView, EntryView, Filter, Minute, RefusedView, Span};
use std::{collections::BTreeMap, time::Duration};

/// Entries, requests or acts on a page.
const LIMIT: usize = 50;
/// Parked entries that are looked at for their causes.
const CAUSES: usize = 200;

#[derive(Template)]
#[template(path = "now.html")]
struct Now {
    frame: Frame,
    overview: Overview,
    hour: Minute,
    causes: Vec<Cause>,
    are_cut: bool,
    looked: usize,
    certificates: Vec<(&'static str, String, String)>,
}

struct Cause {
    word: &'static str,
    count: usize,
    reason: String,
}

impl Now {
    fn mebibytes(&self, bytes: &u64) -> u64 {
        bytes >> 20
    }

    fn is_sink(&self, work: &&Work) -> bool {
        work.kind.as_deref().is_some_and(|kind| kind != "fetch")
    }

    fn short(&self, at: &str) -> String {
        time_or(Some(&at.to_owned()), "")
    }

    fn time_or(&self, at: &Option<String>, or: &str) -> String {
        time_or(at.as_ref(), or)
    }
}

pub(super) async fn now(State(desk): State<Desk>, frame: Frame) -> Response {
    match now_of(&desk).await {
        Ok((overview, hour, parked)) => {
            let are_cut = parked.len() == CAUSES;
            let looked = parked.len();
            let certificates = (desk.certificates)()
                .into_iter()
                .map(|(listener, certificate)| (listener, certificate.names.join(", "), time(certificate.not_after)));
            let certificates = certificates.collect();
            html(&Now { frame, overview, hour, causes: causes(&parked), are_cut, looked, certificates })
        }
        Err(error) => refused(frame, Problem::inbox(&error)),
    }
}

async fn now_of(desk: &Desk) -> Result<(Overview, Minute, Vec<EntryView>), inbox::Error> {
    let overview = desk.control.overview().await?;
    let span = Span { since: Some(clock::now().before(Duration::from_hours(1))), until: None };
    let mut hour = Minute::default();
    for minute in desk.inbox.charts.minutes(span, 60).await? {
        hour.received += minute.received;
        hour.delivered += minute.delivered;
    }
    let parked = Filter { state: Some(inbox::State::Parked), ..Filter::default() };
    Ok((overview, hour, desk.inbox.desk.list(&parked, CAUSES).await?))
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

#[derive(Template)]
#[template(path = "charts.html")]
struct Charts {
    frame: Frame,
    hours: u32,
    step: u32,
    charts: Vec<Chart>,
    points: Vec<Minute>,
}

struct Chart {
    title: &'static str,
    unit: &'static str,
    most: u64,
    bars: Vec<Bar>,
}

struct Bar {
    at: String,
    value: u64,
    x: u64,
    y: u64,
    width: u64,
    height: u64,
}

impl Charts {
    fn choices(&self) -> &'static [(u32, &'static str)] {
        &[(1, "1 hour"), (6, "6 hours"), (24, "1 day"), (48, "2 days"), (168, "7 days")]
    }

    fn mean(&self, point: &Minute) -> String {
        mean(point).map_or_else(|| "–".to_owned(), |mean| mean.to_string())
    }

    fn time(&self, at: &Timestamp) -> String {
        time(*at)
    }
}

fn mean(point: &Minute) -> Option<u64> {
    point.took_ms.checked_div(point.delivered)
}

pub(super) async fn charts(State(desk): State<Desk>, frame: Frame, Asked(back): Asked<Back>) -> Response {
    let hours = back.hours();
    match back.points(&desk).await {
        Ok((step, points)) => {
            let since = clock::now().before(Duration::from_hours(hours.into()));
            let chart =
                |title, unit, value: fn(&Minute) -> u64| chart((title, unit), &points, since, (hours, step), value);
            let charts = vec![
                chart("Received", "events", |point| point.received),
                chart("Delivered", "deliveries", |point| point.delivered),
                chart("Parked", "deliveries", |point| point.parked),
                chart("Mean time from acceptance to delivery", "ms", |point| mean(point).unwrap_or_default()),
            ];
            html(&Charts { frame, hours, step, charts, points })
        }
        Err(problem) => refused(frame, problem),
    }
}

/// Bars in a box of 1000 by 160.
fn chart(
    (title, unit): (&'static str, &'static str),
    points: &[Minute],
    since: Timestamp,
    (hours, step): (u32, u32),
    value: fn(&Minute) -> u64,
) -> Chart {
    let most = points.iter().map(value).max().unwrap_or_default();
    let steps = u64::from(hours * 60 / step).max(1);
    let width = (1000 / steps).max(2);
    let bars = points.iter().filter(|point| value(point) > 0).map(|point| {
        let minutes = point.at.since(since).as_secs() / 60;
        let height = (value(point) * 150 / most.max(1)).max(1);
        let x = minutes * 1000 / u64::from(hours * 60);
        Bar { at: time(point.at), value: value(point), x: x.min(1000 - width), y: 159 - height, width, height }
    });
    Chart { title, unit, most, bars: bars.collect() }
}

#[derive(Template)]
#[template(path = "entries.html")]
struct Entries {
    frame: Frame,
    asked: BTreeMap<String, String>,
    sinks: Vec<String>,
    entries: Vec<EntryView>,
    next: Option<i64>,
    /// The search, as it stands in an address, with `&` at its end.
    query: String,
    is_narrowed: bool,
}

impl Entries {
    fn asked(&self, name: &str) -> &str {
        self.asked.get(name).map_or("", String::as_str)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.asked(name) == value
    }

    fn states(&self) -> [&'static str; 4] {
        inbox::State::ALL.map(inbox::State::as_str)
    }

    fn time(&self, at: &Timestamp) -> String {
        time(*at)
    }

    fn accounts(&self, entry: &&EntryView) -> String {
        accounts(entry)
    }

    fn open_work(&self, entry: &&EntryView) -> Vec<(String, String)> {
        open_work(entry)
    }
}

pub(super) async fn entries(State(desk): State<Desk>, frame: Frame, RawQuery(query): RawQuery) -> Response {
    // A form sends its empty fields too.
    let query = query.unwrap_or_default();
    let asked: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.trim().to_owned()))
        .filter(|(name, value)| !value.is_empty() && !matches!(name.as_str(), "done" | "changed"))
        .collect();
    let search = search_of(&asked);
    let found = match search.and_then(|search| search.filter()) {
        Ok(filter) => desk.find(filter, LIMIT).await.map_err(|error| Problem::inbox(&error)),
        Err(problem) => Err(problem),
    };
    match found {
        Ok(found) => {
            let kept = asked.iter().filter(|(name, _)| *name != "cursor");
            let mut query = form_urlencoded::Serializer::new(String::new());
            let query = query.extend_pairs(kept.clone()).finish();
            let is_narrowed = kept.clone().next().is_some();
            let query = if query.is_empty() { query } else { format!("{query}&") };
            let sinks = desk.control.sinks.iter().map(|sink| sink.slot.name().as_str().to_owned()).collect();
            html(&Entries { frame, asked, sinks, entries: found.entries, next: found.next, query, is_narrowed })
        }
        Err(problem) => refused(frame, problem),
    }
}

/// What fields that are not empty ask for.
pub(super) fn search_of(asked: &BTreeMap<String, String>) -> Result<Search, Problem> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let query = query.extend_pairs(asked).finish();
    let uri = format!("/?{query}").parse().map_err(|_error| Problem::bad_request("this cannot be searched for"))?;
    let search = axum::extract::Query::<Search>::try_from_uri(&uri);
    search.map(|search| search.0).map_err(|error| Problem::bad_request(error.body_text()))
}

#[derive(Template)]
#[template(path = "entry.html")]
struct Entry {
    frame: Frame,
    entry: EntryView,
    happened: Vec<(Timestamp, String, String)>,
    next: Vec<Next>,
    body: String,
    is_revealed: bool,
    /// Whether every part of its work is done or parked.
    is_over: bool,
}

impl Entry {
    fn time(&self, at: &Timestamp) -> String {
        time(*at)
    }

    fn accounts(&self, entry: &EntryView) -> String {
        accounts(entry)
    }
}

pub(super) async fn entry(State(desk): State<Desk>, frame: Frame, At(number): At<i64>) -> Response {
    show(&desk, frame, number, None).await
}

pub(super) async fn reveal(State(desk): State<Desk>, frame: Frame, At(number): At<i64>) -> Response {
    if !frame.who.may_act() {
        return refused(frame, Problem::read_only());
    }
    match desk.reveal(&frame.who, number).await {
        Ok(body) => show(&desk, frame, number, Some(String::from_utf8_lossy(&body).into_owned())).await,
        Err(problem) => refused(frame, problem),
    }
}

async fn show(desk: &Desk, frame: Frame, number: i64, revealed: Option<String>) -> Response {
    let parts = async {
        let entry = desk.entry(number).await?;
        let inbox = &desk.inbox;
        let told = tell((&*inbox.desk, &*inbox.audit, &*inbox.sinks), &entry).await;
        let told: Told = told.map_err(|error| Problem::inbox(&error))?;
        let is_revealed = revealed.is_some();
        let body = match revealed {
            Some(body) => body,
            None => desk.masked(number).await?,
        };
        Ok((entry, told, body, is_revealed))
    };
    match parts.await {
        Ok((entry, told, body, is_revealed)) => {
            let (happened, next) = (happened(&entry, &told), next(&entry, &told));
            let is_over =
                entry.stages.iter().all(|stage| matches!(stage.state, inbox::State::Done | inbox::State::Parked));
            html(&Entry { frame, entry, happened, next, body, is_revealed, is_over })
        }
        Err(problem) => refused(frame, problem),
    }
}

#[derive(Template)]
#[template(path = "refused.html")]
struct Refused {
    frame: Frame,
    refused: Vec<RefusedView>,
}

impl Refused {
    fn time(&self, at: &Timestamp) -> String {
        time(*at)
    }

    fn sender(&self, json: &str) -> String {
        sender(json)
    }
}

pub(super) async fn refused_requests(State(desk): State<Desk>, frame: Frame) -> Response {
    match desk.inbox.desk.refused(Span::default(), LIMIT).await {
        Ok(refused) => html(&Refused { frame, refused }),
        Err(error) => refused(frame, Problem::inbox(&error)),
    }
}

#[derive(Template)]
#[template(path = "acts.html")]
struct Acts {
    frame: Frame,
    acts: Vec<ActView>,
}

impl Acts {
    fn time(&self, at: &Timestamp) -> String {
        time(*at)
    }
}

pub(super) async fn acts(State(desk): State<Desk>, frame: Frame) -> Response {
    match desk.inbox.audit.acts(Span::default(), LIMIT).await {
        Ok(acts) => html(&Acts { frame, acts }),
        Err(error) => refused(frame, Problem::inbox(&error)),
    }
}
