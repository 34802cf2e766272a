//! A deployment as people run one: `veilsum serve` as a process on either engine, identities and join file on disk, clients as
//! processes of `tests/bin/stepping_client.rs` that stop before each message. All keys are the test's: it knows every secret.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tempfile::TempDir;
use veilsum_aggregator::clock::{Clock as _, SystemClock};
use veilsum_aggregator::task::TaskFile;
use veilsum_client::config::Identity;
use veilsum_crypto::ids::{ClientId, Timestamp};
use veilsum_crypto::messages::Certificate;
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::{client_id, os_rng};

use crate::programs::veilsum_program;
use crate::world::random;

/// Longer than any step takes, also on a machine that is busy.
const STEP_MAX: Duration = Duration::from_secs(120);

/// One enrolled client and its secrets.
#[derive(Debug)]
pub struct Owner {
    /// Its id.
    pub client: ClientId,
    /// Seed of its identity key.
    pub seed: [u8; 32],
    /// Seals its state.
    pub saving_key: [u8; 32],
    /// Its identity file.
    pub identity: PathBuf,
    /// Its state file.
    pub state: PathBuf,
}

/// A running service, and clients that could join.
pub struct Deployment {
    /// Everything on disk.
    pub folder: TempDir,
    /// In the order of their numbers.
    pub owners: Vec<Owner>,
    /// What the service printed when it listened.
    pub serving: serde_json::Value,
    /// The port of health and metrics.
    pub operations: String,
    serve: Child,
}

impl Deployment {
    /// Enrols `clients` and starts the service with this task; its log goes to the file `serve.log` at level `log`.
    pub fn start(clients: u32, task: &TaskFile, log: &str) -> Self {
        Self::start_on(None, clients, task, log)
    }

    /// The same, on a database of the caller's; tables are made.
    pub fn start_on(database: Option<&str>, clients: u32, task: &TaskFile, log: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = IdentitySecretKey::generate(&mut os_rng());
        let owners = (0..clients).map(|number| enrol(&authority, number, clients, folder.path())).collect();
        let operations = format!("127.0.0.1:{}", free_port());
        let file = folder.path().join("task.toml");
        std::fs::write(&file, toml::to_string(task).expect("serialises")).expect("room");
        let data = folder.path().join("data");
        let in_data = || format!("sqlite:{}", data.join("veilsum.sqlite").display());
        let database = database.map_or_else(in_data, str::to_string);
        let config = format!(
            "data_dir = {data:?}\nauthority_key = \"{}\"\nlisten = \"127.0.0.1:0\"\noperations = \"{operations}\"\n\
             admin_listen = \"127.0.0.1:0\"\ndatabase = {database:?}\n[[tasks]]\nfile = {file:?}\n",
            hex::encode(authority.public().as_bytes()),
        );
        std::fs::write(folder.path().join("veilsum.toml"), config).expect("room");
        let stderr = std::fs::File::create(folder.path().join("serve.log")).expect("room");
        let mut serve = Command::new(veilsum_program())
            .args(["serve", "--json", "--migrate", "--config"])
            .arg(folder.path().join("veilsum.toml"))
            .env("RUST_LOG", log)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("it was built");
        let mut line = String::new();
        BufReader::new(serve.stdout.take().expect("piped")).read_line(&mut line).expect("it speaks");
        let serving = serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(folder.path().join("serve.log")).unwrap_or_default();
            panic!("the service does not start: {error}: {line}{log}")
        });
        Self { folder, owners, serving, operations, serve }
    }

    /// SIGKILL for the service; what it left on disk stays.
    pub fn kill(&mut self) {
        self.serve.kill().expect("ours");
        self.serve.wait().expect("ours");
    }

    /// The process of the service.
    pub fn pid(&self) -> u32 {
        self.serve.id()
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        self.serving["listen"].as_str().expect("an address").to_string()
    }

    /// The public file that clients are given.
    pub fn join(&self) -> PathBuf {
        PathBuf::from(self.serving["tasks"][0]["join"].as_str().expect("a path"))
    }

    /// A secret file of the service, as it stands there: 64 digits.
    pub fn service_secret(&self, path: &str) -> [u8; 32] {
        let text = std::fs::read_to_string(self.folder.path().join("data").join(path)).expect("it was made");
        hex::decode(text.trim()).expect("hex").try_into().expect("32 bytes")
    }

    /// A replica of its own: the keys as they stand now, a folder, ports, a log; on the same database. It is ended with the value.
    pub fn replica(&self, name: &str) -> Beside {
        let data = self.folder.path().join(name);
        let (keys, own) = (self.folder.path().join("data/service"), data.join("service"));
        std::fs::create_dir_all(&own).expect("room");
        for entry in std::fs::read_dir(keys).expect("they are there") {
            let file = entry.expect("an entry").path();
            std::fs::copy(&file, own.join(file.file_name().expect("a file"))).expect("room"); // with its mode
        }
        let config = self.folder.path().join("veilsum.toml");
        Beside { data, config, operations: format!("127.0.0.1:{}", free_port()), environment: None, serve: None }
    }

    /// Starts every client; each stops before its first message. What it says of itself at level `log` goes to
    /// `client-<number>.log`.
    pub fn clients(&self, program: &Path, log: &str) -> Stepping {
        let (sender, steps) = channel();
        let client = |(number, owner): (usize, &Owner)| {
            let stderr = self.folder.path().join(format!("client-{number}.log"));
            let mut command = Command::new(program);
            command.args([&owner.identity, &self.join(), &owner.state]).arg(number.to_string()).env("RUST_LOG", log);
            Client::start(command.stderr(std::fs::File::create(stderr).expect("room")), number, sender.clone())
        };
        Stepping { clients: self.owners.iter().enumerate().map(client).collect(), steps }
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        let _ = self.serve.kill();
        let _ = self.serve.wait();
    }
}

/// Another replica of a deployment.
pub struct Beside {
    /// Its data directory.
    pub data: PathBuf,
    /// The port of health and metrics.
    pub operations: String,
    /// One more variable of its environment.
    pub environment: Option<(&'static str, String)>,
    config: PathBuf,
    serve: Option<Child>,
}

impl Beside {
    /// The command that serves.
    pub fn command(&self) -> Command {
        let mut command = Command::new(veilsum_program());
        command.args(["serve", "--json", "--config"]).arg(&self.config).env("VEILSUM_DATA_DIR", &self.data);
        command.env("VEILSUM_OPERATIONS", &self.operations).env("VEILSUM_ADMIN_LISTEN", "127.0.0.1:0");
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command
    }

    /// The configuration that it shares.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Starts it, and waits until it says that it listens, and where; its log goes to `serve.log` in its folder.
    pub fn start(&mut self) -> serde_json::Value {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("room");
        let mut serve = self.command().stdout(Stdio::piped()).stderr(log).spawn().expect("it was built");
        let mut line = String::new();
        BufReader::new(serve.stdout.take().expect("piped")).read_line(&mut line).expect("it speaks");
        self.serve = Some(serve);
        serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("it does not start: {error}: {line}{}", std::fs::read_to_string(self.log()).unwrap_or_default())
        })
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut serve = self.serve.take().expect("it runs");
        serve.kill().expect("ours");
        serve.wait().expect("ours");
    }

    /// What it says.
    pub fn log(&self) -> PathBuf {
        self.data.join("serve.log")
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(serve) = &mut self.serve {
            let _ = serve.kill();
            let _ = serve.wait();
        }
    }
}

/// Clients that stop before each message until they are let go.
pub struct Stepping {
    clients: Vec<Client>,
    steps: Receiver<(usize, String)>,
}

struct Client {
    child: Child,
    stdin: ChildStdin,
}

impl Client {
    fn start(command: &mut Command, number: usize, steps: Sender<(usize, String)>) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it was built");
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if steps.send((number, line)).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin }
    }
}

impl Stepping {
    /// The next stop: which client, and before what.
    pub fn next(&self) -> (usize, String) {
        self.steps.recv_timeout(STEP_MAX).expect("somebody takes a step in time")
    }

    /// Lets a client go on.
    pub fn go(&mut self, number: usize) {
        writeln!(self.clients[number].stdin, "go").expect("it listens");
    }

    /// Ends a client where it stands.
    pub fn lose(&mut self, number: usize) {
        self.clients[number].child.kill().expect("it runs");
        self.clients[number].child.wait().expect("it runs");
    }

    /// Its process.
    pub fn pid(&self, number: usize) -> u32 {
        self.clients[number].child.id()
    }
}

impl Drop for Stepping {
    fn drop(&mut self) {
        for client in &mut self.clients {
            let _ = client.child.kill();
            let _ = client.child.wait();
        }
    }
}

/// Writes an identity file for the client with this number.
pub fn enrol(authority: &IdentitySecretKey, number: u32, group_size: u32, folder: &Path) -> Owner {
    let (seed, saving_key, client) = (random(), random(), client_id(number));
    let now = SystemClock.now();
    let secret = IdentitySecretKey::from_bytes(&seed);
    let body = CertificateBody {
        client,
        identity: secret.public(),
        group: 0,
        group_size,
        not_before: Timestamp(now.0 - 60_000_000),
        not_after: now.plus_ms(24 * 60 * 60 * 1_000),
    };
    let identity = folder.join(format!("identity-{number}.toml"));
    let written = Identity::new(secret, Certificate::issue(body, authority), saving_key).expect("its own key");
    written.write(&identity).expect("room");
    Owner { client, seed, saving_key, identity, state: folder.join(format!("state-{number}")) }
}

/// A port that nobody has at this moment.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound").port()
}
