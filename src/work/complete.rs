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
    Handler, Stop,
    listing::{Failure, Listing},
    millis,
    retry::{Doubt, Failed, Policy},
};
use crate::{
    inbox::{Certainty, EntryFacts, Error, Filter, Found, Inbox, Lease, Outcome, Reading, ReadingId, State},
    linxo::{self, Client, Disposition, Peer},
    metrics::{self, Metrics},
};
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use base::{clock, error::chain};
use event::{ConnectionId, Event, Shape, UserId};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;
use tokio_util::sync::CancellationToken;

/// A reading that was left open is gone on with for this long after its last page: longer than any one wait between two
/// tries, of which `Retry-After` can make an hour.
const RESUME_WITHIN: Duration = Duration::from_hours(2);
/// When a refusal that a proxy or a portal gives as well is believed.
const REFUSED: Doubt = Doubt { tries: 5, lasting: Duration::from_hours(1) };
/// When answers that cannot be used are taken for more than an outage in disguise.
const UNUSABLE: Doubt = Doubt { tries: 5, lasting: Duration::from_hours(24) };
/// Before the second try; doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Between two tries, but for what the API asks for.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Before the second look at a connection that the API does not know.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Between two looks whether credentials changed; longer where a look takes long.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Entries put back in line at once, so that accepting is never held up for long.
const REPLAY_BATCH: usize = 500;
/// The sign of having no `[linxo]` section.
const NO_API: &str = "none";

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
        let outcome = self.complete(lease).await.or_else(Stop::outcome)?;
        if differs(&lease.entry, &outcome) {
            self.metrics.account_mismatch.inc();
        }
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

    /// The client that is in use.
    #[must_use]
    pub fn client(&self) -> Option<Arc<Client>> {
        self.client.load_full()
    }

    /// Goes on with another client, as with other credentials; what is under way ends with the old one.
    pub fn set_client(&self, client: Option<Client>) {
        self.client.store(client.map(Arc::new));
    }

    /// Puts parked work back in line when the credentials that it waits for change; runs until `stop` is cancelled.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let started = Instant::now();
            if let Err(error) = self.look_for_changes().await {
                tracing::warn!(error = %chain(&error), "whether credentials changed could not be looked up; it is tried again");
            }
            let pause = WATCH_EVERY.max(started.elapsed() * 20);
            tokio::select! {
                () = stop.cancelled() => return,
                () = time::sleep(pause) => {}
            }
        }
    }

    async fn look_for_changes(&self) -> Result<(), Error> {
        let client = self.client.load_full();
        let Some(client) = client else { return Ok(()) };
        // The same credentials serve all connections of a user: they are judged once, and replayed together.
        let mut awaited: Vec<_> =
            self.inbox.awaiting(None).await?.into_iter().map(|of| (of.user, of.credentials)).collect();
        awaited.sort_unstable();
        awaited.dedup();
        let mut entries = 0;
        for (user, credentials) in awaited {
            if client.may_help(user.clone().map(UserId::new).as_ref(), &credentials).await {
                entries += self.put_back(parked(user, None, credentials)).await?;
            }
        }
        if entries > 0 {
            tracing::info!(
                entries,
                "parked events are tried again: the credentials for them changed, or give a token again"
            );
        }
        Ok(())
    }

    /// A user's accounts were read: what else of the user was refused may succeed now. Of that connection everything is put
    /// back in line, of each other one the first entry only: should that succeed, it brings the rest along.
    async fn recovered(&self, user: &str, connection: &str) -> Result<(), Error> {
        let mut entries = 0;
        let mut tried = HashSet::new();
        for awaiting in self.inbox.awaiting(Some(user)).await? {
            let filter = parked(awaiting.user, Some(awaiting.connection.clone()), awaiting.credentials);
            if awaiting.connection == connection {
                entries += self.put_back(filter).await?;
            } else if tried.insert(awaiting.connection) {
                entries += self.inbox.replay(&filter, 1).await?.changed;
            }
        }
        if entries > 0 {
            tracing::info!(
                entries,
                user.id = user,
                "parked events are tried again: another one of the same user succeeded"
            );
        }
        Ok(())
    }

    /// Puts everything that matches back in line; says how many entries that were.
    async fn put_back(&self, mut filter: Filter) -> Result<u64, Error> {
        let mut entries = 0;
        loop {
            let batch = self.inbox.replay(&filter, REPLAY_BATCH).await?;
            entries += batch.changed;
            filter.after = batch.last;
            if batch.last.is_none() {
                return Ok(entries);
            }
        }
    }

    /// From the event to its accounts, by way of a reading that does for it.
    async fn complete(&self, lease: &Lease) -> Result<Outcome, Stop> {
        let expected = announced(lease)?;
        let client = self.client.load_full().ok_or_else(|| without_api(expected))?;
        let user = lease.entry.user.clone().map(UserId::new);
        let task = Task {
            lease,
            client: &client,
            connection: ConnectionId::new(lease.entry.connection.clone()),
            expected,
            credentials: client.credentials(user.as_ref()).await,
            user,
        };
        let reading = self.reading(&task).await?;
        let id = reading.id;
        if lease.entry.confirm {
            self.confirm(&task, id).await?;
        }
        let found = match reading.found {
            Some(found) => found,
            None => self.read(&task, reading).await?,
        };
        if let Some(user) = &lease.entry.user {
            self.recovered(user, &lease.entry.connection).await?;
        }
        Ok(Outcome::Completed { reading: id, found })
    }

    /// A reading that is younger than the event: finished for another event and good for this one too, begun earlier, or new.
    async fn reading(&self, task: &Task<'_>) -> Result<Reading, Stop> {
        let reading = self.inbox.reading(task.lease, RESUME_WITHIN).await?;
        match reading.found {
            // What was as announced to one event may contradict another, and is too little where nobody is believed.
            Some(Found { accounts, certainty: Certainty::AsAnnounced })
                if task.expected != Some(accounts) || task.client.bounds().always_reread =>
            {
                Ok(self.inbox.begin_reading(task.lease).await?)
            }
            _ => Ok(reading),
        }
    }

    /// Sees to it that a reading holds the connection as the API knows it.
    async fn confirm(&self, task: &Task<'_>, reading: ReadingId) -> Result<(), Stop> {
        if self.inbox.connection(reading).await?.is_some() {
            return Ok(());
        }
        match task.client.connection(task.user.as_ref(), &task.connection).await {
            Ok(found) if found.user.is_none() || found.user == task.user => {
                Ok(self.inbox.keep_connection(task.lease, reading, found.json).await?)
            }
            Ok(_) => Err(Stop::park(
                "the API knows the connection as another user's than the event claims: the event is forged, or the vendor's data is wrong",
            )),
            Err(error) if error.disposition() == Disposition::Unknown => Err(unconfirmed(&error)),
            Err(error) => Err(task.failed(&error)),
        }
    }

    /// Reads the list of accounts.
    async fn read(&self, task: &Task<'_>, reading: Reading) -> Result<Found, Stop> {
        let bounds = task.client.bounds();
        let listing = Listing {
            client: task.client,
            inbox: &*self.inbox,
            lease: task.lease,
            reading: reading.id,
            connection: &task.connection,
            user: task.user.as_ref(),
            expected: task.expected,
            bounds,
        };
        match Box::pin(time::timeout(bounds.time, listing.read(reading))).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Failure::Inbox(error))) => Err(error.into()),
            Ok(Err(Failure::Bound(reason))) => Err(Stop::park(reason)),
            Ok(Err(Failure::Api(error))) if error.disposition() == Disposition::Unknown => Err(gone(task).await),
            Ok(Err(Failure::Api(error))) => Err(task.failed(&error)),
            Err(_elapsed) => Err(Stop::park(format!(
                "the list of accounts took longer to read than linxo.list_timeout allows ({} s): raise it, then replay",
                bounds.time.as_secs()
            ))),
        }
    }

    fn log(&self, lease: &Lease, took: Duration, outcome: &Outcome) {
        let entry = &lease.entry;
        let word = match outcome {
            Outcome::Completed { reading, found } => {
                tracing::info!(
                    event.id = entry.event_id,
                    entry = lease.seq.0,
                    connection.id = entry.connection,
                    accounts = found.accounts,
                    announced = entry.account_count,
                    reading = reading.0,
                    attempts = lease.attempts,
                    duration_ms = millis(took),
                    "event completed through the API"
                );
                "completed"
            }
            Outcome::Retry { due, reason, .. } => {
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

/// One completion, as far as the API is concerned.
struct Task<'a> {
    lease: &'a Lease,
    client: &'a Client,
    connection: ConnectionId,
    user: Option<UserId>,
    /// The announced number of accounts; `None` for a hint, whose claims mean nothing.
    expected: Option<u64>,
    /// The sign of the credentials, from before anything was asked: were they looked up after a refusal, a change in
    /// between would never be noticed.
    credentials: String,
}

impl Task<'_> {
    /// How an API error ends the lease.
    fn failed(&self, error: &linxo::Error) -> Stop {
        let park = |reason| {
            if error.awaits_credentials() {
                Outcome::ParkUntil { reason, credentials: error.sign(self.credentials.clone()) }
            } else {
                Outcome::Park { reason }
            }
        };
        let failed = Failed::of(self.lease, chain(error), error.remedy());
        let failed = match error.disposition() {
            Disposition::Paused { after } => {
                // A little later than that, each at another time, so that they do not come all at once.
                let jitter = Duration::from_millis(fastrand::u64(..250));
                let due = clock::now().after(after + jitter);
                return Stop::Ends(Outcome::Postpone { due, reason: error.to_string() });
            }
            Disposition::Credentials | Disposition::Permanent | Disposition::Unknown => {
                return Stop::Ends(park(format!("{}: {}", failed.reason, failed.remedy)));
            }
            Disposition::Doubtful => Failed { doubt: Some(REFUSED), ..failed },
            Disposition::Unusable => Failed { doubt: Some(UNUSABLE), ..failed },
            Disposition::Transient { after } => Failed { after, ..failed },
        };
        let policy = Policy { first: FIRST_WAIT, longest: LONGEST_WAIT, give_up_after: self.client.retry_for() };
        Stop::Ends(match policy.decide(failed, clock::now(), fastrand::u64(..)) {
            Outcome::Park { reason } => park(reason),
            outcome => outcome,
        })
    }
}

/// What an event says of its number of accounts; `None` for a hint.
fn announced(lease: &Lease) -> Result<Option<u64>, Stop> {
    let event = Event::parse(&lease.body);
    if lease.entry.confirm {
        // That a connection is there confirms that it was updated, and no other kind of event: "deleted" would be the
        // sender's word alone.
        return match event {
            Ok(event) if event.is_documented() => Ok(None),
            _ => Err(Stop::park(
                "the event is of a kind that this version cannot have confirmed by the API: purge it if it is forged; a newer version may know the kind, then replay it",
            )),
        };
    }
    match event.map(|event| event.shape) {
        Ok(Shape::Truncated { expected }) => Ok(Some(expected)),
        // A newer version understands what an older one parked: nothing to fetch after all.
        Ok(Shape::Whole) => Err(Stop::Ends(Outcome::Done)),
        Ok(Shape::Unclear) | Err(_) => Err(Stop::park(
            "the event leaves its accounts out and cannot be understood: a newer version may know this form; then replay it",
        )),
    }
}

/// There is nothing to ask.
fn without_api(expected: Option<u64>) -> Stop {
    Stop::Ends(Outcome::ParkUntil {
        reason: format!(
            "the event leaves out its {}accounts and there is no [linxo] section to fetch them with: add one and restart",
            expected.map(|expected| format!("{expected} ")).unwrap_or_default()
        ),
        credentials: NO_API.to_owned(),
    })
}

/// The API does not know the connection whose accounts were asked for: how that ends, after a second look.
async fn gone(task: &Task<'_>) -> Stop {
    time::sleep(SECOND_LOOK).await;
    match task.client.accounts(task.user.as_ref(), &task.connection, 1).await {
        Err(error) if error.disposition() == Disposition::Unknown && task.lease.entry.confirm => unconfirmed(&error),
        Err(error) if error.disposition() == Disposition::Unknown => Stop::Ends(Outcome::Gone),
        Err(error) => task.failed(&error),
        Ok(_) => {
            let problem = "contradicts an earlier one: the connection was unknown a moment ago".to_owned();
            task.failed(&linxo::Error::Answer { peer: Peer::Linxo, problem })
        }
    }
}

/// The API does not know a connection that an event only hinted at. Not delivered as gone: then anybody could make
/// connections disappear by posting events.
fn unconfirmed(error: &linxo::Error) -> Stop {
    Stop::park(format!("{error}: the event is forged, or the connection was deleted; purge the entry, or replay it"))
}

/// Whether what is delivered differs from what the event announced, or may hold what is gone.
fn differs(entry: &EntryFacts, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Completed { found, .. } => found.differs(entry),
        Outcome::Gone => true,
        _ => false,
    }
}

/// Everything that waits for the same; of one connection, where one is named.
fn parked(user: Option<String>, connection: Option<String>, credentials: String) -> Filter {
    Filter { state: Some(State::Parked), user, connection, credentials: Some(credentials), ..Filter::default() }
}
