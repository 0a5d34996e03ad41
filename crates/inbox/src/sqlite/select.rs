//! Which entries a filter means, as numbers.

use super::{codes::Kind, stages};
use crate::{Filter, Keys, Resume, Seq, Span, State, delivery_ids, fold};
use event::{ConnectionId, UserId};
use rusqlite::{Connection, ToSql, params, params_from_iter};

/// In which order entries are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

/// Conditions, and the values of their `?` in order.
#[derive(Default)]
pub(super) struct Conditions {
    sql: Vec<&'static str>,
    values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    pub(super) fn add(&mut self, sql: &'static str, values: impl IntoIterator<Item = Box<dyn ToSql>>) {
        self.sql.push(sql);
        self.values.extend(values);
    }

    fn add_one(&mut self, sql: &'static str, value: impl ToSql + 'static) {
        self.add(sql, [Box::new(value) as Box<dyn ToSql>]);
    }

    /// As a clause.
    pub(super) fn sql(&self) -> String {
        if self.sql.is_empty() { String::new() } else { format!("WHERE {}", self.sql.join(" AND ")) }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &dyn ToSql> {
        self.values.iter().map(|value| &**value)
    }

    /// The query of the entries that meet them all.
    fn query(&self, limit: usize, order: Order) -> String {
        let condition = self.sql();
        let order = match order {
            Order::OldestFirst => "ASC",
            Order::NewestFirst => "DESC",
        };
        format!("SELECT entry.seq FROM entry {condition} ORDER BY entry.seq {order} LIMIT {limit}")
    }
}

/// Numbers of the entries that match.
pub(super) fn select(
    connection: &Connection,
    keys: &Keys,
    filter: &Filter,
    limit: usize,
    order: Order,
) -> rusqlite::Result<Vec<i64>> {
    let conditions = conditions(connection, keys, filter)?;
    let sql = conditions.query(limit, order);
    connection.prepare_cached(&sql)?.query_map(params_from_iter(conditions.values()), |row| row.get(0))?.collect()
}

/// What a filter asks of an entry.
pub(super) fn conditions(connection: &Connection, keys: &Keys, filter: &Filter) -> rusqlite::Result<Conditions> {
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
        // The sign keeps the index of times out of this: entries are looked at in the order of their numbers, which
        // `before` and `after` narrow down.
        let ends = filter.accepted.bounds().map(|end| Box::new(end) as Box<dyn ToSql>);
        conditions.add("+entry.accepted BETWEEN ? AND ?", ends);
    }
    if let Some(of) = &filter.connection {
        conditions.add_one("entry.connection = ?", of.as_str().to_owned());
    }
    if let Some(of) = &filter.user {
        conditions.add_one("entry.user = ?", of.as_str().to_owned());
    }
    if let Some(reason) = &filter.reason {
        let same = || Box::new(reason.clone()) as Box<dyn ToSql>;
        conditions.add(
            "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND (cause = ? OR instr(reason, ?) > 0))",
            [same(), same()],
        );
    }
    if let Some(id) = &filter.id {
        with_id(&mut conditions, keys, id);
    }
    match (&filter.sink, filter.state) {
        (Some(sink), state) => {
            // A kind that no stage has, where the name is unknown.
            let kind = stages::kind_of(connection, sink.as_str())?.unwrap_or(Kind(i64::MIN));
            conditions.add_one(of_sink(state, are_few(connection, state)?), kind);
        }
        (None, Some(state)) => conditions.add(of_any(state, are_few(connection, Some(state))?), []),
        (None, None) => {}
    }
    Ok(conditions)
}

/// The first and the last number of what was accepted in a span. Numbers and times go up together but for moments, and where
/// the clock was set, so both ends are looked for among all that the index of times has of the span.
pub(super) fn between(connection: &Connection, span: Span) -> rusqlite::Result<Option<(Seq, Seq)>> {
    connection.prepare_cached(BETWEEN)?.query_row(span.bounds(), |row| {
        let ends: (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
        Ok(ends.0.zip(ends.1).map(|(first, last)| (Seq(first), Seq(last))))
    })
}

const BETWEEN: &str = "SELECT min(seq), max(seq) FROM entry INDEXED BY entry_accepted WHERE accepted BETWEEN ?1 AND ?2";

/// An event id or a delivery id. Both are found by the key of the event id that they may stand for; delivery ids of the
/// first version were the event id, a dot and eight digits. The id of a group finds its newest entry.
fn with_id(conditions: &mut Conditions, keys: &Keys, id: &str) {
    let made_of = delivery_ids::event_id_of(id).unwrap_or_else(|| id.to_owned());
    let of_first_version = id.rsplit_once('.').map_or(id, |(event_id, _)| event_id);
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    for candidate in [id, &made_of, of_first_version] {
        values.push(Box::new(fold::id_key(keys, candidate)));
    }
    values.push(Box::new(id.to_owned()));
    values.push(Box::new(delivery_ids::newest_of(id).to_owned()));
    conditions.add(
        "entry.seq IN (SELECT seq FROM known WHERE id_key IN (?, ?, ?))
         AND (? IN (entry.id, entry.delivery_id) OR coalesce(entry.delivery_id, entry.id) = ?)",
        values,
    );
}

/// Up to so many stages are looked up first, and then their entries. Where there are more, entries are looked at one after the
/// other, because the wanted number of them is found soon.
const FEW: i64 = 10_000;

/// Whether what a filter asks for is found by an index, and is little.
pub(super) fn is_narrow(connection: &Connection, filter: &Filter) -> rusqlite::Result<bool> {
    let is_named = filter.id.is_some() || filter.seq.is_some() || filter.state == Some(State::Leased);
    Ok(is_named || are_at_most(connection, filter.state, NARROW)?)
}

/// A page of more is found sooner in the order of acceptance.
const NARROW: i64 = 2_000;

/// Whether few stages are in a state, whatever their kind.
fn are_few(connection: &Connection, state: Option<State>) -> rusqlite::Result<bool> {
    are_at_most(connection, state, FEW)
}

fn are_at_most(connection: &Connection, state: Option<State>, most: i64) -> rusqlite::Result<bool> {
    let sql = match state {
        None | Some(State::Done) => return Ok(false),
        Some(State::Waiting | State::Leased) => {
            "SELECT count(*) FROM (SELECT 1 FROM stage INDEXED BY stage_line WHERE ended = 0 LIMIT ?1 + 1)"
        }
        Some(State::Parked) => {
            "SELECT count(*) FROM (SELECT 1 FROM stage INDEXED BY stage_parked WHERE state = 'parked' LIMIT ?1 + 1)"
        }
    };
    let found: i64 = connection.prepare_cached(sql)?.query_row([most], |row| row.get(0))?;
    Ok(found <= most)
}

/// Entries that have a stage of a kind, in a state where one is named.
const fn of_sink(state: Option<State>, are_few: bool) -> &'static str {
    match (state, are_few) {
        (None, _) => "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND kind = ?)",
        (Some(State::Waiting), true) => {
            "entry.seq IN (SELECT seq FROM stage WHERE kind = ? AND ended = 0 AND state <> 'leased')"
        }
        (Some(State::Waiting), false) => {
            "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND kind = ? AND state IN ('queued', 'due'))"
        }
        // There are never many at once.
        (Some(State::Leased), _) => {
            "entry.seq IN (SELECT seq FROM stage WHERE kind = ? AND state IN ('due', 'leased') AND state = 'leased')"
        }
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
            "entry.seq IN (SELECT seq FROM stage WHERE state IN ('due', 'leased') AND state = 'leased')
             AND NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state = 'parked')"
        }
        (State::Waiting, true) => {
            "entry.seq IN (SELECT seq FROM stage WHERE ended = 0)
             AND NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state IN ('leased', 'parked'))"
        }
        (State::Waiting, false) => {
            "EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state IN ('queued', 'due'))
             AND NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state IN ('leased', 'parked'))"
        }
        (State::Done, _) => "NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND state <> 'done')",
    }
}

/// Numbers of entries that wait for other credentials, the oldest first.
pub(super) fn resume(connection: &Connection, which: &Resume, limit: usize) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT stage.seq FROM stage JOIN entry USING (seq)
             WHERE stage.credentials = ?1 AND (?2 IS NULL OR entry.user = ?2) AND (?3 IS NULL OR entry.connection = ?3)
             ORDER BY stage.seq LIMIT ?4",
        )?
        .query_map(
            params![
                which.credentials.as_str(),
                which.user.as_ref().map(UserId::as_str),
                which.connection.as_ref().map(ConnectionId::as_str),
                i64::try_from(limit).unwrap_or(i64::MAX),
            ],
            |row| row.get(0),
        )?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;
    use base::clock::Timestamp;

    /// How SQLite would look for what a query asks for.
    fn plan(connection: &Connection, sql: &str, values: &[Box<dyn ToSql>]) -> String {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let details = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        details.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    }

    /// A span of time is found in the index of times, and its entries by their numbers, in order: nothing is sorted, and nothing
    /// outside of the span is looked at.
    #[test]
    fn a_span_of_time_is_found_by_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(schema::TABLES).unwrap();
        schema::make_keys(&connection).unwrap();
        for (_, step) in schema::STEPS {
            connection.execute_batch(step).unwrap();
        }
        let keys = schema::keys(&connection, None).unwrap();
        let span = Span { since: Some(Timestamp::from_millis(1)), until: Some(Timestamp::from_millis(9)) };
        let ends = span.bounds().map(|end| Box::new(end) as Box<dyn ToSql>);
        assert_eq!(
            plan(&connection, BETWEEN, &ends),
            "SEARCH entry USING COVERING INDEX entry_accepted (accepted>? AND accepted<?)"
        );
        let filter = Filter { accepted: span, before: Some(Seq(9)), after: Some(Seq(1)), ..Filter::default() };
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let conditions = conditions(&connection, &keys, &filter).unwrap();
            let plan = plan(&connection, &conditions.query(50, order), &conditions.values);
            assert_eq!(plan, "SEARCH entry USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)");
        }
    }
}
