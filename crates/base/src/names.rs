//! Names that more than one part of the flow uses, as types, so that one cannot stand where another is meant.

use serde::{Serialize, Serializer};
use std::{fmt, sync::Arc};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a text; nothing is checked. Clones share it.
            #[must_use]
            pub fn new(text: impl Into<Arc<str>>) -> Self {
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

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name!(
    /// The configured name of a sink, kept in the inbox beside each entry.
    SinkName
);
name!(
    /// The id under which an entry is delivered: another one for every entry, the same on every retry and replay. It
    /// contains no `.`, because the Standard Webhooks specification joins the signed parts with one.
    DeliveryId
);
