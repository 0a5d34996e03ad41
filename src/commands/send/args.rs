//! What `send` is told.

use clap::builder::{PossibleValue, PossibleValuesParser};
use double::cases::{CASES, Case};
use std::{path::PathBuf, time::Duration};

/// `--case`: each case, one after the other.
const ALL: &str = "all";
/// `--case`: none; they are listed.
pub(super) const LIST: &str = "list";

/// Options of `send`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Ends with 0 only if every event was answered 2xx.

Without --url and --config the events go to the `listen` of this user that is under way, else to what the usual configuration
says. Where the receiver is a service on this machine, what became of the events is looked up in its inbox: of the first 20
posts at most, and of all posts of a case.

Examples:
  linxo-webhook send                                   one event with two accounts
  linxo-webhook send --case truncated                  a named case
  linxo-webhook send --case all                        each of them
  linxo-webhook send --accounts 250                    one truncated event
  linxo-webhook send --repeat 2                        the same event twice
  linxo-webhook send --count 10000 --concurrency 64    a burst
  linxo-webhook send --file event.json")]
pub struct Args {
    /// Where to post [default: what the configuration says, on this machine]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Post a named case, and say what a consumer learns from it; `list` shows all of them, `all` posts each
    #[arg(
        long,
        value_name = "NAME",
        value_parser = names(),
        hide_possible_values = true,
        conflicts_with_all = ["file", "count", "accounts", "truncated", "channels", "repeat", "connections", "concurrency", "rate"]
    )]
    pub case: Option<String>,
    /// How long to wait for what becomes of the events
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub wait: Duration,
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
    /// Print all of it as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The names of the cases, with what each teaches, for `--help`.
fn names() -> PossibleValuesParser {
    let cases = CASES.iter().map(|case| PossibleValue::new(case.name).help(case.lesson));
    let all = PossibleValue::new(ALL).help("each of them, one after the other");
    PossibleValuesParser::new(cases.chain([all, PossibleValue::new(LIST).help("none: print this list")]))
}

/// The cases of this name; `all` has every one.
pub(super) fn cases(name: &str) -> Vec<&'static Case> {
    if name == ALL { CASES.iter().collect() } else { Case::named(name).into_iter().collect() }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration =
        text.parse().map_err(|error| format!("expected a duration such as 500ms or 5s: {error}"))?;
    Duration::try_from(parsed).map_err(|error| format!("expected a duration such as 500ms or 5s: {error}"))
}
