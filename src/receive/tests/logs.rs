//! What is logged, and what never is.

use super::support::{EVENT, Site, Wanted, post, post_to};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn with_message(&self, message: &str) -> Vec<serde_json::Value> {
        self.all().into_iter().filter(|line| line["fields"]["message"] == message).collect()
    }
}

/// The subscriber is the thread's own; tests run on one thread each.
#[tokio::test]
async fn one_line_an_event_and_nothing_personal_anywhere() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber alone, whether a line is wanted is decided by the thread that first comes to it: another test's,
    // which has none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);

    let site = Site::start(Wanted { secrets: vec!["canary-secret"], ..Wanted::default() }).await;
    let path = "/webhooks/linxo/canary-secret?token=canary-query";
    let event = EVENT.replace("\"accounts\":[]", "\"accounts\":[{\"iban\":\"canary-iban\"}]");
    assert_eq!(site.exchange(&post_to(path, "authorization: canary-header\r\n", &event)).await.status, 200);
    for _ in 0..20 {
        assert_eq!(site.exchange(&post("{\"canary-name\":1}")).await.status, 404);
        assert_eq!(site.exchange(&post_to(path, "", "{\"canary-name\":1}")).await.status, 422);
    }

    let accepted = lines.with_message("event accepted");
    assert_eq!(accepted.len(), 1);
    let fields = &accepted[0]["fields"];
    assert_eq!(accepted[0]["level"], "INFO");
    for (field, value) in [("event.id", "e-1"), ("connection.id", "c-1"), ("user.id", "u-1"), ("outcome", "accepted")] {
        assert_eq!(fields[field], value, "{field}");
    }
    for (field, value) in [("entry", 1), ("accounts.announced", 0), ("accounts.listed", 1), ("bytes", event.len())] {
        assert_eq!(fields[field], value, "{field}");
    }
    assert_eq!(fields["request.id"].as_str().unwrap().len(), 16);
    assert_eq!(lines.with_message("request refused").len(), 2, "one line a reason");
    for line in lines.all() {
        assert!(!line.to_string().contains("canary"), "{line}");
    }
}
