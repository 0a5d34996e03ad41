//! The bytes of a segment: one header, then frames. Pure: bytes in, values out.
//!
//! ```text
//! segment:  header, zeros up to FIRST_FRAME, frame, frame, ..., zeros
//! header:   magic | version u32 | identity | number u64 | first u64 | follows u64 | wrapped key, where sealed | check u32
//! frame:    length u32 | kind u32 | position u64 | synced u64 | time i64 | check u32 | chain u32 | payload | zeros up to 8
//! ```
//!
//! Numbers are little endian. A frame has two checksums, each for one question:
//!
//! - `chain` covers the frame and everything before it in its segment. It answers: is this record what was written, and is
//!   nothing missing before it?
//! - `check` covers the frame's head alone. It answers: was something written *behind* a frame that cannot be read? Only
//!   then is the unreadable frame damage. Both start from the header's own checksum, so a frame of another segment, or of
//!   another inbox, is never taken for one of this segment.
//!
//! `synced` is the last position that was known to be on disk when the frame was written. All frames of one batch name
//! the same.

use crate::seal::{WRAPPED, Wrapped};
use base::clock::Timestamp;
use bytes::Bytes;

/// Where the first frame of a segment stands. The header has a page of its own, which is never written again.
pub(super) const FIRST_FRAME: u64 = 4096;
/// Bytes of a frame's head.
pub(super) const HEAD: usize = 40;
/// Bytes of the frame that ends a segment.
pub(super) const END: u64 = HEAD as u64;
/// Frames begin at multiples of this.
pub(super) const ALIGN: u64 = 8;
/// The format of a segment whose records are written as they are.
pub(super) const VERSION: u32 = 1;
/// The format of a segment whose records are sealed: its header has the segment's key, wrapped.
pub(super) const SEALED: u32 = 2;

const MAGIC: [u8; 8] = *b"LXJOURNL";
const HEADER: usize = HEADER_CHECKED + WRAPPED + 4;
const HEADER_CHECKED: usize = 52;
const HEAD_CHECKED: usize = 32;
const CHAINED: usize = 36;
const RECORD: u32 = 1;
const CLOSED: u32 = 2;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The inbox that it belongs to.
    pub(super) identity: [u8; 16],
    /// Its number: one more than that of the segment before it.
    pub(super) number: u64,
    /// The position of its first record.
    pub(super) first: u64,
    /// The last position that counts of the segment before it. What that segment holds beyond was never promised.
    pub(super) follows: u64,
    /// The key that seals its records, wrapped by the key file.
    pub(super) key: Option<Wrapped>,
}

/// Why a header is none that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFlaw {
    /// It is not what was written.
    Damaged,
    /// Another version of the program wrote it.
    Version(u32),
}

impl Header {
    /// The header's bytes, and the checksum with which the chain begins.
    pub(super) fn encode(&self) -> (Vec<u8>, u32) {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&if self.key.is_some() { SEALED } else { VERSION }.to_le_bytes());
        bytes.extend_from_slice(&self.identity);
        for number in [self.number, self.first, self.follows] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(self.key.as_ref().map_or(&[], <[u8; WRAPPED]>::as_slice));
        let check = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        (bytes, check)
    }

    /// Reads a header from the start of a segment; with it comes the checksum with which the chain begins.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, u32), HeaderFlaw> {
        let version = u32_at(bytes, 8).ok_or(HeaderFlaw::Damaged)?;
        // Of an unknown format the length of the first one is tried, so that it can be named.
        let checked = HEADER_CHECKED + if version == SEALED { WRAPPED } else { 0 };
        let fields = bytes.get(..checked).ok_or(HeaderFlaw::Damaged)?;
        let check = crc32c::crc32c(fields);
        if !fields.starts_with(&MAGIC) || u32_at(bytes, checked) != Some(check) {
            return Err(HeaderFlaw::Damaged);
        }
        if version != VERSION && version != SEALED {
            return Err(HeaderFlaw::Version(version));
        }
        let read = || {
            let identity = bytes.get(12..28)?.try_into().ok()?;
            let (number, first, follows) = (u64_at(bytes, 28)?, u64_at(bytes, 36)?, u64_at(bytes, 44)?);
            let key = fields.get(HEADER_CHECKED..).filter(|key| !key.is_empty());
            let key = key.map(Wrapped::try_from).transpose().ok()?;
            Some(Self { identity, number, first, follows, key })
        };
        read().map(|header| (header, check)).ok_or(HeaderFlaw::Damaged)
    }
}

/// One accepted record, as it comes out of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where it stands: one more than the record before it.
    pub(crate) position: u64,
    /// When it was accepted.
    pub(crate) accepted: Timestamp,
    /// What was given to the journal.
    pub(crate) payload: Bytes,
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: u32,
    /// Whether it closes the segment: nothing comes behind it.
    pub(super) is_end: bool,
    pub(super) position: u64,
    pub(super) synced: u64,
    pub(super) accepted: Timestamp,
    chain: u32,
}

impl Head {
    /// Reads a head; `None` where none stands. `seed` is the checksum of the segment's header.
    pub(super) fn decode(bytes: &[u8], seed: u32) -> Option<Self> {
        let kind = u32_at(bytes, 4)?;
        if kind != RECORD && kind != CLOSED {
            return None;
        }
        let check = crc32c::crc32c_append(seed, bytes.get(..HEAD_CHECKED)?);
        if u32_at(bytes, HEAD_CHECKED)? != check {
            return None;
        }
        Some(Self {
            length: u32_at(bytes, 0)?,
            is_end: kind == CLOSED,
            position: u64_at(bytes, 8)?,
            synced: u64_at(bytes, 16)?,
            accepted: Timestamp::from_millis(u64_at(bytes, 24)?.cast_signed()),
            chain: u32_at(bytes, CHAINED)?,
        })
    }

    /// Whether the frame is what was written behind a chain; then the chain that goes on from it.
    pub(super) fn verify(&self, frame: &[u8], chain: u32) -> Option<u32> {
        let payload = frame.get(HEAD..HEAD + self.length as usize)?;
        let found = crc32c::crc32c_append(crc32c::crc32c_append(chain, frame.get(..CHAINED)?), payload);
        (found == self.chain).then_some(found)
    }
}

/// Bytes of a frame with a payload of so many bytes.
pub(super) const fn frame_size(payload: usize) -> u64 {
    ((HEAD + payload) as u64).next_multiple_of(ALIGN)
}

/// Writes frames behind each other.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) seed: u32,
    pub(super) chain: u32,
    pub(super) buffer: Vec<u8>,
}

impl Encoder {
    /// For a new segment, by the checksum of its header.
    pub(super) const fn new(seed: u32) -> Self {
        Self { seed, chain: seed, buffer: Vec::new() }
    }

    /// Adds a record. Its payload is shorter than 4 GiB: the journal refuses longer ones at its door.
    pub(super) fn record(&mut self, record: &Record, synced: u64) {
        self.frame(RECORD, record.position, synced, record.accepted, &record.payload);
    }

    /// Adds the frame that closes a segment whose last record has this position.
    pub(super) fn end(&mut self, last: u64, now: Timestamp) {
        self.frame(CLOSED, last, last, now, &[]);
    }

    fn frame(&mut self, kind: u32, position: u64, synced: u64, time: Timestamp, payload: &[u8]) {
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        head.extend_from_slice(&kind.to_le_bytes());
        head.extend_from_slice(&position.to_le_bytes());
        head.extend_from_slice(&synced.to_le_bytes());
        head.extend_from_slice(&time.as_millis().to_le_bytes());
        head.extend_from_slice(&crc32c::crc32c_append(self.seed, &head).to_le_bytes());
        self.chain = crc32c::crc32c_append(crc32c::crc32c_append(self.chain, &head), payload);
        head.extend_from_slice(&self.chain.to_le_bytes());
        let end = self.buffer.len() + usize::try_from(frame_size(payload.len())).unwrap_or(usize::MAX);
        self.buffer.extend_from_slice(&head);
        self.buffer.extend_from_slice(payload);
        self.buffer.resize(end, 0);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Header = Header { identity: [7; 16], number: 3, first: 10, follows: 9, key: None };
    const SEALED: Header = Header { key: Some([5; WRAPPED]), ..PLAIN };

    fn record(position: u64, payload: &[u8]) -> Record {
        Record { position, accepted: Timestamp::from_millis(5), payload: Bytes::copy_from_slice(payload) }
    }

    #[test]
    fn a_header_is_read_back_and_each_changed_bit_is_noticed() {
        for header in [PLAIN, SEALED] {
            let (bytes, seed) = header.encode();
            assert_eq!(Header::decode(&bytes), Ok((header, seed)));
            for at in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[at / 8] ^= 1 << (at % 8);
                assert_eq!(Header::decode(&changed), Err(HeaderFlaw::Damaged), "bit {at}");
            }
            assert_eq!(Header::decode(&bytes[..20]), Err(HeaderFlaw::Damaged));
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let (mut bytes, _) = PLAIN.encode();
        bytes[8] = 9;
        let check = crc32c::crc32c(&bytes[..HEADER_CHECKED]);
        bytes[HEADER_CHECKED..].copy_from_slice(&check.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(HeaderFlaw::Version(9)));
    }

    proptest! {
        #[test]
        fn frames_are_read_back_in_their_chain_alone(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..6),
            flip in any::<prop::sample::Index>(),
        ) {
            let seed = PLAIN.encode().1;
            let mut encoder = Encoder::new(seed);
            for (n, payload) in payloads.iter().enumerate() {
                encoder.record(&record(n as u64, payload), 0);
            }
            let (mut at, mut chain) = (0, seed);
            for (n, payload) in payloads.iter().enumerate() {
                let frame = &encoder.buffer[at..];
                let head = Head::decode(frame, seed).unwrap();
                prop_assert_eq!((head.position, head.length as usize), (n as u64, payload.len()));
                prop_assert!(head.verify(frame, chain ^ 1).is_none(), "behind something else");
                chain = head.verify(frame, chain).unwrap();
                at += usize::try_from(frame_size(payload.len())).unwrap();
            }
            prop_assert_eq!(at, encoder.buffer.len());
            // One changed byte of the first frame is noticed, wherever it is.
            let mut changed = encoder.buffer.clone();
            let at = flip.index(HEAD + payloads[0].len());
            changed[at] ^= 0x40;
            let head = Head::decode(&changed, seed);
            prop_assert!(head.is_none_or(|head| head.verify(&changed, seed).is_none()));
        }
    }
}
