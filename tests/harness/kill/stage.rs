//! What runs in a kill campaign, and how it is killed and brought back.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use veilsum_aggregator::task::{FORMAT, TaskFile};
use veilsum_crypto::ids::TaskId;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::os_rng;

use super::CLIENTS;
use super::points::{Points, Slot};
use crate::deployment::{Owner, enrol, free_port};
use crate::postgres::Cluster;
use crate::programs::{lasting_client, veilsum_program};

/// Replicas of the aggregator.
pub const REPLICAS: usize = 2;
/// How long the last round may take once nothing is killed any more.
const SETTLE: Duration = Duration::from_secs(12);

/// On which engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    /// A cluster of its own, with fsync.
    Postgres,
    /// One file.
    Sqlite,
}

/// What can be killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A process of the aggregator.
    Replica(usize),
    /// A client.
    Client(usize),
    /// PostgreSQL.
    Database,
    /// Room on SQLite's disk.
    Room,
}

impl Target {
    /// For the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replica(_) => "replica",
            Self::Client(_) => "client",
            Self::Database => "database",
            Self::Room => "room on the disk",
        }
    }
}

/// Everything that runs.
pub struct Stage {
    /// Everything on disk.
    pub folder: TempDir,
    /// The database.
    pub url: String,
    /// The task.
    pub task: TaskId,
    owners: Vec<Owner>,
    ports: [u16; REPLICAS],
    replicas: [Slot; REPLICAS],
    points: Option<Points>,
    clients: Vec<Option<Child>>,
    cluster: Option<(Cluster, bool)>,
}

/// Windows so short that rounds follow each other, and so long that a client that was killed comes back in time.
fn task() -> TaskFile {
    TaskFile {
        format: FORMAT.to_string(),
        name: "kill campaign".to_string(),
        rounds: 100_000,
        invited: CLIENTS,
        roster_min: CLIENTS - 1,
        roster_max: CLIENTS,
        cohort_min: None,
        corrupt_fraction: 0.05,
        dropout_tolerance: 0.2,
        security_bits: 80,
        completion_bits: 30,
        model_len: CLIENTS,
        layout: "00".repeat(32),
        weight_max: 0,
        clip_norm: 2.0,
        scale: 8.0,
        noise_multiplier: 0.0,
        wrap_bits: 40,
        dp_delta: 1e-5,
        budget_epsilon: 1.0,
        windows_ms: [1_200; 7],
        grace_ms: 600,
        server_rate: [1.0, 1.0],
        query: None,
    }
}

impl Stage {
    /// Starts everything; with a seed for points, replicas stand between proxies that kill them there.
    pub fn set(store: Store, points: Option<u64>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = (store == Store::Postgres).then(|| (Cluster::start(&["-c", "fsync=on"]), true));
        let url = match &cluster {
            Some((cluster, _)) => cluster.url.clone(),
            None => format!("sqlite:{}", folder.path().join("veilsum.db").display()),
        };
        let authority = IdentitySecretKey::generate(&mut os_rng());
        let owners: Vec<Owner> = (0..CLIENTS).map(|number| enrol(&authority, number, CLIENTS, folder.path())).collect();
        let file = task();
        let task_file = folder.path().join("task.toml");
        std::fs::write(&task_file, toml::to_string(&file).expect("serialises")).expect("room");
        let config = format!(
            "data_dir = {:?}\nauthority_key = \"{}\"\noperations = \"127.0.0.1:0\"\ndatabase = {url:?}\n[[tasks]]\nfile = \
             {task_file:?}\n",
            folder.path().join("data"),
            hex::encode(authority.public().as_bytes()),
        );
        std::fs::write(folder.path().join("veilsum.toml"), config).expect("room");
        let migrated = Command::new(veilsum_program()).args(["migrate", "--database", &url]).output();
        assert!(migrated.expect("it was built").status.success(), "the tables are made");
        let ports = std::array::from_fn(|_| free_port());
        let replicas: [Slot; REPLICAS] = std::array::from_fn(|_| Slot::default());
        let mut stage = Self {
            points: points.map(|seed| Points::set(&url, &replicas, &ports, seed)),
            folder,
            url,
            task: file.id(),
            owners,
            ports,
            replicas,
            clients: (0..CLIENTS).map(|_| None).collect(),
            cluster,
        };
        stage.bring_back(Target::Replica(0));
        stage.await_replica(0);
        (1..REPLICAS).for_each(|number| stage.bring_back(Target::Replica(number)));
        (0..CLIENTS as usize).for_each(|number| stage.bring_back(Target::Client(number)));
        stage
    }

    /// Takes it away as it stands; false if it was away already.
    pub fn kill(&mut self, target: Target) -> bool {
        let running = match target {
            Target::Replica(number) => self.slot(number).take(),
            Target::Client(number) => self.clients[number].take(),
            Target::Database => {
                let Some((cluster, runs @ true)) = &mut self.cluster else { return false };
                cluster.kill();
                *runs = false;
                return true;
            }
            Target::Room => return self.limit_files("4096:") > 0,
        };
        let Some(mut child) = running else { return false };
        child.kill().expect("it is ours"); // SIGKILL
        child.wait().expect("it is ours");
        true
    }

    /// Starts it again.
    pub fn bring_back(&mut self, target: Target) {
        match target {
            Target::Replica(number) => {
                let replica = self.replica(number);
                *self.slot(number) = Some(replica);
            }
            Target::Client(number) => self.clients[number] = Some(self.client(number)),
            Target::Room => {
                self.limit_files("unlimited:");
            }
            Target::Database => {
                if let Some((cluster, runs @ false)) = &mut self.cluster {
                    cluster.restart();
                    *runs = true;
                }
            }
        }
        self.mend();
    }

    /// No replica may write beyond this place of a file: it is told so as by a full disk. How many there are.
    fn limit_files(&self, limit: &str) -> usize {
        let pids: Vec<_> = (0..REPLICAS).filter_map(|number| self.slot(number).as_ref().map(Child::id)).collect();
        for pid in &pids {
            let limited =
                Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--fsize={limit}")]).output();
            assert!(limited.is_ok(), "prlimit is part of util-linux"); // false for a process that has just ended
        }
        pids.len()
    }

    /// A replica that found no database when it started has ended, as a service manager would start it again.
    pub fn mend(&mut self) {
        for number in (0..REPLICAS).filter(|number| self.has_ended(*number)).collect::<Vec<_>>() {
            self.bring_back(Target::Replica(number));
        }
    }

    /// Whether a replica is no more although nobody took it away by [`Stage::kill`].
    pub fn has_ended(&self, number: usize) -> bool {
        self.slot(number).as_mut().is_some_and(|child| child.try_wait().is_ok_and(|it| it.is_some()))
    }

    /// Where replicas are killed, if it is at points.
    pub fn points(&self) -> Option<&Points> {
        self.points.as_ref()
    }

    fn slot(&self, number: usize) -> MutexGuard<'_, Option<Child>> {
        self.replicas[number].lock().expect("nobody panics")
    }

    fn replica(&self, number: usize) -> Child {
        // What goes beyond a limit of files is an error to it, and not its end.
        Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(veilsum_program())
            .args(["serve", "--json", "--config"])
            .arg(self.folder.path().join("veilsum.toml"))
            .env("VEILSUM_LISTEN", format!("127.0.0.1:{}", self.ports[number]))
            .env("VEILSUM_DATABASE", self.points.as_ref().map_or(self.url.clone(), |it| it.database(&self.url, number)))
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(self.log(&format!("replica-{number}.log")))
            .spawn()
            .expect("it was built")
    }

    fn client(&self, number: usize) -> Child {
        let owner = &self.owners[number];
        Command::new(lasting_client())
            .args([&owner.identity, &self.join(), &owner.state, &self.journal(number)])
            .arg(number.to_string())
            .args((0..REPLICAS).map(|replica| format!("http://{}", self.address(replica))))
            .stdout(Stdio::null())
            .stderr(self.log(&format!("client-{number}.log")))
            .spawn()
            .expect("it was built")
    }

    /// Where clients reach a replica.
    fn address(&self, replica: usize) -> SocketAddr {
        let own = SocketAddr::from(([127, 0, 0, 1], self.ports[replica]));
        self.points.as_ref().map_or(own, |points| points.address(replica))
    }

    fn log(&self, name: &str) -> std::fs::File {
        std::fs::File::options().create(true).append(true).open(self.folder.path().join(name)).expect("room")
    }

    fn join(&self) -> PathBuf {
        self.folder.path().join("data").join(format!("join-{}.toml", self.task))
    }

    /// What a client was told.
    pub fn journal(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("journal-{number}"))
    }

    /// The key that the service made for itself.
    pub fn sealing_key(&self) -> String {
        read(&self.folder.path().join("data/service/sealing.key")).trim().to_string()
    }

    /// What each process said on stderr.
    pub fn said(&self) -> Vec<(String, String)> {
        let names = (0..REPLICAS)
            .map(|number| format!("replica-{number}.log"))
            .chain((0..CLIENTS).map(|number| format!("client-{number}.log")));
        let read = |name: String| (name.clone(), read(&self.folder.path().join(name)));
        names.map(read).collect()
    }

    /// The first line of a replica says that it listens.
    fn await_replica(&mut self, number: usize) {
        let stdout = self.slot(number).as_mut().and_then(|child| child.stdout.take()).expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("it speaks");
        assert!(!line.is_empty(), "the service does not start: {:?}", self.said());
    }

    /// Nothing is killed any more: what is under way comes to an end, then all are stopped but the database.
    pub fn settle(&mut self) {
        self.points.iter().for_each(Points::disarm);
        let until = Instant::now() + SETTLE;
        while Instant::now() < until {
            self.mend();
            std::thread::sleep(Duration::from_millis(200));
        }
        let clients = (0..CLIENTS as usize).map(Target::Client);
        for target in clients.chain((0..REPLICAS).map(Target::Replica)) {
            self.kill(target);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let clients = (0..CLIENTS as usize).map(Target::Client);
        for target in clients.chain((0..REPLICAS).map(Target::Replica)) {
            self.kill(target);
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
