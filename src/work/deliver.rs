//! Hands one entry to one sink, and decides what becomes of the entry.
//!
//! In: a lease on a sink's stage. Out: its [`Outcome`]. A failure of the sink is booked on the sink: backoff, then parked. An
//! error of the inbox, on the way to the delivery or while the sink reads the body, is returned as that, and books nothing.

use super::{
    body::inbox_error,
    compose::{Stop, compose},
    pool::Handler,
    retry::{Failed, Policy},
};
use async_trait::async_trait;
use base::{
    clock::{self, millis},
    trust::Proof,
};
use delivery::{Attributes, Delivery, Failure, FailureKind, Slot};
use inbox::{Cause, Error, Lease, Outcome, Shelf};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A refusal (4xx) is believed after this many in a row.
const REFUSALS: Proof = Proof { tries: 5, lasting: Duration::ZERO };
/// Longest wait between two tries of a delivery.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// What deliveries count.
#[derive(Clone, Debug)]
pub struct Figures {
    deliveries: Family<Ended, Counter>,
    seconds: Family<To, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    /// Configured name.
    sink: String,
    /// `delivered`, `retry`, `parked`
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    /// Configured name.
    sink: String,
}

impl Figures {
    /// Registers the figures.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self {
            deliveries: Family::default(),
            seconds: Family::new_with_constructor(crate::observe::metrics::seconds),
        };
        registry.register("deliveries", "Delivery attempts by sink and outcome", this.deliveries.clone());
        registry.register_with_unit("delivery", "Duration of delivery attempts", Unit::Seconds, this.seconds.clone());
        this
    }

    fn count(&self, sink: &str, outcome: &Outcome, took: Duration) {
        let outcome = match outcome {
            Outcome::Done => "delivered",
            Outcome::Park { .. } => "parked",
            _ => "retry",
        };
        self.seconds.get_or_create(&To { sink: sink.to_owned() }).observe(took.as_secs_f64());
        self.deliveries.get_or_create(&Ended { sink: sink.to_owned(), outcome }).inc();
    }
}

/// The way to one sink.
pub struct Route {
    /// The destination, which a reload may exchange between two deliveries.
    pub slot: Arc<Slot>,
    /// From the first failed attempt to parking.
    pub retry_for: Duration,
    /// `source` of every delivery: base of the vendor's API.
    pub source: String,
    /// Where completed accounts are read from.
    pub shelf: Arc<dyn Shelf>,
    /// What is counted.
    pub figures: Figures,
}

#[async_trait]
impl Handler for Route {
    async fn handle(&self, lease: &Lease) -> Result<Outcome, Error> {
        let delivery = match compose(&self.shelf, &self.source, lease).await {
            Ok(delivery) => delivery,
            Err(stop) => return stopped(stop),
        };
        let started = Instant::now();
        let result = self.slot.deliver(&delivery).await;
        self.end(lease, &delivery, result, started.elapsed())
    }

    async fn handle_many(&self, leases: &[Lease]) -> Vec<Result<Outcome, Error>> {
        let (mut outcomes, mut deliveries) = (Vec::with_capacity(leases.len()), Vec::with_capacity(leases.len()));
        for lease in leases {
            match compose(&self.shelf, &self.source, lease).await {
                Ok(delivery) => {
                    deliveries.push(delivery);
                    outcomes.push(None);
                }
                Err(stop) => outcomes.push(Some(stopped(stop))),
            }
        }
        let started = Instant::now();
        let results = self.slot.deliver_many(&deliveries).await;
        let took = started.elapsed();
        let mut delivered = deliveries.iter().zip(results);
        let ended = leases.iter().zip(outcomes).map(|(lease, outcome)| {
            outcome.unwrap_or_else(|| match delivered.next() {
                Some((delivery, result)) => self.end(lease, delivery, result, took),
                // A sink that answers fewer deliveries than it was given: what it says nothing of is done again.
                None => Ok(Outcome::GiveBack),
            })
        });
        ended.collect()
    }

    fn batch(&self) -> usize {
        self.slot.batch()
    }
}

/// How a lease ends that there is no delivery for.
fn stopped(stop: Stop) -> Result<Outcome, Error> {
    match stop {
        Stop::Park { cause, reason } => Ok(Outcome::Park { cause, reason }),
        Stop::Inbox(error) => Err(error),
    }
}

impl Route {
    /// What becomes of the entry after an attempt.
    fn end(
        &self,
        lease: &Lease,
        delivery: &Delivery,
        result: Result<(), delivery::Error>,
        took: Duration,
    ) -> Result<Outcome, Error> {
        let outcome = match result {
            Ok(()) => Outcome::Done,
            Err(delivery::Error::Failed(failure)) => self.after(lease, failure),
            Err(delivery::Error::Unreadable(error)) => return Err(inbox_error(error)),
        };
        self.figures.count(self.slot.name().as_str(), &outcome, took);
        self.log(lease, &delivery.attributes, took, &outcome);
        Ok(outcome)
    }

    /// What becomes of the entry after a failed attempt.
    fn after(&self, lease: &Lease, failure: Failure) -> Outcome {
        let failed = Failed::of(lease, failure.reason, "mend the sink, then replay");
        let failed = match failure.kind {
            FailureKind::Gone => {
                let reason = format!("{}: it will never take this entry", failed.reason);
                return Outcome::Park { cause: Cause::Gone, reason };
            }
            FailureKind::Refused { .. } => Failed { doubt: Some(REFUSALS), ..failed },
            FailureKind::Transient { after } => Failed { after, ..failed },
        };
        let policy = Policy { first: Duration::from_secs(1), longest: LONGEST_WAIT, give_up_after: self.retry_for };
        policy.decide(failed, clock::now(), fastrand::u64(..))
    }

    fn log(&self, lease: &Lease, attributes: &Attributes, took: Duration, outcome: &Outcome) {
        let entry = &lease.entry;
        match outcome {
            Outcome::Retry { due, reason, .. } => tracing::warn!(
                event.id = %entry.event_id,
                entry = lease.seq.0,
                connection.id = %entry.connection,
                sink = %self.slot.name(),
                attempts = lease.attempts,
                retry_in_ms = millis(due.since(clock::now())),
                reason,
                "delivery failed; it is tried again"
            ),
            Outcome::Park { reason, .. } => tracing::error!(
                event.id = %entry.event_id,
                entry = lease.seq.0,
                connection.id = %entry.connection,
                sink = %self.slot.name(),
                attempts = lease.attempts,
                reason,
                "delivery failed and the entry is parked; a person must act"
            ),
            _ => tracing::info!(
                event.id = %entry.event_id,
                delivery.id = %entry.delivery_id,
                entry = lease.seq.0,
                connection.id = %entry.connection,
                sink = %self.slot.name(),
                accounts = attributes.linxoaccounts,
                mismatch = attributes.linxomismatch,
                attempts = lease.attempts,
                duration_ms = millis(took),
                age_ms = millis(clock::now().since(entry.accepted)),
                "event delivered"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use delivery::{Body, Delivery, DeliveryId, Sink, SinkName};
    use event::{ConnectionId, EventId};
    use futures_util::StreamExt as _;
    use inbox::{Certainty, Doubts, Facts, Fetched, Found, ReadingId, Seq, Stage, Token, double::Double};
    use std::sync::Mutex;

    const TRUNCATED: &str = r#"{"id":"e","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{"id":"7","account_count":3,"accounts":[]},"more":1.50}"#;

    /// Reads every body to its end, and answers as it is told.
    #[derive(Clone, Default)]
    struct Reader {
        read: Arc<Mutex<Vec<String>>>,
        failure: Option<Failure>,
    }

    async fn read(body: &Body) -> Result<String, delivery::BodyError> {
        let mut joined = Vec::new();
        let mut pieces = body.open();
        while let Some(piece) = pieces.next().await {
            joined.extend_from_slice(&piece?);
        }
        Ok(String::from_utf8(joined).unwrap())
    }

    #[async_trait]
    impl Sink for Reader {
        async fn deliver(&self, delivery: &Delivery) -> Result<(), delivery::Error> {
            let text = read(&delivery.body).await?;
            self.read.lock().unwrap().push(text);
            self.failure.clone().map_or(Ok(()), |failure| Err(failure.into()))
        }
    }

    fn route(sink: &Reader, broken: Option<usize>) -> Route {
        let pages = vec![Bytes::from_static(br#"{"id":1},{"id":2}"#), Bytes::from_static(br#"{"id":3}"#)];
        Route {
            slot: Arc::new(Slot::new(SinkName::new("app"), Box::new(sink.clone()))),
            retry_for: Duration::from_hours(1),
            source: "https://api.oxlin.io/v2.1".to_owned(),
            shelf: Arc::new(Double::with_pages(pages, broken)),
            figures: Figures::new(&mut Registry::default()),
        }
    }

    /// A completed entry whose three accounts are on two pages.
    fn lease() -> Lease {
        let found = Found { accounts: 3, unusable: 0, certainty: Certainty::AsAnnounced };
        let entry = Facts {
            event_id: EventId::new("e"),
            delivery_id: DeliveryId::new("e"),
            event_type: "UPDATED".to_owned(),
            resource_type: "CONNECTIONS".to_owned(),
            connection: ConnectionId::new("7"),
            user: None,
            channel: None,
            mode: None,
            created: None,
            accepted: clock::now(),
            account_count: Some(3),
            listed: 0,
            confirm: false,
            trace: None,
            fetched: Some(Fetched::Read { reading: ReadingId(1), found }),
        };
        Lease {
            seq: Seq(1),
            stage: Stage::deliver("app"),
            token: Token(1),
            expires: clock::now().after(Duration::from_mins(1)),
            attempts: 1,
            failing_since: None,
            doubts: Doubts::default(),
            entry: Arc::new(entry),
            body: Bytes::from_static(TRUNCATED.as_bytes()),
            hold: Arc::new(()),
        }
    }

    fn counted(route: &Route, outcome: &'static str) -> u64 {
        route.figures.deliveries.get_or_create(&Ended { sink: "app".to_owned(), outcome }).get()
    }

    #[tokio::test]
    async fn a_sink_gets_the_event_with_the_accounts_of_all_pages() {
        let sink = Reader::default();
        let route = route(&sink, None);
        assert_eq!(route.handle(&lease()).await.unwrap(), Outcome::Done);
        let completed = TRUNCATED.replace("[]", r#"[{"id":1},{"id":2},{"id":3}]"#);
        assert_eq!(*sink.read.lock().unwrap(), [completed]);
        assert_eq!(counted(&route, "delivered"), 1);
    }

    #[tokio::test]
    async fn a_page_that_cannot_be_read_is_the_inboxs_error_and_books_nothing_on_the_sink() {
        let sink = Reader::default();
        let route = route(&sink, Some(1));
        assert!(matches!(route.handle(&lease()).await, Err(Error::Closed)));
        assert_eq!(["delivered", "retry", "parked"].map(|outcome| counted(&route, outcome)), [0, 0, 0]);
    }

    #[tokio::test]
    async fn what_a_sink_says_decides_what_becomes_of_the_entry() {
        let hour = Duration::from_hours(1);
        for (kind, word, fits) in [
            (FailureKind::Transient { after: None }, "retry", |outcome: &Outcome| {
                matches!(outcome, Outcome::Retry { is_doubtful: false, .. })
            }),
            (
                FailureKind::Transient { after: Some(hour) },
                "retry",
                |outcome: &Outcome| matches!(outcome, Outcome::Retry { due, .. } if due.since(clock::now()) > Duration::from_mins(59)),
            ),
            (FailureKind::Refused { status: Some(404) }, "retry", |outcome: &Outcome| {
                matches!(outcome, Outcome::Retry { is_doubtful: true, .. })
            }),
            (
                FailureKind::Gone,
                "parked",
                |outcome: &Outcome| matches!(outcome, Outcome::Park { cause: Cause::Gone, reason } if reason == "no: it will never take this entry"),
            ),
        ] as [(_, _, fn(&Outcome) -> bool); 4]
        {
            let failure = Some(Failure { kind, reason: "no".to_owned() });
            let route = route(&Reader { failure, ..Reader::default() }, None);
            let outcome = route.handle(&lease()).await.unwrap();
            assert!(fits(&outcome), "{kind:?}: {outcome:?}");
            assert_eq!(counted(&route, word), 1, "{kind:?}");
        }
    }
}
