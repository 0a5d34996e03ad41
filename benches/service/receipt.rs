//! Receipt and handshakes, against the ceiling, in turns.

use crate::{
    Outcome,
    bodies::Bodies,
    child::Process,
    measure::{Round, Scale, median, posts, round},
    note,
    scene::{Scene, Settings},
};
use double::load::{Load, Target};
use std::{cell::RefCell, fmt::Write as _, fs::File, os::unix::fs::FileExt as _, time::Instant};

/// Bare syncs that are timed at a time.
const SYNCS: usize = 500;

const HEAD: &str = "\
| connections | ceiling, events/s | service, events/s | ratio | ceiling p50 / p99, ms | service p50 / p99, ms | p99 ratio | CPU a post, µs: ceiling / service |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
";

/// One of the two that are compared.
struct Side {
    process: Process,
    target: Target,
}

impl Side {
    async fn post(&self, plan: Load, status: u16, after: impl Future<Output = Outcome<()>>) -> Outcome<Round> {
        round(&self.target, &self.process, plan, status, Bodies::new()?, after).await
    }
}

/// Rounds of both, pair by pair.
type Pairs = Vec<(Round, Round)>;

/// Durable receipt, with nothing else to do.
pub(crate) async fn alone(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let sink = scene.file_sink("delivered.ndjson");
    let configuration = scene.configuration("receipt", Settings { workers: 0, sink: &sink, linxo: "" })?;
    let (ceiling, service) = both(&scene, &configuration, "/webhooks/linxo").await?;
    let (mut table, mut one) = (format!("### Durable receipt\n\n{HEAD}"), String::new());
    let syncs = RefCell::new(Vec::new());
    for connections in [1, 16, 64, 256] {
        // The ceiling's turn begins when the store has everything, or it would have half a machine.
        let calm = || async {
            scene.folded("receipt").await?;
            if connections == 1 {
                syncs.borrow_mut().push(bare_sync(&scene)?);
            }
            Ok(())
        };
        let pairs = compare(scale, &ceiling, &service, connections, false, 200, calm).await?;
        row(&mut table, connections, &pairs)?;
        if connections == 1 {
            let (bare, own) = (median(syncs.take()), median(pairs.iter().map(|(_, service)| service.p50)));
            one = format!(
                "\nA bare `fdatasync` of the same bytes, in turns with one connection: {bare:.2} ms at the median; \
                 the service answers after {:.1} times that.\n",
                own / bare
            );
        }
    }
    table.push_str(&one);
    Ok(table)
}

/// The median of many syncs of one event each, written one behind the other into a file that has its length, in milliseconds.
fn bare_sync(scene: &Scene) -> Outcome<f64> {
    let body = Bodies::new()?.make(0);
    let file = File::create(scene.path("bare"))?;
    file.write_all_at(&vec![0; SYNCS * body.len()], 0)?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(SYNCS);
    for number in 0..SYNCS {
        let started = Instant::now();
        file.write_all_at(&body, (number * body.len()) as u64)?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(times))
}

/// The same, while what was accepted is delivered to a file.
pub(crate) async fn beside(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let sink = scene.file_sink("delivered.ndjson");
    let configuration = scene.configuration("beside", Settings { workers: 32, sink: &sink, linxo: "" })?;
    let (ceiling, service) = both(&scene, &configuration, "/webhooks/linxo").await?;
    let mut table = format!("### Durable receipt, with delivery to a file beside it\n\n{HEAD}");
    let calm = || scene.calm("beside");
    let connections = 64;
    let pairs = compare(scale, &ceiling, &service, connections, false, 200, calm).await?;
    row(&mut table, connections, &pairs)?;
    Ok(table)
}

/// A new connection, with a full handshake, for every request.
pub(crate) async fn handshakes(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let sink = scene.file_sink("delivered.ndjson");
    let configuration = scene.configuration("handshakes", Settings { workers: 0, sink: &sink, linxo: "" })?;
    let mut table = "### New connections, each with a full TLS 1.3 handshake and one request\n\n\
                     | request | ceiling, /s | service, /s | ratio | CPU a connection, µs: ceiling / service |\n\
                     | --- | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for (name, path, status) in
        [("another path, answered 404", "/", 404), ("an event, stored and synced", "/webhooks/linxo", 200)]
    {
        let (ceiling, service) = both(&scene, &configuration, path).await?;
        let pairs = compare(scale, &ceiling, &service, 64, true, status, || async { Ok(()) }).await?;
        let of = |figure: fn(&(Round, Round)) -> f64| median(pairs.iter().map(figure));
        writeln!(
            table,
            "| {name} | {:.0} | {:.0} | {:.2} | {:.0} / {:.0} |",
            of(|(ceiling, _)| ceiling.rate),
            of(|(_, service)| service.rate),
            of(|(ceiling, service)| service.rate / ceiling.rate),
            of(|(ceiling, _)| ceiling.cpu),
            of(|(_, service)| service.cpu),
        )?;
        service.process.stop().await?;
    }
    Ok(table)
}

async fn both(scene: &Scene, configuration: &std::path::Path, path: &str) -> Outcome<(Side, Side)> {
    let ceiling = Process::role("ceiling", configuration).await?;
    let service = Process::service(configuration).await?;
    let (ceiling_target, service_target) = (scene.target_at(&ceiling, path)?, scene.target_at(&service, path)?);
    Ok((Side { process: ceiling, target: ceiling_target }, Side { process: service, target: service_target }))
}

/// A warm-up of each side, then rounds in turns; `calm` is awaited after each round.
async fn compare<C, F>(
    scale: &Scale,
    ceiling: &Side,
    service: &Side,
    concurrency: usize,
    reconnect: bool,
    status: u16,
    calm: C,
) -> Outcome<Pairs>
where
    C: Fn() -> F,
    F: Future<Output = Outcome<()>>,
{
    let plan = |posts| Load { posts, concurrency, rate: None, reconnect };
    let mut counts = [0, 0];
    for (count, side) in counts.iter_mut().zip([ceiling, service]) {
        let warm = side.post(plan(20 * concurrency as u64 + 1000), status, calm()).await?;
        *count = posts(warm.rate, scale);
    }
    let [of_ceiling, of_service] = counts;
    let mut pairs = Pairs::new();
    for _ in 0..scale.rounds {
        let first = ceiling.post(plan(of_ceiling), status, calm()).await?;
        let second = service.post(plan(of_service), status, calm()).await?;
        note(&format!(
            "  {concurrency} connections: ceiling {:.0}/s p99 {:.1} ms, service {:.0}/s p99 {:.1} ms",
            first.rate, first.p99, second.rate, second.p99
        ));
        pairs.push((first, second));
    }
    Ok(pairs)
}

fn row(table: &mut String, connections: usize, pairs: &Pairs) -> std::fmt::Result {
    let of = |figure: fn(&(Round, Round)) -> f64| median(pairs.iter().map(figure));
    writeln!(
        table,
        "| {connections} | {:.0} | {:.0} | {:.2} | {:.2} / {:.2} | {:.2} / {:.2} | {:.1} | {:.0} / {:.0} |",
        of(|(ceiling, _)| ceiling.rate),
        of(|(_, service)| service.rate),
        of(|(ceiling, service)| service.rate / ceiling.rate),
        of(|(ceiling, _)| ceiling.p50),
        of(|(ceiling, _)| ceiling.p99),
        of(|(_, service)| service.p50),
        of(|(_, service)| service.p99),
        of(|(ceiling, service)| service.p99 / ceiling.p99),
        of(|(ceiling, _)| ceiling.cpu),
        of(|(_, service)| service.cpu),
    )
}
