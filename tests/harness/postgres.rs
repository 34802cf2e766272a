//! A PostgreSQL to test on: the one `DATABASE_URL` names, or a cluster of our own.
//!
//! The own cluster lives in a temporary directory, listens on a socket in there and nowhere else, and
//! belongs to a shell that stops and deletes it when this process ends, however it ends. Every test
//! gets a schema of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor};

/// The cluster's keeper. Its standard input is this process's: it ends when we do.
const KEEPER: &str = include_str!("../../scripts/cluster");

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

    /// Its address over something that listens here and speaks in clear text.
    pub fn url_over(&self, address: SocketAddr) -> String {
        url_over(&self.url(), address)
    }

    /// Where its server listens.
    pub fn server(&self) -> PgConnectOptions {
        self.server.parse().expect("it was connected to")
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

/// The address of a database over something that listens here and speaks in clear text.
pub fn url_over(url: &str, address: SocketAddr) -> String {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = server.split_once("://").expect("a database's address");
    let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
    let user = place.rsplit_once('@').map_or("", |(user, _)| user);
    let is_kept = |pair: &&str| !pair.is_empty() && !["host=", "port=", "ssl"].iter().any(|it| pair.starts_with(it));
    let kept: String = query.split('&').filter(is_kept).map(|pair| format!("&{pair}")).collect();
    format!("{scheme}://{user}@{address}/{database}?sslmode=disable{kept}")
}

async fn run(server: &str, statement: String) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(server)
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL at DATABASE_URL or of our own does not answer: {error}"));
    connection.execute(AssertSqlSafe(statement)).await.expect("a statement of this harness");
}

fn server() -> &'static str {
    static SERVER: OnceLock<(String, Option<Cluster>)> = OnceLock::new();
    &SERVER
        .get_or_init(|| match std::env::var("DATABASE_URL") {
            Ok(url) => (url, None),
            Err(_) => {
                let cluster = Cluster::start(&["-c", "fsync=off"]);
                (cluster.url.clone(), Some(cluster))
            }
        })
        .0
}

/// A server of its own, which can be taken away as by a power cut.
pub struct Cluster {
    /// `postgres://…`
    pub url: String,
    keeper: Child,
    said: BufReader<ChildStdout>,
}

impl Cluster {
    /// Makes one, with these options for the server.
    pub fn start(options: &[&str]) -> Self {
        Self::keep(Command::new("sh").args(["-c", KEEPER, KEEPER]).args(options))
    }

    /// The same, for the superuser `postgres` with this password and for no one without one.
    pub fn with_password(options: &[&str], password: &str) -> Self {
        Self::keep(Command::new("sh").args(["-c", KEEPER, KEEPER]).args(options).env("CLUSTER_PASSWORD", password))
    }

    fn keep(command: &mut Command) -> Self {
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut said = BufReader::new(keeper.stdout.take().expect("it is piped"));
        let mut folder = String::new();
        said.read_line(&mut folder).expect("the shell says where the cluster is");
        assert!(
            !folder.is_empty(),
            "no cluster; scripts/test installs PostgreSQL (scripts/postgres), or set DATABASE_URL; see above"
        );
        Self { url: format!("postgres://postgres@localhost/postgres?host={}", folder.trim_end()), keeper, said }
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill(&mut self) {
        self.say("kill");
    }

    /// Back again, once it has recovered.
    pub fn restart(&mut self) {
        self.say("start");
    }

    fn say(&mut self, word: &str) {
        writeln!(self.keeper.stdin.as_ref().expect("it is piped"), "{word}").expect("the keeper lives");
        let mut answer = String::new();
        self.said.read_line(&mut answer).expect("the keeper answers");
        assert_eq!(answer.trim_end(), word, "the cluster did not do it; see above");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
