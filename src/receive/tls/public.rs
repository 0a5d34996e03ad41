//! Tells the authorities that sign certificates for anybody.
//!
//! Whoever has a web site has a certificate of such an authority. As an authority of client certificates it keeps nobody out,
//! unless names or fingerprints say who is meant. An authority counts as public when its key is in Mozilla's list of roots,
//! or when one of those roots signed it.

use std::{collections::HashSet, sync::LazyLock};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Keys and names of Mozilla's roots.
#[derive(Debug, Default)]
struct Roots {
    keys: HashSet<Vec<u8>>,
    names: HashSet<Vec<u8>>,
}

static ROOTS: LazyLock<Roots> = LazyLock::new(|| {
    let mut roots = Roots::default();
    for der in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        if let Ok((_, root)) = X509Certificate::from_der(der) {
            roots.keys.insert(root.public_key().raw.to_vec());
            roots.names.insert(root.subject().as_raw().to_vec());
        }
    }
    roots
});

/// Whether an authority signs certificates for anybody.
pub(super) fn is_public(authority: &X509Certificate<'_>) -> bool {
    ROOTS.keys.contains(authority.public_key().raw) || ROOTS.names.contains(authority.issuer().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roots_of_browsers_are_public_and_our_own_are_not() {
        assert!(webpki_root_certs::TLS_SERVER_ROOT_CERTS.len() > 50);
        for der in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
            assert!(is_public(&X509Certificate::from_der(der).unwrap().1));
        }
        let ours = double::pki::Authority::new("ISRG Root X1").unwrap();
        let own = ours.identity().certificates().unwrap();
        assert!(!is_public(&X509Certificate::from_der(&own[0]).unwrap().1), "its name alone says nothing");
    }
}
