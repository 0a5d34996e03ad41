//! From ended spans to exports: a bounded queue, and the task behind it.
//!
//! In: each recorded span as it ends. Out: exports of up to [`BATCH`] spans, once a second or when so many wait. Promises, held by
//! the tests beside this and by `tests/it/traces`:
//! - Nobody waits: a span that finds the queue full is dropped and counted.
//! - A collector that does not answer takes memory only up to the queue and one export, and is tried again for a while; then its
//!   export is given up and counted.
//! - At the end what waits is sent within [`LAST`], or counted as dropped.
//!
//! Why not the library's own processor of batches: it counts what it drops for itself alone, blocks a thread of its own, and
//! its end cannot be waited for without blocking another one.

use super::{
    figures::Figures,
    otlp::{Client, Error},
};
use bytes::Bytes;
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use prost::Message as _;
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

/// Spans of one export.
const BATCH: usize = 512;
/// From the first span that waits to its export.
const EVERY: Duration = Duration::from_secs(1);
/// Tries of one export.
const TRIES: u32 = 5;
/// Before the second try; doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Between two tries, whatever the collector asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// For what still waits at the end.
const LAST: Duration = Duration::from_secs(5);

/// The way into the queue.
#[derive(Debug)]
pub(super) struct Queue {
    ended: mpsc::Sender<SpanData>,
    figures: Figures,
}

/// A queue with this much room, and what comes out of it.
pub(super) fn queue(room: usize, figures: Figures) -> (Queue, mpsc::Receiver<SpanData>) {
    let (ended, waiting) = mpsc::channel(room);
    (Queue { ended, figures }, waiting)
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if self.ended.try_send(span).is_err() {
            self.figures.dropped(1);
        }
    }

    /// Nobody may wait here; [`Exporter::run`] sees to the end.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends what comes out of the queue.
pub(super) struct Exporter {
    waiting: mpsc::Receiver<SpanData>,
    client: Client,
    resource: ResourceAttributesWithSchema,
    figures: Figures,
    /// Spans of the export under way.
    in_hand: u64,
    /// Spans lost since an export last succeeded.
    lost: u64,
}

impl Exporter {
    /// `resource` is told with every export.
    pub(super) fn new(
        waiting: mpsc::Receiver<SpanData>,
        client: Client,
        resource: &Resource,
        figures: Figures,
    ) -> Self {
        Self { waiting, client, resource: resource.into(), figures, in_hand: 0, lost: 0 }
    }

    /// Runs until `end` is cancelled, and then for [`LAST`] at most.
    pub(super) async fn run(mut self, end: CancellationToken) {
        let too_late = async {
            end.cancelled().await;
            time::sleep(LAST).await;
        };
        tokio::select! {
            () = self.work(&end) => return,
            () = too_late => {}
        }
        self.figures.dropped(self.in_hand + self.waiting.len() as u64);
    }

    async fn work(&mut self, end: &CancellationToken) {
        while let Some(spans) = self.next(end).await {
            self.send(spans, end).await;
        }
    }

    /// The spans of the next export; `None` when the queue is closed and empty.
    async fn next(&mut self, end: &CancellationToken) -> Option<Vec<SpanData>> {
        let mut spans = Vec::new();
        let mut due = None;
        while spans.len() < BATCH {
            let room = BATCH - spans.len();
            let is_due = async {
                match due {
                    Some(due) => time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            // All branches are cancel safe.
            tokio::select! {
                biased;
                () = end.cancelled(), if !self.waiting.is_closed() => self.waiting.close(),
                count = self.waiting.recv_many(&mut spans, room) => {
                    if count == 0 {
                        break;
                    }
                    due.get_or_insert(Instant::now() + EVERY);
                }
                () = is_due => break,
            }
        }
        (!spans.is_empty()).then_some(spans)
    }

    /// Sends spans, again and again while there is hope.
    async fn send(&mut self, spans: Vec<SpanData>, end: &CancellationToken) {
        let count = spans.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let bytes = Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        self.in_hand = count;
        let result = self.tried(&bytes, end).await;
        self.in_hand = 0;
        match result {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                self.figures.rejected(rejected);
                self.figures.exported(count - rejected);
                let lost = std::mem::take(&mut self.lost);
                if lost > 0 {
                    tracing::info!(
                        code = "traces_exported_again",
                        count = lost,
                        "spans are exported again; some were lost meanwhile"
                    );
                }
            }
            Err(error) => {
                self.figures.failed(count);
                if self.lost == 0 {
                    tracing::warn!(
                        code = "traces_not_exported",
                        error = error.told(),
                        "spans cannot be exported to traces.endpoint and are lost; events are not concerned"
                    );
                }
                self.lost += count;
            }
        }
    }

    async fn tried(&self, bytes: &Bytes, end: &CancellationToken) -> Result<u64, Error> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            let error = match self.client.export(bytes.clone()).await {
                Ok(rejected) => return Ok(rejected),
                Err(error) => error,
            };
            if !error.passes() || end.is_cancelled() {
                return Err(error);
            }
            let jittered = wait / 2 + (wait / 2).mul_f64(fastrand::f64());
            let pause = error.asked().unwrap_or(jittered).min(LONGEST_WAIT);
            wait = (wait * 2).min(LONGEST_WAIT);
            tokio::select! {
                () = time::sleep(pause) => {}
                // One last try.
                () = end.cancelled() => {}
            }
        }
        self.client.export(bytes.clone()).await
    }
}
