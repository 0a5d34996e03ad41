//! Bytes to the disk, and how a test makes them fail.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

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
    pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write(file, bytes, offset)?;
        file.write_all_at(bytes, offset)
    }

    /// Waits until the file's bytes are on the disk.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        self.faults.sync()?;
        file.sync_data()
    }

    /// Waits until the names in a folder are on the disk.
    pub(super) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let folder = File::open(folder)?;
        #[cfg(test)]
        self.faults.sync()?;
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
    use std::{
        fs::File,
        io,
        os::unix::fs::FileExt,
        sync::atomic::{AtomicBool, AtomicI32, Ordering},
    };

    /// What goes wrong from now on.
    #[derive(Debug, Default)]
    pub(crate) struct Faults {
        /// Every sync fails.
        pub(crate) sync: AtomicBool,
        /// Every write fails with this error number, after half of its bytes were written; 0: none does.
        pub(crate) write: AtomicI32,
    }

    impl Faults {
        pub(super) fn sync(&self) -> io::Result<()> {
            if self.sync.load(Ordering::SeqCst) { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
        }

        pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
            match self.write.load(Ordering::SeqCst) {
                0 => Ok(()),
                number => {
                    file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                    Err(io::Error::from_raw_os_error(number))
                }
            }
        }
    }
}
