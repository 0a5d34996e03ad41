//! Answers that go on: how many at once, and for how long.
//!
//! A stream ends after some minutes, so that whoever may not look any more does not; who follows it asks again. The number of streams
//! is bounded.

use super::{caller::Caller, problem::Problem};
use http::StatusCode;
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Streams at once.
const STREAMS: usize = 24;
/// Longest life of a stream.
pub(super) const AGE: Duration = Duration::from_mins(5);
/// Between two lines at most: so a reader that has gone is noticed.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(STREAMS)));

/// Leave for one more, which keeps its caller's socket for as long as it goes on.
pub(super) fn place(caller: &Caller) -> Result<OwnedSemaphorePermit, Problem> {
    let Ok(place) = Arc::clone(&PLACES).try_acquire_owned() else {
        let full = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", "too many follow already");
        return Err(Problem { retry_after: Some(30), ..full });
    };
    caller.stay();
    Ok(place)
}
