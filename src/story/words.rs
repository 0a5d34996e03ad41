//! Words for times, reasons and counts. Pure.

use base::clock::Timestamp;
use inbox::{EntryView, StageView};

/// RFC 3339; milliseconds where the year cannot be written.
#[must_use]
pub fn time(at: Timestamp) -> String {
    at.to_rfc3339().unwrap_or_else(|| at.as_millis().to_string())
}

/// Why a stage waits or is parked.
#[must_use]
pub fn reason(stage: &StageView) -> Option<String> {
    match (&stage.reason, stage.held_by) {
        (_, Some(first)) => Some(format!("waits behind entry {first}, which is parked (order = \"strict\")")),
        (None, None) if stage.is_queued => {
            Some("waits for an earlier entry of its connection or for its accounts".to_owned())
        }
        (reason, None) => reason.clone(),
    }
}

/// `2`, or `0 of 102` while they are not fetched, `102 fetched` after.
#[must_use]
pub fn accounts(entry: &EntryView) -> String {
    match (entry.fetched, entry.account_count) {
        (Some(fetched), Some(announced)) if fetched != announced => format!("{fetched} fetched, {announced} announced"),
        (Some(fetched), _) => format!("{fetched} fetched"),
        (None, Some(announced)) if announced != entry.listed => {
            format!("{} of {announced}", entry.listed)
        }
        (None, _) => entry.listed.to_string(),
    }
}

/// Bytes in the largest unit that leaves a whole number above 9, or as they are.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fitting = UNITS.into_iter().find(|(unit, _)| bytes / unit >= 10);
    fitting.map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 9_999, 10_240, 20 << 20, 2_u64 << 30, 40_u64 << 30].map(size);
        assert_eq!(sizes, ["0 B", "9999 B", "10 KiB", "20 MiB", "2048 MiB", "40 GiB"]);
    }
}
