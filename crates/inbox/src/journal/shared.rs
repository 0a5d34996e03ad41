//! What the threads of a journal and its readers know together: the segments, how far they are synced, and whether
//! something can be accepted now.

use super::{damage::Damage, folder::Spare};
use crate::{Error, busy::Busy};
use base::sync::lock;
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How much a journal may use, and how it uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of all its files (`inbox.journal_max`).
    pub(crate) most: u64,
    /// Bytes of the first segments, and of all where little comes.
    pub(crate) smallest: u64,
    /// Bytes of a segment at most.
    pub(crate) largest: u64,
    /// How long a segment takes records from its first one on.
    pub(crate) age: Duration,
    /// Between two tries of a disk that failed.
    pub(crate) pause: Duration,
}

impl Limits {
    /// The usual ones, for a journal of so many bytes.
    pub(crate) const fn new(most: u64) -> Self {
        Self {
            most,
            smallest: 1 << 20,
            largest: 64 << 20,
            age: Duration::from_mins(1),
            pause: Duration::from_millis(500),
        }
    }
}

/// One segment.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) number: u64,
    /// The position of its first record.
    pub(super) first: u64,
    /// The last position of it that counts; below `first` where there is none.
    pub(super) last: u64,
    /// Behind this place in the file are zeros: up to here it is read, and overwritten when it is let go.
    pub(super) end: u64,
    /// Bytes of the file.
    pub(super) size: u64,
    /// Whether records are still added.
    pub(super) is_open: bool,
    /// What is wrong with it, where that is known.
    pub(super) damage: Option<Damage>,
}

/// Why nothing can be accepted now.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// The disk is full.
    Full(Option<Arc<std::io::Error>>),
    /// The journal has as much of the disk as it may have.
    Limit,
    /// The disk failed.
    Disk(Arc<std::io::Error>),
    /// It was closed, or its thread ended.
    Closed,
}

impl Trouble {
    pub(super) fn of(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::Full(Some(Arc::new(error)))
            }
            _ => Self::Disk(Arc::new(error)),
        }
    }

    pub(super) fn error(&self) -> Error {
        match self {
            Self::Full(source) => Error::Full(source.clone().map(|source| Box::new(source) as _)),
            Self::Limit => Error::JournalFull,
            Self::Disk(source) => Error::Store(Box::new(Arc::clone(source))),
            Self::Closed => Error::Closed,
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    /// The oldest first. Only the last one may be open.
    pub(super) parts: VecDeque<Part>,
    /// The last position that is on the disk.
    pub(super) synced: u64,
    pub(super) trouble: Option<Trouble>,
    pub(super) spare: Option<Spare>,
    /// Bytes of files that were let go and are not overwritten yet.
    pub(super) going: u64,
    /// Bytes of files that are being made, or made into a segment.
    pub(super) making: u64,
    /// The size that the next segment should have.
    pub(super) planned: u64,
}

impl State {
    /// Bytes of all files.
    pub(super) fn used(&self) -> u64 {
        let segments: u64 = self.parts.iter().map(|part| part.size).sum();
        segments + self.going + self.making + self.spare.as_ref().map_or(0, |spare| spare.size)
    }

    /// Whether somebody holds the last segment open.
    pub(super) fn open_part(&mut self) -> Option<&mut Part> {
        self.parts.back_mut().filter(|part| part.is_open)
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    pub(super) limits: Limits,
    /// What the appender is at.
    pub(super) appender: Busy,
}

impl Shared {
    pub(super) fn new(parts: VecDeque<Part>, synced: u64, limits: Limits) -> Self {
        let state = State { parts, synced, trouble: None, spare: None, going: 0, making: 0, planned: limits.smallest };
        Self { state: Mutex::new(state), changed: Condvar::new(), limits, appender: Busy::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Changes what is known, and wakes who waits for that.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    /// Waits until something was synced behind `position`, for so long at most; says whether that is so.
    pub(super) fn wait_behind(&self, position: u64, patience: Duration) -> bool {
        let waits = |state: &mut State| state.synced <= position && !matches!(state.trouble, Some(Trouble::Closed));
        let waited = self.changed.wait_timeout_while(self.state(), patience, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.synced > position
    }
}
