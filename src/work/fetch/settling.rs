//! How long an event that is ahead of the API waits. Pure.
//!
//! Linxo may send an event before its API knows all that the event speaks of. Then the list is shorter than announced, or the
//! connection unknown, for some seconds. So both mean "not yet" until `linxo.settle_for` is over. That is counted from the time
//! at which the event was accepted, so that the waits of events that stand in one line do not add up. In between nothing is
//! held: the event goes back into its line with the time of the next look.

use base::clock::Timestamp;
use std::time::Duration;

/// Before the second look at least.
const SHORTEST: Duration = Duration::from_millis(500);
/// Between two looks at most.
const LONGEST: Duration = Duration::from_mins(1);

/// When to look again; `None` once the time is over. The waits grow: each is half as long as the event has waited so far.
pub(super) fn next_look(accepted: Timestamp, settle_for: Duration, now: Timestamp) -> Option<Timestamp> {
    let waited = now.since(accepted);
    let left = settle_for.checked_sub(waited).filter(|left| !left.is_zero())?;
    // The last look is when the time is over.
    Some(now.after((waited / 2).clamp(SHORTEST, LONGEST).min(left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// (A2) Looks come soon at first, then rarely, the last one at the end; none comes after it.
    #[test]
    fn looks_grow_apart_and_end_with_the_time() {
        let settle_for = Duration::from_mins(10);
        let (mut now, mut looks) = (ACCEPTED, Vec::new());
        while let Some(next) = next_look(ACCEPTED, settle_for, now) {
            looks.push(next.since(ACCEPTED));
            now = next;
        }
        assert_eq!(looks[..3], [500, 1000, 1500].map(Duration::from_millis));
        assert_eq!(looks.last(), Some(&settle_for));
        assert!((15..30).contains(&looks.len()), "{looks:?}");
        assert!(looks.windows(2).all(|pair| pair[1].saturating_sub(pair[0]) <= LONGEST));
    }

    #[test]
    fn an_event_that_waited_in_line_for_longer_is_not_held_up() {
        let late = ACCEPTED.after(Duration::from_mins(10));
        assert_eq!(next_look(ACCEPTED, Duration::from_mins(10), late), None);
        assert_eq!(next_look(ACCEPTED, Duration::ZERO, ACCEPTED), None);
    }
}
