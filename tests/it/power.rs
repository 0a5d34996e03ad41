//! Power cuts, with the true program on a disk with a volatile cache (`proof/`). These tests need root, FUSE and loop devices, and
//! are run by `make proof`.

use crate::support::{
    Faults, Process, Promises, Site, delivered, eventually,
    mount::{Mount, make_ext4, run},
    rounds::{Ending, SENDERS, nothing_is_lost, rounds, site, times},
    settled,
};
use futures_util::FutureExt;
use std::{fs, panic::AssertUnwindSafe, path::PathBuf, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Bytes of the block device.
const DEVICE: u64 = 128 << 20;
/// Cuts of one inbox; where more are asked for, they go to several.
const CUTS: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The inbox's files are on the disk with the cache itself.
    Files,
    /// They are on an ext4, on a loop device, on an image on that disk: only what ext4 flushes is sure.
    Ext4,
}

/// The plug of the disk that an inbox is on.
struct Plug {
    kind: Kind,
    /// What is there without power.
    backing: PathBuf,
    /// Where the image is shown.
    pool: PathBuf,
    data: PathBuf,
    device: Option<String>,
    disk: Option<Child>,
    mounts: Vec<Mount>,
    faults: Option<Faults>,
}

impl Plug {
    fn of(site: &Site, kind: Kind) -> Self {
        let [backing, pool, data] = ["backing", "pool", "data"].map(|name| site.path(name));
        for folder in [&backing, &pool, &data] {
            fs::create_dir_all(folder).unwrap();
        }
        if kind == Kind::Ext4 {
            make_ext4(&backing.join("disk.img"), DEVICE).unwrap();
        }
        Self { kind, backing, pool, data, device: None, disk: None, mounts: Vec::new(), faults: None }
    }

    /// Gives it power.
    async fn put_in(&mut self) {
        let program = std::env::var_os("PROOF_DISK").expect("PROOF_DISK names the program that `proof/` builds");
        let at = if self.kind == Kind::Files { &self.data } else { &self.pool };
        let mut disk = Command::new(program)
            .arg(&self.backing)
            .arg(at)
            .arg(fastrand::u64(..).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(disk.stdout.take().unwrap()).lines();
        assert_eq!(said.next_line().await.unwrap().as_deref(), Some("mounted"));
        self.disk = Some(disk);
        self.mounts.push(Mount::at(at));
        if self.kind == Kind::Ext4 {
            let image = self.pool.join("disk.img");
            let device = run("losetup", &[&"--find", &"--show", &image]).unwrap();
            self.device = Some(device.clone());
            // The file system has lost nothing that it flushed, or it would need more than its own log.
            run("e2fsck", &[&"-p", &device]).unwrap();
            run("mount", &[&device, &self.data]).unwrap();
            self.mounts.push(Mount::at(&self.data));
        }
    }

    /// Pulls it: who still uses the disk gets errors.
    async fn pull(&mut self) {
        let mut disk = self.disk.take().unwrap();
        drop(disk.stdin.take());
        assert!(disk.wait().await.unwrap().success());
    }

    fn clear(&mut self) {
        // The last one first.
        while let Some(mount) = self.mounts.pop() {
            drop(mount);
            if let Some(device) = self.device.take() {
                run("losetup", &[&"--detach", &device]).unwrap();
            }
        }
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Ending for Plug {
    async fn begin(&mut self, site: &Site) -> Process {
        if self.disk.is_none() {
            self.put_in().await;
        }
        match &self.faults {
            Some(faults) => site.spawn_with(|command| faults.put_under(command)).await,
            None => site.spawn().await,
        }
    }

    async fn end(&mut self, process: Process) {
        self.pull().await;
        process.kill().await;
        self.clear();
    }
}

async fn nothing_is_lost_by_cuts(kind: Kind) {
    let mut left = times("PROOF_CUTS", 10);
    while left > 0 {
        let (site, file, _simulator) = site().await;
        let mut plug = Plug::of(&site, kind);
        let promises = Promises::default();
        rounds(&site, &promises, &mut plug, left.min(CUTS)).await;
        nothing_is_lost(&site, &promises, &mut plug, &file).await;
        eprintln!("{kind:?}: {} cuts, {} events acknowledged, none lost", left.min(CUTS), promises.count());
        left -= left.min(CUTS);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, FUSE and the disk of proof/: make proof"]
async fn power_cuts_under_the_files_lose_nothing() {
    nothing_is_lost_by_cuts(Kind::Files).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, FUSE, loop devices and the disk of proof/: make proof"]
async fn power_cuts_under_ext4_lose_nothing() {
    nothing_is_lost_by_cuts(Kind::Ext4).await;
}

/// One cut with a fault of the disk. Whether it is found out: something that was acknowledged is missing, or nothing goes on.
async fn is_found_out(kind: Kind, fault: &str) -> bool {
    let (mut site, file, _simulator) = site().await;
    // Nothing is delivered before the cut.
    site.set("worker.concurrency", 0);
    let mut plug = Plug::of(&site, kind);
    let faults = Faults::of(&site).await;
    let promises = Promises::default();
    // The inbox is made on a sound disk.
    let process = plug.begin(&site).await;
    assert!(promises.post(&process.door, "sound").await);
    process.kill().await;
    faults.set(fault);
    plug.faults = Some(faults);
    let process = plug.begin(&site).await;
    let mut senders = promises.senders(SENDERS, 0, &process.door);
    eventually("the moment of the cut", async || (promises.count() >= 100).then_some(())).await;
    plug.end(process).await;
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    site.set("worker.concurrency", 32);
    plug.faults = None;
    let after = AssertUnwindSafe(async {
        let process = plug.begin(&site).await;
        let after = Promises::default();
        assert!(after.post(&process.door, "after").await);
        eventually("what came after is delivered", async || after.lost(&delivered(&file)).is_empty().then_some(()))
            .await;
        settled(&site.inbox()).await;
        process.kill().await;
    });
    let is_well = after.catch_unwind().await.is_ok();
    let lost = promises.lost(&delivered(&file)).len();
    let end = if is_well { format!("{lost} of {} lost", promises.count()) } else { "held up".to_owned() };
    eprintln!("{kind:?}: {fault:?}, one cut: {end}");
    !is_well || lost > 0
}

/// The control of the cuts.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, FUSE, loop devices and the disk of proof/: make proof"]
async fn where_syncs_are_swallowed_a_cut_finds_it_out() {
    for kind in [Kind::Files, Kind::Ext4] {
        assert!(!is_found_out(kind, "").await, "{kind:?}: what was synced is there");
        for _ in 0..times("PROOF_CONTROLS", 2) {
            assert!(is_found_out(kind, "fsync=none").await, "{kind:?}: nothing was lost without syncs");
        }
    }
}
