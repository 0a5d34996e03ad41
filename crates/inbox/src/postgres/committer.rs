//! Accepted events on their way to the server: events that come while a batch is being committed are the next batch.
//!
//! There is no timer. A lone event goes at once; under load a batch has as many events as came during one commit. Two batches are
//! under way at a time, so that one is prepared while the server syncs the other. An event whose caller went away is stored all the same.

use super::{
    intake,
    shared::Accepting,
    store::{Core, Failed},
    tx,
};
use crate::{Error, Folded, Position, Receipt, fold::Record};
use base::error::chain;
use std::sync::{Arc, Weak};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Events in one transaction at most.
const BATCH: usize = 512;
/// Bytes of bodies in one transaction, where one event is not larger.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Transactions at a time.
const AT_ONCE: usize = 2;

/// Commits what comes, until nobody can send any more: the store was closed, or nobody has it any more.
pub(super) async fn run(core: Weak<Core>, mut requests: mpsc::Receiver<Accepting>) {
    let free = Arc::new(Semaphore::new(AT_ONCE));
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
        let Some(first) = requests.recv().await else { break };
        let mut bytes = first.record.entry.body.len();
        let mut batch = vec![first];
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Ok(next) = requests.try_recv()
        {
            bytes += next.record.entry.body.len();
            batch.push(next);
        }
        let Some(core) = core.upgrade() else { break };
        drop(tokio::spawn(async move {
            commit(&core, batch).await;
            drop(permit);
        }));
    }
    // Every batch is answered.
    drop(free.acquire_many(u32::try_from(AT_ONCE).unwrap_or(1)).await);
}

async fn commit(core: &Core, batch: Vec<Accepting>) {
    let (records, replies): (Vec<Record>, Vec<_>) = batch.into_iter().map(|one| (one.record, one.reply)).unzip();
    match tx::until_done(|| intake::fold(core, &records)).await {
        Ok(folded) => {
            core.note(None);
            for (reply, (position, folded)) in replies.into_iter().zip(folded) {
                answer(reply, Ok(receipt(position, folded)));
            }
        }
        Err(trouble) if trouble.is_of_the_data() && records.len() > 1 => {
            // One event is at fault; it must not take its neighbours with it.
            for (record, reply) in records.into_iter().zip(replies) {
                let alone = [record];
                let folded = tx::until_done(|| intake::fold(core, &alone)).await.map_err(Error::from);
                answer(
                    reply,
                    folded.and_then(|folded| {
                        folded.first().map(|(position, folded)| receipt(*position, *folded)).ok_or(Error::Closed)
                    }),
                );
            }
        }
        Err(trouble) => {
            let is_of_the_data = trouble.is_of_the_data();
            let error = Error::from(trouble);
            tracing::error!(code = "store_commit_failed", error = %chain(&error), "events could not be committed to PostgreSQL");
            let failed = Failed::new(&error);
            for reply in replies {
                answer(reply, Err(failed.error()));
            }
            if !is_of_the_data {
                core.note(Some(failed));
            }
        }
    }
}

fn receipt(position: Position, folded: Folded) -> Receipt {
    Receipt { position, folded: Some(folded), repeats: matches!(folded, Folded::Duplicate { .. }) }
}

/// A caller that went away needs no answer; its event is stored.
fn answer(reply: oneshot::Sender<Result<Receipt, Error>>, answer: Result<Receipt, Error>) {
    drop(reply.send(answer));
}
