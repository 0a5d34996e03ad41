//! Hands one entry to one sink, and decides what becomes of the entry.
//!
//! In: a lease on a sink's stage. Out: its [`Outcome`]. A failure of the sink is booked on the sink: backoff, then parked. An
//! error of the inbox, on the way to the delivery or while the sink reads the body, is returned as that, and books nothing.

use super::{
    Handler,
    body::inbox_error,
    compose::compose,
    millis,
    retry::{Doubt, Failed, Policy},
};
use crate::{
    inbox::{Error, Inbox, Lease, Outcome},
    metrics::{self, Metrics, SinkOutcome},
};
use async_trait::async_trait;
use base::clock;
use delivery::{Attributes, Failure, FailureKind, Slot};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A refusal (4xx) is believed after this many in a row.
const REFUSALS: Doubt = Doubt { tries: 5, lasting: Duration::ZERO };
/// Longest wait between two tries of a delivery.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// The way to one sink.
pub struct Route {
    /// The destination, which a reload may exchange between two deliveries.
    pub slot: Arc<Slot>,
    /// From the first failed attempt to parking.
    pub retry_for: Duration,
    /// `source` of every delivery: base of the vendor's API.
    pub source: String,
    /// Where completed accounts are read from.
    pub inbox: Arc<dyn Inbox>,
    /// The service's figures.
    pub metrics: Arc<Metrics>,
}

#[async_trait]
impl Handler for Route {
    async fn handle(&self, lease: &Lease) -> Result<Outcome, Error> {
        let delivery = match compose(&self.inbox, &self.source, lease).await {
            Ok(delivery) => delivery,
            Err(stop) => return stop.outcome(),
        };
        let started = Instant::now();
        let result = self.slot.deliver(&delivery).await;
        let took = started.elapsed();
        let (word, outcome) = match result {
            Ok(()) => ("delivered", Outcome::Done),
            Err(delivery::Error::Failed(failure)) => self.after(lease, failure),
            Err(delivery::Error::Unreadable(error)) => return Err(inbox_error(error)),
        };
        self.count(word, took);
        self.log(lease, &delivery.attributes, took, &outcome);
        Ok(outcome)
    }
}

impl Route {
    fn count(&self, outcome: &'static str, took: Duration) {
        let sink = || self.slot.name().to_string();
        let seconds = self.metrics.delivery_seconds.get_or_create(&metrics::SinkName { sink: sink() });
        seconds.observe(took.as_secs_f64());
        self.metrics.deliveries.get_or_create(&SinkOutcome { sink: sink(), outcome }).inc();
    }

    /// What becomes of the entry after a failed attempt, and the word for it in the figures.
    fn after(&self, lease: &Lease, failure: Failure) -> (&'static str, Outcome) {
        let failed = Failed::of(lease, failure.reason, "mend the sink, then replay");
        let failed = match failure.kind {
            FailureKind::Gone => {
                return (
                    "parked",
                    Outcome::Park { reason: format!("{}: it will never take this entry", failed.reason) },
                );
            }
            FailureKind::Refused { .. } => Failed { doubt: Some(REFUSALS), ..failed },
            FailureKind::Transient { after } => Failed { after, ..failed },
        };
        let policy = Policy { first: Duration::from_secs(1), longest: LONGEST_WAIT, give_up_after: self.retry_for };
        match policy.decide(failed, clock::now(), fastrand::u64(..)) {
            outcome @ Outcome::Park { .. } => ("parked", outcome),
            outcome => ("retry", outcome),
        }
    }

    fn log(&self, lease: &Lease, attributes: &Attributes, took: Duration, outcome: &Outcome) {
        let entry = &lease.entry;
        match outcome {
            Outcome::Retry { due, reason, .. } => tracing::warn!(
                event.id = entry.event_id,
                entry = lease.seq.0,
                connection.id = entry.connection,
                sink = %self.slot.name(),
                attempts = lease.attempts,
                retry_in_ms = millis(due.since(clock::now())),
                reason,
                "delivery failed; it is tried again"
            ),
            Outcome::Park { reason } => tracing::error!(
                event.id = entry.event_id,
                entry = lease.seq.0,
                connection.id = entry.connection,
                sink = %self.slot.name(),
                attempts = lease.attempts,
                reason,
                "delivery failed and the entry is parked; a person must act"
            ),
            _ => tracing::info!(
                event.id = entry.event_id,
                delivery.id = entry.delivery_id,
                entry = lease.seq.0,
                connection.id = entry.connection,
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
    use crate::inbox::{self, Certainty, Doubts, EntryFacts, Found, ReadingId, Seq, SinkId, Stage, double::Double};
    use bytes::Bytes;
    use delivery::{Body, Delivery, Sink, SinkName};
    use futures_util::StreamExt as _;
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
            inbox: Arc::new(Double { pages, broken, ..Double::default() }),
            metrics: Arc::new(Metrics::new()),
        }
    }

    /// A completed entry whose three accounts are on two pages.
    fn lease() -> Lease {
        let found = Found { accounts: 3, certainty: Certainty::AsAnnounced };
        let entry = EntryFacts {
            event_id: "e".to_owned(),
            delivery_id: "e".to_owned(),
            cloud_type: "com.linxo.connections.updated".to_owned(),
            connection: "7".to_owned(),
            user: None,
            channel: None,
            mode: None,
            created: None,
            accepted: clock::now(),
            account_count: Some(3),
            listed: 0,
            confirm: false,
            completion: Some(inbox::Completion::Fetched { reading: ReadingId(1), found }),
        };
        Lease {
            seq: Seq(1),
            stage: Stage::Sink(SinkId(1)),
            token: 1,
            expires: clock::now().after(Duration::from_mins(1)),
            attempts: 1,
            failing_since: None,
            doubts: Doubts::default(),
            entry: Arc::new(entry),
            body: Bytes::from_static(TRUNCATED.as_bytes()),
            _hold: Arc::new(()),
        }
    }

    fn counted(route: &Route, outcome: &'static str) -> u64 {
        route.metrics.deliveries.get_or_create(&SinkOutcome { sink: "app".to_owned(), outcome }).get()
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
                |outcome: &Outcome| matches!(outcome, Outcome::Park { reason } if reason == "no: it will never take this entry"),
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
