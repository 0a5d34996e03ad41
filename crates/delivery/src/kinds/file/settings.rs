//! What a sink on a file is told.

use super::own::own;
use settings::{At, Flaw, path, section};
use std::path::{Path, PathBuf};

section! {
    /// `[[sink]]` with type "file".
    pub struct Settings {
        /// The file that lines are appended to. Its folder must exist. The file is new, empty, or one that this sink wrote, and it
        /// has no other use.
        pub path: PathBuf = path().example("\"data/events.ndjson\""),
    }
    check(at) {
        if let Ok(path) = &path {
            file_in_folder(at, path);
        }
    }
}

fn file_in_folder(at: &mut At<'_, '_>, path: &Path) {
    let folder = base::folder::of(path);
    if at.must_be_folder("path", folder).is_err() {
        return;
    }
    if path.is_dir() {
        at.flawed("path", Flaw::from("is a folder, not a file"));
    } else {
        at.writes("path", path, own);
    }
}
