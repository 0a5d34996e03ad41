//! Certificates and secrets change while the service runs.

use crate::support::admin;
use linxo_webhook::{
    app::{self, Running},
    config,
    pki::{self, Authority, Existing, Identity},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
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
        let tcp = TcpStream::connect(self.running.address).await.ok()?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
        let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{EVENT}", EVENT.len());
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.ok()?;
        let shown = stream.get_ref().1.peer_certificates()?.first()?.clone().into_owned();
        Some((shown, std::str::from_utf8(&head[9..]).unwrap().parse().unwrap()))
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
        assert!(self.running.ended().await);
    }
}

const FAILED: &str = r#"linxo_webhook_reloads_total{outcome="failed"}"#;

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
    for round in 0..20 {
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
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
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
        let reloads = service.metric(r#"linxo_webhook_reloads_total{outcome="ok"}"#);
        write(&service.path(name), &before);
        service.wait_for_metric(r#"linxo_webhook_reloads_total{outcome="ok"}"#, reloads + 1).await;
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
    service.wait_for_metric(r#"linxo_webhook_reloads_total{outcome="ok"}"#, 1).await;
    assert_eq!((post("first-secret-of-all").await, post("second-secret-of-all").await), (404, 200));

    write(&service.path("secret"), "short");
    service.wait_for_metric(FAILED, 1).await;
    assert_eq!(post("second-secret-of-all").await, 200);
    service.running.reload();
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_token_and_networks_are_replaced() {
    let extra = "token = { file = \"FOLDER/token\" }\n[sender]\nnetworks = [\"127.0.0.0/8\"]\n";
    let service = Service::start(extra, &[("token", "first-token-of-all")]).await;
    let scrape = async |token| admin(service.running.admin.unwrap(), "/metrics", Some(token)).await.status;
    assert_eq!((scrape("first-token-of-all").await, scrape("second-token-of-all").await), (200, 401));
    write(&service.path("token"), "second-token-of-all");
    service.wait_for_metric(r#"linxo_webhook_reloads_total{outcome="ok"}"#, 1).await;
    assert_eq!((scrape("first-token-of-all").await, scrape("second-token-of-all").await), (401, 200));

    let post = async || service.exchange("/webhooks/linxo", None).await.unwrap().1;
    assert_eq!(post().await, 200);
    let toml = fs::read_to_string(service.path("linxo.toml")).unwrap();
    write(&service.path("linxo.toml"), &toml.replace("127.0.0.0/8", "192.0.2.0/24"));
    service.wait_for_metric(r#"linxo_webhook_reloads_total{outcome="ok"}"#, 2).await;
    assert_eq!(post().await, 403);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_caller_is_out_and_so_is_one_whose_list_has_ended() {
    let callers = Authority::new("Callers").unwrap();
    let (good, bad) = (callers.client("good", &["a.example"]).unwrap(), callers.client("bad", &["b.example"]).unwrap());
    let soon = |seconds| linxo_webhook::clock::now().after(Duration::from_secs(seconds));
    let nobody: [&[u8]; 0] = [];
    let extra = "[tls.clients]\nmode = \"required\"\nauthorities = [\"FOLDER/ca\"]\nrevocations = [\"FOLDER/crl\"]\n";
    let first = callers.revocation_list(&nobody, soon(3600)).unwrap();
    let service = Service::start(extra, &[("ca", callers.certificate_pem()), ("crl", &first)]).await;
    let post = async |identity| service.exchange("/webhooks/linxo", Some(identity)).await.map(|(_, status)| status);
    assert_eq!((post(&good).await, post(&bad).await), (Some(200), Some(200)));

    write(&service.path("crl"), &callers.revocation_list(&[&bad.serial], soon(5)).unwrap());
    service.wait_for_metric(r#"linxo_webhook_reloads_total{outcome="ok"}"#, 1).await;
    assert_eq!((post(&good).await, post(&bad).await), (Some(200), None));
    // The list ends: a reload by itself, so that no session goes on.
    service.wait_for_metric(r#"linxo_webhook_reloads_total{outcome="ok"}"#, 2).await;
    assert_eq!(post(&good).await, None);
    assert_eq!(service.metric(r#"linxo_webhook_client_certificates_total{verdict="crl_expired"}"#), 1);
    service.stop().await;
}
