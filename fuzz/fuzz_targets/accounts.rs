//! Pages of accounts, as the API might send them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| linxo_webhook::linxo::fuzzing::accounts(body));
