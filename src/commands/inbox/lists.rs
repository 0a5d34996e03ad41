//! What only reads: `ls`, `export`, `refused`, `audit`.

use super::{
    output::{emit, say_if_cut, width},
    selection::Selection,
    view,
    when::When,
};
use crate::{
    commands::{Failure, guest::failure},
    story::{find::bounded, json},
};
use inbox::{Audit, Desk, EntryView};

/// Entries read at once where all are wanted; bounds memory.
const PAGE: usize = 500;

/// The list for people, or for programs.
pub(super) async fn ls(desk: &dyn Desk, selection: &Selection, is_json: bool) -> Result<(), Failure> {
    if is_json {
        return each(desk, selection, selection.limit(), false).await.map(drop);
    }
    let filter = bounded(desk, selection.filter()).await.map_err(|error| failure(&error))?;
    let entries = desk.list(&filter, selection.limit()).await.map_err(|error| failure(&error))?;
    say_if_cut(entries.len(), selection.limit());
    emit(view::table(&entries, width()).as_bytes()).map(drop)
}

/// Prints matching entries as NDJSON, page by page, so that any number of them fits in memory. Returns how many.
pub(super) async fn each(desk: &dyn Desk, selection: &Selection, limit: usize, bodies: bool) -> Result<u64, Failure> {
    let mut printed = 0;
    let mut filter = bounded(desk, selection.filter()).await.map_err(|error| failure(&error))?;
    let mut left = limit;
    while left > 0 {
        let wanted = left.min(PAGE);
        let entries = desk.list(&filter, wanted).await.map_err(|error| failure(&error))?;
        let mut text = Vec::new();
        for entry in &entries {
            line(desk, entry, bodies, &mut text).await?;
            // Events may be large: what is ready goes out.
            if text.len() > 1024 * 1024 {
                if emit(&text)?.is_break() {
                    return Ok(printed);
                }
                text.clear();
            }
            printed += 1;
        }
        if emit(&text)?.is_break() || entries.len() < wanted {
            return Ok(printed);
        }
        left -= entries.len();
        filter.before = entries.last().map(|entry| entry.seq);
    }
    say_if_cut(limit, limit);
    Ok(printed)
}

async fn line(desk: &dyn Desk, entry: &EntryView, body: bool, text: &mut Vec<u8>) -> Result<(), Failure> {
    let body = if body { desk.body(entry.seq).await.map_err(|error| failure(&error))? } else { None };
    json::entry(entry, None, body.as_deref(), None, text)
        .map_err(|error| Failure::ours(format_args!("entry {} cannot be written as JSON: {error}", entry.seq)))
}

/// Refused requests. Returns how many.
pub(super) async fn refused(
    desk: &dyn Desk,
    when: &When,
    (body, is_json): (bool, bool),
    limit: usize,
) -> Result<u64, Failure> {
    let found = desk.refused(when.span(), limit).await.map_err(|error| failure(&error))?;
    let count = found.len() as u64;
    if !is_json {
        return emit(view::refused(&found, body, width()).as_bytes()).map(|_| count);
    }
    let mut text = Vec::new();
    for request in &found {
        json::refused(request, body, None, &mut text).map_err(|error| {
            Failure::ours(format_args!("request {} cannot be written as JSON: {error}", request.number))
        })?;
    }
    emit(&text).map(|_| count)
}

/// What operators did.
pub(super) async fn acts(audit: &dyn Audit, when: &When, is_json: bool, limit: usize) -> Result<(), Failure> {
    let found = audit.acts(when.span(), limit).await.map_err(|error| failure(&error))?;
    if !is_json {
        return emit(view::acts(&found).as_bytes()).map(drop);
    }
    let mut text = Vec::new();
    for act in &found {
        json::act(act, &mut text)
            .map_err(|error| Failure::ours(format_args!("act {} cannot be written as JSON: {error}", act.number)))?;
    }
    emit(&text).map(drop)
}
