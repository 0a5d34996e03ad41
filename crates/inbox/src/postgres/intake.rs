//! [`Intake`] on the server: a batch of events becomes entries and stages in one transaction of two round trips. The first one locks the
//! lines of the connections, in the order of their numbers, and looks at what is known; the second one writes and commits. Where bodies are
//! sealed, their keys are asked for in between.

use super::{
    codes, entries, erasures, lines, refused,
    shared::{Accepting, Touched},
    stages::{self, StageRow},
    store::{Core, Postgres},
    tx::{Statement, Trouble, Tx, statement},
    vault,
};
use crate::{
    Error, Folded, Intake, NewEntry, Position, Receipt, Refused, Seq,
    fold::Record,
    happenings::Noted,
    kind::Kind,
    rules::{Order, Progress, Standing},
    seal::Owner,
};
use async_trait::async_trait;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::oneshot;
use tokio_postgres::Row;

#[async_trait]
impl Intake for Postgres {
    async fn accept(&self, entry: NewEntry) -> Result<Receipt, Error> {
        self.ready()?;
        let record = Record::new(entry, &self.0.keys);
        let (reply, answer) = oneshot::channel();
        let committer = self.0.committer()?;
        committer.send(Accepting { record, reply }).await.map_err(|_ended| Error::Closed)?;
        drop(committer);
        answer.await.map_err(|_ended| Error::Closed)?
    }

    fn ready(&self) -> Result<(), Error> {
        self.0.is_well()?;
        if self.backlog() >= self.0.max_waiting { Err(Error::Backlog) } else { Ok(()) }
    }

    async fn refuse(&self, refused: Vec<Refused>) -> Result<(), Error> {
        if self.0.refused == 0 {
            return Ok(());
        }
        let refused = Arc::new(refused);
        self.detached(|core| async move { super::tx::until_done(|| refused::keep(&core, &refused)).await }).await
    }
}

impl Postgres {
    /// Unfinished entries: those of the stage that has most.
    pub(crate) fn backlog(&self) -> u64 {
        self.0.shared.tally(|tally| tally.backlog())
    }

    /// Folds records of a journal in one transaction; says of each what became of it. Those that were folded before are duplicates. Those
    /// of somebody who was erased since they came are dropped: `None`.
    pub(crate) async fn fold(&self, records: Vec<Record>) -> Result<Vec<Option<Folded>>, Error> {
        self.detached(|core| async move {
            let is_erased = erasures::look(&core, &records).await?;
            let left = records.into_iter().zip(&is_erased).filter(|(_, is_erased)| !**is_erased);
            let left: Vec<Record> = left.map(|(record, _)| record).collect();
            let folded =
                if left.is_empty() { Vec::new() } else { super::tx::until_done(|| fold(&core, &left)).await? };
            let mut folded = folded.into_iter().map(|(_, folded)| folded);
            Ok(is_erased.into_iter().map(|is_erased| if is_erased { None } else { folded.next() }).collect())
        })
        .await
    }
}

/// Adds the lines that are new, so that they can be locked.
pub(super) const LINES: &str =
    "INSERT INTO line (key) SELECT key FROM unnest($1::bigint[]) AS n (key) ORDER BY key ON CONFLICT DO NOTHING";
const KNOWN: &str = "SELECT id_key, body_key, seq FROM known WHERE id_key = ANY($1)";
/// Where something stands in line.
const OCCUPIED: &str = "
    SELECT k.kind, l.line FROM unnest($1::bigint[]) AS l (line) CROSS JOIN unnest($2::bigint[]) AS k (kind)
         CROSS JOIN LATERAL (SELECT 1 FROM stage WHERE stage.kind = k.kind AND stage.line = l.line
                             AND state IN ('queued', 'due', 'leased') LIMIT 1) AS s";
/// Where something is parked, at sinks where that holds up the line.
const HELD: &str = "
    SELECT k.kind, l.line FROM unnest($1::bigint[]) AS l (line) CROSS JOIN unnest($2::bigint[]) AS k (kind)
         CROSS JOIN LATERAL (SELECT 1 FROM stage WHERE stage.kind = k.kind AND stage.line = l.line
                             AND state = 'parked' LIMIT 1) AS s";
/// Numbers, handed out while the lines are locked: within a line they grow in the order of the commits.
const NUMBERS: &str = "SELECT nextval('position'), nextval('entry_seq') FROM generate_series(1, $1::bigint)";

/// What is known before anything is written.
struct Found {
    /// By the key of an event id: the keys of contents, and the entries.
    known: HashMap<i64, Vec<(i64, i64)>>,
    occupied: HashSet<(Kind, i64)>,
    strict: HashSet<Kind>,
    numbers: std::vec::IntoIter<(i64, i64)>,
}

/// Makes entries and stages of records, unless the same content is there already.
pub(super) async fn fold(core: &Core, records: &[Record]) -> Result<Vec<(Position, Folded)>, Trouble> {
    let (tx, mut found) = look(core, records).await?;
    let mut touched = Touched::default();
    let (mut new, mut stages, mut folded) = (Vec::new(), Vec::new(), Vec::with_capacity(records.len()));
    for record in records {
        let (position, seq) = found.numbers.next().ok_or(Trouble::Again)?;
        let position = Position(position.unsigned_abs());
        let known = found.known.entry(record.content.id).or_default();
        if let Some((_, seq)) = known.iter().find(|(body, _)| *body == record.content.body) {
            folded.push((position, Folded::Duplicate { seq: Seq(*seq) }));
            continue;
        }
        let conflict = !known.is_empty();
        known.push((record.content.body, seq));
        new.push((seq, conflict, record));
        touched.happened.push(Noted::accepted(seq, record.entry.received));
        let mut stand = |kind: Kind, mut progress: Progress, is_ready: bool| {
            let is_first = !found.occupied.contains(&(kind, record.line));
            progress.stand(is_first, is_ready);
            if Order::of(found.strict.contains(&kind)).holds(progress.standing) {
                found.occupied.insert((kind, record.line));
            }
            if progress.standing == Standing::Due {
                touched.due.insert(kind);
            }
            if progress.standing == Standing::Parked {
                touched.happened.push(Noted::parked(seq, kind, progress.reason.as_deref(), core.clock.local(tx.now)));
            }
            touched.numbers.stands(kind, None, Some(progress.standing));
            stages.push(StageRow { seq, kind, line: record.line, progress });
        };
        for (fetch, progress) in record.plan.fetches(tx.now) {
            stand(Kind::of_fetch(fetch), progress, true);
        }
        for (kind, _) in &core.sinks.0 {
            stand(*kind, record.plan.delivery(tx.now), record.plan.is_ready());
        }
        folded.push((position, Folded::Stored { seq: Seq(seq), conflict }));
    }
    let owners: Vec<Owner> = new.iter().map(|(_, _, record)| Owner::of(&record.entry.event)).collect();
    let sealing = core.vault.sealing(owners).await?;
    let mut writes: Vec<Statement> = entries::insert(&new, &core.clock, &sealing)?;
    writes.extend(core.vault.note(&sealing, tx.slot));
    writes.extend(stages::insert(&stages));
    writes.extend(stages::tally(&touched.numbers, tx.slot));
    core.commit(tx, &writes, touched).await?;
    core.vault.noted(&sealing);
    Ok(folded)
}

/// Begins: locks the lines, and looks.
async fn look(core: &Core, records: &[Record]) -> Result<(Tx, Found), Trouble> {
    let lines: Vec<i64> = records.iter().map(|record| record.line).collect::<BTreeSet<_>>().into_iter().collect();
    let ids: Vec<i64> = records.iter().map(|record| record.content.id).collect::<BTreeSet<_>>().into_iter().collect();
    let kinds: Vec<i64> = core.sinks.stages().map(|(kind, _)| kind.0).collect();
    let first = [
        statement!(LINES, lines.clone()),
        statement!(lines::LOCK, lines.clone()),
        statement!(KNOWN, ids),
        statement!(OCCUPIED, lines.clone(), kinds),
        statement!(NUMBERS, codes::signed(records.len())),
        statement!(vault::SEALED),
        statement!(lines::STRICT),
    ];
    let (tx, found) = Tx::begin(&core.pool, &core.clock, &first).await?;
    let [_, locked, known, occupied, numbers, sealed, strict] = found.as_slice() else { return Err(Trouble::Again) };
    core.vault.must_suit(sealed)?;
    // An erasure may have removed a line before it could be locked.
    if locked.len() < lines.len() {
        return Err(Trouble::Again);
    }
    let pair = |row: &Row| -> Result<(i64, i64), Trouble> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    let mut by_id: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
    for row in known {
        let (id, body) = pair(row)?;
        by_id.entry(id).or_default().push((body, row.try_get(2)?));
    }
    let at = |row: &Row| pair(row).map(|(kind, line)| (Kind(kind), line));
    let occupied: Result<HashSet<(Kind, i64)>, Trouble> = occupied.iter().map(at).collect();
    let mut occupied = occupied?;
    let strict: Result<Vec<i64>, tokio_postgres::Error> = strict.iter().map(|row| row.try_get(0)).collect();
    let strict = strict?;
    // Few sinks do it, and then it is one round trip more.
    if !strict.is_empty() {
        for row in tx.query(statement!(HELD, lines, strict.clone())).await? {
            occupied.insert(at(&row)?);
        }
    }
    let numbers: Result<Vec<(i64, i64)>, Trouble> = numbers.iter().map(pair).collect();
    let strict = strict.into_iter().map(Kind).collect();
    Ok((tx, Found { known: by_id, occupied, strict, numbers: numbers?.into_iter() }))
}
