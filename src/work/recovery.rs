//! Looks after the sinks as a whole: takes over pauses, puts back in line what a sink's trouble had parked, and says how many
//! failures were not logged.

use super::gate::Gate;
use base::{clock, error::chain, seldom::Seldom, trust::RESUME_AGAIN_AFTER};
use inbox::{Error, SinkName, Sinks, rules::Order};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Between two summaries of failures.
const SUMMARY_EVERY: Duration = Duration::from_mins(1);

/// Looks after the sinks.
pub struct Recovery {
    /// Where their work is kept.
    pub sinks: Arc<dyn Sinks>,
    /// Each with whether what its trouble parked goes back by itself.
    pub gates: Vec<(Arc<Gate>, bool)>,
    /// What the inbox could not be told at the start, because it was away: the order of each sink.
    pub orders: Vec<(SinkName, Order)>,
}

/// Tells the inbox what parked deliveries of sinks mean to later ones; returns what it could not be told.
pub async fn tell_orders(sinks: &dyn Sinks, orders: Vec<(SinkName, Order)>) -> Vec<(SinkName, Order)> {
    let mut left = Vec::new();
    for (sink, order) in orders {
        match sinks.set_order(&sink, order).await {
            Ok(false) => {}
            Ok(true) => tracing::info!(
                code = "sink_order_changed",
                sink = %sink,
                order = if order == Order::Strict { "strict" } else { "resume" },
                "the order of a sink was set: lines in which something is parked are arranged by it"
            ),
            Err(error) => {
                tracing::debug!(code = "sink_order_untold", sink = %sink, error = %chain(&error), "the inbox could not be told the order of a sink yet");
                left.push((sink, order));
            }
        }
    }
    left
}

impl Recovery {
    /// Runs until `draining` is cancelled.
    pub async fn run(mut self, draining: CancellationToken) {
        let (mut summed_up, failures) = (Instant::now(), Seldom::default());
        loop {
            if let Err(error) = self.look().await
                && failures.is_due()
            {
                tracing::warn!(
                    code = "parked_unknown",
                    error = %chain(&error),
                    "what a sink's trouble had parked could not be looked up; it is tried again; said once a minute"
                );
            }
            if summed_up.elapsed() >= SUMMARY_EVERY {
                summed_up = Instant::now();
                self.gates.iter().for_each(|(gate, _)| gate.summary());
            }
            tokio::select! {
                () = draining.cancelled() => break,
                () = time::sleep(EVERY) => {}
            }
        }
        self.gates.iter().for_each(|(gate, _)| gate.summary());
    }

    async fn look(&mut self) -> Result<(), Error> {
        self.orders = tell_orders(&*self.sinks, std::mem::take(&mut self.orders)).await;
        // Another process may have paused a sink, or let it go on.
        let paused = self.sinks.paused().await?;
        for (gate, goes_back) in &self.gates {
            gate.set_paused(paused.get(gate.name()).copied());
            if *goes_back {
                self.put_back(gate).await?;
            }
        }
        Ok(())
    }

    async fn put_back(&self, gate: &Gate) -> Result<(), Error> {
        let allowed = gate.allowance();
        if allowed == 0 {
            return Ok(());
        }
        let before = clock::now().before(RESUME_AGAIN_AFTER);
        let entries = self.sinks.resume(gate.name(), before, allowed).await?;
        gate.put_back(usize::try_from(entries).unwrap_or(usize::MAX), allowed);
        if entries > 0 {
            tracing::info!(
                code = "parked_resumed",
                sink = %gate.name(),
                entries,
                "deliveries that the sink's trouble had parked are tried again; more follow when these go well"
            );
        }
        Ok(())
    }
}
