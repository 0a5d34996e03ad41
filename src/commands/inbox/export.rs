//! `export`: entries with their events, or everything that is held of a user.

use super::{
    output::{emit, say_if_cut},
    selection::{EVERY, Selection},
};
use crate::{
    commands::{
        Failure,
        acts::{Unnoted, noted},
        guest::{failure, unreachable},
        remote::Service,
    },
    story::{
        export::{Error, Export, Wanted},
        find::bounded,
    },
};
use inbox::Inbox;

/// From the inbox beside this command.
pub(super) async fn export(inbox: &Inbox, selection: &Selection) -> Result<(), Failure> {
    noted(&*inbox.audit, ("export", selection.words()), Unnoted::Stops, async || {
        let wanted = if let Some(user) = selection.user().filter(|_| selection.is_user_alone()) {
            Wanted::Of(user)
        } else {
            let filter = bounded(&*inbox.desk, selection.filter()).await.map_err(|error| failure(&error))?;
            Wanted::Matching(filter, limit(selection) as u64)
        };
        let mut export = Export::begin(inbox, wanted).await.map_err(|error| failure(&error))?;
        while let Some(lines) = export.next().await.map_err(stopped)? {
            if emit(&lines)?.is_break() {
                return Ok(((), export.lines()));
            }
        }
        if export.is_cut() {
            say_if_cut(limit(selection), limit(selection));
        }
        Ok(((), export.lines()))
    })
    .await
}

/// From a service that is reached through its API.
pub(super) async fn export_afar(service: &Service, selection: &Selection) -> Result<(), Failure> {
    let mut lines = 0;
    let mut export = service.export(&selection.filter(), selection.limit).await.map_err(|error| unreachable(&error))?;
    while let Some(piece) = export.chunk().await.map_err(|error| unreachable(&error))? {
        lines += piece.split(|byte| *byte == b'\n').count().saturating_sub(1);
        if emit(&piece)?.is_break() {
            return Ok(());
        }
    }
    if let Some(limit) = selection.limit {
        say_if_cut(lines, limit);
    }
    Ok(())
}

/// A person's data must not be cut because nobody thought of a limit.
fn limit(selection: &Selection) -> usize {
    selection.limit.unwrap_or(EVERY)
}

fn stopped(error: Error) -> Failure {
    match error {
        Error::Inbox(error) => failure(&error),
        Error::Unwritable(error) => Failure::ours(format_args!("it cannot be written as JSON: {error}")),
    }
}
