//! What is asked for: the query of a list, the JSON of an act. What cannot be meant is a problem that names the member.

use crate::{admin::problem::Problem, story::json::Cursor};
use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
};
use base::clock::Timestamp;
use event::{ConnectionId, UserId};
use http::{StatusCode, request::Parts};
use inbox::{Filter, Seq, SinkName, Span, State};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};

/// Items of a page where no limit is said.
const LIMIT: usize = 50;
/// Items of a page at most.
const MOST: usize = 500;
/// Largest body of a request.
const BODY: usize = 64 * 1024;

/// Which entries.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::admin) struct Search {
    state: Option<Word>,
    sink: Option<String>,
    connection: Option<String>,
    user: Option<String>,
    /// Event id or delivery id.
    id: Option<String>,
    number: Option<i64>,
    /// A text in the reason of a part of the work, or the word of its cause.
    reason: Option<String>,
    /// RFC 3339, as `until`.
    since: Option<String>,
    until: Option<String>,
    /// For lists: where the page before ended.
    cursor: Option<String>,
    limit: Option<usize>,
    /// For acts: every entry is meant.
    all: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Waiting,
    Leased,
    Done,
    Parked,
}

impl Search {
    /// # Errors
    /// A time that is none, or a span with nothing in it.
    pub(in crate::admin) fn filter(&self) -> Result<Filter, Problem> {
        let state = self.state.map(|word| match word {
            Word::Waiting => State::Waiting,
            Word::Leased => State::Leased,
            Word::Done => State::Done,
            Word::Parked => State::Parked,
        });
        Ok(Filter {
            state,
            sink: self.sink.as_deref().map(SinkName::new),
            connection: self.connection.clone().map(ConnectionId::new),
            user: self.user.clone().map(UserId::new),
            id: self.id.clone(),
            seq: self.number.map(Seq),
            reason: self.reason.clone(),
            accepted: span(self.since.as_deref(), self.until.as_deref())?,
            ..Filter::default()
        })
    }

    pub(in crate::admin) fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit)
    }

    /// Behind which place the page begins.
    pub(in crate::admin) fn behind(&self) -> Result<Option<Cursor>, Problem> {
        let behind = self.cursor.as_deref().map(str::parse).transpose();
        behind.map_err(|odd| Problem::bad_request(format!("cursor {odd}")))
    }

    /// The user, where nothing else is asked for.
    pub(in crate::admin) fn user_alone(&self) -> Option<UserId> {
        self.user.clone().filter(|_| self.asks_alone("--user")).map(UserId::new)
    }

    /// For what changes entries: the filter, unless everything would be meant without saying so.
    pub(in crate::admin) fn meant(&self) -> Result<Filter, Problem> {
        let filter = self.filter()?;
        if self.words().is_empty() && !self.all {
            let detail = "this would mean every entry: say which ones, or set all";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "everything_meant", detail));
        }
        Ok(filter)
    }

    /// The entry that is meant, where it is asked for by its number alone.
    pub(in crate::admin) fn only(&self) -> Option<i64> {
        self.number.filter(|_| self.asks_alone("--seq"))
    }

    fn asks_alone(&self, option: &str) -> bool {
        matches!(self.options().as_slice(), [(name, _)] if *name == option)
    }

    /// The options of the command that means the same, for the audit trail.
    pub(in crate::admin) fn words(&self) -> String {
        let words: Vec<_> = self.options().iter().map(|(name, value)| format!("{name} {value}")).collect();
        words.join(" ")
    }

    /// What is asked for, each with the option of the command.
    fn options(&self) -> Vec<(&'static str, String)> {
        let state = self.filter().ok().and_then(|filter| filter.state).map(|state| state.as_str().to_owned());
        let number = self.number.map(|number| number.to_string());
        let options = [
            ("--state", state),
            ("--sink", self.sink.clone()),
            ("--connection", self.connection.clone()),
            ("--user", self.user.clone()),
            ("--id", self.id.clone()),
            ("--seq", number),
            ("--reason-has", self.reason.clone()),
            ("--since", self.since.clone()),
            ("--until", self.until.clone()),
        ];
        options.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// When, and how many.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::admin) struct When {
    since: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
}

impl When {
    pub(in crate::admin) fn span(&self) -> Result<Span, Problem> {
        span(self.since.as_deref(), self.until.as_deref())
    }

    pub(in crate::admin) fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit)
    }

    /// The options of the command that means the same, for the audit trail.
    pub(in crate::admin) fn words(&self) -> String {
        let ends = [("--since", &self.since), ("--until", &self.until)];
        let mut words: Vec<String> =
            ends.iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?))).collect();
        words.extend(self.limit.map(|limit| format!("--limit {limit}")));
        words.join(" ")
    }
}

fn limit(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(LIMIT) {
        limit @ 1..=MOST => Ok(limit),
        _ => Err(Problem::bad_request("limit is not from 1 to 500")),
    }
}

fn span(since: Option<&str>, until: Option<&str>) -> Result<Span, Problem> {
    let span = Span { since: time("since", since)?, until: time("until", until)? };
    match (span.since, span.until) {
        (Some(since), Some(until)) if since >= until => Err(Problem::bad_request("since is not before until")),
        _ => Ok(span),
    }
}

fn time(name: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let at: Result<jiff::Timestamp, _> = text.parse();
    let at = at.map_err(|_no_time| {
        Problem::bad_request(format!("{name} is not a time with its offset, such as 2026-01-31T08:00:00Z"))
    })?;
    Ok(Some(Timestamp::from_millis(at.as_millisecond())))
}

/// The query of a request.
pub(in crate::admin) struct Asked<T>(pub(in crate::admin) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(asked)| Self(asked)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// What stands in the path.
pub(in crate::admin) struct At<T>(pub(in crate::admin) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(at)| Self(at)).map_err(|_no_such_thing| Problem::not_found())
    }
}

/// Reads an object, and nothing else: serde also takes an array of the values for it.
pub(super) fn object<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let members = serde_json::Map::deserialize(deserializer)?;
    T::deserialize(serde_json::Value::Object(members)).map_err(D::Error::custom)
}

/// The JSON of a request; nothing counts as `{}`.
pub(in crate::admin) struct Told<T>(pub(in crate::admin) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Told<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let body = to_bytes(request.into_body(), BODY).await.map_err(|_too_large| {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is larger than 64 KiB")
        })?;
        let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
        let mut reader = serde_json::Deserializer::from_slice(&body);
        let told = object(&mut reader).and_then(|told| reader.end().map(|()| told));
        told.map(Self).map_err(|error| Problem::bad_request(format!("the body is not as described: {error}")))
    }
}
