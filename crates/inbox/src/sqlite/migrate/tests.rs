//! A migration that is killed half-way, and the tables that it ends with. What a whole one brings over is tested in `tests/sqlite`.

use super::*;
use crate::{Access, Filter, Inbox, Settings, open, settings};
use std::path::Path;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/inbox-v1.db");
/// Entries of the fixture.
const ENTRIES: usize = 15;

fn open_at(path: &Path) -> Inbox {
    let settings = Settings {
        store: settings::Store::Sqlite(path.to_owned()),
        journal: Some(crate::settings::Journal::Off),
        min_free_disk: 0,
        ..::settings::defaults().unwrap()
    };
    open(&settings, &["app", "books"].map(crate::SinkName::new), Access::Owner).unwrap()
}

/// What is the same in every migrated copy: everything but what the opening itself changes.
async fn listed(path: &Path) -> Vec<String> {
    let inbox = open_at(path);
    let entries = inbox.desk.list(&Filter::default(), 100).await.unwrap();
    let mut shown = Vec::new();
    for entry in entries {
        let body = inbox.desk.body(entry.seq).await.unwrap().unwrap();
        let stages: Vec<_> = entry
            .stages
            .iter()
            .map(|stage| (&stage.stage, stage.state, stage.attempts, stage.is_queued, &stage.cause, &stage.reason))
            .collect();
        let facts = (entry.seq, &entry.delivery_id, entry.state, entry.conflict, entry.fetched, body.len());
        shown.push(format!("{facts:?} {stages:?}"));
    }
    inbox.upkeep.close().await;
    shown
}

fn raw(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

#[tokio::test]
async fn killed_half_way_it_goes_on() {
    let folder = tempfile::TempDir::new().unwrap();
    let copy = |name: &str| {
        let path = folder.path().join(name);
        std::fs::copy(FIXTURE, &path).unwrap();
        path
    };
    let whole = listed(&copy("whole.db")).await;
    assert_eq!(whole.len(), ENTRIES);
    for moved in 0..=ENTRIES {
        let path = copy(&format!("{moved}.db"));
        let mut connection = raw(&path);
        set_aside(&mut connection).unwrap();
        let keys = schema::keys(&connection, None).unwrap();
        for _ in 0..moved {
            let tx = connection.transaction().unwrap();
            assert_eq!(move_batch(&tx, &keys, 1).unwrap(), 1);
            tx.commit().unwrap();
        }
        assert_eq!(schema::version(&connection).unwrap(), schema::MOVING);
        // A batch that was begun, and not committed.
        let tx = connection.transaction().unwrap();
        move_batch(&tx, &keys, BATCH).unwrap();
        drop(tx);
        connection.close().unwrap();

        assert_eq!(listed(&path).await, whole, "after {moved}");
        let connection = raw(&path);
        assert_eq!(schema::version(&connection).unwrap(), schema::VERSION);
        let old: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%_v1'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(old, 0, "the old tables are gone");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_read_any_more_keeps_what_was_known() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    std::fs::copy(FIXTURE, &path).unwrap();
    let body = b"not JSON";
    let changed = raw(&path).execute("UPDATE event SET body = ?1, drift = 'odd' WHERE seq = 9", [&body[..]]).unwrap();
    assert_eq!(changed, 1);
    let inbox = open_at(&path);
    let filter = Filter { seq: Some(crate::Seq(9)), ..Filter::default() };
    let entry = inbox.desk.list(&filter, 1).await.unwrap().remove(0);
    assert_eq!((entry.event_id.as_str(), entry.connection.as_str()), ("e9", "11"));
    assert_eq!((entry.user.unwrap().as_str(), entry.channel.unwrap().as_str()), ("u11", "5"));
    assert_eq!((entry.account_count, entry.listed, entry.bytes), (Some(150), 0, 8));
    assert_eq!(entry.drift.as_deref(), Some("odd"));
    assert_eq!(&inbox.desk.body(entry.seq).await.unwrap().unwrap()[..], body);
}

/// Files of each earlier version that has the present tables get the later columns.
#[tokio::test]
async fn a_file_of_the_base_version_is_stepped_up() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    let connection = raw(&path);
    connection.execute_batch(schema::TABLES).unwrap();
    schema::make_keys(&connection).unwrap();
    connection.pragma_update(None, "user_version", schema::BASE).unwrap();
    connection.execute("INSERT INTO line (key, tail) VALUES (1, 2)", []).unwrap();
    connection
        .execute(
            "INSERT INTO stage (seq, kind, line, place, state, due, changed) VALUES (9, 1, 1, 2, 'queued', 0, 0)",
            [],
        )
        .unwrap();
    connection.close().unwrap();
    open_at(&path).upkeep.close().await;
    let connection = raw(&path);
    assert_eq!(schema::version(&connection).unwrap(), schema::VERSION);
    let shortfalls: i64 = connection.query_row("SELECT count(*) FROM shortfall", [], |row| row.get(0)).unwrap();
    let in_line: i64 = connection
        .query_row("SELECT count(*) FROM stage INDEXED BY stage_line WHERE ended = 0", [], |row| row.get(0))
        .unwrap();
    assert_eq!((shortfalls, in_line), (0, 1));
}

/// Each event changes its stages some four times. Conditions of indexes once made that twice as dear.
#[test]
fn to_change_a_stage_makes_no_table_on_the_way() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection, 0).unwrap();
    for sql in [
        "INSERT INTO stage (seq, kind, line, state, due, changed, ended) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        "UPDATE stage SET state = ?3, due = ?4, ended = ?5 WHERE seq = ?1 AND kind = ?2",
    ] {
        let mut explain = connection.prepare(&format!("EXPLAIN {sql}")).unwrap();
        let rows = explain.raw_query();
        let steps: Vec<String> = rows.mapped(|row| row.get("opcode")).collect::<rusqlite::Result<_>>().unwrap();
        assert!(steps.iter().any(|step| step == "IdxInsert"), "{steps:?}");
        assert!(!steps.iter().any(|step| step == "OpenEphemeral"), "{sql}: {steps:?}");
    }
}
