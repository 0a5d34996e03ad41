//! Hostile callers of the true program: what they cost in memory, and that honest ones are served beside them. That each is
//! ended, and how it is counted, is held beside the code in `src/receive/tests`.

use crate::{
    json,
    support::{Door, LIMIT, Process, Site, event_json, eventually},
};
use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::{sleep, timeout},
};

/// KiB.
const MIB: u64 = 1024;

/// Follows the memory of a process until it is stopped.
struct Memory {
    before: u64,
    most: u64,
}

impl Memory {
    fn of(process: &Process) -> Self {
        let before = process.memory();
        Self { before, most: before }
    }

    fn look(&mut self, process: &Process) {
        self.most = self.most.max(process.memory());
    }

    /// How much more it was at most, in KiB.
    fn growth(&self) -> u64 {
        self.most - self.before
    }
}

/// Uses every part once, so that what is made on first use does not count as growth.
async fn warm_up(door: &Door) {
    let mut callers = JoinSet::new();
    for number in 0..64 {
        let door = door.clone();
        callers.spawn(async move {
            let event = event_json(&format!("warm-{number}"), &number.to_string(), 1, false);
            door.accept(event).await;
            door.exchange_http2(&[]).await;
        });
    }
    callers.join_all().await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// A POST to `/webhooks/linxo` in HPACK: `HEADERS` without their end, and of a stream that goes on.
fn head(stream: u32, flags: u8) -> Vec<u8> {
    let fields = [&[0x83, 0x87, 0x04, 15][..], b"/webhooks/linxo", &[0x01, 9], b"localhost"].concat();
    frame(1, flags, stream, &fields)
}

/// What a flood repeats, by number from 0.
type Repeat = fn(u32) -> Vec<u8>;

const FLOODS: [(&str, Repeat); 4] = [
    ("rapid reset", |n| [head(2 * n + 1, 4), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()),
    ("continuations", |n| match n {
        0 => head(1, 0),
        _ => frame(9, 0, 1, &[&[0x00, 1, b'x', 127, 0xa1, 0x7d][..], &[b'a'; 16_000]].concat()),
    }),
    ("settings", |n| frame(4, 0, 0, &[&[0, 4][..], &(n % 65_535).to_be_bytes()].concat())),
    ("pings", |n| frame(6, 0, 0, &u64::from(n).to_be_bytes())),
];

/// Sends as fast as it can until the program has had enough.
async fn flood(door: Door, repeat: Repeat) {
    let mut stream = door.connect_http2().await.into_stream();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let write = async {
        for n in 0_u32.. {
            writer.write_all(&repeat(n % 0x3fff_ffff)).await?;
        }
        std::io::Result::Ok(())
    };
    let mut nowhere = tokio::io::sink();
    tokio::select! {
        // Either side may see the end first.
        _ = write => {}
        _ = tokio::io::copy(&mut reader, &mut nowhere) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_leave_memory_flat_and_honest_callers_served() {
    const EACH: usize = 8;
    let mut site = Site::new();
    site.file_sink("file");
    site.set("listener.header_timeout", "\"2s\"");
    let process = site.spawn().await;
    warm_up(&process.door).await;
    let mut memory = Memory::of(&process);
    let mut floods = JoinSet::new();
    for (_, repeat) in FLOODS {
        for _ in 0..EACH {
            floods.spawn(flood(process.door.clone(), repeat));
        }
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let all_ended = tokio::spawn(async move {
        timeout(LIMIT, floods.join_all()).await.expect("every flood is ended");
        over.store(true, Relaxed);
    });
    let mut took = Vec::new();
    while !is_over.load(Relaxed) {
        let begun = Instant::now();
        process.door.accept(event_json(&format!("honest-{}", took.len()), "1", 1, false)).await;
        took.push(begun.elapsed());
        memory.look(&process);
    }
    all_ended.await.unwrap();
    // The attackers share the processors with the program, and with other tests: half of the honest callers must be as quick
    // as all of them are elsewhere.
    took.sort();
    assert!(took[took.len() / 2] < Duration::from_secs(1), "{took:?}");
    assert!(memory.growth() <= 32 * MIB, "{} KiB more", memory.growth());
    let metrics = process.admin("/metrics").await.body;
    assert!(metrics.contains(r#"linxo_webhook_refused_total{reason="http2_abuse"}"#), "{metrics}");
    let warnings = process.output().lines().filter(|line| line.contains("\"level\":\"WARN\"")).count();
    assert!(warnings < 20, "{}", process.output());
}

/// One small field in the table of HPACK, then references to it, a byte each: a head that is small on the wire only.
fn heavy_head(stream: u32, fields: usize, value: usize) -> Vec<u8> {
    let length = match value {
        0..127 => vec![u8::try_from(value).unwrap()],
        _ => vec![127, u8::try_from((value - 127) % 128).unwrap() | 0x80, u8::try_from((value - 127) / 128).unwrap()],
    };
    let field = [&[0x40, 1, b'x'][..], &length, &vec![b'y'; value]].concat();
    let start = [&[0x83, 0x87, 0x84, 0x01, 9][..], b"localhost"].concat();
    frame(1, 4, stream, &[start, field, vec![0xbe; fields]].concat())
}

/// (C1) 40 connections on a wrong path, each with as many heads as it may have, as heavy as they may be, and bodies that never
/// end: no stranger makes the process larger than 64 MiB above what it is at rest.
#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_small_on_the_wire_leave_memory_flat() {
    let mut site = Site::new();
    site.file_sink("file");
    site.set("listener.body_timeout", "\"3s\"");
    let process = site.spawn().await;
    warm_up(&process.door).await;
    let mut memory = Memory::of(&process);
    // As many fields as fit in 64 KiB, in 16 KiB, and in the limit of fields; a few large ones.
    for (fields, value) in [(1900, 0), (470, 0), (90, 110), (3, 3800)] {
        let mut strangers = JoinSet::new();
        for _ in 0..40 {
            let door = process.door.clone();
            strangers.spawn(async move {
                let mut stream = door.connect_http2().await.into_stream();
                let (mut reader, mut writer) = tokio::io::split(&mut stream);
                let write = async {
                    for round in 0..4 {
                        for stream in 0..128 {
                            writer.write_all(&heavy_head(2 * (128 * round + stream) + 1, fields, value)).await?;
                        }
                        writer.flush().await?;
                    }
                    std::io::Result::Ok(())
                };
                let mut nowhere = tokio::io::sink();
                tokio::select! {
                    // Either side may see the end first.
                    _ = tokio::io::copy(&mut reader, &mut nowhere) => {}
                    () = async { drop(write.await); sleep(Duration::from_secs(1)).await } => {}
                }
            });
        }
        while !strangers.is_empty() {
            let ended = timeout(Duration::from_millis(20), strangers.join_next()).await;
            drop(ended);
            memory.look(&process);
        }
        // Half of what is promised: with 64 KiB and 128 streams, as it was, it is twice that.
        assert!(memory.growth() <= 32 * MIB, "{fields} fields of {value} bytes: {} KiB more", memory.growth());
    }
    process.door.accept(event_json("after", "1", 1, false)).await;
}

/// Sockets from an address of this machine, each with some first bytes.
async fn sockets(from: [u8; 4], door: &Door, count: usize, opening: &'static [u8]) -> Vec<TcpStream> {
    let mut opened = JoinSet::new();
    for _ in 0..count {
        let address = door.address;
        opened.spawn(async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((from, 0).into()).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            // One that was turned away already cannot be written to.
            drop(stream.write_all(opening).await);
            stream
        });
    }
    opened.join_all().await
}

/// (C3) Two addresses with as many silent sockets as there may be handshakes shut nobody out.
#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_of_two_addresses_shut_nobody_out() {
    for (networks, opening) in
        [("[\"127.0.0.1\"]", &b""[..]), ("[]", b""), ("[\"127.0.0.1\"]", b"\x16"), ("[]", b"\x16")]
    {
        let mut site = Site::new();
        site.file_sink("file");
        site.set("listener.handshake_timeout", "\"60s\"").set("sender.networks", networks);
        let process = site.spawn().await;
        let mut held = Vec::new();
        for last in [2, 3] {
            held.extend(sockets([127, 0, 0, last], &process.door, 1024, opening).await);
        }
        let mut good = JoinSet::new();
        for number in 0..64 {
            let door = process.door.clone();
            good.spawn(async move {
                let mut client = door.try_connect().await.ok()?;
                let answer = client.post(event_json(&number.to_string(), &number.to_string(), 1, false)).await.ok()?;
                (answer.status == 200).then_some(())
            });
        }
        let served = timeout(LIMIT, good.join_all()).await.unwrap().into_iter().flatten().count();
        assert_eq!(served, 64, "{networks} {opening:?}");
    }
}

/// The limit of a body is 8 MiB: so much one may hold, and no more, however many come.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_without_end_are_413_and_take_no_more_than_the_limit() {
    const CHUNK: usize = 64 * 1024;
    let mut site = Site::new();
    site.file_sink("file");
    let process = site.spawn().await;
    warm_up(&process.door).await;
    let mut memory = Memory::of(&process);
    for _ in 0..3 {
        let mut stream = process.door.connect().await.into_stream();
        let head = "POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = [format!("{CHUNK:x}\r\n").as_bytes(), &vec![b' '; CHUNK], b"\r\n"].concat();
        let mut sent = 0;
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let write = async {
            while sent < 100 * 1024 * 1024 && writer.write_all(&chunk).await.is_ok() {
                sent += CHUNK;
                memory.look(&process);
            }
        };
        let mut answer = [0; 12];
        let read = async {
            tokio::io::AsyncReadExt::read_exact(&mut reader, &mut answer).await.unwrap();
        };
        tokio::join!(write, read);
        assert_eq!(&answer, b"HTTP/1.1 413");
        // Beside what was read, twice the limit, the buffers of the system hold some.
        assert!(sent < 32 * 1024 * 1024, "it was ended: {sent}");
    }
    // While a body grows its old room (4 MiB) stands beside the new one (8 MiB), and the allocator may keep both for the next.
    assert!(memory.growth() <= 2 * (8 + 4) * MIB, "{} KiB more", memory.growth());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_json_costs_lasting_memory() {
    const SIZE: usize = 2 * 1024 * 1024 - 256;
    let mut site = Site::new();
    site.file_sink("file");
    site.set("listener.max_body", "\"2 MiB\"");
    let process = site.spawn().await;
    let mut client = process.door.connect().await;
    let large = [&b"["[..], b"{\"a\":", b"9", b"\\u0041", b"[],", b"\"a\":1,", b"-", b"\xff", b"[[{},"]
        .map(|piece| piece.repeat(SIZE / piece.len()));
    let mut memory = Memory::of(&process);
    for round in 0..3 {
        for value in &large {
            let text = [b"\"", &value[..], b"\""].concat();
            for body in [value.clone(), json::event_with(value), json::event_with(&text)] {
                let status = client.post(&body).await.unwrap().status;
                assert!([200, 400].contains(&status), "{status}");
                memory.look(&process);
            }
        }
        for (name, value) in json::YES {
            assert_eq!(client.post(json::event_with(value)).await.unwrap().status, 200, "{name}");
        }
        memory.look(&process);
        if round == 0 {
            // Some of it is stored: the first round fills the store's caches.
            assert!(memory.growth() <= 48 * MIB, "{} KiB more", memory.growth());
            memory = Memory::of(&process);
        }
    }
    // For a moment several copies of a body stand side by side: the door's, the fold's, the store's, the sink's.
    assert!(memory.growth() <= 16 * MIB, "{} KiB more", memory.growth());
    let lasting = async || (process.memory() <= memory.before + 8 * MIB).then_some(());
    eventually("what bodies took is given back", lasting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_it_waits_calmly_and_recovers() {
    let mut site = Site::new();
    site.file_sink("file");
    site.set("listener.handshake_timeout", "\"60s\"");
    let process = site.spawn().await;
    warm_up(&process.door).await;
    eventually("all callers are gone", async || {
        process.admin("/metrics").await.body.contains("linxo_webhook_connections 0\n").then_some(())
    })
    .await;
    let own = std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count();
    process.kill().await;

    // So few that they run out before the limit of connections that is derived from them: half of them.
    let limit = own + 8;
    let plain = site.command(&["serve"]);
    let process = site
        .spawn_with(|command| {
            let mut limited = Command::new("sh");
            limited.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
            limited.arg(plain.as_std().get_program()).args(plain.as_std().get_args());
            limited.current_dir(plain.as_std().get_current_dir().unwrap()).kill_on_drop(true).stdin(Stdio::null());
            *command = limited;
        })
        .await;
    let mut held = Vec::new();
    for _ in 0..limit {
        held.push(TcpStream::connect(process.door.address).await.unwrap());
    }
    let failures = || process.output().matches("cannot accept connections").count();
    eventually("no descriptor is left", async || (failures() > 0).then_some(())).await;
    // The span of the measurement: how much it computes in two seconds in which it can take nobody.
    let before = process.ticks();
    sleep(Duration::from_secs(2)).await;
    let computed = process.ticks() - before;
    assert!(computed < 50, "{computed} hundredths of a second in 200");
    assert_eq!(failures(), 1, "said once");

    drop(held);
    eventually("it takes callers again", async || {
        let mut client = timeout(Duration::from_secs(5), process.door.try_connect()).await.ok()?.ok()?;
        let answer = client.post(event_json("after", "1", 1, false)).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    let metrics = process.admin("/metrics").await.body;
    assert!(metrics.contains(r#"linxo_webhook_refused_total{reason="accept_failed"}"#), "{metrics}");
}
