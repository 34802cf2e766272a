//! G: the service under requests that are too long, too slow, too many or out of range. The real aggregator, over sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use veilsum_aggregator::http::listen::HEADERS_TIME_MAX;
use veilsum_crypto::ids::{ClientId, RoundId};
use veilsum_crypto::server::PhaseKind;

use super::d_clients::{all_see, others};
use super::{Scale, Seen, trying};
use crate::hostile::{Hand, exchange, request};
use crate::world::{Engine, Gate, Running, Shape, World};

/// What this process holds in memory now, in bytes. Aggregator, clients and attackers are all in it.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says so");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is there");
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kib.expect("a number of kB") * 1024
}

/// Sends a head and then as much as the other side takes, up to a bound; how much went, and what came back.
async fn pour(address: SocketAddr, head: String, block: Vec<u8>, bytes_max: usize) -> (usize, u16, bool) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let _ = stream.write_all(head.as_bytes()).await;
    let (mut reading, mut writing) = stream.split();
    let mut sent = 0;
    let pouring = async {
        while sent < bytes_max && writing.write_all(&block).await.is_ok() {
            sent += block.len();
        }
    };
    let hearing = async {
        let mut seen = Vec::new();
        let _ = reading.read_to_end(&mut seen).await; // until it closes
        seen
    };
    let both = async { tokio::join!(pouring, hearing) };
    let heard = tokio::time::timeout(Duration::from_secs(30), both).await;
    let is_closed = heard.is_ok();
    let seen = heard.map(|(_, seen)| seen).unwrap_or_default();
    let status = String::from_utf8_lossy(&seen).split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (sent, status, is_closed)
}

/// G01. Ten gigabytes announced, and chunks without end.
pub async fn g01_oversized_body(scale: Scale) -> Seen {
    const BYTES_MAX: usize = 1 << 30;
    let world = World::new(Shape::patient(3)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let good = hand.advert().await;
    let target = hand.path(&format!("advertise/{}", hand.client()));
    let announced = format!("PUT {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 10737418240\r\n\r\n");
    let chunked = format!("PUT {target} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    let zeros = vec![0; 64 * 1024];
    let chunk = [b"10000\r\n".to_vec(), zeros.clone(), b"\r\n".to_vec()].concat();
    // Announced, and nothing comes: answered at once.
    exchange(world.address, announced.as_bytes()).await.is(413, None);
    let before = resident_bytes();
    let attackers = scale.times(32);
    let mut pouring = tokio::task::JoinSet::new();
    for number in 0..attackers {
        let address = world.address;
        if number % 2 == 0 {
            pouring.spawn(pour(address, announced.clone(), zeros.clone(), BYTES_MAX));
        } else {
            pouring.spawn(pour(address, chunked.clone(), chunk.clone(), BYTES_MAX));
        }
    }
    let (mut highest, mut poured, mut closed, mut refused) = (before, 0, 0, 0);
    while !pouring.is_empty() {
        highest = highest.max(resident_bytes());
        if let Ok(Some(done)) = tokio::time::timeout(Duration::from_millis(5), pouring.join_next()).await {
            let (sent, status, is_closed) = done.expect("no panic");
            assert!(sent < BYTES_MAX, "it takes what is poured");
            poured += sent;
            closed += usize::from(is_closed);
            // A connection that is reset may take its answer with it.
            refused += usize::from(status == 413);
            assert!([0, 413].contains(&status), "{status}");
        }
    }
    let growth = highest.saturating_sub(before);
    assert_eq!(closed, attackers, "every connection is closed");
    assert!(growth <= 64 << 20, "memory grew by {growth} bytes");
    // Chunks are no error where they are short enough, and an honest round goes on.
    let mut short = format!("{chunked}243\r\n").into_bytes();
    short.extend(&good);
    short.extend(b"\r\n0\r\n\r\n");
    exchange(world.address, &short).await.is_admitted();
    let running = others(&world);
    crate::hostile::finish(&world, hand).await;
    all_see(&world, running, 0..3).await;
    Seen::new(format!(
        "{attackers} bodies of 10 GiB or without end at once: all connections closed, {refused} with 413 read to the end; {} KiB went \
         out in all, memory of the whole process grew by {} KiB; a round went on exactly",
        poured / 1024,
        growth / 1024
    ))
    .count("closed", closed)
    .figure("growth of memory, MiB", growth as f64 / f64::from(1 << 20))
}

/// G02. Bodies that would be a thousand times larger once expanded.
pub async fn g02_decompression_bomb(_: Scale) -> Seen {
    let world = World::new(Shape::patient(3)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let good = hand.advert().await;
    let target = hand.path(&format!("advertise/{}", hand.client()));
    // One megabyte of zeros, gzipped by hand: a thousand bytes.
    let bomb = gzip_of_zeros(1 << 20);
    assert!(bomb.len() < 2_048);
    let before = resident_bytes();
    let mut refused = 0;
    for encoding in ["gzip", "br", "zstd", "deflate", "x-gzip", "identity, gzip", "gzip, gzip", "IDENTITY", ""] {
        trying(encoding);
        for body in [&bomb, &good] {
            request(world.address, "PUT", &target, &[("content-encoding", encoding)], body).await.is(415, None);
            refused += 1;
        }
    }
    // Unannounced it is no message.
    let answer = request(world.address, "PUT", &target, &[], &bomb).await;
    assert!([400, 413].contains(&answer.status), "{}", answer.status);
    // A transfer encoding other than chunks is refused before that.
    let coded =
        format!("PUT {target} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    let answer = exchange(world.address, coded.as_bytes()).await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    let growth = resident_bytes().saturating_sub(before);
    request(world.address, "PUT", &target, &[("content-encoding", "identity")], &good).await.is_admitted();
    let running = others(&world);
    crate::hostile::finish(&world, hand).await;
    all_see(&world, running, 0..3).await;
    Seen::new(format!(
        "{refused} bodies in 9 spellings of content encodings: 415, nothing expanded (memory {} KiB more); the same without announcement \
         is no message",
        growth / 1024
    ))
    .count("bytes expanded", 0)
}

/// A gzip file of zeros: one stored header, fixed Huffman codes, matches of 258 at distance 1. RFC 1951, 1952
fn gzip_of_zeros(len: usize) -> Vec<u8> {
    let mut bits = Vec::new();
    let mut push = |value: u32, count: u32, is_code: bool| {
        // Codes go from their highest bit, numbers from their lowest.
        (0..count).for_each(|at| bits.push((value >> if is_code { count - 1 - at } else { at }) & 1 == 1));
    };
    push(1, 1, false);
    push(1, 2, false);
    push(0x30, 8, true); // the literal 0
    for _ in 0..(len - 1) / 258 {
        push(0b1100_0101, 8, true); // length 258
        push(0, 5, true); // distance 1
    }
    push(0, 7, true);
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    out.extend(
        bits.chunks(8).map(|eight| eight.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at)),
    );
    out.extend([0; 8]); // nobody comes so far as to check the sum
    out
}

/// The time of an honest read, and whether it was answered.
async fn honest_read(address: SocketAddr, round: RoundId) -> Duration {
    let start = Instant::now();
    let answer = request(address, "GET", &format!("/v1/rounds/{round}/header"), &[], b"").await;
    assert_eq!(answer.status, 200, "an honest request is answered");
    start.elapsed()
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

/// G03. Connections that send a byte of their headers now and then, and never come to an end.
pub async fn g03_slowloris_headers(scale: Scale) -> Seen {
    let world = World::new(Shape::patient(3)).await;
    let round = world.round(1).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(honest_read(world.address, round).await);
    }
    let count = scale.times(400);
    let start = Instant::now();
    let mut slow = tokio::task::JoinSet::new();
    for number in 0..count {
        let address = world.address;
        slow.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            let opened = Instant::now();
            let _ = stream.write_all(b"GET /v1/log/checkpoint HTTP/1.1\r\nhost: x\r\n").await;
            // Some drip, some say nothing more; then each waits for the end.
            let mut answer = [0; 64];
            loop {
                let patience = if number % 2 == 0 { Duration::from_secs(2) } else { Duration::from_secs(60) };
                match tokio::time::timeout(patience, stream.read(&mut answer)).await {
                    Ok(Ok(0) | Err(_)) => return opened.elapsed(),
                    Ok(Ok(_)) => return opened.elapsed(), // an error in words is an end, too
                    Err(_) if stream.write_all(b"x").await.is_err() => return opened.elapsed(),
                    Err(_) => {}
                }
            }
        });
    }
    // Meanwhile honest clients ask, and a whole round is played.
    let running: Vec<Running> = (0..3).map(|number| world.send(number, world.line())).collect();
    let mut during = Vec::new();
    while during.len() < 200 {
        during.push(honest_read(world.address, round).await);
    }
    for running in running {
        assert!(running.end().await.verified().is_some());
    }
    world.is_exact_sum_of(round, &world.ids(0..3)).await;
    let were_still_open = slow.len();
    let mut longest = Duration::ZERO;
    while let Some(closed) = slow.join_next().await {
        longest = longest.max(closed.expect("no panic"));
    }
    let within = Duration::from_secs(15);
    assert!(HEADERS_TIME_MAX < within);
    assert!(longest >= HEADERS_TIME_MAX.mul_f64(0.9), "they were open: {longest:?}");
    assert!(longest <= within, "closed after {longest:?}");
    let (idle, during) = (percentile(&mut idle, 99), percentile(&mut during, 99));
    // Twice the idle time, and what a busy machine may add; a service that waits for the slow ones takes seconds.
    assert!(during <= 2 * idle + Duration::from_millis(500), "p99 {during:?} where idle {idle:?}");
    Seen::new(format!(
        "{count} connections that dripped headers or sent none: all closed after at most {:.1} s (limit {} s); {were_still_open} of them \
         were open while 200 honest reads (p99 {:.1} ms, idle {:.1} ms) and an exact round went on; {:.0} s in all",
        longest.as_secs_f64(),
        HEADERS_TIME_MAX.as_secs(),
        during.as_secs_f64() * 1e3,
        idle.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64()
    ))
    .count("connections", count)
    .figure("longest, s", longest.as_secs_f64())
    .figure("p99 during over idle", during.as_secs_f64() / idle.as_secs_f64())
}

/// The same upload a hundred times at once, on one engine.
async fn the_same_upload_a_hundred_times(engine: Engine, times: usize) {
    let world = World::new(Shape { engine, ..Shape::patient(4) }).await;
    let round = world.round(1).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let advert = hand.advert().await;
    let at_once = async |hand: &Hand, phase: &'static str, body: &[u8]| {
        let mut sending = tokio::task::JoinSet::new();
        for _ in 0..times {
            let (address, target) = (world.address, hand.path(&format!("{phase}/{}", hand.client())));
            let body = body.to_vec();
            sending.spawn(async move { request(address, "PUT", &target, &[], &body).await.status });
        }
        let answers = sending.join_all().await;
        assert!(answers.iter().all(|status| *status == 204), "one answer for all: {answers:?}");
    };
    at_once(&hand, "advertise", &advert).await;
    let gate = Gate::letting(0, "confirm");
    let running: Vec<Running> = (1..4).map(|number| world.send(number, world.line().behind(&gate))).collect();
    let message = hand.deal().await;
    at_once(&hand, "share", &message).await;
    let message = hand.acknowledge().await;
    at_once(&hand, "acknowledge", &message).await;
    let (message, values) = hand.mask().await;
    world.noised.lock().expect("no panic").insert(hand.client(), values);
    at_once(&hand, "mask", &message).await;
    for phase in [PhaseKind::Advertising, PhaseKind::Sharing, PhaseKind::Acknowledging, PhaseKind::Masking] {
        assert_eq!(world.admitted_bodies(round, phase, hand.client()).await, 1, "{phase:?}: one row");
    }
    gate.open();
    crate::hostile::finish(&world, hand).await;
    for running in running {
        assert!(running.end().await.verified().is_some());
    }
    world.is_exact_sum_of(round, &world.ids(0..4)).await; // added once
}

/// G10. One request many times in parallel.
pub async fn g10_idempotency(scale: Scale) -> Seen {
    let times = scale.times(100);
    the_same_upload_a_hundred_times(Engine::Sqlite, times).await;
    the_same_upload_a_hundred_times(Engine::Postgres, times).await;
    Seen::new(format!(
        "advert, shares, acknowledgement and upload of one client, each {times} times at once, on SQLite and on PostgreSQL: 204 every \
         time, one row each, the upload added once: the sum exact"
    ))
    .count("rows per message", 1)
}

/// G14. Numbers at and beyond the limits of 31, 32, 63 and 64 bits, wherever a number is read.
pub async fn g14_sql_protocol_smuggling(_: Scale) -> Seen {
    let mut refused = 0;
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let world = World::new(Shape { engine, ..Shape::patient(3) }).await;
        let mut hand = Hand::new(&world, 0, 1).await;
        let good = hand.advert().await;
        let limits: Vec<String> = [31_u32, 32, 63, 64]
            .into_iter()
            .flat_map(|bits| [-1, 0, 1].map(|off| (1_i128 << bits) + off))
            .map(|number| number.to_string())
            .collect();
        // Lengths above 4 GiB, announced.
        let target = hand.path(&format!("advertise/{}", hand.client()));
        for length in &limits {
            let head = format!("PUT {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
            let answer = exchange(world.address, head.as_bytes()).await;
            assert!([400, 413].contains(&answer.status), "{length}: {}", answer.status);
            refused += 1;
        }
        hand.put("advertise", &good).await.is_admitted();
        let running = others(&world);
        world.reached(hand.round, PhaseKind::Sharing).await;
        let task = world.task.id;
        for number in &limits {
            // Indices of leaves; counters; sizes of the log; waiting times.
            let path = hand.path(&format!("leaves?i={number}"));
            hand.get(&path, Some(&hand.permit(&path))).await.is(400, Some(37));
            let fits = number.parse::<u64>().is_ok();
            let answer = hand.get(&format!("/v1/tasks/{task}/header?after={number}&wait=0"), None).await;
            assert_eq!(answer.status, if fits { 204 } else { 400 }, "after={number}");
            let answer = hand.get(&format!("/v1/log/consistency?from=1&to={number}"), None).await;
            assert_eq!(answer.status, if fits { 404 } else { 400 }, "to={number}");
            let path = hand.path("roster");
            let answer = hand.get(&format!("{path}?wait={number}"), Some(&hand.permit(&path))).await;
            assert_eq!(answer.status, if fits { 200 } else { 400 }, "wait={number}");
            refused += 4;
        }
        // Numbers of a task file: bounded when it is read, long before a column.
        for (key, value) in [("rounds", u64::MAX), ("grace_ms", u64::MAX), ("rounds", 1 << 63)] {
            trying(key);
            let mut file = crate::world::task_file(&Shape::patient(3));
            match key {
                "rounds" => file.rounds = value,
                _ => file.grace_ms = value,
            }
            let model = veilsum_aggregator::round::learn::to_bytes(&world.model);
            // Taken or refused, but never stored as something else.
            if let Ok(task) = world.rounds().create_task(&file, &model).await {
                let tasks = veilsum_aggregator::store::Store::tasks(world.rounds().store()).await;
                let row = tasks.expect("the store answers").into_iter().find(|row| row.task == task);
                assert!(row.expect("just made").file.contains(&value.to_string()), "{key}");
            }
            refused += 1;
        }
        for field in [i64::MAX as u64 + 1, u64::MAX] {
            // Indices and counters of statements are of fixed width: what is signed with such numbers is no statement of this
            // round.
            let other = veilsum_crypto::messages::Header { counter: field, ..hand.header.clone() };
            let path = hand.path("roster");
            let permit =
                veilsum_crypto::messages::ReadPermit::sign(&path, &other.chain(), hand.client(), &hand.member.identity);
            hand.get(&path, Some(&hex::encode(permit.encode()))).await.is(403, Some(37));
            refused += 1;
        }
        crate::hostile::finish(&world, hand).await;
        all_see(&world, running, 0..3).await;
    }
    Seen::new(format!(
        "{refused} numbers at 2^31, 2^32, 2^63 and 2^64, one below and one above, as lengths, indices, counters, log sizes, waits and in \
         task files, on SQLite and PostgreSQL: refused or taken as they are, never 5xx; rounds beside them exact"
    ))
    .count("requests", refused)
}

/// Crates that read formats which carry code or types of the sender's choosing, or have no canonical form.
const FORMATS: [&str; 14] = [
    "bincode",
    "borsh",
    "ciborium",
    "postcard",
    "ron",
    "rmp",
    "rmp-serde",
    "rmpv",
    "serde-pickle",
    "serde_cbor",
    "serde_yaml",
    "bson",
    "typetag",
    "speedy",
];

/// G15. Is there a parser that would build what the sender names?
pub async fn g15_deserialiser_rce_class(_: Scale) -> Seen {
    let lock = include_str!("../../../Cargo.lock");
    let packages: Vec<(&str, Vec<&str>)> = lock
        .split("[[package]]")
        .skip(1)
        .map(|package| {
            let name = package.lines().find_map(|line| line.strip_prefix("name = ")).expect("a name");
            let wants = package.lines().filter_map(|line| line.strip_prefix(" \"")?.split(['"', ' ']).next());
            (name.trim_matches('"'), wants.collect())
        })
        .collect();
    // Everything that the service and the client are built from.
    let mut reached = vec!["veilsum-aggregator", "veilsum-client", "veilsum-crypto", "veilsum"];
    let mut at = 0;
    while at < reached.len() {
        let wants = packages.iter().filter(|(name, _)| *name == reached[at]).flat_map(|(_, wants)| wants);
        let new: Vec<&str> = wants.copied().filter(|name| !reached.contains(name)).collect();
        reached.extend(new);
        at += 1;
    }
    reached.sort_unstable();
    reached.dedup();
    assert!(reached.contains(&"axum") && reached.contains(&"serde_json"), "the walk finds what is known to be there");
    let found: Vec<&&str> = reached.iter().filter(|name| FORMATS.contains(name)).collect();
    assert!(found.is_empty(), "built with {found:?}");
    Seen::new(format!(
        "{} crates behind the service and the client, by Cargo.lock: none of {} that read code-carrying or type-tagged formats. Messages \
         are decoded by one hand-written decoder each (docs/wire.md); JSON goes out in errors and comes in on the operator's side only",
        reached.len(),
        FORMATS.len()
    ))
    .count("crates", reached.len())
    .count("found", 0)
}

/// G16. The same upload after its phase has closed, after the round is over, after its record was purged.
pub async fn g16_late_retry(_: Scale) -> Seen {
    let world = World::new(Shape::patient(4)).await;
    let round = world.round(1).await;
    let gate = Gate::letting(0, "unmask");
    let running: Vec<Running> = (0..4).map(|number| world.send(number, world.line().behind(&gate))).collect();
    let lines: Vec<_> = running.iter().map(|running| running.line.clone()).collect();
    let hand = Hand::new(&world, 0, 1).await;
    let stranger = ClientId([0xee; 16]);
    world.reached(round, PhaseKind::Unmasking).await;
    let phases = ["advertise", "share", "acknowledge", "mask"];
    let mut answers = 0;
    for moment in ["the phase has closed", "the round is over and erased"] {
        trying(moment);
        for phase in phases {
            let sent = lines[0].sent(phase)[0].clone();
            hand.put(phase, &sent).await.is_admitted();
            let rule = if phase == "mask" { 19 } else { 3 };
            hand.put(phase, &sent[1..]).await.is(409, Some(rule));
            answers += 2;
        }
        // Who sent nothing there has no row.
        let none = hand.put("open", &lines[0].sent("share")[0][..200]).await;
        none.is(410, None);
        let word = if moment == "the phase has closed" { "phase-closed" } else { "published" };
        assert_eq!(none.word(), word);
        let none = hand.put_as(stranger, "advertise", &lines[0].sent("advertise")[0]).await;
        none.is(410, None);
        answers += 2;
        if moment == "the phase has closed" {
            gate.open();
            world.over(round).await;
        }
    }
    for running in running {
        assert!(running.end().await.verified().is_some());
    }
    world.is_exact_sum_of(round, &world.ids(0..4)).await;
    Seen::new(format!(
        "{answers} late requests, after the phase had closed and after the round was over: same digest 204, other digest 409, no row 410 \
         with the reason; nothing was counted twice: the sum exact"
    ))
    .count("answers", answers)
}
