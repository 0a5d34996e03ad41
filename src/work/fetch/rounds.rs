//! What was read of one list so far, round by round: which accounts were seen, and whether the end has shown. Pure.
//!
//! What is remembered of an account is a 16-byte mark, so that 100,000 of them are a few megabytes. Everything that a
//! decision rests on is kept with each page, so that going on after a crash comes to the same state as never having
//! stopped; a test holds that.

use bytes::Bytes;
use event::AccountId;
use inbox::{Page, PageFacts, Reading};
use linxo::{Account, AccountsPage};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// Distance between the page numbers of two readings of one list.
const ROUND: u32 = 100_000;
/// Pages in a row without a new account, after which a list counts as ended (a page that is repeated for ever).
const STALE_PAGES: usize = 2;
/// Pages without a new account after which no further page is asked for, announced or not.
const MOST_STALE_PAGES: u32 = 16;

/// What was read so far, round by round. Every account is kept once, with the page on which it was first seen; the page
/// `p` of round `r` is kept under the number `r * ROUND + p`.
#[derive(Default)]
pub(super) struct Rounds {
    /// Every account, foreign ones too: in which rounds it was seen, and whether it is the connection's.
    marks: HashMap<Mark, u8>,
    /// The connection's accounts, of all rounds: as many are kept.
    pub(super) known: u64,
    /// Accounts of other connections, of all rounds.
    pub(super) foreign: u64,
    /// Bytes of what is kept: JSON and ids.
    pub(super) bytes: u64,
    pub(super) current: Round,
}

/// Stands for an account's id: 128 bits of its SHA-256, so that no id can be made to look like another.
type Mark = [u8; 16];

/// Set in `marks` for the connection's own accounts, and for others; the bits of the rounds are below.
const OWN: u8 = 1 << 7;
const FOREIGN: u8 = 1 << 6;

/// One pass over the list.
#[derive(Default)]
pub(super) struct Round {
    /// From 0.
    pub(super) number: u32,
    /// By number, from 1.
    pub(super) pages: BTreeMap<u32, PageRead>,
    /// The connection's accounts.
    pub(super) accounts: u64,
    /// Items that are no accounts.
    pub(super) unusable: u64,
    /// Whether an account was seen on two pages beside new ones: the list moved.
    pub(super) shifted: bool,
    /// Whether a page was empty.
    empty: bool,
    /// Pages that brought nothing new.
    stale: u32,
}

pub(super) struct PageRead {
    pub(super) received: u32,
    /// Items that were not seen before in this round.
    fresh: u32,
    /// Items that are no accounts.
    unusable: u32,
}

impl Rounds {
    /// Goes on where an earlier attempt stopped.
    pub(super) fn resumed(reading: Reading) -> Self {
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
            let PageFacts { received, fresh, unusable, .. } = page;
            rounds.current.add(page.number % ROUND, PageRead { received, fresh, unusable });
        }
        rounds
    }

    pub(super) fn next(&mut self) {
        self.current = Round { number: self.current.number + 1, ..Round::default() };
    }

    /// Takes a page in; returns what to keep of it.
    pub(super) fn add(&mut self, number: u32, page: &AccountsPage) -> Page {
        let mut fresh = 0;
        let mut new: Vec<&Account> = Vec::with_capacity(page.accounts.len());
        for account in &page.accounts {
            let seen = self.see(&account.id, true);
            fresh += u32::from(seen.fresh);
            if seen.new {
                new.push(account);
            }
        }
        for id in &page.foreign {
            fresh += u32::from(self.see(id, false).fresh);
        }
        self.current.add(number, PageRead { received: page.received, fresh, unusable: page.unusable });
        let page = Page {
            number: self.current.number * ROUND + number,
            ids: page.accounts.iter().map(|account| account.id.clone()).collect(),
            foreign: page.foreign.clone(),
            fresh,
            accounts: joined(&new),
            received: page.received,
            unusable: page.unusable,
        };
        self.bytes += page.accounts.len() as u64 + length(&page.ids) + length(&page.foreign);
        page
    }

    fn see(&mut self, id: &AccountId, is_own: bool) -> Seen {
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
    pub(super) fn is_current(&self, id: &AccountId) -> bool {
        self.marks.get(&mark(id)).is_some_and(|bits| bits & (1 << self.current.number) != 0)
    }

    /// Whether this round and the one before saw the same accounts.
    pub(super) fn agree(&self) -> bool {
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
        // What is no account has no id by which it could be seen twice.
        self.shifted |= page.fresh > 0 && page.fresh.saturating_add(page.unusable) < page.received;
        if page.fresh > 0 || page.unusable == page.received {
            self.unusable += u64::from(page.unusable);
        }
        self.empty |= page.received == 0;
        self.stale += u32::from(page.fresh == 0);
        self.pages.insert(number, page);
    }

    /// Whether asking for any further page is pointless, announced or not.
    pub(super) fn over(&self) -> bool {
        self.empty || self.stale >= MOST_STALE_PAGES
    }

    /// Whether the end of the list has shown.
    pub(super) fn ended(&self, page_size: u32, expected: u64) -> bool {
        if self.over() || self.pages.values().rev().take_while(|page| page.fresh == 0).count() >= STALE_PAGES {
            return true;
        }
        let short = self.pages.last_key_value().is_some_and(|(number, page)| *number > 1 && page.received < page_size);
        short && self.received() >= expected
    }

    /// Everything that came: accounts, and items that are none.
    pub(super) fn received(&self) -> u64 {
        self.accounts.saturating_add(self.unusable)
    }

    /// Whether a page behind this one brought something.
    pub(super) fn goes_on_behind(&self, number: u32) -> bool {
        self.pages.range(number.saturating_add(1)..).any(|(_, page)| page.received > 0)
    }
}

fn mark(id: &AccountId) -> Mark {
    let digest: [u8; 32] = Sha256::digest(id.as_str().as_bytes()).into();
    let mut mark = Mark::default();
    mark.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    mark
}

/// Bytes of ids.
fn length(ids: &[AccountId]) -> u64 {
    ids.iter().map(|id| id.as_str().len() as u64).sum()
}

/// The JSON of accounts, joined by commas.
pub(super) fn joined(accounts: &[&Account]) -> Bytes {
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
    use base::clock;
    use event::ConnectionId;
    use inbox::ReadingId;
    use proptest::prelude::*;

    fn page(ids: &[u32], foreign: &[u32], unusable: usize) -> AccountsPage {
        let mut items: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":"{id}","connection_id":"7"}}"#)).collect();
        items.extend(foreign.iter().map(|id| format!(r#"{{"id":"f{id}","connection_id":"8"}}"#)));
        items.extend(std::iter::repeat_n("null".to_owned(), unusable));
        AccountsPage::parse(&format!("[{}]", items.join(",")).into(), &ConnectionId::new("7"), 99).unwrap()
    }

    #[test]
    fn each_account_is_kept_once_over_all_rounds() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.add(1, &page(&[1, 2], &[9], 0)).fresh, 3);
        let second = rounds.add(2, &page(&[2, 3], &[], 0));
        assert_eq!((second.fresh, &second.accounts[..]), (1, &br#"{"id":"3","connection_id":"7"}"#[..]));
        assert!(rounds.current.shifted);
        rounds.next();
        assert!(rounds.add(1, &page(&[1, 3], &[], 0)).accounts.is_empty());
        assert_eq!((rounds.known, rounds.current.accounts), (3, 2));
        assert!(!rounds.agree() && rounds.is_current(&AccountId::new("3")) && !rounds.is_current(&AccountId::new("2")));
        rounds.next();
        rounds.add(1, &page(&[3], &[9], 0));
        rounds.add(2, &page(&[1], &[], 0));
        assert!(rounds.agree());
    }

    /// (A8) An item that cannot be used has come all the same: the list is as long as announced, and did not move.
    #[test]
    fn what_cannot_be_used_has_been_received() {
        let mut rounds = Rounds::default();
        rounds.add(1, &page(&[1, 2], &[], 1));
        assert_eq!(rounds.add(2, &page(&[3], &[], 1)).unusable, 1);
        assert_eq!((rounds.current.received(), rounds.current.accounts), (5, 3));
        assert!(!rounds.current.shifted && rounds.current.ended(3, 5) && !rounds.current.ended(3, 6));
        // The same page again brings nothing, and a list of nothing else ends as well.
        rounds.add(3, &page(&[3], &[], 1));
        rounds.add(4, &page(&[], &[], 3));
        assert_eq!(rounds.current.received(), 8);
        assert!(rounds.current.ended(3, 99));
    }

    proptest! {
        /// Whatever was kept before a crash, going on with it comes to the same state as never having stopped.
        #[test]
        fn resuming_is_exact(
            rounds in prop::collection::vec(
                prop::collection::vec(
                    (prop::collection::vec(0_u32..12, 0..5), prop::collection::vec(0_u32..4, 0..3), 0_usize..2),
                    1..6,
                ),
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
                for (index, (own, foreign, unusable)) in pages.iter().enumerate().rev() {
                    let kept = straight.add(u32::try_from(index).unwrap() + 1, &page(own, foreign, *unusable));
                    facts.push(PageFacts {
                        number: kept.number,
                        ids: kept.ids,
                        foreign: kept.foreign,
                        fresh: kept.fresh,
                        received: kept.received,
                        unusable: kept.unusable,
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
                (round.number, round.accounts, round.unusable, round.shifted, round.empty, round.stale, round.ended(3, 9))
            };
            prop_assert_eq!(facts(&resumed.current), facts(&straight.current));
        }
    }
}
