//! The admin API of a running service: who may use it, and that it says what stands in the store. docs/admin.md

use std::net::SocketAddr;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use veilsum_aggregator::round::learn;
use veilsum_aggregator::task::TaskFile;
use veilsum_client::Transport as _;
use veilsum_crypto::ids::{Digest, Timestamp};
use veilsum_crypto::messages::RevocationList;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::os_rng;
use verification::hostile::{Answer, exchange, request};
use verification::world::*;

/// Every path and method that there is, with one that each names. docs/admin.md
const PATHS: [(&str, &str); 12] = [
    ("GET", "/admin/v1/status"),
    ("GET", "/admin/v1/tasks"),
    ("GET", "/admin/v1/tasks/00000000000000000000000000000000"),
    ("POST", "/admin/v1/tasks"),
    ("POST", "/admin/v1/tasks?check=1"),
    ("PUT", "/admin/v1/models/0000000000000000000000000000000000000000000000000000000000000000"),
    ("GET", "/admin/v1/rounds"),
    ("GET", "/admin/v1/rounds/00000000000000000000000000000000"),
    ("GET", "/admin/v1/rounds/00000000000000000000000000000000/export"),
    ("GET", "/admin/v1/revocations"),
    ("PUT", "/admin/v1/revocations"),
    ("GET", "/admin/v1/nothing"),
];

fn bearer() -> String {
    format!("Bearer {}", hex::encode(ADMIN_TOKEN))
}

/// A request with the token.
async fn ask(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> Answer {
    request(address, method, target, &[("authorization", &bearer())], body).await
}

/// A JSON answer of this status.
#[track_caller]
fn json_of(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.content_type, "application/json");
    serde_json::from_slice(&answer.body).expect("JSON")
}

async fn get(world: &World, target: &str) -> Value {
    json_of(&ask(world.admin(), "GET", target, &[]).await, 200)
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// C-62: nothing is answered without the token, wherever it is asked; nothing of the API is on another port.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_without_the_token_and_nothing_on_the_public_port() {
    let world = World::new(Shape::patient(3)).await;
    let wrong = format!("Bearer {}", hex::encode([0x7c; 32]));
    let upper = bearer().to_uppercase();
    let short = bearer()[..70].to_string();
    for (method, target) in PATHS {
        let with = async |field: &str| request(world.admin(), method, target, &[("authorization", field)], b"x").await;
        request(world.admin(), method, target, &[], b"x").await.is(401, None);
        for token in [wrong.as_str(), upper.as_str(), short.as_str(), "Bearer", "Basic dXNlcjpwdw==", ""] {
            with(token).await.is(401, None);
        }
        assert_ne!(with(&bearer()).await.status, 401, "{method} {target}");
        // Two tokens are none, also if one is right.
        let twice = [("authorization", bearer()), ("authorization", wrong.clone())];
        let twice: Vec<(&str, &str)> = twice.iter().map(|(name, value)| (*name, value.as_str())).collect();
        request(world.admin(), method, target, &twice, b"x").await.is(401, None);
        // The public port knows nothing of it, with or without the token.
        request(world.address, method, target, &[("authorization", &bearer())], b"x").await.is(404, None);
    }
    // Nor does the token open anything there, or the admin port serve what is public.
    ask(world.admin(), "GET", "/v1/log/checkpoint", &[]).await.is(404, None);
    // A body is not waited for: the answer comes before it.
    let announced = "PUT /admin/v1/revocations HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n";
    exchange(world.admin(), announced.as_bytes()).await.is(401, None);
    let raw =
        exchange_raw(world.admin(), "GET /admin/v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(raw.to_lowercase().contains("\r\nwww-authenticate: bearer\r\n"), "{raw}");
}

async fn exchange_raw(address: SocketAddr, bytes: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    stream.write_all(bytes.as_bytes()).await.expect("it reads");
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen).await.expect("it answers and closes");
    String::from_utf8(seen).expect("text")
}

/// C-63: a round's view, before, while and after: counts, phases, charge and outcome are those of the round.
#[tokio::test(flavor = "multi_thread")]
async fn a_rounds_view_says_what_became_of_it() {
    let world = World::new(Shape { rounds: 2, ..Shape::of(8) }).await;
    let round = world.round(1).await;
    let open = get(&world, &format!("/admin/v1/rounds/{round}")).await;
    assert_eq!(
        keys(&open),
        [
            "abandoned",
            "admitted",
            "answer",
            "charge",
            "context",
            "core",
            "counter",
            "due_us",
            "enough",
            "epsilon",
            "export",
            "faults",
            "opened_us",
            "outcome",
            "over_us",
            "phase",
            "phase_opened_us",
            "revocation_number",
            "roster",
            "round",
            "survivors",
            "task"
        ]
    );
    assert_eq!(
        (&open["phase"], &open["charge"], &open["export"]),
        (&json!("advertise"), &json!("reserved"), &json!("running"))
    );
    assert_eq!(open["enough"], 8);
    assert!(open["due_us"].as_u64() > open["opened_us"].as_u64());
    for unknown in ["roster", "core", "survivors", "outcome", "abandoned", "over_us"] {
        assert_eq!(open[unknown], Value::Null, "{unknown}");
    }
    let status = get(&world, "/admin/v1/status").await;
    assert_eq!(status["rounds_open"][0], open, "the same view");

    world.play(&[(2, Fate { phase: "mask", moment: Moment::BeforeSending })]).await;
    let view = world.over(round).await;
    let params = view.phase.assembly().expect("a roster").params();
    let over = get(&world, &format!("/admin/v1/rounds/{round}")).await;
    assert_eq!(
        (&over["phase"], &over["outcome"], &over["charge"]),
        (&json!("published"), &json!("released"), &json!("spent"))
    );
    assert_eq!((&over["core"], &over["survivors"], &over["export"]), (&json!(8), &json!(7), &json!("ready")));
    assert_eq!((&over["due_us"], &over["enough"], &over["abandoned"]), (&Value::Null, &Value::Null, &Value::Null));
    let admitted = &over["admitted"];
    for (phase, count) in [("advertise", 8), ("share", 8), ("acknowledge", 8), ("open", 0), ("mask", 7), ("unmask", 7)]
    {
        assert_eq!(admitted[phase], count, "{phase}");
    }
    assert!(admitted["confirm"].as_u64().is_some_and(|count| count >= params.threshold.into()));
    let roster = &over["roster"];
    assert_eq!(
        (&roster["n"], &roster["k"], &roster["t"], &roster["c"], &roster["T"], &roster["h"]),
        (
            &json!(params.n),
            &json!(params.degree),
            &json!(params.threshold),
            &json!(params.corrupt),
            &json!(params.tolerated),
            &json!(params.honest)
        )
    );
    assert!(over["epsilon"].as_f64().is_some_and(|epsilon| epsilon > 0.0));
    assert_eq!(over["faults"], json!([]));

    // The second round is abandoned before anybody advertised enough.
    let second = world.round(2).await;
    world.is_abandoned(second, "roster-too-small", false).await;
    let view = get(&world, &format!("/admin/v1/rounds/{second}")).await;
    assert_eq!((&view["phase"], &view["abandoned"]["reason"]), (&json!("abandoned"), &json!("roster-too-small")));
    assert_eq!((&view["charge"], &view["outcome"]), (&json!("lapsed"), &Value::Null));
}

/// C-63: rounds are listed newest first, page by page.
#[tokio::test(flavor = "multi_thread")]
async fn rounds_are_listed_newest_first_and_page_by_page() {
    let shape = Shape { rounds: 3, window_ms: 60, grace_ms: 1, ..Shape::of(3) };
    let world = World::new(shape).await;
    for counter in 1..=3 {
        world.over(world.round(counter).await).await; // nobody comes
    }
    let counters = async |query: &str| {
        let listed = get(&world, &format!("/admin/v1/rounds{query}")).await;
        let rounds = listed["rounds"].as_array().expect("a list").clone();
        rounds.iter().map(|round| round["counter"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    let task = world.task.id;
    assert_eq!(counters("").await, [3, 2, 1]);
    assert_eq!(counters("?limit=2").await, [3, 2]);
    assert_eq!(counters(&format!("?task={task}&limit=2&before=3")).await, [2, 1]);
    assert!(counters(&format!("?task={task}&before=1")).await.is_empty());
    for wrong in ["?limit=0", "?limit=501", "?limit=x", "?before=2", "?task=xyz", "?limit=1&limit=1", "?page=1"] {
        assert_eq!(ask(world.admin(), "GET", &format!("/admin/v1/rounds{wrong}"), &[]).await.status, 400, "{wrong}");
    }
    let other = "00".repeat(16);
    ask(world.admin(), "GET", &format!("/admin/v1/rounds?task={other}"), &[]).await.is(404, None);
    ask(world.admin(), "GET", &format!("/admin/v1/rounds/{other}"), &[]).await.is(404, None);
    ask(world.admin(), "GET", "/admin/v1/rounds/xyz", &[]).await.is(404, None);
    ask(world.admin(), "DELETE", "/admin/v1/rounds", &[]).await.is(405, None);
}

/// C-63: the status is that of this service, and the same after a restart but for its clocks.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_names_version_keys_log_and_store_also_after_a_restart() {
    let mut world = World::new(Shape::patient(3)).await;
    world.round(1).await;
    let before = get(&world, "/admin/v1/status").await;
    assert_eq!(
        keys(&before),
        [
            "aggregator_key",
            "auditor_keys",
            "authority_key",
            "export_retention_days",
            "listen",
            "log",
            "now_us",
            "retention_days",
            "revocation",
            "rounds_open",
            "schema",
            "store",
            "tasks",
            "uptime_ms",
            "version"
        ]
    );
    assert_eq!((&before["store"], &before["tasks"]), (&json!("sqlite"), &json!(1)));
    assert_eq!(before["schema"], json!(veilsum_aggregator::store::sql::SCHEMA_VERSION));
    assert_eq!(before["aggregator_key"], Digest(*world.policy.aggregator.as_bytes()).to_string());
    assert_eq!(before["authority_key"], Digest(*world.policy.authority.as_bytes()).to_string());
    assert_eq!(before["listen"], world.address.to_string());
    assert_eq!(before["log"]["size"], 2, "header and reservation");
    let key = before["log"]["key"].as_str().expect("a key");
    let key = veilsum_crypto::transparency::checkpoint::LogKey::parse(key).expect("a verifier key");
    let note = world.rounds().checkpoint().await.expect("the store answers");
    let head = key.open(&note).expect("the log's own note");
    assert_eq!((head.size, head.root.to_string()), (2, before["log"]["root"].as_str().expect("hex").to_string()));
    world.stop().await;
    world.start().await;
    let mut after = get(&world, "/admin/v1/status").await;
    for clock in ["now_us", "uptime_ms"] {
        after[clock] = before[clock].clone();
    }
    assert_eq!(after, before);
}

fn text(file: &TaskFile) -> String {
    toml::to_string(file).expect("TOML")
}

/// C-64: a task is created once, from a file that holds; a file that does not is refused in words and creates nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_created_once_and_only_if_it_can_hold() {
    let world = World::new(Shape::patient(3)).await;
    let file = TaskFile { name: "by hand".into(), ..world.task.file.clone() };
    let create = async |query: &str, body: String| {
        ask(world.admin(), "POST", &format!("/admin/v1/tasks{query}"), body.as_bytes()).await
    };
    let checked = json_of(&create("?check=1", text(&file)).await, 200);
    assert_eq!(
        (&checked["created"], &checked["counter"], &checked["name"]),
        (&json!(false), &json!(0), &json!("by hand"))
    );
    assert_eq!(get(&world, "/admin/v1/tasks").await["tasks"].as_array().map(Vec::len), Some(1), "nothing was created");

    let created = json_of(&create("", text(&file)).await, 201);
    assert_eq!(created["task"], file.id().to_string());
    assert_eq!((&created["created"], &created["warnings"]), (&json!(true), &checked["warnings"]));
    for figure in ["k", "t", "c", "T", "h"] {
        assert_eq!(created["rosters"][0][figure], checked["rosters"][0][figure], "{figure}");
    }
    let spaced = text(&file).replace(" = ", "   =   ") + "# a remark\n";
    assert_eq!(json_of(&create("", spaced).await, 200)["task"], created["task"], "what it says counts, not how");
    let path = format!("/admin/v1/tasks/{}", file.id());
    assert_eq!(get(&world, &path).await["name"], "by hand");
    assert_eq!(get(&world, "/admin/v1/tasks").await["tasks"].as_array().map(Vec::len), Some(2));
    // Its first round opens by itself.
    let header = world.rounds().newest_header(file.id(), 0, std::time::Duration::from_secs(30)).await;
    assert!(header.expect("a known task").is_some());

    create("", text(&TaskFile { rounds: 7, ..file.clone() })).await.is(409, None);
    create("?check=1", text(&TaskFile { rounds: 7, ..file.clone() })).await.is(409, None);
    let named = |name: &str| TaskFile { name: name.into(), ..file.clone() };
    create("", text(&TaskFile { corrupt_fraction: 0.9, ..named("liars") })).await.is(422, None);
    create("", text(&TaskFile { budget_epsilon: 1e-9, ..named("poor") })).await.is(422, None);
    create("", text(&named("odd")).replace("task-1", "task-9")).await.is(400, None);
    create("", "name = ".into()).await.is(400, None);
    create("", text(&named("more")) + "more = 1\n").await.is(400, None);
    create("?check=2", text(&file)).await.is(400, None);
    create("?check=1&check=1", text(&file)).await.is(400, Some(37));
    create("", "x".repeat((64 << 10) + 1)).await.is(413, None);
    let fields = [("authorization", bearer()), ("content-encoding", "gzip".to_string())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    request(world.admin(), "POST", "/admin/v1/tasks", &fields, text(&file).as_bytes()).await.is(415, None);
    assert_eq!(get(&world, "/admin/v1/tasks").await["tasks"].as_array().map(Vec::len), Some(2), "nothing of it stands");
}

/// C-64: a task may begin with a model that was put before.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_begins_with_the_model_that_it_names() {
    let world = World::new(Shape::patient(3)).await;
    let file = TaskFile { name: "trained".into(), ..world.task.file.clone() };
    let model = learn::to_bytes(&vec![0.5; file.model_len as usize]);
    let digest = Digest(Sha256::digest(&model).into());
    let put = async |digest: Digest, body: &[u8]| {
        ask(world.admin(), "PUT", &format!("/admin/v1/models/{digest}"), body).await
    };
    let create = async |digest: Digest| {
        let target = format!("/admin/v1/tasks?model={digest}");
        ask(world.admin(), "POST", &target, text(&file).as_bytes()).await
    };
    create(digest).await.is(404, None);
    put(Digest([1; 32]), &model).await.is(400, None);
    let said = json_of(&put(digest, &model).await, 201);
    assert_eq!((&said["digest"], &said["bytes"]), (&json!(digest.to_string()), &json!(model.len())));
    json_of(&put(digest, &model).await, 200);
    let short = learn::to_bytes(&[0.5]);
    let short_digest = Digest(Sha256::digest(&short).into());
    json_of(&put(short_digest, &short).await, 201);
    create(short_digest).await.is(422, None);
    assert_eq!(json_of(&create(digest).await, 201)["model"], digest.to_string());
}

/// C-65: what a task's view says of a client's bytes is what a client sends and reads.
#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_that_a_task_promises_are_those_of_a_round() {
    let world = World::new(Shape::of(5)).await;
    let view = get(&world, &format!("/admin/v1/tasks/{}", world.task.id)).await;
    let rosters = view["rosters"].as_array().expect("a list");
    assert_eq!(rosters.len(), 2, "four clients, and five");
    let planned = &rosters[1];
    assert_eq!((&planned["n"], &planned["is_complete"]), (&json!(5), &json!(true)));
    let round = world.round(1).await;
    let running: Vec<Running> = (0..5).map(|number| world.send(number, world.line())).collect();
    let mut lines = Vec::new();
    for running in running {
        lines.push(running.line.clone());
        assert!(running.end().await.verified().is_some());
    }
    world.over(round).await;
    let phases = ["advertise", "share", "acknowledge", "mask", "confirm", "unmask"];
    let up = |line: &Line| phases.iter().map(|phase| line.sent(phase).first().map_or(0, Vec::len)).sum::<usize>();
    let most = lines.iter().map(|line| up(line)).max().expect("five");
    assert_eq!(planned["client"]["up_bytes"], most, "of a client of the agreement set, to the byte");
    let down = planned["client"]["down_bytes"].as_u64().expect("a number") as f64;
    for line in &lines {
        let read = line.traffic().down_bytes() as f64;
        assert!((0.9 * down..1.1 * down).contains(&read), "{read} bytes were read, {down} were promised");
    }
    assert!(planned["client"]["ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms.is_finite()));
}

/// C-65: epsilon and warnings follow from the file.
#[tokio::test(flavor = "multi_thread")]
async fn warnings_name_what_is_expensive_or_will_not_hold() {
    let world = World::new(Shape::patient(3)).await;
    let base = TaskFile {
        name: "wide".into(),
        rounds: 12,
        invited: 64,
        roster_min: 58,
        roster_max: 64,
        dropout_tolerance: 0.1,
        noise_multiplier: 4.0,
        budget_epsilon: 5.0,
        model_len: 1_862,
        ..world.task.file.clone()
    };
    let check = async |file: &TaskFile| {
        json_of(&ask(world.admin(), "POST", "/admin/v1/tasks?check=1", text(file).as_bytes()).await, 200)
    };
    let said = |view: &Value, word: &str| {
        let warnings = view["warnings"].as_array().expect("a list").clone();
        warnings.iter().filter(|it| it.as_str().is_some_and(|it| it.contains(word))).count()
    };
    let plain = check(&base).await;
    assert_eq!(plain["warnings"], json!([]));
    assert_eq!(
        (&plain["rosters"][1]["k"], &plain["rosters"][1]["t"]),
        (&json!(18), &json!(12)),
        "protocol §3.2's example"
    );
    let privacy = &plain["privacy"];
    assert!(privacy["epsilon_round"].as_f64().is_some_and(|it| (1.0..1.1).contains(&it)), "{privacy}");
    assert_eq!((&privacy["rounds_in_budget"], &privacy["epsilon_spent"]), (&json!(12), &json!(0.0)));
    let spendthrift = check(&TaskFile { budget_epsilon: 2.0, ..base.clone() }).await;
    assert_eq!(said(&spendthrift, "budget_epsilon"), 1);
    assert!(spendthrift["privacy"]["rounds_in_budget"].as_u64().is_some_and(|rounds| (1..12).contains(&rounds)));
    let wide = check(&TaskFile { dropout_tolerance: 0.25, ..base.clone() }).await;
    assert_eq!(said(&wide, "dropout_tolerance 0.25 gives each of 64 clients 38 neighbours"), 1, "{}", wide["warnings"]);
    let few = TaskFile { invited: 3, roster_min: 3, roster_max: 3, dropout_tolerance: 0.0, ..base.clone() };
    assert_eq!(said(&check(&few).await, "may lie and only 0 may be lost"), 1);
    let silent = check(&TaskFile { noise_multiplier: 0.0, ..base }).await;
    assert_eq!(said(&silent, "noise_multiplier is 0"), 1);
    assert_eq!(
        (&silent["privacy"]["epsilon_round"], &silent["privacy"]["rounds_in_budget"]),
        (&Value::Null, &Value::Null)
    );
}

/// C-61 over HTTP: the authority's lists, and no others.
#[tokio::test(flavor = "multi_thread")]
async fn revocation_lists_are_put_checked_and_served() {
    let world = World::new(Shape { rounds: 2, window_ms: 60, grace_ms: 1, ..Shape::of(3) }).await;
    let list = |number: u64, authority: &IdentitySecretKey| {
        RevocationList::issue(number, [(world.clients[0].id, Timestamp(9))].into(), authority).encode()
    };
    let put = async |body: &[u8]| ask(world.admin(), "PUT", "/admin/v1/revocations", body).await;
    let none = get(&world, "/admin/v1/revocations").await;
    assert_eq!(none, json!({"number": 0, "digest": "00".repeat(32), "entries": 0, "received_us": null}));
    let third = list(3, &world.authority);
    let said = json_of(&put(&third).await, 201);
    assert_eq!((&said["number"], &said["entries"]), (&json!(3), &json!(1)));
    assert_eq!(json_of(&put(&third).await, 200), said);
    assert_eq!(get(&world, "/admin/v1/revocations").await, said);
    let digest = said["digest"].as_str().expect("hex");
    assert_eq!(get(&world, "/admin/v1/status").await["revocation"], json!({"number": 3, "digest": digest}));
    let public = request(world.address, "GET", &format!("/v1/revocations/{digest}"), &[], &[]).await;
    assert_eq!((public.status, public.body), (200, third));

    put(&list(2, &world.authority)).await.is(409, Some(36));
    put(&list(4, &IdentitySecretKey::generate(&mut os_rng()))).await.is(422, Some(36));
    put(b"no list").await.is(400, None);
    put(&[]).await.is(400, None);
    let announced = format!(
        "PUT /admin/v1/revocations HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\ncontent-length: 24000200\r\n\r\n",
        bearer()
    );
    exchange(world.admin(), announced.as_bytes()).await.is(413, None);
    assert_eq!(get(&world, "/admin/v1/revocations").await, said, "nothing of it was taken up");
    assert_eq!(world.header(2).await.revocation_number, 3, "the next round carries it");
}
