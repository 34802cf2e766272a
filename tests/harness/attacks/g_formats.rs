//! G, continued: what is compressed, what is out of range, and what would build things of the sender's choosing.

use veilsum_crypto::server::PhaseKind;

use super::d_dealers::{all_see, others};
use super::g_service::resident_bytes;
use super::{Scale, Seen, trying};
use crate::hostile::{Hand, exchange, request};
use crate::world::{Engine, Shape, World};

/// G02. Bodies that would be many times larger once expanded.
pub async fn g02_decompression_bomb(_: Scale) -> Seen {
    let world = World::new(Shape::patient(3)).await;
    let mut hand = Hand::new(&world, 0, 1).await;
    let good = hand.advert().await;
    let target = hand.path(&format!("advertise/{}", hand.client()));
    // There is nothing in the program that could expand it.
    let built_in: Vec<String> =
        crates_built_in().into_iter().filter(|name| EXPANDERS.contains(&name.as_str())).collect();
    assert!(built_in.is_empty(), "built with {built_in:?}");
    // As long as an advert may be, and 65,000 bytes once expanded.
    let bomb = gzip_of_zeros(65_000);
    assert!(bomb.len() <= good.len());
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
         is no message; no decompressor among the crates that the program is built from",
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
            assert!([400, 413, 431].contains(&answer.status), "{length}: {}", answer.status);
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

/// Crates that expand what was compressed.
const EXPANDERS: [&str; 11] = [
    "async-compression",
    "brotli",
    "brotli-decompressor",
    "compression-codecs",
    "flate2",
    "libflate",
    "lz4_flex",
    "miniz_oxide",
    "ruzstd",
    "snap",
    "zstd",
];

/// Everything that the program is built from, as cargo resolves it.
fn crates_built_in() -> std::collections::BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let tree = std::process::Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--prefix", "none", "-e", "normal", "--format", "{p}", "-p", "veilsum"])
        .current_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let names = String::from_utf8_lossy(&tree.stdout)
        .lines()
        .filter_map(|line| line.split(' ').next().map(String::from))
        .collect();
    let found: &std::collections::BTreeSet<String> = &names;
    assert!(found.contains("axum") && found.contains("serde_json"), "what is known to be there is found: {found:?}");
    names
}

/// G15. Is there a parser that would build what the sender names?
pub async fn g15_deserialiser_rce_class(_: Scale) -> Seen {
    let crates = crates_built_in();
    let found: Vec<&String> = crates.iter().filter(|name| FORMATS.contains(&name.as_str())).collect();
    assert!(found.is_empty(), "built with {found:?}");
    Seen::new(format!(
        "{} crates behind service, client and program, as cargo resolves them: none of {} that read code-carrying or type-tagged formats. \
         Messages are decoded by one hand-written decoder each (docs/wire.md); JSON goes out in errors and comes in on the operator's \
         side only",
        crates.len(),
        FORMATS.len()
    ))
    .count("crates", crates.len())
    .count("found", 0)
}
