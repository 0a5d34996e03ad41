//! One server and everything that is known of it, whoever asks: which calls are under way, and how far it is trusted.
//!
//! In: a call that somebody wants to make for a connection, and later how it ended. Out: the moment at which it may be made,
//! or [`Error::Paused`]. What is decided here is decided by [`base::trust`]; this file adds the waiting, the clock and the log
//! lines. A lane outlives the client that made it: after a reload the next client goes on with it.
//!
//! Calls of connections that have not failed wait here for a free slot, in the order in which they came. Calls of connections
//! that failed never wait here: they are told when to come back, so that they hold nothing meanwhile.

mod pace;
#[cfg(test)]
mod tests;

use crate::{
    error::{Error, Peer},
    figures::Figures,
};
use base::sync::lock;
use base::trust::{Answer, CallId, Change, Ended, Kind, Leave, Moment, Own, Proof, Room, State, Trust, Verdict};
pub(crate) use pace::Pace;
use prometheus_client::metrics::gauge::Gauge;
use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{self, Notify},
    time::{Instant, sleep_until},
};

/// What is known of one server.
#[derive(Debug)]
pub(crate) struct Lane {
    peer: Peer,
    start: Instant,
    known: Mutex<Known>,
    /// Held by the first of those who wait for a slot.
    first: sync::Mutex<()>,
    /// A call has ended.
    ended: Notify,
    /// Pieces of work that are done at once: more calls than that are never of different connections.
    hands: AtomicUsize,
    open: Gauge,
}

#[derive(Debug)]
struct Known {
    trust: Trust,
    /// Tells calls under way that they are given up.
    given_up: HashMap<CallId, Arc<Notify>>,
}

/// How much is asked of a server.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Calls under way at once.
    pub(crate) at_once: usize,
    /// Calls a second; `None`: no limit.
    pub(crate) rate: Option<NonZeroU32>,
    /// Shared by the servers whose calls the rate counts together.
    pub(crate) pace: Arc<Pace>,
}

impl Lane {
    /// A server of which nothing is known yet. Its figure is 1 while it is left alone, else 0.
    pub(crate) fn new(peer: Peer, figures: &Figures) -> Arc<Self> {
        let open = figures.breaker_open(peer);
        open.set(0);
        let known = Known { trust: Trust::new(fastrand::u64(..)), given_up: HashMap::new() };
        Arc::new(Self {
            peer,
            start: Instant::now(),
            known: Mutex::new(known),
            first: sync::Mutex::new(()),
            ended: Notify::new(),
            hands: AtomicUsize::new(usize::MAX),
            open,
        })
    }

    /// Which server it is.
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// How many pieces of work are done at once.
    pub(crate) fn set_hands(&self, hands: usize) {
        self.hands.store(hands.max(1), Ordering::Relaxed);
    }

    /// For how long no work need be taken up, and how much of it may be taken up else.
    pub(crate) fn room(&self) -> (Option<Duration>, usize) {
        let now = self.now();
        let known = self.known();
        self.show(&known.trust, now);
        match known.trust.room(now) {
            Room::Until(until) => (Some(until.since(now)), 0),
            Room::AtMost(most) => (None, most),
        }
    }

    /// Gives up calls that hang, as far as they hold more than their share, because other work finds no room.
    pub(crate) fn make_room(&self, limits: &Limits) {
        let slots = self.slots_of_work(limits);
        self.give_up(&mut self.known(), slots, 1);
    }

    /// The work of a connection succeeded as a whole.
    pub(crate) fn succeeded(&self, who: &str) {
        let mut known = self.known();
        let key = known.trust.key(who);
        known.trust.succeeded(key);
    }

    /// The work of a connection was refused: whether that is believed.
    pub(crate) fn refused(&self, who: &str, kind: Kind, own: Own, proof: Proof) -> Verdict {
        let now = self.now();
        let mut known = self.known();
        let key = known.trust.key(who);
        known.trust.refused(key, kind, own, proof, now)
    }

    /// Waits for a turn within the limits.
    ///
    /// # Errors
    /// [`Error::Paused`] where the call has to wait without holding anything.
    ///
    /// # Cancel safety
    /// A caller that is dropped loses its place in the queue and nothing else.
    pub(crate) async fn turn(&self, limits: &Limits, who: &str) -> Result<Turn<'_>, Error> {
        let turn = if self.has_failed(who) {
            match self.ask(who, self.slots_of_work(limits)) {
                Answer::Go(leave) => self.take(leave),
                Answer::Wait { until, why } => return Err(self.paused(until, why)),
                Answer::Full { look_at } => return Err(self.paused(look_at, base::trust::Why::Share)),
            }
        } else {
            self.turn_in_line(limits, who).await?
        };
        limits.pace.turn(limits.rate).await;
        Ok(turn)
    }

    async fn turn_in_line(&self, limits: &Limits, who: &str) -> Result<Turn<'_>, Error> {
        let _waiting = Waiting::new(self);
        let _first = self.first.lock().await;
        loop {
            // Made before the look, so that no end of a call is missed.
            let ended = self.ended.notified();
            match self.ask(who, limits.at_once) {
                Answer::Go(leave) => return Ok(self.take(leave)),
                Answer::Wait { until, why } => return Err(self.paused(until, why)),
                Answer::Full { look_at } => {
                    self.give_up_for_the_waiting(limits);
                    tokio::select! {
                        () = ended => {}
                        () = sleep_until(self.instant(look_at)) => {}
                    }
                }
            }
        }
    }

    fn has_failed(&self, who: &str) -> bool {
        let now = self.now();
        let known = self.known();
        known.trust.has_failed(known.trust.key(who), now)
    }

    fn ask(&self, who: &str, slots: usize) -> Answer {
        let now = self.now();
        let mut known = self.known();
        let key = known.trust.key(who);
        let answer = known.trust.ask(key, slots, now);
        self.show(&known.trust, now);
        answer
    }

    fn take(&self, leave: Leave) -> Turn<'_> {
        let mut known = self.known();
        known.trust.holds(&leave);
        let given_up = Arc::new(Notify::new());
        known.given_up.insert(leave.id(), Arc::clone(&given_up));
        Turn { lane: self, leave: Some(leave), given_up }
    }

    /// The slots that work of different connections can fill.
    fn slots_of_work(&self, limits: &Limits) -> usize {
        limits.at_once.min(self.hands.load(Ordering::Relaxed))
    }

    fn give_up_for_the_waiting(&self, limits: &Limits) {
        let mut known = self.known();
        // Where a slot is free, calls wait for something else than slots.
        if known.trust.under_way() >= limits.at_once {
            let waiting = known.trust.waiting();
            self.give_up(&mut known, limits.at_once, waiting);
        }
    }

    fn give_up(&self, known: &mut Known, slots: usize, waits: usize) {
        for id in known.trust.overdue(slots, waits, self.now()) {
            if let Some(given_up) = known.given_up.get(&id) {
                given_up.notify_one();
            }
        }
    }

    fn end(&self, leave: Leave, ended: Ended) {
        let now = self.now();
        let mut known = self.known();
        known.given_up.remove(&leave.id());
        let change = known.trust.end(leave, ended, now);
        self.show(&known.trust, now);
        drop(known);
        self.ended.notify_one();
        if let Some(change) = change {
            self.log(change);
        }
    }

    fn log(&self, change: Change) {
        let peer = self.peer.as_str();
        match change {
            Change::Down => tracing::warn!(
                peer,
                "{} failed for several connections, and for none it worked: it is left alone, and single calls try it",
                self.peer
            ),
            Change::Up => tracing::info!(peer, "{} answers again and is asked as before", self.peer),
            Change::Rests(asked) => tracing::warn!(
                peer,
                pause_ms = base::clock::millis(asked),
                "{} asked several connections for a rest (Retry-After) and is left alone for that long",
                self.peer
            ),
            Change::ConnectionRests(asked) => tracing::info!(
                peer,
                pause_ms = base::clock::millis(asked),
                "{} asked for a rest (Retry-After) for one connection; the others go on",
                self.peer
            ),
        }
    }

    fn show(&self, trust: &Trust, now: Moment) {
        self.open.set(i64::from(matches!(trust.state(now), State::Down { .. } | State::Resting { .. })));
    }

    fn paused(&self, until: Moment, why: base::trust::Why) -> Error {
        Error::Paused { peer: self.peer, after: until.since(self.now()), why }
    }

    fn now(&self) -> Moment {
        Moment::new(self.start.elapsed())
    }

    fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.since(Moment::default())
    }

    /// Every change is one call of the model: a panic elsewhere leaves nothing half done.
    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

/// A caller that waits for a slot, until it is dropped.
struct Waiting<'a>(&'a Lane);

impl<'a> Waiting<'a> {
    fn new(lane: &'a Lane) -> Self {
        lane.known().trust.begin_waiting();
        Self(lane)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.known().trust.end_waiting();
        // The next of the queue may have been told that there is no slot because of this one.
        self.0.ended.notify_one();
    }
}

/// Leave to make one call, until it is dropped. Dropped without [`ended`](Self::ended), it says nothing about the server.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    lane: &'a Lane,
    leave: Option<Leave>,
    given_up: Arc<Notify>,
}

impl Turn<'_> {
    /// The call begins now. A turn makes one call.
    pub(crate) fn begins(&mut self) {
        if let Some(leave) = &mut self.leave {
            self.lane.known().trust.begins(leave, self.lane.now());
        }
    }

    /// Resolves when the call is to be given up, because it hangs and others wait.
    pub(crate) async fn given_up(&self) -> Error {
        self.given_up.notified().await;
        Error::Hung { peer: self.lane.peer }
    }

    /// Takes in how the call ended, and what the server asked for.
    pub(crate) fn ended<T>(mut self, result: &Result<T, Error>) {
        if let Some(leave) = self.leave.take() {
            self.lane.end(leave, ended(result));
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            self.lane.end(leave, Ended::Dropped);
        }
    }
}

/// What an answer says about the server.
fn ended<T>(result: &Result<T, Error>) -> Ended {
    match result {
        Ok(_) => Ended::Good,
        Err(Error::Status { status: 429, after, .. }) => {
            Ended::Rest { asked: after.unwrap_or_default(), failed: false }
        }
        Err(Error::Status { status: 503, after: Some(asked), .. }) => Ended::Rest { asked: *asked, failed: true },
        Err(Error::Network { .. } | Error::Hung { .. } | Error::Status { status: 500.., .. }) => Ended::Failed,
        Err(Error::Answer { .. } | Error::Empty { .. } | Error::Redirect { .. }) => Ended::Unclear,
        Err(_) => Ended::Refused,
    }
}
