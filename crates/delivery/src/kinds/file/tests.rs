//! The file sink on real files.

use super::mend::open;
use super::*;
use crate::{
    contract::{self, Place, contract},
    fixture,
};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt};

fn ids(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let id = |line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    text.lines().map(id).collect()
}

#[tokio::test]
async fn appends_lines_small_and_large_in_a_private_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    let sink = Lines::open(&path).unwrap();
    let (large, json) = fixture::paged("large", 30, 400);
    assert!(large.body.length() > 256 * 1024);
    for delivery in [&fixture::whole("a", b"{}"), &large, &fixture::whole("b", b"{}")] {
        sink.deliver(delivery).await.unwrap();
    }
    assert_eq!(ids(&path), ["a", "large", "b"]);
    let text = fs::read_to_string(&path).unwrap();
    let line: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!(line["data"], serde_json::from_slice::<Value>(&json).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_line_of_many_senders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    let sink = Lines::open(&path).unwrap();
    let small: Vec<_> = (0..300).map(|id| fixture::whole(&id.to_string(), b"{\"id\":1}")).collect();
    let all = small.iter().map(|delivery| sink.deliver(delivery));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(ids(&path).len(), 300);
}

#[tokio::test]
async fn takes_back_a_line_that_was_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    let sink = Lines::open(&path).unwrap();
    sink.deliver(&fixture::whole("a", b"{}")).await.unwrap();
    sink.deliver(&fixture::unreadable("torn", 8, 6)).await.unwrap_err();
    sink.deliver(&fixture::whole("b", b"{}")).await.unwrap();
    assert_eq!(ids(&path), ["a", "b"]);
}

#[tokio::test]
async fn a_delivery_that_is_dropped_half_way_leaves_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    let sink = Lines::open(&path).unwrap();
    let (large, _) = fixture::paged("large", 60, 400);
    for polls in 1..8 {
        let mut delivering = Box::pin(sink.deliver(&large));
        for _ in 0..polls {
            // On a fast machine the last polls may see it end.
            tokio::select! {
                biased;
                _delivered = &mut delivering => break,
                () = std::future::ready(()) => {}
            }
            tokio::task::yield_now().await;
        }
        drop(delivering);
        sink.deliver(&fixture::whole("small", b"{}")).await.unwrap();
    }
    let written = ids(&path);
    assert_eq!(written.iter().filter(|id| *id == "small").count(), 7);
}

#[tokio::test]
async fn cuts_what_a_crash_left_of_our_line_and_keeps_other_text() {
    let folder = tempfile::tempdir().unwrap();
    for (before, after) in [
        ("", ""),
        ("{\"specversion\":\"1.0\",\"id\":\"x", ""),
        ("{\"specversion\":1}\n{\"spec", "{\"specversion\":1}\n"),
        ("{\"specversion\":1}\n", "{\"specversion\":1}\n"),
        ("{\"specversion\":1}\n\0\0\0", "{\"specversion\":1}\n"),
        ("{\"specversion\":1}\nnotes without an end", "{\"specversion\":1}\nnotes without an end\n"),
    ] {
        let path = folder.path().join("events.ndjson");
        fs::write(&path, before).unwrap();
        drop(open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), after, "{before:?}");
    }
    let path = folder.path().join("long.ndjson");
    let long = format!("{{\"specversion\":\"{}", "x".repeat(200_000));
    fs::write(&path, format!("{{\"specversion\":1}}\n{long}")).unwrap();
    drop(open(&path).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"specversion\":1}\n");
}

/// (E3) Nothing is written into somebody else's file, and nothing of it is changed.
#[tokio::test]
async fn refuses_a_file_that_holds_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.key");
    fs::write(&path, "-----BEGIN PRIVATE KEY-----").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Lines::open(&path).unwrap_err().to_string();
    let wanted =
        "it holds something else than events from this service: name a new or an empty file, or move this one away";
    assert_eq!(refused, wanted);
    assert_eq!(fs::read_to_string(&path).unwrap(), "-----BEGIN PRIVATE KEY-----");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
}

/// (C11) A file that was there before is narrowed where others may open it. That a group may read it is left alone.
#[tokio::test]
async fn narrows_a_file_that_others_may_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    fs::write(&path, "{\"specversion\":1}\n").unwrap();
    for (before, after) in
        [(0o644, 0o600), (0o604, 0o600), (0o660, 0o600), (0o777, 0o700), (0o640, 0o640), (0o600, 0o600)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
        drop(open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, after, "{before:04o}");
    }
}

#[tokio::test]
async fn follows_rotation_on_reopen_and_deletion_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    let rotated = folder.path().join("events.ndjson.1");
    let sink = Lines::open(&path).unwrap();
    sink.deliver(&fixture::whole("a", b"{}")).await.unwrap();
    sink.reopen().await.unwrap();
    fs::rename(&path, &rotated).unwrap();
    sink.deliver(&fixture::whole("b", b"{}")).await.unwrap();
    assert_eq!(ids(&rotated), ["a", "b"]);
    sink.reopen().await.unwrap();
    sink.deliver(&fixture::whole("c", b"{}")).await.unwrap();
    assert_eq!(ids(&path), ["c"]);
    fs::remove_file(&path).unwrap();
    sink.deliver(&fixture::whole("d", b"{}")).await.unwrap();
    assert_eq!(ids(&path), ["d"]);
}

#[tokio::test]
async fn fails_with_a_reason_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    let path = inner.join("events.ndjson");
    fs::create_dir(&inner).unwrap();
    let sink = Lines::open(&path).unwrap();
    fs::remove_dir_all(&inner).unwrap();
    let error = sink.deliver(&fixture::whole("a", b"{}")).await.unwrap_err();
    assert_eq!(error.to_string(), "the file could not be written: No such file or directory (os error 2)");
    fs::create_dir(&inner).unwrap();
    sink.deliver(&fixture::whole("a", b"{}")).await.unwrap();
    assert_eq!(ids(&path), ["a"]);
}

#[test]
fn refuses_what_is_no_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    let first = open(&path).unwrap();
    assert_eq!(open(&path).unwrap_err().to_string(), "another process or sink writes to it");
    drop(first);
    assert_eq!(open(folder.path()).unwrap_err().to_string(), "it is not a regular file");
    assert_eq!(open(&folder.path().join("no/events")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn many_at_once_are_lines_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    let sink = Lines::open(&path).unwrap();
    let all: Vec<_> = (0..1000).map(|id| fixture::whole(&id.to_string(), b"{\"id\":1}")).collect();
    assert!(sink.batch() > 1);
    assert!(sink.deliver_many(&all).await.iter().all(Result::is_ok));
    assert_eq!(ids(&path), (0..1000).map(|id| id.to_string()).collect::<Vec<_>>());
}

/// A file in a folder of its own.
struct OneFile(tempfile::TempDir);

#[async_trait]
impl Place for OneFile {
    async fn open() -> (Box<dyn Sink>, Self) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { path: folder.path().join("events.ndjson") };
        (Opens::open(&settings).unwrap(), Self(folder))
    }

    async fn arrived(self, _: Box<dyn Sink>) -> Vec<(String, Vec<u8>)> {
        let text = fs::read_to_string(self.0.path().join("events.ndjson")).unwrap();
        text.lines().map(|line| contract::parsed(line).unwrap()).collect()
    }

    fn written(body: &[u8]) -> Vec<u8> {
        event::compact(body)
    }
}

contract!(OneFile);
