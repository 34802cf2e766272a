//! A world for whole rounds: an authority, an aggregator on a real database and port, clients over real HTTP, and what
//! each client wrote down before it masked.
//!
//! The aggregator runs on a runtime of its own: when that is shut down nothing of it lives on, as after a crash.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use veilsum_aggregator::clock::{Clock, SystemClock};
use veilsum_aggregator::http::admin::AdminToken;
use veilsum_aggregator::round::{Rounds, ServiceKeys, View, learn};
use veilsum_aggregator::service::{AdminSetup, Service, Setup, StartError};
use veilsum_aggregator::store::seal::ServiceKey;
use veilsum_aggregator::store::sql::{self, SqlStore};
use veilsum_aggregator::store::{LedgerRow, Store as _};
use veilsum_aggregator::task::{FORMAT, Task, TaskFile};
use veilsum_client::config::{Identity, Join};
use veilsum_client::transport::{HttpTransport, Reply, Traffic, TransportError};
use veilsum_client::{LocalWork, Participant, ParticipantError, RoundOutcome, Transport};
use veilsum_crypto::client::{Membership, Moment as Clocks, Policy};
use veilsum_crypto::ids::{ClientId, Digest, RoundId, Timestamp};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::{Bitmap, Certificate, Header, RoundResult, Survivors};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey, Signed, Statement};
use veilsum_crypto::server::{PhaseKind, StatementKind};
use veilsum_crypto::testing::os_rng;
use veilsum_crypto::transparency::checkpoint::CheckpointKey;
use veilsum_crypto::update::ModelUpdate;

use crate::postgres::Schema;

/// What the admin API of every world asks for.
pub const ADMIN_TOKEN: [u8; 32] = [0x7d; 32];
/// Longer than any round of a test takes, also on a machine that is busy.
const ROUND_MAX: Duration = Duration::from_secs(90);
/// How long one read waits at the aggregator: short, so that clients notice a new one soon.
const READ_WAIT: Duration = Duration::from_secs(2);

/// Which engine a world stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// A file in the world's folder.
    Sqlite,
    /// A schema of its own, `harness/postgres.rs`.
    Postgres,
}

/// What a world looks like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Certified clients; all are invited.
    pub clients: u32,
    /// Fewest of a roster.
    pub roster_min: u32,
    /// gamma.
    pub corrupt_fraction: f64,
    /// delta.
    pub dropout_tolerance: f64,
    /// Guaranteed noise over the clip norm.
    pub noise_multiplier: f64,
    /// Rounds of the task.
    pub rounds: u64,
    /// What the task may give away.
    pub budget_epsilon: f64,
    /// Coordinates of the model.
    pub model_len: u32,
    /// Every phase stays open at least so long, unless all came.
    pub window_ms: u32,
    /// A phase waits so long after its last message.
    pub grace_ms: u64,
    /// The engine.
    pub engine: Engine,
}

impl Shape {
    /// So many clients, as many losses as so few can bear, and windows that nobody honest misses.
    pub fn of(clients: u32) -> Self {
        let dropout_tolerance = match clients {
            0..=4 => 0.0,
            5..=7 => 0.2,
            _ => 0.25,
        };
        Self {
            clients,
            roster_min: clients - (f64::from(clients) * dropout_tolerance) as u32,
            corrupt_fraction: 0.05,
            dropout_tolerance,
            noise_multiplier: 1.0,
            rounds: 1,
            budget_epsilon: 1e6,
            model_len: 8,
            window_ms: 1_200,
            grace_ms: 600,
            engine: Engine::Sqlite,
        }
    }

    /// The same, where phases close when all have spoken and never by time.
    pub fn patient(clients: u32) -> Self {
        Self { window_ms: 60_000, ..Self::of(clients) }
    }
}

/// A certified client, as its identity file has it.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Its id.
    pub id: ClientId,
    seed: [u8; 32],
    certificate: Certificate,
    /// Its journal.
    pub state: PathBuf,
}

/// An authority, an aggregator, clients, and one task.
pub struct World {
    /// Everything on disk.
    pub folder: TempDir,
    /// Signs certificates.
    pub authority: IdentitySecretKey,
    /// Where the aggregator listens; the same after a restart.
    pub address: SocketAddr,
    /// The task.
    pub task: Task,
    /// What clients insist on.
    pub policy: Policy,
    /// Whom the operator lets read; of the next start.
    pub auditors: Vec<IdentityPublicKey>,
    /// In the order of their numbers.
    pub clients: Vec<Enrolled>,
    /// What each client wrote down last before it masked.
    pub noised: Arc<Mutex<BTreeMap<ClientId, Vec<i64>>>>,
    /// The first model.
    pub model: Vec<f32>,
    clock: Arc<SkippingClock>,
    database: String,
    secrets: [[u8; 32]; 3], // sealing, aggregator, checkpoint
    replica: Option<Replica>,
    _schema: Option<Schema>,
}

struct Replica {
    service: Service,
    runtime: Runtime,
}

impl World {
    /// Enrols, starts, and registers the task; its first round opens at once.
    pub async fn new(shape: Shape) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = IdentitySecretKey::generate(&mut os_rng());
        let secrets = [random(), random(), random()];
        let schema = match shape.engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(Schema::create().await),
        };
        let database = match &schema {
            None => format!("sqlite:{}", folder.path().join("world.sqlite").display()),
            Some(schema) => schema.url(),
        };
        sql::migrate(&database).await.expect("an empty database");
        let task = Task::new(task_file(&shape)).expect("a feasible task");
        let aggregator = IdentitySecretKey::from_bytes(&secrets[1]).public();
        let mut policy = Policy::new(aggregator, authority.public());
        policy.noise_multiplier_min = shape.noise_multiplier;
        policy.budget = task.budget;
        let enrol =
            |number: u32| enrol(&authority, number, shape.clients, folder.path().join(format!("state-{number}")));
        let clients = (0..shape.clients).map(enrol).collect();
        let model: Vec<f32> = (0..shape.model_len).map(|at| at as f32 / 4.0).collect();
        let mut world = Self {
            folder,
            authority,
            address: ([127, 0, 0, 1], 0).into(),
            task,
            policy,
            auditors: Vec::new(),
            clients,
            noised: Arc::default(),
            model,
            clock: Arc::default(),
            database,
            secrets,
            replica: None,
            _schema: schema,
        };
        world.start().await;
        let (file, bytes) = (world.task.file.clone(), learn::to_bytes(&world.model));
        world.rounds().create_task(&file, &bytes).await.expect("a new task");
        world
    }

    /// A second service on the same database and port would be this.
    pub fn setup(&self, listen: SocketAddr) -> Setup {
        let [sealing, aggregator, checkpoint] = &self.secrets;
        Setup {
            database: self.database.clone(),
            sealing: ServiceKey::from_hex(&hex::encode(sealing)).expect("32 bytes").into(),
            keys: ServiceKeys {
                aggregator: IdentitySecretKey::from_bytes(aggregator),
                checkpoint: CheckpointKey::from_bytes(checkpoint),
                origin: "veilsum.test/log".into(),
                authority: self.authority.public(),
                auditors: self.auditors.clone(),
            },
            log_record: None,
            listen,
            operations: None,
            clock: self.clock.clone(),
            retention: None,
            revocations: None,
            admin: Some(AdminSetup { listen: ([127, 0, 0, 1], 0).into(), token: AdminToken::new(&ADMIN_TOKEN) }),
        }
    }

    /// For the aggregator so much time passes at once: what waits for a window is due.
    pub fn skip_ms(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// Starts the aggregator; after the first time on the port it had.
    pub async fn start(&mut self) {
        assert!(self.replica.is_none(), "one replica at a time");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        // The old listener's socket may take a moment to go.
        for attempt in 0.. {
            match runtime.spawn(Service::start(self.setup(self.address))).await.expect("no panic") {
                Ok(service) => {
                    self.address = service.address;
                    self.replica = Some(Replica { service, runtime });
                    return;
                }
                Err(StartError::Listen { .. }) if attempt < 100 => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("the aggregator does not start: {error}"),
            }
        }
    }

    /// The process is gone: nothing is finished, nothing is said, connections break.
    pub fn crash(&mut self) {
        let Replica { service, runtime } = self.replica.take().expect("it runs");
        service.crash();
        runtime.shutdown_background();
    }

    /// The operator stops it: it drains.
    pub async fn stop(&mut self) {
        let Replica { service, runtime } = self.replica.take().expect("it runs");
        runtime.spawn(service.stop()).await.expect("no panic while it drains");
        runtime.shutdown_background();
    }

    /// Copies the embedded database away, while nothing runs on it.
    pub fn backup(&self) -> TempDir {
        assert!(self.replica.is_none(), "a copy of a database in use is none");
        let copy = tempfile::tempdir_in(&self.folder).expect("room");
        for file in self.database_files() {
            std::fs::copy(&file, copy.path().join(file.file_name().expect("a file"))).expect("room");
        }
        copy
    }

    /// Puts a copy back in the database's place.
    pub fn restore(&self, copy: &TempDir) {
        assert!(self.replica.is_none(), "nothing runs on it");
        self.database_files().iter().for_each(|file| std::fs::remove_file(file).expect("ours"));
        for file in std::fs::read_dir(copy).expect("it is there") {
            let file = file.expect("it is there").path();
            std::fs::copy(&file, self.folder.path().join(file.file_name().expect("a file"))).expect("room");
        }
    }

    /// The embedded database and what it keeps beside it.
    pub fn database_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(&self.folder).expect("it is there").map(|file| file.expect("it is there").path());
        let is_ours = |file: &PathBuf| file.to_string_lossy().contains("world.sqlite");
        files.filter(is_ours).collect()
    }

    /// Writes the service's keys as `serve` has them, into its data directory.
    pub fn write_keys(&self, data_dir: &Path) {
        use std::os::unix::fs::OpenOptionsExt as _;
        let folder = data_dir.join("service");
        std::fs::create_dir_all(&folder).expect("room");
        for (name, secret) in ["sealing.key", "aggregator.key", "checkpoint.key"].iter().zip(self.secrets) {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(folder.join(name)).expect("room");
            std::io::Write::write_all(&mut file, hex::encode(secret).as_bytes()).expect("room");
        }
    }

    /// Everything that the embedded database has on disk.
    pub fn database_bytes(&self) -> Vec<u8> {
        self.database_files().iter().flat_map(|file| std::fs::read(file).unwrap_or_default()).collect()
    }

    /// What one query counts, past the aggregator.
    pub async fn count(&self, query: &str) -> i64 {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&self.database).await.expect("the database answers");
        let row = connection.fetch_one(AssertSqlSafe(query.to_string())).await.expect("a query of ours");
        row.get(0)
    }

    /// Runs one statement, past the aggregator: what who has the database can do.
    pub async fn execute(&self, statement: &str) -> u64 {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&self.database).await.expect("the database answers");
        let done = connection.execute(AssertSqlSafe(statement.to_string())).await.expect("a statement of ours");
        done.rows_affected()
    }

    /// Every client starts anew, as a device that was reset.
    pub fn forget_clients(&self) {
        self.clients.iter().for_each(|client| {
            let _ = std::fs::remove_file(&client.state); // it may never have taken part
        });
    }

    /// Signs anything as the aggregator: who lies in its place has its keys.
    pub fn signed(&self, statement: &Statement) -> Vec<u8> {
        statement.clone().sign(&IdentitySecretKey::from_bytes(&self.secrets[1])).encode()
    }

    /// The rounds of the running replica.
    pub fn rounds(&self) -> &Arc<Rounds<SqlStore>> {
        &self.replica.as_ref().expect("it runs").service.rounds
    }

    /// Where the admin API of the running replica answers.
    pub fn admin(&self) -> SocketAddr {
        self.replica.as_ref().expect("it runs").service.admin.expect("every world has one")
    }

    /// The id of the round with this counter, once it is open.
    pub async fn round(&self, counter: u64) -> RoundId {
        self.header(counter).await.round()
    }

    /// The header with this counter, once it is open.
    pub async fn header(&self, counter: u64) -> Header {
        let header = self.rounds().newest_header(self.task.id, counter - 1, ROUND_MAX).await.expect("a known task");
        let signed = Signed::decode(&header.expect("the round opens"), labels::HEADER).expect("a header");
        let header = Header::from_statement(signed.statement()).expect("a header");
        assert_eq!(header.counter, counter, "rounds are looked at one after another");
        header
    }

    /// Waits until a round is in this phase, or past it.
    pub async fn reached(&self, round: RoundId, phase: PhaseKind) -> Arc<View> {
        let waiting = async {
            loop {
                let view = self.rounds().view(round).await.expect("a known round");
                if view.phase.kind() >= phase {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(ROUND_MAX, waiting)
            .await
            .unwrap_or_else(|_| panic!("round {round} never came to {phase:?}"))
    }

    /// Waits until a round is published or abandoned.
    pub async fn over(&self, round: RoundId) -> Arc<View> {
        self.reached(round, PhaseKind::Published).await
    }

    /// Messages admitted so far in the phase that is open.
    pub async fn admitted(&self, round: RoundId) -> u32 {
        let standing = self.rounds().store().standing().await.expect("the store answers");
        standing.iter().find(|stand| stand.round == round).map_or(0, |stand| stand.clients)
    }

    /// How many bodies of a client stand in a phase: one or none.
    pub async fn admitted_bodies(&self, round: RoundId, phase: PhaseKind, client: ClientId) -> usize {
        let bodies = self.rounds().store().bodies(round, phase, Some(&[client])).await;
        bodies.expect("the store answers").len()
    }

    /// Which charges stand.
    pub async fn ledger(&self) -> Vec<LedgerRow> {
        self.rounds().store().ledger(self.task.id).await.expect("the store answers")
    }

    /// Whom a round named, and by which rule.
    pub async fn named(&self, round: RoundId) -> Vec<(ClientId, u8)> {
        let faults = self.rounds().store().faults(round).await.expect("the store answers");
        faults.into_iter().map(|fault| (fault.client, fault.rule)).collect()
    }

    /// The survivors under the aggregator's signature, as clients verify it.
    pub async fn survivors(&self, round: RoundId) -> Vec<ClientId> {
        let view = self.rounds().view(round).await.expect("a known round");
        let roster = view.phase.assembly().expect("there was a roster").roster().clone();
        let served = self.rounds().statement(round, StatementKind::Survivors).await.expect("they were fixed");
        let signed = Signed::decode(&served, labels::SURVIVORS).expect("a survivor list");
        assert!(signed.is_by(&self.policy.aggregator), "signed by the aggregator");
        let survivors = Survivors::from_statement(signed.statement().clone(), roster.n()).expect("in form");
        let members: &Bitmap = survivors.members();
        members.leaves().map(|leaf| roster.client(leaf)).collect()
    }

    /// The sum under the aggregator's signature; `None` if there is none.
    pub async fn released(&self, round: RoundId) -> Option<RingVector> {
        let served = self.rounds().statement(round, StatementKind::Result).await.ok()?;
        let mut reader = Reader::new(&served);
        let signed = Signed::read(&mut reader, labels::RESULT).expect("a result");
        assert!(signed.is_by(&self.policy.aggregator), "signed by the aggregator");
        let result = RoundResult::from_statement(signed.statement().clone()).expect("in form");
        let packed = reader.rest();
        if packed.is_empty() {
            return None;
        }
        assert!(result.is_sum(packed), "the digest is that of the sum");
        let params = &self.task.params;
        Some(RingVector::unpack(packed, params.vector_len as usize, params.ring_bits).expect("a vector of this task"))
    }

    /// The plain sum, in the ring, of what these clients wrote down.
    pub fn plain_sum(&self, clients: &[ClientId]) -> RingVector {
        let params = &self.task.params;
        let noised = self.noised.lock().expect("no panic");
        let mut sum = RingVector::zeros(params.vector_len as usize, params.ring_bits);
        for client in clients {
            let values = noised.get(client).unwrap_or_else(|| panic!("{client} is in the sum and never masked"));
            sum.add_assign(&RingVector::from_signed(values, params.ring_bits)).expect("one ring");
        }
        sum
    }

    /// The round ends with the exact sum of exactly these clients.
    pub async fn is_exact_sum_of(&self, round: RoundId, expected: &[ClientId]) {
        let view = self.over(round).await;
        assert_eq!(view.phase.kind(), PhaseKind::Published, "released, not {:?}", view.gone());
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(self.survivors(round).await, expected, "who is in the sum");
        let sum = self.released(round).await.expect("a sum");
        assert!(sum == self.plain_sum(&expected), "the sum is not that of the survivors, bit for bit");
    }

    /// The round ends abandoned, for this reason, with nothing released and charged or not.
    pub async fn is_abandoned(&self, round: RoundId, word: &str, is_charged: bool) {
        let view = self.over(round).await;
        let gone = view.gone().expect("it is over").to_string();
        assert_eq!(gone.split(':').next(), Some(word), "{gone}");
        assert_eq!(self.released(round).await, None, "nothing is released");
        let counter = view.facts.header.counter;
        let row = self.ledger().await.into_iter().find(|row| row.counter == counter);
        assert_eq!(row.is_some_and(|row| row.spent), is_charged, "charged if and only if masking had opened");
    }

    /// Clients by number.
    pub fn ids(&self, numbers: impl IntoIterator<Item = usize>) -> Vec<ClientId> {
        numbers.into_iter().map(|number| self.clients[number].id).collect()
    }

    /// What every client joins.
    pub fn join(&self) -> Join {
        let (aggregator, authority) = (self.policy.aggregator, self.policy.authority);
        let mut join = Join::new(&format!("http://{}", self.address), self.task.id, aggregator, authority);
        join.policy = self.policy.clone();
        join
    }

    /// A client's identity file.
    pub fn identity(&self, number: usize) -> Identity {
        let Enrolled { seed, certificate, .. } = &self.clients[number];
        Identity::new(IdentitySecretKey::from_bytes(seed), certificate.clone(), saving_key(number))
            .expect("its own key")
    }

    /// A client as its phases know it.
    pub fn membership(&self, number: usize) -> Arc<Membership> {
        let Enrolled { seed, certificate, .. } = &self.clients[number];
        let identity = IdentitySecretKey::from_bytes(seed);
        Arc::new(Membership { identity, certificate: certificate.clone(), policy: self.policy.clone() })
    }

    /// Gives a client another certificate.
    pub fn recertify(
        &mut self,
        number: usize,
        authority: &IdentitySecretKey,
        change: impl FnOnce(&mut CertificateBody),
    ) {
        let client = &mut self.clients[number];
        let mut body = *client.certificate.body();
        change(&mut body);
        client.certificate = Certificate::issue(body, authority);
    }

    /// Gives a client new keys, under its id.
    pub fn enrol_again(&mut self, number: usize, change: impl FnOnce(&mut CertificateBody)) {
        let key = IdentitySecretKey::generate(&mut os_rng());
        let authority = IdentitySecretKey::from_bytes(&self.authority.to_bytes());
        self.clients[number].seed = *key.to_bytes();
        self.recertify(number, &authority, |body| {
            body.identity = key.public();
            change(body);
        });
    }

    /// The work of a client, for tests that drive it themselves.
    pub fn unit(&self, number: usize) -> Arc<Mutex<impl LocalWork + use<>>> {
        Arc::new(Mutex::new(Unit { at: number, value: 1.0 }))
    }

    /// One client takes part in one round, on a task of its own.
    pub fn send(&self, number: usize, line: Line) -> Running {
        self.send_with(number, 1.0, line)
    }

    /// The same, with another value at its coordinate.
    pub fn send_with(&self, number: usize, value: f32, line: Line) -> Running {
        self.start_client(number, value, 0, line)
    }

    /// The same, by a wall clock that is set so much later than this machine's.
    pub fn send_at(&self, number: usize, skew_us: i64, line: Line) -> Running {
        self.start_client(number, 1.0, skew_us, line)
    }

    fn start_client(&self, number: usize, value: f32, skew_us: i64, line: Line) -> Running {
        let line = Arc::new(line);
        let (identity, join, state) = (self.identity(number), self.join(), self.clients[number].state.clone());
        let (transport, noised, client) = (line.clone(), self.noised.clone(), self.clients[number].id);
        let work = Arc::new(Mutex::new(Unit { at: number, value }));
        let played = async move {
            let participant = Participant::open(identity, join, &state, transport.clone()).await?;
            let mut participant = participant.with_read_wait(READ_WAIT).on_noised(move |values| {
                noised.lock().expect("no panic").insert(client, values.to_vec());
            });
            if skew_us != 0 {
                let start = std::time::Instant::now();
                participant = participant.with_clock(Arc::new(move || Clocks {
                    wall: Timestamp(SystemClock.now().0.saturating_add_signed(skew_us)),
                    monotonic_ms: start.elapsed().as_millis() as u64,
                }));
            }
            // Whichever comes first: dropping the round's future is what a crash is.
            tokio::select! {
                () = transport.lost.notified() => Ok::<_, ParticipantError>(None),
                outcome = participant.take_part(&work) => Ok(Some(outcome?)),
            }
        };
        let ended = tokio::spawn(async move {
            match played.await {
                Ok(None) => Ending::Lost,
                Ok(Some(outcome)) => Ending::Outcome(outcome),
                Err(error) => Ending::Failed(error),
            }
        });
        Running { line, ended }
    }

    /// A line to this world's aggregator.
    pub fn line(&self) -> Line {
        self.line_to(self.address)
    }

    /// A line to another replica.
    pub fn line_to(&self, address: SocketAddr) -> Line {
        self.line_over(HttpTransport::new(&format!("http://{address}")).expect("an address"))
    }

    /// A line over a transport that a test made.
    pub fn line_over(&self, inner: HttpTransport) -> Line {
        Line {
            inner,
            fate: None,
            gate: None,
            sent: Mutex::default(),
            is_over: AtomicBool::new(false),
            lost: Notify::new(),
        }
    }

    /// Everybody takes part in one round, some lost on the way; how it ended for each.
    pub async fn play(&self, losses: &[(usize, Fate)]) -> Vec<Ending> {
        let fate = |number| losses.iter().find(|(lost, _)| *lost == number).map(|(_, fate)| *fate);
        let running: Vec<Running> = (0..self.clients.len())
            .map(|number| self.send(number, Line { fate: fate(number), ..self.line() }))
            .collect();
        let mut endings = Vec::new();
        for running in running {
            endings.push(running.end().await);
        }
        endings
    }
}

/// The system's clock, and what was skipped.
#[derive(Debug, Default)]
struct SkippingClock(AtomicU64);

impl Clock for SkippingClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_ms(self.0.load(Ordering::SeqCst))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(Replica { runtime, .. }) = self.replica.take() {
            runtime.shutdown_background();
        }
    }
}

/// A task named by chance.
pub fn task_file(shape: &Shape) -> TaskFile {
    TaskFile {
        format: FORMAT.into(),
        name: format!("test-{}", hex::encode(random())),
        rounds: shape.rounds,
        invited: shape.clients,
        roster_min: shape.roster_min,
        roster_max: shape.clients,
        cohort_min: None,
        corrupt_fraction: shape.corrupt_fraction,
        dropout_tolerance: shape.dropout_tolerance,
        security_bits: 80,
        completion_bits: 30,
        model_len: shape.model_len,
        layout: "00".repeat(32),
        weight_max: 0,
        clip_norm: 2.0,
        scale: 165.0,
        noise_multiplier: shape.noise_multiplier,
        wrap_bits: 40,
        dp_delta: 1e-5,
        budget_epsilon: shape.budget_epsilon,
        windows_ms: [shape.window_ms; 7],
        grace_ms: shape.grace_ms,
        server_rate: [1.5, 0.5],
        query: None,
    }
}

fn enrol(authority: &IdentitySecretKey, number: u32, group_size: u32, state: PathBuf) -> Enrolled {
    let seed = random();
    let id = veilsum_crypto::testing::client_id(number);
    let now = SystemClock.now();
    let body = CertificateBody {
        client: id,
        identity: IdentitySecretKey::from_bytes(&seed).public(),
        group: 0,
        group_size,
        not_before: Timestamp(now.0 - 60_000_000),
        not_after: now.plus_ms(24 * 60 * 60 * 1_000),
    };
    Enrolled { id, seed, certificate: Certificate::issue(body, authority), state }
}

fn saving_key(number: usize) -> [u8; 32] {
    [number as u8 + 1; 32]
}

/// 32 random bytes.
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Trivial work: one value at the client's own coordinate, 0 elsewhere.
struct Unit {
    at: usize,
    value: f32,
}

impl LocalWork for Unit {
    fn suits(&mut self, _: &Header) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(()) // of any length
    }

    fn train(
        &mut self,
        header: &Header,
        model: &[u8],
    ) -> Result<ModelUpdate, Box<dyn std::error::Error + Send + Sync>> {
        assert_eq!(sha256(model), header.model_hash, "the model trained from is the one in the header");
        let mut values = vec![0.0; header.params.vector_len as usize];
        let at = self.at % values.len();
        values[at] = self.value;
        Ok(ModelUpdate::new(values)?)
    }
}

/// A client that is on its way through a round.
pub struct Running {
    /// What it sent.
    pub line: Arc<Line>,
    ended: JoinHandle<Ending>,
}

impl Running {
    /// How it ended.
    pub async fn end(self) -> Ending {
        let ended = tokio::time::timeout(ROUND_MAX, self.ended).await;
        ended.expect("a round ends in time").expect("no client panics")
    }

    /// Ends its task now, wherever it is; afterwards it writes nothing more.
    pub async fn abort(self) -> Arc<Line> {
        self.ended.abort();
        let _ = self.ended.await; // dropped, or at its end just then
        self.line
    }
}

/// How a client's task ended.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one a client")]
pub enum Ending {
    /// It saw the end of the round.
    Outcome(RoundOutcome),
    /// Its task was dropped.
    Lost,
    /// It gave up.
    Failed(ParticipantError),
}

impl Ending {
    /// The reason with which the aggregator turned it away.
    pub fn abandoned(&self) -> Option<&str> {
        match self {
            Self::Outcome(RoundOutcome::Abandoned { reason, .. }) => Some(reason),
            _ => None,
        }
    }

    /// The sum that it verified.
    pub fn verified(&self) -> Option<&RingVector> {
        match self {
            Self::Outcome(RoundOutcome::Verified { sum, .. }) => sum.as_ref(),
            _ => None,
        }
    }
}

/// Where a client is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    /// As in addresses.
    pub phase: &'static str,
    /// At which await of it.
    pub moment: Moment,
}

/// The awaits around a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// It was written down and is not sent.
    BeforeSending,
    /// It arrived and its reply is lost.
    AfterSending,
}

/// Lets so many messages of one phase through, and holds the others until it is opened.
#[derive(Clone)]
pub struct Gate {
    phase: &'static str,
    permits: Arc<Semaphore>,
}

impl Gate {
    /// A gate that lets `count` messages pass.
    pub fn letting(count: usize, phase: &'static str) -> Self {
        Self { phase, permits: Arc::new(Semaphore::new(count)) }
    }

    /// Everybody may pass.
    pub fn open(&self) {
        self.permits.add_permits(10_000);
    }

    async fn pass(&self) {
        self.permits.acquire().await.expect("it is never closed").forget();
    }
}

/// HTTP that remembers what was sent, and can end its client's task at one await.
pub struct Line {
    inner: HttpTransport,
    fate: Option<Fate>,
    gate: Option<Gate>,
    sent: Mutex<Vec<(String, Vec<u8>)>>,
    is_over: AtomicBool,
    lost: Notify,
}

impl Line {
    /// The same, ending its client's task there.
    pub fn ending_at(self, fate: Fate) -> Self {
        Self { fate: Some(fate), ..self }
    }

    /// The same, with one phase's messages behind a gate.
    pub fn behind(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    /// Every body that was to be sent in a phase, in order, repetitions included.
    pub fn sent(&self, phase: &str) -> Vec<Vec<u8>> {
        let sent = self.sent.lock().expect("no panic");
        sent.iter().filter(|(of, _)| of == phase).map(|(_, body)| body.clone()).collect()
    }

    /// Every phase in which something was to be sent, in order.
    pub fn phases(&self) -> Vec<String> {
        let mut phases: Vec<String> =
            self.sent.lock().expect("no panic").iter().map(|(phase, _)| phase.clone()).collect();
        phases.dedup();
        phases
    }

    /// Ends the client's task here, if this is where it is to end.
    async fn may_end(&self, phase: &str, moment: Moment) {
        let ends = self.fate.is_some_and(|fate| fate.phase == phase && fate.moment == moment);
        if ends && !self.is_over.swap(true, Ordering::SeqCst) {
            self.lost.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

impl Transport for Line {
    async fn get(
        &self,
        path: &str,
        permit: Option<&[u8]>,
        wait: Duration,
        limit_bytes: usize,
    ) -> Result<Reply, TransportError> {
        // Outside the agreement set nobody sends a confirmation: there the task ends when it asks for those of others.
        if path.ends_with("/confirmations") {
            self.may_end("confirm", Moment::BeforeSending).await;
            self.may_end("confirm", Moment::AfterSending).await;
        }
        self.inner.get(path, permit, wait, limit_bytes).await
    }

    async fn put(&self, path: &str, body: Vec<u8>) -> Result<Reply, TransportError> {
        let phase = path.split('/').nth(4).unwrap_or_default().to_string();
        self.sent.lock().expect("no panic").push((phase.clone(), body.clone()));
        self.may_end(&phase, Moment::BeforeSending).await;
        if let Some(gate) = self.gate.as_ref().filter(|gate| gate.phase == phase) {
            gate.pass().await;
        }
        let reply = self.inner.put(path, body).await;
        if reply.as_ref().is_ok_and(|reply| reply.status == 204) {
            self.may_end(&phase, Moment::AfterSending).await;
        }
        reply
    }

    fn traffic(&self) -> &Traffic {
        self.inner.traffic()
    }
}
