//! Bytes and names to the disk, and how a test makes them fail or writes them down.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// Zeros are written in pieces of this size, each synced by itself, so that a large segment never keeps the disk from the
/// sync that a caller waits for.
const PIECE: u64 = 1 << 20;

/// The disk under a journal.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) faults: std::sync::Arc<faults::Faults>,
}

#[cfg_attr(not(test), expect(clippy::unused_self, reason = "the faults of the tests are in it"))]
impl Disk {
    /// Makes an empty file for the owner alone.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        #[cfg(test)]
        self.faults.note(|| faults::Op::Create { file: faults::number(&file), name: faults::name(path) });
        Ok(file)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        #[cfg(test)]
        self.faults.note(|| faults::Op::Rename { from: faults::name(from), to: faults::name(to) });
        Ok(())
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        #[cfg(test)]
        self.faults.note(|| faults::Op::Remove { name: faults::name(path) });
        Ok(())
    }

    pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write(file, bytes, offset)?;
        file.write_all_at(bytes, offset)
    }

    /// Waits until the file's bytes are on the disk.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.sync(Some(file))? {
            return Ok(());
        }
        file.sync_data()
    }

    /// Waits until the names in a folder are on the disk.
    pub(super) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let folder = File::open(folder)?;
        #[cfg(test)]
        if self.faults.sync(None)? {
            return Ok(());
        }
        folder.sync_all()
    }

    /// Writes zeros over a part of a file, and waits until they are on the disk.
    pub(super) fn zero(&self, file: &File, from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(PIECE.min(to.saturating_sub(from))).unwrap_or(0)];
        let mut at = from;
        while at < to {
            let length = usize::try_from(PIECE.min(to - at)).unwrap_or(0);
            self.write(file, zeros.get(..length).unwrap_or(&zeros), at)?;
            self.sync(file)?;
            at += length as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod faults {
    use base::sync::lock;
    use std::{
        fs::File,
        io,
        os::unix::fs::{FileExt, MetadataExt},
        path::Path,
        sync::{
            Mutex,
            atomic::{AtomicBool, AtomicI32, Ordering},
        },
    };

    /// What goes wrong from now on.
    #[derive(Debug, Default)]
    pub(crate) struct Faults {
        /// Every sync fails.
        pub(crate) sync: AtomicBool,
        /// The next sync fails.
        pub(crate) next_sync: AtomicBool,
        /// Syncs are said to be done and are not.
        pub(crate) lies: AtomicBool,
        /// Every write fails with this error number, after half of its bytes were written; 0: none does.
        pub(crate) write: AtomicI32,
        /// Everything that was done, in its order, where that is written down. Then nothing is truly synced: a crash is played
        /// from what is written here.
        pub(crate) tape: Option<Mutex<Vec<Op>>>,
    }

    /// One thing that was done to a disk. Files are told apart by their inode, and have their names without the folder.
    #[derive(Clone, Debug)]
    pub(crate) enum Op {
        Create {
            file: u64,
            name: String,
        },
        Rename {
            from: String,
            to: String,
        },
        Remove {
            name: String,
        },
        Write {
            file: u64,
            offset: u64,
            bytes: Vec<u8>,
        },
        Sync {
            file: u64,
        },
        /// The system has told the error once, and takes the bytes for written from now on.
        FailedSync {
            file: u64,
        },
        SyncNames,
        /// A caller has its position by now.
        Acknowledged(u64),
        /// The store has everything up to this position.
        Stored(u64),
    }

    pub(crate) fn number(file: &File) -> u64 {
        file.metadata().unwrap().ino()
    }

    pub(crate) fn name(path: &Path) -> String {
        path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    impl Faults {
        /// Those of a disk that writes down what is done to it.
        pub(crate) fn taped() -> Self {
            Self { tape: Some(Mutex::default()), ..Self::default() }
        }

        pub(crate) fn note(&self, op: impl FnOnce() -> Op) {
            if let Some(tape) = &self.tape {
                lock(tape).push(op());
            }
        }

        /// What was done so far.
        pub(crate) fn played(&self) -> Vec<Op> {
            self.tape.as_ref().map(|tape| lock(tape).clone()).unwrap_or_default()
        }

        /// Whether that was all: a sync of this file, or of the folder's names.
        pub(super) fn sync(&self, file: Option<&File>) -> io::Result<bool> {
            if self.sync.load(Ordering::SeqCst) || self.next_sync.swap(false, Ordering::SeqCst) {
                if let Some(file) = file {
                    self.note(|| Op::FailedSync { file: number(file) });
                }
                return Err(io::Error::from_raw_os_error(5));
            }
            if !self.lies.load(Ordering::SeqCst) {
                self.note(|| file.map_or(Op::SyncNames, |file| Op::Sync { file: number(file) }));
            }
            Ok(self.tape.is_some())
        }

        pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
            match self.write.load(Ordering::SeqCst) {
                0 => {
                    self.note(|| Op::Write { file: number(file), offset, bytes: bytes.to_owned() });
                    Ok(())
                }
                number => {
                    file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                    Err(io::Error::from_raw_os_error(number))
                }
            }
        }
    }
}
