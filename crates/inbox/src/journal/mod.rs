//! The journal: where events are safe first.
//!
//! In: payloads, of which the journal understands nothing. Out: their positions once they are on the disk, and the payloads
//! again, in order, for the fold. The journal knows no store.
//!
//! ```text
//! frame     pure: the bytes of a segment
//! sealing   the key of a segment: made, and found again
//! damage    what is wrong, where, and what to do about it
//! disk      writes and syncs
//! folder    which files there are, and how they come and go
//! cursor    walks over one segment
//! shared    what the threads and the readers know together
//! recover   what a folder holds when it is opened
//! keeper    the thread that makes and clears segments
//! appender  the thread that appends, syncs once for many callers, and answers
//! reader    gives out records from a position on
//! verify    reads everything, for `check`
//! ```
//!
//! Promises, each held by `tests.rs` beside this file:
//!
//! - What [`Journal::append`] answered with a position is read again after a crash, once, in the order of the positions.
//! - Nothing is read that was not appended.
//! - What was promised and cannot be read any more is an error that names the place and the remedy ([`Damage`]).
//! - Of what was let go no byte stays.
//!
//! etcd's log (`server/storage/wal`) is the model: segments made beforehand, a chained CRC, and a torn tail that is cut. One
//! thing is added: each record names the position that was synced before its batch, so that damage is never taken for a
//! torn tail. The alternative is to answer after the store's own commit. Such a commit writes every index page that the event
//! touches, and its sender waits for all of them.

mod appender;
mod cursor;
mod damage;
mod disk;
mod folder;
mod frame;
mod keeper;
mod reader;
mod recover;
mod sealing;
mod shared;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use frame::Record;
pub(crate) use reader::{ReadError, Reader};
pub(crate) use shared::Limits;
pub(crate) use verify::{identity, pair, tail, verify};

use crate::{Error, Position, seal::Ring};
use appender::{Append, Appender, Request};
use base::sync::lock;
use bytes::Bytes;
use disk::Disk;
use folder::Folder;
use keeper::Task;
use sealing::Sealing;
use shared::Shared;
use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread,
};
use tokio::sync::{Semaphore, oneshot};

/// Bytes of records that wait for their sync at most; beyond it callers wait for room.
const QUEUE_BYTES: usize = 64 << 20;
/// What a waiting record costs beside its payload, about.
const QUEUE_EACH: usize = 512;
/// A payload is at most this long.
const LONGEST: usize = 1 << 30;

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: Folder,
    shared: Arc<Shared>,
    sealing: Sealing,
    room: Arc<Semaphore>,
    /// `None` once closed.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    tasks: Mutex<Option<mpsc::Sender<Task>>>,
    appender: Mutex<Option<thread::JoinHandle<()>>>,
    keeper: Mutex<Option<thread::JoinHandle<()>>>,
    /// `None` once closed. Released by the system when the process ends, however it ends.
    lock: Mutex<Option<File>>,
}

impl Journal {
    /// Opens (or makes) the journal in a folder, for an inbox whose store has everything up to `stored`; `None`: nobody knows. Damage is no
    /// error: new records are taken all the same, see [`damage`](Self::damage).
    ///
    /// # Errors
    /// [`Error::Open`]: the folder cannot be used, another process has it, or it belongs to another inbox.
    pub(crate) fn open(
        path: &Path,
        identity: [u8; 16],
        stored: Option<Position>,
        limits: Limits,
        ring: Option<Arc<Ring>>,
    ) -> Result<Self, Error> {
        Self::open_on(Disk::default(), path, identity, stored, limits, ring)
    }

    fn open_on(
        disk: Disk,
        path: &Path,
        identity: [u8; 16],
        stored: Option<Position>,
        limits: Limits,
        ring: Option<Arc<Ring>>,
    ) -> Result<Self, Error> {
        let unusable = |problem: &str, source: std::io::Error| Error::Open {
            path: path.display().to_string(),
            problem: problem.to_owned(),
            source: Some(Box::new(source)),
        };
        let failed =
            |error| unusable("the journal's folder cannot be used; check its owner, its mode and its disk", error);
        let folder = Folder::new(path, disk);
        folder.make().map_err(failed)?;
        let lock_file = folder.lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::Open {
                path: path.display().to_string(),
                problem: "another linxo-webhook has this journal open; stop that one first".to_owned(),
                source: None,
            },
            TryLockError::Error(error) => failed(error),
        })?;
        let found = recover::recover(&folder, identity, stored.map(|stored| stored.0), true).map_err(failed)?;
        if let Some(damage) = found.damage.iter().find(|damage| damage.kind.bars()) {
            return Err(Error::Open { path: path.display().to_string(), problem: damage.to_string(), source: None });
        }
        if let Some(number) = found.keys.iter().find(|(_, key)| !ring.as_ref().is_some_and(|ring| ring.knows(key))) {
            return Err(Error::Seal {
                problem: format!(
                    "{} is sealed with a key that is none of those of inbox.key: put the key back, behind the new one in the \
                     list, until the service has started once",
                    folder.segment(number.0).display()
                ),
                source: None,
            });
        }
        folder.set_identity(&lock_file, identity).map_err(failed)?;
        for damage in &found.damage {
            tracing::error!(code = "journal_damaged", "{damage}");
        }
        let listing = folder.list().map_err(failed)?;
        let shared = Arc::new(Shared::new(found.parts, found.last, limits));
        let (tasks, keeper) = keeper::start(folder.clone(), Arc::clone(&shared), listing).map_err(failed)?;
        tasks.send(Task::Prepare).ok();
        let (requests, queue) = mpsc::channel();
        let next = (found.number, found.follows);
        let sealing = Sealing::new(identity, ring);
        let appender = Appender::new(folder.clone(), Arc::clone(&shared), queue, tasks.clone(), sealing.clone(), next);
        let appender = thread::Builder::new().name("inbox-journal".to_owned()).spawn(move || appender.run());
        Ok(Self {
            folder,
            shared,
            sealing,
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            requests: Mutex::new(Some(requests)),
            tasks: Mutex::new(Some(tasks)),
            appender: Mutex::new(Some(appender.map_err(failed)?)),
            keeper: Mutex::new(Some(keeper)),
            lock: Mutex::new(Some(lock_file)),
        })
    }

    /// Appends a record; returns its position after it was synced.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Store`], [`Error::Closed`]: nothing was promised.
    ///
    /// # Cancel safety
    /// When dropped, the record is appended whole or not at all.
    pub(crate) async fn append(&self, payload: Bytes) -> Result<Position, Error> {
        if payload.len() > LONGEST {
            return Err(Error::Store("the event is too long for the journal".into()));
        }
        let cost = u32::try_from((payload.len() + QUEUE_EACH).min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(cost).await.map_err(|_closed| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Append(Append { payload, reply, room }))?;
        answer.await.map_err(|_ended| Error::Closed)?
    }

    /// Notes the number that its store has, too.
    pub(crate) fn set_pair(&self, pair: i64) -> Result<(), Error> {
        self.folder.set_pair(pair).map_err(|error| Error::Store(Box::new(error)))
    }

    /// Whether a record would be taken now.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    pub(crate) fn ready(&self) -> Result<(), Error> {
        if self.shared.appender.hangs() {
            return Err(Error::Store("the journal's disk does not answer".into()));
        }
        self.shared.state().trouble.as_ref().map_or(Ok(()), |trouble| Err(trouble.error()))
    }

    /// The last position that is on the disk.
    pub(crate) fn synced(&self) -> Position {
        Position(self.shared.state().synced)
    }

    /// How many records it holds behind a position. Positions may leave gaps, so these are counted.
    pub(crate) fn held(&self, behind: Position) -> u64 {
        let state = self.shared.state();
        state.parts.iter().map(|part| (part.last + 1).saturating_sub(part.first.max(behind.0 + 1))).sum()
    }

    /// Segments that are damaged, or that a person gave up: what is in them was never read.
    pub(crate) fn unread(&self) -> Vec<PathBuf> {
        let damaged = self
            .shared
            .state()
            .parts
            .iter()
            .filter(|part| part.damage.is_some() && part.size > 0)
            .map(|part| part.number)
            .collect::<Vec<_>>();
        let lost = self.folder.list().map(|listing| listing.lost).unwrap_or_default();
        damaged
            .into_iter()
            .map(|number| self.folder.segment(number))
            .chain(lost.into_iter().map(|number| self.folder.lost(number)))
            .collect()
    }

    /// Bytes of all its files.
    pub(crate) fn size(&self) -> u64 {
        self.shared.state().used()
    }

    /// Gives out records, from behind a position on.
    pub(crate) fn reader(&self, behind: Position) -> Reader {
        Reader::new(self.folder.clone(), Arc::clone(&self.shared), self.sealing.clone(), behind.0)
    }

    /// Closes the segment that takes records, so that it can be let go as soon as it is folded. Without this call a segment
    /// is closed when it is full or a minute old.
    pub(crate) async fn close_segment(&self) {
        let (teller, told) = oneshot::channel();
        if self.ask(Request::Close(teller)).is_ok() {
            told.await.ok();
        }
    }

    /// Lets go of every closed segment that holds nothing beyond `stored`. What is in the store up to `stored` must be on the
    /// disk, log or file: afterwards it is nowhere else.
    pub(crate) fn let_go(&self, stored: Position) {
        let mut gone = Vec::new();
        self.shared.change(|state| {
            while let Some(part) = state.parts.front() {
                if part.is_open || part.last > stored.0 {
                    break;
                }
                // What is missing has no bytes that could go.
                if part.size > 0 {
                    state.going += part.size;
                    gone.push(Task::LetGo { number: part.number, used: part.end, size: part.size });
                }
                state.parts.pop_front();
            }
        });
        if let Some(tasks) = &*lock(&self.tasks) {
            for task in gone {
                // Without its thread the files stay; the next start finds them.
                tasks.send(task).ok();
            }
        }
    }

    /// Returns when everything that was let go has been overwritten, or its disk has refused that.
    pub(crate) async fn cleared(&self) {
        let (teller, told) = oneshot::channel();
        let sent = lock(&self.tasks).as_ref().is_some_and(|tasks| tasks.send(Task::Tell(teller)).is_ok());
        if sent {
            told.await.ok();
        }
    }

    /// Takes no more records; returns when those that came are answered. Blocks.
    pub(crate) fn stop(&self) {
        drop(lock(&self.requests).take());
        join(&self.appender);
    }

    /// As [`stop`](Self::stop); returns when what was let go is overwritten, too. Another process may open it then. Blocks.
    pub(crate) fn end(&self) {
        // The appender also holds a sender of the keeper's tasks, so it ends first.
        self.stop();
        drop(lock(&self.tasks).take());
        join(&self.keeper);
        drop(lock(&self.lock).take());
    }

    fn ask(&self, request: Request) -> Result<(), Error> {
        let requests = lock(&self.requests);
        requests.as_ref().ok_or(Error::Closed)?.send(request).map_err(|_ended| Error::Closed)
    }
}

fn join(thread: &Mutex<Option<thread::JoinHandle<()>>>) {
    if lock(thread).take().is_some_and(|thread| thread.join().is_err()) {
        tracing::error!(code = "journal_panicked", "a thread of the journal ended with a panic");
    }
}

impl Drop for Journal {
    /// Nobody else may take the lock while a thread still writes.
    fn drop(&mut self) {
        self.end();
    }
}
