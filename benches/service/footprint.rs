//! Memory, and the time from start to `listening`.

use crate::{
    Outcome,
    bodies::Bodies,
    child::Process,
    measure::Scale,
    note,
    scene::{Scene, Settings, port},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const IDLE: u64 = 10_000;
/// After connections have gone: how long their memory may take to be given back.
const GONE: Duration = Duration::from_secs(15);
/// Descriptors that the processes need beside their connections.
const OTHER_DESCRIPTORS: u64 = 200;

/// Resident memory: idle, with idle connections, with a backlog.
pub(crate) async fn memory(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let sink = scene.file_sink("delivered.ndjson");
    let configuration = scene.configuration("memory", Settings { workers: 32, sink: &sink, linxo: "" })?;
    let mut table =
        "### Resident memory, MB\n\n| state | ceiling | service | ratio |\n| --- | ---: | ---: | ---: |\n".to_owned();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let room = limit.maximum.unwrap_or(u64::MAX).saturating_sub(OTHER_DESCRIPTORS);
    let connections = (IDLE / scale.divisor).min(room);
    let mut columns = Vec::new();
    for is_service in [false, true] {
        let process = if is_service {
            Process::service(&configuration).await?
        } else {
            Process::role("ceiling", &configuration).await?
        };
        sleep(Duration::from_millis(500)).await;
        let fresh = process.resident()?;
        let held = hold(&scene, &process, 1).await?;
        let one = process.resident()?;
        drop(held);
        let held = hold(&scene, &process, connections).await?;
        sleep(Duration::from_secs(1)).await;
        let many = process.resident()?;
        drop(held);
        sleep(GONE).await;
        columns.push([fresh, one, many, process.resident()?]);
    }
    let states = [
        "just started".to_owned(),
        "one connection, one event".to_owned(),
        format!("{connections} idle TLS connections, one event each"),
        format!("{} s after those have gone", GONE.as_secs()),
    ];
    if let [ceiling, service] = columns.as_slice() {
        for ((state, ceiling), service) in states.iter().zip(ceiling).zip(service) {
            let (ceiling, service) = (mega(*ceiling)?, mega(*service)?);
            writeln!(table, "| {state} | {ceiling:.1} | {service:.1} | {:.2} |", service / ceiling)?;
        }
    }
    for backlog in [2_000, 200_000 / scale.divisor] {
        let name = format!("backlog-{backlog}");
        note(&format!("  a backlog of {backlog}"));
        let configuration = filled(&scene, &name, backlog, false).await?;
        let service = Process::service(&configuration).await?;
        scene.worked_off(&name, backlog).await?;
        let peak = mega(service.peak()?)?;
        writeln!(table, "| peak while a backlog of {backlog} is delivered to a file | | {peak:.1} | |")?;
        service.stop().await?;
    }
    Ok(table)
}

/// From the start of the process to the log line `listening`.
pub(crate) async fn start(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let mut table = "### Start to `listening`\n\n| inbox | ms, of three starts |\n| --- | ---: |\n".to_owned();
    let entries = 1_000_000 / scale.divisor;
    for (name, words, entries) in
        [("empty", "empty".to_owned(), 0), ("full", format!("{entries} done entries of 2 KB"), entries)]
    {
        let configuration = filled(&scene, name, entries, true).await?;
        let mut times = Vec::new();
        for _ in 0..3 {
            let service = Process::service(&configuration).await?;
            times.push(service.took.as_millis().to_string());
            service.stop().await?;
        }
        writeln!(table, "| {words} | {} |", times.join(", "))?;
    }
    Ok(table)
}

/// Makes an inbox with that many entries; the service itself makes the tables.
async fn filled(scene: &Scene, name: &str, entries: u64, is_done: bool) -> Outcome<PathBuf> {
    let sink = scene.file_sink(&format!("{name}.ndjson"));
    let configuration = scene.configuration(name, Settings { workers: 32, sink: &sink, linxo: "" })?;
    Process::service(&configuration).await?.stop().await?;
    if entries > 0 {
        scene.fill(name, entries, &Bodies::new()?.make(0), is_done)?;
    }
    Ok(configuration)
}

/// Opens connections, posts one event on each, and keeps them.
async fn hold(scene: &Scene, process: &Process, count: u64) -> Outcome<Vec<TlsStream<TcpStream>>> {
    let connector = TlsConnector::from(Arc::clone(&scene.tls));
    let (port, bodies) = (port(process)?, Bodies::new()?);
    let mut held = Vec::new();
    let mut opening = JoinSet::new();
    for number in 0..count {
        let (connector, body) = (connector.clone(), bodies.make(number));
        opening.spawn(async move { greet(&connector, port, &body).await });
        if opening.len() >= 64
            && let Some(opened) = opening.join_next().await
        {
            held.push(opened??);
        }
    }
    while let Some(opened) = opening.join_next().await {
        held.push(opened??);
    }
    Ok(held)
}

async fn greet(connector: &TlsConnector, port: u16, body: &[u8]) -> Outcome<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    tcp.set_nodelay(true)?;
    let mut stream = connector.connect(ServerName::try_from("localhost")?, tcp).await?;
    let head = format!("POST /webhooks/linxo HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer).await?;
    if !answer.get(..read).unwrap_or_default().starts_with(b"HTTP/1.1 200") {
        return Err("an event was refused".into());
    }
    Ok(stream)
}

/// Kibibytes as megabytes.
pub(crate) fn mega(kibibytes: u64) -> Outcome<f64> {
    Ok(f64::from(u32::try_from(kibibytes)?) * 1024.0 / 1e6)
}
