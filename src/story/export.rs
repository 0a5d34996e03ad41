//! Entries with their events, as lines of JSON: for `export`, beside the inbox and through the API.
//!
//! In: which entries. Out: lines, a piece of them at a time, so that any number of them fits in memory.

use super::json;
use event::{UserId, compact};
use inbox::{Filter, Held, HeldReading, Inbox, RefusedView, Seq, Subject};
use std::{collections::VecDeque, mem};

/// Bytes that are gathered before they are handed on.
const PIECE: usize = 1024 * 1024;
/// Entries read at once.
const PAGE: usize = 500;

/// What is exported.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Entries that match, the newest first, and at most so many. The filter has the numbers of its span ([`super::find::bounded`]).
    Matching(Filter, u64),
    /// Everything that is held of a user.
    Of(UserId),
}

/// Why it does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The inbox cannot tell.
    #[error(transparent)]
    Inbox(#[from] inbox::Error),
    /// What is kept is no JSON.
    #[error("something that is kept cannot be written as JSON")]
    Unwritable(#[from] serde_json::Error),
}

/// An export under way.
#[derive(Debug)]
pub struct Export {
    inbox: Inbox,
    rest: Rest,
    text: Vec<u8>,
    lines: u64,
    is_cut: bool,
}

/// What is still to be told.
#[derive(Debug)]
enum Rest {
    Matching { filter: Filter, left: u64 },
    Of { entries: VecDeque<Seq>, readings: VecDeque<HeldReading>, open: Option<Open>, refused: VecDeque<RefusedView> },
}

/// A reading whose pages are being told.
#[derive(Debug)]
struct Open {
    reading: HeldReading,
    pages: VecDeque<u32>,
    is_first: bool,
}

impl Export {
    /// Looks up what there is to tell.
    ///
    /// # Errors
    /// Those of the inbox.
    pub async fn begin(inbox: &Inbox, wanted: Wanted) -> Result<Self, inbox::Error> {
        let rest = match wanted {
            Wanted::Matching(filter, left) => Rest::Matching { filter, left },
            Wanted::Of(user) => {
                let Held { entries, readings, refused } = inbox.persons.held(&Subject::User(user)).await?;
                Rest::Of { entries: entries.into(), readings: readings.into(), open: None, refused: refused.into() }
            }
        };
        Ok(Self { inbox: inbox.clone(), rest, text: Vec::new(), lines: 0, is_cut: false })
    }

    /// The next piece, which may end within a line; `None`: that was all.
    ///
    /// # Errors
    /// [`Error`]: what came so far is not all.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        while self.text.len() < PIECE {
            let goes_on = match &self.rest {
                Rest::Matching { .. } => self.entries().await?,
                Rest::Of { .. } => self.of_person().await?,
            };
            if !goes_on {
                break;
            }
        }
        Ok((!self.text.is_empty()).then(|| mem::take(&mut self.text)))
    }

    /// Lines so far.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// Whether it ended because so many were wanted, and there may be more.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Tells some entries that match. Says whether there may be more.
    async fn entries(&mut self) -> Result<bool, Error> {
        let Rest::Matching { filter, left } = &mut self.rest else { return Ok(false) };
        if *left == 0 {
            self.is_cut = true;
            return Ok(false);
        }
        let wanted = usize::try_from(*left).unwrap_or(PAGE).min(PAGE);
        let found = self.inbox.desk.list(filter, wanted).await?;
        let is_last = found.len() < wanted;
        for (told, entry) in found.iter().enumerate() {
            let body = self.inbox.desk.body(entry.seq).await?;
            json::entry(entry, None, body.as_deref(), None, &mut self.text)?;
            self.lines += 1;
            *left -= 1;
            filter.before = Some(entry.seq);
            // Events may be large: what is ready goes out, and the rest is listed again.
            if self.text.len() >= PIECE && told + 1 < found.len() {
                return Ok(true);
            }
        }
        Ok(!is_last)
    }

    /// Tells the next thing that is held of somebody. Says whether there is more.
    async fn of_person(&mut self) -> Result<bool, Error> {
        let Rest::Of { entries, readings, open, refused } = &mut self.rest else { return Ok(false) };
        if let Some(seq) = entries.pop_front() {
            let filter = Filter { seq: Some(seq), ..Filter::default() };
            // Retention may have been first.
            if let Some(view) = self.inbox.desk.list(&filter, 1).await?.first() {
                let body = self.inbox.desk.body(seq).await?;
                json::entry(view, None, body.as_deref(), Some("entry"), &mut self.text)?;
                self.lines += 1;
            }
        } else if let Some(reading) = open {
            if let Some(number) = reading.pages.pop_front() {
                let page = self.inbox.shelf.page(reading.reading.id, number).await?;
                if !mem::replace(&mut reading.is_first, false) {
                    self.text.push(b',');
                }
                self.text.extend_from_slice(&compact(&page));
            } else {
                self.text.extend_from_slice(json::READING_END);
                self.lines += 1;
                *open = None;
            }
        } else if let Some(reading) = readings.pop_front() {
            // A page may hold only accounts that other pages hold too.
            let pages = self.inbox.shelf.pages(reading.id).await?;
            let pages = pages.into_iter().filter(|(_, size)| *size > 0).map(|(number, _)| number).collect();
            json::held(&reading, &mut self.text)?;
            *open = Some(Open { reading, pages, is_first: true });
        } else if let Some(request) = refused.pop_front() {
            json::refused(&request, true, Some("refused"), &mut self.text)?;
            self.lines += 1;
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}
