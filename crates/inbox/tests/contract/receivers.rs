//! Equal receivers on one server: clocks that differ, the same events at the same time, and who goes away.

use crate::{
    events::{event, new_entry},
    server::Schema,
    stores::{AcceptFolded, Backend, LEASE, Store, every_back_end_on_a_server, stored},
};
use base::clock::{self, Timestamp};
use futures_util::future::join_all;
use inbox::{Error, Filter, Folded, NewEntry, Outcome, Stage, State};
use rstest_reuse::apply;
use std::{collections::BTreeSet, time::Duration};

/// By how much a clock is wrong.
const WRONG: Duration = Duration::from_mins(10);
/// A test's own steps take less.
const MOMENT: Duration = Duration::from_secs(20);

fn ahead() -> Timestamp {
    clock::now().after(WRONG)
}

fn behind() -> Timestamp {
    clock::now().before(WRONG)
}

fn is_near(at: Timestamp, expected: Timestamp) -> bool {
    at.since(expected).max(expected.since(at)) < MOMENT
}

/// A time that a receiver hands in comes back to it as it was; others see the same instant by their own clocks.
#[apply(every_back_end_on_a_server)]
#[tokio::test]
async fn receivers_whose_clocks_differ_agree_on_times(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    for (name, local) in [("ahead", ahead as fn() -> Timestamp), ("behind", behind)] {
        let wrong = store.another_with(|_| (), local).await;
        // The first commit shows how the clocks differ.
        let first = new_entry(&event(&format!("{name} first"), name, 1, false));
        wrong.intake.accept_folded(NewEntry { received: local(), ..first }).await.unwrap();
        let lease = wrong.queue.claim(&app, 1, LEASE).await.unwrap().leases.remove(0);
        assert!(is_near(lease.expires, local().after(LEASE)), "{name}");
        assert!(store.claim(&app).await.is_empty(), "{name}: its lease has not ended by any clock");
        wrong.queue.settle(&[(&lease, Outcome::Done)]).await.remove(0).unwrap();

        let received = local();
        let second = new_entry(&event(&format!("{name} second"), name, 1, false));
        let seq = stored(wrong.intake.accept_folded(NewEntry { received, ..second }).await.unwrap());
        let of = Filter { seq: Some(seq), ..Filter::default() };
        assert_eq!(wrong.desk.list(&of, 1).await.unwrap()[0].accepted, received, "{name}");
        assert!(is_near(store.view(seq).await.accepted, clock::now()), "{name}");
        let lease = wrong.queue.claim(&app, 1, LEASE).await.unwrap().leases.remove(0);
        let due = local().after(MOMENT * 2);
        wrong
            .queue
            .settle(&[(&lease, Outcome::Retry { due, reason: "503".to_owned(), is_doubtful: false })])
            .await
            .remove(0)
            .unwrap();
        assert_eq!(wrong.queue.claim(&app, 1, LEASE).await.unwrap().next_due, Some(due), "{name}");
        let claimed = store.get().queue.claim(&app, 1, LEASE).await.unwrap();
        assert!(claimed.leases.is_empty(), "{name}: it is not due yet");
        assert!(is_near(claimed.next_due.unwrap(), clock::now().after(MOMENT * 2)), "{name}");
        store.let_pass(MOMENT * 2).await;
        let lease = store.claim_one(&app).await;
        assert_eq!(lease.seq, seq);
        store.settle(&lease, Outcome::Done).await;
        wrong.upkeep.close().await;
    }
}

/// Batches of two receivers want the same lines, each in another order: nobody waits in a circle, and everything is stored once.
#[apply(every_back_end_on_a_server)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_events_at_two_receivers_are_stored_once_whatever_their_order(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let other = store.another().await;
    let events: Vec<String> = (0..200).map(|n| event(&format!("e{n}"), &(n % 40).to_string(), 1, false)).collect();
    let (forth, back): (Vec<_>, Vec<_>) = (events.iter().collect(), events.iter().rev().collect());
    let send = async |inbox: &inbox::Inbox, events: Vec<&String>| {
        let accepts = events.into_iter().map(|json| inbox.intake.accept_folded(new_entry(json)));
        join_all(accepts).await.into_iter().map(|receipt| receipt.unwrap().folded.unwrap()).collect::<Vec<_>>()
    };
    let (one, two) = tokio::join!(send(store.get(), forth), send(&other, back));
    let is_new = |folded: &&Folded| matches!(folded, Folded::Stored { conflict: false, .. });
    let is_repeat = |folded: &&Folded| matches!(folded, Folded::Duplicate { .. });
    let both = || one.iter().chain(&two);
    assert_eq!((both().filter(is_new).count(), both().filter(is_repeat).count()), (200, 200));
    assert_eq!(store.list(&Filter::default()).await.len(), 200);
}

/// Events of one id and of different connections meet in no line: the constraint alone says which one is the first.
#[apply(every_back_end_on_a_server)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_event_alone_is_the_first_of_its_id(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let receivers = [store.get().clone(), store.another().await, store.another().await];
    for round in 0..10 {
        let id = format!("e{round}");
        let events: Vec<String> = (0..receivers.len()).map(|n| event(&id, &format!("{round}-{n}"), 1, false)).collect();
        let accepts = receivers.iter().zip(&events).map(|(inbox, json)| inbox.intake.accept_folded(new_entry(json)));
        let folded: Vec<Folded> = join_all(accepts).await.into_iter().map(|one| one.unwrap().folded.unwrap()).collect();
        let first = folded.iter().filter(|one| matches!(one, Folded::Stored { conflict: false, .. })).count();
        assert_eq!(first, 1, "{folded:?}");
        let entries = store.list(&Filter { id: Some(id), ..Filter::default() }).await;
        let ids: BTreeSet<&str> = entries.iter().map(|entry| entry.delivery_id.as_str()).collect();
        assert_eq!((entries.len(), ids.len()), (receivers.len(), receivers.len()));
    }
}

/// A receiver that is stopped gives back what it had; others do not wait for its leases to expire.
#[apply(every_back_end_on_a_server)]
#[tokio::test]
async fn what_a_stopped_receiver_had_goes_on_at_once(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let other = store.another().await;
    let app = Stage::deliver("app");
    let seq = store.accept("e1", "a").await;
    let lease = other.queue.claim(&app, 1, LEASE).await.unwrap().leases.remove(0);
    assert!(store.claim(&app).await.is_empty());
    other.upkeep.close().await;
    let again = store.claim_one(&app).await;
    assert_eq!((again.seq, again.attempts), (seq, 2));
    assert!(matches!(other.queue.settle(&[(&lease, Outcome::Done)]).await.remove(0), Err(Error::Closed)));
    store.settle(&again, Outcome::Done).await;
    assert_eq!(store.state(seq).await, State::Done);
}

/// The limit of unfinished entries is that of the inbox, and not of each receiver.
#[apply(every_back_end_on_a_server)]
#[tokio::test]
async fn what_other_receivers_accept_counts(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let other = store.another_with(|settings| settings.max_waiting = 2, clock::now).await;
    store.accept("e1", "a").await;
    store.accept("e2", "b").await;
    // As the service does for its figures, and the store by itself every second.
    let stats = other.upkeep.stats().await.unwrap();
    assert_eq!(stats.stages.iter().map(|(_, counts)| counts.waiting).collect::<Vec<_>>(), [0, 2]);
    assert!(matches!(other.intake.ready(), Err(Error::Backlog)));
    store.get().intake.ready().unwrap();
}

/// PostgreSQL has no U+0000 in its texts; an event that has one is taken all the same, and found again.
#[apply(every_back_end_on_a_server)]
#[tokio::test]
async fn an_event_may_say_every_character(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let json = event("e\\u0000\u{10ffff}1", "a\\u0000b", 1, false);
    let seq = store.accept_json(&json).await;
    let view = store.view(seq).await;
    assert_eq!((view.event_id.as_str(), view.connection.as_str()), ("e\0\u{10ffff}1", "a\0b"));
    assert_eq!(store.list_seqs(&Filter { connection: Some(view.connection), ..Filter::default() }).await, [seq]);
    let lease = store.claim_one(&Stage::deliver("app")).await;
    assert_eq!((lease.entry.event_id.as_str(), &lease.body[..]), ("e\0\u{10ffff}1", json.as_bytes()));
    store.settle(&lease, Outcome::Park { cause: inbox::Cause::Refused, reason: "no \0".to_owned() }).await;
    assert_eq!(store.view(seq).await.stages[0].reason.as_deref(), Some("no \0"));
}

/// New receivers bring the tables of an old one up to date, whichever is first. The old one, which is still running, writes as ever.
#[tokio::test]
async fn receivers_of_the_first_version_go_on_beside_new_ones() {
    const OLD: &str = "
        INSERT INTO sink (name) VALUES ('old');
        INSERT INTO line (key) VALUES (1) ON CONFLICT DO NOTHING;
        INSERT INTO known (id_key, rank, body_key, seq) VALUES (1, 0, 1, 1000);
        INSERT INTO stage (seq, kind, line, state, due, changed) VALUES (1000, 1, 1, 'parked', 0, 0);
        INSERT INTO attempt (seq, kind, number, at, state, reason) VALUES (1000, 1, 1, 0, 'parked', NULL);
        INSERT INTO refused (at, sender, reason, status, size, known, start) VALUES (0, '{}', 'not_json', 400, 1, true, NULL);
        UPDATE sink SET paused = 0 WHERE name = 'old';
        DELETE FROM stage WHERE seq = 1000";
    let schema = Schema::of_version_1().await;
    let opened = join_all((0..3).map(|_| schema.try_open())).await;
    schema.run(OLD).await;
    for (number, inbox) in opened.into_iter().enumerate() {
        let inbox = inbox.unwrap();
        inbox.intake.accept_folded(new_entry(&event(&format!("e{number}"), "a", 1, false))).await.unwrap();
        assert_eq!(inbox.desk.list(&Filter::default(), 10).await.unwrap().len(), number + 1);
        inbox.upkeep.close().await;
    }
    let (_, is_new) = schema.init().await.unwrap();
    assert!(!is_new);
}

/// Several receivers may be updated and started at once, and one that is too old for the tables says so.
#[tokio::test]
async fn tables_are_made_once_and_refused_when_they_are_too_new() {
    let schema = Schema::absent();
    assert!(matches!(schema.try_open().await, Err(Error::Open { problem, .. }) if problem.contains("inbox init")));
    let made = join_all((0..4).map(|_| schema.init())).await;
    let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
    assert_eq!(made.iter().filter(|(_, is_new)| *is_new).count(), 1);
    assert!(made.iter().all(|(identity, _)| *identity == made[0].0));
    schema.try_open().await.unwrap().upkeep.close().await;
    // A newer receiver has added something that this one can do without, and then something that it cannot.
    schema.run("UPDATE meta SET number = 99 WHERE name = 'version'").await;
    schema.try_open().await.unwrap().upkeep.close().await;
    schema.run("UPDATE meta SET number = 98 WHERE name = 'readable_from'").await;
    for refused in [schema.try_open().await.map(drop), schema.init().await.map(drop)] {
        assert!(matches!(refused, Err(Error::Open { problem, .. }) if problem.contains("from version 98 on")));
    }
}
