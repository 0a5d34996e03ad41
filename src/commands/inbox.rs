//! `inbox`: what is in it, what happens to it, and what a person does about it.
//!
//! Works on the store itself, beside a running server or without one; `tail` asks the server, and `stats` where there is one.
//! Tables are for people and may change; `--json` and
//! `export` are NDJSON for programs. Bodies hold personal data and are printed only where asked for (`show --body`,
//! `export`). What changes entries needs a filter or `--all`, and `purge` needs `--yes`, so that no slip of the hand
//! touches everything. What changes entries or prints their bodies is noted in the audit trail.
//!
//! ```text
//! view                 how entries look: pure
//! output, progress     the way to standard output; a bar on standard error
//! when, selection      which entries a command means
//! lists, show          what only reads
//! changes              what changes entries
//! fill, hand_over      a sink that is given what it never had, or what another one left behind
//! export               entries with their events, or everything that is held of a user
//! persons              everything of somebody erased
//! stats, tail          what the running service knows best
//! init, copy           the tables of an inbox on PostgreSQL; an inbox moved there or back
//! archive              backups, the seal: the files as a whole
//! ```

mod archive;
mod changes;
mod copy;
mod export;
mod fill;
mod hand_over;
mod init;
mod lists;
mod output;
mod persons;
mod progress;
mod selection;
mod show;
mod stats;
mod tail;
pub(super) mod view;
mod when;

use super::{
    Failure, Global,
    acts::{Unnoted, noted},
    guest::{failure, open, unreachable},
    hands::Hands,
    remote::{Remote, Service},
};
use crate::config::Config;
use base::text::printable;
use clap::{Args as ClapArgs, Subcommand};
use inbox::{Desk, Filter, Inbox, Seq, SinkName};
use selection::Selection;
use when::When;

/// Options of `inbox`.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Show what waits, is parked and fails, at each sink and for the completion
    Stats {
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Make the tables of an inbox on PostgreSQL, or bring older ones up to date; `serve` never makes them
    Init,
    /// Copy an inbox from a SQLite file to PostgreSQL, or back; no service may be running on either
    Copy(copy::Args),
    /// Show what happens, as it happens: events accepted, completed, delivered, parked
    Tail(tail::Args),
    #[command(flatten)]
    Entries(Entries),
    /// Erase everything of a user, or of a connection, whatever its state
    Erase {
        #[command(flatten)]
        whose: persons::Whose,
        /// Really erase
        #[arg(long)]
        yes: bool,
    },
    #[command(flatten)]
    Files(archive::Action),
}

/// What is done with entries in the open store.
#[derive(Clone, Debug, Subcommand)]
enum Entries {
    /// List entries, newest first
    Ls {
        #[command(flatten)]
        selection: Selection,
        /// Print NDJSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Tell the story of an event: its request, its completion, each attempt, what operators did, what comes next
    Show {
        /// Its event id, delivery id or number
        entry: String,
        /// Print the stored event too (personal data)
        #[arg(long)]
        body: bool,
        /// Print NDJSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Put parked or done entries back in line; with --sink for this sink only. With --sink and nothing else but a span of time: give
    /// the sink what it has not had, parked or never handed to it, and leave the rest as it is
    Replay {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        how: fill::How,
    },
    /// Move what waits or is parked for a sink that is not configured any more to another one
    Move(hand_over::Args),
    /// Stop work on unfinished entries until they are replayed
    Park {
        #[command(flatten)]
        selection: Selection,
        /// Why, in one sentence
        #[arg(long, default_value = "parked by an operator")]
        reason: String,
    },
    /// Delete done or parked entries for good
    Purge {
        #[command(flatten)]
        selection: Selection,
        /// Really delete
        #[arg(long)]
        yes: bool,
    },
    /// Print entries with their stored events as NDJSON, newest first (personal data); with --user alone everything that is held
    /// of that user
    Export {
        #[command(flatten)]
        selection: Selection,
    },
    /// List what operators did, newest first
    Audit {
        #[command(flatten)]
        when: When,
        /// Print NDJSON instead of a table
        #[arg(long)]
        json: bool,
        /// At most this many acts
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: usize,
    },
    /// List requests that were refused, newest first
    Refused {
        #[command(flatten)]
        when: When,
        /// Print how each body began too, where that was kept (personal data)
        #[arg(long)]
        body: bool,
        /// Print NDJSON instead of a table
        #[arg(long)]
        json: bool,
        /// At most this many requests
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: usize,
    },
}

/// Runs one of the actions.
///
/// # Errors
/// 64 for a selection that cannot be meant, 70 or 75 when the store cannot be used, 78 for the configuration.
pub async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let Args { remote, action } = args;
    match action {
        Action::Init => {
            remote.refuse("inbox init")?;
            init::run(global).await
        }
        Action::Copy(args) => {
            remote.refuse("inbox copy")?;
            copy::run(global, args).await
        }
        Action::Stats { json } => match remote.service()? {
            Some(service) => stats::show(&service.overview().await.map_err(|error| unreachable(&error))?, json),
            None => stats::stats(global, json).await,
        },
        Action::Tail(args) => tail::tail(global, remote.service()?.as_ref(), &args).await,
        Action::Erase { yes: false, .. } => Err(persons::unconfirmed()),
        Action::Erase { whose, yes: true } => match remote.service()? {
            Some(service) => persons::erase_afar(&service, whose).await,
            None => persons::erase(global, whose).await,
        },
        Action::Files(action) => {
            remote.refuse(action.name())?;
            archive::run(global, action).await
        }
        Action::Entries(action) => {
            // Before the store is opened, so that a usage error is the first to be heard.
            action.check()?;
            if matches!(&action, Entries::Move(_)) {
                remote.refuse("inbox move")?;
            }
            if matches!(&action, Entries::Replay { selection, .. } if selection.fills().is_some()) {
                remote.refuse("inbox replay --sink NAME")?;
            }
            if let Some(service) = remote.service()? {
                let hands = Hands::from(&service);
                if let Some(selection) = action.selection() {
                    must_exist(None, hands.desk, selection).await?;
                }
                return action.afar(&service).await;
            }
            let config = global.load()?;
            let inbox = open(&config).await?;
            let result = action.run(&config, &inbox).await;
            inbox.upkeep.close().await;
            result
        }
    }
}

impl Entries {
    fn selection(&self) -> Option<&Selection> {
        match self {
            Self::Ls { selection, .. }
            | Self::Replay { selection, .. }
            | Self::Park { selection, .. }
            | Self::Purge { selection, .. }
            | Self::Export { selection } => Some(selection),
            Self::Show { .. } | Self::Audit { .. } | Self::Refused { .. } | Self::Move(_) => None,
        }
    }

    fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Ls { selection, .. } | Self::Export { selection } => selection.when.check(),
            Self::Audit { when, .. } | Self::Refused { when, .. } => when.check(),
            Self::Replay { selection, how } => {
                selection.meant()?;
                how.check(selection)
            }
            Self::Park { selection, .. } => selection.meant().map(drop),
            Self::Purge { selection, yes } => {
                selection.meant()?;
                if *yes {
                    Ok(())
                } else {
                    Err(Failure::usage(
                        "purge deletes events for good\nhint: look at them with `inbox ls` and the same filters, then add --yes",
                    ))
                }
            }
            Self::Show { .. } | Self::Move(_) => Ok(()),
        }
    }

    async fn run(self, config: &Config, inbox: &Inbox) -> Result<(), Failure> {
        if let Some(selection) = self.selection() {
            must_exist(Some(config), &*inbox.desk, selection).await?;
        }
        let (desk, audit) = (&*inbox.desk, &*inbox.audit);
        match self {
            Self::Export { selection } => export::export(inbox, &selection).await,
            Self::Refused { when, body: true, json, limit } => {
                let words: Vec<String> = when.words().chain([format!("--limit {limit}")]).collect();
                let found = noted(audit, ("refused --body", words.join(" ")), Unnoted::Stops, async || {
                    let found = desk.refused(when.span(), limit).await.map_err(|error| failure(&error))?;
                    let count = found.len() as u64;
                    Ok((found, count))
                });
                lists::refused(&found.await?, (true, json))
            }
            Self::Purge { selection, yes: _ } => changes::purge(config, inbox, &selection).await,
            Self::Replay { selection, how } if selection.fills().is_some() => {
                fill::run(config, inbox, &selection, how).await
            }
            Self::Move(args) => hand_over::run(config, inbox, &args).await,
            other => other.look_or_change(inbox.into()).await,
        }
    }

    /// Through the API of a service.
    async fn afar(self, service: &Service) -> Result<(), Failure> {
        match self {
            Self::Export { selection } => export::export_afar(service, &selection).await,
            Self::Purge { selection, yes: _ } => changes::purge_afar(service, &selection).await,
            Self::Refused { when, body: true, json, limit } => {
                let found = service.reveal_refused(when.span(), limit).await.map_err(|error| unreachable(&error))?;
                lists::refused(&found, (true, json))
            }
            other => other.look_or_change(service.into()).await,
        }
    }

    /// What works beside the inbox and through the API alike.
    async fn look_or_change(self, hands: Hands<'_>) -> Result<(), Failure> {
        let Hands { desk, audit, .. } = hands;
        match self {
            Self::Ls { selection, json } => lists::ls(desk, &selection, json).await,
            Self::Audit { when, json, limit } => lists::acts(audit, &when, json, limit).await,
            Self::Refused { when, body: _, json, limit } => {
                let found = desk.refused(when.span(), limit).await.map_err(|error| failure(&error))?;
                lists::refused(&found, (false, json))
            }
            Self::Show { entry, body: false, json } => show::show(hands, &entry, false, json).await.map(drop),
            Self::Show { entry, body: true, json } => {
                let which = ("show --body", printable(&entry));
                noted(audit, which, Unnoted::Stops, async || Ok(((), show::show(hands, &entry, true, json).await?)))
                    .await
            }
            Self::Replay { selection, .. } => changes::replay(hands, &selection).await,
            Self::Park { selection, reason } => changes::park(hands, &selection, &reason).await,
            // Those were done by who called this.
            Self::Purge { .. } | Self::Export { .. } | Self::Move(_) => Ok(()),
        }
    }
}

/// What a selection names by itself must be there: a slip in a name would look like having nothing to do. A sink that is not
/// configured any more may still have entries.
async fn must_exist(config: Option<&Config>, desk: &dyn Desk, selection: &Selection) -> Result<(), Failure> {
    let is_there = async |filter: Filter| {
        let found = desk.list(&filter, 1).await.map_err(|error| failure(&error))?;
        Ok::<bool, Failure>(!found.is_empty())
    };
    if let (Some(config), Some(name)) = (config, &selection.sink)
        && config.sinks.iter().all(|sink| sink.name.as_str() != name)
        && !is_there(Filter { sink: Some(SinkName::new(name.as_str())), ..Filter::default() }).await?
    {
        return Err(Failure::no_sink(config, name));
    }
    let missing = |what: &str, wanted: &str| {
        let wanted = printable(wanted);
        Failure::usage(format_args!("no entry has the {what} {wanted}\nhint: `inbox ls` lists ids and numbers"))
    };
    if let Some(id) = &selection.id
        && !is_there(Filter { id: Some(id.clone()), ..Filter::default() }).await?
    {
        return Err(missing("id", id));
    }
    if let Some(number) = selection.seq
        && !is_there(Filter { seq: Some(Seq(number)), ..Filter::default() }).await?
    {
        return Err(missing("number", &number.to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
