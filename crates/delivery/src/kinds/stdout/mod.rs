//! NDJSON on standard output: one `CloudEvents` document a line, unbuffered, whole lines only.
//!
//! "Delivered" means that the operating system took the line; what the reader at the other end of the pipe does with it
//! cannot be known. A reader that went away is a passing failure: entries wait until the process is started again with
//! a reader. Where an error cuts a line short, the next one starts on a line of its own, and the cut one comes again.

use super::{
    Delivery, Failure, Sink,
    writer::{Output, Writer},
};
use async_trait::async_trait;
use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Held while a line is written, because two sinks of one process may both write here.
static ONE_LINE: Mutex<()> = Mutex::new(());

/// How long to wait for a reader where somebody made the descriptor non-blocking.
const NOT_NOW: Duration = Duration::from_millis(5);

/// The sink.
#[derive(Debug)]
pub(super) struct Stdout(Writer);

impl Stdout {
    /// Takes a descriptor of its own, past the buffer of [`io::stdout`], so that a failed write leaves nothing behind
    /// that would come out later.
    pub(super) fn open() -> io::Result<Self> {
        Self::to(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    fn to(out: File) -> io::Result<Self> {
        Writer::spawn(move || Lines { out, last: b'\n', alone: None }).map(Self)
    }
}

#[async_trait]
impl Sink for Stdout {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Failure> {
        self.0.deliver(delivery).await
    }
}

struct Lines {
    out: File,
    /// The last byte that came out.
    last: u8,
    alone: Option<MutexGuard<'static, ()>>,
}

impl Output for Lines {
    fn begin(&mut self) -> io::Result<()> {
        self.alone = Some(ONE_LINE.lock().unwrap_or_else(PoisonError::into_inner));
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
mod tests {
    use super::*;
    use crate::sink::{FailureKind, fixture};
    use std::{
        io::{BufRead, BufReader, Read},
        os::unix::net::UnixStream,
    };

    fn pipe() -> (Stdout, UnixStream) {
        let (ours, reader) = UnixStream::pair().unwrap();
        (Stdout::to(File::from(std::os::fd::OwnedFd::from(ours))).unwrap(), reader)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn never_mixes_lines_of_deliveries_made_at_once() {
        let (sink, reader) = pipe();
        let read = thread::spawn(move || {
            BufReader::new(reader).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
        });
        let (large, _) = fixture::paged("large", 40, 200).await;
        let small: Vec<_> = (0..40).map(|id| fixture::whole(&id.to_string(), b"{ \"id\": 1 }")).collect();
        let all = small.iter().chain([&large]).map(|delivery| sink.deliver(delivery));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
        drop(sink);
        let lines: Vec<serde_json::Value> = read.join().unwrap();
        assert_eq!(lines.len(), 41);
        assert_eq!(lines.iter().filter(|line| line["id"] == "large").count(), 1);
    }

    #[tokio::test]
    async fn says_that_the_reader_has_ended() {
        let (sink, reader) = pipe();
        drop(reader);
        let failure = sink.deliver(&fixture::whole("e1", b"{}")).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Transient { after: None });
        assert_eq!(failure.reason, "standard output is closed: its reader has ended");
    }

    #[tokio::test]
    async fn starts_a_new_line_behind_a_line_that_was_given_up() {
        let (sink, mut reader) = pipe();
        let read = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        let failure = sink.deliver(&fixture::unreadable("e1", 8, 6).await).await.unwrap_err();
        assert_eq!(failure.reason, "the accounts of the delivery could not be read: the inbox is closed");
        sink.deliver(&fixture::whole("e2", b"{}")).await.unwrap();
        drop(sink);
        let text = read.join().unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(serde_json::from_str::<serde_json::Value>(lines[0]).is_err());
        assert_eq!(serde_json::from_str::<serde_json::Value>(lines[1]).unwrap()["id"], "e2");
    }
}
