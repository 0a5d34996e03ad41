//! The one connection of a sink: made when a delivery needs it, shared by all, and made anew after it broke.
//!
//! A server that cannot be reached is not called for each delivery. After a failed try the next one waits: 100 ms at first,
//! twice as long each time, up to five seconds, and of that a random part between half and all, so that many services do not
//! come back at the same moment. Deliveries that come meanwhile fail at once with what the last try said. They are rows of
//! the inbox, and come again. A connection counts as good, and the waits begin anew, once something was acknowledged over it.

use crate::sink::Failure;
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// To reach a server, TLS and credentials included; less where the whole attempt may take less.
const CONNECT: Duration = Duration::from_secs(5);
/// From the first failed try to the next.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(5);

/// A connection that can say whether it broke.
pub(crate) trait Live: Send + Sync + 'static {
    /// Whether it can be used, as far as is known without asking the server.
    fn is_alive(&self) -> bool;
}

/// The place of the connection.
pub(crate) struct Link<C> {
    state: Mutex<State<C>>,
    has_worked: AtomicBool,
    limit: Duration,
}

struct State<C> {
    live: Option<Arc<C>>,
    /// Tries since something worked.
    tries: u32,
    /// What the last try said, and until when that holds.
    failed: Option<(Failure, Instant)>,
}

impl<C: Live> Link<C> {
    /// No connection yet. `timeout` is that of a whole attempt.
    pub(crate) fn new(timeout: Duration) -> Self {
        let state = Mutex::new(State { live: None, tries: 0, failed: None });
        Self { state, has_worked: AtomicBool::new(false), limit: CONNECT.min(timeout) }
    }

    /// The connection; `connect` makes it where there is none.
    ///
    /// # Errors
    /// Why there is none.
    ///
    /// # Cancel safety
    /// When dropped while connecting, there is no connection, and the next caller connects.
    pub(crate) async fn get<F>(&self, connect: impl FnOnce() -> F) -> Result<Arc<C>, Failure>
    where
        F: Future<Output = Result<C, Failure>>,
    {
        let mut state = self.state.lock().await;
        if let Some(live) = state.live.take_if(|live| live.is_alive()) {
            state.live = Some(Arc::clone(&live));
            return Ok(live);
        }
        state.live = None;
        if self.has_worked.swap(false, Ordering::Relaxed) {
            state.tries = 0;
            state.failed = None;
        }
        if let Some((failure, until)) = &state.failed
            && Instant::now() < *until
        {
            return Err(failure.clone());
        }
        let connected = timeout(self.limit, connect()).await;
        let connected = connected.unwrap_or_else(|_late| {
            Err(Failure::transient(format!(
                "could not connect within {:?}: the server hangs, or a network drops what is sent to it",
                self.limit
            )))
        });
        // Also after a success: a server that takes connections and breaks them is not called all the time either.
        let wait = (FIRST * 2_u32.saturating_pow(state.tries.min(16))).min(LONGEST);
        let until = Instant::now() + wait.mul_f64(0.5 + fastrand::f64() / 2.0);
        state.tries = state.tries.saturating_add(1);
        match connected {
            Ok(live) => {
                let live = Arc::new(live);
                state.live = Some(Arc::clone(&live));
                let broke = Failure::transient("the connection broke before anything was acknowledged over it");
                state.failed = Some((broke, until));
                Ok(live)
            }
            Err(failure) => {
                state.failed = Some((failure.clone(), until));
                Err(failure)
            }
        }
    }

    /// Something was acknowledged over the connection.
    pub(crate) fn worked(&self) {
        self.has_worked.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    struct Toy(AtomicBool);

    impl Live for Toy {
        fn is_alive(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// Connects as it is told, and counts.
    struct World {
        link: Link<Toy>,
        calls: AtomicU32,
    }

    impl World {
        fn new() -> Self {
            Self { link: Link::new(Duration::from_secs(10)), calls: AtomicU32::new(0) }
        }

        async fn get(&self, answer: Result<(), &str>) -> Result<Arc<Toy>, String> {
            let connect = || async {
                self.calls.fetch_add(1, Ordering::Relaxed);
                answer.map(|()| Toy(AtomicBool::new(true))).map_err(Failure::transient)
            };
            self.link.get(connect).await.map_err(|failure| failure.reason)
        }

        fn calls(&self) -> u32 {
            self.calls.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_serves_all_until_it_breaks() {
        let world = World::new();
        let first = world.get(Ok(())).await.unwrap();
        assert!(Arc::ptr_eq(&first, &world.get(Err("not called")).await.unwrap()));
        world.link.worked();
        first.0.store(false, Ordering::Relaxed);
        let second = world.get(Ok(())).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(world.calls(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_is_called_less_and_less() {
        let world = World::new();
        let begin = Instant::now();
        let mut gaps = Vec::new();
        let mut last = begin;
        while begin.elapsed() < Duration::from_secs(60) {
            let before = world.calls();
            assert_eq!(world.get(Err("refused")).await.map(drop), Err("refused".to_owned()));
            if world.calls() > before {
                gaps.push(last.elapsed());
                last = Instant::now();
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!((12..40).contains(&world.calls()), "{} calls", world.calls());
        assert!(gaps.iter().all(|gap| *gap <= LONGEST + Duration::from_millis(2)), "{gaps:?}");
        assert!(gaps.iter().skip(8).all(|gap| *gap >= LONGEST / 2), "{gaps:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_break_before_they_were_of_use_are_not_made_all_the_time() {
        let world = World::new();
        for _ in 0..1000 {
            if let Ok(live) = world.get(Ok(())).await {
                live.0.store(false, Ordering::Relaxed);
            }
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert!(world.calls() < 15, "{} calls", world.calls());
        world.link.worked();
        assert!(world.get(Ok(())).await.is_ok(), "a connection that worked is made anew at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_given_up() {
        let link = Link::<Toy>::new(Duration::from_secs(10));
        let failure = link.get(std::future::pending).await.map(drop).unwrap_err();
        assert!(failure.reason.starts_with("could not connect within 5s: the server hangs"), "{}", failure.reason);
    }
}
