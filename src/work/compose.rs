//! Makes the delivery of an entry: its attributes, and a body with all accounts.

use super::body::accounts_between;
use base::{clock::Timestamp, trace::TraceParent};
use bytes::Bytes;
use delivery::{Attributes, Body, Completion, Delivery};
use event::{ChannelDefinitionId, Event, UserId};
use inbox::{Cause, Error, Facts, Fetched, Lease, Shelf};
use std::sync::Arc;

/// Why there is no delivery.
pub(super) enum Stop {
    /// A person must act.
    Park {
        /// What kind of trouble it is.
        cause: Cause,
        /// One sentence for people.
        reason: String,
    },
    /// The inbox failed.
    Inbox(Error),
}

impl Stop {
    fn park(cause: Cause, reason: impl Into<String>) -> Self {
        Self::Park { cause, reason: reason.into() }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Inbox(error)
    }
}

/// What a delivery is made of.
pub(super) struct Given<'a> {
    pub(super) entry: &'a Facts,
    /// The event as it came.
    pub(super) body: &'a Bytes,
    /// Whether the sink has been given something newer.
    pub(super) is_stale: bool,
}

impl<'a> From<&'a Lease> for Given<'a> {
    fn from(lease: &'a Lease) -> Self {
        Self { entry: &lease.entry, body: &lease.body, is_stale: lease.is_stale }
    }
}

/// What is told of an event, before it has an address.
struct Parts {
    body: Body,
    completion: Completion,
    accounts: u64,
    user: Option<UserId>,
    channel: Option<ChannelDefinitionId>,
    mode: Option<String>,
    /// When what the event tells of happened.
    time: Option<Timestamp>,
    mismatch: bool,
}

/// Makes the delivery of an entry. `source` is the base of the vendor's API, `trace` the place of this attempt.
pub(super) async fn compose(
    shelf: &Arc<dyn Shelf>,
    source: &str,
    given: Given<'_>,
    trace: Option<&TraceParent>,
) -> Result<Delivery, Stop> {
    let entry = given.entry;
    let parts = if entry.confirm { confirmed(shelf, &given).await? } else { believed(shelf, &given).await? };
    Ok(Delivery {
        attributes: Attributes {
            specversion: "1.0",
            id: entry.delivery_id.clone(),
            source: source.to_owned(),
            cloud_type: event::cloud_type(&entry.resource_type, &entry.event_type),
            subject: entry.connection.clone(),
            time: parts.time.and_then(Timestamp::to_rfc3339),
            datacontenttype: "application/json",
            linxouser: parts.user,
            linxochannel: parts.channel,
            linxomode: parts.mode,
            linxocompletion: parts.completion,
            linxoaccounts: parts.accounts,
            linxomismatch: parts.mismatch,
            linxostale: given.is_stale,
            linxomerged: entry.merged.iter().map(|member| member.delivery_id.clone()).collect(),
        },
        body: parts.body,
        trace: trace.cloned(),
        as_of: entry.as_of.at,
    })
}

/// The event as it came, with its accounts.
async fn believed(shelf: &Arc<dyn Shelf>, given: &Given<'_>) -> Result<Parts, Stop> {
    let entry = given.entry;
    let parts = |body, completion, accounts, mismatch| Parts {
        body,
        completion,
        accounts,
        user: entry.user.clone(),
        channel: entry.channel.clone(),
        mode: entry.mode.clone(),
        time: entry.created.and_then(|seconds| seconds.checked_mul(1000)).map(Timestamp::from_millis),
        mismatch,
    };
    let body = flagged(given.entry, given.body)?;
    let whole = || Body::whole(body.clone());
    match entry.fetched {
        None => Ok(parts(whole(), Completion::Event, entry.listed, lists_another_number(entry))),
        // The accounts stay as the event had them: none.
        Some(Fetched::Gone) => Ok(parts(whole(), Completion::Gone, 0, true)),
        Some(Fetched::Read { reading, found }) => {
            let splice = event::splice(&body).map_err(|error| Stop::park(Cause::Unclear, error.to_string()))?;
            let before = [splice.before, splice.member, b"["].concat();
            let after = [b"]", splice.after].concat();
            let body = accounts_between(before, Arc::clone(shelf), reading, after).await?;
            Ok(parts(body, Completion::Api, found.accounts, found.differs(entry)))
        }
    }
}

/// The event. Of several that are delivered as one it is the one with the newest accounts, and where any of them brought new
/// transactions, it says so.
fn flagged(entry: &Facts, body: &Bytes) -> Result<Bytes, Stop> {
    if entry.merged.is_empty() || entry.new_transactions != Some(true) {
        return Ok(body.clone());
    }
    let flagged = event::with_new_transactions(body);
    flagged.map(Bytes::from).ok_or_else(|| Stop::park(Cause::Unclear, "the stored event cannot be read any more"))
}

/// Whether an event that lists its accounts announces another number of them.
fn lists_another_number(entry: &Facts) -> bool {
    entry.account_count.is_some_and(|announced| announced != entry.listed)
}

/// An event that is only a hint: its address, and what the API says of the connection. No other member of the body is let
/// through, under whatever name: a reader that ignores case would take `Resource` for `resource`.
async fn confirmed(shelf: &Arc<dyn Shelf>, given: &Given<'_>) -> Result<Parts, Stop> {
    let Some(Fetched::Read { reading, found }) = given.entry.fetched else {
        return Err(Stop::park(
            Cause::Unconfirmed,
            "the event is only a hint, and the API has not confirmed it: replay it, or purge it",
        ));
    };
    let Some(connection) = shelf.connection(reading).await? else {
        return Err(Stop::park(
            Cause::Unconfirmed,
            "the connection that the API confirmed is not kept any more: replay the completion",
        ));
    };
    let Ok(hint) = Event::parse(given.body) else {
        return Err(Stop::park(Cause::Unclear, "the stored event cannot be read any more"));
    };
    let [id, event_type, resource_type] = [hint.id.as_str(), &hint.event_type, &hint.resource_type].map(quoted);
    let mut before =
        format!("{{\"id\":{id},\"event_type\":{event_type},\"resource_type\":{resource_type},\"resource\":")
            .into_bytes();
    // An object with an id (`linxo::Connection`), so that a member more always follows a comma.
    before.extend_from_slice(connection.strip_suffix(b"}").unwrap_or(&connection));
    before.extend_from_slice(format!(",\"account_count\":{},\"accounts\":[", found.accounts).as_bytes());
    Ok(Parts {
        body: accounts_between(before, Arc::clone(shelf), reading, b"]}}".to_vec()).await?,
        completion: Completion::Api,
        accounts: found.accounts,
        user: event::wire::known_of(&connection).user.map(UserId::new),
        channel: None,
        mode: None,
        // When something happened is a claim of the event as well. When the event was accepted is known.
        time: Some(given.entry.accepted),
        mismatch: found.differs(given.entry),
    })
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
