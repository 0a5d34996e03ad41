//! What `check` finds before the start, and how `serve` ends where it cannot start.

use crate::support::{Endpoint, LIMIT, Site, event_json, eventually};
use double::{
    Settings, User,
    pki::{self, Existing, Leaf},
    servers::free_port,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Output,
};
use tokio::time::timeout;

/// Exit code, and what was said on standard output and on standard error.
async fn run(site: &Site, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = timeout(LIMIT, site.run(arguments)).await.expect("it ends");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Every file and folder below one.
fn everything_in(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(everything_in(&path));
        }
    }
    found.sort();
    found
}

fn quoted(text: impl std::fmt::Display) -> String {
    format!("{:?}", text.to_string())
}

/// (F2) Surroundings that may mend themselves: `check` finds them and ends with 78, `serve` ends with 75.
#[tokio::test(flavor = "multi_thread")]
async fn surroundings_are_tried() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = (taken.local_addr().unwrap().to_string(), taken);
    let cases: [(&str, &str, &str, &str); 7] = [
        ("listener.address", &taken.0, "cannot be listened on: Address already in use", "stop what uses this one"),
        ("admin.address", &taken.0, "cannot be listened on: Address already in use", "choose another port"),
        ("listener.address", "192.0.2.1:0", "cannot be listened on: Cannot assign", "use an address of this machine"),
        (
            "inbox.url",
            "sqlite:/proc/none/inbox.db",
            "lies in /proc/none, where nothing can be written",
            "give the service",
        ),
        ("inbox.url", "sqlite:certs/server.pem/inbox.db", "where nothing can be written", "give the service a folder"),
        ("inbox.url", "sqlite:certs", "cannot be opened for writing", "it is a file, and no folder"),
        ("inbox.url", "sqlite:certs/authority.pem", "is no SQLite file", "name a new file"),
    ];
    for (key, value, reason, hint) in cases {
        let mut site = Site::new();
        site.set(key, quoted(value));
        let before = everything_in(&site.path(""));
        let file = site.file();
        let line = fs::read_to_string(&file).unwrap().lines().position(|line| line.starts_with(key)).unwrap() + 1;
        let (code, _, told) = run(&site, &["check"]).await;
        assert_eq!(code, 78, "{key} = {value}: {told}");
        let wanted = format!("{key} = \"{value}\" ({}:{line}): ", file.display());
        for part in [wanted.as_str(), reason, "\n    hint: ", hint] {
            assert!(told.contains(part), "no {part} in:\n{told}");
        }
        assert_eq!(everything_in(&site.path("")).len(), before.len() + 1, "only the configuration is new");
        let (code, _, told) = run(&site, &["serve"]).await;
        assert_eq!(code, 75, "{key} = {value}: {told}");
    }
}

/// (F2) What stands beside the inbox file keeps the service from starting, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_the_inbox_is_tried() {
    let mut site = Site::new();
    site.set("inbox.journal", quoted("off")).set("worker.concurrency", 0);
    let service = site.start().await;
    service.door.accept(event_json("e1", "1", 1, false)).await;
    service.stop().await;
    let [file, lock, log, kept] = ["", ".lock", "-wal", "-kept"].map(|part| site.path(format!("data/inbox.db{part}")));
    let judged = async |site: &Site, reason: &str| {
        let (code, _, told) = run(site, &["check"]).await;
        assert!(code == 78 && told.contains(reason), "no {reason} in {code}: {told}");
        let (code, _, told) = run(site, &["serve"]).await;
        assert_eq!(code, 75, "{reason}: {told}");
    };
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    judged(&site, "inbox.db.lock beside it cannot be opened for writing").await;
    fs::remove_dir(&lock).unwrap();
    fs::rename(&file, &kept).unwrap();
    fs::write(&log, "a log").unwrap();
    judged(&site, "it is missing or empty, and its log is there").await;
    fs::remove_file(&log).unwrap();
    fs::rename(&kept, &file).unwrap();
    let no_folder = site.path("certs/server.pem");
    site.set("inbox.journal", quoted(no_folder.display()));
    judged(&site, "server.pem cannot be read: Not a directory").await;
    site.set("inbox.journal", quoted("off"));
    let (code, _, told) = run(&site, &["check"]).await;
    assert_eq!(code, 0, "{told}");
}

/// Keys are needed one by one, so a damaged page would show when somebody's events come.
#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_the_keys_store_is_read() {
    let mut site = Site::new();
    site.secret("inbox.key", &"07".repeat(32)).set("worker.concurrency", 0);
    let service = site.start().await;
    for n in 0..100 {
        service.door.accept(event_json(&format!("e{n}"), &n.to_string(), 1, false)).await;
    }
    service.stop().await;
    let (code, _, told) = run(&site, &["check"]).await;
    assert_eq!(code, 0, "{told}");
    let keys = site.path("data/keys.db");
    let mut bytes = fs::read(&keys).unwrap();
    let last = bytes.len() - 4096;
    bytes[last..last + 100].fill(0xa5);
    fs::write(&keys, bytes).unwrap();
    let (code, _, told) = run(&site, &["check"]).await;
    assert!(
        code == 78 && told.contains("keys.db is damaged") && told.contains("put back the newest copy"),
        "{code}: {told}"
    );
}

/// (F2) Files of sinks are tried as well.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_sinks_are_tried() {
    let mut site = Site::new();
    let sink = site.file_sink("file");
    let held = File::create(&sink).unwrap();
    held.lock().unwrap();
    let (code, _, told) = run(&site, &["check"]).await;
    assert_eq!(code, 78, "{told}");
    assert!(told.contains("sink \"file\".path = ") && told.contains("another process or sink writes to it"), "{told}");
    assert_eq!(run(&site, &["serve"]).await.0, 75);
    drop(held);
    assert_eq!(run(&site, &["check"]).await.0, 0);
    fs::remove_file(&sink).unwrap();
    assert_eq!(run(&site, &["check"]).await.0, 0);
    assert!(!sink.exists(), "it is made by `serve`");
    let text = fs::read_to_string(site.file()).unwrap();
    fs::write(site.path("proc.toml"), text.replace(&sink.display().to_string(), "/proc/events.ndjson")).unwrap();
    for (command, wanted) in [("check", 78), ("serve", 75)] {
        let output = site.default_command(&[command, "--config", "proc.toml"]).output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(wanted), "{told}");
        assert!(told.contains("/proc/events.ndjson"), "{told}");
    }
}

/// (F2) So is the place where a certificate for localhost would be made on the first start.
#[tokio::test(flavor = "multi_thread")]
async fn the_place_of_a_made_certificate_is_tried() {
    let mut site = Site::new();
    site.unset("tls.");
    fs::rename(site.path("certs"), site.path("elsewhere")).unwrap();
    assert_eq!(run_here(&site, "check").await, 0);
    assert!(!site.path("certs").exists(), "it is made by `serve`");
    fs::write(site.path("certs"), "a file").unwrap();
    assert_eq!((run_here(&site, "check").await, run_here(&site, "serve").await), (78, 75));
}

/// The exit code of a command in the site's own folder.
async fn run_here(site: &Site, command: &str) -> i32 {
    let file = site.file();
    let output = site.default_command(&[command, "--config"]).arg(file).output().await.unwrap();
    output.status.code().unwrap()
}

/// (F2) Contradictions end both with 78.
#[tokio::test(flavor = "multi_thread")]
async fn one_port_is_for_one_listener() {
    for (public, inner, clash) in [
        ("127.0.0.1:18443", "127.0.0.1:18443", true),
        ("0.0.0.0:18443", "127.0.0.1:18443", true),
        ("[::]:18443", "127.0.0.1:18443", true),
        ("127.0.0.1:18443", "[::ffff:127.0.0.1]:18443", true),
        ("127.0.0.1:0", "127.0.0.1:0", false),
        ("127.0.0.2:0", "127.0.0.1:0", false),
    ] {
        let mut site = Site::new();
        site.set("listener.address", quoted(public)).set("admin.address", quoted(inner));
        let (code, _, told) = run(&site, &["check"]).await;
        assert_eq!(code == 78, clash, "{public} {inner}: {told}");
        if clash {
            assert!(told.contains(&format!("needs the port that listener.address = \"{public}\" takes")), "{told}");
            assert_eq!(run(&site, &["serve"]).await.0, 78);
        }
    }
}

/// (F2) What the running service of this inbox holds is a note, and no problem; notes are no warnings.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_running_service_holds_is_noted() {
    let mut site = Site::new();
    let sink = site.file_sink("file");
    let free = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
    let (public, inner) = (free(), free());
    site.set("listener.address", quoted(public)).set("admin.address", quoted(inner));
    let process = site.spawn().await;
    let find = || linxo_webhook::control::Client::find(&linxo_webhook::control::path(&site.config().inbox)).unwrap();
    eventually("the control socket answers", async || find()).await;
    let (code, said, told) = run(&site, &["check", "--deny-warnings"]).await;
    assert_eq!((code, told.matches("note: ").count()), (0, 5), "{told}");
    assert!(said.ends_with("configuration ok\n"), "{said}");
    for note in [
        "a service runs on this inbox",
        "inbox.key is not set",
        &format!("listener.address: not tried, because the running service listens on {public}"),
        &format!("admin.address: not tried, because the running service listens on {inner}"),
        "sink \"file\": not tried, because the running service writes this file",
    ] {
        assert!(told.contains(&format!("note: {note}")), "no {note} in:\n{told}");
    }
    // What somebody else holds is a problem all the same.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    site.set("listener.address", quoted(other.local_addr().unwrap()));
    let (code, _, told) = run(&site, &["check"]).await;
    assert!(code == 78 && told.contains("listener.address") && told.contains("already in use"), "{told}");
    process.kill().await;
    fs::remove_file(sink).unwrap();
}

/// (F2) Warnings can be denied.
#[tokio::test(flavor = "multi_thread")]
async fn warnings_can_be_denied() {
    let mut site = Site::new();
    assert_eq!(run(&site, &["check", "--deny-warnings"]).await.0, 0);
    site.set("listener.address", quoted("0.0.0.0:0"));
    let (code, said, _) = run(&site, &["check"]).await;
    assert!(code == 0 && said.ends_with("configuration ok\n"));
    let (code, said, told) = run(&site, &["check", "--deny-warnings"]).await;
    assert!(code == 78 && !said.contains("configuration ok"), "{said}");
    assert!(told.contains("warning: anyone who reaches") && told.contains("1 warning, and --deny-warnings"), "{told}");
}

/// An authority of the year 2020.
fn ended_authority() -> String {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.not_after = date_time_ymd(2020, 12, 31);
    parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

/// (F3) Files of authorities that vouch for nobody are refused with key and file, wherever they are named, and together with
/// all other problems. An ended one is refused by `check`.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_authorities_must_hold_authorities() {
    let leaf = Site::new().authority().server(&["localhost"]).unwrap().certificate_pem;
    for (content, reason, serves) in [
        ("nothing", "holds no PEM certificate", false),
        (leaf.as_str(), "a certificate that is no authority", false),
        (&ended_authority(), "a certificate that ended on 2020-12-31T00:00:00Z", true),
    ] {
        let mut site = Site::new();
        fs::write(site.path("bad.pem"), content).unwrap();
        let list = format!("[{}]", quoted(site.path("bad.pem").display()));
        for (key, value) in [
            ("tls.clients.mode", "\"required\""),
            ("linxo.users.mode", "\"endpoint\""),
            ("linxo.users.url", "\"https://app.internal/{user_id}\""),
            ("tls.clients.authorities", &list),
            ("linxo.authorities", &list),
            ("linxo.users.authorities", &list),
            ("linxo.users.certificate", &quoted(site.path("certs/server.pem").display())),
            ("linxo.users.key", &quoted(site.path("certs/server.key").display())),
        ] {
            site.set(key, value);
        }
        let text = fs::read_to_string(site.file()).unwrap();
        let sink = "[[sink]]\nname = \"app\"\ntype = \"http\"\nsigned = false\nurl = \"https://app.internal/\"\n";
        fs::write(site.path("all.toml"), format!("{text}\n{sink}authorities = {list}\n")).unwrap();
        let run = async |command: &str| {
            let output = site.default_command(&[command, "--config", "all.toml"]).output().await.unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, told) = run("check").await;
        assert_eq!(code, Some(78), "{told}");
        for key in ["tls.clients", "linxo", "linxo.users", "sink \"app\""] {
            let line = told.lines().find(|line| line.contains(&format!("{key}.authorities (all.toml:")));
            let line = line.unwrap_or_else(|| panic!("no {key} in:\n{told}"));
            assert!(line.contains("bad.pem, which holds ") && line.contains(reason), "{line}");
        }
        assert!(told.contains("the configuration has 4 problems"), "{told}");
        if !serves {
            assert_eq!(run("serve").await.0, Some(78));
        }
    }
}

/// (F3) Certificate, key and revocations are judged each by itself, and told together with everything else.
#[tokio::test(flavor = "multi_thread")]
async fn problems_of_tls_are_told_with_all_others() {
    let mut site = Site::new();
    for name in ["certs/server.pem", "certs/server.key", "crl.pem"] {
        fs::write(site.path(name), "nothing").unwrap();
    }
    let lists = format!("[{}]", quoted(site.path("crl.pem").display()));
    site.set("tls.clients.mode", quoted("required"))
        .set("tls.clients.authorities", "[\"missing.pem\"]")
        .set("tls.clients.revocations", lists)
        .set("listener.max_body", quoted("8 MX"));
    let (code, _, told) = run(&site, &["check"]).await;
    assert_eq!(code, 78);
    for part in [
        "the configuration has 5 problems",
        "server.pem holds no certificate\n    hint: name a file with a -----BEGIN CERTIFICATE----- block",
        "server.key holds no private key\n    hint: name a file with a -----BEGIN PRIVATE KEY----- block",
        "crl.pem holds no revocation list\n    hint: name a file with a -----BEGIN X509 CRL----- block",
        "names the file missing.pem, which cannot be read",
        "listener.max_body = \"8 MX\"",
    ] {
        assert!(told.contains(part), "no {part} in:\n{told}");
    }
    let root = pki::Authority::new("root").unwrap();
    let pair = |key: &pki::Identity| {
        let site = Site::new();
        fs::write(site.path("certs/server.key"), key.key_pem.as_str()).unwrap();
        site
    };
    let site = pair(&root.server(&["localhost"]).unwrap());
    let (code, _, told) = run(&site, &["check"]).await;
    assert!(code == 78 && told.contains("tls.key = ") && told.contains("does not belong to the first"), "{told}");
}

/// (F3) A server certificate that has ended: `check` refuses it; `serve` starts, because the clock may be wrong, says so as an
/// error, and is not ready until there is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_an_ended_certificate_is_not_ready() {
    let site = Site::new();
    let put = |leaf: &Leaf| {
        let identity = site.authority().issue(leaf).unwrap();
        let (certificate, key) = (site.path("certs/server.pem"), site.path("certs/server.key"));
        pki::write_identity_over(&certificate, &key, &identity, Existing::Replace).unwrap();
    };
    put(&Leaf::server(&["localhost"]).expired());
    let (code, _, told) = run(&site, &["check"]).await;
    assert_eq!(code, 78, "{told}");
    for part in ["tls.certificate = ", "certs/server.pem, whose certificate ended on ", "hint: renew the certificate"] {
        assert!(told.contains(part), "no {part} in:\n{told}");
    }
    let process = site.spawn().await;
    let answer = process.admin("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(format!("{answer:?}").contains("the certificate has expired"), "{answer:?}");
    let log = process.output();
    let said = log.lines().find(|line| line.contains("the certificate has expired")).unwrap();
    assert!(said.contains("\"level\":\"ERROR\"") || said.contains("\"level\":\"error\""), "{said}");
    put(&Leaf::server(&["localhost"]));
    eventually("the new certificate makes it ready", async || {
        (process.admin("/readyz").await.status == 200).then_some(())
    })
    .await;
    process.kill().await;
}

/// (F4) `--online` asks for a token and reaches every server; a sink is sent nothing.
#[tokio::test(flavor = "multi_thread")]
async fn online_reaches_every_server_and_delivers_nothing() {
    let mut site = Site::new();
    let simulator = site.simulator(Settings::default()).await;
    let endpoint = Endpoint::start(|_| Some(200)).await;
    site.http_sink("app", &endpoint.url());
    site.file_sink("file");
    let (code, said, told) = run(&site, &["check", "--online"]).await;
    assert_eq!(code, 0, "{told}");
    let auth = simulator.auth_url().replace("https://", "");
    let auth = auth.split('/').next().unwrap();
    for line in [
        &format!("online: the token endpoint of linxo.auth gave a token for the client ({auth})"),
        &format!("online: the Linxo API can be reached ({auth}); nothing was asked of it"),
        &format!("online: sink \"app\" can be reached ({}); nothing was delivered", endpoint.address),
        "online: sink \"file\" calls no server (type \"file\")",
    ] {
        assert!(said.contains(line), "no {line} in:\n{said}");
    }
    assert_eq!((simulator.counters().tokens, simulator.counters().requests), (1, 1));
    assert!(endpoint.attempts().is_empty(), "{:?}", endpoint.attempts());
}

/// (F4) What cannot be reached is named by host and port, all of it at once, and never by more of its URL.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_named_by_its_host() {
    let mut site = Site::new();
    let simulator = site.simulator(Settings::default()).await;
    let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
    site.http_sink("app", &format!("http://{gone}/hook?token=canary"));
    let (code, _, told) = run(&site, &["check", "--online"]).await;
    assert_eq!(code, 75, "{told}");
    assert!(
        told.contains(&format!(
            "sink \"app\" cannot be reached or used ({gone}): could not connect: connection refused"
        ))
    );
    let api = simulator.api_url();
    simulator.stop().await;
    let (code, _, told) = run(&site, &["check", "--online"]).await;
    assert_eq!(code, 75, "{told}");
    let host = api.trim_start_matches("https://").split('/').next().unwrap();
    for peer in ["the Linxo API", "the token endpoint of linxo.auth"] {
        assert!(told.contains(&format!("{peer} could not be reached ({host})")), "{told}");
    }
    assert!(!told.contains("canary") && !told.contains("/hook"), "{told}");
    // A server whose certificate is of another authority is not what was meant.
    site.set("linxo.authorities", "[]");
    let other = site.simulator(Settings::default()).await;
    site.unset("linxo.authorities");
    let (code, _, told) = run(&site, &["check", "--online"]).await;
    assert!(code == 75 && told.contains("UnknownIssuer"), "{told}");
    drop(other);
}

/// (F4) Each way to a token is tried as far as that is possible without an event, and what was not tried is said.
#[tokio::test(flavor = "multi_thread")]
async fn online_says_what_it_did_for_each_mode() {
    let user = |id: &str| User {
        id: id.to_owned(),
        username: format!("{id}@example.com"),
        password: base::secret::Secret::new("pass".to_owned()),
    };
    let mut site = Site::new();
    let settings = Settings {
        users: vec![user("1"), user("2")],
        fixed_token: Some(base::secret::Secret::new("fixed-token".to_owned())),
        ..Settings::default()
    };
    let simulator = site.simulator(settings).await;
    let table = "user_id,username,password\n2,2@example.com,pass\n1,1@example.com,pass\n";
    fs::write(site.path("users.csv"), table).unwrap();
    site.set("linxo.users.mode", quoted("password"));
    site.set("linxo.users.table", quoted(site.path("users.csv").display()));
    let (code, said, told) = run(&site, &["check", "--online"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(said.contains("for one user of the table, which has 2; the others were not tried"), "{said}");
    assert_eq!(simulator.counters().tokens, 1);
    fs::write(site.path("users.csv"), table.replace("pass\n", "wrong\n")).unwrap();
    let (code, _, told) = run(&site, &["check", "--online"]).await;
    assert!(code == 78 && told.contains("no token: the token endpoint of linxo.auth answered 4"), "{told}");

    site.unset("linxo.users").set("linxo.users.mode", quoted("password"));
    site.set("linxo.users.username", quoted("{user_id}@example.com")).secret("linxo.users.password_secret", "x");
    let (code, said, told) = run(&site, &["check", "--online"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(said.contains("online: not tried: a token, because user names and passwords are made"), "{said}");

    for (token, wanted) in [("fixed-token", 0), ("another-token", 78)] {
        site.unset("linxo.users").set("linxo.users.mode", quoted("static")).secret("linxo.users.token", token);
        let (code, said, told) = run(&site, &["check", "--online"]).await;
        assert_eq!(code, wanted, "{said}{told}");
        assert_eq!(said.contains("did not refuse the token of linxo.users.token"), wanted == 0, "{said}");
    }

    let endpoint = Endpoint::start(|_| Some(200)).await;
    site.unset("linxo.users").set("linxo.users.mode", quoted("endpoint"));
    site.set("linxo.users.url", quoted(format!("http://{}/{{user_id}}", endpoint.address)));
    let (code, said, told) = run(&site, &["check", "--online"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(said.contains(&format!("linxo.users.url can be reached ({})", endpoint.address)), "{said}");
    assert!(said.contains("online: not tried: a token, because it is asked for by the id"), "{said}");
    assert!(endpoint.attempts().is_empty());
}

/// (D10) What a renamed sink left behind is named, with what to do about it, and has its line in the metrics.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_what_a_renamed_sink_left_behind() {
    let mut site = Site::new();
    site.set("worker.concurrency", 0);
    site.file_sink("old");
    let service = site.start().await;
    service.door.accept(event_json("e1", "1", 1, false)).await;
    service.stop().await;
    let mut renamed = site.renamed("old", "new");
    renamed.set("worker.concurrency", 0);
    let output = renamed.run(&["check"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 deliveries wait for the sink old") && said.contains("inbox park --sink old"), "{said}");
    let service = renamed.start().await;
    service.metric_reaches("linxo_webhook_inbox_entries{stage=\"old\",state=\"waiting\"}", 1).await;
    service.stop().await;
}
