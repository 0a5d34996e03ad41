//! How fast a waiting backlog goes to a broker or into a table, beside the same client library that publishes the same documents
//! from memory, with no inbox behind it.
//!
//! NATS, Redis and PostgreSQL are started here; PostgreSQL syncs each commit, and Redis each append. RabbitMQ is the one that listens on
//! its usual port of this machine.

use crate::{
    Outcome,
    delivery::{BACKLOG, drained},
    measure::{Scale, median},
    note, publish,
    publish::Document,
    scene::{Scene, Settings},
};
use double::servers::{Options, Postgres, free_port};
use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::sleep};

const AMQP: &str = "127.0.0.1:5672";
/// Rounds of each side at most.
const ROUNDS: usize = 3;
/// Longest wait for a server.
const LIMIT: Duration = Duration::from_secs(30);

/// One kind of sink: the server's own tools, and the lines of its `[[sink]]`.
enum Broker {
    Nats(Server),
    Redis(Server),
    Amqp,
    Postgres(Postgres),
}

/// Each kind of sink in turns with its library.
pub(crate) async fn run(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let entries = BACKLOG / scale.divisor;
    let documents = documents(&scene, entries).await?;
    let mut table = format!(
        "### Delivery of {entries} waiting events to servers, beside the client library alone\n\n\
         | sink | library alone, events/s | service, events/s | ratio | CPU of the service an event, µs |\n\
         | --- | ---: | ---: | ---: | ---: |\n"
    );
    let brokers = [
        ("postgres", Broker::Postgres(Postgres::start(&Options::default())?)),
        ("nats", Broker::Nats(Server::nats(&scene.path("nats")).await?)),
        ("amqp", Broker::Amqp),
        ("redis", Broker::Redis(Server::redis(&scene.path("redis")).await?)),
    ];
    for (name, broker) in brokers {
        let (mut pairs, mut cpu) = (Vec::new(), Vec::new());
        for round in 0..scale.rounds.min(ROUNDS) {
            let place = format!("{name}{round}x{:x}", fastrand::u32(..));
            broker.prepare(&scene, &place).await?;
            let started = Instant::now();
            broker.publish(&place, &documents).await?;
            let alone = f64::from(u32::try_from(entries)?) / started.elapsed().as_secs_f64();
            let service = drained(&scene, &place, entries, &broker.sink(&place)).await?;
            broker.clean(&place).await?;
            note(&format!("  {name}: library {alone:.0}/s, service {:.0}/s", service.rate));
            pairs.push((alone, service.rate));
            cpu.push(service.cpu);
        }
        writeln!(
            table,
            "| {name} | {:.0} | {:.0} | {:.2} | {:.0} |",
            median(pairs.iter().map(|(alone, _)| *alone)),
            median(pairs.iter().map(|(_, service)| *service)),
            median(pairs.iter().map(|(alone, service)| service / alone)),
            median(cpu),
        )?;
    }
    Ok(table)
}

/// What the service delivers, taken from the lines of a file.
async fn documents(scene: &Scene, entries: u64) -> Outcome<Vec<Document>> {
    drained(scene, "lines", entries, &scene.file_sink("lines.ndjson")).await?;
    let mut documents = Vec::new();
    for line in fs::read_to_string(scene.path("lines.ndjson"))?.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line)?;
        let id = parsed.get("id").and_then(serde_json::Value::as_str).ok_or("a line has no id")?;
        documents.push((id.to_owned(), line.to_owned().into()));
    }
    Ok(documents)
}

impl Broker {
    /// Makes what a round needs: a stream, a queue, a table.
    async fn prepare(&self, scene: &Scene, place: &str) -> Outcome<()> {
        match self {
            Self::Nats(server) => publish::nats_stream(&server.address, place).await,
            Self::Redis(_) => Ok(()),
            Self::Amqp => publish::amqp_queue(&amqp_url(), place, true).await,
            Self::Postgres(server) => {
                server.sql(&format!("CREATE TABLE {place}_alone (id text PRIMARY KEY, data json NOT NULL)"))?;
                let configuration =
                    scene.configuration(place, Settings { workers: 0, sink: &self.sink(place), linxo: "" })?;
                let mut command = Command::new(env!("CARGO_BIN_EXE_linxo-webhook"));
                command.args(["sink", "init", "app", "--config"]).arg(configuration).env_clear();
                let output = command.output()?;
                if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
            }
        }
    }

    async fn publish(&self, place: &str, documents: &[Document]) -> Outcome<()> {
        match self {
            Self::Nats(server) => publish::nats(&server.address, place, documents).await,
            Self::Redis(server) => publish::redis(&server.address, &format!("{place}-alone"), documents).await,
            Self::Amqp => publish::amqp(&amqp_url(), place, documents).await,
            Self::Postgres(server) => publish::postgres(&server.url(), &format!("{place}_alone"), documents).await,
        }
    }

    /// The lines of the sink.
    fn sink(&self, place: &str) -> String {
        match self {
            Self::Nats(server) => {
                format!("type = \"nats\"\nservers = [\"nats://{}\"]\nsubject = \"{place}\"", server.address)
            }
            Self::Redis(server) => {
                format!("type = \"redis\"\nserver = \"redis://{}\"\nstream = \"{place}\"", server.address)
            }
            Self::Amqp => format!(
                "type = \"amqp\"\nserver = \"amqp://{AMQP}\"\nexchange = \"amq.default\"\nrouting_key = \"{place}\""
            ),
            Self::Postgres(server) => format!("type = \"postgres\"\nurl = \"{}\"\ntable = \"{place}\"", server.url()),
        }
    }

    /// Deletes what a round left behind.
    async fn clean(&self, place: &str) -> Outcome<()> {
        match self {
            Self::Amqp => publish::amqp_queue(&amqp_url(), place, false).await,
            Self::Nats(_) | Self::Redis(_) | Self::Postgres(_) => Ok(()),
        }
    }
}

fn amqp_url() -> String {
    format!("amqp://{AMQP}")
}

/// A server of this benchmark's own; killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    async fn nats(folder: &Path) -> Outcome<Self> {
        Self::start("nats-server", folder, |port| {
            ["-a", "127.0.0.1", "-p", port, "-js", "-sd", "."].map(str::to_owned).into()
        })
        .await
    }

    /// Syncs each append, as a sink needs it.
    async fn redis(folder: &Path) -> Outcome<Self> {
        let settings = |port: &str| {
            ["--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
                .map(str::to_owned)
                .into()
        };
        Self::start("redis-server", folder, settings).await
    }

    async fn start(program: &str, folder: &Path, arguments: impl Fn(&str) -> Vec<String>) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = Command::new(program);
        command
            .args(arguments(&address.port().to_string()))
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
        let server = Self { child, address: address.to_string() };
        let started = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if started.elapsed() > LIMIT {
                return Err(format!("{program} does not start").into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
