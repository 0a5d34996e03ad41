//! What several subjects share.

use bytes::Bytes;
use linxo_webhook::{clock, config, event::Event, inbox::NewEntry};
use std::time::Duration;

/// Settings of an inbox without limits that matter.
pub(crate) fn inbox_config() -> config::Inbox {
    config::Inbox {
        store: config::Store::Sqlite("unused".into()),
        retention: Duration::from_hours(1),
        max_waiting: 1_000_000,
        min_free_disk: 0,
        refused: 1000,
    }
}

/// An event's JSON: of a connection, with an id, with a number of accounts listed or only announced.
pub(crate) fn event_json(id: &str, connection: &str, accounts: usize, truncated: bool) -> String {
    let list: Vec<String> =
        (0..if truncated { 0 } else { accounts }).map(|n| format!(r#"{{"id":"{n}","balance":{n}.10}}"#)).collect();
    format!(
        r#"{{"id":"{id}","event_type":"UPDATED","resource_type":"CONNECTIONS","creation_date":1700000005,
            "channel_definition_id":"5","resource":{{"id":"{connection}","user_id":"u{connection}",
            "channels":[{{"channel_definition_id":"5","mode":"REDIRECT","status":"SUCCESS"}}],
            "account_count":{accounts},"accounts":[{}]}}}}"#,
        list.join(",")
    )
}

/// An entry ready to be accepted.
pub(crate) fn new_entry(json: &str) -> NewEntry {
    NewEntry {
        event: Event::parse(json.as_bytes()).unwrap(),
        body: Bytes::copy_from_slice(json.as_bytes()),
        received: clock::now(),
        sender: Some(r#"{"peer":"127.0.0.1"}"#.to_owned()),
    }
}
