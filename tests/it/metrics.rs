//! The figures: `docs/metrics.md` has all of them and no others, and everything an alert may ask for is there from the start.

use crate::{
    readme::{documents, root},
    support::{LIMIT, Service, Site, admin, event_json, eventually},
};
use base::clock;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// Metrics by name; of each its kind, and the values of each of its labels.
pub(crate) type Metrics = BTreeMap<String, (String, BTreeMap<String, BTreeSet<String>>)>;

/// The text of `/metrics` as metrics: name with its ending, kind, values of labels.
fn exposed(text: &str) -> Metrics {
    let (mut found, mut kinds) = (Metrics::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            kinds.insert(name.to_owned(), kind.to_owned());
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let endings = ["_total", "_bucket", "_sum", "_count", ""];
        let family = endings.iter().find_map(|ending| kinds.get_key_value(name.strip_suffix(ending)?));
        let (family, kind) = family.unwrap_or_else(|| panic!("{name} has no type"));
        let name = if kind == "histogram" { family } else { name };
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let (_, known) = found.entry(name.to_owned()).or_insert_with(|| (kind.clone(), BTreeMap::new()));
        for (label, value) in labels.map(|label| label.split_once("=\"").unwrap()).filter(|(label, _)| *label != "le") {
            let value = value.trim_end_matches('"').to_owned();
            known.entry(label.to_owned()).or_insert_with(BTreeSet::new).insert(value);
        }
    }
    found
}

/// What stands between backticks.
fn words(cell: &str) -> impl Iterator<Item = String> + '_ {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The rows of the tables of a document, as cells.
pub(crate) fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect()).collect()
}

/// What the document says, for a service with these sinks.
pub(crate) fn documented(sinks: &[&str]) -> Metrics {
    let text = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let (_, all) = text.split_once("\n## All metrics\n").unwrap();
    let (all, values) = all.split_once("\n## Values of labels\n").unwrap();
    let mut found = Metrics::new();
    for row in rows(all).into_iter().filter(|row| row[0].starts_with('`')) {
        let labels = words(row[2]).map(|label| (label, BTreeSet::new())).collect();
        let name = row[0].trim_matches('`').to_owned();
        assert!(found.insert(name, (row[1].to_owned(), labels)).is_none(), "{} stands twice", row[0]);
    }
    for row in rows(values).into_iter().filter(|row| row[0].starts_with('`')) {
        let (_, labels) = found.get_mut(row[0].trim_matches('`')).unwrap_or_else(|| panic!("{} is no metric", row[0]));
        let values = labels.get_mut(row[1].trim_matches('`')).unwrap_or_else(|| panic!("{row:?} is no label"));
        values.extend(words(row[2]));
        if row[2].contains("the configured sinks") {
            values.extend(sinks.iter().map(|&sink| sink.to_owned()));
        }
    }
    found
}

async fn scraped(service: &Service) -> String {
    admin(service.admin, "/metrics", None).await.body
}

/// The figures of a service, without what a build says of itself.
async fn metrics(service: &Service) -> Metrics {
    let mut found = exposed(&scraped(service).await);
    let (_, build) = found.get_mut("linxo_webhook_build_info").unwrap();
    assert_eq!(build["version"], BTreeSet::from([env!("CARGO_PKG_VERSION").to_owned()]));
    build.values_mut().for_each(BTreeSet::clear);
    found
}

/// (F1) Every series is there as 0 before anything happens, and no other one is born when something does. The only figure
/// without a value is the time of an event that there never was.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_just_started_has_every_documented_series() {
    let mut site = Site::new();
    site.file_sink("file");
    site.file_sink("second");
    let service = site.start().await;
    let mut expected = documented(&["file", "second"]);
    let last = expected.remove("linxo_webhook_last_event_timestamp_seconds").unwrap();
    let shown = metrics(&service).await;
    let names = |metrics: &Metrics| metrics.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&shown), names(&expected));
    for (name, documented) in &expected {
        assert_eq!(&shown[name], documented, "{name}");
    }
    for line in scraped(&service).await.lines() {
        let is_count = line.contains("_total") && !line.starts_with(['#', 'p']);
        assert!(!is_count || line.ends_with(" 0"), "{line}");
    }

    service.door.accept(event_json("1", "7", 1, false)).await;
    service.door.accept(event_json("2", "7", 101, true)).await;
    assert_eq!(service.door.exchange("GET /other HTTP/1.1\r\nhost: x\r\n\r\n").await.status, 404);
    service.settled().await;
    expected.insert("linxo_webhook_last_event_timestamp_seconds".to_owned(), last);
    assert_eq!(metrics(&service).await, expected);
}

/// (F1) What stands in a table is what its writer meant: a bar inside of a cell would cut the cell in two.
#[test]
fn rows_of_tables_have_as_many_cells_as_their_head() {
    let mut tables = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let mut cells = None;
        for line in text.lines() {
            let is_row = line.starts_with('|');
            if !is_row {
                cells = None;
                continue;
            }
            let found = line.replace("\\|", "").matches('|').count();
            tables += usize::from(cells.is_none());
            assert_eq!(*cells.get_or_insert(found), found, "{}: {line}", document.display());
        }
    }
    assert!(tables > 20, "{tables}");
}

/// Value of one series.
fn value(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{series} in {text}")).parse().unwrap()
}

fn seconds_since_epoch() -> f64 {
    std::time::Duration::from_secs(clock::now().as_seconds().cast_unsigned()).as_secs_f64()
}

/// (F8) What an operator asks is answered: when the last event came (from before a restart too), how long events take, what
/// the limits are, whether the service is ready.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_asks_is_answered() {
    let mut site = Site::new();
    site.file_sink("file");
    site.set("inbox.max_waiting", 1000).set("inbox.min_free_disk", "\"1 MiB\"");
    let before = seconds_since_epoch();
    let service = site.start().await;
    service.door.accept(event_json("1", "7", 1, false)).await;
    service.door.accept(event_json("1", "7", 2, false)).await;
    service.settled().await;
    let text = scraped(&service).await;
    let last = value(&text, "linxo_webhook_last_event_timestamp_seconds");
    assert!((before..=seconds_since_epoch()).contains(&last), "{last}");
    for (series, expected) in [
        // Each outcome once.
        (r#"linxo_webhook_events_total{outcome="accepted"}"#, 1.0),
        (r#"linxo_webhook_events_total{outcome="conflict"}"#, 1.0),
        (r#"linxo_webhook_accepted_to_delivered_seconds_count{sink="file"}"#, 2.0),
        (r#"linxo_webhook_inbox_oldest_unfinished_seconds{stage="file"}"#, 0.0),
        ("linxo_webhook_inbox_max_waiting", 1000.0),
        ("linxo_webhook_inbox_min_free_bytes", 1_048_576.0),
        ("linxo_webhook_ready", 1.0),
    ] {
        assert!((value(&text, series) - expected).abs() < 0.1, "{series} in {text}");
    }
    assert!(value(&text, "linxo_webhook_inbox_free_bytes") > 1_048_576.0);
    assert!(value(&text, "process_resident_memory_bytes") > 1e6);
    service.stop().await;

    site.set("inbox.min_free_disk", "\"100 TiB\"").set("worker.concurrency", 0);
    let service = site.start().await;
    eventually("the time of the last event is known again", async || {
        let text = scraped(&service).await;
        let line = format!("linxo_webhook_last_event_timestamp_seconds {last}\n");
        (text.contains(&line) && text.contains("linxo_webhook_ready 0\n")).then_some(())
    })
    .await;
}

/// (F8) Since when a sink fails, and since when work waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn since_when_a_sink_fails_is_shown_until_it_does_not() {
    let mut site = Site::new();
    let endpoint = crate::support::Endpoint::start(|_| Some(503)).await;
    site.http_sink("app", &endpoint.url());
    site.file_sink("file");
    let before = seconds_since_epoch();
    let service = site.start().await;
    service.door.accept(event_json("1", "7", 1, false)).await;
    let since = r#"linxo_webhook_sink_failing_since_timestamp_seconds{sink="app"}"#;
    let failing = eventually("the sink fails", async || {
        let failing = value(&scraped(&service).await, since);
        (failing > 0.0).then_some(failing)
    })
    .await;
    assert!((before - 1.0..=seconds_since_epoch()).contains(&failing), "{failing}");
    eventually("work gets older", async || {
        let text = scraped(&service).await;
        assert!(value(&text, r#"linxo_webhook_inbox_oldest_unfinished_seconds{stage="completion"}"#) < 0.5);
        (value(&text, r#"linxo_webhook_inbox_oldest_unfinished_seconds{stage="app"}"#) >= 1.0).then_some(())
    })
    .await;
    endpoint.judge(|_| Some(200));
    service.settled().await;
    let text = scraped(&service).await;
    assert!(value(&text, since) < 0.5, "{text}");
    assert!(value(&text, r#"linxo_webhook_accepted_to_delivered_seconds_sum{sink="app"}"#) >= 1.0);
    assert!(LIMIT.as_secs_f64() > value(&text, r#"linxo_webhook_accepted_to_delivered_seconds_sum{sink="app"}"#));
    endpoint.judge(|_| Some(503));
    service.door.accept(event_json("2", "7", 1, false)).await;
    eventually("it fails again", async || (value(&scraped(&service).await, since) > 0.0).then_some(())).await;
    given_up(&site, &service, "2", since).await;
}

/// (F8) Since when the API fails, and how long it and the server of tokens take.
#[tokio::test(flavor = "multi_thread")]
async fn how_the_api_does_is_shown() {
    let mut site = Site::new();
    site.file_sink("file");
    let simulator = site.simulator(double::Settings::default()).await;
    let service = site.start().await;
    service.door.accept(event_json("1", "7", 101, true)).await;
    let text = eventually("the API was asked", async || {
        let text = scraped(&service).await;
        (value(&text, r#"linxo_webhook_api_request_seconds_count{peer="linxo"}"#) >= 1.0).then_some(text)
    })
    .await;
    assert!(value(&text, r#"linxo_webhook_api_request_seconds_count{peer="auth"}"#) >= 1.0);
    assert!(value(&text, r#"linxo_webhook_api_failing_since_timestamp_seconds{peer="linxo"}"#) < 0.5);
    drop(simulator);
    let before = seconds_since_epoch();
    service.door.accept(event_json("2", "8", 101, true)).await;
    eventually("the API fails", async || {
        let text = scraped(&service).await;
        let since = value(&text, r#"linxo_webhook_api_failing_since_timestamp_seconds{peer="linxo"}"#);
        // What waits for the API is no old work of the sink.
        assert!(value(&text, r#"linxo_webhook_inbox_oldest_unfinished_seconds{stage="file"}"#) < 0.5);
        let oldest = value(&text, r#"linxo_webhook_inbox_oldest_unfinished_seconds{stage="completion"}"#);
        (since >= before - 1.0 && oldest >= 1.0).then_some(())
    })
    .await;
    // This one waits because the API did not know its connection.
    assert!(site.run(&["inbox", "park", "--id", "1"]).await.status.success());
    given_up(&site, &service, "2", r#"linxo_webhook_api_failing_since_timestamp_seconds{peer="linxo"}"#).await;
}

/// A person gives the work up that failed, and with it the failure is over.
async fn given_up(site: &Site, service: &Service, id: &str, since: &str) {
    assert!(value(&scraped(service).await, since) > 0.5);
    let parked = site.run(&["inbox", "park", "--id", id]).await;
    assert!(parked.status.success(), "{}", String::from_utf8_lossy(&parked.stderr));
    eventually("nothing fails", async || (value(&scraped(service).await, since) < 0.5).then_some(())).await;
}
