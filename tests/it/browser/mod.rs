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
    browser.says("Nothing needs you.").await;
    browser.says("Receivers").await;
    browser.click("Pause lines").await;
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
    browser.says("lines is paused since").await;
    browser.click("Resume lines").await;
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

/// Values that callers and operators choose are text on every page, however long and odd they are.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_values_are_shown_and_break_nothing() {
    let Some(browser) = Browser::start().await else { return };
    let (_site, service, _) = start().await;
    log_in(&browser, &service, ANNA).await;
    let page = format!("http://{}", service.admin);
    for path in ["/", "/charts", "/entries", "/refused", "/audit"] {
        browser.go(&format!("{page}{path}")).await;
        is_accessible(&browser).await;
    }
    let odd = [
        "<img src=x onerror=alert(1)>",
        "'\"><script>alert(2)</script>",
        "a&b=c#d?e%00/../f",
        "\u{202e}txt.exe",
        "{{ 7 * 7 }}",
    ];
    let long = "w".repeat(250);
    for (number, value) in odd.into_iter().chain([long.as_str()]).enumerate() {
        let event = json!({
            "id": format!("{number}{value}"), "event_type": value, "resource_type": "CONNECTIONS", "creation_date": 1_700_000_005,
            "resource": { "id": value, "user_id": value, "account_count": 0, "accounts": [], "provider_id": value },
        });
        service.door.accept(event.to_string()).await;
    }
    service.settled().await;
    let parked = inbox::Filter { seq: Some(inbox::Seq(1)), ..inbox::Filter::default() };
    service.running.inbox.desk.replay(&parked, 1).await.unwrap();
    let act = inbox::Act { who: odd[0].into(), what: odd[1].into(), which: long.repeat(2) };
    service.running.inbox.audit.begin(&act).await.unwrap();
    let odd_receiver = inbox::Receiver {
        id: "odd".into(),
        name: format!("{}{long}", odd[0]),
        version: odd[1].into(),
        since: base::clock::now(),
        obstacle: Some(format!("{} {long}", odd[1])),
    };
    service.running.inbox.receivers.report(&odd_receiver).await.unwrap();
    let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
    browser.devtools("Emulation.setDeviceMetricsOverride", phone).await;
    let mut paths = vec!["/".to_owned(), "/entries".to_owned(), "/audit".to_owned()];
    paths.extend((1..=6).map(|number| format!("/entries/{number}")));
    for path in paths {
        browser.go(&format!("{page}{path}")).await;
        is_accessible(&browser).await;
        let overflow = "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(browser.script(overflow).await, false, "{path} is wider than a phone");
        let made = "return document.querySelectorAll('main img, main script').length";
        assert_eq!(browser.script(made).await, 0, "{path}");
    }
    // The link of an odd connection leads to its one entry.
    for (number, value) in odd.into_iter().enumerate() {
        browser.go(&format!("{page}/entries/{}", number + 1)).await;
        browser.script("document.querySelector('dd a').click()").await;
        eventually("the search", async || browser.url().await.contains("connection=").then_some(())).await;
        browser.says("Replay all that match").await;
        assert_eq!(browser.script("return document.querySelectorAll('tbody tr').length").await, 1, "{value}");
        assert_eq!(browser.script("return document.getElementById('connection').value").await, value);
    }
    is_quiet(&browser, &service).await;
    drop(browser);
    service.stop().await;
}

/// Everything can be done with the keyboard alone, and the way back shows what is so now.
#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_is_enough_and_the_way_back_leads_to_the_present() {
    let Some(browser) = Browser::start().await else { return };
    let (_site, service, _) = start().await;
    service.door.accept(event_json("e1", "c1", 1, false)).await;
    service.settled().await;
    let page = format!("http://{}", service.admin);
    browser.go(&format!("{page}/")).await;
    // The field has the focus already.
    browser.keys(&format!("{ANNA}\u{e007}")).await;
    browser.says("Log out").await;
    browser.keys("\u{e004}").await;
    assert_eq!(browser.script("return document.activeElement.textContent").await, "Skip to content");
    for _ in 0..40 {
        browser.keys("\u{e004}").await;
        if browser.script("return document.activeElement.textContent").await == "Pause lines" {
            break;
        }
    }
    browser.keys("\u{e007}").await;
    browser.says("Nothing is delivered to lines until it is resumed").await;
    browser.click("Pause").await;
    browser.says("The sink is paused.").await;
    browser.script("history.go(-2)").await;
    browser.says("lines is paused since").await;
    // A link that only claims that something was done says nothing.
    browser.go(&format!("{page}/?done=replay&changed=99")).await;
    browser.says("Log out").await;
    assert!(!browser.text().await.contains("put back in line"));
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
    service.door.post("no JSON at all").await;
    let [parked, waiting] = [8, 17].map(|seq| inbox::Filter { seq: Some(inbox::Seq(seq)), ..inbox::Filter::default() });
    service.settled().await;
    service.running.inbox.desk.replay(&waiting, 1).await.unwrap();
    service.running.inbox.desk.park(&parked, 1, "looked at by anna: the bank sends an odd status").await.unwrap();
    for (id, name, obstacle) in
        [("a", "linxo-webhook-0", None), ("b", "linxo-webhook-1", Some("the disk is full".to_owned()))]
    {
        let (since, version) = (base::clock::now(), "1.0.0".to_owned());
        let receiver = inbox::Receiver { id: id.into(), name: name.into(), version, since, obstacle };
        service.running.inbox.receivers.report(&receiver).await.unwrap();
    }
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
                ("refused", "/refused"),
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
