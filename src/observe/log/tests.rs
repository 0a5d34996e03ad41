//! Lines as they are written.

use super::{double::Memory, *};

fn lines(format: LogFormat, level: Level, log: impl FnOnce()) -> String {
    let memory = Memory::default();
    tracing::dispatcher::with_default(&memory.dispatch(format, level), log);
    memory.text()
}

/// Everything that makes a line look like another one, or like two.
const HOSTILE: &str = "a\"b\\\n2026-01-01 INFO forged\r\t\u{1b}[31m\u{9b}31m\u{85}\u{2028}\u{202e}\u{feff}\u{e0041}é😀";

#[test]
fn json_is_one_flat_object_a_line() {
    let text = lines(LogFormat::Json, Level::INFO, || {
        let (user, error) = (None::<&str>, io::Error::other("full"));
        tracing::info!(entry = 7_u32, left = -4, ok = true, event.id = HOSTILE, user.id = user, %error, "event accepted");
    });
    assert_eq!(text.lines().count(), 1);
    assert!(text.is_ascii() || text.chars().filter(|c| !c.is_ascii()).eq("é😀".chars()), "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    let time = line["timestamp"].as_str().unwrap();
    assert!(time.len() == 24 && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    let expected = serde_json::json!({
        "timestamp": time, "level": "INFO", "target": "linxo_webhook::observe::log::tests", "message": "event accepted",
        "entry": 7, "left": -4, "ok": true, "event.id": HOSTILE, "error": "full",
    });
    assert_eq!(line, expected);
}

#[test]
fn text_is_read_by_people_and_forges_no_line_and_no_colour() {
    let text = lines(LogFormat::Text, Level::INFO, || {
        tracing::warn!(entry = 7, event.id = HOSTILE, error = %HOSTILE, "it {}", HOSTILE);
    });
    let (time, rest) = text.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok());
    let shown = r"\n2026-01-01 INFO forged\r\t\u{1b}[31m\u{9b}31m\u{85}\u{2028}\u{202e}\u{feff}\u{e0041}é😀";
    let expected = format!(
        " WARN linxo_webhook::observe::log::tests: it a\"b\\{shown} entry=7 event.id=\"a\\\"b\\\\{shown}\" error=a\"b\\{shown}\n"
    );
    assert_eq!(rest, expected);
}

#[test]
fn no_value_is_long_however_much_was_sent() {
    for format in [LogFormat::Json, LogFormat::Text] {
        for long in ["x".repeat(2_000_000), "\u{202e}".repeat(100_000), "é".repeat(100_000)] {
            let text = lines(format, Level::INFO, || {
                tracing::info!(event.id = long, other = %long, debug = ?long, "{long}");
            });
            assert!(text.len() < 4 * (line::LONGEST_VALUE + 64), "{} bytes", text.len());
            assert!(text.len() > 4 * (line::LONGEST_VALUE - 64), "{} bytes", text.len());
            assert_eq!(text.matches('…').count(), 4);
            if format == LogFormat::Json {
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
        }
        let just = "x".repeat(line::LONGEST_VALUE);
        assert!(lines(format, Level::INFO, || tracing::info!("{just}")).contains(&just));
    }
}

/// (F9) Whoever looks for trouble sees more at once, and less again.
#[test]
fn the_level_changes_while_lines_are_written() {
    let lines = Arc::new(std::sync::Mutex::new(String::new()));
    let written = Arc::clone(&lines);
    let (dispatch, filter) = dispatch(LogFormat::Text, Level::INFO, move |line| written.lock().unwrap().push_str(line));
    tracing::dispatcher::with_default(&dispatch, || {
        for (level, text) in [(Level::INFO, "first"), (Level::DEBUG, "second"), (Level::WARN, "third")] {
            filter.reload(super::filter(level)).unwrap();
            tracing::debug!("{text} debug");
            tracing::info!("{text} info");
            tracing::warn!("{text} warn");
        }
    });
    let text = lines.lock().unwrap().clone();
    let said: Vec<_> = text.lines().map(|line| line.rsplit_once("tests: ").unwrap().1).collect();
    assert_eq!(said, ["first info", "first warn", "second debug", "second info", "second warn", "third warn"]);
}

/// Such as `api_up` after `api_down`, which the crate for the vendor's API writes.
#[test]
fn every_crate_of_the_project_is_heard() {
    let filter = super::filter(Level::INFO);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(filter.would_enable(&format!("{name}::part"), &Level::INFO), "{name}");
        assert!(!filter.would_enable(&format!("{name}_of_somebody::part"), &Level::INFO), "{name}");
        count += 1;
    }
    assert_eq!(count, super::OWN.len());
}

#[test]
fn libraries_speak_of_trouble_only_at_any_level() {
    let log = || {
        tracing::debug!("ours, debug");
        tracing::info!(target: "hyper", "theirs, info");
        tracing::warn!(target: "hyper", "theirs, warn");
        tracing::warn!(target: "h2::proto::streams::recv", "h2, warn");
        tracing::error!(target: "h2", "h2, error");
        // It quotes whole messages, with headers that may be secrets.
        tracing::error!(target: "lapin::returned_messages", "quoted");
    };
    for (level, ours) in [(Level::INFO, false), (Level::DEBUG, true), (Level::TRACE, true)] {
        let text = lines(LogFormat::Text, level, log);
        assert_eq!(text.contains("ours"), ours);
        assert!(!text.contains("theirs, info") && text.contains("theirs, warn"), "{text}");
        assert!(!text.contains("h2, warn") && text.contains("h2, error"), "{text}");
        assert!(!text.contains("quoted"), "{text}");
    }
    assert!(!lines(LogFormat::Text, Level::ERROR, log).contains("theirs"));
}
