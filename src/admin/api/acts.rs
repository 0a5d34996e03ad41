//! What changes or reveals something. Each is written to the audit trail before it is done.

use super::{
    lists::{NDJSON, list_of_refused, whole},
    params::{At, Search, Told, When, object},
};
use crate::{
    admin::{
        access::Who,
        acts::{Done, Purged},
        caller::Caller,
        desk::Desk,
        problem::Problem,
    },
    control::{Changed, Tested},
    story::{export::Wanted, find::bounded},
};
use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use event::{ConnectionId, UserId};
use http::header::CONTENT_TYPE;
use inbox::{Erased, Subject};
use serde::Deserialize;
use std::ops::RangeInclusive;

/// Entries that are meant where no limit is said, and the most.
const LIMITS: (u64, u64) = (50, 100_000);
/// Entries that an export may be limited to, as the document has it.
const MOST_EXPORTED: RangeInclusive<u64> = 1..=i64::MAX.cast_unsigned();
/// Longest reason, in characters.
const LONGEST_REASON: usize = 500;

/// Which entries, and how many of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entries {
    #[serde(default, deserialize_with = "object")]
    entries: Search,
    limit: Option<u64>,
}

/// The same, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Park {
    #[serde(default, deserialize_with = "object")]
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
    Told(Entries { entries, limit: most }): Told<Entries>,
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

pub(super) async fn purge(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    Told(Entries { entries, limit: most }): Told<Entries>,
) -> Result<Json<Purged>, Problem> {
    let most = limit(most)?;
    let which = format!("{} --limit {most}", entries.words());
    desk.purge(&who, which.trim_start().to_owned(), (entries.meant()?, most)).await.map(Json)
}

/// Without a limit, everything that is meant.
pub(super) async fn export(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    Extension(caller): Extension<Caller>,
    Told(Entries { entries, limit: most }): Told<Entries>,
) -> Result<Response, Problem> {
    let wanted = match entries.user_alone().filter(|_| most.is_none()) {
        Some(user) => Wanted::Of(user),
        None if most.is_some_and(|most| !MOST_EXPORTED.contains(&most)) => {
            return Err(Problem::bad_request("limit is 0 or too large: leave it out for all entries that are meant"));
        }
        None => {
            let filter = bounded(&*desk.inbox.desk, entries.meant()?).await.map_err(|error| Problem::inbox(&error))?;
            Wanted::Matching(filter, most.unwrap_or(u64::MAX))
        }
    };
    let limit = most.map(|most| format!(" --limit {most}")).unwrap_or_default();
    let lines = desk.export(&who, format!("{}{limit}", entries.words()).trim().to_owned(), wanted).await?;
    caller.stay();
    Ok(([(CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response())
}

/// Whose data is meant: one of both.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    user: Option<String>,
    connection: Option<String>,
}

pub(super) async fn erase(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    Told(Whose { user, connection }): Told<Whose>,
) -> Result<Json<Erased>, Problem> {
    let whose = match (user, connection) {
        (Some(user), None) if !user.is_empty() => Subject::User(UserId::new(user)),
        (None, Some(connection)) if !connection.is_empty() => Subject::Connection(ConnectionId::new(connection)),
        _ => return Err(Problem::bad_request("name either a user or a connection")),
    };
    desk.erase(&who, &whose).await.map(Json)
}

pub(super) async fn reveal_refused(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    Told(when): Told<When>,
) -> Result<Response, Problem> {
    let found = desk.reveal_refused(&who, when.words(), (when.span()?, when.limit()?)).await?;
    list_of_refused(&found, true)
}

pub(super) async fn reveal_document(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    At(number): At<i64>,
) -> Result<Response, Problem> {
    let (_attributes, body) = whole(desk.reveal_document(&who, number).await?)?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

pub(super) async fn test(
    State(desk): State<Desk>,
    Extension(who): Extension<Who>,
    Extension(caller): Extension<Caller>,
    At(name): At<String>,
) -> Result<Json<Tested>, Problem> {
    // A sink may take longer than a socket lives.
    caller.stay();
    desk.test(&who, &name).await.map(Json)
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
