//! The file: who may read and open it, and what is said when it cannot be used.

use crate::{accept, event, open_at, try_open};
use inbox::{Access, Error, Filter, Span};
use rusqlite::Connection;
use std::{os::unix::fs::PermissionsExt, path::Path};
use tempfile::TempDir;

/// What is said about a file that cannot be opened.
fn problem(path: &Path, access: Access) -> String {
    match try_open(path, access) {
        Err(Error::Open { problem, .. }) => problem,
        Ok(_) => panic!("it was opened"),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_process_owns_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    let inbox = open_at(&path);
    assert!(problem(&path, Access::Owner).contains("another linxo-webhook has it open"));
    inbox.upkeep.close().await;
    open_at(&path).upkeep.close().await;
}

#[tokio::test]
async fn files_are_readable_by_their_owner_only() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let inbox = open_at(&data.join("inbox.db"));
    accept(&inbox, &event("e1", "a")).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let files: Vec<_> = std::fs::read_dir(&data).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "the file, its log, the log's index, the lock: {files:?}");
    for file in files {
        assert_eq!(mode(&file) & 0o077, 0, "{}", file.display());
    }
}

/// (C11) What was there before, and could be read by others, is narrowed.
#[tokio::test]
async fn files_that_were_open_to_others_are_narrowed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    open_at(&path).upkeep.close().await;
    let beside = |suffix: &str| folder.path().join(format!("inbox.db{suffix}"));
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(beside(suffix)).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o664)).unwrap();
    }
    let inbox = open_at(&path);
    accept(&inbox, &event("e1", "a")).await;
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mode = std::fs::metadata(beside(suffix)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{suffix}");
    }
}

/// (C9) A file of the version before says nothing about who was known, and gets the place for it.
#[tokio::test]
async fn a_file_of_version_3_gets_what_came_later() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    let inbox = open_at(&path);
    accept(&inbox, &event("e1", "a")).await;
    inbox.upkeep.close().await;
    let file = Connection::open(&path).unwrap();
    file.execute_batch(
        "ALTER TABLE refused DROP COLUMN known; DROP TABLE shortfall; DROP INDEX stage_line;
         ALTER TABLE stage DROP COLUMN ended;
         CREATE TABLE line (key INTEGER PRIMARY KEY, tail INTEGER NOT NULL) STRICT;
         ALTER TABLE stage ADD COLUMN place INTEGER NOT NULL DEFAULT 1;
         CREATE INDEX stage_line ON stage (kind, line, place) WHERE state IN ('queued', 'due', 'leased');
         ALTER TABLE reading DROP COLUMN unusable;
         ALTER TABLE page DROP COLUMN unusable; DROP TABLE delivered; DROP TABLE act; DROP INDEX stage_resumable;
         DROP TABLE failure; DROP TABLE minute; DROP TABLE receiver; DROP TABLE merged; DROP INDEX entry_accepted;
         ALTER TABLE stage DROP COLUMN resumed; ALTER TABLE sink DROP COLUMN paused; ALTER TABLE sink DROP COLUMN strict;
         ALTER TABLE entry DROP COLUMN key;
         ALTER TABLE page DROP COLUMN key; ALTER TABLE reading DROP COLUMN key; ALTER TABLE refused DROP COLUMN key;
         PRAGMA user_version = 3",
    )
    .unwrap();
    file.close().unwrap();
    let inbox = open_at(&path);
    let refused = inbox::Refused {
        at: base::clock::now(),
        sender: "{}".to_owned(),
        reason: "not_json",
        status: 400,
        size: None,
        start: None,
        is_known: true,
    };
    inbox.intake.refuse(vec![refused]).await.unwrap();
    assert_eq!(inbox.desk.refused(Span::default(), 10).await.unwrap().len(), 1);
    assert!(inbox.sinks.paused().await.unwrap().is_empty());
    let ever = Span { since: Some(base::clock::Timestamp::from_millis(0)), until: None };
    assert!(inbox.desk.between(ever).await.unwrap().is_some(), "the entry of before is found by its time");
    assert_eq!(inbox.desk.list(&Filter::default(), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_damaged_or_foreign_file_is_refused_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    let inbox = open_at(&path);
    for n in 0..200 {
        accept(&inbox, &event(&format!("e{n}"), "a")).await;
    }
    inbox.upkeep.close().await;
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, &whole[..whole.len() - 20_000]).unwrap();
    assert!(problem(&path, Access::Owner).contains("damaged"), "cut short");
    std::fs::write(&path, vec![b'x'; 20_000]).unwrap();
    assert!(problem(&path, Access::Owner).contains("damaged"), "not a database");
    std::fs::write(&path, &whole).unwrap();
    Connection::open(&path).unwrap().execute("UPDATE meta SET value = 'x' WHERE name = 'position'", []).unwrap();
    assert!(problem(&path, Access::Owner).contains("damaged"), "a row that makes no sense");
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&path, &newer).unwrap();
    assert!(problem(&path, Access::Owner).contains("another version"), "a newer version");
    std::fs::write(&path, &whole).unwrap();
    let inbox = open_at(&path);
    assert_eq!(inbox.desk.list(&Filter::default(), 1000).await.unwrap().len(), 200);
}

#[tokio::test]
async fn a_database_of_something_else_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(problem(&path, Access::Owner).contains("by another program"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn what_is_no_ordinary_file_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let mode = || std::fs::metadata("/dev/null").unwrap().permissions();
    let before = mode();
    for access in [Access::Owner, Access::Guest] {
        assert!(problem(&path, access).contains("no ordinary file"));
    }
    assert_eq!(mode(), before);
    assert!(!folder.path().join("inbox.db.lock").exists());
}

#[tokio::test]
async fn a_command_makes_and_migrates_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    assert!(problem(&path, Access::Guest).contains("there is no inbox yet"));
    assert!(!path.exists());
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/inbox-v1.db"), &path).unwrap();
    assert!(problem(&path, Access::Guest).contains("another version"));
    let file = Connection::open(&path).unwrap();
    let version: i64 = file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
}

/// What a text stands in, of all files of a folder.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let with = files.filter(|file| {
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    });
    with.map(|file| file.display().to_string()).collect()
}

#[tokio::test]
async fn nothing_of_what_was_purged_or_has_expired_is_left_on_the_disk() {
    const IBAN: &str = "FR763000600001123456789";
    let iban = |n: u64| format!("{IBAN}{n:04}");
    let folder = TempDir::new().unwrap();
    let inbox = open_at(&folder.path().join("inbox.db"));
    // Of many sizes, so that rows move from page to page when others are deleted.
    let json = |n: u64| {
        let accounts: Vec<String> =
            (0..=n * n * 28 % 61).map(|account| format!(r#"{{"id":"{account}","iban":"{}"}}"#, iban(n))).collect();
        format!(
            r#"{{"id":"e{n}","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{{"id":"{n}","accounts":[{}]}}}}"#,
            accounts.join(",")
        )
    };
    for n in 0..60 {
        accept(&inbox, &json(n)).await;
    }
    assert!(!files_with(folder.path(), IBAN).is_empty());
    // Half of them are deleted by hand, one after the other as by `inbox purge --user`, in no order.
    for n in (0..30).map(|n| n * 11 % 30) {
        let one = Filter { connection: Some(event::ConnectionId::new(n.to_string())), ..Filter::default() };
        assert_eq!(inbox.desk.park(&one, 100, "by hand").await.unwrap().changed, 1);
        assert_eq!(inbox.desk.purge(&one, 100).await.unwrap().changed, 1);
        inbox.upkeep.fold_log().await.unwrap();
        assert_eq!(files_with(folder.path(), &iban(n)), [""; 0], "beside a running service");
    }
    for (stage, _) in inbox.upkeep.stats().await.unwrap().stages {
        for lease in inbox.queue.claim(&stage, 100, std::time::Duration::from_mins(1)).await.unwrap().leases {
            inbox.queue.settle(&[(&lease, inbox::Outcome::Done)]).await.remove(0).unwrap();
        }
    }
    // The rest by their age, in ten rounds.
    let later = base::clock::now().after(std::time::Duration::from_secs(1));
    for round in 0..10 {
        assert_eq!(inbox.upkeep.expire(later, 3).await.unwrap().deleted, 3);
        inbox.upkeep.fold_log().await.unwrap();
        for n in 30..33 + 3 * round {
            assert_eq!(files_with(folder.path(), &iban(n)), [""; 0], "round {round}");
        }
    }
    assert_eq!(files_with(folder.path(), IBAN), [""; 0], "beside a running service");
    inbox.upkeep.close().await;
    assert_eq!(files_with(folder.path(), IBAN), [""; 0]);
}

#[tokio::test]
async fn after_a_clean_end_the_file_is_whole_by_itself() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    let inbox = open_at(&path);
    for n in 0..50 {
        accept(&inbox, &event(&format!("e{n}"), "a")).await;
    }
    // A reading connection that was used is kept.
    assert_eq!(inbox.desk.list(&Filter::default(), 100).await.unwrap().len(), 50);
    inbox.upkeep.close().await;
    let copy = folder.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let copied = Connection::open(&copy).unwrap();
    let entries: i64 = copied.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).unwrap();
    assert_eq!(entries, 50);
}

#[tokio::test]
async fn a_stored_event_that_was_changed_on_the_disk_is_parked_and_not_handed_out() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    let inbox = open_at(&path);
    accept(&inbox, &event("e1", "a")).await;
    accept(&inbox, &event("e2", "b")).await;
    let flip = "UPDATE body SET bytes = CAST(replace(CAST(bytes AS TEXT), 'UPDATED', 'UPDATEE') AS BLOB) WHERE seq = 1";
    assert_eq!(Connection::open(&path).unwrap().execute(flip, []).unwrap(), 1);
    let stage = inbox::Stage::deliver("app");
    let leases = inbox.queue.claim(&stage, 10, std::time::Duration::from_mins(1)).await.unwrap().leases;
    assert_eq!(leases.iter().map(|lease| lease.seq.0).collect::<Vec<_>>(), [2]);
    let damaged = Filter { state: Some(inbox::State::Parked), ..Filter::default() };
    let found = inbox.desk.list(&damaged, 10).await.unwrap();
    assert_eq!((found.len(), found[0].stages[0].cause.as_ref()), (1, Some(&inbox::Cause::Damaged)));
    inbox.upkeep.close().await;
}

/// (D6) While another program holds the file locked, nobody is told that an event sent now would be taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_program_holds_locked_is_not_ready() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("inbox.db");
    let inbox = open_at(&path);
    inbox.intake.ready().unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let accepting = tokio::spawn({
        let intake = std::sync::Arc::clone(&inbox.intake);
        async move { intake.accept(crate::new_entry(&event("e1", "a"))).await }
    });
    let started = std::time::Instant::now();
    while inbox.intake.ready().is_ok() {
        assert!(started.elapsed() < std::time::Duration::from_secs(4));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    other.execute_batch("COMMIT").unwrap();
    accepting.await.unwrap().unwrap();
    inbox.intake.ready().unwrap();
}
