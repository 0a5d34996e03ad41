//! The true program under a supervisor: sockets that are handed over, and what the supervisor is told. The test plays systemd.

use crate::support::{Door, LIMIT, Process, Promises, Site, admin, delivered, event_json, eventually};
use double::pki::{self, Existing, Leaf};
use rustix::process::Signal;
use std::{
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::{net::UnixDatagram, process::Command, task::JoinSet, time::timeout};

const CALLERS: u64 = 4;
const RESTARTS: usize = 3;

/// A command behind a shell that moves the descriptors to their places and becomes the program, so that `LISTEN_PID` is its
/// own number: a program of the standard library can hand over no descriptor but the first three.
fn handed(site: &Site, moves: &str, variables: &str) -> Command {
    let command = site.command(&["serve"]);
    let (inner, script) =
        (command.as_std(), format!("exec {moves}; export LISTEN_PID=$$ {variables}; exec \"$0\" \"$@\""));
    let mut outer = Command::new("sh");
    outer.args(["-c", &script]).arg(inner.get_program()).args(inner.get_args()).kill_on_drop(true);
    outer.current_dir(inner.get_current_dir().unwrap());
    for (name, value) in inner.get_envs() {
        assert_eq!(value, None);
        outer.env_remove(name);
    }
    outer
}

fn stdio(socket: &TcpListener) -> Stdio {
    OwnedFd::from(socket.try_clone().unwrap()).into()
}

/// Starts the program on a public socket.
async fn spawn_on(site: &Site, socket: &TcpListener) -> Process {
    let command = handed(site, "3<&0 </dev/null", "LISTEN_FDS=1 LISTEN_FDNAMES=linxo-webhook.socket");
    Process::start_with(command, stdio(socket), Stdio::piped(), site.authority()).await
}

/// Runs the program on a socket to its end.
async fn run_on(site: &Site, socket: OwnedFd, moves: &str, variables: &str) -> Output {
    let mut command = handed(site, moves, variables);
    timeout(LIMIT, command.stdin(Stdio::from(socket)).output()).await.expect("it ends").unwrap()
}

fn socket() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Posts without a pause until it is over. Every post is answered 200, the first one of each socket at once.
async fn call(door: Door, number: u64, is_over: Arc<AtomicBool>, promises: Promises) {
    let mut sent = 0;
    while !is_over.load(Relaxed) {
        let mut client = door.try_connect().await.expect("nobody is refused");
        let mut is_kept = false;
        while !is_over.load(Relaxed) {
            let id = format!("{number}-{sent}");
            let answer = match client.post(event_json(&id, &number.to_string(), 1, false)).await {
                Ok(answer) => answer,
                // An idle socket may end just when it is used again; the caller posts once more.
                Err(_ended) if is_kept => break,
                Err(error) => panic!("{id} was cut off: {error}"),
            };
            assert_eq!(answer.status, 200, "{answer:?}");
            promises.get().acknowledged.insert(id);
            (is_kept, sent) = (true, sent + 1);
            if answer.header("connection") == Some("close") {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_on_a_socket_that_was_handed_over_refuses_nobody() {
    let mut site = Site::new();
    // Nobody listens there: the socket goes before it.
    site.set("listener.address", "\"192.0.2.1:1\"");
    let file = site.file_sink("file");
    let socket = socket();
    let mut process = spawn_on(&site, &socket).await;
    assert_eq!(process.door.address, socket.local_addr().unwrap());
    let said = process.output();
    assert!(said.contains("\"code\":\"socket_inherited\"") && !said.contains("192.0.2.1"), "{said}");

    let (door, is_over, promises) = (process.door.clone(), Arc::<AtomicBool>::default(), Promises::default());
    let mut callers: JoinSet<()> =
        (0..CALLERS).map(|number| call(door.clone(), number, Arc::clone(&is_over), promises.clone())).collect();
    for round in 0..RESTARTS {
        let moment = promises.count() + 50;
        eventually("callers are served", async || (promises.count() >= moment).then_some(())).await;
        process.signal(Signal::TERM);
        let (status, log) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        // While nobody serves.
        let (patient, id) = (door.clone(), format!("patient-{round}"));
        let event = event_json(&id, "patient", 1, false);
        let waiting = tokio::spawn(async move { patient.post(event).await.status });
        process = spawn_on(&site, &socket).await;
        assert_eq!(waiting.await.unwrap(), 200);
        promises.get().acknowledged.insert(id);
    }
    is_over.store(true, Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.0.code(), Some(0));
    let process = spawn_on(&site, &socket).await;
    eventually("everything is delivered", async || promises.lost(&delivered(&file)).is_empty().then_some(())).await;
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_and_the_admin_socket_are_told_apart_by_name() {
    let mut site = Site::new();
    site.file_sink("file");
    let (public, inner) = (socket(), socket());
    let command = handed(&site, "3<&1 4<&0 </dev/null >&2", "LISTEN_FDS=2 LISTEN_FDNAMES=admin:public");
    let process = Process::start_with(command, stdio(&public), stdio(&inner), site.authority()).await;
    assert_eq!((process.door.address, process.admin), (public.local_addr().unwrap(), inner.local_addr().unwrap()));
    process.door.accept(event_json("1", "7", 1, false)).await;
    assert_eq!(admin(inner.local_addr().unwrap(), "/readyz", None).await.status, 200);
    // What `check` tries is not the address that the socket stands for.
    site.set("listener.address", format!("\"{}\"", public.local_addr().unwrap()));
    let checked = site.run(&["check"]).await;
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.success() && told.contains("the running service listens on"), "{told}");
    process.kill().await;
}

/// Nothing is served on a socket that is not what it seems, and nothing runs open because of one.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_contradict_are_refused() {
    let mut site = Site::new();
    site.file_sink("file");
    let one = "3<&0 </dev/null";
    let public = socket();
    let caller = TcpStream::connect(public.local_addr().unwrap()).unwrap();
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    for (socket, moves, variables, said) in [
        (OwnedFd::from(socket()), "3<&0 4<&0", "LISTEN_FDS=2", "FileDescriptorName=admin"),
        (OwnedFd::from(socket()), "3<&0 4<&0", "LISTEN_FDS=2 LISTEN_FDNAMES=public:public", "[\"public\", \"public\"]"),
        (OwnedFd::from(caller), one, "LISTEN_FDS=1", "no TCP socket that listens"),
        (OwnedFd::from(UnixDatagram::unbound().unwrap().into_std().unwrap()), one, "LISTEN_FDS=1", "no TCP socket"),
        (OwnedFd::from(open), one, "LISTEN_FDS=1 LISTEN_FDNAMES=admin", "there is no admin.token"),
    ] {
        let output = run_on(&site, socket, moves, variables).await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(78) && told.contains(said) && told.contains("hint: "),
            "{variables}: {told}"
        );
    }
    site.set("admin.address", "\"off\"");
    let output = run_on(&site, socket().into(), one, "LISTEN_FDS=1 LISTEN_FDNAMES=admin").await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(78) && told.contains("admin.address is \"off\""), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_strangers_reach_is_warned_of() {
    let mut site = Site::new();
    site.file_sink("file");
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let process = spawn_on(&site, &socket).await;
    let warning = format!("anyone who reaches {} can post events", socket.local_addr().unwrap());
    assert!(process.output().contains(&warning), "{}", process.output());
    process.kill().await;
}

/// The supervisor's end of `NOTIFY_SOCKET`.
struct Notices(UnixDatagram);

impl Notices {
    /// The next notice, by its lines.
    async fn next(&self) -> Vec<String> {
        let mut notice = vec![0; 4096];
        let length = timeout(LIMIT, self.0.recv(&mut notice)).await.expect("a notice in time").unwrap();
        String::from_utf8(notice[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    /// Every line up to the notice that has this one.
    async fn until(&self, line: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines.iter().any(|found| found == line) {
            lines.extend(self.next().await);
        }
        lines
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_is_told_when_it_is_ready_reloads_and_stops() {
    let mut site = Site::new();
    site.file_sink("file");
    let put = |leaf: &Leaf| {
        let identity = site.authority().issue(leaf).unwrap();
        let (certificate, key) = (site.path("certs/server.pem"), site.path("certs/server.key"));
        pki::write_identity_over(&certificate, &key, &identity, Existing::Replace).unwrap();
    };
    put(&Leaf::server(&["localhost"]).expired());
    let path = site.path("notices");
    let notices = Notices(UnixDatagram::bind(&path).unwrap());
    let process = site
        .spawn_with(|command| {
            command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "10000000");
        })
        .await;

    // It listens and is alive, but no caller would accept its certificate.
    let mut lines = notices.until("WATCHDOG=1").await;
    lines.extend(notices.until("WATCHDOG=1").await);
    assert!(lines.iter().any(|line| line.starts_with("STATUS=not ready: the certificate has expired")), "{lines:?}");
    // A reload is no reason to call it ready.
    process.signal(Signal::HUP);
    eventually("it has reloaded", async || process.output().contains("sink_reopened").then_some(())).await;
    for _ in 0..2 {
        lines.extend(notices.until("WATCHDOG=1").await);
    }
    assert!(lines.iter().all(|line| line == "WATCHDOG=1" || line.starts_with("STATUS=not ready: ")), "{lines:?}");
    put(&Leaf::server(&["localhost"]));
    notices.until("READY=1").await;
    process.door.accept(event_json("1", "7", 1, false)).await;

    let before = process.output().matches("sink_reopened").count();
    process.signal(Signal::HUP);
    let mut notice = notices.until("RELOADING=1").await;
    let since = notice.pop().unwrap();
    assert!(since.strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0, "{since}");
    notices.until("READY=1").await;
    eventually("the log says so too", async || {
        (process.output().matches("sink_reopened").count() > before).then_some(())
    })
    .await;

    process.signal(Signal::TERM);
    notices.until("STOPPING=1").await;
    assert_eq!(process.ended().await.0.code(), Some(0));
}
