//! Which files the configuration names, and that what is written is used for nothing else.
//!
//! Each key that names a file notes its use while it is read. When all keys are read, each file that is written is
//! compared with every other use. Files are the same where device and inode are, so that symbolic links, hard links and
//! other spellings of a path hide nothing. A file that does not exist yet is known by its folder and its name.

use crate::{
    flaw::Flaw,
    problem::{Place, Problem},
};
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Links that are followed from a name to a file that does not exist yet, as many as Linux follows.
const LINKS: usize = 40;

/// Says what is wrong with the content of a file that is to be written.
pub(crate) type Own = fn(&Path) -> Result<(), Flaw>;

/// One use of one file.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    /// The key that names it, as people call it.
    pub(crate) key: String,
    pub(crate) path: PathBuf,
    /// Where it is written; `None`: it is read, or belongs to a part that sees to it itself.
    pub(crate) written: Option<Written>,
}

/// What a problem with a file that is written says of its key, and what the file may hold.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) place: Place,
    pub(crate) value: Option<String>,
    pub(crate) own: Own,
}

/// A problem for each file that is written and has another use, or holds what must not be written into. Of two that are
/// written, the later one has the problem.
pub(crate) fn problems(uses: &[Use]) -> Vec<Problem> {
    let identities: Vec<_> = uses.iter().map(|used| identity(&used.path)).collect();
    let problem = |(index, used): (usize, &Use)| {
        let written = used.written.as_ref()?;
        let own = identities.get(index)?.as_ref();
        let mut others = uses.iter().zip(&identities).enumerate().filter(|(other, (another, identity))| {
            let is_told_there = another.written.is_some() && *other >= index;
            !is_told_there && own.is_some() && identity.as_ref() == own
        });
        let flaw = match others.next() {
            Some((_, (another, _))) => Flaw::new(
                format!("is used by {} too", another.key),
                "name a file of its own: what is written to it would destroy what the other one needs",
            ),
            None => (written.own)(&used.path).err()?,
        };
        Some(Problem {
            key: used.key.clone(),
            place: written.place.clone(),
            value: written.value.clone(),
            reason: flaw.reason,
            hint: flaw.hint,
        })
    };
    uses.iter().enumerate().filter_map(problem).collect()
}

/// What makes a file this one and no other.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    /// Device and inode.
    There(u64, u64),
    /// Device and inode of the folder in which it would be made, and its name.
    Missing(u64, u64, OsString),
}

/// `None` where not even the folder can be seen: whoever opens the file says so.
fn identity(path: &Path) -> Option<Identity> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if let Ok(about) = fs::metadata(&path) {
            return Some(Identity::There(about.dev(), about.ino()));
        }
        let folder = base::folder::of(&path);
        let Ok(target) = fs::read_link(&path) else {
            let about = fs::metadata(folder).ok()?;
            return Some(Identity::Missing(about.dev(), about.ino(), path.file_name()?.to_owned()));
        };
        // A link to what is not there yet: that would be made.
        path = folder.join(target);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn used(key: &str, path: PathBuf, own: Option<Own>) -> Use {
        let written = own.map(|own| Written { place: Place::Nowhere, value: None, own });
        Use { key: key.to_owned(), path, written }
    }

    /// What is said when `written` is written and `read` has another use.
    fn said(written: &Path, read: &Path) -> Vec<String> {
        let uses = [used("a", written.to_owned(), Some(|_| Ok(()))), used("b", read.to_owned(), None)];
        problems(&uses).iter().map(|problem| format!("{}: {}", problem.key, problem.reason)).collect()
    }

    /// (E3) One file under two names is found, whether it exists already or not.
    #[test]
    fn one_file_is_one_file_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("there"), "x").unwrap();
        fs::write(at("other"), "x").unwrap();
        fs::hard_link(at("there"), at("hard")).unwrap();
        symlink("there", at("soft")).unwrap();
        symlink("soft", at("softer")).unwrap();
        symlink("new", at("to-new")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink(folder.path(), at("folder")).unwrap();
        for name in ["there", "hard", "soft", "softer", "folder/there", "folder/./hard"] {
            assert_eq!(said(&at(name), &at("there")), ["a: is used by b too"], "{name}");
            assert_eq!(said(&at("there"), &at(name)), ["a: is used by b too"], "{name}");
            assert!(said(&at(name), &at("other")).is_empty(), "{name}");
        }
        for name in ["new", "to-new", "folder/new"] {
            assert_eq!(said(&at(name), &at("new")), ["a: is used by b too"], "{name}");
            assert!(said(&at(name), &at("newer")).is_empty() && said(&at(name), &at("there")).is_empty(), "{name}");
        }
        assert!(said(&at("loop"), &at("loop")).is_empty() && said(&at("no/x"), &at("no/x")).is_empty());
    }

    /// (E3) Files that are only read may be shared. Of two that are written, the later one is told. What a file holds is
    /// looked at only where it has no other use.
    #[test]
    fn only_what_is_written_must_be_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let uses = [
            used("read", path.clone(), None),
            used("read again", path.clone(), None),
            used("one", folder.path().join("y"), Some(|_| Err("holds notes".into()))),
            used("two", folder.path().join("y"), Some(|_| Err("holds notes".into()))),
        ];
        let told: Vec<_> = problems(&uses).into_iter().map(|problem| (problem.key, problem.reason)).collect();
        let wanted = [("one", "holds notes"), ("two", "is used by one too")];
        assert_eq!(told, wanted.map(|(key, reason)| (key.to_owned(), reason.to_owned())));
    }
}
