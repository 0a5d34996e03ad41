//! Reads one connection's list of accounts, page by page, until it is known to be whole.
//!
//! In: a reading of the inbox, new or begun earlier. Out: every account once, kept page by page as it comes, and their
//! number. What is remembered of an account while reading is a 16-byte mark, so that 100,000 of them are a few megabytes.
//!
//! When is a list whole? The first page tells the server's real page size. Reading goes on until the announced number of
//! accounts is held and the last page was shorter than the first, or a page is empty or unknown to the API, or pages bring
//! nothing new. When the number differs from the announced one, when none was announced that can be believed, or when an
//! account was seen on two pages, the list may have changed while it was read: it is read again until two readings agree
//! or [`READINGS`] are used up, and then delivered with what is known; the delivery says so.
//!
//! Accounts are numbered by their place in the list, not by a cursor, so that one that comes or goes moves all behind it
//! over the borders of pages. While accounts only come, or only go, that never goes unseen: an account that is skipped on
//! one border makes the number wrong, or another appear twice on a later border. The last page is read when all others are
//! held, because that holds only if the end of the list is as new as the rest. What this cannot see is one that goes from
//! a page that was read and one that comes on a later page before that is read: a third slips over the border between
//! them, while the number is right and nothing appears twice. Only a second reading shows that: with
//! `linxo.reread = "always"` a list counts when two readings in a row agree, for twice the requests.
//!
//! Resuming is exact: all that a decision rests on is kept with each page, in the same commit as its accounts.

use crate::inbox::{self, Certainty, Found, Inbox, Lease, Page, Reading, ReadingId};
use bytes::Bytes;
use event::{ConnectionId, UserId};
use futures_util::{StreamExt, future::OptionFuture, stream};
use linxo::{Account, AccountsPage, Bounds, Client, Disposition};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::atomic::{AtomicBool, Ordering},
};

/// Readings of one list at most, before it is delivered as it is known.
const READINGS: u32 = 3;
/// Pages of one list at most.
const MAX_PAGES: u32 = 20_000;
/// Distance between the page numbers of two readings of one list.
const ROUND: u32 = 100_000;
/// Pages in a row without a new account, after which a list counts as ended (a page that is repeated for ever).
const STALE_PAGES: usize = 2;
/// Pages without a new account after which no further page is asked for, announced or not.
const MOST_STALE_PAGES: u32 = 16;

/// Pages that came and are not kept yet, after which no further answer is looked at.
const MOST_TO_KEEP: usize = 16;

/// Why a list could not be read.
#[derive(Debug)]
pub(super) enum Failure {
    Inbox(inbox::Error),
    Api(linxo::Error),
    /// More than is allowed; one sentence for people.
    Bound(String),
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
    pub(super) inbox: &'a dyn Inbox,
    pub(super) lease: &'a Lease,
    pub(super) reading: ReadingId,
    pub(super) connection: &'a ConnectionId,
    pub(super) user: Option<&'a UserId>,
    /// The announced number of accounts; `None` where nobody announced one that can be believed.
    pub(super) expected: Option<u64>,
    pub(super) bounds: Bounds,
}

impl Listing<'_> {
    /// Reads until the list is certain, two readings agree, or the last one is made.
    pub(super) async fn read(&self, reading: Reading) -> Result<Found, Failure> {
        let mut rounds = Rounds::resumed(reading);
        loop {
            self.check_bounds(&rounds)?;
            self.read_once(&mut rounds).await?;
            let last = &rounds.current;
            let is_as_announced = self.expected == Some(last.accounts) && !last.shifted && !self.bounds.always_reread;
            let certainty = match (rounds.agree(), is_as_announced) {
                (true, _) => Certainty::Agreed,
                (false, true) => Certainty::AsAnnounced,
                // Everything that was seen is better than a guess at what is gone.
                (false, false) if last.number + 1 == READINGS => {
                    return Ok(Found { accounts: rounds.known, certainty: Certainty::Unsettled });
                }
                (false, false) => {
                    rounds.next();
                    continue;
                }
            };
            self.prune(&rounds).await?;
            return Ok(Found { accounts: last.accounts, certainty });
        }
    }

    /// Reads the list from its first page to its end.
    async fn read_once(&self, rounds: &mut Rounds) -> Result<(), Failure> {
        self.read_pages(rounds, 1, 1).await?;
        let Some(page_size) = rounds.current.pages.get(&1).map(|page| page.received).filter(|size| *size > 0) else {
            return Ok(());
        };
        // The pages that must exist, side by side, but the last one when all others are held (see above); then on, until
        // the end shows.
        let announced = u32::try_from(self.expected.unwrap_or(0).div_ceil(u64::from(page_size))).unwrap_or(MAX_PAGES);
        let mut last = announced.clamp(1, MAX_PAGES);
        self.read_pages(rounds, 2, last.saturating_sub(1)).await?;
        self.read_pages(rounds, last, last).await?;
        let mut ahead = 1;
        while !rounds.current.ended(page_size, self.expected.unwrap_or(0)) {
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
                    Some((number, self.client.accounts(self.user, self.connection, number).await))
                }
            })
            .buffer_unordered(self.client.page_concurrency());
        let mut first_failure: Option<Failure> = None;
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
                keeping = Some(self.inbox.keep_page(self.lease, self.reading, page)).into();
                is_keeping = true;
            }
            tokio::select! {
                Some(kept) = &mut keeping, if is_keeping => {
                    kept?;
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
        first_failure.map_or(Ok(()), Err)
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
        for (number, _) in self.inbox.pages(self.reading).await? {
            let kept = self.inbox.page(self.reading, number).await?;
            let page = AccountsPage::parse(&[b"[", &kept[..], b"]"].concat().into(), self.connection, usize::MAX)?;
            let left: Vec<&Account> =
                page.accounts.iter().filter(|account| rounds.is_current(account.id.as_str())).collect();
            if left.len() < page.accounts.len() {
                self.inbox.replace_accounts(self.lease, self.reading, number, joined(&left)).await?;
            }
        }
        Ok(())
    }
}

/// What was read so far, round by round. Every account is kept once, with the page on which it was first seen; the page
/// `p` of round `r` is kept under the number `r * ROUND + p`.
#[derive(Default)]
struct Rounds {
    /// Every account, foreign ones too: in which rounds it was seen, and whether it is the connection's.
    marks: HashMap<Mark, u8>,
    /// The connection's accounts, of all rounds: as many are kept.
    known: u64,
    /// Accounts of other connections, of all rounds.
    foreign: u64,
    /// Bytes of what is kept: JSON and ids.
    bytes: u64,
    current: Round,
}

/// Stands for an account's id: 128 bits of its SHA-256, so that no id can be made to look like another.
type Mark = [u8; 16];

/// Set in `marks` for the connection's own accounts, and for others; the bits of the rounds are below.
const OWN: u8 = 1 << 7;
const FOREIGN: u8 = 1 << 6;

/// One pass over the list.
#[derive(Default)]
struct Round {
    /// From 0.
    number: u32,
    /// By number, from 1.
    pages: BTreeMap<u32, PageRead>,
    /// The connection's accounts.
    accounts: u64,
    /// Whether an account was seen on two pages beside new ones: the list moved.
    shifted: bool,
    /// Whether a page was empty.
    empty: bool,
    /// Pages that brought nothing new.
    stale: u32,
}

struct PageRead {
    received: u32,
    /// Items that were not seen before in this round.
    fresh: u32,
}

impl Rounds {
    /// Goes on where an earlier attempt stopped.
    fn resumed(reading: Reading) -> Self {
        let mut rounds = Self::default();
        for page in reading.pages {
            while rounds.current.number < page.number / ROUND {
                rounds.next();
            }
            for id in &page.ids {
                rounds.see(id, true);
            }
            for id in &page.foreign {
                rounds.see(id, false);
            }
            rounds.bytes += page.bytes + length(&page.ids) + length(&page.foreign);
            rounds.current.add(page.number % ROUND, PageRead { received: page.received, fresh: page.fresh });
        }
        rounds
    }

    fn next(&mut self) {
        self.current = Round { number: self.current.number + 1, ..Round::default() };
    }

    /// Takes a page in; returns what to keep of it.
    fn add(&mut self, number: u32, page: &AccountsPage) -> Page {
        let mut fresh = 0;
        let mut new: Vec<&Account> = Vec::with_capacity(page.accounts.len());
        for account in &page.accounts {
            let seen = self.see(account.id.as_str(), true);
            fresh += u32::from(seen.fresh);
            if seen.new {
                new.push(account);
            }
        }
        for id in &page.foreign {
            fresh += u32::from(self.see(id.as_str(), false).fresh);
        }
        self.current.add(number, PageRead { received: page.received, fresh });
        let page = Page {
            number: self.current.number * ROUND + number,
            ids: page.accounts.iter().map(|account| account.id.as_str().to_owned()).collect(),
            foreign: page.foreign.iter().map(|id| id.as_str().to_owned()).collect(),
            fresh,
            accounts: joined(&new),
            received: page.received,
        };
        self.bytes += page.accounts.len() as u64 + length(&page.ids) + length(&page.foreign);
        page
    }

    fn see(&mut self, id: &str, is_own: bool) -> Seen {
        let round = 1 << self.current.number;
        let bits = self.marks.entry(mark(id)).or_default();
        let fresh = *bits & round == 0;
        let kind = if is_own { OWN } else { FOREIGN };
        let is_first = *bits & kind == 0;
        let new = is_own && is_first;
        *bits |= round | kind;
        self.known += u64::from(new);
        self.foreign += u64::from(is_first && !is_own);
        self.current.accounts += u64::from(is_own && fresh);
        Seen { fresh, new }
    }

    /// Whether the connection's account was seen in this round.
    fn is_current(&self, id: &str) -> bool {
        self.marks.get(&mark(id)).is_some_and(|bits| bits & (1 << self.current.number) != 0)
    }

    /// Whether this round and the one before saw the same accounts.
    fn agree(&self) -> bool {
        let Some(before) = self.current.number.checked_sub(1) else { return false };
        let both = (1 << self.current.number) | (1 << before);
        self.marks.values().filter(|bits| **bits & OWN != 0).all(|bits| [0, both].contains(&(bits & both)))
    }
}

/// What was not known of an account before.
struct Seen {
    /// Not seen in this round.
    fresh: bool,
    /// The connection's, and not kept yet.
    new: bool,
}

impl Round {
    fn add(&mut self, number: u32, page: PageRead) {
        self.shifted |= page.fresh > 0 && page.fresh < page.received;
        self.empty |= page.received == 0;
        self.stale += u32::from(page.fresh == 0);
        self.pages.insert(number, page);
    }

    /// Whether asking for any further page is pointless, announced or not.
    fn over(&self) -> bool {
        self.empty || self.stale >= MOST_STALE_PAGES
    }

    /// Whether the end of the list has shown.
    fn ended(&self, page_size: u32, expected: u64) -> bool {
        if self.over() || self.pages.values().rev().take_while(|page| page.fresh == 0).count() >= STALE_PAGES {
            return true;
        }
        let short = self.pages.last_key_value().is_some_and(|(number, page)| *number > 1 && page.received < page_size);
        short && self.accounts >= expected
    }
}

fn mark(id: &str) -> Mark {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let mut mark = Mark::default();
    mark.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    mark
}

/// Bytes of ids.
fn length(ids: &[String]) -> u64 {
    ids.iter().map(|id| id.len() as u64).sum()
}

fn joined(accounts: &[&Account]) -> Bytes {
    let mut json = Vec::with_capacity(accounts.iter().map(|account| account.json.len() + 1).sum());
    for account in accounts {
        if !json.is_empty() {
            json.push(b',');
        }
        json.extend_from_slice(&account.json);
    }
    json.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::PageFacts;
    use base::clock;
    use proptest::prelude::*;

    fn page(ids: &[u32], foreign: &[u32]) -> AccountsPage {
        let mut items: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":"{id}","connection_id":"7"}}"#)).collect();
        items.extend(foreign.iter().map(|id| format!(r#"{{"id":"f{id}","connection_id":"8"}}"#)));
        AccountsPage::parse(&format!("[{}]", items.join(",")).into(), &ConnectionId::new("7"), 99).unwrap()
    }

    #[test]
    fn each_account_is_kept_once_over_all_rounds() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.add(1, &page(&[1, 2], &[9])).fresh, 3);
        let second = rounds.add(2, &page(&[2, 3], &[]));
        assert_eq!((second.fresh, &second.accounts[..]), (1, &br#"{"id":"3","connection_id":"7"}"#[..]));
        assert!(rounds.current.shifted);
        rounds.next();
        assert!(rounds.add(1, &page(&[1, 3], &[])).accounts.is_empty());
        assert_eq!((rounds.known, rounds.current.accounts), (3, 2));
        assert!(!rounds.agree() && rounds.is_current("3") && !rounds.is_current("2"));
        rounds.next();
        rounds.add(1, &page(&[3], &[9]));
        rounds.add(2, &page(&[1], &[]));
        assert!(rounds.agree());
    }

    proptest! {
        /// Whatever was kept before a crash, going on with it comes to the same state as never having stopped.
        #[test]
        fn resuming_is_exact(
            rounds in prop::collection::vec(
                prop::collection::vec((prop::collection::vec(0_u32..12, 0..5), prop::collection::vec(0_u32..4, 0..3)), 1..6),
                1..4,
            ),
        ) {
            let mut straight = Rounds::default();
            let mut facts = Vec::new();
            for (number, pages) in rounds.iter().enumerate() {
                if number > 0 {
                    straight.next();
                }
                // Pages come in any order; here the last first.
                for (index, (own, foreign)) in pages.iter().enumerate().rev() {
                    let kept = straight.add(u32::try_from(index).unwrap() + 1, &page(own, foreign));
                    facts.push(PageFacts {
                        number: kept.number,
                        ids: kept.ids,
                        foreign: kept.foreign,
                        fresh: kept.fresh,
                        received: kept.received,
                        bytes: kept.accounts.len() as u64,
                    });
                }
            }
            facts.sort_by_key(|page| page.number);
            let resumed =
                Rounds::resumed(Reading { id: ReadingId(1), started: clock::now(), found: None, pages: facts });
            prop_assert_eq!(&resumed.marks, &straight.marks);
            prop_assert_eq!(
                (resumed.known, resumed.foreign, resumed.bytes),
                (straight.known, straight.foreign, straight.bytes)
            );
            let facts = |round: &Round| {
                (round.number, round.accounts, round.shifted, round.empty, round.stale, round.ended(3, 9))
            };
            prop_assert_eq!(facts(&resumed.current), facts(&straight.current));
        }
    }
}
