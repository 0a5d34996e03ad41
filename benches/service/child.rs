//! A process that is measured: the service, the ceiling, or what stands at its other end.

use crate::Outcome;
use double::servers::Cpu;
use linxo_webhook::config;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Longest wait for `listening`.
const LIMIT: Duration = Duration::from_mins(1);
/// Between two looks at the log.
const LOOK: Duration = Duration::from_millis(1);

/// A running process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// What it said it listens on.
    pub(crate) address: String,
    /// From its start to that word.
    pub(crate) took: Duration,
}

impl Process {
    /// Starts the service with a configuration; its log goes to a file, as shipped.
    pub(crate) async fn service(configuration: &Path) -> Outcome<Self> {
        // What is wrong with a configuration shows here, not as a process that never listens.
        config::load(Some(configuration), [])?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_linxo-webhook"));
        command.arg("serve").arg("--config").arg(configuration);
        Self::start(command, configuration).await
    }

    /// Starts this program again in one of its roles.
    pub(crate) async fn role(role: &str, argument: &Path) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["role", role]).arg(argument);
        Self::start(command, &argument.with_extension(role)).await
    }

    async fn start(mut command: Command, beside: &Path) -> Outcome<Self> {
        let log: PathBuf = beside.with_extension(format!("{:08x}.log", fastrand::u32(..)));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let started = Instant::now();
        let child = command.spawn()?;
        let mut process = Self { child, address: String::new(), took: Duration::ZERO };
        loop {
            let said = fs::read_to_string(&log)?;
            if let Some(address) = said.lines().find_map(listening) {
                process.took = started.elapsed();
                process.address = address;
                return Ok(process);
            }
            if process.child.try_wait()?.is_some() || started.elapsed() > LIMIT {
                return Err(format!("a process did not come up; it said: {said}").into());
            }
            sleep(LOOK).await;
        }
    }

    /// Drains the service and waits for its end.
    pub(crate) async fn stop(mut self) -> Outcome<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        while self.child.try_wait()?.is_none() {
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Processor time that it has used.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        Ok(Cpu::of(self.child.id())?.own)
    }

    /// Resident memory now, in KiB.
    pub(crate) fn resident(&self) -> Outcome<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that it ever had, in KiB.
    pub(crate) fn peak(&self) -> Outcome<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("unknown form of /proc/pid/status")?;
        Ok(line.trim().trim_end_matches("kB").trim_end().parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// Runs a command of the service to its end. What it says is the error where it fails.
pub(crate) fn command(words: &[&str], configuration: &Path) -> Outcome<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linxo-webhook"));
    let output = command.args(words).arg("--config").arg(configuration).env_clear().output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}

/// The address of a `listening` line.
fn listening(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line.get("message")?.as_str()? == "listening").then(|| line.get("address")?.as_str().map(str::to_owned))?
}
