//! By what the model tells apart whom it judges.

/// Stands for a connection: a hash of its id, made by [`Trust::key`](super::Trust::key).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// From a hash.
    #[must_use]
    pub const fn new(hash: u64) -> Self {
        Self(hash)
    }
}
