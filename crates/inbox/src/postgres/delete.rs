//! Deletion of entries, with all that belongs to them alone; and of what was read for them in vain.

use super::tx::{Statement, statement};
use crate::kind::Kind;
use std::collections::BTreeSet;

/// Deletes entries whose lines are locked and whose stages are counted off.
pub(super) fn entries(seqs: &[i64]) -> Vec<Statement> {
    if seqs.is_empty() {
        return Vec::new();
    }
    let seqs = || seqs.to_vec();
    vec![
        // A reading goes with the last entry that has it.
        statement!(
            "WITH given AS (DELETE FROM fetched WHERE seq = ANY($1) RETURNING reading),
                  gone AS (
                      DELETE FROM reading WHERE id IN (SELECT reading FROM given)
                      AND NOT EXISTS (SELECT 1 FROM fetched AS f WHERE f.reading = reading.id AND f.seq <> ALL($1))
                      RETURNING reading.id)
             DELETE FROM page USING gone WHERE reading = gone.id",
            seqs()
        ),
        statement!(
            "DELETE FROM known USING entry
             WHERE entry.seq = ANY($1) AND known.id_key = entry.id_key AND known.rank = entry.rank AND known.seq = entry.seq",
            seqs()
        ),
        statement!("DELETE FROM attempt WHERE seq = ANY($1)", seqs()),
        statement!("DELETE FROM merged WHERE seq = ANY($1)", seqs()),
        statement!("DELETE FROM stage WHERE seq = ANY($1)", seqs()),
        statement!("DELETE FROM body WHERE seq = ANY($1)", seqs()),
        statement!("DELETE FROM entry WHERE seq = ANY($1)", seqs()),
    ]
}

/// Removes what was read for the connections of these entries and never finished.
pub(super) fn unfinished(entries: &BTreeSet<i64>) -> Option<Statement> {
    if entries.is_empty() {
        return None;
    }
    Some(statement!(
        "WITH gone AS (
             DELETE FROM reading USING entry
             WHERE entry.seq = ANY($1) AND reading.connection = entry.connection
                   AND reading.\"user\" IS NOT DISTINCT FROM entry.\"user\" AND reading.kind = 0 AND reading.accounts IS NULL
             RETURNING reading.id)
         DELETE FROM page USING gone WHERE reading = gone.id",
        entries.iter().copied().collect::<Vec<_>>(),
    ))
}

/// Takes stages out of their groups.
pub(super) fn memberships(left: &[(i64, Kind)]) -> Option<Statement> {
    let (seqs, kinds): (Vec<i64>, Vec<i64>) = left.iter().map(|(seq, kind)| (*seq, kind.0)).unzip();
    (!seqs.is_empty()).then(|| {
        statement!(
            "DELETE FROM merged USING unnest($1::bigint[], $2::bigint[]) AS n (seq, kind)
             WHERE merged.seq = n.seq AND merged.kind = n.kind",
            seqs,
            kinds
        )
    })
}
