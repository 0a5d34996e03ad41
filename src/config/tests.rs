//! Loading as a whole: files and environments in, configurations or complete reports out.

mod declared;
mod pems;
mod sinks;

use super::*;
use base::secret::Secret;
use linxo::settings::{Passwords, UserEndpoint, Users};
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};
use tempfile::TempDir;

/// Shown nowhere, whatever is wrong with it.
const CANARY: &str = "canary-of-a-secret";
const SIGNING: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A file that only its owner can read.
fn put(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn load_with(toml: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    let folder = folder();
    let file = put(&folder, "test.toml", toml);
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Some(Path::new(&file)), variables)
}

fn load_text(toml: &str) -> Result<Config, Problems> {
    load_with(toml, &[])
}

/// The reports as text, without the name of the temporary folder.
fn report(result: Result<Config, Problems>) -> String {
    let text = result.unwrap_err().to_string();
    assert!(!text.contains(CANARY), "{text}");
    text.split(' ')
        .map(|word| match (word.find("/tmp"), word.find("test.toml")) {
            (Some(start), Some(end)) => format!("{}{}", &word[..start], &word[end..]),
            _ => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn refused(toml: &str, key: &str, reason: &str) {
    let text = report(load_text(toml));
    let expected = text.lines().any(|line| line.trim_start().starts_with(key) && line.contains(reason));
    assert!(expected && text.starts_with("the configuration has a problem"), "{toml}\ngave\n{text}");
}

#[test]
fn runs_without_any_file() {
    let config = load_text("").unwrap();
    assert!(config.tls.may_generate && config.linxo.is_none());
    assert_eq!(config.warnings, Vec::from_iter(config.exposure()));
    assert_eq!(config.listener.max_body, 8 << 20);
    assert!(matches!(config.sinks.as_slice(), [delivery::Settings { kind: delivery::Kind::Stdout(_), .. }]));
    insta::assert_snapshot!(config.effective());
}

#[test]
fn names_every_problem_at_once() {
    let toml = format!(
        r#"
        [listner]
        address = "x"
        [listener]
        address = "localhost"
        path = "webhooks/"
        max_body = "8 MX"
        max_connections = "4096"
        handshake_timeout = 5
        header_timeout = "0s"
        drain_timout = "1s"
        certificate = "{CANARY}"
        proxy_protocol = "required"
        [tls]
        certificate = "missing.pem"
        key = "missing.key"
        minimum_version = 1.2
        [tls.clients]
        mode = "required"
        names = ["linxo.com"]
        [sender]
        path_secret = "{CANARY}"
        [inbox]
        url = "postgres://me:{CANARY}@db/inbox"
        [linxo]
        api = "http://api.oxlin.io/v2.1"
        auth = "https://me:{CANARY}@auth.oxlin.io"
        client_secret = {{ env = "NOT_SET" }}
        page_limit = 0
        [linxo.users]
        token = {{ file = "missing" }}
        [[sink]]
        name = "app"
        type = "http"
        url = "http://app.internal/?token={CANARY}"
        secret = [{{ env = "NO_SIGNING_SECRET" }}, {{ vault = "x" }}]
        path = "x"
        [[sink]]
        name = "app"
        type = "fil"
        [[sink]]
        name = "My App"
        type = "kafka"
        [admin]
        address = "0.0.0.0:9090"
        [log]
        level = "loud"
        "#
    );
    insta::assert_snapshot!(report(load_with(
        &toml,
        &[
            ("LINXO_WEBHOOK__LISTENER__IDLE_TIMEOUT", "5 parsecs"),
            ("LINXO_WEBHOOK__WORKR", CANARY),
            ("LINXO_WEBHOOK__SINK__7__NAME", "x"),
            ("NO_SIGNING_SECRET", CANARY),
            ("LINXO_WEBHOOK_CONFIG", "ignored"),
        ],
    )));
}

#[test]
fn the_environment_wins() {
    let folder = folder();
    let secret = put(&folder, "path", "0123456789abcdef\n");
    let config = load_with(
        "[listener]\npath = \"/a\"\n[sender]\npath_secret = { env = \"NOT_SET\" }\n\
         [[sink]]\nname = \"one\"\ntype = \"stdout\"\n",
        &[
            ("LINXO_WEBHOOK__LISTENER__PATH", "/b"),
            ("LINXO_WEBHOOK__LISTENER__MAX_CONNECTIONS", "12"),
            ("LINXO_WEBHOOK__SENDER__PATH_SECRET__FILE", &secret),
            ("LINXO_WEBHOOK__SINK__0__RETRY_FOR", "1h"),
            ("LINXO_WEBHOOK__SINK__1__NAME", "two"),
            ("LINXO_WEBHOOK__SINK__1__TYPE", "http"),
            ("LINXO_WEBHOOK__SINK__1__URL", "https://app.internal/x"),
            ("LINXO_WEBHOOK__SINK__1__SECRET__0__ENV", "NEW"),
            ("LINXO_WEBHOOK__SINK__1__SECRET__1__ENV", "OLD"),
            ("NEW", SIGNING),
            ("OLD", SIGNING),
        ],
    )
    .unwrap();
    assert_eq!(config.listener.path, "/b");
    assert_eq!(config.listener.max_connections, 12);
    assert_eq!(config.sender.path_secrets, [Secret::new("0123456789abcdef".to_owned())]);
    let [one, two] = config.sinks.as_slice() else { panic!("{:?}", config.sinks) };
    assert_eq!((one.name.as_str(), one.retry_for), ("one", Duration::from_hours(1)));
    let delivery::Kind::Http(http) = &two.kind else { panic!("{two:?}") };
    let (url, secrets) = (http.url.as_str(), http.secrets.len());
    assert_eq!((url, secrets, http.timeout), ("https://app.internal/x", 2, Duration::from_secs(10)));
}

#[test]
fn lists_in_the_environment_are_separated_by_commas() {
    let folder = folder();
    let (one, two) = (put(&folder, "one.pem", pems::authority()), put(&folder, "two.pem", pems::authority()));
    let config = load_with(
        "",
        &[
            ("LINXO_WEBHOOK__TLS__CLIENTS__MODE", "required"),
            ("LINXO_WEBHOOK__TLS__CLIENTS__AUTHORITIES", &format!("{one}, {two}")),
        ],
    )
    .unwrap();
    assert_eq!(config.tls.clients.authorities, [PathBuf::from(one), PathBuf::from(two)]);
    assert_eq!(config.authentication(), "client certificates required (2 files of authorities)");
}

#[test]
fn says_how_callers_are_authenticated() {
    assert_eq!(load_text("").unwrap().authentication(), "nobody: anyone who knows the URL can post");
    let config = load_with("[sender]\npath_secret = { env = \"P\" }", &[("P", "0123456789abcdef")]).unwrap();
    assert_eq!(config.authentication(), "path secret");
    let text = "[listener]\nproxy_protocol = \"required\"\nproxy_networks = [\"10.0.0.0/28\"]\n[sender]\nnetworks = [\"192.0.2.7\"]";
    let config = load_text(text).unwrap();
    assert_eq!(config.authentication(), "network (1 range)");
    assert!(config.effective().contains("\nnetworks = [\"192.0.2.7/32\"]\n"));
    assert_eq!(load_text(&config.effective()).unwrap().effective(), config.effective());
}

#[test]
fn says_where_anybody_could_post() {
    let exposure = |toml: &str| load_with(toml, &[("P", "0123456789abcdef")]).unwrap().exposure();
    let proxies = "address = \"127.0.0.1:8443\"\nproxy_protocol = \"required\"\nproxy_networks = [\"127.0.0.1\"]";
    let open = exposure("[listener]\naddress = \"[::]:8443\"").unwrap();
    assert!(open.ends_with("or set listener.address to a loopback address"), "{open}");
    let balanced = exposure(&format!("[listener]\n{proxies}")).unwrap();
    assert!(balanced.contains("the load balancer in front of 127.0.0.1:8443"), "{balanced}");
    for toml in [
        &format!("[listener]\n{proxies}\n[sender]\npath_secret = {{ env = \"P\" }}"),
        "[listener]\naddress = \"127.0.0.1:8443\"",
        "[sender]\npath_secret = { env = \"P\" }",
        "[sender]\nnetworks = [\"192.0.2.0/24\"]",
    ] {
        assert_eq!(exposure(toml), None, "{toml}");
    }
}

/// (C6) Where nobody is kept out, nobody else reaches the service, unless it is told so.
#[test]
fn listens_on_loopback_unless_strangers_are_kept_out() {
    let folder = folder();
    let authority = put(&folder, "ca.pem", pems::authority());
    let required = format!("[tls.clients]\nmode = \"required\"\nauthorities = [\"{authority}\"]");
    let observed = required.replace("required", "observe");
    let api = "[sender]\nconfirm = \"api\"\n[linxo]\nclient_id = \"x\"\nclient_secret = { env = \"P\" }";
    let (here, everywhere) = ("127.0.0.1:8443", "0.0.0.0:8443");
    for (toml, address) in [
        ("", here),
        ("[sender]\nnetworks = [\"0.0.0.0/0\"]", here),
        (observed.as_str(), here),
        (api, here),
        ("[sender]\npath_secret = { env = \"P\" }", everywhere),
        ("[sender]\nnetworks = [\"192.0.2.0/24\"]", everywhere),
        (required.as_str(), everywhere),
    ] {
        let config = load_with(toml, &[("P", "0123456789abcdef")]).unwrap();
        assert_eq!(config.listener.address(), address.parse().unwrap(), "{toml}");
        let is_said = config.warnings.iter().any(|warning| warning.starts_with("listener.address is not set"));
        assert_eq!(is_said, address == here, "{toml}: {:?}", config.warnings);
        assert!(config.effective().contains(&format!("address = \"{address}\"")), "{toml}");
    }
    let open = load_text("[listener]\naddress = \"0.0.0.0:1\"").unwrap();
    assert_eq!(open.listener.address(), "0.0.0.0:1".parse().unwrap());
    assert!(open.warnings[0].starts_with("anyone who reaches 0.0.0.0:1"), "{:?}", open.warnings);
}

#[test]
fn networks_that_hold_everybody_are_no_way_to_know_a_caller() {
    let config = load_text("[sender]\nnetworks = [\"0.0.0.0/0\", \"::/0\"]").unwrap();
    assert!(config.exposure().is_some());
    assert_eq!(config.authentication(), "nobody: anyone who knows the URL can post");
    let [networks, exposure] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(
        networks.starts_with("sender.networks holds every address")
            && exposure.starts_with("listener.address is not set")
    );
    let proxies = "[listener]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\nproxy_networks = [\"::/0\"]\n\
                   [sender]\nnetworks = [\"192.0.2.7\"]";
    let warnings = load_text(proxies).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].starts_with("listener.proxy_networks holds every"), "{warnings:?}");
}

#[test]
fn takes_names_and_fingerprints_as_people_write_them() {
    let folder = folder();
    let (file, list) = (put(&folder, "ca.pem", pems::authority()), put(&folder, "crl.pem", pems::revocations()));
    let fingerprint = "AB:".repeat(31) + "CD";
    let toml = format!(
        "[tls.clients]\nmode = \"observe\"\nauthorities = [\"{file}\"]\nrevocations = [\"{list}\"]\n\
         names = [\"Hooks.Example\"]\nfingerprints = [\"{fingerprint}\"]\n"
    );
    let config = load_text(&toml).unwrap();
    assert_eq!(config.tls.clients.names, ["hooks.example"]);
    assert_eq!(config.tls.clients.fingerprints, ["ab".repeat(31) + "cd"]);
    assert_eq!(
        config.authentication(),
        "client certificates observed (1 file of authorities, 1 name, 1 public key, 1 file of revocations), nobody is \
         refused for them"
    );
    assert!(config.exposure().is_some());
    let required = load_text(&toml.replace("observe", "required")).unwrap();
    assert_eq!(required.exposure(), None);
    assert_eq!(load_text("[listener]\naddress = \"127.0.0.1:0\"").unwrap().exposure(), None);
}

#[test]
fn knows_the_files_it_was_read_from() {
    let folder = folder();
    let secret = put(&folder, "path", "0123456789abcdef\n");
    let file = put(&folder, "linxo.toml", &format!("[sender]\npath_secret = {{ file = \"{secret}\" }}"));
    let config = load(Some(Path::new(&file)), [("A".to_owned(), CANARY.to_owned())]).unwrap();
    assert_eq!(config.origin.files().collect::<Vec<_>>(), [Path::new(&file), Path::new(&secret)]);
    assert!(!format!("{config:?}").contains(CANARY));
    fs::write(&secret, "fedcba9876543210").unwrap();
    let again = config.origin.load().unwrap();
    assert_eq!(again.sender.path_secrets, [Secret::new("fedcba9876543210".to_owned())]);
    assert!(again.tls == config.tls && again.sender != config.sender);
}

#[test]
fn refuses_destinations_that_are_no_servers() {
    let sink = |url: &str| format!("[[sink]]\nname = \"a\"\ntype = \"http\"\nsigned = false\nurl = \"{url}\"");
    refused(&sink("https://169.254.169.254/latest"), "sink \"a\".url", "is a link-local address");
    refused(&sink("https://[::ffff:a9fe:a9fe]/"), "sink \"a\".url", "is a link-local address");
    load_text(&sink("https://10.0.0.1/")).unwrap();
    let of_user = "linxo.users]\nmode = \"endpoint\"\nurl = ";
    refused(&format!("[{of_user}\"https://2852039166/{{user_id}}\""), "linxo.users.url", "is a link-local address");
    load_text(&format!("[{of_user}\"https://10.0.0.1/{{user_id}}\"")).unwrap();
    let linxo = |lines: &str| report(load_with(&format!("[linxo]\n{lines}"), &[]));
    for key in ["api", "auth"] {
        let text = linxo(&format!("{key} = \"https://169.254.169.254/\""));
        assert!(text.contains(&format!("linxo.{key} = ")) && text.contains("is a link-local address"), "{text}");
        let private = format!("{key} = \"https://10.0.0.1/v2.1\"");
        assert!(linxo(&private).contains("is an address of a private network"));
        let folder = folder();
        let file = put(&folder, "ca.pem", pems::authority());
        assert!(!linxo(&format!("{private}\nauthorities = [\"{file}\"]")).contains("private network"));
    }
}

#[test]
fn users_come_from_a_table_a_derivation_or_an_endpoint() {
    let folder = folder();
    let table = put(&folder, "users.csv", &format!("user_id,username,password\n1,a,{CANARY}\n"));
    let client = "[linxo]\nclient_id = \"a\"\nclient_secret = { env = \"S\" }\n[linxo.users]\n";
    let users = |lines: &str| {
        let config = load_with(&format!("{client}{lines}"), &[("S", CANARY)]).unwrap();
        assert!(!format!("{config:?} {}", config.effective()).contains(CANARY));
        config.linxo.unwrap().users
    };
    assert!(matches!(
        users(&format!("mode = \"password\"\ntable = \"{table}\"")),
        Users::Password(Passwords::Table(_))
    ));
    let derived = "mode = \"password\"\nusername = \"{user_id}@example.com\"\npassword_secret = { env = \"S\" }";
    assert!(matches!(users(derived), Users::Password(Passwords::Derived { .. })));
    let endpoint = "mode = \"endpoint\"\nurl = \"https://app.internal/{user_id}?token=canary-of-a-secret\"\n\
                    bearer = { env = \"S\" }";
    let config = load_with(&format!("{client}{endpoint}"), &[("S", "bearer-secret")]).unwrap();
    assert!(!config.effective().contains(CANARY) && !config.effective().contains("bearer-secret"));
    assert!(matches!(config.linxo.unwrap().users, Users::Endpoint(UserEndpoint { bearer: Some(_), .. })));
    put(&folder, "users.csv", &format!("user_id,username,password\n1,a,{CANARY}\n1,{CANARY},b\n"));
    let text = report(load_with(&format!("{client}mode = \"password\"\ntable = \"{table}\""), &[("S", CANARY)]));
    assert!(text.contains("line 3 names a user who was named before"), "{text}");
}

#[test]
fn secrets_are_trimmed_checked_and_never_shown() {
    let folder = folder();
    let secret = |name: &str, text: &str| {
        let file = put(&folder, name, text);
        load_text(&format!("[sender]\npath_secret = {{ file = \"{file}\" }}"))
    };
    let config = secret("fine", "0123456789abcdef\r\n").unwrap();
    assert_eq!(config.sender.path_secrets.first().map(Secret::expose), Some("0123456789abcdef"));
    assert!(!format!("{config:?} {}", config.effective()).contains("0123456789"));
    assert!(report(secret("empty", "\n")).contains("which is empty"));
    assert!(report(secret("slash", &format!("{CANARY}/"))).contains("is not fit for a URL"));
    assert!(report(secret("short", "canary")).contains("is shorter than 16 characters"));
    assert!(report(secret("long", &"x".repeat(70_000))).contains("too large for a secret"));
    fs::write(folder.path().join("latin"), b"0123456789abcdef\xe9").unwrap();
    let latin = format!("[sender]\npath_secret = {{ file = \"{}/latin\" }}", folder.path().display());
    assert!(report(load_text(&latin)).contains("which is not valid UTF-8"));
    let text = report(load_text(&format!("[admin]\ntoken = {{ file = \"a\", env = \"{CANARY}\" }}")));
    assert!(text.contains("exactly one of `file` and `env`"), "{text}");
}

#[test]
fn warns_of_secrets_that_others_can_read() {
    let folder = folder();
    let file = put(&folder, "token", "0123456789abcdef");
    let toml = format!("[admin]\ntoken = {{ file = \"{file}\" }}");
    let toml = format!("{toml}\n[listener]\naddress = \"127.0.0.1:0\"");
    // 0440 is how Kubernetes mounts a secret for a pod with fsGroup.
    for (mode, is_fine) in [(0o600, true), (0o440, true), (0o640, true), (0o644, false), (0o604, false), (0o660, false)]
    {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let warnings = load_text(&toml).unwrap().warnings;
        let is_named = warnings.len() == 1 && warnings[0].contains(&format!("(mode {mode:04o}): `chmod o=,g-w "));
        assert!(if is_fine { warnings.is_empty() } else { is_named }, "{mode:04o}: {warnings:?}");
    }
}

#[test]
fn a_broken_file_is_named_with_its_line_and_not_quoted() {
    let text = report(load_text(&format!("[admin]\ntoken = \"{CANARY}\n")));
    assert!(text.contains("test.toml:2: is not valid TOML: at column "), "{text}");
    let missing = load(Some(Path::new("no/such.toml")), []).unwrap_err().to_string();
    assert!(missing.contains("no/such.toml: cannot be read"), "{missing}");
}

#[test]
fn what_is_effective_can_be_loaded_again() {
    let text = "[listener]\nmax_body = \"1 MB\"\nidle_timeout = \"1h\"\n[[sink]]\nname = \"a\"\ntype = \"http\"\n\
                url = \"https://app.internal/\"\nsigned = false\n[admin]\naddress = \"off\"\n";
    let effective = load_text(text).unwrap().effective();
    assert_eq!(load_text(&effective).unwrap().effective(), effective);
}

#[test]
fn every_example_loads() {
    let folder = folder();
    let mut count = 0;
    for file in fs::read_dir("config/examples").unwrap() {
        let path = file.unwrap().path();
        // The files that an example names are made in a folder of its own.
        let mut text = fs::read_to_string(&path).unwrap();
        for (name, content) in [
            ("webhook.example.com.pem", pems::server().0),
            ("webhook.example.com.key", pems::server().1),
            ("linxo-clients-ca.pem", pems::authority()),
            ("internal-ca.pem", pems::authority()),
        ] {
            text = text.replace(&format!("certs/{name}"), &put(&folder, name, content));
        }
        text = text.replace("data/events.ndjson", folder.path().join("events.ndjson").to_str().unwrap());
        let variables = [
            ("LINXO_CLIENT_SECRET", CANARY),
            ("APP_WEBHOOK_SECRET", SIGNING),
            ("ADMIN_TOKEN", CANARY),
            ("APP_DATABASE_PASSWORD", CANARY),
            ("LINXO_PATH_SECRET", "0123456789abcdef"),
            ("NATS_PASSWORD", CANARY),
            ("RABBITMQ_PASSWORD", CANARY),
            ("REDIS_PASSWORD", CANARY),
        ];
        let config = load_with(&text, &variables).unwrap_or_else(|problems| panic!("{}: {problems}", path.display()));
        assert!(!config.effective().contains(CANARY));
        assert_eq!(config.warnings, Vec::from_iter(config.exposure()));
        count += 1;
    }
    assert_eq!(count, 7);
}

proptest::proptest! {
    #[test]
    fn never_panics(
        name in "(LISTENER|SINK|TLS|SENDER|LINXO|)(__)?([A-Z0-9]{0,6}|PATH_SECRET|0|18446744073709551615)(__)?[A-Z0-9._\\PC]{0,5}",
        value in "\\PC{0,12}",
        toml in "(\\[(sink|tls|listener)\\]\n)?([a-z]{1,4}|sink|tls) = (1|\"x\"|\\[\\]|\\{\\}|[\\PC]{0,4})\n",
    ) {
        let result = load_with(&toml, &[(&format!("LINXO_WEBHOOK__{name}"), &value)]);
        proptest::prop_assert!(result.map_or_else(|problems| problems.keys().count() > 0, |_| true));
    }
}
