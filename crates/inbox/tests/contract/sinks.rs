//! What is kept of a sink as a whole: its pause, what goes back in line when it is well again, and what it was given last.

use crate::{
    events::{event, found, new_entry, page, park},
    stores::{AcceptFolded as _, Backend, Store, every_back_end, in_state, only, stored},
};
use base::clock::{self, Timestamp};
use inbox::{Cause, NewEntry, Outcome, Seq, SinkName, Stage, State};
use rstest_reuse::apply;
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

fn app() -> SinkName {
    SinkName::new("app")
}

async fn parked(store: &Store, id: &str, connection: &str, cause: Cause) -> Seq {
    let seq = store.accept(id, connection).await;
    let lease = store.claim_one(&Stage::deliver("app")).await;
    store.settle(&lease, Outcome::Park { cause, reason: "no".to_owned() }).await;
    seq
}

async fn resume(store: &Store, before: Timestamp, limit: usize) -> u64 {
    store.get().sinks.resume(&app(), before, limit).await.unwrap()
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_pause_outlives_the_process_and_keeps_its_time(backend: Backend) {
    let mut store = Store::new(backend, &["app", "books"]).await;
    let before = clock::now();
    let sinks = &store.get().sinks;
    assert!(!sinks.pause(&app(), false).await.unwrap(), "it is not paused");
    assert!(!sinks.pause(&SinkName::new("unknown"), true).await.unwrap());
    assert!(sinks.pause(&app(), true).await.unwrap());
    let paused = sinks.paused().await.unwrap();
    assert!(!sinks.pause(&app(), true).await.unwrap());
    store.crash().await;
    assert_eq!(store.get().sinks.paused().await.unwrap(), paused);
    assert_eq!(paused.len(), 1);
    assert!(paused[&app()] >= before);
    assert!(store.get().sinks.pause(&app(), false).await.unwrap());
    assert!(store.get().sinks.paused().await.unwrap().is_empty());
}

/// (E1) What was parked because of the sink's trouble goes back in line, in its old place. The rest stays parked.
#[apply(every_back_end)]
#[tokio::test]
async fn what_the_sinks_trouble_parked_goes_back_and_nothing_else(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let outage = parked(&store, "e1", "a", Cause::Outage).await;
    let gave_up = parked(&store, "e2", "b", Cause::GaveUp).await;
    for (number, cause) in
        [Cause::Refused, Cause::Gone, Cause::Limit, Cause::Operator, Cause::Lost].into_iter().enumerate()
    {
        parked(&store, &format!("x{number}"), &format!("x{number}"), cause).await;
    }
    let later = store.accept("e3", "a").await;
    let long_ago = clock::now().before(DAY);
    assert_eq!(resume(&store, long_ago, 1).await, 1, "the oldest first");
    assert_eq!(resume(&store, long_ago, 10).await, 1);
    assert_eq!(resume(&store, long_ago, 10).await, 0);
    assert_eq!(store.list(&in_state(State::Parked)).await.len(), 5);
    let leases = store.claim(&Stage::deliver("app")).await;
    assert_eq!(leases.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [outage, gave_up]);
    assert!(leases.iter().all(|lease| lease.resumed.is_some() && lease.attempts == 1));
    store.settle(&leases[0], Outcome::Done).await;
    assert_eq!(store.claim_one(&Stage::deliver("app")).await.seq, later, "it waited behind the earlier one");
}

/// (E1) Nothing goes in a circle: an entry goes back by itself once in a while only, and by hand at any time.
#[apply(every_back_end)]
#[tokio::test]
async fn an_entry_does_not_go_back_by_itself_again_and_again(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let seq = parked(&store, "e1", "a", Cause::Outage).await;
    for day in 0..3 {
        assert_eq!(resume(&store, clock::now().before(DAY), 10).await, 1, "day {day}");
        let lease = store.claim_one(&Stage::deliver("app")).await;
        store.settle(&lease, Outcome::Park { cause: Cause::Outage, reason: "no".to_owned() }).await;
        assert_eq!(resume(&store, clock::now().before(DAY), 10).await, 0, "day {day}");
        store.let_pass(DAY + Duration::from_secs(1)).await;
    }
    assert_eq!(resume(&store, clock::now().before(DAY), 10).await, 1);
    let lease = store.claim_one(&Stage::deliver("app")).await;
    store.settle(&lease, park("no")).await;
    assert_eq!(store.replay(&only(seq)).await, 1);
    assert_eq!(store.claim_one(&Stage::deliver("app")).await.resumed, None);
}

/// (E1) What comes late is told from what is newer: by acceptance, and for fetched accounts by the reading's start.
#[apply(every_back_end)]
#[tokio::test]
async fn what_is_older_than_the_last_delivery_of_its_connection_and_channel_is_stale(backend: Backend) {
    let store = Store::new(backend, &["app", "books"]).await;
    let (stage, books) = (Stage::deliver("app"), Stage::deliver("books"));
    let old = parked(&store, "e1", "a", Cause::Outage).await;
    store.let_pass(Duration::from_secs(1)).await;
    // Accepted second, and read last.
    let read = store.accept_truncated("e2", "a").await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    store.let_pass(Duration::from_secs(1)).await;
    let third = store.accept("e3", "a").await;
    store.let_pass(Duration::from_secs(1)).await;
    let reading = store.get().readings.begin(&lease).await.unwrap().id;
    store.get().readings.keep_page(&lease, reading, page(1)).await.unwrap();
    store.settle(&lease, Outcome::Fetched { reading, found: found(1) }).await;

    let lease = store.claim_one(&stage).await;
    assert_eq!((lease.seq, lease.is_stale), (read, false));
    assert!(lease.entry.as_of.at > lease.entry.accepted);
    assert_eq!(lease.entry.as_of.listed_by, None, "read");
    store.settle(&lease, Outcome::Done).await;
    let lease = store.claim_one(&stage).await;
    assert_eq!((lease.seq, lease.is_stale), (third, true), "accepted before the accounts were read");
    store.settle(&lease, Outcome::Superseded).await;
    assert_eq!(store.view(third).await.stages[0].state, State::Done);
    assert!(store.view(third).await.stages[0].reason.as_ref().unwrap().contains("newer"));
    assert_eq!(resume(&store, clock::now(), 10).await, 1);
    let lease = store.claim_one(&stage).await;
    assert_eq!((lease.seq, lease.is_stale), (old, true));
    store.settle(&lease, Outcome::Done).await;
    // Another connection, another channel, another sink: each by itself.
    store.accept("e4", "b").await;
    assert!(!store.claim_one(&stage).await.is_stale);
    let lease = store.claim(&books).await.remove(0);
    assert_eq!((lease.seq, lease.is_stale), (old, false));
    // (D5) The clock was set back: what was delivered before seems to be newer than everything that comes now.
    store.set_clock_back(Duration::from_hours(1)).await;
    store.accept("e5", "a").await;
    let lease = store.claim_one(&stage).await;
    assert!(!lease.is_stale);
    store.settle(&lease, Outcome::Done).await;
}

#[apply(every_back_end)]
#[tokio::test]
async fn of_two_events_of_one_millisecond_the_earlier_one_is_late(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let stage = Stage::deliver("app");
    let received = clock::now();
    let mut seqs = Vec::new();
    for (id, connection) in [("e1", "a"), ("e2", "a"), ("e3", "a")] {
        let entry = NewEntry { received, ..new_entry(&event(id, connection, 1, false)) };
        seqs.push(stored(store.get().intake.accept_folded(entry).await.unwrap()));
    }
    store.settle(&store.claim_one(&stage).await, park("the sink answered 410")).await;
    let second = store.claim_one(&stage).await;
    assert!(!second.is_stale);
    store.settle(&second, Outcome::Done).await;
    let third = store.claim_one(&stage).await;
    assert_eq!((third.seq, third.is_stale), (seqs[2], false), "one that comes in order is not late");
    store.settle(&third, Outcome::Done).await;
    store.replay(&in_state(State::Parked)).await;
    let first = store.claim_one(&stage).await;
    assert_eq!((first.seq, first.is_stale), (seqs[0], true));
    store.settle(&first, Outcome::Done).await;
    // The third one was noted, not the first.
    store.replay(&in_state(State::Done)).await;
    let mut late = Vec::new();
    for _ in 0..3 {
        let lease = store.claim_one(&stage).await;
        late.push((lease.seq, lease.is_stale));
        store.settle(&lease, Outcome::Done).await;
    }
    assert_eq!(late, [(seqs[0], true), (seqs[1], true), (seqs[2], false)]);
}
