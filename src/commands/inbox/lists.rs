//! What only reads: `ls`, `refused`, `audit`.

use super::{
    output::{emit, say_if_cut, width},
    selection::Selection,
    view,
    when::When,
};
use crate::{
    commands::{Failure, guest::failure},
    story::json,
};
use inbox::{Audit, Desk, EntryPage, EntryView, Filter, Place, RefusedView};

/// Entries read at once where all are wanted; bounds memory.
const PAGE: usize = 500;
/// Entries looked at for a page where no index finds those that match.
const LOOKED: usize = 100_000;

/// The list for people, or for programs.
pub(super) async fn ls(desk: &dyn Desk, selection: &Selection, is_json: bool) -> Result<(), Failure> {
    if is_json {
        return each(desk, selection).await;
    }
    let mut entries = Vec::new();
    let mut pages = Pages::new(desk, selection);
    while let Some(page) = pages.next().await? {
        entries.extend(page);
    }
    say_if_cut(entries.len(), selection.limit());
    emit(view::table(&entries, width()).as_bytes()).map(drop)
}

/// Prints matching entries as NDJSON, page by page, so that any number of them fits in memory.
async fn each(desk: &dyn Desk, selection: &Selection) -> Result<(), Failure> {
    let mut printed = 0;
    let mut pages = Pages::new(desk, selection);
    while let Some(page) = pages.next().await? {
        let mut text = Vec::new();
        for entry in &page {
            line(entry, &mut text)?;
        }
        if emit(&text)?.is_break() {
            return Ok(());
        }
        printed += page.len();
    }
    say_if_cut(printed, selection.limit());
    Ok(())
}

/// What a selection means, page by page.
struct Pages<'a> {
    desk: &'a dyn Desk,
    filter: Filter,
    behind: Option<Place>,
    left: usize,
    is_over: bool,
}

impl<'a> Pages<'a> {
    fn new(desk: &'a dyn Desk, selection: &Selection) -> Self {
        Self { desk, filter: selection.filter(), behind: None, left: selection.limit(), is_over: false }
    }

    /// The next one, which may be empty; `None`: that was all that was wanted.
    async fn next(&mut self) -> Result<Option<Vec<EntryView>>, Failure> {
        if self.is_over || self.left == 0 {
            return Ok(None);
        }
        let page = self.desk.page(&self.filter, self.behind, LOOKED, self.left.min(PAGE)).await;
        let EntryPage { entries, next } = page.map_err(|error| failure(&error))?;
        self.left -= entries.len();
        self.behind = next;
        self.is_over = next.is_none();
        Ok(Some(entries))
    }
}

fn line(entry: &EntryView, text: &mut Vec<u8>) -> Result<(), Failure> {
    json::entry(entry, None, None, None, text)
        .map_err(|error| Failure::ours(format_args!("entry {} cannot be written as JSON: {error}", entry.seq)))
}

/// Refused requests.
pub(super) fn refused(found: &[RefusedView], (body, is_json): (bool, bool)) -> Result<(), Failure> {
    if !is_json {
        return emit(view::refused(found, body, width()).as_bytes()).map(drop);
    }
    let mut text = Vec::new();
    for request in found {
        json::refused(request, body, None, &mut text).map_err(|error| {
            Failure::ours(format_args!("request {} cannot be written as JSON: {error}", request.number))
        })?;
    }
    emit(&text).map(drop)
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
