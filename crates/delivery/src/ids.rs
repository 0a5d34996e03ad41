//! Names as types, so that the id of a delivery cannot stand where the id of an event or the name of a sink is meant.

use serde::Serialize;
use std::fmt;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// Wraps a text; nothing is checked.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
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

name!(
    /// The id under which an entry is delivered: another one for every entry, the same one on every retry and replay.
    DeliveryId
);
name!(
    /// The configured name of a sink, kept in the inbox beside each entry.
    SinkName
);
