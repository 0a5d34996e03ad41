//! A sink that is given what it never had, and what a sink left behind that goes to another one.

use crate::{
    events::{park, park_for_credentials, retry},
    stores::{Backend, LEASE, Store, every_back_end, only_at},
};
use inbox::{Batch, Cause, Fill, Filter, Outcome, Seq, SinkName, Stage, State, rules::Order};
use rstest_reuse::apply;

fn sink(name: &str) -> SinkName {
    SinkName::new(name)
}

fn behind(after: Option<Seq>) -> Filter {
    Filter { after, ..Filter::default() }
}

async fn fill(store: &Store, how: Fill) -> Option<Batch> {
    store.get().desk.fill(&sink("new"), &behind(None), 100, how).await.unwrap()
}

async fn deliver(store: &Store, stage: &Stage) -> Seq {
    let lease = store.claim_one(stage).await;
    store.settle(&lease, Outcome::Done).await;
    lease.seq
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_new_sink_gets_what_it_never_had_in_order_and_once(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let old = [store.accept("e1", "a").await, store.accept("e2", "a").await];
    deliver(&store, &Stage::deliver("app")).await;
    assert_eq!(fill(&store, Fill::Real).await, None, "nobody knows the sink");
    store.add_sink("new").await;
    let live = store.accept("e3", "a").await;
    assert_eq!(fill(&store, Fill::Trial).await, Some(Batch { changed: 2, left: 1, last: Some(live) }));
    assert_eq!(store.view(old[0]).await.stages.len(), 1, "a trial changes nothing");

    let desk = &store.get().desk;
    let first = desk.fill(&sink("new"), &behind(None), 1, Fill::Real).await.unwrap().unwrap();
    assert_eq!(first, Batch { changed: 1, left: 0, last: Some(old[0]) });
    let rest = desk.fill(&sink("new"), &behind(first.last), 10, Fill::Real).await.unwrap().unwrap();
    assert_eq!(rest, Batch { changed: 1, left: 1, last: Some(live) });
    let again = Some(Batch { changed: 0, left: 3, last: Some(live) });
    assert_eq!(fill(&store, Fill::Real).await, again, "twice makes nothing twice");
    for seq in [old[0], old[1], live] {
        assert_eq!(deliver(&store, &Stage::deliver("new")).await, seq, "what was not begun waits for what is older");
    }
    assert_eq!(fill(&store, Fill::Real).await, again, "not even what is done");
    assert_eq!(store.state(old[1]).await, State::Waiting, "the other sink has its own");
    assert_eq!(store.view(old[0]).await.attempts.len(), 0);
}

/// What the sink has been given of the connection already stays; what is older comes late and says so.
#[apply(every_back_end)]
#[tokio::test]
async fn what_is_filled_in_behind_a_live_delivery_is_late(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let old = store.accept("e1", "a").await;
    store.add_sink("new").await;
    store.let_pass(std::time::Duration::from_secs(1)).await;
    store.accept("e2", "a").await;
    deliver(&store, &Stage::deliver("new")).await;
    fill(&store, Fill::Real).await;
    let late = store.claim_one(&Stage::deliver("new")).await;
    assert_eq!((late.seq, late.is_stale), (old, true));
}

/// Of an entry whose accounts could not be fetched the new part is parked as the others are, and goes on with them.
#[apply(every_back_end)]
#[tokio::test]
async fn what_cannot_be_fetched_is_filled_in_parked(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let cut = store.accept_truncated("e1", "a").await;
    let waits = store.accept_truncated("e2", "b").await;
    let fetch = store.claim(&Stage::ACCOUNTS).await.remove(0);
    store.settle(&fetch, park_for_credentials("old")).await;
    store.add_sink("new").await;
    assert_eq!(fill(&store, Fill::Real).await.unwrap().changed, 2);
    let stage = store.view(cut).await.stages.remove(2);
    assert_eq!((stage.state, stage.cause), (State::Parked, Some(Cause::Needs)));
    assert!(store.view(waits).await.stages[2].is_queued, "it waits for its accounts");
    assert!(store.claim(&Stage::deliver("new")).await.is_empty());
    assert_eq!(store.replay(&only_at(cut, "app")).await, 1);
    assert_eq!(store.view(cut).await.stages[2].state, State::Waiting);
}

/// Moves everything of `old` to `new` as the command does.
async fn move_all(store: &Store) -> (u64, u64) {
    let (mut changed, mut left) = (0, 0);
    for state in [State::Parked, State::Leased, State::Waiting] {
        let filter = Filter { sink: Some(sink("old")), state: Some(state), ..Filter::default() };
        let batch = store.get().desk.hand_over(&filter, &sink("new"), 100).await.unwrap().unwrap();
        changed += batch.changed;
        left += batch.left;
    }
    (changed, left)
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_a_renamed_sink_left_behind_goes_to_its_new_name(backend: Backend) {
    let mut store = Store::new(backend, &["old"]).await;
    let old = Stage::deliver("old");
    let done = store.accept("e0", "a").await;
    deliver(&store, &old).await;
    let (gone, failing) = (store.accept("e1", "a").await, store.accept("e2", "b").await);
    for lease in store.claim(&old).await {
        let outcome = if lease.seq == gone { park("410") } else { retry("503", false) };
        store.settle(&lease, outcome).await;
    }
    let behind = store.accept("e3", "b").await;
    store.remove_sink("old").await;
    store.add_sink("new").await;
    let both = store.accept("e4", "b").await;
    assert_eq!(move_all(&store).await, (3, 0));
    assert_eq!(move_all(&store).await, (0, 0), "twice moves nothing twice");

    let view = store.view(gone).await;
    let [was, is] = [&view.stages[0], &view.stages[1]];
    assert_eq!((was.state, was.reason.as_deref()), (State::Done, Some("moved to the sink new")));
    assert_eq!((is.state, &is.cause, is.reason.as_deref()), (State::Parked, &Some(Cause::Refused), Some("410")));
    assert_eq!(store.view(done).await.stages.len(), 1, "what is done stays where it was done");
    for seq in [failing, behind, both] {
        assert_eq!(deliver(&store, &Stage::deliver("new")).await, seq, "in order, and what failed begins anew");
    }
    let stats = store.get().upkeep.stats().await.unwrap();
    let stages: Vec<&str> = stats.stages.iter().map(|(stage, _)| stage.as_str()).collect();
    assert_eq!(stages, ["completion", "new"], "nothing is left behind");
    let unknown = Filter { sink: Some(sink("old")), ..Filter::default() };
    assert_eq!(store.get().desk.hand_over(&unknown, &sink("no"), 1).await.unwrap(), None);
}

/// Where the new sink has an entry already, it is not delivered twice.
#[apply(every_back_end)]
#[tokio::test]
async fn what_the_other_sink_has_is_not_moved_twice(backend: Backend) {
    let mut store = Store::new(backend, &["old", "new"]).await;
    let seq = store.accept("e1", "a").await;
    deliver(&store, &Stage::deliver("new")).await;
    store.remove_sink("old").await;
    assert_eq!(move_all(&store).await, (1, 0));
    let view = store.view(seq).await;
    assert_eq!(view.state, State::Done);
    assert_eq!(view.stages[0].reason.as_deref(), Some("moved to the sink new, which had it already"));
    assert!(store.claim(&Stage::deliver("new")).await.is_empty());
}

/// What somebody works on is left to them, until its lease has ended.
#[apply(every_back_end)]
#[tokio::test]
async fn what_is_under_way_is_not_moved(backend: Backend) {
    let store = Store::new(backend, &["old", "new"]).await;
    let seq = store.accept("e1", "a").await;
    let lease = store.claim_one(&Stage::deliver("old")).await;
    assert_eq!(move_all(&store).await, (0, 1));
    drop(lease);
    store.let_pass(LEASE * 2).await;
    assert_eq!(move_all(&store).await, (1, 0));
    assert_eq!(store.view(seq).await.stages[0].state, State::Done);
}

/// At a sink that keeps strict order what is moved in parked holds up what is there already and was not begun.
#[apply(every_back_end)]
#[tokio::test]
async fn what_is_moved_in_parked_holds_up_its_line_where_order_is_strict(backend: Backend) {
    for order in [Order::Resume, Order::Strict] {
        let mut store = Store::new(backend, &["old"]).await;
        let gone = store.accept("e1", "a").await;
        let lease = store.claim_one(&Stage::deliver("old")).await;
        store.settle(&lease, park("410")).await;
        store.remove_sink("old").await;
        store.add_sink("new").await;
        store.get().sinks.set_order(&sink("new"), order).await.unwrap();
        let later = store.accept("e2", "a").await;
        assert_eq!(move_all(&store).await, (1, 0));
        let expected = if order == Order::Strict { (vec![], Some(gone)) } else { (vec![later], None) };
        let held_by = store.view(later).await.stages[0].held_by;
        assert_eq!((store.claim_seqs(&Stage::deliver("new")).await, held_by), expected);
    }
}
