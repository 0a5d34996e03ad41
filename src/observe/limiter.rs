//! Keeps a flood of the same thing from filling the log: the first of each kind is said, the others are counted, and once in a
//! while one line for each kind gives their number.

use base::sync::lock;
use std::{collections::HashMap, hash::Hash, sync::Mutex};

/// Lets the first of each kind through and counts the others.
#[derive(Debug)]
pub struct Limiter<K>(Mutex<HashMap<K, u64>>);

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Limiter<K> {
    /// Whether this is the first of its kind since the kind was last silent for a whole round; counts it if not.
    pub fn is_first(&self, kind: K) -> bool {
        let mut silenced = lock(&self.0);
        if let Some(count) = silenced.get_mut(&kind) {
            *count += 1;
            return false;
        }
        silenced.insert(kind, 0);
        true
    }

    /// How many were silenced since the last call. A kind that was silent throughout is forgotten: its next is a first again.
    #[must_use]
    pub fn silenced(&self) -> Vec<(K, u64)> {
        let mut silenced = lock(&self.0);
        let found =
            silenced.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| (kind.clone(), *count)).collect();
        silenced.retain(|_, count| std::mem::take(count) > 0);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_two_lines() {
        let limiter = Limiter::default();
        assert!(limiter.is_first("not found"));
        assert!((0..999).all(|_| !limiter.is_first("not found")));
        assert!(limiter.is_first("method"));
        assert_eq!(limiter.silenced(), [("not found", 999)]);
        // Still within the flood: only counted. `method` had a silent minute.
        assert!(!limiter.is_first("not found"));
        assert!(limiter.is_first("method"));
        assert_eq!(limiter.silenced(), [("not found", 1)]);
        assert_eq!(limiter.silenced(), []);
        assert!(limiter.is_first("not found"));
    }
}
