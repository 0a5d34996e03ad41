//! `sink`: looks at the sinks, tries one out, gets one ready, pauses it: `ls`, `test`, `init`, `pause`, `resume`.
//!
//! Asks the running service through its control socket. Where none runs, `ls` shows what the inbox holds, `pause` and `resume`
//! are kept for the next start, and `test` opens the sink by itself.

use super::{
    Failure, Global,
    acts::{Unnoted, noted},
    chain,
    guest::{failure, note, open, unreachable},
    remote::{Remote, Service},
    table,
};
use crate::{
    app,
    config::Config,
    control::{self, Client, SinkReport, Tested},
};
use base::text::printable;
use clap::{Args as ClapArgs, Subcommand};
use delivery::Slot;
use inbox::{Inbox, SinkName};
use std::io::{self, Write};

/// Options of `sink`.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Show each sink: how it stands and since when, and what waits for it
    Ls {
        /// Print NDJSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Make a test delivery, signed as real ones are; its type is com.linxo.connections.test
    Test {
        /// The sink's configured name
        name: String,
    },
    /// Make what a sink needs before its first delivery: the tables of one on PostgreSQL. What is there stays as it is
    Init {
        /// The sink's configured name
        name: String,
        /// Change nothing; print the statements, for whoever runs them by hand
        #[arg(long)]
        print: bool,
    },
    /// Deliver nothing to a sink until it is resumed; what is under way ends. Outlives a restart
    Pause {
        /// The sink's configured name
        name: String,
    },
    /// Deliver to a paused sink again
    Resume {
        /// The sink's configured name
        name: String,
    },
}

/// Runs one of the actions.
///
/// # Errors
/// 64 for a sink that is not configured, 75 where the sink, the service or the inbox cannot do it now, 78 for the
/// configuration.
pub async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    if let Some(service) = args.remote.service()? {
        return far(&service, args.action).await;
    }
    let config = global.load()?;
    if let Action::Test { name } | Action::Pause { name } | Action::Resume { name } = &args.action {
        configured(&config, name)?;
    }
    let service = Client::find(&control::path(&config.inbox)).map_err(|error| unreachable(&error))?;
    match args.action {
        Action::Ls { json } => {
            let reports = match service {
                Some(service) => service.sinks().await.map_err(|error| unreachable(&error))?,
                None => stored(&config).await?,
            };
            show(&reports, json)
        }
        Action::Test { name } => tell(&name, &try_one(&config, service.as_ref(), &name).await?),
        // It needs no service.
        Action::Init { name, print } => init(&config, &name, print).await,
        Action::Pause { name } => pause(&config, service, &name, true).await,
        Action::Resume { name } => pause(&config, service, &name, false).await,
    }
}

/// The same through the API of a service.
async fn far(service: &Service, action: Action) -> Result<(), Failure> {
    let (name, pause) = match action {
        Action::Ls { json } => return show(&service.sinks().await.map_err(|error| unreachable(&error))?, json),
        Action::Test { name } => {
            return tell(&name, &service.test(&name).await.map_err(|error| unreachable(&error))?);
        }
        Action::Init { .. } => return Err(Failure::only_here("sink init")),
        Action::Pause { name } => (name, true),
        Action::Resume { name } => (name, false),
    };
    let changed = service.pause(&name, pause).await.map_err(|error| unreachable(&error))?.changed;
    say_paused(&name, (pause, changed), "");
    Ok(())
}

fn configured<'a>(config: &'a Config, name: &str) -> Result<&'a delivery::Settings, Failure> {
    config.sinks.iter().find(|sink| sink.name.as_str() == name).ok_or_else(|| Failure::no_sink(config, name))
}

/// Makes what a sink needs once.
async fn init(config: &Config, name: &str, print: bool) -> Result<(), Failure> {
    let sink = configured(config, name)?;
    let Some(init) = sink.kind.init() else {
        note(format_args!("a sink of type {:?} needs nothing before its first delivery", sink.kind.word()));
        return Ok(());
    };
    if print {
        return Ok(io::stdout().lock().write_all(init.statements.as_bytes())?);
    }
    init.run.await.map_err(|reason| Failure::not_now(format_args!("the sink {name} is not ready: {reason}")))?;
    note(format_args!("the sink {name} has what it needs"));
    Ok(())
}

/// What the inbox says of the sinks.
async fn stored(config: &Config) -> Result<Vec<SinkReport>, Failure> {
    let inbox = open(config).await?;
    let stats = inbox.upkeep.stats().await.map_err(|error| failure(&error))?;
    let paused = inbox.sinks.paused().await.map_err(|error| failure(&error))?;
    inbox.upkeep.close().await;
    note(format_args!("no service runs on this inbox: this is what the inbox holds"));
    let reports = config.sinks.iter().map(|sink| {
        let since = paused.get(&sink.name).copied();
        control::report(&sink.name, sink.kind.word(), stats.of_sink(&sink.name), None, since)
    });
    Ok(reports.collect())
}

/// Makes a test delivery: by the service, where one runs.
///
/// # Errors
/// 75 where the sink cannot be tried, 64 where it is not configured.
pub(super) async fn try_one(config: &Config, service: Option<&Client>, name: &str) -> Result<Tested, Failure> {
    match service {
        Some(service) => service.test(name).await.map_err(|error| unreachable(&error)),
        None => alone(config, name).await,
    }
}

/// Tries a sink out without a service.
async fn alone(config: &Config, name: &str) -> Result<Tested, Failure> {
    let slot = Slot::open(configured(config, name)?).map_err(|error| Failure::not_now(chain(&error)))?;
    Ok(control::try_out(&slot, app::source_of(config)).await)
}

async fn pause(config: &Config, service: Option<Client>, name: &str, pause: bool) -> Result<(), Failure> {
    let inbox = open(config).await?;
    let act = if pause { "sink pause" } else { "sink resume" };
    let paused = noted(&*inbox.audit, (act, name.to_owned()), Unnoted::Stops, async || {
        set_paused(&inbox, service, name, pause).await.map(|()| ((), 0))
    });
    let paused = paused.await;
    inbox.upkeep.close().await;
    paused
}

async fn set_paused(inbox: &Inbox, service: Option<Client>, name: &str, pause: bool) -> Result<(), Failure> {
    let changed = if let Some(service) = &service {
        service.pause(name, pause).await.map_err(|error| unreachable(&error))?.changed
    } else {
        inbox.sinks.pause(&SinkName::new(name), pause).await.map_err(|error| failure(&error))?
    };
    let from = if service.is_some() { "" } else { "; no service runs on this inbox: this holds from the next start" };
    say_paused(name, (pause, changed), from);
    Ok(())
}

fn say_paused(name: &str, (pause, changed): (bool, bool), from: &str) {
    let what = match (pause, changed) {
        (true, true) => "is paused",
        (true, false) => "was paused already",
        (false, true) => "is not paused any more",
        (false, false) => "was not paused",
    };
    note(format_args!("the sink {} {what}{from}", printable(name)));
}

fn show(reports: &[SinkReport], json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if json {
        for report in reports {
            let line = serde_json::to_string(report)
                .map_err(|error| Failure::ours(format_args!("a sink cannot be written as JSON: {error}")))?;
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    let mut table = table::plain();
    table.set_header(["NAME", "TYPE", "STATE", "SINCE", "FAILING SINCE", "WAITING", "LEASED", "PARKED"]);
    let dash = || "-".to_owned();
    for report in reports {
        table.add_row([
            report.name.clone(),
            report.kind.clone(),
            report.state.clone(),
            report.since.clone().unwrap_or_else(dash),
            report.failing_since.clone().unwrap_or_else(dash),
            report.waiting.to_string(),
            report.leased.to_string(),
            report.parked.to_string(),
        ]);
    }
    Ok(out.write_all(table::trimmed(&table).as_bytes())?)
}

fn tell(name: &str, tested: &Tested) -> Result<(), Failure> {
    let Tested { id, taken, reason, duration_ms } = tested;
    if *taken {
        note(format_args!("the sink {name} took the test delivery {id} in {duration_ms} ms"));
        return Ok(());
    }
    let reason = reason.as_deref().unwrap_or("no reason is known");
    Err(Failure::not_now(format_args!("the sink {name} did not take the test delivery {id}: {reason}")))
}
