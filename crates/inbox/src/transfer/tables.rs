//! Which tables and columns are copied, and in which order rows are taken. What a store makes of these by itself, such as counts, is not
//! copied but made again.

use super::value::Value;

/// A row, in the order of the table's columns.
pub(super) type Row = Vec<Value>;

/// A table, as both sides know it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The key first.
    pub(super) columns: &'static [&'static str],
    /// How many of the columns are the key.
    pub(super) keys: usize,
    /// Rows taken at once.
    pub(super) batch: usize,
    /// It is one of the keys store.
    pub(super) is_of_keys: bool,
}

impl Table {
    const fn new(name: &'static str, keys: usize, columns: &'static [&'static str]) -> Self {
        Self { name, columns, keys, batch: 1_000, is_of_keys: false }
    }

    const fn of_keys(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { is_of_keys: true, ..Self::new(name, 1, columns) }
    }

    /// The columns of the key.
    pub(super) fn key(&self) -> &'static [&'static str] {
        self.columns.get(..self.keys).unwrap_or_default()
    }

    /// The key of a row.
    pub(super) fn key_of(&self, row: &Row) -> Vec<Value> {
        row.iter().take(self.keys).cloned().collect()
    }
}

/// The tables of the keys store of a sealed inbox. They come before the rows that need them.
pub(super) static KEYS_TABLES: [Table; 2] = [
    Table::of_keys("key", &["number", "id", "connection", "user", "day", "wrapped", "replaced"]),
    Table::of_keys("erased", &["number", "id", "at"]),
];

/// Every table. An entry comes before what is known of it.
pub(super) static TABLES: [Table; 15] = [
    Table::new("sink", 1, &["id", "name", "paused", "strict"]),
    Table::new(
        "entry",
        1,
        &[
            "seq",
            "id",
            "delivery_id",
            "conflict",
            "id_key",
            "body_key",
            "digest",
            "size",
            "event_type",
            "resource_type",
            "connection",
            "user",
            "channel",
            "mode",
            "status",
            "provider",
            "new_transactions",
            "created",
            "account_count",
            "listed",
            "drift",
            "accepted",
            "confirm",
            "sender",
            "trace",
            "key",
        ],
    ),
    Table { batch: 100, ..Table::new("body", 1, &["seq", "bytes"]) },
    Table::new("known", 2, &["id_key", "body_key", "seq"]),
    Table::new(
        "stage",
        2,
        &[
            "seq",
            "kind",
            "line",
            "state",
            "due",
            "attempts",
            "losses",
            "token",
            "failing_since",
            "doubts",
            "doubts_since",
            "changed",
            "cause",
            "reason",
            "credentials",
            "resumed",
        ],
    ),
    Table::new("attempt", 3, &["seq", "kind", "number", "at", "state", "reason"]),
    Table::new("merged", 2, &["seq", "kind", "first"]),
    Table::new("failure", 1, &["kind", "at", "seq", "reason"]),
    Table {
        batch: 100,
        ..Table::new(
            "reading",
            1,
            &[
                "id",
                "connection",
                "user",
                "started",
                "changed",
                "accounts",
                "certainty",
                "unusable",
                "resource",
                "kind",
                "key",
            ],
        )
    },
    Table {
        batch: 20,
        ..Table::new(
            "page",
            2,
            &["reading", "number", "received", "fresh", "unusable", "ids", "foreign_ids", "accounts", "size", "key"],
        )
    },
    Table::new("fetched", 2, &["seq", "kind", "reading", "snapshot"]),
    Table::new("shortfall", 1, &["line", "missing"]),
    Table::new("delivered", 3, &["kind", "line", "channel", "as_of", "seq"]),
    Table {
        batch: 100,
        ..Table::new("refused", 1, &["number", "at", "sender", "reason", "status", "size", "start", "known", "key"])
    },
    Table::new("act", 1, &["number", "at", "who", "what", "which", "entries"]),
];

/// Tables that hand out numbers, each with the column that has them. Numbers are never given away twice.
pub(super) const NUMBERED: [(&str, &str); 5] =
    [("entry", "seq"), ("sink", "id"), ("reading", "id"), ("refused", "number"), ("act", "number")];
/// The identity and the keys, by the names that both sides give them. The second one is in the keys store of a sealed inbox.
pub(super) const KEYS: [&str; 3] = ["identity", "dedup", "fingerprints"];
/// What a keys store has beside its tables and its identity.
pub(super) const KEYS_META: [&str; 2] = ["dedup", "canary"];
