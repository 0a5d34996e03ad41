//! An inbox that is copied from a file to PostgreSQL and back is the same inbox.

use super::{at, event, open, server};
use crate::bank::{self, accept, body, is_filled, key, telling};
use inbox::{
    Access, Cause, Filter, Folded, Inbox, Outcome, Settings, SinkName, Stage, Subject,
    rules::Order,
    settings::{Journal, Store},
    transfer::{Transferred, transfer},
};
use std::{path::Path, time::Duration};
use tempfile::TempDir;

const SINKS: [&str; 2] = ["app", "books"];

fn file(path: &Path) -> Settings {
    Settings { store: Store::Sqlite(path.to_owned()), journal: Some(Journal::Off), ..at("sqlite:unused") }
}

fn open_file(settings: &Settings) -> Inbox {
    inbox::open(settings, &SINKS.map(SinkName::new), Access::Owner).unwrap()
}

/// An inbox with work in every state, a conflict, a text that PostgreSQL does not take as it is, refused requests, acts, a pause.
async fn fill(inbox: &Inbox) {
    for n in 0..300 {
        inbox.intake.accept(event(&format!("e{n}"), &format!("c{}", n % 50))).await.unwrap();
    }
    inbox.intake.accept(event("e7", "other")).await.unwrap();
    inbox.intake.accept(event("nul\\u0000", "c\\u0000")).await.unwrap();
    let claimed = inbox.queue.claim(&Stage::deliver("app"), 20, Duration::from_mins(1)).await.unwrap();
    for (n, lease) in claimed.leases.iter().enumerate().take(15) {
        let outcome = match n % 2 {
            0 => Outcome::Park { cause: Cause::Refused, reason: "it said 400".to_owned() },
            _ => Outcome::Retry { due: base::clock::now(), reason: "it hung up".to_owned(), is_doubtful: false },
        };
        inbox.queue.settle(&[(lease, outcome)]).await.remove(0).unwrap();
    }
    inbox.sinks.pause(&SinkName::new("books"), true).await.unwrap();
    assert!(inbox.sinks.set_order(&SinkName::new("books"), Order::Strict).await.unwrap());
}

/// What a person sees of it.
async fn seen(inbox: &Inbox) -> String {
    let mut entries = inbox.desk.list(&Filter::default(), 10_000).await.unwrap();
    entries.sort_by_key(|entry| entry.seq);
    let bodies = inbox.desk.body(entries[3].seq).await.unwrap();
    let paused = inbox.sinks.paused().await.unwrap();
    format!("{:?} {entries:?} {bodies:?} {paused:?}", inbox.keys.get().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_there_and_back_is_the_same_inbox() {
    let (server, folder) = (server_without_inbox(), TempDir::new().unwrap());
    let (one, other) = (file(&folder.path().join("one.db")), file(&folder.path().join("other.db")));
    let there = at(&server.url());
    let first = open_file(&one);
    fill(&first).await;
    let before = seen(&first).await;
    first.upkeep.close().await;
    drop(first);

    let copied = transfer(&there, (&one.store, &there.store), |_| ()).await.unwrap();
    assert!(rows(&copied, "entry") == 302 && rows(&copied, "stage") > 0 && rows(&copied, "known") == 302, "{copied:?}");
    let shared = inbox::connect(&there, &SINKS.map(SinkName::new), Access::Owner).await.unwrap();
    assert_eq!(seen(&shared).await, before);
    // What was known is known, and numbers go on.
    let again = shared.intake.accept(event("e5", "c5")).await.unwrap();
    assert!(matches!(again.folded, Some(Folded::Duplicate { .. })), "{again:?}");
    let Some(Folded::Stored { seq, .. }) = shared.intake.accept(event("new", "c5")).await.unwrap().folded else {
        panic!()
    };
    assert!(seq.0 > 302, "{seq}");
    let before = seq;
    let stats = shared.upkeep.stats().await.unwrap();
    assert!(stats.of_sink(&SinkName::new("app")).parked > 0, "{stats:?}");
    let after = seen(&shared).await;
    shared.upkeep.close().await;
    drop(shared);

    let back = transfer(&there, (&there.store, &other.store), |_| ()).await.unwrap();
    assert_eq!(rows(&back, "entry"), 303);
    // Beside nobody: the owner of a file takes the leases of before back.
    let beside = inbox::open(&other, &SINKS.map(SinkName::new), Access::Guest).unwrap();
    assert_eq!(seen(&beside).await, after);
    beside.upkeep.close().await;
    drop(beside);
    let last = open_file(&other);
    let Some(Folded::Stored { seq, .. }) = last.intake.accept(event("newer", "c5")).await.unwrap().folded else {
        panic!()
    };
    assert!(seq > before, "{seq}");
}

fn server_without_inbox() -> double::servers::Postgres {
    double::servers::Postgres::start(&double::servers::Options::default()).unwrap()
}

fn rows(copied: &Transferred, table: &str) -> u64 {
    copied.tables.iter().find(|(name, _)| *name == table).unwrap().1
}

/// The data keys go with it, those of erased users do not come back, and nothing is opened on the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_inbox_is_copied_with_its_keys() {
    let (server, folder) = (server_without_inbox(), TempDir::new().unwrap());
    let sealed = |settings: Settings| Settings { key: vec![key(1)], ..settings };
    let one = sealed(file(&folder.path().join("one/inbox.db")));
    let other = sealed(file(&folder.path().join("other/inbox.db")));
    let there = sealed(at(&server.url()));
    std::fs::create_dir_all(folder.path().join("other")).unwrap();
    let first = open_file(&one);
    let seq = bank::fill(&first).await;
    accept(&first, &body("gone", "c8", Some("u8"), false)).await;
    let erase = async |inbox: &Inbox, user: &str| {
        let subject = Subject::User(::event::UserId::new(user));
        inbox.persons.erase(&subject).await.unwrap().keys
    };
    assert_eq!(erase(&first, "u8").await, 1);
    first.upkeep.close().await;
    drop(first);

    // No key is needed for it.
    let keyless = Settings { key: Vec::new(), ..there.clone() };
    let copied = transfer(&keyless, (&one.store, &there.store), |_| ()).await.unwrap();
    assert!(rows(&copied, "key") > 2 && rows(&copied, "erased") == 1, "{copied:?}");
    assert!(copied.keys.unwrap().contains("linxo_webhook_keys"));
    let shared = inbox::connect(&there, &SINKS.map(SinkName::new), Access::Owner).await.unwrap();
    is_filled(&shared, seq).await;
    assert_eq!(accept(&shared, &body("e1", "c1", Some("u1"), false)).await, Folded::Duplicate { seq });
    accept(&shared, &body("new", "c9", Some("u9"), false)).await;
    accept(&shared, &body("more", "c1", Some("u1"), false)).await;
    assert_eq!(erase(&shared, "u9").await, 1);
    shared.upkeep.close().await;
    drop(shared);

    let back = transfer(&keyless, (&there.store, &other.store), |_| ()).await.unwrap();
    assert_eq!((rows(&back, "erased"), rows(&back, "entry")), (2, 3));
    server.sql("CHECKPOINT").unwrap();
    assert_eq!(telling(folder.path()).len() + telling(&server.data()).len(), 0);
    let last = open_file(&other);
    is_filled(&last, seq).await;
    assert_eq!(accept(&last, &body("e1", "c1", Some("u1"), false)).await, Folded::Duplicate { seq });
    assert_eq!(erase(&last, "u1").await, 2);
    last.upkeep.close().await;
    // It is the same inbox, so its keys would be in the way of another copy.
    drop(last);
    let refused = transfer(&keyless, (&other.store, &there.store), |_| ()).await.unwrap_err();
    assert!(base::error::chain(&refused).contains("already"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_cut_short_goes_on_and_serves_nobody_before() {
    let (server, folder) = (server_without_inbox(), TempDir::new().unwrap());
    let (one, there) = (file(&folder.path().join("one.db")), at(&server.url()));
    let first = open_file(&one);
    fill(&first).await;
    let before = seen(&first).await;
    first.upkeep.close().await;
    drop(first);

    let (settings, from, to) = (there.clone(), one.store.clone(), there.store.clone());
    let cut = tokio::spawn(async move {
        transfer(&settings, (&from, &to), |progress| assert_ne!(progress.table, "known", "cut")).await
    });
    assert!(cut.await.unwrap_err().is_panic());
    assert!(inbox::connect(&there, &[], Access::Owner).await.is_err(), "half an inbox is none");

    let mut told = Vec::new();
    transfer(&there, (&one.store, &there.store), |progress| told.push(progress)).await.unwrap();
    assert!(
        !told.iter().any(|progress| progress.table == "entry" && !progress.is_verified),
        "entries were there already"
    );
    let shared = inbox::connect(&there, &SINKS.map(SinkName::new), Access::Owner).await.unwrap();
    assert_eq!(seen(&shared).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_overwrites_nothing_and_wants_nobody_there() {
    let (server, folder) = (server().await, TempDir::new().unwrap());
    let (one, there) = (file(&folder.path().join("one.db")), at(&server.url()));
    let first = open_file(&one);
    first.intake.accept(event("e1", "c")).await.unwrap();
    let refused = transfer(&there, (&one.store, &there.store), |_| ()).await.unwrap_err();
    assert!(base::error::chain(&refused).contains("stop"), "{refused:?}");
    first.upkeep.close().await;
    drop(first);

    let user = open(&there).await;
    let refused = transfer(&there, (&one.store, &there.store), |_| ()).await.unwrap_err();
    assert!(base::error::chain(&refused).contains("stop every receiver"), "{refused:?}");
    user.intake.accept(event("theirs", "c")).await.unwrap();
    user.upkeep.close().await;
    drop(user);

    super::eventually("its connections are gone", async || {
        let refused = transfer(&there, (&one.store, &there.store), |_| ()).await.unwrap_err();
        base::error::chain(&refused).contains("holds an inbox already").then_some(())
    })
    .await;
    assert!(transfer(&there, (&there.store, &one.store), |_| ()).await.is_err(), "a file that is there stays");
}
