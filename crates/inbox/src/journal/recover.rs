//! Finds out what a journal holds when it is opened.
//!
//! In: the folder. Out: its segments, where the next record goes, and what is damaged. Only the last segment is read
//! through; of the others the headers say enough, and whoever reads their records checks each of them.
//!
//! The last segment ends in one of four ways:
//!
//! | what stands behind its last whole record | what it means | what is done |
//! | --- | --- | --- |
//! | the frame that closes it | it was closed | nothing |
//! | zeros | the process ended, and nothing was under way | it is closed |
//! | something, but no frame that names a later position as synced | a torn tail: nobody was told that it is safe | it is overwritten with zeros, then the segment is closed |
//! | a frame that names a later position as synced | damage: what cannot be read was promised | the file stays untouched; new records go behind everything that was promised |
//!
//! Before a segment is closed here, its last batch is written and synced once more. Only a later frame says that a batch was
//! synced, and the last batch has none. An example: the sync of a batch fails, and the process ends. The system still shows
//! the batch to the next process, takes its pages for written, and never writes them. Without the second write the frame that
//! closes the segment would name records as synced that a power cut then takes away.
//!
//! A recovered segment never gets another record.

use super::{
    cursor::{Cursor, Step, Unopened},
    damage::{Damage, Kind},
    folder::Folder,
    frame::{END, Encoder, HEAD, Header, HeaderFlaw},
    shared::Part,
};
use crate::seal::Wrapped;
use base::clock;
use std::{
    collections::{BTreeMap, VecDeque},
    fs::OpenOptions,
    io,
    os::unix::fs::FileExt,
};

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) parts: VecDeque<Part>,
    /// How far its segments reach, readable or not.
    pub(super) follows: u64,
    /// The last position that was ever given away: that, or what the store has.
    pub(super) last: u64,
    /// The number of the next segment.
    pub(super) number: u64,
    /// What is wrong, the oldest first.
    pub(super) damage: Vec<Damage>,
    /// The keys of sealed segments, by number, as their headers have them.
    pub(super) keys: Vec<(u64, Wrapped)>,
}

/// Reads the folder of an inbox whose store has everything up to `stored`; `None`: nobody knows. With `repair` a torn
/// tail is cut; without, nothing is written.
pub(super) fn recover(folder: &Folder, identity: [u8; 16], stored: Option<u64>, repair: bool) -> io::Result<Recovered> {
    let listing = folder.list()?;
    let numbers = || listing.segments.keys().chain(&listing.lost).copied();
    let (Some(lowest), Some(highest)) = (numbers().min(), numbers().max()) else {
        let last = stored.unwrap_or_else(beyond_all);
        return Ok(Recovered { follows: stored.unwrap_or(0), last, number: 1, ..Recovered::default() });
    };
    let mut opened = BTreeMap::new();
    for number in listing.segments.keys() {
        opened.insert(*number, Cursor::open(&folder.segment(*number)));
    }
    let mut parts = VecDeque::new();
    // How far the segments so far reach.
    let mut reach = None;
    for number in (lowest..=highest).filter(|number| !listing.lost.contains(number)) {
        let size = listing.segments.get(&number).copied().unwrap_or(0);
        let next = opened.get(&(number + 1)).and_then(|next| next.as_ref().ok());
        let next = next.filter(|next| next.header.number == number + 1).map(|next| next.header.follows);
        let before = reach.or(stored).unwrap_or(0);
        let part = match opened.get_mut(&number) {
            Some(Ok(cursor)) if cursor.header.identity == identity && cursor.header.number == number => {
                let follows = cursor.header.follows;
                let is_first = reach.is_none() && !listing.lost.contains(&(number - 1));
                if let Some(stored) = stored.filter(|stored| is_first && follows > *stored) {
                    parts.push_back(broken(folder, number - 1, stored, follows, Kind::Missing));
                }
                read(folder, cursor, size, next, repair)?
            }
            Some(Ok(cursor)) if cursor.header.identity == identity => {
                let (kind, reach) = (Kind::Misnamed(cursor.header.number), find_end(cursor, size)?.reach);
                Part { size, end: size, ..broken(folder, number, before, before.max(reach), kind) }
            }
            Some(Err(Unopened::Io(error))) => return Err(io::Error::new(error.kind(), error.to_string())),
            unreadable => {
                let kind = match unreadable {
                    None => Kind::Missing,
                    Some(Err(Unopened::Flaw(HeaderFlaw::Version(version)))) => Kind::Version(*version),
                    Some(Err(_)) => Kind::Changed,
                    Some(Ok(_)) => Kind::Foreign,
                };
                // As many positions as it can have held at most: none of them is given away again.
                let last = next.unwrap_or(before + size / HEAD as u64);
                Part { size, end: size, ..broken(folder, number, before, last, kind) }
            }
        };
        reach = Some(reach.unwrap_or(0).max(part.last));
        parts.push_back(part);
    }
    let follows = reach.or(stored).unwrap_or(0);
    let is_behind = |number: u64| parts.iter().any(|part| part.number == number && part.last > stored.unwrap_or(0));
    let keys = opened.iter().filter_map(|(number, cursor)| Some((*number, cursor.as_ref().ok()?.header.key?)));
    let keys = keys.filter(|(number, _)| is_behind(*number)).collect();
    // What the store has already does no harm, unless the journal cannot be opened for it.
    let counts = |part: &Part, damage: &Damage| damage.kind.bars() || part.last > stored.unwrap_or(0);
    let mut damage: Vec<Damage> =
        parts.iter().filter_map(|part| part.damage.clone().filter(|damage| counts(part, damage))).collect();
    damage.sort_by_key(|damage| damage.position);
    Ok(Recovered {
        parts,
        follows,
        last: follows.max(stored.unwrap_or_else(beyond_all)),
        number: highest + 1,
        damage,
        keys,
    })
}

/// A position above every one that was ever given away, where nobody knows those. Positions count events; this one counts
/// microseconds since 1970, and no inbox gets a million events a second for years.
fn beyond_all() -> u64 {
    u64::try_from(clock::now().as_millis()).unwrap_or(0).saturating_mul(1000)
}

/// A segment of which nothing can be read: it held the positions behind `before`, up to `last`.
fn broken(folder: &Folder, number: u64, before: u64, last: u64, kind: Kind) -> Part {
    let damage = Some(Damage { file: folder.segment(number), offset: 0, position: before + 1, kind });
    Part { number, first: before + 1, last, end: 0, size: 0, is_open: false, damage }
}

/// A segment whose header is whole. `next` is the last position of it that counts, where the segment behind it says so.
fn read(folder: &Folder, cursor: &mut Cursor, size: u64, next: Option<u64>, repair: bool) -> io::Result<Part> {
    let Header { number, first, .. } = cursor.header;
    let mut part = Part { number, first, last: first - 1, end: size, size, is_open: false, damage: None };
    if let Some(last) = next {
        part.last = last;
        return Ok(part);
    }
    let end = find_end(cursor, size)?;
    if end.is_damaged {
        part.last = end.reach;
        let file = folder.segment(number);
        part.damage = Some(Damage { file, offset: end.offset, position: end.last + 1, kind: Kind::Changed });
    } else {
        (part.last, part.end) = (end.last, end.offset);
        if repair && !end.is_closed {
            close(folder, cursor, &mut part, &end)?;
        }
    }
    Ok(part)
}

/// Where a segment's records end.
struct End {
    last: u64,
    offset: u64,
    /// The highest position that any of its frames has or names.
    reach: u64,
    /// Where the last batch begins.
    batch: u64,
    is_closed: bool,
    is_damaged: bool,
    is_blank: bool,
}

fn find_end(cursor: &mut Cursor, size: u64) -> io::Result<End> {
    let mut batch = cursor.offset;
    loop {
        let at = cursor.offset;
        let step = cursor.step(size)?;
        if let Step::Record(record) = step {
            // All frames of a batch name the position before it.
            if record.position == cursor.synced + 1 {
                batch = at;
            }
            continue;
        }
        let last = cursor.next - 1;
        let end =
            End { last, offset: cursor.offset, reach: last, batch, is_closed: true, is_damaged: false, is_blank: true };
        if step == Step::End {
            return Ok(End { offset: end.offset + END, ..end });
        }
        let behind = cursor.behind(size)?;
        return Ok(End {
            reach: last.max(behind.reach).max(behind.synced),
            is_closed: false,
            is_damaged: behind.synced > last,
            is_blank: behind.is_blank,
            ..end
        });
    }
}

/// Cuts a torn tail, and closes the segment so that nobody need judge it again.
fn close(folder: &Folder, cursor: &Cursor, part: &mut Part, found: &End) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(folder.segment(part.number))?;
    let mut batch = vec![0; usize::try_from(part.end - found.batch).unwrap_or(0)];
    file.read_exact_at(&mut batch, found.batch)?;
    folder.disk.write(&file, &batch, found.batch)?;
    folder.disk.sync(&file)?;
    if !found.is_blank {
        tracing::warn!(
            code = "journal_cut",
            path = %folder.segment(part.number).display(),
            offset = part.end,
            "the last write to the journal was cut off; what was not acknowledged is removed"
        );
        folder.disk.zero(&file, part.end, part.size)?;
    }
    let mut encoder = Encoder { seed: cursor.seed, chain: cursor.chain, buffer: Vec::new() };
    encoder.end(part.last, clock::now());
    folder.disk.write(&file, &encoder.buffer, part.end)?;
    folder.disk.sync(&file)?;
    part.end += END;
    part.size = part.size.max(part.end);
    Ok(())
}
