//! What a new connection is told and asked before it is used.

use super::fault::Fault;
use crate::{Identity, settings::Server};
use data_encoding::HEXLOWER;
use std::time::Duration;
use tokio_postgres::{Client, Config, SimpleQueryMessage, SimpleQueryRow};

/// The oldest version whose makers still mend it.
const OLDEST: u32 = 140_000;
/// How long a statement may take. What takes longer by its nature says so itself (`SET LOCAL`).
const STATEMENT_TIMEOUT: &str = "30s";
/// From SYN to the end of the handshakes, for each host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Data that nobody confirmed for as long as this means that the peer is gone.
const UNCONFIRMED: Duration = Duration::from_secs(5);
/// Of a silent connection.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(3), 3);

/// How each connection to this server is made; the password comes with it.
pub(super) fn config(server: &Server) -> Config {
    let mut config = server.config().clone();
    let (idle, interval, retries) = KEEPALIVE;
    config
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(UNCONFIRMED)
        .keepalives_idle(idle)
        .keepalives_interval(interval)
        .keepalives_retries(retries)
        .options(format!(
            "-c search_path={} -c statement_timeout={STATEMENT_TIMEOUT} -c lock_timeout=10s \
             -c idle_in_transaction_session_timeout=30s -c TimeZone=UTC -c jit=off -c client_min_messages=warning \
             -c default_transaction_isolation=read\\ committed",
            server.schema()
        ));
    config
}

/// One round trip: everything that must hold.
const FACTS: &str = "SELECT current_setting('server_version_num'), current_setting('statement_timeout'), \
                     current_setting('fsync'), current_setting('synchronous_commit'), pg_is_in_recovery(), \
                     to_regclass('meta') IS NOT NULL";
/// Which inbox it is, where there is one.
const IDENTITY: &str = "SELECT encode(bytes, 'hex') FROM meta WHERE name = 'identity'";

/// Looks at a new connection, and tells it what is left to tell. Returns which inbox the server holds, if it holds one.
///
/// # Errors
/// [`Fault`]: it must not be used.
pub(super) async fn begin(client: &Client) -> Result<Option<Identity>, Fault> {
    let answer = client.simple_query(FACTS).await?;
    let facts = Facts::of(answer.iter().find_map(row));
    facts.suit()?;
    // Each transaction says so as well; this is for what is no transaction of its own.
    if matches!(facts.of_index(3), "off" | "local") {
        client.batch_execute("SET synchronous_commit = on").await?;
    }
    if facts.of_index(5) != "t" {
        return Ok(None);
    }
    let answer = client.simple_query(IDENTITY).await?;
    let identity = Facts::of(answer.iter().find_map(row));
    let bytes = HEXLOWER.decode(identity.of_index(0).as_bytes()).ok();
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(Identity))
}

/// What the server is set to where this session has not said something else.
const SETTINGS: &str = "SELECT name, reset_val FROM pg_settings WHERE
                        name IN ('synchronous_commit', 'full_page_writes') AND reset_val IN ('off', 'local')";

/// Settings that are allowed, and should be known.
pub(super) async fn remarks(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    let answer = client.simple_query(SETTINGS).await?;
    let remark = |row: &SimpleQueryRow| {
        let facts = Facts::of(Some(row));
        match facts.of_index(0) {
            "full_page_writes" => {
                "full_page_writes is off in PostgreSQL: a power cut may damage its pages, unless its file system never tears them".to_owned()
            }
            name => format!(
                "{name} is {} in PostgreSQL: this service asks for more in each of its transactions, and others on the server may lose what they were told",
                facts.of_index(1)
            ),
        }
    };
    Ok(answer.iter().filter_map(row).map(remark).collect())
}

/// A row of texts.
struct Facts(Vec<String>);

impl Facts {
    fn of(row: Option<&SimpleQueryRow>) -> Self {
        let text = |row: &SimpleQueryRow, index| row.try_get(index).ok().flatten().unwrap_or_default().to_owned();
        Self(row.map(|row| (0..row.len()).map(|index| text(row, index)).collect()).unwrap_or_default())
    }

    fn of_index(&self, index: usize) -> &str {
        self.0.get(index).map_or("", String::as_str)
    }

    /// Whether a server that is like this may hold an inbox.
    fn suit(&self) -> Result<(), Fault> {
        let unfit = |problem: &str| Err(Fault::Unfit(problem.to_owned()));
        if self.of_index(0).parse::<u32>().unwrap_or_default() < OLDEST {
            return unfit("PostgreSQL is older than version 14: update it");
        }
        if self.of_index(1) != STATEMENT_TIMEOUT {
            return unfit(
                "something between this service and PostgreSQL forgets what a session is told (statement_timeout): a pooler such as \
                 PgBouncer; name PostgreSQL itself in inbox.url, the service has a pool of its own (inbox.connections)",
            );
        }
        if self.of_index(2) != "on" {
            return unfit(
                "fsync is off in PostgreSQL, so it may lose what it acknowledged: set fsync = on in postgresql.conf",
            );
        }
        if self.of_index(4) != "f" {
            return Err(Fault::Away("PostgreSQL is a standby that takes no writes".to_owned()));
        }
        Ok(())
    }
}

fn row(message: &SimpleQueryMessage) -> Option<&SimpleQueryRow> {
    match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(["150020", "30s", "on", "on", "f"], Ok(()))]
    #[case(["150020", "30s", "on", "off", "f"], Ok(()))]
    #[case(["130012", "30s", "on", "on", "f"], Err("older than version 14"))]
    #[case(["150020", "0", "on", "on", "f"], Err("PgBouncer"))]
    #[case(["150020", "30s", "off", "on", "f"], Err("fsync is off"))]
    #[case(["150020", "30s", "on", "on", "t"], Err("standby"))]
    fn a_server_that_may_lose_something_is_refused(#[case] facts: [&str; 5], #[case] expected: Result<(), &str>) {
        let found = Facts(facts.map(str::to_owned).to_vec()).suit();
        match expected {
            Ok(()) => assert_eq!(found, Ok(())),
            Err(words) => assert!(found.unwrap_err().to_string().contains(words)),
        }
    }
}
