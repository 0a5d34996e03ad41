//! What a connection's task has to do next, and when: the deadlines of `activity`, the notice of replaced TLS settings and
//! the farewell, on one timer.

use super::{
    activity::{Activity, Overdue},
    drain::NOTICE,
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// For the farewell of a connection that is being closed: close-notify, GOAWAY, a 408.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The caller was too slow.
    Overdue(Overdue),
    /// The caller is to be told that its TLS settings were replaced.
    Retired,
    /// The caller was told of the end, and did not take it in time; or it took it, and goes on with requests.
    FarewellOver,
}

/// The deadlines of one connection.
#[derive(Debug)]
pub(super) struct Deadlines {
    activity: Arc<Activity>,
    /// When the caller is told that its TLS settings were replaced; it is told after its first request only.
    retirement: Option<Instant>,
    farewell: Option<Instant>,
    /// From the first farewell to the end, whatever the caller does.
    longest: Duration,
    /// When that is.
    end: Option<Instant>,
    /// Moved only when it must ring earlier, or has rung: most of its rings are for deadlines that have moved on.
    alarm: Pin<Box<Sleep>>,
}

impl Deadlines {
    /// `longest` is the time for the requests that are open when the caller is told of the end.
    pub(super) fn new(activity: Arc<Activity>, longest: Duration) -> Self {
        let first = activity.deadline().map_or_else(Instant::now, |(at, _)| at);
        Self { activity, retirement: None, farewell: None, longest, end: None, alarm: Box::pin(sleep_until(first)) }
    }

    /// The TLS settings were replaced. With HTTP/1, answers announce the end for a moment: a caller that writes into a
    /// closing socket sees a reset. HTTP/2 has a frame for it.
    pub(super) fn retire(&mut self) {
        let now = Instant::now();
        self.retire_at(if self.activity.is_http2() { now } else { now + NOTICE });
    }

    /// The caller is told of the end then, or earlier.
    pub(super) fn retire_at(&mut self, at: Instant) {
        self.retirement = Some(self.retirement.map_or(at, |earlier| earlier.min(at)));
    }

    /// The caller was told of the end: from now on only that has a deadline.
    pub(super) fn say_farewell(&mut self) {
        let now = Instant::now();
        let end = *self.end.get_or_insert(now + self.longest);
        self.farewell = Some((now + FAREWELL).min(end));
    }

    /// Ready when something is due.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        loop {
            match self.next() {
                Some((at, due)) if at <= Instant::now() => return Poll::Ready(due),
                Some((at, _)) if at < self.alarm.deadline() || self.alarm.is_elapsed() => self.alarm.as_mut().reset(at),
                // A request is open. Its end is not always told to this task, so look again.
                None if self.alarm.is_elapsed() => self.alarm.as_mut().reset(Instant::now() + FAREWELL),
                _ => {}
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// What is due first.
    fn next(&mut self) -> Option<(Instant, Due)> {
        let slow = match (self.activity.deadline(), self.farewell) {
            (Some((at, why)), None) => Some((at, Due::Overdue(why))),
            (Some(_), Some(at)) => Some((at, Due::FarewellOver)),
            // A request came in before the farewell reached the caller: it is answered first, but a caller that always has
            // one open does not stay for ever.
            (None, Some(_)) => {
                self.say_farewell();
                self.end.filter(|end| *end <= Instant::now()).map(|end| (end, Due::FarewellOver))
            }
            (None, None) => None,
        };
        let is_to_be_told = self.farewell.is_none() && self.activity.has_served();
        let retired = self.retirement.filter(|_| is_to_be_told).map(|at| (at, Due::Retired));
        slow.into_iter().chain(retired).min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const HEAD: Duration = Duration::from_secs(5);
    const IDLE: Duration = Duration::from_secs(75);
    const LONGEST: Duration = Duration::from_secs(200);

    fn kept() -> (Arc<Activity>, Deadlines) {
        let activity = Arc::new(Activity::new(false, HEAD, IDLE));
        drop(activity.begin());
        (Arc::clone(&activity), Deadlines::new(activity, LONGEST))
    }

    /// What comes due, and after how long.
    async fn due(deadlines: &mut Deadlines) -> (Due, Duration) {
        let begun = Instant::now();
        let due = poll_fn(|cx| deadlines.poll(cx)).await;
        (due, begun.elapsed())
    }

    /// A timer of tokio rings up to a millisecond late.
    fn about(took: Duration, expected: Duration) -> bool {
        took >= expected && took < expected + Duration::from_millis(5)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_of_all_is_due() {
        let (activity, mut deadlines) = kept();
        activity.bytes(1);
        let (what, after) = due(&mut deadlines).await;
        assert!(what == Due::Overdue(Overdue::Head) && about(after, HEAD), "{what:?} {after:?}");
        deadlines.say_farewell();
        let (what, after) = due(&mut deadlines).await;
        assert!(what == Due::FarewellOver && about(after, FAREWELL), "{what:?} {after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn replaced_settings_are_told_once_after_their_notice() {
        let (_activity, mut deadlines) = kept();
        deadlines.retire();
        let (what, after) = due(&mut deadlines).await;
        assert!(what == Due::Retired && about(after, NOTICE), "{what:?} {after:?}");
        deadlines.say_farewell();
        assert_eq!(due(&mut deadlines).await.0, Due::FarewellOver);
    }

    /// (C2) A caller that always has a request open is ended all the same.
    #[tokio::test(start_paused = true)]
    async fn a_farewell_has_an_end() {
        let (activity, mut deadlines) = kept();
        deadlines.say_farewell();
        let begun = Instant::now();
        let _open = activity.begin();
        assert_eq!(due(&mut deadlines).await.0, Due::FarewellOver);
        let took = begun.elapsed();
        assert!(took >= LONGEST && took <= LONGEST + FAREWELL, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_without_a_request_yet_has_the_time_for_its_first() {
        let mut deadlines = Deadlines::new(Arc::new(Activity::new(true, HEAD, IDLE)), LONGEST);
        deadlines.retire();
        let (what, after) = due(&mut deadlines).await;
        assert!(what == Due::Overdue(Overdue::Silent) && about(after, HEAD), "{what:?} {after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_request_puts_everything_off_and_its_end_is_found() {
        let (activity, mut deadlines) = kept();
        let open = activity.begin();
        deadlines.say_farewell();
        // Nobody wakes the task at the end of the request.
        tokio::spawn(async move {
            tokio::time::sleep(IDLE * 2).await;
            drop(open);
        });
        let (what, after) = due(&mut deadlines).await;
        assert!(
            what == Due::FarewellOver && after >= IDLE * 2 && after <= IDLE * 2 + FAREWELL * 2,
            "{what:?} {after:?}"
        );
    }
}
