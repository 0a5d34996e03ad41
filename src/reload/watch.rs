//! Looks at files: have they changed, and have they held still since?
//!
//! In: paths, and a look from time to time. Out: one [`Look`]. A file that is written in place shows its halves one after
//! the other; what differs from the look before is therefore waited for, and what was read is believed only if the contents
//! are still the same afterwards ([`Watch::judged`]).
//!
//! A look is one `stat` a file; contents are compared only where that shows a change, or one so young that a second one
//! could look the same.

use base::{clock, stamp::Stamp};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// What was judged already.
    Judged,
    /// Something else than at the look before: it may still be being written.
    Moving,
    /// Something else than what was judged, and the same as at the look before.
    Still,
}

/// Some files, and what was last seen of them.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    stamps: Vec<Option<Stamp>>,
    /// Whether another change could have the same stamps as what was seen.
    is_young: bool,
    /// At the last look.
    seen: Option<Contents>,
    /// When they were last read and used, or refused.
    judged: Option<Contents>,
}

impl Watch {
    /// Nothing is seen and nothing is judged yet.
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        Self { files, stamps: Vec::new(), is_young: true, seen: None, judged: None }
    }

    /// Looks. Blocking.
    pub(super) fn look(&mut self) -> Look {
        // Before the contents, as these before their use: what changes in between is seen at the next look.
        let (stamps, is_young) = stamps(&self.files);
        let is_same = !self.is_young && stamps == self.stamps;
        (self.stamps, self.is_young) = (stamps, is_young);
        let before = self.seen;
        if !is_same {
            self.seen = Some(contents(&self.files));
        }
        match () {
            () if self.seen == self.judged => Look::Judged,
            () if self.seen == before => Look::Still,
            () => Look::Moving,
        }
    }

    /// Notes that the files were read, and found to name `files`. Returns whether all of them still are what the last look
    /// saw; if not, what was read may be half of something. Blocking.
    pub(super) fn judged(&mut self, files: Vec<PathBuf>) -> bool {
        let seen = Some(contents(&files));
        let is_still = files == self.files && seen == self.seen;
        if !is_still {
            // The stamps are those of other files, or of other contents.
            self.is_young = true;
        }
        (self.files, self.seen, self.judged) = (files, seen, seen.filter(|_| is_still));
        is_still
    }

    /// The files that are looked at.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// The stamps, and whether one of them is so young that another change could have the same.
fn stamps(files: &[PathBuf]) -> (Vec<Option<Stamp>>, bool) {
    let now = clock::now();
    let stamps: Vec<_> = files.iter().map(|file| Stamp::of(file)).collect();
    let is_young = stamps.iter().flatten().any(|stamp| stamp.is_young(now));
    (stamps, is_young)
}

/// SHA-256 over the contents of files.
pub(super) type Contents = [u8; 32];

/// Reads files, and keeps nothing of them but a hash. Blocking.
pub(super) fn contents(files: impl IntoIterator<Item = impl AsRef<Path>>) -> Contents {
    let mut all = Sha256::new();
    for file in files {
        // One that cannot be read is as good as one that is not there: reading the set says what is wrong.
        if let Ok(content) = fs::read(file).map(Zeroizing::new) {
            all.update((content.len() as u64).to_be_bytes());
            all.update(&*content);
        } else {
            all.update(u64::MAX.to_be_bytes());
        }
    }
    all.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let files = vec![file.clone()];
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::new(files.clone());
        assert_eq!((watch.look(), watch.look()), (Look::Moving, Look::Still));
        assert!(watch.judged(files.clone()));
        assert_eq!((watch.look(), watch.look()), (Look::Judged, Look::Judged));

        fs::write(&file, "tw").unwrap();
        assert_eq!(watch.look(), Look::Moving);
        fs::write(&file, "two").unwrap();
        assert_eq!((watch.look(), watch.look(), watch.look()), (Look::Moving, Look::Still, Look::Still));
        // Written again while it was read.
        fs::write(&file, "three").unwrap();
        assert!(!watch.judged(files.clone()));
        assert_eq!(watch.look(), Look::Still);
        assert!(watch.judged(files.clone()));
        fs::remove_file(&file).unwrap();
        assert_eq!((watch.look(), watch.look()), (Look::Moving, Look::Still));
        fs::write(&file, "three").unwrap();
        assert_eq!(watch.look(), Look::Judged);
    }

    #[test]
    fn files_that_are_named_first_are_waited_for_too() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        fs::write(&a, "b is named here").unwrap();
        fs::write(&b, "half").unwrap();
        let mut watch = Watch::new(vec![a.clone()]);
        assert_eq!((watch.look(), watch.look()), (Look::Moving, Look::Still));
        assert!(!watch.judged(vec![a.clone(), b.clone()]));
        fs::write(&b, "half and half").unwrap();
        assert_eq!((watch.look(), watch.look()), (Look::Moving, Look::Still));
        assert!(watch.judged(vec![a, b]));
        assert_eq!(watch.look(), Look::Judged);
    }
}
