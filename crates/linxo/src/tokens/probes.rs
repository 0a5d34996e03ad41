//! When to ask again for a token that was refused, although nothing here has changed.
//!
//! An endpoint may not know a user for an hour, or the vendor may refuse the client for an hour, and nobody says when that
//! ends. So a token is asked for from time to time for the work that is parked without one: soon at first, then more and more
//! rarely, at another moment for each user, and never for many users at once.

use super::slots::Key;
use base::sync::lock;
use std::{collections::HashMap, sync::Mutex, time::Duration};
use tokio::time::Instant;

/// Until the first look at most; doubles with each.
const FIRST: Duration = Duration::from_secs(10);
/// The longest between two looks for one user.
const LONGEST: Duration = Duration::from_mins(10);
/// Between two looks for any.
const BETWEEN: Duration = Duration::from_millis(200);
/// Users that are remembered.
const MOST: usize = 100_000;

/// Who is to be looked at when.
#[derive(Debug, Default)]
pub(super) struct Probes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    next: Option<Instant>,
    by_user: HashMap<Key, Due>,
}

#[derive(Debug)]
struct Due {
    at: Instant,
    wait: Duration,
}

impl Due {
    fn after(wait: Duration, now: Instant) -> Self {
        Self { at: now + wait / 2 + (wait / 2).mul_f64(fastrand::f64()), wait }
    }

    /// Nobody has asked for so long that the waits begin anew.
    fn is_over(&self, now: Instant) -> bool {
        self.at + LONGEST < now
    }
}

impl Probes {
    /// Whether it is time to look; if so, that counts as done.
    pub(super) fn is_due(&self, key: &Key) -> bool {
        let now = Instant::now();
        let mut known = lock(&self.0);
        let Known { next, by_user } = &mut *known;
        match by_user.get_mut(key).filter(|due| !due.is_over(now)) {
            Some(due) if due.at <= now && next.is_none_or(|next| next <= now) => {
                *due = Due::after((due.wait * 2).min(LONGEST), now);
                *next = Some(now + BETWEEN);
                true
            }
            Some(_) => false,
            None => {
                if by_user.len() >= MOST {
                    by_user.retain(|_, due| !due.is_over(now));
                }
                if by_user.len() < MOST {
                    by_user.insert(key.clone(), Due::after(FIRST, now));
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::UserId;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn looks_soon_then_rarely_and_never_at_many_at_once() {
        let (probes, key) = (Probes::default(), None);
        let start = Instant::now();
        let mut looks = Vec::new();
        while start.elapsed() < Duration::from_hours(2) {
            if probes.is_due(&key) {
                looks.push(start.elapsed());
            }
            advance(Duration::from_secs(1)).await;
        }
        assert!(looks[0] <= FIRST && looks[0] >= FIRST / 2, "{looks:?}");
        assert!((15..=30).contains(&looks.len()), "{looks:?}");

        let keys: Vec<Key> = (0..500).map(|user: u32| Some(UserId::new(user.to_string()))).collect();
        assert!(!keys.iter().any(|key| probes.is_due(key)));
        advance(FIRST).await;
        assert_eq!(keys.iter().filter(|key| probes.is_due(key)).count(), 1);
        advance(BETWEEN).await;
        assert_eq!(keys.iter().filter(|key| probes.is_due(key)).count(), 1);
    }
}
