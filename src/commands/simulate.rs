//! `simulate`: the vendor double as a server of its own, until it is interrupted.
//!
//! Standard output gets one JSON line for each request that the double answered; standard error says where it listens
//! and what to put into `[linxo]` to use it.

use super::{Failure, Global, chain};
use base::secret::Secret;
use clap::ValueEnum;
use double::{
    ApiVersion, Connection, Script, Settings, Simulator, TokenBody, User, cases,
    pki::{self, Authority, Existing, Identity},
};
use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::broadcast::error::RecvError,
};

/// Accounts of a connection where nothing else is said; `send --truncated` announces as many.
pub(super) const USUAL_ACCOUNTS: usize = 150;

/// Options of `simulate`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
A script is a TOML or JSON file with rules. Each rule that matches a call plays its fault on it:

  seed = 7
  [[rule]]
  on = \"accounts\"         # any | token | accounts | connection | connections
  page = 2                # also: connection = \"700001\", user = \"300001\"
  call = 1                # only the n-th matching call
  times = 3               # at most this often
  percent = 50            # how likely
  fault = { kind = \"status\", status = 429, retry_after = \"1\" }
  [random]                # besides, faults drawn by lot from `faults`, or from a built-in list
  percent = 10

Faults: status (status, retry_after, html), unauthorized, expire_tokens, terms_required, unknown_connection,
no_content, html, body (body), delay (ms), stall_head (ms), stall_body (ms), drip (bytes, every_ms), cut (after),
reset, truncate, endless, gzip_bomb (bytes), huge (bytes), redirect (to = same | other | loop, location),
repeat_page, ignore_limit (size), ignore_filter, integer_ids, wrong_type (content_type), change (insert, remove),
expires_in (value). A retry_after of `date:5` becomes the HTTP date five seconds ahead.

Connection 123 of user 321 always has the 102 accounts of the vendor's documented event. The connections of `send --case`
are there as well.")]
pub struct Args {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9443")]
    pub address: SocketAddr,
    /// Wire version of the API
    #[arg(long, value_enum, default_value_t = Version::V2_1)]
    pub api_version: Version,
    /// Connections: 700000 of user 300000, 700001 of user 300001, and so on
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub connections: u64,
    /// Accounts of each connection; give `send` the same number where it sends truncated events
    #[arg(long, value_name = "N", default_value_t = USUAL_ACCOUNTS)]
    pub accounts: usize,
    /// Largest page, whatever `limit` asks for
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub page_cap: usize,
    /// Before every answer, such as 50ms
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = duration)]
    pub latency: Duration,
    /// Name of the connection filter; any other is ignored
    #[arg(long, value_name = "NAME", default_value = "connection_id")]
    pub connection_parameter: String,
    /// The client id that gets tokens
    #[arg(long, value_name = "ID", default_value = "demo")]
    pub client_id: String,
    /// Its secret; made up for this double, so it may stand on a command line
    #[arg(long, value_name = "SECRET", default_value = "demo-secret")]
    pub client_secret: String,
    /// Accept only this encoding of token requests
    #[arg(long, value_enum)]
    pub token_body: Option<Encoding>,
    /// Life of a token, such as 60s
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub token_lifetime: Duration,
    /// Users of the password grant: a file with a line `user_id,username,password` for each
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,
    /// What goes wrong, see below
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Besides: this share of the calls meets a random fault
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub random: Option<u8>,
    /// Repeats the random faults of another run
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Serve plain HTTP
    #[arg(long, conflicts_with_all = ["cert", "key"])]
    pub plain: bool,
    /// Certificate for localhost, PEM [default: a throwaway one]
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Where to write the authority of the throwaway certificate
    #[arg(long, value_name = "FILE", default_value = "certs/simulator.pem")]
    pub authority: PathBuf,
}

/// `--api-version`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Version {
    /// Bare arrays, user by header
    #[value(name = "v2.1")]
    V2_1,
    /// Wrapped lists, user by query
    #[value(name = "v3")]
    V3,
}

/// `--token-body`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// A JSON object
    Json,
    /// A form
    Form,
    /// A form, credentials in the Authorization header
    Basic,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// 64 for files that cannot be used, 75 when the address cannot be bound, 70 when standard output cannot be written.
pub async fn run(args: Args, _global: &Global) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::ours)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::ours)?;
    let settings = settings(&args)?;
    let simulator = Simulator::start(settings).await.map_err(|error| {
        let hint = "choose another address with --address, or stop what uses this one";
        Failure::not_now(format_args!("cannot serve on {}: {error}\nhint: {hint}", args.address))
    })?;
    let mut requests = simulator.follow();
    explain(&args, &simulator, &mut io::stderr().lock())?;
    loop {
        // Every branch is cancel safe: a signal, or one line that is written whole.
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            request = requests.recv() => match request {
                Ok(request) => {
                    let line = serde_json::to_string(&request).map_err(Failure::ours)?;
                    writeln!(io::stdout().lock(), "{line}")?;
                }
                Err(RecvError::Lagged(missed)) => writeln!(io::stderr().lock(), "{missed} requests not printed")?,
                Err(RecvError::Closed) => break,
            },
        }
    }
    let counters = simulator.counters();
    simulator.stop().await;
    writeln!(io::stderr().lock(), "{} requests, {} with faults", counters.requests, counters.faulted)?;
    Ok(())
}

fn settings(args: &Args) -> Result<Settings, Failure> {
    let connections = std::iter::once(Connection::documented())
        .chain(cases::connections())
        .chain((0..args.connections).map(|number| Connection::numbered(number, args.accounts)))
        .collect();
    Ok(Settings {
        address: args.address,
        identity: identity(args)?,
        version: match args.api_version {
            Version::V2_1 => ApiVersion::V2_1,
            Version::V3 => ApiVersion::V3,
        },
        client_id: args.client_id.clone(),
        client_secret: Secret::new(args.client_secret.clone()),
        token_body: args.token_body.map(|encoding| match encoding {
            Encoding::Json => TokenBody::Json,
            Encoding::Form => TokenBody::Form,
            Encoding::Basic => TokenBody::Basic,
        }),
        token_lifetime: args.token_lifetime,
        users: args.users.as_deref().map(users).transpose()?.unwrap_or_default(),
        connections,
        connection_parameter: args.connection_parameter.clone(),
        page_cap: args.page_cap,
        latency: args.latency,
        script: script(args)?,
        // They are printed as they come.
        journal: 1,
        ..Settings::default()
    })
}

fn identity(args: &Args) -> Result<Option<Identity>, Failure> {
    if args.plain {
        return Ok(None);
    }
    if let (Some(certificate), Some(key)) = (&args.cert, &args.key) {
        return Identity::read(certificate, key).map(Some).map_err(|error| Failure::usage(chain(&error)));
    }
    let make = || {
        let authority = Authority::new("linxo-webhook vendor double")?;
        pki::write_file(&args.authority, authority.certificate_pem().as_bytes(), 0o644, Existing::Replace)?;
        authority.server(&["localhost", "127.0.0.1", "::1"])
    };
    make().map(Some).map_err(|error: pki::Error| Failure::from_error(&error))
}

fn users(file: &Path) -> Result<Vec<User>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format_args!("cannot read {}: {error}", file.display())))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .filter(|(_, line)| !line.starts_with("user_id,"))
        .map(|(number, line)| {
            let mut parts = line.splitn(3, ',').map(str::to_owned);
            match (parts.next(), parts.next(), parts.next()) {
                (Some(id), Some(username), Some(password)) => {
                    Ok(User { id, username, password: Secret::new(password) })
                }
                _ => Err(Failure::usage(format_args!(
                    "{} line {}: expected user_id,username,password",
                    file.display(),
                    number.saturating_add(1)
                ))),
            }
        })
        .collect()
}

fn script(args: &Args) -> Result<Script, Failure> {
    let mut script = match &args.script {
        None => Script::default(),
        Some(file) => {
            Script::read(file).map_err(|error| Failure::usage(format_args!("{}: {}", file.display(), chain(&error))))?
        }
    };
    if let Some(seed) = args.seed {
        script.seed = seed;
    }
    if let Some(percent) = args.random {
        script.random = Script::random(script.seed, percent).random;
    }
    Ok(script)
}

fn explain(args: &Args, simulator: &Simulator, out: &mut impl Write) -> io::Result<()> {
    let version = match args.api_version {
        Version::V2_1 => "v2.1",
        Version::V3 => "v3",
    };
    let token_body = match args.token_body {
        Some(Encoding::Form) => "form",
        Some(Encoding::Basic) => "basic",
        _ => "json",
    };
    writeln!(
        out,
        "\
vendor double listening on {}; connections 123 and 700000 to {}

LINXO_CLIENT_SECRET={}

[linxo]
api = \"{}\"
auth = \"{}\"
version = \"{version}\"
client_id = \"{}\"
client_secret = {{ env = \"LINXO_CLIENT_SECRET\" }}
token_body = \"{token_body}\"
connection_parameter = \"{}\"",
        simulator.address(),
        699_999_u64.saturating_add(args.connections.max(1)),
        args.client_secret,
        simulator.api_url(),
        simulator.auth_url(),
        args.client_id,
        args.connection_parameter,
    )?;
    if !args.plain {
        let authority = args.cert.as_ref().unwrap_or(&args.authority);
        writeln!(out, "authorities = [\"{}\"]", authority.display())?;
    }
    writeln!(out)
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration =
        text.parse().map_err(|error| format!("expected a duration such as 50ms or 2s: {error}"))?;
    Duration::try_from(parsed).map_err(|error| format!("expected a duration such as 50ms or 2s: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &[&str]) -> Args {
        Line::try_parse_from([&["simulate"], line].concat()).unwrap().args
    }

    #[tokio::test]
    async fn prints_a_section_that_fits_what_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("ca.pem");
        let args = args(&["--address", "127.0.0.1:0", "--authority", authority.to_str().unwrap(), "--random", "5"]);
        let simulator = Simulator::start(settings(&args).unwrap()).await.unwrap();
        let mut printed = Vec::new();
        explain(&args, &simulator, &mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let section = printed.split_once("[linxo]").unwrap().1;
        let parsed = ::config::Config::builder()
            .add_source(::config::File::from_str(&format!("[linxo]{section}"), ::config::FileFormat::Toml))
            .build()
            .unwrap();
        assert_eq!(parsed.get_string("linxo.api").unwrap(), simulator.api_url());
        assert_eq!(parsed.get_array("linxo.authorities").unwrap().len(), 1);
        assert!(std::fs::read_to_string(authority).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn unusable_files_are_usage_errors() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let path = file.to_str().unwrap();
        assert_eq!(script(&args(&["--script", path])).unwrap_err().code, 64);
        std::fs::write(&file, "user_id,username,password\n1,a@example.org,x,y\n2\n").unwrap();
        assert!(users(&file).unwrap_err().message.contains("line 3"));
        std::fs::write(&file, "1,a@example.org,x,y\n").unwrap();
        assert_eq!(users(&file).unwrap()[0].password.expose(), "x,y");
        assert_eq!(identity(&args(&["--cert", path, "--key", path])).unwrap_err().code, 64);
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(duration("1h"), Ok(Duration::from_hours(1)));
        duration("50").unwrap_err();
        duration("-1s").unwrap_err();
    }
}
