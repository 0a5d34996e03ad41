//! Failures of the server and of the network, without a journal: events are refused meanwhile, and taken again by themselves.

use super::{accepted, at, event, eventually, open, server, stored};
use double::servers::{Postgres, Proxy, Weather};
use inbox::{Error, Filter, Inbox};
use rstest::rstest;
use std::time::{Duration, Instant};

/// What happens to the way, or to the server.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Restart,
    Crash,
    Sessions,
    Freeze,
    Stall,
    Reset,
    ReadOnly,
}

#[rstest]
#[case::restart(Failure::Restart)]
#[case::crash(Failure::Crash)]
#[case::sessions(Failure::Sessions)]
#[case::freeze(Failure::Freeze)]
#[case::stall(Failure::Stall)]
#[case::reset(Failure::Reset)]
#[case::read_only(Failure::ReadOnly)]
#[tokio::test(flavor = "multi_thread")]
async fn events_are_refused_while_the_server_is_away_and_taken_when_it_is_back(#[case] failure: Failure) {
    let mut server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let inbox = open(&at(&proxy.postgres_url())).await;
    accepted(&inbox, "before", "c").await;
    begin(failure, &mut server, &proxy);
    if !matches!(failure, Failure::Sessions) {
        let started = Instant::now();
        let refused =
            eventually("an event is refused", async || inbox.intake.accept(event("lost", "c")).await.err()).await;
        assert!(matches!(refused, Error::Away(_) | Error::Store(_)), "{refused:?}");
        assert!(started.elapsed() < Duration::from_secs(30), "nobody waits for ever");
        eventually("it is known not to be ready", async || inbox.intake.ready().err()).await;
    }
    end(failure, &mut server, &proxy);
    let back = Instant::now();
    accepted(&inbox, "after", "c").await;
    println!("{failure:?}: first event {:?} after the server was back", back.elapsed());
    eventually("it is ready", async || inbox.intake.ready().ok()).await;
    // An event that was not answered may be there; what was answered is.
    let ids = stored(&inbox, 2).await;
    let answered: Vec<&String> = ids.iter().filter(|id| *id != "lost").collect();
    assert_eq!(answered, ["before", "after"]);
    inbox.upkeep.close().await;
}

fn begin(failure: Failure, server: &mut Postgres, proxy: &Proxy) {
    match failure {
        Failure::Restart => server.stop(),
        Failure::Crash => server.kill(),
        Failure::Sessions => {
            let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'linxo-webhook'";
            assert_ne!(server.sql(sql).unwrap(), "0");
        }
        Failure::Freeze => server.freeze(),
        Failure::Stall => proxy.set(Weather::Stalled),
        Failure::Reset => proxy.set(Weather::Reset),
        Failure::ReadOnly => read_only(server, "on"),
    }
}

fn end(failure: Failure, server: &mut Postgres, proxy: &Proxy) {
    match failure {
        Failure::Restart | Failure::Crash => server.restart().unwrap(),
        Failure::Sessions => {}
        Failure::Freeze => server.thaw(),
        Failure::Stall | Failure::Reset => proxy.set(Weather::Fair),
        Failure::ReadOnly => read_only(server, "off"),
    }
}

fn read_only(server: &Postgres, word: &str) {
    server.sql(&format!("ALTER SYSTEM SET default_transaction_read_only = {word}")).unwrap();
    server.sql("SELECT pg_reload_conf()").unwrap();
}

/// Bytes that arrive one by one are slow, and no damage.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_trickles_loses_nothing() {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let inbox = open(&at(&proxy.postgres_url())).await;
    accepted(&inbox, "e1", "c").await;
    proxy.set(Weather::Trickle);
    drop(inbox.intake.accept(event("e2", "c")).await);
    proxy.set(Weather::Fair);
    accepted(&inbox, "e2", "c").await;
    assert_eq!(stored(&inbox, 2).await, ["e1", "e2"]);
}

/// More callers than connections: all are served.
#[tokio::test(flavor = "multi_thread")]
async fn callers_share_few_connections() {
    let server = server().await;
    let inbox = open(&inbox::Settings { connections: 4, ..at(&server.url()) }).await;
    let calls = (0..200).map(|n| {
        let inbox: Inbox = inbox.clone();
        tokio::spawn(async move { inbox.intake.accept(event(&format!("e{n}"), &format!("c{}", n % 7))).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert_eq!(stored(&inbox, 200).await.len(), 200);
    let count = server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'linxo-webhook'").unwrap();
    assert!(count.parse::<usize>().unwrap() <= 6, "{count}");
}

/// A standby that has everything is the same inbox; a server that has nothing is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_goes_on_with_the_same_inbox_and_stops_at_another() {
    let mut first = server().await;
    let proxy = Proxy::start(first.port()).await.unwrap();
    let inbox = open(&at(&proxy.postgres_url())).await;
    accepted(&inbox, "e1", "c").await;
    let caught_up = first.standby().unwrap();
    accepted(&inbox, "e2", "c").await;
    eventually("the standby has it", async || {
        let there = caught_up.sql("SELECT count(*) FROM linxo_webhook.entry").ok()?;
        (there == "2").then_some(())
    })
    .await;

    // To a server where somebody has made a new inbox.
    let empty = server().await;
    first.kill();
    proxy.lead_to(empty.port());
    let told = eventually("it is told that this is another inbox", async || {
        let error = inbox.intake.ready().err()?;
        matches!(error, Error::Unusable { .. }).then(|| base::error::chain(&error))
    })
    .await;
    assert!(told.contains("holds another inbox"), "{told}");
    assert!(inbox.intake.accept(event("e3", "c")).await.is_err());
    assert!(inbox.upkeep.stats().await.unwrap().is_foreign);
    assert_eq!(empty.sql("SELECT count(*) FROM linxo_webhook.entry").unwrap(), "0", "nothing was given to it");

    // To the standby.
    caught_up.promote().unwrap();
    proxy.lead_to(caught_up.port());
    proxy.set(Weather::Reset);
    proxy.set(Weather::Fair);
    accepted(&inbox, "e3", "c").await;
    assert_eq!(stored(&inbox, 3).await, ["e1", "e2", "e3"]);
    assert!(!inbox.upkeep.stats().await.unwrap().is_foreign);
}

/// Somebody else who locks what this service locks, and in another order, meets it in a deadlock. The server ends one of both, and what
/// was ended is done again.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_ended_in_a_deadlock_does_it_again() {
    let server = std::sync::Arc::new(server().await);
    let inbox = open(&at(&server.url())).await;
    accepted(&inbox, "e1", "c1").await;
    accepted(&inbox, "e2", "c2").await;
    let wrong = "BEGIN; SELECT key FROM linxo_webhook.line ORDER BY key DESC LIMIT 1 FOR UPDATE; SELECT pg_sleep(0.5);
                 SELECT key FROM linxo_webhook.line ORDER BY key LIMIT 1 FOR UPDATE; COMMIT";
    let other = std::sync::Arc::clone(&server);
    let other = tokio::task::spawn_blocking(move || other.sql(wrong));
    eventually("the other one has its first lock", async || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        (server.sql(waits).ok()? == "1").then_some(())
    })
    .await;
    let parked = inbox.desk.park(&Filter::default(), 10, "by hand").await.unwrap();
    assert_eq!(parked.changed, 2);
    drop(other.await.unwrap());
    assert!(server.log().contains("deadlock detected"), "{}", server.log());
}
