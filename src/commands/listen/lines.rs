//! One line for each attempt at a delivery. Pure. Colours are for terminals alone: whoever prints takes them out elsewhere.

use crate::work::{Attempt, End};
use base::{clock::Timestamp, text::printable};
use delivery::{Attributes, Completion};
use std::time::Duration;

/// What stands above the columns.
pub(super) const HEADER: &str =
    "TIME       WEBHOOK-ID                            CONNECTION  ACCOUNTS      ATTEMPT  TOOK      ANSWER";

/// The line of an attempt.
pub(super) fn line(attempt: &Attempt) -> String {
    let Attempt { attributes, number, ended, took, end } = attempt;
    let answer = match end {
        End::Taken => "\x1b[32mtaken (2xx)\x1b[0m".to_owned(),
        End::Again { due, reason } => {
            let wait = due.since(*ended);
            format!("\x1b[33m{}\x1b[0m; next try in {}", printable(reason), pause(wait))
        }
        End::Parked { reason } => format!("\x1b[31m{}\x1b[0m; parked", printable(reason)),
    };
    let line = format!(
        "{:<9}  {:<36}  {:<10}  {:<12}  {number:>7}  {:<8}  {answer}",
        time(*ended),
        printable(attributes.id.as_str()),
        printable(attributes.subject.as_str()),
        accounts(attributes),
        pause(*took),
    );
    line
}

/// `14:03:21Z`
fn time(at: Timestamp) -> String {
    let text = at.to_rfc3339().unwrap_or_default();
    let clock = text.split_once('T').map_or("", |(_, clock)| clock);
    format!("{}Z", clock.get(..8).unwrap_or_default())
}

/// `2`, `150 fetched`, and what else a consumer should know of the list.
fn accounts(attributes: &Attributes) -> String {
    let mut text = match attributes.linxocompletion {
        Completion::Event => attributes.linxoaccounts.to_string(),
        Completion::Api => format!("{} fetched", attributes.linxoaccounts),
        // It says by itself that the list is not what was announced.
        Completion::Gone => return "gone".to_owned(),
    };
    if attributes.linxomismatch {
        text.push_str(", mismatch");
    }
    if attributes.linxostale {
        text.push_str(", stale");
    }
    if !attributes.linxomerged.is_empty() {
        text.extend([", of ", &attributes.linxomerged.len().to_string(), " events"]);
    }
    text
}

/// `12 ms`, `1.5 s`, `42 s`, `12 min`
fn pause(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..10_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        10_000..600_000 => format!("{} s", millis / 1000),
        _ => format!("{} min", millis / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delivery::DeliveryId;
    use event::ConnectionId;

    fn attempt(end: End) -> Attempt {
        let attributes = Attributes {
            specversion: "1.0",
            id: DeliveryId::new("e1"),
            source: "https://api.oxlin.io/v2.1".to_owned(),
            cloud_type: "com.linxo.connections.updated".to_owned(),
            subject: ConnectionId::new("7\u{1b}[2J"),
            time: None,
            datacontenttype: "application/json",
            linxouser: None,
            linxochannel: None,
            linxomode: None,
            linxocompletion: Completion::Api,
            linxoaccounts: 150,
            linxomismatch: false,
            linxostale: false,
            linxomerged: Vec::new(),
        };
        let ended = Timestamp::from_millis(1_700_000_000_999);
        Attempt { attributes, number: 2, ended, took: Duration::from_millis(12), end }
    }

    fn plain(end: End) -> String {
        let text = anstream::adapter::strip_str(&line(&attempt(end))).to_string();
        assert!(!text.contains('\u{1b}'), "{text}");
        text
    }

    #[test]
    fn a_line_says_what_the_application_answered() {
        let taken = plain(End::Taken);
        let columns: Vec<&str> = taken.split_whitespace().collect();
        assert_eq!(columns[..2], ["22:13:20Z", "e1"]);
        assert_eq!(columns[3..], ["150", "fetched", "2", "12", "ms", "taken", "(2xx)"]);
        let due = Timestamp::from_millis(1_700_000_002_499);
        let again = plain(End::Again { due, reason: "the endpoint answered 500".to_owned() });
        assert!(again.ends_with("the endpoint answered 500; next try in 1.5 s"), "{again}");
        let parked = plain(End::Parked { reason: "the endpoint answered 410".to_owned() });
        assert!(parked.ends_with("the endpoint answered 410; parked"), "{parked}");
    }

    #[test]
    fn columns_stand_below_their_names() {
        let line = plain(End::Taken);
        for (name, value) in [("WEBHOOK-ID", "e1"), ("ACCOUNTS", "150 fetched"), ("TOOK", "12 ms"), ("ANSWER", "taken")]
        {
            assert_eq!(HEADER.find(name), line.find(value), "{HEADER}\n{line}");
        }
    }

    #[test]
    fn what_a_list_lacks_is_said() {
        let Attempt { mut attributes, .. } = attempt(End::Taken);
        attributes.linxomismatch = true;
        attributes.linxostale = true;
        assert_eq!(accounts(&attributes), "150 fetched, mismatch, stale");
        attributes.linxomerged = ["e1", "e2"].map(DeliveryId::new).to_vec();
        assert_eq!(accounts(&attributes), "150 fetched, mismatch, stale, of 2 events");
        attributes.linxocompletion = Completion::Gone;
        assert_eq!(accounts(&attributes), "gone");
        let pauses = [9, 1500, 42_000, 900_000].map(|millis| pause(Duration::from_millis(millis)));
        assert_eq!(pauses, ["9 ms", "1.5 s", "42 s", "15 min"]);
    }
}
