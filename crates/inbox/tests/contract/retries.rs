//! Failures: when a stage is tried again, and what is remembered of an unbroken run of them.

use crate::{
    events::{park, retry},
    stores::{Backend, LEASE, Store, every_back_end, in_state},
};
use base::clock;
use inbox::{Doubts, Filter, Outcome, Stage, State, rules::LONGEST_PAUSE};
use rstest_reuse::apply;
use std::time::Duration;

#[apply(every_back_end)]
#[tokio::test]
async fn retries_wait_for_their_time_and_remember_since_when(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    store.accept("e1", "a").await;
    let lease = store.claim_one(&app).await;
    assert_eq!(lease.failing_since, None);
    let before = clock::now();
    let due = before.after(Duration::from_secs(30));
    store.settle(&lease, Outcome::Retry { due, reason: "503".to_owned(), is_doubtful: false }).await;
    let after = clock::now();
    let claimed = store.get().queue.claim(&app, 1, LEASE).await.unwrap();
    assert!(claimed.leases.is_empty());
    assert_eq!(claimed.next_due, Some(due));
    let view = store.list(&Filter::default()).await.remove(0);
    let stage = &view.stages[0];
    assert_eq!((view.state, stage.reason.as_deref(), stage.due), (State::Waiting, Some("503"), Some(due)));
    assert!(!stage.is_queued);

    store.let_pass(LEASE).await;
    let again = store.claim_one(&app).await;
    let since = again.failing_since.unwrap().after(LEASE);
    assert!(before <= since && since <= after);
    store.settle(&again, retry("503", false)).await;
    assert_eq!(store.claim_one(&app).await.failing_since, again.failing_since, "since the first of the run");
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_line_waits_for_its_first_entry_to_be_tried_again(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (first, second) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    let lease = store.claim_one(&app).await;
    let due = clock::now().after(Duration::from_secs(30));
    store.settle(&lease, Outcome::Retry { due, reason: "503".to_owned(), is_doubtful: false }).await;
    assert!(store.claim(&app).await.is_empty());
    store.let_pass(LEASE).await;
    let lease = store.claim_one(&app).await;
    assert_eq!(lease.seq, first);
    store.settle(&lease, Outcome::Done).await;
    assert_eq!(store.claim_seqs(&app).await, [second]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn only_doubts_in_a_row_make_a_run(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    store.accept("e1", "a").await;
    let mut since = None;
    for (is_doubtful, before) in [(false, 0), (true, 0), (true, 1), (false, 2), (true, 0), (true, 1)] {
        let lease = store.claim_one(&app).await;
        assert_eq!(lease.doubts.tries, before);
        assert_eq!(lease.doubts.since.is_some(), before > 0);
        since = lease.doubts.since;
        store.settle(&lease, retry("404", is_doubtful)).await;
    }
    for outcome in [
        Outcome::GiveBack,
        Outcome::Postpone { due: clock::now().before(LEASE), reason: "left alone".to_owned() },
        park("by hand"),
    ] {
        let lease = store.claim_one(&app).await;
        assert_eq!(lease.doubts, Doubts { tries: 2, since }, "what was not tried neither adds nor ends");
        store.settle(&lease, outcome).await;
    }
    store.replay(&in_state(State::Parked)).await;
    assert_eq!(store.claim_one(&app).await.doubts, Doubts::default());
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_was_not_tried_counts_as_no_attempt(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let seq = store.accept("e1", "a").await;
    let postpone = Outcome::Postpone { due: clock::now().before(LEASE), reason: "left alone".to_owned() };
    for outcome in [Outcome::GiveBack, postpone] {
        let lease = store.claim_one(&app).await;
        assert_eq!((lease.attempts, lease.failing_since), (1, None));
        store.settle(&lease, outcome).await;
    }
    let view = store.view(seq).await;
    assert_eq!((view.stages[0].attempts, view.stages[0].reason.as_deref()), (0, Some("left alone")));
    assert!(view.attempts.is_empty());
}

/// (D5) The clock was set back: what lies further ahead than any pause is due now, and holds up its line no longer.
#[apply(every_back_end)]
#[tokio::test]
async fn a_due_time_further_ahead_than_any_pause_has_come(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (first, second) = (store.accept("e1", "a").await, store.accept("e2", "b").await);
    let retry_in = async |pause: Duration| {
        for lease in store.claim(&app).await {
            let due = clock::now().after(pause);
            store.settle(&lease, Outcome::Retry { due, reason: "503".to_owned(), is_doubtful: false }).await;
        }
    };
    retry_in(LONGEST_PAUSE.saturating_sub(Duration::from_mins(1))).await;
    assert!(store.claim(&app).await.is_empty(), "a long pause is a pause");
    let back = Duration::from_hours(3);
    store.set_clock_back(back).await;
    let leases = store.claim(&app).await;
    assert_eq!(leases.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [first, second]);
}
