//! What ends by itself while the service runs: certificates, authorities, revocation lists.
//!
//! In: the facts of what a listener uses, and the time. Out: a warning each time that a threshold has been passed, and whether a
//! revocation list has ended since the last look. Loading says what is so then; here is only what comes after.

use crate::receive::tls::{self, Certificate, Listener, RevocationList};
use base::clock::{self, Timestamp};
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);
/// Days before the end of a certificate that deserve a warning; after it, every day does.
const BEFORE: [u32; 3] = [30, 7, 1];

/// Facts of what is in use, and when they were last looked at.
#[derive(Debug)]
pub(super) struct Ends {
    listener: Listener,
    certificate: Certificate,
    authorities: Vec<Certificate>,
    revocations: Vec<RevocationList>,
    looked: Timestamp,
}

impl Ends {
    /// Of what is about to be used; call it before [`tls::Loaded::log`], so that nothing falls between the two.
    pub(super) fn of(loaded: &tls::Loaded) -> Self {
        Self {
            listener: loaded.listener,
            certificate: loaded.certificate.clone(),
            authorities: loaded.authorities.clone(),
            revocations: loaded.revocations.clone(),
            looked: clock::now(),
        }
    }

    /// The listener's certificate.
    pub(super) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whether a revocation list has ended since the last look: sessions that began before must not be resumed.
    pub(super) fn is_list_over(&self, now: Timestamp) -> bool {
        self.lists_over(now).next().is_some()
    }

    /// Says what has ended, or will soon, each once for a threshold.
    pub(super) fn look(&mut self, now: Timestamp) {
        if is_due(self.looked, now, self.certificate.not_after) {
            self.certificate.log_end(self.listener, now);
        }
        for authority in self.authorities.iter().filter(|authority| is_due(self.looked, now, authority.not_after)) {
            authority.log_end_of_authority(self.listener, now);
        }
        self.lists_over(now).for_each(|list| list.log_end(self.listener));
        self.looked = now;
    }

    fn lists_over(&self, now: Timestamp) -> impl Iterator<Item = &RevocationList> {
        tls::ended(&self.revocations, now).filter(|list| list.ends > self.looked)
    }
}

/// Whether a threshold of a certificate that ends at `not_after` lies between the last look (or warning) and now.
fn is_due(last: Timestamp, now: Timestamp, not_after: Timestamp) -> bool {
    passed(now, not_after) > passed(last, not_after)
}

/// How many thresholds have been passed at a time.
fn passed(at: Timestamp, not_after: Timestamp) -> u64 {
    let before = BEFORE.into_iter().filter(|days| at > not_after.before(DAY * *days)).count() as u64;
    let after = if at > not_after { 1 + at.since(not_after).as_secs() / DAY.as_secs() } else { 0 };
    before + after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_once_for_each_threshold_and_daily_after_the_end() {
        let hour = Duration::from_hours(1);
        let end = Timestamp::from_millis(1_000 * DAY.as_secs().cast_signed() * 20_000);
        let mut last = end.before(DAY * 40);
        let mut warned = Vec::new();
        for hours in 1..=43 * 24 {
            let now = end.before(DAY * 40).after(hour * hours).after(Duration::from_millis(1));
            if is_due(last, now, end) {
                warned.push(hours);
            }
            last = now;
        }
        assert_eq!(warned, [10, 33, 39, 40, 41, 42, 43].map(|days| days * 24));
        // A service that slept, or was started late, says it once; a clock that goes back says nothing.
        assert!(is_due(end.before(DAY * 40), end.before(hour), end));
        assert!(!is_due(end.before(DAY * 6), end.before(DAY * 2), end));
        assert!(!is_due(end.after(DAY), end.before(DAY * 2), end));
    }
}
