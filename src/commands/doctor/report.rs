//! What `doctor` found, and how it looks. Pure.

use base::text::printable;
use serde::Serialize;
use std::fmt::{self, Display, Write};

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// It is as it should be.
    Ok,
    /// It should be known, or could not be tried.
    Note,
    /// It is allowed, and may be a mistake.
    Warning,
    /// It must be mended.
    Error,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) text: String,
    /// What to do.
    pub(super) remedy: Option<String>,
    /// Of an error: whether trying later may help.
    #[serde(skip)]
    may_mend: bool,
}

/// Things of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line>,
}

impl Section {
    pub(super) const fn new(title: &'static str) -> Self {
        Self { title, lines: Vec::new() }
    }

    fn add(&mut self, level: Level, text: impl Display, remedy: Option<String>, may_mend: bool) {
        self.lines.push(Line { level, text: text.to_string(), remedy, may_mend });
    }

    pub(super) fn ok(&mut self, text: impl Display) {
        self.add(Level::Ok, text, None, false);
    }

    pub(super) fn note(&mut self, text: impl Display) {
        self.add(Level::Note, text, None, false);
    }

    pub(super) fn warn(&mut self, text: impl Display, remedy: &str) {
        self.add(Level::Warning, text, Some(remedy.to_owned()), false);
    }

    /// What must be changed by somebody.
    pub(super) fn error(&mut self, text: impl Display, remedy: &str) {
        self.add(Level::Error, text, Some(remedy.to_owned()), false);
    }

    /// What may be over later.
    pub(super) fn fail(&mut self, text: impl Display, remedy: &str) {
        self.add(Level::Error, text, Some(remedy.to_owned()), true);
    }

    /// What to do about the line before, where nothing was said yet.
    pub(super) fn remedy(&mut self, remedy: &str) {
        if let Some(line) = self.lines.last_mut() {
            line.remedy.get_or_insert_with(|| remedy.to_owned());
        }
    }

    /// A text of another command, whose lines behind `hint:` are the remedy.
    pub(super) fn told(&mut self, level: Level, told: &str, may_mend: bool) {
        let (text, remedy) = match told.split_once("hint: ") {
            Some((text, remedy)) => (text.trim(), Some(remedy.trim().to_owned())),
            None => (told.trim(), None),
        };
        self.add(level, text, remedy, may_mend);
    }
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    /// RFC 3339.
    pub(super) at: String,
    /// The worst of it.
    pub(super) verdict: Level,
    pub(super) sections: Vec<Section>,
}

impl Report {
    pub(super) fn new(at: String, sections: Vec<Section>) -> Self {
        let worst = sections.iter().flat_map(|section| &section.lines).map(|line| line.level).max();
        Self { version: env!("CARGO_PKG_VERSION"), at, verdict: worst.unwrap_or(Level::Ok), sections }
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.sections.iter().flat_map(|section| &section.lines)
    }

    /// How many lines are of a level.
    pub(super) fn count(&self, level: Level) -> usize {
        self.lines().filter(|line| line.level == level).count()
    }

    /// Whether everything that is wrong may be over later.
    pub(super) fn may_mend(&self) -> bool {
        self.lines().filter(|line| line.level == Level::Error).all(|line| line.may_mend)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "linxo-webhook {}, doctor's report of {}", self.version, self.at)?;
        for section in &self.sections {
            writeln!(f, "\n{}", section.title)?;
            for Line { level, text, remedy, .. } in &section.lines {
                lines(f, &format!("  {:<9}", level.as_str()), text)?;
                if let Some(remedy) = remedy {
                    lines(f, "             hint: ", remedy)?;
                }
            }
        }
        Ok(())
    }
}

/// A text behind a start; its further lines stand under its first one. What could move a terminal is escaped.
fn lines(f: &mut fmt::Formatter<'_>, start: &str, text: &str) -> fmt::Result {
    for (index, line) in text.lines().enumerate() {
        let blank = " ".repeat(start.len());
        let start = if index == 0 { start } else { &blank };
        f.write_str(start)?;
        f.write_str(&printable(line.trim_start()))?;
        f.write_char('\n')?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_a_page_of_a_ticket() {
        let mut first = Section::new("Clock");
        first.ok("it is right");
        first.warn("it is\u{1b} off", "set it");
        let mut second = Section::new("Servers");
        second.told(Level::Error, "the API is away\n    hint: wait\n    or ask", true);
        second.note("one\n    two");
        let report = Report::new("2026-11-23T10:00:00Z".to_owned(), vec![first, second]);
        let text = report.to_string();
        let (_, text) = text.split_once('\n').unwrap();
        assert_eq!(
            text,
            "\nClock\n  ok       it is right\n  warning  it is\\u{1b} off\n             hint: set it\n\nServers\n  error    \
             the API is away\n             hint: wait\n                   or ask\n  note     one\n           two\n"
        );
        assert_eq!((report.verdict, report.count(Level::Error), report.may_mend()), (Level::Error, 1, true));
        let mut lasting = Section::new("Names");
        lasting.error("none", "mend it");
        assert!(!Report::new(String::new(), vec![lasting]).may_mend());
    }
}
