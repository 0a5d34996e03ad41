//! Rows that were written before the seal are sealed, and back, and data keys are wrapped with a new key: batch by batch, while
//! everything else goes on, by one receiver at a time.
//!
//! Each batch is one transaction, which holds the lock of this work and the locks that [`vault`](super::vault) names for those who seal.

use super::{
    attach::{self, PLAIN},
    codes, intake, lines, schema,
    shared::Touched,
    store::Core,
    tx::{Statement, Trouble, Tx, statement},
    vault::{self, Opening, Sealing},
};
use crate::{
    Resealed, fold,
    seal::{Owner, Round, Row, Sealed, To},
};
use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

/// The lock of this work. It ends with its transaction, so no receiver can be stuck with it.
const ALONE: &str = "SELECT pg_try_advisory_xact_lock(hashtextextended('linxo-webhook seal ' || current_schema(), 0))";
/// While another receiver is at it.
const PAUSE: Duration = Duration::from_secs(1);

/// Does some of what is to be done for the seal: first keys are wrapped anew, then old rows are sealed.
pub(super) async fn seal(core: &Core, limit: usize) -> Result<Resealed, Trouble> {
    let Some((keys, ring)) = core.vault.ring() else { return Ok(Resealed { changed: 0, is_done: true }) };
    let mut turn = core.turn.lock().await;
    let Some(tx) = begin(core).await? else {
        tokio::time::sleep(PAUSE).await;
        return Ok(Resealed::default());
    };
    let rewrapped = keys.rewrap(ring, limit).await?;
    turn.rewrapped += rewrapped;
    if rewrapped > 0 {
        return Ok(Resealed::default());
    }
    if turn.rewrapped > 0 {
        tracing::info!(
            code = "keys_rewrapped",
            entries = turn.rewrapped,
            "every data key is encrypted with the first key of inbox.key now; the others are needed for older backups alone"
        );
        turn.rewrapped = 0;
    }
    let plain = tx.query(statement!("SELECT 1 FROM meta WHERE name = $1", PLAIN)).await?;
    if plain.is_empty() {
        return Ok(Resealed { changed: 0, is_done: true });
    }
    let found = find(&tx, To::Sealed, turn.round, limit).await?;
    if found.is_empty() {
        tx.commit(&[statement!("DELETE FROM meta WHERE name = $1", PLAIN)]).await?;
        turn.round = Round::default();
        return Ok(Resealed { changed: 0, is_done: true });
    }
    let changed = rewrite(core, tx, To::Sealed, &found).await?;
    for row in &found {
        turn.round.note(*row);
    }
    Ok(Resealed { changed, is_done: false })
}

/// Takes the seal from some rows; at the end from the store.
pub(super) async fn unseal(core: &Core, limit: usize) -> Result<Resealed, Trouble> {
    let mut turn = core.turn.lock().await;
    let Some(tx) = begin(core).await? else {
        tokio::time::sleep(PAUSE).await;
        return Ok(Resealed::default());
    };
    let found = find(&tx, To::Plain, turn.round, limit).await?;
    if found.is_empty() {
        tx.give_up();
        turn.round = Round::default();
        return Ok(Resealed { changed: 0, is_done: attach::end(core).await? });
    }
    // What is cut short is sealed again by the next start.
    tx.execute(&[schema::set_number(PLAIN, 1)]).await?;
    let changed = rewrite(core, tx, To::Plain, &found).await?;
    for row in &found {
        turn.round.note(*row);
    }
    Ok(Resealed { changed, is_done: false })
}

/// Begins, unless another receiver is at it.
async fn begin(core: &Core) -> Result<Option<Tx>, Trouble> {
    let (tx, rows) = Tx::begin_with(&core.pool, &core.clock, statement!(ALONE)).await?;
    Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?.then_some(tx))
}

/// The next rows of one table.
async fn find(tx: &Tx, to: To, round: Round, limit: usize) -> Result<Vec<Row>, Trouble> {
    let (is, limit) = (to.key_is(), codes::signed(limit));
    let entries = format!("SELECT seq FROM entry WHERE seq > $1 AND key {is} ORDER BY seq LIMIT $2");
    let found = numbers(tx, entries, [round.entry, limit], Row::Entry).await?;
    if !found.is_empty() {
        return Ok(found);
    }
    let pages = format!(
        "SELECT reading, number FROM page WHERE (reading, number) > ($1, $2) AND key {is} ORDER BY reading, number LIMIT $3"
    );
    let rows = tx.query(statement!(pages, round.page.0, i64::from(round.page.1), limit)).await?;
    if !rows.is_empty() {
        let number =
            |row: &tokio_postgres::Row| row.try_get(1).map(|number: i64| u32::try_from(number).unwrap_or(u32::MAX));
        return rows.iter().map(|row| Ok(Row::Page(row.try_get(0)?, number(row)?))).collect();
    }
    let resources =
        format!("SELECT id FROM reading WHERE id > $1 AND resource IS NOT NULL AND key {is} ORDER BY id LIMIT $2");
    let found = numbers(tx, resources, [round.resource, limit], Row::Resource).await?;
    if !found.is_empty() {
        return Ok(found);
    }
    let refused = format!(
        "SELECT number FROM refused WHERE number > $1 AND start IS NOT NULL AND key {is} ORDER BY number LIMIT $2"
    );
    numbers(tx, refused, [round.refused, limit], Row::Refused).await
}

async fn numbers(tx: &Tx, sql: String, [after, limit]: [i64; 2], row: fn(i64) -> Row) -> Result<Vec<Row>, Trouble> {
    let rows = tx.query(statement!(sql, after, limit)).await?;
    rows.iter().map(|found| Ok(row(found.try_get(0)?))).collect()
}

/// A row with what it holds.
struct Loaded {
    row: Row,
    owner: Owner,
    key: Option<i64>,
    stored: Vec<u8>,
    /// Of the body that was accepted.
    digest: Option<Vec<u8>>,
}

/// Writes rows of one table anew, and commits.
async fn rewrite(core: &Core, tx: Tx, to: To, rows: &[Row]) -> Result<u64, Trouble> {
    let loaded = load(&tx, rows).await?;
    // Another call did it, or it was written anew meanwhile.
    let loaded: Vec<Loaded> = loaded.into_iter().filter(|row| row.key.is_some() != (to == To::Sealed)).collect();
    let opening = core.vault.opening(loaded.iter().map(|row| row.key).collect::<Vec<_>>()).await?;
    let sealing = match to {
        To::Sealed => core.vault.sealing(loaded.iter().map(|row| row.owner.clone()).collect::<Vec<_>>()).await?,
        To::Plain => Sealing::default(),
    };
    let mut writes = write(&loaded, &opening, &sealing)?;
    writes.extend(core.vault.note(&sealing, tx.slot));
    core.commit(tx, &writes, Touched::default()).await?;
    core.vault.noted(&sealing);
    // What was there before still stands on the pages of the tables.
    core.is_to_be_cleaned.store(true, Ordering::Release);
    Ok(loaded.len() as u64)
}

/// Loads rows, with the locks of those who seal. A row that has gone is left out.
async fn load(tx: &Tx, rows: &[Row]) -> Result<Vec<Loaded>, Trouble> {
    let number = |row: &Row| match *row {
        Row::Entry(number) | Row::Page(number, _) | Row::Resource(number) | Row::Refused(number) => number,
    };
    let part = |row: &Row| if let Row::Page(_, part) = *row { i64::from(part) } else { 0 };
    let (numbers, parts): (Vec<i64>, Vec<i64>) = rows.iter().map(|row| (number(row), part(row))).unzip();
    let (owners, select) = match rows.first() {
        Some(Row::Entry(_)) => (
            "SELECT connection FROM entry WHERE seq = ANY($1)",
            "SELECT seq AS number, 0::bigint AS part, key, bytes AS stored, digest, connection, \"user\", NULL::bigint AS at
             FROM unnest($1::bigint[], $2::bigint[]) AS n (seq, part) JOIN entry USING (seq) JOIN body USING (seq) FOR UPDATE OF entry",
        ),
        Some(Row::Page(..)) => (
            "SELECT connection FROM reading WHERE id = ANY($1)",
            "SELECT p.reading AS number, p.number AS part, p.key, p.accounts AS stored, NULL::bytea AS digest, connection, \"user\",
                    NULL::bigint AS at
             FROM unnest($1::bigint[], $2::bigint[]) AS n (reading, number)
                  JOIN page AS p ON p.reading = n.reading AND p.number = n.number JOIN reading ON reading.id = p.reading
             FOR UPDATE OF p",
        ),
        Some(Row::Resource(_)) => (
            "SELECT connection FROM reading WHERE id = ANY($1)",
            "SELECT id AS number, 0::bigint AS part, key, resource AS stored, NULL::bytea AS digest, connection, \"user\",
                    NULL::bigint AS at
             FROM unnest($1::bigint[], $2::bigint[]) AS n (id, part) JOIN reading USING (id) WHERE resource IS NOT NULL
             FOR UPDATE OF reading",
        ),
        _ => (
            "SELECT NULL::text AS connection WHERE $1::bigint[] IS NULL",
            "SELECT number, 0::bigint AS part, key, start AS stored, NULL::bytea AS digest, NULL::text AS connection,
                    NULL::text AS \"user\", at
             FROM unnest($1::bigint[], $2::bigint[]) AS n (number, part) JOIN refused USING (number) WHERE start IS NOT NULL
             FOR UPDATE OF refused",
        ),
    };
    let mut lines = BTreeSet::new();
    for row in tx.query(statement!(owners, numbers.clone())).await? {
        lines.insert(fold::line(&codes::read(&row, "connection")?));
    }
    let lines: Vec<i64> = lines.into_iter().collect();
    tx.execute(&[
        statement!(format!("SELECT pg_advisory_xact_lock_shared({})", vault::REFUSED)),
        statement!(intake::LINES, lines.clone()),
        statement!(lines::LOCK, lines),
    ])
    .await?;
    let found = tx.query(statement!(select, numbers, parts)).await?;
    let kind = rows.first().copied();
    found.iter().map(|row| loaded(row, kind)).collect()
}

fn loaded(found: &tokio_postgres::Row, kind: Option<Row>) -> Result<Loaded, Trouble> {
    let (number, part): (i64, i64) = (found.try_get("number")?, found.try_get("part")?);
    let row = match kind {
        Some(Row::Entry(_)) => Row::Entry(number),
        Some(Row::Page(..)) => Row::Page(number, u32::try_from(part).unwrap_or(u32::MAX)),
        Some(Row::Resource(_)) => Row::Resource(number),
        _ => Row::Refused(number),
    };
    let owner = match codes::time(found, "at")? {
        Some(at) => Owner::day(at),
        None => codes::owner(found)?,
    };
    let (key, stored, digest) = (found.try_get("key")?, found.try_get("stored")?, found.try_get("digest")?);
    Ok(Loaded { row, owner, key, stored, digest })
}

/// What is written in place of rows of one table.
fn write(loaded: &[Loaded], opening: &Opening, sealing: &Sealing) -> Result<Vec<Statement>, Trouble> {
    let (mut numbers, mut parts, mut keys, mut values, mut digests) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Loaded { row, owner, key, stored, digest } in loaded {
        let plain = opening.open(*key, owner, row.place(), stored.clone())?;
        let Sealed { bytes, key: new } = sealing.seal(owner, row.place(), &plain)?;
        if let Some(digest) = digest {
            let bare = opening.digest(None, &plain)?;
            // What is damaged stays so: no text has this digest.
            let is_whole = *digest == opening.digest(*key, &plain)?;
            digests.push(if is_whole { sealing.digest(owner, &plain, bare)?.to_vec() } else { vec![0; 32] });
        }
        let (number, part) = match *row {
            Row::Page(reading, number) => (reading, i64::from(number)),
            Row::Entry(number) | Row::Resource(number) | Row::Refused(number) => (number, 0),
        };
        numbers.push(number);
        parts.push(part);
        keys.push(new);
        values.push(bytes.into_owned());
    }
    Ok(match loaded.first().map(|loaded| loaded.row) {
        None => Vec::new(),
        Some(Row::Entry(_)) => vec![
            statement!(
                "UPDATE entry SET key = n.key, digest = n.digest FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS n (seq, key, digest)
                 WHERE entry.seq = n.seq",
                numbers.clone(),
                keys,
                digests
            ),
            statement!(
                "UPDATE body SET bytes = n.bytes FROM unnest($1::bigint[], $2::bytea[]) AS n (seq, bytes) WHERE body.seq = n.seq",
                numbers,
                values
            ),
        ],
        Some(Row::Page(..)) => vec![statement!(
            "UPDATE page SET key = n.key, accounts = n.accounts
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) AS n (reading, number, key, accounts)
             WHERE page.reading = n.reading AND page.number = n.number",
            numbers,
            parts,
            keys,
            values
        )],
        Some(Row::Resource(_)) => vec![statement!(
            "UPDATE reading SET key = n.key, resource = n.resource
             FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS n (id, key, resource) WHERE reading.id = n.id",
            numbers,
            keys,
            values
        )],
        Some(Row::Refused(_)) => vec![statement!(
            "UPDATE refused SET key = n.key, start = n.start
             FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS n (number, key, start) WHERE refused.number = n.number",
            numbers,
            keys,
            values
        )],
    })
}
