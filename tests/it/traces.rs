//! `docs/traces.md` through the true service: one trace for each event, as a collector reads it.
//!
//! The collector is an HTTP endpoint whose bodies are read with the messages of the protocol itself.

use crate::{
    readme::{documents as texts, root},
    support::{Endpoint, LIMIT, Received, Service, Site, documents, event_json, eventually, request, secrets, text},
    support_api::connection,
};
use base::trace::TraceParent;
use data_encoding::HEXLOWER;
use double::servers::free_port;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use rustix::process::Signal;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::time::timeout;

const CALLERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// Of the collector.
const TOKEN: &str = "collector-token-0123456789abcdef";

async fn collector() -> Endpoint {
    Endpoint::start(|_| Some(200)).await
}

/// A site that sends its spans to a collector.
fn traced(collector: &Endpoint) -> Site {
    let mut site = Site::new();
    site.set("traces.endpoint", text(format_args!("http://{}", collector.address)));
    site
}

/// Attributes as text.
fn plain(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |attribute: &KeyValue| match attribute.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{}: {other:?}", attribute.key),
    };
    let plain: BTreeMap<_, _> = attributes.iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect();
    assert_eq!(plain.len(), attributes.len(), "each name stands once: {attributes:?}");
    plain
}

fn exports(collector: &Endpoint) -> Vec<ExportTraceServiceRequest> {
    collector.taken().iter().map(|export| ExportTraceServiceRequest::decode(export.body.clone()).unwrap()).collect()
}

/// Every span that the collector has, in the order of their beginnings.
fn spans(collector: &Endpoint) -> Vec<Span> {
    let resources = exports(collector).into_iter().flat_map(|export| export.resource_spans);
    let mut spans: Vec<Span> =
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect();
    spans.sort_by_key(|span| span.start_time_unix_nano);
    spans
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn attribute(span: &Span, name: &str) -> String {
    plain(&span.attributes).remove(name).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32)
}

/// The `traceparent` of a span that is recorded.
fn place(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

/// A post of an event with more fields in its head.
fn with_head(path: &str, fields: &str, body: &str) -> String {
    let request = String::from_utf8(request(body)).unwrap();
    let request = request.replacen("/webhooks/linxo", path, 1);
    request.replacen("\r\nhost:", &format!("\r\n{fields}host:"), 1)
}

/// One truncated event, two sinks, a restart between receipt and completion, and a sink that fails once: everything is one
/// trace, each span stands where it belongs, and what the sinks were sent leads to the attempt that brought it.
#[tokio::test(flavor = "multi_thread")]
async fn one_event_is_one_trace_across_a_restart_and_a_retry() {
    let has_failed = AtomicBool::new(false);
    let app = Endpoint::start(move |_| Some(if has_failed.swap(true, Ordering::SeqCst) { 200 } else { 503 })).await;
    let collector = collector().await;
    let mut site = traced(&collector);
    site.http_sink("app", &app.url());
    let lines = site.file_sink("lines");
    let simulator = site
        .simulator(double::Settings {
            connections: vec![connection("7", 150)],
            client_secret: base::secret::Secret::new(secrets::CLIENT.to_owned()),
            ..double::Settings::default()
        })
        .await;
    site.secret("traces.headers", &format!("authorization=Bearer%20{TOKEN}"));
    site.secret("sender.path_secret", secrets::PATH);
    site.set("traces.resource", r#"["deployment.environment.name=test"]"#);

    site.set("worker.concurrency", 0);
    let service = site.start().await;
    let path = format!("/webhooks/linxo/{}", secrets::PATH);
    let answer = service.door.exchange(with_head(&path, "", &event_json("e7", "7", 150, true))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    service.stop().await;
    assert_eq!(spans(&collector).len(), 1, "the end of a service waits for its spans");

    site.set("worker.concurrency", 4);
    let service = site.start().await;
    service.settled().await;
    service.stop().await;

    let spans = spans(&collector);
    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| span.trace_id.as_slice()).collect();
    assert_eq!(traces.len(), 1, "{spans:#?}");
    let [receipt] = named(&spans, "POST /webhooks/linxo/{secret}")[..] else { panic!("{spans:#?}") };
    let [completion] = named(&spans, "fetch accounts")[..] else { panic!("{spans:#?}") };
    let (pages, to_app) = (named(&spans, "GET /accounts"), named(&spans, "send app"));
    let [to_lines] = named(&spans, "send lines")[..] else { panic!("{spans:#?}") };
    assert_eq!(spans.len(), 3 + pages.len() + to_app.len());

    assert_eq!((receipt.kind, receipt.parent_span_id.len()), (SpanKind::Server as i32, 0));
    assert_eq!(attribute(receipt, "http.response.status_code"), "200");
    assert_eq!((completion.kind, &completion.parent_span_id), (SpanKind::Internal as i32, &receipt.span_id));
    assert_eq!(attribute(completion, "linxo.accounts.found"), "150");
    let numbers: BTreeSet<String> = pages.iter().map(|page| attribute(page, "linxo.page")).collect();
    assert!(numbers.contains("1") && numbers.contains("2"), "{numbers:?}");
    for page in pages {
        assert_eq!((page.kind, &page.parent_span_id), (SpanKind::Client as i32, &completion.span_id));
        assert_eq!(attribute(page, "http.response.status_code"), "200");
        assert_eq!(attribute(page, "server.address"), "localhost");
        assert!(page.start_time_unix_nano >= completion.start_time_unix_nano && !is_error(page));
        assert!(page.end_time_unix_nano > page.start_time_unix_nano);
    }
    assert_eq!((to_lines.kind, &to_lines.parent_span_id), (SpanKind::Producer as i32, &receipt.span_id));
    assert_eq!(attribute(to_lines, "linxo.accounts.delivered"), "150");

    let [failed, taken] = to_app[..] else { panic!("{to_app:#?}") };
    for (attempt, number) in [(failed, "1"), (taken, "2")] {
        assert_eq!((attempt.kind, &attempt.parent_span_id), (SpanKind::Client as i32, &receipt.span_id));
        assert_eq!(attribute(attempt, "linxo.attempts"), number);
        assert_eq!(attribute(attempt, "server.port"), app.address.port().to_string());
    }
    assert_eq!((is_error(failed), attribute(failed, "error.type").as_str()), (true, "503"));
    assert_eq!(attribute(failed, "http.response.status_code"), "503");
    assert_eq!(failed.status.as_ref().unwrap().message, "the endpoint answered 503 Service Unavailable");
    assert_eq!((is_error(taken), attribute(taken, "error.type").as_str()), (false, ""));

    let sent: Vec<String> = app.attempts().iter().map(|attempt| attempt.header("traceparent").to_owned()).collect();
    assert_eq!(sent, [place(failed), place(taken)]);
    assert_eq!(documents(&lines)[0]["traceparent"], place(to_lines));
    // The vendor is told nothing of our traces.
    let headers: Vec<String> = simulator.requests().into_iter().flat_map(|request| request.headers).collect();
    assert!(!headers.is_empty() && !headers.iter().any(|name| name.starts_with("trace")), "{headers:?}");

    let export = &collector.attempts()[0];
    assert_eq!((export.path.as_str(), export.header("content-type")), ("/v1/traces", "application/x-protobuf"));
    assert_eq!(export.header("authorization"), format!("Bearer {TOKEN}"));
    let resource = exports(&collector).remove(0).resource_spans.remove(0).resource.unwrap();
    let resource = plain(&resource.attributes);
    assert_eq!((&*resource["service.name"], &*resource["deployment.environment.name"]), ("linxo-webhook", "test"));
    nothing_private_is_in(&collector.attempts());
    documented(&spans);
}

/// No credential, no account, no query, no body of anybody.
fn nothing_private_is_in(exports: &[Received]) {
    let canaries = [secrets::PATH, secrets::CLIENT, secrets::SIGNING, TOKEN, "balance", "connection_id="];
    for export in exports {
        for canary in canaries {
            let is_there = export.body.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!is_there, "{canary} is in a span");
        }
    }
}

/// Every attribute that a span has stands in the document.
fn documented(spans: &[Span]) {
    let text = fs::read_to_string(root().join("docs/traces.md")).unwrap();
    for name in spans.iter().flat_map(|span| &span.attributes).map(|attribute| &attribute.key) {
        assert!(text.contains(&format!("`{name}`")), "docs/traces.md says nothing of {name}");
    }
    assert!(texts().iter().any(|path| path.ends_with("docs/traces.md")));
}

/// What a caller says of its trace, and what the sink is told then.
#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_is_passed_on_restarted_or_followed() {
    let head = format!("traceparent: {CALLERS}\r\ntracestate: a=1\r\ntracestate: b=2\r\n");
    let app = Endpoint::start(|_| Some(200)).await;
    let collector = collector().await;
    for callers in [None, Some("untrusted"), Some("trusted")] {
        let mut site = if callers.is_some() { traced(&collector) } else { Site::new() };
        site.http_sink("app", &app.url());
        if let Some(word) = callers {
            site.set("traces.callers", text(word));
        }
        let service = site.start().await;
        let answer = service.door.exchange(with_head("/webhooks/linxo", &head, &event_json("e", "7", 1, false))).await;
        assert_eq!(answer.status, 200);
        service.settled().await;
        service.stop().await;
        let sent = app.taken().pop().unwrap();
        let (parent, state) = (sent.header("traceparent"), sent.header("tracestate"));
        let found = TraceParent::of_caller(parent, None).unwrap();
        let callers_own = TraceParent::of_caller(CALLERS, None).unwrap();
        match callers {
            None => assert_eq!((parent, state), (CALLERS, "a=1,b=2")),
            Some("untrusted") => {
                assert!(found.trace_id() != callers_own.trace_id() && state.is_empty(), "{parent}, {state}");
                let spans = spans(&collector);
                let links = &named(&spans, "POST /webhooks/linxo")[0].links;
                assert_eq!(hex(&links[0].trace_id), callers_own.trace_id());
            }
            Some(_) => {
                assert_eq!((found.trace_id(), state), (callers_own.trace_id(), "a=1,b=2"));
                let spans = spans(&collector);
                let receipt = named(&spans, "POST /webhooks/linxo").pop().unwrap();
                assert_eq!(hex(&receipt.parent_span_id), callers_own.span_id());
            }
        }
    }
    // More than one is none.
    let mut site = Site::new();
    site.http_sink("app", &app.url());
    let service = site.start().await;
    let twice = format!("traceparent: {CALLERS}\r\ntraceparent: {CALLERS}\r\n");
    service.door.exchange(with_head("/webhooks/linxo", &twice, &event_json("f", "7", 1, false))).await;
    service.settled().await;
    service.stop().await;
    assert_eq!(app.taken().pop().unwrap().header("traceparent"), "");
}

/// Without a share nothing is exported, and the sinks are told that nothing is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sampled_is_told_to_nobody_but_the_next_hop() {
    let (app, collector) = (Endpoint::start(|_| Some(200)).await, collector().await);
    let mut site = traced(&collector);
    site.set("traces.sample", text("0"));
    site.http_sink("app", &app.url());
    let service = site.start().await;
    service.door.accept(event_json("e", "7", 1, false)).await;
    service.settled().await;
    service.stop().await;
    assert!(app.taken()[0].header("traceparent").ends_with("-00"));
    assert_eq!(collector.attempts().len(), 0);
}

/// The lines of the log that are about an event name its trace.
#[tokio::test(flavor = "multi_thread")]
async fn log_lines_carry_the_trace_and_sigterm_sends_what_waits() {
    let collector = collector().await;
    let mut site = traced(&collector);
    site.file_sink("lines");
    let process = site.spawn().await;
    process.door.accept(event_json("e", "7", 1, false)).await;
    eventually("it is delivered", async || process.output().contains("event_delivered").then_some(())).await;
    process.signal(Signal::TERM);
    let (status, output) = process.ended().await;
    assert!(status.success(), "{output}");
    let spans = spans(&collector);
    let trace = hex(&named(&spans, "send lines")[0].trace_id);
    for code in ["event_accepted", "event_delivered"] {
        let line = output.lines().find(|line| line.contains(code)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["trace_id"], trace.as_str(), "{line}");
    }
}

/// Counted spans by what became of them, also when the service has ended.
async fn stopped(service: Service) -> BTreeMap<&'static str, u64> {
    let metrics = Arc::clone(&service.running.metrics);
    timeout(LIMIT, service.stop()).await.expect("its end has a limit");
    let text = metrics.encode();
    let count = |outcome| {
        let line = format!("linxo_webhook_trace_spans_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse().unwrap()
    };
    ["exported", "dropped", "failed", "rejected"].map(|outcome| (outcome, count(outcome))).into()
}

/// A collector that is away, one that never answers, and one that refuses: no event waits or is lost, and each span is counted.
#[tokio::test(flavor = "multi_thread")]
async fn no_event_suffers_from_its_collector() {
    const EVENTS: usize = 100;
    let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
    let (silent, refusing) = (Endpoint::start(|_| None).await, Endpoint::start(|_| Some(400)).await);
    for address in [gone, silent.address, refusing.address] {
        let mut site = Site::new();
        site.set("traces.endpoint", text(format_args!("http://{address}"))).set("traces.queue", 64);
        let lines = site.file_sink("lines");
        let service = site.start().await;
        for number in 0..EVENTS {
            service.door.accept(event_json(&number.to_string(), &number.to_string(), 1, false)).await;
        }
        service.settled().await;
        assert_eq!(documents(&lines).len(), EVENTS);
        let counted = stopped(service).await;
        // A receipt and a delivery each.
        assert_eq!(counted["dropped"] + counted["failed"], 2 * EVENTS as u64, "{address}: {counted:?}");
        assert_eq!((counted["exported"], counted["rejected"]), (0, 0));
    }
}

/// After an outage of the collector, spans are exported again.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_comes_back_is_used_again() {
    let collector = Endpoint::start(|_| Some(400)).await;
    let mut site = traced(&collector);
    site.file_sink("lines");
    let service = site.start().await;
    service.door.accept(event_json("1", "7", 1, false)).await;
    service.metric_reaches("linxo_webhook_trace_spans_total{outcome=\"failed\"}", 2).await;
    collector.judge(|_| Some(200));
    service.door.accept(event_json("2", "7", 1, false)).await;
    service.metric_reaches("linxo_webhook_trace_spans_total{outcome=\"exported\"}", 2).await;
    assert_eq!(stopped(service).await["exported"], 2);
    assert_eq!(spans(&collector).len(), 2);
}
