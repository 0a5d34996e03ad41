//! The page in a real browser: login, search, stories, acts, what is masked, who may what, what it asks for, and whether it can be
//! read by everybody.
//!
//! `make browser` runs this with all that it needs: Chromium, its driver, axe-core. Without them a test says that it was left out.

mod driver;

use crate::{
    operators::{ANNA, start},
    support::{Service, event_json, eventually, secrets},
};
use driver::Browser;
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

async fn log_in(browser: &Browser, service: &Service, token: &str) {
    browser.go(&format!("http://{}/", service.admin)).await;
    browser.fill("token", token).await;
    browser.click("Log in").await;
    browser.says("Log out").await;
}

/// Nothing was said on the console, and nobody else was asked for anything.
async fn is_quiet(browser: &Browser, service: &Service) {
    let (said, asked) = browser.logs().await;
    assert_eq!(said, [""; 0], "the console is empty");
    let origin = format!("http://{}/", service.admin);
    let others = asked.iter().filter(|url| !url.starts_with(&origin) && !url.starts_with("data:"));
    assert_eq!(others.collect::<Vec<_>>(), [""; 0], "requests to other origins");
    assert!(asked.iter().any(|url| url.contains("/static/page.css")), "requests are seen at all: {asked:?}");
}

/// axe-core finds nothing serious on the present page.
async fn is_accessible(browser: &Browser) {
    let file = std::env::var("AXE").map_or_else(|_| PathBuf::from("target/tools/axe.min.js"), PathBuf::from);
    let Ok(axe) = fs::read_to_string(&file) else {
        assert!(std::env::var("BROWSER_TESTS").is_err(), "there is no {}", file.display());
        eprintln!("SKIPPED: there is no {} (`make browser` fetches it)", file.display());
        return;
    };
    browser.script(&axe).await;
    browser
        .script("window.found = null; axe.run().then((result) => { window.found = result.violations.map((v) => [v.impact, v.id, v.nodes.map((n) => n.html)]); });")
        .await;
    let found = eventually("axe ends", async || {
        let found = browser.script("return window.found").await;
        (!found.is_null()).then_some(found)
    })
    .await;
    let grave = |found: &&Value| matches!(found[0].as_str(), Some("serious" | "critical"));
    let grave: Vec<_> = found.as_array().unwrap().iter().filter(grave).collect();
    assert!(grave.is_empty(), "{}: {grave:#?}", browser.url().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_on_call_finds_parks_and_replays_an_entry() {
    let Some(browser) = Browser::start().await else { return };
    let (_site, service, lines) = start().await;
    for number in 1..=3 {
        service.door.accept(event_json(&format!("e{number}"), &format!("c{number}"), 2, false)).await;
    }
    service.settled().await;
    let page = format!("http://{}", service.admin);
    // Whoever is not logged in is sent to the login, and from there to where they wanted.
    browser.go(&format!("{page}/entries/1")).await;
    assert!(browser.url().await.contains("/login?next=%2Fentries%2F1"));
    is_accessible(&browser).await;
    browser.fill("token", "not-the-token-of-anna").await;
    browser.click("Log in").await;
    browser.says("this is no token").await;
    // The browser itself notes the 401 on the console.
    browser.logs().await;
    browser.fill("token", ANNA).await;
    browser.click("Log in").await;
    assert_eq!(browser.url().await, format!("{page}/entries/1"));
    is_accessible(&browser).await;
    browser.says("delivered, at attempt 1").await;
    // A script cannot read the cookie.
    assert_eq!(browser.script("return document.cookie").await, "");

    // Bank data is masked until it is revealed.
    assert!(browser.text().await.contains("•••") && !browser.text().await.contains("0.10"));
    browser.click("Reveal bank data").await;
    browser.says("0.10").await;
    is_accessible(&browser).await;

    browser.click("Entries").await;
    browser.fill("connection", "c2").await;
    browser.click("Search").await;
    assert_eq!(browser.script("return document.querySelectorAll('tbody tr').length").await, 1);
    is_accessible(&browser).await;

    // A pause, with its confirmation.
    browser.click("Now").await;
    is_accessible(&browser).await;
    browser.click("Pause").await;
    is_accessible(&browser).await;
    browser.click("Pause").await;
    browser.says("The sink is paused.").await;
    // What comes is shown by itself.
    service.door.accept(event_json("e4", "c4", 1, false)).await;
    browser.click("Entries").await;
    service.door.accept(event_json("e5", "c5", 1, false)).await;
    browser.says("c5").await;

    browser.go(&format!("{page}/entries/4")).await;
    browser.click("Park").await;
    browser.fill("why", "looked at on call").await;
    browser.click("Park").await;
    browser.says("1 entry parked.").await;
    browser.says("looked at on call").await;
    browser.click("Now").await;
    browser.says("operator").await;
    browser.click("Resume").await;
    browser.click("Resume").await;
    browser.says("The sink is not paused any more.").await;
    browser.go(&format!("{page}/entries/4")).await;
    browser.click("Replay").await;
    browser.click("Replay").await;
    browser.says("1 entry put back in line.").await;
    browser.says("delivered, at attempt").await;
    service.settled().await;
    assert_eq!(fs::read_to_string(lines).unwrap().lines().count(), 5);

    browser.click("Audit trail").await;
    is_accessible(&browser).await;
    for act in ["anna", "reveal", "sink pause", "park", "sink resume", "replay"] {
        browser.says(act).await;
    }
    for path in ["Charts", "Refused"] {
        browser.click(path).await;
        is_accessible(&browser).await;
    }
    is_quiet(&browser, &service).await;
    browser.click("Log out").await;
    browser.go(&format!("{page}/audit")).await;
    assert!(browser.url().await.contains("/login"));
    drop(browser);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_changes_and_reveals_nothing() {
    let Some(browser) = Browser::start().await else { return };
    let (_site, service, _) = start().await;
    // What an event says is shown, and not run.
    service.door.accept(event_json("<script>alert(1)</script>", "c1", 1, false)).await;
    service.settled().await;
    log_in(&browser, &service, secrets::ADMIN).await;
    assert!(!browser.text().await.contains("Pause"));
    browser.go(&format!("http://{}/entries/1", service.admin)).await;
    let text = browser.text().await;
    assert!(
        text.contains("<script>alert(1)</script>") && !text.contains("Reveal") && !text.contains("Replay"),
        "{text}"
    );
    is_quiet(&browser, &service).await;
    browser.go(&format!("http://{}/confirm?act=pause&sink=lines", service.admin)).await;
    browser.says("may read, and not act").await;
    let forged = "const token = document.querySelector('[name=form_token]').value; window.status = null; \
                  const body = new URLSearchParams({ form_token: token, act: 'pause', sink: 'lines' }); \
                  fetch('/act', { method: 'POST', body }).then((answer) => { window.answered = answer.status; });";
    browser.script(forged).await;
    let answered = eventually("an answer", async || {
        let answered = browser.script("return window.answered").await;
        (!answered.is_null()).then_some(answered)
    })
    .await;
    assert_eq!(answered, 403);
    drop(browser);
    service.stop().await;
}

/// `make screenshots` names the folder.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_taken_where_they_are_asked_for() {
    let Ok(folder) = std::env::var("SCREENSHOTS") else { return };
    let Some(browser) = Browser::start().await else { return };
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).unwrap();
    let (_site, service, _) = start().await;
    for number in 1..=30 {
        service
            .door
            .accept(event_json(&format!("evt_2026_{number:04}"), &format!("{}", 7000 + number % 7), 3, number % 9 == 8))
            .await;
    }
    service
        .running
        .inbox
        .audit
        .begin(&inbox::Act { who: "anna".into(), what: "replay".into(), which: "--seq 3".into() })
        .await
        .unwrap();
    for (back, many) in [(50, 5), (40, 30), (30, 22), (20, 61), (10, 44), (5, 12)] {
        let at = base::clock::Timestamp::from_millis(base::clock::now().as_millis() / 60_000 * 60_000 - back * 60_000);
        let minute =
            inbox::Minute { at, received: many, delivered: many - 2, parked: u64::from(many > 40), took_ms: many * 90 };
        service.running.inbox.charts.note("other", &minute).await.unwrap();
    }
    browser.go(&format!("http://{}/login", service.admin)).await;
    browser.screenshot(&folder.join("login.png")).await;
    log_in(&browser, &service, ANNA).await;
    for (size, width, height) in [("desktop", 1280, 900), ("phone", 390, 844)] {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone" });
        browser.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        for scheme in ["light", "dark"] {
            let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
            browser.devtools("Emulation.setEmulatedMedia", media).await;
            for (name, path) in [
                ("now", "/"),
                ("charts", "/charts?hours=1"),
                ("entries", "/entries"),
                ("entry", "/entries/8"),
                ("audit", "/audit"),
                ("confirm", "/confirm?act=park&number=8"),
            ] {
                browser.go(&format!("http://{}{path}", service.admin)).await;
                browser.says("Log out").await;
                is_accessible(&browser).await;
                let overflow = "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
                assert_eq!(browser.script(overflow).await, false, "{path} is wider than a {size}");
                browser.screenshot(&folder.join(format!("{name}-{size}-{scheme}.png"))).await;
            }
        }
    }
    drop(browser);
    service.stop().await;
}
