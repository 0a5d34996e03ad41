//! How many rows the server reads for what is asked of it: as many as are asked for, however many wait.

use super::{at, event, eventually, open, server};
use double::servers::Postgres;
use futures_util::future::join_all;
use inbox::{Inbox, Lease, Outcome, SinkName, Stage};
use std::{ops::Range, time::Duration};

/// Bank connections.
const CONNECTIONS: usize = 12;
/// Events that wait.
const WAITING: usize = 2000;
/// Deliveries that are made of them at least.
const DELIVERED: usize = 200;

/// The server knows nothing of its tables yet, as after a crash: a planner that takes what waits for little may read all of it for each
/// claim. It does so where a claim takes several.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_reads_no_more_where_many_wait() {
    let server = server().await;
    server.sql("ALTER SYSTEM SET autovacuum = off").unwrap();
    server.sql("SELECT pg_reload_conf()").unwrap();
    let inbox = open(&at(&server.url())).await;
    accept(&inbox, 0..WAITING).await;
    inbox.upkeep.close().await;
    let before = read(&server).await;
    let inbox = open(&at(&server.url())).await;
    let mut delivered = 0;
    while delivered < DELIVERED {
        delivered += deliver(&inbox, CONNECTIONS).await;
    }
    inbox.upkeep.close().await;
    let each = (read(&server).await - before) / delivered;
    println!("{each} rows for a delivery");
    assert!(each < WAITING / 20, "{each} rows for a delivery, while {WAITING} wait");
}

/// How many rows of stages were read by all sessions so far. They tell it when they end.
async fn read(server: &Postgres) -> usize {
    let others =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    eventually("every session has ended", async || (server.sql(others).unwrap().trim() == "0").then_some(())).await;
    let read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'stage'";
    server.sql(read).unwrap().trim().parse().unwrap()
}

async fn accept(inbox: &Inbox, numbers: Range<usize>) {
    let events = numbers.map(|number| event(&format!("e{number}"), &format!("c{}", number % CONNECTIONS)));
    for receipt in join_all(events.map(|event| inbox.intake.accept(event))).await {
        receipt.unwrap();
    }
}

/// Delivers so many at most; returns how many there were.
async fn deliver(inbox: &Inbox, limit: usize) -> usize {
    let stage = Stage::Deliver(SinkName::new("app"));
    let claimed = inbox.queue.claim(&stage, limit, Duration::from_mins(1)).await.unwrap();
    let ended: Vec<(&Lease, Outcome)> = claimed.leases.iter().map(|lease| (lease, Outcome::Done)).collect();
    for settled in inbox.queue.settle(&ended).await {
        settled.unwrap();
    }
    ended.len()
}
