//! Receivers that share an inbox on PostgreSQL, beside `pgbench`, which does the same batched inserts on the same server.
//!
//! `pgbench` makes its rows on the server: no event is sent to it, none is read, and nothing is encrypted. So it is the most that
//! this server takes on this machine. Its batches have as many events as those of the receivers had in their warm-up.

use crate::{
    Outcome,
    bodies::{Bodies, CONNECTIONS},
    child::{Process, command},
    measure::{Scale, median, posts},
    note,
    scene::{Scene, Settings},
};
use double::{
    load::{Load, Target, load},
    servers::{Options, Postgres},
};
use std::{fmt::Write as _, fs, process::Command, time::Duration, time::Instant};
use tokio::{task::JoinSet, time::sleep};

/// Callers, all receivers together.
const CALLERS: usize = 192;
/// Events that wait to be delivered.
const BACKLOG: u64 = 20_000;
/// Events that wait while some are delivered.
const LARGE_BACKLOG: u64 = 1_000_000;
/// Longest wait for a backlog to be worked off.
const LIMIT: Duration = Duration::from_mins(10);
/// Numbers of receivers.
const RECEIVERS: [usize; 2] = [1, 3];

/// A server as somebody would set it up for this size of machine. It syncs.
fn server() -> Outcome<Postgres> {
    let settings = ["shared_buffers = 1GB", "max_wal_size = 8GB", "checkpoint_timeout = 15min", "wal_compression = on"];
    Ok(Postgres::start(&Options { settings: &settings, ..Options::default() })?)
}

/// Receivers of one inbox, in a schema of its own.
struct Receivers {
    processes: Vec<Process>,
    targets: Vec<Target>,
}

impl Receivers {
    async fn start(
        scene: &Scene,
        postgres: &Postgres,
        schema: &str,
        count: usize,
        settings: Settings<'_>,
    ) -> Outcome<Self> {
        let url = format!("{}&schema={schema}", postgres.url());
        let (mut processes, mut targets) = (Vec::new(), Vec::new());
        for number in 0..count {
            let name = format!("{schema}-{number}");
            let folder = scene.path(&name);
            fs::create_dir_all(&folder)?;
            let inbox = format!("url = \"{url}\"\nfolder = \"{}\"", folder.display());
            // Each has its own file: one that another receiver writes to is refused.
            let sink = if settings.sink.is_empty() {
                scene.file_sink(&format!("{name}.ndjson"))
            } else {
                settings.sink.to_owned()
            };
            let configuration = scene.configuration_of(&name, &inbox, Settings { sink: &sink, ..settings })?;
            if number == 0 {
                command(&["inbox", "init"], &configuration)?;
            }
            let process = Process::service(&configuration).await?;
            targets.push(scene.target(&process)?);
            processes.push(process);
        }
        Ok(Self { processes, targets })
    }

    /// Posts so many events from all callers to all receivers; returns events a second.
    async fn post(&self, events: u64) -> Outcome<f64> {
        let mut loads = JoinSet::new();
        let share = self.targets.len();
        let started = Instant::now();
        for target in self.targets.clone() {
            let bodies = Bodies::new()?;
            let plan =
                Load { posts: events / share as u64, concurrency: CALLERS / share, rate: None, reconnect: false };
            loads.spawn(async move { load(&target, plan, move |number| bodies.make(number), |_, _| {}).await });
        }
        let mut answered = 0;
        while let Some(summary) = loads.join_next().await {
            let summary = summary??;
            if !summary.all_accepted() {
                return Err(format!("{:?} {:?}", summary.statuses, summary.failures).into());
            }
            answered += summary.answered();
        }
        Ok(of(answered)? / started.elapsed().as_secs_f64())
    }

    fn cpu(&self) -> Outcome<Duration> {
        self.processes.iter().map(Process::cpu).sum()
    }

    async fn stop(self) -> Outcome<()> {
        for process in self.processes {
            process.stop().await?;
        }
        Ok(())
    }
}

/// What the server has counted: commits, bytes of its log.
fn counted(postgres: &Postgres) -> Outcome<(f64, f64)> {
    // The figures of sessions that go on are written down at least once a second.
    let said = postgres.sql(
        "SELECT pg_sleep(1.2); SELECT xact_commit || ' ' || (pg_current_wal_lsn() - '0/0'::pg_lsn)
         FROM pg_stat_database WHERE datname = 'postgres'",
    )?;
    let (commits, bytes) = said.trim().split_once(' ').ok_or("no counts")?;
    Ok((commits.parse()?, bytes.parse()?))
}

/// Receipt by one and by several receivers, each in turns with `pgbench`.
pub(crate) async fn receipt(scale: &Scale) -> Outcome<String> {
    let (scene, postgres) = (Scene::new()?, server()?);
    let mut table = "### Durable receipt on one PostgreSQL\n\n\
         | receivers | pgbench, events/s | receivers, events/s | ratio | events a commit | CPU of the receivers an event, µs \
         | CPU of the server an event, µs: pgbench / receivers | server's log an event, bytes |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for count in RECEIVERS {
        let settings = Settings { workers: 0, sink: "", linxo: "" };
        let receivers = Receivers::start(&scene, &postgres, &format!("receipt{count}"), count, settings).await?;
        let warm = receivers.post(4000).await?;
        let ((commits_before, _), events) = (counted(&postgres)?, posts(warm, scale));
        receivers.post(events).await?;
        let batch = (of(events)? / (counted(&postgres)?.0 - commits_before)).max(1.0);
        let bench = Pgbench::new(&scene, &postgres, &format!("pgbench{count}"), batch)?;
        bench.run(1)?;
        let (mut pairs, mut log, mut server) = (Vec::new(), Vec::new(), Vec::new());
        let cpu = receivers.cpu()?;
        for _ in 0..scale.rounds {
            let (seconds, started) = (scale.round.as_secs().max(1), postgres.cpu()?);
            let most = bench.run(seconds)?;
            let (_, before) = counted(&postgres)?;
            let benched = postgres.cpu()?;
            let rate = receivers.post(events).await?;
            let received = postgres.cpu()?;
            log.push((counted(&postgres)?.1 - before) / of(events)?);
            let micros = |time: Duration, events: f64| time.as_secs_f64() * 1e6 / events;
            server.push((
                micros(benched.saturating_sub(started), most * of(seconds)?),
                micros(received.saturating_sub(benched), of(events)?),
            ));
            note(&format!("  {count} receivers: pgbench {most:.0}/s, receivers {rate:.0}/s"));
            pairs.push((most, rate));
        }
        let cpu = receivers.cpu()?.saturating_sub(cpu).as_secs_f64() * 1e6 / (of(events)? * of(scale.rounds as u64)?);
        writeln!(
            table,
            "| {count} | {:.0} | {:.0} | {:.2} | {batch:.0} | {cpu:.0} | {:.0} / {:.0} | {:.0} |",
            median(pairs.iter().map(|(most, _)| *most)),
            median(pairs.iter().map(|(_, rate)| *rate)),
            median(pairs.iter().map(|(most, rate)| rate / most)),
            median(server.iter().map(|(bench, _)| *bench)),
            median(server.iter().map(|(_, receivers)| *receivers)),
            median(log),
        )?;
        receivers.stop().await?;
    }
    write!(table, "\n{}", sizes(&postgres)?)?;
    Ok(table)
}

/// What the entries of the first part take on the disk.
fn sizes(postgres: &Postgres) -> Outcome<String> {
    postgres.sql("VACUUM ANALYZE")?;
    let said = postgres.sql(
        "SELECT string_agg(format('| %s | %s |', name, round(size / entries)), E'\\n' ORDER BY size DESC) FROM (
             SELECT relname AS name, pg_total_relation_size(c.oid)::numeric AS size
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
             WHERE nspname = 'receipt1' AND relkind = 'r' AND relname IN ('entry', 'body', 'known', 'stage', 'line')
         ) AS sizes, (SELECT count(*)::numeric AS entries FROM receipt1.entry) AS entries",
    )?;
    Ok(format!(
        "| table, with its indexes | bytes an entry that waits, of 2 KB, one sink |\n| --- | ---: |\n{}\n",
        said.trim()
    ))
}

/// `pgbench` in a schema of its own.
struct Pgbench {
    script: std::path::PathBuf,
    url: String,
    batch: f64,
    clients: usize,
}

impl Pgbench {
    fn new(scene: &Scene, postgres: &Postgres, schema: &str, batch: f64) -> Outcome<Self> {
        let folder = scene.path(schema);
        fs::create_dir_all(&folder)?;
        let inbox = format!("url = \"{}&schema={schema}\"\nfolder = \"{}\"", postgres.url(), folder.display());
        let sink = scene.file_sink("delivered.ndjson");
        let settings = Settings { workers: 0, sink: &sink, linxo: "" };
        command(&["inbox", "init"], &scene.configuration_of(schema, &inbox, settings)?)?;
        postgres.sql(&format!("INSERT INTO {schema}.sink (name) VALUES ('app')"))?;
        let script = scene.path(&format!("{schema}.sql"));
        let body = String::from_utf8(Bodies::new()?.make(0).to_vec())?.replace('\'', "''").replace(':', "\u{ff1a}");
        fs::write(&script, statements(schema, batch, &body))?;
        Ok(Self { script, url: postgres.url().replace("?sslmode=disable", ""), batch: batch.round(), clients: 4 })
    }

    /// Events a second.
    fn run(&self, seconds: u64) -> Outcome<f64> {
        let mut command = Command::new("pgbench");
        command.args(["--no-vacuum", "--protocol=prepared", "--file"]).arg(&self.script);
        command.args(["--time", &seconds.to_string(), "--client", &self.clients.to_string(), &self.url]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
        let failed = || format!("pgbench: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(rate.filter(|_| output.status.success()).ok_or_else(failed)? * self.batch)
    }
}

/// One transaction with the rows of a batch: the lines that are locked, and what stands in each table.
fn statements(schema: &str, batch: f64, body: &str) -> String {
    let lines = "SELECT DISTINCT floor(random() * 10000)::bigint AS key";
    format!(
        "BEGIN;
SELECT set_config('synchronous_commit', 'on', true), set_config('search_path', '{schema}', true);
INSERT INTO line (key) {lines} FROM generate_series(1, {batch:.0}) ORDER BY key ON CONFLICT DO NOTHING;
SELECT key FROM line WHERE key = ANY (ARRAY({lines} FROM generate_series(1, {batch:.0}))) ORDER BY key FOR UPDATE;
WITH made AS MATERIALIZED (
    SELECT nextval('entry_seq') AS seq, nextval('position'), md5(random()::text) AS id, (random() * 9e18)::bigint AS id_key,
           700000 + floor(random() * 10000)::bigint AS connection
    FROM generate_series(1, {batch:.0})
), entries AS (
    INSERT INTO entry (seq, id, conflict, id_key, rank, digest, size, event_type, resource_type, connection, \"user\", channel, mode,
                       status, created, account_count, listed, accepted, confirm, sender)
    SELECT seq, id, false, id_key, 0, sha256(id::bytea), 2048, 'UPDATED', 'CONNECTIONS', connection::text, '321', '24601',
           'REDIRECT', 'SUCCESS', 1700000000, 2, 2, 1700000000000, false, '{{\"peer\"\u{ff1a}\"127.0.0.1\"}}' FROM made
), bodies AS (
    INSERT INTO body (seq, bytes) SELECT seq, '{body}'::bytea FROM made
), contents AS (
    INSERT INTO known (id_key, rank, body_key, seq) SELECT id_key, 0, id_key + 1, seq FROM made
)
INSERT INTO stage (seq, kind, line, state, due, changed)
SELECT seq, 1, connection, 'due', 1700000000000, 1700000000000 FROM made;
INSERT INTO tally (slot, kind, unfinished, leased, parked) VALUES (pg_backend_pid() % 64, 1, {batch:.0}, 0, 0)
ON CONFLICT (slot, kind) DO UPDATE SET unfinished = tally.unfinished + excluded.unfinished;
COMMIT;
"
    )
}

/// A backlog, worked off by one and by several receivers; and some of one that stays large.
pub(crate) async fn delivery(scale: &Scale) -> Outcome<String> {
    let (scene, postgres) = (Scene::new()?, server()?);
    let endpoint = Process::role("endpoint", &scene.path("endpoint")).await?;
    let sink = scene.http_sink(&endpoint.address)?;
    let entries = BACKLOG / scale.divisor;
    let mut table = String::from(
        "### Delivery from one PostgreSQL, over HTTP, signed\n\n\
         | receivers | waiting at the start | delivered/s | CPU of the receivers an event, µs |\n| ---: | ---: | ---: | ---: |\n",
    );
    for count in RECEIVERS {
        let schema = format!("delivery{count}");
        let idle = Settings { workers: 0, sink: &sink, linxo: "" };
        let receivers = Receivers::start(&scene, &postgres, &schema, count, idle).await?;
        receivers.post(entries).await?;
        receivers.stop().await?;
        let started = Instant::now();
        let receivers = Receivers::start(&scene, &postgres, &schema, count, Settings { workers: 32, ..idle }).await?;
        while unfinished(&postgres, &schema)? > 0.0 {
            if started.elapsed() > LIMIT {
                return Err("the backlog was not worked off".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        let (elapsed, cpu) = (started.elapsed().as_secs_f64(), receivers.cpu()?.as_secs_f64());
        let events = of(entries)?;
        writeln!(table, "| {count} | {entries} | {:.0} | {:.0} |", events / elapsed, cpu * 1e6 / events)?;
        receivers.stop().await?;
    }
    let large = LARGE_BACKLOG / scale.divisor;
    for count in RECEIVERS {
        let schema = format!("large{count}");
        let settings = Settings { workers: 32, sink: &sink, linxo: "" };
        let receivers =
            Receivers::start(&scene, &postgres, &schema, count, Settings { workers: 0, ..settings }).await?;
        receivers.post(CONNECTIONS).await?;
        receivers.stop().await?;
        fill(&postgres, &schema, large)?;
        let receivers = Receivers::start(&scene, &postgres, &schema, count, settings).await?;
        let (before, cpu, started) = (unfinished(&postgres, &schema)?, receivers.cpu()?, Instant::now());
        sleep(scale.round * 4).await;
        let (after, elapsed) = (unfinished(&postgres, &schema)?, started.elapsed().as_secs_f64());
        let cpu = receivers.cpu()?.saturating_sub(cpu).as_secs_f64();
        let done = before - after;
        writeln!(table, "| {count} | {large} | {:.0} | {:.0} |", done / elapsed, cpu * 1e6 / done)?;
        drop(receivers);
    }
    Ok(table)
}

fn unfinished(postgres: &Postgres, schema: &str) -> Outcome<f64> {
    Ok(postgres.sql(&format!("SELECT coalesce(sum(unfinished), 0) FROM {schema}.tally"))?.trim().parse()?)
}

/// Puts copies of the entries that are there in line behind them, without going through the service.
fn fill(postgres: &Postgres, schema: &str, entries: u64) -> Outcome<()> {
    postgres.sql(&format!(
        "SET search_path TO {schema}; SET synchronous_commit TO off;
         CREATE TEMPORARY TABLE source AS SELECT seq, row_number() OVER (ORDER BY seq) - 1 AS place FROM entry;
         CREATE TEMPORARY TABLE made AS
             SELECT nextval('entry_seq') AS seq, source.seq AS original, md5(n::text || random()::text) AS id,
                    (random() * 9e18)::bigint AS id_key
             FROM generate_series(1, {entries}) AS n JOIN source ON place = n % (SELECT count(*) FROM source);
         INSERT INTO entry SELECT copy.* FROM made JOIN entry ON entry.seq = original
             CROSS JOIN LATERAL jsonb_populate_record(entry, jsonb_build_object('seq', made.seq, 'id', made.id, 'delivery_id', NULL,
                 'id_key', made.id_key)) AS copy;
         INSERT INTO body SELECT made.seq, bytes FROM made JOIN body ON body.seq = original;
         INSERT INTO known (id_key, rank, body_key, seq) SELECT id_key, 0, id_key + 1, seq FROM made;
         INSERT INTO stage (seq, kind, line, state, due, changed)
             SELECT made.seq, kind, line, 'queued', due, changed FROM made JOIN stage ON stage.seq = original;
         UPDATE tally SET unfinished = unfinished + {entries} WHERE (slot, kind) = (SELECT slot, kind FROM tally WHERE unfinished > 0 LIMIT 1);
         ANALYZE"
    ))?;
    Ok(())
}

/// A count, to reckon with.
fn of(count: u64) -> Outcome<f64> {
    Ok(f64::from(u32::try_from(count)?))
}
