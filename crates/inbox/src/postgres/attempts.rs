//! The table `attempt`: what became of earlier attempts at a stage, so that a replay wipes out no history; and the table
//! `failure`: the last one of each kind, so that nobody has to look for it among a million.

use super::{
    codes,
    tx::{Statement, statement},
};
use crate::{
    kind::Kind,
    rules::{self, Progress},
};
use std::collections::BTreeMap;

/// An attempt to be remembered.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) seq: i64,
    pub(super) kind: Kind,
    pub(super) progress: Progress,
    /// It is the last failure of its kind, too.
    pub(super) is_failure: bool,
}

/// Notes how attempts ended; forgets the oldest ones beyond [`rules::ATTEMPTS_KEPT`]. `slot`: where the connection notes failures.
pub(super) fn remember(attempts: &[Attempt], slot: i64) -> Vec<Statement> {
    if attempts.is_empty() {
        return Vec::new();
    }
    let column = |value: fn(&Attempt) -> i64| attempts.iter().map(value).collect::<Vec<i64>>();
    let (seqs, kinds) = (column(|attempt| attempt.seq), column(|attempt| attempt.kind.0));
    let mut statements = vec![
        statement!(
            "INSERT INTO attempt (seq, kind, number, at, state, reason)
             SELECT seq, kind,
                    coalesce((SELECT max(number) FROM attempt AS a WHERE a.seq = n.seq AND a.kind = n.kind), 0)
                        + row_number() OVER (PARTITION BY seq, kind ORDER BY ordinality),
                    at, state, reason
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[]) WITH ORDINALITY
                  AS n (seq, kind, at, state, reason, ordinality)",
            seqs.clone(),
            kinds.clone(),
            column(|attempt| attempt.progress.changed.as_millis()),
            attempts.iter().map(|attempt| attempt.progress.standing.as_str()).collect::<Vec<_>>(),
            attempts.iter().map(|attempt| codes::maybe(attempt.progress.reason.as_deref())).collect::<Vec<_>>(),
        ),
        statement!(
            "DELETE FROM attempt USING (
                 SELECT a.seq, a.kind, max(a.number) AS last FROM attempt AS a
                      JOIN unnest($1::bigint[], $2::bigint[]) AS n (seq, kind) ON a.seq = n.seq AND a.kind = n.kind
                 GROUP BY a.seq, a.kind) AS n
             WHERE attempt.seq = n.seq AND attempt.kind = n.kind AND attempt.number <= n.last - $3",
            seqs,
            kinds,
            i64::from(rules::ATTEMPTS_KEPT),
        ),
    ];
    let last: BTreeMap<Kind, &Attempt> =
        attempts.iter().filter(|attempt| attempt.is_failure).map(|attempt| (attempt.kind, attempt)).collect();
    if !last.is_empty() {
        let column = |value: fn(&Attempt) -> i64| last.values().map(|attempt| value(attempt)).collect::<Vec<i64>>();
        statements.push(statement!(
            "INSERT INTO failure (slot, kind, at, seq, reason)
             SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[])
             ON CONFLICT (slot, kind) DO UPDATE SET at = excluded.at, seq = excluded.seq, reason = excluded.reason",
            slot,
            column(|attempt| attempt.kind.0),
            column(|attempt| attempt.progress.changed.as_millis()),
            column(|attempt| attempt.seq),
            last.values().map(|attempt| codes::maybe(attempt.progress.reason.as_deref())).collect::<Vec<_>>(),
        ));
    }
    statements
}
