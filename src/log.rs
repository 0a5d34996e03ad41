//! Log lines to standard error, JSON or text, written by a thread of their own.
//!
//! In: `tracing` events of the whole program. Out: one line each, time in UTC. The caller never waits for the terminal,
//! the pipe or the disk behind it: when 4096 lines are waiting, further ones are dropped, counted, and the count is
//! written at the end. An event must not be answered late because somebody stopped reading our log.
//!
//! Standard output is not touched: data belongs there.

use crate::config::{self, LogFormat};
use std::io::{self, BufWriter, Write as _};
use tracing::{Dispatch, Level, level_filters::LevelFilter};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
};

/// Lines that may wait for the writing thread.
const WAITING_LINES: usize = 4096;

/// Keeps the writing thread alive; what still waits is written when it is dropped (for a second at most).
#[derive(Debug)]
#[must_use = "logging ends when this is dropped"]
pub struct Guard {
    writer: Option<WorkerGuard>,
    dropped: ErrorCounter,
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.writer.take());
        let dropped = self.dropped.dropped_lines();
        if dropped > 0 {
            // There is nowhere left to report a failure of the last line.
            drop(writeln!(io::stderr(), "{dropped} log lines were dropped: standard error did not keep up"));
        }
    }
}

/// Starts logging for the whole process. Where a subscriber was installed before (in tests), that one stays.
pub fn start(config: &config::Log) -> Guard {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        // Emptied whenever no line waits any more: under load many lines share one write.
        .finish(BufWriter::new(io::stderr()));
    let dropped = writer.error_counter();
    // An error says that a subscriber is there already.
    drop(tracing::dispatcher::set_global_default(dispatch(config, writer)));
    Guard { writer: Some(guard), dropped }
}

/// The lines of one configuration, written to `writer`.
fn dispatch<W>(config: &config::Log, writer: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer).with_ansi(false);
    let lines: Box<dyn Layer<_> + Send + Sync> = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter(config.level))).into()
}

/// Our own lines from `level` on; of the libraries only warnings, unless everything is asked for.
fn filter(level: Level) -> Targets {
    let libraries = if level == Level::TRACE { Level::TRACE } else { level.min(Level::WARN) };
    Targets::new().with_default(LevelFilter::from_level(libraries)).with_target(env!("CARGO_CRATE_NAME"), level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(format: LogFormat, level: Level, log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let dispatch = dispatch(&config::Log { format, level }, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, log);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let text = lines(LogFormat::Json, Level::INFO, || {
            tracing::info!(entry = 7, event.id = "a\nb\u{1b}[31m", "event accepted");
        });
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "event accepted");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "linxo_webhook::log::tests");
        assert_eq!(line["entry"], 7);
        assert_eq!(line["event.id"], "a\nb\u{1b}[31m");
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }

    #[test]
    fn text_forges_no_line_and_no_colour() {
        let text = lines(LogFormat::Text, Level::INFO, || {
            tracing::info!(event.id = "a\n2026-01-01 INFO forged\u{1b}[31m", "event accepted");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn libraries_speak_from_warnings_on() {
        let log = || {
            tracing::debug!("ours, debug");
            tracing::info!(target: "hyper", "theirs, info");
            tracing::warn!(target: "hyper", "theirs, warn");
        };
        let info = lines(LogFormat::Text, Level::INFO, log);
        assert!(!info.contains("ours") && !info.contains("theirs, info") && info.contains("theirs, warn"));
        let debug = lines(LogFormat::Text, Level::DEBUG, log);
        assert!(debug.contains("ours") && !debug.contains("theirs, info"));
        assert!(lines(LogFormat::Text, Level::TRACE, log).contains("theirs, info"));
        assert!(!lines(LogFormat::Text, Level::ERROR, log).contains("theirs"));
    }
}
