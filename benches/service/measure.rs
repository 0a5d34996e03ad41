//! One round of posts, and what several rounds say together.

use crate::{Outcome, bodies::Bodies, child::Process};
use double::load::{Load, Target, load};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Rounds of each side.
    pub(crate) rounds: usize,
    /// Aim of one round.
    pub(crate) round: Duration,
    /// Everything that is counted is divided by this.
    pub(crate) divisor: u64,
}

impl Scale {
    pub(crate) const FULL: Self = Self { rounds: 5, round: Duration::from_millis(2500), divisor: 1 };
    pub(crate) const QUICK: Self = Self { rounds: 2, round: Duration::from_secs(1), divisor: 10 };
}

/// One round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
    /// Processor time of the receiving process for one post and what follows from it, in microseconds.
    pub(crate) cpu: f64,
}

/// Posts `posts` bodies and wants this status for each; then awaits `after`, which ends when what follows from them is done.
pub(crate) async fn round(
    target: &Target,
    process: &Process,
    plan: Load,
    status: u16,
    bodies: Bodies,
    after: impl Future<Output = Outcome<()>>,
) -> Outcome<Round> {
    let before = process.cpu()?;
    let started = Instant::now();
    let summary = load(target, plan, move |number| bodies.make(number), |_, _| {}).await?;
    let elapsed = started.elapsed();
    after.await?;
    let cpu = process.cpu()?.saturating_sub(before);
    let statuses: BTreeSet<u16> = summary.statuses.keys().copied().collect();
    if !summary.failures.is_empty() || statuses != BTreeSet::from([status]) {
        return Err(format!("answers other than {status}: {:?} {:?}", summary.statuses, summary.failures).into());
    }
    let posts = Duration::from_secs(plan.posts).as_secs_f64();
    let millis = |share| Duration::from_micros(summary.quantile(share)).as_secs_f64() * 1e3;
    Ok(Round {
        rate: posts / elapsed.as_secs_f64(),
        p50: millis(0.5),
        p99: millis(0.99),
        cpu: cpu.as_secs_f64() * 1e6 / posts,
    })
}

/// Posts that take about as long as a round should.
pub(crate) fn posts(rate: f64, scale: &Scale) -> u64 {
    let posts = Duration::from_secs_f64(rate).mul_f64(scale.round.as_secs_f64()).as_secs();
    posts.max(100)
}

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 {
        return upper;
    }
    let lower = values.len().checked_sub(1).and_then(|last| values.get(last / 2)).copied().unwrap_or(f64::NAN);
    f64::midpoint(lower, upper)
}
