//! `sender.confirm = "api"`: an event is only a hint, through the whole service and the vendor double.

use crate::support::{Service, Site, documents, eventually};
use double::{Connection, Fault, Rule, Script, Settings, Simulator};
use inbox::State;
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
        Self::with(Settings { connections, ..Settings::default() }).await
    }

    async fn with(settings: Settings) -> Self {
        let mut site = Site::new();
        let file = site.file_sink("file");
        site.set("sender.confirm", "\"api\"");
        let simulator = site.simulator(settings).await;
        let service = site.start().await;
        Self { file, simulator, service, _site: site }
    }

    async fn delivered(&self) -> Value {
        eventually("the event is delivered", async || documents(&self.file).pop()).await
    }
}

/// What somebody posts who knows the URL and a connection: a resource of their own, twice more for readers that ignore case
/// or take the last of two members, and whatever else a reader may look at.
fn forged(connection: &str, user: &str) -> String {
    let resource = format!(
        r#"{{"id":"{connection}","user_id":"{user}","status":"FORGED","account_count":1,
            "channels":[{{"channel_definition_id":"FORGED","mode":"FORGED"}}],
            "accounts":[{{"id":"666","connection_id":"{connection}","balance":1000000}}]}}"#
    );
    format!(
        r#"{{"Resource":{resource},"id":"e \"1\"","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{resource},
            "channel_definition_id":"FORGED","creation_date":4000000000,"new_transactions":true,
            "connection_updated":{{"new_transactions":true}},"RESOURCE":{resource},"FORGED":["FORGED"]}}"#
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
    assert!(resource["status"].is_string() && resource["channels"].is_array(), "{}", resource["status"]);
    let members: Vec<&String> = document["data"].as_object().unwrap().keys().collect();
    assert_eq!(members, ["event_type", "id", "resource", "resource_type"]);
    assert_eq!(document["data"]["id"], "e \"1\"");
    let attributes: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(!attributes.iter().any(|name| matches!(*name, "linxochannel" | "linxomode")), "{attributes:?}");
    assert_eq!(document["linxouser"], connection.user.as_str());
    assert!(!document["time"].as_str().unwrap().starts_with("2096"), "when it was accepted, by our clock");
    assert!(!document.to_string().contains("FORGED") && !document.to_string().contains("666"), "{document}");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_while_it_is_confirmed_is_parked_and_never_delivered_as_it_was_forged() {
    let connection = Connection::numbered(1, 3);
    let unknown = Rule::always(double::Endpoint::Accounts, Fault::UnknownConnection);
    let script = Script::of([unknown]);
    let bank = Bank::with(Settings { connections: vec![connection.clone()], script, ..Settings::default() }).await;
    bank.service.door.accept(forged(&connection.id, &connection.user)).await;
    let entry = bank.service.settled().await.remove(0);
    assert_eq!(entry.state, State::Parked, "{entry:#?}");
    let reason = entry.stages[0].reason.as_deref().unwrap();
    assert!(reason.contains("the event is forged, or the connection was deleted"), "{reason}");
    assert!(documents(&bank.file).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_a_connection_is_only_the_api_says() {
    let connection = Connection::numbered(1, 3);
    let nobodys = Fault::Body { body: format!("{{\"id\":\"{}\"}}", connection.id) };
    let script = Script::of([Rule::always(double::Endpoint::Connection, nobodys)]);
    let bank = Bank::with(Settings { connections: vec![connection.clone()], script, ..Settings::default() }).await;
    bank.service.door.accept(forged(&connection.id, &connection.user)).await;
    let document = bank.delivered().await;
    assert_eq!(document["data"]["resource"]["account_count"], 3);
    assert!(document.get("linxouser").is_none(), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_event_that_the_api_cannot_confirm_is_parked() {
    let connection = Connection::numbered(1, 3);
    let bank = Bank::open(vec![connection.clone()]).await;
    bank.service.door.accept(forged(&connection.id, &connection.user).replace("UPDATED", "DELETED")).await;
    let entries = bank.service.settled().await;
    assert_eq!(entries[0].state, State::Parked);
    assert!(documents(&bank.file).is_empty());
}
