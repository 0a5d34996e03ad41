//! What a filter leaves out: done for its sink, with the reason; and the fetch that nobody needed, made after all.

use crate::{
    events::{found, page},
    stores::{Backend, Store, every_back_end},
};
use inbox::{Fetched, Lease, Outcome, Stage, State};
use rstest_reuse::apply;

/// An event that leaves its accounts out and tells everything that a filter asks for.
const FAILED: &str = r#"{"id":"e1","event_type":"UPDATED","resource_type":"CONNECTIONS","channel_definition_id":"5",
    "new_transactions":false,"resource":{"id":"a","user_id":"u1","provider_id":12,"status":"FAILED","account_count":2,
    "channels":[{"channel_definition_id":"5","mode":"REDIRECT"}],"accounts":[]}}"#;

async fn read(store: &Store, lease: &Lease) -> Outcome {
    let reading = store.get().readings.begin(lease).await.unwrap();
    store.get().readings.keep_page(lease, reading.id, page(1)).await.unwrap();
    Outcome::Fetched { reading: reading.id, found: found(1) }
}

#[apply(every_back_end)]
#[tokio::test]
async fn work_knows_what_a_filter_asks_for(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    store.accept_json(FAILED).await;
    let entry = store.claim_one(&Stage::ACCOUNTS).await.entry;
    let told = [&entry.status, &entry.mode, &entry.provider].map(|fact| fact.as_deref());
    assert_eq!(told, [Some("FAILED"), Some("REDIRECT"), Some("12")]);
    assert_eq!((entry.user.as_ref().map(event::UserId::as_str), entry.new_transactions), (Some("u1"), Some(false)));
    store.accept("e2", "b").await;
    let silent = store.claim_one(&Stage::deliver("app")).await.entry;
    assert_eq!((&silent.status, &silent.provider, silent.new_transactions), (&None, &None, None));
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_a_filter_leaves_out_is_done_and_says_by_which_key(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let (first, second) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    let lease = store.claim_one(&Stage::deliver("app")).await;
    store.settle(&lease, Outcome::Filtered { by: "status" }).await;
    let stage = store.view(first).await.stages.remove(0);
    assert_eq!((stage.state, stage.reason.as_deref()), (State::Done, Some("filtered: status")));
    let next = store.claim_one(&Stage::deliver("app")).await;
    assert_eq!((next.seq, next.is_stale), (second, false), "the line goes on, and nothing counts as delivered");
}

/// A fetch that no sink needed is made when a delivery needs it after all. What stands behind it in both lines waits.
#[apply(every_back_end)]
#[tokio::test]
async fn a_fetch_that_nobody_needed_is_made_when_somebody_does(backend: Backend) {
    let store = Store::new(backend, &["app", "books"]).await;
    let (app, books) = (Stage::deliver("app"), Stage::deliver("books"));
    let seq = store.accept_json(FAILED).await;
    let fetch = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&fetch, Outcome::Unneeded).await;
    let done = store.view(seq).await.stages.remove(0);
    assert_eq!(done.state, State::Done);
    assert_eq!(done.reason.as_deref(), Some("not fetched: the filter of every sink leaves this event out"));
    let lease = store.claim_one(&app).await;
    assert_eq!(lease.entry.fetched, None);
    store.settle(&lease, Outcome::Filtered { by: "status" }).await;

    let later = store.accept_truncated("e2", "a").await;
    let lease = store.claim_one(&books).await;
    store.settle(&lease, Outcome::Unfetched).await;
    assert!(store.claim(&books).await.is_empty(), "it waits for the fetch");
    let view = store.view(seq).await;
    assert_eq!(
        view.stages.iter().map(|stage| stage.state).collect::<Vec<_>>(),
        [State::Waiting, State::Done, State::Waiting]
    );
    assert_eq!(view.stages[2].attempts, 0, "it was not tried");
    let fetch = store.claim_one(&Stage::ACCOUNTS).await;
    assert_eq!(fetch.seq, seq, "ahead of the later one, which was not begun");
    store.settle(&fetch, read(&store, &fetch).await).await;
    let lease = store.claim_one(&books).await;
    assert!(matches!(lease.entry.fetched, Some(Fetched::Read { .. })));
    store.settle(&lease, Outcome::Done).await;
    assert_eq!(store.state(seq).await, State::Done);
    assert_eq!(store.claim_one(&Stage::ACCOUNTS).await.seq, later);
}
