//! When to try again, and when to stop: pure decisions.

use crate::{clock::Timestamp, inbox::Outcome};
use std::time::Duration;

/// How failures of one kind of work are answered.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Longest wait after the first failure; doubles with each further one.
    pub first: Duration,
    /// Longest wait between two tries.
    pub longest: Duration,
    /// From the first failure of an unbroken run to parking; `None`: for ever.
    pub give_up_after: Option<Duration>,
}

/// What is known of a failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// When the first failure of this run happened, if this is not it.
    pub failing_since: Option<Timestamp>,
    /// The other side's own wish.
    pub after: Option<Duration>,
}

impl Policy {
    /// Decides on the next try: exponential backoff with full jitter, never before what the other side asked for.
    ///
    /// `dice` is a random number; the same number gives the same decision.
    #[must_use]
    pub fn decide(&self, failed: Failed, now: Timestamp, dice: u64, reason: String) -> Outcome {
        let failing_for = failed.failing_since.map_or(Duration::ZERO, |since| now.since(since));
        if self.give_up_after.is_some_and(|limit| failing_for >= limit) {
            return Outcome::Park {
                reason: format!("{reason}; given up after {} attempts in {}", failed.attempts, spoken(failing_for)),
            };
        }
        let doublings = failed.attempts.saturating_sub(1).min(20);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.longest);
        let millis = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX).max(1);
        let wait = Duration::from_millis(dice % millis + 1).max(failed.after.unwrap_or_default());
        Outcome::Retry { due: now.after(wait), reason }
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
        give_up_after: Some(Duration::from_hours(72)),
    };
    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn wait(failed: Failed, dice: u64) -> Duration {
        match POLICY.decide(failed, NOW, dice, "down".to_owned()) {
            Outcome::Retry { due, .. } => due.since(NOW),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn waits_within_the_doubling_ceiling(attempts in 1_u32..100, dice in any::<u64>()) {
            let waited = wait(Failed { attempts, failing_since: None, after: None }, dice);
            let ceiling = Duration::from_secs(1_u64 << (attempts - 1).min(20)).min(POLICY.longest);
            prop_assert!(waited > Duration::ZERO && waited <= ceiling);
        }

        #[test]
        fn never_before_what_was_asked_for(attempts in 1_u32..100, dice in any::<u64>(), asked in 0_u64..3600) {
            let asked = Duration::from_secs(asked);
            let waited = wait(Failed { attempts, failing_since: None, after: Some(asked) }, dice);
            prop_assert!(waited >= asked);
        }
    }

    #[test]
    fn parks_when_it_failed_for_too_long() {
        let failed = |days: u64| Failed {
            attempts: 40,
            failing_since: Some(NOW.before(Duration::from_secs(days * 86_400))),
            after: None,
        };
        assert!(matches!(POLICY.decide(failed(2), NOW, 7, String::new()), Outcome::Retry { .. }));
        let Outcome::Park { reason } = POLICY.decide(failed(3), NOW, 7, "the sink answered 500".to_owned()) else {
            panic!("not parked")
        };
        assert_eq!(reason, "the sink answered 500; given up after 40 attempts in 3 days");
    }
}
