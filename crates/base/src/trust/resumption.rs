//! How what was parked because of a neighbour goes back in line when the neighbour is well again: one first, as a trial, and
//! only when that went well more, twice as many each time.
//!
//! Nothing resumes and parks in a circle: after a trial that failed nothing is put back for an hour, then two, up to a day
//! where other work shows sooner that the neighbour is well; and each entry goes back by itself at most once in
//! [`RESUME_AGAIN_AFTER`], which its inbox entry remembers.

use super::Moment;
use std::time::Duration;

/// An entry goes back in line by itself at most once in this time.
pub const RESUME_AGAIN_AFTER: Duration = Duration::from_hours(24);

/// Put back at once at most.
const MOST: usize = 500;
/// How long one batch is waited for.
const PATIENCE: Duration = Duration::from_mins(5);
/// After a trial that failed: the first pause; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_hours(1);
/// The longest, where other work goes on.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);

/// How many may go back in line.
#[derive(Debug, Default)]
pub struct Resumption {
    /// Whether these trials may be all that reaches the neighbour.
    is_alone: bool,
    /// How many the next batch may have; 0 counts as 1.
    next: usize,
    /// Of the batch under way, those whose end is not known.
    open: usize,
    since: Moment,
    not_before: Moment,
    pause: Option<Duration>,
}

impl Resumption {
    /// Of a neighbour that nothing may reach but these trials, because what is parked holds up all that would come after it: the
    /// pause stays that of the first trial that failed.
    #[must_use]
    pub fn alone() -> Self {
        Self { is_alone: true, ..Self::default() }
    }

    /// How many may be put back now.
    #[must_use]
    pub fn allowance(&self, now: Moment) -> usize {
        let is_busy = self.open > 0 && now.since(self.since) < PATIENCE;
        if is_busy || now < self.not_before { 0 } else { self.next.max(1) }
    }

    /// So many were put back.
    pub const fn put_back(&mut self, count: usize, now: Moment) {
        self.open = count;
        self.since = now;
    }

    /// The neighbour works again, by what others were answered: the next trial may go at once.
    pub fn begin_again(&mut self) {
        *self = Self { is_alone: self.is_alone, ..Self::default() };
    }

    /// One that was put back ended.
    pub fn ended(&mut self, went_well: bool, now: Moment) {
        if !went_well {
            let longest = if self.is_alone { FIRST_PAUSE } else { LONGEST_PAUSE };
            let pause = self.pause.map_or(FIRST_PAUSE, |pause| pause.saturating_mul(2).min(longest));
            // Others of the same batch fail with it, and that is one failure.
            if now >= self.not_before {
                self.pause = Some(pause);
                self.not_before = now.after(pause);
            }
            self.open = 0;
            self.next = 0;
            return;
        }
        if now < self.not_before {
            return;
        }
        self.pause = None;
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.next = self.next.max(1).saturating_mul(2).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    #[test]
    fn one_goes_first_then_twice_as_many_each_time() {
        let mut resumption = Resumption::default();
        let mut batches = Vec::new();
        for second in 0..12 {
            let count = resumption.allowance(at(second));
            batches.push(count);
            resumption.put_back(count, at(second));
            assert_eq!(resumption.allowance(at(second)), 0, "the batch is under way");
            for _ in 0..count {
                resumption.ended(true, at(second));
            }
        }
        assert_eq!(batches, [1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 500, 500]);
    }

    /// However often the neighbour seems well: what fails again goes back in line a few times a day at most.
    #[test]
    fn nothing_resumes_and_parks_in_a_circle() {
        let trials = |mut resumption: Resumption| -> Vec<u64> {
            let mut hours = Vec::new();
            for minute in 0..3 * 24 * 60 {
                let now = at(minute * 60);
                let count = resumption.allowance(now);
                if count > 0 {
                    assert_eq!(count, 1);
                    hours.push(minute / 60);
                    resumption.put_back(count, now);
                    resumption.ended(false, now);
                }
            }
            hours
        };
        assert_eq!(trials(Resumption::default()), [0, 1, 3, 7, 15, 31, 55]);
        let hourly: Vec<u64> = (0..3 * 24).collect();
        assert_eq!(trials(Resumption::alone()), hourly, "nothing else shows that the neighbour is well again");
        let mut begun_again = Resumption::alone();
        begun_again.begin_again();
        assert_eq!(trials(begun_again), hourly);
    }

    #[test]
    fn a_batch_that_never_ends_is_not_waited_for_for_ever() {
        let mut resumption = Resumption::default();
        resumption.put_back(1, at(0));
        assert_eq!((resumption.allowance(at(299)), resumption.allowance(at(300))), (0, 1));
    }
}
