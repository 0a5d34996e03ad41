//! Events with bank data, one of everything that an inbox makes of them, and the search for what must be nowhere in clear.

use base::{clock, secret::Secret};
use event::{AccountId, Event};
use inbox::{Certainty, Folded, Found, Inbox, NewEntry, Outcome, Page, Refused, Seq, Stage};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const LEASE: Duration = Duration::from_mins(1);

/// What must be nowhere in clear: a name, an IBAN, a number of an account.
pub(crate) const CANARIES: [&str; 3] = ["Canary Ferdinand", "FR7630006000011234567890189", "00011234567"];

/// A key as a key file has it, of one byte.
pub(crate) fn key(byte: u8) -> Secret {
    Secret::new(format!("{byte:02x}").repeat(32))
}

/// As the door hands it in.
pub(crate) fn new_entry(json: &str) -> NewEntry {
    NewEntry {
        event: Event::parse(json.as_bytes()).unwrap(),
        body: json.to_owned().into(),
        received: clock::now(),
        confirm: false,
        sender: None,
        trace: None,
    }
}

/// An event with bank data.
pub(crate) fn body(id: &str, connection: &str, user: Option<&str>, is_truncated: bool) -> String {
    let [name, iban, number] = CANARIES;
    let user = user.map_or(String::new(), |user| format!(r#""user_id":"{user}","#));
    let account = format!(r#"{{"id":"1","owner":"{name}","iban":"{iban}","number":"{number}","balance":1.10}}"#);
    let accounts = if is_truncated { String::new() } else { account };
    format!(
        r#"{{"id":"{id}","event_type":"UPDATED","resource_type":"CONNECTIONS","note":"{name}",
            "resource":{{"id":"{connection}",{user}"account_count":1,"accounts":[{accounts}]}}}}"#
    )
}

pub(crate) async fn accept(inbox: &Inbox, json: &str) -> Folded {
    let receipt = inbox.intake.accept(new_entry(json)).await.unwrap();
    inbox.intake.fate(&receipt).await.unwrap().unwrap()
}

pub(crate) fn stored(folded: Folded) -> Seq {
    match folded {
        Folded::Stored { seq, .. } => seq,
        duplicate @ Folded::Duplicate { .. } => panic!("{duplicate:?}"),
    }
}

/// Fetches a page and the connection for the one truncated event that there is, and finishes that.
pub(crate) async fn fetch(inbox: &Inbox) {
    let [name, iban, number] = CANARIES;
    let lease = inbox.queue.claim(&Stage::ACCOUNTS, 10, LEASE).await.unwrap().leases.remove(0);
    let reading = inbox.readings.find_or_begin(&lease, LEASE).await.unwrap();
    let page =
        |number| Page { number, ids: vec![AccountId::new("1")], accounts: "{}".into(), received: 1, ..Page::default() };
    inbox.readings.keep_page(&lease, reading.id, page(1)).await.unwrap();
    let accounts = format!(r#"{{"id":"1","iban":"{iban}","number":"{number}"}}"#);
    inbox.readings.keep_page(&lease, reading.id, Page { accounts: accounts.clone().into(), ..page(2) }).await.unwrap();
    inbox.readings.replace_accounts(&lease, reading.id, 1, accounts.into()).await.unwrap();
    let resource = format!(r#"{{"id":"c","owner":"{name}"}}"#);
    inbox.readings.keep_connection(&lease, reading.id, resource.into()).await.unwrap();
    let found = Found { accounts: 1, unusable: 0, certainty: Certainty::Agreed };
    inbox.queue.settle(&[(&lease, Outcome::Fetched { reading: reading.id, found })]).await.remove(0).unwrap();
}

pub(crate) async fn refuse(inbox: &Inbox, start: &str) {
    let refused = Refused {
        at: clock::now(),
        sender: "{}".to_owned(),
        reason: "not_json",
        status: 400,
        size: Some(9),
        start: Some(start.to_owned().into()),
        is_known: true,
    };
    // With a journal the store itself keeps them.
    inbox.intake.refuse(vec![refused]).await.unwrap();
}

/// One of everything: an event, a truncated one whose accounts are fetched, a refused request.
pub(crate) async fn fill(inbox: &Inbox) -> Seq {
    let seq = stored(accept(inbox, &body("e1", "c1", Some("u1"), false)).await);
    accept(inbox, &body("e2", "c2", Some("u1"), true)).await;
    fetch(inbox).await;
    refuse(inbox, &format!("{{\"owner\":\"{}\"", CANARIES[0])).await;
    seq
}

/// The entry, the pages and the refused request are what [`fill`] made.
pub(crate) async fn is_filled(inbox: &Inbox, seq: Seq) {
    assert_eq!(inbox.desk.body(seq).await.unwrap().unwrap(), body("e1", "c1", Some("u1"), false));
    let reading = held(inbox, "u1").await.readings.remove(0);
    assert!(String::from_utf8_lossy(&reading.resource.unwrap()).contains(CANARIES[0]));
    for (number, size) in inbox.shelf.pages(reading.id).await.unwrap() {
        let page = inbox.shelf.page(reading.id, number).await.unwrap();
        assert!(page.len() as u64 == size && String::from_utf8_lossy(&page).contains(CANARIES[1]));
    }
    let refused = inbox.desk.refused(inbox::Span::default(), 10).await.unwrap();
    assert!(String::from_utf8_lossy(refused[0].start.as_deref().unwrap()).contains(CANARIES[0]));
}

pub(crate) async fn held(inbox: &Inbox, user: &str) -> inbox::Held {
    inbox.persons.held(&inbox::Subject::User(event::UserId::new(user))).await.unwrap()
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Files below a folder that hold one of the canaries.
pub(crate) fn telling(folder: &Path) -> Vec<PathBuf> {
    let mut found = files(folder);
    found.retain(|path| {
        // One that is let go meanwhile holds nothing.
        let bytes = fs::read(path).unwrap_or_default();
        CANARIES.iter().any(|canary| bytes.windows(canary.len()).any(|window| window == canary.as_bytes()))
    });
    found
}
