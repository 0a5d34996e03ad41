-- identity: of the inbox. dedup: the key of the hashes by which the same content is recognised. canary: a wrapped key that nothing is
-- sealed with; a wrong key file cannot open it.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);
-- Of a connection and a user (NULL: none is named), or of a day.
CREATE TABLE key (
    number     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         BIGINT NOT NULL UNIQUE,
    connection TEXT,
    "user"     TEXT,
    day        BIGINT,
    wrapped    BYTEA  NOT NULL
);
CREATE INDEX key_connection ON key (connection) WHERE connection IS NOT NULL;
CREATE INDEX key_user ON key ("user") WHERE "user" IS NOT NULL;
CREATE INDEX key_day ON key (day) WHERE day IS NOT NULL;
-- Keys that are no more. Nothing here says whose they were.
CREATE TABLE erased (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id     BIGINT NOT NULL UNIQUE,
    at     BIGINT NOT NULL
);
