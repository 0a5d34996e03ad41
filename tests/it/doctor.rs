//! `doctor`: a healthy set-up, and each way in which one can be ill.

use crate::support::{Endpoint, LIMIT, Site, event_json, eventually, secrets, text};
use double::{
    Settings,
    pki::{self, Existing, Leaf},
};
use serde_json::Value;
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::Output,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

async fn run(site: &Site, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = timeout(LIMIT, site.run(arguments)).await.expect("it ends");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// The report as JSON, with the exit code.
async fn report(site: &Site, arguments: &[&str]) -> (i32, Value) {
    let (code, said, told) = run(site, &[&["doctor", "--json"], arguments].concat()).await;
    (code, serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{told}")))
}

/// The lines of a section, as level and text.
fn lines(report: &Value, title: &str) -> Vec<(String, String)> {
    let sections = report["sections"].as_array().unwrap();
    let section = sections.iter().find(|section| section["title"] == title).unwrap_or_else(|| panic!("no {title}"));
    let lines = section["lines"].as_array().unwrap().iter();
    let word = |line: &Value, member: &str| line[member].as_str().unwrap().to_owned();
    lines.map(|line| (word(line, "level"), word(line, "text"))).collect()
}

#[track_caller]
fn assert_has(report: &Value, title: &str, level: &str, part: &str) {
    let lines = lines(report, title);
    assert!(lines.iter().any(|(of, text)| of == level && text.contains(part)), "no {level} {part} in {lines:#?}");
}

/// Lines that are neither ok nor a note.
fn troubles(report: &Value) -> Vec<String> {
    let sections = report["sections"].as_array().unwrap().iter();
    let lines = sections.flat_map(|section| section["lines"].as_array().unwrap());
    let bad = lines.filter(|line| line["level"] == "warning" || line["level"] == "error");
    bad.map(ToString::to_string).collect()
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A running service with a path secret, a sink and an API: nothing is wrong but that its authority is its own. The report can
/// be pasted anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_service_is_found_well() {
    let endpoint = Endpoint::start(|_| Some(200)).await;
    let mut site = Site::new();
    site.http_sink("app", &endpoint.url());
    site.secret("sender.path_secret", secrets::PATH).secret("admin.token", secrets::ADMIN);
    let client =
        Settings { client_secret: base::secret::Secret::new(secrets::CLIENT.to_owned()), ..Settings::default() };
    let _simulator = site.simulator(client).await;
    let address = free();
    site.set("listener.address", text(address)).set("admin.address", text("127.0.0.1:0"));
    let service = site.start().await;
    let control = linxo_webhook::control::path(&site.config().inbox);
    eventually("the control socket answers", async || linxo_webhook::control::Client::find(&control).unwrap()).await;
    let url = format!("https://localhost:{}/webhooks/linxo", address.port());
    let (code, found) = report(&site, &["--url", &url]).await;
    let troubles = troubles(&found);
    assert_eq!(code, 0, "{troubles:#?}");
    for (title, level, part) in [
        ("Program", "ok", env!("CARGO_PKG_VERSION")),
        ("Program", "ok", "a service runs on this inbox"),
        ("Configuration and surroundings", "note", "not tried, because the running service listens on"),
        ("Servers", "ok", "gave a token for the client"),
        ("Servers", "ok", "sink \"app\" can be reached"),
        ("Names", "ok", "linxo.api: localhost:"),
        ("Names", "ok", "sink \"app\": 127.0.0.1:"),
        ("Clock", "ok", "as the server of linxo.api has it"),
        ("Certificate", "ok", "takes TLS 1.3"),
        ("Certificate", "ok", "takes TLS 1.2"),
        ("Certificate", "ok", "it is for localhost"),
        ("Certificate", "ok", "the key belongs to the certificate"),
        ("Certificate", "warning", "whose issuer is no public authority"),
        ("Certificate", "note", "given without the secret of its path"),
        ("Limits", "ok", "file descriptors"),
        ("Disks", "ok", "inbox: "),
        ("Test deliveries", "note", "not made"),
        ("For Linxo's support", "note", &format!("{url}/********")),
        ("For Linxo's support", "note", "to ask: from which addresses do you call"),
    ] {
        assert_has(&found, title, level, part);
    }
    assert!(endpoint.attempts().is_empty(), "nothing was delivered");
    let (_, page, _) = run(&site, &["doctor", "--url", &url]).await;
    for line in ["Servers", "  ok       the token endpoint of linxo.auth gave a token for the client"] {
        assert!(page.lines().any(|found| found.starts_with(line)), "no {line} in:\n{page}");
    }
    for secret in [secrets::PATH, secrets::CLIENT, secrets::ADMIN, secrets::SIGNING] {
        assert!(!page.contains(secret) && !found.to_string().contains(secret), "{secret}");
    }
    let (_, revealed) = report(&site, &["--reveal"]).await;
    assert_has(&revealed, "For Linxo's support", "note", secrets::PATH);
    let (_, delivered) = report(&site, &["--deliver"]).await;
    assert_has(&delivered, "Test deliveries", "ok", "the sink app took the delivery test-");
    assert_eq!(endpoint.taken().len(), 1);
    // What was registered wrongly is answered 404.
    for (url, part) in [
        (format!("https://localhost:{}/other", address.port()), "the path of the URL is not the one"),
        (
            format!("https://hooks.example:{}/webhooks/linxo/{}", address.port(), secrets::PATH),
            "it is not for hooks.example",
        ),
    ] {
        let (code, wrong) = report(&site, &["--url", &url]).await;
        assert_eq!(code, 78);
        assert_has(&wrong, "Certificate", "error", part);
        assert!(!wrong.to_string().contains(secrets::PATH));
    }
    service.stop().await;
}

/// A listener that wants client certificates shows its own before it asks for the caller's.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_seen_without_a_client_certificate() {
    let mut site = Site::new();
    site.file_sink("lines");
    let address = free();
    let authority = text(site.path("certs/authority.pem").display());
    site.set("listener.address", text(address))
        .set("tls.minimum_version", text("1.3"))
        .set("tls.clients.mode", text("required"))
        .set("tls.clients.authorities", format!("[{authority}]"));
    let service = site.start().await;
    let control = linxo_webhook::control::path(&site.config().inbox);
    eventually("the control socket answers", async || linxo_webhook::control::Client::find(&control).unwrap()).await;
    let (code, found) = report(&site, &[]).await;
    assert_eq!(code, 0, "{:#?}", troubles(&found));
    assert_has(&found, "Certificate", "ok", "takes TLS 1.3");
    assert_has(&found, "Certificate", "note", "does not take TLS 1.2");
    assert_has(&found, "For Linxo's support", "note", "client certificate: required");
    service.stop().await;
}

/// Each kind of trouble, with its level, its remedy and the exit code that follows: 78 for what somebody must change, 75 for what
/// may be over later.
#[tokio::test(flavor = "multi_thread")]
async fn each_trouble_is_told_with_its_remedy() {
    type Ill = (&'static str, i32, &'static str, &'static str, fn(&mut Site));
    let cases: [Ill; 7] = [
        ("Configuration", 78, "error", "listener.max_body", |site| {
            site.set("listener.max_body", text("8 MX"));
        }),
        ("Configuration and surroundings", 78, "error", "inbox.url", |site| {
            site.set("inbox.url", text("sqlite:/proc/none/inbox.db"));
        }),
        ("Configuration and surroundings", 0, "warning", "anyone who reaches", |site| {
            site.set("listener.address", text("0.0.0.0:0"));
        }),
        ("Servers", 75, "error", "sink \"gone\" cannot be reached", |site| {
            site.http_sink("gone", &format!("http://{}/", free()));
        }),
        ("Names", 75, "error", "does not resolve", |site| {
            site.http_sink("nowhere", "https://nowhere.invalid/");
        }),
        ("Disks", 75, "error", "events are refused below", |site| {
            site.set("inbox.min_free_disk", text("100 TiB"));
        }),
        ("Limits", 0, "warning", "memory", |site| {
            site.set("listener.body_memory", text("1 TiB"));
        }),
    ];
    for (title, wanted, level, part, change) in cases {
        let mut site = Site::new();
        site.file_sink("lines");
        change(&mut site);
        let mut command = site.command(&["doctor", "--json"]);
        let output = timeout(LIMIT, command.output()).await.expect("it ends").unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let found: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!(output.status.code(), Some(wanted), "{title} {part}: {:#?}", troubles(&found));
        assert_has(&found, title, level, part);
        for trouble in troubles(&found) {
            let trouble: Value = serde_json::from_str(&trouble).unwrap();
            assert!(trouble["remedy"].is_string(), "{trouble}");
        }
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.contains("the report has 1 error") || told.contains("errors"), wanted != 0, "{told}");
    }
}

/// Where the system lets it have few descriptors, callers would be turned away.
#[tokio::test(flavor = "multi_thread")]
async fn few_descriptors_are_told() {
    let mut site = Site::new();
    site.file_sink("lines");
    let mut shell = tokio::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_linxo-webhook");
    shell.args(["-c", "ulimit -n 1024 && exec \"$0\" doctor --json --config \"$1\"", program]).arg(site.file());
    let output = timeout(LIMIT, shell.output()).await.expect("it ends").unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_has(
        &found,
        "Limits",
        "warning",
        "file descriptors: at most 1024, listener.max_connections = 4096 wants 4352",
    );
    assert_eq!(output.status.code(), Some(0), "{:#?}", troubles(&found));
}

/// Certificates that no caller takes, read from the files where no service runs.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_judged_without_a_service() {
    let site = Site::new();
    let put = |leaf: &Leaf| {
        let identity = site.authority().issue(leaf).unwrap();
        let (certificate, key) = (site.path("certs/server.pem"), site.path("certs/server.key"));
        pki::write_identity_over(&certificate, &key, &identity, Existing::Replace).unwrap();
    };
    let (code, found) = report(&site, &["--url", "https://localhost/webhooks/linxo"]).await;
    assert_eq!(code, 0, "{:#?}", troubles(&found));
    assert_has(&found, "Certificate", "note", "because nothing listens at");
    assert_has(&found, "Certificate", "ok", "the path of the URL is the one");
    put(&Leaf::server(&["localhost"]).expired());
    let (code, found) = report(&site, &[]).await;
    assert_eq!(code, 78);
    assert_has(&found, "Certificate", "error", "it ended on ");
    put(&Leaf::server(&["localhost"]));
    let root = fs::read_to_string(site.path("certs/authority.pem")).unwrap();
    let leaf = fs::read_to_string(site.path("certs/server.pem")).unwrap();
    let other = pki::Authority::new("other").unwrap();
    let other = other.certificate_pem();
    fs::write(site.path("certs/server.pem"), format!("{leaf}{other}{root}")).unwrap();
    let (code, found) = report(&site, &[]).await;
    assert_eq!(code, 78);
    assert_has(&found, "Certificate", "error", "the chain is out of order");
}

/// A server whose clock differs: what it breaks decides how bad that is. A token that is refused lasts; one that cannot be asked
/// for now may be had later.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_and_tokens_are_compared_with_the_vendors() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            // A connection that is only tried sends nothing.
            if socket.read(&mut head).await.is_ok_and(|read| read > 0) {
                let answer = "HTTP/1.1 404 Not Found\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                socket.write_all(answer.as_bytes()).await.ok();
            }
        }
    });
    let mut site = Site::new();
    site.secret("linxo.users.token", "a-token").set("linxo.users.mode", text("static"));
    site.set("linxo.api", text(format_args!("http://{address}/v2.1")));
    let (code, found) = report(&site, &[]).await;
    assert_eq!(code, 75, "{:#?}", troubles(&found));
    assert_has(&found, "Clock", "error", "receivers refuse deliveries that are signed at such a time");

    let mut site = Site::new();
    let _simulator = site.simulator(Settings::default()).await;
    site.secret("linxo.client_secret", "another-secret");
    let (code, found) = report(&site, &[]).await;
    assert_eq!(code, 78, "{:#?}", troubles(&found));
    assert_has(&found, "Clock", "ok", "as the server of linxo.auth has it");
    assert!(lines(&found, "Servers").iter().any(|(level, _)| level == "error"), "{found}");
    assert!(!found.to_string().contains("another-secret"));
}

/// What a sink refuses of a test delivery is told; without a service too.
#[tokio::test(flavor = "multi_thread")]
async fn test_deliveries_are_made_where_that_is_asked_for() {
    let endpoint = Endpoint::start(|_| Some(503)).await;
    let mut site = Site::new();
    site.http_sink("app", &endpoint.url());
    let lines_file = site.file_sink("lines");
    let (code, found) = report(&site, &["--deliver"]).await;
    assert_eq!(code, 75, "{:#?}", troubles(&found));
    assert_has(&found, "Test deliveries", "error", "the sink app did not take the delivery test-");
    assert_has(&found, "Test deliveries", "ok", "the sink lines took the delivery test-");
    assert_eq!((endpoint.attempts().len(), crate::support::delivered(&lines_file).len()), (1, 1));
    assert!(endpoint.attempts()[0].headers.contains_key("webhook-signature"), "signed as real ones are");
}

/// Bank data that waits in the inbox is in no report.
#[tokio::test(flavor = "multi_thread")]
async fn no_bank_data_is_in_a_report() {
    let mut site = Site::new();
    site.file_sink("lines");
    site.set("worker.concurrency", 0);
    let service = site.start().await;
    service.door.accept(event_json("e1", "canary-connection", 1, false).replace("\"balance\"", "\"canary\"")).await;
    let (_, page, told) = run(&site, &["doctor"]).await;
    assert!(!page.contains("canary") && !told.contains("canary"), "{page}");
    service.stop().await;
}
