//! How fast a waiting backlog is delivered, and up to which rate what comes is delivered meanwhile.

use crate::{
    Outcome,
    bodies::Bodies,
    child::Process,
    measure::{Scale, round},
    scene::{Scene, Settings},
};
use double::load::{Load, load};
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};
use tokio::time::sleep;

const BACKLOG: u64 = 20_000;
/// Events a second that come while others are delivered.
const RATES: [u32; 4] = [4_000, 6_000, 8_000, 10_000];
/// Seconds for which they come.
const LASTS: u32 = 10;

/// Into an endpoint, and into a file.
pub(crate) async fn run(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let endpoint = Process::role("endpoint", &scene.path("endpoint")).await?;
    let entries = BACKLOG / scale.divisor;
    let mut table = format!(
        "### Delivery of {entries} waiting events\n\n| sink | events/s | CPU an event, µs |\n| --- | ---: | ---: |\n"
    );
    let sinks = [
        ("http", "HTTP, signed, an endpoint that answers at once", scene.http_sink(&endpoint.address)?),
        ("file", "file, synced", scene.file_sink("delivered.ndjson")),
    ];
    for (name, words, sink) in &sinks {
        let Drained { rate, cpu } = drained(&scene, name, entries, sink).await?;
        writeln!(table, "| {words} | {rate:.0} | {cpu:.0} |")?;
    }
    Ok(table)
}

/// How a backlog was worked off.
pub(crate) struct Drained {
    /// Deliveries a second.
    pub(crate) rate: f64,
    /// Processor time of the service for one, in microseconds.
    pub(crate) cpu: f64,
}

/// Makes a backlog, and has it delivered: from the start of the service to the last settled delivery.
pub(crate) async fn drained(scene: &Scene, name: &str, entries: u64, sink: &str) -> Outcome<Drained> {
    let configuration = scene.configuration(name, Settings { workers: 0, sink, linxo: "" })?;
    let service = Process::service(&configuration).await?;
    let plan = Load { posts: entries, concurrency: 64, rate: None, reconnect: false };
    let bodies = Bodies::new()?;
    let summary = load(&scene.target(&service)?, plan, move |number| bodies.make(number), |_, _| {}).await?;
    if !summary.all_accepted() {
        return Err("the backlog was not accepted".into());
    }
    service.stop().await?;

    scene.configuration(name, Settings { workers: 32, sink, linxo: "" })?;
    let started = Instant::now();
    let service = Process::service(&configuration).await?;
    scene.worked_off(name, entries).await?;
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = service.cpu()?.as_secs_f64();
    let delivered = scene.delivered(name)?;
    if delivered != entries {
        return Err(format!("{delivered} of {entries} were delivered").into());
    }
    service.stop().await?;
    let events = f64::from(u32::try_from(entries)?);
    Ok(Drained { rate: events / elapsed, cpu: cpu * 1e6 / events })
}

/// Events come at rates that are kept, and are delivered to a file beside that. Where deliveries keep up, as little waits at
/// the end as at any time.
pub(crate) async fn steady(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let sink = scene.file_sink("delivered.ndjson");
    let configuration = scene.configuration("steady", Settings { workers: 32, sink: &sink, linxo: "" })?;
    let service = Process::service(&configuration).await?;
    let target = scene.target(&service)?;
    let mut table = format!(
        "### Received and delivered to a file, {LASTS} s for each rate\n\n\
         | events/s that come | received/s | not delivered at the end | ms until they were | CPU an event, µs |\n\
         | ---: | ---: | ---: | ---: | ---: |\n"
    );
    let mut accepted = 0;
    for rate in RATES {
        let posts = u64::from(rate * LASTS) / scale.divisor;
        let plan = Load { posts, concurrency: 64, rate: Some(rate), reconnect: false };
        accepted += posts;
        let (mut left, mut late) = (0, 0);
        let delivered = async {
            let ended = Instant::now();
            left = scene.left("steady", accepted)?;
            while scene.left("steady", accepted)? > 0 {
                sleep(Duration::from_millis(2)).await;
            }
            late = ended.elapsed().as_millis();
            Ok(())
        };
        let came = round(&target, &service, plan, 200, Bodies::new()?, delivered).await?;
        writeln!(table, "| {rate} | {:.0} | {left} | {late} | {:.0} |", came.rate, came.cpu)?;
    }
    service.stop().await?;
    Ok(table)
}
