//! Reads one connection's list of accounts, page by page, until it is known to be whole.
//!
//! In: a reading of the inbox, new or begun earlier. Out: every account once, kept page by page as it comes, and their
//! number. What was read so far is `rounds`'s to remember.
//!
//! When is a list whole? The first page tells the server's real page size. Reading goes on until the announced number of
//! accounts is held and the last page was shorter than the first, or a page is empty or unknown to the API, or pages bring
//! nothing new. With everything announced held, a page behind it that is refused is the end too, and one that the server fails
//! at is the end after [`TRIES_BEHIND`] attempts. A list that is shorter than announced may not be ready yet: until
//! `linxo.settle_for` is over it is left and read anew later, unless the same was missing when the connection was last
//! completed. When the number differs from the announced one, when none was announced that can be believed, or when an
//! account was seen on two pages, the list may have changed while it was read: it is read again until two readings agree
//! or [`READINGS`] are used up, and then delivered with what is known; the delivery says so.
//!
//! Accounts are numbered by their place in the list, not by a cursor. One that comes or goes moves all behind it over the
//! borders of pages. While accounts only come, or only go, such a move never goes unseen: an account that is skipped on one
//! border makes the number wrong, or makes another appear twice on a later border. The last page is read when all others are
//! held, because this holds only if the end of the list is as new as the rest. A page behind it that is read beside it changes
//! nothing of that: what moves between these two is missing from the number, or is on both.
//!
//! One case stays unseen: while page 2 is read, account A leaves page 1 and account B joins page 3. Account C then moves
//! from page 2 to page 1 and is on neither reading, but the number is right and nothing appears twice. Only a second
//! reading shows that: with `linxo.reread = "always"` a list counts when two readings in a row agree, for twice the
//! requests.
//!
//! Resuming is exact: all that a decision rests on is kept with each page, in the same commit as its accounts.

use super::{
    super::spans::Calls,
    rounds::{Round, Rounds, joined},
};
use event::{ConnectionId, UserId};
use futures_util::{StreamExt, future::OptionFuture, stream};
use inbox::{Certainty, Found, Lease, Page, Reading, ReadingId, Readings, Shelf, Shortfall};
use linxo::{Account, AccountsPage, Bounds, Client, Disposition};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Readings of one list at most, before it is delivered as it is known.
const READINGS: u32 = 3;
/// Pages of one list at most.
const MAX_PAGES: u32 = 20_000;

/// Attempts after which a page behind everything announced counts as the end, although the server fails at it.
const TRIES_BEHIND: u32 = 3;
/// Pages that came and are not kept yet, after which no further answer is looked at.
const MOST_TO_KEEP: usize = 16;

/// Why a list could not be read.
#[derive(Debug)]
pub(super) enum Failure {
    Inbox(inbox::Error),
    Api(linxo::Error),
    /// More than is allowed; one sentence for people.
    Bound(String),
    /// The list is shorter than announced, and may not be ready yet. So many items came.
    NotYet(u64),
}

impl From<inbox::Error> for Failure {
    fn from(error: inbox::Error) -> Self {
        Self::Inbox(error)
    }
}

impl From<linxo::Error> for Failure {
    fn from(error: linxo::Error) -> Self {
        Self::Api(error)
    }
}

/// One connection's list of accounts, being read.
pub(super) struct Listing<'a> {
    pub(super) client: &'a Client,
    pub(super) readings: &'a dyn Readings,
    pub(super) shelf: &'a dyn Shelf,
    pub(super) lease: &'a Lease,
    pub(super) reading: ReadingId,
    pub(super) connection: &'a ConnectionId,
    pub(super) user: Option<&'a UserId>,
    /// The announced number of accounts; `None` where nobody announced one that can be believed.
    pub(super) expected: Option<u64>,
    pub(super) bounds: Bounds,
    /// Whether a list that is shorter than announced still means "not yet".
    pub(super) may_not_be_ready: bool,
    /// Who is told of calls.
    pub(super) calls: Calls<'a>,
    /// Pages that this attempt has kept.
    pub(super) kept: AtomicUsize,
}

impl Listing<'_> {
    /// Reads until the list is certain, two readings agree, or the last one is made.
    pub(super) async fn read(&self, reading: Reading) -> Result<Found, Failure> {
        let mut rounds = Rounds::resumed(reading);
        loop {
            self.check_bounds(&rounds)?;
            self.read_once(&mut rounds).await?;
            let last = &rounds.current;
            if self.is_not_ready(last).await? {
                return Err(Failure::NotYet(last.received()));
            }
            let is_as_announced = self.expected == Some(last.received()) && !last.shifted && !self.bounds.always_reread;
            let certainty = match (rounds.agree(), is_as_announced) {
                (true, _) => Certainty::Agreed,
                (false, true) => Certainty::AsAnnounced,
                // Everything that was seen is better than a guess at what is gone.
                (false, false) if last.number + 1 == READINGS => {
                    let (accounts, unusable) = (rounds.known, last.unusable);
                    return Ok(Found { accounts, unusable, certainty: Certainty::Unsettled });
                }
                (false, false) => {
                    rounds.next();
                    continue;
                }
            };
            self.prune(&rounds).await?;
            return Ok(Found { accounts: last.accounts, unusable: last.unusable, certainty });
        }
    }

    /// Whether a list that was read to its end is to be read anew later. A list of which nothing can be used may be an outage
    /// in disguise.
    async fn is_not_ready(&self, read: &Round) -> Result<bool, Failure> {
        let Some(expected) = self.expected.filter(|_| self.may_not_be_ready) else { return Ok(false) };
        let missing = expected.saturating_sub(read.received());
        if missing == 0 {
            return Ok(read.unusable > 0 && read.accounts == 0);
        }
        Ok(self.readings.last_shortfall(self.lease).await? != Some(Shortfall::Accounts(missing)))
    }

    /// Reads the list from its first page to its end.
    async fn read_once(&self, rounds: &mut Rounds) -> Result<(), Failure> {
        self.read_pages(rounds, 1, 1).await?;
        let Some(page_size) = rounds.current.pages.get(&1).map(|page| page.received).filter(|size| *size > 0) else {
            return Ok(());
        };
        // The pages that must exist, side by side, but the last one when all others are held (see above); then on, until
        // the end shows. Where the last one is full, only the page behind it shows that: both are read side by side.
        let expected = self.expected.unwrap_or(0);
        let announced = u32::try_from(expected.div_ceil(u64::from(page_size))).unwrap_or(MAX_PAGES);
        let mut last = announced.clamp(1, MAX_PAGES);
        self.read_pages(rounds, 2, last.saturating_sub(1)).await?;
        let is_full = expected > 0 && expected.is_multiple_of(u64::from(page_size));
        self.read_pages(rounds, last, (last + u32::from(is_full)).min(MAX_PAGES)).await?;
        let mut ahead = 1;
        while !rounds.current.ended(page_size, expected) {
            if last >= MAX_PAGES {
                return Err(Failure::Bound(format!(
                    "the list of accounts does not end after {MAX_PAGES} pages: ask the vendor, then replay"
                )));
            }
            self.read_pages(rounds, last + 1, last + ahead).await?;
            last += ahead;
            ahead = (ahead * 2).min(u32::try_from(self.client.page_concurrency()).unwrap_or(1));
        }
        Ok(())
    }

    /// Fetches the pages of a range that are not held yet, several at once, and keeps each as it comes. After a failure, or
    /// when the end has shown, no further page is asked for, but those under way are kept.
    async fn read_pages(&self, rounds: &mut Rounds, first: u32, last: u32) -> Result<(), Failure> {
        let stop = AtomicBool::new(rounds.current.over());
        let missing: Vec<u32> = (first..=last).filter(|page| !rounds.current.pages.contains_key(page)).collect();
        let mut answers = stream::iter(missing)
            .map(|number| {
                let stop = &stop;
                async move {
                    if stop.load(Ordering::Relaxed) {
                        return None;
                    }
                    let told = self.calls.page(number);
                    Some((number, self.client.accounts(self.user, self.connection, number, &told).await))
                }
            })
            .buffer_unordered(self.client.page_concurrency());
        let mut first_failure: Option<Failure> = None;
        // Pages that may lie behind the end, with what was answered.
        let mut behind: Vec<(u32, linxo::Error)> = Vec::new();
        let mut fail = |failure: Failure| {
            stop.store(true, Ordering::Relaxed);
            first_failure.get_or_insert(failure);
        };
        // Kept beside the requests, because a commit that was waited for would hold up the next one; one after the other,
        // because a page leaves out the accounts that an earlier one holds.
        let mut to_keep: VecDeque<Page> = VecDeque::new();
        let mut keeping: OptionFuture<_> = None.into();
        let mut is_keeping = false;
        loop {
            if !is_keeping && let Some(page) = to_keep.pop_front() {
                keeping = Some(self.readings.keep_page(self.lease, self.reading, page)).into();
                is_keeping = true;
            }
            tokio::select! {
                Some(kept) = &mut keeping, if is_keeping => {
                    kept?;
                    self.kept.fetch_add(1, Ordering::Relaxed);
                    is_keeping = false;
                }
                Some(answer) = answers.next(), if to_keep.len() < MOST_TO_KEEP => {
                    let Some((number, answer)) = answer else { continue };
                    let page = match answer {
                        Ok(page) => page,
                        // Some servers do not know the page behind the last one.
                        Err(error) if number > 1 && error.disposition() == Disposition::Gone => {
                            AccountsPage::default()
                        }
                        Err(error) if number > 1 && self.may_be_behind(&error) => {
                            stop.store(true, Ordering::Relaxed);
                            behind.push((number, error));
                            continue;
                        }
                        Err(error) => {
                            fail(error.into());
                            continue;
                        }
                    };
                    to_keep.push_back(rounds.add(number, &page));
                    if let Err(failure) = self.check_bounds(rounds) {
                        fail(failure);
                    }
                    if rounds.current.over() {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                else => break,
            }
        }
        if let Some(failure) = first_failure {
            return Err(failure);
        }
        // Judged when all others are kept.
        behind.sort_unstable_by_key(|(number, _)| *number);
        for (number, error) in behind {
            let holds_all = self.expected.is_some_and(|expected| rounds.current.received() >= expected);
            if !holds_all || rounds.current.goes_on_behind(number) {
                return Err(error.into());
            }
            let end = rounds.add(number, &AccountsPage::default());
            self.readings.keep_page(self.lease, self.reading, end).await?;
        }
        Ok(())
    }

    /// Whether an error may mean that the list has ended, where everything announced is held.
    fn may_be_behind(&self, error: &linxo::Error) -> bool {
        error.is_an_end() || (error.is_failure() && self.lease.attempts >= TRIES_BEHIND)
    }

    fn check_bounds(&self, rounds: &Rounds) -> Result<(), Failure> {
        if rounds.known > self.bounds.accounts {
            return Err(Failure::Bound(format!(
                "the connection has more accounts than linxo.max_accounts allows ({}): raise it, then replay",
                self.bounds.accounts
            )));
        }
        if rounds.foreign > self.bounds.accounts {
            return Err(Failure::Bound(format!(
                "the API lists more accounts of other connections than linxo.max_accounts allows ({}): check linxo.connection_parameter, then replay",
                self.bounds.accounts
            )));
        }
        if rounds.bytes > self.bounds.bytes {
            return Err(Failure::Bound(format!(
                "the connection's accounts are larger than linxo.max_size allows ({} bytes): raise it, then replay",
                self.bounds.bytes
            )));
        }
        Ok(())
    }

    /// Takes accounts that are gone by now out of the kept pages. Doing it again changes nothing.
    async fn prune(&self, rounds: &Rounds) -> Result<(), Failure> {
        if rounds.known == rounds.current.accounts {
            return Ok(());
        }
        for (number, _) in self.shelf.pages(self.reading).await? {
            let kept = self.shelf.page(self.reading, number).await?;
            let page = AccountsPage::parse(&[b"[", &kept[..], b"]"].concat().into(), self.connection, usize::MAX)?;
            let left: Vec<&Account> = page.accounts.iter().filter(|account| rounds.is_current(&account.id)).collect();
            if left.len() < page.accounts.len() {
                self.readings.replace_accounts(self.lease, self.reading, number, joined(&left)).await?;
            }
        }
        Ok(())
    }
}
