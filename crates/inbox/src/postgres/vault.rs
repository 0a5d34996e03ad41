//! Seals and opens what the store keeps: the one place through which bank data goes into its rows and comes back.
//!
//! Many receivers use one keys store, and one of them may erase a key while another one is about to seal with it. So nobody remembers
//! which key an owner has. It is asked for in each transaction that seals, while locks are held that an erasure of the owner needs too:
//!
//! | what is sealed | locks of who seals | locks of who erases the key |
//! | --- | --- | --- |
//! | bodies, and old rows | the line of the connection | the lines of all connections that are concerned |
//! | pages, fetched connections | the stage of the entry that they are fetched for | the stages of all entries of the owner, which it deletes |
//! | starts of refused bodies | [`REFUSED`], shared | [`REFUSED`], alone |
//!
//! Example: a receiver looks for the key of connection 7 and is about to commit. Another one erases connection 7: it waits for the line,
//! finds the new entry, deletes it too, and then the key. Had it been first, the receiver would have found no key, and made a new one.
//!
//! Keys that were opened are remembered by their ids, a bounded number of them. Whether a receiver should seal at all is in the table
//! `meta`, and looked at in each of these transactions ([`SEALED`]): one that has no key beside others that have is told.

use super::{
    keys::{Keys, Numbered},
    tx::{Statement, Trouble, statement},
};
use crate::{
    Error,
    seal::{DataKey, Flaw, Known, Owner, Place, Ring, Round, Sealed},
};
use base::sync::lock;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};
use tokio_postgres::Row;

/// Whether what is written is to be sealed.
pub(super) const SEALED: &str = "SELECT count(*) FROM meta WHERE name = 'sealed'";
/// Held, shared, by who adds refused requests, and alone by who exchanges the key of their day.
pub(super) const REFUSED: &str = "hashtextextended('linxo-webhook refused ' || current_schema(), 0)";

/// The number in `meta` of the newest erased key whose rows are removed.
pub(super) const ERASURES: &str = "erasures";

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Vault(Option<Opened>);

/// How far this receiver's part of the work in the background is.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Of sealing old rows.
    pub(super) round: Round,
    /// Keys that it wrapped anew.
    pub(super) rewrapped: u64,
}

#[derive(Debug)]
struct Opened {
    keys: Keys,
    /// `None`: a command that was given no key. It lists, and opens nothing.
    ring: Option<Arc<Ring>>,
    known: Mutex<Known<i64>>,
    /// The number of the newest key that this receiver has noted in the store.
    noted: AtomicI64,
    /// The newest erasure that this receiver has seen.
    erasure: AtomicI64,
}

impl Vault {
    /// With a keys store. Without a ring nothing can be sealed or opened.
    pub(super) fn new(keys: Keys, ring: Option<Arc<Ring>>, erasure: i64) -> Self {
        let erasure = AtomicI64::new(erasure);
        Self(Some(Opened { keys, ring, known: Mutex::default(), noted: AtomicI64::new(0), erasure }))
    }

    /// Whether what is written is sealed.
    pub(super) fn is_on(&self) -> bool {
        self.ring().is_some()
    }

    /// The keys store, where there is one.
    pub(super) fn keys(&self) -> Option<&Keys> {
        self.0.as_ref().map(|opened| &opened.keys)
    }

    /// The keys store and the ring, where what is written is sealed.
    pub(super) fn ring(&self) -> Option<(&Keys, &Ring)> {
        let opened = self.0.as_ref()?;
        Some((&opened.keys, opened.ring.as_deref()?))
    }

    /// Whether this receiver does what all are to do, as the answer to [`SEALED`] says.
    ///
    /// # Errors
    /// [`Error::Seal`]: another receiver has sealed the inbox since this one was opened, or somebody took the seal away.
    pub(super) fn must_suit(&self, answer: &[Row]) -> Result<(), Trouble> {
        let is_sealed = answer.first().map_or(Ok(0_i64), |row| row.try_get(0))? > 0;
        let problem = match (is_sealed, self.is_on()) {
            (true, true) | (false, false) => return Ok(()),
            (true, false) => {
                "another receiver has sealed it, and this one has no inbox.key: give every receiver the same inbox.key, and start this one again"
            }
            (false, true) => "its seal was taken away since this receiver was started: start it again",
        };
        Err(Error::Seal { problem: problem.to_owned(), source: None }.into())
    }

    /// The keys that seal what belongs to owners; to be asked for under the locks that the head of this file names.
    pub(super) async fn sealing(&self, owners: impl IntoIterator<Item = Owner> + Send) -> Result<Sealing, Trouble> {
        let Some((keys, ring)) = self.ring() else { return Ok(Sealing::default()) };
        let owners: HashSet<Owner> = owners.into_iter().collect();
        let owners: Vec<Owner> = owners.into_iter().collect();
        let mut sealing = Sealing { is_on: true, ..Sealing::default() };
        if owners.is_empty() {
            return Ok(sealing);
        }
        for (owner, Numbered { number, kept }) in keys.find_or_make(&owners, ring).await? {
            sealing.newest = sealing.newest.max(number);
            sealing.by_owner.insert(owner, self.open(kept.0, kept.1)?);
        }
        Ok(sealing)
    }

    /// The keys that rows name.
    pub(super) async fn opening(&self, ids: impl IntoIterator<Item = Option<i64>> + Send) -> Result<Opening, Trouble> {
        let mut ids: BTreeSet<i64> = ids.into_iter().flatten().collect();
        let mut opening = Opening::default();
        let (Some((keys, _)), false) = (self.ring(), ids.is_empty()) else { return Ok(opening) };
        if let Some(opened) = &self.0 {
            let mut known = lock(&opened.known);
            ids.retain(|id| {
                let key = known.get(id);
                let is_missing = key.is_none();
                opening.0.extend(key.map(|key| (*id, Ok(key))));
                is_missing
            });
        }
        if ids.is_empty() {
            return Ok(opening);
        }
        let ids: Vec<i64> = ids.into_iter().collect();
        let mut found = keys.by_ids(&ids).await?;
        for id in ids {
            let key = match found.remove(&id) {
                Some(Some(wrapped)) => self.open(id, wrapped),
                Some(None) => Err(Flaw::Erased),
                None => Err(Flaw::Missing),
            };
            opening.0.insert(id, key);
        }
        Ok(opening)
    }

    fn open(&self, id: i64, wrapped: Vec<u8>) -> Result<Arc<DataKey>, Flaw> {
        let (opened, ring) =
            self.0.as_ref().and_then(|opened| Some((opened, opened.ring.as_ref()?))).ok_or(Flaw::NoKey)?;
        let mut known = lock(&opened.known);
        if let Some(key) = known.get(&id) {
            return Ok(key);
        }
        let key = ring.data_key(opened.keys.identity(), &(id, wrapped))?;
        known.put(id, Arc::clone(&key));
        Ok(key)
    }

    /// Notes in the store that its rows need the newest of these keys: a keys store from before is refused at the next start. Each
    /// connection notes it in the slot of its number, so that nobody waits for another.
    pub(super) fn note(&self, sealing: &Sealing, slot: i64) -> Option<Statement> {
        let noted = self.0.as_ref()?.noted.load(Ordering::Relaxed);
        (sealing.newest > noted).then(|| {
            statement!(
                "INSERT INTO meta (name, number) VALUES ('keys ' || $1::bigint, $2)
                 ON CONFLICT (name) DO UPDATE SET number = greatest(meta.number, excluded.number)",
                slot,
                sealing.newest
            )
        })
    }

    /// What was noted is committed.
    pub(super) fn noted(&self, sealing: &Sealing) {
        if let Some(opened) = &self.0 {
            opened.noted.fetch_max(sealing.newest, Ordering::Relaxed);
        }
    }

    /// Forgets keys that another receiver has erased since the last look.
    pub(super) async fn look(&self) -> Result<(), Trouble> {
        let Some(opened) = &self.0 else { return Ok(()) };
        let (_, newest) = opened.keys.newest().await?;
        let seen = opened.erasure.load(Ordering::Relaxed);
        if newest > seen {
            let erased = opened.keys.erased_since(seen).await?;
            let mut known = lock(&opened.known);
            for id in &erased {
                known.forget(id);
            }
            opened.erasure.fetch_max(newest, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Keys that seal, for one transaction.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    is_on: bool,
    by_owner: HashMap<Owner, Arc<DataKey>>,
    /// The number of the newest of them.
    newest: i64,
}

impl Sealing {
    fn key(&self, owner: &Owner) -> Result<Option<&DataKey>, Flaw> {
        match self.by_owner.get(owner) {
            Some(key) => Ok(Some(key)),
            None if self.is_on => Err(Flaw::Missing),
            None => Ok(None),
        }
    }

    /// What is to be written in place of a plain text.
    pub(super) fn seal<'a>(&self, owner: &Owner, place: Place, plain: &'a [u8]) -> Result<Sealed<'a>, Flaw> {
        self.key(owner)?.map_or(Ok(Sealed::plain(plain)), |key| key.seal(owner, place, plain))
    }

    /// The digest that stands beside a body of this owner; `plain` is the one without a seal.
    pub(super) fn digest(&self, owner: &Owner, body: &[u8], plain: [u8; 32]) -> Result<[u8; 32], Flaw> {
        Ok(self.key(owner)?.map_or(plain, |key| key.digest(body)))
    }
}

/// Keys that open rows.
#[derive(Debug, Default)]
pub(super) struct Opening(HashMap<i64, Result<Arc<DataKey>, Flaw>>);

impl Opening {
    fn key(&self, id: i64) -> Result<&DataKey, Flaw> {
        match self.0.get(&id) {
            Some(Ok(key)) => Ok(key),
            Some(Err(Flaw::Erased)) => Err(Flaw::Erased),
            Some(Err(Flaw::Missing)) => Err(Flaw::Missing),
            Some(Err(Flaw::Changed)) => Err(Flaw::Changed),
            Some(Err(_)) => Err(Flaw::OtherKey),
            None => Err(Flaw::NoKey),
        }
    }

    /// The plain text of what was written.
    pub(super) fn open(&self, key: Option<i64>, owner: &Owner, place: Place, stored: Vec<u8>) -> Result<Bytes, Flaw> {
        match key {
            Some(id) => self.key(id)?.open(owner, place, stored),
            None => Ok(stored.into()),
        }
    }

    /// The digest that stands beside a body under this key.
    pub(super) fn digest(&self, key: Option<i64>, body: &[u8]) -> Result<[u8; 32], Flaw> {
        match key {
            Some(id) => Ok(self.key(id)?.digest(body)),
            None => Ok(Sha256::digest(body).into()),
        }
    }
}
