//! What both ways of reading an event need: what is odd in it is noticed, and the texts that it cannot do without are checked.

use crate::{
    event::{Drift, Event, Shape},
    ids::{MAX_ID, UserId},
    malformed::Malformed,
};

/// What was noticed of an event while it was read: the first thing of all.
#[derive(Debug, Default)]
pub(super) struct Noted {
    first: Option<Drift>,
    /// Why a person must look, which is said instead.
    pub(super) unclear: Option<Drift>,
}

impl Noted {
    pub(super) fn note(&mut self, drift: Drift) {
        self.first.get_or_insert(drift);
    }

    /// The user. Without one whose id can be kept, nobody can say for whom to ask: the event is left to a person.
    pub(super) fn user(&mut self, id: Option<&str>) -> Option<UserId> {
        let id = id.filter(|id| !id.is_empty())?;
        if id.len() > MAX_ID {
            self.unclear = Some(Drift::TooLong { path: "$.resource.user_id".into() });
            return None;
        }
        Some(UserId::new(id))
    }

    /// A text that is only a label; one that is too long for that stays in the body.
    pub(super) fn text(&mut self, path: &'static str, text: Option<String>) -> Option<String> {
        let text = text?;
        if text.len() > MAX_ID {
            self.note(Drift::TooLong { path: path.into() });
            return None;
        }
        Some(text)
    }

    /// Enters what was noticed.
    pub(super) fn finish(self, event: &mut Event) {
        if self.unclear.is_some() {
            event.shape = Shape::Unclear;
        }
        event.drift = self.unclear.or(self.first);
    }
}

/// A required text or id that was read.
pub(super) fn required(path: &'static str, value: &str) -> Result<String, Malformed> {
    let problem = match value.len() {
        0 => "is empty".to_owned(),
        1..=MAX_ID => return Ok(value.to_owned()),
        _ => format!("is longer than {MAX_ID} bytes"),
    };
    Err(Malformed::Field { path, problem })
}

/// How many of these ids differ. Sorts them.
pub(super) fn distinct(ids: &mut [&str]) -> u64 {
    ids.sort_unstable();
    let repeats = ids.iter().zip(ids.iter().skip(1)).filter(|(one, next)| one == next).count();
    ids.len().saturating_sub(repeats) as u64
}
