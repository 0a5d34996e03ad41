//! What is told about sinks.

use crate::work::View;
use base::{clock, clock::Timestamp, clock::millis, neighbour::Standing};
use delivery::{Attributes, Body, Completion, Delivery, DeliveryId, SinkName, Slot};
use event::ConnectionId;
use inbox::StageCounts;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Instant};

/// How a sink stands. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkReport {
    /// Configured name.
    pub name: String,
    /// `http`, `file`, `stdout`
    #[serde(rename = "type")]
    pub kind: String,
    /// `well`, `recovering`, `resting`, `down`, `paused`; `stopped` where no service runs.
    pub state: String,
    /// Since when it is paused or down; until when it rests.
    pub since: Option<String>,
    /// Since when every delivery failed.
    pub failing_since: Option<String>,
    /// Deliveries that wait, without those under way.
    pub waiting: u64,
    /// Deliveries under way.
    pub leased: u64,
    /// Deliveries that are parked.
    pub parked: u64,
}

/// What the running service holds, so that nobody else can have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Addresses that it listens on.
    pub addresses: Vec<String>,
    /// Files that its sinks write, without symbolic links.
    pub files: Vec<PathBuf>,
}

/// Whether a request changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// It did.
    pub changed: bool,
}

/// What came of a test delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// The id of the delivery.
    pub id: String,
    /// Whether the sink took it.
    pub taken: bool,
    /// What the sink did instead, in one sentence.
    pub reason: Option<String>,
    /// From the start of the attempt to its end.
    pub duration_ms: u64,
}

/// The report of a sink. Without a `view` no service runs; `paused` is then what the inbox says.
#[must_use]
pub fn report(
    name: &SinkName,
    kind: &str,
    counts: StageCounts,
    view: Option<View>,
    paused: Option<Timestamp>,
) -> SinkReport {
    let paused = view.map_or(paused, |view| view.paused);
    let (state, since) = match (paused, view) {
        (Some(since), _) => ("paused", Some(since)),
        (None, None) => ("stopped", None),
        (None, Some(view)) => word(view.standing),
    };
    SinkReport {
        name: name.as_str().to_owned(),
        kind: kind.to_owned(),
        state: state.to_owned(),
        since: since.and_then(Timestamp::to_rfc3339),
        failing_since: view.and_then(|view| view.failing_since).and_then(Timestamp::to_rfc3339),
        waiting: counts.waiting,
        leased: counts.leased,
        parked: counts.parked,
    }
}

/// The word for how a neighbour stands, and since when it is down or until when it rests.
pub(super) const fn word(standing: Standing) -> (&'static str, Option<Timestamp>) {
    match standing {
        Standing::Well => ("well", None),
        Standing::Recovering => ("recovering", None),
        Standing::Resting(until) => ("resting", Some(until)),
        Standing::Down(since) => ("down", Some(since)),
    }
}

/// Makes a test delivery: an event of no connection, told from real ones by its type, `com.linxo.connections.test`. `source` is
/// the base of the vendor's API.
pub async fn try_out(slot: &Slot, source: &str) -> Tested {
    let now = clock::now();
    let id = format!("test-{}", now.as_millis());
    let body = format!(
        r#"{{"id":"{id}","event_type":"TEST","resource_type":"CONNECTIONS","resource":{{"id":"test","account_count":0,"accounts":[]}}}}"#
    );
    let delivery = Delivery {
        attributes: Attributes {
            specversion: "1.0",
            id: DeliveryId::new(id.as_str()),
            source: source.to_owned(),
            cloud_type: event::cloud_type("CONNECTIONS", "TEST"),
            subject: ConnectionId::new("test"),
            time: now.to_rfc3339(),
            datacontenttype: "application/json",
            linxouser: None,
            linxochannel: None,
            linxomode: None,
            linxocompletion: Completion::Event,
            linxoaccounts: 0,
            linxomismatch: false,
            linxostale: false,
            linxomerged: Vec::new(),
        },
        body: Body::whole(body),
        trace: None,
        as_of: now,
    };
    let started = Instant::now();
    let result = slot.deliver(&delivery).await;
    let reason = result.as_ref().err().map(ToString::to_string);
    Tested { id, taken: result.is_ok(), reason, duration_ms: millis(started.elapsed()) }
}
