//! Changes of entries by hand, in batches.

use super::find::bounded;
use inbox::{Batch, Desk, Error, Filter};

/// Entries changed at once.
const BATCH: usize = 500;

/// What is done to entries.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// They go back in line.
    Replay,
    /// They are parked for this reason.
    Park(&'a str),
    /// They are deleted.
    Purge,
}

/// Changes matching entries batch by batch, each entry once, so that the service gets to write in between; at most `limit` of them. What
/// is returned adds the batches up; its `last` is `None` where no more match.
///
/// # Errors
/// Those of the inbox; what was changed before stays changed.
pub async fn change(desk: &dyn Desk, filter: Filter, limit: u64, change: Change<'_>) -> Result<Batch, Error> {
    let mut filter = bounded(desk, filter).await?;
    let mut sum = Batch::default();
    while sum.changed < limit {
        let wanted = BATCH.min(usize::try_from(limit - sum.changed).unwrap_or(BATCH));
        let batch = match change {
            Change::Replay => desk.replay(&filter, wanted).await?,
            Change::Park(reason) => desk.park(&filter, wanted, reason).await?,
            Change::Purge => desk.purge(&filter, wanted).await?,
        };
        sum.changed += batch.changed;
        sum.left += batch.left;
        sum.last = batch.last;
        if sum.last.is_none() {
            break;
        }
        filter.after = sum.last;
    }
    Ok(sum)
}
