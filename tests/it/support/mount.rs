//! File systems for one test: gone when their value is dropped. Mounts need root, and leave to mount.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Runs a program to its end; what it printed.
pub(crate) fn run(program: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(said) } else { Err(format!("{program}: {}: {said} {complaint}", output.status)) }
}

/// Something mounted on a folder.
#[derive(Debug)]
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Takes charge of what is mounted there.
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// A file system in memory, of so many bytes; an error where mounts are not allowed.
    pub(crate) fn memory(folder: &Path, bytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(folder).unwrap();
        let size = format!("size={bytes},mode=0700");
        run("mount", &[&"-t", &"tmpfs", &"-o", &size, &"tmpfs", &folder])?;
        Ok(Self::at(folder))
    }

    /// An ext4 file system in an image file, of so many bytes.
    pub(crate) fn ext4(image: &Path, folder: &Path, bytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(folder).unwrap();
        make_ext4(image, bytes)?;
        run("mount", &[&"-o", &"loop", &image, &folder])?;
        Ok(Self::at(folder))
    }
}

/// Makes an image file with an empty ext4.
pub(crate) fn make_ext4(image: &Path, bytes: u64) -> Result<(), String> {
    std::fs::File::create(image).and_then(|file| file.set_len(bytes)).map_err(|error| error.to_string())?;
    let options = "lazy_itable_init=0,lazy_journal_init=0";
    run("mkfs.ext4", &[&"-q", &"-F", &"-m", &"0", &"-E", &options, &image]).map(drop)
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Whoever still has a file of it keeps it until then.
        if let Err(error) = run("umount", &[&"--lazy", &self.0]) {
            eprintln!("{error}");
        }
    }
}
