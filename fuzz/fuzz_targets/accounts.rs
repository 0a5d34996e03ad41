//! Pages of accounts, as the API might send them.
#![no_main]

use bytes::Bytes;
use event::ConnectionId;
use libfuzzer_sys::fuzz_target;
use linxo::AccountsPage;

fuzz_target!(|body: &[u8]| {
    // Every item is one of the connection's, a foreign one, or cannot be used.
    if let Ok(page) = AccountsPage::parse(&Bytes::copy_from_slice(body), &ConnectionId::new("7"), 1000) {
        assert_eq!(page.received as usize, page.accounts.len() + page.foreign.len() + page.unusable as usize);
    }
});
