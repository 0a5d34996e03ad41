//! Standard output, played by one end of a pair of sockets.

use super::*;
use crate::{
    contract::{self, Place, contract},
    fixture,
    sink::FailureKind,
};
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
    let (large, _) = fixture::paged("large", 40, 400);
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
    let error = sink.deliver(&fixture::whole("e1", b"{}")).await.unwrap_err();
    let Error::Failed(failure) = error else { panic!("{error:?}") };
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
    let error = sink.deliver(&fixture::unreadable("e1", 8, 6)).await.unwrap_err();
    assert!(matches!(error, Error::Unreadable(_)), "{error:?}");
    sink.deliver(&fixture::whole("e2", b"{}")).await.unwrap();
    drop(sink);
    let text = read.join().unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(serde_json::from_str::<serde_json::Value>(lines[0]).is_err());
    assert_eq!(serde_json::from_str::<serde_json::Value>(lines[1]).unwrap()["id"], "e2");
}

/// The reader of a pipe, which reads to the end by itself.
struct Reader(thread::JoinHandle<Vec<String>>);

#[async_trait]
impl Place for Reader {
    async fn open() -> (Box<dyn Sink>, Self) {
        let (sink, reader) = pipe();
        let read = thread::spawn(move || BufReader::new(reader).lines().map(Result::unwrap).collect());
        (Box::new(sink), Self(read))
    }

    async fn arrived(self, sink: Box<dyn Sink>) -> Vec<(String, Vec<u8>)> {
        drop(sink);
        self.0.join().unwrap().iter().filter_map(|line| contract::parsed(line)).collect()
    }

    fn written(body: &[u8]) -> Vec<u8> {
        event::compact(body)
    }
}

contract!(Reader);
