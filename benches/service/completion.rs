//! How fast truncated events are completed from the vendor's API and delivered to a file.

use crate::{
    Outcome,
    child::Process,
    footprint::mega,
    measure::Scale,
    scene::{Scene, Settings},
};
use double::{
    Connection,
    events::{Plan, event},
    load::{Load, load},
};
use serde_json::json;
use std::{fmt::Write as _, fs, time::Instant};

/// `worker.concurrency`, `linxo.page_concurrency` and `linxo.max_requests`, as shipped.
const WORKERS: usize = 32;
const PAGES_AT_ONCE: u64 = 8;
const REQUESTS_AT_ONCE: u64 = 16;
const PAGE: u64 = 100;

/// From the first post to the last settled delivery.
pub(crate) async fn run(scale: &Scale) -> Outcome<String> {
    let mut table = "### Completion from the API, and delivery to a file\n\n\
                     | case | took, s | what latency and limits allow, s | ratio | peak memory, MB |\n\
                     | --- | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for (accounts, spoken) in [(10_000_u64, "10,000"), (100_000, "100,000")] {
        // All pages side by side, as many as may be.
        let least = accounts.div_ceil(PAGE * PAGES_AT_ONCE) * 50;
        case(&mut table, &format!("one event of {spoken} accounts, 50 ms a page"), 1, accounts, 50, least).await?;
    }
    let (events, accounts) = (1000 / scale.divisor, 150_u64);
    let least = (events * accounts.div_ceil(PAGE)).div_ceil(REQUESTS_AT_ONCE) * 20;
    let name = format!("{events} events of 150 accounts on as many connections, 20 ms a page");
    case(&mut table, &name, events, accounts, 20, least).await?;
    Ok(table)
}

async fn case(table: &mut String, name: &str, events: u64, accounts: u64, latency: u64, least: u64) -> Outcome<()> {
    let scene = Scene::new()?;
    let plan = scene.path("vendor");
    fs::write(&plan, json!({ "connections": events, "accounts": accounts, "latency_ms": latency }).to_string())?;
    let vendor = Process::role("vendor", &plan).await?;
    let (sink, linxo) = (scene.file_sink("delivered.ndjson"), scene.linxo(&vendor.address)?);
    let configuration = scene.configuration("completion", Settings { workers: WORKERS, sink: &sink, linxo: &linxo })?;
    let service = Process::service(&configuration).await?;
    let plan = Load { posts: events, concurrency: 64, rate: None, reconnect: false };
    let accounts = usize::try_from(accounts)?;
    let make =
        move |number| event(&Plan::new(format!("event-{number}"), Connection::numbered(number, accounts))).into();
    let started = Instant::now();
    let summary = load(&scene.target(&service)?, plan, make, |_, _| {}).await?;
    scene.worked_off("completion", events).await?;
    let took = started.elapsed().as_secs_f64();
    if !summary.all_accepted() || scene.delivered("completion")? != events {
        return Err("not every event was delivered".into());
    }
    let least = f64::from(u32::try_from(least)?) / 1e3;
    let peak = mega(service.peak()?)?;
    writeln!(table, "| {name} | {took:.2} | {least:.2} | {:.2} | {peak:.1} |", took / least)?;
    service.stop().await
}
