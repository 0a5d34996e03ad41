//! Opens the file so that it ends with a whole line, whatever a crash has left.

use super::own::{FOREIGN, OURS, REMEDY, is_own};
use base::folder::{self, try_to_write};
use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Step of the search for the last line feed.
const STEP: usize = 64 * 1024;

/// What only the owner of a file with bank data may do: everything that others may do, and writing by the group. That the
/// group may read is left alone, because a program that ships the lines can be given them so.
const TOO_MUCH: u32 = 0o027;

/// Opens or creates the file, locks it, narrows who may open it, and mends its end.
pub(super) fn open(path: &Path) -> io::Result<File> {
    must_be_regular(path)?;
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    match lock(&file) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            tracing::warn!(code = "sink_file_without_locks", path = %path.display(), "the file system has no locks: make sure that nothing else writes to the file");
        }
        locked => locked?,
    }
    if !is_own(&file)? {
        return Err(io::Error::other(format!("it {FOREIGN}: {REMEDY}")));
    }
    narrow(&file, path)?;
    mend(&file, path)?;
    // The name of a new file must survive a power cut as well as its lines.
    folder::sync_name(path)?;
    Ok(file)
}

/// Finds out whether the file could be opened, and leaves everything as it is.
pub(super) fn rehearse(path: &Path) -> io::Result<()> {
    must_be_regular(path)?;
    match OpenOptions::new().read(true).append(true).open(path) {
        Ok(file) => {
            lock(&file).or_else(|error| if error.kind() == io::ErrorKind::Unsupported { Ok(()) } else { Err(error) })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => try_to_write(path.parent().unwrap_or(Path::new("."))),
        Err(error) => Err(error),
    }
}

/// Looked at before it is opened: opening a pipe would wait for its reader.
fn must_be_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Keeps other writers out, until the file is closed.
fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another process or sink writes to it"),
        TryLockError::Error(error) => error,
    })
}

/// Leaves a file that others may open to its owner alone.
fn narrow(file: &File, path: &Path) -> io::Result<()> {
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & TOO_MUCH == 0 {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(mode & 0o700)).map_err(|error| {
        let (kind, name) = (error.kind(), path.display());
        let told = format!("others may open it (mode {mode:04o}): type `chmod o=,g-w {name}` as its owner ({error})");
        io::Error::new(kind, told)
    })?;
    tracing::warn!(code = "sink_file_narrowed", path = %path.display(), mode = format!("{mode:04o}"), "others could open this file; now only its owner can");
    Ok(())
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
            code = "sink_file_line_cut",
            path = %path.display(),
            bytes = len - end,
            "cut off an incomplete last line, which was never acknowledged and is delivered again"
        );
    } else {
        file.write_all(b"\n")?;
        tracing::warn!(code = "sink_file_line_ended", path = %path.display(), "ended a last line that is not ours with a line feed");
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
