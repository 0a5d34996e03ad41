//! What is remembered of attempts: enough for a person to see what happened, through replays, and not without bound.

use crate::{
    events::{park, retry},
    stores::{Backend, Store, every_back_end, only},
};
use inbox::{Outcome, Seq, Stage, State, rules::ATTEMPTS_KEPT};
use rstest_reuse::apply;

/// How the remembered attempts at a stage ended, the oldest first.
async fn attempts(store: &Store, seq: Seq, stage: &Stage) -> Vec<(State, Option<String>)> {
    let attempts = store.view(seq).await.attempts;
    assert!(attempts.is_sorted_by_key(|attempt| attempt.at));
    attempts
        .into_iter()
        .filter(|attempt| attempt.stage == *stage)
        .map(|attempt| (attempt.state, attempt.reason))
        .collect()
}

fn failed(reason: &str) -> (State, Option<String>) {
    (State::Waiting, Some(reason.to_owned()))
}

fn parked(reason: &str) -> (State, Option<String>) {
    (State::Parked, Some(reason.to_owned()))
}

#[apply(every_back_end)]
#[tokio::test]
async fn attempts_are_kept_over_a_replay(backend: Backend) {
    let mut store = Store::new(backend, &["app", "books"]).await;
    let (app, books) = (Stage::deliver("app"), Stage::deliver("books"));
    let seq = store.accept("e1", "a").await;
    for outcome in [retry("503", false), retry("404", true), Outcome::GiveBack, park("410")] {
        let lease = store.claim_one(&app).await;
        store.settle(&lease, outcome).await;
    }
    let mut expected = vec![failed("503"), failed("404"), parked("410")];
    assert_eq!(attempts(&store, seq, &app).await, expected);
    store.replay(&only(seq)).await;
    assert_eq!(attempts(&store, seq, &app).await, expected);
    let lease = store.claim_one(&app).await;
    assert_eq!(lease.attempts, 1, "the count begins again");
    store.settle(&lease, Outcome::Done).await;
    assert_eq!(attempts(&store, seq, &app).await, expected, "a success is told by the stage itself");
    store.park(&only(seq)).await;
    store.replay(&only(seq)).await;
    assert_eq!(attempts(&store, seq, &app).await, expected, "parked by hand was the other sink alone");
    assert_eq!(attempts(&store, seq, &books).await, [parked("by hand")]);
    let lease = store.claim_one(&books).await;
    store.settle(&lease, Outcome::Done).await;
    store.replay(&only(seq)).await;
    expected.push((State::Done, None));
    assert_eq!(attempts(&store, seq, &app).await, expected, "the replay undid a success");
    store.crash().await;
    assert_eq!(attempts(&store, seq, &app).await, expected);
    assert_eq!(attempts(&store, seq, &books).await, [parked("by hand"), (State::Done, None)]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn the_newest_attempts_of_each_stage_are_kept(backend: Backend) {
    let store = Store::new(backend, &["app", "books"]).await;
    let (app, books) = (Stage::deliver("app"), Stage::deliver("books"));
    let seq = store.accept("e1", "a").await;
    let lease = store.claim_one(&books).await;
    store.settle(&lease, park("410")).await;
    for number in 1..=ATTEMPTS_KEPT + 5 {
        let lease = store.claim_one(&app).await;
        assert_eq!(lease.attempts, number);
        store.settle(&lease, retry(&format!("try {number}"), false)).await;
    }
    let expected: Vec<_> = (6..=ATTEMPTS_KEPT + 5).map(|number| failed(&format!("try {number}"))).collect();
    assert_eq!(expected.len(), 20);
    assert_eq!(attempts(&store, seq, &app).await, expected);
    assert_eq!(attempts(&store, seq, &books).await, [parked("410")], "those of other stages are not in the way");
}
