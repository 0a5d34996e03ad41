//! `sender.confirm = "api"`: an event is only a hint, through the whole service and the vendor double.

use crate::support::{Service, Site, documents, eventually};
use linxo_webhook::{
    inbox::State,
    simulator::{Connection, Settings, Simulator},
};
use serde_json::Value;
use std::path::PathBuf;

struct Bank {
    file: PathBuf,
    simulator: Simulator,
    service: Service,
    _site: Site,
}

impl Bank {
    async fn open(connections: Vec<Connection>) -> Self {
        let mut site = Site::new();
        let file = site.file_sink("file");
        site.set("sender.confirm", "\"api\"");
        let simulator = site.simulator(Settings { connections, ..Settings::default() }).await;
        let service = site.start().await;
        Self { file, simulator, service, _site: site }
    }

    async fn delivered(&self) -> Value {
        eventually("the event is delivered", async || documents(&self.file).pop()).await
    }
}

/// What somebody posts who knows the URL and a connection.
fn forged(connection: &str, user: &str) -> String {
    format!(
        r#"{{"id":"e","event_type":"UPDATED","resource_type":"CONNECTIONS","channel_definition_id":"50001",
            "resource":{{"id":"{connection}","user_id":"{user}","status":"FORGED","account_count":1,
            "accounts":[{{"id":"666","connection_id":"{connection}","balance":1000000}}]}},"new_transactions":true}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_the_event_claims_of_the_connection_is_delivered() {
    let connection = Connection::numbered(1, 102);
    let bank = Bank::open(vec![connection.clone()]).await;
    bank.service.door.accept(forged(&connection.id, &connection.user)).await;
    let document = bank.delivered().await;
    let resource = &document["data"]["resource"];
    let ids: Vec<&str> = resource["accounts"].as_array().unwrap().iter().map(|a| a["id"].as_str().unwrap()).collect();
    let mut held = bank.simulator.accounts(&connection.id);
    let mut delivered: Vec<String> = ids.iter().map(ToString::to_string).collect();
    held.sort();
    delivered.sort();
    assert_eq!(delivered, held);
    assert_eq!(resource["account_count"], 102);
    assert_eq!(
        (resource["id"].as_str(), resource["user_id"].as_str()),
        (Some(&*connection.id), Some(&*connection.user))
    );
    assert!(resource["status"] != "FORGED" && resource["channels"].is_array(), "{}", resource["status"]);
    assert_eq!(document["data"]["new_transactions"], true, "what is not of the connection is passed on");
    assert_eq!((&document["linxocompletion"], &document["linxoaccounts"]), (&"api".into(), &102.into()));
    assert!(document.get("linxomismatch").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_does_not_confirm_is_parked() {
    let connection = Connection::numbered(1, 3);
    let bank = Bank::open(vec![connection.clone()]).await;
    for (connection, user) in [("999", &*connection.user), (&*connection.id, "somebody-else"), ("../users/me", "1")] {
        bank.service.door.accept(forged(connection, user)).await;
    }
    let entries = bank.service.settled().await;
    for entry in &entries {
        assert_eq!(entry.state, State::Parked, "{entry:#?}");
    }
    assert!(documents(&bank.file).is_empty());
    let paths: Vec<String> = bank.simulator.requests().into_iter().map(|request| request.path).collect();
    assert!(paths.iter().all(|path| !path.contains("/users/me")), "ids stay one segment: {paths:?}");
}
