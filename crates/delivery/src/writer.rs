//! The one thread that writes the lines of a `stdout` or `file` sink, and the line to it.
//!
//! In: deliveries from any number of tasks. Out: each answered after its line is written and committed. Whatever is
//! queued while the thread is busy forms the next batch, which is committed once (group commit; never a timer). A line
//! longer than [`INLINE`] comes through a bounded channel cut by cut and is a batch of its own, so memory stays flat
//! whatever the number of accounts. Lines never interleave, since one thread writes them one after the other.
//!
//! Why a thread: writing to a full disk, a slow volume or a pipe that nobody reads blocks, and must not block the runtime.

use super::{Delivery, Failure, FailureKind, cloudevent::Line};
use crate::inbox;
use std::{io, thread};
use tokio::sync::{mpsc, oneshot};

/// Content up to this size becomes a line in memory; longer content is streamed.
const INLINE: u64 = 256 * 1024;
/// Jobs that may wait for the thread.
const QUEUED: usize = 64;
/// Cuts of a streamed line that may wait for the thread.
const CUTS: usize = 4;
/// Most lines in one batch.
const BATCH_LINES: usize = 512;
/// A batch takes no more lines once it has this many bytes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Where the thread writes. Calls come as `begin`, any number of `write`, then `commit`; after an error of any of them,
/// and where a line is given up half-way, `undo` instead.
pub(super) trait Output {
    /// Gets ready for the first byte of a line.
    fn begin(&mut self) -> io::Result<()>;
    /// Writes all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything since `begin` as durable as this output can.
    fn commit(&mut self) -> io::Result<()>;
    /// Takes back, as far as possible, what was written since `begin`.
    fn undo(&mut self);
    /// Opens by name again.
    fn reopen(&mut self) -> io::Result<()>;
    /// One sentence for people about an error of this output.
    fn reason(&self, error: &io::Error) -> String;
}

/// The way to the thread. The thread ends after this is dropped and the queue is worked off.
#[derive(Debug)]
pub(super) struct Writer(mpsc::Sender<Job>);

type Answer = oneshot::Sender<Result<(), Failure>>;

enum Job {
    /// One whole line with its line feed.
    Line { bytes: Vec<u8>, answer: Answer },
    /// One line in cuts; complete when a cut ends with the line feed, given up when the channel closes before.
    Stream { cuts: mpsc::Receiver<Vec<u8>>, answer: Answer },
    /// Open by name again.
    Reopen { answer: Answer },
}

impl Writer {
    /// Starts the thread; `make` runs on it.
    pub(super) fn spawn<O: Output>(make: impl FnOnce() -> O + Send + 'static) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel(QUEUED);
        thread::Builder::new().name("sink-writer".to_owned()).spawn(move || run(&mut make(), jobs))?;
        Ok(Self(sender))
    }

    /// Writes one delivery as a line.
    ///
    /// # Cancel safety
    /// When dropped, the line is written whole or not at all; a streamed one is taken back.
    pub(super) async fn deliver(&self, delivery: &Delivery) -> Result<(), Failure> {
        let mut line = Line::new(delivery).map_err(|error| {
            Failure::transient(format!("the attributes of the delivery could not be written as JSON: {error}"))
        })?;
        let (answer, answered) = oneshot::channel();
        if delivery.content.len() <= INLINE {
            let mut bytes = Vec::new();
            while let Some(cut) = line.next().await.map_err(|error| unreadable(&error))? {
                if bytes.is_empty() { bytes = cut } else { bytes.extend_from_slice(&cut) }
            }
            self.send(Job::Line { bytes, answer }).await?;
        } else {
            let (sender, cuts) = mpsc::channel(CUTS);
            self.send(Job::Stream { cuts, answer }).await?;
            while let Some(cut) = line.next().await.map_err(|error| unreadable(&error))? {
                if sender.send(cut).await.is_err() {
                    // The output failed; the answer says how.
                    break;
                }
            }
        }
        answered.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Has the output opened by name again.
    pub(super) async fn reopen(&self) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Reopen { answer }).await?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }

    async fn send(&self, job: Job) -> Result<(), Failure> {
        self.0.send(job).await.map_err(|_closed| ended())
    }
}

fn unreadable(error: &inbox::Error) -> Failure {
    Failure::transient(format!("the accounts of the delivery could not be read: {error}"))
}

fn ended() -> Failure {
    Failure::transient("the sink's writer has ended".to_owned())
}

fn run<O: Output>(output: &mut O, mut jobs: mpsc::Receiver<Job>) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| jobs.blocking_recv()) {
        match job {
            Job::Line { bytes, answer } => next = batch(output, bytes, answer, &mut jobs),
            Job::Stream { cuts, answer } => respond(answer, stream(output, cuts)),
            Job::Reopen { answer } => {
                let result = output.reopen();
                respond(answer, result.map_err(|error| Failure::transient(output.reason(&error))));
            }
        }
    }
}

/// Writes a line and the lines queued behind it as one batch; returns the first job that is no line.
fn batch<O: Output>(output: &mut O, first: Vec<u8>, answer: Answer, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
    let mut bytes = first;
    let mut answers = vec![answer];
    let mut next = None;
    while answers.len() < BATCH_LINES && bytes.len() < BATCH_BYTES {
        match jobs.try_recv() {
            // Nobody waits for it any more: it comes again, so writing it now would only make a duplicate.
            Ok(Job::Line { answer, .. }) if answer.is_closed() => {}
            Ok(Job::Line { bytes: line, answer }) => {
                bytes.extend_from_slice(&line);
                answers.push(answer);
            }
            Ok(other) => {
                next = Some(other);
                break;
            }
            Err(_) => break,
        }
    }
    let written = output.begin().and_then(|()| output.write(&bytes)).and_then(|()| output.commit());
    let result = conclude(output, written);
    for answer in answers {
        respond(answer, result.clone());
    }
    next
}

/// Writes one line as its cuts come.
fn stream<O: Output>(output: &mut O, mut cuts: mpsc::Receiver<Vec<u8>>) -> Result<(), Failure> {
    let written = output.begin().and_then(|()| {
        let mut complete = false;
        while let Some(cut) = cuts.blocking_recv() {
            output.write(&cut)?;
            complete = cut.ends_with(b"\n");
        }
        if complete { output.commit() } else { Err(io::Error::other("the delivery was given up half-way")) }
    });
    conclude(output, written)
}

fn conclude<O: Output>(output: &mut O, written: io::Result<()>) -> Result<(), Failure> {
    written.map_err(|error| {
        output.undo();
        Failure { kind: FailureKind::Transient { after: None }, reason: output.reason(&error) }
    })
}

fn respond(answer: Answer, result: Result<(), Failure>) {
    // An error means that the caller no longer waits; it delivers again.
    answer.send(result).ok();
}
