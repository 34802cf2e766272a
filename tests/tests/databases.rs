//! Databases that are not what a service needs, on either engine: refused at the start, by `config check` before it and by
//! `migrate`, in words that say what was expected, what came and what to do. tests/operated.rs has those of rights and roles.

use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};
use tempfile::TempDir;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::os_rng;
use verification::postgres::Schema;
use verification::programs::*;

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

fn sqlite(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

async fn execute(url: &str, statement: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.expect("it answers");
    connection.execute(AssertSqlSafe(statement.to_string())).await.expect("a statement of ours");
    connection.close().await.expect("it closes");
}

/// A folder with a configuration, and keys as after a first start.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = hex::encode(IdentitySecretKey::generate(&mut os_rng()).public().as_bytes());
        let data = folder.path().join("data");
        let config = format!(
            "listen = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"\ndata_dir = {data:?}\nauthority_key = \"{key}\"\n"
        );
        std::fs::write(folder.path().join("veilsum.toml"), config).expect("room");
        for (kind, name) in [("service", "sealing"), ("signing", "aggregator"), ("checkpoint", "checkpoint")] {
            let out = data.join(format!("service/{name}.key"));
            assert!(veilsum(&["keys", "generate", "--kind", kind, "--out", text(&out)]).status.success());
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, url: &str, arguments: &[&str]) -> Said {
        let mut command = Command::new(veilsum_program());
        command.args(arguments).args(["--config", text(&self.path("veilsum.toml"))]).env("VEILSUM_DATABASE", url);
        command.output().expect("it was built").into()
    }

    /// `serve` ends with 1, `config check` with 3, both with these words.
    #[track_caller]
    fn refused(&self, url: &str, words: &[&str]) {
        self.run(url, &["serve"]).refused(1, words);
        let said = self.run(url, &["config", "check", "--json"]).json(3);
        let checks = said["checks"].as_array().expect("a list");
        let found = checks.iter().find(|check| check["what"] == "database").expect("it is looked at");
        let found = found["found"].as_str().expect("words");
        assert!(words.iter().all(|word| found.contains(word)), "{words:?}: {found}");
    }

    /// All that can be asked of it holds.
    #[track_caller]
    fn holds(&self, url: &str) {
        self.run(url, &["config", "check", "--json"]).json(0);
    }
}

fn migrate(url: &str) -> Said {
    veilsum(&["migrate", "--database", url]).into()
}

/// A schema of the right number of which a table is gone, and a migration that did not end.
async fn incomplete_tables_are_refused(url: &str) {
    let place = Place::new();
    assert_eq!(migrate(url).code, 0);
    place.holds(url);
    execute(url, "ALTER TABLE faults RENAME TO elsewhere").await;
    place.refused(url, &["the tables are incomplete", "table faults is not there", "restore the backup"]);
    execute(url, "ALTER TABLE elsewhere RENAME TO faults").await;
    place.holds(url);
    execute(url, "UPDATE _sqlx_migrations SET success = FALSE WHERE version = 3").await;
    let words = ["the tables are incomplete", "to version 3 was begun and did not end", "veilsum migrate"];
    place.refused(url, &words);
    migrate(url).refused(1, &words);
    execute(url, "UPDATE _sqlx_migrations SET success = TRUE WHERE version = 3").await;
    place.holds(url);
}

/// C-257: on SQLite.
#[tokio::test(flavor = "multi_thread")]
async fn incomplete_tables_are_refused_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    incomplete_tables_are_refused(&sqlite(&folder.path().join("veilsum.sqlite"))).await;
}

/// C-257: on PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn incomplete_tables_are_refused_on_postgresql() {
    incomplete_tables_are_refused(&Schema::create().await.url()).await;
}

/// Another program's tables, with migrations of its own and without; nothing is made beside them.
async fn another_programs_database_is_refused(url: &str, count: &str) {
    let place = Place::new();
    execute(url, "CREATE TABLE tasks (id BIGINT, title TEXT)").await;
    let before = count_of(url, count).await;
    migrate(url).refused(1, &["belongs to another program", "table tasks", "a database of its own"]);
    assert_eq!(count_of(url, count).await, before, "no table was made");
    execute(url, "CREATE TABLE _sqlx_migrations (version BIGINT, description TEXT, success BOOLEAN)").await;
    execute(url, "INSERT INTO _sqlx_migrations VALUES (20240101120000, 'create users', TRUE)").await;
    let words = ["belongs to another program", "\"create users\"", "a database of its own"];
    place.refused(url, &words);
    migrate(url).refused(1, &words);
    execute(url, "UPDATE _sqlx_migrations SET version = 1").await;
    place.refused(url, &words);
}

async fn count_of(url: &str, query: &str) -> i64 {
    use sqlx::Row as _;
    let mut connection = AnyConnection::connect(url).await.expect("it answers");
    connection.fetch_one(AssertSqlSafe(query.to_string())).await.expect("a query of ours").get(0)
}

/// C-257: on SQLite; also a file that is no database, and one that cannot be written.
#[tokio::test(flavor = "multi_thread")]
async fn another_programs_database_is_refused_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("other.sqlite");
    execute(&format!("{}?mode=rwc", sqlite(&path)), "CREATE TABLE films (title TEXT)").await;
    another_programs_database_is_refused(&sqlite(&path), "SELECT COUNT(*) FROM sqlite_master").await;

    let place = Place::new();
    let words = folder.path().join("words.sqlite");
    std::fs::write(&words, "a letter, and no database at all. ".repeat(100)).expect("room");
    place.refused(&sqlite(&words), &["belongs to another program", "not a database", "a database of its own"]);
    let ours = folder.path().join("ours.sqlite");
    assert_eq!(migrate(&sqlite(&ours)).code, 0);
    place.holds(&sqlite(&ours));
    place.run(&format!("{}?mode=ro", sqlite(&ours)), &["serve"]).refused(1, &["takes no writes", "made read-only"]);
}

/// C-257: on PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn another_programs_database_is_refused_on_postgresql() {
    let schema = Schema::create().await;
    let count = format!("SELECT COUNT(*) FROM pg_tables WHERE schemaname = '{}'", schema.name());
    another_programs_database_is_refused(&schema.url(), &count).await;
}

/// C-257: a clock an hour off, on either side. The schema stands before pg_catalog here, so its now() is the one that is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_far_off_is_refused() {
    let place = Place::new();
    let schema = Schema::create().await;
    assert_eq!(migrate(&schema.url()).code, 0);
    place.holds(&schema.url());
    let url = schema.url().replace(schema.name(), &format!("{},pg_catalog", schema.name()));
    for (away, is_borne) in
        [("- interval '1 hour'", false), ("+ interval '1 hour'", false), ("- interval '5 minutes'", true)]
    {
        let now = format!(
            "CREATE OR REPLACE FUNCTION {}.now() RETURNS timestamptz LANGUAGE sql STABLE AS \
             'SELECT pg_catalog.now() {}'",
            schema.name(),
            away.replace('\'', "''"),
        );
        execute(&schema.url(), &now).await;
        if is_borne {
            place.holds(&url);
        } else {
            place.refused(&url, &["s apart, at most 600 s were expected", "set the one that is wrong"]);
        }
    }
}
