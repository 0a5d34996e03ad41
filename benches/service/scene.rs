//! Where a part is played: a folder on a real disk, certificates, configurations, and a look into the inbox from outside.

use crate::{Outcome, bodies::CONNECTIONS, child::Process};
use double::{
    load::Target,
    pki::{self, Authority},
};
use rusqlite::{Connection, OpenFlags, params};
use rustls::{ClientConfig, RootCertStore, client::Resumption};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::time::sleep;

/// Longest wait for a backlog to be worked off.
const LIMIT: Duration = Duration::from_mins(5);
/// Longer than the fold of the journal pauses.
const FOLD_PAUSE: Duration = Duration::from_millis(300);
/// Entries that are added in one transaction.
const FILLED_AT_ONCE: u64 = 200_000;

/// A scratch folder with all that the processes need; removed when dropped.
#[derive(Debug)]
pub(crate) struct Scene {
    folder: TempDir,
    /// Signs every certificate.
    pub(crate) tls: Arc<ClientConfig>,
}

/// What differs between configurations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    /// `worker.concurrency`
    pub(crate) workers: usize,
    /// The `[[sink]]`'s own lines.
    pub(crate) sink: &'a str,
    /// The `[linxo]` section, if any.
    pub(crate) linxo: &'a str,
}

impl Scene {
    pub(crate) fn new() -> Outcome<Self> {
        // In the build folder, because /tmp may be memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let authority = Authority::new("benchmark")?;
        pki::write_identity(
            &folder.path().join("server.pem"),
            &folder.path().join("server.key"),
            &authority.server(&["localhost"])?,
        )?;
        fs::write(folder.path().join("authority.pem"), authority.certificate_pem())?;
        let mut roots = RootCertStore::empty();
        for certificate in authority.identity().certificates()? {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every handshake a full one.
        tls.resumption = Resumption::disabled();
        Ok(Self { folder, tls: Arc::new(tls) })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a configuration whose inbox, a file, has the same name.
    pub(crate) fn configuration(&self, name: &str, settings: Settings<'_>) -> Outcome<PathBuf> {
        let inbox = format!("url = \"sqlite:{}.db\"", self.path(name).display());
        self.configuration_of(name, &inbox, settings)
    }

    /// Writes a configuration with these lines of `[inbox]`.
    pub(crate) fn configuration_of(&self, name: &str, inbox: &str, settings: Settings<'_>) -> Outcome<PathBuf> {
        let folder = self.folder.path().display();
        let Settings { workers, sink, linxo } = settings;
        let text = format!(
            r#"
[listener]
address = "127.0.0.1:0"
max_connections = 15000
max_connections_per_address = 15000
idle_timeout = "10m"
[tls]
certificate = "{folder}/server.pem"
key = "{folder}/server.key"
[inbox]
{inbox}
max_waiting = 100000000
[worker]
concurrency = {workers}
{linxo}
[[sink]]
name = "app"
{sink}
[admin]
address = "127.0.0.1:0"
"#
        );
        let path = self.path(&format!("{name}.toml"));
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Lines of a sink that appends to a file.
    pub(crate) fn file_sink(&self, name: &str) -> String {
        format!("type = \"file\"\npath = \"{}\"", self.path(name).display())
    }

    /// Lines of a sink that posts signed deliveries.
    pub(crate) fn http_sink(&self, address: &str) -> Outcome<String> {
        let secret = self.path("secret");
        fs::write(&secret, "whsec_Y29uZmlndXJhdGlvbi1jaGVjay1vbmx5")?;
        Ok(format!("type = \"http\"\nurl = \"http://{address}/\"\nsecret = {{ file = \"{}\" }}", secret.display()))
    }

    /// The `[linxo]` section for a double at this address.
    pub(crate) fn linxo(&self, api: &str) -> Outcome<String> {
        let secret = self.path("client-secret");
        fs::write(&secret, "demo-secret")?;
        let auth = api.rsplit_once('/').map_or(api, |(auth, _)| auth);
        Ok(format!(
            "[linxo]\napi = \"{api}\"\nauth = \"{auth}\"\nclient_id = \"demo\"\nclient_secret = {{ file = \"{}\" }}\nauthorities = [\"{}\"]",
            secret.display(),
            self.path("authority.pem").display()
        ))
    }

    /// Where to post events of a process.
    pub(crate) fn target(&self, process: &Process) -> Outcome<Target> {
        self.target_at(process, "/webhooks/linxo")
    }

    pub(crate) fn target_at(&self, process: &Process, path: &str) -> Outcome<Target> {
        let port = port(process)?;
        Ok(Target::new(&format!("https://localhost:{port}{path}"), Some(Arc::clone(&self.tls)))?)
    }

    /// Waits until an inbox's store has at least so many entries, and none is unfinished. What is not folded yet is not there.
    pub(crate) async fn worked_off(&self, name: &str, entries: u64) -> Outcome<()> {
        let inbox = read(&self.path(&format!("{name}.db")))?;
        let mut unfinished = inbox.prepare(
            "SELECT EXISTS (SELECT 1 FROM stage INDEXED BY stage_line WHERE ended = 0),
                    EXISTS (SELECT 1 FROM stage INDEXED BY stage_parked WHERE state = 'parked'),
                    (SELECT coalesce(max(seq), 0) FROM entry) >= ?1",
        )?;
        let entries = i64::try_from(entries)?;
        let started = Instant::now();
        loop {
            let (waiting, parked, are_there): (bool, bool, bool) =
                unfinished.query_row([entries], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            if parked || started.elapsed() > LIMIT {
                return Err("entries were parked or not worked off".into());
            }
            if are_there && !waiting {
                return Ok(());
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until everything that was accepted is in the inbox's store, and nothing there is unfinished.
    pub(crate) async fn calm(&self, name: &str) -> Outcome<()> {
        self.folded(name).await?;
        self.worked_off(name, 0).await
    }

    /// How many of so many accepted events are not delivered yet, or not even folded.
    pub(crate) fn left(&self, name: &str, accepted: u64) -> Outcome<u64> {
        let inbox = read(&self.path(&format!("{name}.db")))?;
        let delivered: i64 = inbox.query_row(
            "SELECT (SELECT coalesce(max(seq), 0) FROM entry)
                  - (SELECT count(*) FROM stage INDEXED BY stage_line WHERE ended = 0)",
            [],
            |row| row.get(0),
        )?;
        Ok(accepted.saturating_sub(u64::try_from(delivered)?))
    }

    /// How many deliveries are done.
    pub(crate) fn delivered(&self, name: &str) -> Outcome<u64> {
        let inbox = read(&self.path(&format!("{name}.db")))?;
        let done: i64 =
            inbox.query_row("SELECT count(*) FROM stage WHERE state = 'done' AND kind > 0", [], |row| row.get(0))?;
        Ok(u64::try_from(done)?)
    }

    /// Waits until everything that was accepted is in the inbox's store: until nothing was added for longer than the fold pauses.
    pub(crate) async fn folded(&self, name: &str) -> Outcome<()> {
        let inbox = read(&self.path(&format!("{name}.db")))?;
        let mut newest = inbox.prepare("SELECT coalesce(max(seq), 0) FROM entry")?;
        let mut before = -1;
        loop {
            let now: i64 = newest.query_row([], |row| row.get(0))?;
            if now == before {
                return Ok(());
            }
            before = now;
            sleep(FOLD_PAUSE).await;
        }
    }

    /// Adds entries to the inbox of a stopped service without going through it: `done`, or waiting for delivery.
    pub(crate) fn fill(&self, name: &str, entries: u64, body: &[u8], is_done: bool) -> Outcome<()> {
        let inbox = Connection::open(self.path(&format!("{name}.db")))?;
        inbox.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -500000")?;
        let mut left = entries;
        while left > 0 {
            let some = left.min(FILLED_AT_ONCE);
            inbox.execute_batch("BEGIN")?;
            fill_some(&inbox, some, body, is_done)?;
            inbox.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")?;
            left -= some;
        }
        Ok(())
    }
}

fn fill_some(inbox: &Connection, entries: u64, body: &[u8], is_done: bool) -> Outcome<()> {
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?;
    // A body that differs from its digest is parked and not delivered.
    let digest = Sha256::digest(body);
    let (entries, connections) = (i64::try_from(entries)?, i64::try_from(CONNECTIONS)?);
    let there: i64 = inbox.query_row("SELECT coalesce(max(seq), 0) FROM entry", [], |row| row.get(0))?;
    inbox.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO entry (id, conflict, id_key, body_key, digest, size, event_type, resource_type, connection, user,
                            channel, mode, created, account_count, listed, accepted, confirm, sender)
         SELECT lower(hex(randomblob(16))), 0, random(), random(), ?5, length(?4), 'UPDATED',
                'CONNECTIONS', CAST(700000 + i % ?2 AS TEXT), '321', '24601', 'OAUTH', 1700000000, 2, 2, ?3, 0,
                '{\"peer\":\"127.0.0.1:40000\"}'
         FROM n",
        params![entries, connections, now, body, digest.as_slice()],
    )?;
    inbox.execute("INSERT INTO body (seq, bytes) SELECT seq, ?1 FROM entry WHERE seq > ?2", params![body, there])?;
    // The first entry of each connection is at the head of its line; the others wait behind it.
    inbox.execute(
        "INSERT INTO stage (seq, kind, line, state, due, changed, ended)
         SELECT entry.seq, sink.id, CAST(entry.connection AS INTEGER),
                CASE WHEN ?1 THEN 'done' WHEN entry.seq <= ?2 THEN 'due' ELSE 'queued' END, ?3, ?3, ?1
         FROM entry, sink WHERE entry.seq > ?4",
        params![is_done, connections, now, there],
    )?;
    inbox.execute(
        "INSERT INTO known (id_key, body_key, seq)
         SELECT id_key, body_key, seq FROM entry WHERE seq > ?1 ORDER BY id_key, body_key",
        [there],
    )?;
    Ok(())
}

/// The port that a process listens on.
pub(crate) fn port(process: &Process) -> Outcome<u16> {
    Ok(process.address.rsplit_once(':').ok_or("no port")?.1.parse()?)
}

fn read(path: &Path) -> Outcome<Connection> {
    let inbox = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    inbox.busy_timeout(Duration::from_secs(5))?;
    Ok(inbox)
}
