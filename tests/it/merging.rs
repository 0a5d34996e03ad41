//! Two events of one synchronisation, one for each channel, as one delivery: through the whole service and the vendor double.

use crate::support::{Endpoint, Service, Site, documents, event_json, eventually};
use double::{
    Connection, Settings,
    events::{Channel, Plan, event},
};
use inbox::State;
use serde_json::{Value, json};

/// The keys of a sink that merges.
const MERGE: &str = "[sink.merge]\nquiet = \"1s\"\nlongest = \"10s\"";

/// The events of one synchronisation of a connection, as the vendor's page tells of them.
fn synchronisation(id: &str, connection: &Connection, truncated: bool) -> [Vec<u8>; 2] {
    [(Channel::FirstOfTwo, "first", true), (Channel::Last, "last", false)].map(|(channel, word, new_transactions)| {
        let id = format!("{id}-{word}");
        event(&Plan { channel, new_transactions, truncated, ..Plan::new(id, connection.clone()) })
    })
}

async fn accept(service: &Service, events: [Vec<u8>; 2]) {
    for event in events {
        service.door.accept(event).await;
    }
}

/// Both events leave their accounts out; the delivery has them all, and says that there are new transactions.
#[tokio::test(flavor = "multi_thread")]
async fn one_synchronisation_told_through_two_channels_is_one_delivery() {
    let connection = Connection::numbered(1, 120);
    let mut site = Site::new();
    let endpoint =
        Endpoint::start(|received| Some(if received.header("webhook-id").contains("~m") { 200 } else { 500 })).await;
    site.http_sink("app", &endpoint.url()).append(MERGE);
    let file = site.file_sink("each");
    let _simulator = site.simulator(Settings { connections: vec![connection.clone()], ..Settings::default() }).await;
    let service = site.start().await;
    accept(&service, synchronisation("s1", &connection, true)).await;
    let entries = service.settled().await;
    assert!(entries.iter().all(|entry| entry.state == State::Done), "{entries:#?}");

    let taken = endpoint.taken();
    assert_eq!(taken.len(), 1, "one delivery");
    let id = taken[0].header("webhook-id");
    assert!(id.starts_with("s1-last~m"), "{id}");
    assert_eq!(taken[0].header("ce-id"), id);
    assert_eq!(taken[0].header("ce-linxomerged"), "s1-first,s1-last");
    assert_eq!(taken[0].header("ce-linxoaccounts"), "120");
    let body: Value = serde_json::from_slice(&taken[0].body).unwrap();
    assert_eq!(body["id"], "s1-last", "the newest of the two");
    assert_eq!(body["connection_updated"], json!({"new_transactions": true}), "one of the two brought some");
    assert_eq!(body["resource"]["accounts"].as_array().unwrap().len(), 120);
    // A sink that does not merge gets each by itself, as it came.
    let each = documents(&file);
    let told: Vec<_> =
        each.iter().map(|one| (&one["id"], &one["data"]["connection_updated"]["new_transactions"])).collect();
    assert_eq!(told, [(&json!("s1-first"), &json!(true)), (&json!("s1-last"), &json!(false))]);
    assert!(each.iter().all(|one| one.get("linxomerged").is_none()));
    assert_eq!(service.metric("linxo_webhook_entries_merged_total{sink=\"app\"}"), 2);
    assert_eq!(service.metric("linxo_webhook_entries_merged_total{sink=\"each\"}"), 0);
    for entry in &entries {
        assert_eq!(entry.stages[1].reason, Some(format!("merged into {id}")), "{entry:#?}");
    }
}

/// What a filter leaves out is merged into nothing, and what it lets through on either side of it is delivered once.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_filter_leaves_out_is_merged_into_nothing() {
    let connection = Connection::numbered(1, 2);
    let mut site = Site::new();
    let endpoint = Endpoint::start(|_| Some(200)).await;
    site.http_sink("app", &endpoint.url()).append(&format!("{MERGE}\n[sink.filter]\nnew_transactions = true"));
    let service = site.start().await;
    for id in ["s1", "s2"] {
        accept(&service, synchronisation(id, &connection, false)).await;
    }
    let entries = service.settled().await;
    assert!(entries.iter().all(|entry| entry.state == State::Done), "{entries:#?}");

    let mut given = Vec::new();
    for taken in endpoint.taken() {
        match taken.header("ce-linxomerged") {
            "" => given.push(taken.header("ce-id").to_owned()),
            several => given.extend(several.split(',').map(str::to_owned)),
        }
        let body: Value = serde_json::from_slice(&taken.body).unwrap();
        assert_eq!(body["connection_updated"], json!({"new_transactions": true}));
    }
    assert_eq!(given, ["s1-first", "s2-first"]);
    let left_out = entries
        .iter()
        .filter(|entry| entry.stages.iter().any(|stage| stage.reason.as_deref() == Some("filtered: new_transactions")));
    assert_eq!(left_out.map(|entry| entry.event_id.as_str()).collect::<Vec<_>>(), ["s1-last", "s2-last"]);
}

/// The endpoint fails, the service is killed, and the endpoint is well again: the same delivery under the same id, byte for byte, and
/// what came meanwhile is another one.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_delivery_comes_again_after_failures_and_a_crash() {
    let mut site = Site::new();
    let endpoint = Endpoint::start(|_| Some(503)).await;
    site.http_sink("app", &endpoint.url()).append(MERGE);
    let process = site.spawn().await;
    for id in ["a1", "a2"] {
        process.door.accept(event_json(id, "7", 2, false)).await;
    }
    eventually("the first try", async || (!endpoint.attempts().is_empty()).then_some(())).await;
    process.kill().await;
    let shown = site.run(&["inbox", "show", "a1", "--json"]).await.stdout;
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["merged"], json!([{"stage": "app", "entries": [1, 2]}]));
    let shown = String::from_utf8(site.run(&["inbox", "show", "a2"]).await.stdout).unwrap();
    assert!(shown.contains("leaves together with entry 1, as one delivery"), "{shown}");

    endpoint.judge(|_| Some(200));
    let service = site.start().await;
    service.door.accept(event_json("a3", "7", 2, false)).await;
    service.settled().await;
    let first = endpoint.attempts().remove(0);
    let taken = endpoint.taken();
    let ids: Vec<&str> = taken.iter().map(|taken| taken.header("webhook-id")).collect();
    assert_eq!(ids, [first.header("webhook-id"), "a3"]);
    assert!(ids[0].starts_with("a2~m"), "{ids:?}");
    assert_eq!((&taken[0].body, taken[0].header("ce-linxomerged")), (&first.body, "a1,a2"));
    assert_eq!(taken[1].header("ce-linxomerged"), "");
    let shown = String::from_utf8(site.run(&["inbox", "show", ids[0]]).await.stdout).unwrap();
    assert!(shown.contains(&format!("merged into {}", ids[0])), "{shown}");
}
