//! A disk that fails, fills up, is slow, or lies: the true program with a layer between it and its disk.

use crate::support::{Faults, Process, Promises, Site, delivered, eventually, rounds::times, settled};
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

/// Callers give up after some seconds; an answer that comes later is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// A service on a disk that does what it is told.
struct Machine {
    site: Site,
    file: PathBuf,
    faults: Faults,
    process: Process,
    promises: Promises,
}

impl Machine {
    async fn start(change: impl FnOnce(&mut Site)) -> Self {
        let mut site = Site::new();
        let file = site.file_sink("file");
        change(&mut site);
        let faults = Faults::of(&site).await;
        let process = site.spawn_with(|command| faults.put_under(command)).await;
        Self { site, file, faults, process, promises: Promises::default() }
    }

    /// From now on the disk does this; nothing: it is sound.
    fn disk(&self, fault: &str) {
        self.faults.set(fault);
    }

    async fn post(&self, id: &str) -> bool {
        timeout(PATIENCE, self.promises.post(&self.process.door, id)).await.expect("an answer in time")
    }

    async fn is_ready(&self) -> bool {
        self.process.admin("/readyz").await.status == 200
    }
}

fn receive_only(site: &mut Site) {
    site.set("worker.concurrency", 0);
}

/// While the disk fails nothing is acknowledged; when it is well again, events are taken again by the same process.
async fn fails_and_heals(fault: &str, change: impl FnOnce(&mut Site)) {
    let mut machine = Machine::start(change).await;
    for id in 0..10 {
        assert!(machine.post(&format!("before-{id}")).await);
    }
    assert!(machine.is_ready().await);
    machine.disk(fault);
    for id in 0..30 {
        assert!(!machine.post(&format!("during-{id}")).await, "nothing is promised on a disk that fails");
    }
    eventually("it is not ready", async || {
        machine.post("probe").await;
        (!machine.is_ready().await).then_some(())
    })
    .await;
    assert!(machine.process.is_alive());

    machine.disk("");
    timeout(PATIENCE, eventually("it is ready again", async || machine.is_ready().await.then_some(())))
        .await
        .expect("it recovers within seconds");
    for id in 0..10 {
        assert!(machine.post(&format!("after-{id}")).await);
    }
    // What was refused is sent again, as a sender may; whether it was stored then or now, it comes once.
    let refused = std::mem::take(&mut machine.promises.get().refused);
    for id in &refused {
        assert!(machine.post(id).await);
    }
    assert_eq!(refused.len(), 31);
    if machine.site.config().worker.concurrency == 0 {
        machine.process.kill().await;
        machine.site.set("worker.concurrency", 32);
        machine.process = machine.site.spawn().await;
    }
    settled(&machine.site.inbox()).await;
    let mut written = delivered(&machine.file);
    assert_eq!(machine.promises.lost(&written), [""; 0]);
    written.sort_unstable();
    written.dedup();
    assert_eq!(written.len(), 51);
    machine.process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_sync_is_our_trouble_and_passes() {
    fails_and_heals("fsync=EIO", |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_our_trouble_and_passes() {
    fails_and_heals("write=ENOSPC", |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_without_workers_recovers_as_well() {
    fails_and_heals("fsync=EIO", receive_only).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_is_answered_for_in_time() {
    let machine = Machine::start(|_| {}).await;
    machine.disk("slow=300");
    let mut senders = JoinSet::new();
    for sender in 0..8 {
        let (door, promises) = (machine.process.door.clone(), machine.promises.clone());
        senders.spawn(async move {
            for number in 0..3 {
                let id = format!("{sender}-{number}");
                timeout(PATIENCE, promises.post(&door, &id)).await.expect("an answer in time");
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    assert!(machine.promises.count() > 0);
    machine.disk("");
    settled(&machine.site.inbox()).await;
    assert_eq!(machine.promises.lost(&delivered(&machine.file)), [""; 0]);
    machine.process.kill().await;
}

/// (D17) While a sync hangs, nobody is told that an event sent now would be taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_not_ready_until_it_answers() {
    let machine = Machine::start(|_| {}).await;
    assert!(machine.is_ready().await);
    machine.disk("slow=6000");
    let (door, promises) = (machine.process.door.clone(), machine.promises.clone());
    let hanging = tokio::spawn(async move { promises.post(&door, "hangs").await });
    eventually("it is not ready", async || (!machine.is_ready().await).then_some(())).await;
    let asked = Instant::now();
    assert!(!machine.post("refused").await);
    assert!(asked.elapsed() < Duration::from_secs(1), "it is told so at once");
    machine.disk("");
    eventually("it is ready again", async || machine.is_ready().await.then_some(())).await;
    assert!(machine.post("taken").await);
    drop(hanging.await);
    machine.process.kill().await;
}

/// (D13) The inbox file alone cannot be written: events are taken and delivered, it is said and counted, and it passes. (D2) Room for
/// deletions on a full disk was set aside from the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_written_is_said_and_passes() {
    let machine = Machine::start(|_| {}).await;
    let reserve = machine.site.path("data/inbox.db-reserve");
    eventually("room is set aside", async || fs::metadata(&reserve).ok().filter(|meta| meta.len() == 32 << 20)).await;
    machine.disk("inbox.db:fsync=EIO");
    let failures = async || {
        let text = machine.process.admin("/metrics").await.body;
        let line = text.lines().find_map(|line| line.strip_prefix("linxo_webhook_inbox_checkpoint_failures_total "));
        line.map_or(0, |value| value.parse::<u64>().unwrap())
    };
    // The file is synced only once the whole log is in it, so nothing else may come meanwhile.
    for number in 0..5 {
        assert!(machine.post(&number.to_string()).await);
    }
    eventually("it is counted", async || (failures().await > 0).then_some(())).await;
    assert!(machine.process.output().contains("store_file_not_written"));
    machine.disk("");
    assert!(machine.post("last").await);
    settled(&machine.site.inbox()).await;
    assert_eq!(machine.promises.lost(&delivered(&machine.file)), [""; 0]);
    machine.process.kill().await;
}

/// (D5) The first so many syncs of a start succeed, the later ones fail: at whatever point that is, nothing is acknowledged from
/// then on until the disk is well again, and nothing that was acknowledged before is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_from_some_sync_on_breaks_no_promise() {
    let every = times("PROOF_SYNCS", 0);
    let counts = if every > 0 { (0..every).collect() } else { vec![1, 8, 20, 100] };
    for count in counts {
        let mut machine = Machine::start(|_| {}).await;
        machine.disk(&format!("fsync=EIO@{count}"));
        let mut refused = 0;
        for number in 0.. {
            if refused == 5 {
                break;
            }
            // The inbox's own file may be the first to fail: events are safe in the journal all the same.
            let is_taken = machine.post(&format!("{count}-{number}")).await;
            assert!(!is_taken || refused == 0, "{count}: taken after a refusal, while every sync fails");
            refused += usize::from(!is_taken);
        }
        assert!(machine.process.is_alive());
        machine.disk("");
        eventually("it is ready again", async || machine.is_ready().await.then_some(())).await;
        assert!(machine.post(&format!("{count}-last")).await);
        settled(&machine.site.inbox()).await;
        assert_eq!(machine.promises.lost(&delivered(&machine.file)), [""; 0], "{count}");
        machine.process.kill().await;
    }
}

/// The control of all the others: where promises are broken, they say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_is_found_out_by_these_tests() {
    let mut machine = Machine::start(receive_only).await;
    assert!(machine.post("kept").await);
    machine.disk("drop");
    assert!(machine.post("forgotten").await, "the program cannot know");
    machine.process.kill().await;
    machine.site.set("worker.concurrency", 32);
    machine.process = machine.site.spawn().await;
    settled(&machine.site.inbox()).await;
    assert_eq!(machine.promises.lost(&delivered(&machine.file)), ["forgotten"]);
    machine.process.kill().await;
}
