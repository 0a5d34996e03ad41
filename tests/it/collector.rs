//! Traces before a collector that is not of this repository: a few lines of Python around the protocol's messages from `PyPI`, in a
//! process of its own. What `traces` reads with the messages that the service writes with, this reads with others.

use crate::{
    readme::root,
    support::{Endpoint, LIMIT, Site, event_json, eventually, text},
};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use tokio::time::timeout;

/// The version that was tried.
const PACKAGE: &str = "opentelemetry-proto==1.38.0";

/// A Python that has the messages; made once, in the folder of tools.
fn python() -> Option<PathBuf> {
    let folder = root().join("target/tools/otlp");
    let python = folder.join("bin/python");
    let done = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let has_it = || done(Command::new(&python).args(["-c", "import opentelemetry.proto.trace.v1.trace_pb2"]));
    if has_it() {
        return Some(python);
    }
    let made = done(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        && done(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--retries", "1", PACKAGE]));
    (made && has_it()).then_some(python)
}

/// A running collector; it ends with this.
struct Collector {
    process: Child,
    port: u16,
    exports: Arc<Mutex<Vec<Value>>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Collector {
    fn start(python: PathBuf) -> Self {
        let mut process =
            Command::new(python).arg(root().join("tests/it/collector.py")).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap().parse().unwrap();
        let exports = Arc::<Mutex<Vec<Value>>>::default();
        let noted = Arc::clone(&exports);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                noted.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { process, port, exports }
    }

    /// Every span so far, with its resource's attributes.
    fn spans(&self) -> Vec<(Value, Value)> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut spans = Vec::new();
        for resource in self.exports.lock().unwrap().iter().flat_map(|export| list(&export["resource_spans"])) {
            for scope in list(&resource["scope_spans"]) {
                spans.extend(list(&scope["spans"]).into_iter().map(|span| (span, resource["resource"].clone())));
            }
        }
        spans
    }
}

/// An attribute as text; empty where it is not there.
fn attribute(of: &Value, name: &str) -> String {
    let attributes = of["attributes"].as_array().cloned().unwrap_or_default();
    let found = attributes.into_iter().find(|attribute| attribute["key"] == name);
    let value = found.map(|attribute| attribute["value"].clone()).unwrap_or_default();
    let text = |kind: &str| value[kind].as_str().map(str::to_owned);
    text("string_value").or_else(|| text("int_value")).unwrap_or_default()
}

/// A receipt, a delivery that failed and one that was taken, as somebody else's decoder reads them.
#[tokio::test(flavor = "multi_thread")]
async fn another_decoder_reads_the_same_trace() {
    let Some(python) = tokio::task::spawn_blocking(python).await.unwrap() else {
        eprintln!("SKIPPED: there is no python3 with {PACKAGE}, and PyPI cannot be reached");
        return;
    };
    let collector = Collector::start(python);
    let has_failed = AtomicBool::new(false);
    let app = Endpoint::start(move |_| Some(if has_failed.swap(true, Ordering::SeqCst) { 200 } else { 429 })).await;
    let mut site = Site::new();
    site.set("traces.endpoint", text(format_args!("http://127.0.0.1:{}", collector.port))).http_sink("app", &app.url());
    let service = site.start().await;
    service.door.accept(event_json("e7", "7", 2, false)).await;
    service.settled().await;
    timeout(LIMIT, service.stop()).await.unwrap();

    let spans = eventually("every span was read", async || {
        let spans = collector.spans();
        (spans.len() >= 3).then_some(spans)
    })
    .await;
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let (_, resource) = &spans[0];
    assert_eq!(attribute(resource, "service.name"), "linxo-webhook");
    let named = |name: &str| spans.iter().map(|(span, _)| span).filter(|span| span["name"] == name).collect::<Vec<_>>();
    let [receipt] = named("POST /webhooks/linxo")[..] else { panic!("{spans:#?}") };
    let mut deliveries = named("send app");
    deliveries.sort_by_key(|span| attribute(span, "linxo.attempts"));
    let [failed, taken] = deliveries[..] else { panic!("{spans:#?}") };
    assert_eq!((&receipt["kind"], &receipt["parent_span_id"]), (&"SPAN_KIND_SERVER".into(), &Value::Null));
    for delivery in [failed, taken] {
        assert_eq!(delivery["kind"], "SPAN_KIND_CLIENT");
        assert_eq!((&delivery["trace_id"], &delivery["parent_span_id"]), (&receipt["trace_id"], &receipt["span_id"]));
        assert_eq!(attribute(delivery, "linxo.event.id"), "e7");
        assert_eq!(attribute(delivery, "linxo.accounts.delivered"), "2");
    }
    assert_eq!(failed["status"]["code"], "STATUS_CODE_ERROR");
    assert_eq!(failed["status"]["message"], "the endpoint answered 429 Too Many Requests");
    assert_eq!(
        (attribute(failed, "error.type"), attribute(failed, "http.response.status_code")),
        ("429".into(), "429".into())
    );
    assert_eq!((&taken["status"]["code"], attribute(taken, "error.type")), (&Value::Null, String::new()));
    // The endpoint was told the same ids.
    let hex = |id: &Value| HEXLOWER.encode(&BASE64.decode(id.as_str().unwrap().as_bytes()).unwrap());
    let told = app.taken()[0].header("traceparent").to_owned();
    assert_eq!(told, format!("00-{}-{}-01", hex(&taken["trace_id"]), hex(&taken["span_id"])));
}
