//! A SQLite file behind a journal: what a crash leaves, what happens while the file cannot be written, and what stays on the
//! disk. What every inbox does is in `tests/contract`.

use crate::{event, new_entry, settings_of};
use inbox::{Access, Error, Filter, Folded, Inbox, Seq, Settings, SinkName, open, settings};
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

pub(crate) fn try_open(settings: &Settings, access: Access) -> Result<Inbox, Error> {
    open(settings, &["app", "books"].map(SinkName::new), access)
}

/// With the journal beside the file.
pub(crate) fn journaled(folder: &Path) -> Settings {
    Settings { journal: None, ..settings_of(&folder.join("inbox.db")) }
}

pub(crate) fn open_in(folder: &Path) -> Inbox {
    try_open(&journaled(folder), Access::Owner).unwrap()
}

fn json(number: usize) -> String {
    event(&format!("e{number}"), &format!("c{}", number % 5))
}

/// Accepts events, a few at the same time. (Of very many at the same time the runtime would begin some out of turn.)
pub(crate) async fn accept(inbox: &Inbox, numbers: std::ops::Range<usize>) {
    let numbers: Vec<usize> = numbers.collect();
    for some in numbers.chunks(40) {
        let accepts = some.iter().map(|number| inbox.intake.accept(new_entry(&json(*number))));
        for receipt in futures_util::future::join_all(accepts).await {
            assert!(!receipt.unwrap().repeats);
        }
    }
}

/// Numbers of the events that are in the inbox, by connection, in the order of their entries.
pub(crate) async fn listed(inbox: &Inbox) -> BTreeMap<String, Vec<usize>> {
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for entry in inbox.desk.list(&Filter::default(), 100_000).await.unwrap().into_iter().rev() {
        let number = entry.event_id.as_str().trim_start_matches('e').parse().unwrap();
        found.entry(entry.connection.as_str().to_owned()).or_default().push(number);
    }
    found
}

pub(crate) fn expected(numbers: std::ops::Range<usize>) -> BTreeMap<String, Vec<usize>> {
    let mut expected: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for number in numbers {
        expected.entry(format!("c{}", number % 5)).or_default().push(number);
    }
    expected
}

/// What a crash at this moment would leave: the file first, because the journal is only ahead of it.
pub(crate) fn copy(from: &Path, to: &Path) {
    for name in ["inbox.db", "inbox.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    fs::create_dir(to.join("inbox.journal")).unwrap();
    for file in fs::read_dir(from.join("inbox.journal")).unwrap() {
        let path = file.unwrap().path();
        // One that is being made may get another name meanwhile.
        fs::copy(&path, to.join("inbox.journal").join(path.file_name().unwrap())).ok();
    }
}

/// After a first transaction records gather, so what follows it here is folded together: each must see those before it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_folded_together_is_compared_with_each_other() {
    let folder = TempDir::new().unwrap();
    let inbox = open_in(folder.path());
    let bodies = [
        event("e0", "c1"),
        event("e1", "c1"),
        event("e1", "c1"),
        event("e1", "c2"),
        event("e2", "c1"),
        event("e1", "c2"),
    ];
    let mut receipts = Vec::new();
    for body in &bodies {
        receipts.push(inbox.intake.accept(new_entry(body)).await.unwrap());
    }
    let mut fates = Vec::new();
    for receipt in &receipts {
        fates.push(inbox.intake.fate(receipt).await.unwrap().unwrap());
    }
    let stored = |seq, conflict| Folded::Stored { seq: Seq(seq), conflict };
    let duplicate = |seq| Folded::Duplicate { seq: Seq(seq) };
    assert_eq!(
        fates,
        [stored(1, false), stored(2, false), duplicate(2), stored(3, true), stored(4, false), duplicate(3)]
    );
    inbox.upkeep.close().await;
    let known: Vec<i64> = Connection::open(folder.path().join("inbox.db"))
        .unwrap()
        .prepare("SELECT seq FROM known ORDER BY seq")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(known, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_loses_nothing_and_stores_nothing_twice() {
    let folder = TempDir::new().unwrap();
    let inbox = open_in(folder.path());
    for round in 0..15 {
        accept(&inbox, round * 40..(round + 1) * 40).await;
        let crashed = TempDir::new().unwrap();
        copy(folder.path(), crashed.path());
        let after = open_in(crashed.path());
        assert_eq!(listed(&after).await, expected(0..(round + 1) * 40), "each once, and each connection in order");
        after.upkeep.close().await;
    }
    inbox.upkeep.close().await;
    let reopened = open_in(folder.path());
    assert_eq!(listed(&reopened).await, expected(0..600), "after a clean end, too");
    reopened.upkeep.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_beside_the_service_sees_what_was_accepted_before() {
    let folder = TempDir::new().unwrap();
    let inbox = open_in(folder.path());
    let beside = try_open(&journaled(folder.path()), Access::Guest).unwrap();
    for number in 0..30 {
        accept(&inbox, number..number + 1).await;
        assert_eq!(listed(&beside).await, expected(0..number + 1));
    }
    assert!(matches!(beside.intake.accept(new_entry(&json(99))).await, Err(Error::Closed)));
    inbox.upkeep.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_accepted_while_the_file_cannot_be_written() {
    let folder = TempDir::new().unwrap();
    let inbox = open_in(folder.path());
    let other = Connection::open(folder.path().join("inbox.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    accept(&inbox, 0..100).await;
    inbox.intake.ready().unwrap();
    let entries: i64 = other.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).unwrap();
    assert_eq!(entries, 0, "it was locked");
    assert!(inbox.upkeep.stats().await.unwrap().unfolded > 0);
    other.execute_batch("COMMIT").unwrap();
    let last = inbox.intake.accept(new_entry(&json(100))).await.unwrap();
    assert!(matches!(inbox.intake.fate(&last).await, Ok(Some(Folded::Stored { .. }))));
    assert_eq!(listed(&inbox).await, expected(0..101));
    assert_eq!(inbox.upkeep.stats().await.unwrap().unfolded, 0);
    inbox.upkeep.close().await;
}

#[tokio::test]
async fn repeats_are_known_a_while_and_decided_by_the_fold() {
    let folder = TempDir::new().unwrap();
    let inbox = open_in(folder.path());
    let accept = async || inbox.intake.accept(new_entry(&json(1))).await.unwrap();
    let (first, second) = (accept().await, accept().await);
    assert_eq!((first.repeats, second.repeats), (false, true));
    let Some(Folded::Stored { seq, conflict: false }) = inbox.intake.fate(&first).await.unwrap() else { panic!() };
    assert_eq!(inbox.intake.fate(&second).await.unwrap(), Some(Folded::Duplicate { seq }));
    // What was purged is new again, and said to be.
    let all = Filter::default();
    inbox.desk.park(&all, 10, "by hand").await.unwrap();
    assert_eq!(inbox.desk.purge(&all, 10).await.unwrap().changed, 1);
    let third = accept().await;
    assert!(!third.repeats);
    assert!(matches!(inbox.intake.fate(&third).await.unwrap(), Some(Folded::Stored { conflict: false, .. })));
    inbox.upkeep.close().await;
    let reopened = open_in(folder.path());
    let fourth = reopened.intake.accept(new_entry(&json(1))).await.unwrap();
    assert!(matches!(reopened.intake.fate(&fourth).await.unwrap(), Some(Folded::Duplicate { .. })));
    reopened.upkeep.close().await;
}

#[tokio::test]
async fn a_journal_is_not_switched_off_while_it_holds_events_that_are_nowhere_else() {
    let folder = TempDir::new().unwrap();
    let inbox = open_in(folder.path());
    let file = folder.path().join("inbox.db");
    let other = Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    accept(&inbox, 0..10).await;
    let crashed = TempDir::new().unwrap();
    copy(folder.path(), crashed.path());
    other.execute_batch("COMMIT").unwrap();
    inbox.upkeep.close().await;
    let off = Settings { journal: Some(settings::Journal::Off), ..journaled(crashed.path()) };
    let Err(Error::Open { problem, .. }) = try_open(&off, Access::Owner) else { panic!("it was opened") };
    assert!(problem.contains("holds 10 events"), "{problem}");
    open_in(crashed.path()).upkeep.close().await;
    let inbox = try_open(&off, Access::Owner).unwrap();
    assert_eq!(listed(&inbox).await, expected(0..10));
    // And on again: positions go on behind those that were given away meanwhile.
    let receipt = inbox.intake.accept(new_entry(&json(10))).await.unwrap();
    assert!(receipt.folded.is_some());
    inbox.upkeep.close().await;
    let inbox = open_in(crashed.path());
    accept(&inbox, 11..20).await;
    assert_eq!(listed(&inbox).await, expected(0..20));
    inbox.upkeep.close().await;
}

#[tokio::test]
async fn the_journal_of_another_inbox_is_refused() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let theirs = Settings {
        journal: Some(settings::Journal::Folder(one.path().join("inbox.journal"))),
        ..journaled(two.path())
    };
    let off = Settings { journal: Some(settings::Journal::Off), ..theirs.clone() };
    try_open(&off, Access::Owner).unwrap().upkeep.close().await;
    let inbox = open_in(one.path());
    accept(&inbox, 0..1).await;
    let Err(Error::Open { problem, .. }) = try_open(&theirs, Access::Owner) else { panic!("it was opened") };
    assert!(problem.contains("another linxo-webhook has this journal open"), "{problem}");
    // As a crash leaves it: with a segment.
    let crashed = TempDir::new().unwrap();
    copy(one.path(), crashed.path());
    inbox.upkeep.close().await;
    let theirs = Settings {
        journal: Some(settings::Journal::Folder(crashed.path().join("inbox.journal"))),
        ..journaled(two.path())
    };
    let Err(Error::Open { problem, .. }) = try_open(&theirs, Access::Owner) else { panic!("it was opened") };
    assert!(problem.contains("belongs to another inbox"), "{problem}");
}

/// Files of a folder and of the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn nothing_of_what_was_purged_is_left_in_the_journal() {
    let folder = TempDir::new().unwrap();
    let inbox = open_in(folder.path());
    accept(&inbox, 0..50).await;
    let holding = || {
        let has = |path: &PathBuf| fs::read(path).unwrap_or_default().windows(4).any(|window| window == b"\"e7\"");
        files(folder.path()).into_iter().filter(has).count()
    };
    assert!(holding() > 0);
    inbox.desk.park(&Filter::default(), 100, "by hand").await.unwrap();
    assert_eq!(inbox.desk.purge(&Filter::default(), 100).await.unwrap().changed, 50);
    inbox.upkeep.fold_log().await.unwrap();
    assert_eq!(holding(), 0, "beside a running service");
    inbox.upkeep.close().await;
    assert_eq!(holding(), 0);
}

#[tokio::test]
async fn a_fate_that_is_waited_for_ends_with_the_inbox() {
    let folder = TempDir::new().unwrap();
    let inbox = open_in(folder.path());
    let receipt = inbox.intake.accept(new_entry(&json(0))).await.unwrap();
    inbox.upkeep.close().await;
    let later = inbox::Receipt { position: inbox::Position(receipt.position.0 + 1), ..receipt };
    let fate = tokio::time::timeout(Duration::from_secs(10), inbox.intake.fate(&later)).await.unwrap();
    assert!(matches!(fate, Err(Error::Closed)), "{fate:?}");
}

fn problem_of(opened: Result<Inbox, Error>) -> String {
    match opened {
        Err(Error::Open { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

/// Takes events while the store cannot be used, and none is lost once it is repaired.
async fn strand_and_repair(break_it: impl FnOnce(&Path)) {
    let folder = TempDir::new().unwrap();
    let settings = journaled(folder.path());
    let inbox = open_in(folder.path());
    accept(&inbox, 0..200).await;
    listed(&inbox).await;
    let crashed = TempDir::new().unwrap();
    copy(folder.path(), crashed.path());
    inbox.upkeep.close().await;
    drop(inbox);
    let file = folder.path().join("inbox.db");
    // With a segment in the journal, as after a crash.
    for segment in fs::read_dir(crashed.path().join("inbox.journal")).unwrap().map(|file| file.unwrap().path()) {
        fs::copy(&segment, folder.path().join("inbox.journal").join(segment.file_name().unwrap())).unwrap();
    }
    assert_eq!(inbox::examine(&settings, &["app", "books"].map(SinkName::new)), []);
    let kept = folder.path().join("kept.db");
    fs::copy(&file, &kept).unwrap();
    break_it(&file);
    let broken = fs::read(&file).ok();
    assert_eq!(inbox::examine(&settings, &["app", "books"].map(SinkName::new)).len(), 1);
    for round in 0..3 {
        let stranded = open_in(folder.path());
        stranded.intake.ready().unwrap();
        accept(&stranded, 200 + round * 50..250 + round * 50).await;
        assert!(stranded.desk.list(&Filter::default(), 10).await.is_err());
        let stats = stranded.upkeep.stats().await.unwrap();
        assert!(stats.is_fold_stuck && stats.unfolded >= 50, "{stats:?}");
        stranded.upkeep.close().await;
    }
    assert!(fs::read(&file).ok() == broken, "the damaged file is untouched");
    fs::copy(&kept, &file).unwrap();
    let inbox = open_in(folder.path());
    assert_eq!(listed(&inbox).await, expected(0..350), "everything that was accepted, in order");
    accept(&inbox, 350..360).await;
    assert_eq!(listed(&inbox).await, expected(0..360));
    assert_eq!(inbox.upkeep.stats().await.unwrap().unfolded, 0);
    inbox.upkeep.close().await;
    assert_eq!(inbox::examine(&settings, &["app", "books"].map(SinkName::new)), []);
}

#[tokio::test]
async fn events_are_accepted_while_the_file_is_damaged_and_stored_when_it_is_repaired() {
    strand_and_repair(|file| fs::write(file, vec![b'x'; 20_000]).unwrap()).await;
}

/// The journal's disk was not mounted at a start. When it comes back, what was in that journal alone is added, although its
/// positions were given away again.
#[tokio::test]
async fn a_journal_that_comes_back_is_folded_once_more() {
    let folder = TempDir::new().unwrap();
    let inbox = open_in(folder.path());
    accept(&inbox, 0..10).await;
    listed(&inbox).await;
    let lock = Connection::open(folder.path().join("inbox.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    accept(&inbox, 10..50).await;
    let crashed = TempDir::new().unwrap();
    copy(folder.path(), crashed.path());
    lock.execute_batch("ROLLBACK").unwrap();
    inbox.upkeep.close().await;
    drop(inbox);

    let (journal, away) = (crashed.path().join("inbox.journal"), crashed.path().join("away"));
    fs::rename(&journal, &away).unwrap();
    let problems = || inbox::examine(&journaled(crashed.path()), &["app", "books"].map(SinkName::new));
    assert!(problems()[0].text.contains("if a disk is not mounted, mount it"), "{:?}", problems());
    let inbox = open_in(crashed.path());
    accept(&inbox, 50..100).await;
    assert_eq!(listed(&inbox).await.values().map(Vec::len).sum::<usize>(), 60);
    inbox.upkeep.close().await;
    drop(inbox);
    assert_eq!(problems(), []);

    let meanwhile = crashed.path().join("meanwhile");
    fs::rename(&journal, &meanwhile).unwrap();
    fs::rename(&away, &journal).unwrap();
    for _ in 0..2 {
        let inbox = open_in(crashed.path());
        let found = listed(&inbox).await;
        let mut all: Vec<usize> = found.into_values().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        inbox.upkeep.close().await;
    }
    let inbox = open_in(crashed.path());
    accept(&inbox, 100..110).await;
    assert_eq!(listed(&inbox).await.values().map(Vec::len).sum::<usize>(), 110);
    inbox.upkeep.close().await;
}

/// A damaged page need not look like one to SQLite.
#[tokio::test]
async fn events_are_accepted_while_a_row_makes_no_sense_and_stored_when_the_file_is_repaired() {
    let damage = "UPDATE meta SET value = 'x' WHERE name = 'position'";
    strand_and_repair(|file| Connection::open(file).unwrap().execute_batch(damage).unwrap()).await;
}

#[tokio::test]
async fn events_are_accepted_while_the_file_is_missing_and_stored_when_it_is_back() {
    strand_and_repair(|file| fs::remove_file(file).unwrap()).await;
}

#[tokio::test]
async fn a_damaged_file_with_an_empty_journal_is_no_reason_to_refuse_events_either() {
    let folder = TempDir::new().unwrap();
    let inbox = open_in(folder.path());
    accept(&inbox, 0..200).await;
    inbox.upkeep.close().await;
    drop(inbox);
    let file = folder.path().join("inbox.db");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 20_000]).unwrap();
    let stranded = open_in(folder.path());
    accept(&stranded, 200..250).await;
    stranded.upkeep.close().await;
    fs::write(&file, &whole).unwrap();
    let inbox = open_in(folder.path());
    assert_eq!(listed(&inbox).await, expected(0..250));
    inbox.upkeep.close().await;
    // Without a journal of its own it is refused, as ever.
    fs::write(&file, vec![b'x'; 20_000]).unwrap();
    let off = Settings { journal: Some(settings::Journal::Off), ..journaled(folder.path()) };
    assert!(problem_of(try_open(&off, Access::Owner)).contains("damaged"));
    let new = Settings { journal: Some(settings::Journal::Folder(folder.path().join("new"))), ..off };
    assert!(problem_of(try_open(&new, Access::Owner)).contains("damaged"), "nobody knows whose events these are");
}
