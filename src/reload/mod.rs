//! Takes changed certificates, authorities, revocations and secrets into use while the service runs.
//!
//! In: SIGHUP, and a look twice a second at the files that the configuration names, itself included. Out: the receiver's TLS
//! settings and path secrets, the sinks' signing secrets and the client of the vendor's API, replaced as one whole set, or
//! not at all: everything is read and checked as at the start, and what does not fit is said once, counted, and tried again at the next look, so that the
//! halves of a new pair may come one after the other. The last good set stays in use meanwhile.
//!
//! What else differs in the configuration is not applied; the log says that it needs a restart.
//!
//! A list of revocations that ends is treated as a change: sessions that were begun before must not be resumed past it.
//!
//! Polling, because it is the same for a rename, a write in place, the symbolic links that Kubernetes swaps and network
//! file systems; notifications of the kernel are different for each, and silent for some. A look is one `stat` a file;
//! contents are compared only where that shows a change, or one so young that a second one could look the same.

use crate::{
    admin,
    clock::{self, Timestamp},
    config::{self, Config, Sink as SinkConfig, SinkKind, Tls},
    linxo,
    metrics::{Metrics, Outcome},
    readiness::{Phase, Readiness},
    receive::{
        Receiver,
        tls::{self, Validity},
    },
    secret::Secret,
    sink::Sink,
    work::Completer,
};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Notify, task, time};
use zeroize::Zeroizing;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Coarsest time stamp of a file system: a change younger than this may be followed by one with the same stamp.
const COARSEST: Duration = Duration::from_secs(2);

/// The parts that take new settings.
pub struct Reload {
    watched: Watched,
    receiver: Arc<Receiver>,
    sinks: Vec<(String, Arc<dyn Sink>)>,
    /// `None` where nothing is completed.
    completer: Option<Arc<Completer>>,
    /// `None` where there is no admin listener.
    admin: Option<admin::Access>,
    metrics: Arc<Metrics>,
}

impl Reload {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        watched: Watched,
        receiver: Arc<Receiver>,
        sinks: Vec<(String, Arc<dyn Sink>)>,
        completer: Option<Arc<Completer>>,
        admin: Option<admin::Access>,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.reloaded.set(clock::now().as_millis().div_euclid(1000));
        Self { watched, receiver, sinks, completer, admin, metrics }
    }

    /// Looks, and applies what has changed, until the process drains. `asked` is SIGHUP.
    pub async fn run(self, asked: Arc<Notify>, readiness: Readiness) {
        let Self { mut watched, receiver, sinks, completer, admin, metrics } = self;
        loop {
            let is_asked = tokio::select! {
                () = readiness.reached(Phase::Draining) => return,
                () = asked.notified() => true,
                () = time::sleep(EVERY) => false,
            };
            let figures = Arc::clone(&metrics);
            let looked = task::spawn_blocking(move || {
                let found = watched.look(is_asked, &figures);
                (watched, found)
            });
            // The runtime is ending, or reading panicked: this ends, and the service with it.
            let Ok((next, found)) = looked.await else { return };
            watched = next;
            let outcome = match found {
                Found::Nothing => continue,
                Found::Problem(problem) => {
                    tracing::error!(
                        problem,
                        "changed certificates or secrets cannot be used; the last good ones stay in use"
                    );
                    "failed"
                }
                Found::Set(set) => {
                    apply(*set, &receiver, &sinks, completer.as_deref(), admin.as_ref());
                    metrics.reloaded.set(clock::now().as_millis().div_euclid(1000));
                    "ok"
                }
            };
            metrics.reloads.get_or_create(&Outcome { outcome }).inc();
        }
    }
}

fn apply(
    set: Set,
    receiver: &Receiver,
    sinks: &[(String, Arc<dyn Sink>)],
    completer: Option<&Completer>,
    admin: Option<&admin::Access>,
) {
    if let (Some(client), Some(completer)) = (set.linxo, completer) {
        tracing::info!("another client of the Linxo API is in use");
        completer.set_client(Some(client));
    }
    if let Some(sender) = set.sender {
        tracing::info!(
            path_secrets = sender.path_secrets.len(),
            networks = sender.networks.len(),
            "other path secrets or networks are in use"
        );
        receiver.replace_sender(sender);
    }
    if let (Some(changed), Some(admin)) = (set.admin, admin) {
        tracing::info!("another admin token is in use");
        admin.replace_token(changed.token);
    }
    for (name, secrets) in set.sinks {
        let Some((_, sink)) = sinks.iter().find(|(known, _)| *known == name) else { continue };
        match sink.replace_secrets(&secrets) {
            Ok(()) => tracing::info!(sink = name, count = secrets.len(), "other signing secrets are in use"),
            Err(failure) => tracing::error!(sink = name, reason = failure.reason, "signing secrets cannot be replaced"),
        }
    }
    if !set.restart.is_empty() {
        let sections = set.restart.join(", ");
        tracing::warn!(sections, "the configuration was changed in sections that need a restart; they are not applied");
    }
    if let Some(loaded) = set.tls {
        loaded.log();
        receiver.replace_tls(loaded);
    } else {
        tracing::info!("certificates, authorities and revocations are the same as before");
    }
}

/// What a look found.
enum Found {
    /// Nothing new.
    Nothing,
    /// Something that cannot be used, and that was not said yet.
    Problem(String),
    /// A whole set, checked.
    Set(Box<Set>),
}

/// What differs from what is in use.
struct Set {
    tls: Option<tls::Loaded>,
    sender: Option<config::Sender>,
    /// With another token.
    admin: Option<config::Admin>,
    /// By name.
    sinks: Vec<(String, Vec<Secret>)>,
    linxo: Option<linxo::Client>,
    /// Sections that differ, but cannot be applied.
    restart: Vec<&'static str>,
}

impl Set {
    fn is_empty(&self) -> bool {
        self.tls.is_none()
            && self.sender.is_none()
            && self.admin.is_none()
            && self.sinks.is_empty()
            && self.linxo.is_none()
            && self.restart.is_empty()
    }
}

/// The files of a running service, and what was last seen of them.
pub struct Watched {
    /// What is in use.
    config: Config,
    certificate: Option<tls::Certificate>,
    revocations: Vec<tls::RevocationList>,
    /// How many lists had ended when they were loaded.
    ended: usize,
    stamps: Vec<Option<Stamp>>,
    /// Whether another change could look the same as what was seen.
    is_young: bool,
    /// Of all files; `None`: not looked at yet.
    contents: Option<Contents>,
    /// Of those that `[tls]` names. Taken before they are loaded: what changes in between is seen at the next look.
    tls_contents: Contents,
    /// What was wrong at the last look.
    problem: Option<String>,
}

impl Watched {
    /// Notes what is about to be used. Blocking; reads the files.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            certificate: None,
            revocations: Vec::new(),
            ended: 0,
            stamps: Vec::new(),
            is_young: true,
            contents: None,
            tls_contents: contents(&tls_files(&config.tls)),
            problem: None,
            config,
        }
    }

    /// Notes what has been loaded since.
    pub fn note(&mut self, loaded: &tls::Loaded) {
        self.certificate = Some(loaded.certificate.clone());
        self.revocations.clone_from(&loaded.revocations);
        self.ended = tls::ended(&loaded.revocations, clock::now()).count();
    }

    fn look(&mut self, is_asked: bool, metrics: &Arc<Metrics>) -> Found {
        let has_ended = tls::ended(&self.revocations, clock::now()).count() > self.ended;
        let must = is_asked || has_ended || self.problem.is_some();
        let files = files(&self.config);
        // Before the contents, as these before their use.
        let (stamps, is_young) = stamps(&files);
        if !must && !self.is_young && stamps == self.stamps {
            return Found::Nothing;
        }
        (self.stamps, self.is_young) = (stamps, is_young);
        let all = contents(&files);
        if !must && self.contents == Some(all) {
            return Found::Nothing;
        }
        self.contents = Some(all);
        match self.read(has_ended, metrics) {
            Ok(set) => {
                let is_news = is_asked || self.problem.take().is_some() || !set.is_empty();
                if is_news { Found::Set(Box::new(set)) } else { Found::Nothing }
            }
            Err(problem) if self.problem.as_ref() == Some(&problem) => Found::Nothing,
            Err(problem) => {
                self.problem = Some(problem.clone());
                Found::Problem(problem)
            }
        }
    }

    /// Reads everything anew; on success that is what is in use.
    fn read(&mut self, has_ended: bool, metrics: &Arc<Metrics>) -> Result<Set, String> {
        let new = self.config.origin.load().map_err(|problems| problems.to_string())?;
        let tls_contents = contents(&tls_files(&new.tls));
        let is_same = new.tls == self.config.tls && tls_contents == self.tls_contents;
        let tls = if is_same && !has_ended { None } else { Some(self.read_tls(&new.tls)?) };

        let linxo = match &new.linxo {
            Some(linxo) if self.config.linxo != new.linxo && same_source(&self.config, &new) => {
                let client = linxo::Client::new(linxo.clone(), Arc::clone(metrics));
                Some(client.map_err(|error| crate::error::chain(&error))?)
            }
            _ => None,
        };
        let restart = needing_restart(&self.config, &new);
        // What an event is worth is settled at the start, with the completion that it needs.
        let sender = config::Sender { confirm: self.config.sender.confirm, ..new.sender.clone() };
        let is_other_sender = sender != self.config.sender;
        let has_another_token = admin_address(&new) == admin_address(&self.config) && new.admin != self.config.admin;
        let admin = new.admin.clone().filter(|_| has_another_token);
        let mut sinks = Vec::new();
        for sink in &mut self.config.sinks {
            if let Some(changed) = new.sinks.iter().find(|changed| changed.name == sink.name)
                && let (SinkKind::Http { secrets: old, .. }, SinkKind::Http { secrets, .. }) =
                    (&mut sink.kind, &changed.kind)
                && old != secrets
            {
                old.clone_from(secrets);
                sinks.push((sink.name.clone(), secrets.clone()));
            }
        }
        if let Some(loaded) = &tls {
            self.note(loaded);
        }
        if files(&new) != files(&self.config) {
            // The next look sees the new ones for the first time.
            self.contents = None;
            self.is_young = true;
        }
        self.tls_contents = tls_contents;
        if linxo.is_some() {
            self.config.linxo = new.linxo;
        }
        self.config.tls = new.tls;
        self.config.sender.clone_from(&sender);
        if has_another_token {
            self.config.admin = new.admin;
        }
        self.config.origin = new.origin;
        Ok(Set { tls, sender: is_other_sender.then_some(sender), admin, sinks, linxo, restart })
    }

    fn read_tls(&self, config: &Tls) -> Result<tls::Loaded, String> {
        let loaded = tls::load(config).map_err(|error| crate::error::chain(&error))?;
        let now = clock::now();
        let is_valid = |validity| matches!(validity, Validity::Good | Validity::EndsSoon { .. });
        let is_better = self.certificate.as_ref().is_some_and(|used| is_valid(used.validity(now)));
        if is_better && !is_valid(loaded.certificate.validity(now)) {
            return Err(format!(
                "the certificate in {} has ended or not begun, and the one in use is valid: put a valid one there",
                config.certificate.display()
            ));
        }
        Ok(loaded)
    }
}

/// Sections that differ in what only a start can apply.
fn needing_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let differences = [
        ("[listener]", old.listener != new.listener),
        ("sender.confirm", old.sender.confirm != new.sender.confirm),
        ("[inbox]", old.inbox != new.inbox),
        ("[worker]", old.worker != new.worker),
        ("[linxo]", old.linxo != new.linxo && !same_source(old, new)),
        ("[[sink]]", !same_sinks(&old.sinks, &new.sinks)),
        ("admin.address", admin_address(old) != admin_address(new)),
        ("[log]", old.log != new.log),
    ];
    differences.into_iter().filter(|(_, differs)| *differs).map(|(section, _)| section).collect()
}

fn admin_address(config: &Config) -> Option<SocketAddr> {
    config.admin.as_ref().map(|admin| admin.address)
}

/// Whether both complete from the same API, whose address is the `source` of every delivery.
fn same_source(old: &Config, new: &Config) -> bool {
    matches!((&old.linxo, &new.linxo), (Some(old), Some(new)) if old.api == new.api)
}

/// Whether two lists of sinks differ in their signing secrets at most.
fn same_sinks(old: &[SinkConfig], new: &[SinkConfig]) -> bool {
    let without_secrets = |sink: &SinkConfig| {
        let mut sink = sink.clone();
        if let SinkKind::Http { secrets, .. } = &mut sink.kind {
            secrets.clear();
        }
        sink
    };
    old.iter().map(without_secrets).eq(new.iter().map(without_secrets))
}

/// Every file whose change is looked for.
fn files(config: &Config) -> Vec<PathBuf> {
    config.origin.files().map(Path::to_owned).chain(tls_files(&config.tls)).collect()
}

fn tls_files(config: &Tls) -> Vec<PathBuf> {
    let clients = &config.clients;
    let both = [&config.certificate, &config.key];
    both.into_iter().chain(&clients.authorities).chain(&clients.revocations).cloned().collect()
}

/// What shows a change of a file without reading it: device, inode, size, and the seconds and nanoseconds of the last
/// change of its content and of its entry.
type Stamp = ([u64; 3], [i64; 4]);

/// The stamps, and whether one of them is so young that another change could have the same.
fn stamps(files: &[PathBuf]) -> (Vec<Option<Stamp>>, bool) {
    let young = clock::now().before(COARSEST);
    let mut is_young = false;
    let stamps = files.iter().map(|file| {
        // Follows links: what counts is the file at their end.
        let about = fs::metadata(file).ok()?;
        is_young |= Timestamp::from_millis(about.ctime().saturating_mul(1000)) >= young;
        let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
        Some(([about.dev(), about.ino(), about.size()], times))
    });
    (stamps.collect(), is_young)
}

/// SHA-256 over the contents of files.
type Contents = [u8; 32];

fn contents(files: &[PathBuf]) -> Contents {
    let mut all = Sha256::new();
    for file in files {
        // One that cannot be read is as good as one that is not there: reading the set says what is wrong.
        if let Ok(content) = fs::read(file).map(Zeroizing::new) {
            all.update((content.len() as u64).to_be_bytes());
            all.update(&*content);
        } else {
            all.update(u64::MAX.to_be_bytes());
        }
    }
    all.finalize().into()
}
