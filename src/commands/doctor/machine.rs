//! The machine: its disks, its limits, its clock as far as the system knows.

use super::report::Section;
use crate::config::Config;
use rustix::{
    fs::{statfs, statvfs},
    process::{Resource, getrlimit},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Descriptors that the listener keeps free (`docs/operations.md`, "Limits").
const DESCRIPTORS_KEPT: u64 = 256;
/// What the service needs beside the bodies that it holds: measured idle, and then some.
const MEMORY_BESIDE: u64 = 128 << 20;
/// systemd-timesyncd makes this file when the clock is synchronised (systemd-timesyncd.service(8)).
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// What a kind of file system means for an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Network(&'static str),
    Memory(&'static str),
    Layer(&'static str),
    Known(&'static str),
    Other,
}

/// A file system by its magic number (statfs(2)).
const fn kind_of(magic: u64) -> Kind {
    match magic {
        0x6969 => Kind::Network("NFS"),
        0x517b => Kind::Network("SMB"),
        0xff53_4d42 => Kind::Network("CIFS"),
        0xfe53_4d42 => Kind::Network("SMB2"),
        0x0102_1997 => Kind::Network("9P"),
        0x00c3_6400 => Kind::Network("Ceph"),
        0x5346_414f => Kind::Network("AFS"),
        0x0bd0_0bd0 => Kind::Network("Lustre"),
        0x0116_1970 => Kind::Network("GFS2"),
        0x6573_5546 => Kind::Network("FUSE"),
        0x0102_1994 => Kind::Memory("tmpfs"),
        0x8584_58f6 => Kind::Memory("ramfs"),
        0x794c_7630 => Kind::Layer("overlayfs"),
        0xef53 => Kind::Known("ext4"),
        0x5846_5342 => Kind::Known("XFS"),
        0x9123_683e => Kind::Known("Btrfs"),
        0x2fc1_2fc1 => Kind::Known("ZFS"),
        0xf2f5_2010 => Kind::Known("F2FS"),
        _ => Kind::Other,
    }
}

/// The disks of the inbox, of its journal, and of the files of sinks.
pub(super) fn disks(config: &Config) -> Section {
    let mut section = Section::new("Disks");
    if let Some(file) = config.inbox.file() {
        inbox_disk(&mut section, "inbox", base::folder::of(file), config.inbox.min_free_disk);
    }
    if let Some(journal) = config.inbox.journal_folder() {
        inbox_disk(&mut section, "journal", &journal, config.inbox.min_free_disk);
    }
    for sink in &config.sinks {
        if let Some(file) = sink.kind.writes() {
            let name = format!("sink {:?}", sink.name.as_str());
            if let Some((_, free)) = room(&mut section, &name, base::folder::of(file)) {
                section.ok(format_args!("{name}: {} free", mebibytes(free)));
            }
        }
    }
    section
}

/// A disk that takes events.
fn inbox_disk(section: &mut Section, name: &str, folder: &Path, least: u64) {
    let Some((place, free)) = room(section, name, folder) else { return };
    let told = format!(
        "{name}: {} free, events are refused below {} (inbox.min_free_disk)",
        mebibytes(free),
        mebibytes(least)
    );
    if free < least {
        section.fail(told, "make room; `docs/operations.md`, \"Disk full\"");
    } else if free < least.saturating_mul(2) {
        section.warn(told, "make room before it is less");
    } else {
        section.ok(told);
    }
    match statfs(&place).map(|found| kind_of(magic(found.f_type))) {
        Ok(kind) => judge(section, name, &place, kind),
        Err(error) => section.note(format_args!("{name}: nobody can say what file system it is on: {error}")),
    }
}

/// The number has 32 bits; the type that it comes in is wider, and signed.
fn magic(f_type: rustix::fs::FsWord) -> u64 {
    u64::try_from(f_type & 0xffff_ffff).unwrap_or_default()
}

fn judge(section: &mut Section, name: &str, place: &Path, kind: Kind) {
    let place = place.display();
    match kind {
        Kind::Network(word) => section.error(
            format_args!("{name}: {place} is on a file system of the network or of another program ({word}): its locks and syncs may not hold"),
            "put it on a disk of this machine; each 2xx rests on what the disk says",
        ),
        Kind::Memory(word) => section.warn(
            format_args!("{name}: {place} is in memory ({word}): a restart of the machine loses what was accepted"),
            "put it on a disk",
        ),
        Kind::Layer(word) => section.warn(
            format_args!("{name}: {place} is in a layer of the container ({word}): it goes with the container"),
            "mount a volume there",
        ),
        Kind::Known(word) => section.ok(format_args!("{name}: {place} is on {word}")),
        Kind::Other => section.note(format_args!("{name}: {place} is on a file system that is not known here")),
    }
}

/// The nearest folder that is there, and the bytes that are free on its disk. What is missing is made at the start.
fn room(section: &mut Section, name: &str, folder: &Path) -> Option<(PathBuf, u64)> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let absolute = std::path::absolute(folder).unwrap_or_else(|_unknown| folder.to_owned());
    let place = absolute.ancestors().find(|place| place.exists())?;
    match statvfs(place) {
        Ok(found) => {
            if found.f_files > 0 && found.f_favail < 1000 {
                section.warn(
                    format_args!("{name}: only {} more files can be made there", found.f_favail),
                    "delete files that nobody needs",
                );
            }
            Some((place.to_owned(), found.f_bavail.saturating_mul(found.f_frsize)))
        }
        Err(error) => {
            section.fail(format_args!("{name}: the disk of {} cannot be asked: {error}", place.display()), "mount it");
            None
        }
    }
}

/// Descriptors and memory.
pub(super) fn limits(config: &Config) -> Section {
    let mut section = Section::new("Limits");
    descriptors(&mut section, getrlimit(Resource::Nofile).maximum, config.listener.max_connections);
    memory(&mut section, least_memory(), config.listener.body_memory);
    section
}

fn descriptors(section: &mut Section, limit: Option<u64>, connections: usize) {
    let Some(limit) = limit else { return section.ok("file descriptors: no limit") };
    let wanted = connections as u64 + DESCRIPTORS_KEPT;
    let told = format!("file descriptors: at most {limit}, listener.max_connections = {connections} wants {wanted}");
    if limit < wanted {
        section.warn(told, "raise the limit (`LimitNOFILE=` of systemd, `ulimit -n`), or lower listener.max_connections; callers beyond it are turned away");
    } else {
        section.ok(told);
    }
}

fn memory(section: &mut Section, (of, limit): (&'static str, Option<u64>), bodies: u64) {
    let Some(limit) = limit else { return section.note("memory: nobody can say how much there is") };
    let wanted = bodies.saturating_add(MEMORY_BESIDE);
    let told = format!(
        "memory: {} ({of}), listener.body_memory = {} and the rest want up to {}",
        mebibytes(limit),
        mebibytes(bodies),
        mebibytes(wanted)
    );
    if limit < wanted {
        section.warn(
            told,
            "give it more memory, or lower listener.body_memory: else the system may end the service under load",
        );
    } else {
        section.ok(told);
    }
}

/// The limit of the control group, where that is less than the memory of the machine.
fn least_memory() -> (&'static str, Option<u64>) {
    let read = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let name = group.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    // Each group above may have a limit of its own.
    let groups = Path::new("/sys/fs/cgroup").join(name);
    let limits = groups.ancestors().take_while(|path| path.starts_with("/sys/fs/cgroup"));
    let limit = limits.filter_map(|path| read(&path.join("memory.max"))).min();
    let limit = limit.or_else(|| read(Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes")));
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()?.checked_mul(1024)
    });
    match (limit, total) {
        (Some(limit), total) if total.is_none_or(|total| limit < total) => ("limit of the control group", Some(limit)),
        (_, total) => ("of the machine", total),
    }
}

/// What the system says of its clock.
pub(super) fn clock(section: &mut Section) {
    if Path::new(SYNCHRONISED).exists() {
        section.ok("the system says that its clock is synchronised (systemd-timesyncd)");
    } else {
        section.note("whether the clock is synchronised is not known: systemd-timesyncd does not say so, and others are not asked");
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::{super::report::Level, *};

    fn levels(look: impl FnOnce(&mut Section)) -> Vec<Level> {
        let mut section = Section::new("test");
        look(&mut section);
        assert!(section.lines.iter().all(|line| (line.level > Level::Note) == line.remedy.is_some()), "{section:?}");
        section.lines.iter().map(|line| line.level).collect()
    }

    #[test]
    fn an_inbox_belongs_on_a_disk_of_this_machine() {
        for (magic, level) in [
            (0x6969, Level::Error),
            (0xff53_4d42, Level::Error),
            (0xfe53_4d42, Level::Error),
            (0x0102_1997, Level::Error),
            (0x0102_1994, Level::Warning),
            (0x794c_7630, Level::Warning),
            (0xef53, Level::Ok),
            (0x5846_5342, Level::Ok),
            (0x1234_5678, Level::Note),
        ] {
            let found = levels(|section| judge(section, "inbox", Path::new("/data"), kind_of(magic)));
            assert_eq!(found, [level], "{magic:x}");
        }
    }

    #[test]
    fn limits_are_compared_with_what_is_wanted() {
        assert_eq!(levels(|section| descriptors(section, Some(4096 + 256), 4096)), [Level::Ok]);
        assert_eq!(levels(|section| descriptors(section, Some(4096 + 255), 4096)), [Level::Warning]);
        assert_eq!(levels(|section| descriptors(section, None, 4096)), [Level::Ok]);
        assert_eq!(levels(|section| memory(section, ("", Some(384 << 20)), 256 << 20)), [Level::Ok]);
        assert_eq!(levels(|section| memory(section, ("", Some(383 << 20)), 256 << 20)), [Level::Warning]);
        assert_eq!(levels(|section| memory(section, ("", None), 256 << 20)), [Level::Note]);
        assert!(least_memory().1.is_some_and(|limit| limit > 1 << 20), "this machine has some");
    }

    #[test]
    fn a_full_disk_passes_and_a_missing_folder_is_that_of_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("not/there/yet");
        let first = |least| levels(|section| inbox_disk(section, "inbox", &missing, least))[0];
        assert_eq!(first(1), Level::Ok);
        assert_eq!(first(u64::MAX), Level::Error);
        let mut section = Section::new("test");
        let (place, free) = room(&mut section, "inbox", &missing).unwrap();
        assert!(place == folder.path() && free > 0);
        assert_eq!(first(free.saturating_sub(1 << 20)), Level::Warning);
    }
}
