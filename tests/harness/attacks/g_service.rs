//! G: the service under requests that are too long, too slow, too many or too late. The real aggregator, over sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use veilsum_aggregator::http::listen::HEADERS_TIME_MAX;
use veilsum_crypto::ids::{ClientId, RoundId};
use veilsum_crypto::server::PhaseKind;

use super::d_dealers::{all_see, others};
use super::{Scale, Seen, trying};
use crate::hostile::{Hand, exchange, request};
use crate::world::{Engine, Gate, Running, Shape, World};

/// What this process holds in memory now, in bytes. Aggregator, clients and attackers are all in it.
pub(super) fn resident_bytes() -> u64 {
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
