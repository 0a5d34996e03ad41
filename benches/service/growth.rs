//! What an event costs in an inbox that has held few, and in one that has held millions.

use crate::{
    Outcome,
    bodies::Bodies,
    child::Process,
    measure::{Round, Scale, median, posts, round},
    note,
    scene::{Scene, Settings},
};
use double::load::Load;
use std::{fmt::Write as _, time::Duration};
use tokio::time::sleep;

/// Done entries that are there before.
const THERE: [u64; 2] = [10_000, 5_000_000];
const CONNECTIONS: usize = 64;

/// Waits until a process that was just started has nothing left to do.
async fn idle(service: &Process) -> Outcome<()> {
    loop {
        let before = service.cpu()?;
        sleep(Duration::from_secs(2)).await;
        if service.cpu()?.saturating_sub(before) < Duration::from_millis(40) {
            return Ok(());
        }
    }
}

/// Events come and are delivered to a file, into both inboxes in turns.
pub(crate) async fn run(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let mut services = Vec::new();
    for there in THERE {
        let (name, entries) = (format!("growth-{there}"), there / scale.divisor);
        note(&format!("  {entries} entries are written ..."));
        let sink = scene.file_sink(&format!("{name}.ndjson"));
        let configuration = scene.configuration(&name, Settings { workers: 32, sink: &sink, linxo: "" })?;
        // The service itself makes the tables.
        Process::service(&configuration).await?.stop().await?;
        scene.fill(&name, entries, &Bodies::new()?.make(0), true)?;
        let service = Process::service(&configuration).await?;
        idle(&service).await?;
        services.push((name, entries, service));
    }
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); services.len()];
    for turn in 0..=scale.rounds {
        for ((name, _, service), rounds) in services.iter().zip(&mut rounds) {
            let posts = rounds.last().map_or(5_000, |last: &Round| posts(last.rate, scale));
            let plan = Load { posts, concurrency: CONNECTIONS, rate: None, reconnect: false };
            let made = round(&scene.target(service)?, service, plan, 200, Bodies::new()?, scene.calm(name)).await?;
            note(&format!("  {name}: {:.0}/s, {:.0} µs", made.rate, made.cpu));
            // The first is a warm-up.
            if turn < 2 {
                rounds.clear();
            }
            rounds.push(made);
        }
    }
    let mut table = format!(
        "### Received and delivered to a file beside done entries, {CONNECTIONS} connections\n\n\
         | done entries at the start | events/s | p99, ms | CPU an event, µs |\n| ---: | ---: | ---: | ---: |\n"
    );
    for ((_, entries, _), rounds) in services.iter().zip(&rounds) {
        let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
        writeln!(table, "| {entries} | {:.0} | {:.2} | {:.0} |", of(|r| r.rate), of(|r| r.p99), of(|r| r.cpu))?;
    }
    if let [few, many] = rounds.as_slice() {
        let ratio = median(few.iter().zip(many).map(|(few, many)| many.cpu / few.cpu));
        writeln!(table, "\nAn event costs {ratio:.2} times as much in the larger inbox.")?;
    }
    Ok(table)
}
