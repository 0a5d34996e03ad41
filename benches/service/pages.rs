//! How long the pages and the API take with a million entries in the inbox, on SQLite and on PostgreSQL.
//!
//! The entries are written into the stores by SQL: spread over a week, on 10,000 connections of 5,000 users, one in a hundred parked.
//! Each page is asked for over the network, as a browser does; the figures are of the whole answer.

use crate::{
    Outcome,
    child::{Process, command},
    measure::{Scale, median},
    note,
    scene::{Scene, Settings},
};
use double::servers::{Options, Postgres};
use rusqlite::{Connection, params};
use std::{
    fmt::Write as _,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const ENTRIES: u64 = 1_000_000;
/// Milliseconds between two of them, so that a million take a week.
const BETWEEN: u64 = 604;
const TOKEN: &str = "token-of-the-benchmark";
/// Times that each is asked for.
const TIMES: usize = 7;

/// What is asked for, and how it is called. `{old}` is a time at which a tenth of the entries had come, `{next}` an hour later.
const ASKED: [(&str, &str); 16] = [
    ("first page: Now", "/"),
    ("overview", "/api/v1/overview"),
    ("charts of a week", "/charts?hours=168"),
    ("entries, the newest", "/entries"),
    ("one entry", "/entries/500000"),
    ("by event id", "/api/v1/entries?id=e500000"),
    ("since far back", "/api/v1/entries?since={old}"),
    ("until far back", "/api/v1/entries?until={old}"),
    ("an hour far back", "/api/v1/entries?since={old}&until={next}"),
    ("a connection", "/api/v1/entries?connection=c4242"),
    ("a user", "/api/v1/entries?user=u4242"),
    ("a connection that is not there", "/api/v1/entries?connection=nobody"),
    ("parked", "/api/v1/entries?state=parked"),
    ("parked at a sink, by reason", "/api/v1/entries?state=parked&sink=app&reason=refused"),
    ("a reason that is not there", "/api/v1/entries?reason=nothing-like-this"),
    ("refused requests; acts", "/audit"),
];

pub(crate) async fn run(scale: &Scale) -> Outcome<String> {
    let entries = ENTRIES / scale.divisor;
    let scene = Scene::new()?;
    let sink = scene.file_sink("delivered.ndjson");
    let mut columns = Vec::new();
    for is_sqlite in [true, false] {
        let name = if is_sqlite { "pages-sqlite" } else { "pages-postgres" };
        let settings = ["shared_buffers = 512MB", "max_wal_size = 8GB"];
        let server = (!is_sqlite).then(|| Postgres::start(&Options { settings: &settings, ..Options::default() }));
        let server = server.transpose()?;
        let inbox = match &server {
            None => format!("url = \"sqlite:{}.db\"", scene.path(name).display()),
            Some(server) => {
                let folder = scene.path(name);
                fs::create_dir_all(&folder)?;
                format!("url = \"{}\"\nfolder = \"{}\"", server.url(), folder.display())
            }
        };
        let configuration = scene.configuration_of(name, &inbox, Settings { workers: 0, sink: &sink, linxo: "" })?;
        let address = admin(&scene, &configuration)?;
        note(&format!("{name}: {entries} entries are written ..."));
        match &server {
            None => {
                Process::service(&configuration).await?.stop().await?;
                fill_file(&scene.path(&format!("{name}.db")), entries)?;
            }
            Some(server) => {
                command(&["inbox", "init"], &configuration)?;
                // The service has made its sink once.
                Process::service(&configuration).await?.stop().await?;
                fill_server(server, entries)?;
            }
        }
        let process = Process::service(&configuration).await?;
        columns.push(ask(&address, entries).await?);
        process.stop().await?;
    }
    table(entries, &columns)
}

/// Gives a configuration a token and a port that is known; returns the listener's address.
fn admin(scene: &Scene, configuration: &Path) -> Outcome<String> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let token: PathBuf = scene.path("token");
    fs::write(&token, TOKEN)?;
    let text = fs::read_to_string(configuration)?.replace(
        "[admin]\naddress = \"127.0.0.1:0\"",
        &format!(
            "[admin]\naddress = \"{address}\"\n[[admin.token]]\nname = \"bench\"\nmay = \"act\"\nsecret = {{ file = \"{}\" }}",
            token.display()
        ),
    );
    fs::write(configuration, text)?;
    Ok(address)
}

/// When the first entry was accepted.
fn first(entries: u64) -> Outcome<i64> {
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?;
    Ok(now - i64::try_from(entries * BETWEEN)?)
}

fn fill_file(file: &Path, entries: u64) -> Outcome<()> {
    let inbox = Connection::open(file)?;
    inbox.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -500000; BEGIN")?;
    let (entries, first, between) = (i64::try_from(entries)?, first(entries)?, i64::try_from(BETWEEN)?);
    inbox.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO entry (seq, id, conflict, id_key, body_key, digest, size, event_type, resource_type, connection, user,
                            channel, mode, created, account_count, listed, accepted, confirm, sender)
         SELECT i, 'e' || i, 0, random(), random(), randomblob(32), 1800, 'UPDATED', 'CONNECTIONS', 'c' || (i * 7919 % 10000),
                'u' || (i * 7919 % 5000), '24601', 'OAUTH', 1700000000, 2, 2, ?2 + i * ?3, 0,
                '{\"peer\":\"192.0.2.1:40000\",\"tls\":\"1.3\"}'
         FROM n",
        params![entries, first, between],
    )?;
    inbox.execute("INSERT INTO body (seq, bytes) SELECT seq, zeroblob(1800) FROM entry", [])?;
    inbox.execute(
        "INSERT INTO stage (seq, kind, line, state, due, attempts, changed, cause, reason, ended)
         SELECT entry.seq, sink.id, entry.seq % 10000, iif(entry.seq % 100, 'done', 'parked'), accepted, 1, accepted,
                iif(entry.seq % 100, NULL, 'refused'), iif(entry.seq % 100, NULL, 'the endpoint refused it'), 1
         FROM entry, sink",
        [],
    )?;
    inbox.execute_batch(
        "INSERT INTO known (id_key, body_key, seq) SELECT id_key, body_key, seq FROM entry ORDER BY id_key, body_key;
         COMMIT; PRAGMA wal_checkpoint(TRUNCATE)",
    )?;
    Ok(())
}

fn fill_server(server: &Postgres, entries: u64) -> Outcome<()> {
    let first = first(entries)?;
    server.sql(&format!(
        "SET search_path = linxo_webhook;
         INSERT INTO entry (seq, id, conflict, id_key, rank, digest, size, event_type, resource_type, connection, \"user\",
                            channel, mode, created, account_count, listed, accepted, confirm, sender)
         SELECT i, 'e' || i, false, hashint8extended(i, 1), 0, sha256(i::text::bytea), 1800, 'UPDATED', 'CONNECTIONS',
                'c' || (i * 7919 % 10000), 'u' || (i * 7919 % 5000), '24601', 'OAUTH', 1700000000, 2, 2, {first} + i * {BETWEEN}, false,
                '{{\"peer\":\"192.0.2.1:40000\",\"tls\":\"1.3\"}}'
         FROM generate_series(1::bigint, {entries}) AS n (i);
         INSERT INTO body (seq, bytes) SELECT seq, decode(repeat('00', 1800), 'hex') FROM entry;
         INSERT INTO stage (seq, kind, line, state, due, attempts, changed, cause, reason)
         SELECT entry.seq, sink.id, entry.seq % 10000, CASE entry.seq % 100 WHEN 0 THEN 'parked' ELSE 'done' END, accepted, 1, accepted,
                CASE entry.seq % 100 WHEN 0 THEN 'refused' END, CASE entry.seq % 100 WHEN 0 THEN 'the endpoint refused it' END
         FROM entry, sink;
         INSERT INTO known (id_key, rank, body_key, seq) SELECT id_key, 0, hashint8extended(seq, 2), seq FROM entry;
         INSERT INTO tally (slot, kind, unfinished, leased, parked)
         SELECT -1, kind, 0, 0, count(*) FROM stage WHERE state = 'parked' GROUP BY kind;
         SELECT setval('entry_seq', {entries})"
    ))?;
    // Not within a transaction.
    server.sql("VACUUM ANALYZE")?;
    Ok(())
}

/// Milliseconds of each, and the longest.
async fn ask(address: &str, entries: u64) -> Outcome<Vec<(f64, f64)>> {
    let client = reqwest::Client::builder().tls_certs_only([]).redirect(reqwest::redirect::Policy::none()).build()?;
    let of = |millis: i64| -> Outcome<String> {
        Ok(jiff::Timestamp::from_millisecond(millis)?.to_string().replace(':', "%3A"))
    };
    let old = first(entries)? + i64::try_from(entries / 10 * BETWEEN)?;
    let (old, next) = (of(old)?, of(old + 3_600_000)?);
    let login = client.post(format!("http://{address}/login")).form(&[("token", TOKEN)]).send().await?;
    let cookie = login.headers().get("set-cookie").ok_or("no cookie")?.to_str()?;
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let mut figures = Vec::new();
    for (name, path) in ASKED {
        let url = format!("http://{address}{}", path.replace("{old}", &old).replace("{next}", &next));
        let mut took = Vec::new();
        for _ in 0..TIMES {
            let request = client.get(&url).bearer_auth(TOKEN).header("cookie", &cookie).timeout(Duration::from_mins(2));
            let started = Instant::now();
            let answer = request.send().await?;
            let status = answer.status();
            let body = answer.text().await?;
            took.push(started.elapsed().as_secs_f64() * 1e3);
            if !status.is_success() && !path.contains("id=") {
                return Err(format!("{name}: {status} {body}").into());
            }
        }
        let longest = took.iter().copied().fold(0.0, f64::max);
        note(&format!("{name}: {:.0} ms, {longest:.0} at most", median(took.clone())));
        figures.push((median(took), longest));
    }
    Ok(figures)
}

fn table(entries: u64, columns: &[Vec<(f64, f64)>]) -> Outcome<String> {
    let mut table = format!(
        "### Pages with {entries} entries, ms (median, and the longest of {TIMES})\n\n| asked for | SQLite | PostgreSQL |\n\
         | --- | ---: | ---: |\n"
    );
    for (row, (name, _)) in ASKED.iter().enumerate() {
        write!(table, "| {name} |")?;
        for column in columns {
            let (middle, longest) = column.get(row).copied().unwrap_or_default();
            write!(table, " {middle:.0} / {longest:.0} |")?;
        }
        table.push('\n');
    }
    Ok(table)
}
