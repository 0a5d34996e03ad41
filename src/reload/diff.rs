//! What differs between the configuration in use and another one, and what of it can be taken into use.
//!
//! In: two [`Snapshot`]s. Out: [`Changes`], or why the other one is refused as a whole. Pure: nothing is read, built or
//! replaced here. What counts as used afterwards ([`Changes::next`]) is made first, and what is to be applied follows from
//! comparing it with what is used now; so the two cannot drift apart.

use super::watch::{self, Contents};
use crate::config::{self, Admin, AdminTls, Config, Level, Log, Sender, TlsClients};
use std::net::SocketAddr;

/// A configuration, and what stood in the files that its parts are built from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) config: Config,
    tls: Contents,
    admin: Contents,
    linxo: Contents,
    inbox: Contents,
    /// In the order of the configuration's sinks.
    sinks: Vec<Contents>,
}

impl Snapshot {
    /// Reads the files that the configuration names. Take it before they are loaded: what changes in between is seen at the
    /// next look then. Blocking.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            tls: watch::contents(config.tls.files()),
            admin: watch::contents(config.admin.files()),
            linxo: watch::contents(config.linxo.iter().flat_map(config::Linxo::files)),
            inbox: watch::contents(config.inbox.files()),
            sinks: config.sinks.iter().map(|sink| watch::contents(sink.files())).collect(),
            config,
        }
    }
}

/// What differs from what is used, and can be taken into use.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each part, and any of them may change with any other")]
pub(super) struct Changes {
    /// What is used once the rest is applied.
    pub(super) next: Snapshot,
    /// `[tls]`, or what stands in its files.
    pub(super) tls: bool,
    /// `[sender]`
    pub(super) sender: bool,
    /// `[admin]`, or what stands in the files of its certificates.
    pub(super) admin: bool,
    /// `[linxo]`, or what stands in its files.
    pub(super) linxo: bool,
    /// The password of the inbox's server, or its certificates, or what stands in their files.
    pub(super) inbox: bool,
    /// The level of the log that is used, where another one is wanted.
    pub(super) log_level: Option<Level>,
    /// Places of sinks in the configuration that is used, whose settings or files differ.
    pub(super) sinks: Vec<usize>,
    /// Warnings that were not given before.
    pub(super) warnings: Vec<String>,
    /// Sections that differ in what only a start can apply.
    pub(super) restart: Vec<&'static str>,
}

impl Changes {
    /// Whether there is nothing to apply and nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        !(self.tls || self.sender || self.admin || self.linxo || self.inbox)
            && self.log_level.is_none()
            && self.sinks.is_empty()
            && self.warnings.is_empty()
            && self.restart.is_empty()
    }
}

/// Compares.
///
/// # Errors
/// Why nothing of `new` is used: it would guard less than what is used.
pub(super) fn diff(used: &Snapshot, new: &Snapshot) -> Result<Changes, String> {
    let weaker = weaker(&used.config, &new.config);
    if !weaker.is_empty() {
        return Err(format!(
            "{} would be weaker, and let in what is kept out now or leave unsigned what is signed now: a reload never does \
             that, so this needs a restart; or put back what was there",
            weaker.join(", ")
        ));
    }
    let next = next(used, new);
    let (old, config) = (&used.config, &next.config);
    let changed = |(index, (sink, contents)): (usize, (&delivery::Settings, &Contents))| {
        let is_same = old.sinks.get(index) == Some(sink) && used.sinks.get(index) == Some(contents);
        (!is_same).then_some(index)
    };
    Ok(Changes {
        tls: config.tls != old.tls || next.tls != used.tls,
        sender: config.sender != old.sender,
        admin: config.admin != old.admin || next.admin != used.admin,
        linxo: config.linxo != old.linxo || next.linxo != used.linxo,
        inbox: config.inbox != old.inbox || next.inbox != used.inbox,
        log_level: (config.log.level != old.log.level).then_some(old.log.level),
        sinks: config.sinks.iter().zip(&next.sinks).enumerate().filter_map(changed).collect(),
        warnings: config.warnings.iter().filter(|warning| !old.warnings.contains(warning)).cloned().collect(),
        restart: needing_restart(config, &new.config),
        next,
    })
}

/// Keys that would guard less than now: keep out fewer callers, take older TLS, send deliveries unsigned. Exchanging what they
/// hold is not weaker: that is how it is rotated.
fn weaker(used: &Config, new: &Config) -> Vec<String> {
    let (old, clients) = (&used.tls.clients, &new.tls.clients);
    let lost = |had: bool, has: bool| had && !has;
    let is_same_place = address(used) == address(new);
    let knows = |admin: &Admin| admin.address.is_some() && admin.knows_somebody();
    let inner = |config: &Config| config.admin.tls.clone().filter(|_| config.admin.address.is_some());
    let revokes = |tls: &Option<AdminTls>| tls.as_ref().is_some_and(|tls| !tls.revocations.is_empty());
    let has_less = |old: Option<AdminTls>, new: Option<AdminTls>| {
        let is_older = matches!((&old, &new), (Some(old), Some(new)) if new.minimum_version < old.minimum_version);
        lost(old.is_some(), new.is_some()) || lost(revokes(&old), revokes(&new)) || is_older
    };
    let keys = [
        ("tls.minimum_version", new.tls.minimum_version < used.tls.minimum_version),
        ("tls.clients.mode", clients.mode < old.mode),
        ("tls.clients.authorities", lost(!old.authorities.is_empty(), !clients.authorities.is_empty())),
        ("tls.clients.revocations", lost(!old.revocations.is_empty(), !clients.revocations.is_empty())),
        ("tls.clients.usage", clients.usage > old.usage),
        ("tls.clients.names", lost(names_somebody(old), names_somebody(clients))),
        ("tls.clients.fingerprints", lost(!old.fingerprints.is_empty(), !clients.fingerprints.is_empty())),
        ("sender.path_secret", lost(!used.sender.path_secrets.is_empty(), !new.sender.path_secrets.is_empty())),
        ("sender.networks", lost(used.sender.networks.is_selective(), new.sender.networks.is_selective())),
        // At another address it is not applied.
        ("admin.token", is_same_place && lost(knows(&used.admin), knows(&new.admin))),
        ("admin.tls", is_same_place && has_less(inner(used), inner(new))),
    ];
    let keys = keys.into_iter().filter(|(_, is_weaker)| *is_weaker).map(|(key, _)| key.to_owned());
    let unsigned = used.sinks.iter().filter(|sink| {
        let is_unsigned = |other: &delivery::Settings| {
            other.name == sink.name && sink.kind.may_become(&other.kind) && !other.kind.is_signed()
        };
        sink.kind.is_signed() && new.sinks.iter().any(is_unsigned)
    });
    keys.chain(unsigned.map(|sink| format!("sink \"{}\".signed", sink.name))).collect()
}

/// Whether names or common names narrow down whom the authorities vouch for. One may take the place of the other.
fn names_somebody(clients: &TlsClients) -> bool {
    !clients.names.is_empty() || !clients.subjects.is_empty()
}

/// The configuration that is used once all is applied that can be: each section is either the new one or the one in use.
fn next(used: &Snapshot, new: &Snapshot) -> Snapshot {
    let (old, config) = (&used.config, &new.config);
    let is_same_api = has_same_api(old, config);
    let (sinks, contents) = sinks(used, new).unzip();
    Snapshot {
        config: Config {
            listener: old.listener.clone(),
            tls: config.tls.clone(),
            // What an event is worth is settled at the start, with the completion that it needs.
            sender: Sender { confirm: old.sender.confirm, ..config.sender.clone() },
            // A rotated password needs no restart; another server does.
            inbox: inbox::Settings {
                password: config.inbox.password.clone(),
                authorities: config.inbox.authorities.clone(),
                certificate: config.inbox.certificate.clone(),
                certificate_key: config.inbox.certificate_key.clone(),
                ..old.inbox.clone()
            },
            worker: old.worker.clone(),
            linxo: if is_same_api { config.linxo.clone() } else { old.linxo.clone() },
            sinks,
            admin: if address(old) == address(config) { config.admin.clone() } else { old.admin.clone() },
            log: Log { level: config.log.level, ..old.log.clone() },
            traces: old.traces.clone(),
            warnings: config.warnings.clone(),
            ended: config.ended.clone(),
            origin: config.origin.clone(),
        },
        tls: new.tls,
        admin: if address(old) == address(config) { new.admin } else { used.admin },
        linxo: if is_same_api { new.linxo } else { used.linxo },
        inbox: new.inbox,
        sinks: contents,
    }
}

/// The sinks in use. A sink takes the settings that stand under its name now, where its kind can change while it is open.
fn sinks(used: &Snapshot, new: &Snapshot) -> impl Iterator<Item = (delivery::Settings, Contents)> {
    used.config.sinks.iter().zip(&used.sinks).map(|(sink, contents)| {
        let mut same = new.config.sinks.iter().zip(&new.sinks).filter(|(other, _)| other.name == sink.name);
        match same.next() {
            Some((other, contents)) if sink.kind.may_become(&other.kind) => {
                (delivery::Settings { kind: other.kind.clone(), ..sink.clone() }, *contents)
            }
            _ => (sink.clone(), *contents),
        }
    })
}

/// Sections in which what is used next differs from what was asked for.
fn needing_restart(next: &Config, new: &Config) -> Vec<&'static str> {
    let differences = [
        ("[listener]", next.listener != new.listener),
        ("sender.confirm", next.sender.confirm != new.sender.confirm),
        ("[inbox]", next.inbox != new.inbox),
        ("[worker]", next.worker != new.worker),
        ("[linxo]", next.linxo != new.linxo),
        ("[[sink]]", next.sinks != new.sinks),
        ("admin.address", address(next) != address(new)),
        ("log.format", next.log != new.log),
        ("[traces]", next.traces != new.traces),
    ];
    differences.into_iter().filter_map(|(section, differs)| differs.then_some(section)).collect()
}

fn address(config: &Config) -> Option<SocketAddr> {
    config.admin.address
}

/// Whether both complete from the same API, whose address is the `source` of every delivery; or neither does.
fn has_same_api(old: &Config, new: &Config) -> bool {
    match (&old.linxo, &new.linxo) {
        (Some(old), Some(new)) => old.api == new.api,
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use base::clock;
    use double::pki::Authority;
    use std::{fs, path::Path, time::Duration};

    /// Every kind of file that the configuration may name, in a folder of its own.
    const FILES: [&str; 12] = [
        "server.pem",
        "server.key",
        "ca",
        "ca2",
        "crl",
        "api-ca",
        "users.pem",
        "users.key",
        "users-ca",
        "sink-ca",
        "token",
        "secret",
    ];
    const TOML: &str = r#"
        [tls]
        certificate = "FOLDER/server.pem"
        key = "FOLDER/server.key"
        minimum_version = "1.3"
        [tls.clients]
        mode = "required"
        authorities = ["FOLDER/ca"]
        revocations = ["FOLDER/crl"]
        names = ["hooks.example"]
        fingerprints = ["0000000000000000000000000000000000000000000000000000000000000000"]
        [sender]
        path_secret = [{ env = "PATH_ONE" }, { env = "PATH_TWO" }]
        networks = ["192.0.2.0/24"]
        [linxo]
        authorities = ["FOLDER/api-ca"]
        [linxo.users]
        mode = "endpoint"
        url = "https://app.internal/{user_id}"
        bearer = { file = "FOLDER/token" }
        certificate = "FOLDER/users.pem"
        key = "FOLDER/users.key"
        authorities = ["FOLDER/users-ca"]
        [admin]
        token = { file = "FOLDER/token" }
        [[sink]]
        name = "log"
        type = "stdout"
        [[sink]]
        name = "app"
        type = "http"
        url = "https://app.internal/"
        secret = { file = "FOLDER/secret" }
        authorities = ["FOLDER/sink-ca"]
        "#;
    const SIGNING: [&str; 2] =
        ["whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "whsec_MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="];

    struct Site(tempfile::TempDir);

    impl Site {
        fn new() -> Self {
            let site = Self(tempfile::tempdir().unwrap());
            let authority = Authority::new("test").unwrap();
            let nobody: [&[u8]; 0] = [];
            let list = authority.revocation_list(&nobody, clock::now().after(Duration::from_hours(1))).unwrap();
            let server = authority.server(&["localhost"]).unwrap();
            for name in FILES {
                let text = match name {
                    "server.pem" | "users.pem" => &server.certificate_pem,
                    "server.key" | "users.key" => server.key_pem.as_str(),
                    "crl" => &list,
                    "secret" => SIGNING[0],
                    _ if name.contains("ca") => authority.certificate_pem(),
                    _ => "0123456789abcdef",
                };
                site.put(name, text);
            }
            site
        }

        /// The same certificates, lists and keys, in another file.
        fn touch(&self, name: &str) {
            let text = fs::read_to_string(self.0.path().join(name)).unwrap();
            self.put(name, &format!("{text}another"));
        }

        fn put(&self, name: &str, text: &str) {
            fs::write(self.0.path().join(name), text).unwrap();
        }

        fn snapshot(&self, toml: &str) -> Snapshot {
            let file = self.0.path().join("linxo.toml");
            fs::write(&file, toml.replace("FOLDER", self.0.path().to_str().unwrap())).unwrap();
            let variables =
                [("PATH_ONE", "0123456789abcdef"), ("PATH_TWO", "fedcba9876543210"), ("SIGNING", SIGNING[1])];
            let config = config::load(Some(&file), variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
            Snapshot::new(config.unwrap_or_else(|problems| panic!("{problems}")))
        }

        /// What is refused, or else what changes, when the text is changed so.
        fn changed(&self, from: &str, to: &str) -> Result<Changes, String> {
            let used = self.snapshot(TOML);
            assert!(TOML.contains(from), "{from}");
            let changes = diff(&used, &self.snapshot(&TOML.replace(from, to)));
            if let Ok(changes) = &changes {
                let again = diff(&changes.next, &changes.next).unwrap();
                assert!(again.is_empty(), "what is applied is used: {again:?}");
            }
            changes
        }
    }

    /// The parts that change.
    fn parts(changes: &Changes) -> String {
        let flags = [
            ("tls", changes.tls),
            ("sender", changes.sender),
            ("admin", changes.admin),
            ("linxo", changes.linxo),
            ("log", changes.log_level.is_some()),
            ("sink", !changes.sinks.is_empty()),
        ];
        let named = flags.into_iter().filter_map(|(name, differs)| differs.then_some(name));
        named.chain(changes.restart.iter().copied()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nothing_changes_where_nothing_differs() {
        let changes = Site::new().changed("[tls]", "[tls]").unwrap();
        assert!(changes.is_empty());
    }

    #[test]
    fn each_file_belongs_to_a_part() {
        let site = Site::new();
        for (name, part) in FILES.into_iter().zip([
            "tls",
            "tls",
            "tls",
            "",
            "tls",
            "linxo",
            "linxo",
            "linxo",
            "linxo",
            "sink",
            "admin linxo",
            "sink",
        ]) {
            let used = site.snapshot(TOML);
            if name == "secret" {
                site.put(name, SIGNING[1]);
            } else {
                site.touch(name);
            }
            assert_eq!(parts(&diff(&used, &site.snapshot(TOML)).unwrap()), part, "{name}");
            let is_watched = used.config.files().any(|file| file == site.0.path().join(name));
            assert_eq!(is_watched, !part.is_empty(), "{name}");
        }
        let used = site.snapshot(TOML);
        assert!(used.config.files().any(|file| file == Path::new(&site.0.path().join("linxo.toml"))));
    }

    #[test]
    fn each_section_is_applied_or_needs_a_restart() {
        let site = Site::new();
        for (from, to, wanted) in [
            ("[\"FOLDER/ca\"]", "[\"FOLDER/ca\", \"FOLDER/ca2\"]", "tls"),
            ("[sender]", "[sender]\nconfirm = \"api\"", "sender.confirm"),
            ("[linxo]", "[linxo]\nrate = 7", "linxo"),
            ("[linxo]", "[linxo]\napi = \"https://api.example/v2.1\"", "[linxo]"),
            ("https://app.internal/\"", "https://app.internal/x\"", "sink"),
            ("name = \"log\"", "name = \"other\"", "[[sink]]"),
            ("name = \"app\"", "name = \"app\"\nretry_for = \"1h\"", "[[sink]]"),
            ("[admin]", "[admin]\naddress = \"127.0.0.1:1\"", "admin.address"),
            ("[admin]", "[worker]\nconcurrency = 7\n[inbox]\nrefused = 7\n[admin]", "[inbox] [worker]"),
            ("[admin]", "[log]\nlevel = \"debug\"\n[listener]\npath = \"/x\"\n[admin]", "log [listener]"),
            ("[admin]", "[log]\nlevel = \"debug\"\nformat = \"text\"\n[admin]", "log log.format"),
        ] {
            assert_eq!(parts(&site.changed(from, to).unwrap()), wanted, "{to}");
        }
        let changes = site.changed("https://app.internal/\"", "https://app.internal/x\"").unwrap();
        assert_eq!(changes.sinks, [1]);
    }

    /// (C10) Older TLS and unsigned deliveries count as weaker, as whoever would get in does.
    #[test]
    fn a_reload_never_lets_in_who_was_kept_out() {
        let site = Site::new();
        for (from, to, key) in [
            ("minimum_version = \"1.3\"", "", "tls.minimum_version"),
            ("secret = { file = \"FOLDER/secret\" }", "signed = false", "sink \"app\".signed"),
            ("\"required\"", "\"observe\"", "tls.clients.mode"),
            ("revocations = [\"FOLDER/crl\"]", "", "tls.clients.revocations"),
            ("names = [\"hooks.example\"]", "", "tls.clients.names"),
            ("fingerprints = [\"", "# [\"", "tls.clients.fingerprints"),
            ("path_secret", "# ", "sender.path_secret"),
            ("networks = [\"192.0.2.0/24\"]", "", "sender.networks"),
            ("\"192.0.2.0/24\"", "\"0.0.0.0/0\", \"::/0\"", "sender.networks"),
            ("[admin]\n        token", "[admin]\n        # ", "admin.token"),
            (
                TOML,
                "",
                "tls.minimum_version, tls.clients.mode, tls.clients.authorities, tls.clients.revocations, tls.clients.names, \
                 tls.clients.fingerprints, sender.path_secret, sender.networks, admin.token",
            ),
        ] {
            let refused = site.changed(from, to).unwrap_err();
            let (keys, rest) = refused.split_once(" would be weaker").unwrap();
            assert_eq!(keys, key, "{to}");
            assert!(rest.contains("this needs a restart"), "{rest}");
        }
    }

    #[test]
    fn rotations_and_narrower_lists_are_applied() {
        let site = Site::new();
        for (from, to, part) in [
            ("[{ env = \"PATH_ONE\" }, { env = \"PATH_TWO\" }]", "{ env = \"PATH_TWO\" }", "sender"),
            ("192.0.2.0/24", "198.51.100.0/24\", \"192.0.2.0/25", "sender"),
            ("hooks.example", "hooks.example\", \"other.example", "tls"),
            ("{ file = \"FOLDER/secret\" }", "[{ env = \"SIGNING\" }, { file = \"FOLDER/secret\" }]", "sink"),
            ("\"FOLDER/ca\"", "\"FOLDER/ca2\"", "tls"),
        ] {
            assert_eq!(parts(&site.changed(from, to).unwrap()), part, "{to}");
        }
        let open = "[tls]\ncertificate = \"FOLDER/server.pem\"\nkey = \"FOLDER/server.key\"\n";
        let closed = diff(&site.snapshot(open), &site.snapshot(TOML)).unwrap();
        assert!(closed.tls && closed.sender);
        let unsigned = TOML.replace("secret = { file = \"FOLDER/secret\" }", "signed = false");
        let signed = diff(&site.snapshot(&unsigned.replace("\"1.3\"", "\"1.2\"")), &site.snapshot(TOML)).unwrap();
        assert_eq!(parts(&signed), "tls sink");
        // Another kind, or none: that needs a restart anyway, and the signed sink goes on meanwhile.
        let gone = site.changed("name = \"app\"", "name = \"other\"").unwrap();
        assert_eq!(parts(&gone), "[[sink]]");
    }

    #[test]
    fn a_warning_is_given_when_it_is_new() {
        let site = Site::new();
        let toml = "[listener]\naddress = \"0.0.0.0:1\"\n[tls]\ncertificate = \"FOLDER/server.pem\"\nkey = \"FOLDER/server.key\"\n";
        let (used, new) = (site.snapshot(toml), site.snapshot(&format!("{toml}[sender]\nnetworks = [\"::/0\"]")));
        let changes = diff(&used, &new).unwrap();
        assert!(matches!(changes.warnings.as_slice(), [new] if new.starts_with("sender.networks")), "{changes:?}");
        assert!(diff(&changes.next, &new).unwrap().is_empty());
    }
}
