//! Shows a [`Disk`] as a file system.

use crate::disk::{Content, Disk, Errno, Kind, Names, Node, ROOT};
use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
};
use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

/// How long the system may believe what it was told: nobody else changes the disk.
const VALID: Duration = Duration::from_hours(1);
const BLOCK: u32 = 4096;
/// Blocks of the disk, of which the half is always free: 1 GiB.
const BLOCKS: u64 = 1 << 18;

struct Mounted(Arc<Mutex<Disk>>);

/// Mounts a disk until the session is dropped, or the program ends.
pub fn mount(disk: Arc<Mutex<Disk>>, at: impl AsRef<Path>) -> io::Result<BackgroundSession> {
    fuser::spawn_mount2(Mounted(disk), at, &[MountOption::FSName("volatile".to_owned())])
}

impl Mounted {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(name: &OsStr) -> Result<&str, Errno> {
    name.to_str().ok_or(libc::EINVAL)
}

fn place(offset: i64) -> Result<usize, Errno> {
    usize::try_from(offset).map_err(|_negative| libc::EINVAL)
}

fn attributes(request: &Request<'_>, number: u64, node: &Node) -> FileAttr {
    let (kind, size) = match &node.kind {
        Kind::File(content) => (FileType::RegularFile, content.now.len() as u64),
        Kind::Folder(_) => (FileType::Directory, 0),
    };
    FileAttr {
        ino: number,
        size,
        blocks: size.div_ceil(512),
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: node.mode,
        nlink: 1,
        uid: request.uid(),
        gid: request.gid(),
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

fn empty(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Mounted {
    fn entry(
        &self,
        request: &Request<'_>,
        find: impl FnOnce(&mut Disk) -> Result<u64, Errno>,
    ) -> Result<FileAttr, Errno> {
        let mut disk = self.disk();
        let number = find(&mut disk)?;
        Ok(attributes(request, number, disk.node(number)?))
    }
}

fn permissions(mode: u32, umask: u32) -> u16 {
    u16::try_from(mode & !umask & 0o7777).unwrap_or(0o600)
}

impl Filesystem for Mounted {
    fn lookup(&mut self, request: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        match self.entry(request, |disk| disk.find(parent, text(name)?)) {
            Ok(found) => reply.entry(&VALID, &found, 0),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&mut self, request: &Request<'_>, number: u64, _handle: Option<u64>, reply: ReplyAttr) {
        match self.entry(request, |_| Ok(number)) {
            Ok(found) => reply.attr(&VALID, &found),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &mut self,
        request: &Request<'_>,
        number: u64,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _accessed: Option<TimeOrNow>,
        _modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<u64>,
        _created: Option<SystemTime>,
        _changed_too: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<u32>,
        reply: ReplyAttr,
    ) {
        let set = self.entry(request, |disk| {
            if let Some(mode) = mode {
                disk.node_mut(number)?.mode = permissions(mode, 0);
            }
            if let Some(size) = size {
                disk.content(number)?.resize(usize::try_from(size).map_err(|_large| libc::EFBIG)?);
            }
            Ok(number)
        });
        match set {
            Ok(found) => reply.attr(&VALID, &found),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&mut self, request: &Request<'_>, parent: u64, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let kind = Kind::Folder(Names::default());
        match self.entry(request, |disk| disk.make(parent, text(name)?, kind, permissions(mode, umask))) {
            Ok(new) => reply.entry(&VALID, &new, 0),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let kind = Kind::File(Content::default());
        match self.entry(request, |disk| disk.make(parent, text(name)?, kind, permissions(mode, umask))) {
            Ok(new) => reply.created(&VALID, &new, 0, 0, 0),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&mut self, _request: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        empty(text(name).and_then(|name| self.disk().remove(parent, name)), reply);
    }

    fn rmdir(&mut self, _request: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        empty(text(name).and_then(|name| self.disk().remove(parent, name)), reply);
    }

    fn rename(
        &mut self,
        _request: &Request<'_>,
        parent: u64,
        from: &OsStr,
        to_parent: u64,
        to: &OsStr,
        flags: u32,
        reply: ReplyEmpty,
    ) {
        let rename = || {
            if parent != to_parent || flags != 0 {
                return Err(libc::EXDEV);
            }
            self.disk().rename(parent, text(from)?, text(to)?)
        };
        empty(rename(), reply);
    }

    fn open(&mut self, _request: &Request<'_>, _number: u64, _flags: i32, reply: ReplyOpen) {
        reply.opened(0, 0);
    }

    fn read(
        &mut self,
        _request: &Request<'_>,
        number: u64,
        _handle: u64,
        offset: i64,
        size: u32,
        _flags: i32,
        _owner: Option<u64>,
        reply: ReplyData,
    ) {
        let mut disk = self.disk();
        match place(offset).and_then(|offset| Ok((offset, disk.content(number)?))) {
            Ok((offset, content)) => {
                let rest = content.now.get(offset..).unwrap_or_default();
                reply.data(rest.get(..size as usize).unwrap_or(rest));
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &mut self,
        _request: &Request<'_>,
        number: u64,
        _handle: u64,
        offset: i64,
        bytes: &[u8],
        _write_flags: u32,
        _flags: i32,
        _owner: Option<u64>,
        reply: ReplyWrite,
    ) {
        let mut disk = self.disk();
        match place(offset).and_then(|offset| Ok((offset, disk.content(number)?))) {
            Ok((offset, content)) => {
                content.write(offset, bytes);
                reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            }
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&mut self, _request: &Request<'_>, number: u64, _handle: u64, _data_only: bool, reply: ReplyEmpty) {
        empty(self.disk().content(number).map(Content::sync), reply);
    }

    fn flush(&mut self, _request: &Request<'_>, _number: u64, _handle: u64, _owner: u64, reply: ReplyEmpty) {
        // To close a file syncs nothing.
        reply.ok();
    }

    fn fsyncdir(&mut self, _request: &Request<'_>, number: u64, _handle: u64, _data_only: bool, reply: ReplyEmpty) {
        empty(self.disk().names(number).map(Names::sync), reply);
    }

    fn readdir(&mut self, _request: &Request<'_>, number: u64, _handle: u64, offset: i64, mut reply: ReplyDirectory) {
        let mut disk = self.disk();
        let mut names = vec![(ROOT, ".".to_owned()), (ROOT, "..".to_owned())];
        match disk.names(number) {
            Ok(found) => names.extend(found.now.iter().map(|(name, number)| (*number, name.clone()))),
            Err(error) => return reply.error(error),
        }
        for (index, (number, name)) in (1..).zip(names).skip(place(offset).unwrap_or(usize::MAX)) {
            let is_file = disk.node(number).is_ok_and(|node| matches!(node.kind, Kind::File(_)));
            let kind = if is_file { FileType::RegularFile } else { FileType::Directory };
            if reply.add(number, index, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&mut self, _request: &Request<'_>, _number: u64, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS / 2, BLOCKS / 2, BLOCKS, BLOCKS / 2, BLOCK, 255, BLOCK);
    }
}
