//! The way in: HTTPS from the vendor, up to the commit that makes an event durable.
//!
//! ```text
//! listener   accepts sockets, holds their number, drains
//! handshake  one socket: PROXY header, TLS, client certificate
//! connection the same socket from there: HTTP/1 or HTTP/2, deadlines
//! app        one request: the axum application, with routes, layers, extractors, handler
//! intake     the inbox, as the receiver uses it
//! ```
//!
//! In: sockets of the public address. Out: entries in the inbox, and the answers of the table in `app`.
//!
//! Promises, held by `tests`:
//! - A 200 leaves after the inbox has synced the event. A caller that hangs up cancels nothing.
//! - Our own trouble is 503 with `Retry-After`; 4xx is said only of what cannot be an event.
//! - No caller holds a socket without using it: handshake, first request, head, body and idleness each have a deadline.
//! - No caller, and no address, takes more than its share of connections, handshakes, requests and memory.
//! - The caller's address is the socket's, or the one that a configured balancer names; headers never change it.
//! - No body, secret or query is logged, and nothing of a certificate that no authority of ours vouches for; label values
//!   come from closed sets.
//! - Replaced certificates, authorities and revocations hold for everybody within seconds: no session of the old ones is
//!   resumed, no request of an old connection is taken, and their connections are ended. A connection also ends with the
//!   client certificate that it began with.
//!
//! Not here: what an event is (`event`), how it is stored (`inbox`), what happens next (`work`).
//!
//! Why not `axum::serve`: it sets no timer, so a silent caller would stay for ever, and it cannot be told to announce
//! the end of a connection before it closes it (decision 0004). So sockets are served by a loop of our own, and only their
//! requests go to axum.

mod activity;
mod app;
mod budget;
mod caller;
mod connection;
mod deadlines;
mod descriptors;
mod drain;
mod endings;
mod figures;
mod handshake;
mod heads;
mod identity;
mod intake;
mod ledger;
mod listener;
mod lobby;
mod origin;
mod problem;
mod proxy;
mod pulse;
mod reason;
mod receiver;
mod refusals;
pub mod settings;
mod shares;
mod slot;
mod socket;
pub mod tls;
mod trust;

pub use figures::Figures;
pub use listener::{Bound, Drained, bind, inherit};
pub use pulse::Pulse;
pub use receiver::Receiver;

/// Readers of foreign bytes, for `fuzz/` alone.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// A PROXY header; never longer than the bytes that it was read from.
    pub fn proxy_header(bytes: &[u8]) {
        if let Ok(Some((_, length))) = super::proxy::parse(bytes) {
            assert!(length <= bytes.len(), "the header ends beyond its bytes");
        }
    }

    /// A caller's certificate.
    pub fn certificate(der: &[u8]) {
        super::identity::ClientCertificate::of(der);
    }
}

#[cfg(test)]
mod tests;
