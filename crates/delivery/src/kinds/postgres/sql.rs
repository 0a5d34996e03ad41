//! The tables and the one statement that fills them. Pure.
//!
//! A batch is one statement, so it is one transaction and one round trip. It is sent without being prepared, so a pooler such
//! as `PgBouncer` may stand in between. Its first part lifts `synchronous_commit` for this transaction where the server, the
//! database or the role has switched it off: what was acknowledged would be lost with the server's power otherwise.

/// Parameters of [`Tables::store`], each an array with one element for each event: the columns, then [`READABLE`].
const COLUMNS: [&str; 15] = [
    "id text",
    "source text",
    "type text",
    "connection_id text",
    "user_id text",
    "channel_id text",
    "mode text",
    "time text",
    "completion text",
    "merged text",
    "account_count bigint",
    "mismatch boolean",
    "stale boolean",
    "as_of bigint",
    "data text",
];

/// The event as PostgreSQL can look into it, where it cannot look into the one that came ([`super::readable`]).
const READABLE: &str = "readable text";

/// Names of the tables, ready to stand in a statement.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    schema: String,
    events: String,
    /// `None`: there is none.
    accounts: Option<String>,
}

impl Tables {
    /// Of plain names ([`settings::postgres::name`]).
    pub(super) fn new(schema: &str, events: &str, accounts: Option<&str>) -> Self {
        Self { schema: schema.to_owned(), events: events.to_owned(), accounts: accounts.map(str::to_owned) }
    }

    /// Each table as it stands in a statement.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        [Some(&self.events), self.accounts.as_ref()].into_iter().flatten().map(|name| self.qualified(name))
    }

    /// A plain name may be a word of SQL, such as `order`.
    fn qualified(&self, name: &str) -> String {
        format!("\"{}\".\"{name}\"", self.schema)
    }

    /// Makes what is missing, and leaves what is there as it is.
    pub(super) fn create(&self) -> String {
        let Self { schema, events, accounts } = self;
        let mut text = String::new();
        if schema != "public" {
            text = format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\";\n\n");
        }
        let table = self.qualified(events);
        text.extend([format!(
            "-- One row for each event: its completed JSON, byte for byte, and the attributes of its delivery.
CREATE TABLE IF NOT EXISTS {table} (
  id text PRIMARY KEY,
  source text NOT NULL,
  type text NOT NULL,
  connection_id text NOT NULL,
  user_id text,
  channel_id text,
  mode text,
  time timestamptz,
  completion text NOT NULL,
  merged text,
  account_count bigint NOT NULL,
  mismatch boolean NOT NULL,
  stale boolean NOT NULL,
  as_of timestamptz NOT NULL,
  data json NOT NULL,
  stored_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS \"{events}_connection\" ON {table} (connection_id, as_of);
"
        )]);
        if let Some(name) = accounts {
            let table = self.qualified(name);
            text.extend([format!(
                "
-- One row for each account: its latest state. `listed` is false when a newer complete list had it no more.
CREATE TABLE IF NOT EXISTS {table} (
  connection_id text NOT NULL,
  id text NOT NULL,
  user_id text,
  event_id text NOT NULL,
  as_of timestamptz NOT NULL,
  listed boolean NOT NULL,
  data json,
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (connection_id, id)
);
"
            )]);
        }
        text
    }

    /// Stores a batch, whose events come in the order of their ids, each id once. They are written in that order, so that two
    /// writers cannot wait for each other.
    pub(super) fn store(&self) -> String {
        let columns: Vec<_> = COLUMNS.iter().filter_map(|column| column.split_once(' ')).collect();
        let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let kinds = COLUMNS.iter().chain([&READABLE]).filter_map(|column| column.split_once(' '));
        let parameters =
            kinds.enumerate().map(|(index, (_, kind))| format!("${}::{kind}[]", index + 1)).collect::<Vec<_>>();
        let parameters = parameters.join(", ");
        let events = self.qualified(&self.events);
        let mut text = format!(
            "WITH durable AS MATERIALIZED (
  SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') IN ('off', 'local')
), given AS (
  SELECT id, source, type, connection_id, user_id, channel_id, mode, time::timestamptz AS time, completion,
    merged, account_count, mismatch, stale, timestamptz 'epoch' + as_of * interval '1 millisecond' AS as_of, data::json AS data,
    readable
  FROM unnest({parameters}) AS row ({names}, readable)
), stored AS (
  INSERT INTO {events} AS known ({names})
  SELECT {names} FROM given
  ON CONFLICT (id) DO UPDATE SET completion = excluded.completion, account_count = excluded.account_count,
    mismatch = excluded.mismatch, stale = excluded.stale, as_of = excluded.as_of, data = excluded.data, stored_at = now()
  WHERE known.as_of < excluded.as_of
)"
        );
        if let Some(accounts) = &self.accounts {
            let accounts = self.qualified(accounts);
            text.extend([format!(
                ", news AS MATERIALIZED (
  SELECT *, coalesce(readable::json, data) AS seen FROM given WHERE NOT EXISTS (
    SELECT FROM {events} AS newer WHERE newer.connection_id = given.connection_id AND newer.as_of > given.as_of)
), listed AS MATERIALIZED (
  SELECT DISTINCT ON (news.connection_id, item ->> 'id') news.connection_id, item ->> 'id' AS id, news.user_id,
    news.id AS event_id, news.as_of, item AS data
  FROM news, LATERAL json_array_elements(
    CASE WHEN json_typeof(news.seen #> '{{resource,accounts}}') = 'array' THEN news.seen #> '{{resource,accounts}}' END
  ) AS item
  WHERE json_typeof(item) = 'object' AND item ->> 'id' IS NOT NULL
  ORDER BY news.connection_id, item ->> 'id', news.as_of DESC
), changed AS (
  INSERT INTO {accounts} AS known (connection_id, id, user_id, event_id, as_of, listed, data)
  SELECT connection_id, id, user_id, event_id, as_of, true, data FROM listed ORDER BY connection_id, id
  ON CONFLICT (connection_id, id) DO UPDATE SET user_id = excluded.user_id, event_id = excluded.event_id,
    as_of = excluded.as_of, listed = true, data = excluded.data, changed_at = now()
  WHERE known.as_of < excluded.as_of OR (known.as_of = excluded.as_of AND known.event_id <> excluded.event_id)
), gone AS (
  UPDATE {accounts} AS known SET listed = false, event_id = news.id, as_of = news.as_of, changed_at = now()
  FROM news
  WHERE known.connection_id = news.connection_id AND known.listed AND known.as_of <= news.as_of
    AND (NOT news.mismatch OR news.completion = 'gone')
    AND news.type = 'com.linxo.connections.updated'
    AND NOT EXISTS (SELECT FROM listed WHERE listed.connection_id = known.connection_id AND listed.id = known.id)
)"
            )]);
        }
        text.push_str("\nSELECT count(*) FROM durable");
        text
    }
}
