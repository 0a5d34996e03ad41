//! A way to a server that can be cut.

use super::postgres;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Between two bytes of a trickle.
const DRIP: Duration = Duration::from_millis(20);

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// It arrives.
    #[default]
    Fair,
    /// Nothing arrives, and nobody is told; as if a cable were pulled. New connections are taken, and hear nothing.
    Stalled,
    /// Every connection is reset, and new ones are too.
    Reset,
    /// One byte at a time arrives.
    Trickle,
}

/// See the head of this file. It ends with this value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    target: watch::Sender<u16>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port, and passes on to this port of this machine.
    ///
    /// # Errors
    /// The system's.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (weather, target) = (watch::Sender::new(Weather::Fair), watch::Sender::new(port));
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, weather.subscribe(), target.subscribe()));
        Ok(Self { address, weather, target, task })
    }

    /// From now on, for connections that are open as well.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// New connections go to this port of this machine, as after a failover.
    pub fn lead_to(&self, port: u16) {
        self.target.send_replace(port);
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a [`Postgres`](super::Postgres) behind it.
    #[must_use]
    pub fn postgres_url(&self) -> String {
        postgres::url_at(self.address.port())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, weather: watch::Receiver<Weather>, target: watch::Receiver<u16>) {
    // Connections end with the proxy.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (weather, port) = (weather.clone(), *target.borrow());
        connections.spawn(async move {
            drop(pass(near, port, weather).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(near: TcpStream, port: u16, weather: watch::Receiver<Weather>) -> io::Result<()> {
    if *weather.borrow() == Weather::Reset {
        return near.set_zero_linger();
    }
    let far = TcpStream::connect(("127.0.0.1", port)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    // Whichever way it ends: closed in the middle of something, the peer sees a reset.
    near.set_zero_linger()?;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let mut reset = weather.clone();
    tokio::select! {
        passed = copy(near_in, far_out, weather.clone()) => passed,
        passed = copy(far_in, near_out, weather) => passed,
        // The sender is gone with the proxy.
        reset = reset.wait_for(|weather| *weather == Weather::Reset) => reset.map(drop).or(Ok(())),
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if weather.wait_for(|weather| *weather != Weather::Stalled).await.is_err() {
            return Ok(());
        }
        let room = if *weather.borrow() == Weather::Trickle { 1 } else { buffer.len() };
        let Some(room) = buffer.get_mut(..room) else { return Ok(()) };
        let count = from.read(room).await?;
        let Some(bytes) = room.get(..count).filter(|bytes| !bytes.is_empty()) else { return to.shutdown().await };
        // What was read while the cable was pulled arrives when it is back.
        if weather.wait_for(|weather| *weather != Weather::Stalled).await.is_err() {
            return Ok(());
        }
        to.write_all(bytes).await?;
        if *weather.borrow() == Weather::Trickle {
            tokio::time::sleep(DRIP).await;
        }
    }
}
