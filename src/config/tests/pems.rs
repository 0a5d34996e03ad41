//! Certificates, keys and lists that are sound, made once.

use base::clock;
use double::pki::{Authority, Identity};
use std::{sync::LazyLock, time::Duration};

struct Pems {
    authority: Authority,
    server: Identity,
    revocations: String,
}

static PEMS: LazyLock<Pems> = LazyLock::new(|| {
    let authority = Authority::new("test").unwrap();
    let nobody: [&[u8]; 0] = [];
    let revocations = authority.revocation_list(&nobody, clock::now().after(Duration::from_hours(1))).unwrap();
    Pems { server: authority.server(&["localhost"]).unwrap(), revocations, authority }
});

/// An authority's certificate.
pub(super) fn authority() -> &'static str {
    PEMS.authority.certificate_pem()
}

/// A server's certificate and its key.
pub(super) fn server() -> (&'static str, &'static str) {
    (&PEMS.server.certificate_pem, &PEMS.server.key_pem)
}

/// A list of revocations of the authority.
pub(super) fn revocations() -> &'static str {
    &PEMS.revocations
}
