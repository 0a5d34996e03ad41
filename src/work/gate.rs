//! The gate before one sink: whether a delivery may go now, and what its end says about the sink.
//!
//! In: a delivery that is to be made for a connection, and how it ended. Out: leave to make it, or how long to wait. What is
//! decided is decided by [`base::trust`], as for the vendor's API; this file adds the pause by hand, the log lines, the figures
//! and the account of what goes back in line when the sink is well again.

use super::figures::SinkFigures;
use crate::observe::limiter::Limiter;
use base::{
    clock::{Timestamp, millis},
    neighbour::{Asked, Neighbour, Standing, Turn},
    sync::lock,
    trust::{Change, Ended, Kind, Moment, Own, Proof, Resumption, Verdict},
};
use delivery::SinkName;
use inbox::rules::Order;
use std::{sync::Mutex, time::Duration};

/// While a sink is paused: how often it is looked whether it still is.
const PAUSED_LOOK: Duration = Duration::from_millis(250);

/// What stands between the work for one sink and the sink.
#[derive(Debug)]
pub struct Gate {
    name: SinkName,
    known: Neighbour,
    /// Since when an operator has it paused.
    paused: Mutex<Option<Timestamp>>,
    back: Mutex<Back>,
    /// Failures by reason.
    lines: Limiter<String>,
    figures: SinkFigures,
}

/// What goes back in line.
#[derive(Debug)]
struct Back {
    resumption: Resumption,
    /// Before this, nothing is there that may go back.
    nothing_before: Moment,
    /// Whether something was parked since the sink last took a delivery.
    is_owed: bool,
}

/// After nothing was found that may go back: when to look again.
const NOTHING_FOUND: Duration = Duration::from_secs(10);

/// What is known of a sink now.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// How it stands.
    pub standing: Standing,
    /// Since when every delivery failed.
    pub failing_since: Option<Timestamp>,
    /// Since when an operator has it paused.
    pub paused: Option<Timestamp>,
}

impl Gate {
    /// Of a sink of which nothing is known yet.
    #[must_use]
    pub fn new(name: SinkName, order: Order, figures: SinkFigures) -> Self {
        Self {
            name,
            known: Neighbour::new(fastrand::u64(..)),
            paused: Mutex::default(),
            back: Mutex::new(Back {
                resumption: match order {
                    Order::Strict => Resumption::alone(),
                    Order::Resume => Resumption::default(),
                },
                nothing_before: Moment::default(),
                is_owed: false,
            }),
            lines: Limiter::default(),
            figures,
        }
    }

    /// The sink's configured name.
    #[must_use]
    pub fn name(&self) -> &SinkName {
        &self.name
    }

    /// What is known of the sink now.
    #[must_use]
    pub fn view(&self) -> View {
        let (standing, failing_since) = (self.known.standing(), self.known.failing_since());
        View { standing, failing_since, paused: *lock(&self.paused) }
    }

    /// Pauses it, or lets it go on. What is under way ends.
    pub fn set_paused(&self, since: Option<Timestamp>) {
        let mut paused = lock(&self.paused);
        if paused.is_some() != since.is_some() {
            let sink = &self.name;
            if since.is_some() {
                tracing::warn!(code = "sink_paused", %sink, "the sink is paused by an operator: its deliveries wait until `sink resume`");
            } else {
                tracing::info!(code = "sink_resumed", %sink, "the sink is not paused any more");
            }
        }
        *paused = since;
        self.figures.paused.set(since.is_some().into());
    }

    /// Nothing waits for the sink, so there is nothing that fails. Another receiver may have delivered it, or a person given it up.
    pub(super) fn nothing_waits(&self) {
        self.known.nothing_waits();
        self.show();
    }

    /// For how long no delivery need be taken up, and how many may be taken up else.
    pub(super) fn room(&self) -> (Option<Duration>, usize) {
        self.show();
        if lock(&self.paused).is_some() { (Some(PAUSED_LOOK), 0) } else { self.known.room() }
    }

    /// Whether a delivery of a connection may go now.
    pub(super) fn ask(&self, connection: &str, hands: usize) -> Asked<'_> {
        self.known.ask(connection, hands)
    }

    /// Gives up deliveries that hang, because others wait.
    pub(super) fn make_room(&self, hands: usize) {
        self.known.make_room(hands, 1);
    }

    /// A delivery ended.
    pub(super) fn end(&self, turn: Turn<'_>, ended: Ended) {
        let change = turn.end(ended);
        self.show();
        if let Some(change) = change {
            self.log(change);
        }
    }

    /// The sink took a delivery.
    pub(super) fn took(&self, connection: &str) {
        let was_refusing = self.known.succeeded(connection);
        if was_refusing {
            self.show();
            tracing::info!(code = "sink_takes_again", sink = %self.name, "the sink takes deliveries again, after it refused them");
        }
        if was_refusing || lock(&self.back).is_owed {
            self.is_well();
        }
    }

    /// The sink refused a delivery: whether that is believed.
    pub(super) fn refused(&self, connection: &str, kind: Kind, own: Own, proof: Proof) -> Verdict {
        self.known.refused(connection, kind, own, proof)
    }

    /// Whether a failure is to be logged; if not, it is counted for [`summary`](Self::summary).
    pub(super) fn is_first(&self, reason: &str) -> bool {
        self.lines.is_first(reason.to_owned())
    }

    /// Says how many failures were not logged since the last call.
    pub(super) fn summary(&self) {
        for (reason, count) in self.lines.silenced() {
            tracing::warn!(code = "delivery_retried_more", sink = %self.name, reason, count, "more deliveries failed for the same reason in the last minute");
        }
    }

    /// A delivery was parked because of the sink's trouble.
    pub(super) fn parked(&self) {
        let mut back = lock(&self.back);
        back.is_owed = true;
        back.resumption.ended(false, self.known.now());
    }

    /// A delivery that had gone back in line by itself was tried.
    pub(super) fn tried_again(&self, went_well: bool) {
        lock(&self.back).resumption.ended(went_well, self.known.now());
    }

    /// How many deliveries may go back in line now.
    pub(super) fn allowance(&self) -> usize {
        if lock(&self.paused).is_some() {
            return 0;
        }
        let now = self.known.now();
        let back = lock(&self.back);
        if now < back.nothing_before { 0 } else { back.resumption.allowance(now) }
    }

    /// So many went back in line; up to `allowed` might have.
    pub(super) fn put_back(&self, count: usize, allowed: usize) {
        let now = self.known.now();
        let mut back = lock(&self.back);
        if count > 0 {
            back.resumption.put_back(count, now);
            self.figures.resumed.inc_by(count as u64);
        }
        if count < allowed {
            back.nothing_before = now.after(NOTHING_FOUND);
        }
    }

    fn is_well(&self) {
        let mut back = lock(&self.back);
        back.nothing_before = Moment::default();
        back.is_owed = false;
        back.resumption.begin_again();
    }

    fn show(&self) {
        self.figures.breaker_open.set(self.known.is_left_alone().into());
        let since = self.known.failing_since().map_or(0, Timestamp::as_seconds);
        // The two clocks differ by a moment each time.
        if since == 0 || since.abs_diff(self.figures.failing_since.get()) > 1 {
            self.figures.failing_since.set(since);
        }
    }

    fn log(&self, change: Change) {
        let sink = &self.name;
        match change {
            Change::Down => tracing::warn!(
                code = "sink_down",
                %sink,
                "the sink failed for several connections, and for none it worked: it is left alone, and single deliveries try it"
            ),
            Change::Up => {
                tracing::info!(code = "sink_up", %sink, "the sink answers again and is given deliveries as before");
                self.is_well();
            }
            Change::Rests(asked) => tracing::warn!(
                code = "sink_rests",
                %sink,
                pause_ms = millis(asked),
                "the sink asked several connections for a rest (Retry-After) and is left alone for that long"
            ),
            Change::ConnectionRests(asked) => tracing::info!(
                code = "sink_connection_rests",
                %sink,
                pause_ms = millis(asked),
                "the sink asked for a rest (Retry-After) for one connection; the others go on"
            ),
        }
    }
}
