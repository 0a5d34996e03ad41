//! The seal: what lies on the disk under a key, which keys open it, and how it comes and goes.

use crate::{
    LEASE,
    bank::{accept, body, files, fill, is_filled, key, new_entry, telling},
    settings_of,
};
use inbox::{
    Access, Error, Filter, Folded, Inbox, Seq, Settings, SinkName, Stage, State,
    archive::{backup, restore, verify},
    open,
};
use rusqlite::Connection;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Sealed with these keys, the newest first.
pub(crate) fn sealed(folder: &Path, keys: &[u8], has_journal: bool) -> Settings {
    let settings = settings_of(&folder.join("inbox.db"));
    let journal = if has_journal { None } else { settings.journal.clone() };
    Settings { key: keys.iter().map(|byte| key(*byte)).collect(), journal, ..settings }
}

pub(crate) fn try_open(settings: &Settings, access: Access) -> Result<Inbox, Error> {
    open(settings, &["app", "books"].map(SinkName::new), access)
}

pub(crate) fn open_with(settings: &Settings) -> Inbox {
    try_open(settings, Access::Owner).unwrap()
}

fn quiet(_: u64) {}

fn problem(error: &Error) -> String {
    assert!(matches!(error, Error::Seal { .. }), "{error:?}");
    base::error::chain(error)
}

/// The byte search over journal, store, log, keys and backups.
#[tokio::test(flavor = "multi_thread")]
async fn under_a_key_no_bank_data_is_on_the_disk() {
    for has_journal in [false, true] {
        for keys in [&[1][..], &[]] {
            let folder = TempDir::new().unwrap();
            let settings = sealed(folder.path(), keys, has_journal);
            let inbox = open_with(&settings);
            let seq = fill(&inbox).await;
            is_filled(&inbox, seq).await;
            let lease = inbox.queue.claim(&Stage::deliver("app"), 1, LEASE).await.unwrap().leases.remove(0);
            assert_eq!(lease.body, body("e1", "c1", Some("u1"), false));
            let keys_too = folder.path().join("backup.keys");
            let with_keys = (!keys.is_empty()).then_some(keys_too.as_path());
            let copied = backup(&settings, &folder.path().join("backup.db"), with_keys, quiet).unwrap();
            assert_eq!((copied.entries, copied.unopened, copied.is_sealed), (2, 0, !keys.is_empty()));
            let running = telling(folder.path());
            inbox.upkeep.close().await;
            drop(inbox);
            let stopped = telling(folder.path());
            if keys.is_empty() {
                assert!(
                    running.len() > 1 && stopped.len() == 2,
                    "the search finds what is there: {running:?} {stopped:?}"
                );
            } else {
                assert_eq!((running, stopped), (Vec::new(), Vec::new()));
                assert_eq!(verify(&settings, quiet).unwrap().problems, Vec::<String>::new());
            }
            is_filled(&open_with(&settings), seq).await;
        }
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_said_and_a_list_needs_none() {
    let folder = TempDir::new().unwrap();
    let settings = sealed(folder.path(), &[1], false);
    let inbox = open_with(&settings);
    let seq = fill(&inbox).await;
    let early = folder.path().join("early.keys");
    backup(&settings, &folder.path().join("early.db"), Some(&early), quiet).unwrap();
    accept(&inbox, &body("e3", "c3", None, false)).await;
    inbox.upkeep.close().await;
    drop(inbox);

    let none = sealed(folder.path(), &[], false);
    assert!(problem(&try_open(&none, Access::Owner).unwrap_err()).contains("inbox unseal"));
    assert!(matches!(inbox::seal_standing(&none), Err(Error::Seal { .. })));
    let guest = try_open(&none, Access::Guest).unwrap();
    let by_id = Filter { id: Some("e1".to_owned()), ..Filter::default() };
    assert_eq!(guest.desk.list(&by_id, 10).await.unwrap()[0].seq, seq, "an id is found without the key");
    assert_eq!(guest.desk.list(&Filter::default(), 10).await.unwrap().len(), 3);
    assert!(guest.desk.refused(inbox::Span::default(), 10).await.unwrap()[0].start.is_none());
    let error = guest.desk.body(seq).await.unwrap_err();
    assert!(base::error::chain(&error).contains("inbox.key is not set"), "{error:?}");
    assert_eq!(verify(&none, quiet).unwrap().unopened, 3);

    let wrong = sealed(folder.path(), &[2], false);
    for access in [Access::Owner, Access::Guest] {
        assert!(problem(&try_open(&wrong, access).unwrap_err()).contains("is not the key"));
    }
    let keys = settings.keys_file();
    let newest = fs::read(&keys).unwrap();
    fs::copy(&early, &keys).unwrap();
    assert!(problem(&try_open(&settings, Access::Owner).unwrap_err()).contains("is older than the inbox"));
    fs::remove_file(&keys).unwrap();
    assert!(problem(&try_open(&settings, Access::Owner).unwrap_err()).contains("is not there"));
    assert!(!keys.exists(), "no other keys store is made in its place");
    fs::write(&keys, newest).unwrap();
    is_filled(&open_with(&settings), seq).await;
}

fn bodies(folder: &Path) -> Vec<Vec<u8>> {
    let file = Connection::open(folder.join("inbox.db")).unwrap();
    let mut all = file.prepare("SELECT bytes FROM body ORDER BY seq").unwrap();
    all.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Rotation: first everybody has the new key, then it is the first, then the old one goes. No body is written anew.
#[tokio::test]
async fn a_new_key_wraps_keys_and_touches_no_body() {
    let folder = TempDir::new().unwrap();
    let mut before = None;
    let mut first = None;
    for keys in [&[1][..], &[1, 2], &[2, 1], &[2]] {
        let inbox = open_with(&sealed(folder.path(), keys, true));
        let seq = match first {
            None => *first.insert(fill(&inbox).await),
            Some(seq) => seq,
        };
        is_filled(&inbox, seq).await;
        inbox.upkeep.close().await;
        drop(inbox);
        assert_eq!(*before.get_or_insert_with(|| bodies(folder.path())), bodies(folder.path()));
    }
    problem(&try_open(&sealed(folder.path(), &[1], true), Access::Owner).unwrap_err());
}

/// A key that is set later seals what is there; taken away on purpose, everything is as it was. The memory of what was stored
/// outlives both.
#[tokio::test(flavor = "multi_thread")]
async fn old_rows_are_sealed_beside_everything_else_and_unsealed_on_purpose() {
    let folder = TempDir::new().unwrap();
    let plain = sealed(folder.path(), &[], true);
    let inbox = open_with(&plain);
    let seq = fill(&inbox).await;
    for number in 10..40 {
        accept(&inbox, &body(&format!("e{number}"), "c7", None, false)).await;
    }
    assert!(inbox.upkeep.seal(10).await.unwrap().is_done, "nothing is to be sealed");
    inbox.upkeep.close().await;
    drop(inbox);
    // A body that is damaged must not become whole by being sealed.
    let file = Connection::open(folder.path().join("inbox.db")).unwrap();
    file.execute("UPDATE body SET bytes = x'7b7d' WHERE seq = 20", []).unwrap();
    drop(file);

    let settings = sealed(folder.path(), &[1], true);
    let inbox = open_with(&settings);
    let mut rounds = 0;
    loop {
        let done = inbox.upkeep.seal(4).await.unwrap();
        assert!(done.changed <= 4);
        let again = accept(&inbox, &body("e1", "c1", Some("u1"), false)).await;
        assert_eq!(again, Folded::Duplicate { seq }, "in the middle of it too");
        rounds += 1;
        if done.is_done {
            break;
        }
    }
    assert!(rounds > 8, "{rounds}");
    inbox.upkeep.fold_log().await.unwrap();
    assert_eq!(telling(folder.path()), Vec::<PathBuf>::new());
    is_filled(&inbox, seq).await;
    inbox.upkeep.close().await;
    drop(inbox);
    let found = verify(&settings, quiet).unwrap().problems;
    assert!(found.len() == 1 && found[0].contains("entry 20"), "{found:?}");

    let file = Connection::open(folder.path().join("inbox.db")).unwrap();
    file.execute("DELETE FROM entry WHERE seq = 20", []).unwrap();
    drop(file);
    let inbox = open_with(&settings);
    while !inbox.upkeep.unseal(7).await.unwrap().is_done {}
    inbox.upkeep.close().await;
    drop(inbox);
    let inbox = open_with(&plain);
    is_filled(&inbox, seq).await;
    assert_eq!(accept(&inbox, &body("e1", "c1", Some("u1"), false)).await, Folded::Duplicate { seq });
    inbox.upkeep.close().await;
    drop(inbox);
    assert_eq!(verify(&plain, quiet).unwrap().problems, Vec::<String>::new());
    assert!(!telling(folder.path()).is_empty());
}

/// What a crash leaves in the journal is sealed, and folded by the next start with the right key.
#[tokio::test]
async fn records_of_the_journal_are_opened_after_a_crash() {
    let folder = TempDir::new().unwrap();
    let inbox = open_with(&sealed(folder.path(), &[1], true));
    fill(&inbox).await;
    // Into the journal alone: the copy of the store is older.
    let crashed = TempDir::new().unwrap();
    for name in ["inbox.db", "inbox.db-wal", "keys.db"] {
        fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    for number in 0..20 {
        accept(&inbox, &body(&format!("x{number}"), "c1", None, false)).await;
    }
    fs::create_dir(crashed.path().join("inbox.journal")).unwrap();
    for path in files(&folder.path().join("inbox.journal")) {
        fs::copy(&path, crashed.path().join("inbox.journal").join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(telling(crashed.path()), Vec::<PathBuf>::new());
    inbox.upkeep.close().await;
    drop(inbox);
    // The store knows the new key, and the journal's segment needs the old one.
    let keys = crashed.path().join("keys.db");
    let kept = fs::read(&keys).unwrap();
    let rotated = sealed(crashed.path(), &[2, 1], false);
    open_with(&Settings { journal: Some(inbox::settings::Journal::Folder(folder.path().join("other"))), ..rotated })
        .upkeep
        .close()
        .await;
    let refused = try_open(&sealed(crashed.path(), &[2], true), Access::Owner).unwrap_err();
    assert!(problem(&refused).contains(".segment is sealed with a key"), "{refused:?}");
    fs::write(&keys, kept).unwrap();
    let inbox = open_with(&sealed(crashed.path(), &[1], true));
    let last = new_entry(&body("last", "c1", None, false));
    let receipt = inbox.intake.accept(last).await.unwrap();
    inbox.intake.fate(&receipt).await.unwrap();
    let entries = inbox.desk.list(&Filter::default(), 100).await.unwrap();
    assert_eq!(entries.len(), 23);
    for entry in entries {
        assert!(inbox.desk.body(entry.seq).await.unwrap().unwrap().starts_with(b"{\"id\":\""));
    }
    inbox.upkeep.close().await;
}

/// Sealed bodies that change places are not delivered: each is bound to its row.
#[tokio::test]
async fn a_sealed_body_is_opened_in_its_row_alone() {
    let folder = TempDir::new().unwrap();
    let settings = sealed(folder.path(), &[1], false);
    let inbox = open_with(&settings);
    for id in ["e1", "e2", "e3"] {
        accept(&inbox, &body(id, "c1", Some("u1"), false)).await;
    }
    let file = Connection::open(folder.path().join("inbox.db")).unwrap();
    file.execute("UPDATE body SET bytes = (SELECT bytes FROM body WHERE seq = 2) WHERE seq = 1", []).unwrap();
    file.execute("UPDATE entry SET key = 5 WHERE seq = 2", []).unwrap();
    drop(file);
    let claimed = inbox.queue.claim(&Stage::deliver("app"), 10, LEASE).await.unwrap().leases;
    assert_eq!(claimed.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [Seq(3)]);
    for (seq, reason) in [(1, "not the one that was accepted"), (2, "its key is not in the keys store")] {
        let entry = inbox.desk.list(&Filter { seq: Some(Seq(seq)), ..Filter::default() }, 1).await.unwrap().remove(0);
        assert_eq!(entry.state, State::Parked);
        assert!(entry.stages[0].reason.as_deref().unwrap().contains(reason), "{entry:?}");
    }
}

/// A sealed backup is nothing without its keys, and whole with them.
#[tokio::test]
async fn a_backup_needs_its_keys() {
    let folder = TempDir::new().unwrap();
    let settings = sealed(folder.path(), &[1], true);
    let inbox = open_with(&settings);
    let seq = fill(&inbox).await;
    inbox.desk.list(&Filter::default(), 1).await.unwrap();
    let (copy, keys) = (folder.path().join("copy.db"), folder.path().join("copy.keys"));
    backup(&settings, &copy, Some(&keys), quiet).unwrap();
    inbox.upkeep.close().await;
    let another = folder.path().join("another.db");
    let refused = base::error::chain(&backup(&settings, &another, Some(&keys), quiet).unwrap_err());
    assert!(refused.contains("copy.keys: it is there already"), "{refused}");
    assert!(!another.exists(), "a backup that failed leaves nothing");
    let absent = base::error::chain(&restore(&settings, &folder.path().join("absent.db"), None, quiet).unwrap_err());
    assert!(absent.contains("absent.db: this backup cannot be read"), "{absent}");
    let elsewhere = TempDir::new().unwrap();
    let there = sealed(elsewhere.path(), &[1], true);
    assert!(problem(&restore(&there, &copy, None, quiet).unwrap_err()).contains("is not there"));
    assert!(!elsewhere.path().join("inbox.db").exists());
    assert!(problem(&restore(&there, &copy, Some(&copy), quiet).unwrap_err()).contains("no copy of the keys"));
    // Such as one that a full disk, or a mount, left empty.
    fs::write(there.keys_file(), b"").unwrap();
    assert_eq!(restore(&there, &copy, Some(&keys), quiet).unwrap().entries, 2);
    is_filled(&open_with(&there), seq).await;
    let plain = TempDir::new().unwrap();
    let unsealed = sealed(plain.path(), &[], true);
    open_with(&unsealed).upkeep.close().await;
    let refused = backup(&unsealed, &plain.path().join("b.db"), Some(&plain.path().join("k")), quiet).unwrap_err();
    assert!(base::error::chain(&refused).contains("not sealed"), "{refused:?}");
}
