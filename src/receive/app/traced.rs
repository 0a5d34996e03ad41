//! The span of a receipt: the beginning of an event's trace, or its place in the caller's.
//!
//! Only what is an event has one: of what strangers send, nothing is recorded but the count and the log line of its refusal.

use super::{asked::Asked, webhook::Webhook};
use crate::{
    observe::traces::{Kind, Span},
    receive::{intake::Receipt, problem::Refusal},
};
use base::trace::TraceParent;
use event::{Event, UserId};

/// Begins when the head of the request was there.
pub(super) fn begin(webhook: &Webhook, asked: &Asked, from: Option<&TraceParent>, event: &Event) -> Span {
    let tracer = &webhook.commits.tracer;
    if !tracer.is_on() {
        return tracer.span(Kind::Server, "", from, asked.since);
    }
    // The secret itself stands in no span.
    let path = webhook.path.trim_end_matches('/');
    let route = if asked.sender.path_secrets.is_empty() { webhook.path.clone() } else { format!("{path}/{{secret}}") };
    let mut span = tracer.span(Kind::Server, format!("POST {route}"), from, asked.since);
    span.text("http.request.method", "POST");
    span.text("url.scheme", "https");
    span.text("http.route", route.as_str());
    span.text("linxo.event.id", event.id.as_str());
    span.text("linxo.connection.id", event.connection.as_str());
    span.text("linxo.user.id", event.user.as_ref().map(UserId::as_str));
    span.number("linxo.accounts.announced", event.account_count);
    span.number("linxo.accounts.listed", event.listed);
    span
}

/// The inbox took the event. `late`: what its caller had been answered by then.
pub(super) fn taken(span: &mut Span, receipt: &Receipt, outcome: &str, late: Option<&Refusal>) {
    // A span has each attribute once.
    match late {
        Some(refusal) => refused(span, refusal),
        None => span.number("http.response.status_code", 200),
    }
    span.number("linxo.entry", receipt.seq.map(|seq| seq.0.unsigned_abs()));
    span.text("linxo.outcome", outcome);
}

/// The caller was answered that the event is not taken, or not yet.
pub(super) fn refused(span: &mut Span, refusal: &Refusal) {
    let status = refusal.status().as_u16();
    span.number("http.response.status_code", u64::from(status));
    span.failed(status.to_string(), refusal.reason().label());
}
