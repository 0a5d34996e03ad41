//! Tries the servers that the service would call.
//!
//! A token is asked for where that can be done without an event; the API, the endpoint for tokens and each `http` sink are
//! reached by TCP and TLS, and sent nothing. Sinks on brokers log in, and deliver nothing. What is not tried is said.

use super::findings::Findings;
use crate::config::{Config, Linxo};
use base::error::chain;
use futures_util::future::{join, join_all};
use linxo::{Disposition, Figures, credentials::FingerprintKey};
use prometheus_client::registry::Registry;

const INBOX_HINT: &str = "check inbox.url, inbox.password and the network; docs/operations.md, \"PostgreSQL\"";

/// Tries everything, side by side.
pub(in crate::commands) async fn look(config: &Config, found: &mut Findings) {
    let sinks = join_all(config.sinks.iter().map(sink));
    if config.linxo.is_none() {
        found.notes.push("there is no [linxo] section, so there is no API to ask".to_owned());
    }
    let (linxo, (sinks, inbox)) =
        Box::pin(join(ask(config.linxo.as_ref()), join(sinks, inbox::try_server(&config.inbox)))).await;
    for tried in linxo {
        match tried {
            Ok(said) => found.facts.extend(said.lines().map(|line| format!("online: {line}"))),
            Err(error) => {
                let may_mend =
                    matches!(error.disposition(), Disposition::Transient { .. } | Disposition::Paused { .. });
                found.troubles.push((format!("{}\n    hint: {}", chain(&error), error.remedy()), may_mend));
            }
        }
    }
    match inbox {
        None => {}
        Some(Ok((said, remarks))) => {
            found.facts.push(format!("online: {said}"));
            found.warnings.extend(remarks);
        }
        Some(Err(error)) => {
            let may_mend = matches!(error, inbox::Error::Away(_));
            found.troubles.push((format!("{}\n    hint: {INBOX_HINT}", chain(&error)), may_mend));
        }
    }
    for (name, tried) in sinks {
        match tried {
            Ok((said, known)) => {
                found.facts.push(format!("online: sink {name:?} {said}"));
                found.warnings.extend(known.into_iter().map(|known| format!("sink {name}: {known}")));
            }
            Err(problem) => found.troubles.push((format!("sink {name:?} {problem}"), true)),
        }
    }
}

async fn ask(settings: Option<&Linxo>) -> Vec<linxo::Tried> {
    let Some(settings) = settings else { return Vec::new() };
    // Nothing of this client is kept, so any key will do, and its figures go into a registry that nobody reads.
    let (key, figures) = (FingerprintKey::new([0; 32]), Figures::new(&mut Registry::default()));
    match linxo::Client::new(settings.clone(), key, figures) {
        Ok(client) => linxo::try_out(&client, settings).await,
        // That was said already.
        Err(_) => Vec::new(),
    }
}

async fn sink(settings: &delivery::Settings) -> (&str, Result<(String, Vec<String>), String>) {
    let name = settings.name.as_str();
    let Some(server) = settings.kind.server() else {
        return (name, Ok((format!("calls no server (type {:?})", settings.kind.word()), Vec::new())));
    };
    let host = server.host;
    let tried = match server.reach.await {
        Ok(known) => Ok((format!("can be reached ({host}); nothing was delivered"), known)),
        Err(reason) => Err(format!(
            "cannot be reached or used ({host}): {reason}\n    hint: do what the reason says, or check the URL, the network and the certificate; \
             deliveries wait meanwhile"
        )),
    };
    (name, tried)
}
