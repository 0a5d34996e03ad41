//! Whether a file may be appended to: it is new, it is empty, or it holds lines of this sink.
//!
//! Anything else is somebody else's file, named by mistake. The first line decides, or the start of it where the line is
//! long. So a look takes one read, however long the file and its lines are.

use serde_json::{Map, Value};
use settings::Flaw;
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::Path,
};

/// How the lines of this sink begin.
pub(super) const OURS: &[u8] = b"{\"specversion\":";
/// What a person reads of a file that is not ours.
pub(super) const FOREIGN: &str = "holds something else than events from this service";
/// What the person can do.
pub(super) const REMEDY: &str = "name a new or an empty file, or move this one away";
/// Bytes that are looked at.
const LOOK: usize = 64 * 1024;

/// For the configuration, which opens nothing for writing.
pub(super) fn own(path: &Path) -> Result<(), Flaw> {
    let shown = path.display();
    // Looked at before it is opened: opening a pipe would wait for its writer.
    let looked = match fs::metadata(path) {
        Ok(about) if about.is_file() => File::open(path).and_then(|file| is_own(&file)),
        Ok(_) => return Err(Flaw::new(format!("names {shown}, which is not a regular file"), REMEDY)),
        Err(error) => Err(error),
    };
    match looked {
        Ok(true) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(false) => Err(Flaw::new(format!("names the file {shown}, which {FOREIGN}"), REMEDY)),
        Err(error) => {
            let reason = format!("names the file {shown}, which cannot be read: {error}");
            Err(Flaw::new(reason, "the user of the service must own the file, or be allowed to read and write it"))
        }
    }
}

/// Whether what the file holds came from this sink.
pub(super) fn is_own(file: &File) -> io::Result<bool> {
    let mut start = vec![0; LOOK];
    let mut read = 0;
    while let Some(rest) = start.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let is_whole = read < LOOK;
    let start = start.get(..read).unwrap_or_default();
    // The first line may have been cut by a crash. Zeros are what some file systems leave of one.
    let is_torn = OURS.starts_with(start) || start.iter().all(|byte| *byte == 0);
    Ok(start.starts_with(OURS) || is_event(start) || is_whole && is_torn)
}

/// Whether the first line is a `CloudEvents` document that somebody has laid out anew.
fn is_event(start: &[u8]) -> bool {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<Map<String, Value>>(line).is_ok_and(|document| document.contains_key("specversion"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (E3) Only what is new, empty or from this sink is written into.
    #[test]
    fn a_file_with_something_else_in_it_is_nobodys_sink() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        assert_eq!(own(&path), Ok(()));
        let long = [OURS, &b"x".repeat(3 * LOOK)].concat();
        let zeros = vec![0; 2 * LOOK];
        for (content, is_ours) in [
            (&b""[..], true),
            (b"{\"specversion\":\"1.0\",\"id\":\"1\"}\nnotes", true),
            (b"{ \"id\": \"1\", \"specversion\": \"1.0\" }\nnotes", true),
            (b"{\"spec", true),
            (b"\0\0\0", true),
            (&long, true),
            (b"{\"specification\":1}\n", false),
            (b"{}\n", false),
            (b"{\"data\":{\"specversion\":\"1.0\"}}\n", false),
            (b"{ \"id\": \"1\",\n \"specversion\": \"1.0\" }\n", false),
            (b"[{\"specversion\":\"1.0\"}]", false),
            (b"notes\n{\"specversion\":\"1.0\"}\n", false),
            (b"-----BEGIN PRIVATE KEY-----\n", false),
            (b"SQLite format 3\0", false),
            (b"\0\0x", false),
            (&zeros, false),
        ] {
            fs::write(&path, content).unwrap();
            let shown = String::from_utf8_lossy(content.get(..40).unwrap_or(content)).into_owned();
            let told = own(&path);
            assert_eq!(told.is_ok(), is_ours, "{shown}");
            if let Err(flaw) = told {
                let wanted = format!("names the file {}, which {FOREIGN}", path.display());
                assert_eq!((flaw.reason, flaw.hint.as_deref()), (wanted, Some(REMEDY)), "{shown}");
            }
        }
        let pipe = own(Path::new("/dev/null")).unwrap_err();
        assert_eq!(pipe.reason, "names /dev/null, which is not a regular file");
    }
}
