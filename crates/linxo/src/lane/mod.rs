//! One server and everything that is known of it, whoever asks: which calls are under way, and how far it is trusted.
//!
//! In: a call that somebody wants to make for a connection, and later how it ended. Out: the moment at which it may be made,
//! or [`Error::Paused`]. What is decided here is decided by [`base::trust`]; this file adds the waiting and the log lines. A
//! lane outlives the client that made it: after a reload the next client goes on with it.
//!
//! Calls of connections that have not failed wait here for a free slot, in the order in which they came. Calls of connections
//! that failed never wait here: they are told when to come back, so that they hold nothing meanwhile.

mod pace;
#[cfg(test)]
mod tests;

use crate::{
    error::{Error, Peer},
    figures::{Figures, ServerFigures},
};
use base::{
    clock::{Timestamp, millis},
    neighbour::{self, Asked, Neighbour, Standing},
    trust::{Change, Ended, Kind, Own, Proof, Verdict, Why},
};
pub(crate) use pace::Pace;
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync,
    time::{Instant, sleep_until},
};

/// What is known of one server.
#[derive(Debug)]
pub(crate) struct Lane {
    peer: Peer,
    known: Neighbour,
    /// Held by the first of those who wait for a slot.
    first: sync::Mutex<()>,
    /// Pieces of work that are done at once: more calls than that are never of different connections.
    hands: AtomicUsize,
    figures: ServerFigures,
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
    /// A server of which nothing is known yet.
    pub(crate) fn new(peer: Peer, figures: &Figures) -> Arc<Self> {
        Arc::new(Self {
            peer,
            known: Neighbour::new(fastrand::u64(..)),
            first: sync::Mutex::new(()),
            hands: AtomicUsize::new(usize::MAX),
            figures: figures.of(peer),
        })
    }

    /// Which server it is.
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// How the server stands, and since when every call of it has failed.
    pub(crate) fn standing(&self) -> (Standing, Option<Timestamp>) {
        (self.known.standing(), self.known.failing_since())
    }

    /// How many pieces of work are done at once.
    pub(crate) fn set_hands(&self, hands: usize) {
        self.hands.store(hands.max(1), Ordering::Relaxed);
    }

    /// For how long no work need be taken up, and how much of it may be taken up else.
    pub(crate) fn room(&self) -> (Option<Duration>, usize) {
        self.show();
        self.known.room()
    }

    /// Gives up calls that hang, as far as they hold more than their share, because other work finds no room.
    pub(crate) fn make_room(&self, limits: &Limits) {
        self.known.make_room(self.slots_of_work(limits), 1);
    }

    /// Nothing waits for the server, so there is nothing that fails.
    pub(crate) fn nothing_waits(&self) {
        self.known.nothing_waits();
        self.show();
    }

    /// The work of a connection succeeded as a whole.
    pub(crate) fn succeeded(&self, who: &str) {
        self.known.succeeded(who);
    }

    /// The work of a connection was refused: whether that is believed.
    pub(crate) fn refused(&self, who: &str, kind: Kind, own: Own, proof: Proof) -> Verdict {
        self.known.refused(who, kind, own, proof)
    }

    /// Waits for a turn within the limits.
    ///
    /// # Errors
    /// [`Error::Paused`] where the call has to wait without holding anything.
    ///
    /// # Cancel safety
    /// A caller that is dropped loses its place in the queue and nothing else.
    pub(crate) async fn turn(&self, limits: &Limits, who: &str) -> Result<Turn<'_>, Error> {
        let turn = if self.known.has_failed(who) {
            match self.ask(who, self.slots_of_work(limits)) {
                Asked::Go(turn) => turn,
                Asked::Wait { after, why } => return Err(self.paused(after, why)),
                Asked::Full { look_at } => {
                    return Err(self.paused(look_at.saturating_duration_since(Instant::now()), Why::Share));
                }
            }
        } else {
            self.turn_in_line(limits, who).await?
        };
        turn.holds();
        let turn = Turn { lane: self, turn };
        limits.pace.turn(limits.rate).await;
        Ok(turn)
    }

    async fn turn_in_line(&self, limits: &Limits, who: &str) -> Result<neighbour::Turn<'_>, Error> {
        let _waiting = self.known.begin_waiting();
        let _first = self.first.lock().await;
        loop {
            // Made before the look, so that no end of a call is missed.
            let ended = self.known.call_ended();
            match self.ask(who, limits.at_once) {
                Asked::Go(turn) => return Ok(turn),
                Asked::Wait { after, why } => return Err(self.paused(after, why)),
                Asked::Full { look_at } => {
                    self.give_up_for_the_waiting(limits);
                    tokio::select! {
                        () = ended => {}
                        () = sleep_until(look_at) => {}
                    }
                }
            }
        }
    }

    fn ask(&self, who: &str, slots: usize) -> Asked<'_> {
        let asked = self.known.ask(who, slots);
        self.show();
        asked
    }

    /// The slots that work of different connections can fill.
    fn slots_of_work(&self, limits: &Limits) -> usize {
        limits.at_once.min(self.hands.load(Ordering::Relaxed))
    }

    fn give_up_for_the_waiting(&self, limits: &Limits) {
        let (under_way, waiting) = self.known.busy();
        // Where a slot is free, calls wait for something else than slots.
        if under_way >= limits.at_once {
            self.known.make_room(limits.at_once, waiting);
        }
    }

    fn log(&self, change: Change) {
        let server = self.peer.as_str();
        match change {
            Change::Down => tracing::warn!(
                code = "api_down",
                server,
                "{} failed for several connections, and for none it worked: it is left alone, and single calls try it",
                self.peer
            ),
            Change::Up => tracing::info!(code = "api_up", server, "{} answers again and is asked as before", self.peer),
            Change::Rests(asked) => tracing::warn!(
                code = "api_rests",
                server,
                pause_ms = millis(asked),
                "{} asked several connections for a rest (Retry-After) and is left alone for that long",
                self.peer
            ),
            Change::ConnectionRests(asked) => tracing::info!(
                code = "api_connection_rests",
                server,
                pause_ms = millis(asked),
                "{} asked for a rest (Retry-After) for one connection; the others go on",
                self.peer
            ),
        }
    }

    /// A call lasted so long.
    pub(crate) fn took(&self, time: Duration) {
        self.figures.seconds.observe(time.as_secs_f64());
    }

    fn show(&self) {
        self.figures.breaker_open.set(self.known.is_left_alone().into());
        let since = self.known.failing_since().map_or(0, Timestamp::as_seconds);
        // The two clocks differ by a moment each time.
        if since == 0 || since.abs_diff(self.figures.failing_since.get()) > 1 {
            self.figures.failing_since.set(since);
        }
    }

    fn paused(&self, after: Duration, why: Why) -> Error {
        Error::Paused { peer: self.peer, after, why }
    }
}

/// Leave to make one call, until it is dropped. Dropped without [`ended`](Self::ended), it says nothing about the server.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    lane: &'a Lane,
    turn: neighbour::Turn<'a>,
}

impl Turn<'_> {
    /// The call begins now. A turn makes one call.
    pub(crate) fn begins(&mut self) {
        self.turn.begins();
    }

    /// Resolves when the call is to be given up, because it hangs and others wait.
    pub(crate) async fn given_up(&self) -> Error {
        self.turn.given_up().await;
        Error::Hung { peer: self.lane.peer }
    }

    /// Takes in how the call ended, and what the server asked for.
    pub(crate) fn ended<T>(self, result: &Result<T, Error>) {
        let change = self.turn.end(ended(result));
        self.lane.show();
        if let Some(change) = change {
            self.lane.log(change);
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
