//! The accept loop: takes sockets, holds their number, and drains them at the end.
//!
//! In: a bound address and the shared [`Receiver`]. Out: one task a socket (`connection`). The loop itself never waits for
//! a caller: handshakes happen in the socket's own task.
//!
//! The drain loses as little as it can. What the kernel has already taken for us is still accepted; but what waits in a socket
//! that was handed over stays there, because that socket outlives this process, and the next one takes it. For a moment, answers
//! say `Connection: close` (HTTP/2: GOAWAY) while requests are still taken, because a caller that writes into a closing
//! socket sees a reset; then idle connections are closed, open requests are finished, and what is left at
//! `drain_timeout` is cut. The commit of a cut request goes on.

use super::{
    connection::{self, Connections},
    descriptors,
    drain::{Drain, NOTICE, Phase},
    pulse::{self, Pulse},
    reason::Reason,
    receiver::{Receiver, Sockets},
    refusals::{self, Fault, Refusals},
    slot::Slot,
};
use crate::receive::settings;
use prometheus_client::metrics::gauge::Gauge;
use std::{io, net, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Sockets that the kernel holds for us while the loop is busy.
const BACKLOG: u32 = 4096;
/// Pauses after a failed accept (no descriptors, no memory), doubling from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A listener that has its address but takes nothing yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    /// Whether the socket is somebody else's too, and outlives this process.
    is_inherited: bool,
    pulse: Pulse,
}

/// How the drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open at the end of `listener.drain_timeout`.
    pub cut: usize,
}

/// Binds the public address. Apart from serving, so that the true address is known and logged first.
///
/// # Errors
/// The system's, when the address is taken, not ours or not allowed.
pub async fn bind(config: &settings::Listener) -> io::Result<Bound> {
    let address = config.address();
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the old process's closed sockets.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Bound::new(socket.listen(BACKLOG)?, false)
}

/// Uses a socket that listens already, and that somebody else keeps open when this process has ended.
///
/// # Errors
/// The system's, when it is no socket of TCP.
pub fn inherit(socket: net::TcpListener) -> io::Result<Bound> {
    socket.set_nonblocking(true)?;
    Bound::new(TcpListener::from_std(socket)?, true)
}

impl Bound {
    fn new(listener: TcpListener, is_inherited: bool) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { listener, address, is_inherited, pulse: Pulse::default() })
    }

    /// Whether callers are accepted, for as long as this serves.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// The true address; differs from the configured one where that says port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes events until `stop` is cancelled, then drains.
    ///
    /// # Cancel safety
    /// When dropped, the address is free again and open connections are cut; commits that were begun go on.
    pub async fn serve(self, receiver: Arc<Receiver>, stop: CancellationToken) -> Drained {
        let Receiver { path, sockets: Sockets { connections: most, drain_timeout }, .. } = &*receiver;
        tracing::info!(code = "listening", address = %self.address, webhook.path = path, "listening");
        let _cut = CutWhenDropped(&receiver.drain);
        let slots = Slots {
            sockets: Arc::new(Semaphore::new(descriptors::room_for(*most).min(Semaphore::MAX_PERMITS))),
            open: receiver.open.clone(),
            tasks: TaskTracker::new(),
            connections: Arc::clone(&receiver.connections),
            drain: Arc::clone(&receiver.drain),
        };
        let ledger = receiver.write_ledger();
        self.accept_until(&slots, &stop).await;

        receiver.drain.begin();
        tracing::info!(
            code = "draining",
            sockets = slots.tasks.len(),
            "draining: no new connections, finishing open requests"
        );
        if self.is_inherited {
            drop(self.listener);
        } else if let Err(error) = take_waiting(self.listener, &slots).await {
            tracing::warn!(code = "callers_not_taken", %error, "callers that had only just connected could not be taken, and must connect again");
        }
        slots.tasks.close();
        let cut = slots.drain_within(*drain_timeout).await;
        receiver.refusals.summary();
        receiver.refusals.ledger().close();
        if let Some(ledger) = ledger
            && let Err(error) = ledger.await
        {
            tracing::error!(code = "ledger_ended_abruptly", error = %error, "keeping what was refused ended abruptly");
        }
        Drained { cut }
    }

    /// Accepts until `stop` is cancelled.
    async fn accept_until(&self, slots: &Slots, stop: &CancellationToken) {
        let refusals = slots.refusals();
        let mut summary = interval_at(Instant::now() + refusals::EVERY, refusals::EVERY);
        summary.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = interval(pulse::EVERY);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pause = PAUSE.0;
        loop {
            self.pulse.beat();
            // All branches are cancel safe: `accept` loses no socket, `tick` no tick.
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
                _ = summary.tick() => {
                    refusals.summary();
                    continue;
                }
                _ = idle.tick() => continue,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    pause = PAUSE.0;
                    slots.take(tcp, peer);
                }
                // The caller was gone before we came to it; the next one waits already.
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    refusals.count(Reason::AcceptFailed);
                    if refusals.is_first_fault(Fault::Accept) {
                        tracing::error!(
                            code = "accept_failed",
                            error = %error,
                            "cannot accept connections for now; if it says that too many files are open, raise the \
                             limit of open files or lower listener.max_connections"
                        );
                    }
                    if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                        return;
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }
}

/// Cuts what is open when the listener is dropped before its drain; after the drain nothing is open.
struct CutWhenDropped<'a>(&'a Drain);

impl Drop for CutWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.reach(Phase::Cut);
    }
}

/// Accepts what the kernel has already taken for us, and closes the listener; callers still waiting then are reset.
///
/// Asks the socket itself: tokio's listener says "nothing there" whenever a task has had its turn, and as long as the
/// runtime has not heard of the newest callers.
async fn take_waiting(listener: TcpListener, slots: &Slots) -> io::Result<()> {
    let listener = listener.into_std()?;
    // No more than the kernel holds for us: new callers without end must not put off ours.
    for taken in 1..=BACKLOG {
        match listener.accept() {
            Ok((tcp, peer)) => {
                tcp.set_nonblocking(true)?;
                slots.take(TcpStream::from_std(tcp)?, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => return Err(error),
        }
        // Those that were taken go on meanwhile.
        if taken.is_multiple_of(64) {
            yield_now().await;
        }
    }
    Ok(())
}

/// Places for sockets, and who has them.
struct Slots {
    sockets: Arc<Semaphore>,
    /// Counts open sockets.
    open: Gauge,
    /// One for each open socket.
    tasks: TaskTracker,
    connections: Arc<Connections>,
    drain: Arc<Drain>,
}

impl Slots {
    fn refusals(&self) -> &Refusals {
        &self.connections.refusals
    }

    /// Gives a socket its task, or closes it when all places are taken.
    fn take(&self, tcp: TcpStream, peer: SocketAddr) {
        // A listener on `[::]` sees IPv4 callers in IPv6 clothes.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Ok(permit) = Arc::clone(&self.sockets).try_acquire_owned() else {
            let why = "as many are open as listener.max_connections, or the limit of open files, allows";
            return self.refusals().turn_away(peer, Reason::ConnectionLimit, why);
        };
        let Some(ticket) = self.connections.entrance.enter(peer.ip()) else {
            let why = "as many handshakes are under way as listener.max_handshakes allows, or its address has its share of them";
            return self.refusals().turn_away(peer, Reason::HandshakeLimit, why);
        };
        let slot = Slot::new(self.open.clone(), permit);
        self.tasks.spawn(connection::serve(Arc::clone(&self.connections), tcp, peer, self.drain.watch(), ticket, slot));
    }

    /// Ends the open sockets one step after the other. Returns how many were cut because they did not end in time.
    async fn drain_within(&self, limit: Duration) -> usize {
        let announced = async {
            self.drain.reach(Phase::Notice);
            sleep(NOTICE.min(limit / 2)).await;
            self.drain.reach(Phase::Closing);
            std::future::pending::<()>().await;
        };
        let finished = async {
            tokio::select! {
                () = self.tasks.wait() => {}
                () = announced => {}
            }
        };
        if timeout(limit, finished).await.is_ok() {
            return 0;
        }
        let cut = self.tasks.len();
        tracing::warn!(
            code = "sockets_cut",
            sockets = cut,
            "connections were still open after listener.drain_timeout and are cut"
        );
        self.drain.reach(Phase::Cut);
        cut
    }
}

/// Whether a failed accept concerns one caller only. Linux also reports network faults of the new socket here.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::TimedOut
    )
}
