//! What changes entries: `replay`, `park`, `purge`. Each is noted in the audit trail.

use super::selection::Selection;
use crate::{
    commands::{
        Failure,
        acts::{Unnoted, noted},
        guest::{failure, note, unreachable},
        hands::Hands,
        remote::Service,
    },
    config::Config,
    control::{self, Client},
    story::change::{Change, change},
};
use inbox::{Batch, Desk, Inbox};

/// Entries changed by one request to a service at most.
const MOST_AFAR: u64 = 100_000;
const NOT_CLEARED: &str =
    "what was deleted may still stand in the log or the journal beside the inbox, which is in use now";

/// Puts entries back in line.
pub(super) async fn replay(hands: Hands<'_>, selection: &Selection) -> Result<(), Failure> {
    if let Some(service) = hands.service {
        return far(service, "replay", selection, None).await;
    }
    let count = noted(hands.audit, ("replay", selection.words()), Unnoted::Stops, async || {
        let (count, _) = change_selected(hands.desk, selection, Change::Replay).await?;
        Ok((count, count))
    });
    report(count.await?, "put back in line", selection);
    Ok(())
}

/// Stops work on entries.
pub(super) async fn park(hands: Hands<'_>, selection: &Selection, reason: &str) -> Result<(), Failure> {
    if let Some(service) = hands.service {
        return far(service, "park", selection, Some(reason)).await;
    }
    let which = format!("{} --reason {reason:?}", selection.words());
    let count = noted(hands.audit, ("park", which), Unnoted::Stops, async || {
        let (count, _) = change_selected(hands.desk, selection, Change::Park(reason)).await?;
        Ok((count, count))
    });
    report(count.await?, "parked", selection);
    Ok(())
}

/// Has the service do it, which does it in batches and notes it.
async fn far(service: &Service, word: &str, selection: &Selection, reason: Option<&str>) -> Result<(), Failure> {
    let limit = most_afar(selection);
    let done = service.change(word, &selection.meant()?, limit, reason).await.map_err(|error| unreachable(&error))?;
    report(done.changed, if word == "park" { "parked" } else { "put back in line" }, selection);
    say_if_most(done.changed, limit);
    Ok(())
}

fn most_afar(selection: &Selection) -> u64 {
    (selection.limit() as u64).min(MOST_AFAR)
}

fn say_if_most(changed: u64, limit: u64) {
    if changed == limit && limit == MOST_AFAR {
        note(format_args!("hint: that is the most that one request changes; run it again for the rest"));
    }
}

/// Deletes entries, and sees to it that nothing of them is left beside the inbox file.
pub(super) async fn purge(config: &Config, inbox: &Inbox, selection: &Selection) -> Result<(), Failure> {
    let purged = noted(&*inbox.audit, ("purge", selection.words()), Unnoted::GoesOn, async || {
        let (count, left) = change_selected(&*inbox.desk, selection, Change::Purge).await?;
        Ok(((count, left), count))
    })
    .await;
    if !clear(config, inbox).await {
        note(format_args!("{NOT_CLEARED}: run the command again, or wait a minute until the service empties them"));
    }
    let (count, left) = purged?;
    report(count, "deleted", selection);
    all_deleted(left)
}

/// The same by a service that is reached through its API.
pub(super) async fn purge_afar(service: &Service, selection: &Selection) -> Result<(), Failure> {
    let limit = most_afar(selection);
    let done = service.change("purge", &selection.meant()?, limit, None).await.map_err(|error| unreachable(&error))?;
    if !done.is_cleared {
        note(format_args!("{NOT_CLEARED}: run the command again, or wait a minute until the service empties them"));
    }
    report(done.changed, "deleted", selection);
    say_if_most(done.changed, limit);
    all_deleted(done.left)
}

/// Sees to it that nothing of what was deleted stays beside the inbox file: by the running service, which has the journal, or
/// without one. Returns whether that was done.
async fn clear(config: &Config, inbox: &Inbox) -> bool {
    match Client::find(&control::path(&config.inbox)).ok().flatten() {
        Some(service) => service.clear().await.is_ok(),
        None => inbox.upkeep.fold_log().await.is_ok(),
    }
}

/// Changes the selected entries. Returns how many were changed and how many stay as they are.
async fn change_selected(desk: &dyn Desk, selection: &Selection, what: Change<'_>) -> Result<(u64, u64), Failure> {
    let changed = change(desk, selection.meant()?, selection.limit() as u64, what).await;
    let Batch { changed, left, .. } = changed.map_err(|error| failure(&error))?;
    Ok((changed, left))
}

fn report(count: u64, what: &str, selection: &Selection) {
    let entries = if count == 1 { "entry" } else { "entries" };
    note(format_args!("{count} {entries} {what}"));
    if count == selection.limit() as u64 {
        note(format_args!("hint: that is the limit; run it again, or with --limit or --all, for the rest"));
    }
}

/// Whoever asked for a deletion must not take the rest for deleted.
fn all_deleted(left: u64) -> Result<(), Failure> {
    if left == 0 {
        return Ok(());
    }
    let entries = if left == 1 { "entry is" } else { "entries are" };
    Err(Failure::not_now(format!(
        "{left} matching {entries} unfinished and not deleted\nhint: wait until the work is done, or give it up with \
         `inbox park` and the same filters, then purge again"
    )))
}
