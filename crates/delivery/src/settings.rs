//! What a sink is told, `[[sink]]`, and how it is opened. Each kind declares its own keys in its own folder.

use crate::{filter::Filter, kinds::Kind, opens::Cause, sink::Sink};
use ::settings::{Flaw, duration, flat, number, optional, section, switch, text};
use base::names::SinkName;
use std::{path::Path, time::Duration};

section! {
    /// Where completed events go: one `[[sink]]` for each destination. Each gets every event that its filter does not leave out, in
    /// order for each connection.
    /// Without any `[[sink]]`, events go to standard output, as here.
    pub struct Settings {
        /// Unique name: letters a to z, digits, `-` and `_`. It is kept beside each entry: a sink that is renamed is a new one.
        pub name: SinkName = text(sink_name).example("\"app\""),
        /// How long a delivery is tried again after its first failed attempt. Then it is parked.
        pub retry_for: Duration = duration().default("3d").between("1s", "365d"),
        /// Longest wait before the second try. It doubles with each further try; each wait is a random part of it, so that not all
        /// tries come at once.
        pub retry_first: Duration = duration().default("1s").between("100ms", "30m"),
        /// Longest wait between two tries, however many there were.
        pub retry_longest: Duration = duration().default("15m").between("1s", "30m"),
        /// Entries delivered at once, or batches of them, as `worker.concurrency` says. Not given: as many as that.
        pub concurrency: Option<usize> = number().example("8").between("1", "10000").optional(),
        /// What happens to deliveries that were parked because of this sink's trouble: it refused several connections, with no
        /// success between, or `retry_for` was over.
        pub resumes("resume"): bool = switch(
            ("manual", "They stay parked until they are replayed by hand."),
            (
                "auto",
                "They go back in line when the sink takes deliveries again: one first, then more and more, and each at most once \
                 a day. What the sink refuses while it takes others stays parked.",
            ),
        ).default("auto"),
        /// What happens to a delivery that is older than the last one of the same connection and channel, because it waited.
        pub drops_stale("stale"): bool = switch(
            ("mark", "It is delivered and marked with `linxostale`."),
            ("drop", "It is done without being delivered, and the entry says so."),
        ).default("mark"),
        /// What happens to later events of a connection while one of it is parked at this sink.
        pub is_strict("order"): bool = switch(
            ("resume", "They pass it. When it goes on, it comes late."),
            (
                "strict",
                "They wait until it is done or purged, so that the sink never gets an event before an older one of the same \
                 connection. Other connections go on.",
            ),
        ).default("resume"),
        /// What kind of destination, with its own settings.
        pub kind: Kind = flat(),
        /// Which events it is given.
        pub filter: Option<Filter> = optional("the sink is given every event"),
        /// Merging; `None`: each event is a delivery of its own.
        pub merge: Option<Merge> = optional("each event is a delivery of its own"),
    }
    check(at) {
        if let (Ok(first), Ok(longest)) = (&retry_first, &retry_longest)
            && first > longest
        {
            let hint = "make it shorter, or `retry_longest` longer";
            at.flawed("retry_first", Flaw::new("is longer than `retry_longest`", hint));
        }
    }
}

section! {
    /// Events of one connection that wait together are merged into one delivery, such as those of its two channels: the newest
    /// accounts, `new_transactions` where any of them has it, and in `linxomerged` the ids of all. Off unless it is given, with both
    /// keys or without.
    pub struct Merge {
        /// A delivery goes when no further event of its connection has come for so long.
        pub quiet: Duration = duration().default("5s").between("10ms", "10m"),
        /// A delivery goes at the latest so long after its first event came.
        pub longest: Duration = duration().default("1m").between("10ms", "1h"),
    }
    check(at) {
        if let (Ok(quiet), Ok(longest)) = (&quiet, &longest)
            && longest < quiet
        {
            let reason = "is shorter than `quiet`, so that it alone would decide";
            at.flawed("longest", Flaw::new(reason, "give `longest` a longer time, or `quiet` a shorter one"));
        }
    }
}

/// Names become metric labels and are typed on command lines.
fn sink_name(text: &str) -> Result<SinkName, Flaw> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if text.len() <= 64 && text.bytes().all(is_plain) {
        Ok(SinkName::new(text))
    } else {
        Err(Flaw::new("is not a name", "use 1 to 64 of: a to z, digits, `-` and `_`"))
    }
}

impl Settings {
    /// The files that the sink is built from, secrets and what it writes apart.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.kind.files().into_iter()
    }
}

/// Opens a configured sink: files are opened and mended, clients built; nothing is connected to. Blocking.
///
/// # Errors
/// What has to be corrected before the sink can work.
pub fn open(settings: &Settings) -> Result<Box<dyn Sink>, OpenError> {
    settings.kind.open().map_err(|cause| OpenError { sink: settings.name.clone(), cause })
}

/// Finds out whether [`open`] would open a sink, and leaves everything as it is. Blocking.
///
/// # Errors
/// As those of [`open`].
pub fn rehearse(settings: &Settings) -> Result<(), OpenError> {
    settings.kind.rehearse().map_err(|cause| OpenError { sink: settings.name.clone(), cause })
}

/// A sink cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the sink {sink}")]
pub struct OpenError {
    /// Its configured name.
    pub sink: SinkName,
    #[source]
    cause: Cause,
}
