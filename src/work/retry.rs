//! When to try again, and when to stop: pure decisions.

use base::{
    clock::Timestamp,
    trust::{Own, Proof},
};
use inbox::{Cause, Doubts, Lease, Outcome};
use std::time::Duration;

/// Work is not given up after fewer attempts, however long ago the first one failed: the clock may have been set, or the other
/// side left alone meanwhile. Ten attempts take some minutes.
const FEWEST: u32 = 10;
/// The same, where work may be tried for less than an hour.
const FEWEST_WITHIN_AN_HOUR: u32 = 3;

/// How failures of one kind of work are answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// Longest wait after the first failure; doubles with each further one.
    pub first: Duration,
    /// Longest wait between two tries.
    pub longest: Duration,
    /// From the first failure of an unbroken run to parking.
    pub give_up_after: Duration,
}

/// A failed attempt, and what is known of those before it.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// When the first failure of this run happened, if this is not it.
    pub failing_since: Option<Timestamp>,
    /// The run of doubtful failures before this one.
    pub doubts: Doubts,
    /// What it takes until this failure is believed; `None` where it is the lack of an answer, and never is.
    pub doubt: Option<Proof>,
    /// Whether it is believed already, because of what others were answered.
    pub is_believed: bool,
    /// What it is parked as, once it is believed.
    pub believed_as: Cause,
    /// The other side's own wish.
    pub after: Option<Duration>,
    /// One sentence for people, without its full stop: what happened.
    pub reason: String,
    /// What a person can do, once it is parked.
    pub remedy: &'static str,
}

impl Failed {
    /// A failure of the attempt that a lease stands for.
    #[must_use]
    pub(super) fn of(lease: &Lease, reason: String, remedy: &'static str) -> Self {
        Self {
            attempts: lease.attempts,
            failing_since: lease.failing_since,
            doubts: lease.doubts,
            doubt: None,
            is_believed: false,
            believed_as: Cause::Refused,
            after: None,
            reason,
            remedy,
        }
    }

    /// The doubtful failures in a row that this work saw, this one included.
    pub(super) fn own(&self, now: Timestamp) -> Own {
        Own {
            tries: self.doubts.tries.saturating_add(1),
            lasting: self.doubts.since.map_or(Duration::ZERO, |since| now.since(since)),
        }
    }

    /// For how long it has been answered like this, where that is long enough to be believed.
    fn meant_for(&self, now: Timestamp) -> Option<Duration> {
        let (proof, own) = (self.doubt?, self.own(now));
        (self.is_believed || proof.is_given_by(own)).then_some(own.lasting)
    }
}

impl Policy {
    /// Decides on the next try: exponential backoff with full jitter, on top of what the other side asked for, so that
    /// those who were asked for the same do not come back all at once.
    ///
    /// `dice` is a random number; the same number gives the same decision.
    #[must_use]
    pub(super) fn decide(&self, failed: Failed, now: Timestamp, dice: u64) -> Outcome {
        let failing_for = failed.failing_since.map_or(Duration::ZERO, |since| now.since(since));
        let believed = failed.meant_for(now);
        let is_short = self.give_up_after < Duration::from_hours(1);
        let fewest = if is_short { FEWEST_WITHIN_AN_HOUR } else { FEWEST };
        let is_over = failing_for >= self.give_up_after && failed.attempts >= fewest;
        let Failed { attempts, reason, remedy, believed_as, after, doubt, .. } = failed;
        let enough = match believed {
            Some(lasted) => Some((believed_as, lasted)),
            None => is_over.then_some((Cause::GaveUp, failing_for)),
        };
        if let Some((cause, lasted)) = enough {
            let reason = format!("{reason}; given up after {attempts} attempts in {}: {remedy}", spoken(lasted));
            return Outcome::Park { cause, reason };
        }
        let doublings = attempts.saturating_sub(1).min(20);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.longest);
        let millis = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX).max(1);
        let wait = after.unwrap_or_default() + Duration::from_millis(dice % millis + 1);
        Outcome::Retry { due: now.after(wait), reason, is_doubtful: doubt.is_some() }
    }
}

/// A duration in its largest whole unit.
fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7_200.. => format!("{} hours", seconds / 3_600),
        120.. => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: Policy = Policy {
        first: Duration::from_secs(1),
        longest: Duration::from_mins(15),
        give_up_after: Duration::from_hours(72),
    };
    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn failed(attempts: u32) -> Failed {
        Failed {
            attempts,
            failing_since: None,
            doubts: Doubts::default(),
            doubt: None,
            is_believed: false,
            believed_as: Cause::Refused,
            after: None,
            reason: "the sink answered 500".to_owned(),
            remedy: "look at it",
        }
    }

    fn wait(failed: Failed, dice: u64) -> Duration {
        match POLICY.decide(failed, NOW, dice) {
            Outcome::Retry { due, .. } => due.since(NOW),
            other => panic!("{other:?}"),
        }
    }

    fn ago(seconds: u64) -> Timestamp {
        NOW.before(Duration::from_secs(seconds))
    }

    #[test]
    fn a_schedule_of_an_hour_needs_as_many_tries_as_a_longer_one() {
        for (minutes, fewest) in [(59, FEWEST_WITHIN_AN_HOUR), (60, FEWEST)] {
            let policy = Policy { give_up_after: Duration::from_mins(minutes), ..POLICY };
            let after = |attempts| policy.decide(Failed { failing_since: Some(ago(3600)), ..failed(attempts) }, NOW, 0);
            assert!(matches!(after(fewest - 1), Outcome::Retry { .. }), "{minutes}");
            assert!(matches!(after(fewest), Outcome::Park { .. }), "{minutes}");
        }
    }

    proptest! {
        #[test]
        fn waits_within_the_doubling_ceiling_above_what_was_asked_for(
            attempts in 1_u32..100, dice in any::<u64>(), asked in 0_u64..3600,
        ) {
            let asked = Duration::from_secs(asked);
            let waited = wait(Failed { after: Some(asked), ..failed(attempts) }, dice);
            let ceiling = Duration::from_secs(1_u64 << (attempts - 1).min(20)).min(POLICY.longest);
            prop_assert!(waited > asked && waited <= asked + ceiling);
        }
    }

    #[test]
    fn those_who_were_asked_for_the_same_wait_do_not_come_back_at_once() {
        let asked = || Failed { after: Some(Duration::from_secs(30)), ..failed(1) };
        let waits: std::collections::BTreeSet<_> = (0..100).map(|dice| wait(asked(), dice * 7)).collect();
        assert_eq!(waits.len(), 100);
    }

    #[test]
    fn parks_when_it_failed_for_too_long() {
        let failed = |days: u64| Failed { failing_since: Some(ago(days * 86_400)), ..failed(40) };
        assert!(matches!(POLICY.decide(failed(2), NOW, 7), Outcome::Retry { .. }));
        let Outcome::Park { cause, reason } = POLICY.decide(failed(3), NOW, 7) else { panic!("not parked") };
        assert_eq!(cause, Cause::GaveUp);
        assert_eq!(reason, "the sink answered 500; given up after 40 attempts in 3 days: look at it");
    }

    /// (D5) The clock was set forward by days: nothing is parked after two attempts.
    #[test]
    fn time_alone_gives_nothing_up() {
        let failed = |attempts| Failed { failing_since: Some(ago(4 * 86_400)), ..failed(attempts) };
        assert!(matches!(POLICY.decide(failed(9), NOW, 7), Outcome::Retry { .. }));
        assert!(matches!(POLICY.decide(failed(10), NOW, 7), Outcome::Park { .. }));
        let short = Policy { give_up_after: Duration::from_secs(10), ..POLICY };
        assert!(matches!(short.decide(failed(2), NOW, 7), Outcome::Retry { .. }));
        assert!(matches!(short.decide(failed(3), NOW, 7), Outcome::Park { .. }));
    }

    #[test]
    fn an_answer_is_believed_after_some_in_a_row_over_some_time_and_other_failures_do_not_count() {
        let doubt = Some(Proof { tries: 5, lasting: Duration::from_hours(1) });
        let answered = |tries: u32, since: Option<Timestamp>| {
            let failed =
                Failed { doubts: Doubts { tries, since }, doubt, failing_since: Some(ago(7200)), ..failed(40) };
            POLICY.decide(failed, NOW, 7)
        };
        assert!(matches!(answered(0, None), Outcome::Retry { is_doubtful: true, .. }), "the first after many failures");
        assert!(matches!(answered(30, Some(ago(3599))), Outcome::Retry { .. }), "many, but all at once");
        assert!(matches!(answered(3, Some(ago(3600))), Outcome::Retry { .. }), "for long, but few");
        let Outcome::Park { cause: Cause::Refused, reason } = answered(4, Some(ago(3600))) else {
            panic!("not parked")
        };
        assert!(reason.ends_with("in 60 minutes: look at it"), "{reason}");
        let believed =
            Failed { doubts: Doubts { tries: 4, since: Some(ago(60)) }, doubt, is_believed: true, ..failed(5) };
        assert!(matches!(POLICY.decide(believed, NOW, 7), Outcome::Park { cause: Cause::Refused, .. }));
        let silent = Failed { doubts: Doubts { tries: 9, since: Some(ago(3600)) }, ..failed(40) };
        assert!(matches!(POLICY.decide(silent, NOW, 7), Outcome::Retry { is_doubtful: false, .. }));
    }
}
