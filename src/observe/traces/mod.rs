//! Traces by OpenTelemetry: one for each event, from its receipt through its completion to each delivery.
//!
//! In: work as it begins and ends, where the work is done. Out: spans to a collector, by OTLP over HTTP; and the place in the trace
//! on which the next work goes on. That place is stored with the entry, so a trace goes on after a restart and on another
//! receiver. Promises, held by `tests/it/traces`:
//! - Without a `[traces]` section nothing is made. The place that a caller named is kept, and sent on as it came.
//! - Who is recorded is decided once, when the event comes, by `traces.sample`. A caller's own word counts only with
//!   `traces.callers = "trusted"`; otherwise a new trace begins, with a link to the caller's ("restart trace" of the W3C
//!   recommendation, section 3.4).
//! - No work waits for the collector, and no event is lost for its sake.
//! - No body, name, amount, credential or query is in a span. Ids of connections and users are, as in the log.
//!
//! Spans are made by hand where the work is, and not of every function: their number and their words are a promise to people
//! (`docs/traces.md`). Why not `tracing-opentelemetry`: it makes spans of spans of `tracing`, of which this service has none, and
//! every log line would pay for them.

mod export;
mod figures;
mod headers;
mod otlp;
pub mod settings;
mod span;

pub use opentelemetry::trace::SpanKind as Kind;
pub use otlp::BuildError;
pub use span::Span;

use base::{clock::time_of_day, trace::TraceParent};
use export::{Exporter, Queue};
use figures::Figures;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Link, SpanBuilder, Tracer as _, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider, SpanLimits},
};
use prometheus_client::registry::Registry;
use settings::Traces;
use std::{borrow::Cow, sync::Arc, time::Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Begins spans. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    tracer: SdkTracer,
    trusts_callers: bool,
}

/// The end of tracing: sends what still waits.
#[derive(Debug)]
#[must_use = "what still waits at the end is lost without it"]
pub struct Ending {
    end: CancellationToken,
    exporter: Option<JoinHandle<()>>,
}

/// Starts tracing, or not: without settings every span only passes its place on. Must be called inside of a runtime.
///
/// # Errors
/// [`BuildError`]: files of the settings cannot be used.
pub fn start(settings: Option<&Traces>, registry: &mut Registry) -> Result<(Tracer, Ending), BuildError> {
    let figures = Figures::new(registry);
    let end = CancellationToken::new();
    let Some(settings) = settings else { return Ok((Tracer::default(), Ending { end, exporter: None })) };
    let (queue, waiting) = export::queue(settings.queue, figures.clone());
    let resource = resource(settings);
    let exporter = Exporter::new(waiting, otlp::Client::new(settings)?, &resource, figures);
    let exporter = tokio::spawn(exporter.run(end.clone()));
    Ok((Tracer::new(settings, queue, resource), Ending { end, exporter: Some(exporter) }))
}

/// What the spans come from.
fn resource(settings: &Traces) -> Resource {
    let given = settings.resource.iter().map(|attribute| (attribute.name.clone(), attribute.value.clone()));
    let own = [
        ("service.name", env!("CARGO_PKG_NAME").to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", format!("{:016x}", fastrand::u64(..))),
    ];
    // What is given stands last, and so holds.
    let all = own.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(given);
    Resource::builder_empty().with_attributes(all.map(|(name, value)| KeyValue::new(name, value))).build()
}

impl Tracer {
    /// Nothing of the library's own settings comes from the environment: all of them are set here.
    fn new(settings: &Traces, queue: Queue, resource: Resource) -> Self {
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample.ratio()))))
            .with_span_limits(SpanLimits::default())
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION"));
        let tracer = provider.tracer_with_scope(scope.build());
        Self(Some(Arc::new(Inner { tracer, trusts_callers: settings.trusts_callers })))
    }

    /// Begins a span, below a place where there is one that counts.
    pub fn span(
        &self,
        kind: Kind,
        name: impl Into<Cow<'static, str>>,
        from: Option<&TraceParent>,
        since: Instant,
    ) -> Span {
        let Some(inner) = &self.0 else { return Span::passing(from) };
        let mut builder = SpanBuilder::from_name(name).with_kind(kind).with_start_time(time_of_day(since));
        let counts = from.is_none_or(|place| place.is_own() || inner.trusts_callers);
        let mut place = from.and_then(span::remote);
        if !counts && let Some(claimed) = place.take() {
            builder = builder.with_links(vec![Link::with_context(claimed)]);
        }
        Span::begun(inner.tracer.build_with_context(builder, &span::below(place)))
    }

    /// Begins a span below another one of this process. Where that one is not recorded, this one is not.
    pub fn child(&self, kind: Kind, name: impl Into<Cow<'static, str>>, below: &Span, since: Instant) -> Span {
        let (Some(inner), Some(place)) = (&self.0, below.context()) else { return Span::passing(None) };
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_start_time(time_of_day(since));
        Span::begun(inner.tracer.build_with_context(builder, &span::below(Some(place))))
    }

    /// Whether spans are recorded at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

impl Ending {
    /// Sends what still waits, within a limit; what is not sent then is counted as dropped.
    pub async fn flush(self) {
        self.end.cancel();
        if let Some(exporter) = self.exporter {
            // A panic there was noted when it happened.
            drop(exporter.await);
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use self::tests::recording;
