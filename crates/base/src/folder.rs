//! Folders, and files that stand beside another one.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

static TRIES: AtomicU64 = AtomicU64::new(0);

/// The folder that a file lies in; a name alone lies in the current one.
#[must_use]
pub fn of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file that is named as another one, with something behind its name.
#[must_use]
pub fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Sees to it that the name of a file in its folder survives a power cut.
///
/// # Errors
/// The system's.
pub fn sync_name(file: &Path) -> io::Result<()> {
    fs::File::open(of(file))?.sync_all()
}

/// Makes a folder for its owner alone, with every ancestor that is missing, and sees to it that their names survive a power cut.
///
/// # Errors
/// The system's.
pub fn make(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .filter(|folder| !folder.as_os_str().is_empty())
        .take_while(|folder| !folder.exists())
        .collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // The last process may have ended between the two steps: the folder's own name is synced each time.
    [folder].into_iter().chain(missing).try_for_each(sync_name)
}

/// Makes a file in a folder and removes it. Where the folder is missing, its nearest ancestor is tried, because the folder
/// could be made there.
///
/// # Errors
/// The system's.
pub fn try_to_write(folder: &Path) -> io::Result<()> {
    let mut folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    while !folder.try_exists()? {
        folder = of(folder);
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
    fn a_name_alone_lies_here_and_suffixes_are_no_extensions() {
        assert_eq!(
            (of(Path::new("a")), of(Path::new("b/a")), of(Path::new("/a"))),
            (Path::new("."), Path::new("b"), Path::new("/"))
        );
        assert_eq!(beside(Path::new("b/a.db"), "-wal"), Path::new("b/a.db-wal"));
    }

    #[test]
    fn a_folder_is_made_with_its_ancestors_for_their_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "a/b"].map(|name| folder.path().join(name));
        for _ in 0..2 {
            make(&b).unwrap();
        }
        for path in [a, b] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(make(Path::new("/proc/no/such")).is_err());
    }

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
