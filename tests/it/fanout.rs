//! Several sinks that are each given something else: what filters leave out, what strict order holds back, and how a new sink gets
//! what the inbox still holds.

use crate::support::{Endpoint, Service, Site, delivered as ids, documents, event_json, eventually};
use double::{
    Connection, Settings,
    events::{Plan, event},
};
use inbox::{EntryView, State};
use serde_json::Value;
use std::process::Output;

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn reasons(entry: &EntryView) -> Vec<Option<&str>> {
    entry.stages.iter().map(|stage| stage.reason.as_deref()).collect()
}

fn deliveries(service: &Service, sink: &str, outcome: &str) -> u64 {
    service.metric(&format!("linxo_webhook_deliveries_total{{sink=\"{sink}\",outcome=\"{outcome}\"}}"))
}

/// What no sink wants costs no call to the API. A sink that comes later and wants it gets it whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_every_sink_leaves_out_is_not_fetched_until_somebody_wants_it() {
    let connection = Connection::numbered(1, 102);
    let mut site = Site::new();
    let simulator = site.simulator(Settings { connections: vec![connection.clone()], ..Settings::default() }).await;
    for (name, filter) in [("failed", "status = [\"FAILED\"]"), ("redirect", "mode = [\"REDIRECT\"]")] {
        let path = crate::support::text(site.path(format!("{name}.ndjson")).display());
        site.sink(format!("name = \"{name}\"\ntype = \"file\"\npath = {path}\n[sink.filter]\n{filter}"));
    }
    let service = site.start().await;
    service.door.accept(event(&Plan { truncated: true, ..Plan::new("e1", connection) })).await;
    let entries = service.settled().await;
    assert_eq!(entries[0].state, State::Done);
    let unneeded = "not fetched: the filter of every sink leaves this event out";
    assert_eq!(reasons(&entries[0]), [Some(unneeded), Some("filtered: status"), Some("filtered: mode")]);
    assert!(simulator.requests().iter().all(|request| request.page.is_none()), "{:?}", simulator.requests());
    assert_eq!((deliveries(&service, "failed", "filtered"), deliveries(&service, "redirect", "filtered")), (1, 1));
    assert_eq!(service.metric("linxo_webhook_completions_total{outcome=\"unneeded\"}"), 1);
    service.stop().await;
    let (code, story, problem) = said(&site.run(&["inbox", "show", "e1"]).await);
    assert!(code == Some(0) && story.contains("filtered: status"), "{story}{problem}");

    let all = site.file_sink("all");
    let service = site.start().await;
    let (code, _, problem) = said(&site.run(&["inbox", "replay", "--id", "e1", "--sink", "all"]).await);
    assert_eq!(code, Some(0), "{problem}");
    eventually("it was delivered", async || (documents(&all).len() == 1).then_some(())).await;
    let document = documents(&all).remove(0);
    assert_eq!(document["data"]["resource"]["accounts"].as_array().unwrap().len(), 102);
    assert_eq!(document["linxocompletion"], "api");
    service.stop().await;
}

/// `order = "strict"`: what is parked holds up its connection at this sink and nothing else, and a person sees it.
#[tokio::test(flavor = "multi_thread")]
async fn later_events_wait_behind_a_parked_one_where_order_is_strict() {
    let endpoint =
        Endpoint::start(|received| Some(if received.header("webhook-id") == "a1" { 410 } else { 200 })).await;
    let mut site = Site::new();
    for (name, order) in [("strict", "strict"), ("loose", "resume")] {
        let url = crate::support::text(endpoint.url());
        let lines = format!("name = \"{name}\"\ntype = \"http\"\nurl = {url}\nsigned = false\norder = \"{order}\"");
        site.sink(format!("{lines}\nheaders = {{ \"X-Sink\" = \"{name}\" }}"));
    }
    let service = site.start().await;
    for (id, connection) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        service.door.accept(event_json(id, connection, 1, false)).await;
    }
    let taken = |sink: &str| {
        let taken = endpoint.taken();
        let of_sink = taken.iter().filter(|taken| taken.header("x-sink") == sink);
        let mut ids: Vec<String> = of_sink.map(|taken| taken.header("webhook-id").to_owned()).collect();
        ids.sort();
        ids
    };
    eventually("the loose sink has both", async || (taken("loose") == ["a2", "b1"]).then_some(())).await;
    service.metric_reaches("linxo_webhook_inbox_held{stage=\"strict\"}", 1).await;
    assert_eq!(service.metric("linxo_webhook_inbox_held{stage=\"loose\"}"), 0);
    assert_eq!(taken("strict"), ["b1"]);
    let (_, listed, _) = said(&site.run(&["inbox", "ls", "--connection", "a", "--json"]).await);
    assert!(listed.contains("waits behind entry 1, which is parked (order = \\\"strict\\\")"), "{listed}");
    let (_, story, _) = said(&site.run(&["inbox", "show", "a2"]).await);
    assert!(story.contains("waits until entry 1, which is parked, is done or purged: `inbox show 1`"), "{story}");

    endpoint.judge(|_| Some(200));
    let (code, _, problem) = said(&site.run(&["inbox", "replay", "--state", "parked", "--sink", "strict"]).await);
    assert_eq!(code, Some(0), "{problem}");
    eventually("the strict sink has all", async || (taken("strict") == ["a1", "a2", "b1"]).then_some(())).await;
    let order: Vec<String> = endpoint
        .taken()
        .iter()
        .filter(|taken| taken.header("x-sink") == "strict" && taken.header("ce-subject") == "a")
        .map(|taken| format!("{} {}", taken.header("webhook-id"), taken.header("ce-linxostale")))
        .collect();
    assert_eq!(order, ["a1 ", "a2 "], "in order, and nothing came late");
    service.metric_reaches("linxo_webhook_inbox_entries{stage=\"loose\",state=\"parked\"}", 1).await;
    service.stop().await;
}

/// A new sink is filled beside the service: with a span, a trial, a rate; in order; and twice gives nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_is_filled_with_what_the_inbox_still_holds() {
    let mut site = Site::new();
    let app = site.file_sink("app");
    let service = site.start().await;
    for n in 0..30 {
        service.door.accept(event_json(&format!("e{n}"), &format!("c{}", n % 3), 1, false)).await;
    }
    service.settled().await;
    service.stop().await;
    let new = site.file_sink("new");
    let fill = ["inbox", "replay", "--sink", "new", "--since", "1h"];
    let (code, _, problem) = said(&site.run(&fill).await);
    assert!(code == Some(75) && problem.contains("has never seen the sink new"), "{problem}");

    let service = site.start().await;
    service.door.accept(event_json("live", "c0", 1, false)).await;
    eventually("the live one is there", async || (ids(&new) == ["live"]).then_some(())).await;
    let (code, _, told) = said(&site.run(&[&fill[..], &["--dry-run"]].concat()).await);
    assert!(
        code == Some(0)
            && told.contains("1 waiting or done and left as they are; 30 entries had no part for it and would get one"),
        "{told}"
    );
    assert_eq!(ids(&new), ["live"]);
    let began = std::time::Instant::now();
    let (code, _, told) = said(&site.run(&[&fill[..], &["--rate", "20/s", "--limit", "30"]].concat()).await);
    assert!(code == Some(0) && told.contains("30 entries had no part for it and got one"), "{told}");
    assert!(began.elapsed() >= std::time::Duration::from_millis(1400), "30 at 20 a second: {:?}", began.elapsed());
    service.settled().await;
    let (code, _, told) = said(&site.run(&fill).await);
    assert!(
        code == Some(0)
            && told.contains("31 waiting or done and left as they are; 0 entries had no part for it and got one"),
        "{told}"
    );
    service.settled().await;
    let all = documents(&new);
    assert_eq!(all.len(), 31);
    assert_eq!(documents(&app).len(), 31, "the other sink got nothing twice");
    for connection in ["c0", "c1", "c2"] {
        let of = |document: &&Value| document["subject"] == connection && document["id"] != "live";
        let numbers: Vec<u32> =
            all.iter().filter(of).map(|document| document["id"].as_str().unwrap()[1..].parse().unwrap()).collect();
        assert!(numbers.len() == 10 && numbers.is_sorted(), "{connection}: {numbers:?}");
    }
    let late = all.iter().filter(|document| document["linxostale"] == true).count();
    assert_eq!(late, 10, "what is older than the live one says so");

    // What is parked there is what it has not had.
    let live = ["inbox", "replay", "--sink", "new", "--state", "done", "--limit", "1"];
    site.set("worker.concurrency", 0);
    service.stop().await;
    let service = site.start().await;
    assert_eq!(said(&site.run(&live).await).0, Some(0));
    assert_eq!(said(&site.run(&["inbox", "park", "--sink", "new", "--state", "waiting"]).await).0, Some(0));
    for (arguments, words) in [
        (&["--dry-run"][..], "1 parked and would go back in line; 30 waiting or done"),
        (&[], "1 parked and went back in line; 30 waiting or done"),
        (&[], "0 parked and went back in line; 31 waiting or done"),
    ] {
        let (code, _, told) = said(&site.run(&[&fill[..], arguments].concat()).await);
        assert!(code == Some(0) && told.contains(words), "{words}: {told}");
    }

    for wrong in [
        &["inbox", "replay", "--state", "parked", "--dry-run"][..],
        &["inbox", "replay", "--sink", "new", "--id", "e1", "--rate", "1/s"],
    ] {
        let (code, _, problem) = said(&site.run(wrong).await);
        assert!(code == Some(64) && problem.contains("--dry-run and --rate are for filling a sink"), "{problem}");
    }
    service.stop().await;
}

/// What a renamed sink left behind goes to its new name, in order, and once.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_renamed_sink_left_behind_is_moved() {
    let mut site = Site::new();
    site.set("worker.concurrency", 0);
    let file = site.file_sink("old");
    let service = site.start().await;
    for n in 0..20 {
        service.door.accept(event_json(&format!("e{n}"), &format!("c{}", n % 2), 1, false)).await;
    }
    let (code, _, problem) = said(&site.run(&["inbox", "park", "--seq", "1"]).await);
    assert_eq!(code, Some(0), "{problem}");
    service.stop().await;
    let (code, _, problem) = said(&site.run(&["inbox", "move", "--from", "old", "--to", "new"]).await);
    assert!(code == Some(64) && problem.contains("the sink old is configured"), "{problem}");

    let mut renamed = site.renamed("old", "new");
    renamed.set("worker.concurrency", 8);
    let service = renamed.start().await;
    let moving = ["inbox", "move", "--from", "old", "--to", "new"];
    let (code, _, told) = said(&renamed.run(&moving).await);
    assert!(code == Some(0) && told.contains("20 entries moved from the sink old to the sink new"), "{told}");
    service.settled().await;
    let all = ids(&file);
    for connection in 0..2 {
        let numbers: Vec<u32> = all.iter().map(|id| id[1..].parse().unwrap()).filter(|n| n % 2 == connection).collect();
        let expected = if connection == 0 { 9 } else { 10 };
        assert!(numbers.len() == expected && numbers.is_sorted(), "{numbers:?}");
    }
    let (_, story, _) = said(&renamed.run(&["inbox", "show", "e0"]).await);
    assert!(
        story.contains("moved to the sink new") && story.contains("inbox move --from old --to new (20 entries)"),
        "{story}"
    );
    let (code, _, problem) = said(&renamed.run(&["inbox", "move", "--from", "old", "--to", "neww"]).await);
    assert!(code == Some(64) && problem.contains("no sink has the name neww"), "{problem}");
    let (code, _, problem) = said(&renamed.run(&["inbox", "move", "--from", "odl", "--to", "new"]).await);
    assert!(code == Some(64) && problem.contains("no entry has work for the sink odl"), "{problem}");
    let (code, _, told) = said(&renamed.run(&moving).await);
    assert!(code == Some(0) && told.contains("0 entries moved"), "{told}");
    service.stop().await;
}
