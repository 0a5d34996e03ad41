//! How fast a waiting backlog goes to a broker or into a table, beside the same client library that publishes the same documents
//! from memory, with no inbox behind it.
//!
//! Into PostgreSQL the library writes the same columns of a table that is made as the sink's.
//! NATS, Redis and PostgreSQL are started here; PostgreSQL syncs each commit, and Redis each append. RabbitMQ is the one that listens on
//! its usual port of this machine.

use crate::{
    Outcome,
    child::command,
    delivery::drained,
    measure::{Scale, median},
    note, publish,
    publish::Document,
    scene::{Scene, Settings},
};
use double::servers::{Options, Postgres, Program};
use std::{fmt::Write as _, fs, path::Path, process::Command, time::Instant};

const AMQP: &str = "127.0.0.1:5672";
/// Waiting events: so many that the start of the service, which is part of its time, is a small part of it.
const WAITING: u64 = 100_000;
/// Rounds of each side at most.
const ROUNDS: usize = 3;

/// One kind of sink: the server's own tools, and the lines of its `[[sink]]`.
enum Broker {
    Nats(Program),
    Redis(Program),
    Amqp,
    Postgres(Postgres),
}

/// Each kind of sink in turns with its library.
pub(crate) async fn run(scale: &Scale) -> Outcome<String> {
    let scene = Scene::new()?;
    let entries = WAITING / scale.divisor;
    let documents = documents(&scene, entries).await?;
    let mut table = format!(
        "### Delivery of {entries} waiting events to servers, beside the client library alone\n\n\
         | sink | library alone, events/s | service, events/s | ratio | CPU of the service an event, µs |\n\
         | --- | ---: | ---: | ---: | ---: |\n"
    );
    let brokers = [
        ("postgres", Broker::Postgres(Postgres::start(&Options::default())?)),
        ("nats", Broker::Nats(nats(&scene).await?)),
        ("amqp", Broker::Amqp),
        ("redis", Broker::Redis(redis(&scene).await?)),
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
    fs::read_to_string(scene.path("lines.ndjson"))?.lines().map(Document::new).collect()
}

impl Broker {
    /// Makes what a round needs: a stream, a queue, a table.
    async fn prepare(&self, scene: &Scene, place: &str) -> Outcome<()> {
        match self {
            Self::Nats(server) => publish::nats_stream(&server.address(), place).await,
            Self::Redis(_) => Ok(()),
            Self::Amqp => publish::amqp_queue(&amqp_url(), place, true).await,
            Self::Postgres(server) => {
                let configuration =
                    scene.configuration(place, Settings { workers: 0, sink: &self.sink(place), linxo: "" })?;
                command(&["sink", "init", "app"], &configuration)?;
                server.sql(&format!("CREATE TABLE {place}_alone (LIKE {place} INCLUDING ALL)"))?;
                Ok(())
            }
        }
    }

    async fn publish(&self, place: &str, documents: &[Document]) -> Outcome<()> {
        match self {
            Self::Nats(server) => publish::nats(&server.address(), place, documents).await,
            Self::Redis(server) => publish::redis(&server.address(), &format!("{place}-alone"), documents).await,
            Self::Amqp => publish::amqp(&amqp_url(), place, documents).await,
            Self::Postgres(server) => publish::postgres(&server.url(), &format!("{place}_alone"), documents).await,
        }
    }

    /// The lines of the sink.
    fn sink(&self, place: &str) -> String {
        match self {
            Self::Nats(server) => {
                format!("type = \"nats\"\nservers = [\"nats://{}\"]\nsubject = \"{place}\"", server.address())
            }
            Self::Redis(server) => {
                format!("type = \"redis\"\nserver = \"redis://{}\"\nstream = \"{place}\"", server.address())
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

async fn nats(scene: &Scene) -> Outcome<Program> {
    let command = |_: &Path, port: u16| {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd", "."]);
        command
    };
    Ok(Program::start(&scene.path(""), command).await?)
}

/// Syncs each append, as a sink needs it.
async fn redis(scene: &Scene) -> Outcome<Program> {
    let command = |_: &Path, port: u16| {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        command
    };
    Ok(Program::start(&scene.path(""), command).await?)
}
