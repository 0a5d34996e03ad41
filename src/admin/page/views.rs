//! What only shows: charts, entries, one entry, refused requests, the audit trail.

#![expect(
    clippy::unused_self,
    clippy::trivially_copy_pass_by_ref,
    clippy::struct_field_names,
    reason = "templates call methods of what they show, with references to its fields"
)]

use super::{
    frame::{Frame, refused},
    html::html,
    plot::{Chart, chart},
    words::{open_work, sender, time},
};
use crate::{
    admin::{
        api::{Asked, At, Back, Search},
        desk::{Desk, Found},
        problem::Problem,
    },
    story::{
        find::tell,
        json::Cursor,
        mask,
        told::{Next, Told, happened, next},
        words::accounts,
    },
    work::Document,
};
use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use base::clock::{self, Timestamp};
use delivery::Attributes;
use inbox::{ActView, EntryView, Minute, RefusedView, Span};
use std::{collections::BTreeMap, time::Duration};

/// Entries, requests or acts on a page.
const LIMIT: usize = 50;

#[derive(Template)]
#[template(path = "charts.html")]
struct Charts {
    frame: Frame,
    hours: u32,
    charts: Vec<Chart>,
    points: Vec<Minute>,
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
            html(&Charts { frame, hours, charts, points })
        }
        Err(problem) => refused(frame, problem),
    }
}

#[derive(Template)]
#[template(path = "entries.html")]
struct Entries {
    frame: Frame,
    asked: BTreeMap<String, String>,
    sinks: Vec<String>,
    entries: Vec<EntryView>,
    next: Option<Cursor>,
    /// When the last of those was accepted that were looked at in vain.
    looked_back: Option<String>,
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
        .filter(|(name, value)| !value.is_empty() && !matches!(name.as_str(), "done" | "changed" | "mark"))
        .collect();
    let search = search_of(&asked);
    let wanted = search.and_then(|search| Ok((search.filter()?, search.behind()?)));
    let found = match wanted {
        Ok((filter, behind)) => desk.find(&filter, behind, LIMIT).await.map_err(|error| Problem::inbox(&error)),
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
            let Found { entries, next } = found;
            let looked_back = next.filter(|_| entries.is_empty());
            let looked_back = looked_back.map(|Cursor(place)| time(Timestamp::from_millis(place.at)));
            html(&Entries { frame, asked, sinks, entries, next, looked_back, query, is_narrowed })
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
    delivered: Delivered,
    is_revealed: bool,
    /// Whether every part of its work is done or parked.
    is_over: bool,
}

/// What the sinks are given.
#[derive(Default)]
struct Delivered {
    attributes: Vec<(String, String)>,
    /// The document; none where it is the event as it came.
    text: Option<String>,
    /// In place of a document, or about it.
    said: Option<String>,
}

impl Delivered {
    fn of(document: Result<Document, Problem>, event: &[u8], is_revealed: bool) -> Self {
        let said = |said: String| Self { said: Some(said), ..Self::default() };
        match document {
            Ok(Document::Missing(reason)) => said(format!("There is none: {reason}.")),
            Ok(Document::TooLong(attributes, length)) => {
                Self { attributes: pairs(&attributes), ..said(format!("It has {length} bytes and is not shown here.")) }
            }
            Ok(Document::Whole(attributes, body)) if *body == *event => {
                Self { attributes: pairs(&attributes), ..said("It is the event as it came.".to_owned()) }
            }
            Ok(Document::Whole(attributes, body)) => {
                let text = if is_revealed { of_bytes(&body) } else { mask::masked(&body) };
                Self { attributes: pairs(&attributes), text: Some(text), said: None }
            }
            Err(problem) => said(format!("It cannot be made now: {}.", problem.detail)),
        }
    }
}

/// Attributes as they are called where they are sent.
fn pairs(attributes: &Attributes) -> Vec<(String, String)> {
    let serde_json::Value::Object(members) = serde_json::json!(attributes) else { return Vec::new() };
    let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    members.into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn of_bytes(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
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
        Ok(body) => show(&desk, frame, number, Some(body)).await,
        Err(problem) => refused(frame, problem),
    }
}

async fn show(desk: &Desk, frame: Frame, number: i64, revealed: Option<Vec<u8>>) -> Response {
    let parts = async {
        let entry = desk.entry(number).await?;
        let inbox = &desk.inbox;
        let told = tell((&*inbox.desk, &*inbox.audit, &*inbox.sinks), &entry).await;
        let told: Told = told.map_err(|error| Problem::inbox(&error))?;
        let is_revealed = revealed.is_some();
        let event = desk.event(number).await?;
        let delivered = desk.document_of(&entry, told.story.facts.as_ref()).await;
        let delivered = Delivered::of(delivered, &event, is_revealed);
        let body = revealed.map_or_else(|| mask::masked(&event), |body| of_bytes(&body));
        Ok((entry, told, body, delivered, is_revealed))
    };
    match parts.await {
        Ok((entry, told, body, delivered, is_revealed)) => {
            let (happened, next) = (happened(&entry, &told), next(&entry, &told));
            let is_over =
                entry.stages.iter().all(|stage| matches!(stage.state, inbox::State::Done | inbox::State::Parked));
            html(&Entry { frame, entry, happened, next, body, delivered, is_revealed, is_over })
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
