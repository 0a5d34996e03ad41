//! The accept loop: takes sockets, holds their number, and drains them at the end.
//!
//! In: a bound address and the shared [`Receiver`]. Out: one task a socket (`connection`). The loop itself never waits for
//! a caller: handshakes happen in the socket's own task.
//!
//! The drain loses as little as it can. What the kernel has already taken for us is still accepted. For a moment, answers
//! say `Connection: close` (HTTP/2: GOAWAY) while requests are still taken, because a caller that writes into a closing
//! socket sees a reset; then idle connections are closed, open requests are finished, and what is left at
//! `drain_timeout` is cut. The commit of a cut request goes on.

use super::settings as config;
use super::{
    Receiver, connection, descriptors, ledger,
    reason::Reason,
    refusals::{self, Fault, count, turn_away},
    slot::{NOTICE, Phase, Slot},
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};

/// Sockets that the kernel holds for us while the loop is busy.
const BACKLOG: u32 = 4096;
/// Pauses after a failed accept (no descriptors, no memory), doubling from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A listener that has its address but takes nothing yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
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
pub async fn bind(config: &config::Listener) -> io::Result<Bound> {
    let socket = if config.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the old process's closed sockets.
    socket.set_reuseaddr(true)?;
    socket.bind(config.address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// The true address; differs from the configured one where that says port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes events until `shutdown` resolves, then drains.
    ///
    /// # Cancel safety
    /// When dropped, the address is free again and open connections are cut; commits that were begun go on.
    pub async fn serve(self, receiver: Arc<Receiver>, shutdown: impl Future<Output = ()>) -> Drained {
        tracing::info!(address = %self.address, path = receiver.path, "listening");
        let max = descriptors::room_for(receiver.limits.connections).min(Semaphore::MAX_PERMITS);
        let slots = Slots {
            semaphore: Arc::new(Semaphore::new(max)),
            handshakes: Arc::new(Semaphore::new(receiver.limits.handshakes.min(Semaphore::MAX_PERMITS))),
            phase: watch::Sender::new(Phase::Serving),
        };
        let ledger = ledger::start(&receiver);
        self.accept_until(&receiver, &slots, shutdown).await;

        receiver.draining.store(true, Ordering::Relaxed);
        let open = || max - slots.semaphore.available_permits();
        tracing::info!(connections = open(), "draining: no new connections, finishing open requests");
        if let Err(error) = take_waiting(self.listener, &receiver, &slots).await {
            tracing::warn!(%error, "callers that had only just connected could not be taken, and must connect again");
        }

        let all_closed = async {
            // Every socket holds one permit; having all of them means that none is left. Over the range of one call
            // (4 billion) nobody configures a limit; such a drain would end at its timeout.
            let all = u32::try_from(max).unwrap_or(u32::MAX);
            drop(slots.semaphore.acquire_many(all).await);
        };
        let announced = async {
            slots.phase.send_replace(Phase::Notice);
            sleep(NOTICE.min(receiver.limits.drain_timeout / 2)).await;
            slots.phase.send_replace(Phase::Closing);
            std::future::pending::<()>().await;
        };
        let finished = async {
            tokio::select! {
                () = all_closed => {}
                () = announced => {}
            }
        };
        let cut = if timeout(receiver.limits.drain_timeout, finished).await.is_ok() {
            0
        } else {
            let cut = open();
            tracing::warn!(connections = cut, "connections were still open after listener.drain_timeout and are cut");
            slots.phase.send_replace(Phase::Cut);
            cut
        };
        receiver.refusals.summary();
        receiver.ledger.close();
        if let Some(ledger) = ledger
            && let Err(error) = ledger.await
        {
            tracing::error!(error = %error, "keeping what was refused ended abruptly");
        }
        Drained { cut }
    }

    /// Accepts until `shutdown` resolves.
    async fn accept_until(&self, receiver: &Arc<Receiver>, slots: &Slots, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut summary = interval_at(Instant::now() + refusals::EVERY, refusals::EVERY);
        summary.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pause = PAUSE.0;
        loop {
            // All branches are cancel safe: `accept` loses no socket, `tick` no tick.
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => return,
                accepted = self.listener.accept() => accepted,
                _ = summary.tick() => {
                    receiver.refusals.summary();
                    continue;
                }
            };
            match accepted {
                Ok((tcp, peer)) => {
                    pause = PAUSE.0;
                    slots.take(receiver, tcp, peer);
                }
                // The caller was gone before we came to it; the next one waits already.
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    count(&receiver.metrics, Reason::AcceptFailed);
                    if receiver.refusals.is_first_fault(Fault::Accept) {
                        tracing::error!(
                            error = %error,
                            "cannot accept connections for now; if it says that too many files are open, raise the \
                             limit of open files or lower listener.max_connections"
                        );
                    }
                    tokio::select! {
                        () = &mut shutdown => return,
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }
}

/// Accepts what the kernel has already taken for us, and closes the listener; callers still waiting then are reset.
///
/// Asks the socket itself: tokio's listener says "nothing there" whenever a task has had its turn, and as long as the
/// runtime has not heard of the newest callers.
async fn take_waiting(listener: TcpListener, receiver: &Arc<Receiver>, slots: &Slots) -> io::Result<()> {
    let listener = listener.into_std()?;
    // No more than the kernel holds for us: new callers without end must not put off ours.
    for taken in 1..=BACKLOG {
        match listener.accept() {
            Ok((tcp, peer)) => {
                tcp.set_nonblocking(true)?;
                slots.take(receiver, TcpStream::from_std(tcp)?, peer);
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

/// Places for sockets.
struct Slots {
    semaphore: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    phase: watch::Sender<Phase>,
}

impl Slots {
    /// Gives a socket its task, or closes it when all places are taken.
    fn take(&self, receiver: &Arc<Receiver>, tcp: TcpStream, peer: SocketAddr) {
        // A listener on `[::]` sees IPv4 callers in IPv6 clothes.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Ok(permit) = Arc::clone(&self.semaphore).try_acquire_owned() else {
            let why = "as many are open as listener.max_connections, or the limit of open files, allows";
            return turn_away(receiver, peer, Reason::ConnectionLimit, why);
        };
        let Ok(handshake) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            let why = "as many handshakes are under way as listener.max_handshakes allows";
            return turn_away(receiver, peer, Reason::HandshakeLimit, why);
        };
        let slot = Slot { metrics: Arc::clone(&receiver.metrics), handshake: Some(handshake), _permit: permit };
        slot.metrics.connections.inc();
        tokio::spawn(connection::serve(Arc::clone(receiver), tcp, peer, self.phase.subscribe(), slot));
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
