//! The configuration of the whole program: the sections of all modules, put together.
//!
//! In: `--config` (or `config/linxo-webhook.toml` if it exists) and `LINXO_WEBHOOK__SECTION__KEY`. Out: one [`Config`]
//! that the rest of the program trusts without checking it again, or every problem at once. Nothing here binds a port
//! or opens a store; secrets, certificates and keys are read, because a missing one must stop the start.
//!
//! Each section is declared in the `settings.rs` beside the module that uses it, and read by the crate [`settings`].
//! What stands here is the list of sections, and what concerns several of them.

use crate::{
    admin::Guards,
    receive::{settings::flaw, tls},
};
pub use crate::{
    admin::settings::{Admin, AdminTls, May, Token},
    observe::{
        log::settings::{Level, Log, LogFormat},
        traces::settings::Traces,
    },
    receive::settings::{ClientMode, ClientUsage, Listener, Sender, Tls, TlsClients, TlsVersion},
    work::settings::Worker,
};
pub use linxo::settings::Linxo;
pub use settings::{Networks, Place, Problem, Problems};

use base::secret::Secret;
use delivery::{Kind, kinds::http::KNOWN_SECRET};
use settings::{At, Flaw, Loaded, Places, Program, Read, Source, aside, optional, section, sections};
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// What this program calls its file and its variables. `LINXO_WEBHOOK_CONFIG`, with one underscore, is an option of the
/// command line.
const PROGRAM: Program = Program { file: "config/linxo-webhook.toml", prefix: "LINXO_WEBHOOK" };

/// What keeps strangers out.
const REMEDY: &str = "require client certificates (tls.clients), or set sender.path_secret or sender.networks";

/// What stands first in the reference.
const HEAD: &str = "\
Configuration of linxo-webhook. Every key is here with its default; commented-out keys have none. This file is made from the \
declarations in the code; CONTRIBUTING.md says how.

An environment variable wins over this file: LINXO_WEBHOOK__LISTENER__PATH sets `path` in [listener], \
LINXO_WEBHOOK__SINK__0__URL the `url` of the first [[sink]]. Lists are separated by commas there. An empty variable counts as \
one that is not set.

Durations have ms, s, m, h or d (\"1h 30m\"), sizes B, KiB, MiB, GiB, KB, MB or GB. Secrets are never written here:
{ file = \"secrets/path\" } names a file that holds one, { env = \"NAME\" } an environment variable.

`linxo-webhook check` shows what takes effect and everything that is wrong.";

section! {
    /// Everything the program was told, checked.
    pub struct Config {
        /// The public HTTPS listener.
        pub listener: Listener = section(),
        /// Certificate, key and client certificates of the public listener.
        pub tls: Tls = section(),
        /// How callers are recognised besides client certificates.
        pub sender: Sender = section(),
        /// The durable middle.
        pub inbox: inbox::Settings = section(),
        /// Completion and delivery.
        pub worker: Worker = section(),
        /// The vendor's API; `None`: truncated events are parked.
        pub linxo: Option<Linxo> = optional("truncated events are parked"),
        /// Where completed events go, in the order of the file; never empty.
        pub sinks("sink"): Vec<delivery::Settings> = sections("name", &[("name", "stdout"), ("type", "stdout")]),
        /// Health and metrics.
        pub admin: Admin = section(),
        /// Logging.
        pub log: Log = section(),
        /// Traces; `None`: off.
        pub traces: Option<Traces> = optional("no traces are recorded"),
        /// What is allowed but should be known, one sentence each; for `check` and the start of `serve`.
        pub warnings: Vec<String> = aside(),
        /// What was good until it ended: `check` refuses it, `serve` says so and starts, because the clock may be wrong.
        pub ended: Vec<Problem> = aside(),
        /// Where it came from, to load it again.
        pub origin: Origin = aside(),
    }
    check(at) {
        confirmation(at, &sender, &linxo);
        if let Ok(inbox) = &inbox {
            inbox_files(at, inbox);
        }
        if let Ok(tls) = &tls {
            certificates_together(at, tls);
        }
        if let Ok(admin) = &admin {
            admin_certificates(at, admin);
        }
        if let (Ok(listener), Ok(tls), Ok(sender)) = (&mut listener, &tls, &sender) {
            listener.choose_address(keeps_strangers_out(tls, sender));
        }
        if let (Ok(listener), Ok(admin)) = (&listener, &admin) {
            two_addresses(at, listener, admin);
        }
    }
}

/// Whether somebody who only knows the address and the path cannot post events. Confirming events and observing
/// certificates keep nobody out.
fn keeps_strangers_out(tls: &Tls, sender: &Sender) -> bool {
    tls.clients.mode == ClientMode::Required || !sender.path_secrets.is_empty() || sender.networks.is_selective()
}

/// Each file was looked at when its key was read; this is what they are together.
fn certificates_together(at: &mut At<'_, '_>, tls: &Tls) {
    if at.is_flawed("tls") || (tls.may_generate && !tls.certificate.exists()) {
        return;
    }
    if let Err(error) = tls::load(tls) {
        at.flawed(&format!("tls.{}", error.key()), flaw(&error));
    }
}

/// The same for those of the admin listener.
fn admin_certificates(at: &mut At<'_, '_>, admin: &Admin) {
    if at.is_flawed("admin.tls") {
        return;
    }
    if let Err(error) = Guards::load(admin) {
        let key = error.key();
        at.flawed(&format!("admin.tls.{}", key.strip_prefix("clients.").unwrap_or(key)), flaw(&error));
    }
}

/// One port of one address is for one listener. An address that stands for all takes the port of each.
fn two_addresses(at: &mut At<'_, '_>, listener: &Listener, admin: &Admin) {
    let (public, Some(inner)) = (listener.address(), admin.address) else { return };
    let (one, other) = (public.ip().to_canonical(), inner.ip().to_canonical());
    let is_all = |all: IpAddr, of: IpAddr| all.is_unspecified() && (all.is_ipv6() || of.is_ipv4());
    let share = one == other || is_all(one, other) || is_all(other, one);
    if share && public.port() == inner.port() && public.port() != 0 {
        // One of them was given: that one has a place.
        let (key, other, taken) = if at.is_given("admin.address") {
            ("admin.address", "listener.address", public)
        } else {
            ("listener.address", "admin.address", inner)
        };
        let reason = format!("needs the port that {other} = \"{taken}\" takes");
        at.flawed(key, Flaw::new(reason, "give one of them another port"));
    }
}

/// What an event claims can be confirmed only by the API.
fn confirmation(at: &mut At<'_, '_>, sender: &Read<Sender>, linxo: &Read<Option<Linxo>>) {
    if let (Ok(Sender { confirm: true, .. }), Ok(None)) = (sender, linxo) {
        let hint = "add a [linxo] section with the credentials for the API";
        at.flawed("sender.confirm", Flaw::new("asks for the vendor's API, and there is no [linxo] section", hint));
    }
}

/// The inbox keeps more files than the one that its key names.
fn inbox_files(at: &mut At<'_, '_>, inbox: &inbox::Settings) {
    let Some(path) = inbox.file() else { return };
    for suffix in ["", "-wal", "-shm", ".lock"] {
        at.uses("inbox.url", &base::folder::beside(path, suffix));
    }
    if !inbox.key.is_empty() {
        at.uses("inbox.keys", &inbox.keys_file());
    }
}

/// The file and the environment of a start, to load the same again while the service runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    source: Source,
    secret_files: Vec<PathBuf>,
    places: Places,
}

impl Origin {
    /// Reads everything again.
    ///
    /// # Errors
    /// Every problem found.
    pub fn load(&self) -> Result<Config, Problems> {
        let Loaded { settings: mut config, ended, mut warnings, places, secret_files, source } =
            self.source.load::<Config>()?;
        warnings.extend(config.remarks());
        config.warnings = warnings;
        config.ended = ended;
        config.origin = Self { source, secret_files, places };
        Ok(config)
    }

    /// Where a key was given.
    #[must_use]
    pub fn place(&self, key: &str) -> Place {
        self.places.place(key)
    }

    /// The configuration file, whether it exists or not, and the files of the secrets.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.source.file()).chain(self.secret_files.iter().map(PathBuf::as_path))
    }
}

/// Loads the configuration: `file` (or the default path, if it exists), then the environment.
///
/// The environment is a parameter so that tests have one of their own; secrets of the form `{ env = "..." }` come from
/// it.
///
/// # Errors
/// Every problem found, each with key, value unless secret, place, reason and hint.
pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, Problems> {
    Origin { source: Source::new(PROGRAM, file, environment), ..Origin::default() }.load()
}

/// JSON Schema (2020-12) of the TOML file.
#[must_use]
pub fn schema() -> serde_json::Value {
    settings::schema::<Config>("Configuration of linxo-webhook")
}

/// The reference file with every key, as it is shipped in `config/linxo-webhook.toml`.
#[must_use]
pub fn reference() -> String {
    settings::reference::<Config>(HEAD)
}

impl Config {
    /// Every file whose change means that there is something to load again.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let linxo = self.linxo.iter().flat_map(Linxo::files);
        self.origin
            .files()
            .chain(self.tls.files())
            .chain(self.admin.files())
            .chain(self.inbox.files())
            .chain(linxo)
            .chain(self.sinks.iter().flat_map(delivery::Settings::files))
    }

    /// How callers are authenticated, in one line for people.
    #[must_use]
    pub fn authentication(&self) -> String {
        let clients = &self.tls.clients;
        let bounds: Vec<String> = [
            (clients.authorities.len(), "file of authorities", "files of authorities"),
            (clients.names.len(), "name", "names"),
            (clients.subjects.len(), "subject", "subjects"),
            (clients.fingerprints.len(), "public key", "public keys"),
            (clients.revocations.len(), "file of revocations", "files of revocations"),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, several)| format!("{count} {}", if count == 1 { one } else { several }))
        .collect();
        let bounds = bounds.join(", ");
        let certificates = match clients.mode {
            ClientMode::Off => None,
            ClientMode::Observe => Some(format!("client certificates observed ({bounds}), nobody is refused for them")),
            ClientMode::Required => Some(format!("client certificates required ({bounds})")),
        };
        let path = (!self.sender.path_secrets.is_empty()).then(|| "path secret".to_owned());
        let networks = match self.sender.networks.len() {
            _ if !self.sender.networks.is_selective() => None,
            1 => Some("network (1 range)".to_owned()),
            count => Some(format!("network ({count} ranges)")),
        };
        let confirm = self.sender.confirm.then(|| "confirmation of every event through the API".to_owned());
        let ways: Vec<String> = [certificates, path, networks, confirm].into_iter().flatten().collect();
        if ways.is_empty() { "nobody: anyone who knows the URL can post".to_owned() } else { ways.join(" and ") }
    }

    /// What concerns several keys, is allowed, and should be known.
    fn remarks(&self) -> impl Iterator<Item = String> {
        let is_everybody = |networks: &Networks| !networks.is_empty() && !networks.is_selective();
        let senders = is_everybody(&self.sender.networks).then(|| {
            "sender.networks holds every address of IPv4 or of IPv6, so it keeps nobody out and counts as no way to know \
             a caller: name the networks that the caller really comes from, or remove the key"
                .to_owned()
        });
        let proxies = self.listener.proxies().is_some_and(is_everybody).then(|| {
            "listener.proxy_networks holds every address of IPv4 or of IPv6, so anybody can claim to call from anywhere: \
             name the addresses of the load balancer"
                .to_owned()
        });
        let admin = &self.admin;
        let clear = admin.address.filter(|address| !address.ip().to_canonical().is_loopback() && admin.tls.is_none());
        let can_act = admin.tokens.iter().any(|token| token.may == May::Act);
        let clear = clear.filter(|_| can_act).map(|address| {
            format!(
                "admin.address {address} can be reached from other machines in plain HTTP, so tokens and bank data can be read on \
                 the way: set admin.tls, or put a proxy with TLS in front"
            )
        });
        [senders, proxies, self.exposure(), clear].into_iter().flatten().chain(self.known_secrets())
    }

    /// The sinks that sign with the secret of `listen`.
    fn known_secrets(&self) -> impl Iterator<Item = String> {
        let is_known = |secret: &Secret| secret.expose() == KNOWN_SECRET;
        let sinks = self
            .sinks
            .iter()
            .filter(move |sink| matches!(&sink.kind, Kind::Http(http) if http.secrets.iter().any(is_known)));
        sinks.map(|sink| {
            format!(
                "sink {}: secret is the one that `listen` signs with, which everybody knows, so anybody can forge deliveries: \
                 make one with `echo whsec_$(openssl rand -base64 32)`",
                sink.name
            )
        })
    }

    /// Why strangers can post events, if they can; or why nobody else can reach the service.
    #[must_use]
    pub fn exposure(&self) -> Option<String> {
        let address = self.listener.address();
        let is_chosen = !self.listener.is_address_given && !keeps_strangers_out(&self.tls, &self.sender);
        self.exposure_of(address).or_else(|| {
            is_chosen.then(|| {
                format!(
                    "listener.address is not set, and nothing keeps strangers out, so that only this machine can reach {address}: \
                     {REMEDY}, and the service listens on every address"
                )
            })
        })
    }

    /// Why strangers can post events through a listener on this address, if they can.
    #[must_use]
    pub fn exposure_of(&self, address: SocketAddr) -> Option<String> {
        if keeps_strangers_out(&self.tls, &self.sender) {
            return None;
        }
        // A balancer in front brings others to a loopback address as well.
        if self.listener.proxies().is_some() {
            return Some(format!(
                "anyone who reaches the load balancer in front of {address} can post events: {REMEDY}"
            ));
        }
        (!address.ip().to_canonical().is_loopback()).then(|| {
            format!(
                "anyone who reaches {address} can post events: {REMEDY}, or set listener.address to a loopback address"
            )
        })
    }

    /// The configuration that takes effect, defaults included, laid out as the file is; secrets are `***`.
    #[must_use]
    pub fn effective(&self) -> String {
        settings::effective(self)
    }
}

#[cfg(test)]
mod tests;
