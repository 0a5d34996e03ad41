//! Gets the accounts that an event left out: finds or reads them, and says how that ended.
//!
//! In: the lease of a fetch. Out: a reading in the inbox that holds every account once, or a reason to wait or to park.
//! Pages are kept as they come, so that a crash or a failing page does not begin the list again. An event that is older
//! than a finished reading of its connection is given that reading, without asking the API at all. How a list is read is
//! the business of `listing`.

use super::{
    super::{
        retry::{Failed, Policy},
        spans::{self, Calls},
    },
    fetcher::Fetcher,
    listing::{Failure, Listing},
    settling,
};
use base::{clock, error::chain, trust::Proof};
use event::{Event, Shape};
use inbox::{Cause, Certainty, CredentialsMark, Error, Found, Lease, Outcome, Reading, ReadingId, Shortfall};
use linxo::{
    Client, Disposition, Peer,
    credentials::{Fingerprint, Lacking},
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};
use tokio::time;

/// A reading that was left open is gone on with for this long after its last page: longer than any one wait between two
/// tries, of which `Retry-After` can make an hour.
const RESUME_WITHIN: Duration = Duration::from_hours(2);
/// When a refusal is believed: a deployment, a proxy or a portal refuses as well.
const REFUSED: Proof = Proof::USUAL;
/// When answers that cannot be used are taken for more than an outage in disguise.
const UNUSABLE: Proof = Proof { tries: 5, lasting: Duration::from_hours(24) };
/// Before the second try; doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Between two tries, but for what the API asks for.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Before the second look at a connection that the API does not know.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// How long a list that goes on well may hold its slot while other events wait for one. It is gone on with when it is its turn again.
const TURN: Duration = Duration::from_secs(2);

/// Works on one lease.
pub(super) async fn handle(fetcher: &Fetcher, lease: &Lease) -> Result<Outcome, Error> {
    let started = Instant::now();
    let mut span = spans::completion(&fetcher.tracer, lease, started);
    let outcome = match fetcher.complete(lease, Calls::new(&fetcher.tracer, &span)).await {
        Ok(outcome) | Err(Stop::Ends(outcome)) => outcome,
        Err(Stop::Inbox(error)) => {
            span.failed("inbox", "the inbox failed");
            return Err(error);
        }
    };
    if let (Outcome::Park { cause: Cause::Credentials(_), .. }, Some(user)) = (&outcome, &lease.entry.user) {
        fetcher.credentials.waits(user);
    }
    fetcher.figures.count(lease, started.elapsed(), &outcome);
    spans::completed(&mut span, &outcome);
    log(lease, started.elapsed(), span.trace_id(), &outcome);
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
    async fn complete(&self, lease: &Lease, calls: Calls<'_>) -> Result<Outcome, Stop> {
        if self.filters.leave_out(&lease.entry) {
            return Ok(Outcome::Unneeded);
        }
        let expected = announced(lease)?;
        let client = self.source.client().ok_or_else(|| without_api(expected))?;
        let credentials = client.fingerprint(lease.entry.user.as_ref()).await;
        let task = Task { lease, client: &client, expected, credentials, calls };
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
            Some(found @ Found { certainty: Certainty::AsAnnounced, .. })
                if task.expected != Some(found.received()) || task.client.bounds().always_reread =>
            {
                Ok(self.readings.begin(task.lease).await?)
            }
            // What was short when another event was completed may be whole by now.
            Some(found) if self.is_short(task, found).await? => Ok(self.readings.begin(task.lease).await?),
            _ => Ok(reading),
        }
    }

    /// Whether a list that was read for another event is too short for this one, for which it may be ready by now.
    async fn is_short(&self, task: &Task<'_>, found: Found) -> Result<bool, Stop> {
        let Some(short) = task.expected.and_then(|expected| found.shortfall(expected)) else { return Ok(false) };
        Ok(task.next_look().is_some() && self.readings.last_shortfall(task.lease).await? != Some(short))
    }

    /// Sees to it that a reading holds the connection as the API knows it.
    async fn confirm(&self, task: &Task<'_>, reading: ReadingId) -> Result<(), Stop> {
        if self.shelf.connection(reading).await?.is_some() {
            return Ok(());
        }
        let entry = &task.lease.entry;
        let told = task.calls.connection();
        match task.client.connection(entry.user.as_ref(), &entry.connection, &told).await {
            Ok(found) if found.user.is_none() || found.user == entry.user => {
                Ok(self.readings.keep_connection(task.lease, reading, found.json).await?)
            }
            Ok(_) => Err(Stop::park(
                Cause::Unconfirmed,
                "the API knows the connection as another user's than the event claims: the event is forged, or the vendor's data is wrong",
            )),
            Err(error) if error.disposition() == Disposition::Gone => {
                Err(task.not_known_yet().unwrap_or_else(|| unconfirmed(&error)))
            }
            Err(error) => Err(task.failed(&error)),
        }
    }

    /// Resolves when a list has had its turn, and others wait. Each turn keeps a page at least, so that every list comes to its end.
    async fn turn_is_over(&self, listing: &Listing<'_>) {
        time::sleep(TURN).await;
        loop {
            self.crowd.notified().await;
            if listing.kept.load(Ordering::Relaxed) > 0 {
                return;
            }
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
            may_not_be_ready: task.next_look().is_some(),
            calls: task.calls,
            kept: AtomicUsize::new(0),
        };
        let read = tokio::select! {
            biased;
            read = Box::pin(time::timeout(bounds.time, listing.read(reading))) => read,
            () = self.turn_is_over(&listing) => return Err(Stop::Ends(Outcome::GiveBack)),
        };
        match read {
            Ok(Ok(found)) => {
                task.client.succeeded(&task.lease.entry.connection);
                Ok(found)
            }
            Ok(Err(Failure::NotYet(received))) => {
                task.client.succeeded(&task.lease.entry.connection);
                self.readings.abandon(task.lease).await?;
                Err(task.too_few_yet(received))
            }
            Ok(Err(Failure::Inbox(error))) => Err(error.into()),
            Ok(Err(Failure::Bound(reason))) => Err(Stop::park(Cause::Limit, reason)),
            Ok(Err(Failure::Api(error))) if error.disposition() == Disposition::Gone => Err(self.unknown(task).await?),
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

fn log(lease: &Lease, took: Duration, trace_id: Option<&str>, outcome: &Outcome) {
    let entry = &lease.entry;
    let now = clock::now();
    match outcome {
        Outcome::Fetched { reading, found } => tracing::info!(
            code = "event_completed",
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            trace_id,
            accounts.found = found.accounts,
            accounts.announced = entry.account_count,
            accounts.unusable = found.unusable,
            reading = reading.0,
            attempts = lease.attempts,
            duration_ms = base::clock::millis(took),
            "event completed through the API"
        ),
        Outcome::Retry { due, reason, .. } => tracing::warn!(
            code = "completion_retried",
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            trace_id,
            attempts = lease.attempts,
            retry_in_ms = base::clock::millis(due.since(now)),
            reason,
            "the accounts of an event could not be fetched; it is tried again"
        ),
        Outcome::Gone => tracing::warn!(
            code = "connection_gone",
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            trace_id,
            accounts.announced = entry.account_count,
            duration_ms = base::clock::millis(took),
            "the API does not know the connection any more; the event is delivered without accounts and says so"
        ),
        Outcome::Postpone { due, reason } => tracing::debug!(
            code = "completion_waits",
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            trace_id,
            retry_in_ms = base::clock::millis(due.since(now)),
            reason,
            "an event waits until the API is asked again"
        ),
        Outcome::Park { reason, .. } => tracing::error!(
            code = "completion_parked",
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            trace_id,
            attempts = lease.attempts,
            reason,
            "the accounts of an event could not be fetched and the entry is parked; a person must act"
        ),
        Outcome::Unneeded => tracing::info!(
            code = "accounts_unneeded",
            event.id = %entry.event_id,
            entry = lease.seq.0,
            connection.id = %entry.connection,
            trace_id,
            "accounts not fetched: the filter of every sink leaves the event out"
        ),
        Outcome::Done | Outcome::Superseded | Outcome::Filtered { .. } | Outcome::Unfetched | Outcome::GiveBack => {}
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
    /// Who is told of calls.
    calls: Calls<'a>,
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
            Disposition::Doubtful => self.doubted(error, REFUSED, failed),
            Disposition::Unusable => self.doubted(error, UNUSABLE, failed),
            Disposition::Transient { after } => Failed { after, ..failed },
        };
        let policy = Policy { first: FIRST_WAIT, longest: LONGEST_WAIT, give_up_after: self.client.retry_for() };
        Stop::Ends(match policy.decide(failed, clock::now(), fastrand::u64(..)) {
            Outcome::Park { cause: judged, reason } => Outcome::Park { cause: cause(judged), reason },
            outcome => outcome,
        })
    }

    /// A refusal, with what is known of it: by this event, and by others of the same connection.
    fn doubted(&self, error: &linxo::Error, proof: Proof, failed: Failed) -> Failed {
        let own = failed.own(clock::now());
        let verdict = self.client.refused(&self.lease.entry.connection, error, own, proof);
        Failed { doubt: Some(proof), is_believed: verdict.park, ..failed }
    }

    /// When to look again whether the API has caught up with the event; `None` once that time is over.
    fn next_look(&self) -> Option<clock::Timestamp> {
        settling::next_look(self.lease.entry.accepted, self.client.settle_for(), clock::now())
    }

    /// The API may not know the connection yet.
    fn not_known_yet(&self) -> Option<Stop> {
        let reason = "the API does not know the connection yet: it is asked again until linxo.settle_for is over";
        let due = self.next_look()?;
        Some(Stop::Ends(Outcome::Postpone { due, reason: reason.to_owned() }))
    }

    /// The API may not list all accounts yet.
    fn too_few_yet(&self, received: u64) -> Stop {
        let reason = format!(
            "the API lists {received} of {} announced accounts so far: it is asked again until linxo.settle_for is over",
            self.expected.unwrap_or_default()
        );
        Stop::Ends(Outcome::Postpone { due: self.next_look().unwrap_or_else(clock::now), reason })
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

impl Fetcher {
    /// The API does not know the connection whose accounts were asked for: how that ends. Until `linxo.settle_for` is over it
    /// means "not yet", unless the connection was unknown when it was last completed. Then it is believed after a second look.
    async fn unknown(&self, task: &Task<'_>) -> Result<Stop, Stop> {
        let entry = &task.lease.entry;
        if let Some(wait) = task.not_known_yet()
            && (entry.confirm || self.readings.last_shortfall(task.lease).await? != Some(Shortfall::Connection))
        {
            return Ok(wait);
        }
        time::sleep(SECOND_LOOK).await;
        Ok(match task.client.accounts(entry.user.as_ref(), &entry.connection, 1, &task.calls.page(1)).await {
            Err(error) if error.disposition() == Disposition::Gone && entry.confirm => unconfirmed(&error),
            Err(error) if error.disposition() == Disposition::Gone => Stop::Ends(Outcome::Gone),
            Err(error) => task.failed(&error),
            Ok(_) => {
                let problem = "contradicts an earlier one: the connection was unknown a moment ago".to_owned();
                task.failed(&linxo::Error::Answer { peer: Peer::Linxo, problem })
            }
        })
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
