//! What stands around every page: who looks, the menu, what was done just before.

use super::{assets, html::html, words::time};
use crate::admin::{access::Who, door::FormToken, problem::Problem};
use askama::Template;
use axum::{
    extract::{FromRequestParts, Query},
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use http::{StatusCode, request::Parts};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

const PAGES: [(&str, &str); 5] =
    [("/", "Now"), ("/charts", "Charts"), ("/entries", "Entries"), ("/refused", "Refused"), ("/audit", "Audit trail")];

/// Around a page.
pub(super) struct Frame {
    pub(super) who: Who,
    pub(super) form_token: String,
    pub(super) style: &'static str,
    pub(super) script: &'static str,
    /// What an act did that led here.
    pub(super) done: Option<String>,
    path: String,
}

/// What an act did, in the address of the page after it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Done {
    #[serde(rename = "done")]
    act: Option<Word>,
    changed: Option<u64>,
    /// Shows that an act of this session led here, and no link of somebody else.
    mark: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Replay,
    Park,
    Pause,
    Resume,
}

impl Done {
    fn sentence(&self) -> Option<String> {
        let changed = self.changed.unwrap_or_default();
        let entries = if changed == 1 { "1 entry".to_owned() } else { format!("{changed} entries") };
        Some(match self.act? {
            Word::Replay => format!("{entries} put back in line."),
            Word::Park => format!("{entries} parked."),
            Word::Pause => "The sink is paused.".to_owned(),
            Word::Resume => "The sink is not paused any more.".to_owned(),
        })
    }
}

impl Frame {
    #[expect(clippy::unused_self, reason = "templates call methods of what they show")]
    pub(super) fn pages(&self) -> &'static [(&'static str, &'static str)] {
        &PAGES
    }

    pub(super) fn is_at(&self, path: &str) -> bool {
        self.path == path || (path != "/" && self.path.starts_with(path))
    }
}

/// The mark of the addresses that the acts of a session lead to.
pub(super) fn mark(form_token: &str) -> String {
    let mut mark = HEXLOWER.encode(&Sha256::digest(form_token));
    mark.truncate(16);
    mark
}

impl<S: Sync> FromRequestParts<S> for Frame {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let (who, token) = (parts.extensions.get::<Who>(), parts.extensions.get::<FormToken>());
        let (Some(who), Some(FormToken(token))) = (who, token) else {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "log in first"));
        };
        let done = Query::<Done>::try_from_uri(&parts.uri).map(|Query(done)| done).unwrap_or_default();
        let done = Some(done).filter(|done| done.mark == mark(token)).and_then(|done| done.sentence());
        Ok(Self {
            who: who.clone(),
            form_token: token.clone(),
            style: assets::style(),
            script: assets::script(),
            done,
            path: parts.uri.path().to_owned(),
        })
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Page {
    frame: Frame,
    detail: String,
}

/// A refusal as a page.
pub(super) fn refused(frame: Frame, problem: Problem) -> Response {
    let status = problem.status;
    (status, html(&Page { frame, detail: problem.detail.into_owned() })).into_response()
}

/// A time for people, for templates.
pub(super) fn time_or(at: Option<&String>, or: &str) -> String {
    at.map_or_else(|| or.to_owned(), |at| time_text(at))
}

fn time_text(at: &str) -> String {
    let at: Result<jiff::Timestamp, _> = at.parse();
    at.map(|at| time(base::clock::Timestamp::from_millis(at.as_millisecond()))).unwrap_or_default()
}
