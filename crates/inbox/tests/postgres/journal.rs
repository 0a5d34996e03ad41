//! The journal beside PostgreSQL: takes events while the server does not answer, and gives them to it in order.

use super::{accepted, at, beside, event, eventually, open, server, stored, try_open};
use crate::bank::{CANARIES, body, key, new_entry, telling};
use ::event::ConnectionId;
use double::servers::{Proxy, Weather};
use inbox::{Error, Filter, Folded, Inbox, Settings, Subject, settings::Store, transfer::transfer};
use tempfile::TempDir;

async fn unfolded(inbox: &Inbox) -> u64 {
    inbox.upkeep.stats().await.unwrap().unfolded
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_empty_while_the_server_answers() {
    let (server, folder) = (server().await, TempDir::new().unwrap());
    let inbox = open(&beside(&server.url(), folder.path())).await;
    for n in 0..20 {
        let receipt = inbox.intake.accept(event(&format!("e{n}"), "c")).await.unwrap();
        assert!(matches!(receipt.folded, Some(Folded::Stored { .. })), "{receipt:?}");
    }
    assert_eq!(unfolded(&inbox).await, 0);
    assert_eq!(inbox.upkeep.stats().await.unwrap().oldest_unfolded, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_refused_while_the_server_is_away_and_the_order_holds() {
    let (server, folder) = (server().await, TempDir::new().unwrap());
    let proxy = Proxy::start(server.port()).await.unwrap();
    let inbox = open(&beside(&proxy.postgres_url(), folder.path())).await;
    inbox.intake.accept(event("c0", "c")).await.unwrap();
    for weather in [Weather::Stalled, Weather::Reset] {
        proxy.set(weather);
        for n in 0..30 {
            // A commit that was under way may have been done: then the fold finds it.
            inbox.intake.accept(event(&format!("{weather:?}{n}"), "c")).await.unwrap();
        }
        inbox.intake.ready().unwrap();
        let stats = inbox.upkeep.stats().await.unwrap();
        assert!(stats.unfolded > 0 && stats.oldest_unfolded.is_some() && stats.is_away, "{stats:?}");
        proxy.set(Weather::Fair);
        // While it is folded, others come.
        for n in 30..60 {
            inbox.intake.accept(event(&format!("{weather:?}{n}"), "c")).await.unwrap();
        }
        eventually("everything is folded", async || (unfolded(&inbox).await == 0).then_some(())).await;
    }
    let wanted: Vec<String> = std::iter::once("c0".to_owned())
        .chain(["Stalled", "Reset"].iter().flat_map(|word| (0..60).map(move |n| format!("{word}{n}"))))
        .collect();
    assert_eq!(stored(&inbox, wanted.len()).await, wanted);
    // And the store again, without the journal.
    let receipt = eventually("the store takes events itself", async || {
        let receipt = inbox.intake.accept(event("last", "c")).await.unwrap();
        receipt.folded.map(|_| receipt)
    })
    .await;
    assert!(receipt.folded.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_took_outlives_a_restart_without_the_server() {
    let (mut server, folder) = (server().await, TempDir::new().unwrap());
    let settings = beside(&server.url(), folder.path());
    let first = open(&settings).await;
    accepted(&first, "e0", "c").await;
    server.stop();
    for n in 1..=5 {
        first.intake.accept(event(&format!("e{n}"), "c")).await.unwrap();
    }
    first.upkeep.close().await;
    drop(first);

    let second = open(&settings).await;
    assert_eq!(unfolded(&second).await, 5);
    second.intake.accept(event("e6", "c")).await.unwrap();
    server.restart().unwrap();
    assert_eq!(stored(&second, 7).await, ["e0", "e1", "e2", "e3", "e4", "e5", "e6"]);
    second.upkeep.close().await;
    drop(second);

    // What was folded is not folded again.
    let third = open(&settings).await;
    assert_eq!(unfolded(&third).await, 0);
    assert_eq!(stored(&third, 7).await.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_ends_gives_its_journal_to_the_server_first() {
    let (server, folder) = (server().await, TempDir::new().unwrap());
    let proxy = Proxy::start(server.port()).await.unwrap();
    let settings = beside(&proxy.postgres_url(), folder.path());
    let inbox = open(&settings).await;
    proxy.set(Weather::Stalled);
    for n in 0..5 {
        inbox.intake.accept(event(&format!("e{n}"), "c")).await.unwrap();
    }
    proxy.set(Weather::Fair);
    inbox.upkeep.close().await;
    let count = server.sql("SELECT count(*) FROM linxo_webhook.entry").unwrap();
    assert_eq!(count, "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_not_given_to_another_inbox() {
    let (mut one, folder) = (server().await, TempDir::new().unwrap());
    let first = open(&beside(&one.url(), folder.path())).await;
    accepted(&first, "e0", "c").await;
    one.stop();
    first.intake.accept(event("e1", "c")).await.unwrap();
    first.upkeep.close().await;
    drop(first);

    let other = server().await;
    let refused = try_open(&beside(&other.url(), folder.path())).await.unwrap_err();
    assert!(base::error::chain(&refused).contains("another inbox"), "{refused:?}");
    assert_eq!(other.sql("SELECT count(*) FROM linxo_webhook.entry").unwrap(), "0");
    // Without the journal it is taken.
    assert!(!matches!(try_open(&at(&other.url())).await, Err(Error::Unusable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_erased_is_not_brought_back_by_a_journal() {
    let (server, folder) = (server().await, TempDir::new().unwrap());
    let proxy = Proxy::start(server.port()).await.unwrap();
    let inbox = open(&beside(&proxy.postgres_url(), folder.path())).await;
    accepted(&inbox, "before", "c").await;
    proxy.set(Weather::Reset);
    inbox.intake.accept(event("in the journal", "c")).await.unwrap();
    inbox.intake.accept(event("of another", "d")).await.unwrap();
    // Through another receiver, which reaches the server.
    let other = open(&at(&server.url())).await;
    let erased = other.persons.erase(&Subject::Connection(ConnectionId::new("c"))).await.unwrap();
    assert_eq!(erased.entries, 1);
    proxy.set(Weather::Fair);
    eventually("everything is folded", async || (unfolded(&inbox).await == 0).then_some(())).await;
    assert_eq!(stored(&inbox, 1).await, ["of another"]);
    // What comes after the erasure is news.
    accepted(&inbox, "after", "c").await;
    assert_eq!(stored(&inbox, 2).await, ["of another", "after"]);
}

/// What the journal holds is sealed with the key file alone, so it needs neither the server nor the keys store.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_journal_holds_beside_a_sealed_inbox_is_sealed() {
    for keys in [vec![key(1)], Vec::new()] {
        let (mut server, folder) = (server().await, TempDir::new().unwrap());
        let is_sealed = !keys.is_empty();
        let settings = Settings { key: keys, ..beside(&server.url(), folder.path()) };
        inbox::init(&settings).await.unwrap();
        let inbox = open(&settings).await;
        inbox.intake.accept(new_entry(&body("e0", "c", Some("u"), false))).await.unwrap();
        server.stop();
        for n in 1..=5 {
            inbox.intake.accept(new_entry(&body(&format!("e{n}"), "c", Some("u"), false))).await.unwrap();
        }
        assert_eq!(telling(folder.path()).is_empty(), is_sealed);
        inbox.upkeep.close().await;
        drop(inbox);
        let inbox = open(&settings).await;
        assert_eq!(unfolded(&inbox).await, 5);
        server.restart().unwrap();
        assert_eq!(stored(&inbox, 6).await, ["e0", "e1", "e2", "e3", "e4", "e5"]);
        for entry in inbox.desk.list(&Filter::default(), 10).await.unwrap() {
            let body = inbox.desk.body(entry.seq).await.unwrap().unwrap();
            assert!(String::from_utf8_lossy(&body).contains(CANARIES[1]));
        }
        server.sql("CHECKPOINT").unwrap();
        assert_eq!(telling(&server.data()).is_empty(), is_sealed);
        inbox.upkeep.close().await;
    }
}

/// A copy would leave behind what only the journal has.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_is_not_copied_while_a_journal_has_events_of_it() {
    let (mut server, folder, copy) = (server().await, TempDir::new().unwrap(), TempDir::new().unwrap());
    let settings = beside(&server.url(), folder.path());
    let inbox = open(&settings).await;
    accepted(&inbox, "e0", "c").await;
    server.stop();
    for n in 1..=5 {
        inbox.intake.accept(event(&format!("e{n}"), "c")).await.unwrap();
    }
    inbox.upkeep.close().await;
    drop(inbox);
    server.restart().unwrap();
    let to = Store::Sqlite(copy.path().join("inbox.db"));
    let refused = transfer(&settings, (&settings.store, &to), |_| ()).await.unwrap_err();
    let told = base::error::chain(&refused);
    assert!(told.contains("has 5 events that may not be there yet: start the service on it once"), "{told}");
    let inbox = open(&settings).await;
    eventually("everything is folded", async || (unfolded(&inbox).await == 0).then_some(())).await;
    inbox.upkeep.close().await;
    drop(inbox);
    transfer(&settings, (&settings.store, &to), |_| ()).await.unwrap();
}
