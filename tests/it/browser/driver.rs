//! A real Chromium, driven through `chromedriver` in the W3C `WebDriver` protocol.

use crate::support::eventually;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::{io::BufRead as _, io::BufReader, path::Path, process::Child, process::Command, process::Stdio};

/// The name under which `WebDriver` hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub(super) struct Browser {
    driver: Child,
    client: Client,
    session: String,
}

impl Browser {
    /// `None` where there is no `chromedriver`; that is said, and no accident where `BROWSER_TESTS=required`.
    pub(super) async fn start() -> Option<Self> {
        let mut command = Command::new("chromedriver");
        let Ok(mut driver) = command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else {
            assert!(std::env::var("BROWSER_TESTS").is_err(), "there is no chromedriver");
            eprintln!("SKIPPED: there is no chromedriver (Debian: chromium-driver), so no browser was tried");
            return None;
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map(Result::unwrap);
        let port: u16 = lines
            .find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok())
            .expect("chromedriver names its port");
        std::thread::spawn(move || lines.for_each(drop));
        let client = Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let base = format!("http://127.0.0.1:{port}/session");
        let answer = client.post(&base).json(&wanted).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
        Some(Self { driver, client, session: format!("{base}/{id}") })
    }

    async fn try_to(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let mut request = self.client.request(method, format!("{}/{path}", self.session));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let mut answer: Value = request.send().await.unwrap().json().await.unwrap();
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{path}: {error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].take()),
        }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.try_to(Method::POST, path, Some(body)).await.unwrap()
    }

    pub(super) async fn go(&self, url: &str) {
        self.post("url", json!({ "url": url })).await;
    }

    pub(super) async fn url(&self) -> String {
        self.try_to(Method::GET, "url", None).await.unwrap().as_str().unwrap().to_owned()
    }

    /// What a script returns.
    pub(super) async fn script(&self, script: &str) -> Value {
        self.post("execute/sync", json!({ "script": script, "args": [] })).await
    }

    async fn element(&self, xpath: &str) -> String {
        eventually(xpath, async || {
            let wanted = json!({ "using": "xpath", "value": xpath });
            let found = self.try_to(Method::POST, "element", Some(wanted)).await.ok()?;
            Some(found[ELEMENT].as_str().unwrap().to_owned())
        })
        .await
    }

    /// Clicks a link or button with this text, and waits until another page is there.
    pub(super) async fn click(&self, text: &str) {
        let element = self.element(&format!("//*[self::a or self::button][normalize-space()='{text}']")).await;
        self.script("window.isOld = true").await;
        self.post(&format!("element/{element}/click"), json!({})).await;
        eventually("another page", async || {
            let is_there = "return !window.isOld && document.readyState === 'complete'";
            let wanted = json!({ "script": is_there, "args": [] });
            let is_there = self.try_to(Method::POST, "execute/sync", Some(wanted)).await.ok()?;
            (is_there == true).then_some(())
        })
        .await;
    }

    /// Types into the field with this id.
    pub(super) async fn fill(&self, id: &str, text: &str) {
        let element = self.element(&format!("//*[@id='{id}']")).await;
        self.post(&format!("element/{element}/clear"), json!({})).await;
        self.post(&format!("element/{element}/value"), json!({ "text": text })).await;
    }

    /// Presses keys, wherever the focus is.
    pub(super) async fn keys(&self, keys: &str) {
        let pressed: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })))
            .collect();
        self.post("actions", json!({ "actions": [{ "type": "key", "id": "keys", "actions": pressed }] })).await;
    }

    /// The text of the page.
    pub(super) async fn text(&self) -> String {
        self.script("return document.body.innerText").await.as_str().unwrap().to_owned()
    }

    /// Waits, without loading the page again, until it says this.
    pub(super) async fn says(&self, text: &str) {
        eventually(text, async || self.text().await.contains(text).then_some(())).await;
    }

    pub(super) async fn devtools(&self, command: &str, parameters: Value) {
        self.post("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await;
    }

    pub(super) async fn screenshot(&self, file: &Path) {
        let height = self.script("return document.documentElement.scrollHeight").await;
        assert!(height.as_u64().is_some_and(|height| height > 0));
        let picture = self.try_to(Method::GET, "screenshot", None).await.unwrap();
        let picture = data_encoding::BASE64.decode(picture.as_str().unwrap().as_bytes()).unwrap();
        std::fs::write(file, picture).unwrap();
    }

    /// What the console said since the last look, and every address that was asked for.
    pub(super) async fn logs(&self) -> (Vec<String>, Vec<String>) {
        let log = async |kind: &str| match self.post("se/log", json!({ "type": kind })).await {
            Value::Array(lines) => lines,
            other => panic!("{other}"),
        };
        let said = log("browser").await.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect();
        let asked = log("performance").await.into_iter().filter_map(|line| {
            let message: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let message = &message["message"];
            (message["method"] == "Network.requestWillBeSent")
                .then(|| message["params"]["request"]["url"].as_str().unwrap().to_owned())
        });
        (said, asked.collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser with itself when it is asked to; killed, it leaves it behind.
        let (client, session) = (self.client.clone(), self.session.clone());
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { client.delete(session).send().await.map(drop).ok() })
        });
        ended.join().unwrap();
        self.driver.kill().unwrap();
        self.driver.wait().unwrap();
    }
}
