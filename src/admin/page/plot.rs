//! Charts as bars of SVG: what happened, in steps of minutes.

use super::words::time;
use base::clock::Timestamp;
use inbox::Minute;

/// Bars, one for each step in which something happened, in a box of 1000 by 160.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    /// About its steps.
    pub(super) note: String,
    /// Where it begins.
    pub(super) from: String,
    pub(super) most: u64,
    pub(super) bars: Vec<Bar>,
}

pub(super) struct Bar {
    pub(super) at: String,
    pub(super) value: u64,
    pub(super) x: u64,
    pub(super) y: u64,
    pub(super) width: u64,
    pub(super) height: u64,
}

/// Draws a value of each step since a time.
pub(super) fn chart(
    (title, unit): (&'static str, &'static str),
    points: &[Minute],
    since: Timestamp,
    (hours, step): (u32, u32),
    value: fn(&Minute) -> u64,
) -> Chart {
    let most = points.iter().map(value).max().unwrap_or_default();
    let steps = u64::from(hours * 60 / step).max(1);
    let width = (1000 / steps).max(2);
    let bars = points.iter().filter(|point| value(point) > 0).map(|point| {
        let minutes = point.at.since(since).as_secs() / 60;
        let height = (value(point) * 151 / most.max(1)).max(1);
        let x = minutes * 1000 / u64::from(hours * 60);
        Bar { at: time(point.at), value: value(point), x: x.min(1000 - width), y: 159 - height, width, height }
    });
    let steps = if step == 1 { "minute by minute".to_owned() } else { format!("in steps of {step} minutes") };
    let note = format!("{unit}, {steps}");
    Chart { title, unit, note, from: time(since), most, bars: bars.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_in_the_box_and_the_highest_is_as_high_as_it() {
        let since = Timestamp::from_millis(1_769_846_400_000);
        let at = |minute: i64| Timestamp::from_millis(since.as_millis() + minute * 60_000);
        let point = |minute, received| Minute { at: at(minute), received, ..Minute::default() };
        let points = [point(0, 1), point(10, 0), point(30, 200), point(60, 100)];
        let chart = chart(("Received", "events"), &points, since, (1, 1), |point| point.received);
        let bars: Vec<_> = chart.bars.iter().map(|bar| (bar.x, bar.y, bar.height, bar.value)).collect();
        assert_eq!(bars, [(0, 158, 1, 1), (500, 8, 151, 200), (984, 84, 75, 100)]);
        assert_eq!((chart.most, chart.note.as_str()), (200, "events, minute by minute"));
        assert_eq!(chart.from, "2026-01-31T08:00:00Z");
    }
}
