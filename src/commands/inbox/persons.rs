//! `inbox erase`: what a person may ask for.

use crate::{
    commands::{
        Failure, Global,
        acts::{Unnoted, noted},
        guest::{failure, note, open, open_alone, unreachable},
        remote::Service,
    },
    config::Config,
    control::{self, Client},
};
use base::{error::chain, text::printable};
use clap::Args;
use event::{ConnectionId, UserId};
use inbox::{Erased, Subject, archive};

/// Whose data is meant.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Whose {
    /// The user with this id, and their connections
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The connection with this id
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
}

impl Whose {
    fn parts(self) -> (Subject, String) {
        match (self.user, self.connection) {
            (Some(user), _) => (Subject::User(UserId::new(user.as_str())), format!("--user {user}")),
            (None, connection) => {
                let connection = connection.unwrap_or_default();
                (Subject::Connection(ConnectionId::new(connection.as_str())), format!("--connection {connection}"))
            }
        }
    }
}

/// `--yes` is missing.
pub(super) fn unconfirmed() -> Failure {
    Failure::usage(
        "erase deletes everything of somebody for good\nhint: look at it with `inbox export` and the same option, then add --yes",
    )
}

/// Erases everything of somebody, in the running service or without one.
pub(super) async fn erase(global: &Global, whose: Whose) -> Result<(), Failure> {
    let config = global.load()?;
    let (whose, which) = whose.parts();
    let service = Client::find(&control::path(&config.inbox)).map_err(|error| Failure::not_now(chain(&error)))?;
    let inbox = if service.is_some() { open(&config).await? } else { open_alone(&config).await? };
    let erased = noted(&*inbox.audit, ("erase", which), Unnoted::GoesOn, async || {
        let erased = if let Some(service) = &service {
            service.erase(&whose).await.map_err(|error| Failure::not_now(chain(&error)))?
        } else {
            let erased = inbox.persons.erase(&whose).await;
            erased.map_err(|error| failure(&error))?
        };
        let entries = erased.entries;
        Ok((erased, entries))
    })
    .await;
    inbox.upkeep.close().await;
    report(&config, &erased?)
}

/// The same by a service that is reached through its API.
pub(super) async fn erase_afar(service: &Service, whose: Whose) -> Result<(), Failure> {
    let erased = service.erase(&whose.parts().0).await.map_err(|error| unreachable(&error))?;
    let sinks = service.sinks().await.map_err(|error| unreachable(&error))?;
    say_erased(sinks.iter().map(|sink| sink.name.as_str()), &erased);
    note(format_args!("not reached: files that a restore set aside beside the inbox, where the service runs"));
    nothing_left(&erased)
}

/// Says what was erased, what is left, and what is elsewhere.
fn report(config: &Config, erased: &Erased) -> Result<(), Failure> {
    say_erased(config.sinks.iter().map(|sink| sink.name.as_str()), erased);
    for file in archive::left_aside(&config.inbox) {
        note(format_args!(
            "not reached: {}, which a restore set aside; delete it when it is not needed",
            file.display()
        ));
    }
    nothing_left(erased)
}

fn say_erased<'a>(sinks: impl Iterator<Item = &'a str>, erased: &Erased) {
    let Erased { entries, readings, refused, keys, is_sealed, out_of_reach, .. } = erased;
    note(format_args!(
        "erased: {entries} entries, {readings} readings of connections, {refused} refused requests, {keys} keys"
    ));
    let sinks: Vec<String> = sinks.map(printable).collect();
    note(format_args!("not reached: what was delivered to {}", sinks.join(", ")));
    note(format_args!(
        "not reached: the log of the service, which has ids and no bank data; this erasure in `inbox audit`"
    ));
    for place in out_of_reach {
        note(format_args!("not reached: {place}"));
    }
    if *is_sealed {
        note(format_args!(
            "backups that were made under the seal cannot be read any more with the keys of this inbox; delete copies of its keys \
             from before (`inbox backup --keys`, snapshots of the disk), and backups from before the seal"
        ));
    } else {
        note(format_args!("not reached: backups, which keep the data, because the inbox is not sealed (inbox.key)"));
    }
}

fn nothing_left(erased: &Erased) -> Result<(), Failure> {
    if erased.left.is_empty() {
        return Ok(());
    }
    Err(Failure::not_now(format_args!("something may be left in the inbox:\n{}", erased.left.join("\n"))))
}
