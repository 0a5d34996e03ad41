//! Room that is set aside on the disk, so that what frees space can be written when the disk is full: to delete, SQLite writes
//! to its log first. A start writes a little too.
//!
//! The room is a file beside the inbox. It is given up when a deletion or a start finds the disk full, and made again by the service when
//! the disk has room.

use base::folder;
use rustix::fs::{FallocateFlags, fallocate};
use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What deleting one batch of entries writes to the log, several times over.
const SIZE: u64 = 32 << 20;

/// The file.
#[derive(Debug)]
pub(super) struct Reserve(PathBuf);

impl Reserve {
    /// Beside this inbox file.
    pub(super) fn beside(path: &Path) -> Self {
        Self(folder::beside(path, "-reserve"))
    }

    /// The file, where it is there: it is made beside an inbox that is open.
    pub(super) fn found(&self) -> Option<&Path> {
        self.0.exists().then_some(&self.0)
    }

    /// Makes it where it is missing.
    pub(super) fn make(&self) -> io::Result<()> {
        if fs::metadata(&self.0).is_ok_and(|meta| meta.len() == SIZE) {
            return Ok(());
        }
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&self.0)?;
        let made = fallocate(&file, FallocateFlags::empty(), 0, SIZE);
        if made.is_err() {
            // Half a reserve holds room that nobody gives up.
            self.give_up();
        }
        made.map_err(io::Error::from)
    }

    /// Gives its room to whoever writes next; says whether there was any.
    pub(super) fn give_up(&self) -> bool {
        fs::remove_file(&self.0).is_ok()
    }

    /// As [`give_up`](Self::give_up), for what could not be written; it is said.
    pub(super) fn spend(&self) -> bool {
        let is_given_up = self.give_up();
        if is_given_up {
            tracing::warn!(
                code = "disk_reserve_used",
                "the inbox's disk is full: the room that was set aside for deletions is used now"
            );
        }
        is_given_up
    }

    /// Its size; 0 where it is missing.
    #[cfg(test)]
    fn size(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |meta| meta.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (D2) The room is truly taken from the disk, and given up once.
    #[test]
    fn room_is_set_aside_and_given_up() {
        let folder = tempfile::TempDir::new().unwrap();
        let reserve = Reserve::beside(&folder.path().join("inbox.db"));
        assert_eq!(reserve.size(), 0);
        assert!(!reserve.give_up());
        reserve.make().unwrap();
        reserve.make().unwrap();
        assert_eq!(reserve.size(), SIZE);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&reserve.0).unwrap());
        assert!(blocks * 512 >= SIZE, "a file with holes holds no room");
        assert!(reserve.give_up() && reserve.size() == 0);
    }
}
