//! An operator's first hour, with the files of aggregator/deploy and the steps of docs/operating.md: PostgreSQL with two roles, two
//! replicas, nginx with TLS, a task, rounds of real clients, an upgrade's restart, retention. The service has the rights that
//! grants.sql gives it, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};
use veilsum_aggregator::store::sql::SCHEMA_VERSION;
use veilsum_client::HttpTransport;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::os_rng;
use verification::manifests;
use verification::operated::Operated;
use verification::programs::*;

const CLIENTS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// The windows are long: a phase ends when all have come.
const TASK: &str = r#"
format = "veilsum-task-1"
name = "first-hour"
rounds = 1000
invited = 4
roster_min = 4
roster_max = 4
model_len = 8
layout = "0000000000000000000000000000000000000000000000000000000000000000"
clip_norm = 2.0
scale = 165.0
noise_multiplier = 4.0
budget_epsilon = 8.0
windows_ms = [600000, 600000, 600000, 600000, 600000, 600000, 600000]
grace_ms = 600000
server_rate = [1.0, 1.0]
"#;

fn run(arguments: &[&str]) -> Said {
    veilsum(arguments).into()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

/// Starts all clients on an address; each brings eight ones.
fn join(folder: &Path, ca: &Path) -> Vec<Child> {
    let join = |name: &&str| {
        let (identity, out) = (folder.join(format!("{name}.toml")), folder.join(format!("{name}.npy")));
        let _ = std::fs::remove_file(&out);
        let mut command = Command::new(veilsum_program());
        command.args([
            "join",
            "--json",
            "--identity",
            text(&identity),
            "--state",
            text(&folder.join(format!("{name}.state"))),
        ]);
        command.args(["--join", text(&folder.join("join.toml")), "--ca", text(ca), "--within", "600"]);
        command.args(["--vector", text(&folder.join("update.npy")), "--out", text(&out)]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was built")
    };
    CLIENTS.iter().map(join).collect()
}

/// Every client saw its round released, over all of them.
fn all_released(clients: Vec<Child>) {
    for client in clients {
        let said: Said = client.wait_with_output().expect("it ends").into();
        let said = said.json(0);
        assert_eq!(said["count"].as_u64().or(said["survivors"].as_u64()), Some(CLIENTS.len() as u64), "{said}");
    }
}

fn vector(path: &Path) {
    let header = format!("{:<117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (8,), }");
    let ones: Vec<u8> = [1.0_f32; 8].iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(path, [b"\x93NUMPY\x01\x00v\x00".as_slice(), header.as_bytes(), &ones].concat()).expect("room");
}

async fn status(port: u16, path: &str) -> (u16, String) {
    let transport = HttpTransport::new(&format!("http://127.0.0.1:{port}")).expect("an address");
    let reply = transport.request("GET", path, &[], Vec::new(), 1 << 20).await.expect("it answers");
    (reply.status, String::from_utf8(reply.body).expect("words"))
}

/// The paths that probes of the manifests ask for.
fn probed() -> BTreeSet<String> {
    let manifests = manifests::yaml("kustomize/base/deployment.yaml").remove(0);
    let container = &manifests["spec"]["template"]["spec"]["containers"][0];
    let paths = ["startupProbe", "livenessProbe", "readinessProbe"].map(|probe| &container[probe]["httpGet"]["path"]);
    paths.iter().map(|path| path.as_str().expect("a path").to_string()).collect()
}

/// The role of the service, on the operator's database. It tells what may not be done by the code of the refusal.
struct Limited(AnyConnection);

impl Limited {
    async fn connect(operated: &Operated) -> Self {
        sqlx::any::install_default_drivers();
        let password =
            std::fs::read_to_string(operated.folder.path().join("secrets/serve.pgpass")).expect("it was made");
        let password = password.trim().rsplit(':').next().expect("five fields").to_string();
        let url = operated.cluster.url("veilsum").replace("veilsum@", &format!("veilsum:{password}@"));
        Self(AnyConnection::connect(&url).await.expect("the service's own role"))
    }

    async fn is_forbidden(&mut self, statement: &str) {
        let error = self.0.execute(AssertSqlSafe(statement.to_string())).await.expect_err(statement);
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.to_string()));
        assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}"); // insufficient privilege
    }

    async fn count(&mut self, query: &str) -> i64 {
        sqlx::query(AssertSqlSafe(query.to_string())).fetch_one(&mut self.0).await.expect("it may read").get(0)
    }
}

/// Rights by table, as the catalogue has them for the service's role.
async fn rights(limited: &mut Limited) -> BTreeMap<String, BTreeSet<String>> {
    let query = "SELECT CAST(table_name AS TEXT), CAST(privilege_type AS TEXT) FROM information_schema.role_table_grants \
                 WHERE grantee = 'veilsum'";
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in sqlx::query(query).fetch_all(&mut limited.0).await.expect("it may read") {
        found.entry(row.get(0)).or_default().insert(row.get(1));
    }
    found
}

/// Lines of a log at a level, but for those that mention one of `expected`.
fn lines_at(log: &Path, level: &str, expected: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(log).expect("it was written");
    let is_meant =
        |line: &&str| line.contains(&format!("\"level\":\"{level}\"")) && !expected.iter().any(|it| line.contains(it));
    text.lines().filter(is_meant).map(str::to_string).collect()
}

/// C-243, C-244: what aggregator/deploy ships carries rounds of real clients, over TLS, on two replicas and on one, under rights
/// that let the service change nothing that must stay.
#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_deployment_carries_rounds_under_the_rights_it_is_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path();
    let authority = place.join("authority");
    let key = run(&["authority", "init", "--dir", text(&authority), "--json"]).json(0);
    let key = key["authority_key"].as_str().expect("a key").to_string();
    let mut operated = tokio::task::block_in_place(|| Operated::start(&key));

    // Every check of the configuration holds, and what probes ask is answered.
    for replica in &operated.replicas {
        let said = replica.veilsum(&["config", "check"]);
        assert!(said.code == 0 && said.out.contains("postgres, schema version"), "{}{}", said.out, said.err);
        for path in probed() {
            assert_eq!(status(replica.operations, &path).await.0, 200, "{path}");
        }
        assert_eq!(status(replica.operations, "/metrics").await.0, 200);
    }

    // The task is created at one replica; the other one has it too.
    std::fs::write(place.join("task.toml"), TASK).expect("room");
    vector(&place.join("update.npy"));
    for name in CLIENTS {
        let file = place.join(format!("{name}.toml"));
        assert_eq!(run(&["authority", "enrol", "--dir", text(&authority), "--out", text(&file)]).code, 0);
    }
    let [first, second] = &operated.replicas;
    let created = first.veilsum(&["task", "create", text(&place.join("task.toml"))]);
    assert_eq!(created.code, 0, "{}", created.err);
    let (address, file) = (operated.proxy.address(), place.join("join.toml"));
    let wrote = second.veilsum(&["task", "join", "first-hour", "--address", &address, "--out", text(&file)]);
    assert_eq!(wrote.code, 0, "{}", wrote.err);
    all_released(join(place, &operated.proxy.certificate()));

    // A certificate is revoked, and the list taken up.
    let spare = place.join("spare.toml");
    assert_eq!(run(&["authority", "enrol", "--dir", text(&authority), "--out", text(&spare)]).code, 0);
    assert_eq!(run(&["authority", "revoke", "--dir", text(&authority), "--identity", text(&spare)]).code, 0);
    let published = first.veilsum(&["revocations", "publish", text(&authority.join("revocations"))]);
    assert_eq!(published.code, 0, "{}", published.err);

    // One replica is stopped, as for an upgrade; the other goes on alone, then the first comes back.
    assert!(operated.replicas[0].stop(), "it finished what was in flight");
    all_released(join(place, &operated.proxy.certificate()));
    operated.replicas[0].start(&[]);

    // What must stay cannot be changed or deleted, nor can a table.
    let mut limited = Limited::connect(&operated).await;
    let rights = rights(&mut limited).await;
    let all = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(rights.len() as i64, limited.count(all).await, "grants.sql names every table: {rights:?}");
    for (table, rights) in &rights {
        if !rights.contains("DELETE") {
            limited.is_forbidden(&format!("DELETE FROM {table}")).await;
        }
        if !rights.contains("UPDATE") {
            let column: String = sqlx::query(AssertSqlSafe(format!(
                "SELECT CAST(MIN(column_name) AS TEXT) FROM information_schema.columns WHERE table_name = '{table}'"
            )))
            .fetch_one(&mut limited.0)
            .await
            .expect("it may read")
            .get(0);
            limited.is_forbidden(&format!("UPDATE {table} SET {column} = {column}")).await;
        }
        limited.is_forbidden(&format!("TRUNCATE {table}")).await;
        limited.is_forbidden(&format!("DROP TABLE {table}")).await;
    }
    for kept in ["statements", "log_entries", "faults", "models", "revocations", "task_rounds"] {
        assert_eq!(rights[kept], ["SELECT", "INSERT"].map(String::from).into(), "{kept}");
    }
    assert_eq!(rights["_sqlx_migrations"], ["SELECT".to_string()].into());
    limited.is_forbidden("CREATE TABLE mine (a BIGINT)").await;

    // Retention deletes under these rights too.
    let over = "SELECT COUNT(*) FROM rounds WHERE over_us IS NOT NULL";
    assert!(limited.count(over).await >= 2, "two rounds were released");
    assert!(operated.replicas[1].stop());
    operated.replicas[1].start(&[("VEILSUM_RETENTION_DAYS", "0"), ("VEILSUM_EXPORT_RETENTION_DAYS", "0")]);
    let purged = async {
        while limited.count(over).await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), purged).await.expect("purging happens at the start");
    for replica in &operated.replicas {
        assert_eq!(lines_at(&replica.log(), "ERROR", &[]), Vec::<String>::new());
    }
}

/// C-245: a database that lets nobody in, takes no writes, or has other tables, is refused at the start in words that say what
/// to do; a running service says so at /readyz.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_as_it_must_be_is_refused_in_words() {
    let key = hex::encode(IdentitySecretKey::generate(&mut os_rng()).public().as_bytes());
    let mut operated = tokio::task::block_in_place(|| Operated::start(&key));
    assert!(operated.replicas[0].stop());
    let nothing = operated.folder.path().join("nothing").display().to_string();
    let refused = |environment: &[(&str, &str)], words: &[&str]| {
        let replica = &operated.replicas[0];
        replica.veilsum_with(environment, &["serve"]).refused(1, words);
        let said = replica.veilsum_with(environment, &["config", "check", "--json"]).json(3).to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    };
    refused(&[("PGPASSFILE", &nothing), ("PGPASSWORD", "not it")], &["does not permit", "PGPASSFILE"]);
    let elsewhere = operated.cluster.url("veilsum").replace("/veilsum", "/postgres");
    refused(&[("VEILSUM_DATABASE", &elsewhere.replace("@", "_owner@"))], &["does not permit"]);

    operated.psql("postgres", "ALTER ROLE veilsum SET default_transaction_read_only = on");
    refused(&[], &["takes no writes", "standby"]);
    operated.psql("postgres", "ALTER ROLE veilsum RESET default_transaction_read_only");

    operated.psql("postgres", "REVOKE SELECT ON _sqlx_migrations FROM veilsum");
    refused(&[], &["does not permit", "aggregator/deploy/postgres"]);
    operated.psql("postgres", "GRANT SELECT ON _sqlx_migrations TO veilsum");

    let newest = SCHEMA_VERSION;
    for (change, back, words) in [
        (
            format!("UPDATE _sqlx_migrations SET success = false WHERE version = {newest}"),
            format!("UPDATE _sqlx_migrations SET success = true WHERE version = {newest}"),
            ["was begun and did not end", "veilsum migrate"],
        ),
        (
            format!("INSERT INTO _sqlx_migrations VALUES ({newest} + 1, 'newer', now(), true, '', 0)"),
            format!("DELETE FROM _sqlx_migrations WHERE version = {newest} + 1"),
            ["schema version", "veilsum migrate"],
        ),
        (
            "UPDATE _sqlx_migrations SET description = 'users' WHERE version = 1".to_string(),
            "UPDATE _sqlx_migrations SET description = '0001_rounds' WHERE version = 1".to_string(),
            ["belongs to another program", "a database of its own"],
        ),
    ] {
        operated.psql("veilsum_owner", &change);
        refused(&[], &words);
        let (code, said) = status(operated.replicas[1].operations, "/readyz").await;
        assert!(code == 503 && said.contains(words[0]), "{code}: {said}");
        operated.psql("veilsum_owner", &back);
    }
    assert_eq!(status(operated.replicas[1].operations, "/readyz").await.0, 200);
    operated.replicas[0].start(&[]); // nothing was changed by all the trying
}

/// What the store's statements do to each table, and `FROM` and `JOIN` as reading.
fn done_by_the_store() -> BTreeMap<String, BTreeSet<&'static str>> {
    const VERBS: [(&str, &str); 5] = [
        ("INSERT INTO ", "INSERT"),
        ("UPDATE ", "UPDATE"),
        ("DELETE FROM ", "DELETE"),
        (" FROM ", "SELECT"),
        (" JOIN ", "SELECT"),
    ];
    let mut done: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("aggregator/src/store/sql")).expect("a folder") {
        let source = std::fs::read_to_string(entry.expect("an entry").path()).expect("a source");
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join(" ");
        // A statement that goes on in the next line.
        let code = code.replace('\\', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        for (verb, right) in VERBS {
            for (at, _) in code.match_indices(verb) {
                if right == "SELECT" && code[..at].ends_with("DELETE") {
                    continue;
                }
                let name = |c: char| c.is_ascii_lowercase() || c == '_';
                let table: String = code[at + verb.len()..].chars().take_while(|c| name(*c)).collect();
                if !table.is_empty() {
                    done.entry(table).or_default().insert(right);
                }
            }
        }
    }
    done
}

/// C-244: the service is given the rights that its statements need, and not one more.
#[test]
fn grants_are_what_the_statements_of_the_store_need_and_nothing_else() {
    let mut granted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let grants = manifests::text("postgres/grants.sql");
    for grant in grants.lines().filter_map(|line| line.strip_prefix("GRANT ")) {
        let (rights, tables) = grant.split_once(" ON ").expect("rights on tables");
        let tables = tables.strip_suffix(" TO veilsum;").expect("to the service");
        for table in tables.split(", ") {
            let rights: BTreeSet<String> = rights.split(", ").map(String::from).collect();
            assert!(granted.insert(table.to_string(), rights).is_none(), "{table} stands twice");
        }
    }
    let mut needed: BTreeMap<String, BTreeSet<String>> = done_by_the_store()
        .into_iter()
        .map(|(table, rights)| (table, rights.into_iter().map(String::from).collect()))
        .collect();
    // PostgreSQL asks for SELECT where a statement has a WHERE or a RETURNING.
    needed.values_mut().for_each(|rights| rights.extend(["SELECT".to_string()]));
    assert_eq!(granted, needed);
}
