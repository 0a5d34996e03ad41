//! The thread that makes and clears segments, so that no caller waits for megabytes of zeros.

use super::{
    folder::{Folder, Listing},
    shared::{Shared, State},
};
use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};
use tokio::sync::oneshot;

/// What there is to do.
#[derive(Debug)]
pub(super) enum Task {
    /// Have a spare ready.
    Prepare,
    /// Clear a segment that was let go: its number, up to where it was used, and its size.
    LetGo { number: u64, used: u64, size: u64 },
    /// Say when everything before this was done.
    Tell(oneshot::Sender<()>),
}

/// Starts the thread; it ends with the last sender of its tasks. First it clears what the last process left behind.
pub(super) fn start(
    folder: Folder,
    shared: Arc<Shared>,
    listing: Listing,
) -> io::Result<(mpsc::Sender<Task>, thread::JoinHandle<()>)> {
    let (tasks, queue) = mpsc::channel();
    let thread = thread::Builder::new().name("inbox-segments".to_owned()).spawn(move || {
        for leftover in listing.leftovers {
            if let Err(error) = folder.clear(&leftover) {
                complain(&error);
            }
        }
        let (mut uncleared, mut tellers) = (Vec::new(), Vec::<oneshot::Sender<()>>::new());
        for task in queue {
            match task {
                Task::Prepare => prepare(&folder, &shared),
                Task::LetGo { number, used, size } => uncleared.push((number, used, size)),
                Task::Tell(teller) => tellers.push(teller),
            }
            uncleared.retain(|(number, used, size)| !let_go(&folder, &shared, *number, *used, *size));
            for teller in tellers.drain(..) {
                teller.send(()).ok();
            }
        }
    })?;
    Ok((tasks, thread))
}

/// Bytes that the next segment may have: a sixteenth of what is free, and what the limit leaves.
pub(super) fn affordable(folder: &Folder, shared: &Shared, state: &State) -> u64 {
    let sixteenth = folder.free() / 16;
    let left = shared.limits.most.saturating_sub(state.used());
    // Whole pages, so that no two files share one.
    state.planned.min(sixteenth).min(left) / 4096 * 4096
}

fn prepare(folder: &Folder, shared: &Shared) {
    // Counted from now on, so that the appender, which may need a file meanwhile, does not go over the limit.
    let size = shared.change(|state| {
        let size = affordable(folder, shared, state);
        let is_wanted = state.spare.is_none() && size >= shared.limits.smallest;
        is_wanted.then(|| {
            state.making += size;
            size
        })
    });
    let Some(size) = size else { return };
    match folder.make_spare(size) {
        Ok(spare) => {
            let unused = shared.change(|state| {
                state.making -= size;
                if state.spare.is_none() { state.spare.replace(spare) } else { Some(spare) }
            });
            if let Some(unused) = unused {
                folder.discard(&unused);
            }
        }
        // Whoever needs the segment makes it, and says what is wrong.
        Err(error) => {
            shared.change(|state| state.making -= size);
            tracing::debug!(code = "journal_segment_not_prepared", error = %error, "no segment could be prepared");
        }
    }
}

/// Says whether the segment is cleared; one that is not is tried again with the next task.
fn let_go(folder: &Folder, shared: &Shared, number: u64, used: u64, size: u64) -> bool {
    let keep = {
        let state = shared.state();
        state.spare.is_none() && size == state.planned
    };
    match folder.let_go(number, used, size, keep) {
        Ok(spare) => {
            let unused = shared.change(|state| {
                state.going = state.going.saturating_sub(size);
                if state.spare.is_none() {
                    state.spare = spare;
                    return None;
                }
                spare
            });
            if let Some(unused) = unused {
                folder.discard(&unused);
            }
            true
        }
        Err(error) => {
            complain(&error);
            false
        }
    }
}

fn complain(error: &io::Error) {
    tracing::error!(code = "journal_file_not_cleared", error = %error, "a used file of the journal could not be cleared; it is tried again");
}
