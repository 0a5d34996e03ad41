//! Bodies to post: the vendor's documented event with two accounts (2 KB), each with an id of its own.

use bytes::Bytes;
use double::events::DOCUMENTED_WHOLE;

/// Bank connections that events are about, in turns; within one, deliveries wait for each other.
pub(crate) const CONNECTIONS: u64 = 10_000;

/// What stands in the documented event, and what it is cut at.
const EVENT: &str = r#""abc123456""#;
const CONNECTION: &str = r#""id" : "123","#;

/// Makes any number of bodies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bodies {
    before: &'static str,
    between: &'static str,
    after: &'static str,
    /// Sets this series apart from others.
    series: u64,
}

impl Bodies {
    pub(crate) fn new() -> crate::Outcome<Self> {
        let text = std::str::from_utf8(DOCUMENTED_WHOLE)?;
        let changed = "the documented event has changed";
        let (before, rest) = text.split_once(EVENT).ok_or(changed)?;
        let (between, after) = rest.split_once(CONNECTION).ok_or(changed)?;
        Ok(Self { before, between, after, series: fastrand::u64(..) })
    }

    /// The n-th body. Ids look random, as the vendor's do, because that is the harder case for an index.
    pub(crate) fn make(&self, number: u64) -> Bytes {
        let id = fastrand::Rng::with_seed(self.series.wrapping_add(number)).u128(..);
        let connection = 700_000 + number % CONNECTIONS;
        let Self { before, between, after, .. } = self;
        format!(r#"{before}"{id:032x}"{between}"id" : "{connection}",{after}"#).into()
    }
}
