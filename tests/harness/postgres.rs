//! A PostgreSQL to test on: the one `DATABASE_URL` names, or a cluster of our own.
//!
//! The own cluster lives in a temporary directory, listens on a socket in there and nowhere else, and
//! belongs to a shell that stops and deletes it when this process ends, however it ends. Every test
//! gets a schema of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use sqlx::{AssertSqlSafe, Connection, Executor};

/// The shell's standard input is this process's: it ends when we do.
const KEEPER: &str = r#"
set -eu
trap '' INT TERM HUP
dir=$(mktemp -d /tmp/veilsum-postgres.XXXXXX)
trap 'pg_ctl -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
initdb -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 --locale=C --no-sync >"$dir/log" 2>&1 ||
    { cat "$dir/log" >&2; exit 1; }
pg_ctl -D "$dir/data" -w -l "$dir/log" start >/dev/null \
    -o "-c listen_addresses='' -c unix_socket_directories='$dir' -c fsync=off -c max_connections=200" ||
    { cat "$dir/log" >&2; exit 1; }
echo "$dir"
cat >/dev/null
"#;

/// An empty schema, dropped at the end of the test.
pub struct Schema {
    server: &'static str,
    name: String,
}

impl Schema {
    /// Makes one, on a cluster that is started for the first of them.
    pub async fn create() -> Self {
        let server = server();
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the system has randomness");
        let name = format!("veilsum_test_{:016x}", u64::from_le_bytes(random));
        run(server, format!("CREATE SCHEMA {name}")).await;
        Self { server, name }
    }

    /// Its address: all connections see this schema only.
    pub fn url(&self) -> String {
        let Self { server, name } = self;
        let joint = if server.contains('?') { '&' } else { '?' };
        format!("{server}{joint}options[search_path]={name}")
    }

    /// Its name, for the catalogues.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Breaks the connections of every store on this schema.
    pub async fn disconnect_everybody(&self) {
        let Self { server, name } = self;
        let kill = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
             WHERE c.relnamespace = '{name}'::regnamespace AND pid <> pg_backend_pid()"
        );
        run(server, kill).await;
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let (server, drop) = (self.server, format!("DROP SCHEMA {} CASCADE", self.name));
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(run(server, drop));
        });
        let _ = dropping.join();
    }
}

async fn run(server: &str, statement: String) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(server)
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL at DATABASE_URL or of our own does not answer: {error}"));
    connection.execute(AssertSqlSafe(statement)).await.expect("a statement of this harness");
}

fn server() -> &'static str {
    static SERVER: OnceLock<(String, Option<Child>)> = OnceLock::new();
    &SERVER
        .get_or_init(|| match std::env::var("DATABASE_URL") {
            Ok(url) => (url, None),
            Err(_) => {
                let (url, keeper) = start();
                (url, Some(keeper))
            }
        })
        .0
}

fn start() -> (String, Child) {
    let mut keeper = shell(KEEPER, "").spawn().expect("a shell");
    let mut dir = String::new();
    let output = keeper.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut dir).expect("the shell says where the cluster is");
    assert!(!dir.is_empty(), "PostgreSQL in {} did not start; see above", binaries().display());
    (format!("postgres://postgres@localhost/postgres?host={}", dir.trim_end()), keeper)
}

/// A shell that runs `script` with an argument and finds PostgreSQL's programs, its input and output piped. Never as root:
/// PostgreSQL refuses that.
pub(crate) fn shell(script: &str, argument: &str) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
    let mut command = Command::new(if root { "runuser" } else { "sh" });
    if root {
        command.args(["-u", "postgres", "--", "sh"]);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(["-c", script, "keeper", argument]).env("PATH", format!("{}:{path}", binaries().display()));
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// The newest installed version.
fn binaries() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    installed
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(version)
        .map(|path| path.join("bin"))
        .expect("PostgreSQL is not installed; scripts/test installs it (scripts/postgres), or set DATABASE_URL")
}
