//! Which trace a span is in, whether it is recorded, and what becomes of spans that nobody takes.

use super::*;
use ::settings::units;
use opentelemetry_sdk::trace::SpanData;
use std::time::Duration;
use tokio::sync::mpsc;

const CLAIMED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn settings(trusts_callers: bool, sample: &str) -> Traces {
    Traces {
        endpoint: "http://127.0.0.1:9".to_owned(),
        headers: None,
        sample: settings::share(sample).unwrap(),
        trusts_callers,
        resource: Vec::new(),
        queue: 64,
        timeout: units::duration("1s").unwrap(),
        authorities: Vec::new(),
    }
}

fn traced(settings: &Traces) -> (Tracer, mpsc::Receiver<SpanData>) {
    let (queue, waiting) = export::queue(settings.queue, Figures::new(&mut Registry::default()));
    (Tracer::new(settings, queue, resource(settings)), waiting)
}

/// A tracer that records every span, and where they come out as they end.
pub(crate) fn recording() -> (Tracer, mpsc::Receiver<SpanData>) {
    traced(&settings(false, "1"))
}

fn claimed(flags: &str) -> TraceParent {
    TraceParent::of_caller(&CLAIMED.replace("-01", flags), Some("a=b")).unwrap()
}

fn begin(tracer: &Tracer, from: Option<&TraceParent>) -> Span {
    tracer.span(Kind::Server, "work", from, Instant::now())
}

fn counted(registry: &Registry, outcome: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode_registry(&mut text, registry).unwrap();
    let line = format!("trace_spans_total{{outcome=\"{outcome}\"}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse().unwrap()
}

#[test]
fn without_settings_a_callers_place_is_passed_on_as_it_came() {
    let tracer = Tracer::default();
    let place = claimed("-01");
    let span = begin(&tracer, Some(&place));
    assert!(!span.is_recorded() && span.place() == Some(&place));
    assert_eq!(begin(&tracer, None).place(), None);
}

#[test]
fn an_untrusted_caller_neither_chooses_the_trace_nor_whether_it_is_recorded() {
    let (all, mut waiting) = traced(&settings(false, "1"));
    let (none, _nothing) = traced(&settings(false, "0"));
    for flags in ["-00", "-01"] {
        let caller = claimed(flags);
        let span = begin(&all, Some(&caller));
        let place = span.place().unwrap().clone();
        assert!(place.is_own() && place.is_sampled() && place.trace_id() != caller.trace_id());
        assert_eq!(place.tracestate(), None);
        drop(span);
        let span = waiting.try_recv().unwrap();
        assert_eq!(span.links.links[0].span_context.trace_id().to_string(), caller.trace_id());
        assert!(!begin(&none, Some(&caller)).place().unwrap().is_sampled());
    }
}

#[test]
fn a_trusted_caller_is_followed() {
    // What begins here would not be recorded.
    let (tracer, mut waiting) = traced(&settings(true, "0"));
    for (flags, is_recorded) in [("-00", false), ("-01", true)] {
        let caller = claimed(flags);
        let span = begin(&tracer, Some(&caller));
        let place = span.place().unwrap().clone();
        assert_eq!((span.is_recorded(), place.is_sampled()), (is_recorded, is_recorded));
        assert_eq!((place.trace_id(), place.tracestate()), (caller.trace_id(), Some("a=b")));
        assert_ne!(place.span_id(), caller.span_id());
        drop(span);
        let span = waiting.try_recv().ok();
        assert_eq!(span.map(|span| span.parent_span_id.to_string()), is_recorded.then(|| caller.span_id().to_owned()));
    }
    assert!(!begin(&tracer, None).is_recorded());
}

/// As after a restart: the place was stored and read back.
#[test]
fn what_was_decided_at_the_receipt_holds_for_all_that_follows() {
    let (all, mut waiting) = traced(&settings(false, "1"));
    let (none, _nothing) = traced(&settings(false, "0"));
    for (first, then, is_recorded) in [(&all, &none, true), (&none, &all, false)] {
        let stored = begin(first, None).place().unwrap().as_str().to_owned();
        let stored = TraceParent::parse(&stored).unwrap();
        let span = begin(then, Some(&stored));
        assert_eq!((span.is_recorded(), span.trace_id()), (is_recorded, Some(stored.trace_id())));
        assert_eq!(then.child(Kind::Client, "call", &span, Instant::now()).is_recorded(), is_recorded);
    }
    assert_eq!(waiting.try_recv().unwrap().span_kind, Kind::Server);
}

#[test]
fn about_the_wanted_share_is_recorded() {
    let (tracer, _waiting) = traced(&settings(false, "0.25"));
    let recorded = (0..4000).filter(|_| begin(&tracer, None).is_recorded()).count();
    assert!((800..1200).contains(&recorded), "{recorded}");
}

#[test]
fn a_name_of_the_service_that_is_given_holds() {
    let mut settings = settings(false, "1");
    assert_eq!(resource(&settings).get(&"service.name".into()).unwrap().as_str(), "linxo-webhook");
    settings.resource = vec![settings::Attribute { name: "service.name".to_owned(), value: "ours".to_owned() }];
    assert_eq!(resource(&settings).get(&"service.name".into()).unwrap().as_str(), "ours");
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let mut registry = Registry::default();
    let (tracer, ending) = start(Some(&settings(false, "1")), &mut registry).unwrap();
    // The task that sends has had no turn yet.
    for _ in 0..100 {
        drop(begin(&tracer, None));
    }
    assert_eq!(counted(&registry, "dropped"), 36);
    ending.flush().await;
    assert_eq!(counted(&registry, "failed"), 64);
    // Nobody takes what ends later.
    drop(begin(&tracer, None));
    assert_eq!(counted(&registry, "dropped"), 37);
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_away_is_tried_again_and_then_given_up() {
    let mut registry = Registry::default();
    let (tracer, ending) = start(Some(&settings(false, "1")), &mut registry).unwrap();
    let started = tokio::time::Instant::now();
    drop(begin(&tracer, None));
    while counted(&registry, "failed") == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(started.elapsed() > Duration::from_secs(7), "{:?}", started.elapsed());
    ending.flush().await;
    assert_eq!(["exported", "dropped", "failed", "rejected"].map(|word| counted(&registry, word)), [0, 0, 1, 0]);
}
