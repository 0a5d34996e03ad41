//! Merging, as pure functions: which events of one connection that wait together become one delivery, and what the end of that
//! delivery does to their stages.
//!
//! ```text
//! accepted   e1 ───── e2 ──│ quiet │──► e1 and e2 leave as one delivery
//!            │──────────── longest ────────────│  at the latest here
//! ```
//!
//! The stage of e1 is first in its line. When it falls due, a back end looks at what stands behind it, and [`gather`] says whether it
//! waits for more or goes now, and with how many. Those form a **group**. A back end stores the group together with the first
//! lease, so a crash, a retry and a replay deliver the same events under the same id. The first stage alone is leased; the others
//! stay queued behind it. When it leaves its line, they leave with it ([`Progress::follow`]).
//!
//! Promises, held by the model in `model` and by the contract:
//! - Only what was never tried joins a group, and no stage is in two groups of its sink.
//! - The stages of a group are in line together, or done together, or parked together.

use super::{Progress, Standing};
use crate::{DeliveryId, Outcome, Window};
use base::clock::Timestamp;
use std::time::Duration;

/// Most events in one delivery. All their ids go along, also in a header, and servers bound the length of a head.
pub const MOST_MERGED: usize = 16;

/// What stands behind the first stage of a line, in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// It may join the delivery.
    Joins {
        /// When its event was accepted.
        accepted: Timestamp,
        /// Whether everything that it needs is done.
        is_ready: bool,
    },
    /// It goes by itself, and so nothing behind it joins either: it was tried before, or is an event of another kind, or stands behind a
    /// parked one that holds up its line ([`Order`](super::Order)).
    Ends,
}

/// When the first stage of a line goes, and with how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathered {
    /// Not yet: look again at this time.
    Wait(Timestamp),
    /// Now, with so many of those that stand right behind it.
    Go(usize),
}

/// Decides for the stage that is first in its line, whose event was accepted at `first`. An event whose needs are not done is waited
/// for until `longest` is over. Then the ones before it go, and it begins the next group: a later event never overtakes it.
#[must_use]
pub fn gather(first: Timestamp, behind: &[Behind], window: Window, now: Timestamp) -> Gathered {
    // What was accepted in the future was accepted before the clock was set back: nobody waits for that.
    let waits = |from: Timestamp, long: Duration| if from > now { now } else { from.after(long) };
    let (mut quiet, mut ready, mut is_held_up) = (waits(first, window.quiet), 0, false);
    for (index, behind) in behind.iter().enumerate().take(MOST_MERGED - 1) {
        let Behind::Joins { accepted, is_ready } = *behind else { break };
        quiet = quiet.max(waits(accepted, window.quiet));
        is_held_up |= !is_ready;
        if !is_held_up {
            ready = index + 1;
        }
    }
    if ready + 1 == MOST_MERGED {
        return Gathered::Go(ready);
    }
    if is_held_up {
        // Nobody says when its needs are done.
        quiet = quiet.max(now.after(window.quiet));
    }
    let until = quiet.min(waits(first, window.longest));
    if until > now { Gathered::Wait(until) } else { Gathered::Go(ready) }
}

impl Progress {
    /// Lets the first of its line wait for events that may join its delivery.
    pub const fn wait_until(&mut self, due: Timestamp) {
        self.due = due;
    }

    /// As [`settle`](Self::settle), of a stage that is delivered as one with others under an id.
    pub fn settle_merged(&mut self, outcome: &Outcome, id: Option<&DeliveryId>, now: Timestamp) {
        self.settle(outcome, now);
        if *outcome == Outcome::Done {
            self.reason = id.map(|id| format!("merged into {id}"));
        }
    }

    /// Takes it out of its line as the first stage of its group has left it. Nothing happens where that one is still in line.
    pub fn follow(&mut self, first: &Self, now: Timestamp) {
        if !first.standing.is_in_line() && self.standing.is_in_line() {
            self.leave(first.standing, first.cause.clone(), first.reason.clone(), now);
        }
    }

    /// Whether it was never given to a worker, as far as its own figures say.
    #[must_use]
    pub fn is_untried(&self) -> bool {
        matches!(self.standing, Standing::Queued | Standing::Due)
            && self.attempts == 0
            && self.token.is_none()
            && self.losses == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, rules::tests::at};
    use proptest::prelude::*;

    const WINDOW: Window = Window { quiet: Duration::from_millis(50), longest: Duration::from_millis(200) };

    fn joins(accepted: i64) -> Behind {
        Behind::Joins { accepted: at(accepted), is_ready: true }
    }

    fn unready(accepted: i64) -> Behind {
        Behind::Joins { accepted: at(accepted), is_ready: false }
    }

    #[test]
    fn a_delivery_waits_for_quiet_after_the_newest_event_and_not_longer_than_the_oldest_may() {
        for (behind, now, wanted) in [
            (vec![], 149, Gathered::Wait(at(150))),
            (vec![], 150, Gathered::Go(0)),
            (vec![joins(140)], 150, Gathered::Wait(at(190))),
            (vec![joins(140)], 190, Gathered::Go(1)),
            (vec![joins(140), joins(180), joins(280)], 299, Gathered::Wait(at(300))),
            (vec![joins(140), joins(180), joins(280)], 300, Gathered::Go(3)),
            // What was tried goes by itself, and nothing passes it.
            (vec![joins(140), Behind::Ends, joins(180)], 190, Gathered::Go(1)),
            (vec![Behind::Ends, joins(180)], 150, Gathered::Go(0)),
        ] {
            assert_eq!(gather(at(100), &behind, WINDOW, at(now)), wanted, "{behind:?} at {now}");
        }
    }

    #[test]
    fn an_event_whose_accounts_are_not_there_is_waited_for_and_then_left_to_the_next_delivery() {
        let behind = [joins(110), unready(120), joins(130)];
        assert_eq!(gather(at(100), &behind, WINDOW, at(190)), Gathered::Wait(at(240)), "another look");
        assert_eq!(gather(at(100), &behind, WINDOW, at(290)), Gathered::Wait(at(300)), "the longest wait");
        assert_eq!(gather(at(100), &behind, WINDOW, at(300)), Gathered::Go(1));
    }

    #[test]
    fn a_full_delivery_waits_for_nobody() {
        let behind = [joins(120); MOST_MERGED];
        assert_eq!(gather(at(100), &behind, WINDOW, at(121)), Gathered::Go(MOST_MERGED - 1));
        assert_eq!(gather(at(100), &behind[..MOST_MERGED - 2], WINDOW, at(121)), Gathered::Wait(at(170)));
    }

    #[test]
    fn what_was_accepted_before_the_clock_was_set_back_is_not_waited_for() {
        assert_eq!(gather(at(5_000), &[joins(6_000)], WINDOW, at(100)), Gathered::Go(1));
        assert_eq!(gather(at(90), &[joins(6_000)], WINDOW, at(100)), Gathered::Wait(at(140)));
    }

    #[test]
    fn the_others_leave_as_the_first_leaves() {
        let (mut first, mut other) = (Progress::queued(at(1)), Progress::queued(at(1)));
        first.stand(true, true);
        other.follow(&first, at(2));
        assert_eq!(other, Progress::queued(at(1)), "the first is still in line");
        let mut done = first.clone();
        done.settle_merged(&Outcome::Done, Some(&DeliveryId::new("e2~m01")), at(3));
        other.follow(&done, at(3));
        assert_eq!((other.standing, other.reason.as_deref()), (Standing::Done, Some("merged into e2~m01")));
        let mut parked = Progress::queued(at(1));
        first.settle_merged(&Outcome::Park { cause: Cause::Refused, reason: "no".to_owned() }, None, at(4));
        parked.follow(&first, at(4));
        assert_eq!(
            (parked.standing, parked.cause, parked.reason.as_deref()),
            (Standing::Parked, Some(Cause::Refused), Some("no"))
        );
    }

    proptest! {
        /// Whatever stands in the line: it goes within the longest wait, and what waits looks again later than now.
        #[test]
        fn nobody_waits_for_ever(times in prop::collection::vec((0_i64..10_000, any::<bool>()), 0..30), first in 0_i64..10_000, now in 0_i64..10_000) {
            let behind: Vec<_> =
                times.iter().map(|(accepted, is_ready)| Behind::Joins { accepted: at(*accepted), is_ready: *is_ready }).collect();
            match gather(at(first), &behind, WINDOW, at(now)) {
                Gathered::Wait(until) => prop_assert!(until > at(now) && until <= at(first).after(WINDOW.longest)),
                Gathered::Go(count) => {
                    prop_assert!(count < MOST_MERGED && count <= behind.len());
                    prop_assert!(times.iter().take(count).all(|(_, is_ready)| *is_ready));
                }
            }
        }
    }
}
