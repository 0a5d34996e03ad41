//! Notices for the supervisor (`sd_notify(3)`), sent by a thread of their own: sending may wait for the supervisor, and no
//! event may wait for that.
//!
//! What is to be said follows from how the service stands: [`Notices`] decides it and sends nothing. The thread looks once a
//! second, and as soon as it is given a word.

use crate::receive::Pulse;
use base::text::printable;
use sd_notify::NotifyState as Notice;
use std::{
    env, io,
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

/// Between two looks. A supervisor that waits for less than a few of them would end a service that is alive.
const EVERY: Duration = Duration::from_secs(1);

/// How the service stands; asked anew at each look.
#[derive(Clone)]
pub struct Standing {
    /// Where events are taken.
    pub address: SocketAddr,
    /// Why an event sent now would not be accepted.
    pub obstacles: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Whether callers are accepted.
    pub pulse: Pulse,
}

/// What happens to the service by the will of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Reloading,
    Reloaded,
    Stopping,
}

/// Tells the supervisor how the service stands, until it is dropped.
#[derive(Clone, Debug)]
#[must_use = "nothing is told any more when this is dropped"]
pub struct Supervisor(Option<Sender<Word>>);

impl Supervisor {
    /// Begins. Where nobody wants to be told (`NOTIFY_SOCKET` is not set), this does nothing, and nor does anything else here.
    ///
    /// # Errors
    /// The system's, when it gives no thread.
    pub fn tell(standing: Standing) -> io::Result<Self> {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Self(None));
        }
        let (words, heard) = mpsc::channel();
        let notices = Notices::new(sd_notify::watchdog_enabled().is_some());
        thread::Builder::new().name("supervisor".to_owned()).spawn(move || notices.send(&standing, &heard))?;
        Ok(Self(Some(words)))
    }

    /// Files are being read again.
    pub fn reloading(&self) {
        self.say(Word::Reloading);
    }

    /// They were read; whether they could be used is in the log.
    pub fn reloaded(&self) {
        self.say(Word::Reloaded);
    }

    /// The drain begins.
    pub fn stopping(&self) {
        self.say(Word::Stopping);
    }

    fn say(&self, word: Word) {
        if let Some(words) = &self.0 {
            // The thread ends only after this value.
            words.send(word).unwrap_or_default();
        }
    }
}

/// What was told so far, and so what is to be told next.
#[derive(Debug)]
struct Notices {
    /// Whether the supervisor ends a service that does not say that it is alive.
    is_watched: bool,
    is_announced: bool,
    is_stopping: bool,
    status: String,
    beats: u64,
}

impl Notices {
    fn new(is_watched: bool) -> Self {
        Self { is_watched, is_announced: false, is_stopping: false, status: String::new(), beats: 0 }
    }

    /// What there is to say of how the service stands.
    fn of(&mut self, address: SocketAddr, obstacles: &[String], beats: u64) -> Vec<Notice<'_>> {
        let mut notices = Vec::new();
        if obstacles.is_empty() && !self.is_announced && !self.is_stopping {
            self.is_announced = true;
            notices.push(Notice::Ready);
        }
        // The loop that accepts callers has ended in the drain, and the drain has a limit of its own.
        if self.is_watched && (beats != self.beats || self.is_stopping) {
            notices.push(Notice::Watchdog);
        }
        self.beats = beats;
        let status = match obstacles {
            [] => format!("ready: takes events on {address}"),
            _ => format!("not ready: {}", printable(&obstacles.join("; "))),
        };
        if status != self.status {
            self.status = status;
            notices.push(Notice::Status(&self.status));
        }
        notices
    }

    /// What there is to say of a word. Before it is ready a service cannot be reloading: READY would announce it.
    fn hear(&mut self, word: Word) -> io::Result<Vec<Notice<'static>>> {
        Ok(match word {
            Word::Stopping => {
                self.is_stopping = true;
                vec![Notice::Stopping]
            }
            Word::Reloading if self.is_announced => vec![Notice::Reloading, Notice::monotonic_usec_now()?],
            Word::Reloaded if self.is_announced => vec![Notice::Ready],
            Word::Reloading | Word::Reloaded => Vec::new(),
        })
    }

    /// Tells until there is nobody any more who gives a word.
    fn send(mut self, standing: &Standing, words: &Receiver<Word>) {
        let mut has_failed = false;
        let mut tell = |notices: io::Result<Vec<Notice<'_>>>| {
            let told =
                notices.and_then(|notices| if notices.is_empty() { Ok(()) } else { sd_notify::notify(&notices) });
            if let Err(error) = told
                && !has_failed
            {
                has_failed = true;
                tracing::warn!(
                    code = "supervisor_not_told",
                    %error,
                    "the supervisor cannot be told how the service stands (NOTIFY_SOCKET); said once"
                );
            }
        };
        loop {
            tell(Ok(self.of(standing.address, &(standing.obstacles)(), standing.pulse.beats())));
            match words.recv_timeout(EVERY) {
                Ok(word) => tell(self.hear(word)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(notices: &[Notice<'_>]) -> Vec<String> {
        notices.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn says_what_is_new() {
        let (address, well) = ("127.0.0.1:1".parse().unwrap(), []);
        let ill = ["the disk\nis full".to_owned(), "draining".to_owned()];
        let mut notices = Notices::new(true);
        let not_ready = "STATUS=not ready: the disk\\u{a}is full; draining";
        assert_eq!(said(&notices.of(address, &ill, 1)), ["WATCHDOG=1", not_ready]);
        // A reload of a service that is not ready must not make it so.
        assert_eq!(said(&notices.hear(Word::Reloading).unwrap()), [""; 0]);
        assert_eq!(said(&notices.hear(Word::Reloaded).unwrap()), [""; 0]);
        let ready = "STATUS=ready: takes events on 127.0.0.1:1";
        assert_eq!(said(&notices.of(address, &well, 2)), ["READY=1", "WATCHDOG=1", ready]);
        // The loop that accepts callers hangs.
        assert_eq!(said(&notices.of(address, &well, 2)), [""; 0]);
        assert_eq!(said(&notices.of(address, &ill, 2)), [not_ready]);
        assert_eq!(said(&notices.of(address, &well, 3)), ["WATCHDOG=1", ready]);
        let reloading = said(&notices.hear(Word::Reloading).unwrap());
        assert!(reloading[0] == "RELOADING=1" && reloading[1].starts_with("MONOTONIC_USEC="), "{reloading:?}");
        assert_eq!(said(&notices.hear(Word::Reloaded).unwrap()), ["READY=1"]);
        assert_eq!(said(&notices.hear(Word::Stopping).unwrap()), ["STOPPING=1"]);
        assert_eq!(said(&notices.of(address, &ill, 3)), ["WATCHDOG=1", not_ready]);
    }

    #[test]
    fn who_does_not_watch_hears_of_no_life() {
        let mut notices = Notices::new(false);
        assert_eq!(
            said(&notices.of("127.0.0.1:1".parse().unwrap(), &["starting".to_owned()], 9)),
            ["STATUS=not ready: starting"]
        );
    }
}
