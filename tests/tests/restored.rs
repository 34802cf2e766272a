//! A database that was restored from an older backup, or exchanged: a replica that has seen more of the log serves nothing on it,
//! and says what it expected and what came. Real processes, on both engines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};
use veilsum_aggregator::task::TaskFile;
use veilsum_client::HttpTransport;
use verification::deployment::{Beside, Deployment};
use verification::postgres::Schema;
use verification::programs::*;
use verification::world::{Shape, task_file};

/// Its rounds stay open: nobody comes.
fn task() -> TaskFile {
    task_file(&Shape { rounds: 2, window_ms: 3_600_000, grace_ms: 3_600_000, ..Shape::of(3) })
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

/// A database that is copied away and put back, also under a service that runs.
struct Database {
    url: String,
    folder: PathBuf,
    schema: Option<Schema>,
}

impl Database {
    async fn connect(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        AnyConnection::connect(&self.url).await.expect("the database answers")
    }

    async fn tables(&self, connection: &mut AnyConnection) -> Vec<String> {
        let query = match &self.schema {
            Some(schema) => {
                format!("SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = '{}'", schema.name())
            }
            None => "SELECT name FROM main.sqlite_master WHERE type = 'table'".to_string(),
        };
        let rows = connection.fetch_all(AssertSqlSafe(query)).await.expect("a query of ours");
        rows.iter().map(|row| row.get(0)).filter(|name: &String| name != "_sqlx_migrations").collect()
    }

    async fn backup(&self, name: &str) {
        let mut connection = self.connect().await;
        let mut statements = Vec::new();
        match &self.schema {
            Some(schema) => {
                for table in self.tables(&mut connection).await {
                    statements.push(format!("CREATE TABLE kept_{name}_{table} AS TABLE {}.{table}", schema.name()));
                }
            }
            None => statements.push(format!("VACUUM INTO '{}'", self.folder.join(name).display())),
        }
        for statement in statements {
            connection.execute(AssertSqlSafe(statement)).await.expect("it is copied");
        }
    }

    /// Everything as it was, in one transaction.
    async fn restore(&self, name: &str) {
        let mut connection = self.connect().await;
        if self.schema.is_none() {
            let attach = format!("PRAGMA busy_timeout = 10000; ATTACH '{}' AS kept", self.folder.join(name).display());
            connection.execute(AssertSqlSafe(attach)).await.expect("it is there");
        }
        let begin = if self.schema.is_some() { "BEGIN" } else { "BEGIN IMMEDIATE" };
        let mut statements = vec![begin.to_string()];
        for table in self.tables(&mut connection).await {
            if table.starts_with("kept_") {
                continue;
            }
            let kept = if self.schema.is_some() { format!("kept_{name}_{table}") } else { format!("kept.{table}") };
            let ours = if self.schema.is_some() { table.clone() } else { format!("main.{table}") };
            statements.push(format!("DELETE FROM {ours}"));
            statements.push(format!("INSERT INTO {ours} SELECT * FROM {kept}"));
        }
        statements.push("COMMIT".to_string());
        for statement in statements {
            connection.execute(AssertSqlSafe(statement)).await.expect("it is put back");
        }
    }

    /// Entries of the log, and its root.
    async fn log(&self) -> (i64, String) {
        let mut connection = self.connect().await;
        let row = connection.fetch_optional("SELECT size, root FROM log_head").await.expect("a query of ours");
        row.map_or((0, String::new()), |row| (row.get(0), hex::encode(row.get::<Vec<u8>, _>(1))))
    }

    async fn until_the_log_has(&self, size: i64) {
        let looking = async {
            while self.log().await.0 != size {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), looking).await.expect("it comes to that");
    }
}

/// What a path of a replica answers.
async fn get(address: &str, path: &str) -> (u16, String) {
    let transport = HttpTransport::new(&format!("http://{address}")).expect("an address");
    let reply = transport.request("GET", path, &[], Vec::new(), 1 << 20).await.expect("it answers");
    (reply.status, String::from_utf8(reply.body).expect("words"))
}

/// One more task at a replica; its first round opens, and the log grows by two entries.
fn create_task(replica: &Beside, serving: &serde_json::Value) -> Said {
    let file = replica.data.join("more.toml");
    std::fs::write(&file, toml::to_string(&task()).expect("serialises")).expect("room");
    let admin = format!("http://{}", serving["admin"]["listen"].as_str().expect("an address"));
    let token = replica.data.join("admin.token");
    veilsum(&["task", "create", text(&file), "--admin", &admin, "--token-file", text(&token)]).into()
}

/// It does not start; `config check` says the same beforehand. Nothing is changed.
async fn is_refused(database: &Database, replica: &Beside, words: &[&str]) {
    let before = database.log().await;
    let refused: Said = replica.command().output().expect("it was built").into();
    assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{}", refused.err);
    let mut check = std::process::Command::new(veilsum_program());
    check.args(["config", "check", "--json", "--config"]).arg(replica.config());
    let check: Said = check.env("VEILSUM_DATA_DIR", &replica.data).output().expect("it was built").into();
    let said = check.json(3).to_string();
    for word in words {
        assert!(refused.err.contains(word), "\"{word}\" is missing in: {}", refused.err);
        assert!(said.contains(word), "\"{word}\" is missing in: {said}");
    }
    assert_eq!(database.log().await, before);
}

const ANOTHER: &str = "is not the one that this replica has seen";

async fn an_older_database_is_noticed(mut deployment: Deployment, database: Database) {
    database.until_the_log_has(2).await; // its first round is open
    let mut one = deployment.replica("one");
    let mut two = deployment.replica("two");
    deployment.kill();
    tokio::task::block_in_place(|| one.start());
    assert_eq!(get(&one.operations, "/readyz").await.0, 200);
    one.kill();
    let (_, older) = database.log().await;
    database.backup("older").await;
    let serving = tokio::task::block_in_place(|| one.start());
    assert_eq!(create_task(&one, &serving).code, 0);
    database.until_the_log_has(4).await;
    let address = serving["listen"].as_str().expect("an address");
    assert!(get(address, "/v1/log/checkpoint").await.1.contains("\n4\n"), "the head is signed");
    one.kill();
    let (_, newer) = database.log().await;
    database.backup("newer").await;

    // Shorter than what was signed.
    database.restore("older").await;
    let (expected, came) = (format!("4 entries with root {newer}"), format!("2 entries with root {older}"));
    is_refused(&database, &one, &[ANOTHER, &expected, &came, "restore a newer one"]).await;

    // As long, and longer, and another one: a replica that has seen nothing went on with it.
    let serving = tokio::task::block_in_place(|| two.start());
    assert_eq!(create_task(&two, &serving).code, 0);
    database.until_the_log_has(4).await;
    let (_, other) = database.log().await;
    is_refused(&database, &one, &[ANOTHER, &expected, &format!("4 entries with root {other}")]).await;
    assert_eq!(create_task(&two, &serving).code, 0);
    database.until_the_log_has(6).await;
    two.kill();
    is_refused(&database, &one, &[ANOTHER, &expected, &format!("4 entries with root {other}")]).await;

    // The newest one is back: it goes on.
    database.restore("newer").await;
    let serving = tokio::task::block_in_place(|| one.start());
    assert_eq!(get(&one.operations, "/readyz").await.0, 200);

    // Exchanged while it runs: the next append is refused, then everything that would write, and the head is not signed.
    database.restore("older").await;
    create_task(&one, &serving);
    let refusing = async {
        while !std::fs::read_to_string(one.log()).expect("it speaks").contains(ANOTHER) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), refusing).await.expect("the round of the new task is not opened");
    assert_eq!(database.log().await, (2, older.clone()));
    assert_ne!(create_task(&one, &serving).code, 0);
    let (code, said) = get(&one.operations, "/readyz").await;
    assert!(code == 503 && said.contains(&expected) && said.contains(&came), "{code}: {said}");
    let address = serving["listen"].as_str().expect("an address");
    assert_eq!(get(address, "/v1/log/checkpoint").await.0, 500);
    database.restore("newer").await;
    assert_eq!(get(&one.operations, "/readyz").await.0, 200, "it goes on by itself");
    assert_eq!(create_task(&one, &serving).code, 0);
    database.until_the_log_has(6).await;
    one.kill();

    // A record that is damaged is not taken for none.
    // Being killed may have left one that was not yet in force beside it.
    let is_record = |path: &PathBuf| {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        name.starts_with("log-") && !name.ends_with(".new")
    };
    let files = std::fs::read_dir(&one.data).expect("its folder").map(|entry| entry.expect("an entry").path());
    let records: Vec<PathBuf> = files.filter(is_record).collect();
    assert_eq!(records.len(), 1, "{records:?}");
    std::fs::write(&records[0], "veilsum-log-1 6").expect("room");
    is_refused(&database, &one, &["cannot be kept in", text(&records[0])]).await;
}

/// C-249: on SQLite.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_is_noticed_on_sqlite() {
    let deployment = tokio::task::block_in_place(|| Deployment::start(3, &task(), "info"));
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", deployment.folder.path().join("data/veilsum.sqlite").display());
    let database = Database { url, folder: folder.path().to_path_buf(), schema: None };
    an_older_database_is_noticed(deployment, database).await;
}

/// C-249: on PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_is_noticed_on_postgresql() {
    let schema = Schema::create().await;
    let url = schema.url();
    let deployment = tokio::task::block_in_place(|| Deployment::start_on(Some(&url), 3, &task(), "info"));
    let database = Database { url, folder: PathBuf::new(), schema: Some(schema) };
    an_older_database_is_noticed(deployment, database).await;
}
