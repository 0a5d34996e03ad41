//! Lines: the order of a connection, side by side across connections, sinks and fetches.

use crate::{
    events::{event, found, page, park},
    stores::{Backend, LEASE, Store, every_back_end, in_state, only},
};
use inbox::{Fetched, Outcome, Stage, State};
use rstest_reuse::apply;

#[apply(every_back_end)]
#[tokio::test]
async fn a_connection_is_leased_in_order_and_others_beside_it(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (a1, a2, b1) = (store.accept("a1", "a").await, store.accept("a2", "a").await, store.accept("b1", "b").await);
    let leases = store.claim(&app).await;
    assert_eq!(leases.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [a1, b1]);
    assert!(store.claim(&app).await.is_empty(), "leased work is not given out twice");
    assert_eq!(&leases[0].body[..], event("a1", "a", 1, false).as_bytes());
    store.settle(&leases[0], Outcome::Done).await;
    assert_eq!(store.claim_seqs(&app).await, [a2]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn sinks_do_not_wait_for_each_other(backend: Backend) {
    let store = Store::new(backend, &["dead", "live"]).await;
    let (dead, live) = (Stage::deliver("dead"), Stage::deliver("live"));
    let (e1, e2) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    let stuck = store.claim(&dead).await;
    assert_eq!(stuck[0].seq, e1);
    let first = store.claim(&live).await;
    store.settle(&first[0], Outcome::Done).await;
    assert_eq!(store.claim_seqs(&live).await, [e2]);
    assert!(store.claim(&dead).await.is_empty());
    assert_eq!(store.state(e1).await, State::Leased);
}

#[apply(every_back_end)]
#[tokio::test]
async fn an_entry_is_delivered_only_after_its_fetch_and_keeps_its_place(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (cut, whole) = (store.accept_truncated("e1", "a").await, store.accept("e2", "a").await);
    assert!(store.claim(&app).await.is_empty(), "the later entry waits for the truncated one");
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    assert_eq!(lease.seq, cut);
    let reading = store.get().readings.find_or_begin(&lease, LEASE).await.unwrap();
    store.get().readings.keep_page(&lease, reading.id, page(1)).await.unwrap();
    store.settle(&lease, Outcome::Fetched { reading: reading.id, found: found(1) }).await;
    let first = store.claim_one(&app).await;
    assert_eq!(first.seq, cut);
    assert_eq!(first.entry.fetched, Some(Fetched::Read { reading: reading.id, found: found(1) }));
    assert_eq!(store.get().shelf.pages(reading.id).await.unwrap(), [(1, 10)]);
    assert_eq!(store.view(cut).await.fetched, Some(1));
    store.settle(&first, Outcome::Done).await;
    assert_eq!(store.claim_seqs(&app).await, [whole]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn an_entry_whose_connection_is_gone_is_delivered_without_a_reading(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let seq = store.accept_truncated("e1", "a").await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&lease, Outcome::Gone).await;
    assert_eq!(store.claim_one(&Stage::deliver("app")).await.entry.fetched, Some(Fetched::Gone));
    let view = store.view(seq).await;
    assert_eq!((view.stages[0].state, view.fetched), (State::Done, None));
    assert_eq!(view.stages[0].reason.as_deref(), Some("the API does not know the connection any more"));
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_parked_entry_leaves_the_line_and_a_replay_puts_it_back(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (e1, e2) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    let lease = store.claim_one(&app).await;
    store.settle(&lease, park("the sink answered 410")).await;
    assert_eq!(store.state(e1).await, State::Parked);
    assert_eq!(store.replay(&in_state(State::Parked)).await, 1);
    assert_eq!(store.claim_seqs(&app).await, [e1], "replayed ahead of the later entry, which was not begun");
    assert_eq!(store.state(e2).await, State::Waiting);
    assert!(store.view(e2).await.stages[0].is_queued);
}

/// Found by the model: both were leased.
#[apply(every_back_end)]
#[tokio::test]
async fn a_replayed_entry_goes_before_a_later_one_that_lost_its_lease(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (e1, e2) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    let lease = store.claim_one(&app).await;
    store.settle(&lease, park("the sink answered 410")).await;
    assert_eq!(store.claim_seqs(&app).await, [e2]);
    store.replay(&in_state(State::Parked)).await;
    store.crash().await;
    assert_eq!(store.claim_seqs(&app).await, [e1]);
}

/// As above, but only the lease has ended: e1 is parked, e2 is leased, e1 is replayed, and the lease of e2 expires.
#[apply(every_back_end)]
#[tokio::test]
async fn an_expired_lease_behind_a_replayed_entry_holds_up_no_other(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (e1, e2) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    let lease = store.claim_one(&app).await;
    store.settle(&lease, park("the sink answered 410")).await;
    drop(store.claim_one(&app).await);
    store.let_pass(LEASE * 2).await;
    store.replay(&only(e1)).await;
    let claimed = store.get().queue.claim(&app, 1, LEASE).await.unwrap();
    assert_eq!(claimed.leases.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [e1], "one was asked for, one is due");
    assert_eq!(store.state(e2).await, State::Waiting);
    store.settle(&claimed.leases[0], Outcome::Done).await;
    assert_eq!(store.claim_seqs(&app).await, [e2]);
}
