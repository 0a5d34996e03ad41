//! Builds the TLS settings of the public listener from PEM files.
//!
//! In: `[tls]`. Out: [`Loaded`], a whole `ServerConfig` with facts about its certificate; or an [`Error`] that names the file
//! and what to do. TLS 1.2 and 1.3 with the suites of rustls, all of them forward secret and authenticated (Mozilla's
//! "intermediate"; with `minimum_version = "1.3"` its "modern"). No early data: it can be replayed; no compression and no
//! renegotiation, which rustls does not have. The one certificate is shown whatever name the caller asks for (SNI): there is
//! one service here, and a caller that minds the name refuses by itself.
//!
//! A reload builds everything anew and swaps it whole. Each [`Loaded`] has ticket keys of its own, so a session that began
//! under an older one cannot be resumed past a change of authorities, or past the end of a revocation list
//! ([`Loaded::renewed`]): a resumed session is not verified again.

mod certificate;
mod chains;
mod clients;
mod error;
mod load;
pub(super) mod note;
pub(super) mod pair;
mod pem;
mod public;
pub(super) mod revocations;
mod verifier;

pub use super::identity::dns_names_of;
pub use certificate::{Certificate, Listener, Validity};
pub use error::Error;
pub use load::{Loaded, load, load_optional};
pub use revocations::{RevocationList, ended};
