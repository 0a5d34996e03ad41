//! Keeps what was refused for inspection, without ever holding up an answer.
//!
//! Linxo publishes no retry policy, so a refused request may be an event that never comes again: `inbox refused` shows who
//! sent it and how it began. In: one [`Refused`] at a time, from whoever answers. Out: batches for [`Inbox::refuse`], by a
//! task of their own.
//!
//! Callers decide how much is refused, so each step is bounded: a few a second for each reason, a short queue, a pause
//! between batches, a fixed number of rows in the store. What does not fit is counted and left out.
//!
//! [`Inbox::refuse`]: crate::inbox::Inbox::refuse

use super::{Receiver, caller::Caller, reason::Reason, refusals::Fault};
use crate::inbox::Refused;
use base::clock;
use bytes::Bytes;
use http::StatusCode;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
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

/// The way to the store.
#[derive(Debug)]
pub(super) struct Ledger {
    /// `None` once closed.
    queue: Mutex<Option<mpsc::Sender<Refused>>>,
    /// The other end, until the task takes it.
    queued: Mutex<Option<mpsc::Receiver<Refused>>>,
    /// By reason: since when, and how many.
    rates: Mutex<HashMap<Reason, (Instant, u32)>>,
}

impl Default for Ledger {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { queue: Mutex::new(Some(sender)), queued: Mutex::new(Some(receiver)), rates: Mutex::default() }
    }
}

impl Ledger {
    /// Whether another refusal for this reason is kept in this second.
    fn has_room_for(&self, reason: Reason) -> bool {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = rates.entry(reason).or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *count) = (Instant::now(), 0);
        }
        *count = count.saturating_add(1);
        *count <= PER_SECOND
    }

    /// Hands a refusal on; false when the queue is full or closed.
    fn queue(&self, refused: Refused) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().is_some_and(|sender| sender.try_send(refused).is_ok())
    }

    /// Takes no more; the task ends when what is queued is written.
    pub(super) fn close(&self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn take_queue(&self) -> Option<mpsc::Receiver<Refused>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Keeps a refusal for `inbox refused`, as far as there is room. `status`, if it was answered; `start`: the body of a caller
/// that is known.
pub(super) fn keep(
    receiver: &Receiver,
    caller: &Caller,
    reason: Reason,
    status: Option<StatusCode>,
    size: Option<u64>,
    start: Option<&Bytes>,
) {
    let is_kept = receiver.ledger.has_room_for(reason)
        && receiver.ledger.queue(Refused {
            at: clock::now(),
            sender: caller.sender.clone(),
            reason: reason.label(),
            status: status.map_or(0, |status| status.as_u16()),
            size,
            // Copied: a slice would hold the whole body in memory.
            start: start.map(|body| Bytes::copy_from_slice(body.get(..START).unwrap_or(body))),
        });
    if !is_kept {
        receiver.metrics.refused_unkept.inc();
    }
}

/// Starts the task that writes; `None` when there is one already.
pub(super) fn start(receiver: &Arc<Receiver>) -> Option<JoinHandle<()>> {
    let queue = receiver.ledger.take_queue()?;
    Some(tokio::spawn(write(Arc::clone(receiver), queue)))
}

async fn write(receiver: Arc<Receiver>, mut queue: mpsc::Receiver<Refused>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let count = batch.len() as u64;
        let problem = match timeout(PATIENCE, receiver.inbox.refuse(std::mem::take(&mut batch))).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(base::error::chain(&error)),
            Err(_elapsed) => Some("the store took too long".to_owned()),
        };
        if let Some(error) = problem {
            receiver.metrics.refused_unkept.inc_by(count);
            if receiver.refusals.is_first_fault(Fault::Unkept) {
                tracing::warn!(error, "what was refused could not be kept for `inbox refused`");
            }
        }
        if !queue.is_closed() {
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_for_one_reason_leaves_room_for_others() {
        let ledger = Ledger::default();
        assert_eq!((0..1000).filter(|_| ledger.has_room_for(Reason::NotFound)).count(), 10);
        assert!(ledger.has_room_for(Reason::NotJson));
    }
}
