//! What happened, minute by minute, from the figures of the process into the inbox.
//!
//! In: the text of `/metrics`, once a minute. Out: how much its counters grew, as a [`Minute`]. A counter of the process begins
//! at 0 with each start, and so does the first minute. What cannot be noted is added to the next minute.

use crate::observe::metrics::Exposition;
use base::{clock, clock::Timestamp};
use inbox::{Charts, Minute};
use std::{sync::Arc, time::Duration};
use tokio::time;
use tokio_util::sync::CancellationToken;

const MINUTE: Duration = Duration::from_mins(1);

/// Sums of counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    received: u64,
    delivered: u64,
    parked: u64,
    took_ms: u64,
}

/// Notes each minute, until `stop` is cancelled; and then what was left of the last one.
pub async fn record(charts: Arc<dyn Charts>, exposition: Arc<Exposition>, receiver: String, stop: CancellationToken) {
    let mut noted = Totals::default();
    loop {
        let is_last = stop.run_until_cancelled(time::sleep(MINUTE)).await.is_none();
        let totals = Totals::of(&exposition.encode());
        let minute = noted.until(totals, clock::now());
        match charts.note(&receiver, &minute).await {
            Ok(()) => noted = totals,
            Err(error) => {
                tracing::debug!(code = "chart_not_noted", error = %error, "a minute of the charts could not be noted; it is added to the next one");
            }
        }
        if is_last {
            return;
        }
    }
}

impl Totals {
    /// From the text of `/metrics`.
    fn of(text: &str) -> Self {
        let mut totals = Self::default();
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Some(series) = series.strip_prefix("linxo_webhook_") else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let has = |label: &str| labels.contains(label);
            let count = || value.parse().unwrap_or(0);
            match name {
                "events_total" if !has("outcome=\"duplicate\"") => totals.received += count(),
                "deliveries_total" if has("outcome=\"delivered\"") => totals.delivered += count(),
                "deliveries_total" if has("outcome=\"parked\"") => totals.parked += count(),
                "accepted_to_delivered_seconds_sum" => totals.took_ms += millis(value),
                _ => {}
            }
        }
        totals
    }

    /// What came since, for a minute that begins with the present one.
    fn until(self, later: Self, now: Timestamp) -> Minute {
        let minute = now.as_millis().div_euclid(60_000) * 60_000;
        Minute {
            at: Timestamp::from_millis(minute),
            received: later.received.saturating_sub(self.received),
            delivered: later.delivered.saturating_sub(self.delivered),
            parked: later.parked.saturating_sub(self.parked),
            took_ms: later.took_ms.saturating_sub(self.took_ms),
        }
    }
}

/// Seconds as text, in milliseconds.
fn millis(seconds: &str) -> u64 {
    let (whole, rest) = seconds.split_once('.').unwrap_or((seconds, ""));
    let thousandths: String = rest.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u64>().unwrap_or(0).saturating_mul(1000).saturating_add(thousandths.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_a_minute() {
        let text = "# TYPE linxo_webhook_events counter\n\
                    linxo_webhook_events_total{outcome=\"accepted\"} 7\n\
                    linxo_webhook_events_total{outcome=\"conflict\"} 1\n\
                    linxo_webhook_events_total{outcome=\"duplicate\"} 100\n\
                    linxo_webhook_deliveries_total{sink=\"a\",outcome=\"delivered\"} 5\n\
                    linxo_webhook_deliveries_total{sink=\"b\",outcome=\"delivered\"} 2\n\
                    linxo_webhook_deliveries_total{sink=\"b\",outcome=\"retry\"} 50\n\
                    linxo_webhook_deliveries_total{sink=\"b\",outcome=\"parked\"} 3\n\
                    linxo_webhook_accepted_to_delivered_seconds_sum{sink=\"a\"} 1.25\n\
                    linxo_webhook_accepted_to_delivered_seconds_sum{sink=\"b\"} 0.0005\n";
        let totals = Totals::of(text);
        assert_eq!(totals, Totals { received: 8, delivered: 7, parked: 3, took_ms: 1250 });
        let before = Totals { received: 6, ..Totals::default() };
        let minute = before.until(totals, Timestamp::from_millis(150_001));
        assert_eq!(
            minute,
            Minute { at: Timestamp::from_millis(120_000), received: 2, delivered: 7, parked: 3, took_ms: 1250 }
        );
        assert_eq!([millis("3"), millis("0.1234"), millis("12.5"), millis("x")], [3000, 123, 12_500, 0]);
    }
}
