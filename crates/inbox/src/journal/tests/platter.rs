//! What a disk may hold after a power cut, worked out from what was done to it ([`Op`]).
//!
//! Only what was synced is sure. Each sector of a write that was not synced may be as before, new, or half new. A name that was
//! not synced may be as before or new, each file for itself; a file never has two names. After a failed sync each sector of
//! that file was written or was not, and no later sync changes that.

use super::disk::faults::Op;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
};

/// Bytes that are written whole or not at all, unless they are torn.
const SECTOR: usize = 512;

/// Decides what becomes of each thing that was not synced.
pub(super) enum Fate {
    /// Nothing of it is there.
    Lost,
    /// All of it is there.
    Kept,
    Chance(fastrand::Rng),
    /// Every combination in turn: digits, each with the number of its values.
    Each {
        digits: Vec<(u8, u8)>,
        at: usize,
    },
}

impl Fate {
    /// One of so many values; 0: as before; 1: new.
    fn decide(&mut self, values: u8) -> u8 {
        match self {
            Self::Lost => 0,
            Self::Kept => 1,
            Self::Chance(chance) => chance.u8(..values),
            Self::Each { digits, at } => {
                if *at == digits.len() {
                    digits.push((0, values));
                }
                *at += 1;
                digits[*at - 1].0
            }
        }
    }

    /// Goes on to the next combination; says whether there is one.
    pub(super) fn advance(&mut self) -> bool {
        let Self::Each { digits, at } = self else { return false };
        *at = 0;
        while let Some((digit, values)) = digits.pop() {
            if digit + 1 < values {
                digits.push((digit + 1, values));
                return true;
            }
        }
        false
    }
}

/// One file.
#[derive(Clone, Debug, Default)]
struct Content {
    synced: Vec<u8>,
    /// Writes since the last sync, in order.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Naming {
    /// A file gets this name and loses any other.
    Set(String, usize),
    Gone(String, usize),
}

/// A disk with one folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Platter {
    files: Vec<Content>,
    /// Which file an inode is, at this moment.
    inodes: BTreeMap<u64, usize>,
    /// Names as the program sees them.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    pending_names: Vec<Naming>,
}

/// What a cut left: the bytes of each name.
pub(super) type Left = BTreeMap<String, Vec<u8>>;

/// Puts what a cut left into an empty folder.
pub(super) fn put(left: &Left, folder: &Path) {
    for (name, bytes) in left {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

impl Platter {
    /// A disk that holds, synced, what is in a folder.
    pub(super) fn of(folder: &Path) -> Self {
        let mut platter = Self::default();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let file = platter.add(entry.metadata().unwrap().ino(), fs::read(entry.path()).unwrap());
            platter.names.insert(name, file);
        }
        platter.synced_names = platter.names.clone();
        platter
    }

    fn add(&mut self, inode: u64, synced: Vec<u8>) -> usize {
        self.files.push(Content { synced, pending: Vec::new() });
        self.inodes.insert(inode, self.files.len() - 1);
        self.files.len() - 1
    }

    fn file(&mut self, inode: u64) -> Option<&mut Content> {
        // The lock file alone is made by other means; nothing that counts is in it.
        self.files.get_mut(*self.inodes.get(&inode)?)
    }

    /// The next thing is done to it. `fate` decides over what a failed sync leaves.
    pub(super) fn play(&mut self, op: &Op, fate: &mut Fate) {
        match op {
            Op::Create { file, name } => {
                let file = self.add(*file, Vec::new());
                self.names.insert(name.clone(), file);
                self.pending_names.push(Naming::Set(name.clone(), file));
            }
            Op::Rename { from, to } => {
                let file = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), file);
                self.pending_names.push(Naming::Set(to.clone(), file));
            }
            Op::Remove { name } => {
                let file = self.names.remove(name).unwrap();
                self.pending_names.push(Naming::Gone(name.clone(), file));
            }
            Op::Write { file, offset, bytes } => {
                if let Some(content) = self.file(*file) {
                    content.pending.push((usize::try_from(*offset).unwrap(), bytes.clone()));
                }
            }
            Op::Sync { file } => {
                if let Some(content) = self.file(*file) {
                    content.settle(&mut Fate::Kept);
                }
            }
            Op::FailedSync { file } => {
                if let Some(content) = self.file(*file) {
                    content.settle(fate);
                }
            }
            Op::SyncNames => {
                self.pending_names.clear();
                self.synced_names.clone_from(&self.names);
            }
            Op::Acknowledged(_) | Op::Stored(_) => {}
        }
    }

    /// The power is cut.
    pub(super) fn cut(&self, fate: &mut Fate) -> Left {
        let mut names = self.synced_names.clone();
        let mut left_out = BTreeSet::new();
        for naming in &self.pending_names {
            let (Naming::Set(name, file) | Naming::Gone(name, file)) = naming;
            // A folder's log keeps the order of what concerns one file.
            if left_out.contains(file) || fate.decide(2) == 0 {
                left_out.insert(file);
                continue;
            }
            names.retain(|_, named| named != file);
            if matches!(naming, Naming::Set(..)) {
                names.insert(name.clone(), *file);
            }
        }
        let bytes = |file: usize, fate: &mut Fate| {
            let mut content = self.files[file].clone();
            content.settle(fate);
            content.synced
        };
        names.into_iter().map(|(name, file)| (name, bytes(file, fate))).collect()
    }
}

impl Content {
    /// Decides over everything that is pending.
    fn settle(&mut self, fate: &mut Fate) {
        for (offset, bytes) in std::mem::take(&mut self.pending) {
            let mut at = 0;
            while at < bytes.len() {
                let place = offset + at;
                let end = bytes.len().min(at + SECTOR - place % SECTOR);
                let new = &bytes[at..end];
                // What changes nothing need not be decided.
                if self.synced.get(place..place + new.len()) != Some(new) {
                    self.write(place, new, fate.decide(3));
                }
                at = end;
            }
        }
    }

    fn write(&mut self, place: usize, new: &[u8], fate: u8) {
        let written = match fate {
            0 => return,
            1 => new.len(),
            _ => new.len() / 2,
        };
        let end = place + written;
        self.synced.resize(self.synced.len().max(end), 0);
        self.synced[place..end].copy_from_slice(&new[..written]);
    }
}
