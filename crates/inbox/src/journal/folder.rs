//! The folder of a journal: which files it holds, and how they come and go.
//!
//! | file | what |
//! | --- | --- |
//! | `0000000000000001.segment` | a segment, by its number; it always has a whole header, because it gets this name last |
//! | `....segment.lost` | a person gave this segment up; its events are skipped |
//! | `....gone` | a segment that was let go and is being overwritten with zeros |
//! | `....spare` | zeros, ready to become a segment |
//! | `lock` | held by the one process that writes; holds the identity of the inbox, and the number of its pair |
//!
//! No byte of a folded event stays: a segment is overwritten before it is used again or deleted.

use super::{
    disk::Disk,
    frame::{FIRST_FRAME, Header},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a lock that another holds is waited for, such as a process that is just ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) disk: Disk,
    /// Counts spares, for their names.
    spares: Arc<AtomicU64>,
}

/// What is in the folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Segments by number, with their size.
    pub(super) segments: BTreeMap<u64, u64>,
    /// Numbers that a person gave up.
    pub(super) lost: BTreeSet<u64>,
    /// Files that were being made or overwritten when the last process ended.
    pub(super) leftovers: Vec<PathBuf>,
}

/// A file of zeros, ready to become a segment.
#[derive(Debug)]
pub(super) struct Spare {
    path: PathBuf,
    pub(super) size: u64,
}

impl Folder {
    pub(super) fn new(path: &Path, disk: Disk) -> Self {
        Self { path: path.to_owned(), disk, spares: Arc::default() }
    }

    /// Makes the folder where it is missing, and takes from others whatever they may do with it.
    pub(super) fn make(&self) -> io::Result<()> {
        base::folder::make(&self.path)?;
        let mode = fs::metadata(&self.path)?.permissions().mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(&self.path, fs::Permissions::from_mode(mode & 0o700))?;
            tracing::warn!(code = "journal_folder_narrowed", path = %self.path.display(), "others could read or write this folder; now only its owner can");
        }
        Ok(())
    }

    /// Keeps every other process from writing, for as long as the file that comes back is held.
    pub(super) fn lock(&self) -> Result<File, fs::TryLockError> {
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(self.path.join("lock")).map_err(fs::TryLockError::Error)?;
        let give_up = Instant::now() + LOCK_PATIENCE;
        loop {
            match lock.try_lock() {
                Err(fs::TryLockError::WouldBlock) if Instant::now() < give_up => thread::sleep(LOCK_PATIENCE / 20),
                taken => return taken.map(|()| lock),
            }
        }
    }

    /// Notes in the lock file which inbox the journal belongs to: nothing else says that while there is no segment.
    pub(super) fn set_identity(&self, lock: &File, identity: [u8; 16]) -> io::Result<()> {
        if self.identity() == Some(identity) {
            return Ok(());
        }
        self.disk.write(lock, &identity, 0)?;
        lock.set_len(16)?;
        lock.sync_all()
    }

    /// See [`set_identity`](Self::set_identity).
    pub(super) fn identity(&self) -> Option<[u8; 16]> {
        fs::read(self.path.join("lock")).ok()?.first_chunk().copied()
    }

    /// Notes behind the identity the number that the store has, too. Only the process that has the lock may do that.
    pub(super) fn set_pair(&self, pair: i64) -> io::Result<()> {
        let lock = OpenOptions::new().write(true).open(self.path.join("lock"))?;
        self.disk.write(&lock, &pair.to_le_bytes(), 16)?;
        lock.sync_all()
    }

    /// See [`set_pair`](Self::set_pair).
    pub(super) fn pair(&self) -> Option<i64> {
        fs::read(self.path.join("lock")).ok()?.get(16..)?.first_chunk().copied().map(i64::from_le_bytes)
    }

    /// Whether a process holds the lock.
    pub(super) fn is_locked(&self) -> bool {
        let lock = File::open(self.path.join("lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    pub(super) fn segment(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:016x}.segment"))
    }

    /// The file of a segment that a person gave up.
    pub(super) fn lost(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:016x}.segment.lost"))
    }

    fn gone(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:016x}.gone"))
    }

    pub(super) fn list(&self) -> io::Result<Listing> {
        let mut found = Listing::default();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some((number, kind)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let Ok(number) = u64::from_str_radix(number, 16) else { continue };
            match kind {
                "segment" => {
                    found.segments.insert(number, entry.metadata()?.len());
                }
                "segment.lost" => {
                    found.lost.insert(number);
                }
                "gone" => found.leftovers.push(entry.path()),
                "spare" => {
                    // Its name is not used again while it is there.
                    self.spares.fetch_max(number + 1, Ordering::Relaxed);
                    found.leftovers.push(entry.path());
                }
                _ => {}
            }
        }
        found.segments.retain(|number, _| !found.lost.contains(number));
        Ok(found)
    }

    /// Bytes that are free on the disk; what cannot be known is much.
    pub(super) fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.path).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Makes a file of zeros that are written and synced, so that a later sync of records waits for their bytes alone and
    /// for no bookkeeping of the file system.
    pub(super) fn make_spare(&self, size: u64) -> io::Result<Spare> {
        let path = self.path.join(format!("{:016x}.spare", self.spares.fetch_add(1, Ordering::Relaxed)));
        let file = self.disk.create(&path)?;
        let made = self.disk.zero(&file, 0, size).and_then(|()| self.disk.sync_folder(&self.path));
        if let Err(error) = made {
            // A disk that is full wants its room back.
            self.disk.remove(&path).ok();
            return Err(error);
        }
        Ok(Spare { path, size })
    }

    /// Makes a segment of a spare. The name comes last: a file with the name of a segment has its header.
    pub(super) fn begin(&self, spare: &Spare, header: &Header) -> io::Result<File> {
        let begun = || {
            let file = OpenOptions::new().write(true).open(&spare.path)?;
            self.disk.write(&file, &header.encode().0, 0)?;
            self.disk.sync(&file)?;
            self.disk.rename(&spare.path, &self.segment(header.number))?;
            self.disk.sync_folder(&self.path)?;
            Ok(file)
        };
        begun().inspect_err(|_: &io::Error| {
            // Whichever name it has by now, it holds no record.
            self.disk.remove(&spare.path).ok();
            self.disk.remove(&self.segment(header.number)).ok();
        })
    }

    /// Overwrites a segment that was let go, up to where it was used. With `keep` it comes back as a spare, else its file
    /// is deleted.
    pub(super) fn let_go(&self, number: u64, used: u64, size: u64, keep: bool) -> io::Result<Option<Spare>> {
        let gone = self.gone(number);
        match self.disk.rename(&self.segment(number), &gone) {
            // An earlier try came this far.
            Err(error) if error.kind() == io::ErrorKind::NotFound && gone.exists() => {}
            renamed => renamed?,
        }
        self.disk.sync_folder(&self.path)?;
        self.wipe(&gone, used.clamp(FIRST_FRAME.min(size), size))?;
        if !keep {
            self.disk.remove(&gone)?;
            return Ok(None);
        }
        let path = self.path.join(format!("{:016x}.spare", self.spares.fetch_add(1, Ordering::Relaxed)));
        self.disk.rename(&gone, &path)?;
        Ok(Some(Spare { path, size }))
    }

    /// Deletes what the last process left behind, overwritten where it may hold records.
    pub(super) fn clear(&self, leftover: &Path) -> io::Result<()> {
        if leftover.extension().is_some_and(|kind| kind == "gone") {
            self.wipe(leftover, fs::metadata(leftover)?.len())?;
        }
        self.disk.remove(leftover)
    }

    /// Deletes a spare: it is too small, or one too many.
    pub(super) fn discard(&self, spare: &Spare) {
        if let Err(error) = self.disk.remove(&spare.path) {
            tracing::warn!(code = "journal_file_not_deleted", error = %error, "an unused file of the journal could not be deleted; the next start does it");
        }
    }

    fn wipe(&self, path: &Path, to: u64) -> io::Result<()> {
        self.disk.zero(&OpenOptions::new().write(true).open(path)?, 0, to)
    }
}
