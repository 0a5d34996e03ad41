//! How a store on a server and its keys meet when a receiver opens it.
//!
//! | the store | `inbox.key` | what happens |
//! | --- | --- | --- |
//! | not sealed | not set | everything is stored as it is |
//! | not sealed | set | the first receiver seals from now on, and the others are told ([`must_suit`](Vault::must_suit)); what is there is sealed in the background |
//! | sealed | set | the key must be the right one; keys that an older key wraps are wrapped anew in the background |
//! | sealed | not set | the receiver does not start; commands list, and open nothing |
//!
//! The keys store is made by `init` alone. Rows of erased keys are removed before anybody sees them: they come with an old backup, and
//! from an erasure that did not come to its end.

use super::{
    clock::Clock,
    connect::Pool,
    erase,
    keys::Keys,
    schema::{self, Found, set_number},
    store::Core,
    tx::{self, Trouble, Tx, statement},
    vault::{ERASURES, Vault},
};
use crate::{
    Access, Error, Identity, SealStanding, Settings,
    seal::{Flaw, Ring},
};
use base::clock;
use std::{sync::Arc, time::Duration};

/// Numbers in `meta`, beside [`ERASURES`]. `sealed`: what is written is sealed. `plain`: there may be rows from before that are not.
/// Those that begin with `keys ` are the newest keys that rows may have ([`Vault::note`]).
const SEALED: &str = "sealed";
pub(super) const PLAIN: &str = "plain";
/// Whoever seals the inbox, or takes its seal away, waits for everybody who writes at the moment. Each of them locks one of these first.
const ALONE: &str = "LOCK TABLE line, stage, refused IN EXCLUSIVE MODE";
/// For the keys store to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a store is opened with.
pub(super) struct Attached {
    pub(super) vault: Vault,
    /// The key of hashes, where it is in the keys store.
    pub(super) dedup: Option<[u8; 16]>,
}

/// Opens the keys of a store, as the head of this file says.
///
/// # Errors
/// [`Error::Seal`]: keys and data do not fit together; [`Error::Away`]: the keys store cannot be reached.
pub(super) async fn attach(pool: &Pool, found: &Found, settings: &Settings, access: Access) -> Result<Attached, Error> {
    let refused = |flaw| refuse(pool, flaw);
    let ring = Ring::new(&settings.key).map_err(|flaw| refused(Trouble::Other(flaw.into())))?.map(Arc::new);
    match (found.is_sealed, &ring, access) {
        (false, None, _) | (false, _, Access::Guest) => {
            return Ok(Attached { vault: Vault::default(), dedup: None });
        }
        (true, None, Access::Owner) => return Err(no_key()),
        _ => {}
    }
    let keys = open(pool, found.identity, found.is_sealed).await?;
    if let Some(ring) = &ring {
        keys.try_ring(ring).await.map_err(refused)?;
    }
    let (newest, erasure) = keys.newest().await.map_err(refused)?;
    if found.keys > newest {
        return Err(older(pool));
    }
    if !found.is_sealed
        && let Some(ring) = &ring
    {
        keys.set_ring(ring).await.map_err(refused)?;
        tx::until_done(|| begin(pool, &keys)).await.map_err(refused)?;
    }
    let dedup = keys.dedup().await.map_err(refused)?.ok_or_else(|| missing(pool))?;
    Ok(Attached { vault: Vault::new(keys, ring, erasure), dedup: Some(dedup) })
}

/// Finds out what a receiver would find when it starts. Writes nothing.
///
/// # Errors
/// [`Error::Seal`]: it would not start.
pub(super) async fn rehearse(pool: &Pool, settings: &Settings) -> Result<SealStanding, Error> {
    let found = schema::look(pool).await?;
    match (found.is_sealed, settings.key.is_empty()) {
        (false, true) => Ok(SealStanding::Off),
        (true, true) => Err(no_key()),
        (false, false) => {
            let keys = open(pool, found.identity, false).await?;
            if let Some(ring) = Ring::new(&settings.key)? {
                keys.try_ring(&ring).await.map_err(|flaw| refuse(pool, flaw))?;
            }
            Ok(SealStanding::Ahead)
        }
        (true, false) => {
            attach(pool, &found, settings, Access::Guest).await?;
            Ok(if found.is_plain { SealStanding::Begun } else { SealStanding::On })
        }
    }
}

/// The keys store of this inbox, which is there.
async fn open(pool: &Pool, identity: Identity, is_sealed: bool) -> Result<Keys, Error> {
    match pool.keys().holds(PATIENCE).await? {
        None if is_sealed => Err(missing(pool)),
        None => Err(not_made(pool)),
        Some(found) if found != identity => Err(foreign(pool)),
        Some(_) => Ok(Keys::new(pool.keys().clone(), identity)),
    }
}

/// From now on everything is sealed. The key of hashes is in the keys store before it leaves the store.
async fn begin(pool: &Pool, keys: &Keys) -> Result<(), Trouble> {
    let (tx, _) = Tx::begin(pool, &Clock::new(clock::now), &[]).await?;
    tx.script(ALONE).await?;
    let found = tx.query(statement!("SELECT bytes FROM meta WHERE name = 'dedup'")).await?;
    let Some(row) = found.first() else {
        // Another receiver was first.
        tx.give_up();
        return Ok(());
    };
    keys.set_dedup(row.try_get(0)?).await?;
    let leaves = statement!("DELETE FROM meta WHERE name = 'dedup'");
    tx.commit(&[set_number(SEALED, 1), set_number(PLAIN, 1), leaves]).await?;
    tracing::info!(
        code = "seal_begun",
        "what is written to the inbox is sealed from now on; every receiver needs the same inbox.key"
    );
    Ok(())
}

/// The store is not sealed any more: what [`begin`] took from it comes back. For the end of an `unseal`; says whether that is it, and
/// no receiver has sealed another row meanwhile.
pub(super) async fn end(core: &Core) -> Result<bool, Trouble> {
    let Some(keys) = core.vault.keys() else { return Ok(true) };
    let dedup = keys.dedup().await?.ok_or(Flaw::Missing)?;
    let (tx, _) = Tx::begin(&core.pool, &core.clock, &[]).await?;
    tx.script(ALONE).await?;
    let rest = "SELECT EXISTS (SELECT 1 FROM entry WHERE key IS NOT NULL) OR EXISTS (SELECT 1 FROM page WHERE key IS NOT NULL)
                    OR EXISTS (SELECT 1 FROM reading WHERE key IS NOT NULL) OR EXISTS (SELECT 1 FROM refused WHERE key IS NOT NULL)";
    let rows = tx.query(statement!(rest)).await?;
    if rows.first().map_or(Ok(false), |row| row.try_get(0))? {
        tx.give_up();
        return Ok(false);
    }
    let back =
        "INSERT INTO meta (name, bytes) VALUES ('dedup', $1) ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes";
    let forget = "DELETE FROM meta WHERE name IN ('sealed', 'plain') OR name LIKE 'keys %'";
    tx.commit(&[statement!(back, dedup.to_vec()), statement!(forget)]).await?;
    Ok(true)
}

/// Removes the rows of erased keys, where some were erased that this store has not seen.
pub(super) async fn forget_erased(core: &Arc<Core>, seen: i64) -> Result<(), Trouble> {
    let Some(keys) = core.vault.keys() else { return Ok(()) };
    let (_, newest) = keys.newest().await?;
    if newest == seen {
        return Ok(());
    }
    // A store from before the erasures knows of none of them, or of those until it was copied.
    let erased = keys.erased_since(if newest < seen { 0 } else { seen }).await?;
    let removed = erase::rows_of(core, &erased).await?;
    let (tx, _) = Tx::begin(&core.pool, &core.clock, &[]).await?;
    tx.commit(&[set_number(ERASURES, newest)]).await?;
    if removed > 0 {
        tracing::warn!(
            code = "erased_rows_removed",
            entries = removed,
            "the inbox had rows of users or connections that were erased after it was copied; they are removed"
        );
    }
    Ok(())
}

fn seal(problem: String) -> Error {
    Error::Seal { problem, source: None }
}

fn no_key() -> Error {
    seal(
        "it is sealed, and inbox.key is not set: set it to the key file that the other receivers have; to take the seal away on purpose, \
         stop every receiver, set it once more and run `linxo-webhook inbox unseal`"
            .to_owned(),
    )
}

fn not_made(pool: &Pool) -> Error {
    let schema = pool.keys().server().schema();
    seal(format!(
        "inbox.key is set, and there is no keys store in the schema {schema} yet: run `linxo-webhook inbox init` once"
    ))
}

fn missing(pool: &Pool) -> Error {
    let schema = pool.keys().server().schema();
    seal(format!("it is sealed, and its keys store is not in the schema {schema}: put it back, from a dump of its own"))
}

fn foreign(pool: &Pool) -> Error {
    let schema = pool.keys().server().schema();
    seal(format!("the schema {schema} has the data keys of another inbox: name the right one in inbox.keys"))
}

fn older(pool: &Pool) -> Error {
    let schema = pool.keys().server().schema();
    seal(format!(
        "its keys store, the schema {schema}, is older than the inbox, which has rows that it has no key for: put the newest dump of it back"
    ))
}

/// The keys store was reached, and does not fit.
fn refuse(pool: &Pool, trouble: Trouble) -> Error {
    let schema = pool.keys().server().schema();
    let error = Error::from(trouble);
    let problem = match &error {
        Error::Away(_) | Error::Closed | Error::Unusable { .. } => return error,
        Error::Store(source) if matches!(source.downcast_ref(), Some(Flaw::OtherKey | Flaw::Changed)) => {
            "inbox.key is not the key that it is sealed with: put that one back, or add it to the list behind the new one".to_owned()
        }
        _ => format!("its keys store, the schema {schema}, cannot be used"),
    };
    Error::Seal { problem, source: Some(Box::new(error)) }
}
