//! Opens the file so that it ends with a whole line, whatever a crash has left.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// How the lines of this sink begin.
const OURS: &[u8] = b"{\"specversion\":";
/// Step of the search for the last line feed.
const STEP: usize = 64 * 1024;

/// Opens or creates the file, locks it, and mends its end.
pub(super) fn open(path: &Path) -> io::Result<File> {
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
