//! The same inbox again and again under load, each time ended without a warning, and what must be true after that.

use super::{Process, Promises, Site, delivered, documents, eventually, settled};
use double::{Connection, Settings};
use inbox::State;
use rustix::process::Signal;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

/// How many callers post side by side, each for a bank connection of its own.
pub(crate) const SENDERS: u64 = 6;

/// How the service comes and goes.
pub(crate) trait Ending {
    async fn begin(&mut self, site: &Site) -> Process;
    async fn end(&mut self, process: Process);
}

/// Killed; what it wrote is there, synced or not.
pub(crate) struct Kill;

impl Ending for Kill {
    async fn begin(&mut self, site: &Site) -> Process {
        site.spawn().await
    }

    async fn end(&mut self, process: Process) {
        process.kill().await;
    }
}

/// A vendor double that knows the connection of each sender.
pub(crate) fn bank() -> Settings {
    Settings {
        connections: (0..SENDERS).map(|number| Connection::numbered(number, 3)).collect(),
        ..Settings::default()
    }
}

/// How often something is done: what a variable says, else the usual.
pub(crate) fn times(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |value| value.parse().expect("a number"))
}

/// Ends the service so many times, each time at some moment of a load.
pub(crate) async fn rounds(site: &Site, promises: &Promises, ending: &mut impl Ending, rounds: usize) {
    for round in 0..rounds {
        let process = ending.begin(site).await;
        // What was not answered is sent again, as a sender may.
        let unanswered = std::mem::take(&mut promises.get().unanswered);
        let mut client = process.door.connect().await;
        for (id, body) in unanswered {
            assert_eq!(client.post(&body).await.unwrap().status, 200);
            promises.get().acknowledged.insert(id);
        }
        let moment = promises.count() + fastrand::usize(1..120);
        let mut senders = promises.senders(SENDERS, round, &process.door);
        eventually("the moment to die", async || (promises.count() >= moment).then_some(())).await;
        ending.end(process).await;
        while let Some(sender) = senders.join_next().await {
            sender.unwrap();
        }
    }
}

/// Starts the service once more and lets it finish: every event that was acknowledged is there once and in order, and was
/// delivered.
pub(crate) async fn nothing_is_lost(site: &Site, promises: &Promises, ending: &mut impl Ending, file: &Path) {
    let process = ending.begin(site).await;
    let kept = settled(&site.inbox()).await;
    assert!(kept.iter().all(|entry| entry.state == State::Done && !entry.conflict));
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.0.code(), Some(0));

    let written = delivered(file);
    assert_eq!(promises.lost(&written), [""; 0], "of {} acknowledged", promises.count());
    let ids: Vec<String> = kept.iter().map(|entry| entry.delivery_id.as_str().to_owned()).collect();
    assert_eq!(promises.lost(&ids), [""; 0], "of {} acknowledged", promises.count());
    let places: HashMap<&str, usize> = ids.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
    assert_eq!(places.len(), ids.len(), "each is there once");
    // Each sender posts one after the other; an id is `round-sender-number`.
    let mut last: HashMap<&str, (u64, u64)> = HashMap::new();
    for id in &ids {
        let parts: Vec<&str> = id.split('-').collect();
        let sent = (parts[0].parse().unwrap(), parts[2].parse().unwrap());
        assert!(last.insert(parts[1], sent).is_none_or(|before| before < sent), "{id} came too late");
    }
    // A delivery may come twice, and is then the same to the byte; each entry was delivered.
    let text = fs::read_to_string(file).unwrap();
    let mut lines: HashMap<&str, &str> = HashMap::new();
    for (id, line) in written.iter().zip(text.lines()) {
        assert_eq!(*lines.entry(id.as_str()).or_insert(line), line, "{id} came with other content");
    }
    assert_eq!(lines.len(), kept.len());
    // And each connection in order, repeats aside.
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for document in documents(file) {
        let id = document["id"].as_str().unwrap().to_owned();
        let place = places[id.as_str()];
        if seen.insert(id) {
            let before = last.insert(document["subject"].as_str().unwrap().to_owned(), place);
            assert!(before.is_none_or(|before| before < place));
        }
    }
}

/// A site with everything for rounds: its file sink's file, and the double, which goes when it is dropped.
pub(crate) async fn site() -> (Site, PathBuf, double::Simulator) {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let simulator = site.simulator(bank()).await;
    (site, file, simulator)
}
