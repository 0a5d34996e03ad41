//! What only reads.

use super::params::{Asked, At, Search, When};
use crate::{
    admin::{caller::Caller, desk::Desk, problem::Problem, streams},
    control::{Overview, SinkReport, Wanted},
    story::{find::tell, json, mask, words::time},
    work::Document,
};
use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use base::clock;
use bytes::Bytes;
use delivery::Attributes;
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header::CONTENT_TYPE};
use inbox::{Minute, RefusedView, Span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Lines of JSON.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// The inbox as a whole, and what surrounds it.
#[derive(Serialize)]
pub(super) struct Now {
    #[serde(flatten)]
    overview: Overview,
    certificates: Vec<Certificate>,
}

#[derive(Serialize)]
struct Certificate {
    /// `public`, `admin`
    listener: &'static str,
    names: Vec<String>,
    not_after: String,
    /// What is to be done about it; `null`: nothing.
    problem: Option<String>,
}

pub(super) async fn overview(State(desk): State<Desk>) -> Result<Json<Now>, Problem> {
    let overview = desk.control.overview().await.map_err(|error| Problem::inbox(&error))?;
    let certificates = (desk.certificates)().into_iter().map(|(listener, certificate)| Certificate {
        listener: listener.as_str(),
        problem: certificate.validity(clock::now()).problem(),
        names: certificate.names,
        not_after: time(certificate.not_after),
    });
    Ok(Json(Now { overview, certificates: certificates.collect() }))
}

#[derive(Serialize)]
pub(super) struct Sinks {
    sinks: Vec<SinkReport>,
}

pub(super) async fn sinks(State(desk): State<Desk>) -> Result<Json<Sinks>, Problem> {
    let sinks = desk.control.reports().await.map_err(|error| Problem::inbox(&error))?;
    Ok(Json(Sinks { sinks }))
}

/// How far back, at most seven days.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::admin) struct Back {
    hours: u32,
}

impl Default for Back {
    fn default() -> Self {
        Self { hours: 24 }
    }
}

impl Back {
    /// The minutes of a step, and what happened.
    ///
    /// # Errors
    /// Another number of hours, or what the inbox says.
    pub(in crate::admin) async fn points(&self, desk: &Desk) -> Result<(u32, Vec<Minute>), Problem> {
        let step = match self.hours {
            1..=6 => 1,
            7..=48 => 10,
            49..=168 => 60,
            _ => return Err(Problem::bad_request("hours is not from 1 to 168")),
        };
        let since = clock::now().before(Duration::from_hours(self.hours.into()));
        let span = Span { since: Some(since), until: None };
        let points = desk.inbox.charts.minutes(span, step).await.map_err(|error| Problem::inbox(&error))?;
        Ok((step, points))
    }

    pub(in crate::admin) fn hours(&self) -> u32 {
        self.hours
    }
}

#[derive(Serialize)]
pub(super) struct Charts {
    step_minutes: u32,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    at: String,
    received: u64,
    delivered: u64,
    parked: u64,
    /// The mean from acceptance to delivery; `null` where nothing was delivered.
    mean_ms: Option<u64>,
}

pub(super) async fn charts(State(desk): State<Desk>, Asked(back): Asked<Back>) -> Result<Json<Charts>, Problem> {
    let (step_minutes, points) = back.points(&desk).await?;
    let points = points.into_iter().map(|Minute { at, received, delivered, parked, took_ms }| Point {
        at: time(at),
        received,
        delivered,
        parked,
        mean_ms: took_ms.checked_div(delivered),
    });
    Ok(Json(Charts { step_minutes, points: points.collect() }))
}

pub(super) async fn entries(State(desk): State<Desk>, Asked(search): Asked<Search>) -> Result<Response, Problem> {
    let (filter, behind, limit) = (search.filter()?, search.behind()?, search.limit()?);
    let found = desk.find(&filter, behind, limit).await.map_err(|error| Problem::inbox(&error))?;
    let lines = found.entries.iter().map(|entry| lines(|line| json::entry(entry, None, None, None, line)));
    let next = found.next.map_or_else(|| "null".to_owned(), |next| format!("\"{next}\""));
    Ok(document(format!("{{\"entries\":[{}],\"next\":{next}}}", joined(lines)?)))
}

pub(super) async fn entry(State(desk): State<Desk>, At(number): At<i64>) -> Result<Response, Problem> {
    let entry = desk.entry(number).await?;
    let inbox = &desk.inbox;
    let told = tell((&*inbox.desk, &*inbox.audit, &*inbox.sinks), &entry).await;
    let told = told.map_err(|error| Problem::inbox(&error))?;
    Ok(document(lines(|line| json::entry(&entry, Some(&told), None, None, line))?))
}

pub(super) async fn body(State(desk): State<Desk>, At(number): At<i64>) -> Result<Response, Problem> {
    Ok(document(mask::masked(&desk.event(number).await?)))
}

/// What the sinks are given of an entry, without bank data.
pub(super) async fn masked_document(State(desk): State<Desk>, At(number): At<i64>) -> Result<Response, Problem> {
    let (attributes, body) = whole(desk.document(&desk.entry(number).await?).await?)?;
    let attributes = serde_json::to_string(&attributes).map_err(|_error| unwritable())?;
    Ok(document(format!("{{\"attributes\":{attributes},\"data\":{}}}", mask::masked(&body))))
}

/// The attributes and the body, where there are any to be shown.
pub(super) fn whole(document: Document) -> Result<(Attributes, Bytes), Problem> {
    let missing = |detail: String| Problem::new(StatusCode::CONFLICT, "no_document", detail);
    match document {
        Document::Whole(attributes, body) => Ok((attributes, body)),
        Document::TooLong(_, length) => {
            Err(missing(format!("it has {length} bytes, which is too long to be shown here")))
        }
        Document::Missing(reason) => Err(missing(reason)),
    }
}

/// What happens, line by line, until the stream is old or the service ends.
pub(super) async fn happenings(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Response, Problem> {
    let place = streams::place(&caller)?;
    let lines = desk.control.follow(wanted).take_until(tokio::time::sleep(streams::AGE));
    let lines = stream::unfold((Box::pin(lines), place), |(mut lines, place)| async move {
        let line = match tokio::time::timeout(streams::SILENCE, lines.next()).await {
            Ok(line) => line?,
            Err(_elapsed) => Ok(Bytes::from_static(b"\n")),
        };
        Some((line, (lines, place)))
    });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response())
}

pub(super) async fn refused(State(desk): State<Desk>, Asked(when): Asked<When>) -> Result<Response, Problem> {
    let found = desk.inbox.desk.refused(when.span()?, when.limit()?).await.map_err(|error| Problem::inbox(&error))?;
    list_of_refused(&found, false)
}

pub(super) fn list_of_refused(found: &[RefusedView], with_starts: bool) -> Result<Response, Problem> {
    let found = found.iter().map(|request| lines(|line| json::refused(request, with_starts, None, line)));
    Ok(document(format!("{{\"refused\":[{}]}}", joined(found)?)))
}

pub(super) async fn audit(State(desk): State<Desk>, Asked(when): Asked<When>) -> Result<Response, Problem> {
    let found = desk.inbox.audit.acts(when.span()?, when.limit()?).await.map_err(|error| Problem::inbox(&error))?;
    let found = found.iter().map(|act| lines(|line| json::act(act, line)));
    Ok(document(format!("{{\"acts\":[{}]}}", joined(found)?)))
}

/// What was written, as text.
fn lines(write: impl FnOnce(&mut Vec<u8>) -> Result<(), serde_json::Error>) -> Result<String, Problem> {
    let mut text = Vec::new();
    write(&mut text).map_err(|_error| unwritable())?;
    String::from_utf8(text).map_err(|_error| unwritable())
}

fn unwritable() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unwritable", "this cannot be written as JSON")
}

fn joined(lines: impl Iterator<Item = Result<String, Problem>>) -> Result<String, Problem> {
    Ok(lines.collect::<Result<Vec<_>, _>>()?.join(","))
}

fn document(text: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}
