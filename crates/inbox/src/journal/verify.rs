//! Reads a whole journal and says what is wrong with it. Writes nothing, so it may run beside the process that owns the
//! journal; what that process writes meanwhile is not looked at.

use super::{
    cursor::{Cursor, Step},
    damage::{Damage, Kind},
    disk::Disk,
    folder::Folder,
    recover::recover,
    shared::Part,
};
use std::{io, path::Path};

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) segments: u64,
    /// Records that can be read.
    pub(crate) records: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// The last position that is there.
    pub(crate) last: u64,
    /// What is wrong, each with its place and its remedy.
    pub(crate) damage: Vec<Damage>,
}

/// Reads the journal in `path`, of an inbox whose store has everything up to `stored`.
pub(crate) fn verify(path: &Path, identity: [u8; 16], stored: u64) -> io::Result<Report> {
    let folder = Folder::new(path, Disk::default());
    let found = recover(&folder, identity, stored, false)?;
    let mut report = Report { last: found.last, damage: found.damage, ..Report::default() };
    for part in &found.parts {
        report.segments += 1;
        if part.damage.as_ref().is_none_or(|damage| damage.offset > 0)
            && let Some(damage) = walk(&folder, part, &mut report)?
            && !report.damage.contains(&damage)
        {
            report.damage.push(damage);
        }
    }
    Ok(report)
}

fn walk(folder: &Folder, part: &Part, report: &mut Report) -> io::Result<Option<Damage>> {
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
        report.bytes += record.payload.len() as u64;
    }
    Ok(None)
}
