//! Keeps what was refused for inspection, without ever holding up an answer.
//!
//! Linxo publishes no retry policy, so a refused request may be an event that never comes again: `inbox refused` shows who
//! sent it and how it began. In: one [`Record`] at a time, from whoever answers. Out: batches for the inbox, by a task of
//! their own ([`Queued::write`]).
//!
//! Callers decide how much is refused, so each step is bounded: a few a second for each reason, a short queue, a pause
//! between batches, a fixed number of rows in the store. What does not fit is counted and left out. Strangers never take the
//! place of callers that are known: each step has room for known callers that nobody else can use.

use super::{
    caller::Caller,
    intake::{Intake, Refused},
    reason::Reason,
};
use base::{clock, error::chain, sync::lock};
use bytes::Bytes;
use http::StatusCode;
use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// First bytes of a body that are kept, of callers that are known.
const START: usize = 512;

/// Kept in one second for one reason.
const PER_SECOND: u32 = 10;
/// Waiting for the store.
const QUEUE: usize = 256;
/// Written at once.
const BATCH: usize = 128;
/// Between two batches, so that refusals cost a sync or two a second at most.
const PAUSE: Duration = Duration::from_millis(500);
/// For one batch; a store that takes longer has other worries.
const PATIENCE: Duration = Duration::from_secs(5);

/// A refusal that is to be kept.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) reason: Reason,
    /// If it was answered.
    pub(super) status: Option<StatusCode>,
    /// Bytes of the body that came or were announced, if known.
    pub(super) size: Option<u64>,
    /// Whether the caller is known: by its certificate, a path secret or its network.
    pub(super) is_known: bool,
    /// The body; its start is kept of a known caller only.
    pub(super) body: Option<&'a Bytes>,
}

/// The way to the store.
#[derive(Debug)]
pub(super) struct Ledger {
    /// `None` once closed.
    queue: Mutex<Option<mpsc::Sender<Refused>>>,
    /// The other end, until the task takes it.
    queued: Mutex<Option<mpsc::Receiver<Refused>>>,
    /// By reason, of known callers and of others: since when, and how many.
    rates: Mutex<HashMap<(Reason, bool), (Instant, u32)>>,
}

impl Default for Ledger {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { queue: Mutex::new(Some(sender)), queued: Mutex::new(Some(receiver)), rates: Mutex::default() }
    }
}

impl Ledger {
    /// Keeps a refusal; false where there is no room for it.
    pub(super) fn keep(&self, caller: &Caller, record: &Record<'_>) -> bool {
        let is_known = record.is_known;
        let body = record.body.filter(|body| is_known && !body.is_empty());
        self.has_room_for(record.reason, is_known)
            && self.queue(Refused {
                at: clock::now(),
                sender: caller.sender.clone(),
                reason: record.reason.label(),
                status: record.status.map_or(0, |status| status.as_u16()),
                size: record.size,
                // Copied: a slice would hold the whole body in memory.
                start: body.map(|body| Bytes::copy_from_slice(body.get(..START).unwrap_or(body))),
                is_known,
            })
    }

    /// Whether another refusal for this reason is kept in this second.
    fn has_room_for(&self, reason: Reason, is_known: bool) -> bool {
        let mut rates = lock(&self.rates);
        let (since, count) = rates.entry((reason, is_known)).or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *count) = (Instant::now(), 0);
        }
        *count = count.saturating_add(1);
        *count <= PER_SECOND
    }

    /// Hands a refusal on; false when the queue is full or closed. Half of it is for known callers alone.
    fn queue(&self, refused: Refused) -> bool {
        let queue = lock(&self.queue);
        let Some(sender) = queue.as_ref() else { return false };
        (refused.is_known || sender.capacity() > QUEUE / 2) && sender.try_send(refused).is_ok()
    }

    /// Takes no more; the task ends when what is queued is written.
    pub(super) fn close(&self) {
        *lock(&self.queue) = None;
    }

    /// The other end of the queue, for the task that writes; `None` when it was taken before.
    pub(super) fn take_queued(&self) -> Option<Queued> {
        lock(&self.queued).take().map(Queued)
    }
}

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Queued(mpsc::Receiver<Refused>);

impl Queued {
    /// Writes until the ledger is closed and nothing waits any more. `unkept` is told how many were not kept, and why.
    pub(super) async fn write(mut self, intake: Intake, unkept: impl Fn(u64, &str)) {
        let mut batch = Vec::new();
        while self.0.recv_many(&mut batch, BATCH).await > 0 {
            let count = batch.len() as u64;
            match timeout(PATIENCE, intake.keep(std::mem::take(&mut batch))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => unkept(count, &chain(&error)),
                Err(_elapsed) => unkept(count, "the store took too long"),
            }
            if !self.0.is_closed() {
                sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (C9) However much is refused of strangers, what a known caller sent is kept.
    #[test]
    fn strangers_leave_room_for_known_callers() {
        let ledger = Ledger::default();
        let refused = |is_known| Refused {
            at: clock::now(),
            sender: String::new(),
            reason: "not_json",
            status: 400,
            size: None,
            start: None,
            is_known,
        };
        assert_eq!((0..1000).filter(|_| ledger.has_room_for(Reason::NotJson, false)).count(), 10);
        assert!(ledger.has_room_for(Reason::NotJson, true));
        assert_eq!((0..1000).filter(|_| ledger.queue(refused(false))).count(), QUEUE / 2);
        assert_eq!((0..1000).filter(|_| ledger.queue(refused(true))).count(), QUEUE / 2);
    }

    #[test]
    fn a_flood_for_one_reason_leaves_room_for_others() {
        let ledger = Ledger::default();
        assert_eq!((0..1000).filter(|_| ledger.has_room_for(Reason::NotFound, false)).count(), 10);
        assert!(ledger.has_room_for(Reason::NotJson, false));
    }
}
