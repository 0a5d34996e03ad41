-- What this inbox is: its identity, its keys, how far the record of accepted events was folded.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY  NOT NULL
) STRICT;

-- Sinks by name. A number is never given to another name.
CREATE TABLE IF NOT EXISTS sink (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- What was accepted, without its body. Never updated.
CREATE TABLE entry (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL,
    delivery_id      TEXT,              -- NULL: the same as id
    conflict         INTEGER NOT NULL,  -- 1: another entry came first under the same id
    id_key           INTEGER NOT NULL,  -- see known
    body_key         INTEGER NOT NULL,
    digest           BLOB    NOT NULL,  -- SHA-256 of the body
    size             INTEGER NOT NULL,  -- bytes of the body
    event_type       TEXT    NOT NULL,
    resource_type    TEXT    NOT NULL,
    connection       TEXT    NOT NULL,
    user             TEXT,
    channel          TEXT,
    mode             TEXT,              -- of the channel
    status           TEXT,              -- of the connection
    provider         TEXT,
    new_transactions INTEGER,
    created          INTEGER,           -- seconds, from the event
    account_count    INTEGER,
    listed           INTEGER NOT NULL,
    drift            TEXT,
    accepted         INTEGER NOT NULL,  -- milliseconds, as all times below
    confirm          INTEGER NOT NULL,  -- 1: only a hint, its resource is fetched
    sender           TEXT,              -- JSON
    trace            TEXT               -- traceparent
) STRICT;

CREATE TABLE body (
    seq   INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

-- The same content is stored once: 64 bits of a keyed hash of the id, and of that of the body without white space.
CREATE TABLE known (
    id_key   INTEGER NOT NULL,
    body_key INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    PRIMARY KEY (id_key, body_key)
) STRICT, WITHOUT ROWID;

-- The line of a connection hands out places: who writes its row has it locked until the commit.
CREATE TABLE line (
    key  INTEGER PRIMARY KEY,           -- hash of the connection
    tail INTEGER NOT NULL               -- the last place that was handed out
) STRICT;

-- The work of an entry, in parts. kind 0 is the fetch of accounts, others are sink.id.
-- state: queued behind an earlier entry or its own fetch, due, leased, done, parked.
CREATE TABLE stage (
    seq           INTEGER NOT NULL,
    kind          INTEGER NOT NULL,
    line          INTEGER NOT NULL,
    place         INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    due           INTEGER NOT NULL,           -- due: not before; leased: end of the lease
    attempts      INTEGER NOT NULL DEFAULT 0,
    losses        INTEGER NOT NULL DEFAULT 0, -- leases in a row that ended without a word
    token         INTEGER,
    failing_since INTEGER,
    doubts        INTEGER NOT NULL DEFAULT 0, -- failures in a row that were an answer, and since when
    doubts_since  INTEGER,
    changed       INTEGER NOT NULL,
    cause         TEXT,                       -- of parking
    reason        TEXT,
    credentials   TEXT,                       -- cause credentials: stands for those that did not do
    PRIMARY KEY (seq, kind)
) STRICT, WITHOUT ROWID;

-- What can be leased, and leases to be found again: an expired lease is simply due.
CREATE INDEX stage_due ON stage (kind, due) WHERE state IN ('due', 'leased');
-- The line of a connection before a stage.
CREATE INDEX stage_line ON stage (kind, line, place) WHERE state IN ('queued', 'due', 'leased');
CREATE INDEX stage_parked ON stage (kind) WHERE state = 'parked';
-- What may be tried again when credentials change.
CREATE INDEX stage_awaiting ON stage (credentials, seq) WHERE credentials IS NOT NULL;

-- What became of earlier attempts; the newest of each stage.
CREATE TABLE attempt (
    seq    INTEGER NOT NULL,
    kind   INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    state  TEXT    NOT NULL,                  -- the one that it ended in
    reason TEXT,
    PRIMARY KEY (seq, kind, number)
) STRICT, WITHOUT ROWID;

-- One reading of a connection through the API.
CREATE TABLE IF NOT EXISTS reading (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    connection TEXT    NOT NULL,
    user       TEXT,
    started    INTEGER NOT NULL,
    changed    INTEGER NOT NULL,              -- when its last page came
    accounts   INTEGER,                       -- set when it is finished, as is certainty
    certainty  INTEGER,                       -- 0 as announced, 1 two passes agreed, 2 it changed with every pass
    resource   BLOB,                          -- the connection's own JSON, where it was fetched
    kind       INTEGER NOT NULL DEFAULT 0     -- which fetch
) STRICT;
CREATE INDEX IF NOT EXISTS reading_connection ON reading (connection, started);

CREATE TABLE IF NOT EXISTS page (
    reading  INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    received INTEGER NOT NULL,
    fresh    INTEGER NOT NULL,
    ids      TEXT    NOT NULL,                -- JSON array, as is foreign_ids
    foreign_ids TEXT NOT NULL,
    accounts BLOB    NOT NULL,                -- raw objects joined by commas
    size     INTEGER,                         -- bytes of accounts; NULL: of the stored column
    PRIMARY KEY (reading, number)
) STRICT;

-- Which reading an entry was given; none where the connection was gone. The snapshot is as old as the reading's start.
CREATE TABLE fetched (
    seq      INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    reading  INTEGER,
    snapshot INTEGER,
    PRIMARY KEY (seq, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX fetched_reading ON fetched (reading) WHERE reading IS NOT NULL;

-- Refused requests, the newest ones only.
CREATE TABLE IF NOT EXISTS refused (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    sender TEXT    NOT NULL,                  -- JSON
    reason TEXT    NOT NULL,
    status INTEGER NOT NULL,
    size   INTEGER,                           -- of the body, if known
    start  BLOB                               -- of the body, of known senders
) STRICT;
