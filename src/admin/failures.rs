//! Failed logins by address: whoever guesses has to wait.

use base::sync::lock;
use std::{collections::HashMap, net::IpAddr, sync::Mutex, time::Duration};
use tokio::time::Instant;

/// Failed logins of one address before it has to wait.
const MOST: u32 = 5;
/// How long they count from the first one.
const TIME: Duration = Duration::from_mins(1);
/// Addresses that are remembered; the oldest makes room.
const ADDRESSES: usize = 1024;

/// Who failed lately, since when and how often.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Failures {
    /// How long an address has to wait; `None`: it may try.
    pub(super) fn wait(&self, of: IpAddr) -> Option<Duration> {
        let (since, count) = *lock(&self.0).get(&of)?;
        let left = TIME.checked_sub(since.elapsed()).filter(|left| !left.is_zero())?;
        (count >= MOST).then_some(left)
    }

    /// Notes a failure.
    pub(super) fn note(&self, of: IpAddr) {
        let mut kept = lock(&self.0);
        kept.retain(|_, (since, _)| since.elapsed() < TIME);
        if kept.len() >= ADDRESSES
            && let Some(oldest) = kept.iter().min_by_key(|(_, (since, _))| *since).map(|(address, _)| *address)
        {
            kept.remove(&oldest);
        }
        let (_, count) = kept.entry(of).or_insert((Instant::now(), 0));
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_fails_often_waits_and_nobody_else() {
        let (failures, one, other) = (Failures::default(), [192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        for _ in 0..MOST {
            assert_eq!(failures.wait(one), None);
            failures.note(one);
        }
        assert_eq!(failures.wait(one), Some(TIME));
        assert_eq!(failures.wait(other), None);
        tokio::time::advance(TIME).await;
        assert_eq!(failures.wait(one), None);
        for number in 0..2 * u32::try_from(ADDRESSES).unwrap() {
            failures.note(IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(lock(&failures.0).len(), ADDRESSES);
    }
}
