//! Who was erased, and when: what a receiver's journal still holds of them from before is not brought back.
//!
//! Only hashes are kept, under the key of the inbox, so that nothing here says whose they are to somebody who has a copy of this table alone.
//!
//! One moment is not covered. A receiver looks here, then the erasure is noted and done, and then the receiver commits what it
//! had taken for good. Its journal is looked at again with the next erasure of the same person.

use super::{
    codes,
    store::Core,
    tx::{self, Statement, Trouble, statement},
};
use crate::{
    Keys, Subject,
    fold::{self, Record},
};
use base::clock::Timestamp;
use event::Event;
use std::collections::{BTreeSet, HashMap};

/// Notes an erasure. `connections` are those of the erased user: events of them that name no user are taken for the user's.
pub(super) fn note(keys: &Keys, subject: &Subject, connections: &BTreeSet<String>, at: Timestamp) -> Statement {
    let subjects: Vec<i64> = match subject {
        Subject::User(user) => {
            let unnamed = connections.iter().map(|name| hash(keys, "unnamed", name));
            std::iter::once(hash(keys, "user", user.as_str())).chain(unnamed).collect()
        }
        Subject::Connection(id) => vec![hash(keys, "connection", id.as_str())],
    };
    statement!(
        "INSERT INTO erasure (subject, at) SELECT DISTINCT subject, $2::bigint FROM unnest($1::bigint[]) AS n (subject)
         ON CONFLICT (subject) DO UPDATE SET at = greatest(erasure.at, excluded.at)",
        subjects,
        at.as_millis()
    )
}

/// Says of each record whether whoever it is of was erased after it came.
pub(super) async fn look(core: &Core, records: &[Record]) -> Result<Vec<bool>, Trouble> {
    let wanted: Vec<i64> = records
        .iter()
        .flat_map(|record| subjects(&core.keys, &record.entry.event))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let rows =
        tx::query(&core.pool, statement!("SELECT subject, at FROM erasure WHERE subject = ANY($1::bigint[])", wanted))
            .await?;
    let mut erased: HashMap<i64, Timestamp> = HashMap::new();
    for row in &rows {
        erased.insert(row.try_get("subject")?, codes::time(row, "at")?.unwrap_or_default());
    }
    let is_erased = |record: &Record| {
        let came = core.clock.server(record.entry.received);
        subjects(&core.keys, &record.entry.event)
            .iter()
            .any(|subject| erased.get(subject).is_some_and(|at| came <= *at))
    };
    Ok(records.iter().map(is_erased).collect())
}

fn subjects(keys: &Keys, event: &Event) -> [i64; 2] {
    let connection = event.connection.as_str();
    let user =
        event.user.as_ref().map_or_else(|| hash(keys, "unnamed", connection), |user| hash(keys, "user", user.as_str()));
    [user, hash(keys, "connection", connection)]
}

fn hash(keys: &Keys, kind: &str, id: &str) -> i64 {
    fold::id_key(keys, &format!("{kind} {id}"))
}
