-- What this inbox is: its identity and keys (bytes), and numbers that it remembers of itself.
CREATE TABLE meta (
    name   TEXT PRIMARY KEY,
    bytes  BYTEA,
    number BIGINT
);

-- Sinks by name. A number is never given to another name. paused: since when an operator has it paused.
CREATE TABLE sink (
    id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name   TEXT   NOT NULL UNIQUE,
    paused BIGINT
);

-- Accepted events, repeats included.
CREATE SEQUENCE position;
-- Numbers of entries: given away while the lines of their connections are locked.
CREATE SEQUENCE entry_seq;

-- What was accepted, without its body. Written once; only a change of the seal updates it.
CREATE TABLE entry (
    seq              BIGINT  PRIMARY KEY,
    id               TEXT    NOT NULL,
    delivery_id      TEXT,              -- NULL: the same as id
    conflict         BOOLEAN NOT NULL,  -- another entry came first under the same id
    id_key           BIGINT  NOT NULL,  -- see known
    rank             BIGINT  NOT NULL,
    digest           BYTEA   NOT NULL,  -- SHA-256 of the body; of a sealed one a digest under its key
    size             BIGINT  NOT NULL,  -- bytes of the body
    event_type       TEXT    NOT NULL,
    resource_type    TEXT    NOT NULL,
    connection       TEXT    NOT NULL,
    "user"           TEXT,
    channel          TEXT,
    mode             TEXT,              -- of the channel
    status           TEXT,              -- of the connection
    provider         TEXT,
    new_transactions BOOLEAN,
    created          BIGINT,            -- seconds, from the event
    account_count    BIGINT,
    listed           BIGINT  NOT NULL,
    drift            TEXT,
    accepted         BIGINT  NOT NULL,  -- milliseconds by the server's clock, as all times below
    confirm          BOOLEAN NOT NULL,  -- only a hint, its resource is fetched
    sender           TEXT,              -- JSON
    trace            TEXT,              -- traceparent
    key              BIGINT             -- the data key that seals the body; NULL: it is written as it is
);
CREATE INDEX entry_accepted ON entry (accepted);
CREATE INDEX entry_connection ON entry (connection);
CREATE INDEX entry_user ON entry ("user") WHERE "user" IS NOT NULL;

-- Compressed JSON would be read and written by the server's own time; receivers have enough of theirs, and sealed bytes do not shrink.
CREATE TABLE body (
    seq   BIGINT PRIMARY KEY,
    bytes BYTEA  NOT NULL
);
ALTER TABLE body ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- The same content is stored once: 64 bits of a keyed hash of the id, and of that of the body without white space. rank is 0 for
-- the first entry of an id and body_key for every other. So one constraint decides two things: that no content is stored twice,
-- and that one entry alone is the first of its id, whose delivery id is the event's own.
CREATE TABLE known (
    id_key   BIGINT NOT NULL,
    rank     BIGINT NOT NULL,
    body_key BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    PRIMARY KEY (id_key, rank)
);

-- The line of a connection. Whoever changes which stages stand in it has its row locked until the commit.
CREATE TABLE line (
    key BIGINT PRIMARY KEY              -- hash of the connection
) WITH (fillfactor = 90);

-- The work of an entry, in parts. kind 0 is the fetch of accounts, others are sink.id.
-- state: queued behind an earlier entry or its own fetch, due, leased, done, parked.
CREATE TABLE stage (
    seq           BIGINT NOT NULL,
    kind          BIGINT NOT NULL,
    line          BIGINT NOT NULL,
    state         TEXT   NOT NULL,
    due           BIGINT NOT NULL,            -- due: not before; leased: end of the lease
    attempts      BIGINT NOT NULL DEFAULT 0,
    losses        BIGINT NOT NULL DEFAULT 0,  -- leases in a row that ended without a word
    token         BIGINT,
    failing_since BIGINT,
    doubts        BIGINT NOT NULL DEFAULT 0,  -- failures in a row that were an answer, and since when
    doubts_since  BIGINT,
    changed       BIGINT NOT NULL,
    cause         TEXT,                       -- of parking
    reason        TEXT,
    credentials   TEXT,                       -- cause credentials: stands for those that did not do
    resumed       BIGINT,                     -- when it last went back in line by itself
    PRIMARY KEY (seq, kind)
) WITH (
    -- Every row is written three or four times in a short life: room for that on its page, and a vacuum that follows the rows that
    -- change and not the millions that are done.
    fillfactor = 60,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.02
);
-- What can be leased, the longest due first.
CREATE INDEX stage_due ON stage (kind, due, seq) WHERE state = 'due';
-- Leases, to be found again when they have expired.
CREATE INDEX stage_leased ON stage (kind, due) WHERE state = 'leased';
-- What has lost too many leases to be leased again (rules::MOST_LOSSES).
CREATE INDEX stage_lost ON stage (kind, due) WHERE state = 'due' AND losses >= 10;
-- The line of a connection before a stage.
CREATE INDEX stage_line ON stage (kind, line, seq) WHERE state IN ('queued', 'due', 'leased');
-- The oldest entry that is first in its line.
CREATE INDEX stage_first ON stage (kind, seq) WHERE state IN ('due', 'leased');
CREATE INDEX stage_parked ON stage (kind, seq) WHERE state = 'parked';
-- What goes back in line by itself when its sink is well again.
CREATE INDEX stage_resumable ON stage (kind, seq) WHERE state = 'parked' AND cause IN ('outage', 'gave_up');
-- What may be tried again when credentials change.
CREATE INDEX stage_awaiting ON stage (credentials, seq) WHERE credentials IS NOT NULL;

-- How many stages of a kind stand how: the sum over all slots. A connection to the server writes in the slot of its own number, so
-- that nobody waits for another to count.
CREATE TABLE tally (
    slot       BIGINT NOT NULL,
    kind       BIGINT NOT NULL,
    unfinished BIGINT NOT NULL,
    leased     BIGINT NOT NULL,
    parked     BIGINT NOT NULL,
    PRIMARY KEY (slot, kind)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- What became of earlier attempts; the newest of each stage.
CREATE TABLE attempt (
    seq    BIGINT NOT NULL,
    kind   BIGINT NOT NULL,
    number BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    state  TEXT   NOT NULL,                   -- the one that it ended in
    reason TEXT,
    PRIMARY KEY (seq, kind, number)
);

-- The last failed attempt of each kind of stage, as each slot saw it.
CREATE TABLE failure (
    slot   BIGINT NOT NULL,
    kind   BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    seq    BIGINT NOT NULL,
    reason TEXT,
    PRIMARY KEY (slot, kind)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- One reading of a connection through the API.
CREATE TABLE reading (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection TEXT   NOT NULL,
    "user"     TEXT,
    started    BIGINT NOT NULL,
    changed    BIGINT NOT NULL,               -- when its last page came
    accounts   BIGINT,                        -- set when it is finished, as is certainty
    certainty  BIGINT,                        -- 0 as announced, 1 two passes agreed, 2 it changed with every pass
    unusable   BIGINT NOT NULL DEFAULT 0,     -- items of the list that are no accounts
    resource   BYTEA,                         -- the connection's own JSON, where it was fetched
    kind       BIGINT NOT NULL DEFAULT 0,     -- which fetch
    key        BIGINT
);
CREATE INDEX reading_connection ON reading (connection, started);
CREATE INDEX reading_user ON reading ("user") WHERE "user" IS NOT NULL;

CREATE TABLE page (
    reading     BIGINT NOT NULL,
    number      BIGINT NOT NULL,
    received    BIGINT NOT NULL,
    fresh       BIGINT NOT NULL,
    unusable    BIGINT NOT NULL DEFAULT 0,
    ids         TEXT   NOT NULL,              -- JSON array, as is foreign_ids
    foreign_ids TEXT   NOT NULL,
    accounts    BYTEA  NOT NULL,              -- raw objects joined by commas
    size        BIGINT NOT NULL,              -- bytes of accounts, before the seal
    key         BIGINT,
    PRIMARY KEY (reading, number)
);
ALTER TABLE page ALTER COLUMN accounts SET STORAGE EXTERNAL;

-- Which reading an entry was given; none where the connection was gone. The snapshot is as old as the reading's start.
CREATE TABLE fetched (
    seq      BIGINT NOT NULL,
    kind     BIGINT NOT NULL,
    reading  BIGINT,
    snapshot BIGINT,
    PRIMARY KEY (seq, kind)
);
CREATE INDEX fetched_reading ON fetched (reading) WHERE reading IS NOT NULL;

-- What was missing when the connection of a line was last completed; -1: the connection was unknown.
CREATE TABLE shortfall (
    line    BIGINT PRIMARY KEY,
    missing BIGINT NOT NULL
);

-- For which time the newest accounts hold that a sink was given of a connection (line) and channel ('': none).
CREATE TABLE delivered (
    kind    BIGINT NOT NULL,
    line    BIGINT NOT NULL,
    channel TEXT   NOT NULL,
    as_of   BIGINT NOT NULL,
    PRIMARY KEY (kind, line, channel)
) WITH (fillfactor = 70);

-- Refused requests, the newest ones only.
CREATE TABLE refused (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     BIGINT  NOT NULL,
    sender TEXT    NOT NULL,                  -- JSON
    reason TEXT    NOT NULL,
    status BIGINT  NOT NULL,
    size   BIGINT,                            -- of the body, if known
    start  BYTEA,                             -- of the body, of known senders
    known  BOOLEAN NOT NULL,
    key    BIGINT
);

-- Who was erased and when, as a keyed hash: what a receiver's journal still holds of them is not brought back.
CREATE TABLE erasure (
    subject BIGINT PRIMARY KEY,
    at      BIGINT NOT NULL
);

-- The audit trail.
CREATE TABLE act (
    number  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      BIGINT NOT NULL,
    who     TEXT   NOT NULL,
    what    TEXT   NOT NULL,
    which   TEXT   NOT NULL,
    entries BIGINT
);

-- What happened in a minute, for charts, by receiver. took: milliseconds from acceptance to delivery, over all its deliveries.
CREATE TABLE minute (
    at        BIGINT NOT NULL,
    receiver  TEXT   NOT NULL,
    received  BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    parked    BIGINT NOT NULL,
    took      BIGINT NOT NULL,
    PRIMARY KEY (at, receiver)
);
