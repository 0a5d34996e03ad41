//! The one thread that appends: takes what has gathered, writes it, syncs once, then answers.
//!
//! Batches form by themselves while the sync of the previous one runs; there is no timer. A sync that failed is never tried
//! again on the same file: the system reports a failed write once, and a second sync that succeeds proves nothing. The
//! segment is left with what is known to be synced. The next one names that position ([`Header::follows`]), so what the
//! left segment holds beyond it is never read.

use super::{
    folder::{Folder, Spare},
    frame::{END, Encoder, FIRST_FRAME, Header, Record, frame_size},
    keeper::{self, Task},
    sealing::{Sealing, SegmentKey},
    shared::{Part, Shared, Trouble},
};
use crate::{Error, Position};
use base::clock;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    fs::File,
    io,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Instant,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, oneshot},
};

/// Records of one batch at most.
const BATCH: usize = 1024;
/// Bytes of one batch at most, but for a single record that is larger.
const BATCH_BYTES: u64 = 4 << 20;

/// Room for frames that is kept from one batch to the next.
const BUFFER: usize = 8 << 20;

type Reply = oneshot::Sender<Result<Position, Error>>;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Append(Append),
    /// Close the segment, if one is open.
    Close(oneshot::Sender<()>),
}

/// A record to be appended.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) payload: Bytes,
    pub(super) reply: Reply,
    /// Room in the queue, held until the answer.
    pub(super) room: OwnedSemaphorePermit,
}

/// An open segment.
#[derive(Debug)]
struct Segment {
    file: File,
    encoder: Encoder,
    offset: u64,
    size: u64,
    /// When its first record came.
    begun: Option<Instant>,
    is_spare_ordered: bool,
    /// What seals its records.
    key: Option<SegmentKey>,
}

impl Segment {
    /// Bytes of the frame of a payload.
    fn frame(&self, payload: &[u8]) -> u64 {
        frame_size(payload.len() + self.key.as_ref().map_or(0, |_| SegmentKey::OVERHEAD))
    }

    /// Whether a frame fits, and behind it the one that closes the segment.
    fn has_room(&self, written: u64, size: u64) -> bool {
        self.offset + written + size + END <= self.size
    }
}

/// However the thread ends, a panic included, nothing is accepted any more.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.change(|state| state.trouble = Some(Trouble::Closed));
    }
}

/// The thread's own.
#[derive(Debug)]
pub(super) struct Appender {
    folder: Folder,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    tasks: mpsc::Sender<Task>,
    /// Where the callers wait; `None` outside of a runtime.
    runtime: Option<Handle>,
    sealing: Sealing,
    /// Number of the next segment.
    number: u64,
    /// The last position that counts.
    last: u64,
    /// How far the segments reach. Less than `last` only where the store has folded more than the journal ever held.
    follows: u64,
    segment: Option<Segment>,
    /// After trouble: when the disk is tried again.
    retry: Option<Instant>,
}

impl Appender {
    pub(super) fn new(
        folder: Folder,
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Request>,
        tasks: mpsc::Sender<Task>,
        sealing: Sealing,
        (number, follows): (u64, u64),
    ) -> Self {
        let last = shared.state().synced;
        let runtime = Handle::try_current().ok();
        Self { folder, shared, requests, tasks, runtime, sealing, number, last, follows, segment: None, retry: None }
    }

    /// Runs until nobody can ask any more.
    pub(super) fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.shared));
        loop {
            match self.next() {
                Ok(request) => {
                    let mut closers = Vec::new();
                    let batch = self.gather(request, &mut closers);
                    self.append(batch);
                    if !closers.is_empty() {
                        self.close();
                    }
                    for closer in closers {
                        // Who asked may have gone.
                        closer.send(()).ok();
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.on_time(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.close();
    }

    /// Waits for a request, or until something is to be done without one.
    fn next(&self) -> Result<Request, RecvTimeoutError> {
        let begun = self.segment.as_ref().and_then(|segment| segment.begun);
        let until = [begun.map(|begun| begun + self.shared.limits.age), self.retry].into_iter().flatten().min();
        match until {
            Some(until) => self.requests.recv_timeout(until.saturating_duration_since(Instant::now())),
            None => self.requests.recv().map_err(|_ended| RecvTimeoutError::Disconnected),
        }
    }

    fn on_time(&mut self) {
        if self.retry.is_some_and(|retry| retry <= Instant::now()) {
            self.begin(0);
        }
        self.close_if_old();
    }

    fn close_if_old(&mut self) {
        let begun = self.segment.as_ref().and_then(|segment| segment.begun);
        if begun.is_some_and(|begun| begun.elapsed() >= self.shared.limits.age) {
            self.close();
        }
    }

    /// The request and what waits behind it. A request to close ends the batch.
    fn gather(&self, first: Request, closers: &mut Vec<oneshot::Sender<()>>) -> VecDeque<Append> {
        let mut batch = VecDeque::new();
        let mut bytes = 0;
        let mut next = Some(first);
        let mut has_yielded = false;
        while let Some(request) = next {
            match request {
                Request::Append(append) => {
                    bytes += append.payload.len() as u64;
                    batch.push_back(append);
                }
                Request::Close(closer) => {
                    closers.push(closer);
                    break;
                }
            }
            next = if batch.len() < BATCH && bytes < BATCH_BYTES { self.requests.try_recv().ok() } else { None };
            if next.is_none() && batch.len() > 1 && !has_yielded {
                // Several callers at once: threads that are about to bring more go first, and share this sync.
                has_yielded = true;
                thread::yield_now();
                next = self.requests.try_recv().ok();
            }
        }
        batch
    }

    /// Appends and answers; what does not fit in the segment goes into the next one.
    fn append(&mut self, mut batch: VecDeque<Append>) {
        self.close_if_old();
        while let Some(first) = batch.front() {
            // As long as it may become.
            let size = frame_size(first.payload.len() + SegmentKey::OVERHEAD);
            if self.segment.as_ref().is_some_and(|segment| !segment.has_room(0, size)) {
                self.close();
            }
            // While the disk is in trouble only the time decides when it is tried again, and no caller waits for it.
            let may_try = self.retry.is_none_or(|retry| retry <= Instant::now());
            if self.segment.is_none() && !(may_try && self.begin(size)) {
                let trouble = self.shared.state().trouble.clone().unwrap_or(Trouble::Closed);
                batch.drain(..).for_each(|append| drop(append.reply.send(Err(trouble.error()))));
                return;
            }
            self.append_some(&mut batch);
        }
    }

    /// Writes as many records as the segment has room for, and syncs them.
    fn append_some(&mut self, batch: &mut VecDeque<Append>) {
        let Some(segment) = &mut self.segment else { return };
        let now = clock::now();
        let synced = self.last;
        let mut replies = Vec::with_capacity(batch.len());
        segment.encoder.buffer.clear();
        // The room of one very large record is not kept for ever.
        segment.encoder.buffer.shrink_to(BUFFER);
        while let Some(append) = batch.front() {
            let written = segment.encoder.buffer.len() as u64;
            if !segment.has_room(written, segment.frame(&append.payload)) {
                break;
            }
            let Some(Append { payload, reply, room }) = batch.pop_front() else { break };
            let position = synced + 1 + replies.len() as u64;
            let sealed = segment.key.as_ref().map(|key| key.seal(position, &payload)).transpose();
            let payload = match sealed {
                Ok(sealed) => sealed.unwrap_or(payload),
                Err(flaw) => {
                    drop(reply.send(Err(flaw.into())));
                    continue;
                }
            };
            segment.encoder.record(&Record { position, accepted: now, payload }, synced);
            replies.push((reply, room));
        }
        match put(&self.shared, &self.folder, segment) {
            Ok(()) => {
                self.note_synced(replies.len() as u64);
                self.answer(replies, synced);
            }
            Err(error) => {
                let trouble = self.abandon(error);
                for (reply, _room) in replies {
                    drop(reply.send(Err(trouble.error())));
                }
            }
        }
    }

    fn note_synced(&mut self, records: u64) {
        let Some(segment) = &mut self.segment else { return };
        segment.offset += segment.encoder.buffer.len() as u64;
        segment.begun.get_or_insert_with(Instant::now);
        self.last += records;
        self.follows = self.last;
        self.shared.change(|state| {
            state.synced = self.last;
            if let Some(part) = state.open_part() {
                (part.last, part.end) = (self.last, segment.offset);
            }
        });
        if segment.offset > segment.size / 2 && !segment.is_spare_ordered {
            segment.is_spare_ordered = true;
            // Without its thread the next segment is made when it is needed.
            self.tasks.send(Task::Prepare).ok();
        }
    }

    /// Answers a batch that is synced. To wake a task from a thread outside the runtime costs a system call each time; the
    /// runtime's own threads wake each other for next to nothing.
    fn answer(&self, replies: Vec<(Reply, OwnedSemaphorePermit)>, synced: u64) {
        let several = replies.len() > 1;
        let answers = move || {
            // A caller that went away needs no answer; its record is stored.
            let numbered = (synced + 1..).zip(replies);
            numbered.for_each(|(position, (reply, _room))| drop(reply.send(Ok(Position(position)))));
        };
        match &self.runtime {
            Some(runtime) if several => drop(runtime.spawn(async { answers() })),
            _ => answers(),
        }
    }

    /// Leaves a segment whose last write or sync failed.
    fn abandon(&mut self, error: io::Error) -> Trouble {
        tracing::error!(code = "journal_failed", error = %error, "the journal's disk failed; events are answered 503 until it works again");
        self.segment = None;
        self.shared.change(|state| {
            if let Some(part) = state.open_part() {
                // Records that nobody was promised may stand anywhere behind the last one.
                (part.is_open, part.end) = (false, part.size);
            }
        });
        self.note_trouble(Trouble::of(error))
    }

    fn note_trouble(&mut self, trouble: Trouble) -> Trouble {
        self.retry = Some(Instant::now() + self.shared.limits.pause);
        self.shared.change(|state| state.trouble = Some(trouble.clone()));
        trouble
    }

    /// Closes the open segment, if any, for good.
    fn close(&mut self) {
        let Some(mut segment) = self.segment.take() else { return };
        if segment.begun.is_none() {
            // Nothing is in it yet: it may as well take the next record.
            self.segment = Some(segment);
            return;
        }
        segment.encoder.buffer.clear();
        segment.encoder.end(self.last, clock::now());
        if let Err(error) = put(&self.shared, &self.folder, &segment) {
            self.abandon(error);
            return;
        }
        let end = segment.offset + END;
        let limits = self.shared.limits;
        self.shared.change(|state| {
            if let Some(part) = state.open_part() {
                (part.is_open, part.end) = (false, end);
            }
            // Where much comes segments grow; where little comes they shrink.
            state.planned = if end > segment.size / 2 {
                (state.planned * 2).min(limits.largest)
            } else if end < segment.size / 8 {
                (state.planned / 2).max(limits.smallest)
            } else {
                state.planned
            };
        });
    }

    /// Begins a segment with room for a frame of this size; says whether that worked.
    fn begin(&mut self, frame: u64) -> bool {
        match self.try_begin(frame) {
            Ok(segment) => {
                if self.retry.take().is_some() {
                    tracing::warn!(
                        code = "journal_works_again",
                        "the journal can be written again; events are accepted again"
                    );
                }
                self.segment = Some(segment);
                self.shared.change(|state| state.trouble = None);
                true
            }
            Err(trouble) => {
                if self.retry.is_none() {
                    let error = trouble.error();
                    tracing::error!(code = "journal_full", error = %base::error::chain(&error), "the journal has no room; events are answered 503");
                }
                self.note_trouble(trouble);
                false
            }
        }
    }

    fn try_begin(&mut self, frame: u64) -> Result<Segment, Trouble> {
        let needed = (FIRST_FRAME + frame + END).next_multiple_of(4096).max(self.shared.limits.smallest);
        // Counted at every moment, or the keeper, which prepares a spare meanwhile, goes over the limit.
        let (spare, small, size) = self.shared.change(|state| {
            let affordable = keeper::affordable(&self.folder, &self.shared, state);
            let (spare, small) = match state.spare.take() {
                Some(spare) if spare.size >= needed => (Some(spare), None),
                other => (None, other),
            };
            let size = spare.as_ref().map_or(affordable.max(needed), |spare| spare.size);
            state.making += size;
            (spare, small, size)
        });
        if let Some(small) = small {
            self.folder.discard(&small);
        }
        let begun = self.make(spare, size);
        // One that was begun is counted as a segment.
        if begun.is_err() {
            self.shared.change(|state| state.making -= size);
        }
        begun
    }

    /// Makes a segment of a size that is counted already, of a spare where there is one.
    fn make(&mut self, spare: Option<Spare>, size: u64) -> Result<Segment, Trouble> {
        let spare = if let Some(spare) = spare {
            spare
        } else {
            if self.shared.state().used() > self.shared.limits.most {
                return Err(Trouble::Limit);
            }
            if size > self.folder.free() / 2 {
                return Err(Trouble::Full(None));
            }
            self.folder.make_spare(size).map_err(Trouble::of)?
        };
        let number = self.number;
        let made = self.sealing.make(number).map_err(|flaw| Trouble::of(io::Error::other(flaw)))?;
        let (key, wrapped) = made.unzip();
        let (first, follows) = (self.last + 1, self.follows);
        let header = Header { identity: self.sealing.identity, number, first, follows, key: wrapped };
        let file = self.folder.begin(&spare, &header).map_err(Trouble::of)?;
        self.number += 1;
        self.shared.change(|state| {
            state.making -= size;
            state.parts.push_back(Part {
                number,
                first: header.first,
                last: self.last,
                end: FIRST_FRAME,
                size,
                is_open: true,
                damage: None,
            });
        });
        let encoder = Encoder::new(header.encode().1);
        Ok(Segment { file, encoder, offset: FIRST_FRAME, size, begun: None, is_spare_ordered: false, key })
    }
}

/// Writes the frames that a segment's encoder holds, and syncs them.
fn put(shared: &Shared, folder: &Folder, segment: &Segment) -> io::Result<()> {
    shared.appender.begins();
    let written = folder.disk.write(&segment.file, &segment.encoder.buffer, segment.offset);
    let synced = written.and_then(|()| folder.disk.sync(&segment.file));
    shared.appender.ends(false);
    synced
}
