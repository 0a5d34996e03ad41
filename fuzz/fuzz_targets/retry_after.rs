//! The `Retry-After` header of servers: never longer than what is believed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use base::{clock::Timestamp, retry_after};

fuzz_target!(|input: (i64, &str)| {
    let (now, value) = input;
    let wait = retry_after::parse(value, Timestamp::from_millis(now));
    assert!(wait.is_none_or(|wait| wait <= retry_after::LONGEST));
});
