//! What callers were answered and what the consumer got, and whether it may have been so.
//!
//! Each bank connection has one caller, which posts event after event, and posts one again until it is taken. So the events of a
//! connection have one order, whichever receivers took them. In: posts and deliveries with their times. Out: every promise that was
//! broken, in words. Pure; the controls at the end break each promise once.

use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

/// How long a receiver may hold what it leased without a word (`src/work/pool.rs`).
pub(super) const LEASE: Duration = Duration::from_mins(1);
/// A lease is renewed well before its end: a receiver that stands still for less has still got it.
const RESPECTED: Duration = Duration::from_secs(15);

/// An event of a caller: the connection, and its place in the order of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventId {
    pub(super) connection: u64,
    pub(super) number: u64,
}

impl EventId {
    pub(super) fn text(self) -> String {
        format!("{}-{}", self.connection, self.number)
    }

    fn parse(text: &str) -> Option<Self> {
        let (connection, number) = text.split_once('-')?;
        Some(Self { connection: connection.parse().ok()?, number: number.parse().ok()? })
    }
}

/// How one post ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 200.
    Taken,
    /// 503 with `Retry-After`.
    Refused,
    /// No answer: the way broke, or nothing came in time.
    Broken,
}

/// One post.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post {
    pub(super) event: EventId,
    pub(super) sent: Instant,
    pub(super) ended: Instant,
    pub(super) outcome: Outcome,
}

/// One delivery that reached the consumer.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// Which receiver made it.
    pub(super) receiver: usize,
    pub(super) id: String,
    pub(super) body: Bytes,
    pub(super) began: Instant,
    /// When it was answered, or given up by the receiver.
    pub(super) ended: Instant,
    /// Whether it was answered 200.
    pub(super) is_taken: bool,
}

/// A receiver that stood still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) receiver: usize,
    pub(super) from: Instant,
    pub(super) until: Instant,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) posts: Vec<Post>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) stops: Vec<Stop>,
}

impl History {
    /// Events that were answered 200.
    pub(super) fn acknowledged(&self) -> BTreeSet<EventId> {
        self.posts.iter().filter(|post| post.outcome == Outcome::Taken).map(|post| post.event).collect()
    }

    /// Posts that ended so.
    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.posts.iter().filter(|post| post.outcome == outcome).count()
    }

    /// Events that were acknowledged and not delivered.
    pub(super) fn missing(&self) -> Vec<EventId> {
        let delivered: BTreeSet<_> = self.taken().filter_map(|delivery| EventId::parse(&delivery.id)).collect();
        self.acknowledged().difference(&delivered).copied().collect()
    }

    /// Deliveries that came once more.
    pub(super) fn repeats(&self) -> usize {
        let ids: BTreeSet<_> = self.taken().map(|delivery| &delivery.id).collect();
        self.taken().count() - ids.len()
    }

    /// From a moment to the end of the first post that was begun after it and taken.
    pub(super) fn first_taken_after(&self, moment: Instant) -> Option<Duration> {
        let taken = self.posts.iter().filter(|post| post.outcome == Outcome::Taken && post.sent >= moment);
        taken.map(|post| post.ended - moment).min()
    }

    /// Every promise that was broken.
    pub(super) fn broken(&self) -> Vec<String> {
        let mut broken: Vec<String> =
            self.missing().iter().map(|event| format!("{event:?} was acknowledged and not delivered")).collect();
        broken.extend(self.strangers());
        broken.extend(self.changed());
        broken.extend(self.disorder());
        broken.extend(self.overlaps());
        broken
    }

    fn taken(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.iter().filter(|delivery| delivery.is_taken)
    }

    /// What was delivered under an id that nobody posted: a repeat that was taken for another event.
    fn strangers(&self) -> Vec<String> {
        let posted: BTreeSet<_> = self.posts.iter().map(|post| post.event.text()).collect();
        let strange = self.taken().filter(|delivery| !posted.contains(&delivery.id));
        strange.map(|delivery| format!("{} was delivered, and nobody posted it", delivery.id)).collect()
    }

    /// A repeat is the same to the byte.
    fn changed(&self) -> Vec<String> {
        let mut first: HashMap<&str, &Bytes> = HashMap::new();
        let other =
            self.taken().filter(|delivery| **first.entry(&delivery.id).or_insert(&delivery.body) != delivery.body);
        other.map(|delivery| format!("{} came again with other content", delivery.id)).collect()
    }

    /// The events of a connection come in order, repeats aside.
    fn disorder(&self) -> Vec<String> {
        let mut taken: Vec<_> = self.taken().collect();
        taken.sort_by_key(|delivery| delivery.ended);
        let (mut last, mut seen, mut found) = (HashMap::new(), BTreeSet::new(), Vec::new());
        for event in taken.iter().filter_map(|delivery| EventId::parse(&delivery.id)) {
            if !seen.insert(event) {
                continue;
            }
            let before = last.insert(event.connection, event.number);
            if before.is_some_and(|before| before > event.number) {
                found.push(format!("{event:?} came after number {}", before.unwrap_or_default()));
            }
        }
        found
    }

    /// No two deliveries of a connection are under way at a time, unless a receiver stood still for so long that its leases ended.
    fn overlaps(&self) -> Vec<String> {
        let mut lines: BTreeMap<u64, Vec<&Delivery>> = BTreeMap::new();
        for delivery in &self.deliveries {
            if let Some(event) = EventId::parse(&delivery.id) {
                lines.entry(event.connection).or_default().push(delivery);
            }
        }
        let mut found = Vec::new();
        for (connection, mut line) in lines {
            line.sort_by_key(|delivery| delivery.began);
            for pair in line.windows(2) {
                let [first, second] = pair else { continue };
                if second.began < first.ended && !self.was_still(first) && !self.was_still(second) {
                    found.push(format!(
                        "connection {connection}: {} of receiver {} and {} of receiver {} were under way at a time",
                        first.id, first.receiver, second.id, second.receiver
                    ));
                }
            }
        }
        found
    }

    /// Whether the receiver of a delivery stood still shortly before or meanwhile, for too long to keep its leases.
    fn was_still(&self, delivery: &Delivery) -> bool {
        self.stops.iter().any(|stop| {
            stop.receiver == delivery.receiver
                && stop.until - stop.from > RESPECTED
                && stop.from < delivery.ended
                && delivery.began < stop.until + LEASE
        })
    }
}

/// A history without a flaw: two connections, two receivers, one repeat; times are milliseconds.
fn good() -> History {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut history = History::default();
    for number in 0..3 {
        for connection in 0..2 {
            let (event, sent) = (EventId { connection, number }, at(number * 100));
            history.posts.push(Post { event, sent, ended: sent + Duration::from_millis(5), outcome: Outcome::Taken });
            let receiver = usize::from(number % 2 == 1);
            let (began, ended) = (at(number * 100 + 10), at(number * 100 + 20));
            let body = Bytes::from(event.text());
            history.deliveries.push(Delivery { receiver, id: event.text(), body, began, ended, is_taken: true });
        }
    }
    let repeat = Delivery { began: at(400), ended: at(410), receiver: 1, ..history.deliveries[0].clone() };
    history.deliveries.push(repeat);
    history
}

/// Breaks a promise on purpose.
type Break = fn(&mut History);

#[test]
fn a_good_history_is_good_and_each_broken_promise_is_found() {
    assert_eq!(good().broken(), [""; 0]);
    assert_eq!(good().repeats(), 1);
    let breaks: [(&str, Break); 5] = [
        ("EventId { connection: 1, number: 2 } was acknowledged and not delivered", |history| {
            history.deliveries.retain(|delivery| delivery.id != "1-2");
        }),
        ("0-1~x was delivered, and nobody posted it", |history| {
            let stranger = Delivery { id: "0-1~x".to_owned(), ..history.deliveries[6].clone() };
            history.deliveries.push(stranger);
        }),
        ("0-0 came again with other content", |history| history.deliveries[6].body = Bytes::from_static(b"other")),
        ("EventId { connection: 0, number: 1 } came after number 2", |history| {
            // The deliveries of numbers 1 and 2 change places.
            let (first, second) = (history.deliveries[2].id.clone(), history.deliveries[4].id.clone());
            history.deliveries[2].id = second;
            history.deliveries[4].id = first;
            let (first, second) = (history.deliveries[2].body.clone(), history.deliveries[4].body.clone());
            history.deliveries[2].body = second;
            history.deliveries[4].body = first;
        }),
        ("connection 1: 1-0 of receiver 0 and 1-1 of receiver 1 were under way at a time", |history| {
            history.deliveries[1].ended = history.deliveries[3].began + Duration::from_millis(1);
        }),
    ];
    for (words, spoil) in breaks {
        let mut history = good();
        spoil(&mut history);
        assert_eq!(history.broken(), [words]);
    }
    // A receiver that stood still beyond its lease is forgiven, and another one is not.
    let mut history = good();
    history.deliveries[1].ended = history.deliveries[3].began + Duration::from_millis(1);
    let from = history.deliveries[1].began;
    history.stops.push(Stop { receiver: 0, from, until: from + LEASE });
    assert_eq!(history.broken(), [""; 0]);
    history.stops[0].receiver = 2;
    assert_eq!(history.broken().len(), 1);
}
