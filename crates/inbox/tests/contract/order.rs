//! Strict order: later deliveries of a connection wait behind a parked one, until it is done or gone.

use crate::{
    events::{park, park_for_credentials},
    stores::{Backend, Store, every_back_end, in_state, only, only_at},
};
use inbox::{CredentialsMark, Outcome, Resume, Seq, SinkName, Stage, State, rules::Order};
use rstest_reuse::apply;

fn app() -> SinkName {
    SinkName::new("app")
}

fn stage() -> Stage {
    Stage::Deliver(app())
}

/// A store whose sink `app` keeps strict order, and `books` does not.
async fn strict(backend: Backend) -> Store {
    let store = Store::new(backend, &["app", "books"]).await;
    assert!(store.get().sinks.set_order(&app(), Order::Strict).await.unwrap());
    assert!(!store.get().sinks.set_order(&app(), Order::Strict).await.unwrap(), "it knows");
    store
}

/// Three entries of one connection, the first of which is parked at `app`.
async fn parked(store: &Store) -> [Seq; 3] {
    let entries = [store.accept("e1", "a").await, store.accept("e2", "a").await, store.accept("e3", "a").await];
    let lease = store.claim_one(&stage()).await;
    store.settle(&lease, park("the sink answered 410")).await;
    entries
}

/// What the second entry of [`parked`] waits behind at `app`.
async fn held_by(store: &Store, seq: Seq) -> Option<Seq> {
    store.view(seq).await.stages[0].held_by
}

async fn held(store: &Store) -> Vec<(Stage, u64)> {
    store.get().upkeep.stats().await.unwrap().held
}

#[apply(every_back_end)]
#[tokio::test]
async fn later_ones_wait_behind_a_parked_one_until_it_is_done(backend: Backend) {
    let mut store = strict(backend).await;
    let [first, second, third] = parked(&store).await;
    assert!(store.claim(&stage()).await.is_empty());
    let other = store.accept("x", "b").await;
    assert_eq!(store.claim_seqs(&stage()).await, [other], "another connection goes on");
    assert_eq!(store.claim_seqs(&Stage::deliver("books")).await.len(), 2, "another sink goes on");
    assert_eq!((held_by(&store, second).await, held_by(&store, first).await), (Some(first), None));
    assert_eq!(store.view(second).await.stages[1].held_by, None);
    assert_eq!(held(&store).await, [(stage(), 1)]);
    // What comes later waits too, and all of it outlives the process.
    let fourth = store.accept("e4", "a").await;
    store.crash().await;
    assert_eq!((store.claim_seqs(&stage()).await, held_by(&store, fourth).await), (vec![other], Some(first)));

    assert_eq!(store.replay(&only_at(first, "app")).await, 1);
    for seq in [first, second, third, fourth] {
        let lease = store.claim_one(&stage()).await;
        assert_eq!(lease.seq, seq);
        assert!(!lease.is_stale, "nothing came late");
        store.settle(&lease, Outcome::Done).await;
    }
    assert_eq!(held(&store).await, [(stage(), 0)]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_parked_one_that_is_purged_holds_up_nothing(backend: Backend) {
    let store = strict(backend).await;
    let [first, second, _] = parked(&store).await;
    store.park(&only_at(second, "app")).await;
    for seq in [first, second] {
        // A stage of the other sink is unfinished.
        store.park(&only(seq)).await;
        assert!(store.claim(&stage()).await.is_empty());
        assert_eq!(store.purge(&only(seq)).await, 1);
    }
    assert_eq!(store.claim_seqs(&stage()).await.len(), 1, "the third one");
}

/// What was parked by hand, and what was parked with its fetch, hold up their line too.
#[apply(every_back_end)]
#[tokio::test]
async fn whatever_parked_it_a_parked_one_holds_up_its_line(backend: Backend) {
    let store = strict(backend).await;
    let cut = store.accept_truncated("e1", "a").await;
    let fetch = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&fetch, park_for_credentials("old")).await;
    let later = store.accept("e2", "a").await;
    assert!(store.claim(&stage()).await.is_empty());
    assert_eq!(store.claim_seqs(&Stage::deliver("books")).await, [later], "there it was passed");
    let which = Resume { credentials: CredentialsMark::new("old"), user: None, connection: None };
    assert_eq!(store.get().queue.resume(&which, 10).await.unwrap(), 1);
    let fetch = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&fetch, Outcome::Gone).await;
    let lease = store.claim_one(&stage()).await;
    assert_eq!(lease.seq, cut);
    assert_eq!(store.park(&only_at(cut, "app")).await, 1);
    assert!(store.claim(&stage()).await.is_empty());
    assert_eq!(store.replay(&only_at(cut, "app")).await, 1);
    assert_eq!(store.claim_seqs(&stage()).await, [cut]);
}

/// What was parked at the door holds up what came in the same breath.
#[apply(every_back_end)]
#[tokio::test]
async fn what_begins_parked_holds_up_its_line(backend: Backend) {
    let store = strict(backend).await;
    let unclear = r#"{"id":"e1","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{"id":"a","account_count":"many"}}"#;
    let first = store.accept_json(unclear).await;
    assert_eq!(store.state(first).await, State::Parked);
    let second = store.accept("e2", "a").await;
    assert!(store.claim(&stage()).await.is_empty());
    assert_eq!(held_by(&store, second).await, Some(first));
    assert_eq!(store.list_seqs(&in_state(State::Parked)).await, [first]);
}

/// A sink whose order is changed: what is parked holds up its line from then on, or does not.
#[apply(every_back_end)]
#[tokio::test]
async fn another_order_holds_for_what_is_there(backend: Backend) {
    let store = Store::new(backend, &["app", "books"]).await;
    let [first, second, third] = parked(&store).await;
    let sinks = &store.get().sinks;
    assert!(sinks.set_order(&app(), Order::Strict).await.unwrap());
    assert!(store.claim(&stage()).await.is_empty());
    assert_eq!(held_by(&store, second).await, Some(first));
    assert!(sinks.set_order(&app(), Order::Resume).await.unwrap());
    assert_eq!((held_by(&store, second).await, held(&store).await), (None, vec![]));
    let lease = store.claim_one(&stage()).await;
    assert_eq!(lease.seq, second);
    assert!(sinks.set_order(&app(), Order::Strict).await.unwrap());
    store.settle(&lease, Outcome::GiveBack).await;
    assert!(store.claim(&stage()).await.is_empty(), "what was under way waits, once it is back");
    assert!(!sinks.set_order(&SinkName::new("unknown"), Order::Strict).await.unwrap());
    assert!(sinks.set_order(&app(), Order::Resume).await.unwrap());
    for seq in [second, third] {
        let lease = store.claim_one(&stage()).await;
        assert_eq!(lease.seq, seq);
        store.settle(&lease, Outcome::Done).await;
    }
}
