//! Certificates and secrets change while the service runs.

use crate::support::{Endpoint, Process, Site, admin, delivered, event_json, eventually, request, secrets};
use double::{
    Settings,
    pki::{self, Authority, Existing, Identity},
};
use linxo_webhook::{
    app::{self, Ended, Running},
    config,
};
use rustix::process::Signal;
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Nothing here takes this long; it only turns a hang into a failure.
const LIMIT: Duration = Duration::from_secs(20);
const EVENT: &str = r#"{"id":"e","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{"id":"c"}}"#;

/// A running service, its folder and the authority that its callers trust.
struct Service {
    running: Running,
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Service {
    async fn start(extra: &str, files: &[(&str, &str)]) -> Self {
        let authority = Authority::new("Test root").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let toml = format!(
            "[listener]\naddress = \"127.0.0.1:0\"\n\
             [tls]\ncertificate = \"{place}/server.pem\"\nkey = \"{place}/server.key\"\n\
             [inbox]\nurl = \"sqlite:{place}/inbox.db\"\nmin_free_disk = \"0 B\"\n\
             [worker]\nconcurrency = 0\n[admin]\naddress = \"127.0.0.1:0\"\n{}",
            extra.replace("FOLDER", &place.to_string())
        );
        let identity = authority.server(&["localhost"]).unwrap();
        pki::write_identity(&folder.path().join("server.pem"), &folder.path().join("server.key"), &identity).unwrap();
        for (name, text) in files.iter().chain(&[("linxo.toml", toml.as_str())]) {
            write(&folder.path().join(name), text);
        }
        let config = config::load(Some(&folder.path().join("linxo.toml")), []).unwrap();
        let running = app::start(config).await.unwrap();
        Self { running, authority, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rotate(&self, identity: &Identity) {
        let (certificate, key) = (self.path("server.pem"), self.path("server.key"));
        pki::write_identity_over(&certificate, &key, identity, Existing::Replace).unwrap();
    }

    /// A new connection: the certificate that the service shows.
    async fn shown(&self) -> CertificateDer<'static> {
        self.exchange("/", None).await.expect("a handshake").0
    }

    /// One request on a connection of its own: the service's certificate and the status.
    async fn exchange(&self, path: &str, identity: Option<&Identity>) -> Option<(CertificateDer<'static>, u16)> {
        let exchanged = self.exchange_as(&self.caller(identity), path).await?;
        Some((exchanged.shown, exchanged.status))
    }

    /// A caller, who remembers sessions.
    fn caller(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(identity.certificates().unwrap(), key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    async fn exchange_as(&self, caller: &Arc<ClientConfig>, path: &str) -> Option<Exchanged> {
        let tcp = TcpStream::connect(self.running.address).await.ok()?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::clone(caller)).connect(name, tcp).await.ok()?;
        let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{EVENT}", EVENT.len());
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.ok()?;
        let tls = stream.get_ref().1;
        Some(Exchanged {
            shown: tls.peer_certificates()?.first()?.clone().into_owned(),
            status: std::str::from_utf8(&head[9..]).unwrap().parse().unwrap(),
            is_resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }

    fn toml(&self) -> String {
        fs::read_to_string(self.path("linxo.toml")).unwrap()
    }

    /// Waits until new connections are shown this certificate; how long that took.
    async fn wait_for(&self, identity: &Identity) -> Duration {
        let wanted = identity.certificates().unwrap();
        let since = Instant::now();
        while self.shown().await != wanted[0] {
            assert!(since.elapsed() < LIMIT, "the certificate is not picked up");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        since.elapsed()
    }

    async fn wait_for_metric(&self, line: &str, value: u64) {
        let since = Instant::now();
        while self.metric(line) != value {
            assert!(since.elapsed() < LIMIT, "{line} is {} and not {value}", self.metric(line));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn metric(&self, line: &str) -> u64 {
        let text = self.running.metrics.encode();
        let value = text.lines().find_map(|found| found.strip_prefix(line));
        value.map_or(0, |value| value.trim().parse().unwrap())
    }

    async fn stop(mut self) {
        self.running.drain();
        assert_eq!(self.running.ended().await, Ended::Drained);
    }
}

/// What one request showed.
struct Exchanged {
    shown: CertificateDer<'static>,
    status: u16,
    is_resumed: bool,
}

const FAILED: &str = r#"linxo_webhook_reloads_total{outcome="failed"}"#;
const OK: &str = r#"linxo_webhook_reloads_total{outcome="ok"}"#;
/// What is promised from a change to its use.
const PROMISED: Duration = Duration::from_secs(2);

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_fail_no_handshake() {
    let service = Arc::new(Service::start("", &[]).await);
    let caller = {
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let mut handshakes = 0_u32;
            loop {
                service.shown().await;
                handshakes += 1;
                tokio::time::sleep(Duration::from_millis(if handshakes > 100_000 { 1000 } else { 1 })).await;
            }
        })
    };
    let mut late = Vec::new();
    for round in 0..10 {
        let identity = service.authority.server(&["localhost"]).unwrap();
        match round % 5 {
            // In place, the halves apart.
            0 => {
                write(&service.path("server.pem"), &identity.certificate_pem);
                tokio::time::sleep(Duration::from_millis(200)).await;
                write(&service.path("server.key"), &identity.key_pem);
            }
            // A certificate that is cut in the middle at first.
            1 => {
                let half = identity.certificate_pem.len() / 2;
                write(&service.path("server.pem"), &identity.certificate_pem[..half]);
                tokio::time::sleep(Duration::from_millis(200)).await;
                service.rotate(&identity);
            }
            _ => service.rotate(&identity),
        }
        let took = service.wait_for(&identity).await;
        late.extend(Some(took).filter(|took| *took > PROMISED));
    }
    // One, because a machine that others use may stand still for a second; a service that is slow is slow every time.
    assert!(late.len() <= 1, "not within {PROMISED:?}: {late:?}");
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled(), "a handshake failed");
    Arc::into_inner(service).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_leaves_the_last_good_set_in_place() {
    let service = Service::start("", &[]).await;
    let good = Identity::read(&service.path("server.pem"), &service.path("server.key")).unwrap();
    let other = service.authority.server(&["localhost"]).unwrap();
    let expired = service.authority.issue(&pki::Leaf::server(&["localhost"]).expired()).unwrap();
    let problems: [(&str, Option<&str>); 5] = [
        ("server.pem", Some("-----BEGIN CERTIFICATE-----\nAAAA")),
        ("server.pem", Some(&other.certificate_pem)),
        ("server.key", Some("no key")),
        ("server.key", None),
        ("linxo.toml", Some("[listner]\n")),
    ];
    let mut failed = 0;
    for (name, text) in problems {
        let before = fs::read_to_string(service.path(name)).unwrap();
        match text {
            Some(text) => write(&service.path(name), text),
            None => fs::remove_file(service.path(name)).unwrap(),
        }
        failed += 1;
        service.wait_for_metric(FAILED, failed).await;
        assert_eq!(service.shown().await, good.certificates().unwrap()[0], "{name}");
        let reloads = service.metric(OK);
        write(&service.path(name), &before);
        service.wait_for_metric(OK, reloads + 1).await;
    }
    service.rotate(&expired);
    service.wait_for_metric(FAILED, failed + 1).await;
    assert_eq!(service.shown().await, good.certificates().unwrap()[0]);
    service.rotate(&other);
    service.wait_for(&other).await;
    assert!(service.metric("linxo_webhook_last_reload_timestamp_seconds") > 0);
    service.stop().await;
}

/// Kubernetes puts new files in a new folder and swaps one symbolic link.
#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_link_is_a_change() {
    let service = Service::start("", &[]).await;
    for (version, name) in ["one", "two", "three"].into_iter().enumerate() {
        let identity = service.authority.server(&["localhost"]).unwrap();
        let folder = service.path(name);
        pki::write_identity(&folder.join("server.pem"), &folder.join("server.key"), &identity).unwrap();
        symlink(&folder, service.path("data.new")).unwrap();
        fs::rename(service.path("data.new"), service.path("data")).unwrap();
        if version == 0 {
            for file in ["server.pem", "server.key"] {
                fs::remove_file(service.path(file)).unwrap();
                symlink(service.path("data").join(file), service.path(file)).unwrap();
            }
        }
        service.wait_for(&identity).await;
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_secret_is_replaced() {
    let extra = "[sender]\npath_secret = [{ file = \"FOLDER/secret\" }]\n";
    let service = Service::start(extra, &[("secret", "first-secret-of-all")]).await;
    let post = async |secret: &str| service.exchange(&format!("/webhooks/linxo/{secret}"), None).await.unwrap().1;
    assert_eq!((post("first-secret-of-all").await, post("second-secret-of-all").await), (200, 404));
    write(&service.path("secret"), "second-secret-of-all");
    service.wait_for_metric(OK, 1).await;
    assert_eq!((post("first-secret-of-all").await, post("second-secret-of-all").await), (404, 200));

    write(&service.path("secret"), "short");
    service.wait_for_metric(FAILED, 1).await;
    assert_eq!(post("second-secret-of-all").await, 200);
    drop(service.running.reload());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_token_and_networks_are_replaced() {
    let extra = "token = { file = \"FOLDER/token\" }\n[sender]\nnetworks = [\"127.0.0.0/8\"]\n";
    let service = Service::start(extra, &[("token", "first-token-of-all")]).await;
    let scrape = async |token| admin(service.running.admin.unwrap(), "/metrics", Some(token)).await.status;
    assert_eq!((scrape("first-token-of-all").await, scrape("second-token-of-all").await), (200, 401));
    write(&service.path("token"), "second-token-of-all");
    service.wait_for_metric(OK, 1).await;
    assert_eq!((scrape("first-token-of-all").await, scrape("second-token-of-all").await), (401, 200));

    let post = async || service.exchange("/webhooks/linxo", None).await.unwrap().1;
    assert_eq!(post().await, 200);
    let toml = fs::read_to_string(service.path("linxo.toml")).unwrap();
    write(&service.path("linxo.toml"), &toml.replace("127.0.0.0/8", "192.0.2.0/24"));
    service.wait_for_metric(OK, 2).await;
    assert_eq!(post().await, 403);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_caller_is_out_and_so_is_one_whose_list_has_ended() {
    let callers = Authority::new("Callers").unwrap();
    let (good, bad) = (callers.client("good", &["a.example"]).unwrap(), callers.client("bad", &["b.example"]).unwrap());
    let soon = |seconds| base::clock::now().after(Duration::from_secs(seconds));
    let nobody: [&[u8]; 0] = [];
    let extra = "[tls.clients]\nmode = \"required\"\nauthorities = [\"FOLDER/ca\"]\nrevocations = [\"FOLDER/crl\"]\n";
    let first = callers.revocation_list(&nobody, soon(3600)).unwrap();
    let service = Service::start(extra, &[("ca", callers.certificate_pem()), ("crl", &first)]).await;
    let post = async |identity| service.exchange("/webhooks/linxo", Some(identity)).await.map(|(_, status)| status);
    assert_eq!((post(&good).await, post(&bad).await), (Some(200), Some(200)));

    write(&service.path("crl"), &callers.revocation_list(&[&bad.serial], soon(8)).unwrap());
    service.wait_for_metric(OK, 1).await;
    assert_eq!((post(&good).await, post(&bad).await), (Some(200), None));
    // Something else breaks, and stays so.
    write(&service.path("linxo.toml"), &format!("{}\n[listner]\n", service.toml()));
    service.wait_for_metric(FAILED, 1).await;
    let caller = service.caller(Some(&good));
    let mut resumed = 0;
    // The list ends: no session goes on.
    eventually("the caller is out", async || {
        let exchanged = service.exchange_as(&caller, "/webhooks/linxo").await;
        resumed += u32::from(exchanged.as_ref().is_some_and(|exchanged| exchanged.is_resumed));
        exchanged.is_none().then_some(())
    })
    .await;
    assert!(resumed > 0, "sessions are resumed until then");
    assert_eq!(post(&good).await, None);
    assert!(service.metric(r#"linxo_webhook_client_certificates_total{verdict="crl_expired"}"#) > 0);
    assert_eq!((service.metric(OK), service.metric(FAILED)), (1, 1));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_never_opens_the_service() {
    let callers = Authority::new("Callers").unwrap();
    let identity = callers.client("good", &["a.example"]).unwrap();
    let extra = "[sender]\npath_secret = { file = \"FOLDER/secret\" }\n\
                 [tls.clients]\nmode = \"required\"\nauthorities = [\"FOLDER/ca\"]\n";
    let service = Service::start(extra, &[("secret", "first-secret-of-all"), ("ca", callers.certificate_pem())]).await;
    let toml = service.toml();
    let is_closed = async || {
        let post = async |path, identity| service.exchange(path, identity).await.map(|(_, status)| status);
        let (path, with_secret) = ("/webhooks/linxo", "/webhooks/linxo/first-secret-of-all");
        assert_eq!(post(path, Some(&identity)).await, Some(404));
        assert_eq!(post(with_secret, None).await, None);
        assert_eq!(post(with_secret, Some(&identity)).await, Some(200));
    };
    is_closed().await;
    let mut failed = 0;
    for text in [
        Some(String::new()),
        None,
        // Cut in the middle, but valid.
        toml.find("[sender]").map(|cut| toml[..cut].to_owned()),
        toml.find("[tls.clients]").map(|cut| toml[..cut].to_owned()),
        Some(toml.replace("required", "observe")),
    ] {
        match text {
            Some(text) => write(&service.path("linxo.toml"), &text),
            None => fs::remove_file(service.path("linxo.toml")).unwrap(),
        }
        failed += 1;
        service.wait_for_metric(FAILED, failed).await;
        is_closed().await;
    }
    // A problem that is known is said and counted again to whoever asks.
    drop(service.running.reload());
    service.wait_for_metric(FAILED, failed + 1).await;
    is_closed().await;
    assert_eq!(service.metric(OK), 0);
    write(&service.path("linxo.toml"), &toml);
    service.wait_for_metric(OK, 1).await;
    is_closed().await;
    service.stop().await;
}

/// (C10) A secret that is lost while the service runs leaves deliveries signed.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_never_makes_deliveries_unsigned() {
    let mut site = Site::new();
    let endpoint = Endpoint::start(|_| Some(200)).await;
    site.http_sink("app", &endpoint.url());
    let service = site.start().await;
    let toml = fs::read_to_string(site.path("linxo-webhook.toml")).unwrap();
    let secret = toml.lines().find(|line| line.starts_with("secret = ")).unwrap();
    for (failed, without) in ["", "signed = false"].into_iter().enumerate() {
        write(&site.path("linxo-webhook.toml"), &toml.replace(secret, without));
        service.metric_reaches(FAILED, failed as u64 + 1).await;
        let id = failed.to_string();
        assert_eq!(service.door.post(event_json(&id, &id, 1, false)).await.status, 200);
    }
    service.settled().await;
    let taken = endpoint.taken();
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().all(|taken| taken.header("webhook-signature").starts_with("v1,")));
    service.stop().await;
}

/// A file that was read because it has the default name must stay, and what a reload uses is said in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_default_file_that_has_gone_is_a_problem() {
    let mut site = Site::new();
    site.secret("sender.path_secret", secrets::PATH);
    fs::create_dir(site.path("config")).unwrap();
    let file = site.path("config/linxo-webhook.toml");
    let toml = fs::read_to_string(site.file()).unwrap();
    fs::write(&file, &toml).unwrap();
    let command = site.default_command(&["serve"]);
    let process = Process::start(command, site.authority()).await;
    let logged = async |what: &str, times: usize| {
        let is_there = async || (process.output().matches(what).count() >= times).then_some(());
        eventually(what, is_there).await;
    };
    assert_eq!(process.door.post(EVENT).await.status, 404);
    fs::rename(&file, site.path("away")).unwrap();
    logged("the last good one stays in use", 1).await;
    assert_eq!(process.door.post(EVENT).await.status, 404);
    process.signal(Signal::HUP);
    logged("the last good one stays in use", 2).await;

    let said = "how callers are authenticated";
    assert_eq!(process.output().matches(said).count(), 1);
    fs::write(&file, format!("{toml}\nsender.networks = [\"0.0.0.0/0\"]\n")).unwrap();
    logged(said, 2).await;
    logged("sender.networks holds every address", 1).await;
    assert_eq!(process.door.post(EVENT).await.status, 404);
    let with_secret = String::from_utf8(request(EVENT)).unwrap();
    let with_secret = with_secret.replacen("/webhooks/linxo", &format!("/webhooks/linxo/{}", secrets::PATH), 1);
    assert_eq!(process.door.exchange(with_secret).await.status, 200);
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_written_is_not_used() {
    let extra = "[sender]\npath_secret = { file = \"FOLDER/secret\" }\n";
    let service = Service::start(extra, &[("secret", "first-secret-of-all")]).await;
    let post = async |secret: &str| service.exchange(&format!("/webhooks/linxo/{secret}"), None).await.unwrap().1;
    let mut text = "second-secret-of-all".to_owned();
    // Each state would do by itself, and would be found by one look or another.
    for _ in 0..30 {
        write(&service.path("secret"), &text);
        tokio::time::sleep(Duration::from_millis(50)).await;
        text.push('x');
    }
    assert_eq!(service.metric(OK), 0);
    assert_eq!(post("first-secret-of-all").await, 200);
    write(&service.path("secret"), &text);
    service.wait_for_metric(OK, 1).await;
    assert_eq!((post("first-secret-of-all").await, post(&text).await), (404, 200));
    service.stop().await;
}

/// Each step of a rotation as an operator does it, while callers come all the time. None of them is turned away.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_revocations_and_path_secrets_change_under_callers() {
    let [old, new] = ["Old", "New"].map(|name| Authority::new(name).unwrap());
    let later = base::clock::now().after(Duration::from_hours(1));
    let nobody: [&[u8]; 0] = [];
    let lists = |serials: &[&[u8]]| {
        old.revocation_list(serials, later).unwrap() + &new.revocation_list(&nobody, later).unwrap()
    };
    let [before, after, bad] =
        [(&old, "before"), (&new, "after"), (&old, "bad")].map(|(ca, name)| ca.client(name, &["a.example"]).unwrap());
    let extra = "[sender]\npath_secret = [{ file = \"FOLDER/newer\" }, { file = \"FOLDER/older\" }]\n\
                 [tls.clients]\nmode = \"required\"\nauthorities = [\"FOLDER/ca\"]\nrevocations = [\"FOLDER/crl\"]\n";
    let files = [
        ("newer", "secret-of-yesterday"),
        ("older", "secret-of-yesterday"),
        ("ca", old.certificate_pem()),
        ("crl", &lists(&[])),
    ];
    let service = Arc::new(Service::start(extra, &files).await);
    let sender = Arc::new(Mutex::new((service.caller(Some(&before)), "secret-of-yesterday")));
    // The secret that each caller used last.
    let used = Arc::new(Mutex::new([""; 4]));
    let callers: Vec<_> = (0..4)
        .map(|number| {
            let (service, sender, used) = (Arc::clone(&service), Arc::clone(&sender), Arc::clone(&used));
            tokio::spawn(async move {
                loop {
                    let (caller, secret) = sender.lock().unwrap().clone();
                    let exchanged = service.exchange_as(&caller, &format!("/webhooks/linxo/{secret}")).await;
                    assert_eq!(exchanged.expect("a handshake and an answer").status, 200);
                    used.lock().unwrap()[number] = secret;
                    // Leaves the processor to the others.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    let is_in = async |identity, secret: &str| {
        let exchanged = service.exchange(&format!("/webhooks/linxo/{secret}"), Some(identity)).await;
        exchanged.is_some_and(|(_, status)| status == 200)
    };
    assert!(is_in(&bad, "secret-of-yesterday").await && !is_in(&after, "secret-of-yesterday").await);

    write(&service.path("crl"), &lists(&[&bad.serial]));
    service.wait_for_metric(OK, 1).await;
    assert!(!is_in(&bad, "secret-of-yesterday").await);
    write(&service.path("ca"), &format!("{}{}", old.certificate_pem(), new.certificate_pem()));
    service.wait_for_metric(OK, 2).await;
    write(&service.path("newer"), "secret-of-tomorrow");
    service.wait_for_metric(OK, 3).await;
    *sender.lock().unwrap() = (service.caller(Some(&after)), "secret-of-tomorrow");
    eventually("nobody is under way with the old secret", async || {
        used.lock().unwrap().iter().all(|secret| *secret == "secret-of-tomorrow").then_some(())
    })
    .await;
    write(&service.path("older"), "secret-of-tomorrow");
    write(&service.path("ca"), new.certificate_pem());
    service.wait_for_metric(OK, 4).await;
    assert!(!is_in(&after, "secret-of-yesterday").await && !is_in(&before, "secret-of-tomorrow").await);
    assert!(is_in(&after, "secret-of-tomorrow").await);
    assert_eq!(service.metric(FAILED), 0);
    for caller in callers {
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled(), "a caller was turned away");
    }
    Arc::into_inner(service).unwrap().stop().await;
}

/// The file that `linxo.authorities` names keeps its name, and has another authority in it.
#[tokio::test(flavor = "multi_thread")]
async fn another_authority_of_the_api_is_taken_into_use() {
    let mut site = Site::new();
    let sink = site.file_sink("out");
    let _simulator = site.simulator(Settings::default()).await;
    let right = fs::read(site.path("certs/authority.pem")).unwrap();
    fs::write(site.path("certs/authority.pem"), Authority::new("Another").unwrap().certificate_pem()).unwrap();
    let service = site.start().await;
    service.door.accept(event_json("e", "c", 3, true)).await;
    service.metric_reaches(r#"linxo_webhook_token_requests_total{outcome="network"}"#, 1).await;
    assert_eq!(delivered(&sink), [""; 0]);
    fs::write(site.path("certs/authority.pem"), right).unwrap();
    eventually("the event is completed", async || (delivered(&sink) == ["e"]).then_some(())).await;
    service.stop().await;
}
