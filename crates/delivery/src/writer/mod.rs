//! The way to the one thread that writes the lines of a `stdout` or `file` sink.
//!
//! In: deliveries from any number of tasks, one by one or many at once. Out: each answered after its line is written and
//! committed. A line longer than [`INLINE`] goes through a bounded channel cut by cut, so memory stays flat whatever the
//! number of accounts. Lines never mix, since one thread writes them one after the other.
//!
//! Why a thread: writing to a full disk, a slow volume or a pipe that nobody reads blocks, and must not block the runtime.

mod thread;

pub(crate) use thread::Output;

use crate::{
    cloudevent::{Cuts, append_line},
    sink::{Delivery, Error, Failure},
};
use std::{io, mem};
use thread::{BATCH_BYTES, BATCH_LINES, Job};
use tokio::sync::{mpsc, oneshot};

/// A body up to this size becomes a line in memory; a longer one is streamed.
const INLINE: u64 = 256 * 1024;
/// Jobs that may wait for the thread.
const QUEUED: usize = 64;
/// Cuts of a streamed line that may wait for the thread.
const CUTS: usize = 4;

/// The way to the thread. The thread ends after this is dropped and the queue is worked off.
#[derive(Debug)]
pub(crate) struct Writer(mpsc::Sender<Job>);

impl Writer {
    /// How many lines the thread commits at once.
    pub(crate) const BATCH: usize = BATCH_LINES;

    /// Starts the thread; `make` runs on it.
    pub(crate) fn spawn<O: Output>(make: impl FnOnce() -> O + Send + 'static) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel(QUEUED);
        thread::spawn(make, jobs)?;
        Ok(Self(sender))
    }

    /// Writes one delivery as a line.
    ///
    /// # Cancel safety
    /// When dropped, the line is written whole or not at all; a streamed one is taken back.
    pub(crate) async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        if delivery.body.length() > INLINE {
            return self.stream(delivery).await;
        }
        let mut line = Vec::new();
        append_line(delivery, &mut line).await?;
        Ok(self.lines(line).await?)
    }

    /// Writes deliveries as lines, in their order; those that fit in memory are committed together.
    ///
    /// # Cancel safety
    /// As [`deliver`](Self::deliver), for each of them.
    pub(crate) async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        let mut results = Vec::with_capacity(deliveries.len());
        let mut pending = Pending::default();
        for (index, delivery) in deliveries.iter().enumerate() {
            if delivery.body.length() > INLINE {
                self.flush(&mut pending, &mut results).await;
                results.push(self.stream(delivery).await);
                continue;
            }
            // Stays `Ok` unless the lines that this one goes with cannot be written.
            results.push(pending.add(index, delivery).await);
            if pending.lines.len() >= BATCH_BYTES {
                self.flush(&mut pending, &mut results).await;
            }
        }
        self.flush(&mut pending, &mut results).await;
        results
    }

    /// Has the output opened by name again.
    pub(crate) async fn reopen(&self) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Reopen { answer }).await?;
        answered.await.unwrap_or_else(|_ended| Err(ended()))
    }

    /// Writes the lines that wait, and answers their deliveries.
    async fn flush(&self, pending: &mut Pending, results: &mut [Result<(), Error>]) {
        let Pending { lines, members } = mem::take(pending);
        if members.is_empty() {
            return;
        }
        let Err(failure) = self.lines(lines).await else { return };
        for index in members {
            if let Some(result) = results.get_mut(index) {
                *result = Err(failure.clone().into());
            }
        }
    }

    async fn lines(&self, bytes: Vec<u8>) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Lines { bytes, answer }).await?;
        answered.await.unwrap_or_else(|_ended| Err(ended()))
    }

    async fn stream(&self, delivery: &Delivery) -> Result<(), Error> {
        let mut line = Cuts::new(delivery)?;
        let (answer, answered) = oneshot::channel();
        let (sender, cuts) = mpsc::channel(CUTS);
        self.send(Job::Stream { cuts, answer }).await?;
        // An error here closes the channel before the line feed, and the thread takes the line back.
        while let Some(cut) = line.next().await? {
            if sender.send(cut).await.is_err() {
                // The output failed; the answer says how.
                break;
            }
        }
        drop(sender);
        Ok(answered.await.unwrap_or_else(|_ended| Err(ended()))?)
    }

    async fn send(&self, job: Job) -> Result<(), Failure> {
        self.0.send(job).await.map_err(|_closed| ended())
    }
}

/// Lines that are written together, and the places of their deliveries.
#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    members: Vec<usize>,
}

impl Pending {
    /// Adds the line of a delivery, whole or not at all.
    async fn add(&mut self, index: usize, delivery: &Delivery) -> Result<(), Error> {
        let start = self.lines.len();
        let appended = append_line(delivery, &mut self.lines).await;
        match &appended {
            Ok(()) => self.members.push(index),
            Err(_) => self.lines.truncate(start),
        }
        appended
    }
}

fn ended() -> Failure {
    Failure::transient("the sink's writer has ended")
}

#[cfg(test)]
mod tests;
