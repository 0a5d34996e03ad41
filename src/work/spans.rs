//! The spans of work: what each is called, and what it says (`docs/traces.md`).
//!
//! In: a lease, and what came of the work. Out: a span below the entry's place in its trace. Names of attributes are those of
//! OpenTelemetry where it has one, and `linxo.` with the word of the log for the rest.

use crate::observe::traces::{Kind, Span, Tracer};
use delivery::{Attributes, FailureKind};
use event::UserId;
use inbox::{Lease, Outcome};
use linxo::Exchange;
use std::time::Instant;

/// A completion begins.
pub(super) fn completion(tracer: &Tracer, lease: &Lease, since: Instant) -> Span {
    let mut span = tracer.span(Kind::Internal, "fetch accounts", lease.entry.trace.as_ref(), since);
    of_lease(&mut span, lease);
    span
}

/// A completion ended.
pub(super) fn completed(span: &mut Span, outcome: &Outcome) {
    let word = match outcome {
        Outcome::Fetched { found, .. } => {
            span.number("linxo.accounts.found", found.accounts);
            "completed"
        }
        Outcome::Retry { reason, .. } => {
            span.failed("retry", reason);
            "retry"
        }
        Outcome::Park { cause, reason } => {
            span.failed(cause.as_str(), reason);
            "parked"
        }
        Outcome::Gone => "gone",
        Outcome::Postpone { .. } => "waits",
        Outcome::Unneeded => "unneeded",
        Outcome::Done | Outcome::Superseded | Outcome::Filtered { .. } | Outcome::Unfetched | Outcome::GiveBack => {
            "nothing"
        }
    };
    span.text("linxo.outcome", word);
}

/// An attempt at a delivery begins. `sink` is the configured name, `kind` the word for the kind of sink.
pub(super) fn delivery(tracer: &Tracer, lease: &Lease, sink: &str, kind: &'static str) -> Span {
    let role = if matches!(kind, "http" | "postgres") { Kind::Client } else { Kind::Producer };
    // Made up only where it is used.
    let name = if tracer.is_on() { format!("send {sink}") } else { String::new() };
    let mut span = tracer.span(role, name, lease.entry.trace.as_ref(), Instant::now());
    of_lease(&mut span, lease);
    span.text("linxo.sink", sink);
    match kind {
        "http" => span.text("http.request.method", "POST"),
        "postgres" => span.text("db.system.name", "postgresql"),
        kind => {
            span.text("messaging.system", if kind == "amqp" { "rabbitmq" } else { kind });
            span.text("messaging.operation.type", "send");
            span.text("messaging.message.id", lease.entry.delivery_id.as_str());
        }
    }
    span
}

/// An attempt at a delivery ended.
pub(super) fn delivered(
    span: &mut Span,
    attributes: &Attributes,
    server: impl FnOnce() -> Option<(String, u16)>,
    result: &Result<(), delivery::Error>,
) {
    if !span.is_recorded() {
        return;
    }
    if let Some((host, port)) = server() {
        span.text("server.address", host.as_str());
        span.number("server.port", u64::from(port));
    }
    span.number("linxo.accounts.delivered", attributes.linxoaccounts);
    let failure = match result {
        Ok(()) => return,
        Err(delivery::Error::Unreadable(_)) => {
            return span.failed("unreadable", "the inbox could not give out the body");
        }
        Err(delivery::Error::Failed(failure)) => failure,
    };
    if let Some(status) = failure.status {
        span.number("http.response.status_code", u64::from(status));
        return span.failed(status.to_string(), &failure.reason);
    }
    let word = match failure.kind {
        FailureKind::Refused { .. } => "refused",
        FailureKind::Busy { .. } => "busy",
        FailureKind::Transient { .. } => "unavailable",
        FailureKind::Gone => "gone",
    };
    span.failed(word, &failure.reason);
}

fn of_lease(span: &mut Span, lease: &Lease) {
    let entry = &lease.entry;
    span.text("linxo.event.id", entry.event_id.as_str());
    span.number("linxo.entry", lease.seq.0.unsigned_abs());
    span.text("linxo.connection.id", entry.connection.as_str());
    span.text("linxo.user.id", entry.user.as_ref().map(UserId::as_str));
    span.number("linxo.attempts", u64::from(lease.attempts));
}

/// Makes a span of each call to the API below a completion.
#[derive(Clone, Copy)]
pub(super) struct Calls<'a> {
    tracer: &'a Tracer,
    below: &'a Span,
}

impl<'a> Calls<'a> {
    pub(super) fn new(tracer: &'a Tracer, below: &'a Span) -> Self {
        Self { tracer, below }
    }

    /// Who is told of calls for one page of a list.
    pub(super) fn page(self, number: u32) -> impl Fn(&Exchange<'_>) + Sync + use<'a> {
        move |exchange| self.note("GET /accounts", "/accounts", Some(number), exchange)
    }

    /// Who is told of calls for the connection itself.
    pub(super) fn connection(self) -> impl Fn(&Exchange<'_>) + Sync + use<'a> {
        move |exchange| self.note("GET /connections/{id}", "/connections/{id}", None, exchange)
    }

    /// The URL is left out: its query names the connection and the user.
    fn note(self, name: &'static str, template: &'static str, page: Option<u32>, exchange: &Exchange<'_>) {
        let mut span = self.tracer.child(Kind::Client, name, self.below, exchange.began);
        if !span.is_recorded() {
            return;
        }
        span.text("http.request.method", "GET");
        span.text("url.template", template);
        span.text("server.address", exchange.host());
        span.number("server.port", exchange.port().map(u64::from));
        span.number("http.response.status_code", exchange.status.map(u64::from));
        span.number("http.request.resend_count", exchange.is_resent.then_some(1));
        span.number("linxo.page", page.map(u64::from));
        if let Some(error) = exchange.error {
            match exchange.status.filter(|status| *status >= 300) {
                Some(status) => span.failed(status.to_string(), &error.to_string()),
                None => span.failed(error.word(), &error.to_string()),
            }
        }
        span.end_at(exchange.began + exchange.took);
    }
}
