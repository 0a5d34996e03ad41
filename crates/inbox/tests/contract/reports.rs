//! Who takes events: what receivers say of themselves.

use crate::stores::{Backend, Store, every_back_end};
use base::clock::{self, Timestamp};
use inbox::Receiver;
use rstest_reuse::apply;
use std::time::Duration;

/// One that was started at a whole millisecond.
fn receiver(id: &str, name: &str) -> Receiver {
    let since = Timestamp::from_millis(clock::now().as_millis());
    Receiver { id: id.to_owned(), name: name.to_owned(), version: "1.2.3".to_owned(), since, obstacle: None }
}

async fn ids(store: &Store) -> Vec<String> {
    store.get().receivers.receivers().await.unwrap().into_iter().map(|view| view.receiver.id).collect()
}

/// The newest word of each is known, also after a crash; who ends takes itself out.
#[apply(every_back_end)]
#[tokio::test]
async fn every_receiver_is_known_until_it_ends(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let (one, other) = (receiver("1", "a"), receiver("2", "b"));
    for said in [&other, &one] {
        store.get().receivers.report(said).await.unwrap();
    }
    let late = Receiver { obstacle: Some("the disk is full".to_owned()), ..one };
    store.get().receivers.report(&late).await.unwrap();
    store.crash().await;
    let found = store.get().receivers.receivers().await.unwrap();
    assert_eq!(found.iter().map(|view| view.receiver.clone()).collect::<Vec<_>>(), [late, other]);
    assert!(found.iter().all(|view| view.seen.since(clock::now()) < Duration::from_secs(1)));
    store.get().receivers.leave("1").await.unwrap();
    store.get().receivers.leave("nobody").await.unwrap();
    assert_eq!(ids(&store).await, ["2"]);
}

/// One that was killed is shown for a day, or until another one of its name has stood in for it for a while.
#[apply(every_back_end)]
#[tokio::test]
async fn who_is_not_heard_of_is_forgotten(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    store.get().receivers.report(&receiver("1", "a")).await.unwrap();
    store.get().receivers.report(&receiver("2", "b")).await.unwrap();
    store.get().receivers.report(&receiver("3", "a")).await.unwrap();
    assert_eq!(ids(&store).await, ["1", "3", "2"], "two on one machine");
    store.let_pass(Duration::from_mins(4)).await;
    store.get().receivers.report(&receiver("3", "a")).await.unwrap();
    assert_eq!(ids(&store).await, ["3", "2"]);
    store.let_pass(Duration::from_hours(25)).await;
    store.get().receivers.report(&receiver("3", "a")).await.unwrap();
    assert_eq!(ids(&store).await, ["3"]);
}
