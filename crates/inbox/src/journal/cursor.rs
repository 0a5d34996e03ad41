//! Walks over the frames of one segment, and judges what stands where the walk ends.

use super::frame::{ALIGN, FIRST_FRAME, HEAD, Head, Header, HeaderFlaw, Record, frame_size};
use bytes::Bytes;
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// Bytes read at once.
const WINDOW: usize = 1 << 20;

/// A place in a segment.
#[derive(Debug)]
pub(super) struct Cursor {
    file: File,
    pub(super) header: Header,
    /// Checksum of the header; what every frame of this segment is checked with.
    pub(super) seed: u32,
    /// Checksum of everything before `offset`.
    pub(super) chain: u32,
    /// Where the next frame stands.
    pub(super) offset: u64,
    /// The position of the next record.
    pub(super) next: u64,
    /// The last position that was synced when the last record so far was written.
    pub(super) synced: u64,
    window: Vec<u8>,
    /// Where the window begins in the file.
    start: u64,
}

/// What stands at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Record(Record),
    /// The segment was closed here.
    End,
    /// No whole frame: unused room, a torn tail, or damage.
    Nothing,
}

/// Why a segment cannot be opened.
#[derive(Debug)]
pub(super) enum Unopened {
    Flaw(HeaderFlaw),
    Io(io::Error),
}

/// What stands behind a place where no frame can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// The highest position that was synced, as any frame there says.
    pub(super) synced: u64,
    /// The highest position of any frame there.
    pub(super) reach: u64,
    /// Whether there is nothing but zeros.
    pub(super) is_blank: bool,
}

impl Cursor {
    /// At the first frame of a segment.
    pub(super) fn open(path: &Path) -> Result<Self, Unopened> {
        let file = File::open(path).map_err(Unopened::Io)?;
        let mut window = Vec::new();
        read_into(&file, &mut window, 0, usize::try_from(FIRST_FRAME).unwrap_or(0)).map_err(Unopened::Io)?;
        let (header, seed) = Header::decode(&window).map_err(Unopened::Flaw)?;
        Ok(Self {
            file,
            header,
            seed,
            chain: seed,
            offset: FIRST_FRAME,
            next: header.first,
            synced: header.first - 1,
            window: Vec::new(),
            start: FIRST_FRAME,
        })
    }

    /// Reads the next frame, of a file that counts up to `limit`. What is behind the limit is not looked at: it may be
    /// written just now.
    pub(super) fn step(&mut self, limit: u64) -> io::Result<Step> {
        let (seed, chain) = (self.seed, self.chain);
        let Some(head) = Head::decode(self.see(HEAD, limit)?, seed) else { return Ok(Step::Nothing) };
        let size = frame_size(head.length as usize);
        let is_next = if head.is_end { head.position + 1 == self.next } else { head.position == self.next };
        if !is_next || size > limit.saturating_sub(self.offset) {
            return Ok(Step::Nothing);
        }
        let frame = self.see(usize::try_from(size).unwrap_or(usize::MAX), limit)?;
        let Some(chain) = head.verify(frame, chain) else { return Ok(Step::Nothing) };
        if head.is_end {
            return Ok(Step::End);
        }
        let payload = frame.get(HEAD..HEAD + head.length as usize).unwrap_or_default();
        let record =
            Record { position: head.position, accepted: head.accepted, payload: Bytes::copy_from_slice(payload) };
        self.chain = chain;
        self.offset += size;
        self.next += 1;
        self.synced = head.synced;
        Ok(Step::Record(record))
    }

    /// Looks through everything from here to the end of the file for frames of this segment. A frame that cannot be read
    /// breaks the chain, but the head of a later one can still be recognised.
    pub(super) fn behind(&mut self, size: u64) -> io::Result<Behind> {
        let mut found = Behind { is_blank: true, ..Behind::default() };
        let most = self.header.first.saturating_add(size / HEAD as u64);
        let (seed, first) = (self.seed, self.header.first);
        let mut at = self.offset;
        while at < size {
            let window = self.see_at(at, WINDOW, size)?;
            if window.is_empty() {
                break;
            }
            let is_last = at + window.len() as u64 >= size;
            let mut here = 0;
            while let Some(rest) = window.get(here..).filter(|rest| is_last || rest.len() >= HEAD) {
                if rest.is_empty() {
                    break;
                }
                let ahead = rest.get(..rest.len().min(8)).unwrap_or_default();
                if ahead.iter().any(|byte| *byte != 0) {
                    found.is_blank = false;
                    if let Some(head) = Head::decode(rest, seed).filter(|head| (first..=most).contains(&head.position))
                    {
                        found.synced = found.synced.max(head.synced);
                        found.reach = found.reach.max(head.position);
                    }
                }
                here += usize::try_from(ALIGN).unwrap_or(8);
            }
            at += here as u64;
        }
        Ok(found)
    }

    /// So many bytes from here on, or fewer where the limit is nearer.
    fn see(&mut self, length: usize, limit: u64) -> io::Result<&[u8]> {
        self.see_at(self.offset, length, limit)
    }

    fn see_at(&mut self, at: u64, length: usize, limit: u64) -> io::Result<&[u8]> {
        let room = usize::try_from(limit.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = length.min(room);
        let skip = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = if let Some(skip) = skip.filter(|skip| skip.saturating_add(length) <= self.window.len()) {
            skip
        } else {
            read_into(&self.file, &mut self.window, at, WINDOW.max(length).min(room))?;
            self.start = at;
            0
        };
        let seen = self.window.get(skip..).unwrap_or_default();
        Ok(seen.get(..length).unwrap_or(seen))
    }
}

/// Replaces the buffer by what the file holds there; by less where the file is shorter.
fn read_into(file: &File, buffer: &mut Vec<u8>, offset: u64, length: usize) -> io::Result<()> {
    buffer.resize(length, 0);
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(done);
    Ok(())
}
