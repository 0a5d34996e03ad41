//! The thread that writes lines, one batch after the other.
//!
//! In: jobs from a queue. Out: an answer to each. Whatever is queued while the thread is busy forms the next batch, which is
//! committed once (group commit; never a timer). A streamed line is a batch of its own.

use crate::sink::Failure;
use std::{io, thread};
use tokio::sync::{mpsc, oneshot};

/// A batch takes no further job once it has this many lines or jobs.
pub(super) const BATCH_LINES: usize = 512;
/// A batch takes no further job once it has this many bytes.
pub(super) const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Where the thread writes. Calls come as `begin`, any number of `write`, then `commit`; after an error of any of them,
/// and where a line is given up half-way, `undo` instead.
pub(crate) trait Output {
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

/// Where the result of a job goes.
type Answer = oneshot::Sender<Result<(), Failure>>;

/// What the thread is asked for.
pub(super) enum Job {
    /// Whole lines, each with its line feed; written all or none.
    Lines { bytes: Vec<u8>, answer: Answer },
    /// One line in cuts; complete when a cut ends with the line feed, given up when the channel closes before.
    Stream { cuts: mpsc::Receiver<Vec<u8>>, answer: Answer },
    /// Open by name again.
    Reopen { answer: Answer },
}

/// Starts the thread; `make` runs on it. It ends when the queue is closed and worked off.
pub(super) fn spawn<O: Output>(make: impl FnOnce() -> O + Send + 'static, jobs: mpsc::Receiver<Job>) -> io::Result<()> {
    thread::Builder::new().name("sink-writer".to_owned()).spawn(move || run(&mut make(), jobs)).map(drop)
}

fn run<O: Output>(output: &mut O, mut jobs: mpsc::Receiver<Job>) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| jobs.blocking_recv()) {
        match job {
            Job::Lines { bytes, answer } => next = batch(output, bytes, answer, &mut jobs),
            Job::Stream { cuts, answer } => respond(answer, stream(output, cuts)),
            Job::Reopen { answer } => {
                let result = output.reopen();
                respond(answer, result.map_err(|error| Failure::transient(output.reason(&error))));
            }
        }
    }
}

/// Writes lines and those queued behind them as one batch; returns the first job that is something else.
fn batch<O: Output>(output: &mut O, first: Vec<u8>, answer: Answer, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
    let mut bytes = first;
    let mut answers = vec![answer];
    let mut next = None;
    while answers.len() < BATCH_LINES && bytes.len() < BATCH_BYTES {
        match jobs.try_recv() {
            // Nobody waits for these lines any more: they come again, so writing them now would only make duplicates.
            Ok(Job::Lines { answer, .. }) if answer.is_closed() => {}
            Ok(Job::Lines { bytes: lines, answer }) => {
                bytes.extend_from_slice(&lines);
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
        Failure::transient(output.reason(&error))
    })
}

fn respond(answer: Answer, result: Result<(), Failure>) {
    // An error means that the caller no longer waits; it delivers again.
    answer.send(result).ok();
}
