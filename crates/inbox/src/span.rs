//! A span of time.

use base::clock::Timestamp;

/// From a time on, and before another one. By default: all of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first instant of it; `None`: the beginning of time.
    pub since: Option<Timestamp>,
    /// The first instant behind it; `None`: there is none.
    pub until: Option<Timestamp>,
}

impl Span {
    /// Whether it is all of time.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.since.is_none() && self.until.is_none()
    }

    /// Whether an instant lies in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at < until)
    }

    /// Its ends in milliseconds, each as `from <= at <= to`.
    pub(crate) fn bounds(&self) -> [i64; 2] {
        let from = self.since.map_or(i64::MIN, Timestamp::as_millis);
        [from, self.until.map_or(i64::MAX, |until| until.as_millis().saturating_sub(1))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_its_first_instant_and_not_its_last() {
        let at = Timestamp::from_millis;
        let span = Span { since: Some(at(10)), until: Some(at(20)) };
        assert_eq!([9, 10, 19, 20].map(|millis| span.contains(at(millis))), [false, true, true, false]);
        assert_eq!(span.bounds(), [10, 19]);
        assert!(Span::default().is_all() && !span.is_all());
        assert!(Span::default().contains(at(i64::MAX)) && Span::default().bounds() == [i64::MIN, i64::MAX]);
    }
}
