//! Makes the delivery of an entry: its attributes, and a body with all accounts.

use super::{Stop, body::accounts_between};
use crate::inbox::{self, EntryFacts, Inbox, Lease};
use base::clock::Timestamp;
use delivery::{Attributes, Body, Completion, Delivery, DeliveryId};
use event::{ChannelDefinitionId, ConnectionId, Event, UserId};
use std::sync::Arc;

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

/// Makes the delivery of the leased entry. `source` is the base of the vendor's API.
pub(super) async fn compose(inbox: &Arc<dyn Inbox>, source: &str, lease: &Lease) -> Result<Delivery, Stop> {
    let entry = &lease.entry;
    let parts = if entry.confirm { confirmed(inbox, lease).await? } else { believed(inbox, lease).await? };
    Ok(Delivery {
        attributes: Attributes {
            specversion: "1.0",
            id: DeliveryId::new(&entry.delivery_id),
            source: source.to_owned(),
            cloud_type: entry.cloud_type.clone(),
            subject: ConnectionId::new(&entry.connection),
            time: parts.time.and_then(Timestamp::to_rfc3339),
            datacontenttype: "application/json",
            linxouser: parts.user,
            linxochannel: parts.channel,
            linxomode: parts.mode,
            linxocompletion: parts.completion,
            linxoaccounts: parts.accounts,
            linxomismatch: parts.mismatch,
        },
        body: parts.body,
    })
}

/// The event as it came, with its accounts.
async fn believed(inbox: &Arc<dyn Inbox>, lease: &Lease) -> Result<Parts, Stop> {
    let entry = &*lease.entry;
    let parts = |body, completion, accounts, mismatch| Parts {
        body,
        completion,
        accounts,
        user: entry.user.as_ref().map(UserId::new),
        channel: entry.channel.as_ref().map(ChannelDefinitionId::new),
        mode: entry.mode.clone(),
        time: entry.created.and_then(|seconds| seconds.checked_mul(1000)).map(Timestamp::from_millis),
        mismatch,
    };
    let whole = || Body::whole(lease.body.clone());
    match entry.completion {
        None => Ok(parts(whole(), Completion::Event, entry.listed, lists_another_number(entry))),
        // The accounts stay as the event had them: none.
        Some(inbox::Completion::Gone) => Ok(parts(whole(), Completion::Gone, 0, true)),
        Some(inbox::Completion::Fetched { reading, found }) => {
            let splice = event::splice(&lease.body).map_err(|error| Stop::park(error.to_string()))?;
            let before = [splice.before, splice.member, b"["].concat();
            let after = [b"]", splice.after].concat();
            let body = accounts_between(before, Arc::clone(inbox), reading, after).await?;
            Ok(parts(body, Completion::Api, found.accounts, found.differs(entry)))
        }
    }
}

/// Whether an event that lists its accounts announces another number of them.
fn lists_another_number(entry: &EntryFacts) -> bool {
    entry.account_count.is_some_and(|announced| announced != entry.listed)
}

/// An event that is only a hint: its address, and what the API says of the connection. No other member of the body is let
/// through, under whatever name: a reader that ignores case would take `Resource` for `resource`.
async fn confirmed(inbox: &Arc<dyn Inbox>, lease: &Lease) -> Result<Parts, Stop> {
    let Some(inbox::Completion::Fetched { reading, found }) = lease.entry.completion else {
        return Err(Stop::park("the event is only a hint, and the API has not confirmed it: replay it, or purge it"));
    };
    let Some(connection) = inbox.connection(reading).await? else {
        return Err(Stop::park("the connection that the API confirmed is not kept any more: replay the completion"));
    };
    let Ok(hint) = Event::parse(&lease.body) else {
        return Err(Stop::park("the stored event cannot be read any more"));
    };
    let [id, event_type, resource_type] = [hint.id.as_str(), &hint.event_type, &hint.resource_type].map(quoted);
    let mut before =
        format!("{{\"id\":{id},\"event_type\":{event_type},\"resource_type\":{resource_type},\"resource\":")
            .into_bytes();
    // An object with an id (`linxo::Connection`), so that a member more always follows a comma.
    before.extend_from_slice(connection.strip_suffix(b"}").unwrap_or(&connection));
    before.extend_from_slice(format!(",\"account_count\":{},\"accounts\":[", found.accounts).as_bytes());
    Ok(Parts {
        body: accounts_between(before, Arc::clone(inbox), reading, b"]}}".to_vec()).await?,
        completion: Completion::Api,
        accounts: found.accounts,
        user: event::wire::user_of(&connection).map(UserId::new),
        channel: None,
        mode: None,
        // When something happened is a claim of the event as well. When the event was accepted is known.
        time: Some(lease.entry.accepted),
        mismatch: found.differs(&lease.entry),
    })
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
