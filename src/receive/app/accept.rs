//! The handler of the webhook: an event from its body to its commit.
//!
//! The commit outlives its caller: when that one hangs up, or has waited long enough, the event is stored all the same.

use super::{
    asked::{Asked, Refused},
    body::LimitedBody,
    head::{EventHead, KnownPath},
    outlive::Outliving,
    traced,
    webhook::{Commits, Webhook},
};
use crate::{
    observe::traces::Span,
    receive::{
        figures::Outcomes,
        intake::{Arrival, Outcome, refusal_of},
        problem::Refusal,
        refusals::Fault,
    },
};
use axum::{body::Body, extract::State, response::Response};
use base::{clock, error::chain};
use bytes::Bytes;
use event::{ConnectionId, Drift, Event, EventId, UserId};
use http::header::{self, HeaderValue};
use inbox::rules::{Plan, plan};
use std::{sync::Arc, time::Instant};
use tokio::time::timeout;

/// POST on the webhook's path.
pub(super) async fn accept(
    State(webhook): State<Arc<Webhook>>,
    asked: Asked,
    _path: KnownPath,
    head: EventHead,
    body: LimitedBody,
) -> Result<Response, Refused> {
    let LimitedBody { bytes, place } = body;
    let (received, since) = (clock::now(), Instant::now());
    let mut event = match Event::parse(&bytes) {
        Ok(event) => event,
        Err(malformed) => {
            let (refusal, size) = (Refusal::Malformed(malformed), Some(bytes.len() as u64));
            return Err(Refused { refusal, size, body: bytes });
        }
    };
    if head.is_of_odd_type {
        event.drift.get_or_insert(Drift::ContentType);
    }
    // A byte order mark is no part of the event, and a parser behind us may not expect one.
    let bytes = bytes.slice_ref(event::without_mark(&bytes));
    let (confirm, sender) = (asked.sender.confirm, asked.caller.sender.clone());
    let span = traced::begin(&webhook, &asked, head.trace.as_ref(), &event);
    let arrival = Arrival { event, body: bytes, received, confirm, sender, trace: span.place().cloned() };
    let within = webhook.commits.timeout;
    let commit = Outliving::new(async move {
        let outcome = webhook.commits.commit(&asked, arrival, since, span).await;
        // The body is held until here, whatever was answered meanwhile.
        drop(place);
        outcome
    });
    match timeout(within, commit).await {
        Ok(answer) => Ok(json(answer?)),
        // The commit goes on; a repeat of the event will be recognised.
        Err(_elapsed) => Err(Refusal::StoreSlow.into()),
    }
}

fn count(outcomes: &Outcomes, outcome: Outcome) {
    match outcome {
        Outcome::Accepted => {
            outcomes.accepted.inc();
        }
        Outcome::Conflict => {
            outcomes.conflict.inc();
        }
        Outcome::Duplicate => {
            outcomes.duplicate.inc();
        }
    }
}

impl Commits {
    /// Counts what becomes of events that are answered before it is known whether they are new, and logs those that are not.
    pub(in crate::receive) fn hear_of_folds(&self) {
        let outcomes = self.figures.outcomes.clone();
        self.intake.on_fold(move |event, outcome, seq| {
            count(&outcomes, outcome);
            let (entry, event) = (seq.0, event.as_str());
            match outcome {
                Outcome::Accepted => {}
                Outcome::Conflict => {
                    tracing::info!(
                        code = "event_conflicts",
                        event.id = event,
                        entry,
                        "an accepted event has the id of another one"
                    );
                }
                Outcome::Duplicate => {
                    tracing::info!(
                        code = "event_repeated",
                        event.id = event,
                        entry,
                        "event came again, and is stored already"
                    );
                }
            }
        });
    }

    /// Stores an event, counts it, logs it, and renders the answer. Runs to its end whatever becomes of the caller.
    async fn commit(&self, asked: &Asked, arrival: Arrival, since: Instant, mut span: Span) -> Result<Bytes, Refusal> {
        let (facts, received) = (Facts::of(&arrival), arrival.received);
        let receipt = match self.intake.accept(arrival).await {
            Ok(receipt) => receipt,
            Err(error) => {
                if self.refusals.is_first_fault(Fault::Inbox) {
                    let error = chain(&error);
                    tracing::error!(code = "event_not_stored", error, request.id = %asked.id, "the inbox did not take an event");
                }
                let refusal = refusal_of(&error);
                traced::refused(&mut span, &refusal);
                return Err(refusal);
            }
        };
        let took = since.elapsed();
        self.figures.accept_seconds.observe(took.as_secs_f64());
        if facts.drift {
            self.figures.drift.inc();
        }
        if receipt.is_final {
            count(&self.figures.outcomes, receipt.outcome);
        }
        let entry = receipt.seq.map(|seq| seq.0);
        let outcome = match receipt.outcome {
            Outcome::Accepted => "accepted",
            Outcome::Conflict => "conflict",
            Outcome::Duplicate => "duplicate",
        };
        // The event is stored, and its caller may have been told that it is not yet.
        let late = (took > self.timeout).then_some(Refusal::StoreSlow);
        traced::taken(&mut span, &receipt, outcome, late.as_ref());
        let trace_id = span.trace_id();
        let status = match receipt.outcome {
            Outcome::Accepted | Outcome::Conflict => "accepted",
            Outcome::Duplicate => {
                tracing::info!(
                    code = "event_repeated",
                    event.id = facts.event.as_str(),
                    entry,
                    connection.id = facts.connection.as_str(),
                    bytes = facts.bytes,
                    duration_ms = clock::millis(took),
                    peer = %asked.caller.peer,
                    request.id = %asked.id,
                    trace_id,
                    "event came again, and is stored already"
                );
                return Ok(rendered(outcome, &facts.event));
            }
        };
        self.figures.last.note(received);
        tracing::info!(
            code = "event_accepted",
            event.id = facts.event.as_str(),
            entry,
            outcome,
            connection.id = facts.connection.as_str(),
            user.id = facts.user.as_ref().map(UserId::as_str),
            accounts.announced = facts.announced,
            accounts.listed = facts.listed,
            bytes = facts.bytes,
            duration_ms = clock::millis(took),
            peer = %asked.caller.peer,
            request.id = %asked.id,
            trace_id,
            "event accepted"
        );
        if let Some(reason) = facts.parked {
            tracing::error!(
                code = "event_parked",
                event.id = facts.event.as_str(),
                entry,
                connection.id = facts.connection.as_str(),
                reason,
                "nobody can say what to fetch for an accepted event, and it is parked; a person must act"
            );
        }
        Ok(rendered(status, &facts.event))
    }
}

/// What is said of an event after the inbox took it.
struct Facts {
    event: EventId,
    connection: ConnectionId,
    user: Option<UserId>,
    announced: Option<u64>,
    listed: u64,
    bytes: usize,
    drift: bool,
    /// Why it is parked from the beginning.
    parked: Option<String>,
}

impl Facts {
    fn of(arrival: &Arrival) -> Self {
        let event = &arrival.event;
        Self {
            event: event.id.clone(),
            connection: event.connection.clone(),
            user: event.user.clone(),
            announced: event.account_count,
            listed: event.listed,
            bytes: arrival.body.len(),
            drift: event.drift.is_some(),
            parked: match plan(event, arrival.confirm) {
                Plan::Park(reason) => Some(reason),
                Plan::Deliver | Plan::Fetch(_) => None,
            },
        }
    }
}

/// The body of a 200.
fn rendered(status: &str, event: &EventId) -> Bytes {
    let event = event.as_str();
    let mut body = Vec::with_capacity(32 + status.len() + event.len());
    body.extend_from_slice(b"{\"status\":\"");
    body.extend_from_slice(status.as_bytes());
    body.extend_from_slice(b"\",\"id\":");
    // A text always serialises, and a Vec takes everything.
    if serde_json::to_writer(&mut body, event).is_err() {
        body.extend_from_slice(b"null");
    }
    body.push(b'}');
    body.into()
}

fn json(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_escape_ids() {
        assert_eq!(rendered("accepted", &EventId::new("a\"b\n")), r#"{"status":"accepted","id":"a\"b\n"}"#);
    }
}
