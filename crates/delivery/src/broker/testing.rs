//! Brokers to test with: where they are, servers of a test's own, and a proxy that cuts, hangs or speaks TLS.
//!
//! A shared server is named by a variable (`LINXO_WEBHOOK_TEST_NATS`, `_AMQP`, `_REDIS`: host and port), or listens on its usual
//! port. Tests that restart a server, fill it or ask it for passwords start an installed program of their own.

use crate::{
    fixture,
    sink::{Delivery, Error, Failure, FailureKind, Sink},
};
use base::sync::lock;
use double::servers::Program;
use rustls_pki_types::PrivateKeyDer;
use std::{
    env, fs, net,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

/// Longest wait for a state.
const PATIENCE: Duration = Duration::from_mins(1);

/// Host and port of a shared server.
pub(crate) fn shared(kind: &str, usual: u16) -> String {
    let variable = format!("LINXO_WEBHOOK_TEST_{}", kind.to_uppercase());
    let address = env::var(&variable).unwrap_or_else(|_unset| format!("127.0.0.1:{usual}"));
    let found = net::TcpStream::connect(&address);
    assert!(found.is_ok(), "no {kind} server at {address}: start one, or name one in {variable} (see CONTRIBUTING.md)");
    address
}

/// A name that nobody else has.
pub(crate) fn unique() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("linxotest{}x{next}x{:x}", std::process::id(), fastrand::u32(..))
}

/// Waits until something holds.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server of a test's own. `arguments` are made of its folder and its port.
pub(crate) async fn own(program: &str, arguments: impl FnOnce(&Path, u16) -> Vec<String>) -> Program {
    let command = |folder: &Path, port| {
        let mut command = Command::new(program);
        command.args(arguments(folder, port));
        command
    };
    Program::start(&env::temp_dir(), command).await.expect("the server is installed (see CONTRIBUTING.md)")
}

/// Files of an authority, a server `localhost` and a client.
pub(crate) struct Pki {
    folder: TempDir,
    server: (rcgen::Certificate, rcgen::KeyPair),
}

impl Pki {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        // Each authority has a name of its own, or one would be taken for another that signed wrongly.
        parameters.distinguished_name.push(rcgen::DnType::CommonName, unique());
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = parameters.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(parameters, key);
        let signed = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            (parameters.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, client) = (signed("localhost"), signed("linxo-webhook"));
        let put = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        put("ca.pem", authority.pem());
        put("server.pem", server.0.pem());
        put("server.key", server.1.serialize_pem());
        put("client.pem", client.0.pem());
        put("client.key", client.1.serialize_pem());
        Self { folder, server }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn tls(&self) -> crate::tls::Tls {
        crate::tls::Tls { authorities: vec![self.path("ca.pem")], certificate: None, key: None }
    }

    /// Shows the certificate `client` or `server`.
    pub(crate) fn tls_with(&self, name: &str) -> crate::tls::Tls {
        let [certificate, key] = ["pem", "key"].map(|end| Some(self.path(&format!("{name}.{end}"))));
        crate::tls::Tls { certificate, key, ..self.tls() }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(self.server.1.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.server.0.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What a proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Passes them on.
    Open,
    /// Takes connections and bytes, and passes nothing on.
    Hung,
}

/// Stands in front of a server.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    way: watch::Sender<Way>,
    under_way: Arc<Mutex<Vec<AbortHandle>>>,
    listening: AbortHandle,
}

impl Proxy {
    pub(crate) async fn new(server: &str) -> Self {
        Self::start(server, None).await
    }

    /// Speaks TLS with the sink.
    pub(crate) async fn tls(server: &str, pki: &Pki) -> Self {
        Self::start(server, Some(pki.acceptor())).await
    }

    async fn start(server: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (way, seen) = watch::channel(Way::Open);
        let under_way = Arc::new(Mutex::new(Vec::new()));
        let (server, all) = (server.to_owned(), Arc::clone(&under_way));
        let listening = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let passing = pass(socket, server.clone(), tls.clone(), seen.clone());
                lock(&all).push(tokio::spawn(passing).abort_handle());
            }
        });
        Self { port, way, under_way, listening: listening.abort_handle() }
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Ends all connections that there are.
    pub(crate) fn cut(&self) {
        lock(&self.under_way).drain(..).for_each(|passing| passing.abort());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn pass(socket: TcpStream, server: String, tls: Option<TlsAcceptor>, mut way: watch::Receiver<Way>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    if let Some(tls) = tls {
        let Ok(mut socket) = tls.accept(socket).await else { return };
        copy_bidirectional(&mut socket, &mut server).await.ok();
        return;
    }
    let (mut from_sink, mut to_sink) = socket.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        tokio::select! {
            read = from_sink.read(&mut up) => match read {
                Ok(count @ 1..) if *way.borrow() == Way::Open => {
                    if to_server.write_all(&up[..count]).await.is_err() { return }
                }
                Ok(1..) => {}
                _ => return,
            },
            read = from_server.read(&mut down) => match read {
                Ok(count @ 1..) => {
                    // What is held back comes late, and is not lost.
                    if way.wait_for(|way| *way == Way::Open).await.is_err() { return }
                    if to_sink.write_all(&down[..count]).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
}

/// What comes of a delivery that fails.
pub(crate) async fn failure(sink: &dyn Sink) -> Failure {
    failure_of(sink, &fixture::whole("e1", b"{}")).await
}

/// What comes of this delivery, which fails.
pub(crate) async fn failure_of(sink: &dyn Sink, delivery: &Delivery) -> Failure {
    match sink.deliver(delivery).await {
        Err(Error::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

pub(crate) const TRANSIENT: FailureKind = FailureKind::Transient { after: None };

pub(crate) const fn refused(status: u16) -> FailureKind {
    FailureKind::Refused { status: Some(status) }
}

/// Connections, and events of each, for tests of crashes: 2,000 events, or as many as `LINXO_WEBHOOK_TEST_EVENTS` says.
pub(crate) fn size() -> (usize, usize) {
    const CONNECTIONS: usize = 200;
    let events = env::var("LINXO_WEBHOOK_TEST_EVENTS").map_or(2_000_usize, |events| events.parse().unwrap());
    (CONNECTIONS, events.div_ceil(CONNECTIONS))
}

/// Delivers so many events of `connections` connections, as the service does: several batches at once, one event of a
/// connection at a time, each again and again until it is taken. `disturb` runs beside it.
pub(crate) async fn deliver_all(
    sink: Arc<dyn Sink>,
    (connections, each): (usize, usize),
    disturb: impl AsyncFnOnce(&AtomicUsize),
) {
    const LANES: usize = 4;
    let taken = Arc::new(AtomicUsize::new(0));
    let last = Arc::new(Mutex::new(None));
    let mut lanes = Vec::new();
    for lane in 0..LANES {
        let (sink, taken, last) = (Arc::clone(&sink), Arc::clone(&taken), Arc::clone(&last));
        lanes.push(tokio::spawn(async move {
            for number in 0..each {
                let own = (lane..connections).step_by(LANES);
                let mut left: Vec<Delivery> = own.map(|connection| event(connection, number)).collect();
                while !left.is_empty() {
                    let results = sink.deliver_many(&left).await;
                    let mut results = results.into_iter();
                    left.retain(|_| match results.next().unwrap() {
                        Ok(()) => false,
                        Err(error) => {
                            *lock(&last) = Some(error);
                            true
                        }
                    });
                    if !left.is_empty() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    taken.store(taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                }
            }
        }));
    }
    disturb(&taken).await;
    for lane in lanes {
        let Ok(ended) = tokio::time::timeout(PATIENCE * 3, lane).await else {
            panic!("not all is delivered after {:?}; the last failure: {:?}", PATIENCE * 3, lock(&last));
        };
        ended.unwrap();
    }
}

fn event(connection: usize, number: usize) -> Delivery {
    let mut delivery = fixture::whole(&format!("{connection}-{number}"), b"{\"balance\":10.50}");
    delivery.attributes.subject = event::ConnectionId::new(format!("{connection}"));
    delivery
}

/// Holds what arrived against what [`deliver_all`] delivered: everything is there, in the order of each connection, and what
/// is there twice has the same id.
pub(crate) fn check_all(arrived: &[String], (connections, each): (usize, usize)) {
    let mut next = vec![0; connections];
    for id in arrived {
        let (connection, number) = id.split_once('-').unwrap();
        let (connection, number): (usize, usize) = (connection.parse().unwrap(), number.parse().unwrap());
        let next = &mut next[connection];
        assert!(number <= *next, "{id} came before {connection}-{next}");
        *next = (*next).max(number + 1);
    }
    assert!(next.iter().all(|next| *next == each), "some never came: {next:?}");
}
