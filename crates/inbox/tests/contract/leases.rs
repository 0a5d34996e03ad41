//! Leases: who holds them, and how they end.

use crate::{
    events::{event, park, retry},
    stores::{Backend, LEASE, Store, every_back_end, only},
};
use inbox::{Cause, Error, Outcome, Seq, Stage, State};
use rstest_reuse::apply;
use std::time::Duration;

#[apply(every_back_end)]
#[tokio::test]
async fn leases_end_with_their_token_their_time_or_the_process(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let seq = store.accept("e1", "a").await;
    drop(store.get().queue.claim(&app, 1, Duration::ZERO).await.unwrap());
    let lost = store.claim_one(&app).await;
    assert_eq!((lost.seq, lost.attempts), (seq, 2), "nobody worked on it any more");
    store.park(&only(seq)).await;
    store.replay(&only(seq)).await;
    let held = store.claim_one(&app).await;
    assert_eq!((held.seq, held.attempts), (seq, 1));
    let queue = &store.get().queue;
    for stale in [queue.settle(&[(&lost, Outcome::Done)]).await.remove(0), queue.renew(&lost, LEASE).await] {
        assert!(matches!(stale, Err(Error::LeaseLost(of)) if of == seq));
    }
    queue.renew(&held, LEASE).await.unwrap();
    store.settle(&held, Outcome::GiveBack).await;
    let again = store.claim_one(&app).await;
    assert_eq!(again.attempts, 1, "what was given back does not count");
    store.crash().await;
    assert_eq!(store.claim_one(&app).await.attempts, 2, "found again after a crash");
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_lease_that_was_settled_cannot_be_settled_again(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let seq = store.accept("e1", "a").await;
    let lease = store.claim_one(&Stage::deliver("app")).await;
    store.settle(&lease, Outcome::Done).await;
    let again = store.get().queue.settle(&[(&lease, Outcome::GiveBack)]).await.remove(0);
    assert!(matches!(again, Err(Error::LeaseLost(of)) if of == seq));
    assert_eq!(store.state(seq).await, State::Done);
}

#[apply(every_back_end)]
#[tokio::test]
async fn leases_that_are_settled_together_end_each_by_itself(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let mut seqs = Vec::new();
    for (id, connection) in [("e1", "a"), ("e2", "a"), ("e3", "b"), ("e4", "c"), ("e5", "d")] {
        seqs.push(store.accept(id, connection).await);
    }
    let leases = store.claim(&app).await;
    let lease = |seq| leases.iter().find(|lease| lease.seq == seq).unwrap();
    let (first, lost, retried, parked) = (lease(seqs[0]), lease(seqs[2]), lease(seqs[3]), lease(seqs[4]));
    store.settle(lost, Outcome::Done).await;
    let ended = [
        (lost, Outcome::GiveBack),
        (first, Outcome::Done),
        (retried, retry("it answered 503", true)),
        (parked, park("it answered 410")),
        (first, Outcome::GiveBack),
    ];
    let settled = store.get().queue.settle(&ended).await;
    let kept: Vec<Option<Seq>> = settled
        .into_iter()
        .map(|settled| {
            settled.map_or_else(
                |error| match error {
                    Error::LeaseLost(of) => Some(of),
                    other => panic!("{other}"),
                },
                |()| None,
            )
        })
        .collect();
    assert_eq!(kept, [Some(seqs[2]), None, None, None, Some(seqs[0])], "two were not held any more");
    let states = [
        store.state(seqs[0]).await,
        store.state(seqs[2]).await,
        store.state(seqs[3]).await,
        store.state(seqs[4]).await,
    ];
    assert_eq!(states, [State::Done, State::Done, State::Waiting, State::Parked]);
    assert_eq!(store.claim_seqs(&app).await, [seqs[3], seqs[1]], "the line of the first has moved up");
    assert!(store.get().queue.settle(&[]).await.is_empty());
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_renewed_lease_lasts_from_then_on(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let other = store.another().await;
    let app = Stage::deliver("app");
    store.accept("e1", "a").await;
    let lease = store.claim_one(&app).await;
    store.let_pass(LEASE / 2).await;
    store.get().queue.renew(&lease, LEASE).await.unwrap();
    store.let_pass(LEASE / 2 + Duration::from_secs(1)).await;
    assert!(other.queue.claim(&app, 10, LEASE).await.unwrap().leases.is_empty());
    store.let_pass(LEASE).await;
    assert_eq!(other.queue.claim(&app, 10, LEASE).await.unwrap().leases.len(), 1, "not renewed again");
}

/// The clock was set, say, or the process was stopped for a while.
#[apply(every_back_end)]
#[tokio::test]
async fn a_lease_that_is_worked_on_here_is_not_given_to_another(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    store.accept("e1", "a").await;
    let expired = store.get().queue.claim(&app, 1, Duration::ZERO).await.unwrap().leases.remove(0);
    let other = store.accept("e2", "b").await;
    let claimed = store.get().queue.claim(&app, 1, LEASE).await.unwrap();
    assert_eq!(claimed.leases.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [other]);
    store.settle(&expired, Outcome::Done).await;
}

/// What another receiver holds is only known by the time of its lease.
#[apply(every_back_end)]
#[tokio::test]
async fn an_expired_lease_of_another_receiver_is_taken_over(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let other = store.another().await;
    let app = Stage::deliver("app");
    let seq = store.accept("e1", "a").await;
    let theirs = other.queue.claim(&app, 1, LEASE).await.unwrap().leases.remove(0);
    assert!(store.claim(&app).await.is_empty(), "it is theirs until it expires");
    store.let_pass(LEASE * 2).await;
    let ours = store.claim_one(&app).await;
    assert_eq!((ours.seq, ours.attempts), (seq, 2));
    for stale in
        [other.queue.settle(&[(&theirs, Outcome::Done)]).await.remove(0), other.queue.renew(&theirs, LEASE).await]
    {
        assert!(matches!(stale, Err(Error::LeaseLost(of)) if of == seq));
    }
    store.settle(&ours, Outcome::Done).await;
    assert_eq!(store.state(seq).await, State::Done);
}

#[apply(every_back_end)]
#[tokio::test]
async fn an_entry_that_keeps_ending_the_process_is_parked(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (poison, next) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    for _ in 0..inbox::rules::MOST_LOSSES {
        assert_eq!(store.get().queue.claim(&app, 1, Duration::ZERO).await.unwrap().leases[0].seq, poison);
    }
    assert_eq!(store.claim_seqs(&app).await, [next], "the next one is leased in its place");
    let view = store.view(poison).await;
    assert_eq!((view.state, &view.stages[0].cause), (State::Parked, &Some(Cause::Lost)));
    let reason = view.stages[0].reason.clone().unwrap();
    assert!(reason.starts_with("the service ended or hung 10 times in a row"), "{reason}");
    assert_eq!(view.attempts.len(), 1, "a replay must not wipe that out");
    assert_eq!((view.attempts[0].state, view.attempts[0].reason.as_ref()), (State::Parked, Some(&reason)));
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_claim_hands_out_no_more_than_was_asked_for_the_longest_due_first(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let mut seqs = Vec::new();
    for n in 0..5 {
        seqs.push(store.accept_json(&event(&format!("e{n}"), &n.to_string(), 1, false)).await);
        store.let_pass(Duration::from_secs(1)).await;
    }
    let mut given = Vec::new();
    for expected in [2, 2, 1, 0] {
        let claimed = store.get().queue.claim(&app, 2, LEASE).await.unwrap();
        assert_eq!(claimed.leases.len(), expected);
        given.extend(claimed.leases.iter().map(|lease| lease.seq));
    }
    assert_eq!(given, seqs);
    assert!(store.get().queue.claim(&app, 0, LEASE).await.unwrap().leases.is_empty());
}
