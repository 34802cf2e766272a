//! The plans of the store's statements, as PostgreSQL executed them on tables of some thousands of rows: none scans a table that
//! grows. The statements are not listed here: auto_explain writes down what the store sends, and the sources say whether all was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};
use veilsum_aggregator::store::seal::ServiceKey;
use veilsum_aggregator::store::seen::SeenLog;
use veilsum_aggregator::store::sql::{SqlStore, migrate};
use veilsum_aggregator::store::{Committed, Holder, Lease, NewRound, Retention, RevocationRow, Store as _};
use veilsum_crypto::ids::{ClientId, Digest, Party, RoundId, TaskId, Timestamp};
use veilsum_crypto::math::ring::{RingBits, RingVector};
use veilsum_crypto::primitives::merkle::{Frontier, leaf_hash};
use veilsum_crypto::server::{Accepted, Effect, Keep, PhaseKind, StatementKind};
use verification::postgres::Cluster;
use verification::programs::root;

/// Tables that do not grow with rounds, clients or time.
const SMALL: [(&str, &str); 6] = [
    ("tasks", "an operator creates them"),
    ("log_head", "one row"),
    ("round_keys", "one row for each open round"),
    ("leases", "one row for each open round"),
    ("sealing_keys", "one row for each key that was ever rotated"),
    ("_sqlx_migrations", "one row for each version"),
];

/// Statements that are not of a round's life: looked at once, at the start.
const NOT_SENT: [(&str, &str); 2] = [
    ("SELECT 1 FROM {table} WHERE 1 = 0", "asks whether a table is there"),
    ("INSERT INTO log_head (head, size, frontier, root)", "the first entry of a log"),
];

const TASK: TaskId = TaskId([0x7a; 16]);
const SERVICE: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";
/// Entries of the log before anything is done.
const LEAVES: u64 = 5_000;

fn client(number: u8) -> ClientId {
    ClientId([number; 16])
}

fn digest(text: &str) -> Digest {
    Digest(Sha256::digest(text).into())
}

/// Rounds of long ago, and what is sealed and on its way in rounds that are open elsewhere.
async fn fill(connection: &mut AnyConnection) {
    let id = |prefix: &str| format!("decode(lpad(to_hex(r), 30, '0') || '{prefix}', 'hex')");
    let (round, task) = (id("aa"), "decode(repeat('1c', 16), 'hex')");
    let hash = "sha256(convert_to(r::text || 'x', 'UTF8'))";
    let who = "decode(lpad(to_hex(c), 32, '0'), 'hex')";
    let mut statements = vec![
        format!("INSERT INTO tasks VALUES ({task}, 'file', 1, sha256('model'), 4000, 0)"),
        format!(
            "INSERT INTO rounds SELECT {round}, {task}, r, {hash}, 9, 7, 'x', r, r, CASE WHEN r < 3990 THEN 1 END FROM generate_series(1, 4000) r"
        ),
        format!("INSERT INTO task_rounds SELECT {task}, r, {round}, {hash} FROM generate_series(1, 4000) r"),
        format!("INSERT INTO ledger SELECT {task}, r, 'x', 'spent' FROM generate_series(1, 4000) r"),
        format!("INSERT INTO models SELECT {hash}, 'x' FROM generate_series(1, 4000) r"),
        format!(
            "INSERT INTO revocations SELECT {hash}, decode(repeat('2c', 16), 'hex'), r, 'x', r FROM generate_series(1, 4000) r"
        ),
        format!(
            "INSERT INTO gates SELECT {round}, g, -1, 0, 0, 0 FROM generate_series(1, 4000) r, generate_series(0, 7) g"
        ),
        format!(
            "INSERT INTO statements SELECT {round}, k, 'x', 'x' FROM generate_series(1, 4000) r, generate_series(0, 4) k"
        ),
        format!(
            "INSERT INTO received SELECT {round}, p, {who}, {hash}, CASE WHEN r > 3990 THEN 'x'::bytea END \
             FROM generate_series(1, 4000) r, generate_series(0, 3) p, generate_series(1, 5) c"
        ),
        format!(
            "INSERT INTO faults SELECT {round}, 4, {who}, 24, 'x' FROM generate_series(1, 4000) r, generate_series(1, 2) c"
        ),
        format!(
            "INSERT INTO claims SELECT {round}, sha256({who}), {who} FROM generate_series(1, 200) r, generate_series(1, 40) c"
        ),
        format!(
            "INSERT INTO mail SELECT {round}, {who}, {who}, 'x' FROM generate_series(1, 200) r, generate_series(1, 40) c"
        ),
        format!(
            "INSERT INTO partial_sums SELECT {round}, {who}, 0, 1, 'x' FROM generate_series(1, 200) r, generate_series(1, 40) c"
        ),
    ];
    let mut frontier = Frontier::default();
    let mut leaves = Vec::new();
    for number in 0..LEAVES {
        let leaf = leaf_hash(&[&number.to_le_bytes()]);
        frontier.push(leaf);
        leaves.push(format!("({number}, decode('{leaf}', 'hex'))"));
    }
    statements.push(format!("INSERT INTO log_entries VALUES {}", leaves.join(",")));
    let peaks: String = frontier.peaks().iter().map(Digest::to_string).collect();
    statements.push(format!(
        "INSERT INTO log_head VALUES (0, {LEAVES}, decode('{peaks}', 'hex'), decode('{}', 'hex'))",
        frontier.root()
    ));
    statements.push("VACUUM ANALYZE".to_string());
    for statement in statements {
        let what = statement.chars().take(60).collect::<String>();
        connection.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

/// Everything that a store can do, at least once.
async fn everything(url: &str, folder: &Path) {
    let seen = || SeenLog::in_folder(folder, Party([1; 16]));
    let key = || ServiceKey::from_hex(SERVICE).expect("a key");
    let store = SqlStore::open(url, key()).await.expect("it opens").remembering(seen()).await.expect("a new record");
    let other = SqlStore::open(url, key()).await.expect("it opens").remembering(seen()).await.expect("its record");
    for file in ["file", "other"] {
        store.create_task(TASK, file, b"model", Timestamp(1)).await.expect("it answers");
    }
    for counter in 1..=2_u8 {
        let round = RoundId([0xe0 + counter; 16]);
        let new = NewRound {
            round,
            task: TASK,
            counter: counter.into(),
            header: vec![counter],
            state: b"state".to_vec(),
            opened: Timestamp(10_000),
            salt: [counter; 32],
            charge: vec![1],
        };
        for _ in 0..2 {
            assert_eq!(store.open_round(&new).await.expect("it answers"), Committed::Yes);
        }
        play(&store, &other, round, counter == 1).await;
    }
    read(&store, RoundId([0xe1; 16])).await;
    let list = |number| RevocationRow {
        digest: digest(&format!("list {number}")),
        authority: Party([9; 16]),
        number,
        bytes: vec![1],
        received: Timestamp(1),
    };
    for number in [2, 1] {
        store.put_revocations(&list(number)).await.expect("it answers");
    }
    store.revocations(digest("list 2")).await.expect("it answers");
    store.newest_revocations(Party([9; 16])).await.expect("it answers");
    store.put_model(b"another").await.expect("it answers");
    // Few of the rounds are old enough, as every hour.
    let retention = Retention { rounds_before: Timestamp(5), bodies_before: Timestamp(3_995) };
    assert!(store.purge(retention).await.expect("it answers").rounds > 0);
    let keys = veilsum_aggregator::store::keys::SealingKeys::parse(&format!("{},{SERVICE}", "77".repeat(32)));
    let rotating = SqlStore::open(url, keys.expect("two keys")).await.expect("it opens");
    let open = NewRound {
        round: RoundId([0xe3; 16]),
        task: TASK,
        counter: 3,
        header: vec![3],
        state: vec![],
        opened: Timestamp(10_000),
        salt: [3; 32],
        charge: vec![1],
    };
    store.open_round(&open).await.expect("it answers");
    assert_eq!(rotating.reseal(Timestamp(9)).await.expect("both keys"), 1);
    rotating.sealed_under().await.expect("it answers");
}

/// A round from its first message to its end, with or without a sum.
async fn play(store: &SqlStore, other: &SqlStore, round: RoundId, is_released: bool) {
    let message = |number: u8, text: &str, keep: Keep, claims: Vec<Digest>| {
        Accepted::unjudged(client(number), digest(&format!("{number}{text}")), keep, claims)
    };
    let body = |number: u8, text: &str, claims: &[&str]| {
        message(number, text, Keep::Body(text.into()), claims.iter().map(|claim| digest(claim)).collect())
    };
    let admit = async |store: &SqlStore, phase: PhaseKind, batch: &[Accepted]| {
        store.admit(round, phase, batch, Timestamp(10_001)).await.expect("it answers");
    };
    let commit = async |phase: PhaseKind, effects: &[Effect]| {
        let version = store.load(round).await.expect("it answers").expect("it stands").version;
        let mine = Lease::Held { attempts: 1 };
        assert_eq!(store.lease(round, version, Holder([1; 16]), None).await.expect("it answers"), mine);
        let held = other.lease(round, version, Holder([2; 16]), None).await.expect("it answers");
        assert!(matches!(held, Lease::Elsewhere { .. }), "{held:?}");
        store.keep_lease(round, version, Holder([1; 16])).await.expect("it answers");
        let done = store.commit(round, version, phase, b"state", effects, Timestamp(10_002)).await;
        assert_eq!(done.expect("it answers"), Committed::Yes);
        let late = store.commit(round, version, phase, b"state", effects, Timestamp(10_002)).await;
        assert_eq!(late.expect("it answers"), Committed::Conflict);
    };
    let statement =
        |kind, text: &str| Effect::Statement { kind, bytes: text.into(), attachment: b"attachment".to_vec() };

    let adverts = [body(1, "advert", &["key 1"]), body(2, "advert", &["key 2"]), body(3, "advert", &["key 1"])];
    admit(store, PhaseKind::Advertising, &adverts).await;
    admit(other, PhaseKind::Advertising, &[body(1, "other", &[]), body(4, "advert", &["key 2", "key 4"])]).await;
    store.fence(round, PhaseKind::Advertising).await.expect("it answers");
    admit(store, PhaseKind::Advertising, &[body(5, "late", &[])]).await;
    if !is_released {
        return commit(PhaseKind::Abandoned, &[Effect::Lapse, Effect::Erase]).await;
    }
    commit(PhaseKind::Sharing, &[statement(StatementKind::Roster, "roster"), Effect::Log { root: digest("r") }]).await;
    let mail = Keep::Mail { body: b"shares".to_vec(), to: [(client(2), b"sealed".to_vec())].into() };
    admit(store, PhaseKind::Sharing, &[message(1, "shares", mail, vec![])]).await;
    store.mail(round, client(2)).await.expect("it answers");
    store.fault(round, PhaseKind::Sharing, client(1), 13, b"evidence").await.expect("it answers");
    commit(PhaseKind::Masking, &[Effect::Spend, statement(StatementKind::Core, "core")]).await;
    let vector = RingVector::from_signed(&[1, 2, 3], RingBits::new(64).expect("64 bits are allowed"));
    let input = Keep::Sum { statement: b"input".to_vec(), vector };
    admit(store, PhaseKind::Masking, &[message(1, "input", input, vec![])]).await;
    store.fence(round, PhaseKind::Masking).await.expect("it answers");
    commit(PhaseKind::Confirming, &[statement(StatementKind::Survivors, "survivors")]).await;
    commit(PhaseKind::Unmasking, &[]).await;
    admit(store, PhaseKind::Unmasking, &[body(1, "answer", &[])]).await;
    assert!(store.fence(round, PhaseKind::Unmasking).await.expect("it answers").sum.is_some());
    store.bodies(round, PhaseKind::Unmasking, None).await.expect("it answers");
    let model = Effect::Model { bytes: b"next".to_vec(), digest: digest("next") };
    let fault = Effect::Fault { client: client(2), rule: 24, evidence: b"evidence".to_vec() };
    let result = statement(StatementKind::Result, "result");
    commit(PhaseKind::Published, &[result, model, fault, Effect::Erase]).await;
}

/// What requests read.
async fn read(store: &SqlStore, round: RoundId) {
    let some = [client(1), client(2)];
    store.tasks().await.expect("it answers");
    store.standing().await.expect("it answers");
    store.newest_header(TASK, 0).await.expect("it answers");
    store.statement(round, StatementKind::Roster).await.expect("it answers");
    store.bodies(round, PhaseKind::Advertising, Some(&some)).await.expect("it answers");
    store.digest(round, PhaseKind::Advertising, client(1)).await.expect("it answers");
    store.model(digest("next")).await.expect("it answers");
    store.ledger(TASK).await.expect("it answers");
    store.log_leaves(LEAVES - 2, LEAVES + 2).await.expect("it answers");
    store.log_head().await.expect("it answers");
    store.faults(round).await.expect("it answers");
    store.rounds(TASK, None, 10).await.expect("it answers");
    store.rounds(TASK, Some(2), 10).await.expect("it answers");
    store.admitted(round).await.expect("it answers");
    store.has_bodies(round).await.expect("it answers");
    store.task_rounds(TASK).await.expect("it answers");
}

/// Statements and their plans, as the server wrote them down.
fn executed(log: &Path) -> BTreeMap<String, Vec<Value>> {
    let text = std::fs::read_to_string(log).expect("the server writes one");
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.contains("duration: ") || !line.ends_with("plan:") {
            continue;
        }
        let mut json = String::new();
        while let Some(more) = lines.next_if(|line| line.starts_with('\t')) {
            json.push_str(more);
        }
        let plan: Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        let statement = plan["Query Text"].as_str().expect("words").split_whitespace().collect::<Vec<_>>().join(" ");
        found.entry(statement).or_default().push(plan["Plan"].clone());
    }
    found
}

/// Tables that a plan reads from end to end.
fn scanned(plan: &Value, found: &mut BTreeSet<String>) {
    if plan["Node Type"].as_str().is_some_and(|kind| kind.ends_with("Seq Scan")) {
        found.insert(plan["Relation Name"].as_str().expect("of a table").to_string());
    }
    plan["Plans"].as_array().into_iter().flatten().for_each(|below| scanned(below, found));
}

/// Every statement in the sources of the store: what stands in braces is different each time.
fn statements() -> BTreeSet<String> {
    const VERBS: [&str; 4] = ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM "];
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("aggregator/src/store/sql")).expect("a folder") {
        let source = std::fs::read_to_string(entry.expect("an entry").path()).expect("a source");
        let code = source.split("#[cfg(test)]\nmod tests").next().expect("a text").to_string();
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for text in code.join("\n").replace("\\\"", "'").split('"').skip(1).step_by(2) {
            let text = text.replace('\\', " ").split_whitespace().collect::<Vec<_>>().join(" ");
            if VERBS.iter().any(|verb| text.starts_with(verb)) {
                found.insert(text);
            }
        }
    }
    found
}

/// C-256: see the head of this file.
#[tokio::test(flavor = "multi_thread")]
async fn no_table_that_grows_is_scanned() {
    let cluster = tokio::task::block_in_place(|| {
        Cluster::start(&["-c fsync=off -c session_preload_libraries=auto_explain -c auto_explain.log_format=json"])
    });
    let folder = tempfile::tempdir().expect("a folder");
    sqlx::any::install_default_drivers();
    migrate(&cluster.url).await.expect("an empty database");
    let mut connection = AnyConnection::connect(&cluster.url).await.expect("it answers");
    fill(&mut connection).await;
    connection.execute("ALTER SYSTEM SET auto_explain.log_min_duration = 0").await.expect("the superuser may");
    connection.execute("SELECT pg_reload_conf()").await.expect("the superuser may");
    everything(&cluster.url, folder.path()).await;

    let place = cluster.url.split("host=").nth(1).expect("a folder");
    let executed = executed(&PathBuf::from(place).join("log"));
    let mut wrong = Vec::new();
    for (statement, plans) in &executed {
        let mut tables = BTreeSet::new();
        plans.iter().for_each(|plan| scanned(plan, &mut tables));
        tables.retain(|table| !SMALL.iter().any(|(small, _)| small == table));
        if !tables.is_empty() {
            wrong.push(format!("{tables:?} by {statement}"));
        }
    }
    assert!(wrong.is_empty(), "scanned from end to end:\n{}", wrong.join("\n"));

    // All that the sources can say was said, and looked at.
    let statements = statements();
    assert!(statements.len() > 50, "{}", statements.len());
    let is_executed = |text: &String| match text.split_once('{') {
        None => executed.contains_key(text),
        Some((first, rest)) => {
            let last = rest.rsplit('}').next().unwrap_or_default();
            executed.keys().any(|seen| seen.starts_with(first) && seen.ends_with(last))
        }
    };
    let missing: Vec<&String> = statements
        .iter()
        .filter(|text| !NOT_SENT.iter().any(|(begins, _)| text.starts_with(begins)) && !is_executed(text))
        .collect();
    assert!(missing.is_empty(), "never sent, so never looked at: {missing:#?}");
    println!("{} statements, {} plans", executed.len(), executed.values().map(Vec::len).sum::<usize>());
}
