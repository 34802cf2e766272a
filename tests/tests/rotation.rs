//! The sealing key is exchanged while replicas run and rounds are open: `veilsum keys rotate`, through real processes, on both
//! engines, interrupted where it can be, beside a replica that has only the old key.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};
use veilsum_aggregator::task::TaskFile;
use veilsum_client::HttpTransport;
use verification::deployment::{Deployment, Stepping};
use verification::postgres::Schema;
use verification::programs::*;
use verification::world::{Shape, task_file};

const CLIENTS: usize = 3;

/// Phases end because all came.
fn task() -> TaskFile {
    task_file(&Shape { rounds: 2, window_ms: 600_000, grace_ms: 600_000, ..Shape::of(CLIENTS as u32) })
}

/// A deployment, its database, and how to ask it past the service.
struct Case {
    deployment: Deployment,
    url: String,
    schema: Option<Schema>,
}

impl Case {
    async fn on_sqlite() -> Self {
        let deployment = tokio::task::block_in_place(|| Deployment::start(CLIENTS as u32, &task(), "info"));
        let url = format!("sqlite:{}", deployment.folder.path().join("data/veilsum.sqlite").display());
        Self { deployment, url, schema: None }
    }

    async fn on_postgres() -> Self {
        let schema = Schema::create().await;
        let url = schema.url();
        let start = || Deployment::start_on(Some(&url), CLIENTS as u32, &task(), "info");
        let deployment = tokio::task::block_in_place(start);
        Self { deployment, url, schema: Some(schema) }
    }

    fn rotate(&self) -> Command {
        let mut command = Command::new(veilsum_program());
        command.args(["keys", "rotate", "--json", "--config"]).arg(self.deployment.folder.path().join("veilsum.toml"));
        command
    }

    fn step(&self, more: &[&str]) -> Said {
        self.rotate().args(more).output().expect("it was built").into()
    }

    fn key_file(&self) -> std::path::PathBuf {
        self.deployment.folder.path().join("data/service/sealing.key")
    }

    async fn connect(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        AnyConnection::connect(&self.url).await.expect("the database answers")
    }

    /// Which key each row is sealed under, by round.
    async fn sealed_by(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        let rows = sqlx::query("SELECT sealed_by FROM round_keys ORDER BY round").fetch_all(&mut connection).await;
        rows.expect("a query of ours").iter().map(|row| hex::encode(row.get::<Vec<u8>, _>(0))).collect()
    }

    async fn until_sealed_by(&self, is_it: impl Fn(&[String]) -> bool) {
        let looking = async {
            while !is_it(&self.sealed_by().await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), looking).await.expect("it comes to that");
    }

    /// A second task, whose first round is open and stays so.
    fn second_task(&self) {
        let file = self.deployment.folder.path().join("second.toml");
        std::fs::write(&file, toml::to_string(&task()).expect("serialises")).expect("room");
        let token = self.deployment.folder.path().join("data/admin.token");
        let admin = format!("http://{}", self.deployment.serving["admin"]["listen"].as_str().expect("an address"));
        let created = veilsum(&["task", "create", text(&file), "--admin", &admin, "--token-file", text(&token)]);
        assert!(created.status.success(), "{created:?}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

/// What `/readyz` says.
async fn ready(operations: &str) -> (u16, String) {
    let transport = HttpTransport::new(&format!("http://{operations}")).expect("an address");
    let reply = transport.request("GET", "/readyz", &[], Vec::new(), 1 << 20).await.expect("it answers");
    (reply.status, String::from_utf8(reply.body).expect("words"))
}

/// Lets all clients go until each stops before this step.
fn until_all_stop_before(clients: &mut Stepping, wanted: &str) {
    let mut there = 0;
    while there < CLIENTS {
        let (number, step) = clients.next();
        if step == wanted { there += 1 } else { clients.go(number) }
    }
}

fn ids(said: &serde_json::Value) -> (String, Vec<String>) {
    let word = |value: &serde_json::Value| value.as_str().expect("an id").to_string();
    (word(&said["seals"]), said["opens"].as_array().expect("a list").iter().map(word).collect())
}

/// C-248: a round whose sum was sealed before the rotation is released after it; each step may be interrupted, run again, and
/// refuses what would lose a row.
async fn a_key_is_exchanged_under_an_open_round(case: &Case) {
    let deployment = &case.deployment;
    let mut clients = tokio::task::block_in_place(|| deployment.clients(stepping_client(), "warn"));
    case.second_task();
    tokio::task::block_in_place(|| until_all_stop_before(&mut clients, "unmask")); // sums are there
    case.until_sealed_by(|rows| rows.len() == 2).await;
    let old = case.sealed_by().await[0].clone();
    assert_eq!(case.sealed_by().await, [old.as_str(); 2]);
    let late = deployment.replica("late"); // has the old key, and starts when it is no more
    let mut stale = deployment.replica("stale"); // has the old key, and is told of no other
    tokio::task::block_in_place(|| stale.start());
    assert_eq!(ready(&stale.operations).await.0, 200);

    // First step: a new key, before the old one; whoever is interrupted afterwards and begins again is told where it stands.
    let (new, opens) = ids(&case.step(&[]).json(0));
    assert_eq!(opens, [old.as_str()]);
    assert_ne!(new, old);
    let file = std::fs::read_to_string(case.key_file()).expect("it is there");
    assert_eq!(file.lines().count(), 2);
    assert_eq!(std::fs::metadata(case.key_file()).expect("it is there").permissions().mode() & 0o777, 0o600);
    case.step(&[]).refused(3, &["a rotation is under way", &new, &old, "--reseal"]);
    case.step(&["--finish"]).refused(3, &[&old, "still seals", "--reseal"]);
    assert_eq!(std::fs::read_to_string(case.key_file()).expect("it is there"), file, "nothing was dropped");
    assert_eq!(ready(&deployment.operations).await.0, 200, "both keys are there");

    interrupted(case, &new, &old).await;

    // Second step, whole. The replica with the file finds the new key by itself; the other one refuses in words.
    let resealed = case.step(&["--reseal"]).json(0);
    assert!(resealed["resealed"].as_u64().is_some_and(|rows| rows >= 1), "{resealed}");
    assert_eq!(case.sealed_by().await, [new.as_str(); 2]);
    assert_eq!(ready(&deployment.operations).await.0, 200);
    let words = [format!("sealed under the service key {new}, this replica has {old}"), "sealing.key".to_string()];
    let (code, said) = ready(&stale.operations).await;
    assert!(code == 503 && words.iter().all(|word| said.contains(word)), "{code}: {said}");
    let refused: Said = late.command().output().expect("it was built").into();
    assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{}", refused.err);
    assert!(words.iter().all(|word| refused.err.contains(word)), "{}", refused.err);

    // Third step: the old key goes. The round goes on to its end.
    let finished = case.step(&["--finish"]).json(0);
    assert_eq!(finished["dropped"], serde_json::json!([old]));
    assert_eq!(std::fs::read_to_string(case.key_file()).expect("it is there").lines().count(), 1);
    for number in 0..CLIENTS {
        clients.go(number);
    }
    tokio::task::block_in_place(|| until_all_stop_before(&mut clients, "over")); // each verified the sum
    drop(clients);

    // The next round opens under the new key only, though a replica with the old one looks for work too.
    case.until_sealed_by(|rows| rows.len() == 2).await;
    assert_eq!(case.sealed_by().await, [new.as_str(); 2]);
    // A replica that gets the new file goes on without a start.
    assert_eq!(ready(&stale.operations).await.0, 503);
    std::fs::copy(case.key_file(), stale.data.join("service/sealing.key")).expect("room");
    assert_eq!(ready(&stale.operations).await, (200, ready(&deployment.operations).await.1));
}

/// `--reseal` is killed while it waits for a row: what was sealed anew is, the rest is as it was, and all of it opens.
async fn interrupted(case: &Case, new: &str, old: &str) {
    let mut holding = case.connect().await;
    let hold = match &case.schema {
        Some(_) => {
            "BEGIN; SELECT round FROM round_keys WHERE round <> (SELECT round FROM round_keys ORDER BY round LIMIT 1) FOR UPDATE"
        }
        None => "BEGIN IMMEDIATE",
    };
    holding.execute(AssertSqlSafe(hold)).await.expect("nobody else holds it");
    let mut reseal = case.rotate().arg("--reseal").stdout(Stdio::null()).spawn().expect("it was built");
    match &case.schema {
        Some(_) => case.until_sealed_by(|rows| rows.iter().any(|row| row == new)).await,
        None => tokio::time::sleep(Duration::from_secs(1)).await, // it cannot do anything, however long it has
    }
    reseal.kill().expect("ours");
    reseal.wait().expect("ours");
    let mut found = case.sealed_by().await;
    found.sort_unstable();
    let mut expected = [if case.schema.is_some() { new } else { old }, old];
    expected.sort_unstable();
    assert_eq!(found, expected);
    holding.execute("ROLLBACK").await.expect("it is open");
    assert_eq!(ready(&case.deployment.operations).await.0, 200, "all of it opens");
    case.step(&["--finish"]).refused(3, &[old, "still seals"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_exchanged_under_an_open_round_on_sqlite() {
    a_key_is_exchanged_under_an_open_round(&Case::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_exchanged_under_an_open_round_on_postgresql() {
    a_key_is_exchanged_under_an_open_round(&Case::on_postgres().await).await;
}

/// C-248: keys of the environment, several with commas between, are exchanged in the same steps; the file is then not asked for.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_environment_are_exchanged_with_starts() {
    let case = Case::on_sqlite().await;
    let [old, new] =
        [std::fs::read_to_string(case.key_file()).expect("it is there").trim().to_string(), "c4".repeat(32)];
    case.until_sealed_by(|rows| rows.len() == 1).await; // a round is open
    let by = case.sealed_by().await[0].clone();
    std::fs::remove_file(case.key_file()).expect("ours");
    let served = |keys: &str| {
        let mut replica = case.deployment.replica("beside");
        replica.environment = Some(("VEILSUM_SEALING_KEYS", keys.to_string()));
        replica
    };
    let step = |keys: &str, more: &[&str]| -> Said {
        case.rotate().args(more).env("VEILSUM_SEALING_KEYS", keys).output().expect("it was built").into()
    };
    step(&old, &[]).refused(2, &["VEILSUM_SEALING_KEYS", "a comma between"]);
    let both = format!("{new},{old}");
    let mut replica = served(&both);
    tokio::task::block_in_place(|| replica.start());
    assert_eq!(ready(&replica.operations).await.0, 200);
    step(&both, &["--finish"]).refused(3, &[&by, "still seals"]);
    assert_eq!(step(&both, &["--reseal"]).json(0)["resealed"], 1);
    assert_eq!(step(&both, &["--finish"]).json(0)["dropped"], serde_json::json!([by]));
    let refused: Said = served(&old).command().output().expect("it was built").into();
    assert!(refused.code == 1 && refused.err.contains("sealed under the service key"), "{}", refused.err);
    let mut replica = served(&new);
    tokio::task::block_in_place(|| replica.start());
    assert_eq!(ready(&replica.operations).await.0, 200);
    // Nothing says the keys.
    let check: Said = Command::new(veilsum_program())
        .args(["config", "check", "--config"])
        .arg(case.deployment.folder.path().join("veilsum.toml"))
        .env("VEILSUM_SEALING_KEYS", &both)
        .output()
        .expect("it was built")
        .into();
    assert!(
        check.code == 0 && check.out.contains("sealing keys in VEILSUM_SEALING_KEYS"),
        "{}{}",
        check.out,
        check.err
    );
    for key in [&old, &new] {
        assert!(!check.out.contains(key.as_str()) && !check.err.contains(key.as_str()), "{}", check.out);
    }
    step("12,34", &["--reseal"]).refused(2, &["VEILSUM_SEALING_KEYS", "64 hexadecimal digits"]);
    step(&format!("{old},{old}"), &["--reseal"]).refused(2, &["is given twice"]);
}
