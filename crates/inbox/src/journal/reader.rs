//! Gives out records in their order, from a position on, and never one that is not synced.

use super::{
    cursor::{Cursor, Step, Unopened},
    damage::{Damage, Kind},
    folder::Folder,
    frame::Record,
    sealing::{Sealing, SegmentKey},
    shared::{Part, Shared},
};
use crate::seal::Flaw;
use std::{io, sync::Arc, time::Duration};

/// A place in a journal.
#[derive(Debug)]
pub(crate) struct Reader {
    folder: Folder,
    shared: Arc<Shared>,
    /// The position of the next record.
    next: u64,
    cursor: Option<Opened>,
    sealing: Sealing,
}

/// A segment that is being read.
#[derive(Debug)]
struct Opened {
    cursor: Cursor,
    /// What opens its records.
    key: Option<SegmentKey>,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// What stands there is not what was written. It does not help to try again.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The disk failed.
    #[error("the journal cannot be read")]
    Io(#[from] io::Error),
    /// It is sealed with another key, or was changed by somebody who has none.
    #[error("a record of the journal cannot be opened")]
    Sealed(#[source] Flaw),
}

impl Reader {
    /// Begins behind a position.
    pub(super) fn new(folder: Folder, shared: Arc<Shared>, sealing: Sealing, behind: u64) -> Self {
        Self { folder, shared, next: behind + 1, cursor: None, sealing }
    }

    /// Waits until a record can be read, for so long at most; says whether one can.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        self.shared.wait_behind(self.next - 1, patience)
    }

    /// The next records, at most so many and about so many bytes; none when everything that is synced was read.
    pub(crate) fn read(&mut self, most: usize, most_bytes: usize) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < most && bytes < most_bytes {
            match self.one() {
                Ok(Some(record)) => {
                    bytes += record.payload.len();
                    records.push(record);
                }
                Err(error) if records.is_empty() => return Err(error),
                // What stands before a damaged place is whole; the next call meets the place again.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(records)
    }

    fn one(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            let Some(part) = self.part() else { return Ok(None) };
            // A segment that was given up leaves a gap.
            self.next = self.next.max(part.first);
            let folder = &self.folder;
            let Opened { cursor, key } = match &mut self.cursor {
                Some(opened) if opened.cursor.header.number == part.number => opened,
                other => {
                    let cursor = open(folder, &part)?;
                    let key = self.sealing.find(&cursor.header).map_err(ReadError::Sealed)?;
                    other.insert(Opened { cursor, key })
                }
            };
            match cursor.step(part.end)? {
                Step::Record(record) if record.position < self.next => {}
                Step::Record(mut record) => {
                    if let Some(key) = key {
                        match key.open(record.position, &record.payload) {
                            Ok(payload) => record.payload = payload,
                            Err(flaw) => {
                                self.cursor = None;
                                return Err(ReadError::Sealed(flaw));
                            }
                        }
                    }
                    self.next = record.position + 1;
                    return Ok(Some(record));
                }
                Step::End | Step::Nothing => {
                    let damage = Damage {
                        file: folder.segment(part.number),
                        offset: cursor.offset,
                        position: cursor.next,
                        kind: Kind::Changed,
                    };
                    // What is tried again is read again from the disk.
                    self.cursor = None;
                    return Err(damage.into());
                }
            }
        }
    }

    /// The segment that has the next record.
    fn part(&self) -> Option<Part> {
        self.shared.state().parts.iter().find(|part| part.last >= self.next && part.last >= part.first).cloned()
    }
}

fn open(folder: &Folder, part: &Part) -> Result<Cursor, ReadError> {
    if let Some(damage) = part.damage.clone().filter(|damage| damage.offset == 0) {
        return Err(damage.into());
    }
    Cursor::open(&folder.segment(part.number)).map_err(|error| match error {
        Unopened::Io(error) => error.into(),
        Unopened::Flaw(_) => {
            let file = folder.segment(part.number);
            Damage { file, offset: 0, position: part.first, kind: Kind::Changed }.into()
        }
    })
}
