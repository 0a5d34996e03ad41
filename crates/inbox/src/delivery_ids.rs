//! Delivery ids once they are made: which event and which entry one tells, and the one of several entries together. `fold` makes those
//! of single entries. Pure.

use crate::DeliveryId;
use sha2::{Digest as _, Sha256};

/// The id of a delivery that several entries leave as: that of the one with the newest accounts, then `~m` and a hash of the ids of all.
/// No delivery id of one entry has an `m` behind a `~`. The same entries make the same id, and others another one.
pub(crate) fn merged_id<'a>(newest: &DeliveryId, members: impl Iterator<Item = &'a str>) -> DeliveryId {
    let mut hasher = Sha256::new();
    for id in members {
        hasher.update((id.len() as u64).to_be_bytes());
        hasher.update(id);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let hash = digest.iter().take(8).fold(0_u64, |hash, byte| (hash << 8) | u64::from(*byte));
    DeliveryId::new(format!("{newest}~m{hash:016x}"))
}

/// The delivery id of the entry with the newest accounts, where an id is one that [`merged_id`] may have made; else the id itself.
pub(crate) fn newest_of(id: &str) -> &str {
    let is_hash = |hash: &str| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.rsplit_once("~m").filter(|(_, hash)| is_hash(hash)).map_or(id, |(newest, _)| newest)
}

/// The event id that a delivery id was made of; `None` where none could have been.
pub(crate) fn event_id_of(delivery_id: &str) -> Option<String> {
    let mut id = String::with_capacity(delivery_id.len());
    let mut rest = delivery_id;
    while let Some((before, after)) = rest.split_once('~') {
        id.push_str(before);
        rest = match after.as_bytes().first()? {
            b't' => {
                id.push('~');
                after.get(1..)?
            }
            b'p' => {
                id.push('.');
                after.get(1..)?
            }
            _ => return Some(id),
        };
    }
    id.push_str(rest);
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_group_is_that_of_its_newest_entry_and_a_hash_of_all() {
        let newest = DeliveryId::new("a~pb");
        let id = merged_id(&newest, ["e1", "a~pb"].into_iter());
        assert_eq!(id.as_str(), "a~pb~mdd7390dfcba97f72");
        assert_eq!((event_id_of(id.as_str()).as_deref(), newest_of(id.as_str())), (Some("a.b"), "a~pb"));
        assert_ne!(id, merged_id(&newest, ["e1a", "~pb"].into_iter()), "where one id ends counts");
        assert_ne!(id, merged_id(&newest, ["e2", "a~pb"].into_iter()));
        assert_eq!([newest_of("a~m12"), newest_of("plain")], ["a~m12", "plain"]);
    }
}
