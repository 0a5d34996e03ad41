//! Log lines to standard error, JSON or text, written by a thread of their own.
//!
//! In: `tracing` events of the whole program, and its panics. Out: one line each, time in UTC. Promises:
//! - The caller never waits for the terminal, the pipe or the disk behind it: an event must not be answered late because
//!   somebody stopped reading our log. What waits is bounded in bytes (`queue`); further lines are dropped, and how many
//!   is said as soon as there is room again.
//! - The lowest level that is written changes while the process runs ([`change_level`]).
//! - No line is long, forged or misleading because of what somebody sent: values are cut and escaped in one place (`line`).
//! - No line holds what a library knows of a request: they speak of trouble only (`filter`). The message of a panic is
//!   left out ([`note_panics`]), because it may quote what was being worked on.
//!
//! Standard output is not touched: data belongs there.

mod line;
mod queue;
pub mod settings;

use ::settings::Words as _;
use base::clock;
use prometheus_client::registry;
use queue::Queue;
use settings::{Level as Lowest, Log, LogFormat};
use std::{
    io::{self, Write as _},
    panic,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};
use tracing::{Dispatch, Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    layer::{Context, SubscriberExt as _},
    reload,
};

/// Longest wait at the end for what still waits to be written.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Which lines are written by this process.
static FILTER: OnceLock<Filter> = OnceLock::new();

/// Changes which lines are written.
type Filter = reload::Handle<Targets, Registry>;

/// Keeps the log going; what still waits is written when it is dropped (for a second at most).
#[derive(Debug)]
#[must_use = "logging ends when this is dropped"]
pub struct Guard(Arc<Queue>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(LAST_WAIT);
    }
}

/// Starts logging for the whole process. Where a subscriber was installed before (in tests), that one stays.
///
/// # Errors
/// The system's, when it gives no thread.
pub fn start(settings: &Log) -> io::Result<Guard> {
    let queue = Arc::new(Queue::default());
    let (writer, lines) = (Arc::clone(&queue), Arc::clone(&queue));
    thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_to(io::stderr()))?;
    let (dispatch, filter) = dispatch(settings.format, settings.level.into(), move |line| lines.push(line));
    // An error says that a subscriber is there already.
    if tracing::dispatcher::set_global_default(dispatch).is_ok() {
        // Only the first subscriber comes here.
        FILTER.get_or_init(|| filter);
    }
    Ok(Guard(queue))
}

/// Writes lines from another level on. A process that has no log of ours stays without one.
pub fn change_level(was: Lowest, level: Lowest) {
    let Some(filter) = FILTER.get() else { return };
    let is_more = Level::from(level) > Level::from(was);
    // Said while lines of this kind are written: after the change, or before it.
    if !is_more {
        say_level(level);
    }
    // An error says that the log has ended.
    drop(filter.reload(self::filter(level.into())));
    if is_more {
        say_level(level);
    }
}

fn say_level(level: Lowest) {
    tracing::info!(code = "log_level_changed", lowest = level.word(), "log lines are written from another level on");
}

/// Enters how many lines were dropped. It is a figure of the whole process, as the log is.
pub(super) fn register(registry: &mut registry::Registry) {
    registry.register(
        "log_lines_dropped",
        "Log lines that were dropped because standard error did not keep up",
        queue::DROPPED.clone(),
    );
}

/// Says where the program panicked instead of what standard error would show by itself: the message, which may quote what
/// somebody sent.
pub fn note_panics() {
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let place = info.location().map_or_else(String::new, |place| format!("{}:{}", place.file(), place.line()));
        note_panic(&place, thread.name().unwrap_or_default());
    }));
}

fn note_panic(place: &str, thread: &str) {
    let message = "a part of the program panicked: this is a defect, please report it with this line";
    if tracing::enabled!(Level::ERROR) {
        tracing::error!(code = "panicked", place, thread, "{message}");
    } else {
        // There is nowhere left to report that this failed.
        drop(writeln!(io::stderr(), "{message}: place={place} thread={thread}"));
    }
}

/// The lines of one configuration, given to `write`; and what changes which of them are written.
fn dispatch(
    format: LogFormat,
    level: tracing::Level,
    write: impl Fn(&str) + Send + Sync + 'static,
) -> (Dispatch, Filter) {
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = Lines { format, write };
    (tracing_subscriber::registry().with(lines.with_filter(filter)).into(), handle)
}

/// Our own lines from `level` on; of the libraries only warnings, and of `h2` only errors: below that they write down what
/// they were sent, path and all, and warn of each connection that attacks. Of `lapin` nothing: it writes down returned messages
/// with their headers, which may be secrets, and the sink tells of each failure by itself.
fn filter(level: Level) -> Targets {
    Targets::new()
        .with_default(LevelFilter::from_level(level.min(Level::WARN)))
        .with_target("h2", Level::ERROR)
        .with_target("lapin", LevelFilter::OFF)
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_targets(OWN.map(|crate_name| (format!("{crate_name}::"), level)))
}

/// The other crates of this project. A name ends with `::` in the filter, because `event` alone is the beginning of others' names, too.
const OWN: [&str; 7] = ["base", "delivery", "double", "event", "inbox", "linxo", "settings"];

/// Makes lines of events.
struct Lines<W> {
    format: LogFormat,
    write: W,
}

impl<S: Subscriber, W: Fn(&str) + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        (self.write)(&line::render(event, self.format, clock::now()));
    }
}

/// A log in memory.
#[cfg(test)]
pub(crate) mod double {
    use super::{Dispatch, LogFormat, dispatch};
    use std::sync::{Arc, Mutex, OnceLock};
    use tracing::Level;

    /// The lines of a log; clones are of the same one.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Memory(Arc<Mutex<String>>);

    impl Memory {
        pub(crate) fn dispatch(&self, format: LogFormat, level: Level) -> Dispatch {
            // With a single subscriber `tracing` asks only the one of the thread that comes to a log line first, and
            // remembers a "nobody listens" of another test's thread for all. A second one makes it ask everybody.
            static EVERYWHERE: OnceLock<Dispatch> = OnceLock::new();
            EVERYWHERE.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
            let lines = Arc::clone(&self.0);
            dispatch(format, level, move |line| lines.lock().unwrap().push_str(line)).0
        }

        pub(crate) fn text(&self) -> String {
            self.0.lock().unwrap().clone()
        }
    }
}

#[cfg(test)]
mod tests;
