//! The TLS settings in use, and how they are replaced while connections are open.
//!
//! In: [`tls::Loaded`] settings, at the start and with each reload. Out: the present [`Generation`] for each new socket, and
//! for each open connection the news that its generation has to end.

use super::{figures, tls};
use arc_swap::ArcSwap;
use base::clock::Timestamp;
use std::sync::{Arc, OnceLock};
use tokio::{sync::watch, time::Instant};

/// Which TLS settings a connection began with; counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GenerationNumber(u64);

/// TLS settings and which ones they are.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: GenerationNumber,
    pub(super) loaded: tls::Loaded,
    /// When other settings took their place.
    retired: OnceLock<Instant>,
}

impl Generation {
    fn new(number: GenerationNumber, loaded: tls::Loaded) -> Self {
        Self { number, loaded, retired: OnceLock::new() }
    }

    /// When other settings took the place of these.
    pub(super) fn retired(&self) -> Option<Instant> {
        self.retired.get().copied()
    }
}

/// The TLS settings in use.
#[derive(Debug)]
pub(super) struct Trust {
    /// Read once for each socket, so that a reload only swaps it.
    current: ArcSwap<Generation>,
    /// The newest generation whose connections must end; connections watch it.
    retired: watch::Sender<GenerationNumber>,
    figures: figures::Certificates,
}

impl Trust {
    pub(super) fn new(loaded: tls::Loaded, figures: figures::Certificates) -> Self {
        let number = GenerationNumber(1);
        let trust = Self {
            current: ArcSwap::from_pointee(Generation::new(number, loaded)),
            retired: watch::Sender::new(GenerationNumber(0)),
            figures,
        };
        trust.note_ends();
        trust
    }

    pub(super) fn current(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Uses other settings for new sockets, and retires the connections of all settings before.
    pub(super) fn replace(&self, loaded: tls::Loaded) {
        let number = GenerationNumber(self.current.load().number.0 + 1);
        self.figures.clients.set(0);
        let old = self.current.swap(Arc::new(Generation::new(number, loaded)));
        self.note_ends();
        old.retired.get_or_init(Instant::now);
        self.retired.send_replace(old.number);
    }

    /// Says up to which generation connections must end.
    pub(super) fn retired(&self) -> watch::Receiver<GenerationNumber> {
        self.retired.subscribe()
    }

    /// Notes when an accepted client certificate ends.
    pub(super) fn note_client(&self, ends: Timestamp, now: Timestamp) {
        let (ends, known) = (seconds(ends), self.figures.clients.get());
        // One that has ended was probably renewed: those that are still in use say when it is urgent.
        if ends < known || known < seconds(now) {
            self.figures.clients.set(ends);
        }
    }

    fn note_ends(&self) {
        let current = self.current.load();
        self.figures.own.set(seconds(current.loaded.certificate.not_after));
        self.figures.revocations.set(current.loaded.revocations_end().map_or(0, seconds));
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000)
}
