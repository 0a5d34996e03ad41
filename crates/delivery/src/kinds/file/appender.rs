//! Appends batches of lines to the file, and takes back what could not be written whole.

use super::mend::open;
use crate::writer::Output;
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The file, opened by name.
pub(super) struct Appender {
    path: PathBuf,
    /// `None` after an error, until the next batch.
    file: Option<File>,
    /// Length of the file before the batch.
    start: u64,
}

impl Output for Appender {
    fn begin(&mut self) -> io::Result<()> {
        let linked = match &self.file {
            Some(file) => Some(file.metadata()?).filter(|metadata| metadata.nlink() > 0),
            None => None,
        };
        self.start = if let Some(metadata) = linked {
            metadata.len()
        } else {
            self.file.insert(open(&self.path)?).metadata()?.len()
        };
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.opened()?.write_all(bytes)
    }

    fn commit(&mut self) -> io::Result<()> {
        self.opened()?.sync_data()
    }

    fn undo(&mut self) {
        let Some(file) = self.file.take() else { return };
        // A file that somebody else cut meanwhile must not be made longer.
        let grown = file.metadata().is_ok_and(|metadata| metadata.len() > self.start);
        if grown && let Err(error) = file.set_len(self.start) {
            tracing::warn!(code = "sink_file_write_not_undone", path = %self.path.display(), %error, "cannot take back what a failed write left in the file");
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let same = match (&self.file, fs::metadata(&self.path)) {
            (Some(file), Ok(named)) => {
                let held = file.metadata()?;
                (held.dev(), held.ino()) == (named.dev(), named.ino())
            }
            _ => false,
        };
        if !same {
            self.file = Some(open(&self.path)?);
        }
        Ok(())
    }

    fn reason(&self, error: &io::Error) -> String {
        format!("the file could not be written: {error}")
    }
}

impl Appender {
    /// Opens and mends the file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Some(open(path)?), path: path.to_owned(), start: 0 })
    }

    fn opened(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn a_full_disk_leaves_no_half_line() {
        // /dev/full answers every write with ENOSPC, as a full disk does.
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut appender = Appender { path: "/nowhere/events".into(), file: Some(file), start: 0 };
        let error = appender.write(b"{}\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        appender.undo();
        assert!(appender.file.is_none());
    }
}
