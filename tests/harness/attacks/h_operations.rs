//! H: the database, the logs and the configuration as ways in.

use std::collections::BTreeMap;

use veilsum_aggregator::store::Store as _;
use veilsum_aggregator::task::TaskFile;
use veilsum_crypto::server::{PhaseKind, StatementKind};

use super::{Scale, Seen, trying};
use crate::hostile::{Hand, exchange, request};
use crate::world::{Engine, Gate, Running, Shape, World, task_file};

/// What tools for injection try first, with quotes, comments, stacked statements, unions, delays, and other alphabets.
const INJECTIONS: [&str; 28] = [
    "'",
    "\"",
    "';--",
    "' OR '1'='1",
    "' OR 1=1--",
    "\" OR \"\"=\"",
    "1 OR 1=1",
    "1; DROP TABLE rounds",
    "'; DROP TABLE rounds;--",
    "'); DELETE FROM received;--",
    "' UNION SELECT seed FROM keys--",
    "1 UNION SELECT NULL,NULL,NULL",
    "' AND SLEEP(5)--",
    "'; SELECT pg_sleep(5);--",
    "1 AND (SELECT count(*) FROM sqlite_master)>0",
    "x' AND randomblob(100000000) OR '",
    "${jndi:ldap://x/a}",
    "{{7*7}}",
    "$1",
    "?1",
    ":id",
    "%27%20OR%201%3D1",
    "%00",
    "\\x27",
    "0x27",
    "E'\\\\x00'",
    "\u{02bc} OR 1=1",
    "../../../etc/passwd",
];

/// Bytes as a path or a query takes them.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// H03. SQL in every text that comes from outside.
pub async fn h03_sql_injection(_: Scale) -> Seen {
    let (mut tried, mut tasks) = (0, 0);
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let world = World::new(Shape { engine, ..Shape::patient(3) }).await;
        let mut hand = Hand::new(&world, 0, 1).await;
        let good = hand.advert().await;
        let (round, client, task) = (hand.round, hand.client(), world.task.id);
        let rows = async || {
            let mut rows = BTreeMap::new();
            for table in ["tasks", "rounds", "received", "statements", "ledger", "log_entries", "faults", "models"] {
                rows.insert(table, world.count(&format!("SELECT count(*) FROM {table}")).await);
            }
            rows
        };
        let before = rows().await;
        for injection in INJECTIONS {
            let text = percent(injection);
            let targets = [
                format!("/v1/tasks/{text}/header"),
                format!("/v1/tasks/{task}/header?after={text}"),
                format!("/v1/tasks/{task}/header?wait={text}"),
                format!("/v1/tasks/{task}/header?{text}=1"),
                format!("/v1/rounds/{text}/header"),
                format!("/v1/rounds/{round}/{text}"),
                format!("/v1/rounds/{round}/leaves?i={text}"),
                format!("/v1/rounds/{round}/mail/{text}"),
                format!("/v1/rounds/{round}{text}/roster"),
                format!("/v1/models/{text}"),
                format!("/v1/revocations/{text}"),
                format!("/v1/log/consistency?from={text}&to=1"),
                format!("/v1/log/consistency?from=1&to={text}"),
                format!("/v1/{text}"),
            ];
            for target in &targets {
                let answer = request(world.address, "GET", target, &[], b"").await;
                assert!((400..500).contains(&answer.status), "{target}: {}", answer.status);
                tried += 1;
            }
            for target in [
                format!("/v1/rounds/{text}/advertise/{client}"),
                format!("/v1/rounds/{round}/{text}/{client}"),
                format!("/v1/rounds/{round}/advertise/{text}"),
                format!("/v1/rounds/{round}/advertise/{client}?{text}"),
            ] {
                let answer = request(world.address, "PUT", &target, &[], injection.as_bytes()).await;
                assert!((400..500).contains(&answer.status), "{target}: {}", answer.status);
                tried += 1;
            }
            // In header fields, as far as HTTP lets them through.
            if injection.is_ascii() {
                for field in ["veilsum-read", "host", "user-agent", "x-forwarded-for", "cookie", "content-type"] {
                    let target = format!("/v1/rounds/{round}/roster");
                    let head = format!("GET {target} HTTP/1.1\r\n{field}: {injection}\r\nconnection: close\r\n\r\n");
                    let answer = exchange(world.address, head.as_bytes()).await;
                    assert!((400..500).contains(&answer.status), "{field}: {injection}: {}", answer.status);
                    tried += 1;
                }
            }
        }
        assert_eq!(rows().await, before, "nothing was written, nothing is gone");
        // Text that an operator gives is stored as it is.
        for injection in INJECTIONS {
            let file = TaskFile { name: injection.to_string(), ..task_file(&Shape::patient(3)) };
            let model = veilsum_aggregator::round::learn::to_bytes(&world.model);
            if let Ok(made) = world.rounds().create_task(&file, &model).await {
                let row = world.rounds().store().tasks().await.expect("the store answers");
                let row = row.into_iter().find(|row| row.task == made).expect("just made");
                assert_eq!(TaskFile::parse(&row.file).expect("as stored").name, injection);
                tasks += 1;
            }
        }
        hand.put("advertise", &good).await.is_admitted();
        let running: Vec<Running> = (1..3).map(|number| world.send(number, world.line())).collect();
        crate::hostile::finish(&world, hand).await;
        for running in running {
            assert!(running.end().await.verified().is_some());
        }
        world.is_exact_sum_of(round, &world.ids(0..3)).await;
    }
    Seen::new(format!(
        "{tried} requests with {} texts in paths, queries, bodies and header fields, on SQLite and PostgreSQL: 4xx each, no row more or \
         less; {tasks} tasks named so are stored literally; a round after it exact",
        INJECTIONS.len()
    ))
    .count("requests", tried)
    .count("hits", 0)
}

/// H07. The task is changed in the database while a round is under way, and the service restarted.
pub async fn h07_config_change_mid_round(_: Scale) -> Seen {
    let mut world = World::new(Shape { rounds: 2, ..Shape::patient(5) }).await;
    let round = world.round(1).await;
    let before = world.rounds().statement(round, StatementKind::Header).await.expect("it is open");
    let gate = Gate::letting(2, "mask");
    let running: Vec<Running> = (0..5).map(|number| world.send(number, world.line().behind(&gate))).collect();
    world.reached(round, PhaseKind::Masking).await;
    // By the front door: the same name with another file is refused.
    let weaker = TaskFile { noise_multiplier: 0.0, cohort_min: Some(2), roster_min: 3, ..world.task.file.clone() };
    let model = veilsum_aggregator::round::learn::to_bytes(&world.model);
    let refused = world.rounds().create_task(&weaker, &model).await.expect_err("it exists with another file");
    assert!(refused.to_string().contains("exists with another file"), "{refused}");
    // By the back door: the row itself.
    let text = toml::to_string(&weaker).expect("a task file").replace('\'', "''");
    assert_eq!(world.execute(&format!("UPDATE tasks SET file = '{text}'")).await, 1);
    world.crash();
    world.start().await;
    gate.open();
    for running in running {
        let ending = running.end().await;
        assert!(ending.verified().is_some(), "{ending:?}");
    }
    world.is_exact_sum_of(round, &world.ids(0..5)).await;
    let after = world.rounds().statement(round, StatementKind::Header).await.expect("it stays");
    assert_eq!(before, after, "the header of the round is what it was");
    // The next round is under the changed file; its header says so, and clients' policies refuse it.
    let next = world.rounds().newest_header(world.task.id, 1, std::time::Duration::from_secs(20)).await;
    let next = next.expect("the store answers");
    let mut refusals = 0;
    if next.is_some() {
        trying("the next round, without noise");
        for number in 0..5 {
            let running = world.send(number, world.line());
            let line = running.line.clone();
            let ending = running.end().await;
            let crate::world::Ending::Outcome(outcome) = ending else { panic!("{ending:?}") };
            assert_eq!(outcome.rule().map(|rule| rule.0), Some(2), "{outcome:?}");
            assert_eq!(line.phases(), [""; 0], "nothing is sent");
            refusals += 1;
        }
    }
    Seen::new(format!(
        "noise 0 and cohort_min 2 written into the task's row in the middle of masking, then a crash and a restart: the round ended under \
         its own header, to the byte, with the exact sum of 5; another file under the name was refused; the next round's weaker header \
         was refused by {refusals} of 5 clients' policies (R-02)"
    ))
    .count("effect on the round", 0)
}
