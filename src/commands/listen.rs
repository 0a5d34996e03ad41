//! `listen`: for somebody who writes the system that takes deliveries. The whole service in one process, with everything around it
//! made up for the moment, delivering to an application on this machine.
//!
//! In: the URL of the application. Out: on standard output one line for each attempt at a delivery, with what the application
//! answered; on standard error what was set up and what to type in another terminal. The service is the one of `serve`, on
//! loopback, with a throwaway certificate and the vendor double behind it. `send` finds it by itself (`src/commands/throwaway.rs`).
//!
//! Promises: no file has to be written by hand, and none is left behind (`tests/it/listen.rs`). Not here: the events, which
//! `send` posts.

mod lines;
mod secret;

use super::{
    Failure, chain,
    guest::note,
    throwaway::{self, Signals},
};
use crate::{
    app::{self, Running},
    config,
    work::Attempt,
};
use double::{
    Connection, Settings, Simulator, cases,
    pki::{self, Authority, Existing},
};
use std::{fmt::Display, io::Write, path::Path};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// The connections that `send` makes up where no case is named, and the accounts of each.
const CONNECTIONS: u64 = 100;
const ACCOUNTS: usize = 150;

/// Options of `listen`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Nothing has to be configured, and nothing is left behind: certificates, inbox, secrets and the double of the vendor's API are made
up and go with the command. Deliveries are those of `serve`: signed, retried, in order. Only times are shorter where a person
waits: a list of accounts that stays shorter than announced is delivered at once.

The signing secret is the first of these that there is:
  --secret-file FILE                the secret of your own
  WEBHOOK_SECRET                    a variable that holds it
  whsec_bGlueG8td2ViaG9vayBsaXN0ZW4sIG5vdGhpbmcgc2VjcmV0
                                    the same at each start, so that your application keeps its settings. Everybody knows it:
                                    `check` and `serve` warn where it stands in a configuration
Several secrets, separated by white space, make several signatures, as during a change of secret.

Examples:
  linxo-webhook listen --forward-to http://localhost:3000/linxo
and in another terminal:
  linxo-webhook send
  linxo-webhook send --case truncated
  linxo-webhook send --case list")]
pub struct Args {
    /// Where your application takes deliveries: https://, or http:// on this machine
    #[arg(long, value_name = "URL", value_parser = destination)]
    pub forward_to: String,
    /// File with the secret that deliveries are signed with [default: a well-known one, see below]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<std::path::PathBuf>,
}

fn destination(text: &str) -> Result<String, String> {
    match settings::urls::destination(text) {
        Ok(url) => Ok(url.into()),
        Err(flaw) => Err([Some(flaw.reason), flaw.hint].into_iter().flatten().collect::<Vec<_>>().join("; ")),
    }
}

/// Runs until it is told to end.
///
/// # Errors
/// 64 for a secret that cannot be used, 70 when a part failed, 75 when there is no folder to write to or it was ended before it
/// had begun.
pub async fn run(args: Args) -> Result<(), Failure> {
    // Before there is a key: whoever ends it leaves none behind.
    let mut signals = Signals::listen()?;
    let secrets = secret::find(args.secret_file.as_deref())?;
    let folder = throwaway::folder("listen")?;
    let mut stage = signals.unless_told(Box::pin(Stage::set(folder.path(), &args.forward_to, &secrets))).await??;
    stage.explain(&args.forward_to, &secrets);
    let outcome = stage.show(&mut signals).await;
    tokio::select! {
        () = stage.strike() => {}
        // A second signal: what is under way is not waited for.
        () = signals.told() => {}
    }
    folder.close()?;
    outcome
}

/// Everything that runs.
struct Stage<'a> {
    folder: &'a Path,
    simulator: Simulator,
    running: Running,
    attempts: Receiver<Attempt>,
}

impl<'a> Stage<'a> {
    async fn set(folder: &'a Path, url: &str, secrets: &secret::Secrets) -> Result<Self, Failure> {
        let authority = Authority::new("linxo-webhook listen").map_err(failed)?;
        let server = authority.server(&["localhost", "127.0.0.1", "::1"]).map_err(failed)?;
        let write = |name: &str, content: &str| {
            pki::write_file(&folder.join(name), content.as_bytes(), 0o600, Existing::Refuse).map_err(failed)
        };
        write("ca.pem", authority.certificate_pem())?;
        // With its authority, so that whoever trusts this file trusts the receiver.
        write("server.pem", &format!("{}{}", server.certificate_pem, authority.certificate_pem()))?;
        write("server.key", &server.key_pem)?;
        let usual = Settings::default();
        write("client_secret", usual.client_secret.expose())?;
        for (number, secret) in secrets.values.iter().enumerate() {
            write(&format!("secret_{number}"), secret.expose())?;
        }
        let connections =
            cases::connections().chain((0..CONNECTIONS).map(|number| Connection::numbered(number, ACCOUNTS)));
        let connections = connections.chain([Connection::documented()]).collect();
        let simulator = Simulator::start(Settings { identity: Some(server), connections, ..usual }).await?;
        write(throwaway::CONFIGURATION, &configuration(folder, &simulator, url, secrets.values.len()))?;
        let config = config::load(Some(&folder.join(throwaway::CONFIGURATION)), []).map_err(failed)?;
        let running = app::start(config).await.map_err(|error| failed(chain(&error)))?;
        let attempts = running.attempts.watch();
        Ok(Self { folder, simulator, running, attempts })
    }

    /// Says what is there, and what to type.
    fn explain(&self, url: &str, secrets: &secret::Secrets) {
        let program = std::env::args_os().next().unwrap_or_else(|| "linxo-webhook".into());
        let (program, folder) = (program.display(), self.folder.display());
        let port = self.running.address.port();
        note(format_args!(
            "Deliveries go to {url}\nand are signed with {}.\n\
             How to verify and to store them: docs/delivery.md, and in Python, TypeScript and Rust: examples/.\n\
             \nEvents are taken at https://localhost:{port}/webhooks/linxo. Send some in another terminal:\n\
             \n  {program} send                    one event with two accounts\
             \n  {program} send --case truncated   one of the named cases\
             \n  {program} send --case list        which cases there are\n\
             \nLook into it: {program} --config {folder}/{} inbox ls\n\
             Ctrl-C ends it, and nothing is left behind.\n",
            secrets.told,
            throwaway::CONFIGURATION,
        ));
    }

    /// Prints what came of each attempt, until it is told to end or a part fails.
    async fn show(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        say(lines::HEADER)?;
        loop {
            // Each branch is cancel safe.
            tokio::select! {
                () = signals.told() => return Ok(()),
                _ = self.running.ended() => return Err(Failure::ours("a part of the service failed")),
                attempt = self.attempts.recv() => match attempt {
                    Ok(attempt) => say(lines::line(&attempt))?,
                    Err(RecvError::Lagged(missed)) => note(format_args!("{missed} attempts are not shown: they came too fast")),
                    // The service has ended, and the branch above says so.
                    Err(RecvError::Closed) => std::future::pending().await,
                },
            }
        }
    }

    async fn strike(mut self) {
        self.running.drain();
        self.running.ended().await;
        self.simulator.stop().await;
    }
}

/// The file that a user would write.
fn configuration(folder: &Path, simulator: &Simulator, url: &str, secrets: usize) -> String {
    let at = |name: &str| serde_json::Value::from(folder.join(name).display().to_string());
    let secrets: Vec<String> =
        (0..secrets).map(|number| format!("{{ file = {} }}", at(&format!("secret_{number}")))).collect();
    let inbox = serde_json::Value::from(format!("sqlite:{}", folder.join("inbox.db").display()));
    format!(
        r#"[listener]
address = "127.0.0.1:0"
drain_timeout = "1s"
[tls]
certificate = {}
key = {}
[inbox]
url = {inbox}
min_free_disk = "0 B"
[linxo]
api = "{}"
auth = "{}"
client_id = "demo"
client_secret = {{ file = {} }}
authorities = [{}]
settle_for = "0s"
[[sink]]
name = "app"
type = "http"
url = {}
secret = [{}]
[admin]
address = "off"
"#,
        at("server.pem"),
        at("server.key"),
        simulator.api_url(),
        simulator.auth_url(),
        at("client_secret"),
        at("ca.pem"),
        serde_json::Value::from(url),
        secrets.join(", "),
    )
}

fn say(line: impl Display) -> Result<(), Failure> {
    Ok(writeln!(anstream::stdout(), "{line}")?)
}

fn failed(error: impl Display) -> Failure {
    Failure::ours(format_args!("listen cannot go on: {error}"))
}
