//! Gets the accounts that an event left out: finds or reads them, and says how that ended.
//!
//! In: the lease of a fetch. Out: a reading in the inbox that holds every account once, or a reason to wait or to park.
//! Pages are kept as they come, so that a crash or a failing page does not begin the list again. An event that is older
//! than a finished reading of its connection is given that reading, without asking the API at all. How a list is read is
//! the business of `listing`.

use super::{
    super::retry::{Doubt, Failed, Policy},
    Fetcher,
    listing::{Failure, Listing},
};
use base::{clock, error::chain};
use event::{Event, Shape};
use inbox::{Cause, Certainty, CredentialsMark, Error, Facts, Found, Lease, Outcome, Reading, ReadingId};
use linxo::{
    Client, Disposition, Peer,
    credentials::{Fingerprint, Lacking},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::{Duration, Instant};
use tokio::time;

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
/// What fetches of accounts count.
#[derive(Clone, Debug)]
pub struct Figures {
    completions: Family<Completed, Counter>,
    seconds: Histogram,
    mismatch: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Completed {
    /// `completed`, `gone`, `retry`, `parked`, `paused`
    outcome: &'static str,
}

impl Figures {
    /// Registers the figures.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self {
            completions: Family::default(),
            seconds: crate::observe::metrics::seconds(),
            mismatch: Counter::default(),
        };
        registry.register("completions", "Completions by outcome", this.completions.clone());
        registry.register_with_unit(
            "completion",
            "From the start of a completion to its end",
            Unit::Seconds,
            this.seconds.clone(),
        );
        registry.register(
            "account_mismatch",
            "Deliveries whose number of accounts differs from the announced one",
            this.mismatch.clone(),
        );
        this
    }

    fn count(&self, lease: &Lease, took: Duration, outcome: &Outcome) {
        if differs(&lease.entry, outcome) {
            self.mismatch.inc();
        }
        self.seconds.observe(took.as_secs_f64());
        let outcome = match outcome {
            Outcome::Retry { .. } => "retry",
            Outcome::Gone => "gone",
            Outcome::Postpone { .. } => "paused",
            Outcome::Park { .. } => "parked",
            Outcome::Fetched { .. } | Outcome::Done | Outcome::GiveBack => "completed",
        };
        self.completions.get_or_create(&Completed { outcome }).inc();
    }
}

/// Works on one lease.
pub(super) async fn handle(fetcher: &Fetcher, lease: &Lease) -> Result<Outcome, Error> {
    let started = Instant::now();
    let outcome = match fetcher.complete(lease).await {
        Ok(outcome) | Err(Stop::Ends(outcome)) => outcome,
        Err(Stop::Inbox(error)) => return Err(error),
    };
    fetcher.figures.count(lease, started.elapsed(), &outcome);
    log(lease, started.elapsed(), &outcome);
    Ok(outcome)
}

/// Why a fetch went no further.
enum Stop {
    /// The lease ends like this.
    Ends(Outcome),
    /// The inbox failed.
    Inbox(Error),
}

impl Stop {
    fn park(cause: Cause, reason: impl Into<String>) -> Self {
        Self::Ends(Outcome::Park { cause, reason: reason.into() })
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Inbox(error)
    }
}

impl Fetcher {
    /// From the event to its accounts, by way of a reading that does for it.
    async fn complete(&self, lease: &Lease) -> Result<Outcome, Stop> {
        let expected = announced(lease)?;
        let client = self.source.client().ok_or_else(|| without_api(expected))?;
        let credentials = client.fingerprint(lease.entry.user.as_ref()).await;
        let task = Task { lease, client: &client, expected, credentials };
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
            self.credentials.are_good(user, &lease.entry.connection).await?;
        }
        Ok(Outcome::Fetched { reading: id, found })
    }

    /// A reading that is younger than the event: finished for another event and good for this one too, begun earlier, or new.
    async fn reading(&self, task: &Task<'_>) -> Result<Reading, Stop> {
        let reading = self.readings.find_or_begin(task.lease, RESUME_WITHIN).await?;
        match reading.found {
            // What was as announced to one event may contradict another, and is too little where nobody is believed.
            Some(Found { accounts, certainty: Certainty::AsAnnounced })
                if task.expected != Some(accounts) || task.client.bounds().always_reread =>
            {
                Ok(self.readings.begin(task.lease).await?)
            }
            _ => Ok(reading),
        }
    }

    /// Sees to it that a reading holds the connection as the API knows it.
    async fn confirm(&self, task: &Task<'_>, reading: ReadingId) -> Result<(), Stop> {
        if self.shelf.connection(reading).await?.is_some() {
            return Ok(());
        }
        let entry = &task.lease.entry;
        match task.client.connection(entry.user.as_ref(), &entry.connection).await {
            Ok(found) if found.user.is_none() || found.user == entry.user => {
                Ok(self.readings.keep_connection(task.lease, reading, found.json).await?)
            }
            Ok(_) => Err(Stop::park(
                Cause::Unconfirmed,
                "the API knows the connection as another user's than the event claims: the event is forged, or the vendor's data is wrong",
            )),
            Err(error) if error.disposition() == Disposition::Gone => Err(unconfirmed(&error)),
            Err(error) => Err(task.failed(&error)),
        }
    }

    /// Reads the list of accounts.
    async fn read(&self, task: &Task<'_>, reading: Reading) -> Result<Found, Stop> {
        let bounds = task.client.bounds();
        let listing = Listing {
            client: task.client,
            readings: &*self.readings,
            shelf: &*self.shelf,
            lease: task.lease,
            reading: reading.id,
            connection: &task.lease.entry.connection,
            user: task.lease.entry.user.as_ref(),
            expected: task.expected,
            bounds,
        };
        match Box::pin(time::timeout(bounds.time, listing.read(reading))).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Failure::Inbox(error))) => Err(error.into()),
            Ok(Err(Failure::Bound(reason))) => Err(Stop::park(Cause::Limit, reason)),
            Ok(Err(Failure::Api(error))) if error.disposition() == Disposition::Gone => Err(gone(task).await),
            Ok(Err(Failure::Api(error))) => Err(task.failed(&error)),
            Err(_elapsed) => Err(Stop::park(
                Cause::Limit,
                format!(
                    "the list of accounts took longer to read than linxo.list_timeout allows ({} s): raise it, then replay",
                    bounds.time.as_secs()
                ),
            )),
        }
    }
}

fn log(lease: &Lease, took: Duration, outcome: &Outcome) {
    let entry = &lease.entry;
    let now = clock::now();
    match outcome {
        Outcome::Fetched { reading, found } => tracing::info!(
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            accounts = found.accounts,
            announced = entry.account_count,
            reading = reading.0,
            attempts = lease.attempts,
            duration_ms = base::clock::millis(took),
            "event completed through the API"
        ),
        Outcome::Retry { due, reason, .. } => tracing::warn!(
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            attempts = lease.attempts,
            retry_in_ms = base::clock::millis(due.since(now)),
            reason,
            "the accounts of an event could not be fetched; it is tried again"
        ),
        Outcome::Gone => tracing::warn!(
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            announced = entry.account_count,
            duration_ms = base::clock::millis(took),
            "the API does not know the connection any more; the event is delivered without accounts and says so"
        ),
        Outcome::Postpone { due, .. } => tracing::debug!(
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            retry_in_ms = base::clock::millis(due.since(now)),
            "an event waits until the API is asked again"
        ),
        Outcome::Park { reason, .. } => tracing::error!(
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            attempts = lease.attempts,
            reason,
            "the accounts of an event could not be fetched and the entry is parked; a person must act"
        ),
        Outcome::Done | Outcome::GiveBack => {}
    }
}

/// One completion, as far as the API is concerned.
struct Task<'a> {
    lease: &'a Lease,
    client: &'a Client,
    /// The announced number of accounts; `None` for a hint, whose claims mean nothing.
    expected: Option<u64>,
    /// Of the credentials, from before anything was asked: a fingerprint taken after a refusal would hide a change in between.
    credentials: Fingerprint,
}

impl Task<'_> {
    /// How an API error ends the lease.
    fn failed(&self, error: &linxo::Error) -> Stop {
        let cause = |otherwise| match error.lacking(self.credentials) {
            Some(lacking) => Cause::Credentials(CredentialsMark::new(lacking.to_string())),
            None => otherwise,
        };
        let failed = Failed::of(self.lease, chain(error), error.remedy());
        let failed = match error.disposition() {
            Disposition::Paused { after } => {
                // A little later than that, each at another time, so that they do not come all at once.
                let jitter = Duration::from_millis(fastrand::u64(..250));
                let due = clock::now().after(after + jitter);
                return Stop::Ends(Outcome::Postpone { due, reason: error.to_string() });
            }
            Disposition::Credentials | Disposition::Permanent | Disposition::Gone => {
                return Stop::park(cause(Cause::Refused), format!("{}: {}", failed.reason, failed.remedy));
            }
            Disposition::Doubtful => Failed { doubt: Some(REFUSED), ..failed },
            Disposition::Unusable => Failed { doubt: Some(UNUSABLE), ..failed },
            Disposition::Transient { after } => Failed { after, ..failed },
        };
        let policy = Policy { first: FIRST_WAIT, longest: LONGEST_WAIT, give_up_after: self.client.retry_for() };
        Stop::Ends(match policy.decide(failed, clock::now(), fastrand::u64(..)) {
            Outcome::Park { cause: judged, reason } => Outcome::Park { cause: cause(judged), reason },
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
                Cause::Unconfirmed,
                "the event is of a kind that this version cannot have confirmed by the API: purge it if it is forged; a newer version may know the kind, then replay it",
            )),
        };
    }
    match event.map(|event| event.shape) {
        Ok(Shape::Truncated { expected }) => Ok(Some(expected)),
        // A newer version understands what an older one parked: nothing to fetch after all.
        Ok(Shape::Whole) => Err(Stop::Ends(Outcome::Done)),
        Ok(Shape::Unclear) | Err(_) => Err(Stop::park(
            Cause::Unclear,
            "the event leaves its accounts out and cannot be understood: a newer version may know this form; then replay it",
        )),
    }
}

/// There is nothing to ask.
fn without_api(expected: Option<u64>) -> Stop {
    let reason = format!(
        "the event leaves out its {}accounts and there is no [linxo] section to fetch them with: add one and restart",
        expected.map(|expected| format!("{expected} ")).unwrap_or_default()
    );
    Stop::park(Cause::Credentials(CredentialsMark::new(Lacking::Api.to_string())), reason)
}

/// The API does not know the connection whose accounts were asked for: how that ends, after a second look.
async fn gone(task: &Task<'_>) -> Stop {
    time::sleep(SECOND_LOOK).await;
    match task.client.accounts(task.lease.entry.user.as_ref(), &task.lease.entry.connection, 1).await {
        Err(error) if error.disposition() == Disposition::Gone && task.lease.entry.confirm => unconfirmed(&error),
        Err(error) if error.disposition() == Disposition::Gone => Stop::Ends(Outcome::Gone),
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
    Stop::park(
        Cause::Unconfirmed,
        format!("{error}: the event is forged, or the connection was deleted; purge the entry, or replay it"),
    )
}

/// Whether what is delivered differs from what the event announced, or may hold what is gone.
fn differs(entry: &Facts, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Fetched { found, .. } => found.differs(entry),
        Outcome::Gone => true,
        _ => false,
    }
}
