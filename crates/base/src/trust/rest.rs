//! Who rests after `Retry-After`. First it is the connection whose call was answered so: a limit for one user is not a limit
//! for all. When a second connection is told to rest while the first one still does, and no call that began after the first
//! was told succeeded, the whole neighbour rests, for the shorter of the two times.

use super::{Key, Moment};

/// The rests that concern more than one connection.
#[derive(Debug, Default)]
pub(super) struct Rests {
    first: Option<Told>,
    all_until: Option<Moment>,
}

/// The last connection that was told to rest.
#[derive(Clone, Copy, Debug)]
struct Told {
    who: Key,
    at: Moment,
    until: Moment,
}

impl Rests {
    /// Until when the whole neighbour rests.
    pub(super) fn of_all(&self, now: Moment) -> Option<Moment> {
        self.all_until.filter(|until| *until > now)
    }

    /// A connection was told to rest. Returns until when the whole neighbour rests because of that.
    pub(super) fn asked(&mut self, who: Key, until: Moment, now: Moment) -> Option<Moment> {
        let before = self.first.filter(|first| first.until > now);
        match before {
            Some(first) if first.who != who => {
                let all = first.until.min(until);
                self.all_until = self.all_until.max(Some(all));
                // The longer of the two is what the next one is compared with.
                if until > first.until {
                    self.first = Some(Told { who, at: now, until });
                }
                self.all_until
            }
            Some(first) => {
                self.first = Some(Told { until: first.until.max(until), ..first });
                None
            }
            None => {
                self.first = Some(Told { who, at: now, until });
                None
            }
        }
    }

    /// A call that began then succeeded.
    pub(super) fn works(&mut self, started: Moment) {
        self.first = self.first.filter(|first| first.at > started);
    }
}
