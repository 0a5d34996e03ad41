//! Ends without warning, and with one: no promise is broken.

use crate::support::{
    Endpoint, Faults, Promises, Site, delivered, entries, eventually,
    rounds::{Kill, SENDERS, bank, nothing_is_lost, rounds, site, times},
    settled,
};
use inbox::State;
use rustix::process::Signal;
use std::fs;

/// Kills of one inbox; where more are asked for, they go to several.
const KILLS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_it_loses_nothing_that_it_acknowledged() {
    let mut left = times("PROOF_KILLS", 8);
    while left > 0 {
        let (site, file, _simulator) = site().await;
        let promises = Promises::default();
        rounds(&site, &promises, &mut Kill, left.min(KILLS)).await;
        assert_eq!(promises.get().refused.len(), 0);
        nothing_is_lost(&site, &promises, &mut Kill, &file).await;
        eprintln!("{} kills, {} events acknowledged, none lost", left.min(KILLS), promises.count());
        left -= left.min(KILLS);
    }
}

/// The control: where events are acknowledged before they are in the journal, one kill loses some.
#[tokio::test(flavor = "multi_thread")]
async fn to_acknowledge_what_was_not_written_is_found_out_by_a_kill() {
    let (site, file, _simulator) = site().await;
    let faults = Faults::of(&site).await;
    faults.set("*.segment:drop");
    let promises = Promises::default();
    let process = site.spawn_with(|command| faults.put_under(command)).await;
    let mut senders = promises.senders(SENDERS, 0, &process.door);
    eventually("the moment to die", async || (promises.count() >= 50).then_some(())).await;
    process.kill().await;
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    let process = site.spawn().await;
    assert!(Promises::default().post(&process.door, "after").await);
    eventually("what came after is delivered", async || delivered(&file).contains(&"after".to_owned()).then_some(()))
        .await;
    assert!(promises.lost(&delivered(&file)).len() >= 50, "{:?}", promises.lost(&delivered(&file)));
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_answers_what_it_has_read_and_gives_leases_back() {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let silent = Endpoint::start(|_| None).await;
    let _simulator = site.simulator(bank()).await;
    site.http_sink("silent", &silent.url()).set("listener.drain_timeout", "\"3s\"");
    let process = site.spawn().await;
    let promises = Promises::default();
    let mut senders = promises.senders(SENDERS, 0, &process.door);
    eventually("deliveries are under way", async || {
        (promises.count() > 100 && silent.attempts().len() >= 6).then_some(())
    })
    .await;
    process.signal(Signal::TERM);
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    let (status, log) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let kept = entries(&site.inbox()).await;
    let ids: Vec<String> = kept.iter().map(|entry| entry.delivery_id.as_str().to_owned()).collect();
    {
        let promises = promises.get();
        assert!(promises.unanswered.is_empty(), "{:?}", promises.unanswered.keys());
        assert!(promises.refused.is_empty());
    }
    assert_eq!(promises.lost(&ids), [""; 0]);
    for entry in &kept {
        for stage in &entry.stages {
            assert_ne!(stage.state, State::Leased, "{entry:#?}");
            // What was given back does not count as an attempt.
            assert!(stage.stage.as_str() != "silent" || stage.attempts == 0, "{entry:#?}");
        }
    }
    assert!(log.contains("drained; nothing is left open"));

    // Another start works off the rest.
    silent.judge(|_| Some(200));
    let process = site.spawn().await;
    settled(&site.inbox()).await;
    let taken: Vec<String> = silent.taken().iter().map(|taken| taken.header("ce-id").to_owned()).collect();
    for delivered in [taken, delivered(&file)] {
        assert_eq!(promises.lost(&delivered), [""; 0]);
    }
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_twice_it_stops_at_once() {
    let mut site = Site::new();
    let silent = Endpoint::start(|_| None).await;
    site.http_sink("silent", &silent.url()).set("listener.drain_timeout", "\"1h\"");
    let process = site.spawn().await;
    let promises = Promises::default();
    assert!(promises.post(&process.door, "1").await);
    eventually("a delivery is under way", async || (silent.attempts().len() == 1).then_some(())).await;
    process.signal(Signal::TERM);
    eventually("it drains", async || process.output().contains("told to stop: draining").then_some(())).await;
    process.signal(Signal::INT);
    let (status, log) = process.ended().await;
    assert_eq!(status.code(), Some(70));
    assert!(log.contains("ended at once by a second signal"), "{log}");
    silent.judge(|_| Some(200));
    let process = site.spawn().await;
    settled(&site.inbox()).await;
    assert_eq!(silent.taken().len(), 1);
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_never_share_an_inbox() {
    let mut site = Site::new();
    site.http_sink("app", "http://127.0.0.1:1/");
    let first = site.spawn().await;
    let second = site.run(&["serve"]).await;
    let told = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(75), "{told}");
    assert!(told.contains("another linxo-webhook has it open"), "{told}");
    assert!(Promises::default().post(&first.door, "1").await);
    first.kill().await;
}

/// A night with an inbox file that cannot be used: what comes is taken all the same.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_damaged_inbox_events_are_accepted_and_delivered_once_it_is_repaired() {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let promises = Promises::default();
    let process = site.spawn().await;
    for id in 0..20 {
        assert!(promises.post(&process.door, &format!("before-{id}")).await);
    }
    // Whoever closes the file last moves its log into it, so nobody may still do that while the two are read.
    let beside = site.inbox();
    settled(&beside).await;
    beside.upkeep.close().await;
    drop(beside);
    process.kill().await;
    let inbox = site.path("data/inbox.db");
    let whole = fs::read(&inbox).unwrap();
    let log = fs::read(site.path("data/inbox.db-wal")).unwrap_or_default();
    // The log too: where it holds every page, SQLite does without the file.
    for (path, size) in [(inbox.clone(), whole.len()), (site.path("data/inbox.db-wal"), log.len())] {
        fs::write(path, vec![b'x'; size]).unwrap();
    }

    let process = site.spawn().await;
    assert_eq!(process.admin("/readyz").await.status, 200);
    for id in 0..20 {
        assert!(promises.post(&process.door, &format!("during-{id}")).await);
    }
    eventually("the metrics say so", async || {
        let metrics = process.admin("/metrics").await.body;
        metrics.contains("linxo_webhook_inbox_fold_stuck 1").then_some(())
    })
    .await;
    let stats = site.run(&["inbox", "stats"]).await;
    let (told, said) = (String::from_utf8_lossy(&stats.stdout), String::from_utf8_lossy(&stats.stderr));
    assert!(said.contains("nobody knows what it holds"), "{said}");
    assert!(told.lines().any(|line| line.split_whitespace().eq(["total", "-", "-", "-"])), "{told}");
    let check = site.run(&["check"]).await;
    let said = String::from_utf8_lossy(&check.stderr);
    for part in ["cannot use the store of its inbox now", "cannot be moved from the journal"] {
        assert!(check.status.success() && said.contains(part), "{said}");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.0.code(), Some(0));

    fs::write(&inbox, whole).unwrap();
    fs::write(site.path("data/inbox.db-wal"), log).unwrap();
    let process = site.spawn().await;
    let kept = settled(&site.inbox()).await;
    assert_eq!(kept.len(), 40);
    process.kill().await;
    assert_eq!(promises.lost(&delivered(&file)), [""; 0]);
}

/// Such as a copy of the file with `sqlite3` while the service starts. Nobody need be there when it ends.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_inbox_that_is_locked_at_the_start_events_are_accepted_until_it_is_free() {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let promises = Promises::default();
    let process = site.spawn().await;
    assert!(promises.post(&process.door, "before").await);
    eventually("it is delivered", async || (delivered(&file).len() == 1).then_some(())).await;
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.0.code(), Some(0));

    let other = rusqlite::Connection::open(site.path("data/inbox.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let process = site.spawn().await;
    assert_eq!(process.admin("/readyz").await.status, 200);
    for id in 0..20 {
        assert!(promises.post(&process.door, &format!("during-{id}")).await);
    }
    assert!(process.output().contains("\"code\":\"store_locked\""), "{}", process.output());
    assert_eq!(promises.lost(&delivered(&file)).len(), 20, "nothing is delivered meanwhile");
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    let (status, log) = process.ended().await;
    assert_eq!(status.code(), Some(75), "{log}");
    assert!(log.contains("store_unlocked") && log.contains("start the service again"), "{log}");

    let process = site.spawn().await;
    let kept = settled(&site.inbox()).await;
    assert_eq!(kept.len(), 21);
    process.kill().await;
    assert_eq!(promises.lost(&delivered(&file)), [""; 0]);
}
