//! Erasure: everything of one user goes, in whatever state, from rows, journal and old backups; nobody else's does.

use crate::{
    LEASE,
    bank::{CANARIES, accept, body, fetch, held, new_entry, refuse, stored, telling},
    seal::{open_with, sealed},
};
use event::{ConnectionId, UserId};
use inbox::{
    Erased, Error, Filter, Folded, Inbox, Outcome, Settings, Stage, State, Subject,
    archive::{backup, restore},
};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

fn user(id: &str) -> Subject {
    Subject::User(UserId::new(id))
}

fn quiet(_: u64) {}

/// Entries of user `u1` in every state, one of their connection that names nobody, a reading, refused requests; and some of `u2`.
async fn fill(inbox: &Inbox) {
    let done = stored(accept(inbox, &body("done", "c1", Some("u1"), false)).await);
    for sink in ["app", "books"] {
        let lease = inbox.queue.claim(&Stage::deliver(sink), 1, LEASE).await.unwrap().leases.remove(0);
        assert_eq!(lease.seq, done);
        inbox.queue.settle(&[(&lease, Outcome::Done)]).await.remove(0).unwrap();
    }
    let parked = stored(accept(inbox, &body("parked", "c2", Some("u1"), false)).await);
    inbox.desk.park(&Filter { seq: Some(parked), ..Filter::default() }, 1, "by hand").await.unwrap();
    accept(inbox, &body("fetched", "c3", Some("u1"), true)).await;
    fetch(inbox).await;
    accept(inbox, &body("nobody", "c1", None, false)).await;
    for (id, connection, user) in [("other", "c8", Some("u2")), ("shared", "c1", Some("u2")), ("none", "c9", None)] {
        accept(inbox, &body(id, connection, user, false)).await;
    }
    refuse(inbox, r#"{"resource":{"user_id":"u1","#).await;
    refuse(inbox, r#"{"resource":{"id":"c3","#).await;
    refuse(inbox, r#"{"resource":{"user_id":"u11","id":"c33"#).await;
}

async fn ids(inbox: &Inbox) -> Vec<String> {
    let mut entries = inbox.desk.list(&Filter::default(), 100).await.unwrap();
    entries.reverse();
    for entry in &entries {
        let body = inbox.desk.body(entry.seq).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&body).contains(entry.event_id.as_str()));
    }
    entries.into_iter().map(|entry| entry.event_id.as_str().to_owned()).collect()
}

const REST: [&str; 3] = ["other", "shared", "none"];

async fn is_only_the_rest(inbox: &Inbox) {
    assert_eq!(ids(inbox).await, REST);
    let held = held(inbox, "u1").await;
    assert!(held.entries.is_empty() && held.readings.is_empty() && held.refused.is_empty(), "{held:?}");
    let refused = inbox.desk.refused(inbox::Span::default(), 10).await.unwrap();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].start.as_deref().unwrap().ends_with(b"c33"), "and it can still be opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_user_goes_and_nothing_of_anybody_else() {
    for (keys, has_journal) in [(&[1][..], true), (&[1], false), (&[], true), (&[], false)] {
        let folder = TempDir::new().unwrap();
        let inbox = open_with(&sealed(folder.path(), keys, has_journal));
        fill(&inbox).await;
        let before = held(&inbox, "u1").await;
        assert_eq!((before.entries.len(), before.readings.len(), before.refused.len()), (4, 1, 2));
        // Work that is under way.
        accept(&inbox, &body("leased", "c4", Some("u1"), false)).await;
        let leased = inbox.queue.claim(&Stage::deliver("app"), 10, LEASE).await.unwrap().leases;
        let lease = leased.iter().find(|lease| lease.entry.event_id.as_str() == "leased").unwrap();

        let erased = inbox.persons.erase(&user("u1")).await.unwrap();
        let is_sealed = !keys.is_empty();
        // c1 and c2, c3, c4 of the user, and c1 of nobody.
        let keys = if is_sealed { 5 } else { 0 };
        assert_eq!(
            erased,
            Erased { entries: 5, readings: 1, refused: 2, keys, is_sealed, left: Vec::new(), out_of_reach: Vec::new() }
        );
        is_only_the_rest(&inbox).await;
        assert!(matches!(inbox.queue.settle(&[(lease, Outcome::Done)]).await[..], [Err(Error::LeaseLost(_))]));
        assert!(matches!(inbox.queue.renew(lease, LEASE).await, Err(Error::LeaseLost(_))));
        // What waited behind them goes on, and what was leased of others stays so.
        let next = inbox.queue.claim(&Stage::deliver("app"), 10, LEASE).await.unwrap().leases;
        assert_eq!(next.iter().map(|lease| lease.entry.event_id.as_str()).collect::<Vec<_>>(), ["shared"]);

        let again = inbox.persons.erase(&user("u1")).await.unwrap();
        assert_eq!(again, Erased { is_sealed, ..Erased::default() }, "once more does no harm");
        // Somebody who comes back begins anew, and gets another key.
        let seq = stored(accept(&inbox, &body("done", "c1", Some("u1"), false)).await);
        assert_eq!(inbox.desk.body(seq).await.unwrap().unwrap(), body("done", "c1", Some("u1"), false));
        assert_eq!(inbox.persons.erase(&user("u1")).await.unwrap().entries, 1);
        is_only_the_rest(&inbox).await;
        inbox.upkeep.close().await;
    }
}

/// Without a key too nothing of an erased user stays in any file: the canaries of the only user are gone.
#[tokio::test(flavor = "multi_thread")]
async fn no_file_holds_what_was_erased() {
    for has_journal in [true, false] {
        let folder = TempDir::new().unwrap();
        let inbox = open_with(&sealed(folder.path(), &[], has_journal));
        accept(&inbox, &body("e1", "c1", Some("u1"), false)).await;
        accept(&inbox, &body("e2", "c1", Some("u1"), true)).await;
        fetch(&inbox).await;
        refuse(&inbox, &format!(r#"{{"user_id":"u1","name":"{}"#, CANARIES[0])).await;
        assert!(!telling(folder.path()).is_empty());
        assert_eq!(inbox.persons.erase(&user("u1")).await.unwrap().left, Vec::<String>::new());
        assert_eq!(telling(folder.path()), Vec::<PathBuf>::new(), "beside the running service");
        inbox.upkeep.close().await;
    }
}

#[tokio::test]
async fn a_connection_is_erased_for_all_its_users() {
    let folder = TempDir::new().unwrap();
    let inbox = open_with(&sealed(folder.path(), &[1], true));
    fill(&inbox).await;
    let erased = inbox.persons.erase(&Subject::Connection(ConnectionId::new("c1"))).await.unwrap();
    assert_eq!((erased.entries, erased.keys), (3, 3));
    assert_eq!(ids(&inbox).await, ["parked", "fetched", "other", "none"]);
    inbox.upkeep.close().await;
}

/// An old backup, with any copy of the keys that knows of the erasure, shows nothing of the user. A copy of the keys from before
/// does not bring them back where the keys store knows.
#[tokio::test]
async fn an_old_backup_brings_nobody_back() {
    let folder = TempDir::new().unwrap();
    let settings = sealed(folder.path(), &[1], false);
    let inbox = open_with(&settings);
    fill(&inbox).await;
    let path = |name: &str| folder.path().join(name);
    let (old, old_keys) = (path("old.db"), path("old.keys"));
    backup(&settings, &old, Some(&old_keys), quiet).unwrap();
    inbox.persons.erase(&user("u1")).await.unwrap();
    let (new, new_keys) = (path("new.db"), path("new.keys"));
    backup(&settings, &new, Some(&new_keys), quiet).unwrap();
    inbox.upkeep.close().await;
    drop(inbox);
    // In its place, and elsewhere; with the keys store that is there, with the newer copy, with the older one too.
    for keys in [None, Some(&old_keys), Some(&new_keys)] {
        restore(&settings, &old, keys.map(PathBuf::as_path), quiet).unwrap();
        let inbox = open_with(&settings);
        assert_eq!(ids(&inbox).await, REST);
        assert!(held(&inbox, "u1").await.readings.is_empty());
        inbox.upkeep.close().await;
    }
    let elsewhere = TempDir::new().unwrap();
    let there = sealed(elsewhere.path(), &[1], false);
    restore(&there, &old, Some(&new_keys), quiet).unwrap();
    restore(&there, &old, Some(&old_keys), quiet).unwrap();
    let inbox = open_with(&there);
    assert_eq!(ids(&inbox).await, REST);
    inbox.upkeep.close().await;
    drop(inbox);
    // By hand, past `inbox restore`.
    fs::copy(&old, there_file(&there)).unwrap();
    let guest = crate::seal::try_open(&there, inbox::Access::Guest).unwrap();
    assert_eq!(ids(&guest).await, REST);
}

fn there_file(settings: &Settings) -> PathBuf {
    let path = settings.file().unwrap();
    path.to_owned()
}

/// A crash between the erasure of the keys and the commit of the rows leaves rows without keys, which the next start removes.
#[tokio::test]
async fn a_crash_in_an_erasure_ends_it() {
    let folder = TempDir::new().unwrap();
    let settings = sealed(folder.path(), &[1], false);
    let inbox = open_with(&settings);
    fill(&inbox).await;
    let crashed = TempDir::new().unwrap();
    for name in ["inbox.db", "inbox.db-wal"] {
        fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    inbox.persons.erase(&user("u1")).await.unwrap();
    fs::copy(folder.path().join("keys.db"), crashed.path().join("keys.db")).unwrap();
    inbox.upkeep.close().await;
    let inbox = open_with(&sealed(crashed.path(), &[1], false));
    assert_eq!(ids(&inbox).await, REST);
    assert!(inbox.desk.list(&Filter { state: Some(State::Parked), ..Filter::default() }, 9).await.unwrap().is_empty());
    inbox.upkeep.close().await;
}

/// Events that come while somebody is erased are kept: they are sealed with other keys than the erased ones.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_during_an_erasure_is_lost_or_kept_whole() {
    let folder = TempDir::new().unwrap();
    let settings = sealed(folder.path(), &[1], true);
    let inbox = open_with(&settings);
    let posting = async {
        let mut receipts = Vec::new();
        for number in 0..300 {
            let json = body(&format!("e{number}"), &format!("c{}", number % 7), Some("u1"), false);
            receipts.push(inbox.intake.accept(new_entry(&json)).await.unwrap());
        }
        receipts
    };
    let erasing = async {
        for _ in 0..5 {
            assert_eq!(inbox.persons.erase(&user("u1")).await.unwrap().left, Vec::<String>::new());
        }
    };
    let (receipts, ()) = tokio::join!(posting, erasing);
    for receipt in &receipts {
        assert!(matches!(inbox.intake.fate(receipt).await.unwrap(), Some(Folded::Stored { .. })));
    }
    let kept = ids(&inbox).await;
    inbox.upkeep.close().await;
    drop(inbox);
    let inbox = open_with(&settings);
    assert_eq!(ids(&inbox).await, kept, "nothing that was kept had an erased key");
    assert!(matches!(accept(&inbox, &body("last", "c1", Some("u1"), false)).await, Folded::Stored { .. }));
    inbox.upkeep.close().await;
}
