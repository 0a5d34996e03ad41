//! How far a journal is folded, in a file of its own.
//!
//! The store is shared by many receivers and knows nothing of their journals. Where this file is lost, everything that is still in the
//! journal is folded again, and found to be known.

use crate::Position;
use base::folder;
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Its name in the journal's folder.
const NAME: &str = "reached";
const LENGTH: usize = 12;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Reached(File);

impl Reached {
    /// Opens the file of a journal's folder, and reads it; `None`: it says nothing.
    pub(super) fn open(journal: &Path) -> io::Result<(Self, Option<Position>)> {
        let path = journal.join(NAME);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        folder::sync_name(&path)?;
        let mut bytes = [0; LENGTH];
        let is_whole = file.read_exact_at(&mut bytes, 0).is_ok();
        let position = is_whole.then(|| parse(bytes)).flatten();
        Ok((Self(file), position))
    }

    /// Notes a position; it is on the disk when this returns.
    pub(super) fn note(&self, position: Position) -> io::Result<()> {
        self.0.write_all_at(&bytes(position), 0)?;
        self.0.sync_data()
    }
}

fn bytes(position: Position) -> [u8; LENGTH] {
    let number = position.0.to_le_bytes();
    let check = crc32c::crc32c(&number).to_le_bytes();
    let mut bytes = number.iter().chain(&check);
    std::array::from_fn(|_| bytes.next().copied().unwrap_or_default())
}

fn parse(found: [u8; LENGTH]) -> Option<Position> {
    let (number, _) = found.split_first_chunk::<8>()?;
    let position = Position(u64::from_le_bytes(*number));
    (bytes(position) == found).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_again_and_what_is_torn_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (file, found) = Reached::open(folder.path()).unwrap();
        assert_eq!(found, None);
        for position in [Position(1), Position(u64::MAX), Position(7)] {
            file.note(position).unwrap();
            assert_eq!(Reached::open(folder.path()).unwrap().1, Some(position));
        }
        file.0.write_all_at(&[9], 3).unwrap();
        assert_eq!(Reached::open(folder.path()).unwrap().1, None);
    }
}
