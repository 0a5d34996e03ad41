//! Lists of revoked client certificates: how they are read, and which of them count.

use super::{certificate::Listener, error::Error, pem::read};
use base::clock::Timestamp;
use rustls::pki_types::{CertificateRevocationListDer, pem::PemObject as _};
use std::path::{Path, PathBuf};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, ParsedExtension};

/// Facts about a list of revoked certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// Distinguished name of the authority.
    pub issuer: String,
    /// Names the key of the authority that signed it, where the list says so (RFC 5280 section 5.2.1): an authority that
    /// changed its key has a list for each.
    pub key: Option<Vec<u8>>,
    /// When it was made.
    pub made: Timestamp,
    /// When the next one is due. From then on it is not believed, and the authority's certificates are refused.
    pub ends: Timestamp,
}

impl RevocationList {
    /// Says, as an error, that this list has ended.
    pub fn log_end(&self, listener: Listener) {
        tracing::error!(
            code = "revocations_ended",
            listener = listener.as_str(),
            issuer = self.issuer,
            not_after = self.ends.to_rfc3339(),
            "a list of revocations has ended: every client certificate of its authority counts as not accepted until \
             there is a new one in {}",
            listener.revocations()
        );
    }
}

/// The list that counts, of each key of each authority: the newest, which stands first.
pub(super) fn in_use(lists: &[RevocationList]) -> impl Iterator<Item = &RevocationList> {
    let is_first = |(index, list): &(usize, &RevocationList)| {
        lists.iter().position(|other| other.issuer == list.issuer && other.key == list.key) == Some(*index)
    };
    lists.iter().enumerate().filter(is_first).map(|(_, list)| list)
}

/// Revocation lists that count, and have ended.
pub fn ended(lists: &[RevocationList], now: Timestamp) -> impl Iterator<Item = &RevocationList> {
    in_use(lists).filter(move |list| list.ends <= now)
}

/// A list that was read.
pub(super) struct ReadList {
    pub(super) der: CertificateRevocationListDer<'static>,
    /// As it stands in the list.
    pub(super) issuer: Vec<u8>,
    pub(super) facts: RevocationList,
}

/// Reads the lists, the newest first: where there are several of one authority, the first that fits is the one used.
pub(super) fn revocation_lists(files: &[PathBuf]) -> Result<Vec<ReadList>, Error> {
    let mut lists = Vec::new();
    for path in files {
        lists.extend(lists_in(path)?);
    }
    lists.sort_by_key(|list| std::cmp::Reverse(list.facts.made));
    Ok(lists)
}

/// What is wrong with a file of lists.
///
/// # Errors
/// That.
pub(in crate::receive) fn look(path: &Path) -> Result<(), Error> {
    lists_in(path).map(drop)
}

fn lists_in(path: &Path) -> Result<Vec<ReadList>, Error> {
    const KEY: &str = "tls.clients.revocations";
    let text = read(path, KEY)?;
    let mut lists = Vec::new();
    for der in CertificateRevocationListDer::pem_slice_iter(&text) {
        let der = der.map_err(|source| Error::Pem { path: path.to_owned(), key: KEY, source })?;
        lists.push(revocation_list(path, der)?);
    }
    if lists.is_empty() { Err(Error::NoRevocations { path: path.to_owned() }) } else { Ok(lists) }
}

fn revocation_list(path: &Path, der: CertificateRevocationListDer<'static>) -> Result<ReadList, Error> {
    let unreadable = || Error::Revocations { path: path.to_owned() };
    let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_position| unreadable())?;
    let millis = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
    let key = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(named) => Some(named.key_identifier.as_ref()?.0.to_vec()),
        _ => None,
    });
    let facts = RevocationList {
        issuer: list.issuer().to_string(),
        key,
        made: millis(list.last_update().timestamp()),
        ends: millis(list.next_update().ok_or_else(unreadable)?.timestamp()),
    };
    let issuer = list.issuer().as_raw().to_vec();
    Ok(ReadList { der, issuer, facts })
}
