//! The real binary as a child process: what only a process of its own can show.

use crate::json;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Nothing here takes this long; it only turns a hang into a failure.
const LIMIT: Duration = Duration::from_secs(30);

struct Service {
    child: Child,
    folder: TempDir,
    public: SocketAddr,
    admin: SocketAddr,
}

impl Service {
    /// Starts the service under a limit of open files.
    fn start(open_files: u32, settings: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let config = format!(
            "[listener]\naddress = \"127.0.0.1:0\"\n{settings}\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [[sink]]\nname = \"file\"\ntype = \"file\"\npath = \"events.ndjson\"\n"
        );
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {open_files} && exec \"$0\" serve --config config.toml")])
            .arg(env!("CARGO_BIN_EXE_linxo-webhook"))
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut public, mut admin) = (None, None);
        let mut log = BufReader::new(child.stderr.take().unwrap());
        while public.is_none() || admin.is_none() {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the service ended before it was listening");
            let Ok(line) = serde_json::from_str::<serde_json::Value>(&line) else { panic!("{line}") };
            let address = || line.to_string().split('"').find_map(|word| word.parse().ok());
            if line.to_string().contains("admin listening") {
                admin = address();
            } else if line.to_string().contains("\"listening\"") {
                public = address();
            }
        }
        // A full pipe would stop the service.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, folder, public: public.unwrap(), admin: admin.unwrap() }
    }

    fn is_alive(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(self.admin) else { return false };
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let sent = socket.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        sent.is_ok() && socket.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    fn client(&self) -> reqwest::Client {
        let pem = std::fs::read(self.folder.path().join("certs/server.pem")).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()])
            .no_proxy()
            .timeout(LIMIT)
            .build()
            .unwrap()
    }

    async fn post(&self, client: &reqwest::Client, event: impl Into<reqwest::Body>) -> Option<u16> {
        let url = format!("https://localhost:{}/webhooks/linxo", self.public.port());
        let answer = client.post(url).body(event).send().await.ok()?;
        Some(answer.status().as_u16())
    }

    /// Standard output of a command beside the running service.
    fn command(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_linxo-webhook"))
            .args(args)
            .args(["--config", "config.toml"])
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn health_answers_while_callers_hold_every_connection_and_events_are_taken_after() {
    let service = Service::start(120, "max_connections = 4096");
    assert!(service.is_alive());
    assert_eq!(service.post(&service.client(), crate::support::event_json("e1", "7", 1, false)).await, Some(200));

    // More than there are descriptors; those over the limit are closed by the other end.
    let held: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(service.public).unwrap()).collect();
    for _ in 0..20 {
        assert!(service.is_alive());
    }
    drop(held);
    let since = Instant::now();
    let mut number = 2;
    while service.post(&service.client(), crate::support::event_json(&format!("e{number}"), "7", 1, false)).await
        != Some(200)
    {
        number += 1;
        assert!(since.elapsed() < LIMIT, "events are taken again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn no_json_gets_more_than_an_honest_answer_and_what_was_refused_can_be_looked_at() {
    let service = Service::start(1024, "");
    let client = service.client();
    for (name, value) in json::YES {
        assert_eq!(service.post(&client, json::event_with(value)).await, Some(200), "y_{name}");
    }
    for (name, value) in json::NO {
        assert_eq!(service.post(&client, json::event_with(value)).await, Some(400), "n_{name}");
    }
    for (name, value) in json::EITHER {
        let status = service.post(&client, json::event_with(value)).await;
        assert!(matches!(status, Some(200 | 400)), "i_{name}: {status:?}");
    }

    let since = Instant::now();
    let listed = loop {
        let listed = service.command(&["inbox", "refused", "--json"]);
        if listed.lines().count() > 2 {
            break listed;
        }
        assert!(since.elapsed() < LIMIT, "refused requests are kept");
    };
    let first: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!((&first["reason"], &first["status"]), (&"not_json".into(), &400.into()));
    assert!(first["sender"]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    // Nobody is known here, so nothing of a body is kept.
    assert_eq!(first.get("start"), None);
    let table = service.command(&["inbox", "refused", "--limit", "3"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("NUMBER  REFUSED"), "{table}");
}
