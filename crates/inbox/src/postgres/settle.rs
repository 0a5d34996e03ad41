//! How leases end: many at once, in two round trips.

use super::{
    board::Board,
    lines, readings,
    shared::Touched,
    store::{Core, Held},
    tx::{self, Statement, Trouble, Tx, statement},
};
use crate::{Error, Facts, Outcome, Seq, Shortfall, Token, happenings::Noted, kind::Kind, rules};
use event::ChannelDefinitionId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A lease, and how it ends.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) held: Held,
    pub(super) line: i64,
    pub(super) entry: Arc<Facts>,
    /// Its times are those of this receiver.
    pub(super) outcome: Outcome,
}

/// Ends leases; says of each whether it was still held.
pub(super) async fn settle(core: &Core, endings: &[Ending]) -> Result<Vec<Result<(), Error>>, Trouble> {
    if endings.is_empty() {
        return Ok(Vec::new());
    }
    let settled = tx::until_done(|| try_settle(core, endings)).await?;
    for ending in endings {
        core.shared.end(Token(ending.held.token));
    }
    Ok(settled)
}

async fn try_settle(core: &Core, endings: &[Ending]) -> Result<Vec<Result<(), Error>>, Trouble> {
    let of_group = |ending: &'_ Ending| {
        let line = ending.line;
        ending
            .entry
            .merged
            .iter()
            .map(move |member| (member.seq.0, line))
            .chain([(ending.held.seq, line)])
            .collect::<Vec<_>>()
    };
    let entries: Vec<(i64, i64)> = endings.iter().flat_map(of_group).collect::<BTreeSet<_>>().into_iter().collect();
    let (tx, mut board) = lines::load(&core.pool, &core.clock, &entries).await?;
    let (mut settled, mut kept) = (Vec::with_capacity(endings.len()), Vec::with_capacity(endings.len()));
    for ending in endings {
        let Held { seq, kind, token } = ending.held;
        if board.get(seq, kind).is_some_and(|row| row.progress.is_held_by(Token(token))) {
            apply(core, &mut board, ending);
            kept.push(ending);
            settled.push(Ok(()));
        } else {
            settled.push(Err(Error::LeaseLost(Seq(seq))));
        }
    }
    if kept.is_empty() {
        tx.give_up();
        return Ok(settled);
    }
    let mut first = fetched(&tx, &kept).await?;
    first.extend(delivered(core, &kept));
    core.store(tx, board, (first, Vec::new()), Touched::default()).await?;
    Ok(settled)
}

fn apply(core: &Core, board: &mut Board, ending: &Ending) {
    let Held { seq, kind, .. } = ending.held;
    let now = board.now;
    let outcome = match &ending.outcome {
        Outcome::Retry { due, reason, is_doubtful } => {
            Outcome::Retry { due: core.clock.server(*due), reason: reason.clone(), is_doubtful: *is_doubtful }
        }
        Outcome::Postpone { due, reason } => Outcome::Postpone { due: core.clock.server(*due), reason: reason.clone() },
        other => other.clone(),
    };
    let again: Vec<Kind> = board
        .of_entry(seq)
        .iter()
        .filter(|row| row.kind.is_fetch() && rules::fetches_again(&outcome, row.progress.standing))
        .map(|row| row.kind)
        .collect();
    for fetch in again {
        board.put_back(seq, fetch, |progress| progress.requeue(now));
    }
    let merged = (!ending.entry.merged.is_empty()).then_some(&ending.entry.delivery_id);
    let mut ended = vec![seq];
    if merged.is_some()
        && let Some(mut first) = board.get(seq, kind).map(|row| row.progress.clone())
    {
        first.settle_merged(&outcome, merged, now);
        let others = ending.entry.merged.iter().map(|member| member.seq.0).filter(|other| *other != seq);
        ended.extend(board.follow(kind, others, &first));
    }
    board.apply(seq, kind, |progress| progress.settle_merged(&outcome, merged, now));
    for seq in ended {
        let reason = board.get(seq, kind).and_then(|row| row.progress.reason.clone());
        // As the caller has it, by its own clock.
        board.happened(Noted::settled((seq, kind), &ending.outcome, reason.as_deref(), core.clock.local(now)));
    }
    if rules::is_remembered(&outcome) {
        board.remember(seq, kind, true);
    }
}

/// Notes what fetches found, before their stages leave their lines: what is not finished by then is dropped.
async fn fetched(tx: &Tx, kept: &[&Ending]) -> Result<Vec<Statement>, Trouble> {
    let mut ends = Vec::new();
    let mut shortfalls: BTreeMap<i64, Option<Shortfall>> = BTreeMap::new();
    for ending in kept {
        let announced = ending.entry.account_count.filter(|_| !ending.entry.confirm);
        match &ending.outcome {
            Outcome::Fetched { reading, found } => {
                ends.push((ending.held.seq, ending.held.kind, Some((*reading, *found))));
                shortfalls.insert(ending.line, announced.and_then(|announced| found.shortfall(announced)));
            }
            Outcome::Gone => {
                ends.push((ending.held.seq, ending.held.kind, None));
                shortfalls.insert(ending.line, Some(Shortfall::Connection));
            }
            _ => {}
        }
    }
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    let mut statements = readings::finish(tx, &ends).await?;
    statements.extend(readings::note_shortfalls(&shortfalls));
    Ok(statements)
}

/// Notes what sinks were given.
fn delivered(core: &Core, kept: &[&Ending]) -> Option<Statement> {
    let mut newest: BTreeMap<(Kind, i64, &str), (i64, i64)> = BTreeMap::new();
    for ending in kept.iter().filter(|ending| ending.outcome == Outcome::Done && !ending.held.kind.is_fetch()) {
        let as_of = ending.entry.as_of;
        let as_of = (core.clock.server(as_of.at).as_millis(), as_of.number());
        for channel in ending.entry.channels() {
            let channel = channel.map_or("", ChannelDefinitionId::as_str);
            let newest = newest.entry((ending.held.kind, ending.line, channel)).or_insert(as_of);
            *newest = as_of.max(*newest);
        }
    }
    if newest.is_empty() {
        return None;
    }
    let keys = || newest.keys();
    Some(statement!(
        "INSERT INTO delivered (kind, line, channel, as_of, seq)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[])
         ON CONFLICT (kind, line, channel) DO UPDATE SET as_of = excluded.as_of, seq = excluded.seq
         WHERE (excluded.as_of, excluded.seq) > (delivered.as_of, delivered.seq)",
        keys().map(|(kind, _, _)| kind.0).collect::<Vec<_>>(),
        keys().map(|(_, line, _)| *line).collect::<Vec<_>>(),
        keys().map(|(_, _, channel)| super::codes::text(channel)).collect::<Vec<_>>(),
        newest.values().map(|(as_of, _)| *as_of).collect::<Vec<_>>(),
        newest.values().map(|(_, seq)| *seq).collect::<Vec<_>>(),
    ))
}
