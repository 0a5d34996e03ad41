//! Processor time of a process, as Linux counts it.

use std::{fs, io, time::Duration};

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
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name of the program stands in brackets, and may hold anything.
        let (_, fields) = stat.rsplit_once(')').ok_or_else(|| io::Error::other("unknown form of /proc/pid/stat"))?;
        // utime, stime, cutime, cstime; Linux shows them in hundredths of a second on every machine.
        let ticks: Vec<u64> = fields.split_whitespace().skip(11).take(4).flat_map(str::parse).collect();
        let [user, system, ended_user, ended_system] = ticks.as_slice() else {
            return Err(io::Error::other("unknown form of /proc/pid/stat"));
        };
        let time = |ticks: u64| Duration::from_millis(ticks * 10);
        Ok(Self { own: time(user + system), ended: time(ended_user + ended_system) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
