//! Merging: what waits together at a sink that merges leaves as one delivery, and stays one.

use crate::{
    events::{found, page, park, retry},
    stores::{
        Backend, LEASE, Store, every_back_end, every_back_end_on_a_server, every_shared_back_end, in_state, only,
        only_at,
    },
};
use base::clock::Timestamp;
use futures_util::future::join_all;
use inbox::{
    Cause, Facts, Fetched, Inbox, Lease, Merging, Outcome, Seq, SinkName, Stage, State, Subject, Window,
    rules::{MOST_LOSSES, merging::MOST_MERGED},
};
use rstest_reuse::apply;
use std::{sync::Arc, time::Duration};

const QUIET: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_mins(2);
/// Shorter than [`QUIET`] by what a slow machine may take for one step.
const ALMOST_QUIET: Duration = Duration::from_secs(15);

fn app() -> Stage {
    Stage::deliver("app")
}

fn merging() -> Merging {
    Merging { window: Window { quiet: QUIET, longest: LONGEST }, takes: None }
}

/// An event of a connection's channel that brought new transactions, or did not.
fn told(id: &str, connection: &str, channel: &str, brought: bool) -> String {
    of_type("UPDATED", id, connection, channel, brought)
}

fn of_type(event_type: &str, id: &str, connection: &str, channel: &str, brought: bool) -> String {
    format!(
        r#"{{"id":"{id}","event_type":"{event_type}","resource_type":"CONNECTIONS","channel_definition_id":"{channel}",
            "resource":{{"id":"{connection}","user_id":"u{connection}","account_count":1,"accounts":[{{"id":"1","balance":1.10}}]}},
            "connection_updated":{{"new_transactions":{brought}}}}}"#
    )
}

async fn claim_on(inbox: &Inbox, lease_for: Duration) -> Vec<Lease> {
    inbox.queue.claim_merged(&app(), 100, lease_for, Some(&merging())).await.unwrap().leases
}

async fn claim(store: &Store) -> Vec<Lease> {
    claim_on(store.get(), LEASE).await
}

/// The one lease that there is.
async fn claim_one(store: &Store) -> Lease {
    let mut leases = claim(store).await;
    assert_eq!(leases.len(), 1, "{leases:?}");
    leases.remove(0)
}

fn members(lease: &Lease) -> Vec<Seq> {
    lease.entry.merged.iter().map(|member| member.seq).collect()
}

/// Two events of one connection, by its two channels, that have waited for long enough.
async fn two(store: &Store) -> [Seq; 2] {
    let one = store.accept_json(&told("a1", "a", "1", true)).await;
    let other = store.accept_json(&told("a2", "a", "2", false)).await;
    store.let_pass(QUIET).await;
    [one, other]
}

async fn states(store: &Store, seqs: &[Seq]) -> Vec<State> {
    join_all(seqs.iter().map(|seq| store.state(*seq))).await
}

#[apply(every_back_end)]
#[tokio::test]
async fn events_of_one_connection_that_wait_together_leave_as_one_delivery(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let a1 = store.accept_json(&told("a1", "a", "1", true)).await;
    let b1 = store.accept_json(&told("b1", "b", "1", false)).await;
    let a2 = store.accept_json(&told("a2", "a", "2", false)).await;
    let asked = store.get().queue.claim_merged(&app(), 100, LEASE, Some(&merging())).await.unwrap();
    assert!(asked.leases.is_empty() && asked.next_due.is_some(), "more may come: {asked:?}");
    assert_eq!(store.view(a1).await.stages[0].attempts, 0, "to look is no attempt");
    store.let_pass(QUIET).await;
    let mut leases = claim(&store).await;
    leases.sort_by_key(|lease| lease.seq);
    let [a, b] = &leases[..] else { panic!("{leases:?}") };
    assert_eq!((a.seq, members(a)), (a1, vec![a1, a2]));
    assert_eq!(a.body, told("a2", "a", "2", false).as_bytes(), "the newest snapshot");
    assert_eq!((a.entry.event_id.as_str(), a.entry.new_transactions), ("a2", Some(true)));
    let id = a.entry.delivery_id.as_str();
    assert!(id.strip_prefix("a2~m").is_some_and(|hash| hash.len() == 16), "{id}");
    assert_eq!((b.seq, members(b), b.entry.delivery_id.as_str()), (b1, vec![], "b1"), "one alone keeps its id");
    assert_eq!(states(&store, &[a1, a2]).await, [State::Leased, State::Waiting]);
    let story = store.get().desk.story(a2).await.unwrap();
    assert_eq!((story.merged, story.behind), (vec![(app(), vec![a1, a2])], vec![]));
    // What comes now is for the next one.
    let a3 = store.accept_json(&told("a3", "a", "1", false)).await;
    store.let_pass(QUIET).await;
    assert!(claim(&store).await.is_empty());
    store.settle(a, Outcome::Done).await;
    for seq in [a1, a2] {
        let stage = store.view(seq).await.stages.remove(0);
        assert_eq!((stage.state, stage.reason), (State::Done, Some(format!("merged into {id}"))));
    }
    let next = claim_one(&store).await;
    assert_eq!((next.seq, next.entry.delivery_id.as_str()), (a3, "a3"));
    assert_eq!(store.list_seqs(&inbox::Filter { id: Some(id.to_owned()), ..Default::default() }).await, [a2]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn the_longest_wait_bounds_how_long_the_first_event_is_held_up(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let mut wanted = Vec::new();
    for number in 0..4 {
        wanted.push(store.accept_json(&told(&format!("a{number}"), "a", "1", false)).await);
        assert!(claim(&store).await.is_empty(), "event {number}");
        store.let_pass(ALMOST_QUIET).await;
    }
    assert!(claim(&store).await.is_empty(), "each came before the last one was quiet for long enough");
    wanted.push(store.accept_json(&told("last", "a", "1", false)).await);
    store.let_pass(LONGEST.saturating_sub(ALMOST_QUIET * 6)).await;
    wanted.push(store.accept_json(&told("later", "a", "1", false)).await);
    store.let_pass(ALMOST_QUIET).await;
    assert!(claim(&store).await.is_empty());
    store.let_pass(ALMOST_QUIET).await;
    assert_eq!(members(&claim_one(&store).await), wanted, "the oldest has waited for the longest time");
}

#[apply(every_back_end)]
#[tokio::test]
async fn no_delivery_is_of_more_events_than_a_head_has_room_for(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let mut all = Vec::new();
    for number in 0..=MOST_MERGED {
        all.push(store.accept_json(&told(&format!("a{number}"), "a", "1", false)).await);
    }
    let full = claim_one(&store).await;
    assert_eq!(members(&full), all[..MOST_MERGED], "a full one waits for nobody");
    store.settle(&full, Outcome::Done).await;
    assert!(claim(&store).await.is_empty());
    store.let_pass(QUIET).await;
    assert_eq!(claim_one(&store).await.seq, all[MOST_MERGED]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_crash_between_the_lease_and_its_end_makes_no_other_delivery(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let both = two(&store).await;
    let before = claim_one(&store).await;
    store.accept_json(&told("a3", "a", "1", false)).await;
    store.let_pass(QUIET).await;
    store.crash().await;
    let after = claim_one(&store).await;
    assert_eq!((after.seq, &after.entry.delivery_id), (before.seq, &before.entry.delivery_id));
    assert_eq!(members(&after), both);
    assert_eq!(after.body, before.body);
    // The sink does not merge any more: what was decided stays.
    store.settle(&after, retry("503", false)).await;
    let again = store.claim_one(&app()).await;
    assert_eq!((&again.entry.delivery_id, members(&again)), (&before.entry.delivery_id, both.to_vec()));
    assert_eq!(again.attempts, 3);
}

#[apply(every_shared_back_end)]
#[tokio::test]
async fn another_receiver_takes_over_the_same_delivery(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let both = two(&store).await;
    let lease = claim_one(&store).await;
    let id = lease.entry.delivery_id.clone();
    drop(lease);
    store.let_pass(LEASE * 2).await;
    let other = store.another().await;
    let taken = claim_on(&other, LEASE).await.remove(0);
    assert_eq!((&taken.entry.delivery_id, members(&taken)), (&id, both.to_vec()));
    other.queue.settle(&[(&taken, Outcome::Done)]).await.remove(0).unwrap();
    assert_eq!(states(&store, &both).await, [State::Done; 2]);
}

#[apply(every_back_end_on_a_server)]
#[tokio::test]
async fn receivers_that_ask_at_once_do_not_tear_a_delivery(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let receivers = [store.another().await, store.another().await, store.another().await];
    for round in 0..10 {
        let connection = format!("c{round}");
        for number in 0..3 {
            store.accept_json(&told(&format!("{connection}-{number}"), &connection, "1", false)).await;
        }
    }
    store.let_pass(QUIET).await;
    let claimed = join_all(receivers.iter().map(|receiver| claim_on(receiver, LEASE))).await;
    let leases: Vec<Lease> = claimed.into_iter().flatten().collect();
    assert_eq!(leases.len(), 10);
    assert!(leases.iter().all(|lease| members(lease).len() == 3), "{leases:?}");
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_retry_keeps_the_delivery_and_parking_parks_all_of_it(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let both = two(&store).await;
    let first = claim_one(&store).await;
    store.settle(&first, retry("503", true)).await;
    assert_eq!(states(&store, &both).await, [State::Waiting; 2]);
    let second = claim_one(&store).await;
    assert_eq!((second.attempts, &second.entry.delivery_id), (2, &first.entry.delivery_id));
    store.settle(&second, park("the sink answered 410")).await;
    for seq in both {
        let stage = store.view(seq).await.stages.remove(0);
        assert_eq!((stage.state, stage.cause), (State::Parked, Some(Cause::Refused)));
        assert_eq!(stage.reason.as_deref(), Some("the sink answered 410"));
    }
    let next = store.accept_json(&told("a3", "a", "1", false)).await;
    store.let_pass(QUIET).await;
    let passes = claim_one(&store).await;
    assert_eq!(passes.seq, next, "a parked delivery leaves its line");
    store.settle(&passes, Outcome::Done).await;
    // A replay of any of them is one of all.
    assert_eq!(store.replay(&only(both[1])).await, 1);
    assert_eq!(states(&store, &both).await, [State::Waiting; 2]);
    let third = claim_one(&store).await;
    assert_eq!(
        (third.seq, &third.entry.delivery_id, members(&third)),
        (both[0], &first.entry.delivery_id, both.to_vec())
    );
    store.settle(&third, Outcome::Done).await;
    // Also of what is done, and all that match are said to have changed.
    let of = inbox::Filter { connection: Some(event::ConnectionId::new("a")), ..Default::default() };
    assert_eq!(store.replay(&of).await, 3);
    let fourth = claim_one(&store).await;
    assert_eq!(fourth.entry.delivery_id, first.entry.delivery_id);
    store.settle(&fourth, Outcome::Done).await;
    let again = claim_one(&store).await;
    assert_eq!((again.seq, again.entry.delivery_id.as_str()), (next, "a3"), "what was delivered alone stays alone");
}

#[apply(every_back_end)]
#[tokio::test]
async fn operators_and_recovering_sinks_move_all_of_a_delivery(backend: Backend) {
    let store = Store::new(backend, &["app", "other"]).await;
    let both = two(&store).await;
    let lease = claim_one(&store).await;
    store.settle(&lease, retry("503", false)).await;
    assert_eq!(store.park(&only_at(both[1], "app")).await, 1);
    assert_eq!(states(&store, &both).await, [State::Parked; 2]);
    assert_eq!(store.view(both[0]).await.stages[1].state, State::Waiting, "another sink is another matter");
    store.replay(&in_state(State::Parked)).await;
    let lease = claim_one(&store).await;
    assert_eq!(members(&lease), both);
    let gave_up = Outcome::Park { cause: Cause::GaveUp, reason: "for too long".to_owned() };
    store.settle(&lease, gave_up).await;
    let resumed = store.get().sinks.resume(&SinkName::new("app"), Timestamp::from_millis(0), 1).await.unwrap();
    assert_eq!(resumed, 1, "one delivery, and both events are in it");
    let lease = claim_one(&store).await;
    assert_eq!((members(&lease), lease.resumed.is_some()), (both.to_vec(), true));
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_delivery_whose_leases_are_lost_again_and_again_is_parked_whole(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let both = two(&store).await;
    for _ in 0..MOST_LOSSES {
        drop(claim_on(store.get(), Duration::ZERO).await.remove(0));
    }
    assert!(claim(&store).await.is_empty());
    for seq in both {
        assert_eq!(store.view(seq).await.stages[0].cause, Some(Cause::Lost));
    }
}

#[apply(every_back_end)]
#[tokio::test]
async fn an_event_without_its_accounts_is_waited_for_and_then_left_to_the_next_delivery(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let a1 = store.accept_json(&told("a1", "a", "1", true)).await;
    let a2 = store.accept_truncated("a2", "a").await;
    store.let_pass(QUIET * 2).await;
    assert!(claim(&store).await.is_empty(), "its accounts may come");
    store.let_pass(LONGEST).await;
    let first = claim_one(&store).await;
    assert_eq!((first.seq, first.entry.delivery_id.as_str()), (a1, "a1"));
    let a3 = store.accept_json(&told("a3", "a", "1", false)).await;
    store.let_pass(Duration::from_secs(1)).await;
    store.settle(&first, Outcome::Done).await;
    let fetch = store.claim_one(&Stage::ACCOUNTS).await;
    let reading = store.get().readings.find_or_begin(&fetch, LEASE).await.unwrap();
    store.get().readings.keep_page(&fetch, reading.id, page(1)).await.unwrap();
    store.settle(&fetch, Outcome::Fetched { reading: reading.id, found: found(1) }).await;
    store.let_pass(QUIET).await;
    let second = claim_one(&store).await;
    assert_eq!(members(&second), [a2, a3]);
    // It was read after the later event came: these accounts are the newest.
    assert_eq!(second.entry.fetched, Some(Fetched::Read { reading: reading.id, found: found(1) }));
    assert_eq!((second.entry.event_id.as_str(), second.entry.new_transactions), ("a2", Some(false)));
}

#[apply(every_back_end)]
#[tokio::test]
async fn only_events_of_one_kind_and_one_user_are_merged(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let mut wanted = Vec::new();
    let other_user = told("a3", "a", "1", false).replace("\"ua\"", "\"else\"");
    for json in [
        told("a1", "a", "1", false),
        of_type("UDPATED", "a2", "a", "2", false),
        other_user,
        of_type("DELETED", "a4", "a", "1", false),
        of_type("DELETED", "a5", "a", "1", false),
        told("a6", "a", "1", false),
    ] {
        wanted.push(store.accept_json(&json).await);
    }
    store.let_pass(LONGEST).await;
    for group in [&wanted[..2], &wanted[2..3], &wanted[3..4], &wanted[4..5], &wanted[5..]] {
        let lease = claim_one(&store).await;
        let found = if lease.entry.merged.is_empty() { vec![lease.seq] } else { members(&lease) };
        assert_eq!(found, group);
        store.settle(&lease, Outcome::Done).await;
    }
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_the_sink_would_not_take_joins_nothing(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let mut all = Vec::new();
    for (id, channel) in [("a1", "1"), ("a2", "left out"), ("a3", "1"), ("a4", "left out")] {
        all.push(store.accept_json(&told(id, "a", channel, true)).await);
    }
    store.let_pass(QUIET).await;
    let takes = |entry: &Facts| entry.channel.as_ref().is_none_or(|channel| channel.as_str() != "left out");
    let asked = Merging { takes: Some(Arc::new(takes)), ..merging() };
    for wanted in [vec![all[0], all[2]], vec![all[1]], vec![all[3]]] {
        let lease = store.get().queue.claim_merged(&app(), 10, LEASE, Some(&asked)).await.unwrap().leases.remove(0);
        let found = if lease.entry.merged.is_empty() { vec![lease.seq] } else { members(&lease) };
        assert_eq!(found, wanted);
        store.settle(&lease, Outcome::Done).await;
    }
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_was_tried_before_goes_by_itself(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let both = two(&store).await;
    let lease = store.claim_one(&app()).await;
    store.settle(&lease, retry("503", false)).await;
    let again = claim_one(&store).await;
    assert_eq!((again.seq, again.entry.delivery_id.as_str()), (both[0], "a1"), "as it was tried");
    store.settle(&again, Outcome::Done).await;
    store.replay(&only(both[0])).await;
    let replayed = claim_one(&store).await;
    assert_eq!((replayed.seq, replayed.entry.delivery_id.as_str()), (both[0], "a1"));
}

/// A lease that is given back was perhaps under way: what came since does not join it.
#[apply(every_back_end)]
#[tokio::test]
async fn what_goes_alone_once_goes_alone_for_good(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let a1 = store.accept_json(&told("a1", "a", "1", false)).await;
    store.let_pass(QUIET).await;
    store.settle(&claim_one(&store).await, Outcome::GiveBack).await;
    store.accept_json(&told("a2", "a", "1", false)).await;
    store.let_pass(QUIET).await;
    let again = claim_one(&store).await;
    assert_eq!((again.seq, again.entry.delivery_id.as_str()), (a1, "a1"));
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_is_left_of_a_delivery_after_a_purge_goes_under_its_own_id(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let both = two(&store).await;
    let lease = claim_one(&store).await;
    assert_eq!(store.purge(&only(both[1])).await, 0, "it is not finished");
    store.settle(&lease, Outcome::Done).await;
    assert_eq!(store.purge(&only(both[1])).await, 1);
    store.replay(&only(both[0])).await;
    let left = claim_one(&store).await;
    assert_eq!((left.seq, left.entry.delivery_id.as_str(), members(&left)), (both[0], "a1", vec![]));
    store.settle(&left, Outcome::Done).await;
    let next = two_more(&store).await;
    let lease = claim_one(&store).await;
    assert_eq!(members(&lease), next);
    let erased = store.get().persons.erase(&Subject::Connection(event::ConnectionId::new("a"))).await.unwrap();
    assert_eq!(erased.entries, 3, "also what is under way");
    assert!(store.list_seqs(&inbox::Filter::default()).await.is_empty());
    assert!(store.get().queue.settle(&[(&lease, Outcome::Done)]).await.remove(0).is_err());
}

async fn two_more(store: &Store) -> [Seq; 2] {
    let one = store.accept_json(&told("a8", "a", "1", true)).await;
    let other = store.accept_json(&told("a9", "a", "2", false)).await;
    store.let_pass(QUIET).await;
    [one, other]
}

/// The sink has the newest accounts of both channels then: an older event of either is old news.
#[apply(every_back_end)]
#[tokio::test]
async fn a_delivery_counts_for_the_channels_of_all_its_events(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let mut old = Vec::new();
    for channel in ["1", "2", "3"] {
        old.push(store.accept_json(&told(&format!("old {channel}"), "a", channel, false)).await);
        let lease = store.claim_one(&app()).await;
        store.settle(&lease, park("the sink answered 410")).await;
    }
    store.let_pass(Duration::from_secs(1)).await;
    two(&store).await;
    let lease = claim_one(&store).await;
    assert!(!lease.is_stale);
    store.settle(&lease, Outcome::Done).await;
    store.replay(&in_state(State::Parked)).await;
    for (seq, is_stale) in old.into_iter().zip([true, true, false]) {
        let lease = claim_one(&store).await;
        assert_eq!((lease.seq, lease.is_stale), (seq, is_stale));
        store.settle(&lease, Outcome::Done).await;
    }
}

/// Each event is late or not by its own channel: what is news of one channel is not left out because of another.
#[apply(every_back_end)]
#[tokio::test]
async fn a_delivery_is_no_news_when_none_of_its_events_is(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let park = async |store: &Store| {
        let lease = claim_one(store).await;
        store.settle(&lease, park("the sink answered 410")).await;
    };
    two(&store).await;
    park(&store).await;
    for (id, channel, is_no_news) in [("b1", "2", false), ("b2", "1", true)] {
        store.let_pass(Duration::from_secs(1)).await;
        store.accept_json(&told(id, "a", channel, false)).await;
        let lease = store.claim_one(&app()).await;
        store.settle(&lease, Outcome::Done).await;
        store.replay(&in_state(State::Parked)).await;
        let lease = claim_one(&store).await;
        assert_eq!((lease.entry.merged.len(), lease.is_stale, lease.is_no_news), (2, true, is_no_news));
        store.settle(&lease, Outcome::Park { cause: Cause::Gone, reason: "410".to_owned() }).await;
    }
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_clock_that_was_set_back_holds_nothing_up(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let both = [told("a1", "a", "1", true), told("a2", "a", "2", true)];
    let mut seqs = Vec::new();
    for json in both {
        seqs.push(store.accept_json(&json).await);
    }
    assert!(claim(&store).await.is_empty());
    store.set_clock_back(Duration::from_hours(24)).await;
    assert_eq!(members(&claim_one(&store).await), seqs);
}
