//! Readings: kept page by page, gone on with after a crash, shared by events of the same connection, and let go.

use crate::{
    events::{found, page, park},
    stores::{Backend, LEASE, Store, every_back_end, only},
};
use base::clock;
use event::AccountId;
use inbox::{Certainty, Error, Fetched, Found, Outcome, Page, Shortfall, Stage};
use rstest_reuse::apply;
use std::time::Duration;

#[apply(every_back_end)]
#[tokio::test]
async fn a_page_comes_back_as_it_was_kept(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    store.accept_truncated("e1", "a").await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let (readings, shelf) = (&store.get().readings, &store.get().shelf);
    let before = clock::now();
    let reading = readings.find_or_begin(&lease, LEASE).await.unwrap();
    assert!(before <= reading.started && reading.started <= clock::now());
    assert!(reading.found.is_none() && reading.pages.is_empty());
    let ids = |ids: &[&str]| ids.iter().map(|id| AccountId::new(*id)).collect::<Vec<_>>();
    let kept = Page {
        number: 2,
        ids: ids(&["x", "é\"y"]),
        foreign: ids(&["z"]),
        fresh: 3,
        accounts: r#"{"id":"x","balance":1.10},{"id":"é\"y"}"#.into(),
        received: 5,
        unusable: 1,
    };
    readings.keep_page(&lease, reading.id, kept.clone()).await.unwrap();
    readings.keep_page(&lease, reading.id, page(1)).await.unwrap();
    let again = readings.find_or_begin(&lease, LEASE).await.unwrap();
    assert_eq!((again.id, again.started), (reading.id, reading.started));
    let facts = &again.pages[1];
    assert_eq!((again.pages[0].number, facts.number), (1, 2));
    assert_eq!((&facts.ids, &facts.foreign), (&kept.ids, &kept.foreign));
    assert_eq!((facts.fresh, facts.received, facts.unusable, facts.bytes), (3, 5, 1, kept.accounts.len() as u64));
    assert_eq!(shelf.page(reading.id, 2).await.unwrap(), kept.accounts);

    readings.replace_accounts(&lease, reading.id, 2, r#"{"id":"x"}"#.into()).await.unwrap();
    let replaced = &readings.find_or_begin(&lease, LEASE).await.unwrap().pages[1];
    assert_eq!((&replaced.ids, replaced.fresh, replaced.received, replaced.bytes), (&kept.ids, 3, 5, 10));
    assert_eq!(&shelf.page(reading.id, 2).await.unwrap()[..], br#"{"id":"x"}"#);
    readings.keep_page(&lease, reading.id, Page { number: 2, ..page(3) }).await.unwrap();
    assert_eq!(&shelf.page(reading.id, 2).await.unwrap()[..], br#"{"id":"3"}"#, "kept again, it replaces the first");
    assert_eq!(shelf.pages(reading.id).await.unwrap(), [(1, 10), (2, 10)]);
    assert!(matches!(shelf.page(reading.id, 9).await, Err(Error::Store(_))));

    assert_eq!(shelf.connection(reading.id).await.unwrap(), None);
    for json in [r#"{"id":"a"}"#, r#"{"id":"a","status":"SUCCESS"}"#] {
        readings.keep_connection(&lease, reading.id, json.into()).await.unwrap();
        assert_eq!(&shelf.connection(reading.id).await.unwrap().unwrap()[..], json.as_bytes());
    }
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_reading_is_written_only_by_who_holds_the_lease(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let seq = store.accept_truncated("e1", "a").await;
    let lost = store.claim_one(&Stage::ACCOUNTS).await;
    let readings = &store.get().readings;
    let reading = readings.find_or_begin(&lost, LEASE).await.unwrap();
    store.park(&only(seq)).await;
    store.replay(&only(seq)).await;
    let held = store.claim_one(&Stage::ACCOUNTS).await;
    let current = readings.find_or_begin(&held, LEASE).await.unwrap();
    readings.keep_page(&held, current.id, page(1)).await.unwrap();
    for stale in [
        readings.keep_page(&lost, reading.id, page(1)).await,
        readings.replace_accounts(&lost, current.id, 1, "".into()).await,
        readings.keep_connection(&lost, current.id, "{}".into()).await,
        readings.find_or_begin(&lost, LEASE).await.map(drop),
        readings.begin(&lost).await.map(drop),
        readings.abandon(&lost).await,
        readings.last_shortfall(&lost).await.map(drop),
    ] {
        assert!(matches!(stale, Err(Error::LeaseLost(of)) if of == seq));
    }
    assert_eq!(&store.get().shelf.page(current.id, 1).await.unwrap()[..], br#"{"id":"1"}"#);
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_was_read_in_vain_is_not_kept(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    for (id, outcome) in [("e1", Outcome::Gone), ("e2", park("403"))] {
        store.accept_truncated(id, "a").await;
        let lease = store.claim_one(&Stage::ACCOUNTS).await;
        let reading = store.get().readings.find_or_begin(&lease, LEASE).await.unwrap();
        store.get().readings.keep_page(&lease, reading.id, page(1)).await.unwrap();
        store.settle(&lease, outcome).await;
        assert!(store.get().shelf.pages(reading.id).await.unwrap().is_empty());
    }
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_reading_is_gone_on_with_by_the_age_of_its_last_page(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    store.accept_truncated("e1", "a").await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let reading = store.get().readings.find_or_begin(&lease, LEASE).await.unwrap();
    store.let_pass(Duration::from_hours(3)).await;
    store.get().readings.keep_page(&lease, reading.id, page(1)).await.unwrap();
    store.crash().await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let resumed = store.get().readings.find_or_begin(&lease, LEASE).await.unwrap();
    assert_eq!((resumed.id, resumed.pages.len()), (reading.id, 1), "begun long ago, and going on");
    store.let_pass(LEASE + Duration::from_secs(1)).await;
    store.crash().await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let fresh = store.get().readings.find_or_begin(&lease, LEASE).await.unwrap();
    assert!(fresh.id != reading.id && fresh.pages.is_empty(), "left for too long");
    assert!(store.get().shelf.pages(reading.id).await.unwrap().is_empty());
}

#[apply(every_back_end)]
#[tokio::test]
async fn another_reading_takes_the_place_of_one_that_does_not_do(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let readings = &store.get().readings;
    let (first, second) = (store.accept_truncated("e1", "a").await, store.accept_truncated("e2", "a").await);
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let reading = readings.find_or_begin(&lease, LEASE).await.unwrap();
    readings.keep_page(&lease, reading.id, page(1)).await.unwrap();
    let as_announced = Found { accounts: 1, unusable: 0, certainty: Certainty::AsAnnounced };
    store.settle(&lease, Outcome::Fetched { reading: reading.id, found: as_announced }).await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    assert_eq!((lease.seq, readings.find_or_begin(&lease, LEASE).await.unwrap().found), (second, Some(as_announced)));
    let other = readings.begin(&lease).await.unwrap();
    assert!(other.id != reading.id && other.found.is_none());
    readings.keep_page(&lease, other.id, page(1)).await.unwrap();
    assert_eq!(readings.find_or_begin(&lease, LEASE).await.unwrap().id, other.id, "gone on with after a crash");
    store.settle(&lease, Outcome::Fetched { reading: other.id, found: found(1) }).await;
    let lease = store.claim_one(&Stage::deliver("app")).await;
    let expected = Fetched::Read { reading: reading.id, found: as_announced };
    assert_eq!((lease.seq, lease.entry.fetched), (first, Some(expected)));
    assert_eq!(
        store.get().shelf.pages(reading.id).await.unwrap().len(),
        1,
        "the first is still delivered from its own"
    );
}

#[apply(every_back_end)]
#[tokio::test]
async fn readings_are_resumed_shared_and_released(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let (first, second) = (store.accept_truncated("e1", "a").await, store.accept_truncated("e2", "a").await);
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    assert_eq!(lease.seq, first);
    let reading = store.get().readings.find_or_begin(&lease, LEASE).await.unwrap();
    store.get().readings.keep_page(&lease, reading.id, page(1)).await.unwrap();
    store.crash().await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let readings = &store.get().readings;
    let resumed = readings.find_or_begin(&lease, LEASE).await.unwrap();
    assert_eq!((resumed.id, resumed.pages.len(), resumed.found), (reading.id, 1, None));
    readings.keep_page(&lease, reading.id, page(2)).await.unwrap();
    store.settle(&lease, Outcome::Fetched { reading: reading.id, found: found(2) }).await;

    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    assert_eq!(lease.seq, second);
    let shared = readings.find_or_begin(&lease, LEASE).await.unwrap();
    assert_eq!((shared.id, shared.found), (reading.id, Some(found(2))), "younger than both events");
    store.settle(&lease, Outcome::Fetched { reading: reading.id, found: found(2) }).await;
    store.let_pass(Duration::from_secs(1)).await;

    store.accept_truncated("e3", "a").await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let fresh = readings.find_or_begin(&lease, LEASE).await.unwrap();
    assert_ne!(fresh.id, reading.id, "older than the event");
    store.settle(&lease, park("stop")).await;

    for seq in [first, second] {
        assert_eq!(store.get().shelf.pages(reading.id).await.unwrap().len(), 2);
        assert_eq!(store.park(&only(seq)).await, 1);
        assert_eq!(store.purge(&only(seq)).await, 1);
    }
    assert!(store.get().shelf.pages(reading.id).await.unwrap().is_empty());
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_was_abandoned_is_read_anew(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    store.accept_truncated("e1", "a").await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let readings = &store.get().readings;
    let reading = readings.find_or_begin(&lease, LEASE).await.unwrap();
    readings.keep_page(&lease, reading.id, page(1)).await.unwrap();
    readings.abandon(&lease).await.unwrap();
    assert!(store.get().shelf.pages(reading.id).await.unwrap().is_empty());
    let again = readings.find_or_begin(&lease, LEASE).await.unwrap();
    assert!(again.id != reading.id && again.pages.is_empty());
}

/// (A2) What was missing when a connection was last completed is remembered, also over a restart, until it is completed again.
#[apply(every_back_end)]
#[tokio::test]
async fn the_last_shortfall_of_a_connection_is_remembered(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    // Each event announces three accounts.
    let found = |accounts, unusable| Some(Found { accounts, unusable, certainty: Certainty::Agreed });
    let steps = [
        (found(1, 0), Some(Shortfall::Accounts(2))),
        (found(1, 1), Some(Shortfall::Accounts(1))),
        (None, Some(Shortfall::Connection)),
        (found(2, 1), None),
        (found(0, 0), Some(Shortfall::Accounts(3))),
    ];
    for (number, (found, _)) in steps.into_iter().enumerate() {
        let json = format!(
            r#"{{"id":"e{number}","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{{"id":"a","user_id":"u","account_count":3}}}}"#
        );
        store.accept_json(&json).await;
        let lease = store.claim_one(&Stage::ACCOUNTS).await;
        let readings = &store.get().readings;
        let expected = number.checked_sub(1).and_then(|before| steps[before].1);
        assert_eq!(readings.last_shortfall(&lease).await.unwrap(), expected, "before {number}");
        let reading = readings.find_or_begin(&lease, LEASE).await.unwrap().id;
        let outcome = found.map_or(Outcome::Gone, |found| Outcome::Fetched { reading, found });
        store.settle(&lease, outcome).await;
        store.crash().await;
    }
    // Another connection has a memory of its own, and what comes back from the store is what was kept.
    store.accept_truncated("other", "b").await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    assert_eq!(store.get().readings.last_shortfall(&lease).await.unwrap(), None);
    let delivery = store.claim_one(&Stage::deliver("app")).await;
    let Some(Fetched::Read { found: kept, .. }) = delivery.entry.fetched else {
        panic!("{:?}", delivery.entry.fetched)
    };
    assert_eq!(Some(kept), found(1, 0));
}

/// The connections of two users may have the same id, where an event is not what it claims to be.
#[apply(every_back_end)]
#[tokio::test]
async fn a_reading_is_not_shared_between_users(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let of = |id: &str, user: &str| {
        format!(
            r#"{{"id":"{id}","event_type":"UPDATED","resource_type":"CONNECTIONS",
                "resource":{{"id":"a","user_id":"{user}","account_count":3}}}}"#
        )
    };
    store.accept_json(&of("e1", "one")).await;
    store.accept_json(&of("e2", "two")).await;
    let readings = &store.get().readings;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let first = readings.find_or_begin(&lease, LEASE).await.unwrap();
    store.settle(&lease, Outcome::Fetched { reading: first.id, found: found(3) }).await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let second = readings.find_or_begin(&lease, LEASE).await.unwrap();
    assert!(second.id != first.id && second.found.is_none());
}
