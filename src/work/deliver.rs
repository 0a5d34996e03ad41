//! Hands one entry to one sink.

use super::{
    Handler, Stop, millis,
    retry::{Doubt, Failed, Policy},
};
use crate::{
    inbox::{self, Error, Inbox, Lease, Outcome, ReadingId},
    metrics::{Metrics, SinkName, SinkOutcome},
    sink::{Attributes, Completion, Content, Delivery, Failure, FailureKind, Sink},
};
use async_trait::async_trait;
use base::clock::{self, Timestamp};
use event::{self, Event};
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
    /// Configured name.
    pub name: String,
    /// The destination.
    pub sink: Arc<dyn Sink>,
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
        let delivery = match self.delivery(lease).await {
            Ok(delivery) => delivery,
            Err(stop) => return stop.outcome(),
        };
        let started = Instant::now();
        let result = self.sink.deliver(&delivery).await;
        let took = started.elapsed();
        self.metrics.delivery_seconds.get_or_create(&SinkName { sink: self.name.clone() }).observe(took.as_secs_f64());
        let (word, outcome) = match result {
            Ok(()) => ("delivered", Outcome::Done),
            Err(failure) => self.after(lease, failure),
        };
        self.metrics.deliveries.get_or_create(&SinkOutcome { sink: self.name.clone(), outcome: word }).inc();
        self.log(lease, &delivery.attributes, took, &outcome);
        Ok(outcome)
    }
}

/// A delivery before it is addressed.
struct Parts {
    content: Content,
    completion: Completion,
    accounts: u64,
    user: Option<String>,
    channel: Option<String>,
    mode: Option<String>,
    /// When what the event tells of happened.
    time: Option<Timestamp>,
    mismatch: bool,
}

impl Route {
    /// Puts the delivery together.
    async fn delivery(&self, lease: &Lease) -> Result<Delivery, Stop> {
        let entry = &lease.entry;
        let parts = if entry.confirm { self.confirmed(lease).await? } else { self.believed(lease).await? };
        Ok(Delivery {
            attributes: Attributes {
                specversion: "1.0",
                id: entry.delivery_id.clone(),
                source: self.source.clone(),
                cloud_type: entry.cloud_type.clone(),
                subject: entry.connection.clone(),
                time: parts.time.and_then(Timestamp::to_rfc3339),
                datacontenttype: "application/json",
                linxouser: parts.user,
                linxochannel: parts.channel,
                linxomode: parts.mode,
                linxocompletion: parts.completion,
                linxoaccounts: parts.accounts,
                linxomismatch: parts.mismatch,
            },
            content: parts.content,
        })
    }

    /// The event as it came, with its accounts.
    async fn believed(&self, lease: &Lease) -> Result<Parts, Stop> {
        let entry = &lease.entry;
        let (content, completion, accounts, mismatch) = match entry.completion {
            None => (
                Content::whole(lease.body.clone()),
                Completion::Event,
                entry.listed,
                entry.account_count.is_some_and(|announced| announced != entry.listed),
            ),
            // The accounts stay as the event had them: none.
            Some(inbox::Completion::Gone) => (Content::whole(lease.body.clone()), Completion::Gone, 0, true),
            Some(inbox::Completion::Fetched { reading, found }) => {
                let splice = event::splice(&lease.body).map_err(|error| Stop::park(error.to_string()))?;
                let before = [splice.before, splice.member, b"["].concat();
                let after = [b"]", splice.after].concat();
                (self.completed(reading, before, after).await?, Completion::Api, found.accounts, found.differs(entry))
            }
        };
        Ok(Parts {
            content,
            completion,
            accounts,
            user: entry.user.clone(),
            channel: entry.channel.clone(),
            mode: entry.mode.clone(),
            time: entry.created.and_then(|seconds| seconds.checked_mul(1000)).map(Timestamp::from_millis),
            mismatch,
        })
    }

    /// An event that is only a hint: its address, and what the API says of the connection. No other member of the body is
    /// let through, under whatever name: a reader that ignores case would take `Resource` for `resource`.
    async fn confirmed(&self, lease: &Lease) -> Result<Parts, Stop> {
        let Some(inbox::Completion::Fetched { reading, found }) = lease.entry.completion else {
            return Err(Stop::park(
                "the event is only a hint, and the API has not confirmed it: replay it, or purge it",
            ));
        };
        let Some(connection) = self.inbox.connection(reading).await? else {
            return Err(Stop::park(
                "the connection that the API confirmed is not kept any more: replay the completion",
            ));
        };
        let Ok(hint) = Event::parse(&lease.body) else {
            return Err(Stop::park("the stored event cannot be read any more"));
        };
        let [id, event_type, resource_type] = [hint.id.as_str(), &hint.event_type, &hint.resource_type].map(quoted);
        let mut before =
            format!("{{\"id\":{id},\"event_type\":{event_type},\"resource_type\":{resource_type},\"resource\":")
                .into_bytes();
        // An object with an id (`linxo::Connection`), so that a member more always follows a comma.
        before.extend_from_slice(connection.strip_suffix(b"}").unwrap_or(&connection));
        before.extend_from_slice(format!(",\"account_count\":{},\"accounts\":[", found.accounts).as_bytes());
        Ok(Parts {
            content: self.completed(reading, before, b"]}}".to_vec()).await?,
            completion: Completion::Api,
            accounts: found.accounts,
            user: event::wire::user_of(&connection),
            channel: None,
            mode: None,
            // When it happened is a claim as well.
            time: Some(lease.entry.accepted),
            mismatch: found.differs(&lease.entry),
        })
    }

    /// The accounts of a reading between two texts.
    async fn completed(&self, reading: ReadingId, before: Vec<u8>, after: Vec<u8>) -> Result<Content, Error> {
        Content::completed(Arc::clone(&self.inbox), reading, before.into(), after.into()).await
    }

    fn after(&self, lease: &Lease, failure: Failure) -> (&'static str, Outcome) {
        let failed = Failed::of(lease, failure.reason, "mend the sink, then replay");
        let failed = match failure.kind {
            FailureKind::Gone => {
                return (
                    "parked",
                    Outcome::Park { reason: format!("{}: it will never take this entry", failed.reason) },
                );
            }
            FailureKind::Refused => Failed { doubt: Some(REFUSALS), ..failed },
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
                sink = self.name,
                attempts = lease.attempts,
                retry_in_ms = millis(due.since(clock::now())),
                reason,
                "delivery failed; it is tried again"
            ),
            Outcome::Park { reason } => tracing::error!(
                event.id = entry.event_id,
                entry = lease.seq.0,
                connection.id = entry.connection,
                sink = self.name,
                attempts = lease.attempts,
                reason,
                "delivery failed and the entry is parked; a person must act"
            ),
            _ => tracing::info!(
                event.id = entry.event_id,
                delivery.id = entry.delivery_id,
                entry = lease.seq.0,
                connection.id = entry.connection,
                sink = self.name,
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

/// A text as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
