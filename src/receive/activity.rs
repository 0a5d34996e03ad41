//! What a connection is doing, and until when it may: the clock behind every "no caller holds a socket" promise.
//!
//! Hyper has one timeout for the head of a request, and it runs while a kept connection is idle too, so a short limit on
//! heads and a long one on idleness cannot both be had; for HTTP/2 it has none. Hence this: the socket notes bytes, the
//! service notes requests, and the connection's task asks [`Activity::deadline`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Shared by the socket, the service and the task of one connection.
///
/// Plain relaxed atomics: with HTTP/1 all three run in one task, and with HTTP/2 a deadline that is read a moment too
/// early is read again before anything is closed.
#[derive(Debug)]
pub(super) struct Activity {
    /// End of the handshake.
    born: Instant,
    is_http2: bool,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// Requests that are being answered.
    open: AtomicU32,
    /// Whether there was a request at all.
    served: AtomicBool,
    /// When the first byte of a head came, in ms since `born`, plus 1; 0: none has.
    head: AtomicU64,
    /// When the last request ended, in ms since `born`.
    quiet: AtomicU64,
    /// Bytes that came since the head of the last request.
    received: AtomicU64,
}

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No byte of a first request.
    Silent,
    /// A head was begun and not finished.
    Head,
    /// Kept alive without a request.
    Idle,
}

impl Activity {
    pub(super) fn new(is_http2: bool, header_timeout: Duration, idle_timeout: Duration) -> Self {
        Self {
            born: Instant::now(),
            is_http2,
            header_timeout,
            idle_timeout,
            open: AtomicU32::new(0),
            served: AtomicBool::new(false),
            head: AtomicU64::new(0),
            quiet: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// Notes that bytes came. Between two requests they are a head; in HTTP/2 they may be anything, so only idleness counts
    /// there.
    pub(super) fn bytes(&self, count: usize) {
        self.received.fetch_add(count as u64, Relaxed);
        if !self.is_http2 && self.open.load(Relaxed) == 0 && self.head.load(Relaxed) == 0 {
            self.head.store(self.age() + 1, Relaxed);
        }
    }

    /// Notes a request; dropping the guard notes its end.
    pub(super) fn begin(self: &Arc<Self>) -> OpenRequest {
        self.open.fetch_add(1, Relaxed);
        self.served.store(true, Relaxed);
        self.head.store(0, Relaxed);
        self.received.store(0, Relaxed);
        OpenRequest(Arc::clone(self))
    }

    /// Bytes that came since the head of the last request.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Whether there was a request yet.
    pub(super) fn has_served(&self) -> bool {
        self.served.load(Relaxed)
    }

    /// When the connection must be ended if nothing happens; `None` while a request is open, which has deadlines of its own.
    pub(super) fn deadline(&self) -> Option<(Instant, Overdue)> {
        if self.open.load(Relaxed) > 0 {
            return None;
        }
        let head = self.head.load(Relaxed);
        Some(if !self.has_served() {
            (self.born + self.header_timeout, if head > 0 { Overdue::Head } else { Overdue::Silent })
        } else if head > 0 {
            (self.at(head - 1) + self.header_timeout, Overdue::Head)
        } else {
            (self.at(self.quiet.load(Relaxed)) + self.idle_timeout, Overdue::Idle)
        })
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn at(&self, age: u64) -> Instant {
        self.born + Duration::from_millis(age)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct OpenRequest(Arc<Activity>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.quiet.store(self.0.age(), Relaxed);
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(5);
    const IDLE: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn the_first_request_is_due_from_the_handshake_on() {
        let activity = Arc::new(Activity::new(false, HEAD, IDLE));
        let born = Instant::now();
        assert_eq!(activity.deadline(), Some((born + HEAD, Overdue::Silent)));
        tokio::time::advance(Duration::from_secs(3)).await;
        activity.bytes(1);
        assert_eq!(activity.deadline(), Some((born + HEAD, Overdue::Head)));
    }

    #[tokio::test(start_paused = true)]
    async fn idleness_counts_from_the_end_of_a_request_and_a_head_from_its_first_byte() {
        let activity = Arc::new(Activity::new(false, HEAD, IDLE));
        let open = activity.begin();
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(activity.deadline(), None);
        drop(open);
        assert_eq!(activity.deadline(), Some((Instant::now() + IDLE, Overdue::Idle)));
        tokio::time::advance(Duration::from_secs(40)).await;
        activity.bytes(1);
        let first_byte = Instant::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        activity.bytes(1);
        assert_eq!(activity.deadline(), Some((first_byte + HEAD, Overdue::Head)));
        drop(activity.begin());
        assert_eq!(activity.deadline(), Some((Instant::now() + IDLE, Overdue::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_do_not_keep_an_http2_connection() {
        let activity = Arc::new(Activity::new(true, HEAD, IDLE));
        drop(activity.begin());
        let end = Instant::now();
        tokio::time::advance(Duration::from_secs(40)).await;
        activity.bytes(1);
        assert_eq!(activity.deadline(), Some((end + IDLE, Overdue::Idle)));
    }
}
