//! What shows that a file changed, without reading it.
//!
//! In: a path. Out: a [`Stamp`]. It differs after every change of the content, the owner or the mode, and after the file or a
//! link to it was replaced. Two changes that follow each other within the grain of the file system's clock may give the same
//! stamp. So a stamp that [is young](Stamp::is_young) must be taken again a moment later.

use crate::clock::Timestamp;
use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

/// Coarsest time stamp of a file system: a change younger than this may be followed by one with the same stamp.
const COARSEST: Duration = Duration::from_secs(2);

/// Changes when a file is written, replaced, given away, or given other rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Device, inode, size.
    what: [u64; 3],
    /// Seconds and nanoseconds of the last change of the content and of the entry.
    when: [i64; 4],
}

impl Stamp {
    /// The stamp of the file at the end of all links; `None` without one.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self {
            what: [about.dev(), about.ino(), about.size()],
            when: [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()],
        })
    }

    /// Whether another change could have the same stamp.
    #[must_use]
    pub fn is_young(&self, now: Timestamp) -> bool {
        let [_, _, changed, _] = self.when;
        Timestamp::from_millis(changed.saturating_mul(1000)) >= now.before(COARSEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn other_rights_show_as_well_as_another_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(Stamp::of(&path), None);
        fs::write(&path, "one").unwrap();
        let first = Stamp::of(&path).unwrap();
        assert!(first.is_young(clock::now()) && !first.is_young(clock::now().after(Duration::from_secs(5))));
        // The grain of the clock may hide a change at first, but not for long.
        let changed = |change: &dyn Fn(), before: Stamp| {
            (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                change();
                Stamp::of(&path) != Some(before)
            })
        };
        assert!(changed(&|| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap(), first));
        let second = Stamp::of(&path).unwrap();
        assert!(changed(&|| fs::write(&path, "two").unwrap(), second));
    }
}
