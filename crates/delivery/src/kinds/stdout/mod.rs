//! NDJSON on standard output: one `CloudEvents` document a line, unbuffered, whole lines only.
//!
//! "Delivered" means that the operating system took the line; what the reader at the other end of the pipe does with it
//! cannot be known. A reader that went away is a passing failure: entries wait until the process is started again with
//! a reader. Where an error cuts a line short, the next one starts on a line of its own, and the cut one comes again.

mod settings;

pub use self::settings::Settings;

use crate::{
    opens::{Cause, Opens},
    sink::{Delivery, Error, Sink},
    writer::{Output, Writer},
};
use async_trait::async_trait;
use base::sync::lock;
use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{Mutex, MutexGuard},
    thread,
    time::Duration,
};

/// Held while a line is written, because two sinks of one process may both write here.
static ONE_LINE: Mutex<()> = Mutex::new(());

/// How long to wait for a reader where somebody made the descriptor non-blocking.
const NOT_NOW: Duration = Duration::from_millis(5);

impl Opens for Settings {
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Ok(Box::new(Stdout::open().map_err(Problem)?))
    }
}

/// Why standard output cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot use standard output")]
struct Problem(#[source] io::Error);

/// The sink.
#[derive(Debug)]
struct Stdout(Writer);

impl Stdout {
    /// Takes a descriptor of its own, past the buffer of [`io::stdout`], so that a failed write leaves nothing behind
    /// that would come out later.
    fn open() -> io::Result<Self> {
        Self::to(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    fn to(out: File) -> io::Result<Self> {
        Writer::spawn(move || Lines { out, last: b'\n', alone: None }).map(Self)
    }
}

#[async_trait]
impl Sink for Stdout {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        self.0.deliver(delivery).await
    }

    async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        self.0.deliver_many(deliveries).await
    }

    fn batch(&self) -> usize {
        Writer::BATCH
    }
}

struct Lines {
    out: File,
    /// The last byte that came out.
    last: u8,
    /// The lock of [`ONE_LINE`], while a line is written.
    alone: Option<MutexGuard<'static, ()>>,
}

impl Output for Lines {
    fn begin(&mut self) -> io::Result<()> {
        self.alone = Some(lock(&ONE_LINE));
        if self.last == b'\n' { Ok(()) } else { self.write(b"\n") }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    let (written, rest) = bytes.split_at(count.min(bytes.len()));
                    self.last = written.last().copied().unwrap_or(self.last);
                    bytes = rest;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(NOT_NOW),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> io::Result<()> {
        self.alone = None;
        Ok(())
    }

    fn undo(&mut self) {
        // What came out stays out; `begin` ends the cut line.
        self.alone = None;
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reason(&self, error: &io::Error) -> String {
        if error.kind() == io::ErrorKind::BrokenPipe {
            "standard output is closed: its reader has ended".to_owned()
        } else {
            format!("standard output could not be written: {error}")
        }
    }
}

#[cfg(test)]
mod tests;
