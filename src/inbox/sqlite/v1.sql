-- Sinks by name. A number is never given to another name.
CREATE TABLE sink (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- What was accepted. Never updated: bodies stay apart from the rows that change (see stage).
CREATE TABLE event (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL,
    digest           BLOB    NOT NULL,  -- SHA-256 of the body
    delivery_id      TEXT,              -- set where another event came first under the same id
    event_type       TEXT    NOT NULL,
    resource_type    TEXT    NOT NULL,
    connection       TEXT    NOT NULL,
    user             TEXT,
    channel          TEXT,
    mode             TEXT,
    created          INTEGER,           -- seconds, from the event
    account_count    INTEGER,
    listed           INTEGER NOT NULL,
    cloud_type       TEXT    NOT NULL,
    drift            TEXT,
    accepted         INTEGER NOT NULL,  -- milliseconds
    confirm          INTEGER NOT NULL,  -- 1: only a hint, its resource is fetched
    sender           TEXT,              -- JSON
    body             BLOB    NOT NULL   -- last, so that the columns before it are read without it
) STRICT;

-- The same content is stored once; other content under the same id is another entry.
CREATE UNIQUE INDEX event_content ON event (id, digest);

-- The work of an entry, in parts. kind 0 is the completion, others are sink.id.
-- state: 0 queued behind an earlier entry or its own completion, 1 due, 2 leased, 3 done, 4 parked.
CREATE TABLE stage (
    seq           INTEGER NOT NULL,
    kind          INTEGER NOT NULL,
    line          INTEGER NOT NULL,           -- hash of the connection
    state         INTEGER NOT NULL,
    due           INTEGER NOT NULL,           -- state 1: not before; state 2: end of the lease; milliseconds
    attempts      INTEGER NOT NULL DEFAULT 0,
    losses        INTEGER NOT NULL DEFAULT 0, -- leases in a row that ended without a word
    token         INTEGER,
    failing_since INTEGER,
    doubts        INTEGER NOT NULL DEFAULT 0, -- failures in a row that were an answer, and since when
    doubts_since  INTEGER,
    changed       INTEGER NOT NULL,
    reason        TEXT,
    credentials   TEXT,                       -- state 4: stands for the credentials that did not do
    PRIMARY KEY (seq, kind)
) STRICT, WITHOUT ROWID;

-- What can be leased, and leases to be found again: an expired lease is simply due.
CREATE INDEX stage_due ON stage (kind, due) WHERE state IN (1, 2);
-- The line of a connection before a stage.
CREATE INDEX stage_line ON stage (kind, line, seq) WHERE state IN (0, 1, 2);
CREATE INDEX stage_parked ON stage (kind) WHERE state = 4;
-- What may be tried again when credentials change.
CREATE INDEX stage_awaiting ON stage (credentials, seq) WHERE credentials IS NOT NULL;

-- One reading of a connection's accounts through the API.
CREATE TABLE reading (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    connection TEXT    NOT NULL,
    user       TEXT,
    started    INTEGER NOT NULL,
    changed    INTEGER NOT NULL,              -- when its last page came
    accounts   INTEGER,                       -- set when it is finished, as is certainty
    certainty  INTEGER,                       -- 0 as announced, 1 two passes agreed, 2 it changed with every pass
    resource   BLOB                           -- the connection's own JSON, where it was fetched
) STRICT;
CREATE INDEX reading_connection ON reading (connection, started);

CREATE TABLE page (
    reading  INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    received INTEGER NOT NULL,
    fresh    INTEGER NOT NULL,
    ids      TEXT    NOT NULL,                -- JSON array, as is foreign_ids
    foreign_ids TEXT NOT NULL,
    accounts BLOB    NOT NULL,                -- raw objects joined by commas
    PRIMARY KEY (reading, number)
) STRICT;

-- Refused requests, the newest ones only.
CREATE TABLE refused (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,                  -- milliseconds
    sender TEXT    NOT NULL,                  -- JSON
    reason TEXT    NOT NULL,
    status INTEGER NOT NULL,
    size   INTEGER,                           -- of the body, if known
    start  BLOB                               -- of the body, of known senders
) STRICT;

-- Which reading completed an entry; none where the connection was gone.
CREATE TABLE completion (
    seq     INTEGER PRIMARY KEY,
    reading INTEGER
) STRICT;
CREATE INDEX completion_reading ON completion (reading);
