//! Reads an event in which everything has its documented type.

use crate::{
    event::{Drift, Event, Shape},
    ids::{ChannelDefinitionId, ConnectionId, EventId},
    malformed::Malformed,
    noted::{Noted, distinct, required},
    wire,
};

/// The event with every field typed.
pub(super) fn read(event: &wire::Event<'_>) -> Result<Event, Malformed> {
    let connection = &event.resource;
    let id = EventId::new(required("$.id", &event.id.0)?);
    let event_type = required("$.event_type", &event.event_type)?;
    let resource_type = required("$.resource_type", &event.resource_type)?;
    let resource = ConnectionId::new(required("$.resource.id", &connection.id.0)?);
    let channel = event
        .channel_definition_id
        .as_ref()
        .and_then(|id| connection.channels.iter().flatten().find(|channel| channel.channel_definition_id == *id));
    let mut accounts: Vec<&str> = connection.accounts.iter().flatten().map(|account| &*account.id.0).collect();
    let came = accounts.len() as u64;
    let listed = distinct(&mut accounts);
    let mut noted = Noted::default();
    let expected = connection.account_count.filter(|count| *count > 0 && listed == 0);
    let text = |text: &Option<wire::Text<'_>>| text.as_ref().map(|text| text.0.to_string());
    let mut parsed = Event {
        user: noted.user(connection.user_id.as_ref().map(|id| &*id.0)),
        channel: noted
            .text("$.channel_definition_id", event.channel_definition_id.as_ref().map(|id| id.0.to_string()))
            .map(ChannelDefinitionId::new),
        mode: noted.text("$.resource.channels.mode", channel.and_then(|channel| text(&channel.mode))),
        channel_status: noted.text("$.resource.channels.status", channel.and_then(|channel| text(&channel.status))),
        status: noted.text("$.resource.status", text(&connection.status)),
        provider: noted.text("$.resource.provider_id", connection.provider_id.as_ref().map(|id| id.0.to_string())),
        created: event.creation_date,
        new_transactions: event
            .connection_updated
            .as_ref()
            .and_then(|updated| updated.new_transactions)
            .or(event.new_transactions),
        account_count: connection.account_count,
        listed,
        shape: expected.map_or(Shape::Whole, |expected| Shape::Truncated { expected }),
        drift: None,
        id,
        event_type,
        resource_type,
        connection: resource,
    };
    if !parsed.is_documented() {
        noted.note(Drift::UnknownType);
    }
    if listed < came {
        noted.note(Drift::Repeated { path: "$.resource.accounts".into() });
    }
    noted.finish(&mut parsed);
    Ok(parsed)
}
