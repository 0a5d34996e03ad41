//! HMAC-SHA256 under a key of any length.

use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;

/// Begins a keyed hash.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub(crate) fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length")
}
