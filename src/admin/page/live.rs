//! What happens, as server-sent events: a hint to look again, without data of the events. The browser asks again by itself when a
//! stream has ended.

use crate::admin::{
    caller::Caller,
    desk::Desk,
    streams::{AGE, SILENCE, place},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use inbox::Watch;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{self, Instant},
};

/// Between two lines at least, so that a burst is one hint.
const PAUSE: Duration = Duration::from_secs(1);
/// Happenings looked up at once.
const AT_ONCE: usize = 256;

struct Stream {
    watch: Arc<dyn Watch>,
    next: u64,
    end: Instant,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn live(State(desk): State<Desk>, Extension(caller): Extension<Caller>) -> Response {
    let place = match place(&caller) {
        Ok(place) => place,
        Err(problem) => return problem.into_response(),
    };
    let watch = Arc::clone(&desk.inbox.watch);
    let next = watch.next();
    let stream = Stream { watch, next, end: Instant::now() + AGE, _place: place };
    let lines =
        stream::unfold((Some(Bytes::from_static(b"retry: 3000\n\n")), stream), |(first, mut stream)| async move {
            let line = match first {
                Some(first) => first,
                None => stream.line().await?,
            };
            Some((Ok::<_, Infallible>(line), (None, stream)))
        });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(lines)).into_response()
}

impl Stream {
    /// The next hint; `None` when the stream is old, or nothing will happen any more.
    async fn line(&mut self) -> Option<Bytes> {
        if Instant::now() >= self.end {
            return None;
        }
        match time::timeout(SILENCE, self.watch.seen(self.next, AT_ONCE)).await {
            Ok(Ok(seen)) => {
                self.next = self.watch.next().max(seen.next);
                time::sleep(PAUSE).await;
                Some(Bytes::from(format!("event: happened\ndata: {}\n\n", self.next)))
            }
            Ok(Err(_error)) => None,
            Err(_elapsed) => Some(Bytes::from_static(b": still here\n\n")),
        }
    }
}
