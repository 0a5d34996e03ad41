//! Copies of an inbox: making one beside a running service, putting one in its place, and reading everything.
//!
//! All of it blocks, and none of it needs an open inbox.

use crate::{
    Error, Identity, Position, SealStanding, Settings,
    error::Source,
    journal, seal,
    sqlite::{self, Contents},
};
use base::{clock, folder::beside};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A copy that was made, and read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Entries in it.
    pub entries: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Sealed entries that could not be compared with what was accepted, because no key is set.
    pub unopened: u64,
    /// Whether its bank data is sealed.
    pub is_sealed: bool,
}

/// What was put in place of an inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Entries in it.
    pub entries: u64,
    /// Accepted events that the journal still has, and that the next start adds.
    pub from_journal: u64,
    /// Accepted events that are neither in the copy nor in the journal. They are in what was set aside. `None`: there may be some, and
    /// what was set aside cannot be read.
    pub missing: Option<u64>,
    /// The files that were set aside.
    pub set_aside: Vec<PathBuf>,
}

/// What a reading of everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Entries whose events were compared with what was accepted.
    pub entries: u64,
    /// Those of them that are sealed and were not compared, because no key is set.
    pub unopened: u64,
    /// Accepted events in the journal that are not in the inbox file yet.
    pub behind: u64,
    /// What is wrong, each with its place and what to do.
    pub problems: Vec<String>,
}

/// What to do about an inbox file that is not as it was written.
const REMEDY: &str = "restore the inbox with `inbox restore` from a backup from before, and look at the disk";

/// Copies the inbox as it is at one moment to a file that is not there yet, and reads the copy to its end. A service may be
/// running. What it has accepted and not yet moved from its journal into the inbox file is not in the copy: ask the desk for
/// something first, which waits for that. Keys are in no backup: with `keys` they are written there, after the inbox, so that every
/// row finds its key among them.
///
/// # Errors
/// [`Error::Open`] with what to do; [`Error::Store`] where copying failed, or the copy is not as it should be. No file is left then.
pub fn backup(settings: &Settings, to: &Path, keys: Option<&Path>, tell: impl FnMut(u64)) -> Result<Copied, Error> {
    let path = file(settings)?;
    let store = settings.keys_file();
    if let Some(keys) = keys.filter(|_| !store.exists()) {
        return Err(unusable(
            keys,
            "there are no keys to write, because the inbox is not sealed; leave --keys out",
            None,
        ));
    }
    if let Some(keys) = keys.filter(|keys| keys.exists()) {
        return Err(unusable(keys, "it is there already; name a file that is not", None));
    }
    sqlite::copy(path, to)?;
    let read = read_to_its_end(settings, to, tell);
    let copied = read.and_then(|(contents, problem)| {
        if let Some(problem) = problem {
            return Err(Error::Store(format!("the copy is not kept, because {problem}: {REMEDY}").into()));
        }
        if let Some(keys) = keys {
            seal::copy_keys(&store, keys).map_err(|flaw| Error::Seal {
                problem: format!("its keys could not be copied to {}", keys.display()),
                source: Some(Box::new(flaw)),
            })?;
        }
        let bytes = fs::metadata(to).map_or(0, |meta| meta.len());
        let is_sealed = matches!(sqlite::standing(to, settings), Ok(SealStanding::Begun | SealStanding::On));
        Ok(Copied { entries: contents.entries, bytes, unopened: contents.unopened, is_sealed })
    });
    copied.inspect_err(|_| drop(fs::remove_file(to)))
}

/// Reads a copy of an inbox to its end; with it comes the first thing that is wrong with it.
fn read_to_its_end(
    settings: &Settings,
    copy: &Path,
    tell: impl FnMut(u64),
) -> Result<(Contents, Option<String>), Error> {
    let mut problems = Vec::new();
    let contents = sqlite::read_all(copy, settings, |problem| problems.push(problem), tell)?;
    Ok((contents, problems.into_iter().next()))
}

/// Puts a backup in the place of the inbox. No service may be running. What stands there is set aside, not deleted. A journal
/// that is newer than the backup is kept: the next start adds its events. With `keys`, a copy of the keys, those are added to the
/// keys store first; what either of them has erased stays erased, and is not in the inbox afterwards.
///
/// # Errors
/// [`Error::Open`]: the backup, the journal or the place is not usable; nothing was changed. [`Error::Seal`]: the backup is sealed,
/// and its keys are not there.
pub fn restore(
    settings: &Settings,
    from: &Path,
    keys: Option<&Path>,
    tell: impl FnMut(u64),
) -> Result<Restored, Error> {
    let path = file(settings)?;
    if let Err(error) = fs::File::open(from) {
        return Err(unusable(from, "this backup cannot be read", Some(Box::new(error))));
    }
    if let Some(keys) = keys {
        let identity = sqlite::identity(from)?.0;
        seal::merge_keys(keys, &settings.keys_file(), identity).map_err(|flaw| Error::Seal {
            problem: format!("{} is no copy of the keys of this backup, or cannot be read", keys.display()),
            source: Some(Box::new(flaw)),
        })?;
    }
    let (contents, problem) = read_to_its_end(settings, from, tell)?;
    if let Some(problem) = problem {
        return Err(unusable(from, &format!("it is damaged ({problem}); use another backup"), None));
    }
    // Held until the file is in its place.
    let _lock = sqlite::lock(path)?;
    let tail = journal_tail(settings, &contents)?;
    let missing = missing(settings, path, &contents, tail);
    let (copy, set_aside) = exchange(path, |copy| {
        // With what is still in a log beside it: an inbox that was set aside has one.
        sqlite::copy(from, copy)?;
        sqlite::forget(copy, settings)
    })?;
    sqlite::put_in_place(&copy, path, tail.goes_on_from)?;
    Ok(Restored { entries: contents.entries, from_journal: tail.events, missing, set_aside })
}

/// Puts an empty inbox in the place of one that is lost, for the events that its journal still has: the next start adds them. What
/// stands in the place is set aside. No service may be running.
///
/// # Errors
/// [`Error::Open`]: the inbox is not lost, there is no such journal, or the place is not usable; nothing was changed.
pub fn restore_from_journal(settings: &Settings) -> Result<Restored, Error> {
    let path = file(settings)?;
    let Some((identity, folder)) = known_journal(settings) else {
        return Err(unusable(path, "there is no journal that events could be taken from: restore a backup", None));
    };
    let _lock = sqlite::lock(path)?;
    if !sqlite::is_gone(path) {
        match sqlite::look(path) {
            Err(error) if sqlite::is_damage(&error) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return Err(unusable(
                    path,
                    "it is there and can be read: start the service, which adds the events of its journal",
                    None,
                ));
            }
        }
    }
    let unreadable = |error| unusable(&folder, "the journal cannot be read", Some(Box::new(error)));
    let found = journal::verify(&folder, identity.0, 0).map_err(unreadable)?;
    let Some(first) = found.first else {
        let problem = "this journal holds no events: to begin with an empty inbox, move it and what stands beside the inbox file away";
        return Err(unusable(&folder, problem, None));
    };
    let (copy, set_aside) = exchange(path, |copy| sqlite::make_empty(copy, identity))?;
    sqlite::put_in_place(&copy, path, Some(Position(first.saturating_sub(1))))?;
    Ok(Restored { entries: 0, from_journal: found.behind, missing: None, set_aside })
}

/// Makes the file that is to come in the place of the inbox, and sets aside what is there. Returns both.
fn exchange(path: &Path, make: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(PathBuf, Vec<PathBuf>), Error> {
    let copy = restoring(path);
    let failed = |error: io::Error| unusable(path, "nothing can be put in its place", Some(Box::new(error)));
    // Of a restore that was interrupted.
    match fs::remove_file(&copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    make(&copy)?;
    let set_aside = set_aside(path).map_err(failed)?;
    Ok((copy, set_aside))
}

/// Where a restore makes the file that it then puts in its place.
fn restoring(path: &Path) -> PathBuf {
    beside(path, "-restoring")
}

/// Refuses to begin with an empty inbox where a restore was interrupted between setting the old file aside and putting the new
/// one in its place.
///
/// # Errors
/// [`Error::Open`]: one was.
fn refuse_interrupted(path: &Path) -> Result<(), Error> {
    if !restoring(path).exists() {
        return Ok(());
    }
    let problem = format!(
        "it is missing, because a restore of it was interrupted: run `inbox restore` again, with the same backup; what was there \
         before is beside it, under a name with `{SET_ASIDE}`; to begin with an empty inbox instead, move {} away",
        restoring(path).display()
    );
    Err(unusable(path, &problem, None))
}

/// Refuses an inbox file that is missing or empty where something shows that there was one.
///
/// # Errors
/// [`Error::Open`]: there was one.
pub(crate) fn refuse_lost(settings: &Settings, path: &Path) -> Result<(), Error> {
    if let Some((identity, folder)) = known_journal(settings) {
        return Err(unusable(path, &gone(identity, &folder), None));
    }
    refuse_interrupted(path)?;
    sqlite::refuse_lost(path)
}

/// The inbox file is not there, and its journal is.
fn gone(identity: Identity, folder: &Path) -> String {
    // The store is gone, so nobody knows which of them it had.
    let held = journal::verify(folder, identity.0, 0);
    format!(
        "it is missing or empty, and its journal {} is there, with {} accepted events: put the file back, from a backup with `inbox \
         restore` if need be; without one, `inbox restore --from-journal` begins an empty inbox with these events; to give them up, \
         move the journal and what stands beside the file away",
        folder.display(),
        held.map_or(0, |report| report.behind)
    )
}

/// What a journal adds to a backup.
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    events: u64,
    /// Positions between the backup and the first record of the journal, where it has one.
    gap: Option<u64>,
    /// Where the restored inbox goes on, if not where the backup ends.
    goes_on_from: Option<Position>,
}

fn journal_tail(settings: &Settings, contents: &Contents) -> Result<Tail, Error> {
    let Some(folder) = journal_of(settings) else { return Ok(Tail::default()) };
    let identity = contents.identity.0;
    if journal::identity(&folder).is_some_and(|found| found != identity) {
        return Err(unusable(
            &folder,
            "this journal belongs to another inbox than the backup; move it away if that inbox is given up",
            None,
        ));
    }
    let unreadable = |error| unusable(&folder, "the journal cannot be read", Some(Box::new(error)));
    let found = journal::verify(&folder, identity, contents.reached.0).map_err(unreadable)?;
    let Some(first) = found.first else { return Ok(Tail::default()) };
    let gap = first.saturating_sub(contents.reached.0 + 1);
    Ok(Tail { events: found.behind, gap: Some(gap), goes_on_from: (gap > 0).then(|| Position(first - 1)) })
}

/// How many accepted events neither a backup nor the journal has. The inbox that it takes the place of tells, if it can be read.
/// Else positions do, unless they were given away by the clock, because nobody knew the last one.
fn missing(settings: &Settings, path: &Path, contents: &Contents, tail: Tail) -> Option<u64> {
    if let (Ok((identity, reached)), Ok(newest)) = (sqlite::look(path), sqlite::newest(path))
        && identity == contents.identity
    {
        // Of those that it has and the backup has not, the journal may still hold some.
        let only_in_journal = journal_of(settings)
            .and_then(|folder| journal::verify(&folder, identity.0, reached.0).ok())
            .map_or(0, |found| found.behind);
        let held = tail.events.saturating_sub(only_in_journal);
        return Some(newest.saturating_sub(contents.newest).saturating_sub(held));
    }
    match tail.gap {
        Some(gap) => Some(gap).filter(|gap| *gap < BY_THE_CLOCK),
        None => sqlite::is_gone(path).then_some(0),
    }
}

/// No inbox takes so many events between a backup and a restore; positions that were given away by the clock are far apart.
const BY_THE_CLOCK: u64 = 1_000_000_000_000;

/// The file of a SQLite inbox. One on PostgreSQL has none: what stands here is about files.
fn file(settings: &Settings) -> Result<&Path, Error> {
    settings.file().ok_or_else(|| Error::Open {
        path: settings.store.to_string(),
        problem: "this is for an inbox in a SQLite file; back PostgreSQL up by its own means, such as pg_basebackup with an archive of \
                  its log, or `linxo-webhook inbox copy` while every receiver is stopped"
            .to_owned(),
        source: None,
    })
}

/// Files that restores have set aside beside the inbox, and nobody has deleted.
#[must_use]
pub fn left_aside(settings: &Settings) -> Vec<PathBuf> {
    let Some(path) = settings.file() else { return Vec::new() };
    let start = beside(path, SET_ASIDE);
    let Ok(files) = fs::read_dir(base::folder::of(path)) else { return Vec::new() };
    let files = files.filter_map(|file| Some(base::folder::of(path).join(file.ok()?.file_name())));
    let mut found: Vec<PathBuf> = files
        .filter(|file| file.as_os_str().as_encoded_bytes().starts_with(start.as_os_str().as_encoded_bytes()))
        .collect();
    found.sort();
    found
}

/// Between the name of the inbox file and the time when it was set aside.
const SET_ASIDE: &str = "-before-";

/// Moves the inbox file and what belongs to it out of the way.
fn set_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let suffix = format!("{SET_ASIDE}{}", clock::now().as_millis());
    let mut moved = Vec::new();
    for part in ["", "-wal", "-shm"] {
        let file = beside(path, part);
        match fs::metadata(&file) {
            // The lock made an empty one where there was none. The last one is an index of the log, and is made anew from it.
            Ok(meta) if meta.len() == 0 || part == "-shm" => fs::remove_file(&file)?,
            Ok(_) => {
                let to = beside(&beside(path, &suffix), part);
                fs::rename(&file, &to)?;
                moved.push(to);
            }
            Err(_absent) => {}
        }
    }
    Ok(moved)
}

/// Reads everything that an inbox has on the disk, beside a running service or without one.
///
/// # Errors
/// [`Error::Open`]: there is nothing to read.
pub fn verify(settings: &Settings, tell: impl FnMut(u64)) -> Result<Verified, Error> {
    let path = file(settings)?;
    let mut problems = Vec::new();
    let place = |problem: String| format!("{}: {problem}: {REMEDY}", path.display());
    if sqlite::is_gone(path) {
        refuse_lost(settings, path)?;
        // Says so in the words of every other command.
        sqlite::look(path)?;
    }
    let contents = match sqlite::read_all(path, settings, |problem| problems.push(place(problem)), tell) {
        Ok(contents) => contents,
        Err(error @ (Error::Open { .. } | Error::Seal { .. })) => return Err(error),
        Err(error) if sqlite::is_damage(&error) => {
            problems.push(place(base::error::chain(&error)));
            return Ok(Verified { problems, ..Verified::default() });
        }
        Err(error) => {
            return Err(unusable(
                path,
                "it cannot be read now, which says nothing of what is in it; see to its owner and mode, to its disk and to the room \
                 there, then verify again",
                Some(Box::new(error)),
            ));
        }
    };
    let Contents { entries, unopened, .. } = contents;
    let mut verified = Verified { entries, unopened, behind: 0, problems };
    if let Some(folder) = journal_of(settings) {
        match journal::verify(&folder, contents.identity.0, contents.reached.0) {
            Ok(report) => {
                verified.behind = report.behind;
                verified.problems.extend(report.damage.iter().map(ToString::to_string));
            }
            Err(error) => verified.problems.push(format!("the journal {} cannot be read: {error}", folder.display())),
        }
    }
    Ok(verified)
}

/// The configured journal, where it knows which inbox it belongs to: the service takes events into it, whatever is wrong with the store.
pub(crate) fn known_journal(settings: &Settings) -> Option<(Identity, PathBuf)> {
    let folder = settings.journal_folder()?;
    Some((Identity(journal::identity(&folder)?), folder))
}

/// The folder of the journal, if it is there.
fn journal_of(settings: &Settings) -> Option<PathBuf> {
    settings.journal_folder().filter(|folder| folder.exists())
}

fn unusable(path: &Path, problem: &str, source: Option<Source>) -> Error {
    Error::Open { path: path.display().to_string(), problem: problem.to_owned(), source }
}
