//! How much room the disk of the store has.

use base::sync::lock;
use std::{
    path::PathBuf,
    sync::Mutex,
    time::{Duration, Instant},
};

/// How long a look at the free space of the disk is believed.
const BELIEVED: Duration = Duration::from_millis(500);

/// The disk of a store.
#[derive(Debug)]
pub(crate) struct Space {
    folder: PathBuf,
    /// Bytes that must stay free (`inbox.min_free_disk`).
    least: u64,
    /// Bytes left, and when that was looked at.
    last: Mutex<Option<(Instant, u64)>>,
}

impl Space {
    pub(crate) fn new(folder: PathBuf, least: u64) -> Self {
        Self { folder, least, last: Mutex::default() }
    }

    /// Whether the disk has room for events.
    pub(crate) fn has_room(&self) -> bool {
        // A free space of 0 is noted when a commit found the disk full, whatever it has left by its own account.
        let free = self.free();
        free > 0 && free >= self.least
    }

    /// Whether the disk has room for more than events: what can be fetched again leaves a quarter more free.
    pub(crate) fn has_room_to_spare(&self) -> bool {
        self.free() >= self.least.saturating_add(self.least / 4)
    }

    /// A commit found the disk full: a quota or a lost reservation, of which the file system knows nothing.
    pub(crate) fn note_full(&self) {
        *lock(&self.last) = Some((Instant::now(), 0));
    }

    /// Bytes that are free, where the file system can tell; 0 once a commit found the disk full.
    pub(crate) fn known_free(&self) -> Option<u64> {
        Some(self.free()).filter(|free| *free < u64::MAX)
    }

    fn free(&self) -> u64 {
        let mut last = lock(&self.last);
        match *last {
            Some((at, free)) if at.elapsed() < BELIEVED => free,
            _ => {
                // A file system that cannot say is given the benefit of the doubt: a full one shows at the commit.
                let stat = rustix::fs::statvfs(&self.folder);
                let free = stat.map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
                *last = Some((Instant::now(), free));
                free
            }
        }
    }
}
