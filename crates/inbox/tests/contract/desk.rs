//! What operators ask for: which entries a filter means, batches, replays for sinks that came later, deletion.

use crate::{
    events::{event, new_entry, park},
    stores::{AcceptFolded, Backend, Store, every_back_end, in_state, only, only_at},
};
use event::{ConnectionId, UserId};
use inbox::{Batch, Filter, Folded, Outcome, Seq, SinkName, Stage, State};
use rstest_reuse::apply;

#[apply(every_back_end)]
#[tokio::test]
async fn filters_find_entries_by_state_sink_connection_and_user(backend: Backend) {
    let store = Store::new(backend, &["one", "two"]).await;
    let (one, two) = (Stage::deliver("one"), Stage::deliver("two"));
    let (a, b) = (store.accept("a", "7").await, store.accept("b", "8").await);
    let leases = store.claim(&one).await;
    store.settle(&leases[0], Outcome::Done).await;
    let second = store.claim(&two).await;
    store.settle(&second[0], park("410")).await;
    let find = async |filter: Filter| store.list_seqs(&filter).await;
    let by = |state, sink: &str| Filter { state: Some(state), sink: Some(SinkName::new(sink)), ..Filter::default() };
    assert_eq!(find(by(State::Done, "one")).await, [a]);
    assert_eq!(find(by(State::Leased, "one")).await, [b]);
    assert_eq!(find(by(State::Parked, "two")).await, [a]);
    assert_eq!(find(by(State::Waiting, "two")).await, []);
    assert_eq!(find(by(State::Waiting, "unknown")).await, []);
    assert_eq!(find(in_state(State::Parked)).await, [a]);
    assert_eq!(find(in_state(State::Leased)).await, [b]);
    assert_eq!(find(in_state(State::Done)).await, []);
    assert_eq!(find(Filter { connection: Some(ConnectionId::new("8")), ..Filter::default() }).await, [b]);
    assert_eq!(find(Filter { user: Some(UserId::new("u7")), ..Filter::default() }).await, [a]);
    assert_eq!(find(Filter { before: Some(b), ..Filter::default() }).await, [a]);
    assert_eq!(find(Filter { after: Some(a), ..Filter::default() }).await, [b]);
    assert_eq!(find(Filter { sink: Some(SinkName::new("one")), ..Filter::default() }).await, [b, a]);
    let stats = store.get().upkeep.stats().await.unwrap();
    let names: Vec<&str> = stats.stages.iter().map(|(stage, _)| stage.as_str()).collect();
    assert_eq!(names, ["completion", "one", "two"]);
    let counts: Vec<_> = stats.stages.iter().map(|(_, of)| (of.waiting, of.leased, of.parked)).collect();
    assert_eq!(counts, [(0, 0, 0), (0, 1, 0), (0, 1, 1)]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn entries_that_wait_for_each_reason_are_found_as_waiting(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let (due, queued, cut) =
        (store.accept("e1", "a").await, store.accept("e2", "a").await, store.accept_truncated("e3", "b").await);
    let waiting = in_state(State::Waiting);
    assert_eq!(store.list_seqs(&waiting).await, [cut, queued, due]);
    let lease = store.claim_one(&Stage::deliver("app")).await;
    assert_eq!(store.list_seqs(&waiting).await, [cut, queued]);
    store.settle(&lease, Outcome::Done).await;
    assert_eq!(store.list_seqs(&in_state(State::Done)).await, [due]);
    let at_sink = Filter { sink: Some(SinkName::new("app")), ..waiting };
    assert_eq!(store.list_seqs(&at_sink).await, [cut, queued]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn changes_go_through_many_entries_in_batches(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let mut seqs = Vec::new();
    for n in 0..5 {
        seqs.push(store.accept(&format!("e{n}"), "a").await);
    }
    let desk = &store.get().desk;
    let behind = |after: Option<Seq>| Filter { after, ..Filter::default() };
    let mut batches = Vec::new();
    let mut last = None;
    loop {
        let batch = desk.park(&behind(last), 2, "by hand").await.unwrap();
        batches.push(batch);
        match batch.last {
            Some(seq) => last = Some(seq),
            None => break,
        }
    }
    let expected = [(2, Some(seqs[1])), (2, Some(seqs[3])), (1, Some(seqs[4])), (0, None)];
    assert_eq!(batches, expected.map(|(changed, last)| Batch { changed, left: 0, last }));
    assert_eq!(desk.list(&Filter::default(), 2).await.unwrap().len(), 2);
    assert_eq!(store.replay(&in_state(State::Parked)).await, 5);
    assert_eq!(desk.purge(&Filter::default(), 3).await.unwrap(), Batch { changed: 0, left: 3, last: Some(seqs[2]) });
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_command_beside_the_service_replays_for_it(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let seq = store.accept("e1", "a").await;
    let lease = store.claim_one(&app).await;
    store.settle(&lease, Outcome::Done).await;
    let beside = store.another().await;
    assert_eq!(beside.desk.replay(&only(seq), 1).await.unwrap().changed, 1);
    assert_eq!(store.claim_seqs(&app).await, [seq]);
    beside.upkeep.close().await;
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_sink_that_was_added_later_gets_new_entries_and_by_replay_old_ones(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let old = store.accept("e1", "a").await;
    let cut = store.accept_truncated("e2", "c").await;
    store.add_sink("late").await;
    let late = Stage::deliver("late");
    let new = store.accept("e3", "b").await;
    assert_eq!(store.claim_seqs(&late).await, [new]);
    assert_eq!(store.replay(&only_at(old, "late")).await, 1);
    assert_eq!(store.claim_seqs(&late).await, [old]);
    assert_eq!(store.replay(&only_at(cut, "late")).await, 1);
    assert_eq!(store.claim_seqs(&late).await, [], "its accounts are not there yet");
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&lease, Outcome::Gone).await;
    assert_eq!(store.claim_seqs(&late).await, [cut]);
}

/// e1 and e2 of one connection; e2 waits at the sink that was added later; then e1 is replayed for that sink.
#[apply(every_back_end)]
#[tokio::test]
async fn an_old_entry_takes_its_old_place_at_a_sink_that_was_added_later(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let e1 = store.accept("e1", "a").await;
    store.add_sink("late").await;
    let e2 = store.accept("e2", "a").await;
    let late = Stage::deliver("late");
    store.replay(&only_at(e1, "late")).await;
    let lease = store.claim_one(&late).await;
    assert_eq!(lease.seq, e1);
    store.settle(&lease, Outcome::Done).await;
    assert_eq!(store.claim_seqs(&late).await, [e2]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_was_purged_is_gone_and_forgotten(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let (first, other) = (store.accept("e1", "a").await, store.accept_json(&event("e1", "a", 2, false)).await);
    store.park(&Filter::default()).await;
    assert_eq!(store.purge(&only(first)).await, 1);
    assert_eq!(store.list_seqs(&Filter::default()).await, [other]);
    assert_eq!(store.get().desk.body(first).await.unwrap(), None);
    let by_id = Filter { id: Some("e1".to_owned()), ..Filter::default() };
    assert_eq!(store.list_seqs(&by_id).await, [other]);
    let again = store.get().intake.accept_folded(new_entry(&event("e1", "a", 1, false))).await.unwrap();
    let Some(Folded::Stored { seq, conflict: true }) = again.folded else { panic!("{again:?}") };
    assert!(seq > other, "numbers are never used again");
    assert_ne!(store.view(seq).await.delivery_id, store.view(other).await.delivery_id);
    store.park(&Filter::default()).await;
    assert_eq!(store.purge(&Filter::default()).await, 2);
    store.crash().await;
    let fresh = store.accept("e1", "a").await;
    assert!(fresh > seq, "not even after all of them are gone");
    assert_eq!(store.view(fresh).await.delivery_id.as_str(), "e1");
}
