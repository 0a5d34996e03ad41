//! The true service in a folder of its own, with the vendor double beside it.

use crate::support::{new_entry, start};
use double::{
    Connection, Endpoint, Settings, Simulator,
    pki::{self, Authority},
};
use inbox::{EntryView, Filter, Folded, State};
use linxo_webhook::{
    app::{Ended, Running},
    config,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    future::Future,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Nothing in these tests takes this long; it only turns a hang into a failure.
const LIMIT: Duration = Duration::from_mins(1);

/// The double, and the service that asks it.
pub(crate) struct Service {
    pub(crate) simulator: Simulator,
    running: Option<Running>,
    folder: TempDir,
    config: String,
}

/// A connection whose user is the one that events of it name.
pub(crate) fn connection(id: &str, accounts: usize) -> Connection {
    Connection { id: id.to_owned(), user: format!("u{id}"), accounts }
}

/// A truncated event: its id is the connection's with `e` before it.
pub(crate) fn truncated(connection: &str, announced: usize) -> String {
    crate::support::event_json(&format!("e{connection}"), connection, announced, true)
}

impl Service {
    /// Starts both. `linxo` are lines of the section, without those that point to the double; with `[linxo.users]` in it,
    /// also of that. Unless they say something else, no event waits for an API that is behind it.
    pub(crate) async fn start(settings: Settings, linxo: &str) -> Self {
        let mut service = Self::set(settings, linxo).await;
        service.run().await;
        service
    }

    /// Starts the double and writes the configuration.
    pub(crate) async fn set(settings: Settings, linxo: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let identity = Authority::new("it").unwrap().server(&["localhost"]).unwrap();
        pki::write_identity(&folder.path().join("server.pem"), &folder.path().join("server.key"), &identity).unwrap();
        let simulator = Simulator::start(settings).await.unwrap();
        let mut service = Self { simulator, running: None, folder, config: String::new() };
        service.configure(Some(linxo));
        service
    }

    /// Writes the configuration that the next start takes; without a `[linxo]` section for `None`.
    pub(crate) fn configure(&mut self, linxo: Option<&str>) {
        let (folder, simulator) = (self.folder.path().display(), &self.simulator);
        self.config = format!(
            "[listener]\naddress = \"127.0.0.1:0\"\ndrain_timeout = \"1s\"\n\
             [tls]\ncertificate = \"{folder}/server.pem\"\nkey = \"{folder}/server.key\"\n\
             [inbox]\nurl = \"sqlite:{folder}/inbox.db\"\nmin_free_disk = \"0 B\"\n\
             [admin]\naddress = \"off\"\n\
             [[sink]]\nname = \"lines\"\ntype = \"file\"\npath = \"{folder}/lines\"\n"
        );
        if let Some(lines) = linxo {
            let settle_for = if lines.contains("settle_for") { "" } else { "settle_for = \"0s\"\n" };
            write!(
                self.config,
                "[linxo]\napi = \"{}\"\nauth = \"{}\"\nclient_id = \"demo\"\nclient_secret = {{ env = \"SECRET\" }}\n{settle_for}{lines}\n",
                simulator.api_url(),
                simulator.auth_url()
            )
            .unwrap();
        }
    }

    /// Has the client's secret read from a file.
    pub(crate) fn secret_from(&mut self, file: &Path) {
        self.config = self.config.replace("{ env = \"SECRET\" }", &format!("{{ file = \"{}\" }}", file.display()));
    }

    /// Starts the service.
    pub(crate) async fn run(&mut self) {
        self.run_with_secret("demo-secret").await;
    }

    /// Writes the configuration where a service that runs looks for it.
    pub(crate) fn write(&self) -> PathBuf {
        let file = self.folder.path().join("config.toml");
        fs::write(&file, &self.config).unwrap();
        file
    }

    pub(crate) async fn run_with_secret(&mut self, secret: &str) {
        let file = self.write();
        let environment = [("SECRET".to_owned(), secret.to_owned()), ("BEARER".to_owned(), "let-me-in".to_owned())];
        let config = config::load(Some(&file), environment).unwrap_or_else(|problems| panic!("{problems}"));
        self.running = Some(start(config).await);
    }

    /// Ends the service; the double and the inbox stay.
    pub(crate) async fn stop(&mut self) {
        let mut running = self.running.take().unwrap();
        running.drain();
        assert_eq!(timeout(LIMIT, running.ended()).await.expect("it ends"), Ended::Drained);
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only its owner can read, at once whole.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let (path, made) = (self.path(name), self.path("made"));
        fs::write(&made, text).unwrap();
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(made, &path).unwrap();
        path
    }

    /// Accepts an event, as the receiver does.
    pub(crate) async fn accept(&self, json: &str) {
        let intake = &self.running().inbox.intake;
        let receipt = intake.accept(new_entry(json)).await.unwrap();
        let fate = intake.fate(&receipt).await.unwrap();
        assert!(matches!(fate, Some(Folded::Stored { .. })), "{receipt:?}, {fate:?}");
    }

    /// What the sink was given so far.
    pub(crate) fn deliveries(&self) -> Vec<Value> {
        lines(&self.path("lines"))
    }

    /// Waits until the sink was given this many.
    pub(crate) async fn delivered(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} deliveries"), async || {
            let deliveries = self.deliveries();
            (deliveries.len() >= count).then_some(deliveries)
        })
        .await
    }

    pub(crate) async fn parked_now(&self) -> Vec<EntryView> {
        let filter = Filter { state: Some(State::Parked), ..Filter::default() };
        self.running().inbox.desk.list(&filter, 1000).await.unwrap()
    }

    /// Waits until this many entries are parked; returns why.
    pub(crate) async fn parked(&self, count: usize) -> Vec<String> {
        until(&format!("{count} parked entries"), async || {
            let parked = self.parked_now().await;
            (parked.len() >= count).then(|| {
                parked.iter().map(|entry| entry.stages[0].reason.clone().unwrap_or_default()).collect::<Vec<_>>()
            })
        })
        .await
    }

    /// Waits until the first entry was tried so often.
    pub(crate) async fn tried(&self, attempts: u32) -> EntryView {
        until(&format!("{attempts} tries"), async || {
            let mut entries = self.running().inbox.desk.list(&Filter::default(), 1).await.unwrap();
            let entry = entries.pop()?;
            (entry.stages[0].attempts >= attempts).then_some(entry)
        })
        .await
    }

    /// As [`parked`](Self::parked), where the API refuses: each refusal is given as if it had been given for an hour before.
    pub(crate) async fn refused_for_an_hour(&self, count: usize) -> Vec<String> {
        let store = rusqlite::Connection::open(self.path("inbox.db")).unwrap();
        store.busy_timeout(LIMIT).unwrap();
        let sql = "UPDATE stage SET doubts = 9, doubts_since = doubts_since - 3600000, due = 0
                   WHERE kind = 0 AND state = 'due' AND doubts BETWEEN 1 AND 8";
        until(&format!("{count} parked entries"), async || {
            store.execute(sql, []).unwrap();
            (self.parked_now().await.len() >= count).then_some(())
        })
        .await;
        self.parked(count).await
    }

    /// How often an endpoint was asked.
    pub(crate) fn asked(&self, endpoint: Endpoint) -> usize {
        self.simulator.requests().iter().filter(|request| request.endpoint == endpoint).count()
    }

    /// How often a page of any list was asked for.
    pub(crate) fn asked_page(&self, page: u64) -> usize {
        let is_page = |request: &&double::Request| request.endpoint == Endpoint::Accounts && request.page == Some(page);
        self.simulator.requests().iter().filter(is_page).count()
    }

    /// One figure of `/metrics`, by its line up to the value.
    pub(crate) fn figure(&self, line: &str) -> i64 {
        let text = self.running().metrics.encode();
        let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or("0").parse().unwrap()
    }
}

/// Ids of the accounts of a delivery; panics where one comes twice.
pub(crate) fn ids(delivery: &Value) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for account in delivery["data"]["resource"]["accounts"].as_array().unwrap() {
        let id = match &account["id"] {
            Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        assert!(ids.insert(id.clone()), "{id} comes twice");
    }
    ids
}

/// Asserts that a delivery has all accounts that the double has, fetched, and nothing to remark.
pub(crate) fn assert_complete(simulator: &Simulator, delivery: &Value) {
    let connection = delivery["subject"].as_str().unwrap();
    let wanted: BTreeSet<String> = simulator.accounts(connection).into_iter().collect();
    assert_eq!(ids(delivery), wanted);
    assert_eq!(delivery["linxoaccounts"], wanted.len());
    assert_eq!(delivery["linxocompletion"], "api");
    assert_eq!(delivery.get("linxomismatch"), None);
}

/// Waits for a state, within a limit.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // What follows the last line end is being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
