//! How values look on the page.

use crate::story::words;
use base::clock::Timestamp;
use inbox::{EntryView, State};

/// To the second, in UTC.
pub(super) fn time(at: Timestamp) -> String {
    let text = words::time(at);
    match text.split_once('.') {
        Some((whole, rest)) if rest.ends_with('Z') => format!("{whole}Z"),
        _ => text,
    }
}

/// How long ago something happened, in its largest unit.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let seconds = now.since(at).as_secs();
    match UNITS.into_iter().find(|(unit, _)| seconds >= *unit) {
        Some((unit, name)) => format!("{} {name} ago", seconds / unit),
        None if seconds >= 5 => format!("{seconds} s ago"),
        None => "just now".to_owned(),
    }
}

/// The parts of an entry's work that are not done, each with why.
pub(super) fn open_work(entry: &EntryView) -> Vec<(String, String)> {
    let open = entry.stages.iter().filter(|stage| stage.state != State::Done);
    let told = open.map(|stage| {
        let why = words::reason(stage).map(|reason| format!(": {reason}")).unwrap_or_default();
        (stage.stage.as_str().to_owned(), format!("{}{why}", stage.state.as_str()))
    });
    told.collect()
}

/// A sender's address, and the subject of its certificate.
pub(super) fn sender(json: &str) -> String {
    let sender: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let text = |pointer: &str| sender.pointer(pointer).and_then(serde_json::Value::as_str);
    [text("/peer"), text("/certificate/subject")].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_short_and_senders_are_names() {
        assert_eq!(time(Timestamp::from_millis(1_769_846_400_123)), "2026-01-31T08:00:00Z");
        assert_eq!(sender(r#"{"peer":"192.0.2.1:5","certificate":{"subject":"CN=linxo"}}"#), "192.0.2.1:5 CN=linxo");
        assert_eq!(sender("junk"), "");
        let now = Timestamp::from_millis(1_769_846_400_000);
        let ages = [0, 7, 60, 3_599, 7_200, 200_000].map(|seconds| ago(now.before(Duration::from_secs(seconds)), now));
        assert_eq!(ages, ["just now", "7 s ago", "1 min ago", "59 min ago", "2 h ago", "2 d ago"]);
        assert_eq!(ago(now.after(Duration::from_secs(9)), now), "just now", "of a clock that is ahead");
    }
}
