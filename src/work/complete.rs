//! Fetches the accounts that a truncated event left out.
//!
//! In: the lease of a completion. Out: a reading in the inbox that holds every account once, or a reason to wait or to
//! park. Pages are kept as they come, so that a crash or a failing page does not begin the list again; an event that is
//! older than a finished reading of its connection is completed by that reading without asking the API at all.
//!
//! When is a list whole? The first page tells the server's real page size. Reading goes on until the announced number of
//! accounts is held and the last page was shorter than the first, or a page is empty, or pages bring nothing new. When the
//! number differs from the announced one, or an account was seen on two pages, the list may have changed while it was
//! read: it is read again until two readings agree or [`READINGS`] are used up, and then delivered with what is known; the
//! delivery says that the number differs.

use super::{
    Handler, millis,
    retry::{Failed, Policy},
};
use crate::{
    clock,
    error::chain,
    event::{ConnectionId, Event, Shape, UserId},
    inbox::{Error, Inbox, Lease, Outcome, Page, Reading, ReadingId},
    linxo::{self, Account, AccountsPage, Client, Disposition},
    metrics::{self, Metrics},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Readings of one list at most, before it is delivered as it is known.
const READINGS: u32 = 3;
/// Pages of one list at most; a server that never ends its list is refused.
const MAX_PAGES: u32 = 20_000;
/// Distance between the page numbers of two readings of one list.
const ROUND: u32 = 100_000;
/// Pages in a row without a new account, after which a list counts as ended (a page that is repeated for ever).
const STALE_PAGES: usize = 2;
/// A reading that was left open is gone on with for this long; pages older than that may no longer fit together.
const RESUME_WITHIN: Duration = Duration::from_mins(10);

const POLICY: Policy = Policy { first: Duration::from_secs(1), longest: Duration::from_mins(5), give_up_after: None };

/// Completes truncated events.
pub struct Completer {
    /// `None` without a `[linxo]` section.
    pub client: Option<Client>,
    /// Where pages are kept.
    pub inbox: Arc<dyn Inbox>,
    /// The service's figures.
    pub metrics: Arc<Metrics>,
}

#[async_trait]
impl Handler for Completer {
    async fn handle(&self, lease: &Lease) -> Result<Outcome, Error> {
        let started = Instant::now();
        let outcome = match self.complete(lease).await {
            Ok(outcome) => outcome,
            Err(Failure::Inbox(error)) => return Err(error),
            Err(Failure::Api(error)) => after(lease, &error),
        };
        self.metrics.completion_seconds.observe(started.elapsed().as_secs_f64());
        self.log(lease, started.elapsed(), &outcome);
        Ok(outcome)
    }
}

enum Failure {
    Inbox(Error),
    Api(linxo::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Inbox(error)
    }
}

impl From<linxo::Error> for Failure {
    fn from(error: linxo::Error) -> Self {
        Self::Api(error)
    }
}

/// How an API error ends the lease.
fn after(lease: &Lease, error: &linxo::Error) -> Outcome {
    match error.disposition() {
        Disposition::Permanent => Outcome::Park { reason: format!("{error}: {}", error.remedy()) },
        Disposition::Transient { after } => {
            let failed = Failed { attempts: lease.attempts, failing_since: lease.failing_since, after };
            POLICY.decide(failed, clock::now(), fastrand::u64(..), chain(error))
        }
    }
}

impl Completer {
    async fn complete(&self, lease: &Lease) -> Result<Outcome, Failure> {
        let expected = match Event::parse(&lease.body).map(|event| event.shape) {
            Ok(Shape::Truncated { expected }) => expected,
            // A newer version understands what an older one parked: nothing to fetch after all.
            Ok(Shape::Whole) => return Ok(Outcome::Done),
            Ok(Shape::Unclear) | Err(_) => {
                return Ok(Outcome::Park {
                    reason: "the event leaves its accounts out and cannot be understood: a newer version may know this form; then replay it".to_owned(),
                });
            }
        };
        let Some(client) = &self.client else {
            return Ok(Outcome::Park {
                reason: format!(
                    "the event leaves out its {expected} accounts and there is no [linxo] section to fetch them with: add one, restart, then replay"
                ),
            });
        };
        let reading = self.inbox.reading(lease, RESUME_WITHIN).await?;
        let id = reading.id;
        if let Some(accounts) = reading.accounts {
            return Ok(Outcome::Completed { reading: id, accounts });
        }
        let listing = Listing {
            client,
            inbox: &*self.inbox,
            reading: id,
            connection: ConnectionId::new(lease.entry.connection.clone()),
            user: lease.entry.user.clone().map(UserId::new),
            expected,
        };
        let accounts = listing.read(Rounds::resumed(reading)).await?;
        if accounts != expected {
            self.metrics.account_mismatch.inc();
        }
        Ok(Outcome::Completed { reading: id, accounts })
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
            Outcome::Park { reason } => {
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

/// One connection's list of accounts, being read.
struct Listing<'a> {
    client: &'a Client,
    inbox: &'a dyn Inbox,
    reading: ReadingId,
    connection: ConnectionId,
    user: Option<UserId>,
    expected: u64,
}

impl Listing<'_> {
    /// Reads until the list is certain, two readings agree, or the last one is made; returns how many accounts are kept.
    async fn read(&self, mut rounds: Rounds) -> Result<u64, Failure> {
        loop {
            self.read_once(&mut rounds).await?;
            let (last, earlier) = (&rounds.current, &rounds.previous);
            let certain = last.ids.len() as u64 == self.expected && !last.shifted;
            let agreed = earlier.as_ref().is_some_and(|earlier| *earlier == last.ids);
            if certain || agreed {
                let vanished: HashSet<String> =
                    rounds.known.iter().filter(|id| !last.ids.contains(*id)).cloned().collect();
                self.prune(&vanished).await?;
                return Ok(last.ids.len() as u64);
            }
            if last.number + 1 == READINGS {
                // It never held still: everything that was seen is better than a guess at what is gone.
                return Ok(rounds.known.len() as u64);
            }
            rounds.next();
        }
    }

    /// Reads the list from its first page to its end.
    async fn read_once(&self, rounds: &mut Rounds) -> Result<(), Failure> {
        self.read_pages(rounds, 1, 1).await?;
        let Some(page_size) = rounds.current.pages.get(&1).map(|page| page.received).filter(|size| *size > 0) else {
            return Ok(());
        };
        // The pages that must exist, side by side; then on, until the end shows.
        let announced = u32::try_from(self.expected.div_ceil(u64::from(page_size))).unwrap_or(MAX_PAGES);
        let mut last = announced.clamp(1, MAX_PAGES);
        self.read_pages(rounds, 2, last).await?;
        let mut ahead = 1;
        while !rounds.current.ended(page_size, self.expected) {
            if last >= MAX_PAGES {
                return Err(linxo::Error::Answer(format!("never ends: {MAX_PAGES} pages were read")).into());
            }
            self.read_pages(rounds, last + 1, last + ahead).await?;
            last += ahead;
            ahead = (ahead * 2).min(u32::try_from(self.client.page_concurrency()).unwrap_or(1));
        }
        Ok(())
    }

    /// Fetches the pages of a range that are not held yet, several at once, and keeps each as it comes. After a failure no
    /// further page is asked for, but those under way are kept.
    async fn read_pages(&self, rounds: &mut Rounds, first: u32, last: u32) -> Result<(), Failure> {
        let failed = AtomicBool::new(false);
        let missing: Vec<u32> = (first..=last).filter(|page| !rounds.current.pages.contains_key(page)).collect();
        let mut answers = stream::iter(missing)
            .map(|number| {
                let failed = &failed;
                async move {
                    if failed.load(Ordering::Relaxed) {
                        return None;
                    }
                    Some((number, self.client.accounts(self.user.as_ref(), &self.connection, number).await))
                }
            })
            .buffer_unordered(self.client.page_concurrency());
        let mut first_error = None;
        // Beside the answers, because a commit that was waited for would hold up the next question.
        let mut keeping = FuturesUnordered::new();
        loop {
            let answer = tokio::select! {
                Some(kept) = keeping.next(), if !keeping.is_empty() => {
                    kept?;
                    continue;
                }
                Some(answer) = answers.next() => answer,
                else => break,
            };
            match answer {
                Some((number, Ok(page))) => {
                    keeping.push(self.inbox.keep_page(self.reading, rounds.add(number, &page)));
                }
                Some((_, Err(error))) => {
                    failed.store(true, Ordering::Relaxed);
                    first_error.get_or_insert(error);
                }
                None => {}
            }
        }
        first_error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Takes accounts that are gone by now out of the kept pages.
    async fn prune(&self, vanished: &HashSet<String>) -> Result<(), Failure> {
        if vanished.is_empty() {
            return Ok(());
        }
        for (number, _) in self.inbox.pages(self.reading).await? {
            let kept = self.inbox.page(self.reading, number).await?;
            let page = AccountsPage::parse(&[b"[", &kept[..], b"]"].concat(), &self.connection)?;
            if page.accounts.iter().any(|account| vanished.contains(account.id.as_str())) {
                let left: Vec<&Account> =
                    page.accounts.iter().filter(|account| !vanished.contains(account.id.as_str())).collect();
                let ids = left.iter().map(|account| account.id.as_str().to_owned()).collect();
                let page = Page { number, ids, accounts: joined(&left), received: page.received };
                self.inbox.keep_page(self.reading, page).await?;
            }
        }
        Ok(())
    }
}

/// What was read so far, round by round. Every account is kept once, with the page on which it was first seen; the page
/// `p` of round `r` is kept under the number `r * ROUND + p`.
#[derive(Default)]
struct Rounds {
    /// Accounts that are kept, of all rounds.
    known: HashSet<String>,
    /// The accounts of the round before.
    previous: Option<BTreeSet<String>>,
    current: Round,
}

/// One pass over the list.
#[derive(Default)]
struct Round {
    /// From 0.
    number: u32,
    /// By number, from 1.
    pages: BTreeMap<u32, PageRead>,
    /// The connection's accounts.
    ids: BTreeSet<String>,
    /// Every account, foreign ones too.
    seen: HashSet<String>,
    /// Whether an account was seen on two pages beside new ones: the list moved.
    shifted: bool,
}

struct PageRead {
    received: u32,
    /// Whether it brought anything that was not seen before in this round.
    fresh: bool,
}

impl Rounds {
    /// Goes on where an earlier attempt stopped.
    fn resumed(reading: Reading) -> Self {
        let mut rounds = Self::default();
        for page in reading.pages {
            while rounds.current.number < page.number / ROUND {
                rounds.next();
            }
            rounds.known.extend(page.ids.iter().cloned());
            let round = &mut rounds.current;
            round.seen.extend(page.ids.iter().cloned());
            round.ids.extend(page.ids);
            round.pages.insert(page.number % ROUND, PageRead { received: page.received, fresh: page.received > 0 });
        }
        rounds
    }

    fn next(&mut self) {
        let number = self.current.number + 1;
        let last = std::mem::replace(&mut self.current, Round { number, ..Round::default() });
        self.previous = Some(last.ids);
    }

    /// Takes a page in; returns what to keep of it.
    fn add(&mut self, number: u32, page: &AccountsPage) -> Page {
        let round = &mut self.current;
        let fresh = page.seen.iter().filter(|id| round.seen.insert(id.as_str().to_owned())).count();
        round.shifted |= fresh > 0 && fresh < page.seen.len();
        round.pages.insert(number, PageRead { received: page.received, fresh: fresh > 0 });
        let ids: Vec<String> = page.accounts.iter().map(|account| account.id.as_str().to_owned()).collect();
        round.ids.extend(ids.iter().cloned());
        let new: Vec<&Account> =
            page.accounts.iter().filter(|account| self.known.insert(account.id.as_str().to_owned())).collect();
        Page { number: round.number * ROUND + number, ids, accounts: joined(&new), received: page.received }
    }
}

impl Round {
    /// Whether the end of the list has shown.
    fn ended(&self, page_size: u32, expected: u64) -> bool {
        if self.pages.values().any(|page| page.received == 0) {
            return true;
        }
        if self.pages.values().rev().take_while(|page| !page.fresh).count() >= STALE_PAGES {
            return true;
        }
        let short = self.pages.last_key_value().is_some_and(|(number, page)| *number > 1 && page.received < page_size);
        short && self.ids.len() as u64 >= expected
    }
}

fn joined(accounts: &[&Account]) -> Bytes {
    let mut json = Vec::with_capacity(accounts.iter().map(|account| account.json.len() + 1).sum());
    for account in accounts {
        if !json.is_empty() {
            json.push(b',');
        }
        json.extend_from_slice(account.json.as_bytes());
    }
    json.into()
}
