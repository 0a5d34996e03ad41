//! Who of the connections that failed goes next, when not all of them may.
//!
//! Such a connection is told when to come back. Who was told first goes first, as long as it comes within [`GRACE`] of its
//! time; who does not come loses its place.

use super::{Key, Moment};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

/// How late one may come without losing its place.
const GRACE: Duration = Duration::from_secs(10);
/// The least wait.
const LEAST: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST: Duration = Duration::from_mins(1);
/// The wait of one that came in time and found no slot.
const AGAIN: Duration = Duration::from_millis(250);
/// Places at most; who finds none is told to come back in [`LONGEST`].
const MOST: usize = 20_000;

#[derive(Debug, Default)]
pub(super) struct Turns {
    places: HashMap<Key, Place>,
    /// By the time at which they come.
    by_time: BTreeSet<(Moment, Key)>,
    next_number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    comes: Moment,
}

impl Turns {
    /// Whether it may go while so many slots are free: they are not for those who were told before it and come now.
    pub(super) fn may_go(&mut self, who: Key, free: usize, now: Moment) -> bool {
        self.forget_absent(now);
        let own = self.places.get(&who).map_or(u64::MAX, |place| place.number);
        let due = self.by_time.iter().take_while(|(comes, _)| *comes <= now);
        let first = due.filter(|(_, key)| self.places.get(key).is_some_and(|place| place.number < own));
        first.take(free).count() < free
    }

    /// Gives a place, or a new time to who has one. `took` is how long a slot is held, of which there are `share`.
    pub(super) fn book(&mut self, who: Key, took: Duration, share: usize, now: Moment) -> Moment {
        match self.places.get(&who).copied() {
            Some(place) if place.comes > now => return place.comes,
            Some(place) => {
                self.put(who, Place { comes: now.after(AGAIN), ..place });
                return now.after(AGAIN);
            }
            None if self.places.len() >= MOST => return now.after(LONGEST),
            None => {}
        }
        // Its turn comes when those before it have had theirs.
        let before = u32::try_from(self.places.len().saturating_add(1) / share.max(1)).unwrap_or(u32::MAX);
        let wait = took.saturating_mul(before).clamp(LEAST, LONGEST);
        let place = Place { number: self.next_number, comes: now.after(wait) };
        self.next_number = self.next_number.saturating_add(1);
        self.put(who, place);
        place.comes
    }

    /// It has its turn, or needs none any more.
    pub(super) fn leave(&mut self, who: Key) {
        if let Some(place) = self.places.remove(&who) {
            self.by_time.remove(&(place.comes, who));
        }
    }

    fn put(&mut self, who: Key, place: Place) {
        self.leave(who);
        self.places.insert(who, place);
        self.by_time.insert((place.comes, who));
    }

    fn forget_absent(&mut self, now: Moment) {
        while let Some((comes, who)) = self.by_time.first().copied()
            && now.since(comes) > GRACE
        {
            self.leave(who);
        }
    }
}
