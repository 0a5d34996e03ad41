//! Which time a command means: `--since`, `--until`.

use crate::commands::Failure;
use base::clock::{self, Timestamp};
use clap::Args;
use inbox::Span;
use settings::units;

/// From when on, and until when.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct When {
    /// Only from this time on: RFC 3339 (2026-01-31T08:00:00Z), or how long ago (90m, 2h, 3d). For entries, the time of acceptance
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only from before this time, written in the same ways
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
}

impl When {
    pub(super) const fn span(&self) -> Span {
        Span { since: self.since, until: self.until }
    }

    /// Refuses a span with nothing in it: one of its ends is a slip.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match (self.since, self.until) {
            (Some(since), Some(until)) if since >= until => Err(Failure::usage(
                "--since is not before --until, so nothing lies between them\nhint: an age counts back from now: `--since 3d --until 1d`",
            )),
            _ => Ok(()),
        }
    }

    /// The options as the audit trail has them: an age would say nothing later.
    pub(super) fn words(&self) -> impl Iterator<Item = String> {
        let word = |name: &str, at: Option<Timestamp>| at.and_then(|at| Some(format!("{name} {}", at.to_rfc3339()?)));
        [word("--since", self.since), word("--until", self.until)].into_iter().flatten()
    }
}

/// RFC 3339, or an age.
fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(age) = units::duration(text) {
        return Ok(clock::now().before(age));
    }
    let at: Result<jiff::Timestamp, _> = text.parse();
    at.map(|at| Timestamp::from_millis(at.as_millisecond())).map_err(|_no_time| {
        "expected a time with its offset, such as 2026-01-31T08:00:00Z, or an age, such as 90m, 2h or 3d".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_instants_or_ages() {
        let at = |text: &str| time(text).unwrap();
        assert_eq!(at("2026-01-31T08:00:00Z"), Timestamp::from_millis(1_769_846_400_000));
        assert_eq!(at("2026-01-31T09:00:00.5+01:00"), Timestamp::from_millis(1_769_846_400_500));
        for (text, hours) in [("2h", 2), ("3d", 72), ("1d 1h", 25), ("90m 30m", 2)] {
            let age = clock::now().since(at(text));
            assert!(age.abs_diff(Duration::from_hours(hours)) < Duration::from_mins(1), "{text}: {age:?}");
        }
        for text in ["", "yesterday", "2026-01-31", "2026-01-31T08:00:00", "2", "-2h", "2w", "1.5h"] {
            assert!(time(text).unwrap_err().contains("such as 90m, 2h or 3d"), "{text}");
        }
    }

    #[test]
    fn the_audit_trail_has_instants() {
        let when = When { since: Some(Timestamp::from_millis(0)), until: None };
        assert_eq!(when.words().collect::<Vec<_>>(), ["--since 1970-01-01T00:00:00Z"]);
        let nothing = When { since: Some(Timestamp::from_millis(5)), until: Some(Timestamp::from_millis(5)) };
        assert_eq!(nothing.check().unwrap_err().code, 64);
    }
}
