//! Hands one entry to one sink.

use super::{
    Handler, millis,
    retry::{Failed, Policy},
};
use crate::{
    clock::{self, Timestamp},
    event,
    inbox::{self, Error, Inbox, Lease, Outcome, ReadingId},
    metrics::{Metrics, SinkName, SinkOutcome},
    sink::{Attributes, Completion, Content, Delivery, Failure, FailureKind, Sink},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// After this many refusals (4xx) an entry is parked.
const REFUSALS: u32 = 5;
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
        let delivery = match self.delivery(lease).await? {
            Ok(delivery) => delivery,
            Err(error) => return Ok(Outcome::Park { reason: error.to_string() }),
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

/// What stands before and behind the accounts of a delivery.
struct Around {
    before: Bytes,
    after: Bytes,
    /// Mode of the channel that the event is about.
    mode: Option<String>,
}

impl Route {
    /// Puts the delivery together; the inner error parks the entry.
    async fn delivery(&self, lease: &Lease) -> Result<Result<Delivery, event::SpliceError>, Error> {
        let entry = &lease.entry;
        let mut mode = entry.mode.clone();
        let (content, completion, accounts) = match entry.completion {
            None => (Content::whole(lease.body.clone()), Completion::Event, entry.listed),
            // The accounts stay as the event had them: none.
            Some(inbox::Completion::Gone) => (Content::whole(lease.body.clone()), Completion::Gone, 0),
            Some(inbox::Completion::Fetched { reading, accounts }) => {
                let around = if entry.confirm {
                    self.around_confirmed(lease, reading, accounts).await?
                } else {
                    event::splice(&lease.body).map(|splice| Around {
                        before: [splice.before, splice.member, b"["].concat().into(),
                        after: [b"]", splice.after].concat().into(),
                        mode: entry.mode.clone(),
                    })
                };
                let around = match around {
                    Ok(around) => around,
                    Err(error) => return Ok(Err(error)),
                };
                mode = around.mode;
                let store = Arc::clone(&self.inbox);
                let content = Content::completed(store, reading, around.before, around.after).await?;
                (content, Completion::Api, accounts)
            }
        };
        let attributes = Attributes {
            specversion: "1.0",
            id: entry.delivery_id.clone(),
            source: self.source.clone(),
            cloud_type: entry.cloud_type.clone(),
            subject: entry.connection.clone(),
            time: entry
                .created
                .and_then(|seconds| seconds.checked_mul(1000))
                .and_then(|millis| Timestamp::from_millis(millis).to_rfc3339()),
            datacontenttype: "application/json",
            linxouser: entry.user.clone(),
            linxochannel: entry.channel.clone(),
            linxomode: mode,
            linxocompletion: completion,
            linxoaccounts: accounts,
            linxomismatch: !entry.confirm && entry.account_count.is_some_and(|announced| announced != accounts),
        };
        Ok(Ok(Delivery { attributes, content }))
    }

    /// A hint's event with the resource that the API knows in the place of its own.
    async fn around_confirmed(
        &self,
        lease: &Lease,
        reading: ReadingId,
        accounts: u64,
    ) -> Result<Result<Around, event::SpliceError>, Error> {
        let connection = self.inbox.connection(reading).await?.unwrap_or_default();
        // An object with an id (`linxo::Connection`), so that a member more always follows a comma.
        let open = connection.strip_suffix(b"}").unwrap_or(&connection);
        let count = format!(",\"account_count\":{accounts},\"accounts\":[");
        Ok(event::around_resource(&lease.body).map(|(before, after)| Around {
            before: [before, open, count.as_bytes()].concat().into(),
            after: [b"]}", after].concat().into(),
            mode: lease.entry.channel.as_deref().and_then(|channel| event::wire::mode_of(&connection, channel)),
        }))
    }

    fn after(&self, lease: &Lease, failure: Failure) -> (&'static str, Outcome) {
        let park = |reason: String| ("parked", Outcome::Park { reason });
        let after = match failure.kind {
            FailureKind::Gone => return park(format!("{}: it will never take this entry", failure.reason)),
            FailureKind::Refused if lease.attempts >= REFUSALS => {
                return park(format!("{}; given up after {} attempts", failure.reason, lease.attempts));
            }
            FailureKind::Refused => None,
            FailureKind::Transient { after } => after,
        };
        let policy =
            Policy { first: Duration::from_secs(1), longest: LONGEST_WAIT, give_up_after: Some(self.retry_for) };
        let failed = Failed { attempts: lease.attempts, failing_since: lease.failing_since, after };
        match policy.decide(failed, clock::now(), fastrand::u64(..), failure.reason) {
            outcome @ Outcome::Park { .. } => ("parked", outcome),
            outcome => ("retry", outcome),
        }
    }

    fn log(&self, lease: &Lease, attributes: &Attributes, took: Duration, outcome: &Outcome) {
        let entry = &lease.entry;
        match outcome {
            Outcome::Retry { due, reason } => tracing::warn!(
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
