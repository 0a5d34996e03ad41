//! One span: a piece of work in a trace, from its beginning to its end.

use base::{clock::time_of_day, trace::TraceParent};
use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::Span as Recorded;
use std::{borrow::Cow, time::Instant};

/// A piece of work in a trace. It ends when it is dropped.
///
/// Where traces are off, or this one is not recorded, it only carries the place on which the next work goes on.
#[derive(Debug)]
#[must_use = "the span ends when this is dropped"]
pub struct Span {
    /// `None` where nothing is recorded.
    recorded: Option<Recorded>,
    place: Option<TraceParent>,
}

impl Span {
    /// A span that records nothing.
    pub(super) fn passing(place: Option<&TraceParent>) -> Self {
        Self { recorded: None, place: place.cloned() }
    }

    pub(super) fn begun(span: Recorded) -> Self {
        let place = place(span.span_context());
        Self { recorded: Some(span).filter(Recorded::is_recording), place: Some(place) }
    }

    /// What belongs below this span: the next hop is told, and the entry keeps it.
    #[must_use]
    pub const fn place(&self) -> Option<&TraceParent> {
        self.place.as_ref()
    }

    /// The trace's id, for log lines.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.place.as_ref().map(TraceParent::trace_id)
    }

    /// Notes a text.
    pub fn text<'a>(&mut self, name: &'static str, text: impl Into<Option<&'a str>>) {
        if let (Some(span), Some(text)) = (&mut self.recorded, text.into()) {
            span.set_attribute(KeyValue::new(name, text.to_owned()));
        }
    }

    /// Notes a number.
    pub fn number(&mut self, name: &'static str, number: impl Into<Option<u64>>) {
        if let (Some(span), Some(number)) = (&mut self.recorded, number.into()) {
            span.set_attribute(KeyValue::new(name, i64::try_from(number).unwrap_or(i64::MAX)));
        }
    }

    /// Notes that the work failed: a word of a closed set (`error.type`), and a sentence for people.
    pub fn failed(&mut self, error: impl Into<Cow<'static, str>>, told: &str) {
        if let Some(span) = &mut self.recorded {
            span.set_attribute(KeyValue::new("error.type", error.into()));
            span.set_status(Status::error(told.to_owned()));
        }
    }

    /// Whether anything of it is recorded.
    #[must_use]
    pub const fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// Ends it at another time than now.
    pub fn end_at(mut self, at: Instant) {
        if let Some(span) = &mut self.recorded {
            span.end_with_timestamp(time_of_day(at));
        }
    }

    /// Where a span below this one belongs; `None` where this one is not recorded.
    pub(super) fn context(&self) -> Option<SpanContext> {
        self.recorded.as_ref().map(|span| span.span_context().clone())
    }
}

/// The place below a span of ours.
fn place(span: &SpanContext) -> TraceParent {
    let (trace, id) = (u128::from_be_bytes(span.trace_id().to_bytes()), u64::from_be_bytes(span.span_id().to_bytes()));
    TraceParent::own(trace, id, span.is_sampled(), &span.trace_state().header())
}

/// A place as the library knows it.
pub(super) fn remote(place: &TraceParent) -> Option<SpanContext> {
    let flags = if place.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from_hex(place.trace_id()).ok()?, SpanId::from_hex(place.span_id()).ok()?);
    // A state that cannot be read is left out, and the trace goes on (section 4.3 of the recommendation).
    let state = place.tracestate().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    Some(SpanContext::new(trace, span, flags, true, state))
}

/// The context in which a span below this place begins.
pub(super) fn below(place: Option<SpanContext>) -> Context {
    match place {
        Some(place) => Context::new().with_remote_span_context(place),
        None => Context::new(),
    }
}
