//! Whether a folder can be written to, found out by doing it.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

static TRIES: AtomicU64 = AtomicU64::new(0);

/// Makes a file in a folder and removes it. Where the folder is missing, its nearest ancestor is tried, because the folder
/// could be made there.
///
/// # Errors
/// The system's.
pub fn try_to_write(folder: &Path) -> io::Result<()> {
    let mut folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    while !folder.try_exists()? {
        folder = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    }
    // One of its own for each process and each try.
    let number = TRIES.fetch_add(1, Relaxed);
    let file = folder.join(format!(".linxo-webhook-{}-{number}", std::process::id()));
    fs::OpenOptions::new().write(true).create_new(true).open(&file)?;
    fs::remove_file(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        try_to_write(folder.path()).unwrap();
        try_to_write(&folder.path().join("a/b")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // Not even root makes files there; and a file is no folder.
        assert!(try_to_write(Path::new("/proc")).is_err() && try_to_write(Path::new("/proc/no/such")).is_err());
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(try_to_write(&folder.path().join("file")).is_err());
        assert!(try_to_write(&folder.path().join("file/x")).is_err());
    }
}
