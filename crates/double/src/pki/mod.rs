//! Throwaway certificates: authorities, server and client identities, revocation lists.
//!
//! In: names, a validity window, a key type. Out: PEM texts, and files whose keys only their owner can read. The first
//! start of `serve`, the `certs` and `simulate` commands, the demo and every TLS test take their certificates from here.
//!
//! Promises: each certificate gets its own random serial number, so that it can be revoked alone; a key is never
//! visible to others, not even for a moment, because its file is created with mode 0600 under another name and then
//! moved into place. Held by the tests below.
//!
//! Not here: reading the operator's certificates for the listener, and what to accept from a peer; that is `receive`.
//! Nothing made here is fit for production: keys are exportable and no authority keeps a record of what it signed.

mod authority;
mod error;
mod files;
mod identity;
mod leaf;

pub use authority::Authority;
pub use error::Error;
pub use files::{Existing, write_file, write_identity, write_identity_over};
pub use identity::Identity;
pub use leaf::{KeyKind, Leaf, Usage, self_signed, self_signed_localhost};

#[cfg(test)]
mod tests;
