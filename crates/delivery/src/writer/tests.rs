//! The writer on an output that says what was asked of it.

use super::*;
use crate::{fixture, sink::FailureKind};
use std::sync::{Arc, Mutex};

/// What the thread did, in order; writes fail while `is_full`.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    calls: Vec<&'static str>,
    lines: usize,
    is_full: bool,
}

impl Record {
    fn said(&self, call: &'static str) {
        self.0.lock().unwrap().calls.push(call);
    }

    fn take(&self) -> Vec<&'static str> {
        mem::take(&mut self.0.lock().unwrap().calls)
    }
}

impl Output for Record {
    fn begin(&mut self) -> io::Result<()> {
        self.said("begin");
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut seen = self.0.lock().unwrap();
        if seen.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        seen.lines += std::str::from_utf8(bytes).unwrap().matches('\n').count();
        Ok(())
    }

    fn commit(&mut self) -> io::Result<()> {
        self.said("commit");
        Ok(())
    }

    fn undo(&mut self) {
        self.said("undo");
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.said("reopen");
        Ok(())
    }

    fn reason(&self, error: &io::Error) -> String {
        format!("not written: {error}")
    }
}

fn writer() -> (Writer, Record) {
    let record = Record::default();
    let output = record.clone();
    (Writer::spawn(move || output).unwrap(), record)
}

#[tokio::test]
async fn many_small_deliveries_are_one_commit_and_long_ones_one_each() {
    let (writer, record) = writer();
    let small = || fixture::whole("small", b"{}");
    let mut batch: Vec<_> = (0..10).map(|_| small()).collect();
    assert!(writer.deliver_many(&batch).await.iter().all(Result::is_ok));
    assert_eq!(record.take(), ["begin", "commit"]);
    batch.insert(5, fixture::paged("large", 40, 400).0);
    assert!(writer.deliver_many(&batch).await.iter().all(Result::is_ok));
    assert_eq!(record.take(), ["begin", "commit", "begin", "commit", "begin", "commit"]);
    assert_eq!(record.0.lock().unwrap().lines, 21);
}

#[tokio::test]
async fn a_failed_batch_is_the_failure_of_those_that_were_in_it() {
    let (writer, record) = writer();
    record.0.lock().unwrap().is_full = true;
    let batch = [fixture::whole("a", b"{}"), fixture::unreadable("torn", 2, 1), fixture::whole("b", b"{}")];
    let mut answers = writer.deliver_many(&batch).await.into_iter();
    let failed = Failure::transient("not written: no storage space");
    assert!(matches!(answers.next(), Some(Err(Error::Failed(failure))) if failure == failed));
    assert!(matches!(answers.next(), Some(Err(Error::Unreadable(_)))));
    assert!(matches!(answers.next(), Some(Err(Error::Failed(failure))) if failure == failed));
    assert_eq!(record.take(), ["begin", "undo"]);
    let Err(Error::Failed(failure)) = writer.deliver(&fixture::paged("large", 40, 400).0).await else {
        panic!("a long line fails like a short one")
    };
    assert_eq!(failure.kind, FailureKind::Transient { after: None });
    assert_eq!(record.take(), ["begin", "undo"]);
}

#[tokio::test]
async fn passes_on_that_the_output_is_to_be_opened_again() {
    let (writer, record) = writer();
    writer.reopen().await.unwrap();
    assert_eq!(record.take(), ["reopen"]);
}
