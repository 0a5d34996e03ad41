//! Takes changed certificates, authorities, revocations and secrets into use while the service runs.
//!
//! In: SIGHUP, and a look twice a second at the files that the configuration names, itself included. Out: the receiver's TLS
//! settings, path secrets and networks, the admin token, the settings of HTTP sinks, the client of the vendor's API and the
//! level of the log, replaced as one whole set, or not at all: everything is read and checked as at the start, and what
//! does not fit is said once (to SIGHUP each time), counted, and tried again at the next look, so that the halves of a new
//! pair may come one after the other. The last good set stays in use meanwhile.
//!
//! ```text
//! watch   files -> have they changed, and held still since?
//! diff    what is used, what was read -> what differs and can be applied; pure
//! ends    what ends by itself: certificates, authorities, revocation lists
//! ```
//!
//! Promises:
//! - A reload never lets in callers who are kept out, and never makes signed deliveries unsigned: no path secret where there was
//!   one, a weaker `tls.clients.mode`, `signed = false` and their like are refused, because a file that was emptied or cut by
//!   mistake looks just so (`diff`, `tests/it/reload`).
//! - A file that is written in place is not used half-written: two looks in a row must find the same. SIGHUP does not wait.
//! - A list of revocations that ends closes the sessions that began before, whatever else is wrong.
//! - What was applied is what counts as used: everything that can fail comes before, and both come from one value.
//!
//! What else differs in the configuration is not applied; the log says that it needs a restart.
//!
//! Polling, because it is the same for a rename, a write in place, the symbolic links that Kubernetes swaps and network
//! file systems; notifications of the kernel are different for each, and silent for some.

mod diff;
mod ends;
mod figures;
mod watch;

pub use diff::Snapshot;
pub use figures::Figures;

use crate::{
    admin::{self, Guards},
    config::Tls,
    observe::log,
    receive::{
        Receiver,
        tls::{self, Validity},
    },
    work::Source,
};
use base::{clock, error::chain};
use delivery::{Sink, Slot};
use diff::Changes;
use ends::Ends;
use inbox::{Link, Prepared};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    task, time,
};
use tokio_util::sync::CancellationToken;
use watch::{Look, Watch};

/// Between two looks. A change is used after two of them, which leaves half of the two seconds that are promised.
const EVERY: Duration = Duration::from_millis(500);

/// The parts that take new settings.
pub struct Targets {
    /// Certificates, path secrets and networks.
    pub receiver: Arc<Receiver>,
    /// Settings of sinks; in the order of the configuration.
    pub sinks: Vec<Arc<Slot>>,
    /// The client of the vendor's API.
    pub source: Arc<Source>,
    /// Password and certificates on the way to the server of the inbox; `None` where it is on none.
    pub link: Option<Link>,
    /// Who may use the admin listener; `None` where there is none.
    pub admin: Option<admin::Access>,
}

/// Keeps the parts in step with the files.
pub struct Reload {
    watched: Watched,
    targets: Targets,
    figures: Figures,
}

impl Reload {
    /// Puts the parts together.
    #[must_use]
    pub fn new(mut watched: Watched, targets: Targets, figures: Figures) -> Self {
        figures.note_fresh();
        watched.admin_ends = targets.admin.as_ref().and_then(|access| access.guards().tls().map(Ends::of));
        Self { watched, targets, figures }
    }

    /// Looks, and applies what has changed, until `stop` is cancelled. `asked` is SIGHUP; who asked is told when what was read
    /// is used or refused.
    pub async fn run(mut self, mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>, stop: CancellationToken) {
        loop {
            // All branches are cancel safe.
            let asking = tokio::select! {
                () = stop.cancelled() => return,
                Some(asking) = asked.recv() => Some(asking),
                () = time::sleep(EVERY) => None,
            };
            let is_asked = asking.is_some();
            self.look_at_the_clock();
            let mut watched = self.watched;
            let (source, link) = (Arc::clone(&self.targets.source), self.targets.link.clone());
            let looked = task::spawn_blocking(move || {
                let found = watched.look(is_asked, &source, link.as_ref());
                (watched, found)
            });
            // The runtime is ending, or reading panicked: this ends, and the service with it.
            let Ok((watched, found)) = looked.await else { return };
            self.watched = watched;
            match found {
                Found::Nothing => {}
                Found::Problem(problem) => {
                    tracing::error!(
                        code = "reload_refused",
                        error = problem,
                        "the changed configuration cannot be used; the last good one stays in use"
                    );
                    self.figures.failed();
                }
                Found::Set(set) => {
                    self.apply(*set);
                    self.figures.succeeded();
                }
            }
            if let Some(asking) = asking {
                // Who asked may have gone.
                asking.send(()).unwrap_or_default();
            }
        }
    }

    /// Warns of what ends, and ends the sessions that a list of revocations no longer covers.
    fn look_at_the_clock(&mut self) {
        let now = clock::now();
        if self.watched.ends.is_list_over(now)
            && let Err(error) = self.targets.receiver.renew_tls()
        {
            let error = chain(&error);
            tracing::error!(
                code = "sessions_not_closed",
                error,
                "a list of revocations has ended, but open sessions cannot be closed; it is tried again"
            );
            return;
        }
        self.watched.ends.look(now);
        if let Some(ends) = &mut self.watched.admin_ends {
            ends.look(now);
        }
    }

    /// Uses a set. Nothing in here can fail, so that all of it counts as used afterwards.
    fn apply(&mut self, set: Set) {
        let Set { changes, tls, guards, linxo, inbox, sinks } = set;
        let config = &changes.next.config;
        for warning in &changes.warnings {
            tracing::warn!(code = "config_warning", "{warning}");
        }
        if let Some(client) = linxo {
            tracing::info!(code = "linxo_client_replaced", "another client of the Linxo API is in use");
            self.targets.source.replace(client);
        }
        if let (Some(prepared), Some(link)) = (inbox, &self.targets.link) {
            tracing::info!(
                code = "inbox_access_replaced",
                "another password or certificate is in use for new connections to PostgreSQL"
            );
            link.renew(prepared);
        }
        if let Some(was) = changes.log_level {
            log::change_level(was, config.log.level);
        }
        if changes.sender {
            let (path_secrets, networks) = (config.sender.path_secrets.len(), config.sender.networks.len());
            tracing::info!(
                code = "sender_replaced",
                path_secrets,
                networks,
                "other path secrets or networks are in use"
            );
            self.targets.receiver.replace_sender(config.sender.clone());
        }
        if let (Some(guards), Some(access)) = (guards, &self.targets.admin) {
            tracing::info!(
                code = "admin_access_replaced",
                "other tokens or certificates of the admin listener are in use"
            );
            self.watched.admin_ends = guards.tls().map(Ends::of);
            guards.log();
            access.replace(guards);
        }
        for (index, sink) in sinks {
            let Some(slot) = self.targets.sinks.get(index) else { continue };
            tracing::info!(code = "sink_replaced", sink = %slot.name(), "other settings of the sink are in use");
            slot.replace(sink);
        }
        if !changes.restart.is_empty() {
            let sections = changes.restart.join(", ");
            tracing::warn!(
                code = "restart_needed",
                sections,
                "the configuration was changed in sections that need a restart; they are not applied"
            );
        }
        if let Some((loaded, ends)) = tls {
            loaded.log();
            self.targets.receiver.replace_tls(loaded);
            self.watched.ends = ends;
        } else {
            tracing::info!(
                code = "certificates_unchanged",
                "certificates, authorities and revocations are the same as before"
            );
        }
        tracing::info!(
            code = "authentication",
            authentication = config.authentication(),
            "how callers are authenticated"
        );
        self.watched.used = changes.next;
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

/// What changes, with everything built that is needed for it.
struct Set {
    changes: Changes,
    tls: Option<(tls::Loaded, Ends)>,
    guards: Option<Guards>,
    linxo: Option<linxo::Client>,
    inbox: Option<Prepared>,
    /// Sinks opened with their new settings, by place in the configuration.
    sinks: Vec<(usize, Box<dyn Sink>)>,
}

/// What is in use, and the files that it comes from.
pub struct Watched {
    used: Snapshot,
    ends: Ends,
    /// Of the admin listener, where it speaks TLS.
    admin_ends: Option<Ends>,
    watch: Watch,
    /// What was wrong at the last look.
    problem: Option<String>,
}

impl Watched {
    /// With what is used first. Call it before what was loaded is logged.
    #[must_use]
    pub fn new(used: Snapshot, loaded: &tls::Loaded) -> Self {
        let files = used.config.files().map(Path::to_owned).collect();
        Self { used, ends: Ends::of(loaded), admin_ends: None, watch: Watch::new(files), problem: None }
    }

    fn look(&mut self, is_asked: bool, source: &Source, link: Option<&Link>) -> Found {
        let must_read = match self.watch.look() {
            Look::Judged => is_asked || self.problem.is_some(),
            Look::Moving => is_asked,
            Look::Still => true,
        };
        if !must_read {
            return Found::Nothing;
        }
        // The halves of something that is being written are no news, whether they can be read or not.
        let (files, read) = match self.used.config.origin.load() {
            Err(problems) => (self.watch.files().to_vec(), Err(problems.to_string())),
            Ok(config) => {
                let files = config.files().map(Path::to_owned).collect();
                (files, self.read(&Snapshot::new(config), source, link))
            }
        };
        if !self.watch.judged(files) && !is_asked {
            return Found::Nothing;
        }
        match read {
            Ok(set) => {
                let was_broken = self.problem.take().is_some();
                if is_asked || was_broken || !set.changes.is_empty() {
                    Found::Set(Box::new(set))
                } else {
                    Found::Nothing
                }
            }
            Err(problem) if !is_asked && self.problem.as_ref() == Some(&problem) => Found::Nothing,
            Err(problem) => {
                self.problem = Some(problem.clone());
                Found::Problem(problem)
            }
        }
    }

    /// Compares, and builds what differs; nothing is replaced yet.
    fn read(&self, new: &Snapshot, source: &Source, link: Option<&Link>) -> Result<Set, String> {
        let changes = diff::diff(&self.used, new)?;
        let config = &changes.next.config;
        let tls = changes.tls.then(|| self.read_tls(&config.tls)).transpose()?;
        let guards = changes.admin.then(|| Guards::load(&config.admin)).transpose().map_err(|error| error.told())?;
        let linxo = config.linxo.as_ref().filter(|_| changes.linxo);
        let linxo = linxo.map(|linxo| source.next(linxo)).transpose().map_err(|error| chain(&error))?;
        let inbox = link.filter(|_| changes.inbox).map(|link| link.prepare(&config.inbox));
        let inbox = inbox.transpose().map_err(|error| chain(&error))?;
        let mut sinks = Vec::new();
        for (index, sink) in config.sinks.iter().enumerate().filter(|(index, _)| changes.sinks.contains(index)) {
            sinks.push((index, delivery::open(sink).map_err(|error| chain(&error))?));
        }
        Ok(Set { changes, tls, guards, linxo, inbox, sinks })
    }

    fn read_tls(&self, config: &Tls) -> Result<(tls::Loaded, Ends), String> {
        let loaded = tls::load(config).map_err(|error| error.told())?;
        let now = clock::now();
        let is_valid = |validity| matches!(validity, Validity::Good | Validity::EndsSoon { .. });
        if is_valid(self.ends.certificate().validity(now)) && !is_valid(loaded.certificate.validity(now)) {
            return Err(format!(
                "the certificate in {} has ended or not begun, and the one in use is valid: put a valid one there",
                config.certificate.display()
            ));
        }
        let ends = Ends::of(&loaded);
        Ok((loaded, ends))
    }
}
