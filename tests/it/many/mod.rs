//! Several receivers of one inbox on PostgreSQL, behind a balancer: what is promised of them together.
//!
//! `PROOF_MANY` says for how many seconds faults are made; without it each kind is made once.
//!
//! | file | what |
//! | --- | --- |
//! | `history` | what was seen, and whether it may have been so: pure |
//! | `callers` | callers, each with a bank connection of its own |
//! | `consumer` | the integrator's endpoint |
//! | `balancer` | HAProxy, as shipped |
//! | `receivers` | the processes |

mod balancer;
mod callers;
mod consumer;
mod history;
mod receivers;

use crate::support::{eventually, rounds::times};
use callers::{Callers, Sockets};
use double::servers::{Options, Postgres};
use history::{History, LEASE, Outcome};
use receivers::{Journal, Receivers};
use std::time::{Duration, Instant};
use tokio::{task::block_in_place, time::sleep};

/// Callers, and as many bank connections.
const CALLERS: u64 = 12;
const RECEIVERS: usize = 3;

fn postgres() -> Postgres {
    Postgres::start(&Options::default()).unwrap_or_else(|error| panic!("{}", base::error::chain(&error)))
}

/// Waits until so many more events were taken.
async fn more(callers: &Callers, count: usize) {
    let moment = callers.taken() + count;
    eventually("callers are served", async || (callers.taken() >= moment).then_some(())).await;
}

/// Waits until everything that was acknowledged is delivered, and holds every promise.
async fn held(receivers: &Receivers, callers: Callers) -> History {
    let posts = callers.finish().await;
    let mut history = History { posts, ..receivers.history() };
    // What a killed receiver had leased is waited for, more than once where it fell to another one that was killed. What gathered while
    // nothing could be delivered is waited for as long as it becomes less.
    let (mut left, mut until) = (usize::MAX, Instant::now());
    loop {
        let missing = history.missing().len();
        if missing < left {
            (left, until) = (missing, Instant::now() + 3 * LEASE);
        }
        if missing == 0 || Instant::now() >= until {
            break;
        }
        sleep(Duration::from_millis(200)).await;
        history.deliveries = receivers.history().deliveries;
    }
    assert_eq!(history.broken(), [""; 0], "of {} acknowledged", history.acknowledged().len());
    history
}

/// Every receiver is replaced, one after the other, while callers post: each post is answered 200.
#[tokio::test(flavor = "multi_thread")]
async fn receivers_are_replaced_one_after_the_other_and_no_request_fails() {
    let postgres = postgres();
    let mut receivers = Receivers::start(RECEIVERS, CALLERS, &postgres.url(), Journal::Off).await;
    let callers = Callers::start(CALLERS, &receivers.door, Sockets::Both);
    let until = Instant::now() + Duration::from_secs(times("PROOF_MANY", 0) as u64 / 4);
    let mut replaced = 0;
    while replaced < RECEIVERS || Instant::now() < until {
        more(&callers, 100).await;
        receivers.replace(replaced % RECEIVERS).await;
        receivers.serves(replaced % RECEIVERS).await;
        replaced += 1;
    }
    let history = held(&receivers, callers).await;
    let failed: Vec<_> = history.posts.iter().filter(|post| post.outcome != Outcome::Taken).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), history.posts.len());
    eprintln!("{} posts while receivers were replaced {replaced} times, none failed", history.posts.len());
}

/// Receivers are killed, stand still, are replaced; PostgreSQL ends in good order, and without a warning.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_or_stands_still_nothing_is_lost_and_order_holds() {
    let mut postgres = postgres();
    let mut receivers = Receivers::start(RECEIVERS, CALLERS, &postgres.url(), Journal::Off).await;
    let callers = Callers::start(CALLERS, &receivers.door, Sockets::Both);
    let seconds = times("PROOF_MANY", 0);
    let until = Instant::now() + Duration::from_secs(seconds as u64);
    let (mut returns, mut faults) = (Vec::new(), 0);
    while faults == 0 || Instant::now() < until {
        let mut kinds = [Fault::Kill, Fault::StandStill, Fault::Replace, Fault::StopStore, Fault::KillStore];
        fastrand::shuffle(&mut kinds);
        for kind in kinds {
            more(&callers, 50).await;
            let victim = fastrand::usize(..RECEIVERS);
            match kind {
                Fault::Kill => {
                    receivers.kill(victim).await;
                    sleep(Duration::from_millis(fastrand::u64(..1500))).await;
                    receivers.begin(victim).await;
                }
                // In a long trial also for longer than a lease lasts.
                Fault::StandStill if seconds > 0 && fastrand::u8(..5) == 0 => {
                    receivers.stand_still(victim, LEASE + Duration::from_secs(15)).await;
                }
                Fault::StandStill => {
                    receivers.stand_still(victim, Duration::from_millis(fastrand::u64(200..3000))).await;
                }
                Fault::Replace => receivers.replace(victim).await,
                Fault::StopStore | Fault::KillStore => {
                    block_in_place(|| if kind == Fault::StopStore { postgres.stop() } else { postgres.kill() });
                    sleep(Duration::from_millis(fastrand::u64(..2000))).await;
                    block_in_place(|| postgres.restart()).unwrap();
                    returns.push(Instant::now());
                }
            }
            faults += 1;
        }
    }
    more(&callers, 50).await;
    let history = held(&receivers, callers).await;
    let gaps: Vec<_> =
        returns.iter().map(|moment| history.first_taken_after(*moment).expect("callers go on")).collect();
    eprintln!(
        "{faults} faults: {} acknowledged and delivered, {} refused, {} broken off, {} delivered once more; after PostgreSQL was \
         back the first new event was taken within {:?} at the most",
        history.acknowledged().len(),
        history.count(Outcome::Refused),
        history.count(Outcome::Broken),
        history.repeats(),
        gaps.iter().max().unwrap(),
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    StandStill,
    Replace,
    StopStore,
    KillStore,
}

/// With a journal no caller notices that PostgreSQL is away.
#[tokio::test(flavor = "multi_thread")]
async fn with_journals_every_event_is_taken_while_postgres_is_away() {
    let mut postgres = postgres();
    let receivers = Receivers::start(RECEIVERS, CALLERS, &postgres.url(), Journal::On).await;
    // The order of a connection holds within one receiver, as long as PostgreSQL is away.
    let callers = Callers::start(CALLERS, &receivers.door, Sockets::Kept);
    let until = Instant::now() + Duration::from_secs(times("PROOF_MANY", 0) as u64 / 4);
    let mut outages = 0;
    while outages < 2 || Instant::now() < until {
        more(&callers, 50).await;
        block_in_place(|| if outages % 2 == 0 { postgres.stop() } else { postgres.kill() });
        more(&callers, 100).await;
        block_in_place(|| postgres.restart()).unwrap();
        outages += 1;
    }
    let history = held(&receivers, callers).await;
    let failed: Vec<_> = history.posts.iter().filter(|post| post.outcome != Outcome::Taken).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), history.posts.len());
    let longest = history.posts.iter().map(|post| post.ended - post.sent).max().unwrap();
    eprintln!(
        "{} posts over {outages} outages of PostgreSQL, none failed, the longest took {longest:?}",
        history.posts.len()
    );
}
