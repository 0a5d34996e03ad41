//! NDJSON appended to a file: one `CloudEvents` document a line, synced before the entry is settled.
//!
//! In: deliveries. Out: `Ok` after `fdatasync`, one for each batch. What the file holds after trouble:
//! - A write or sync that failed is taken back: the file is cut to where the batch began, and opened by name again
//!   before the next one (after a failed sync the kernel's idea of the file is not to be trusted).
//! - An incomplete last line found on opening is what a crash left of a line that was never acknowledged. It is cut off,
//!   because it comes again. Where it does not look like a line of ours, it is kept and ended with a line feed instead:
//!   the file may hold something else. Complete lines are never touched, so a crash can leave a line twice, not less than once.
//! - A file that was moved away is written to until `reopen` (SIGHUP); one that was deleted is made anew at once, because
//!   acknowledging lines into a deleted file would lose them.
//!
//! The file is created with mode 0600, since it holds personal data, and locked, since two writers would cut each other's
//! lines. Not here: rotation, compression, retention.

use super::{
    Delivery, Failure, Sink,
    writer::{Output, Writer},
};
use async_trait::async_trait;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// How the lines of this sink begin.
const OURS: &[u8] = b"{\"specversion\":";
/// Step of the search for the last line feed.
const STEP: usize = 64 * 1024;

/// The sink.
#[derive(Debug)]
pub(super) struct Lines(Writer);

impl Lines {
    /// Opens and mends the file, and starts the thread that writes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let appender = Appender { file: Some(open(path)?), path: path.to_owned(), start: 0 };
        Writer::spawn(move || appender).map(Self)
    }
}

#[async_trait]
impl Sink for Lines {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Failure> {
        self.0.deliver(delivery).await
    }

    async fn reopen(&self) -> Result<(), Failure> {
        self.0.reopen().await
    }
}

struct Appender {
    path: PathBuf,
    /// `None` after an error, until the next batch.
    file: Option<File>,
    /// Length of the file before the batch.
    start: u64,
}

impl Output for Appender {
    fn begin(&mut self) -> io::Result<()> {
        let linked = match &self.file {
            Some(file) => Some(file.metadata()?).filter(|metadata| metadata.nlink() > 0),
            None => None,
        };
        self.start = if let Some(metadata) = linked {
            metadata.len()
        } else {
            self.file.insert(open(&self.path)?).metadata()?.len()
        };
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.opened()?.write_all(bytes)
    }

    fn commit(&mut self) -> io::Result<()> {
        self.opened()?.sync_data()
    }

    fn undo(&mut self) {
        let Some(file) = self.file.take() else { return };
        // A file that somebody else cut meanwhile must not be made longer.
        let grown = file.metadata().is_ok_and(|metadata| metadata.len() > self.start);
        if grown && let Err(error) = file.set_len(self.start) {
            tracing::warn!(file = %self.path.display(), %error, "cannot take back what a failed write left in the file");
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let same = match (&self.file, fs::metadata(&self.path)) {
            (Some(file), Ok(named)) => {
                let held = file.metadata()?;
                (held.dev(), held.ino()) == (named.dev(), named.ino())
            }
            _ => false,
        };
        if !same {
            self.file = Some(open(&self.path)?);
        }
        Ok(())
    }

    fn reason(&self, error: &io::Error) -> String {
        format!("the file could not be written: {error}")
    }
}

impl Appender {
    fn opened(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// Opens or creates the file, locks it, and mends its end.
fn open(path: &Path) -> io::Result<File> {
    // Looked at before it is opened: opening a pipe would wait for its reader.
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process or sink writes to it")),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
            tracing::warn!(file = %path.display(), "the file system has no locks: make sure that nothing else writes to the file");
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    mend(&file, path)?;
    // The name of a new file must survive a power cut as well as its lines.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(file)
}

/// Makes the file end with a line feed (or be empty).
fn mend(mut file: &File, path: &Path) -> io::Result<()> {
    let len = file.metadata()?.len();
    let end = end_of_last_line(file, len)?;
    if end == len {
        return Ok(());
    }
    let mut head = [0; OURS.len()];
    let read = file.read_at(&mut head, end)?;
    let head = head.get(..read).unwrap_or(&head);
    // Zeros are what some file systems leave of a block that was allocated but not written before a power cut.
    if OURS.starts_with(head) || head.starts_with(&[0]) {
        file.set_len(end)?;
        tracing::warn!(
            file = %path.display(),
            bytes = len - end,
            "cut off an incomplete last line, which was never acknowledged and is delivered again"
        );
    } else {
        file.write_all(b"\n")?;
        tracing::warn!(file = %path.display(), "ended a last line that is not ours with a line feed");
    }
    Ok(())
}

/// Offset behind the last line feed; 0 without one.
fn end_of_last_line(file: &File, len: u64) -> io::Result<u64> {
    let mut end = len;
    let mut step = vec![0; STEP];
    while end > 0 {
        let start = end.saturating_sub(STEP as u64);
        let size = usize::try_from(end - start).unwrap_or(STEP);
        let part = step.get_mut(..size).unwrap_or_default();
        file.read_exact_at(part, start)?;
        if let Some(position) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + position as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixture;
    use serde_json::Value;
    use std::os::unix::fs::PermissionsExt;

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
        let (large, json) = fixture::paged("large", 30, 400).await;
        assert!(large.content.len() > 256 * 1024);
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
        sink.deliver(&fixture::unreadable("torn", 8, 6).await).await.unwrap_err();
        sink.deliver(&fixture::whole("b", b"{}")).await.unwrap();
        assert_eq!(ids(&path), ["a", "b"]);
    }

    #[tokio::test]
    async fn a_delivery_that_is_dropped_half_way_leaves_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        let sink = Lines::open(&path).unwrap();
        let (large, _) = fixture::paged("large", 60, 400).await;
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
            ("line\n\0\0\0", "line\n"),
            ("notes without an end", "notes without an end\n"),
            ("line\nother", "line\nother\n"),
        ] {
            let path = folder.path().join("events.ndjson");
            fs::write(&path, before).unwrap();
            drop(open(&path).unwrap());
            assert_eq!(fs::read_to_string(&path).unwrap(), after, "{before:?}");
        }
        let path = folder.path().join("long.ndjson");
        let long = format!("{{\"specversion\":\"{}", "x".repeat(200_000));
        fs::write(&path, format!("first\n{long}")).unwrap();
        drop(open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
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
        let failure = sink.deliver(&fixture::whole("a", b"{}")).await.unwrap_err();
        assert_eq!(failure.reason, "the file could not be written: No such file or directory (os error 2)");
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

    #[test]
    fn a_full_disk_leaves_no_half_line() {
        // /dev/full answers every write with ENOSPC, as a full disk does.
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut appender = Appender { path: "/nowhere/events".into(), file: Some(file), start: 0 };
        let error = appender.write(b"{}\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        appender.undo();
        assert!(appender.file.is_none());
    }
}
