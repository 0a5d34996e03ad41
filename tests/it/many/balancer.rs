//! `HAProxy` with the configuration that is shipped (`deploy/haproxy.cfg`), in front of receivers of this machine.

use crate::support::{Site, eventually};
use std::{
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    process::Stdio,
};
use tokio::process::{Child, Command};

/// A running balancer; killed when dropped.
pub(super) struct Balancer {
    _child: Child,
    pub(super) address: SocketAddr,
}

/// Where a receiver takes events, and where it says how it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Addresses {
    /// Of a receiver that keeps them over restarts. An address of the loopback network that nobody else has: what else runs on this
    /// machine takes ports of 127.0.0.1.
    pub(super) fn new() -> Self {
        let host = [127, fastrand::u8(1..=254), fastrand::u8(1..=254), fastrand::u8(2..=254)];
        Self { public: (host, 8443).into(), admin: (host, 9090).into() }
    }
}

impl Balancer {
    /// Starts it, and waits until it listens.
    pub(super) async fn start(site: &Site, receivers: &[Addresses]) -> Self {
        let address = TcpListener::bind((Addresses::new().public.ip(), 0)).unwrap().local_addr().unwrap();
        let path = site.path("haproxy.cfg");
        let shipped = fs::read_to_string(crate::readme::root().join("deploy/haproxy.cfg")).unwrap();
        fs::write(&path, configuration(&shipped, address, receivers)).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.stderr(fs::File::create(site.path("haproxy.log")).unwrap());
        let mut child = command.spawn().unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("this test needs haproxy, which Debian has"),
            _ => panic!("haproxy: {error}"),
        });
        eventually("the balancer listens", async || {
            let said = || fs::read_to_string(site.path("haproxy.log")).unwrap();
            assert_eq!(child.try_wait().unwrap(), None, "haproxy ended: {}", said());
            std::net::TcpStream::connect(address).ok()
        })
        .await;
        Self { _child: child, address }
    }
}

/// The shipped configuration with these receivers, and without what is for the example consumer.
fn configuration(shipped: &str, address: SocketAddr, receivers: &[Addresses]) -> String {
    let (balancer, _consumer) = shipped.split_once("# Sinks are reached").expect("the part of the consumer");
    let mut text = String::new();
    let mut servers = 0;
    for line in balancer.lines() {
        if line.trim_start().starts_with("server ") {
            servers += 1;
            continue;
        }
        text.push_str(&line.replace("bind :8443", &format!("bind {address}")));
        text.push('\n');
    }
    assert_eq!(servers, 2, "the shipped receivers");
    for (number, Addresses { public, admin }) in receivers.iter().enumerate() {
        // Ports and health checks are those of the shipped configuration.
        assert_eq!(admin.port(), 9090);
        text.extend([format!("    server receiver-{number} {public}\n")]);
    }
    text
}
