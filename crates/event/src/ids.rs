//! Ids as types, so that a user cannot stand where a connection is meant.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest id, in bytes. The vendor's are short (`docs/linxo-api.md` section 4); ids become keys and header values, and
/// must not be as long as whoever sends them likes.
pub const MAX_ID: usize = 256;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(String);

        impl $name {
            /// Wraps an id as the vendor wrote it (a string of digits, mostly; `docs/linxo-api.md` section 4).
            #[must_use]
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// The id's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// `id` of an event. Not unique by the vendor's own examples.
    EventId
);
id!(
    /// `resource.id`: a user's link to one bank.
    ConnectionId
);
id!(
    /// `resource.user_id`: the integrator's end user.
    UserId
);
id!(
    /// `id` of a bank account.
    AccountId
);
id!(
    /// `channel_definition_id`: the way to a bank whose synchronisation ended.
    ChannelDefinitionId
);
