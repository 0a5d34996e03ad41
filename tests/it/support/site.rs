//! A folder with everything that a service needs, and the service itself.

use super::{Door, Process, eventually, settled};
use base::error::chain;
use double::{
    Settings, Simulator,
    pki::{Authority, write_identity},
};
use inbox::{Access, EntryView, Inbox};
use linxo_webhook::{
    app::{self, Ended},
    config::{self, Config},
};
use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
};
use tempfile::TempDir;
use tokio::process::Command;

/// What must never be printed.
pub(crate) mod secrets {
    /// Last segment of the webhook's path.
    pub(crate) const PATH: &str = "path-secret-0123456789abcdef";
    /// The OAuth2 client's.
    pub(crate) const CLIENT: &str = "client-secret-0123456789abcdef";
    /// Of the admin listener.
    pub(crate) const ADMIN: &str = "admin-token-0123456789abcdef";
    /// Signs deliveries.
    pub(crate) const SIGNING: &str = "whsec_c2lnbmluZy1zZWNyZXQtMDEyMzQ1Njc4OWFiY2RlZg==";
}

/// A folder of its own, gone when this value is dropped.
pub(crate) struct Site {
    folder: TempDir,
    authority: Arc<Authority>,
    /// Dotted keys and their values as TOML.
    keys: BTreeMap<String, String>,
    sinks: Vec<String>,
}

impl Site {
    /// Free ports of the loopback interface, certificates of an authority of its own, no sink yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::new("test").unwrap());
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("certs")).unwrap();
        let server = authority.server(&["localhost"]).unwrap();
        write_identity(&path("certs/server.pem"), &path("certs/server.key"), &server).unwrap();
        fs::write(path("certs/authority.pem"), authority.certificate_pem()).unwrap();
        let [certificate, key, inbox] =
            ["certs/server.pem", "certs/server.key", "data/inbox.db"].map(|name| path(name).display().to_string());
        let mut site = Self { folder, authority, keys: BTreeMap::new(), sinks: Vec::new() };
        site.set("listener.address", text("127.0.0.1:0"))
            .set("listener.drain_timeout", text("10s"))
            .set("tls.certificate", text(certificate))
            .set("tls.key", text(key))
            .set("inbox.url", text(format_args!("sqlite:{inbox}")))
            .set("inbox.min_free_disk", text("0 B"))
            .set("admin.address", text("127.0.0.1:0"));
        site
    }

    /// Another receiver: with the same authority, keys and secrets, which stay where they are, and a folder of its own.
    pub(crate) fn sibling(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, authority: Arc::clone(&self.authority), keys: self.keys.clone(), sinks: self.sinks.clone() }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets a dotted key to a value that is TOML already.
    pub(crate) fn set(&mut self, key: &str, toml: impl Display) -> &mut Self {
        self.keys.insert(key.to_owned(), toml.to_string());
        self
    }

    /// Takes a section out again.
    pub(crate) fn unset(&mut self, section: &str) -> &mut Self {
        self.keys.retain(|key, _| !key.starts_with(section));
        self
    }

    /// Sets a dotted key to a secret, which is kept in a file.
    pub(crate) fn secret(&mut self, key: &str, secret: &str) -> &mut Self {
        let file = self.secret_file(key, secret);
        self.set(key, file)
    }

    /// Adds a file sink; returns its file.
    pub(crate) fn file_sink(&mut self, name: &str) -> PathBuf {
        let path = self.path(format!("{name}.ndjson"));
        self.sinks.push(format!("name = \"{name}\"\ntype = \"file\"\npath = {}", text(path.display())));
        path
    }

    /// Adds a sink of any type, with these lines.
    pub(crate) fn sink(&mut self, lines: impl Display) -> &mut Self {
        self.sinks.push(lines.to_string());
        self
    }

    /// Adds lines to the last sink.
    pub(crate) fn append(&mut self, lines: &str) -> &mut Self {
        let last = self.sinks.last_mut().unwrap();
        *last = format!("{last}\n{lines}");
        self
    }

    /// The same site with a sink under another name.
    pub(crate) fn renamed(mut self, from: &str, to: &str) -> Self {
        for sink in &mut self.sinks {
            *sink = sink.replace(&format!("name = \"{from}\""), &format!("name = \"{to}\""));
        }
        self
    }

    /// Adds an HTTP sink that signs.
    pub(crate) fn http_sink(&mut self, name: &str, url: &str) -> &mut Self {
        let secret = self.secret_file(name, secrets::SIGNING);
        self.sinks.push(format!("name = \"{name}\"\ntype = \"http\"\nurl = {}\nsecret = {secret}", text(url)));
        self
    }

    /// Starts the vendor double over TLS and points `[linxo]` at it. Unless a test sets `linxo.settle_for`, no event waits for an
    /// API that is behind it.
    pub(crate) async fn simulator(&mut self, settings: Settings) -> Simulator {
        let identity = self.authority.server(&["localhost"]).unwrap();
        let client_secret = settings.client_secret.expose().to_owned();
        let simulator = Simulator::start(Settings { identity: Some(identity), ..settings }).await.unwrap();
        let authority = self.path("certs/authority.pem").display().to_string();
        self.keys.entry("linxo.settle_for".to_owned()).or_insert_with(|| text("0s"));
        self.set("linxo.api", text(simulator.api_url()))
            .set("linxo.auth", text(simulator.auth_url()))
            .set("linxo.client_id", text("demo"))
            .secret("linxo.client_secret", &client_secret)
            .set("linxo.authorities", format!("[{}]", text(authority)));
        simulator
    }

    /// The configuration file, written anew.
    pub(crate) fn file(&self) -> PathBuf {
        let mut toml = String::new();
        for (key, value) in &self.keys {
            writeln!(toml, "{key} = {value}").unwrap();
        }
        for sink in &self.sinks {
            writeln!(toml, "\n[[sink]]\n{sink}").unwrap();
        }
        let file = self.path("linxo-webhook.toml");
        fs::write(&file, toml).unwrap();
        file
    }

    pub(crate) fn config(&self) -> Config {
        config::load(Some(&self.file()), []).unwrap()
    }

    /// Starts the service in this process.
    pub(crate) async fn start(&self) -> Service {
        let running = start(self.config()).await;
        let door = self.door(running.address);
        Service { admin: running.admin.unwrap(), running, door }
    }

    /// A caller of this address.
    pub(crate) fn door(&self, address: SocketAddr) -> Door {
        Door::new(address, &self.authority)
    }

    /// Starts the true program and waits until it listens.
    pub(crate) async fn spawn(&self) -> Process {
        Process::start(self.command(&["serve"]), &self.authority).await
    }

    /// A command of the true program, with this configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.default_command(arguments);
        command.arg("--config").arg(self.file());
        command
    }

    /// The authority of the server's certificate.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A command of the true program in this folder, with whatever configuration it finds there.
    pub(crate) fn default_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_linxo-webhook"));
        command.args(arguments).current_dir(self.folder.path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LINXO_")) {
            command.env_remove(name);
        }
        command.kill_on_drop(true);
        command
    }

    /// Runs a command of the true program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Starts the program with something in the way.
    pub(crate) async fn spawn_with(&self, change: impl FnOnce(&mut Command)) -> Process {
        let mut command = self.command(&["serve"]);
        change(&mut command);
        Process::start(command, &self.authority).await
    }

    /// The store, opened beside whoever owns it.
    pub(crate) fn inbox(&self) -> Inbox {
        let config = self.config();
        let sinks: Vec<_> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
        inbox::open(&config.inbox, &sinks, Access::Guest).unwrap()
    }

    fn secret_file(&self, name: &str, secret: &str) -> String {
        let path = self.path(format!("{name}.secret"));
        fs::write(&path, secret).unwrap();
        format!("{{ file = {} }}", text(path.display()))
    }
}

/// Starts the service in this process. One that was stopped just before lets go of its sinks' files a moment later.
pub(crate) async fn start(config: Config) -> app::Running {
    eventually("the service before has let go of its files", async || {
        match Box::pin(app::start(config.clone())).await {
            Ok(running) => Some(running),
            Err(app::Error::Sink(error)) if chain(&error).contains("another process or sink") => None,
            Err(error) => panic!("{}", chain(&error)),
        }
    })
    .await
}

/// A TOML string.
pub(crate) fn text(value: impl Display) -> String {
    serde_json::Value::from(value.to_string()).to_string()
}

/// The service in this process.
pub(crate) struct Service {
    pub(crate) running: app::Running,
    pub(crate) door: Door,
    pub(crate) admin: SocketAddr,
}

impl Service {
    /// Waits until all work is done or parked; returns every entry, oldest first.
    pub(crate) async fn settled(&self) -> Vec<EntryView> {
        settled(&self.running.inbox).await
    }

    /// Value of one line of the metrics.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        let text = self.running.metrics.encode();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits for a figure.
    pub(crate) async fn metric_reaches(&self, line: &str, value: u64) {
        eventually(line, async || (self.metric(line) >= value).then_some(())).await;
    }

    /// Drains to the end.
    pub(crate) async fn stop(mut self) {
        self.running.drain();
        assert_eq!(self.running.ended().await, Ended::Drained, "no part ends before it should");
    }
}
