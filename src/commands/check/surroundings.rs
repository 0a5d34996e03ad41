//! Tries what the service needs around it: ports, folders, files, sinks, the client of the API.
//!
//! Nothing is left behind. What a running service of this inbox holds is not tried, and noted.

use super::findings::Findings;
use crate::{
    config::Config,
    control::{self, Client, Held, Overview, Taker},
};
use base::{
    error::chain,
    folder::{beside, try_to_write},
};
use inbox::{Remark, SealStanding, SinkName};
use linxo::{Figures, credentials::FingerprintKey};
use prometheus_client::registry::Registry;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _},
    net::SocketAddr,
    path::Path,
    time::Duration,
};
use tokio::net::TcpSocket;

/// What a SQLite file begins with (`https://sqlite.org/fileformat.html` section 1.3).
const SQLITE: &[u8] = b"SQLite format 3\0";
/// For the running service to say what it holds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who holds things already.
enum Service {
    /// No service runs on this inbox.
    None,
    /// One runs, and says what it holds.
    Holds(Held),
    /// One runs, and does not say.
    Silent,
}

impl Service {
    fn holds_address(&self, address: SocketAddr) -> bool {
        match self {
            Self::None => false,
            Self::Holds(held) => held.addresses.contains(&address.to_string()),
            Self::Silent => true,
        }
    }

    fn holds_file(&self, file: &Path) -> bool {
        match self {
            Self::None => false,
            Self::Holds(held) => fs::canonicalize(file).is_ok_and(|file| held.files.contains(&file)),
            Self::Silent => true,
        }
    }
}

/// Tries everything.
pub(super) async fn look(config: &Config, found: &mut Findings) {
    let service = service(config, found).await;
    addresses(config, &service, found);
    inbox_files(config, &service, found);
    seal(config, found);
    made_certificate(config, found);
    for sink in &config.sinks {
        let key = format!("sink {:?}", sink.name.as_str());
        let file = sink.kind.writes();
        if file.is_some_and(|file| service.holds_file(file)) {
            found.notes.push(format!("{key}: not tried, because the running service writes this file"));
        } else if let Err(error) = delivery::rehearse(sink) {
            let key = if file.is_some() { format!("{key}.path") } else { key };
            let value = file.map(|file| format!("{:?}", file.display().to_string()));
            let hint = "the user of the service must be allowed to make or write what the sink needs, and nobody else may hold it";
            found.problem(config, &key, value, (format!("cannot be used: {}", causes(&error)), hint));
        }
    }
    if let Some(linxo) = &config.linxo {
        // Nothing of this client is kept, so any key will do, and its figures go into a registry that nobody reads.
        let (key, figures) = (FingerprintKey::new([0; 32]), Figures::new(&mut Registry::default()));
        if let Err(error) = linxo::Client::new(linxo.clone(), key, figures) {
            let hint = "mend the file that is named; without one, install CA certificates";
            found.problem(config, "linxo", None, (format!("cannot be used: {}", chain(&error)), hint));
        }
    }
}

/// Whether the inbox and its key fit together.
fn seal(config: &Config, found: &mut Findings) {
    match inbox::seal_standing(&config.inbox) {
        Ok(SealStanding::Off) => found.notes.push(
            "inbox.key is not set: bank data lies unencrypted in the inbox and in its backups (docs/privacy.md)".to_owned(),
        ),
        Ok(SealStanding::Ahead) => found.notes.push(
            "the next start seals the inbox: keep a copy of the file that inbox.key names, because nobody can read the inbox \
             without it"
                .to_owned(),
        ),
        Ok(SealStanding::Begun) => {
            found.notes.push("what was in the inbox before inbox.key was set is not all sealed yet".to_owned());
        }
        Ok(SealStanding::On) => {}
        Err(error) => {
            let hint = "docs/operations.md says how keys are exchanged, and what to do when one is lost";
            found.problem(config, "inbox.key", None, (format!("does not fit: {}", chain(&error)), hint));
        }
    }
}

async fn service(config: &Config, found: &mut Findings) -> Service {
    let client = match Client::find(&control::path(&config.inbox)) {
        Ok(None) => return Service::None,
        Ok(Some(client)) => client,
        Err(error) => {
            found.notes.push(format!("nobody can say whether a service runs on this inbox: {}", chain(&error)));
            return Service::None;
        }
    };
    found.notes.push("a service runs on this inbox: what it holds is not tried".to_owned());
    if let Ok(Ok(overview)) = tokio::time::timeout(PATIENCE, client.overview()).await {
        found.warnings.extend(ailments(&overview));
    }
    match tokio::time::timeout(PATIENCE, client.held()).await {
        Ok(Ok(held)) => Service::Holds(held),
        _ => Service::Silent,
    }
}

/// What a running service says is wrong with its inbox.
fn ailments(overview: &Overview) -> Vec<String> {
    let mut told = Vec::new();
    if !overview.is_known {
        told.push(
            "the running service cannot use the store of its inbox now, and nothing is delivered: its log says why"
                .to_owned(),
        );
    }
    if overview.is_fold_stuck == Some(true) {
        told.push(format!(
            "{} accepted events cannot be moved from the journal into the inbox now, and are not delivered: the log of the service says why",
            overview.unfolded.unwrap_or_default()
        ));
    }
    for Taker { name, state, reason, .. } in &overview.receivers {
        if let Some(reason) = reason.as_ref().filter(|_| state == "not_ready") {
            told.push(format!("the receiver {name} takes no events now: {reason}"));
        }
    }
    told
}

fn addresses(config: &Config, service: &Service, found: &mut Findings) {
    let public = ("listener.address", config.listener.address());
    for (key, wanted) in
        [Some(public), config.admin.address.map(|inner| ("admin.address", inner))].into_iter().flatten()
    {
        if service.holds_address(wanted) {
            found.notes.push(format!("{key}: not tried, because the running service listens on {wanted}"));
        } else if let Err(error) = try_to_bind(wanted) {
            address(config, key, wanted, &error, found);
        }
    }
}

/// Takes an address and lets it go. Nothing listens meanwhile, so that no caller is taken and sent away.
fn try_to_bind(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

fn address(config: &Config, key: &str, address: SocketAddr, error: &io::Error, found: &mut Findings) {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "choose another port, or stop what uses this one",
        io::ErrorKind::AddrNotAvailable => "use an address of this machine, or 0.0.0.0 for all of them",
        _ => "use a port from 1024 on, or let this user have lower ones",
    };
    found.problem(config, key, Some(format!("\"{address}\"")), (format!("cannot be listened on: {error}"), hint));
}

/// The inbox's file and what belongs to it.
fn inbox_files(config: &Config, service: &Service, found: &mut Findings) {
    let known = found.problems.len();
    if matches!(service, Service::None) {
        inbox_file(config, found);
    }
    let is_told = found.problems.len() > known;
    let sinks: Vec<SinkName> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    for Remark { text, bars } in inbox::examine(&config.inbox, &sinks) {
        match (bars, is_told) {
            (false, _) => found.warnings.push(text),
            (true, false) => found.troubles.push((text, false)),
            // Once is enough.
            (true, true) => {}
        }
    }
}

/// The inbox's file, where no service runs on it.
fn inbox_file(config: &Config, found: &mut Findings) {
    let Some(path) = config.inbox.file() else { return };
    let mut told = |reason: String, hint: &str| {
        found.problem(config, "inbox.url", Some(format!("\"{}\"", config.inbox.store)), (reason, hint));
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Err(error) = try_to_write(folder) {
        let reason = format!("lies in {}, where nothing can be written: {error}", folder.display());
        return told(reason, "give the service a folder that its user may write to");
    }
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            let hint = "the user of the service must own the file; it is a file, and no folder";
            return told(format!("cannot be opened for writing: {error}"), hint);
        }
        Ok(file) if !is_sqlite(&file) => {
            return told("is no SQLite file".to_owned(), "name a new file, or restore this one from a backup");
        }
        Ok(_) => {}
    }
    for suffix in [".lock", "-wal", "-shm"] {
        let part = beside(path, suffix);
        match OpenOptions::new().read(true).write(true).open(&part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let reason =
                    format!("cannot be used: {} beside it cannot be opened for writing: {error}", part.display());
                return told(
                    reason,
                    "the user of the service must own what stands beside the file; a command that another user ran may have made it",
                );
            }
            Ok(file) if suffix == ".lock" && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) => {
                return told(
                    "is held by another linxo-webhook, which cannot be reached".to_owned(),
                    "stop that one first",
                );
            }
            Ok(_) => {}
        }
    }
}

/// Whether a file is SQLite's, or is empty and becomes so.
fn is_sqlite(file: &File) -> bool {
    let mut start = Vec::new();
    file.take(SQLITE.len() as u64).read_to_end(&mut start).is_ok() && (start.is_empty() || start == SQLITE)
}

/// Where a certificate for localhost is made on the first start.
fn made_certificate(config: &Config, found: &mut Findings) {
    let tls = &config.tls;
    if !tls.may_generate || tls.certificate.exists() || tls.key.exists() {
        return;
    }
    let folder = tls.certificate.parent().unwrap_or(Path::new("."));
    if let Err(error) = try_to_write(folder) {
        let reason = format!("is to be made in {}, where nothing can be written: {error}", folder.display());
        let hint = "name a certificate and its key, or give the service a folder that its user may write to";
        found.problem(config, "tls.certificate", Some(format!("\"{}\"", tls.certificate.display())), (reason, hint));
    }
}

/// Why a sink cannot be opened, without its name.
fn causes(error: &delivery::OpenError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), chain)
}
