//! The true program as a child of the test.

use super::{Answer, Door, LIMIT, admin, eventually};
use double::{pki::Authority, servers::Cpu};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

/// A running program; it is killed when this value is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) door: Door,
    pub(crate) admin: SocketAddr,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts it and waits until its log says where it listens.
    pub(crate) async fn start(command: Command, authority: &Authority) -> Self {
        Self::start_with(command, Stdio::null(), Stdio::piped(), authority).await
    }

    /// Starts it with something else than nothing and a pipe as its first two descriptors.
    pub(crate) async fn start_with(mut command: Command, stdin: Stdio, stdout: Stdio, authority: &Authority) -> Self {
        let mut child = command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let output: Arc<Mutex<String>> = Arc::default();
        let mut readers = vec![tokio::spawn(follow(child.stderr.take().unwrap(), Arc::clone(&output)))];
        readers.extend(child.stdout.take().map(|stdout| tokio::spawn(follow(stdout, Arc::clone(&output)))));
        let (address, admin) = eventually("the program listens", async || {
            let text = output.lock().unwrap().clone();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("ended with {status}:\n{text}");
            }
            Some((address(&text, "listening")?, address(&text, "admin listening")?))
        })
        .await;
        Self { child, door: Door::new(address, authority), admin, output, readers }
    }

    /// Everything that it wrote so far, on standard output and standard error.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// KiB of memory that it holds now.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Hundredths of a second that it has computed so far.
    pub(crate) fn ticks(&self) -> u64 {
        let used = Cpu::of(self.id()).unwrap().own;
        u64::try_from(used.as_millis() / 10).unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// Ends it as a power cut would, as far as a process can.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end; returns all that it wrote, too.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let status = timeout(LIMIT, self.child.wait()).await.expect("it ends in time").unwrap();
        for reader in &mut self.readers {
            reader.await.unwrap();
        }
        (status, self.output())
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks its admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        admin(self.admin, path, None).await
    }
}

async fn follow(stream: impl AsyncRead + Unpin, output: Arc<Mutex<String>>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        output.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
}

fn address(log: &str, message: &str) -> Option<SocketAddr> {
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        if line["message"] == message { line["address"].as_str()?.parse().ok() } else { None }
    })
}
