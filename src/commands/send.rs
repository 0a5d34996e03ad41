//! `send`: makes events, or takes one from a file, posts them to a receiver, and says how it answered.
//!
//! The counts are of synchronisations: with two channels each makes two events, as with the vendor, and `--repeat` posts
//! each event again under the same id. Progress is drawn on a terminal only; the summary is data, on standard output.

use super::{Failure, Global, chain, simulate::USUAL_ACCOUNTS};
use crate::config::Config;
use base::clock;
use bytes::Bytes;
use double::{
    Connection,
    events::{self, Channel, Plan, VENDOR_CUT},
    load::{self, Load, Summary, Target},
    pki::Identity,
};
use indicatif::{ProgressBar, ProgressStyle};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

/// Accounts of a connection whose events list them.
const FEW_ACCOUNTS: usize = 2;
/// What the receiver makes for itself on its first start, and what is trusted when nothing else is said.
const OWN_CERTIFICATE: &str = "certs/server.pem";

/// Options of `send`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Ends with 0 only if every event was answered 2xx.

Examples:
  linxo-webhook send                                   one event with two accounts
  linxo-webhook send --accounts 250                    one truncated event
  linxo-webhook send --repeat 2                        the same event twice
  linxo-webhook send --count 10000 --concurrency 64    a burst
  linxo-webhook send --file event.json")]
pub struct Args {
    /// Where to post [default: what the configuration says, on this machine]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Synchronisations to tell of
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1)]
    pub count: u64,
    /// Accounts of each connection; above 100 the event lists none, as with the vendor [default: 2, or with --truncated
    /// the 150 that `simulate` has]
    #[arg(long, value_name = "N")]
    pub accounts: Option<usize>,
    /// List no accounts even below 101
    #[arg(long)]
    pub truncated: bool,
    /// Channels of each synchronisation; two make two events
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub channels: u8,
    /// Post each event this often, under one id
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat: u64,
    /// Connections to tell of, in turn
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub connections: u64,
    /// Posts under way at once, each on a socket of its own
    #[arg(long, short = 'c', value_name = "N", default_value_t = 1)]
    pub concurrency: usize,
    /// Posts a second [default: as fast as answers come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Open a new connection for each post
    #[arg(long)]
    pub reconnect: bool,
    /// Post this file as it is, instead of made-up events
    #[arg(long, value_name = "FILE", conflicts_with_all = ["accounts", "truncated", "channels"])]
    pub file: Option<PathBuf>,
    /// Certificates to trust, PEM [default: the receiver's own certificate, tls.certificate]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of the client certificate, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// Posts, waits for every answer, prints the summary.
///
/// # Errors
/// 64 for a URL or a file that cannot be used, 70 when an event was not answered 2xx, 78 when the configuration is needed and
/// cannot be used.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let target = target(&args, global)?;
    let events_each = if args.file.is_some() { 1 } else { u64::from(args.channels) };
    let posts = args.count.saturating_mul(events_each).saturating_mul(args.repeat);
    let bar = progress(posts);
    let drawn = bar.clone();
    let plan = Load { posts, concurrency: args.concurrency, rate: args.rate, reconnect: args.reconnect };
    let make = maker(&args)?;
    let summary = load::load(&target, plan, make, move || drawn.inc(1)).await.map_err(Failure::ours)?;
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    let printed = if args.json { print_json(&summary, &mut out) } else { print_text(&summary, &mut out) };
    verdict(&summary, posts)?;
    printed?;
    say_what_simulate_needs(&args);
    Ok(())
}

/// Whether every event was taken; if not, what to do about it.
fn verdict(summary: &Summary, posts: u64) -> Result<(), Failure> {
    if summary.all_accepted() {
        return Ok(());
    }
    let mut reasons: Vec<String> = summary.failures.keys().cloned().collect();
    let refused = summary.statuses.iter().filter(|(status, _)| !(200..300).contains(*status));
    reasons.extend(refused.map(|(status, count)| format!("{count} answered {status}")));
    let mut message = format!("{} of {posts} events were not answered 2xx", summary.not_accepted());
    if !reasons.is_empty() {
        message = format!("{message}: {}", reasons.join("; "));
    }
    if reasons.iter().any(|reason| reason.contains("cannot connect: Connection refused")) {
        message.push_str("\nhint: nobody takes connections there: start the service, or say with --url where it is");
    }
    if reasons.iter().any(|reason| reason.contains("UnknownIssuer")) {
        message.push_str("\nhint: give the receiver's certificate, or its authority's, with --ca");
    }
    if reasons.iter().any(|reason| reason.contains("CertificateRequired") || reason.contains("AccessDenied")) {
        message.push_str("\nhint: the receiver requires a client certificate: give one with --cert and --key");
    }
    if reasons.iter().any(|reason| reason.contains("NotValidForName")) {
        message.push_str("\nhint: the receiver's certificate is for other names: give --url with one of them");
    }
    for hint in summary.statuses.keys().filter_map(|status| hint(*status)) {
        message.extend(["\nhint: ", hint]);
    }
    Err(Failure::ours(message))
}

/// What to do about a status.
const fn hint(status: u16) -> Option<&'static str> {
    Some(match status {
        400 | 422 => "the receiver says in the answer's body what is wrong with the event; `inbox refused` lists it",
        403 => "sender.networks does not hold the address that this command calls from",
        404 => {
            "the receiver has another path: that of listener.path, and with sender.path_secret the secret behind it; without \
             --url both are taken from the configuration (--config)"
        }
        413 => "the event is larger than listener.max_body",
        429 | 503 => "the receiver cannot take events now: `linxo-webhook health` says why",
        300..400 => "this is no receiver, or something stands before it: events are not redirected",
        _ => return None,
    })
}

/// A truncated event is completed only where the API has as many accounts as it announces.
fn say_what_simulate_needs(args: &Args) {
    let accounts = accounts(args);
    if args.file.is_none() && (args.truncated || accounts > VENDOR_CUT) && accounts != USUAL_ACCOUNTS {
        let note = format!("note: to have these events completed, run `linxo-webhook simulate --accounts {accounts}`");
        // The events are sent, whether somebody reads this or not.
        writeln!(io::stderr(), "{note}").unwrap_or_default();
    }
}

fn accounts(args: &Args) -> usize {
    args.accounts.unwrap_or(if args.truncated { USUAL_ACCOUNTS } else { FEW_ACCOUNTS })
}

fn target(args: &Args, global: &Global) -> Result<Target, Failure> {
    let needs_configuration = args.url.is_none() || args.ca.is_none();
    let config = if needs_configuration { Some(global.load()) } else { None };
    let (url, config) = match (&args.url, config) {
        (Some(url), config) => (url.clone(), config.and_then(Result::ok)),
        (None, Some(config)) => {
            let config = config?;
            (url_of(&config), Some(config))
        }
        (None, None) => return Err(Failure::usage("--url is required")),
    };
    let tls = if url.starts_with("https:") { Some(trust(args, config.as_ref())?) } else { None };
    Target::new(&url, tls).map_err(|error| Failure::usage(format_args!("--url: {}", chain(&error))))
}

/// Where the configured receiver takes events, as this machine reaches it. Never printed: it may end in a secret.
fn url_of(config: &Config) -> String {
    let address = config.listener.address();
    let host = if address.ip().is_unspecified() || address.ip().is_loopback() {
        "localhost".to_owned()
    } else {
        // An IPv6 address stands between brackets there.
        SocketAddr::new(address.ip(), 0).to_string().trim_end_matches(":0").to_owned()
    };
    let secret = config.sender.path_secrets.first().map(|secret| format!("/{}", secret.expose())).unwrap_or_default();
    let path = config.listener.path.trim_end_matches('/');
    format!("https://{host}:{}{path}{secret}", address.port())
}

fn trust(args: &Args, config: Option<&Config>) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let own = config.map_or_else(|| PathBuf::from(OWN_CERTIFICATE), |config| config.tls.certificate.clone());
    let file = match &args.ca {
        Some(file) => file.as_path(),
        None if own.exists() => &own,
        None => {
            return Err(Failure::usage(format_args!(
                "there is no {} to trust\nhint: give the receiver's certificate, or its authority's, with --ca",
                own.display()
            )));
        }
    };
    let unusable = |error: &dyn std::fmt::Display| Failure::usage(format_args!("{}: {error}", file.display()));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unusable(&error))? {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"no certificate in it"));
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Failure::ours)?
        .with_root_certificates(roots);
    let config = match (&args.cert, &args.key) {
        (Some(certificate), Some(key)) => {
            let identity = Identity::read(certificate, key).map_err(|error| Failure::usage(chain(&error)))?;
            let certificates = identity.certificates().map_err(|error| Failure::usage(chain(&error)))?;
            let private = identity.key().map_err(|error| Failure::usage(chain(&error)))?;
            builder.with_client_auth_cert(certificates, private).map_err(|error| {
                Failure::usage(format_args!("{} and {}: {error}", certificate.display(), key.display()))
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

type Maker = Box<dyn Fn(u64) -> Bytes + Send + Sync>;

fn maker(args: &Args) -> Result<Maker, Failure> {
    if let Some(file) = &args.file {
        let content = std::fs::read(file)
            .map_err(|error| Failure::usage(format_args!("cannot read {}: {error}", file.display())))?;
        let content = Bytes::from(content);
        return Ok(Box::new(move |_| content.clone()));
    }
    // Distinct in every run, so that the receiver does not take a second run for repeats of the first.
    let run = format!("{:x}-{:08x}", clock::now().as_millis(), fastrand::u32(..));
    let accounts = accounts(args);
    let Args { truncated, channels, repeat, connections, .. } = *args;
    Ok(Box::new(move |post| {
        let number = post / repeat;
        let synchronisation = number / u64::from(channels);
        let connection = Connection::numbered(synchronisation % connections, accounts);
        let first_of_two = channels == 2 && number % 2 == 0;
        let plan = Plan::new(format!("{run}-{number}"), connection);
        let plan = Plan {
            truncated: truncated || plan.truncated,
            channel: if first_of_two { Channel::FirstOfTwo } else { Channel::Last },
            ..plan
        };
        events::event(&plan).into()
    }))
}

/// Draws nothing where standard error is not a terminal, or where there is nothing to wait for.
fn progress(posts: u64) -> ProgressBar {
    if posts < 2 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} events, {per_sec}, {eta} left");
    ProgressBar::new(posts).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

fn print_text(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "events    {}", summary.answered() + summary.failures.values().sum::<u64>())?;
    for (status, count) in &summary.statuses {
        writeln!(out, "status    {status}: {count}")?;
    }
    for (reason, count) in &summary.failures {
        writeln!(out, "failed    {count}: {reason}")?;
    }
    writeln!(out, "rate      {} answers/s in {} ms", summary.rate(), summary.elapsed.as_millis())?;
    if !summary.latency.is_empty() {
        let parts = QUANTILES.map(|(name, share)| format!("{name} {} ms", milliseconds(summary.quantile(share))));
        writeln!(out, "latency   {}", parts.join(", "))?;
    }
    Ok(())
}

fn print_json(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let latency: serde_json::Map<_, _> =
        QUANTILES.iter().map(|(name, share)| ((*name).to_owned(), summary.quantile(*share).into())).collect();
    let json = serde_json::json!({
        "events": summary.answered() + summary.failures.values().sum::<u64>(),
        "statuses": summary.statuses,
        "failures": summary.failures,
        "elapsed_ms": u64::try_from(summary.elapsed.as_millis()).unwrap_or(u64::MAX),
        "answers_per_second": summary.rate(),
        "latency_us": latency,
    });
    writeln!(out, "{json}")
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use double::{Endpoint, Fault, Rule, Script, Settings, Simulator, pki::Authority};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &[&str]) -> Args {
        Line::try_parse_from([&["send"], line].concat()).unwrap().args
    }

    fn ids(args: &Args, posts: u64) -> Vec<(String, String, String)> {
        let make = maker(args).unwrap();
        let event = |post| serde_json::from_slice::<serde_json::Value>(&make(post)).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (0..posts)
            .map(event)
            .map(|event| (text(&event["id"]), text(&event["resource"]["id"]), text(&event["resource"]["status"])))
            .collect()
    }

    #[test]
    fn channels_and_repeats_share_what_they_should() {
        let events = ids(&args(&["--channels", "2", "--repeat", "2", "--connections", "2"]), 12);
        let distinct: std::collections::BTreeSet<_> = events.iter().map(|(id, ..)| id).collect();
        assert_eq!(distinct.len(), 6);
        assert_eq!(events[0], events[1]);
        let statuses: Vec<&str> = events.iter().map(|(.., status)| status.as_str()).collect();
        assert_eq!(statuses[..4], ["RUNNING", "RUNNING", "SUCCESS", "SUCCESS"]);
        let connections: Vec<&str> = events.iter().map(|(_, connection, _)| connection.as_str()).collect();
        assert_eq!([connections[0], connections[4], connections[8]], ["700000", "700001", "700000"]);
    }

    #[tokio::test]
    async fn fails_unless_every_answer_is_2xx() {
        let authority = Authority::new("test").unwrap();
        let identity = authority.server(&["localhost"]).unwrap();
        let receiver = Simulator::start(Settings { identity: Some(identity), ..Settings::default() }).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.certificate_pem()).unwrap();
        let args = args(&["--url", &receiver.auth_url(), "--ca", ca.to_str().unwrap(), "--count", "3"]);
        receiver.script(Script::of([Rule::always(Endpoint::Any, Fault::NoContent)]));
        run(args.clone(), &Global::default()).await.unwrap();
        receiver.script(Script::of([Rule::first(1, Endpoint::Any, Fault::NoContent)]));
        let failure = run(args.clone(), &Global::default()).await.unwrap_err();
        let start = "2 of 3 events were not answered 2xx: 2 answered 404\nhint: the receiver has another path";
        assert!(failure.code == 70 && failure.message.starts_with(start), "{failure:?}");
        std::fs::write(&ca, Authority::new("other").unwrap().certificate_pem()).unwrap();
        let failure = run(args, &Global::default()).await.unwrap_err();
        assert!(failure.message.contains("hint: "), "{}", failure.message);
    }

    #[test]
    fn trust_must_come_from_somewhere() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        assert_eq!(
            target(&args(&["--url", "https://localhost", "--ca", empty.to_str().unwrap()]), &Global::default())
                .unwrap_err()
                .code,
            64
        );
        assert_eq!(target(&args(&["--url", "ftp://localhost"]), &Global::default()).unwrap_err().code, 64);
    }
}
