//! What changes or reveals something. Each is written to the audit trail before it is done.

use super::params::{At, Search, Told};
use crate::{
    admin::{
        access::Who,
        desk::{Desk, Done},
        problem::Problem,
    },
    control::Changed,
};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::header::CONTENT_TYPE;
use serde::Deserialize;

/// Entries that are meant where no limit is said, and the most.
const LIMITS: (u64, u64) = (50, 100_000);
/// Longest reason, in characters.
const LONGEST_REASON: usize = 500;

/// Which entries, and how many of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    #[serde(default)]
    entries: Search,
    limit: Option<u64>,
}

/// The same, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Park {
    #[serde(default)]
    entries: Search,
    limit: Option<u64>,
    reason: String,
}

fn limit(limit: Option<u64>) -> Result<u64, Problem> {
    let (default, most) = LIMITS;
    match limit.unwrap_or(default) {
        limit if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(Problem::bad_request("limit is not from 1 to 100000")),
    }
}

pub(super) async fn replay(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    Told(Replay { entries, limit: most }): Told<Replay>,
) -> Result<Json<Done>, Problem> {
    let most = limit(most)?;
    let which = format!("{} --limit {most}", entries.words());
    desk.replay(&who, which.trim_start().to_owned(), entries.meant()?, most).await.map(Json)
}

pub(super) async fn park(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    Told(Park { entries, limit: most, reason }): Told<Park>,
) -> Result<Json<Done>, Problem> {
    let most = limit(most)?;
    if reason.trim().is_empty() || reason.chars().count() > LONGEST_REASON {
        return Err(Problem::bad_request("reason is empty, or longer than 500 characters"));
    }
    let which = format!("{} --limit {most}", entries.words());
    desk.park(&who, which.trim_start().to_owned(), (entries.meant()?, most), reason.trim()).await.map(Json)
}

pub(super) async fn reveal(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    At(number): At<i64>,
) -> Result<Response, Problem> {
    let body = desk.reveal(&who, number).await?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

pub(super) async fn pause(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    At(name): At<String>,
) -> Result<Json<Changed>, Problem> {
    desk.pause(&who, &name, true).await.map(Json)
}

pub(super) async fn resume(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    At(name): At<String>,
) -> Result<Json<Changed>, Problem> {
    desk.pause(&who, &name, false).await.map(Json)
}
