//! A disk that is truly full: small file systems, and the true program on them.

use crate::support::{Process, Promises, Site, delivered, eventually, mount::Mount, settled};
use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
};

/// Room for the inbox, its journal and what is set aside for deletions.
const SIZE: u64 = 96 << 20;

/// What takes the rest of a disk.
struct Ballast(PathBuf);

impl Ballast {
    fn on(site: &Site) -> Self {
        Self(site.path("data/ballast"))
    }

    /// Takes every byte that is free.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(&self.0).unwrap();
        // The last piece that fits is small.
        for piece in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; piece]).and_then(|()| file.sync_data()).is_ok() {}
        }
    }

    fn drop(&self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// The disks that are tried; none where mounts are not allowed.
fn disks() -> Vec<(Site, Mount)> {
    let mut disks = Vec::new();
    for kind in ["tmpfs", "ext4"] {
        let mut site = Site::new();
        site.file_sink("file");
        let data = site.path("data");
        let mount = match kind {
            "tmpfs" => Mount::memory(&data, SIZE),
            _ => Mount::ext4(&site.path("disk.img"), &data, SIZE),
        };
        match mount {
            Ok(mount) => disks.push((site, mount)),
            Err(error) => eprintln!("LEFT OUT, no {kind} can be mounted here: {error}"),
        }
    }
    disks
}

/// Posts until nothing is taken any more. Every answer is a 200, or a 503 that says when to come back.
async fn post_until_refused(process: &Process, promises: &Promises, name: &str) {
    let (mut number, mut refused) = (0, 0);
    while refused < 20 {
        number += 1;
        if !promises.post(&process.door, &format!("{name}-{number}")).await {
            refused += 1;
        }
        assert!(number < 20_000, "it takes events on a full disk");
    }
}

/// Waits for the first event that is taken after there is room.
async fn takes_again(process: &Process, promises: &Promises, name: &str) {
    let mut number = 0;
    eventually("an event is taken", async || {
        number += 1;
        promises.post(&process.door, &format!("{name}-{number}")).await.then_some(())
    })
    .await;
}

/// (D2) A burst meets the end of the disk. Nothing is lost, a purge works on the full disk, and events are taken soon after
/// there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_in_a_burst_loses_nothing_and_can_be_purged() {
    for (site, mount) in disks() {
        let (ballast, promises) = (Ballast::on(&site), Promises::default());
        let mut process = site.spawn().await;
        for number in 0..200 {
            assert!(promises.post(&process.door, &format!("before-{number}")).await);
        }
        settled(&site.inbox()).await;
        let reserve = site.path("data/inbox.db-reserve");
        eventually("room is set aside", async || fs::metadata(&reserve).ok().filter(|meta| meta.len() == 32 << 20))
            .await;
        ballast.fill();
        post_until_refused(&process, &promises, "burst").await;
        ballast.fill();
        post_until_refused(&process, &promises, "full").await;
        assert!(process.is_alive());
        assert_eq!(process.admin("/readyz").await.status, 503, "{mount:?}");
        assert_eq!(process.admin("/livez").await.status, 200, "{mount:?}");

        let purge = site.run(&["inbox", "purge", "--state", "done", "--all", "--yes"]).await;
        let said = String::from_utf8_lossy(&purge.stderr).into_owned();
        assert!(purge.status.success(), "{mount:?}: {said}");
        ballast.drop();
        takes_again(&process, &promises, "after").await;
        eventually("everything is delivered", async || {
            promises.lost(&delivered(&site.path("file.ndjson"))).is_empty().then_some(())
        })
        .await;
        process.kill().await;
    }
}

/// (D8) The disk is full before the start: the service starts beside its inbox, refuses, and takes events soon after there is
/// room.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_before_the_start_is_waited_for() {
    for (site, mount) in disks() {
        let (ballast, promises) = (Ballast::on(&site), Promises::default());
        let process = site.spawn().await;
        for number in 0..20 {
            assert!(promises.post(&process.door, &format!("before-{number}")).await);
        }
        process.kill().await;
        ballast.fill();
        let mut process = site.spawn().await;
        // What was set aside is free now, and would take thousands of events.
        ballast.fill();
        post_until_refused(&process, &promises, "full").await;
        assert!(process.is_alive());
        assert_eq!(process.admin("/livez").await.status, 200, "{mount:?}");
        ballast.drop();
        takes_again(&process, &promises, "after").await;
        settled(&site.inbox()).await;
        assert_eq!(promises.lost(&delivered(&site.path("file.ndjson"))), [""; 0], "{mount:?}");
        process.kill().await;
    }
}

/// Where there is no inbox yet and no room for one, the service says so and ends, for its supervisor to start it again.
#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_an_inbox_the_start_says_so() {
    for (site, mount) in disks() {
        let ballast = Ballast::on(&site);
        ballast.fill();
        let start = site.run(&["serve"]).await;
        let said = String::from_utf8_lossy(&start.stderr);
        assert_eq!(start.status.code(), Some(75), "{mount:?}: {said}");
        assert!(said.contains("full") || said.contains("No space left"), "{said}");
        ballast.drop();
        let process = site.spawn().await;
        assert!(Promises::default().post(&process.door, "1").await);
        process.kill().await;
    }
}
