//! What people look at: spans of time, the story of an entry, the last failures, and what happens as it happens.

use crate::{
    events::{event, found, new_entry, page, park, retry},
    stores::{Backend, LEASE, Store, every_back_end, in_state},
};
use base::clock::{self, Timestamp};
use event::ConnectionId;
use inbox::{About, Act, Error, Filter, Outcome, Refused, Seq, Span, Stage, State, Story, What};
use rstest_reuse::apply;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);

/// From so many hours ago, until so many hours ago.
fn span(since: Option<u32>, until: Option<u32>) -> Span {
    let ago = |hours: u32| clock::now().before(HOUR * hours);
    Span { since: since.map(ago), until: until.map(ago) }
}

fn accepted(span: Span) -> Filter {
    Filter { accepted: span, ..Filter::default() }
}

/// e1 came five hours ago, e2 three, e3 one.
async fn three_hours(store: &Store) -> [Seq; 3] {
    let mut seqs = Vec::new();
    for id in ["e1", "e2", "e3"] {
        seqs.push(store.accept(id, id).await);
        store.let_pass(if id == "e3" { HOUR } else { HOUR * 2 }).await;
    }
    seqs.try_into().unwrap()
}

#[apply(every_back_end)]
#[tokio::test]
async fn entries_are_found_by_the_time_of_their_acceptance(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let [first, second, third] = three_hours(&store).await;
    for (span, seqs) in [
        (span(None, None), &[third, second, first][..]),
        (span(Some(4), None), &[third, second]),
        (span(None, Some(2)), &[second, first]),
        (span(Some(4), Some(2)), &[second]),
        (span(Some(6), Some(0)), &[third, second, first]),
        (span(Some(0), None), &[]),
        (span(None, Some(9)), &[]),
    ] {
        assert_eq!(store.list_seqs(&accepted(span)).await, seqs, "{span:?}");
        let ends = seqs.last().copied().zip(seqs.first().copied());
        assert_eq!(store.get().desk.between(span).await.unwrap(), ends, "{span:?}");
    }
    let waiting = Filter { state: Some(State::Waiting), ..accepted(span(Some(4), Some(2))) };
    assert_eq!(store.park(&waiting).await, 1);
    assert_eq!(store.list_seqs(&in_state(State::Parked)).await, [second]);
    assert_eq!(store.purge(&accepted(span(Some(4), None))).await, 1, "what waits is left");
    assert_eq!(store.list_seqs(&Filter::default()).await, [third, first]);
}

/// Both ends of a span are exact: the first instant belongs to it, the last does not. A clock that was set back between two
/// events hides neither of them.
#[apply(every_back_end)]
#[tokio::test]
async fn a_span_is_exact_although_the_clock_was_set(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let accept = async |id: &str, millis: i64| {
        let entry = inbox::NewEntry { received: Timestamp::from_millis(millis), ..new_entry(&event(id, id, 1, false)) };
        store.get().intake.accept(entry).await.unwrap();
    };
    for (id, millis) in [("a", 1000), ("b", 5000), ("c", 2000), ("d", 3000)] {
        accept(id, millis).await;
    }
    let find = async |since: i64, until: i64| {
        let at = Timestamp::from_millis;
        let span = Span { since: Some(at(since)), until: Some(at(until)) };
        let entries = store.list(&accepted(span)).await;
        entries.iter().map(|entry| entry.event_id.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(find(1000, 3000).await, ["c", "a"]);
    assert_eq!(find(1001, 3001).await, ["d", "c"]);
    assert_eq!(find(5000, 5001).await, ["b"]);
    let at = Timestamp::from_millis;
    let span = Span { since: Some(at(2000)), until: Some(at(6000)) };
    assert_eq!(store.get().desk.between(span).await.unwrap(), Some((Seq(2), Seq(4))));
}

#[apply(every_back_end)]
#[tokio::test]
async fn refused_requests_and_acts_are_found_by_their_time(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let refused = |at, reason| Refused {
        at,
        sender: "{}".to_owned(),
        reason,
        status: 400,
        size: None,
        start: None,
        is_known: false,
    };
    let (old, new) = (clock::now().before(HOUR * 3), clock::now());
    store.get().intake.refuse(vec![refused(old, "not_json"), refused(new, "not_an_event")]).await.unwrap();
    let reasons = async |span| {
        let found = store.get().desk.refused(span, 10).await.unwrap();
        found.into_iter().map(|one| one.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons(span(None, Some(1))).await, ["not_json"]);
    assert_eq!(reasons(span(Some(1), None)).await, ["not_an_event"]);
    assert!(reasons(span(Some(9), Some(8))).await.is_empty());
    let act = Act { who: "ann".to_owned(), what: "replay".to_owned(), which: "--all".to_owned() };
    let number = store.get().audit.begin(&act).await.unwrap();
    let acts = store.get().audit.acts(span(Some(1), None), 10).await.unwrap();
    assert_eq!(acts.iter().map(|act| act.number).collect::<Vec<_>>(), [number]);
    assert!(store.get().audit.acts(span(None, Some(1)), 10).await.unwrap().is_empty());
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_story_says_what_was_read_and_what_an_entry_waits_behind(backend: Backend) {
    let store = Store::new(backend, &["app", "audit"]).await;
    let (first, second) = (store.accept_truncated("e1", "a").await, store.accept("e2", "a").await);
    let story = async |seq| -> Story { store.get().desk.story(seq).await.unwrap() };
    assert!(story(first).await.reading.is_none() && story(first).await.behind.is_empty());
    let behind = story(second).await.behind;
    assert_eq!(behind, ["app", "audit"].map(|sink| (Stage::deliver(sink), first)));

    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    let readings = &store.get().readings;
    let reading = readings.find_or_begin(&lease, LEASE).await.unwrap();
    for number in [1, 2] {
        readings.keep_page(&lease, reading.id, page(number)).await.unwrap();
    }
    let open = story(first).await.reading.unwrap();
    assert_eq!((open.pages, open.found, open.started), (2, None, reading.started));
    store.settle(&lease, Outcome::Fetched { reading: reading.id, found: found(2) }).await;
    let read = story(first).await.reading.unwrap();
    assert_eq!((read.pages, read.found), (2, Some(found(2))));
    assert!(story(second).await.reading.is_none(), "it brought its accounts");

    let lease = store.claim_one(&Stage::deliver("app")).await;
    assert_eq!(story(first).await.facts.as_ref(), Some(&*lease.entry), "as work is given them");
    store.settle(&lease, Outcome::Done).await;
    assert_eq!(story(second).await.behind, [(Stage::deliver("audit"), first)]);
    let nobody = story(Seq(99)).await;
    assert!(nobody.behind.is_empty() && nobody.facts.is_none());
}

/// The last failure of each stage is kept, whatever became of the entry, and survives a crash.
#[apply(every_back_end)]
#[tokio::test]
async fn the_last_failure_of_each_stage_is_known(backend: Backend) {
    let mut store = Store::new(backend, &["app", "audit"]).await;
    let failures = async |store: &Store| {
        let failures = store.get().upkeep.stats().await.unwrap().failures;
        let words = |(stage, failure): (Stage, inbox::Failure)| (stage.to_string(), failure.seq, failure.reason);
        failures.into_iter().map(words).collect::<Vec<_>>()
    };
    assert_eq!(failures(&store).await, []);
    let (first, second) = (store.accept("e1", "a").await, store.accept("e2", "b").await);
    let before = clock::now();
    let leases = store.claim(&Stage::deliver("app")).await;
    store.settle(&leases[0], retry("it answered 503", true)).await;
    store.settle(&leases[1], park("it answered 410")).await;
    let expected = [("app".to_owned(), second, "it answered 410".to_owned())];
    assert_eq!(failures(&store).await, expected);
    let at = store.get().upkeep.stats().await.unwrap().failures[0].1.at;
    assert!(before <= at && at <= clock::now());
    let lease = store.claim_one(&Stage::deliver("app")).await;
    assert_eq!(lease.seq, first);
    store.settle(&lease, Outcome::Done).await;
    store.park(&Filter::default()).await;
    store.crash().await;
    assert_eq!(failures(&store).await, expected, "a success, and what a person parks, are no failures");
}

/// Everything that happens is told, in order, and to everybody who looks on.
#[apply(every_back_end)]
#[tokio::test]
async fn who_looks_on_is_told_what_happens(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let watch = &store.get().watch;
    assert_eq!(watch.next(), 0);
    let (first, accepted) = tokio::join!(watch.seen(0, 100), store.accept_truncated("e1", "7"));
    let first = first.unwrap();
    assert_eq!((first.missed, first.next, first.happenings.len()), (0, 1, 1));
    let new = &first.happenings[0];
    assert_eq!((new.what, new.seq, &new.stage, &new.reason), (What::Accepted, accepted, &None, &None));
    let About { delivery_id, connection, user } = new.about.clone().unwrap();
    assert_eq!((delivery_id.as_str(), connection, user.unwrap().as_str()), ("e1", ConnectionId::new("7"), "u7"));

    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&lease, Outcome::Gone).await;
    let app = Stage::deliver("app");
    let lease = store.claim_one(&app).await;
    store.settle(&lease, retry("it answered 503", false)).await;
    let lease = store.claim_one(&app).await;
    store.settle(&lease, Outcome::GiveBack).await;
    let lease = store.claim_one(&app).await;
    store.settle(&lease, Outcome::Done).await;
    let refused = store.accept("e2", "7").await;
    let lease = store.claim_one(&app).await;
    store.settle(&lease, park("it answered 410")).await;
    store.replay(&Filter { seq: Some(refused), ..Filter::default() }).await;
    let lease = store.claim_one(&app).await;
    store.settle(&lease, Outcome::Superseded).await;
    let rest = watch.seen(first.next, 100).await.unwrap();
    let words = |of: &inbox::Happening| {
        (of.what.as_str(), of.stage.as_ref().map_or("", Stage::as_str).to_owned(), of.due.is_some())
    };
    let told: Vec<_> = rest.happenings.iter().map(words).collect();
    let line = |what, stage: &str, is_due| (what, stage.to_owned(), is_due);
    assert_eq!(
        told,
        [
            line("completed", "completion", false),
            line("waiting", "app", true),
            line("delivered", "app", false),
            line("accepted", "", false),
            line("parked", "app", false),
            line("dropped", "app", false),
        ]
    );
    assert_eq!(rest.happenings[4].reason.as_deref(), Some("it answered 410"));
    assert_eq!(rest.next, 7);
    let again = watch.seen(2, 2).await.unwrap();
    assert_eq!((again.happenings.len(), again.next), (2, 4), "another one who looks on begins where it likes");

    store.park(&Filter::default()).await;
    store.purge(&Filter::default()).await;
    assert_eq!(watch.seen(0, 1).await.unwrap().happenings[0].about, None, "it was deleted since");
    store.get().upkeep.close().await;
    assert!(matches!(watch.seen(watch.next(), 1).await, Err(Error::Closed)));
}

/// Who cannot keep up is told how much is missing, and goes on with what there is.
#[apply(every_back_end)]
#[tokio::test]
async fn who_is_slow_is_told_what_is_missing(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    for n in 0..1500 {
        store.get().intake.accept(new_entry(&event(&format!("e{n}"), &n.to_string(), 1, false))).await.unwrap();
    }
    store.list(&Filter { seq: Some(Seq(0)), ..Filter::default() }).await;
    // Each failure is one thing that happened.
    for round in 0..3 {
        let leases = store.get().queue.claim(&Stage::deliver("app"), 1500, LEASE).await.unwrap().leases;
        assert_eq!(leases.len(), 1500, "round {round}");
        let ended: Vec<_> = leases.iter().map(|lease| (lease, retry("it answered 503", false))).collect();
        assert!(store.get().queue.settle(&ended).await.iter().all(Result::is_ok), "round {round}");
    }
    let watch = &store.get().watch;
    let total = watch.next();
    assert_eq!(total, 6000);
    let seen = watch.seen(0, 10).await.unwrap();
    assert_eq!((seen.happenings.len(), seen.next), (10, seen.missed + 10));
    assert_eq!(seen.missed, total - 4096);
}

/// A reason is found by any part of its text, and by the word of its cause.
#[apply(every_back_end)]
#[tokio::test]
async fn entries_are_found_by_why_they_are_parked(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let (first, second) = (store.accept("e1", "a").await, store.accept("e2", "b").await);
    let one = Filter { seq: Some(first), ..Filter::default() };
    store.get().desk.park(&one, 10, "looked at 100% by_hand").await.unwrap();
    let why = |text: &str| Filter { reason: Some(text.to_owned()), ..Filter::default() };
    for (text, seqs) in [
        ("100% by_hand", &[first][..]),
        ("looked", &[first]),
        ("operator", &[first]),
        ("by hand", &[]),
        ("unclear", &[]),
    ] {
        assert_eq!(store.list_seqs(&why(text)).await, seqs, "{text}");
    }
    assert_eq!(store.replay(&why("looked")).await, 1);
    assert!(store.list_seqs(&in_state(State::Waiting)).await.contains(&second));
}
