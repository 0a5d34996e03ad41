//! Data keys in use, by what they are looked for: a bounded number of them is remembered.

use super::data_key::DataKey;
use std::{collections::HashMap, hash::Hash, sync::Arc};

/// Keys that are remembered in each of two generations. One key takes about a kilobyte.
const REMEMBERED: usize = 8_192;

/// See the head of this file. When the young generation is full it becomes the old one, and what was not used meanwhile is forgotten.
#[derive(Debug)]
pub(crate) struct Known<K> {
    young: HashMap<K, Arc<DataKey>>,
    old: HashMap<K, Arc<DataKey>>,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash + Clone> Known<K> {
    pub(crate) fn get(&mut self, at: &K) -> Option<Arc<DataKey>> {
        if let Some(key) = self.young.get(at) {
            return Some(Arc::clone(key));
        }
        let (at, key) = self.old.remove_entry(at)?;
        self.put(at, Arc::clone(&key));
        Some(key)
    }

    pub(crate) fn put(&mut self, at: K, key: Arc<DataKey>) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(at, key);
    }

    pub(crate) fn forget(&mut self, at: &K) {
        self.young.remove(at);
        self.old.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::cipher::{Cipher, Raw};

    #[test]
    fn keys_that_are_used_are_remembered_and_their_number_is_bounded() {
        let key = |id| Arc::new(DataKey::new(id, Cipher::new(&Raw::new([0; 32])).unwrap()));
        let mut known = Known::default();
        let used = 7;
        for id in (0..).take(4 * REMEMBERED) {
            known.put(id, key(id));
            assert!(id < used || known.get(&used).is_some(), "{id}");
            assert!(known.young.len() + known.old.len() <= 2 * REMEMBERED);
        }
        assert!(known.get(&8).is_none(), "what nobody used is forgotten");
        known.forget(&used);
        assert!(known.get(&used).is_none());
    }
}
