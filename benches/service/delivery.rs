//! How fast a waiting backlog is delivered.

use crate::{
    Outcome,
    bodies::Bodies,
    child::Process,
    measure::Scale,
    scene::{Scene, Settings},
};
use double::load::{Load, load};
use std::{fmt::Write as _, time::Instant};

const BACKLOG: u64 = 20_000;

/// From the start of the service to the last settled delivery.
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
        scene.worked_off(name).await?;
        let elapsed = started.elapsed().as_secs_f64();
        let cpu = service.cpu()?.as_secs_f64();
        let delivered = scene.delivered(name)?;
        if delivered != entries {
            return Err(format!("{delivered} of {entries} were delivered").into());
        }
        let events = f64::from(u32::try_from(entries)?);
        writeln!(table, "| {words} | {:.0} | {:.0} |", events / elapsed, cpu * 1e6 / events)?;
        service.stop().await?;
    }
    Ok(table)
}
