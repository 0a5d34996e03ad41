//! What a balancer sends before the handshake.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| linxo_webhook::receive::fuzzing::proxy_header(bytes));
