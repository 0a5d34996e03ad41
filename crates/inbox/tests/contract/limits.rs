//! When new events are turned away, and what is kept all the same.

use crate::{
    events::{event, new_entry, page},
    stores::{AcceptFolded, Backend, LEASE, Store, every_back_end, every_back_end_on_a_file, in_state},
};
use base::clock;
use inbox::{Error, Outcome, Refused, Stage, State};
use rstest_reuse::apply;
use std::sync::Arc;
use tokio::task::JoinSet;

#[apply(every_back_end)]
#[tokio::test]
async fn a_backlog_over_the_limit_is_refused_until_it_shrinks(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    store.open_with(|settings| settings.max_waiting = 2).await;
    store.accept("e1", "a").await;
    store.accept("e2", "a").await;
    let refused = store.get().intake.accept_folded(new_entry(&event("e3", "a", 1, false))).await;
    assert!(matches!(refused, Err(Error::Backlog)));
    assert!(matches!(store.get().intake.ready(), Err(Error::Backlog)));
    let lease = store.claim_one(&Stage::deliver("app")).await;
    store.settle(&lease, Outcome::Done).await;
    store.get().intake.ready().unwrap();
    store.accept("e3", "a").await;
    store.open_with(|settings| settings.max_waiting = 2).await;
    assert!(matches!(store.get().intake.ready(), Err(Error::Backlog)), "counted when the store is opened");
}

/// Figures are read beside commits, which they must neither miss nor count twice.
#[apply(every_back_end)]
#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_is_exact_while_figures_are_read(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    store.open_with(|settings| settings.max_waiting = 1).await;
    let upkeep = Arc::clone(&store.get().upkeep);
    let mut reading = JoinSet::new();
    for _ in 0..4 {
        let upkeep = Arc::clone(&upkeep);
        reading.spawn(async move {
            loop {
                upkeep.stats().await.unwrap();
            }
        });
    }
    for number in 0..500 {
        store.accept(&format!("e{number}"), "a").await;
        assert!(matches!(store.get().intake.ready(), Err(Error::Backlog)));
        let lease = store.claim_one(&Stage::deliver("app")).await;
        store.settle(&lease, Outcome::Done).await;
        store.get().intake.ready().unwrap();
    }
    store.accept("the last", "a").await;
    reading.shutdown().await;
    let by_hand = store.another().await;
    assert_eq!(by_hand.desk.park(&in_state(State::Waiting), 1, "by hand").await.unwrap().changed, 1);
    store.get().upkeep.stats().await.unwrap();
    store.get().intake.ready().unwrap();
    store.accept("one more", "a").await;
    assert!(matches!(store.get().intake.ready(), Err(Error::Backlog)));
}

#[apply(every_back_end_on_a_file)]
#[tokio::test]
async fn too_little_free_disk_is_refused(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    store.open_with(|settings| settings.min_free_disk = u64::MAX).await;
    let refused = store.get().intake.accept_folded(new_entry(&event("e1", "a", 1, false))).await;
    assert!(matches!(refused, Err(Error::Full(_))));
    assert!(matches!(store.get().intake.ready(), Err(Error::Full(_))));
}

#[apply(every_back_end_on_a_file)]
#[tokio::test]
async fn the_last_room_on_the_disk_is_for_events(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let disk = rustix::fs::statvfs(store.folder.path()).unwrap();
    let free = disk.f_bavail * disk.f_frsize;
    // Room for events, but not a quarter more.
    store.open_with(|settings| settings.min_free_disk = free / 10 * 9).await;
    store.accept_truncated("e1", "a").await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let readings = &store.get().readings;
    let reading = readings.find_or_begin(&lease, LEASE).await.unwrap();
    assert!(matches!(readings.keep_page(&lease, reading.id, page(1)).await, Err(Error::Full(_))));
    store.accept("e2", "a").await;
}

#[apply(every_back_end_on_a_file)]
#[tokio::test]
async fn a_full_disk_keeps_no_refused_requests(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    store.open_with(|settings| settings.min_free_disk = u64::MAX).await;
    let refused = Refused {
        at: clock::now(),
        sender: "{}".to_owned(),
        reason: "not_json",
        status: 400,
        size: None,
        start: None,
        is_known: true,
    };
    assert!(matches!(store.get().intake.refuse(vec![refused]).await, Err(Error::Full(_))));
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_closed_inbox_takes_and_gives_nothing(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    store.accept("e1", "a").await;
    let lease = store.claim_one(&app).await;
    store.get().upkeep.close().await;
    let inbox = store.get();
    assert!(matches!(inbox.intake.ready(), Err(Error::Closed)));
    let refused = inbox.intake.accept_folded(new_entry(&event("e2", "a", 1, false))).await;
    assert!(matches!(refused, Err(Error::Closed)));
    assert!(matches!(inbox.queue.claim(&app, 1, LEASE).await, Err(Error::Closed)));
    assert!(matches!(inbox.queue.settle(&[(&lease, Outcome::Done)]).await[..], [Err(Error::Closed)]));
}
