//! Several receivers on one store, at the same time: nothing is leased twice, nothing is lost, and each connection keeps
//! its order.

use crate::{
    events::{event, new_entry},
    stores::{AcceptFolded, Backend, LEASE, Store, every_shared_back_end, in_state, stored},
};
use inbox::{Inbox, Outcome, Seq, Stage, State};
use rstest_reuse::apply;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

const CONNECTIONS: usize = 4;
const EVENTS: usize = 25;
/// As often as this a worker looks for work that another receiver made due.
const POLL: Duration = Duration::from_millis(20);
/// All of it takes a few seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the tasks saw.
#[derive(Debug, Default)]
struct Log {
    /// Leased at this moment.
    active: BTreeSet<Seq>,
    /// Connections with a lease at this moment.
    busy: BTreeSet<String>,
    /// By connection: ids of events in the order in which they were delivered.
    delivered: BTreeMap<String, Vec<String>>,
    count: usize,
}

/// Which receiver an event came through, so that its id tells: `a-3-17` is event 17 of the sender `a` for connection 3.
fn id(sender: &str, connection: usize, number: usize) -> String {
    format!("{sender}-{connection}-{number}")
}

/// Sends the events of one sender for one connection, each after the answer to the one before, in turns through two receivers.
async fn send(receivers: [Inbox; 2], sender: &'static str, connection: usize) {
    for number in 0..EVENTS {
        let json = event(&id(sender, connection, number), &connection.to_string(), 1, false);
        let receiver = &receivers[number % receivers.len()];
        stored(receiver.intake.accept_folded(new_entry(&json)).await.unwrap());
    }
}

/// Delivers until everything is delivered. Every fifth lease is given back first.
async fn deliver(receiver: Inbox, log: Arc<Mutex<Log>>, total: usize) {
    let app = Stage::deliver("app");
    let mut taken = 0_usize;
    while log.lock().unwrap().count < total {
        let leases = receiver.queue.claim(&app, 3, LEASE).await.unwrap().leases;
        if leases.is_empty() {
            // Another receiver's work wakes nobody here: look again after a while, as the service does.
            drop(tokio::time::timeout(POLL, receiver.queue.wake(&app)).await);
        }
        for lease in leases {
            let connection = lease.entry.connection.as_str().to_owned();
            {
                let mut log = log.lock().unwrap();
                assert!(log.active.insert(lease.seq), "{} is leased twice at a time", lease.seq);
                assert!(log.busy.insert(connection.clone()), "connection {connection} is leased twice at a time");
            }
            tokio::task::yield_now().await;
            taken += 1;
            let outcome = if taken.is_multiple_of(5) { Outcome::GiveBack } else { Outcome::Done };
            {
                let mut log = log.lock().unwrap();
                log.active.remove(&lease.seq);
                log.busy.remove(&connection);
                if outcome == Outcome::Done {
                    let delivered = log.delivered.entry(connection).or_default();
                    delivered.push(lease.entry.event_id.as_str().to_owned());
                    log.count += 1;
                }
            }
            receiver.queue.settle(&[(&lease, outcome)]).await.remove(0).unwrap();
        }
    }
}

#[apply(every_shared_back_end)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn receivers_that_accept_and_deliver_at_once_keep_each_connection_in_order(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let receivers = [store.get().clone(), store.another().await];
    let log = Arc::new(Mutex::new(Log::default()));
    let senders = ["a", "b"];
    let total = CONNECTIONS * EVENTS * senders.len();
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        for sender in senders {
            tasks.spawn(send(receivers.clone(), sender, connection));
        }
    }
    for receiver in &receivers {
        for _ in 0..3 {
            tasks.spawn(deliver(receiver.clone(), Arc::clone(&log), total));
        }
    }
    tokio::time::timeout(PATIENCE, async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    })
    .await
    .unwrap();

    assert_eq!(store.list_seqs(&in_state(State::Done)).await.len(), total);
    let log = log.lock().unwrap();
    for connection in 0..CONNECTIONS {
        let delivered = &log.delivered[&connection.to_string()];
        assert_eq!(delivered.len(), EVENTS * senders.len());
        for sender in senders {
            // What one sender sent after the answer to another event comes after that event.
            let own: Vec<&String> = delivered.iter().filter(|id| id.starts_with(sender)).collect();
            let expected: Vec<String> = (0..EVENTS).map(|number| id(sender, connection, number)).collect();
            assert_eq!(own, expected.iter().collect::<Vec<_>>(), "connection {connection}, sender {sender}");
        }
    }
}

#[apply(every_shared_back_end)]
#[tokio::test]
async fn receivers_share_one_line_for_a_connection(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let other = store.another().await;
    let app = Stage::deliver("app");
    let first = stored(other.intake.accept_folded(new_entry(&event("e1", "a", 1, false))).await.unwrap());
    let second = store.accept("e2", "a").await;
    let third = stored(other.intake.accept_folded(new_entry(&event("e3", "a", 1, false))).await.unwrap());
    let mut order = Vec::new();
    for receiver in [store.get(), &other, store.get()] {
        let leases = receiver.queue.claim(&app, 10, LEASE).await.unwrap().leases;
        assert_eq!(leases.len(), 1);
        assert!(other.queue.claim(&app, 10, LEASE).await.unwrap().leases.is_empty());
        order.push(leases[0].seq);
        receiver.queue.settle(&[(&leases[0], Outcome::Done)]).await.remove(0).unwrap();
    }
    assert_eq!(order, [first, second, third]);
}
