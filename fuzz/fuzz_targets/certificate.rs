//! Certificates of callers, before anybody vouches for them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| linxo_webhook::receive::fuzzing::certificate(der));
