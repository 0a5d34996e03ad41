//! Several sinks that are each given something else: what filters leave out, what strict order holds back, and how a new sink gets
//! what the inbox still holds.

use crate::support::{Service, Site, documents};
use double::{
    Connection, Settings,
    events::{Plan, event},
};
use inbox::{EntryView, State};
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
    crate::support::eventually("it was delivered", async || (documents(&all).len() == 1).then_some(())).await;
    let document = documents(&all).remove(0);
    assert_eq!(document["data"]["resource"]["accounts"].as_array().unwrap().len(), 102);
    assert_eq!(document["linxocompletion"], "api");
    service.stop().await;
}
