//! Webhook events as the vendor sends them: the two of its documentation, byte for byte, and any number of made-up ones.
//!
//! Made-up events speak of the connections that the double knows (see [`Connection::numbered`](super::Connection)), so
//! that a truncated one can be completed from it. Every one has an id of its own, unless the caller gives the same twice.

use crate::{
    accounts::{Connection, account_json, connection_json},
    wire::ApiVersion,
};
use base::clock;

/// The documented event with two accounts in it (`docs/linxo-api.md` section 6).
pub const DOCUMENTED_WHOLE: &[u8] = include_bytes!("../documented/two_accounts.json");
/// The documented event with 102 accounts, none of them in it; it has the same id as the other one.
pub const DOCUMENTED_TRUNCATED: &[u8] = include_bytes!("../documented/102_accounts.json");
/// Above this many accounts the vendor sends none (today; the receiver must not rely on the number).
pub const VENDOR_CUT: usize = 100;

/// Which channel's synchronisation an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The only one, or the last: every channel is done.
    Last,
    /// The first of two: the other still runs, and so does the connection (`docs/linxo-api.md` section 6).
    FirstOfTwo,
}

/// What to say in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Id of the event.
    pub id: String,
    /// The connection, with its user and number of accounts.
    pub connection: Connection,
    /// Leaves the accounts out, as happens by itself above [`VENDOR_CUT`].
    pub truncated: bool,
    /// Which channel.
    pub channel: Channel,
    /// `connection_updated.new_transactions`.
    pub new_transactions: bool,
    /// `creation_date`, in seconds since the epoch.
    pub created: i64,
}

impl Plan {
    /// One event of a connection whose only channel was synchronised, now.
    #[must_use]
    pub fn new(id: impl Into<String>, connection: Connection) -> Self {
        let truncated = connection.accounts > VENDOR_CUT;
        Self {
            id: id.into(),
            connection,
            truncated,
            channel: Channel::Last,
            new_transactions: true,
            created: clock::now().as_seconds(),
        }
    }
}

/// Writes the event. The same plan always makes the same bytes.
#[must_use]
pub fn event(plan: &Plan) -> Vec<u8> {
    let Connection { id, user, accounts } = &plan.connection;
    let (channel, second, status) = match plan.channel {
        Channel::Last => ("24600", "SUCCESS", "SUCCESS"),
        Channel::FirstOfTwo => ("24601", "RUNNING", "RUNNING"),
    };
    let resource = connection_json(id, user, "SUCCESS", second, status);
    let resource = resource.strip_suffix('}').unwrap_or(&resource);
    let listed: Vec<String> = if plan.truncated || *accounts > VENDOR_CUT {
        Vec::new()
    } else {
        let count = u64::try_from(*accounts).unwrap_or(0);
        (0..count).rev().map(|number| account_json(id, number, ApiVersion::V2_1, false)).collect()
    };
    format!(
        r#"{{"id":{},"event_type":"UPDATED","resource_type":"CONNECTIONS","creation_date":{},"channel_definition_id":"{channel}","resource":{resource},"account_count":{accounts},"accounts":[{}]}},"connection_updated":{{"new_transactions":{}}}}}"#,
        serde_json::Value::from(plan.id.as_str()),
        plan.created,
        listed.join(","),
        plan.new_transactions,
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::wire;

    fn typed(bytes: &[u8]) -> wire::Event<'_> {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn the_documented_events_share_their_id() {
        let (whole, truncated) = (typed(DOCUMENTED_WHOLE), typed(DOCUMENTED_TRUNCATED));
        assert_eq!(whole.id, truncated.id);
        assert_eq!(whole.resource.accounts.unwrap().len(), 2);
        assert_eq!(truncated.resource.account_count, Some(102));
        assert_eq!(truncated.resource.accounts.unwrap().len(), 0);
    }

    #[test]
    fn above_the_cut_no_account_is_listed() {
        for (accounts, truncated, listed) in [(0, false, 0), (100, false, 100), (101, false, 0), (3, true, 0)] {
            let plan = Plan { truncated, ..Plan::new("e \"1\"", Connection::numbered(1, accounts)) };
            let bytes = event(&plan);
            let event = typed(&bytes);
            assert_eq!(event.id.0, "e \"1\"");
            assert_eq!(event.resource.id.0, "700001");
            assert_eq!(event.resource.user_id.unwrap().0, "300001");
            assert_eq!(event.resource.account_count, Some(u64::try_from(accounts).unwrap()));
            assert_eq!(event.resource.accounts.unwrap().len(), listed);
        }
    }

    #[test]
    fn the_first_of_two_channels_leaves_the_connection_running() {
        let plan = Plan { channel: Channel::FirstOfTwo, ..Plan::new("1", Connection::documented()) };
        let bytes = event(&plan);
        let event = typed(&bytes);
        assert_eq!(event.resource.status.unwrap().0, "RUNNING");
        let channels = event.resource.channels.unwrap();
        let told = channels
            .iter()
            .find(|channel| Some(&channel.channel_definition_id) == event.channel_definition_id.as_ref());
        assert_eq!(told.unwrap().status.as_ref().unwrap().0, "SUCCESS");
    }
}
