//! `doctor`: everything that can be found out about a set-up, as one report that can be pasted into a ticket.
//!
//! In: the configuration, the machine, the running service if there is one, and the servers that are called. Out: sections of
//! lines, each `ok`, `note`, `warning` or `error`, the last two with a remedy; or the same as JSON. No secret and no bank data is in
//! it; the path secret only with `--reveal`. Nothing is delivered unless `--deliver` says so, and nothing is changed.
//!
//! ```text
//! report     lines, sections, how they look: pure
//! machine    disks, limits, the system's clock
//! chain      the certificate as a caller sees it
//! network    names, and the clocks of the servers
//! support    what the vendor is told and asked
//! ```
//!
//! What `check` finds is found by `check` (`check::find`) and only told here.

mod chain;
mod machine;
mod network;
mod report;
mod support;

use super::{
    Failure, Global,
    check::{self, Findings},
    sink,
};
use crate::{
    config::Config,
    control::{self, Client},
};
use base::clock;
use report::{Level, Report, Section};
use std::io::Write;
use url::Url;

/// Options of `doctor`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The URL that Linxo calls, to compare its host with the certificate and its path with the configuration
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// Make one signed test delivery to each sink too (its type is com.linxo.connections.test)
    #[arg(long)]
    deliver: bool,
    /// Print the path secret as well, for registering the URL
    #[arg(long)]
    reveal: bool,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Looks at everything, and prints the report.
///
/// # Errors
/// 78 for an error that must be mended, 75 where every error may be over later, 70 when the output cannot be written.
pub async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let sections = match global.load() {
        Ok(config) => Box::pin(examine(&config, &args)).await,
        Err(failure) => without_configuration(&failure),
    };
    let report = Report::new(clock::now().to_rfc3339().unwrap_or_default(), sections);
    let mut output = anstream::stdout();
    if args.json {
        let line = serde_json::to_string(&report)
            .map_err(|error| Failure::ours(format_args!("the report cannot be written as JSON: {error}")))?;
        writeln!(output, "{line}")?;
    } else {
        write!(output, "{report}")?;
    }
    output.flush()?;
    verdict(&report)
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let errors = report.count(Level::Error);
    if errors == 0 {
        return Ok(());
    }
    let s = if errors == 1 { "" } else { "s" };
    let told = format!("the report has {errors} error{s}\nhint: each stands with its remedy");
    Err(if report.may_mend() { Failure::not_now(told) } else { Failure::configuration(told) })
}

/// What can be said where the configuration cannot be read.
fn without_configuration(failure: &Failure) -> Vec<Section> {
    let mut configuration = Section::new("Configuration");
    // The first line says how many problems there are.
    let (head, problems) = failure.message.split_once('\n').unwrap_or((&failure.message, ""));
    if problems.is_empty() {
        configuration.error(head, "run `linxo-webhook check`");
    }
    for problem in problems.lines() {
        match problem.trim_start().strip_prefix("hint: ") {
            Some(remedy) => configuration.remedy(remedy),
            None => configuration.told(Level::Error, problem, false),
        }
    }
    configuration.note("everything else is looked at once the configuration can be read");
    vec![program(None), configuration]
}

async fn examine(config: &Config, args: &Args) -> Vec<Section> {
    let service = Client::find(&control::path(&config.inbox)).ok().flatten();
    let held = match &service {
        Some(service) => service.held().await.ok(),
        None => None,
    };
    // Where the port is chosen by the system, nobody knows it here.
    let listens = held.is_some_and(|held| held.addresses.contains(&config.listener.address().to_string()));
    let host = args.url.as_ref().and_then(Url::host_str);
    let found = check::find(config).await;
    let (mut servers, mut names, mut clock) = (Findings::default(), Section::new("Names"), Section::new("Clock"));
    tokio::join!(
        check::online(config, &mut servers),
        async {
            names = network::names(config).await;
        },
        async {
            clock = network::clock(config).await;
        },
    );
    let (mut certificate, facts) = chain::look(config, listens, host).await;
    if let Some(url) = &args.url {
        support::of_url(&mut certificate, config, url);
    }
    vec![
        program(Some(service.is_some())),
        of_findings("Configuration and surroundings", found),
        of_findings("Servers", servers),
        names,
        clock,
        certificate,
        machine::disks(config),
        machine::limits(config),
        deliveries(config, service.as_ref(), args.deliver).await,
        support::told(config, args.url.as_ref(), &facts, args.reveal),
    ]
}

/// What runs here.
fn program(is_running: Option<bool>) -> Section {
    let mut section = Section::new("Program");
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    section.ok(format_args!(
        "linxo-webhook {}, {build} build for {} on {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS
    ));
    match is_running {
        Some(true) => section.ok("a service runs on this inbox"),
        Some(false) => section.note("no service runs on this inbox"),
        None => {}
    }
    section
}

/// What `check` found, told as lines.
fn of_findings(title: &'static str, found: Findings) -> Section {
    let mut section = Section::new(title);
    for fact in found.facts {
        let fact = fact.strip_prefix("online: ").unwrap_or(&fact).to_owned();
        let level = if fact.starts_with("not tried") { Level::Note } else { Level::Ok };
        section.told(level, &fact, false);
    }
    for note in found.notes {
        section.told(Level::Note, &note, false);
    }
    for warning in found.warnings {
        section.warn(warning, "mend it, or live with it knowingly");
    }
    for problem in found.problems {
        section.told(Level::Error, &problem.to_string(), false);
    }
    for (problem, may_mend) in found.troubles {
        section.told(Level::Error, &problem, may_mend);
    }
    if section.lines.is_empty() {
        section.ok("nothing is wrong");
    }
    section
}

/// A test delivery to each sink, where that is asked for: somebody else's system may not know what to do with it.
async fn deliveries(config: &Config, service: Option<&Client>, deliver: bool) -> Section {
    let mut section = Section::new("Test deliveries");
    if !deliver {
        section.note("not made: --deliver makes a signed one to each sink, of the type com.linxo.connections.test");
        return section;
    }
    for settings in &config.sinks {
        let name = settings.name.as_str();
        match sink::try_one(config, service, name).await {
            Ok(tested) if tested.taken => {
                section
                    .ok(format_args!("the sink {name} took the delivery {} in {} ms", tested.id, tested.duration_ms));
            }
            Ok(tested) => section.fail(
                format_args!(
                    "the sink {name} did not take the delivery {}: {}",
                    tested.id,
                    tested.reason.unwrap_or_default()
                ),
                "look at the receiving system; deliveries wait meanwhile",
            ),
            Err(failure) => section.told(Level::Error, &failure.message, true),
        }
    }
    section
}
