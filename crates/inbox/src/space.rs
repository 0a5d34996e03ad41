//! How much room the disk of the store has.

use base::sync::lock;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
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
    /// Bytes of free pages in the store's file: room that the file system does not see.
    reusable: AtomicU64,
}

/// However much room the file has by itself, this part of what must stay free is free on the disk: logs have no free pages.
const AT_LEAST: u64 = 8;

impl Space {
    pub(crate) fn new(folder: PathBuf, least: u64) -> Self {
        Self { folder, least, last: Mutex::default(), reusable: AtomicU64::new(0) }
    }

    /// Whether the disk has room for events.
    pub(crate) fn has_room(&self) -> bool {
        // A free space of 0 is noted when a commit found the disk full, whatever it has left by its own account.
        let free = self.free();
        free > 0 && free >= self.least / AT_LEAST && free.saturating_add(self.reusable()) >= self.least
    }

    /// So many bytes of the store's file can be used again.
    pub(crate) fn set_reusable(&self, bytes: u64) {
        self.reusable.store(bytes, Ordering::Relaxed);
    }

    /// See [`set_reusable`](Self::set_reusable).
    pub(crate) fn reusable(&self) -> u64 {
        self.reusable.load(Ordering::Relaxed)
    }

    /// Whether it is the disk of this folder, too.
    pub(crate) fn is_disk_of(&self, folder: &Path) -> bool {
        let device = |folder: &Path| fs::metadata(folder).map(|meta| meta.dev()).ok();
        device(&self.folder).is_some_and(|own| device(folder) == Some(own))
    }

    /// Whether the disk has room for more than events: what can be fetched again leaves a quarter more free.
    pub(crate) fn has_room_to_spare(&self) -> bool {
        self.free().saturating_add(self.reusable()) >= self.least.saturating_add(self.least / 4)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// (D1) What a deletion frees is inside the file. It counts as room, so that the mark is no door in one direction.
    #[test]
    fn free_pages_of_the_file_are_room() {
        let folder = std::env::temp_dir();
        let free = Space::new(folder.clone(), 0).known_free().unwrap();
        let space = Space::new(folder, free.saturating_mul(2));
        assert!(!space.has_room());
        space.set_reusable(free.saturating_mul(4));
        assert!(space.has_room());
        space.set_reusable(0);
        assert!(!space.has_room());
        let nearly_full = Space { reusable: AtomicU64::new(u64::MAX), ..Space::new(std::env::temp_dir(), u64::MAX) };
        assert!(!nearly_full.has_room(), "logs need room on the disk");
    }
}
