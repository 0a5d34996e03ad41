//! What a disk holds, and what a power cut leaves of it.
//!
//! | not synced | after a cut |
//! | --- | --- |
//! | a sector of a write | as before, new, or half new |
//! | another length of a file | as before, or new |
//! | a name that was given, changed or taken | as before, or new: each file for itself, in the order of what concerns it |
//!
//! A file's bytes are synced by a sync of the file, its name by a sync of its folder alone. Real file systems keep more than that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

/// Bytes that are written whole or not at all, unless they are torn.
const SECTOR: usize = 512;
/// The number of the folder that is mounted.
pub const ROOT: u64 = 1;

/// Everything on the disk, by number.
#[derive(Default)]
pub struct Disk {
    nodes: BTreeMap<u64, Node>,
}

/// A file or a folder.
pub struct Node {
    pub kind: Kind,
    pub mode: u16,
}

pub enum Kind {
    File(Content),
    Folder(Names),
}

/// The bytes of a file.
#[derive(Default)]
pub struct Content {
    /// As programs see them.
    pub now: Vec<u8>,
    synced: Vec<u8>,
    /// Since the last sync, in order.
    pending: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

/// The names of a folder.
#[derive(Default)]
pub struct Names {
    /// As programs see them.
    pub now: BTreeMap<String, u64>,
    synced: BTreeMap<String, u64>,
    pending: Vec<Naming>,
}

enum Naming {
    /// A file gets this name, and loses the one that it had in this folder.
    Set(String, u64),
    Gone(u64),
}

/// An error number of the system.
pub type Errno = libc::c_int;

impl Disk {
    /// Everything below a folder, synced.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let mut disk = Self::default();
        disk.add_folder(ROOT, folder)?;
        Ok(disk)
    }

    fn add_folder(&mut self, number: u64, folder: &Path) -> io::Result<()> {
        self.nodes.insert(number, Node::new(Kind::Folder(Names::default()), 0o700));
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let child = self.free_number();
            if entry.file_type()?.is_dir() {
                self.add_folder(child, &entry.path())?;
            } else {
                let bytes = fs::read(entry.path())?;
                let content = Content { now: bytes.clone(), synced: bytes, pending: Vec::new() };
                self.nodes.insert(child, Node::new(Kind::File(content), 0o600));
            }
            names.insert(entry.file_name().to_string_lossy().into_owned(), child);
        }
        self.nodes.insert(
            number,
            Node::new(Kind::Folder(Names { now: names.clone(), synced: names, pending: Vec::new() }), 0o700),
        );
        Ok(())
    }

    /// Numbers are never used again: a node stays for as long as the disk is mounted.
    fn free_number(&self) -> u64 {
        self.nodes.last_key_value().map_or(ROOT, |(last, _)| last + 1)
    }

    pub fn node(&self, number: u64) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(libc::ENOENT)
    }

    pub fn node_mut(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(libc::ENOENT)
    }

    pub fn content(&mut self, number: u64) -> Result<&mut Content, Errno> {
        match &mut self.node_mut(number)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Folder(_) => Err(libc::EISDIR),
        }
    }

    pub fn names(&mut self, number: u64) -> Result<&mut Names, Errno> {
        match &mut self.node_mut(number)?.kind {
            Kind::Folder(names) => Ok(names),
            Kind::File(_) => Err(libc::ENOTDIR),
        }
    }

    /// The number behind a name.
    pub fn find(&mut self, folder: u64, name: &str) -> Result<u64, Errno> {
        self.names(folder)?.now.get(name).copied().ok_or(libc::ENOENT)
    }

    /// A new file or folder.
    pub fn make(&mut self, folder: u64, name: &str, kind: Kind, mode: u16) -> Result<u64, Errno> {
        if self.find(folder, name).is_ok() {
            return Err(libc::EEXIST);
        }
        let number = self.free_number();
        self.names(folder)?.set(name, number);
        self.nodes.insert(number, Node::new(kind, mode));
        Ok(number)
    }

    pub fn remove(&mut self, folder: u64, name: &str) -> Result<(), Errno> {
        let number = self.find(folder, name)?;
        if matches!(&self.node(number)?.kind, Kind::Folder(names) if !names.now.is_empty()) {
            return Err(libc::ENOTEMPTY);
        }
        self.names(folder)?.take(name);
        Ok(())
    }

    /// Within one folder; nobody here needs more.
    pub fn rename(&mut self, folder: u64, from: &str, to: &str) -> Result<(), Errno> {
        let number = self.find(folder, from)?;
        let names = self.names(folder)?;
        names.now.remove(from);
        names.set(to, number);
        Ok(())
    }

    /// What a cut leaves, into a folder that is emptied first.
    pub fn cut(&self, backing: &Path, chance: &mut fastrand::Rng) -> io::Result<()> {
        fs::remove_dir_all(backing)?;
        self.put(ROOT, backing, chance)
    }

    fn put(&self, number: u64, path: &Path, chance: &mut fastrand::Rng) -> io::Result<()> {
        match self.nodes.get(&number).map(|node| &node.kind) {
            Some(Kind::Folder(names)) => {
                fs::create_dir(path)?;
                for (name, child) in names.left(chance) {
                    self.put(child, &path.join(name), chance)?;
                }
                Ok(())
            }
            Some(Kind::File(content)) => fs::write(path, content.left(chance)),
            None => Ok(()),
        }
    }
}

impl Node {
    fn new(kind: Kind, mode: u16) -> Self {
        Self { kind, mode }
    }
}

impl Content {
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        write(&mut self.now, offset, bytes);
        self.pending.push(Change::Write(offset, bytes.to_vec()));
    }

    pub fn resize(&mut self, length: usize) {
        self.now.resize(length, 0);
        self.pending.push(Change::Resize(length));
    }

    pub fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write(offset, bytes) => write(&mut self.synced, offset, &bytes),
                Change::Resize(length) => self.synced.resize(length, 0),
            }
        }
    }

    fn left(&self, chance: &mut fastrand::Rng) -> Vec<u8> {
        let mut left = self.synced.clone();
        for change in &self.pending {
            match change {
                Change::Write(offset, bytes) => {
                    let mut offset = *offset;
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let (sector, behind) = rest.split_at(rest.len().min(SECTOR - offset % SECTOR));
                        match chance.u8(..3) {
                            0 => {}
                            1 => write(&mut left, offset, sector),
                            _ => write(&mut left, offset, sector.split_at(sector.len() / 2).0),
                        }
                        offset += sector.len();
                        rest = behind;
                    }
                }
                Change::Resize(length) if chance.bool() => left.resize(*length, 0),
                Change::Resize(_) => {}
            }
        }
        left
    }
}

fn write(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    if let Some(place) = to.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

impl Names {
    fn set(&mut self, name: &str, number: u64) {
        self.now.insert(name.to_owned(), number);
        self.pending.push(Naming::Set(name.to_owned(), number));
    }

    fn take(&mut self, name: &str) {
        if let Some(number) = self.now.remove(name) {
            self.pending.push(Naming::Gone(number));
        }
    }

    pub fn sync(&mut self) {
        self.pending.clear();
        self.synced.clone_from(&self.now);
    }

    fn left(&self, chance: &mut fastrand::Rng) -> BTreeMap<String, u64> {
        let mut left = self.synced.clone();
        let mut as_before = BTreeSet::new();
        for naming in &self.pending {
            let (Naming::Set(_, number) | Naming::Gone(number)) = naming;
            if as_before.contains(number) || chance.bool() {
                as_before.insert(*number);
                continue;
            }
            left.retain(|_, named| named != number);
            if let Naming::Set(name, number) = naming {
                left.insert(name.clone(), *number);
            }
        }
        left
    }
}
