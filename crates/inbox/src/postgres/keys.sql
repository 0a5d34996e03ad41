-- The keys store of an inbox on PostgreSQL, in a schema of its own, or in a database of its own.

-- identity: of the inbox. dedup: the key of the hashes by which the same content is recognised. canary: a wrapped key that nothing is
-- sealed with; a wrong key file cannot open it. version: of these tables (number).
CREATE TABLE meta (
    name   TEXT PRIMARY KEY,
    bytes  BYTEA,
    number BIGINT
);

-- Data keys, wrapped: of a connection and a user (NULL: none is named), or of a day. Each owner has one that is not replaced, however
-- many receivers make it at once.
CREATE TABLE key (
    number     BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         BIGINT  NOT NULL UNIQUE,
    connection TEXT,
    "user"     TEXT,
    day        BIGINT,
    wrapped    BYTEA   NOT NULL,
    replaced   BOOLEAN NOT NULL DEFAULT FALSE,  -- by a newer one: nothing is sealed with it any more
    owner      TEXT    NOT NULL GENERATED ALWAYS AS (CASE
                   WHEN day IS NOT NULL THEN 'd' || day::text
                   WHEN "user" IS NULL THEN 'c' || connection
                   ELSE 'u' || length(connection)::text || ' ' || connection || "user" END) STORED
);
CREATE UNIQUE INDEX key_owner ON key (owner) WHERE NOT replaced;
CREATE INDEX key_connection ON key (connection) WHERE connection IS NOT NULL;
CREATE INDEX key_user ON key ("user") WHERE "user" IS NOT NULL;

-- Keys that are no more. Nothing here says whose they were.
CREATE TABLE erased (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id     BIGINT NOT NULL UNIQUE,
    at     BIGINT NOT NULL                      -- milliseconds by the clock of the inbox's server
);
