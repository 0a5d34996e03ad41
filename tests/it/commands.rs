//! Mistakes on the command line and around it, as a table through the true program, and how commands end.

use crate::support::{LIMIT, Site, event_json, eventually};
use double::servers::free_port;
use rustix::process::Signal;
use std::{
    fs,
    net::TcpListener,
    os::fd::OwnedFd,
    path::Path,
    process::{Output, Stdio},
};
use tokio::{io::AsyncReadExt as _, time::timeout};

/// What a command line says: its arguments, exit code, and parts of what is told on standard error, the remedy last.
type Mistake = (&'static [&'static str], i32, &'static [&'static str]);

/// Where an event waits in the inbox, and nobody listens at `https://localhost:1`.
const MISTAKES: &[Mistake] = &[
    // Usage.
    (&["srve"], 64, &["unrecognized subcommand 'srve'", "a similar subcommand exists: 'serve'"]),
    (&["check", "--onlin"], 64, &["unexpected argument '--onlin'", "a similar argument exists: '--online'"]),
    (&["inbox"], 64, &["Usage: linxo-webhook inbox [OPTIONS] <COMMAND>"]),
    (
        &["inbox", "ls", "--state", "lost"],
        64,
        &["invalid value 'lost'", "possible values: waiting, leased, done, parked"],
    ),
    (&["inbox", "ls", "--limit", "many"], 64, &["invalid value 'many' for '--limit <COUNT>'", "--help"]),
    (&["inbox", "ls", "--limit", "1", "--all"], 64, &["cannot be used with '--all'", "--help"]),
    (
        &["inbox", "ls", "--since", "yesterday"],
        64,
        &["invalid value 'yesterday' for '--since <TIME>'", "such as 90m, 2h or 3d"],
    ),
    (
        &["inbox", "export", "--until", "2026-01-31"],
        64,
        &["expected a time with its offset, such as 2026-01-31T08:00:00Z"],
    ),
    (
        &["inbox", "purge", "--since", "1h", "--until", "2h", "--yes"],
        64,
        &["--since is not before --until", "hint: an age"],
    ),
    (&["inbox", "refused", "--since", "1h", "--until", "2h"], 64, &["--since is not before --until", "hint: an age"]),
    (&["inbox", "audit", "--since", "1h", "--until", "1h"], 64, &["--since is not before --until", "hint: an age"]),
    (&["inbox", "tail", "--state", "lost"], 64, &["invalid value 'lost'", "possible values: accepted, completed"]),
    (&["inbox", "tail", "--sink", "nope"], 64, &["no sink has the name nope", "hint: configured are file"]),
    (&["inbox", "replay"], 64, &["this would mean every entry", "hint: say which ones"]),
    (&["inbox", "park", "--reason", "x"], 64, &["this would mean every entry", "hint: say which ones"]),
    (&["inbox", "purge", "--yes"], 64, &["this would mean every entry", "hint: say which ones"]),
    (&["inbox", "purge", "--all"], 64, &["purge deletes events for good", "hint: look at them with `inbox ls`"]),
    (&["inbox", "erase"], 64, &["required arguments were not provided", "--user <ID>|--connection <ID>"]),
    (&["inbox", "erase", "--user", "1", "--connection", "2"], 64, &["cannot be used with", "--help"]),
    (&["inbox", "erase", "--user", "1"], 64, &["erase deletes everything", "hint: look at it with `inbox export`"]),
    (&["inbox", "unseal"], 64, &["unseal stores bank data unencrypted", "hint: add --yes"]),
    (&["inbox", "unseal", "--yes"], 64, &["inbox.key is not set", "hint: set it, run this"]),
    (&["send", "--channels", "3"], 64, &["invalid value '3' for '--channels <N>': 3 is not in 1..=2", "--help"]),
    (&["send", "--cert", "client.pem"], 64, &["required arguments were not provided", "--key <FILE>"]),
    (&["send", "--file", "x", "--accounts", "3"], 64, &["cannot be used with", "--help"]),
    (&["simulate", "--random", "101"], 64, &["101 is not in 0..=100", "--help"]),
    (&["simulate", "--latency", "50"], 64, &["expected a duration such as 50ms or 2s", "--help"]),
    (&["completions", "cmd"], 64, &["invalid value 'cmd'", "possible values: bash"]),
    (&["schema", "sink"], 64, &["invalid value 'sink'", "possible values"]),
    // What is named and is not there.
    (&["inbox", "show", "nope"], 64, &["no entry has the id or the number nope", "hint: `inbox ls` lists both"]),
    (&["inbox", "replay", "--id", "nope"], 64, &["no entry has the id nope", "hint: `inbox ls` lists ids and numbers"]),
    (&["inbox", "replay", "--seq", "99"], 64, &["no entry has the number 99", "hint: `inbox ls` lists"]),
    (&["inbox", "park", "--id", "nope"], 64, &["no entry has the id nope", "hint: `inbox ls` lists"]),
    (&["inbox", "purge", "--id", "nope", "--yes"], 64, &["no entry has the id nope", "hint: `inbox ls` lists"]),
    (&["inbox", "export", "--id", "nope"], 64, &["no entry has the id nope", "hint: `inbox ls` lists"]),
    (&["inbox", "ls", "--sink", "nope"], 64, &["no sink has the name nope", "hint: configured are file"]),
    (
        &["inbox", "replay", "--sink", "no\u{1b}pe"],
        64,
        &["no sink has the name no\\u{1b}pe", "hint: configured are file"],
    ),
    (&["sink", "test", "nope"], 64, &["no sink has the name nope", "hint: configured are file"]),
    (&["sink", "pause", "nope"], 64, &["no sink has the name nope", "hint: configured are file"]),
    (
        &["man", "none/here"],
        75,
        &["cannot write manual pages into none/here: No such file", "hint: make the folder first"],
    ),
    (&["send", "--file", "none.json"], 64, &["cannot read none.json: No such file"]),
    (&["send", "--url", "https://localhost:1", "--ca", "none.pem"], 64, &["none.pem: I/O error: No such file"]),
    (&["send", "--url", "https://localhost:1", "--ca", "linxo-webhook.toml"], 64, &["no certificate in it"]),
    (&["send", "--url", "ftp://localhost"], 64, &["--url: the URL must begin with https:// (or http://)"]),
    (&["simulate", "--script", "none.toml"], 64, &["none.toml: cannot read the script"]),
    (&["simulate", "--users", "none.csv"], 64, &["cannot read none.csv: No such file"]),
    (&["simulate", "--cert", "none.pem", "--key", "none.key"], 64, &["cannot use none.pem: No such file"]),
    (&["certs", "--name", "h\u{f4}te"], 64, &["cannot make the certificate"]),
    // What cannot be done now.
    (
        &["send", "--url", "https://localhost:1"],
        70,
        &["1 of 1 events were not answered 2xx: cannot connect", "hint: nobody takes"],
    ),
    (&["health"], 75, &["nobody answers at 127.0.0.1:1: Connection refused", "hint: start the service"]),
    (&["health", "--live"], 75, &["nobody answers at 127.0.0.1:1: Connection refused", "hint: start the service"]),
];

async fn run(site: &Site, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = timeout(LIMIT, site.run(arguments)).await.expect("it ends");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A site whose inbox holds one entry that waits.
async fn site_with_an_event() -> Site {
    let mut site = Site::new();
    site.file_sink("file");
    site.set("worker.concurrency", 0);
    let service = site.start().await;
    service.door.accept(event_json("e1", "7", 1, false)).await;
    service.stop().await;
    site.set("admin.address", "\"127.0.0.1:1\"");
    site
}

/// (F11) Each mistake ends with its code, and says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_has_its_code_and_its_remedy() {
    let site = site_with_an_event().await;
    for (arguments, wanted, parts) in MISTAKES {
        let (code, said, told) = run(&site, arguments).await;
        assert_eq!(code, *wanted, "{arguments:?}\n{said}{told}");
        for part in *parts {
            assert!(told.contains(part), "{arguments:?}: no {part} in:\n{told}");
        }
        assert!(!told.contains("Broken pipe") && !told.contains("panicked"), "{told}");
    }
    let (code, said, told) = run(&site, &["inbox", "ls"]).await;
    assert!(code == 0 && said.contains("e1") && told.is_empty(), "{told}");
    let (code, _, told) = run(&site, &["inbox", "park", "--id", "e1"]).await;
    assert!(code == 0 && told.contains("1 entry parked"), "{told}");
    // Nothing to do, without a slip in a name, is fine.
    let (code, _, told) = run(&site, &["inbox", "purge", "--connection", "8", "--yes"]).await;
    assert!(code == 0 && told.contains("0 entries deleted"), "{told}");
}

/// (F2, F11) Configurations that commands cannot work with.
#[tokio::test(flavor = "multi_thread")]
async fn commands_say_what_the_configuration_lacks() {
    let mut site = Site::new();
    site.set("admin.address", "\"off\"");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, wanted, part) in [
        (&["health"][..], 78, "hint: give it an address"),
        (&["inbox", "ls"], 75, "there is no inbox yet; it is made when `serve` first starts"),
        (&["inbox", "show", "x"], 75, "there is no inbox yet"),
        (&["sink", "ls"], 75, "there is no inbox yet"),
        (&["inbox", "stats"], 75, "there is no inbox yet"),
        (&["simulate", "--plain", "--address", &address], 75, "hint: choose another address with --address"),
    ] {
        let (code, _, told) = run(&site, arguments).await;
        assert!(code == wanted && told.contains(part), "{arguments:?}: {code}\n{told}");
    }
    let missing = site.default_command(&["serve", "--config", "none.toml"]).output().await.unwrap();
    assert_eq!(missing.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("hint: name a file that this user may read"));
    // (F5) An empty variable counts as one that is not set.
    let mut empty = site.default_command(&["schema", "config"]);
    let output = empty.env("LINXO_WEBHOOK_CONFIG", "").output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// (F11) A reader that has seen enough ends a command quietly.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_is_no_error() {
    let site = site_with_an_event().await;
    for arguments in [
        &["inbox", "ls"][..],
        &["inbox", "ls", "--json"],
        &["inbox", "show", "e1"],
        &["inbox", "stats"],
        &["inbox", "tail"],
        &["inbox", "export"],
        &["inbox", "refused", "--json"],
        &["sink", "ls"],
        &["check"],
        &["doctor"],
        &["schema", "config"],
        &["completions", "bash"],
        &["certs"],
        &["demo"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = site.command(arguments);
        // `Command::output` would put a pipe of its own in this one's place.
        let child = command.stdout(Stdio::from(OwnedFd::from(writer))).stderr(Stdio::piped()).spawn().unwrap();
        let output = timeout(LIMIT, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_elapsed| panic!("{arguments:?} did not end")).unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.contains("error")), (Some(0), false), "{arguments:?}: {told}");
    }
}

/// (F11) What goes to a program or a file is whole; a reason is shown as it is.
#[tokio::test(flavor = "multi_thread")]
async fn reasons_are_whole_where_nobody_looks() {
    let site = site_with_an_event().await;
    let reason =
        "the bank's portal is being moved to another place until the end of the week, so that nothing can be read";
    let (code, ..) = run(&site, &["inbox", "park", "--id", "e1", "--reason", reason]).await;
    let (_, said, _) = run(&site, &["inbox", "ls"]).await;
    assert!(code == 0 && said.contains(reason), "{said}");
}

/// (F11) `send` takes address, path, secret and certificate from the configuration, and says what a 404 means.
#[tokio::test(flavor = "multi_thread")]
async fn send_knows_the_configuration() {
    let mut site = Site::new();
    site.file_sink("file");
    let port = free_port().unwrap();
    site.set("listener.address", format!("\"127.0.0.1:{port}\"")).set("listener.path", "\"/hooks\"");
    site.secret("sender.path_secret", "path-secret-0123456789abcdef");
    let service = site.start().await;
    let ca = site.path("certs/authority.pem").display().to_string();
    let (code, said, told) = run(&site, &["send", "--ca", &ca]).await;
    assert!(code == 0 && said.contains("status    200: 1") && !told.contains("path-secret"), "{said}{told}");
    let url = format!("https://localhost:{port}/webhooks/linxo");
    let (code, _, told) = run(&site, &["send", "--ca", &ca, "--url", &url]).await;
    assert!(code == 70 && told.contains("1 of 1 events were not answered 2xx: 1 answered 404"), "{told}");
    assert!(told.contains("hint: the receiver has another path: that of listener.path"), "{told}");
    assert!(!told.contains("path-secret"), "{told}");
    // Truncated events announce what `simulate` has; where they do not, it is said what it needs.
    let (_, _, told) = run(&site, &["send", "--ca", &ca, "--truncated"]).await;
    assert!(!told.contains("simulate"), "{told}");
    let (_, _, told) = run(&site, &["send", "--ca", &ca, "--accounts", "250"]).await;
    assert!(told.contains("run `linxo-webhook simulate --accounts 250`"), "{told}");
    let entries = crate::support::entries(&service.running.inbox).await;
    let counts: Vec<_> = entries.iter().map(|entry| entry.account_count).collect();
    assert_eq!(counts, [Some(2), Some(150), Some(250)]);
    service.stop().await;
}

/// (F7) `demo` needs no /tmp. `demo --keep` names files that are there, and leaves nothing behind when it is told to end.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_cleans_up() {
    let site = Site::new();
    fs::create_dir(site.path("data")).unwrap();
    let mut command = site.default_command(&["demo", "--keep"]);
    let mut child = command.env("TMPDIR", "/no/such/folder").stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut said = String::new();
    eventually("it explains what to try", async || {
        let mut part = [0; 4096];
        let read = timeout(LIMIT, output.read(&mut part)).await.unwrap().unwrap();
        assert!(read > 0, "it ended:\n{said}");
        said.push_str(&String::from_utf8_lossy(&part[..read]));
        said.contains("logs you in").then_some(())
    })
    .await;
    let is_named = |word: &&str| word.contains("/data/linxo-webhook-demo-");
    let named: Vec<_> = said.split([' ', '@', '\n']).filter(is_named).collect();
    assert!(named.len() >= 8 && named.iter().any(|name| name.ends_with("/event.json")), "{named:?}");
    for name in &named {
        assert!(Path::new(name).exists(), "{name} is not there");
    }
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(fs::read_dir(site.path("data")).unwrap().count(), 0, "its keys are gone");
}

/// (F6) What is shipped to run the service goes on after a reboot, does not kill a pod that starts with a full disk, and does
/// not turn a 503 into a refused connection.
#[test]
fn shipped_supervisors_do_as_they_should() {
    let read = |name: &str| fs::read_to_string(crate::readme::root().join("deploy").join(name)).unwrap();
    assert!(read("compose.yaml").contains("\n    restart: unless-stopped\n"));
    let kubernetes = read("kubernetes.yaml");
    let probe = |name: &str| kubernetes.split(name).nth(1).unwrap().lines().nth(1).unwrap().trim().to_owned();
    assert_eq!(probe("startupProbe:"), "httpGet: { path: /livez, port: admin }");
    assert_eq!(probe("livenessProbe:"), "httpGet: { path: /livez, port: admin }");
    assert_eq!(probe("readinessProbe:"), "httpGet: { path: /readyz, port: admin }");
    assert!(kubernetes.split("kind: Service").nth(1).unwrap().contains("\n  publishNotReadyAddresses: true\n"));
    let unit = read("linxo-webhook.service");
    for line in ["Restart=on-failure", "RestartPreventExitStatus=64 78", "StartLimitIntervalSec=0", "TimeoutStopSec=30"]
    {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}
