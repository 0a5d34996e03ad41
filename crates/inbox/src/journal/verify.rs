//! Reads a journal from outside, for `check` and for commands beside the service. Writes nothing.
//!
//! The process that owns the journal may write meanwhile. A read is no snapshot: it may see a later write and not the one before
//! it, or miss a file that was let go since the folder was listed. So what looks wrong is looked at again.

use super::{
    cursor::{Cursor, Step},
    damage::{Damage, Kind},
    disk::Disk,
    folder::Folder,
    recover::{Recovered, recover},
    shared::Part,
};
use crate::Position;
use std::{io, path::Path};

/// How often a journal is read before what looks wrong is believed.
const LOOKS: usize = 3;

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) segments: u64,
    /// Records that can be read.
    pub(crate) records: u64,
    /// Those of them that the store does not have.
    pub(crate) behind: u64,
    /// The first position that is there; `None`: it holds nothing.
    pub(crate) first: Option<u64>,
    /// The last position that is there.
    pub(crate) last: u64,
    /// What is wrong, each with its place and its remedy.
    pub(crate) damage: Vec<Damage>,
}

/// Where a journal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The position of its last record; 0: there is none.
    pub(crate) last: Position,
    /// Whether a process has it open.
    pub(crate) is_owned: bool,
}

/// Finds the end of the journal in `path`, beside the process that owns it or without any.
pub(crate) fn tail(path: &Path, identity: [u8; 16]) -> io::Result<Tail> {
    let folder = Folder::new(path, Disk::default());
    let look = || recover(&folder, identity, Some(0), false);
    let found = look().or_else(|_| look())?;
    Ok(Tail { last: Position(found.last), is_owned: folder.is_locked() })
}

/// The inbox that the journal in `path` belongs to, as its lock file says; `None`: there is none.
pub(crate) fn identity(path: &Path) -> Option<[u8; 16]> {
    Folder::new(path, Disk::default()).identity()
}

/// The number that the journal in `path` shares with its store, if there is one.
pub(crate) fn pair(path: &Path) -> Option<i64> {
    Folder::new(path, Disk::default()).pair()
}

/// Reads the journal in `path`, of an inbox whose store has everything up to `stored`.
pub(crate) fn verify(path: &Path, identity: [u8; 16], stored: u64) -> io::Result<Report> {
    let folder = Folder::new(path, Disk::default());
    let look = || recover(&folder, identity, Some(stored), false).and_then(|found| read_all(&folder, found, stored));
    let mut report = look();
    for _ in 1..LOOKS {
        if report.as_ref().is_ok_and(|report| report.damage.is_empty()) {
            break;
        }
        report = look();
    }
    report
}

fn read_all(folder: &Folder, found: Recovered, stored: u64) -> io::Result<Report> {
    let mut report = Report { last: found.last, damage: found.damage, ..Report::default() };
    report.first = found.parts.iter().find(|part| part.size > 0 && part.last >= part.first).map(|part| part.first);
    for part in &found.parts {
        report.segments += 1;
        if part.damage.as_ref().is_none_or(|damage| damage.offset > 0)
            && let Some(damage) = walk(folder, part, stored, &mut report)?
            // What the store has need not be read again.
            && part.last > stored
            && !report.damage.contains(&damage)
        {
            report.damage.push(damage);
        }
    }
    Ok(report)
}

fn walk(folder: &Folder, part: &Part, stored: u64, report: &mut Report) -> io::Result<Option<Damage>> {
    let file = folder.segment(part.number);
    let Ok(mut cursor) = Cursor::open(&file) else {
        // It was let go since the folder was listed.
        return Ok(None);
    };
    while cursor.next <= part.last {
        let Step::Record(record) = cursor.step(part.end)? else {
            return Ok(Some(Damage { file, offset: cursor.offset, position: cursor.next, kind: Kind::Changed }));
        };
        report.records += 1;
        report.behind += u64::from(record.position > stored);
    }
    Ok(None)
}
