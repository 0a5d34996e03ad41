//! `demo`: the whole flow in one process, over real sockets, for somebody who sees it for the first time.
//!
//! A throwaway PKI, the vendor double, a sink of ten lines and the true service (`app`), configured by a file as users write
//! it. Posts the vendor's two documented events and a repeat with a client certificate, and one without, says in plain words
//! what happens, and ends with 0 only if everything it expected happened.

use super::{
    Failure, chain,
    throwaway::{Signals, folder},
};
use crate::{
    app::{self, Running},
    config,
};
use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use base::secret::Secret;
use double::{
    Connection, Settings, Simulator,
    events::{self, DOCUMENTED_TRUNCATED, DOCUMENTED_WHOLE, Plan},
    pki::{self, Authority, Identity},
};
use event::{self, EventId};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashSet},
    fmt::Display,
    io::Write,
    net::SocketAddr,
    path::Path,
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use zeroize::Zeroizing;

/// Longest wait for a delivery; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// Signs the demo's deliveries; worth nothing outside of it.
const SINK_SECRET: &str = "whsec_ZGVtby1vbmx5LWRlbW8tb25seS1kZW1vLW9ubHk=";
const CLIENT_SECRET: &str = "demo-secret";
const ACCOUNTS: usize = 102;

/// Options of `demo`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Stay up afterwards and say what to try
    #[arg(long)]
    pub keep: bool,
    /// Print what your system was given whole, not its beginning
    #[arg(long)]
    pub full: bool,
}

/// Shows the service at work.
///
/// # Errors
/// 70 when something did not happen as it should, 75 when there is no folder to write to or it was ended before it was over.
pub async fn run(args: Args) -> Result<(), Failure> {
    // Before there is a key: whoever ends the demo leaves none behind.
    let mut signals = Signals::listen()?;
    let folder = folder("demo")?;
    let stage = signals.unless_told(Box::pin(Stage::set(folder.path()))).await??;
    let mut outcome = signals.unless_told(Box::pin(stage.play(&args))).await.and_then(|played| played);
    if outcome.is_ok() && args.keep {
        outcome = stage.explain().await;
        if outcome.is_ok() {
            signals.told().await;
        }
    }
    stage.strike().await;
    folder.close()?;
    outcome
}

/// Everything that stands around the service.
struct Stage<'a> {
    folder: &'a Path,
    simulator: Simulator,
    running: tokio::sync::Mutex<Running>,
    address: SocketAddr,
    deliveries: tokio::sync::Mutex<mpsc::Receiver<Received>>,
    client: Identity,
    authority: String,
}

/// What the demo's sink got.
struct Received {
    headers: BTreeMap<String, String>,
    body: Bytes,
}

impl<'a> Stage<'a> {
    async fn set(folder: &'a Path) -> Result<Self, Failure> {
        say("1. Throwaway certificates: an authority, a server certificate for localhost, a client certificate.")?;
        let authority = Authority::new("linxo-webhook demo").map_err(failed)?;
        let server = authority.server(&["localhost", "127.0.0.1"]).map_err(failed)?;
        let client = authority.client("linxo.example", &["linxo.example"]).map_err(failed)?;
        let file = |name: &str, content: &str| {
            pki::write_file(&folder.join(name), content.as_bytes(), 0o600, pki::Existing::Refuse).map_err(failed)
        };
        file("ca.pem", authority.certificate_pem())?;
        pki::write_identity(&folder.join("server.pem"), &folder.join("server.key"), &server).map_err(failed)?;
        pki::write_identity(&folder.join("client.pem"), &folder.join("client.key"), &client).map_err(failed)?;
        file("client_secret", CLIENT_SECRET)?;
        file("sink_secret", SINK_SECRET)?;
        file("admin_token", &token()?)?;

        let simulator = Simulator::start(Settings { identity: Some(server), ..Settings::default() }).await?;
        say(format_args!(
            "2. A double of the vendor's API at {} (102 accounts, at most 100 a page).",
            simulator.api_url()
        ))?;
        let (sink, deliveries) = receiver().await?;
        say(format_args!("3. Your system, played by ten lines of code, at {sink}."))?;
        file("linxo-webhook.toml", &configuration(folder, &simulator, &sink))?;
        let config = config::load(Some(&folder.join("linxo-webhook.toml")), []).map_err(failed)?;
        let running = app::start(config).await.map_err(|error| failed(chain(&error)))?;
        say(format_args!("4. The service at https://localhost:{}, mutual TLS required.\n", running.address.port()))?;
        Ok(Self {
            folder,
            simulator,
            address: running.address,
            running: tokio::sync::Mutex::new(running),
            deliveries: tokio::sync::Mutex::new(deliveries),
            client,
            authority: authority.certificate_pem().to_owned(),
        })
    }

    async fn play(&self, args: &Args) -> Result<(), Failure> {
        self.refuse_strangers().await?;
        say("\nThe vendor's two documented events share the id abc123456, though they are different events:")?;
        self.post("the one with its two accounts", DOCUMENTED_WHOLE, "accepted").await?;
        self.post("the one that says 102 accounts and lists none", DOCUMENTED_TRUNCATED, "accepted").await?;
        self.post("the first one once more", DOCUMENTED_WHOLE, "duplicate").await?;

        say("\nWhat your system was given, in order:")?;
        let mut ids = HashSet::new();
        for (accounts, completion) in [(2, "event"), (ACCOUNTS, "api")] {
            let received = self.next_delivery().await?;
            ids.insert(check(&received, accounts, completion)?);
            show(&received.body, args.full)?;
        }
        expect(ids.len() == 2, "both events were delivered, under ids of their own")?;
        let pages = self.simulator.counters();
        say(format_args!(
            "\nThe double answered {} requests: {} for a token, the rest for pages of accounts.",
            pages.requests, pages.tokens
        ))?;
        expect(pages.tokens == 1, "one token was enough")?;
        let left = self.deliveries.lock().await.try_recv().is_err();
        expect(left, "the repeat was not delivered again")?;
        say("\nEverything happened as it should.")
    }

    async fn refuse_strangers(&self) -> Result<(), Failure> {
        let stranger = self.browser(None)?;
        let answer = stranger.post(self.url()).body(DOCUMENTED_WHOLE).send().await;
        expect(answer.is_err(), "a caller without a client certificate is refused in the handshake")
    }

    async fn post(&self, what: &str, event: &'static [u8], expected: &str) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Answer {
            status: String,
            id: String,
        }
        let posted = self.browser(Some(&self.client))?.post(self.url()).body(event).send().await;
        let answer = posted.map_err(|error| failed(chain(&error)))?;
        let status = answer.status();
        let answer: Answer = answer.json().await.map_err(|error| failed(chain(&error)))?;
        say(format_args!(
            "  POST {what}\n    -> {status} {{\"status\":\"{}\",\"id\":\"{}\"}}",
            answer.status,
            EventId::new(answer.id)
        ))?;
        expect(status.is_success() && answer.status == expected, format_args!("answered as {expected}"))
    }

    async fn next_delivery(&self) -> Result<Received, Failure> {
        match timeout(PATIENCE, self.deliveries.lock().await.recv()).await {
            Ok(Some(received)) => Ok(received),
            _ => Err(Failure::ours("a delivery that should have come did not come")),
        }
    }

    fn browser(&self, identity: Option<&Identity>) -> Result<reqwest::Client, Failure> {
        let root = reqwest::Certificate::from_pem(self.authority.as_bytes()).map_err(failed)?;
        let mut builder = reqwest::Client::builder().tls_certs_only([root]).timeout(PATIENCE).no_proxy();
        if let Some(identity) = identity {
            let pem = Zeroizing::new(format!("{}{}", identity.certificate_pem, identity.key_pem.as_str()));
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).map_err(failed)?);
        }
        builder.build().map_err(failed)
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/webhooks/linxo", self.address.port())
    }

    /// What to try while everything stays up.
    async fn explain(&self) -> Result<(), Failure> {
        let event = events::event(&Plan::new("by-hand-1", Connection::numbered(0, 2)));
        std::fs::write(self.folder.join("event.json"), event)?;
        let folder = self.folder.display();
        let url = self.url();
        let admin = self.running.lock().await.admin.map(|address| format!("http://{address}")).unwrap_or_default();
        say(format_args!(
            "\nStill up; end it with Ctrl-C or SIGTERM, and its folder goes. To try, in another terminal:\n\
             \n  curl --cacert {folder}/ca.pem --cert {folder}/client.pem --key {folder}/client.key --json @{folder}/event.json {url}\
             \n  linxo-webhook send --url {url} --ca {folder}/ca.pem --cert {folder}/client.pem --key {folder}/client.key --accounts 3\
             \n  linxo-webhook --config {folder}/linxo-webhook.toml inbox ls\
             \n  curl {admin}/readyz\
             \n  the page: {admin}/, where the token in {folder}/admin_token logs you in"
        ))
    }

    async fn strike(self) {
        let mut running = self.running.into_inner();
        running.drain();
        running.ended().await;
        self.simulator.stop().await;
    }
}

/// Says what a delivery is, and checks it; returns its id.
fn check(received: &Received, accounts: usize, completion: &str) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Event {
        resource: Resource,
    }
    #[derive(Deserialize)]
    struct Resource {
        account_count: usize,
        accounts: Vec<Account>,
    }
    #[derive(Deserialize)]
    struct Account {
        id: String,
        balance: Box<serde_json::value::RawValue>,
    }
    let header = |name: &str| received.headers.get(name).map(String::as_str).unwrap_or_default();
    let event: Event = serde_json::from_slice(&received.body).map_err(failed)?;
    let list = &event.resource.accounts;
    let shown: Vec<String> = list.iter().take(2).map(|account| format!("{} {}", account.id, account.balance)).collect();
    let origin = if completion == "api" { "fetched from the API" } else { "as the event listed them" };
    say(format_args!(
        "  delivery {} of connection {} (user {}): {} accounts, {origin}",
        header("ce-id"),
        header("ce-subject"),
        header("ce-linxouser"),
        header("ce-linxoaccounts"),
    ))?;
    say(format_args!("    account and balance: {}{}", shown.join(", "), if list.len() > 2 { ", ..." } else { "" }))?;
    let distinct: HashSet<&str> = list.iter().map(|account| account.id.as_str()).collect();
    expect(
        distinct.len() == accounts && event.resource.account_count == accounts,
        format_args!("all {accounts} accounts are there, each once"),
    )?;
    expect(
        header("ce-linxocompletion") == completion && header("ce-linxomismatch").is_empty(),
        "the attributes say so",
    )?;
    let secret = Secret::new(SINK_SECRET.to_owned());
    let signature = delivery::sign(&secret, header("webhook-id"), header("webhook-timestamp"), &received.body);
    expect(signature.as_deref() == Some(header("webhook-signature")), "the signature is good")?;
    Ok(header("ce-id").to_owned())
}

/// Prints the delivered JSON, on one line.
fn show(body: &[u8], full: bool) -> Result<(), Failure> {
    const BEGINNING: usize = 160;
    let json = String::from_utf8_lossy(&event::compact(body)).into_owned();
    if full || json.len() <= BEGINNING {
        return say(format_args!("    {json}"));
    }
    let beginning: String = json.chars().take(BEGINNING).collect();
    say(format_args!("    {beginning}... ({} bytes; all of it with --full)", json.len()))
}

/// A receiver of deliveries on a free port; returns its URL.
async fn receiver() -> Result<(String, mpsc::Receiver<Received>), Failure> {
    async fn take(State(deliveries): State<mpsc::Sender<Received>>, headers: HeaderMap, body: Bytes) {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
            .collect();
        // Nobody listens any more when the demo ends.
        drop(deliveries.send(Received { headers, body }).await);
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/linxo", listener.local_addr()?);
    let (sender, receiver) = mpsc::channel(64);
    let router = Router::new().route("/linxo", post(take)).with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((url, receiver))
}

/// The file that a user would write.
fn configuration(folder: &Path, simulator: &Simulator, sink: &str) -> String {
    let folder = folder.display();
    format!(
        r#"[listener]
address = "127.0.0.1:0"
[tls]
certificate = "{folder}/server.pem"
key = "{folder}/server.key"
[tls.clients]
mode = "required"
authorities = ["{folder}/ca.pem"]
[inbox]
url = "sqlite:{folder}/inbox.db"
[linxo]
api = "{}"
auth = "{}"
client_id = "demo"
client_secret = {{ file = "{folder}/client_secret" }}
authorities = ["{folder}/ca.pem"]
[[sink]]
name = "app"
type = "http"
url = "{sink}"
secret = {{ file = "{folder}/sink_secret" }}
[admin]
address = "127.0.0.1:0"
[[admin.token]]
name = "demo"
may = "act"
secret = {{ file = "{folder}/admin_token" }}
"#,
        simulator.api_url(),
        simulator.auth_url(),
    )
}

/// A token of the admin listener that nobody can guess.
fn token() -> Result<String, Failure> {
    let mut bytes = [0; 24];
    let filled = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|_error| Failure::ours("the system gives no randomness for a token"))?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

fn say(text: impl Display) -> Result<(), Failure> {
    Ok(writeln!(anstream::stdout(), "{text}")?)
}

/// Ticks off something that must be so, or fails.
fn expect(so: bool, what: impl Display) -> Result<(), Failure> {
    if so {
        say(format_args!("    \x1b[32mok\x1b[0m {what}"))
    } else {
        Err(Failure::ours(format_args!("not so: {what}")))
    }
}

fn failed(error: impl Display) -> Failure {
    Failure::ours(format_args!("the demo cannot go on: {error}"))
}
