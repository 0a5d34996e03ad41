//! Which entries a filter means, as numbers.

use super::{
    codes,
    store::Core,
    tx::{self, Statement, Trouble, Value, statement},
};
use crate::{Fetch, Filter, Seq, State, delivery_ids, fold, kind::Kind, numbers::Numbers};
use event::{ConnectionId, UserId};

/// In which order entries are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

/// Conditions, and the values of their parameters.
#[derive(Default)]
pub(super) struct Conditions {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

impl Conditions {
    /// Adds a condition; each `?` in it stands for the next value.
    pub(super) fn add(&mut self, sql: &str, values: Vec<Value>) {
        self.sql.push_str(if self.sql.is_empty() { "WHERE " } else { " AND " });
        let mut number = self.values.len();
        for part in sql.split_inclusive('?') {
            match part.strip_suffix('?') {
                Some(before) => {
                    number += 1;
                    self.sql.push_str(before);
                    self.sql.push('$');
                    self.sql.push_str(&number.to_string());
                }
                None => self.sql.push_str(part),
            }
        }
        self.values.extend(values);
    }

    fn add_one(&mut self, sql: &str, value: impl tokio_postgres::types::ToSql + Sync + Send + 'static) {
        self.add(sql, vec![Box::new(value)]);
    }
}

/// Numbers of the entries that match.
pub(super) async fn select(core: &Core, filter: &Filter, limit: usize, order: Order) -> Result<Vec<i64>, Trouble> {
    let conditions = conditions(core, filter).await?;
    let order = match order {
        Order::OldestFirst => "ASC",
        Order::NewestFirst => "DESC",
    };
    let sql = format!("SELECT entry.seq FROM entry {} ORDER BY entry.seq {order} LIMIT {limit}", conditions.sql);
    let rows = tx::query(&core.pool, Statement { sql: sql.into(), values: conditions.values }).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// What a filter asks of an entry.
pub(super) async fn conditions(core: &Core, filter: &Filter) -> Result<Conditions, Trouble> {
    let mut conditions = Conditions::default();
    if let Some(Seq(seq)) = filter.seq {
        conditions.add_one("entry.seq = ?", seq);
    }
    if let Some(Seq(before)) = filter.before {
        conditions.add_one("entry.seq < ?", before);
    }
    if let Some(Seq(after)) = filter.after {
        conditions.add_one("entry.seq > ?", after);
    }
    if !filter.accepted.is_all() {
        // The sum keeps the index of times out of this: entries are looked at in the order of their numbers, which `before` and
        // `after` narrow down.
        let [from, to] = core.clock.span(filter.accepted);
        conditions.add("entry.accepted + 0 BETWEEN ? AND ?", vec![Box::new(from), Box::new(to)]);
    }
    if let Some(of) = &filter.connection {
        conditions.add_one("entry.connection = ?", codes::text(ConnectionId::as_str(of)));
    }
    if let Some(of) = &filter.user {
        conditions.add_one("entry.\"user\" = ?", codes::text(UserId::as_str(of)));
    }
    if let Some(reason) = &filter.reason {
        let same = || Box::new(codes::text(reason)) as Value;
        conditions.add(
            "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND (cause = ? OR position(? IN reason) > 0))",
            vec![same(), same()],
        );
    }
    if let Some(id) = &filter.id {
        // An event id or a delivery id; both are found by the key of the event id that they may stand for. The id of a group finds its
        // newest entry.
        let made_of = delivery_ids::event_id_of(id).unwrap_or_else(|| id.clone());
        let keys: Vec<i64> = [id, &made_of].map(|candidate| fold::id_key(&core.keys, candidate)).to_vec();
        conditions.add(
            "entry.seq IN (SELECT seq FROM known WHERE id_key = ANY(?))
             AND (? IN (entry.id, entry.delivery_id) OR coalesce(entry.delivery_id, entry.id) = ?)",
            vec![Box::new(keys), Box::new(codes::text(id)), Box::new(codes::text(delivery_ids::newest_of(id)))],
        );
    }
    match (&filter.sink, filter.state) {
        (Some(sink), state) => {
            // A kind that no stage has, where the name is unknown.
            let kind = kind_of(core, sink.as_str()).await?.unwrap_or(Kind(i64::MIN));
            conditions.add_one(of_sink(state, are_few(core, state).await?), kind.0);
        }
        (None, Some(state)) => conditions.add(of_any(state, are_few(core, Some(state)).await?), Vec::new()),
        (None, None) => {}
    }
    Ok(conditions)
}

/// The kind of a fetch's or a sink's stage by its word; `None` for a sink that this store has never seen.
pub(super) async fn kind_of(core: &Core, word: &str) -> Result<Option<Kind>, Trouble> {
    if let Some(fetch) = Fetch::ALL.into_iter().find(|fetch| fetch.as_str() == word) {
        return Ok(Some(Kind::of_fetch(fetch)));
    }
    let rows = tx::query(&core.pool, statement!("SELECT id FROM sink WHERE name = $1", word.to_owned())).await?;
    rows.first().map(|row| Ok(Kind(row.try_get(0)?))).transpose()
}

/// Up to so many stages are looked up first, and then their entries. Where there are more, entries are looked at one after the
/// other, because the wanted number of them is found soon.
const FEW: i64 = 10_000;

/// Whether what a filter asks for is found by an index, and is little.
pub(super) async fn is_narrow(core: &Core, filter: &Filter) -> Result<bool, Trouble> {
    let is_named = filter.id.is_some() || filter.seq.is_some() || filter.state == Some(State::Leased);
    if is_named || are_at_most(core, filter.state, NARROW).await? {
        return Ok(true);
    }
    let of_connection = filter.connection.as_ref().map(|of| ("connection", codes::text(of.as_str())));
    let of_user = filter.user.as_ref().map(|of| ("\"user\"", codes::text(of.as_str())));
    for (column, value) in of_connection.into_iter().chain(of_user) {
        let sql = format!("SELECT count(*) FROM (SELECT 1 FROM entry WHERE {column} = $1 LIMIT {FEW} + 1) AS found");
        let rows = tx::query(&core.pool, Statement { sql: sql.into(), values: vec![Box::new(value)] }).await?;
        if let Some(row) = rows.first()
            && row.try_get::<_, i64>(0)? <= FEW
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A page of more is found sooner in the order of acceptance.
const NARROW: i64 = 2_000;

/// Whether few stages are in a state, whatever their kind.
async fn are_few(core: &Core, state: Option<State>) -> Result<bool, Trouble> {
    are_at_most(core, state, FEW).await
}

/// Read from the counts: nothing is counted here.
async fn are_at_most(core: &Core, state: Option<State>, most: i64) -> Result<bool, Trouble> {
    core.count().await?;
    let numbers = core.shared.tally(|tally| tally.numbers().clone());
    let sum = |value: fn(&Numbers) -> i64| numbers.values().map(value).sum::<i64>();
    Ok(match state {
        None | Some(State::Done) => false,
        Some(State::Waiting | State::Leased) => sum(|numbers| numbers.unfinished) <= most,
        Some(State::Parked) => sum(|numbers| numbers.parked) <= most,
    })
}

/// Entries that have a stage of a kind, in a state where one is named.
const fn of_sink(state: Option<State>, are_few: bool) -> &'static str {
    match (state, are_few) {
        (None, _) => "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND kind = ?)",
        (Some(State::Waiting), true) => {
            "entry.seq IN (SELECT seq FROM stage WHERE kind = ? AND state IN ('queued', 'due', 'leased') AND state <> 'leased')"
        }
        (Some(State::Waiting), false) => {
            "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND kind = ? AND state IN ('queued', 'due'))"
        }
        // There are never many at once.
        (Some(State::Leased), _) => "entry.seq IN (SELECT seq FROM stage WHERE kind = ? AND state = 'leased')",
        (Some(State::Done), _) => {
            "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND kind = ? AND state = 'done')"
        }
        (Some(State::Parked), true) => "entry.seq IN (SELECT seq FROM stage WHERE kind = ? AND state = 'parked')",
        (Some(State::Parked), false) => {
            "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND kind = ? AND state = 'parked')"
        }
    }
}

/// Entries whose stages taken together are in a state (`rules::together`).
const fn of_any(state: State, are_few: bool) -> &'static str {
    match (state, are_few) {
        (State::Parked, true) => "entry.seq IN (SELECT seq FROM stage WHERE state = 'parked')",
        (State::Parked, false) => "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state = 'parked')",
        (State::Leased, _) => {
            "entry.seq IN (SELECT seq FROM stage WHERE state = 'leased')
             AND NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state = 'parked')"
        }
        (State::Waiting, true) => {
            "entry.seq IN (SELECT seq FROM stage WHERE state IN ('queued', 'due', 'leased') AND state <> 'leased')
             AND NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state IN ('leased', 'parked'))"
        }
        (State::Waiting, false) => {
            "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state IN ('queued', 'due'))
             AND NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state IN ('leased', 'parked'))"
        }
        (State::Done, _) => "NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state <> 'done')",
    }
}
