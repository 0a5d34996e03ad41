//! Completes truncated events: finds or reads their accounts, and says how that ended.
//!
//! In: the lease of a completion. Out: a reading in the inbox that holds every account once, or a reason to wait or to
//! park. Pages are kept as they come, so that a crash or a failing page does not begin the list again; an event that is
//! older than a finished reading of its connection is completed by that reading without asking the API at all. How a list
//! is read is `listing`'s.
//!
//! What cannot go on without other credentials is parked with a sign of those that did not do. [`Completer::watch`] puts
//! it back in line when the sign of the present ones differs: a changed table, another client secret, a `[linxo]` section
//! where there was none. What changes at the vendor shows only by another event of the same user that succeeds; that puts
//! it back too.

use super::{
    Handler,
    listing::{Failure, Listing},
    millis,
    retry::{Failed, Policy},
};
use crate::{
    clock,
    error::chain,
    event::{ConnectionId, Event, Shape, UserId},
    inbox::{Awaiting, Error, Filter, Inbox, Lease, Outcome, ReadingId, State},
    linxo::{self, Client, Disposition, Peer},
    metrics::{self, Metrics},
    readiness::{Phase, Readiness},
};
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;

/// A reading that was left open is gone on with for this long; pages older than that may no longer fit together.
const RESUME_WITHIN: Duration = Duration::from_mins(10);
/// After this many attempts, an answer that is probably final counts as final.
const DOUBTS: u32 = 5;
/// Before the second look at a connection that the API does not know.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Between two looks whether credentials changed; longer where a look takes long.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Entries put back in line at once, so that accepting is never held up for long.
const REPLAY_BATCH: usize = 500;
/// The sign of having no `[linxo]` section.
const NO_API: &str = "none";

const POLICY: Policy = Policy { first: Duration::from_secs(1), longest: Duration::from_mins(5), give_up_after: None };

/// Completes truncated events.
pub struct Completer {
    /// `None` without a `[linxo]` section.
    client: ArcSwapOption<Client>,
    inbox: Arc<dyn Inbox>,
    metrics: Arc<Metrics>,
}

#[async_trait]
impl Handler for Completer {
    async fn handle(&self, lease: &Lease) -> Result<Outcome, Error> {
        let started = Instant::now();
        let outcome = self.complete(lease).await?;
        self.metrics.completion_seconds.observe(started.elapsed().as_secs_f64());
        self.log(lease, started.elapsed(), &outcome);
        Ok(outcome)
    }

    fn pause(&self) -> Option<Duration> {
        self.client.load().as_ref()?.pause()
    }
}

impl Completer {
    /// With the client that there is, if there is one.
    #[must_use]
    pub fn new(client: Option<Client>, inbox: Arc<dyn Inbox>, metrics: Arc<Metrics>) -> Self {
        Self { client: ArcSwapOption::from_pointee(client), inbox, metrics }
    }

    /// Goes on with another client, as with other credentials; what is under way ends with the old one.
    pub fn set_client(&self, client: Option<Client>) {
        self.client.store(client.map(Arc::new));
    }

    /// Puts parked work back in line when the credentials that it waits for change; runs until the process drains.
    pub async fn watch(self: Arc<Self>, readiness: Readiness) {
        loop {
            let started = Instant::now();
            if let Err(error) = self.look_for_changes().await {
                tracing::warn!(error = %chain(&error), "whether credentials changed could not be looked up; it is tried again");
            }
            let pause = WATCH_EVERY.max(started.elapsed() * 20);
            tokio::select! {
                () = readiness.reached(Phase::Draining) => return,
                () = time::sleep(pause) => {}
            }
        }
    }

    async fn look_for_changes(&self) -> Result<(), Error> {
        let client = self.client.load_full();
        let Some(client) = client else { return Ok(()) };
        for awaiting in self.inbox.awaiting(None).await? {
            let user = awaiting.user.clone().map(UserId::new);
            if client.credentials(user.as_ref()).await != awaiting.credentials {
                self.put_back(awaiting, "parked events are tried again: the credentials for them changed").await?;
            }
        }
        Ok(())
    }

    /// A user's accounts were read: what else of the user was refused may succeed now.
    async fn recovered(&self, user: &str) -> Result<(), Error> {
        for awaiting in self.inbox.awaiting(Some(user)).await? {
            self.put_back(awaiting, "parked events are tried again: another one of the same user succeeded").await?;
        }
        Ok(())
    }

    async fn put_back(&self, awaiting: Awaiting, why: &'static str) -> Result<(), Error> {
        let mut filter = Filter {
            state: Some(State::Parked),
            user: awaiting.user,
            credentials: Some(awaiting.credentials),
            ..Filter::default()
        };
        let mut entries = 0;
        loop {
            let batch = self.inbox.replay(&filter, REPLAY_BATCH).await?;
            entries += batch.changed;
            filter.after = batch.last;
            if batch.last.is_none() {
                break;
            }
        }
        if entries > 0 {
            tracing::info!(entries, user.id = filter.user, "{why}");
        }
        Ok(())
    }

    async fn complete(&self, lease: &Lease) -> Result<Outcome, Error> {
        let event = Event::parse(&lease.body);
        let expected = match event.as_ref().map(|event| &event.shape) {
            // A hint: how many accounts it claims means nothing. That a connection is there confirms that it was updated,
            // and no other kind of event: "deleted" would be the sender's word alone.
            _ if lease.entry.confirm => {
                if !event.is_ok_and(|event| event.is_documented()) {
                    return Ok(Outcome::Park {
                        reason: "the event is of a kind that this version cannot have confirmed by the API: purge it if it is forged; a newer version may know the kind, then replay it".to_owned(),
                    });
                }
                None
            }
            Ok(&Shape::Truncated { expected }) => Some(expected),
            // A newer version understands what an older one parked: nothing to fetch after all.
            Ok(Shape::Whole) => return Ok(Outcome::Done),
            Ok(Shape::Unclear) | Err(_) => {
                return Ok(Outcome::Park {
                    reason: "the event leaves its accounts out and cannot be understood: a newer version may know this form; then replay it".to_owned(),
                });
            }
        };
        let Some(client) = self.client.load_full() else {
            return Ok(Outcome::ParkUntil {
                reason: format!(
                    "the event leaves out its {}accounts and there is no [linxo] section to fetch them with: add one and restart",
                    expected.map(|expected| format!("{expected} ")).unwrap_or_default()
                ),
                credentials: NO_API.to_owned(),
            });
        };
        let user = lease.entry.user.clone().map(UserId::new);
        // Before anything is asked: were they looked up after a refusal, a change in between would never be noticed.
        let credentials = client.credentials(user.as_ref()).await;
        let reading = self.inbox.reading(lease, RESUME_WITHIN).await?;
        let id = reading.id;
        let connection = ConnectionId::new(lease.entry.connection.clone());
        if lease.entry.confirm
            && let Err(outcome) = self.confirm(lease, &client, id, &connection, &credentials).await?
        {
            return Ok(outcome);
        }
        if let Some(accounts) = reading.accounts {
            return Ok(Outcome::Completed { reading: id, accounts });
        }
        let bounds = client.bounds();
        let listing = Listing {
            client: &client,
            inbox: &*self.inbox,
            lease,
            reading: id,
            connection: &connection,
            user: user.as_ref(),
            expected,
            bounds,
        };
        let read = Box::pin(time::timeout(bounds.time, listing.read(reading))).await;
        match read {
            Ok(Ok(accounts)) => {
                if expected.is_some_and(|expected| accounts != expected) {
                    self.metrics.account_mismatch.inc();
                }
                if let Some(user) = &lease.entry.user {
                    self.recovered(user).await?;
                }
                Ok(Outcome::Completed { reading: id, accounts })
            }
            Ok(Err(Failure::Inbox(error))) => Err(error),
            Ok(Err(Failure::Bound(reason))) => Ok(Outcome::Park { reason }),
            Ok(Err(Failure::Api(error))) if error.disposition() == Disposition::Unknown => {
                time::sleep(SECOND_LOOK).await;
                Ok(match client.accounts(user.as_ref(), &connection, 1).await {
                    Err(error) if error.disposition() == Disposition::Unknown => {
                        self.metrics.account_mismatch.inc();
                        Outcome::Gone
                    }
                    Err(error) => after(lease, &error, credentials),
                    Ok(_) => {
                        let problem = "contradicts an earlier one: the connection was unknown a moment ago".to_owned();
                        after(lease, &linxo::Error::Answer { peer: Peer::Linxo, problem }, credentials)
                    }
                })
            }
            Ok(Err(Failure::Api(error))) => Ok(after(lease, &error, credentials)),
            Err(_elapsed) => Ok(Outcome::Park {
                reason: format!(
                    "the list of accounts took longer to read than linxo.list_timeout allows ({} s): raise it, then replay",
                    bounds.time.as_secs()
                ),
            }),
        }
    }

    /// Sees to it that a reading holds the connection as the API knows it; the inner error ends the lease instead.
    async fn confirm(
        &self,
        lease: &Lease,
        client: &Client,
        reading: ReadingId,
        connection: &ConnectionId,
        credentials: &str,
    ) -> Result<Result<(), Outcome>, Error> {
        if self.inbox.connection(reading).await?.is_some() {
            return Ok(Ok(()));
        }
        let user = lease.entry.user.clone().map(UserId::new);
        match client.connection(user.as_ref(), connection).await {
            Ok(found) if found.user.is_none() || found.user == user => {
                self.inbox.keep_connection(lease, reading, found.json).await?;
                Ok(Ok(()))
            }
            Ok(_) => Ok(Err(Outcome::Park {
                reason: "the API knows the connection as another user's than the event claims: the event is forged, or the vendor's data is wrong".to_owned(),
            })),
            // Not delivered as gone: then anybody could make connections disappear by posting events.
            Err(error) if error.disposition() == Disposition::Unknown => Ok(Err(Outcome::Park {
                reason: format!("{error}: the event is forged, or the connection was deleted; purge the entry, or replay it"),
            })),
            Err(error) => Ok(Err(after(lease, &error, credentials.to_owned()))),
        }
    }

    fn log(&self, lease: &Lease, took: Duration, outcome: &Outcome) {
        let entry = &lease.entry;
        let word = match outcome {
            Outcome::Completed { reading, accounts } => {
                tracing::info!(
                    event.id = entry.event_id,
                    entry = lease.seq.0,
                    connection.id = entry.connection,
                    accounts,
                    announced = entry.account_count,
                    reading = reading.0,
                    attempts = lease.attempts,
                    duration_ms = millis(took),
                    "event completed through the API"
                );
                "completed"
            }
            Outcome::Retry { due, reason } => {
                tracing::warn!(
                    event.id = entry.event_id,
                    entry = lease.seq.0,
                    connection.id = entry.connection,
                    attempts = lease.attempts,
                    retry_in_ms = millis(due.since(clock::now())),
                    reason,
                    "the accounts of an event could not be fetched; it is tried again"
                );
                "retry"
            }
            Outcome::Gone => {
                tracing::warn!(
                    event.id = entry.event_id,
                    entry = lease.seq.0,
                    connection.id = entry.connection,
                    announced = entry.account_count,
                    duration_ms = millis(took),
                    "the API does not know the connection any more; the event is delivered without accounts and says so"
                );
                "gone"
            }
            Outcome::Postpone { due, .. } => {
                tracing::debug!(
                    event.id = entry.event_id,
                    entry = lease.seq.0,
                    connection.id = entry.connection,
                    retry_in_ms = millis(due.since(clock::now())),
                    "an event waits until the API is asked again"
                );
                "paused"
            }
            Outcome::Park { reason } | Outcome::ParkUntil { reason, .. } => {
                tracing::error!(
                    event.id = entry.event_id,
                    entry = lease.seq.0,
                    connection.id = entry.connection,
                    attempts = lease.attempts,
                    reason,
                    "the accounts of an event could not be fetched and the entry is parked; a person must act"
                );
                "parked"
            }
            Outcome::Done | Outcome::GiveBack => "completed",
        };
        self.metrics.completions.get_or_create(&metrics::Outcome { outcome: word }).inc();
    }
}

/// How an API error ends the lease.
fn after(lease: &Lease, error: &linxo::Error, credentials: String) -> Outcome {
    let final_reason = || format!("{error}: {}", error.remedy());
    let wanted = match error.disposition() {
        Disposition::Paused { after } => {
            // A little later than that, each at another time, so that they do not come all at once.
            let jitter = Duration::from_millis(fastrand::u64(..250));
            return Outcome::Postpone { due: clock::now().after(after + jitter), reason: error.to_string() };
        }
        Disposition::Credentials => return Outcome::ParkUntil { reason: final_reason(), credentials },
        Disposition::Doubtful if lease.attempts < DOUBTS => None,
        Disposition::Doubtful if error.awaits_credentials() => {
            return Outcome::ParkUntil { reason: final_reason(), credentials };
        }
        Disposition::Doubtful | Disposition::Permanent | Disposition::Unknown => {
            return Outcome::Park { reason: final_reason() };
        }
        Disposition::Transient { after } => after,
    };
    let failed = Failed { attempts: lease.attempts, failing_since: lease.failing_since, after: wanted };
    POLICY.decide(failed, clock::now(), fastrand::u64(..), chain(error))
}
