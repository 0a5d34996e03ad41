//! Processes, as Linux shows them: their processor time, and which of a group or in a folder live.

use rustix::process::Pid;
use std::{fs, io, path::Path, time::Duration};

const UNKNOWN: &str = "unknown form of /proc/pid/stat";

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// By itself, in all its threads.
    pub own: Duration,
    /// By those of its children that have ended.
    pub ended: Duration,
}

impl Cpu {
    /// Reads it of a process of this machine.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of(process: u32) -> io::Result<Self> {
        let stat = stat(process)?;
        // utime, stime, cutime, cstime; Linux shows them in hundredths of a second on every machine.
        let ticks: Vec<u64> = stat.iter().skip(11).take(4).flat_map(|field| field.parse()).collect();
        let [user, system, ended_user, ended_system] = ticks.as_slice() else {
            return Err(io::Error::other(UNKNOWN));
        };
        let time = |ticks: u64| Duration::from_millis(ticks * 10);
        Ok(Self { own: time(user + system), ended: time(ended_user + ended_system) })
    }
}

/// Whether a process of this group has not ended yet. One that has ended and that nobody waited for does not count.
pub(super) fn group_lives(group: u32) -> bool {
    let group = group.to_string();
    all().filter_map(|process| stat(process).ok()).any(|stat| {
        let [state, _, of, ..] = stat.as_slice() else { return false };
        *of == group && !matches!(state.as_str(), "Z" | "X")
    })
}

/// The processes that work in this folder, whoever started them, and that have not ended yet.
pub(super) fn within(folder: &Path) -> Vec<Pid> {
    let here = |process: &u32| fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|cwd| cwd == folder);
    all().filter(here).filter_map(|process| Pid::from_raw(process.cast_signed())).collect()
}

fn all() -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What Linux says of a process: its state, its parent, its group and more (proc(5)).
fn stat(process: u32) -> io::Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program stands in brackets, and may hold anything.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| io::Error::other(UNKNOWN))?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_works_in_a_folder_is_found_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        assert_eq!(within(&path), []);
        let mut child = std::process::Command::new("sleep").arg("60").current_dir(&path).spawn().unwrap();
        assert_eq!(within(&path), [Pid::from_child(&child)]);
        child.kill().unwrap();
        // It has ended, and nobody waited for it yet.
        while !within(&path).is_empty() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_child_that_has_ended_counts_as_such() {
        let before = Cpu::of(std::process::id()).unwrap();
        // Shells that count for some hundredths of a second.
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done";
        assert!(std::process::Command::new("sh").args(["-c", busy]).status().unwrap().success());
        let after = Cpu::of(std::process::id()).unwrap();
        assert!(after.ended > before.ended, "{before:?} {after:?}");
        assert!(after.own >= before.own);
        assert!(Cpu::of(u32::MAX).is_err());
    }
}
