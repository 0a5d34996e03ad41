//! Several receivers as processes, behind a balancer, with one consumer.

use super::{
    balancer::{Addresses, Balancer},
    callers::ACCOUNTS,
    consumer::Consumer,
    history::{History, Stop},
};
use crate::support::{Door, LIMIT, Process, Site, eventually, text};
use double::{Connection, Settings, Simulator};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Whether each receiver has a journal of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Journal {
    On,
    Off,
}

/// Receivers of one inbox.
pub(super) struct Receivers {
    all: Vec<Receiver>,
    stops: Vec<Stop>,
    consumer: Consumer,
    /// The way in, through the balancer.
    pub(super) door: Door,
    _balancer: Balancer,
    _simulator: Simulator,
    /// Certificates and secrets of all are in its folder.
    _first: Site,
}

struct Receiver {
    site: Site,
    process: Option<Process>,
}

impl Receivers {
    /// Starts so many on a PostgreSQL without tables yet, for callers of so many connections.
    pub(super) async fn start(count: usize, connections: u64, url: &str, journal: Journal) -> Self {
        let mut first = Site::new();
        let folder = text(first.path("data").display());
        first.set("inbox.url", text(url)).set("inbox.folder", folder);
        first.set("listener.proxy_protocol", text("required")).set("listener.proxy_networks", "[\"127.0.0.0/8\"]");
        let bank = (0..connections).map(|number| Connection::numbered(number, ACCOUNTS)).collect();
        let simulator = first.simulator(Settings { connections: bank, ..Settings::default() }).await;
        let consumer = Consumer::start().await;
        let addresses: Vec<Addresses> = (0..count).map(|_| Addresses::new()).collect();
        let mut receivers = Vec::new();
        for (number, addresses) in addresses.iter().enumerate() {
            let mut site = first.sibling();
            site.set("listener.address", text(addresses.public))
                .set("admin.address", text(addresses.admin))
                .secret("admin.token", crate::support::secrets::ADMIN)
                .http_sink("app", &consumer.url(number));
            let folder = site.path("data");
            site.set("inbox.folder", text(folder.display()));
            if journal == Journal::On {
                site.set("inbox.journal", text(folder.join("journal").display()));
            }
            if number == 0 {
                let made = site.run(&["inbox", "init"]).await;
                assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            }
            let process = Some(site.spawn().await);
            receivers.push(Receiver { site, process });
        }
        let balancer = Balancer::start(&first, &addresses).await;
        let door = first.door(balancer.address);
        let receivers = Self {
            all: receivers,
            stops: Vec::new(),
            consumer,
            door,
            _balancer: balancer,
            _simulator: simulator,
            _first: first,
        };
        for number in 0..count {
            receivers.serves(number).await;
        }
        receivers
    }

    /// Drains one and starts it anew; it ends as it should.
    pub(super) async fn replace(&mut self, number: usize) {
        let process = self.all[number].process.take().expect("it runs");
        process.signal(Signal::TERM);
        let (status, log) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        self.begin(number).await;
    }

    /// Kills one; somebody must `begin` it again.
    pub(super) async fn kill(&mut self, number: usize) {
        self.all[number].process.take().expect("it runs").kill().await;
    }

    pub(super) async fn begin(&mut self, number: usize) {
        let process = self.all[number].site.spawn().await;
        self.all[number].process = Some(process);
    }

    /// Lets one stand still for so long.
    pub(super) async fn stand_still(&mut self, number: usize, pause: Duration) {
        let process = self.all[number].process.as_ref().expect("it runs");
        let from = Instant::now();
        process.signal(Signal::STOP);
        sleep(pause).await;
        process.signal(Signal::CONT);
        self.stops.push(Stop { receiver: number, from, until: Instant::now() });
    }

    /// Waits until one takes an event that comes through the balancer.
    pub(super) async fn serves(&self, number: usize) {
        let before = self.requests(number).await;
        eventually("the balancer sends callers to the receiver", async || {
            // Somebody must call, whether callers are at work or not. A wrong path is seen by the receiver alone.
            if let Ok(mut client) = self.door.try_connect().await {
                let asked = client.send("GET /elsewhere HTTP/1.1\r\nhost: localhost\r\n\r\n").await.is_ok();
                let _answered = asked && tokio::time::timeout(LIMIT, client.answer()).await.is_ok();
            }
            (self.requests(number).await > before).then_some(())
        })
        .await;
    }

    /// What was seen so far, besides posts.
    pub(super) fn history(&self) -> History {
        History { posts: Vec::new(), deliveries: self.consumer.seen(), stops: self.stops.clone() }
    }

    /// Requests that a receiver has answered.
    async fn requests(&self, number: usize) -> u64 {
        let process = self.all[number].process.as_ref().expect("it runs");
        let metrics = crate::support::admin(process.admin, "/metrics", Some(crate::support::secrets::ADMIN)).await.body;
        let lines = metrics.lines().filter(|line| line.starts_with("linxo_webhook_requests_total{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}
