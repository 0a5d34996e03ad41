//! The time of the server, by which all receivers agree when work is due and when a lease has ended.
//!
//! Every time in the tables is one of the server. What callers hand in, and what they get, is by the clock of their own machine; it
//! is translated here, by how far the two clocks are apart. Example: the clock of one receiver is ten minutes ahead. It asks that
//! a stage is tried again in a minute, and says 12:11; 12:01 is written, and every other receiver tries again at 12:01 by the
//! server's clock.
//!
//! Clocks that are less than a second apart are taken for one: to find out more, the way to the server would have to be subtracted,
//! and a time would come back other than it was handed in.

use base::clock::Timestamp;
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

/// Milliseconds by which two clocks may differ and be taken for one.
const SLACK: i64 = 1000;
/// A look at the server's clock that took longer says too little.
const QUICK: Duration = Duration::from_millis(500);

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Clock {
    local: fn() -> Timestamp,
    /// By how many milliseconds the server's clock is ahead of this machine's.
    ahead: AtomicI64,
}

/// When the server was asked for its time.
#[derive(Debug)]
pub(super) struct Asked(Instant);

impl Clock {
    pub(super) const fn new(local: fn() -> Timestamp) -> Self {
        Self { local, ahead: AtomicI64::new(0) }
    }

    /// The server is asked now.
    pub(super) fn ask() -> Asked {
        Asked(Instant::now())
    }

    /// The server's answer has just come.
    pub(super) fn note(&self, asked: &Asked, server: Timestamp) {
        let took = asked.0.elapsed();
        let known = self.ahead.load(Ordering::Relaxed);
        let ahead = server.as_millis().saturating_sub((self.local)().before(took / 2).as_millis());
        if took < QUICK {
            self.ahead.store(judge(known, ahead), Ordering::Relaxed);
        }
    }

    /// A time of this machine, by the server's clock.
    pub(super) fn server(&self, local: Timestamp) -> Timestamp {
        Timestamp::from_millis(local.as_millis().saturating_add(self.ahead.load(Ordering::Relaxed)))
    }

    /// A time of the server, by this machine's clock.
    pub(super) fn local(&self, server: Timestamp) -> Timestamp {
        Timestamp::from_millis(server.as_millis().saturating_sub(self.ahead.load(Ordering::Relaxed)))
    }

    /// The ends of a span of time, by the server's clock.
    pub(super) fn span(&self, span: crate::Span) -> [i64; 2] {
        crate::Span { since: span.since.map(|at| self.server(at)), until: span.until.map(|at| self.server(at)) }
            .bounds()
    }
}

/// How far the clocks are taken to be apart, after one more look.
const fn judge(known: i64, found: i64) -> i64 {
    if found.saturating_abs() <= SLACK {
        0
    } else if found.saturating_sub(known).saturating_abs() <= SLACK {
        known
    } else {
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_close_are_one_and_others_keep_their_distance() {
        assert_eq!(judge(0, 900), 0);
        assert_eq!(judge(0, -601_234), -601_234);
        assert_eq!(judge(-601_234, -600_900), -601_234, "what was written comes back as it was");
        assert_eq!(judge(-601_234, 3_600_000), 3_600_000, "the clock was set");
        assert_eq!(judge(3_600_000, 12), 0, "and set again");
    }

    #[test]
    fn times_come_back_as_they_were_handed_in() {
        let clock = Clock::new(|| Timestamp::from_millis(1_000_000));
        clock.note(&Clock::ask(), Timestamp::from_millis(1_600_000));
        let due = Timestamp::from_millis(1_060_000);
        let ahead = clock.server(due).as_millis() - due.as_millis();
        assert!((599_000..=601_000).contains(&ahead), "{ahead}");
        assert_eq!(clock.local(clock.server(due)), due);
    }
}
