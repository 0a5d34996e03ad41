//! Backups of a file and its journal: made, put back, and everything read.

use crate::journal::{accept, expected, journaled, listed, open_in, try_open};

use inbox::{
    Access, Error, Inbox, Settings, SinkName,
    archive::{backup, restore, restore_from_journal, verify},
    settings::Journal,
};
use rusqlite::Connection;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};
use tempfile::TempDir;

fn quiet(_: u64) {}

/// Another inbox of the same settings, for what is restored.
fn elsewhere() -> (TempDir, Settings) {
    let folder = TempDir::new().unwrap();
    let settings = journaled(folder.path());
    (folder, settings)
}

/// An inbox without a journal.
fn alone(folder: &Path) -> Settings {
    Settings { journal: Some(Journal::Off), ..journaled(folder) }
}

fn problem(error: &Error) -> String {
    base::error::chain(error)
}

/// (D7) A backup ends beside a service that takes events all the time, and holds everything that was accepted before.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_a_busy_service_is_whole_and_for_its_owner_alone() {
    let folder = TempDir::new().unwrap();
    let (settings, inbox) = (journaled(folder.path()), open_in(folder.path()));
    accept(&inbox, 0..500).await;
    listed(&inbox).await;
    let to = folder.path().join("backup.db");
    let done = AtomicBool::new(false);
    let posting = async {
        let mut next = 500;
        while !done.load(Ordering::Relaxed) {
            accept(&inbox, next..next + 10).await;
            next += 10;
        }
        next
    };
    let copying = async {
        let (settings, to) = (settings.clone(), to.clone());
        let copied = tokio::task::spawn_blocking(move || backup(&settings, &to, None, quiet)).await.unwrap().unwrap();
        done.store(true, Ordering::Relaxed);
        copied
    };
    let (accepted, copied) = tokio::join!(posting, copying);
    assert!(copied.entries >= 500 && copied.entries <= accepted as u64, "{copied:?} of {accepted}");
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&to).unwrap().len(), copied.bytes);
    let again = problem(&backup(&settings, &to, None, quiet).unwrap_err());
    assert!(again.contains("it is there already"), "{again}");
    inbox.upkeep.close().await;

    let (place, elsewhere) = elsewhere();
    let restored = restore(&elsewhere, &to, None, quiet).unwrap();
    assert_eq!((restored.entries, restored.missing, restored.from_journal), (copied.entries, Some(0), 0));
    assert!(restored.set_aside.is_empty());
    assert_eq!(fs::metadata(place.path().join("inbox.db")).unwrap().permissions().mode() & 0o777, 0o600);
    let inbox = open_in(place.path());
    let entries = usize::try_from(copied.entries).unwrap();
    assert_eq!(listed(&inbox).await, expected(0..entries));
    accept(&inbox, entries..entries + 10).await;
    assert_eq!(listed(&inbox).await, expected(0..entries + 10));
    inbox.upkeep.close().await;
}

/// Copies of the journal as it stood, which a clean stop empties.
fn segments(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder.join("inbox.journal")).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|kind| kind == "segment"))
        .map(|file| (file.clone(), fs::read(file).unwrap()))
        .collect()
}

/// A restore beside a journal that is newer loses nothing that the journal has, and says what is missing between the two.
#[tokio::test]
async fn a_restore_goes_on_with_a_newer_journal() {
    let folder = TempDir::new().unwrap();
    let settings = journaled(folder.path());
    let inbox = open_in(folder.path());
    accept(&inbox, 0..100).await;
    listed(&inbox).await;
    let (early, late) = (folder.path().join("early.db"), folder.path().join("late.db"));
    backup(&settings, &early, None, quiet).unwrap();
    inbox.upkeep.close().await;
    drop(inbox);
    // The first hundred are in no segment any more.
    let inbox = open_in(folder.path());
    accept(&inbox, 100..150).await;
    listed(&inbox).await;
    backup(&settings, &late, None, quiet).unwrap();
    inbox.upkeep.close().await;
    drop(inbox);
    let inbox = open_in(folder.path());
    accept(&inbox, 150..200).await;
    let kept = segments(folder.path());
    inbox.upkeep.close().await;
    drop(inbox);
    let crash = || kept.iter().for_each(|(file, bytes)| fs::write(file, bytes).unwrap());

    // The disk with the file is lost, and the journal is not.
    crash();
    fs::write(folder.path().join("inbox.db"), b"rubbish").unwrap();
    let restored = restore(&settings, &late, None, quiet).unwrap();
    assert_eq!((restored.entries, restored.from_journal, restored.missing), (150, 50, Some(0)), "{restored:?}");
    assert_eq!(fs::read(&restored.set_aside[0]).unwrap(), b"rubbish");
    let inbox = open_in(folder.path());
    assert_eq!(listed(&inbox).await, expected(0..200));
    inbox.upkeep.close().await;
    drop(inbox);

    // An earlier backup: what was accepted between it and the journal is said to be missing, and the rest goes on.
    crash();
    let restored = restore(&settings, &early, None, quiet).unwrap();
    assert_eq!((restored.entries, restored.from_journal, restored.missing), (100, 50, Some(50)), "{restored:?}");
    let inbox = open_in(folder.path());
    inbox.intake.ready().unwrap();
    let ids: usize = listed(&inbox).await.values().map(Vec::len).sum();
    assert_eq!(ids, 150);
    accept(&inbox, 200..210).await;
    assert_eq!(listed(&inbox).await.values().map(Vec::len).sum::<usize>(), 160);
    inbox.upkeep.close().await;
}

/// An inbox without a journal, with 20 entries, and a backup of it.
async fn backed_up() -> (TempDir, Settings, Inbox, PathBuf) {
    let folder = TempDir::new().unwrap();
    let settings = alone(folder.path());
    let inbox = try_open(&settings, Access::Owner).unwrap();
    accept(&inbox, 0..20).await;
    let backup_file = folder.path().join("backup.db");
    backup(&settings, &backup_file, None, quiet).unwrap();
    (folder, settings, inbox, backup_file)
}

/// What was set aside has a log after a crash, and is put back with what is in it.
#[tokio::test]
async fn an_inbox_that_was_set_aside_is_put_back_whole() {
    let (folder, _, inbox, backup_file) = backed_up().await;
    accept(&inbox, 20..50).await;
    let crashed = TempDir::new().unwrap();
    for name in ["inbox.db", "inbox.db-wal"] {
        fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    inbox.upkeep.close().await;
    let settings = alone(crashed.path());
    let restored = restore(&settings, &backup_file, None, quiet).unwrap();
    assert_eq!(restored.missing, Some(30), "said by what is set aside");
    let set_aside = restored.set_aside;
    assert!(set_aside.len() > 1, "with its log: {set_aside:?}");
    assert_eq!(restore(&settings, &set_aside[0], None, quiet).unwrap().entries, 50);
    assert_eq!(verify(&settings, quiet).unwrap().entries, 50);
    let inbox = try_open(&settings, Access::Owner).unwrap();
    assert_eq!(listed(&inbox).await, expected(0..50));
    inbox.upkeep.close().await;
}

/// (D12) Between setting the old file aside and putting the new one in its place there is no file.
#[tokio::test]
async fn a_restore_that_was_interrupted_is_no_empty_start() {
    let (folder, settings, inbox, backup_file) = backed_up().await;
    inbox.upkeep.close().await;
    drop(inbox);
    let path = folder.path().join("inbox.db");
    fs::rename(&path, folder.path().join("inbox.db-before-1")).unwrap();
    fs::copy(&backup_file, folder.path().join("inbox.db-restoring")).unwrap();
    let refused = problem(&try_open(&settings, Access::Owner).unwrap_err());
    assert!(refused.contains("interrupted") && refused.contains("run `inbox restore` again"), "{refused}");
    assert_eq!(restore(&settings, &backup_file, None, quiet).unwrap().entries, 20);
    let inbox = try_open(&settings, Access::Owner).unwrap();
    assert_eq!(listed(&inbox).await, expected(0..20));
    inbox.upkeep.close().await;
}

/// What cannot be read now is not called damaged: nobody should put an older backup in its place for that.
#[tokio::test]
async fn a_file_that_cannot_be_read_is_not_called_damaged() {
    let folder = TempDir::new().unwrap();
    let settings = journaled(folder.path());
    let inbox = open_in(folder.path());
    accept(&inbox, 0..3).await;
    inbox.upkeep.close().await;
    drop(inbox);
    // No room for what SQLite makes beside the file.
    fs::remove_file(folder.path().join("inbox.db-shm")).unwrap_or_default();
    fs::create_dir(folder.path().join("inbox.db-wal")).unwrap();
    let unread = problem(&verify(&settings, quiet).unwrap_err());
    assert!(unread.contains("cannot be read now") && !unread.contains("inbox restore"), "{unread}");
}

#[tokio::test]
async fn a_restore_changes_nothing_where_it_cannot_be_right() {
    let folder = TempDir::new().unwrap();
    let settings = journaled(folder.path());
    let inbox = open_in(folder.path());
    accept(&inbox, 0..20).await;
    listed(&inbox).await;
    let good = folder.path().join("good.db");
    backup(&settings, &good, None, quiet).unwrap();
    let running = problem(&restore(&settings, &good, None, quiet).unwrap_err());
    assert!(running.contains("another linxo-webhook has it open"), "{running}");
    inbox.upkeep.close().await;
    drop(inbox);
    let before = fs::read(folder.path().join("inbox.db")).unwrap();

    let (_other_folder, other) = {
        let folder = TempDir::new().unwrap();
        let inbox = open_in(folder.path());
        accept(&inbox, 0..1).await;
        inbox.upkeep.close().await;
        let settings = journaled(folder.path());
        (folder, settings)
    };
    let foreign = problem(&restore(&other, &good, None, quiet).unwrap_err());
    assert!(foreign.contains("belongs to another inbox"), "{foreign}");
    let bad = folder.path().join("bad.db");
    fs::copy(&good, &bad).unwrap();
    Connection::open(&bad).unwrap().execute("UPDATE body SET bytes = x'7b7d' WHERE seq = 3", []).unwrap();
    let damaged = problem(&restore(&settings, &bad, None, quiet).unwrap_err());
    assert!(damaged.contains("entry 3") && damaged.contains("use another backup"), "{damaged}");
    fs::write(&bad, b"no database at all, and long enough to be one if it were").unwrap();
    restore(&settings, &bad, None, quiet).unwrap_err();
    restore(&settings, &folder.path().join("absent.db"), None, quiet).unwrap_err();
    assert_eq!(fs::read(folder.path().join("inbox.db")).unwrap(), before);
}

/// (D14) Everything is read, and what is damaged is named with its place and what to do.
#[tokio::test]
async fn a_reading_of_everything_names_what_is_damaged() {
    let folder = TempDir::new().unwrap();
    let settings = journaled(folder.path());
    let inbox = open_in(folder.path());
    accept(&inbox, 0..300).await;
    listed(&inbox).await;
    let beside = verify(&settings, quiet).unwrap();
    assert_eq!((beside.entries, beside.problems), (300, Vec::<String>::new()), "beside a running service");
    let kept = segments(folder.path());
    inbox.upkeep.close().await;
    drop(inbox);
    let path = folder.path().join("inbox.db");
    Connection::open(&path).unwrap().execute("UPDATE body SET bytes = x'7b7d' WHERE seq = 7", []).unwrap();
    let found = verify(&settings, quiet).unwrap().problems;
    assert!(found.len() == 1 && found[0].contains("entry 7") && found[0].contains("inbox restore"), "{found:?}");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let found = verify(&settings, quiet).unwrap().problems;
    assert!(!found.is_empty() && found.iter().all(|problem| problem.contains("inbox.db")), "{found:?}");
    drop(kept);
}

/// (D12) A log alone is not wiped by an empty start.
#[tokio::test]
async fn a_file_that_is_gone_beside_its_log_is_no_empty_start() {
    for leave_empty in [false, true] {
        let folder = TempDir::new().unwrap();
        let inbox = open_in(folder.path());
        accept(&inbox, 0..50).await;
        listed(&inbox).await;
        let crashed = TempDir::new().unwrap();
        crate::journal::copy(folder.path(), crashed.path());
        inbox.upkeep.close().await;
        let (path, log) = (crashed.path().join("inbox.db"), crashed.path().join("inbox.db-wal"));
        let kept = fs::read(&log).unwrap();
        assert!(!kept.is_empty());
        fs::remove_file(&path).unwrap();
        if leave_empty {
            fs::write(&path, b"").unwrap();
        }
        // With a journal events are taken; without one it is refused. The log stays as it is.
        let inbox = open_in(crashed.path());
        inbox.intake.ready().unwrap();
        accept(&inbox, 50..60).await;
        inbox.upkeep.close().await;
        drop(inbox);
        assert_eq!(fs::read(&log).unwrap(), kept);
        let settings = journaled(crashed.path());
        let found = inbox::examine(&settings, &["app", "books"].map(SinkName::new));
        assert!(found[0].text.contains("missing or empty") && !found[0].bars, "{found:?}");
        // Commands do not say that there is none yet, either.
        let told = |error: &Error| problem(error).contains("missing or empty, and its journal");
        assert!(told(&inbox::open(&settings, &[SinkName::new("app")], Access::Guest).unwrap_err()));
        assert!(told(&verify(&settings, quiet).unwrap_err()));
        let off = Settings { journal: Some(inbox::settings::Journal::Off), ..settings };
        let refused = inbox::open(&off, &[SinkName::new("app")], Access::Owner).unwrap_err();
        assert!(problem(&refused).contains("its log is there"), "{}", problem(&refused));
        assert_eq!(fs::read(&log).unwrap(), kept);
    }
}

/// Without a backup, what a journal holds beside a file that is lost or damaged is not given up.
#[tokio::test]
async fn without_a_backup_the_events_of_the_journal_are_kept() {
    for is_gone in [true, false] {
        let folder = TempDir::new().unwrap();
        let (path, settings) = (folder.path().join("inbox.db"), journaled(folder.path()));
        let inbox = open_in(folder.path());
        accept(&inbox, 0..50).await;
        listed(&inbox).await;
        inbox.upkeep.close().await;
        drop(inbox);
        let whole = problem(&restore_from_journal(&settings).unwrap_err());
        assert!(whole.contains("it is there and can be read"), "{whole}");
        if is_gone {
            fs::remove_file(&path).unwrap();
        } else {
            fs::write(&path, vec![b'x'; 100_000]).unwrap();
        }
        let inbox = open_in(folder.path());
        accept(&inbox, 50..60).await;
        inbox.upkeep.close().await;
        drop(inbox);
        let restored = restore_from_journal(&settings).unwrap();
        assert_eq!((restored.entries, restored.from_journal), (0, 10));
        assert_eq!(restored.set_aside.len(), usize::from(!is_gone));
        let inbox = open_in(folder.path());
        let running = restore_from_journal(&settings).unwrap_err();
        assert!(problem(&running).contains("stop that one first"), "{}", problem(&running));
        let kept: BTreeSet<usize> = listed(&inbox).await.into_values().flatten().collect();
        assert_eq!(kept, (50..60).collect(), "what was in the file alone is lost with it");
        accept(&inbox, 60..70).await;
        assert_eq!(listed(&inbox).await.into_values().flatten().count(), 20);
        inbox.upkeep.close().await;
    }
    let nothing = TempDir::new().unwrap();
    let told = problem(&restore_from_journal(&journaled(nothing.path())).unwrap_err());
    assert!(told.contains("there is no journal"), "{told}");
}

/// (D12) After a clean stop no log is there. The room that is set aside is made beside an open inbox, so it shows that there was one.
#[tokio::test]
async fn a_file_that_is_gone_beside_its_reserve_is_no_empty_start() {
    let folder = TempDir::new().unwrap();
    let (path, reserve) = (folder.path().join("inbox.db"), folder.path().join("inbox.db-reserve"));
    let settings = Settings { journal: Some(inbox::settings::Journal::Off), ..journaled(folder.path()) };
    let sinks = [SinkName::new("app")];
    let inbox = inbox::open(&settings, &sinks, Access::Owner).unwrap();
    inbox.upkeep.checkpoint().await.unwrap();
    assert!(reserve.exists());
    inbox.upkeep.close().await;
    drop(inbox);
    for leave_empty in [false, true] {
        fs::remove_file(&path).unwrap();
        if leave_empty {
            fs::write(&path, b"").unwrap();
        }
        let found = inbox::examine(&settings, &sinks);
        assert!(found.len() == 1 && found[0].text.contains("inbox.db-reserve") && found[0].bars, "{found:?}");
        let refused = inbox::open(&settings, &sinks, Access::Owner).unwrap_err();
        assert!(problem(&refused).contains("was an inbox"), "{}", problem(&refused));
        fs::write(&path, b"").unwrap();
    }
    // The remedy.
    fs::remove_file(&reserve).unwrap();
    assert_eq!(inbox::examine(&settings, &sinks), []);
    inbox::open(&settings, &sinks, Access::Owner).unwrap();
}
