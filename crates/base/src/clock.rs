//! Wall-clock time as the inbox stores it: whole milliseconds since the Unix epoch.
//!
//! One type for every stored instant, so that seconds and milliseconds cannot be mixed. Durations inside
//! one process (timeouts, latencies) use [`std::time::Instant`], never this.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// 0001-01-01T00:00:00Z
const YEAR_ONE: i64 = -62_135_596_800_000;

/// An instant in whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Wraps milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, for metrics.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant moved forward; saturates at the end of time.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This instant moved back; saturates at the start of time.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this instant is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC, to the millisecond unless it is a whole second; `None` outside the years 1 to 9999. (RFC 3339 can write
    /// the year 0, but PostgreSQL cannot read it.)
    #[must_use]
    pub fn to_rfc3339(self) -> Option<String> {
        if self.0 < YEAR_ONE {
            return None;
        }
        let at = jiff::Timestamp::from_millisecond(self.0).ok()?;
        Some(if self.0 % 1000 == 0 { format!("{at:.0}") } else { format!("{at:.3}") })
    }
}

/// Whole milliseconds of a duration, for a log field.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads the system clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The time of day at a moment of this process, as exact as the system has it: for spans of traces, which are often shorter
/// than a millisecond. Nothing else is stored or compared in this form.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
pub fn time_of_day(at: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(at.elapsed()).unwrap_or(now)
}
