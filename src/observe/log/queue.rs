//! Lines on their way to a slow reader: bounded memory, and nobody waits.
//!
//! Lines are put behind each other in one buffer, which the writing thread takes as a whole. After a write it rests for
//! [`REST`], so that under load many lines share one write and few of them have to wake it. Over [`ROOM`] bytes lines are
//! dropped and counted.

use base::sync::lock;
use prometheus_client::metrics::counter::Counter;
use std::{
    io::Write,
    mem,
    sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Bytes that may wait; as many again may be under way to the reader.
pub(super) const ROOM: usize = 2 * 1024 * 1024;
/// Between two writes; a line is late by this at most.
const REST: Duration = Duration::from_millis(5);
/// What an idle buffer may keep.
const IDLE: usize = 64 * 1024;

/// Lines dropped by this process, which has one log.
pub(super) static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Lines between those who log and the one who writes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Rung when there is something to write, or nothing will come any more.
    work: Condvar,
    /// Rung when everything is written.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines dropped since it was last said.
    dropped: u64,
    /// Whether the writing thread must be woken for a line.
    is_asleep: bool,
    is_closed: bool,
    has_ended: bool,
}

impl Queue {
    /// Puts a line behind the others, or drops it.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.state();
        if state.has_ended || state.waiting.len() + line.len() > ROOM {
            state.dropped += 1;
            DROPPED.inc();
            return;
        }
        state.waiting.extend_from_slice(line.as_bytes());
        let is_asleep = mem::take(&mut state.is_asleep);
        drop(state);
        if is_asleep {
            self.work.notify_one();
        }
    }

    /// Writes lines as they come, until the queue is closed and empty.
    pub(super) fn write_to(&self, mut reader: impl Write) {
        let mut batch = Vec::new();
        loop {
            let dropped = {
                let mut state = self.state();
                while state.waiting.is_empty() && !state.is_closed {
                    state.is_asleep = true;
                    state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.waiting.is_empty() {
                    break;
                }
                mem::swap(&mut state.waiting, &mut batch);
                mem::take(&mut state.dropped)
            };
            if dropped > 0 {
                // Finds room, as all that waited was just taken.
                tracing::warn!(
                    code = "log_lines_dropped",
                    lines = dropped,
                    "log lines were dropped: standard error did not keep up"
                );
            }
            // A log that cannot be written cannot be complained about either.
            drop(reader.write_all(&batch).and_then(|()| reader.flush()));
            batch.clear();
            batch.shrink_to(IDLE);
            // Nothing but the end disturbs it.
            let rested = self.work.wait_timeout_while(self.state(), REST, |state| !state.is_closed);
            drop(rested.unwrap_or_else(PoisonError::into_inner));
        }
        self.state().has_ended = true;
        self.ended.notify_all();
    }

    /// Ends the writing as soon as nothing waits, and waits for that.
    pub(super) fn close(&self, at_most: Duration) {
        let mut state = self.state();
        state.is_closed = true;
        self.work.notify_one();
        let waited = self.ended.wait_timeout_while(state, at_most, |state| !state.has_ended);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Arc, mpsc},
        thread,
    };

    /// Takes each write only when it is told to.
    struct Slow {
        permits: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(io::Error::other)?;
            self.written.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stops_holds_up_nobody_and_takes_bounded_memory() {
        let queue = Arc::new(Queue::default());
        let (permit, permits) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let writer = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.write_to(Slow { permits, written })
        });
        let line = "x".repeat(1023) + "\n";
        queue.push("first\n");
        permit.send(()).unwrap();
        assert_eq!(read.recv().unwrap(), b"first\n");
        // From here on the writer has something under way, and takes nothing more.
        queue.push("second\n");
        while !queue.state().waiting.is_empty() {
            thread::yield_now();
        }
        let fit = ROOM / line.len();
        for _ in 0..10 * fit {
            queue.push(&line);
        }
        // One buffer may be under way while another fills.
        let dropped = usize::try_from(queue.state().dropped).unwrap();
        assert!(queue.state().waiting.capacity() <= 2 * ROOM);
        assert!((8 * fit..=9 * fit).contains(&dropped), "{dropped} of {}", 10 * fit);
        drop(permit);
        queue.close(Duration::from_secs(20));
        assert!(queue.state().has_ended);
        writer.join().unwrap();
    }

    #[test]
    fn the_end_waits_no_longer_than_it_may() {
        let queue = Queue::default();
        queue.push("nobody writes this\n");
        queue.close(Duration::ZERO);
        assert!(!queue.state().has_ended);
    }

    #[test]
    fn what_waits_at_the_end_is_written() {
        let queue = Queue::default();
        queue.push("a\n");
        queue.push("b\n");
        queue.close(Duration::ZERO);
        let mut written = Vec::new();
        queue.write_to(&mut written);
        assert_eq!(written, b"a\nb\n");
        queue.push("late\n");
        assert_eq!(queue.state().dropped, 1);
    }
}
