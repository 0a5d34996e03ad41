//! One server and everything that is known of it, whoever asks: how many calls are under way, and whether it is left alone.
//!
//! In: a call that somebody wants to make, and later how it ended. Out: the moment at which it may be made, or
//! [`Error::Paused`]. There is one place that decides whether a call may go ([`Lane::turn`], then [`Turn::call`]), and one
//! place that takes in how it ended ([`Call::ended`]). A lane outlives the client that made it: after a reload the next client
//! goes on with it.

mod breaker;
mod gate;

use crate::{
    error::{Error, Peer},
    figures::Figures,
};
use breaker::{Admission, Breaker, Health};
pub(crate) use gate::Pace;
use gate::{Gate, Inside};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// What is known of one server.
#[derive(Debug)]
pub(crate) struct Lane {
    peer: Peer,
    gate: Gate,
    breaker: Breaker,
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
        Arc::new(Self { peer, gate: Gate::default(), breaker: Breaker::new(peer, figures.breaker_open(peer)) })
    }

    /// Which server it is.
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// For how long the server is still left alone.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.breaker.pause()
    }

    /// Waits for a turn within the limits.
    ///
    /// # Errors
    /// [`Error::Paused`] at once while the server is left alone.
    ///
    /// # Cancel safety
    /// A caller that is dropped loses its place in the queue and nothing else.
    pub(crate) async fn turn(&self, limits: &Limits) -> Result<Turn<'_>, Error> {
        self.breaker.check()?;
        let inside = self.gate.enter(limits.at_once).await;
        limits.pace.turn(limits.rate).await;
        Ok(Turn { lane: self, _inside: inside })
    }
}

/// Leave to have one call under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    lane: &'a Lane,
    _inside: Inside<'a>,
}

impl Turn<'_> {
    /// The last decision before a request is sent, because the server may have failed since the turn came. Waits while
    /// another call tries whether the server is back.
    ///
    /// # Errors
    /// [`Error::Paused`].
    pub(crate) async fn call(&self) -> Result<Call<'_>, Error> {
        let admission = self.lane.breaker.admit().await?;
        Ok(Call { lane: self.lane, admission })
    }
}

/// One call under way. Dropped without [`ended`](Self::ended), it says nothing about the server.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    lane: &'a Lane,
    admission: Admission<'a>,
}

impl Call<'_> {
    /// Takes in how the call ended, and what the server asked for.
    pub(crate) fn ended<T>(self, result: &Result<T, Error>) {
        if let Err(Error::Status { status: 429 | 503, after: Some(asked), .. }) = result {
            self.lane.breaker.rest(*asked);
        }
        self.admission.report(match result {
            Err(Error::Network { .. } | Error::Status { status: 500.., .. }) => Health::Down,
            Err(Error::Answer { .. } | Error::Redirect { .. }) => Health::Unclear,
            _ => Health::Up,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::figures;

    fn limits() -> Limits {
        Limits { at_once: 2, rate: None, pace: Arc::default() }
    }

    fn status(status: u16, after: Option<Duration>) -> Result<(), Error> {
        Err(Error::Status { peer: Peer::Linxo, status, code: None, after })
    }

    async fn call(lane: &Lane, result: Result<(), Error>) {
        let turn = lane.turn(&limits()).await.unwrap();
        turn.call().await.unwrap().ended(&result);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_the_server_count_and_refusals_do_not() {
        let lane = Lane::new(Peer::Linxo, &figures());
        for refused in [400, 401, 403, 404, 429] {
            call(&lane, status(refused, None)).await;
        }
        for _ in 0..4 {
            call(&lane, status(503, None)).await;
        }
        assert_eq!(lane.pause(), None);
        call(&lane, status(500, None)).await;
        assert!(lane.pause().is_some());
        assert!(matches!(lane.turn(&limits()).await, Err(Error::Paused { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_kept_where_429_or_503_asked_for_it() {
        let asked = Some(Duration::from_secs(30));
        for (number, pause) in [(404, None), (500, None), (429, asked), (503, asked)] {
            let lane = Lane::new(Peer::Linxo, &figures());
            call(&lane, status(number, asked)).await;
            assert_eq!(lane.pause(), pause, "{number}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_after_the_turn_came_is_not_called() {
        let lane = Lane::new(Peer::Linxo, &figures());
        let turn = lane.turn(&limits()).await.unwrap();
        call(&lane, status(503, Some(Duration::from_secs(30)))).await;
        assert!(matches!(turn.call().await, Err(Error::Paused { .. })));
    }
}
