//! The admin listener over real sockets.

use super::{
    Figures, Guards, State, bind,
    door::WRONG_TOKEN_TIME,
    routes::Hindrance,
    settings::{Admin, May, Token},
};
use crate::observe::{
    metrics::{self, Exposition},
    readiness::Readiness,
};
use base::{clock, secret::Secret, seldom::Seldom};
use inbox::{Stage, StageCounts, Stats, double::Double};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

struct Running {
    address: SocketAddr,
    double: Arc<Double>,
    inbox: inbox::Figures,
    readiness: Readiness,
    /// Begins the drain of the process.
    drain: CancellationToken,
    /// Ends the listener.
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

async fn start(double: Double, token: Option<&str>) -> Running {
    let token = token.map(|token| Secret::new(token.to_owned()));
    guarded(double, Admin { metrics_token: token, ..settings::defaults().unwrap() }).await
}

async fn guarded(double: Double, admin: Admin) -> Running {
    let bound = bind("127.0.0.1:0".parse().unwrap(), Guards::load(&admin).unwrap()).await.unwrap();
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let (address, double, readiness) = (bound.address(), Arc::new(double), Readiness::new(drain.clone()));
    let mut registry = metrics::registry();
    let inbox = inbox::Figures::new(&mut registry, inbox::Limits { waiting: 1000, free_bytes: 1 << 20 });
    let state = State {
        intake: Arc::<Double>::clone(&double),
        upkeep: Arc::<Double>::clone(&double),
        inbox: inbox.clone(),
        figures: Figures::new(&mut registry),
        exposition: Arc::new(Exposition::new(registry)),
        readiness: readiness.clone(),
        hindrance: Hindrance::default(),
        desk: None,
    };
    let ended = tokio::spawn(bound.serve(state, stop.clone()));
    Running { address, double, inbox, readiness, drain, stop, ended }
}

impl Running {
    /// Sends a request's head and reads until the listener closes.
    async fn ask(&self, line: &str, more: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let host = if more.contains("Host: ") { "" } else { "Host: 127.0.0.1\r\n" };
        let head = format!("{line} HTTP/1.1\r\n{host}Connection: close\r\n{more}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test]
async fn readiness_follows_the_phase_and_the_inbox() {
    let running = start(Double::default(), None).await;
    assert!(running.ask("GET /livez", "").await.ends_with(r#"{"status":"alive"}"#));
    insta::assert_snapshot!(running.ask("GET /readyz", "").await, @r#"
    HTTP/1.1 503 Service Unavailable
    content-type: application/json
    cache-control: no-store
    content-length: 45
    connection: close

    {"status":"not_ready","reasons":["starting"]}
    "#);
    running.readiness.set_ready();
    insta::assert_snapshot!(running.ask("GET /readyz", "").await, @r#"
    HTTP/1.1 200 OK
    content-type: application/json
    cache-control: no-store
    content-length: 18
    connection: close

    {"status":"ready"}
    "#);
    running.double.set_full(true);
    running.drain.cancel();
    let answer = running.ask("GET /readyz", "").await;
    assert!(
        answer.ends_with(r#"{"status":"not_ready","reasons":["draining","the inbox's disk is full"]}"#),
        "{answer}"
    );
    assert!(running.ask("GET /livez", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn other_paths_and_methods_are_problems() {
    let running = start(Double::default(), Some("t")).await;
    insta::assert_snapshot!(running.ask("GET /readyz/", "").await, @r#"
    HTTP/1.1 404 Not Found
    content-type: application/problem+json
    cache-control: no-store
    content-length: 118
    connection: close

    {"type":"about:blank","title":"Not Found","status":404,"detail":"there is nothing under this path","code":"not_found"}
    "#);
    insta::assert_snapshot!(running.ask("POST /metrics", "Content-Length: 0\r\n").await, @r#"
    HTTP/1.1 405 Method Not Allowed
    content-type: application/problem+json
    cache-control: no-store
    allow: GET,HEAD
    content-length: 139
    connection: close

    {"type":"about:blank","title":"Method Not Allowed","status":405,"detail":"this path does not take this method","code":"method_not_allowed"}
    "#);
}

#[tokio::test]
async fn figures_need_the_token_and_show_the_inbox() {
    let double = Double::with_stats(Some(Stats {
        stages: vec![(Stage::deliver("app"), StageCounts { waiting: 3, leased: 2, parked: 1 })],
        oldest_by_stage: vec![(Stage::deliver("app"), clock::now().before(Duration::from_secs(90)))],
        free_bytes: Some(1 << 30),
        size_bytes: 4096,
        log_bytes: 512,
        ..Stats::default()
    }));
    let running = start(double, Some("correct")).await;
    for wrong in
        ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic correct\r\n", "Authorization: Bearer\r\n"]
    {
        let answer = running.ask("GET /metrics", wrong).await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate: Bearer"), "{answer}");
        assert!(!answer.contains("linxo_webhook"));
    }
    let answer = running.ask("GET /metrics", "Authorization: bearer correct\r\n").await;
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    for figure in [
        r#"linxo_webhook_inbox_entries{stage="app",state="waiting"} 3"#,
        r#"linxo_webhook_inbox_entries{stage="app",state="parked"} 1"#,
        r#"linxo_webhook_inbox_oldest_unfinished_seconds{stage="app"} 9"#,
        "linxo_webhook_inbox_size_bytes 4096",
        "linxo_webhook_inbox_log_bytes 512",
        "linxo_webhook_inbox_free_bytes 1073741824",
        "linxo_webhook_inbox_min_free_bytes 1048576",
        "linxo_webhook_inbox_max_waiting 1000",
    ] {
        assert!(answer.contains(figure), "{figure} in {answer}");
    }
    assert!(answer.contains("linxo_webhook_admin_unauthorized_total 4"), "{answer}");
    assert!(answer.ends_with("# EOF"));
}

#[tokio::test]
async fn a_wrong_token_is_answered_late_and_a_right_one_at_once_beside_it() {
    let running = start(Double::default(), Some("correct")).await;
    tokio::time::pause();
    let started = Instant::now();
    let wrong = async {
        running.ask("GET /metrics", "Authorization: Bearer wrong\r\n").await;
        started.elapsed()
    };
    let right = async {
        running.ask("GET /metrics", "Authorization: Bearer correct\r\n").await;
        started.elapsed()
    };
    let (wrong, right) = tokio::join!(wrong, right);
    assert!(right < WRONG_TOKEN_TIME && WRONG_TOKEN_TIME <= wrong, "{right:?} {wrong:?}");
}

const ANNA: &str = "token-of-anna-who-acts";
const BEN: &str = "token-of-ben-who-reads";

/// Anna may act, Ben may read.
fn two() -> Admin {
    let token =
        |name: &str, may, secret: &str| Token { name: name.to_owned(), may, secret: Secret::new(secret.to_owned()) };
    let tokens = vec![token("anna", May::Act, ANNA), token("ben", May::Read, BEN)];
    let hosts = vec!["linxo.internal".to_owned()];
    let metrics_token = Some(Secret::new("for-the-figures".to_owned()));
    Admin { metrics_token, hosts, tokens, ..settings::defaults().unwrap() }
}

fn post(form: &str, more: &str) -> String {
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    format!("{kind}Content-Length: {}\r\n{more}\r\n{form}", form.len())
}

/// The cookie of an answer, as it is sent back.
fn cookie(answer: &str) -> String {
    let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    format!("Cookie: {}\r\n", line.split(';').next().unwrap())
}

#[tokio::test]
async fn figures_are_for_every_token_and_nothing_else_is_for_that_of_the_figures() {
    let running = guarded(Double::default(), two()).await;
    for (token, status) in [("for-the-figures", 200), (BEN, 200), (ANNA, 200), ("other", 401)] {
        let answer = running.ask("GET /metrics", &format!("Authorization: Bearer {token}\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{token}: {answer}");
    }
    let refused = running.ask("POST /login", &post("token=for-the-figures", "")).await;
    assert!(refused.starts_with("HTTP/1.1 401") && !refused.contains("set-cookie"), "{refused}");
}

#[tokio::test]
async fn whoever_logs_in_gets_a_strict_cookie_and_loses_it_again() {
    let running = guarded(Double::default(), two()).await;
    let form = running.ask("GET /login", "").await;
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self';",
        "x-content-type-options: nosniff",
        "referrer-policy: same-origin",
        "x-frame-options: DENY",
        "cache-control: no-store",
    ] {
        assert!(form.contains(header), "{header} in {form}");
    }
    let answer = running.ask("POST /login", &post(&format!("token={ANNA}&next=/entries"), "")).await;
    assert!(answer.starts_with("HTTP/1.1 303") && answer.contains("location: /entries"), "{answer}");
    assert!(answer.contains("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict\n"), "{answer}");
    assert!(!answer.contains(ANNA));
    let cookie = cookie(&answer);
    // Logging out changes something: a page of somebody else cannot ask for it.
    for (form, more) in [("", ""), ("form_token=guessed", ""), ("", "Origin: https://evil.example\r\n")] {
        let refused = running.ask("POST /logout", &post(form, &format!("{cookie}{more}"))).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_logs_nobody_in() {
    let running = guarded(Double::default(), two()).await;
    let form = format!("token={ANNA}");
    for more in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        let answer = running.ask("POST /login", &post(&form, more)).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("cross_origin"), "{answer}");
    }
    let ours = "Origin: http://linxo.internal:9090\r\nHost: linxo.internal:9090\r\nSec-Fetch-Site: same-origin\r\n";
    assert!(running.ask("POST /login", &post(&form, ours)).await.starts_with("HTTP/1.1 303"));
}

/// A name of a stranger that points here (DNS rebinding) is none of ours.
#[tokio::test]
async fn the_listener_goes_by_its_own_names_alone() {
    let running = guarded(Double::default(), two()).await;
    for (host, is_ours) in [
        ("localhost", true),
        ("LOCALHOST:9090", true),
        ("127.0.0.1:1", true),
        ("[::1]:9090", true),
        ("10.1.2.3", true),
        ("linxo.internal", true),
        ("Linxo.Internal:443", true),
        ("evil.example", false),
        ("linxo.internal.evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("evil.localhost.example", false),
    ] {
        let answer = running.ask("GET /login", &format!("Host: {host}\r\n")).await;
        let status = if is_ours { "HTTP/1.1 200" } else { "HTTP/1.1 421" };
        assert!(answer.starts_with(status), "{host}: {answer}");
        assert!(running.ask("GET /livez", &format!("Host: {host}\r\n")).await.starts_with("HTTP/1.1 200"), "{host}");
    }
    // A scraper calls the listener by whatever name its network has for it.
    let open = start(Double::default(), None).await;
    assert!(open.ask("GET /metrics", "Host: localhost\r\n").await.starts_with("HTTP/1.1 200"));
    assert!(open.ask("GET /metrics", "Host: receiver:9090\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn whoever_guesses_has_to_wait_even_with_the_right_token() {
    let running = guarded(Double::default(), two()).await;
    tokio::time::pause();
    for _ in 0..5 {
        let wrong = running.ask("POST /login", &post("token=guess", "")).await;
        assert!(wrong.starts_with("HTTP/1.1 401") && wrong.contains("role=\"alert\""), "{wrong}");
    }
    let right = post(&format!("token={ANNA}"), "");
    let refused = running.ask("POST /login", &right).await;
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after: "), "{refused}");
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(running.ask("POST /login", &right).await.starts_with("HTTP/1.1 303"));
}

#[tokio::test]
async fn without_a_token_nobody_logs_in() {
    let running = start(Double::default(), None).await;
    assert!(running.ask("GET /login", "").await.contains("There is no token to log in with"));
    assert!(running.ask("POST /login", &post("token=", "")).await.starts_with("HTTP/1.1 401"));
}

mod over_tls {
    use super::{Admin, Double, TcpStream, guarded, two};
    use crate::config::{AdminTls, TlsVersion};
    use double::pki::{Authority, Identity};
    use rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    };
    use std::{fs, path::Path, sync::Arc};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;

    fn admin(folder: &Path, operators: &Authority, servers: &Authority) -> Admin {
        let server = servers.server(&["localhost"]).unwrap();
        let put = |name: &str, text: &str| {
            fs::write(folder.join(name), text).unwrap();
            folder.join(name)
        };
        let tls = AdminTls {
            certificate: put("server.pem", &server.certificate_pem),
            key: put("server.key", server.key_pem.as_str()),
            minimum_version: TlsVersion::V1_2,
            authorities: vec![put("operators.pem", operators.certificate_pem())],
            revocations: Vec::new(),
            read: vec!["ben.example".to_owned()],
            act: vec!["anna.example".to_owned()],
        };
        Admin { tls: Some(tls), ..two() }
    }

    /// The answer; `None` where the handshake, or what follows at once, fails.
    async fn ask(
        address: std::net::SocketAddr,
        servers: &Authority,
        as_who: Option<&Identity>,
        more: &str,
    ) -> Option<String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(servers.certificate_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let settings = match as_who {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes()).map(Result::unwrap);
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain.collect(), key).unwrap()
            }
        };
        let socket = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut socket = TlsConnector::from(Arc::new(settings)).connect(name, socket).await.ok()?;
        let head = format!("{more} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    #[tokio::test]
    async fn a_client_certificate_stands_for_a_token() {
        let (operators, servers) = (Authority::new("Operators").unwrap(), Authority::new("Servers").unwrap());
        let others = Authority::new("Others").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let running = guarded(Double::default(), admin(folder.path(), &operators, &servers)).await;
        let get = async |who: Option<&Identity>, path: &str| {
            ask(running.address, &servers, who, &format!("GET {path}"))
                .await
                .and_then(|answer| answer.get(9..12).map(str::to_owned))
        };
        let of = |authority: &Authority, name: &str| authority.client("any", &[name]).unwrap();
        let ben = of(&operators, "ben.example");
        assert_eq!(get(Some(&ben), "/metrics").await.as_deref(), Some("200"));
        assert_eq!(get(None, "/livez").await.as_deref(), Some("200"), "probes have no certificate");
        assert_eq!(get(None, "/metrics").await.as_deref(), Some("401"));
        // A bad certificate is refused before any HTTP, and so is a name that is not listed.
        for bad in [of(&others, "anna.example"), of(&operators, "eve.example")] {
            assert_eq!(get(Some(&bad), "/livez").await, None);
        }
        // The common name alone says nothing.
        let pretender = operators.client("anna.example", &["eve.example"]).unwrap();
        assert_eq!(get(Some(&pretender), "/livez").await, None);
    }

    #[tokio::test]
    async fn plain_http_is_not_answered_where_there_is_tls() {
        let (operators, servers) = (Authority::new("Operators").unwrap(), Authority::new("Servers").unwrap());
        let folder = tempfile::tempdir().unwrap();
        let running = guarded(Double::default(), admin(folder.path(), &operators, &servers)).await;
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        socket.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.ok();
        assert!(!answer.starts_with(b"HTTP/"));
    }
}

#[test]
fn a_line_that_is_seldom_due() {
    let line = Seldom::default();
    assert!(line.is_due());
    assert!((0..1000).all(|_| !line.is_due()));
}

#[tokio::test]
async fn whoever_holds_sockets_keeps_nobody_from_being_answered() {
    let running = start(Double::default(), Some("token")).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        // Some say nothing, some begin, some ask and stay.
        let begun = [&b""[..], b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"];
        socket.write_all(begun[held.len() % 3]).await.unwrap();
        held.push(socket);
    }
    let limit = Duration::from_secs(2);
    for _ in 0..20 {
        let answer = tokio::time::timeout(limit, running.ask("GET /livez", "")).await.expect("at once");
        assert!(answer.starts_with("HTTP/1.1 200"));
    }
    // An answer ends its socket, although its caller would have kept it.
    let mut answer = String::new();
    held[299].read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
}

/// (F8) A figure that is not known is absent: neither 0 nor what it was.
#[tokio::test]
async fn a_scrape_outlives_a_store_that_hangs_and_guesses_nothing() {
    let stats = Stats { stages: vec![(Stage::deliver("app"), StageCounts::default())], ..Stats::default() };
    let running = start(Double::with_stats(None), None).await;
    running.inbox.show(stats);
    tokio::time::pause();
    let answer = running.ask("GET /metrics", "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("# EOF"), "{answer}");
    assert!(
        !answer.contains("linxo_webhook_inbox_entries") && !answer.contains("linxo_webhook_inbox_oldest"),
        "{answer}"
    );
    assert!(answer.contains("linxo_webhook_inbox_max_waiting 1000"), "{answer}");
}

#[tokio::test]
async fn ends_with_idle_sockets_open() {
    let running = start(Double::default(), None).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    // Another one's answer, so that the idle one is known to be taken.
    running.ask("GET /livez", "").await;
    running.stop.cancel();
    running.ended.await.unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}
