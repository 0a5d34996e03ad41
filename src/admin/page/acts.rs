//! What changes something: asked once more, then done, then the page that shows it.

use super::{
    frame::{Frame, mark, refused},
    html::html,
    views::search_of,
};
use crate::admin::{api::Search, desk::Desk, problem::Problem};
use askama::Template;
use axum::{
    extract::{Form, Query, State},
    response::{IntoResponse, Redirect, Response},
};
use std::collections::BTreeMap;

/// Entries that one act changes at most.
const LIMIT: u64 = 10_000;

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm {
    frame: Frame,
    /// On the button.
    name: &'static str,
    what: String,
    fields: BTreeMap<String, String>,
    is_parking: bool,
    back: String,
}

/// What is to be done.
enum Act {
    Replay(Search),
    Park(Search),
    Pause(String),
    Resume(String),
}

impl Act {
    fn of(fields: &BTreeMap<String, String>) -> Result<Self, Problem> {
        let sink = || fields.get("sink").cloned().ok_or_else(|| Problem::bad_request("no sink is named"));
        let search = || {
            let is_search = |name: &str| !matches!(name, "act" | "why" | "form_token");
            let fields = fields.iter().filter(|(name, value)| is_search(name) && !value.is_empty());
            let search = search_of(&fields.map(|(name, value)| (name.clone(), value.clone())).collect())?;
            search.meant()?;
            Ok(search)
        };
        match fields.get("act").map_or("", String::as_str) {
            "replay" => Ok(Self::Replay(search()?)),
            "park" => Ok(Self::Park(search()?)),
            "pause" => Ok(Self::Pause(sink()?)),
            "resume" => Ok(Self::Resume(sink()?)),
            _ => Err(Problem::bad_request("there is no such act")),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Replay(_) => "Replay",
            Self::Park(_) => "Park",
            Self::Pause(_) => "Pause",
            Self::Resume(_) => "Resume",
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Replay(search) => match search.only() {
                Some(number) => format!(
                    "Entry {number} goes back in line: what is parked of it is tried again, and if nothing is, it is delivered once \
                     more under its old id."
                ),
                None => format!(
                    "Entries that match {} go back in line ({LIMIT} at most): what is parked is tried again, and where nothing is \
                     parked, what is done is delivered once more under its old id.",
                    search.words()
                ),
            },
            Self::Park(search) => match search.only() {
                Some(number) => format!("Work on entry {number} stops until it is replayed."),
                None => {
                    format!(
                        "Work on entries that match {} stops until they are replayed ({LIMIT} at most).",
                        search.words()
                    )
                }
            },
            Self::Pause(sink) => format!("Nothing is delivered to {sink} until it is resumed; what is under way ends."),
            Self::Resume(sink) => format!("What waits for {sink} is delivered again."),
        }
    }

    /// The page that shows what was done.
    fn back(&self, fields: &BTreeMap<String, String>) -> String {
        match (self, fields.get("number").and_then(|number| number.parse::<i64>().ok())) {
            (Self::Pause(_) | Self::Resume(_), _) => "/".to_owned(),
            (_, Some(number)) => format!("/entries/{number}"),
            _ => "/entries".to_owned(),
        }
    }
}

/// Asks once more.
pub(super) async fn confirm(frame: Frame, Query(mut fields): Query<BTreeMap<String, String>>) -> Response {
    if !frame.who.may_act() {
        return refused(frame, Problem::read_only());
    }
    fields.retain(|_, value| !value.is_empty());
    match Act::of(&fields) {
        Ok(act) => {
            let (name, what, back) = (act.name(), act.what(), act.back(&fields));
            html(&Confirm { frame, name, what, fields, is_parking: matches!(act, Act::Park(_)), back })
        }
        Err(problem) => refused(frame, problem),
    }
}

/// Does it.
pub(super) async fn act(
    State(desk): State<Desk>,
    frame: Frame,
    Form(fields): Form<BTreeMap<String, String>>,
) -> Response {
    if !frame.who.may_act() {
        return refused(frame, Problem::read_only());
    }
    let act = match Act::of(&fields) {
        Ok(act) => act,
        Err(problem) => return refused(frame, problem),
    };
    let back = act.back(&fields);
    match done(&desk, &frame, act, fields.get("why")).await {
        Ok(said) => Redirect::to(&format!("{back}?{said}&mark={}", mark(&frame.form_token))).into_response(),
        Err(problem) => refused(frame, problem),
    }
}

/// What the next page says of it.
async fn done(desk: &Desk, frame: &Frame, act: Act, why: Option<&String>) -> Result<String, Problem> {
    let who = &frame.who;
    let which = |search: &Search| format!("{} --limit {LIMIT}", search.words());
    match act {
        Act::Replay(search) => {
            let done = desk.replay(who, which(&search), search.meant()?, LIMIT).await?;
            Ok(format!("done=replay&changed={}", done.changed))
        }
        Act::Park(search) => {
            let why = why.map_or("", |why| why.trim());
            let why = if why.is_empty() { "parked by an operator" } else { why };
            let why: String = why.chars().take(500).collect();
            let done = desk.park(who, which(&search), (search.meant()?, LIMIT), &why).await?;
            Ok(format!("done=park&changed={}", done.changed))
        }
        Act::Pause(sink) => desk.pause(who, &sink, true).await.map(|_changed| "done=pause".to_owned()),
        Act::Resume(sink) => desk.pause(who, &sink, false).await.map(|_changed| "done=resume".to_owned()),
    }
}
