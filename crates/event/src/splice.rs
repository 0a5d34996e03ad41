//! Fills `resource.accounts` of a truncated event without touching any other byte.

use crate::scan;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A body in two halves; the accounts array (with its brackets) goes between them.
#[derive(Debug, PartialEq, Eq)]
pub struct Splice<'a> {
    /// Up to the opening bracket, which is not included.
    pub before: &'a [u8],
    /// `,"accounts":` where the event had no such member, else empty.
    pub member: &'static [u8],
    /// From behind the closing bracket.
    pub after: &'a [u8],
}

/// Why a body has no place for accounts. Cannot happen for a body that parsed as truncated.
#[derive(Debug, thiserror::Error)]
#[error("the stored event has no place for its accounts")]
pub struct SpliceError(#[source] Option<serde_json::Error>);

#[derive(Deserialize)]
struct Top<'a> {
    #[serde(borrow)]
    resource: &'a RawValue,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow)]
    account_count: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    accounts: Option<&'a RawValue>,
}

/// Keeps a JSON `null` as a value with a place, where `Option` alone would lose it.
fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Finds where the accounts of a stored event belong.
///
/// # Errors
/// [`SpliceError`] when the body has neither `resource.accounts` nor `resource.account_count`.
pub fn splice(body: &[u8]) -> Result<Splice<'_>, SpliceError> {
    let top: Top<'_> = serde_json::from_slice(body).map_err(|error| SpliceError(Some(error)))?;
    let resource: Resource<'_> = serde_json::from_str(top.resource.get()).map_err(|error| SpliceError(Some(error)))?;
    let (start, end, member): (usize, usize, &'static [u8]) = match (resource.accounts, resource.account_count) {
        (Some(accounts), _) => {
            let start = scan::offset_in(body, accounts.get());
            (start, start + accounts.get().len(), b"")
        }
        (None, Some(count)) => {
            let end = scan::offset_in(body, count.get()) + count.get().len();
            (end, end, b",\"accounts\":")
        }
        (None, None) => return Err(SpliceError(None)),
    };
    match (body.get(..start), body.get(end..)) {
        (Some(before), Some(after)) => Ok(Splice { before, member, after }),
        _ => Err(SpliceError(None)),
    }
}
