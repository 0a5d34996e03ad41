//! Bodies of webhook requests: never a panic, and what is accepted can be addressed.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use event::Event;

fuzz_target!(|body: &[u8]| {
    let Ok(event) = Event::parse(&Bytes::copy_from_slice(body)) else { return };
    assert!(!event.id.as_str().is_empty() && !event.connection.as_str().is_empty());
    // Only JSON gets this far, and JSON is text.
    assert!(std::str::from_utf8(body).is_ok());
});
