//! The place of a request in a trace, as the W3C recommendation "Trace Context" writes it: `traceparent` and `tracestate`.
//!
//! In: the two headers of a caller, or what was stored of a place. Out: the two headers for the next hop. Headers that do not
//! follow the recommendation are as good as none: whoever sent them is served all the same.
//!
//! A place that this service made itself is told from one that a caller claimed: only the service's own word on whether a trace
//! is recorded counts later. In the stored form, the highest bit of the flags says so. The recommendation gives this bit no
//! meaning, and no header that comes or goes has it.

use std::fmt::Write as _;

/// Characters of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// What is kept of a `tracestate`, in bytes. The recommendation asks for 512 (section 3.3.1.5).
const LONGEST_STATE: usize = 512;
/// The trace is recorded.
const SAMPLED: u8 = 0x01;
/// The trace's id is random (level 2 of the recommendation).
const RANDOM: u8 = 0x02;
/// Stored only: this service made the place.
const OWN: u8 = 0x80;

/// A place in a trace: the trace, the span below which the next one belongs, and whether the trace is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// `traceparent`, and behind a space `tracestate` where there is one; with [`OWN`] in the flags.
    stored: String,
    flags: u8,
}

impl TraceParent {
    /// What a caller says, by its headers. `None` for what is no `traceparent` (section 3.2.2); without `tracestate`, where that
    /// is too long or cannot stand in a header.
    #[must_use]
    pub fn of_caller(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let parts = Parts::read(traceparent)?;
        Some(Self::new(&parts, parts.flags & (SAMPLED | RANDOM), tracestate.unwrap_or_default()))
    }

    /// A place that this service made: the ids of its span as big-endian numbers.
    #[must_use]
    pub fn own(trace: u128, span: u64, is_sampled: bool, tracestate: &str) -> Self {
        let parts = Parts { trace: &format!("{trace:032x}"), span: &format!("{span:016x}"), flags: 0 };
        Self::new(&parts, OWN | if is_sampled { SAMPLED } else { 0 }, tracestate)
    }

    /// What [`as_str`](Self::as_str) gave; `None` for anything else.
    #[must_use]
    pub fn parse(stored: &str) -> Option<Self> {
        let (parent, state) = stored.split_once(' ').unwrap_or((stored, ""));
        let parts = Parts::read(parent).filter(|_| parent.starts_with("00-"))?;
        Some(Self::new(&parts, parts.flags & (OWN | SAMPLED | RANDOM), state))
    }

    fn new(parts: &Parts<'_>, flags: u8, state: &str) -> Self {
        let mut stored = header(parts.trace, parts.span, flags);
        let state = state.trim_matches([' ', '\t']);
        let is_fit = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
        if !state.is_empty() && state.len() <= LONGEST_STATE && state.bytes().all(is_fit) {
            stored.push(' ');
            stored.push_str(state);
        }
        Self { stored, flags }
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.stored
    }

    /// The header `traceparent` for the next hop.
    #[must_use]
    pub fn traceparent(&self) -> String {
        header(self.trace_id(), self.span_id(), self.flags & !OWN)
    }

    /// The header `tracestate` for the next hop.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.stored.get(LENGTH + 1..)
    }

    /// The trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.stored.get(3..35).unwrap_or_default()
    }

    /// The span below which the next one belongs: 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> &str {
        self.stored.get(36..52).unwrap_or_default()
    }

    /// Whether the trace is recorded, by the word of whoever made the place.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Whether this service made the place.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        self.flags & OWN != 0
    }
}

fn header(trace: &str, span: &str, flags: u8) -> String {
    let mut text = String::with_capacity(LENGTH);
    // Writing into a String does not fail.
    write!(text, "00-{trace}-{span}-{flags:02x}").ok();
    text
}

/// What stands in a `traceparent`.
struct Parts<'a> {
    trace: &'a str,
    span: &'a str,
    flags: u8,
}

impl<'a> Parts<'a> {
    /// Reads version 00, and of later versions what version 00 had (section 3.2.4).
    fn read(text: &'a str) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let mut next = |length: usize| {
            let part = parts.next().filter(|part| part.len() == length)?;
            part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(part)
        };
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let is_known = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (is_known && !is_zero(trace) && !is_zero(span)).then_some(Self { trace, span, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of_caller(traceparent: &str) -> Option<TraceParent> {
        TraceParent::of_caller(traceparent, None)
    }

    #[test]
    fn a_callers_header_is_what_the_recommendation_says() {
        let place = of_caller(GOOD).unwrap();
        assert_eq!((place.traceparent().as_str(), place.tracestate()), (GOOD, None));
        assert_eq!(place.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(place.span_id(), "b7ad6b7169203331");
        assert!(place.is_sampled() && !place.is_own());
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
        ] {
            assert_eq!(of_caller(bad), None, "{bad}");
        }
    }

    #[test]
    fn of_a_later_version_what_is_known_is_read_and_version_00_is_sent_on() {
        for rest in ["", "-what-comes-later"] {
            let later = format!("cc{}{rest}", &GOOD[2..]);
            assert_eq!(of_caller(&later).unwrap().traceparent(), GOOD);
        }
        // Flags without a meaning are sent on as 0; so nobody outside can make a place look like one of ours.
        let flagged = of_caller(&GOOD.replace("-01", "-ff")).unwrap();
        assert_eq!(flagged.traceparent(), GOOD.replace("-01", "-03"));
        assert!(!flagged.is_own());
    }

    #[test]
    fn a_state_is_kept_unless_it_is_too_long_or_no_header() {
        let state = |text: &str| TraceParent::of_caller(GOOD, Some(text)).unwrap().tracestate().map(str::to_owned);
        assert_eq!(state(" rojo=00f067aa0ba902b7, congo=t61 ").as_deref(), Some("rojo=00f067aa0ba902b7, congo=t61"));
        for bad in ["", "  ", "a=b\r\nx: y", "a=é", &"x".repeat(LONGEST_STATE + 1)] {
            assert_eq!(state(bad), None, "{bad}");
        }
    }

    #[test]
    fn our_own_places_are_told_from_claimed_ones_in_the_store_alone() {
        let own = TraceParent::own(0x0af7, 0xb7ad, true, "a=b");
        assert_eq!(own.traceparent(), "00-00000000000000000000000000000af7-000000000000b7ad-01");
        let stored = TraceParent::parse(own.as_str()).unwrap();
        assert!(stored.is_own() && stored.is_sampled());
        assert_eq!((&stored, stored.tracestate()), (&own, Some("a=b")));
        assert!(!of_caller(own.as_str().split(' ').next().unwrap()).unwrap().is_own());
        assert!(!TraceParent::own(1, 1, false, "").is_sampled());
    }

    proptest! {
        /// What is read is sent on as a header that is read alike, and stored and read back as it was.
        #[test]
        fn whatever_is_taken_is_a_good_header(
            version in "[0-9a-f]{2}", trace in "[0-9a-f]{32}", span in "[0-9a-f]{16}", flags in any::<u8>(),
            state in "[ -~]{0,20}",
        ) {
            let text = format!("{version}-{trace}-{span}-{flags:02x}");
            if let Some(place) = TraceParent::of_caller(&text, Some(&state)) {
                let again = TraceParent::of_caller(&place.traceparent(), place.tracestate());
                prop_assert_eq!(again.as_ref(), Some(&place));
                prop_assert_eq!(TraceParent::parse(place.as_str()), Some(place));
            }
        }

        #[test]
        fn no_header_breaks_it(text in "\\PC{0,70}", state in "\\PC{0,20}") {
            drop((TraceParent::of_caller(&text, Some(&state)), TraceParent::parse(&text)));
        }
    }
}
