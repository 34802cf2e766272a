//! Rounds as they run: admission in groups, closing, opening the next. §8
//!
//! Nothing lives here that the store does not hold: views are caches by (round, version), and any number of replicas may
//! do the same work at once. What is decided is decided in `veilsum_crypto::server`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch as signal};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, RoundId, TaskId, Timestamp};
use veilsum_crypto::messages::{Header, RevocationList};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey, Signed, Statement};
use veilsum_crypto::rules::{Abandonment, Rejection};
use veilsum_crypto::server::{self, Admitted, Effect, Phase, PhaseKind, RoundFacts, StatementKind};
use veilsum_crypto::transparency::checkpoint::CheckpointKey;

use crate::host::Host;
use crate::store::{Committed, Store, StoreError, Version};
use crate::task::{Task, TaskFile};

mod admission;
mod export;
pub mod learn;
mod lease;
mod log_tree;
pub mod metrics;
pub mod overview;
mod pulse;
mod revocations;
mod served;
mod views;
mod watch;

use pulse::Pulse;
use served::Shelf;
use views::Views;

pub use watch::{charge_bytes, charge_from_bytes, epsilon_spent, run};

/// The keys that `serve` holds. The authority's is not among them.
#[derive(Debug)]
pub struct ServiceKeys {
    /// Signs the statements of rounds.
    pub aggregator: IdentitySecretKey,
    /// Signs heads of the log, and nothing else.
    pub checkpoint: CheckpointKey,
    /// The log's name in its checkpoints.
    pub origin: String,
    /// Whose certificates count.
    pub authority: IdentityPublicKey,
    /// Who may read rounds beside their participants, R-35.
    pub auditors: Vec<IdentityPublicKey>,
}

/// Why a request cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The sender is wrong.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Other bytes than before.
    #[error("R-{rule:02}: other bytes were admitted from this client in this phase; send the same bytes, or nothing")]
    OtherBytes {
        /// 19 for a masked input, else 3.
        rule: u8,
    },
    /// Another client has the key.
    #[error("R-09: another client of this round brought one of these keys or this identity first")]
    KeyTaken,
    /// The phase or the round is over and nothing was admitted.
    #[error("{0}")]
    Gone(Gone),
    /// No such thing here.
    #[error("there is no such {0} here")]
    Unknown(&'static str),
    /// The operator sent something that cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// The operator sent something that can be read, and cannot be used.
    #[error("{why}")]
    Unacceptable {
        /// The rule broken, if one is.
        rule: Option<u8>,
        /// Why not.
        why: String,
    },
    /// Something else stands in the way of what the operator sent.
    #[error("{why}")]
    Conflict {
        /// The rule that keeps it there, if one does.
        rule: Option<u8>,
        /// What.
        why: String,
    },
    /// No right to read this.
    #[error("R-{rule:02}: {why}")]
    Forbidden {
        /// 35, or 37 for a signature.
        rule: u8,
        /// Why.
        why: &'static str,
    },
    /// Too much at once.
    #[error("the service is busy; send the same bytes again after a moment")]
    Busy,
    /// The service shuts down.
    #[error("the service shuts down; send the same bytes again to the next one")]
    ShuttingDown,
    /// We are at fault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A defect of this program.
    #[error("{0}")]
    Defect(String),
}

impl RoundError {
    /// A task of this name stands, and says something else.
    fn exists_otherwise(file: &TaskFile) -> Self {
        let why = format!("task \"{}\" exists with another file; give the new one another name", file.name);
        Self::Conflict { rule: None, why }
    }
}

/// Why something is gone. wire.md §9 names the words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// The phase is over; the round may go on.
    PhaseClosed,
    /// The round has a result.
    Published,
    /// The round ended without one.
    Abandoned(Abandonment),
    /// It existed.
    Erased,
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gone::PhaseClosed => f.write_str("phase-closed: this phase is over"),
            Gone::Published => f.write_str("published: the round has a result"),
            Gone::Erased => f.write_str("erased: it existed and was erased with the round"),
            Gone::Abandoned(reason) => write!(f, "{}: {reason}", reason.word()),
        }
    }
}

/// A message that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Taken {
    /// Now.
    Fresh,
    /// It was there already, byte for byte.
    Again,
}

/// A round as it stood at one commit.
#[derive(Debug)]
pub struct View {
    /// Which.
    pub round: RoundId,
    /// The commit.
    pub version: Version,
    /// When its phase opened.
    pub opened: Timestamp,
    /// Header and chain.
    pub facts: RoundFacts,
    /// Settled facts.
    pub phase: Phase,
}

impl View {
    /// Why nothing more will come of this round, if so.
    pub fn gone(&self) -> Option<Gone> {
        match &self.phase {
            Phase::Published(_) => Some(Gone::Published),
            Phase::Abandoned(reason, _) => Some(Gone::Abandoned(*reason)),
            _ => None,
        }
    }
}

/// The running rounds of one replica.
pub struct Rounds<S> {
    store: Arc<S>,
    keys: ServiceKeys,
    host: Host,
    tasks: Mutex<BTreeMap<TaskId, Arc<Task>>>,
    views: Views,
    signed: Shelf<(RoundId, StatementKind)>,
    models: Shelf<Digest>,
    published_lists: Shelf<Digest>,
    newest: Mutex<BTreeMap<TaskId, Newest>>,
    /// Held while it is extended: one request reads what is new, the others wait for it.
    log_tree: tokio::sync::Mutex<log_tree::LogTree>,
    /// Revocation lists that headers name.
    lists: Mutex<BTreeMap<Digest, RevocationList>>,
    queues: admission::Queues,
    /// Wakes the watch loop: something was admitted.
    nudge: Notify,
    /// Wakes long polls: something was committed.
    commits: Pulse,
    draining: signal::Sender<bool>,
    metrics: metrics::Metrics,
}

/// A task's newest header, signed, as of one commit.
#[derive(Clone)]
struct Newest {
    generation: u64,
    header: Option<Arc<Vec<u8>>>,
}

/// Bytes of statements, of models, and of lists, each, that stay in memory though nobody reads them.
const KEPT_BYTES: usize = 64 << 20;

impl<S: Store> Rounds<S> {
    /// Over a store that is ready.
    pub fn new(store: Arc<S>, keys: ServiceKeys, host: Host) -> Arc<Self> {
        let started = host.clock.now();
        Arc::new(Self {
            store,
            keys,
            host,
            tasks: Mutex::default(),
            views: Views::new(),
            signed: Shelf::new(KEPT_BYTES),
            models: Shelf::new(KEPT_BYTES),
            published_lists: Shelf::new(KEPT_BYTES),
            newest: Mutex::default(),
            log_tree: tokio::sync::Mutex::default(),
            lists: Mutex::default(),
            queues: admission::Queues::default(),
            nudge: Notify::new(),
            commits: Pulse::default(),
            draining: signal::Sender::new(false),
            metrics: metrics::Metrics::new(started),
        })
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The keys.
    pub fn keys(&self) -> &ServiceKeys {
        &self.keys
    }

    /// Ends long polls and the watch loop; requests in flight are finished.
    pub fn drain(&self) {
        self.draining.send_replace(true);
        self.nudge.notify_waiters();
    }

    /// Whether the service is shutting down.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Returns when the service begins to shut down.
    pub async fn drained(&self) {
        let mut draining = self.draining.subscribe();
        // An error means that the sender is gone, and the service with it.
        let _ = draining.wait_for(|draining| *draining).await;
    }

    /// What can be said of a message before its body is read: the phase is open, and its sender takes part.
    pub async fn expects(
        &self,
        round: RoundId,
        addressed: PhaseKind,
        client: ClientId,
    ) -> Result<Arc<View>, RoundError> {
        let mut view = self.view(round).await?;
        if view.phase.kind() < addressed && view.gone().is_none() {
            view = self.reload(round).await?;
            if view.phase.kind() < addressed {
                return Err(Rejection::PhaseNotOpen.into());
            }
        }
        if let Some(assembly) = view.phase.assembly().filter(|_| addressed != PhaseKind::Advertising) {
            assembly.find(client)?;
        }
        Ok(view)
    }

    /// §8.1: judges a message, writes it down, then answers. A lost reply and a retry on another replica are one case.
    pub async fn accept(
        self: &Arc<Self>,
        round: RoundId,
        addressed: PhaseKind,
        client: ClientId,
        body: Vec<u8>,
    ) -> Result<(), RoundError> {
        let answered = self.take(round, addressed, client, body).await;
        self.metrics.message(addressed, &answered);
        answered.map(|_| ())
    }

    async fn take(
        self: &Arc<Self>,
        round: RoundId,
        addressed: PhaseKind,
        client: ClientId,
        body: Vec<u8>,
    ) -> Result<Taken, RoundError> {
        if self.is_draining() {
            return Err(RoundError::ShuttingDown);
        }
        let mut view = self.view(round).await?;
        // A cached view may be one commit behind: look again before telling a client that it is early.
        if view.phase.kind() < addressed {
            view = self.reload(round).await?;
        }
        let body = Arc::new(body);
        let judged = {
            let (view, body) = (view.clone(), body.clone());
            let judge = move || server::accept(&view.facts, &view.phase, addressed, client, &body);
            self.host.workers.run(judge).await.map_err(RoundError::Defect)?
        };
        let admitted = match judged {
            Ok(accepted) => self.admit(round, addressed, accepted).await?,
            Err(Rejection::PhaseClosed | Rejection::RoundOver) => Admitted::Closed,
            Err(rejection) => {
                tracing::info!(%round, %client, rule = ?rejection.rule(), "message refused");
                self.keep_evidence(&view, addressed, client, Some(&rejection), &body).await?;
                return Err(rejection.into());
            }
        };
        match admitted {
            Admitted::Fresh => {
                self.nudge.notify_one();
                Ok(Taken::Fresh)
            }
            Admitted::Again => Ok(Taken::Again),
            Admitted::OtherBytes => {
                self.keep_evidence(&view, addressed, client, None, &body).await?;
                Err(RoundError::OtherBytes { rule: other_bytes_rule(addressed) })
            }
            Admitted::KeyTaken => Err(RoundError::KeyTaken),
            Admitted::Closed => self.after_closing(round, addressed, client, &body).await.map(|()| Taken::Again),
        }
    }

    /// After closing: the same digest 204, another 409, no row 410.
    async fn after_closing(
        &self,
        round: RoundId,
        phase: PhaseKind,
        client: ClientId,
        body: &[u8],
    ) -> Result<(), RoundError> {
        use sha2::{Digest as _, Sha256};
        match self.store.digest(round, phase, client).await? {
            Some(digest) if digest.0 == <[u8; 32]>::from(Sha256::digest(body)) => Ok(()),
            Some(_) => {
                let view = self.view(round).await?;
                self.keep_evidence(&view, phase, client, None, body).await?;
                Err(RoundError::OtherBytes { rule: other_bytes_rule(phase) })
            }
            None => {
                let view = self.reload(round).await?;
                Err(RoundError::Gone(view.gone().unwrap_or(Gone::PhaseClosed)))
            }
        }
    }

    /// A message that was not admitted: what it proves against its sender is kept, one fault a client and phase. What the
    /// client has not signed itself costs no look into the store.
    async fn keep_evidence(
        &self,
        view: &View,
        phase: PhaseKind,
        client: ClientId,
        refused: Option<&Rejection>,
        message: &[u8],
    ) -> Result<(), RoundError> {
        if !server::is_signed_by(&view.facts, view.phase.assembly(), phase, client, message) {
            return Ok(());
        }
        let sent =
            async |of| Ok::<_, StoreError>(self.store.bodies(view.round, of, Some(&[client])).await?.remove(&client));
        let (leaf, admitted) = (sent(PhaseKind::Advertising).await?, sent(phase).await?);
        let fault = server::blame(phase, client, refused, leaf.as_deref(), admitted.as_deref(), message);
        if let Some(Effect::Fault { client, rule, evidence }) = fault {
            tracing::warn!(round = %view.round, %client, rule, "named by signed evidence");
            self.metrics.named(rule);
            self.store.fault(view.round, phase, client, rule, &evidence).await?;
        }
        Ok(())
    }

    /// Waits until `ready` finds something in the newest view of a round, at most `wait`.
    pub async fn wait_for<T>(
        &self,
        round: RoundId,
        wait: Duration,
        ready: impl Fn(&View) -> Option<T>,
    ) -> Result<Option<T>, RoundError> {
        let mut draining = self.draining.subscribe();
        let end = tokio::time::Instant::now() + wait;
        loop {
            let next = self.commits.next();
            if let Some(found) = ready(&*self.view(round).await?) {
                return Ok(Some(found));
            }
            tokio::select! {
                biased; // what came just in time is served
                () = next => {}
                _ = draining.wait_for(|draining| *draining) => return Ok(None),
                () = tokio::time::sleep_until(end) => return Ok(None),
            }
        }
    }

    /// The newest header of a task above a counter, signed; waits for it.
    pub async fn newest_header(&self, task: TaskId, after: u64, wait: Duration) -> Result<Option<Vec<u8>>, RoundError> {
        if !self.tasks.lock().expect("no panic holds this lock").contains_key(&task) {
            self.load_tasks().await?;
            if !self.tasks.lock().expect("no panic holds this lock").contains_key(&task) {
                return Err(RoundError::Unknown("task"));
            }
        }
        let mut draining = self.draining.subscribe();
        let end = tokio::time::Instant::now() + wait;
        loop {
            let next = self.commits.next();
            if let Some(header) = self.newest(task, after).await? {
                return Ok(Some(header.to_vec()));
            }
            tokio::select! {
                biased; // what came just in time is served
                () = next => {}
                _ = draining.wait_for(|draining| *draining) => return Ok(None),
                () = tokio::time::sleep_until(end) => return Ok(None),
            }
        }
    }

    /// The newest signed header of a task, if its counter is above `after`: one query a commit, however many wait for it.
    async fn newest(&self, task: TaskId, after: u64) -> Result<Option<Arc<Vec<u8>>>, RoundError> {
        let generation = self.commits.beats();
        let cached = self.newest.lock().expect("no panic holds this lock").get(&task).cloned();
        let newest = match cached.filter(|newest| newest.generation == generation) {
            Some(newest) => newest,
            None => {
                let found = self.store.newest_header(task, 0).await?;
                let header =
                    found.map(|(_, bytes)| self.sign(&bytes, StatementKind::Header).map(Arc::new)).transpose()?;
                let newest = Newest { generation, header };
                self.newest.lock().expect("no panic holds this lock").insert(task, newest.clone());
                newest
            }
        };
        let Some(header) = newest.header else { return Ok(None) };
        let signed =
            Signed::decode(&header, labels::HEADER).and_then(|signed| Header::from_statement(signed.statement()));
        let counter = signed.map_err(|error| StoreError::Damaged(error.to_string()))?.counter;
        Ok((counter > after).then_some(header))
    }

    /// Whether the rounds that the store holds are this aggregator's.
    ///
    /// # Errors
    /// [`StoreError::WrongAggregator`].
    pub async fn check_identity(&self) -> Result<(), RoundError> {
        for row in self.store.tasks().await? {
            if let Some((_, header)) = self.store.newest_header(row.task, 0).await? {
                self.sign(&header, StatementKind::Header)?;
            }
        }
        Ok(())
    }

    /// A statement as served. R-30: only what was fixed and read back is signed; Ed25519 is deterministic, so every replica
    /// makes the same signature.
    pub async fn statement(&self, round: RoundId, kind: StatementKind) -> Result<Arc<Vec<u8>>, RoundError> {
        let load = || async {
            let Some((bytes, attachment)) = self.store.statement(round, kind).await? else { return Ok(None) };
            let mut served = self.sign(&bytes, kind)?;
            served.extend_from_slice(&attachment);
            Ok(Some(served))
        };
        self.signed.get((round, kind), load).await?.ok_or(RoundError::Unknown("statement"))
    }

    /// A model's bytes.
    pub async fn model(&self, digest: Digest) -> Result<Arc<Vec<u8>>, RoundError> {
        let load = || async { Ok(self.store.model(digest).await?) };
        self.models.get(digest, load).await?.ok_or(RoundError::Unknown("model"))
    }

    /// A revocation list's signed bytes.
    pub async fn revocation_list(&self, digest: Digest) -> Result<Arc<Vec<u8>>, RoundError> {
        let load = || async { Ok(self.store.revocations(digest).await?) };
        self.published_lists.get(digest, load).await?.ok_or(RoundError::Unknown("revocation list"))
    }

    fn sign(&self, bytes: &[u8], kind: StatementKind) -> Result<Vec<u8>, RoundError> {
        let statement =
            Statement::decode(bytes, kind.label()).map_err(|error| StoreError::Damaged(error.to_string()))?;
        if statement.sender != self.keys.aggregator.public().party() {
            return Err(StoreError::WrongAggregator.into()); // no client would believe it
        }
        Ok(statement.sign(&self.keys.aggregator).encode())
    }

    /// Bodies that clients sent in a phase, by client; those erased are absent.
    pub async fn bodies(
        &self,
        round: RoundId,
        phase: PhaseKind,
        clients: Option<&[ClientId]>,
    ) -> Result<BTreeMap<ClientId, Vec<u8>>, RoundError> {
        Ok(self.store.bodies(round, phase, clients).await?)
    }

    /// The ids at leaves of a round's roster, in the order asked.
    pub fn clients_at(view: &View, leaves: &[LeafIndex]) -> Option<Vec<ClientId>> {
        let assembly = view.phase.assembly()?;
        leaves.iter().map(|leaf| assembly.params().has(*leaf).then(|| assembly.roster().client(*leaf))).collect()
    }

    /// Registers a task with its first model; the same file again changes nothing.
    pub async fn create_task(&self, file: &TaskFile, model: &[u8]) -> Result<TaskId, RoundError> {
        let task = Task::new(file.clone()).map_err(|error| RoundError::Defect(error.to_string()))?;
        if task.query.is_some() {
            learn::is_first_model(&task, model).map_err(|error| RoundError::Defect(error.to_string()))?;
        }
        self.store_task(Arc::new(task), model).await
    }

    /// Registers what was judged already.
    async fn store_task(&self, task: Arc<Task>, model: &[u8]) -> Result<TaskId, RoundError> {
        let id = task.id;
        match self.store.create_task(id, &task.text, model, self.host.clock.now()).await? {
            Committed::Yes => {}
            Committed::Conflict => return Err(RoundError::exists_otherwise(&task.file)),
        }
        self.tasks.lock().expect("no panic holds this lock").entry(id).or_insert(task);
        self.nudge.notify_one();
        Ok(id)
    }

    /// Keeps a model that tasks may begin with; whether it is new.
    pub async fn put_model(&self, digest: Digest, bytes: Vec<u8>) -> Result<bool, RoundError> {
        use sha2::{Digest as _, Sha256};
        let hashed = self.host.workers.run(move || (Digest(Sha256::digest(&bytes).into()), bytes)).await;
        let (found, bytes) = hashed.map_err(RoundError::Defect)?;
        if found != digest {
            return Err(RoundError::Malformed(format!("bytes with SHA-256 {digest} were expected, {found} came")));
        }
        Ok(self.store.put_model(&bytes).await?)
    }

    /// What time it is for this replica.
    pub fn now(&self) -> Timestamp {
        self.host.clock.now()
    }

    /// Takes up the tasks that the store holds. One that this program cannot read stands still, and holds up no other.
    async fn load_tasks(&self) -> Result<(), RoundError> {
        for row in self.store.tasks().await? {
            if self.tasks.lock().expect("no panic holds this lock").contains_key(&row.task) {
                continue;
            }
            match TaskFile::parse(&row.file).and_then(Task::new) {
                Ok(task) => {
                    self.tasks.lock().expect("no panic holds this lock").insert(row.task, Arc::new(task));
                }
                Err(error) => tracing::error!(task = %row.task, %error, "a stored task file cannot be read"),
            }
        }
        Ok(())
    }

    fn task(&self, id: TaskId) -> Option<Arc<Task>> {
        self.tasks.lock().expect("no panic holds this lock").get(&id).cloned()
    }

    /// The longest body that a phase permits in a round. §7.4
    pub fn body_limit(view: &View, phase: PhaseKind) -> usize {
        body_limit(&view.facts.header, view.phase.assembly().map(|assembly| assembly.params().degree), phase)
    }

    /// The log's head as a signed note. §9
    pub async fn checkpoint(&self) -> Result<String, RoundError> {
        let head = self.store.log_head().await?;
        let head = veilsum_crypto::primitives::merkle::TreeHead { size: head.size, root: head.root };
        Ok(self.keys.checkpoint.note(&self.keys.origin, &head))
    }
}

fn other_bytes_rule(phase: PhaseKind) -> u8 {
    if phase == PhaseKind::Masking { 19 } else { 3 }
}

/// Length of a statement without its body: label up to 32 bytes, the fixed fields and the signature.
const STATEMENT_MAX: usize = 1 + 32 + 2 + 64 + 32 + 4 + 64;

fn body_limit(header: &Header, degree: Option<u32>, phase: PhaseKind) -> usize {
    // Before the roster is fixed nothing but adverts is admitted; k is below n.
    let degree = degree.unwrap_or(header.params.roster_max) as usize;
    match phase {
        PhaseKind::Advertising => 2 * (4 + STATEMENT_MAX) + 72 + 128,
        PhaseKind::Sharing => STATEMENT_MAX + 32 + degree * veilsum_crypto::messages::sealed_shares::EDGE_BYTES,
        PhaseKind::Acknowledging => STATEMENT_MAX + 33 * degree + 32,
        PhaseKind::Opening => STATEMENT_MAX + 2 + 68 * degree,
        PhaseKind::Masking => STATEMENT_MAX + 40 + header.params.packed_bytes(),
        PhaseKind::Confirming => STATEMENT_MAX,
        PhaseKind::Unmasking => STATEMENT_MAX + 33 * degree,
        PhaseKind::Published | PhaseKind::Abandoned => 0,
    }
}

impl<S> std::fmt::Debug for Rounds<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rounds(..)")
    }
}
