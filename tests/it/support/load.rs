//! Callers that post events for as long as somebody answers, and remember every promise that they were given.

use super::Door;
use double::{
    Connection,
    events::{Plan, event},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::task::JoinSet;

/// What became of the events of one or more runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Ids of events that were answered 200.
    pub(crate) acknowledged: BTreeSet<String>,
    /// Events that were written out whole and not answered, by id; the sender's to post again.
    pub(crate) unanswered: BTreeMap<String, Vec<u8>>,
    /// Events that were answered 503.
    pub(crate) refused: BTreeSet<String>,
}

impl Promises {
    pub(crate) fn get(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    pub(crate) fn count(&self) -> usize {
        self.get().acknowledged.len()
    }

    /// Ids that were acknowledged and are not among these.
    pub(crate) fn lost(&self, delivered: &[String]) -> Vec<String> {
        let delivered: BTreeSet<&String> = delivered.iter().collect();
        self.get().acknowledged.iter().filter(|id| !delivered.contains(id)).cloned().collect()
    }

    /// Posts one event on a connection of its own and notes the answer; whether it was taken.
    pub(crate) async fn post(&self, door: &Door, id: &str) -> bool {
        let answer = door.post(event(&Plan::new(id, Connection::numbered(0, 3)))).await;
        if answer.status == 200 {
            self.get().acknowledged.insert(id.to_owned());
            return true;
        }
        assert!(answer.is_our_trouble(), "{answer:?}");
        self.get().refused.insert(id.to_owned());
        false
    }

    /// Starts senders, each with one kept socket and one bank connection; ids are `run-sender-number`. They end when
    /// they cannot connect any more.
    pub(crate) fn senders(&self, count: u64, run: usize, door: &Door) -> JoinSet<()> {
        (0..count).map(|sender| send(self.clone(), door.clone(), run, sender)).collect()
    }
}

async fn send(promises: Promises, door: Door, run: usize, sender: u64) {
    let mut number = 0;
    while let Ok(mut client) = door.try_connect().await {
        loop {
            let id = format!("{run}-{sender}-{number}");
            number += 1;
            let plan = Plan::new(id.as_str(), Connection::numbered(sender, 3));
            let body = event(&Plan { truncated: number % 10 == 0, ..plan });
            match client.post(&body).await {
                Ok(answer) if answer.status == 200 => {
                    promises.get().acknowledged.insert(id);
                    if answer.header("connection") == Some("close") {
                        break;
                    }
                }
                Ok(answer) => {
                    assert!(answer.is_our_trouble(), "{answer:?}");
                    promises.get().refused.insert(id);
                }
                Err(_broken) => {
                    promises.get().unanswered.insert(id, body);
                    break;
                }
            }
        }
    }
}
