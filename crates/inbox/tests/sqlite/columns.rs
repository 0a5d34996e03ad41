//! What later versions need of an entry is stored from now on, although nothing reads it yet: large files are then migrated
//! once.

use crate::{LEASE, new_entry, open_at};
use base::clock;
use inbox::{Certainty, Found, NewEntry, Outcome, Stage, TraceParent};
use rusqlite::{Connection, types::Value};
use tempfile::TempDir;

const EVENT: &str = r#"{"id":"e1","event_type":"UPDATED","resource_type":"CONNECTIONS","creation_date":1700000005,
    "channel_definition_id":"5","connection_updated":{"new_transactions":true},
    "resource":{"id":"7","user_id":"u7","provider_id":"bank","status":"SUCCESS","account_count":3,
    "channels":[{"channel_definition_id":"5","mode":"REDIRECT","status":"SUCCESS"}]}}"#;

#[tokio::test]
async fn what_later_versions_need_is_stored() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    let inbox = open_at(&path);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let entry = NewEntry { trace: TraceParent::parse(trace), ..new_entry(EVENT) };
    inbox.intake.accept(entry).await.unwrap();
    let lease = inbox.queue.claim(&Stage::ACCOUNTS, 1, LEASE).await.unwrap().leases.remove(0);
    let reading = inbox.readings.find_or_begin(&lease, LEASE).await.unwrap();
    let found = Found { accounts: 3, unusable: 0, certainty: Certainty::Agreed };
    inbox.queue.settle(&[(&lease, Outcome::Fetched { reading: reading.id, found })]).await.remove(0).unwrap();
    inbox.upkeep.close().await;

    let file = Connection::open(&path).unwrap();
    let value = |sql: &str| -> Value { file.query_row(sql, [], |row| row.get(0)).unwrap() };
    let text = |text: &str| Value::Text(text.to_owned());
    for (column, expected) in [
        ("status", text("SUCCESS")),
        ("provider", text("bank")),
        ("mode", text("REDIRECT")),
        ("new_transactions", Value::Integer(1)),
        ("created", Value::Integer(1_700_000_005)),
        ("trace", text(trace)),
        ("size", Value::Integer(i64::try_from(EVENT.len()).unwrap())),
    ] {
        assert_eq!(value(&format!("SELECT {column} FROM entry")), expected, "{column}");
    }
    assert_eq!(
        value("SELECT typeof(id_key) || typeof(body_key) || length(digest) FROM entry"),
        text("integerinteger32")
    );
    let Value::Integer(snapshot) = value("SELECT snapshot FROM fetched") else { panic!("no snapshot") };
    assert_eq!(snapshot, reading.started.as_millis(), "as old as the beginning of the reading");
    assert!(snapshot <= clock::now().as_millis());
}

#[tokio::test]
async fn a_body_stands_apart_from_what_is_known_of_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    let inbox = open_at(&path);
    inbox.intake.accept(new_entry(EVENT)).await.unwrap();
    inbox.upkeep.close().await;
    let file = Connection::open(&path).unwrap();
    let body: Vec<u8> = file.query_row("SELECT bytes FROM body WHERE seq = 1", [], |row| row.get(0)).unwrap();
    assert_eq!(body, EVENT.as_bytes());
    let (lines, stages): (i64, i64) = file
        .query_row("SELECT count(DISTINCT line), count(*) FROM stage WHERE seq = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((lines, stages), (1, 3), "all stages of the entry stand in the line of its connection");
}
