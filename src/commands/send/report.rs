//! What `send` says: each post that is told of, what became of it, and the summary.

use super::became;
use crate::{commands::table, story::json};
use base::text::printable;
use double::load::{Answer, Summary};
use inbox::EntryView;
use serde::Deserialize;
use std::io::{self, Write};

/// One post that is told of.
#[derive(Debug)]
pub(super) struct Told {
    /// The event's id, where the body is an event.
    pub(super) id: Option<String>,
    /// The answer, or why there was none.
    pub(super) answer: Result<Answer, String>,
}

/// The receiver's own words: a status of the event, or the code of a problem with its detail.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Words {
    #[serde(deserialize_with = "text")]
    status: Option<String>,
    code: Option<String>,
    detail: Option<String>,
}

/// In a problem document the status is a number, which the answer's head says too.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(serde_json::Value::deserialize(deserializer)?.as_str().map(str::to_owned))
}

impl Told {
    pub(super) fn is_taken(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| (200..300).contains(&answer.status))
    }

    /// `200 accepted`, `422 event_incomplete: ...`
    fn answer(&self) -> String {
        let answer = match &self.answer {
            Ok(answer) => answer,
            Err(reason) => return printable(reason),
        };
        let Words { status, code, detail } = serde_json::from_slice(&answer.start).unwrap_or_default();
        let words: Vec<String> = [status.or(code), detail].into_iter().flatten().collect();
        let colon = if words.is_empty() { "" } else { " " };
        format!("{}{colon}{}", answer.status, printable(&words.join(": ")))
    }
}

/// Every post that is told of, and the entries it led to.
pub(super) fn posts(told: &[Told], entries: Option<&[EntryView]>, out: &mut impl Write) -> io::Result<()> {
    if told.is_empty() {
        return Ok(());
    }
    let mut table = table::plain();
    table.set_header(["EVENT", "ANSWER"]);
    for post in told {
        let id = post.id.as_deref().map_or_else(|| "-".to_owned(), printable);
        table.add_row([id, post.answer()]);
    }
    writeln!(out, "{}", table::trimmed(&table))?;
    match entries {
        Some(entries) if !entries.is_empty() => writeln!(out, "{}", became::table(entries)),
        _ => Ok(()),
    }
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

/// The summary for people.
pub(super) fn summary(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "events    {}", summary.answered() + summary.failures.values().sum::<u64>())?;
    for (status, count) in &summary.statuses {
        writeln!(out, "status    {status}: {count}")?;
    }
    for (reason, count) in &summary.failures {
        writeln!(out, "failed    {count}: {reason}")?;
    }
    writeln!(out, "rate      {} answers/s in {} ms", summary.rate(), summary.elapsed.as_millis())?;
    if !summary.latency.is_empty() {
        let parts = QUANTILES.map(|(name, share)| format!("{name} {} ms", milliseconds(summary.quantile(share))));
        writeln!(out, "latency   {}", parts.join(", "))?;
    }
    Ok(())
}

/// All of it as one JSON object.
pub(super) fn as_json(
    summary: &Summary,
    told: &[Told],
    entries: Option<&[EntryView]>,
    out: &mut impl Write,
) -> io::Result<()> {
    let latency: serde_json::Map<_, _> =
        QUANTILES.iter().map(|(name, share)| ((*name).to_owned(), summary.quantile(*share).into())).collect();
    let posts: Vec<_> = told
        .iter()
        .map(|post| {
            let status = post.answer.as_ref().ok().map(|answer| answer.status);
            serde_json::json!({ "id": post.id, "status": status, "answer": post.answer() })
        })
        .collect();
    // As `inbox ls --json` has them; null where nothing is known.
    let entries: Option<Vec<serde_json::Value>> = entries.map(|entries| entries.iter().filter_map(entry).collect());
    let json = serde_json::json!({
        "events": summary.answered() + summary.failures.values().sum::<u64>(),
        "statuses": summary.statuses,
        "failures": summary.failures,
        "elapsed_ms": u64::try_from(summary.elapsed.as_millis()).unwrap_or(u64::MAX),
        "answers_per_second": summary.rate(),
        "latency_us": latency,
        "posts": posts,
        "entries": entries,
    });
    writeln!(out, "{json}")
}

fn entry(entry: &EntryView) -> Option<serde_json::Value> {
    let mut line = Vec::new();
    json::entry(entry, None, None, None, &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn an_answer_is_told_in_the_receivers_words() {
        let told = |status, start: &'static str| Told {
            id: None,
            answer: Ok(Answer { status, start: Bytes::from_static(start.as_bytes()) }),
        };
        let accepted = told(200, r#"{"status":"accepted","id":"1"}"#);
        assert!(accepted.is_taken() && accepted.answer() == "200 accepted");
        let refused = told(422, r#"{"status":422,"code":"not_an_event","detail":"`id` is missing"}"#);
        assert!(!refused.is_taken() && refused.answer() == "422 not_an_event: `id` is missing");
        assert_eq!(told(502, "<html>").answer(), "502");
        let silent = Told { id: None, answer: Err("no answer within 30 s".to_owned()) };
        assert!(!silent.is_taken() && silent.answer() == "no answer within 30 s");
    }
}
