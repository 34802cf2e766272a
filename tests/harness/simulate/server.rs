//! Replicas of the aggregator on one store: started, crashed, started again. Requests come in as HTTP requests do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use tokio::task::{AbortHandle, JoinHandle};
use tower::ServiceExt as _;
use veilsum_aggregator::clock::Clock;
use veilsum_aggregator::host::{Chance, Host, Workers};
use veilsum_aggregator::http;
use veilsum_aggregator::round::{self, Rounds, ServiceKeys, learn};
use veilsum_aggregator::store::Store as _;
use veilsum_aggregator::task::{Task, TaskFile};
use veilsum_crypto::ids::{TaskId, Timestamp};
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey, Statement};
use veilsum_crypto::server::StatementKind;
use veilsum_crypto::testing::NOON;
use veilsum_crypto::transparency::checkpoint::CheckpointKey;
use zeroize::Zeroizing;

use super::Sim;
use super::store::FaultyStore;
use crate::dice::Dice;
use crate::memory_store::MemoryStore;

/// All replicas, and what survives them.
pub struct Servers {
    /// What is durable.
    pub store: Arc<MemoryStore>,
    /// The task.
    pub task: TaskId,
    /// Whose statements count.
    pub aggregator: IdentityPublicKey,
    /// Certifies the clients; no replica has it.
    pub authority: IdentitySecretKey,
    sim: Arc<Sim>,
    signing: Zeroizing<[u8; 32]>,
    checkpoint: Zeroizing<[u8; 32]>,
    replicas: Mutex<Vec<Slot>>,
    seed: u64,
}

/// A place where a replica runs, or ran.
#[derive(Default)]
struct Slot {
    running: Option<Replica>,
    starts: u64,
}

struct Replica {
    router: Router,
    is_dead: Arc<AtomicBool>,
    watching: JoinHandle<()>,
    requests: Vec<AbortHandle>,
}

/// A replica's chance.
struct ReplicaChance(Mutex<Dice>);

impl Chance for ReplicaChance {
    fn draw(&self) -> Result<[u8; 32], String> {
        Ok(self.0.lock().expect("one thread").bytes())
    }
}

/// A replica's wall clock, which may jump.
struct ReplicaClock {
    sim: Arc<Sim>,
    replica: usize,
}

impl Clock for ReplicaClock {
    fn now(&self) -> Timestamp {
        let now_ms = self.sim.now_ms();
        let jumps = self
            .sim
            .plan
            .replica_clocks
            .iter()
            .filter(|(replica, at_ms, _)| *replica == self.replica && *at_ms <= now_ms);
        let ahead_ms: i64 = jumps.map(|(_, _, ahead_ms)| ahead_ms).sum();
        Timestamp(NOON.plus_ms(now_ms).0.saturating_add_signed(ahead_ms * 1_000))
    }
}

impl Servers {
    /// Creates the task, starts every replica and sees to their crashes.
    pub async fn start(sim: Arc<Sim>, dice: &mut Dice) -> Arc<Self> {
        let store = Arc::new(MemoryStore::default());
        let signing = IdentitySecretKey::generate(dice);
        let file: &TaskFile = &sim.plan.task;
        let task = Task::new(file.clone()).expect("the plan drew a feasible one");
        let model = learn::zeros(file.model_len);
        store.create_task(task.id, &task.text, &model, NOON).await.expect("memory answers");
        let servers = Arc::new(Self {
            store,
            task: task.id,
            aggregator: signing.public(),
            authority: IdentitySecretKey::generate(dice),
            signing: signing.to_bytes(),
            checkpoint: CheckpointKey::generate(dice).to_bytes(),
            replicas: Mutex::new((0..sim.plan.replicas).map(|_| Slot::default()).collect()),
            seed: dice.below(u64::MAX),
            sim,
        });
        for replica in 0..servers.sim.plan.replicas {
            servers.run(replica);
        }
        for (replica, away) in servers.sim.plan.replica_crashes.clone() {
            let servers = servers.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(away.from_ms)).await;
                servers.crash(replica);
                tokio::time::sleep(Duration::from_millis(away.until_ms - away.from_ms)).await;
                servers.run(replica);
            });
        }
        servers
    }

    /// A statement as any replica signs it.
    pub fn sign(&self, bytes: &[u8], kind: StatementKind) -> Vec<u8> {
        let statement = Statement::decode(bytes, kind.label()).expect("as it was fixed");
        statement.sign(&IdentitySecretKey::from_bytes(&self.signing)).encode()
    }

    fn run(&self, replica: usize) {
        let mut replicas = self.replicas.lock().expect("one thread");
        let slot = &mut replicas[replica];
        if slot.running.is_some() {
            return;
        }
        slot.starts += 1;
        let stream =
            |purpose: &str| Dice::new(self.seed, &format!("{purpose} of replica {replica}, start {}", slot.starts));
        let store = FaultyStore::new(self.sim.clone(), self.store.clone(), replica, stream("store"));
        let is_dead = store.is_dead.clone();
        let keys = ServiceKeys {
            aggregator: IdentitySecretKey::from_bytes(&self.signing),
            checkpoint: CheckpointKey::from_bytes(&self.checkpoint),
            origin: "simulation.invalid/log".to_string(),
            authority: self.authority.public(),
            auditors: Vec::new(),
        };
        let host = Host {
            clock: Arc::new(ReplicaClock { sim: self.sim.clone(), replica }),
            chance: Arc::new(ReplicaChance(Mutex::new(stream("nonces")))),
            workers: Workers::Caller,
        };
        let rounds = Rounds::new(Arc::new(store), keys, host);
        let router = http::router(rounds.clone());
        let watching = tokio::spawn(round::run(rounds));
        slot.running = Some(Replica { router, is_dead, watching, requests: Vec::new() });
        self.sim.note(format_args!("replica {replica} starts"));
    }

    /// As if the process were killed: what it waits for never comes, what it was asked is never answered.
    fn crash(&self, replica: usize) {
        let Some(killed) = self.replicas.lock().expect("one thread")[replica].running.take() else { return };
        killed.is_dead.store(true, Ordering::SeqCst);
        killed.watching.abort();
        killed.requests.iter().for_each(AbortHandle::abort);
        self.sim.fault("replica crash", replica);
    }

    /// The replicas that run.
    pub fn running(&self) -> Vec<usize> {
        let replicas = self.replicas.lock().expect("one thread");
        replicas.iter().enumerate().filter(|(_, slot)| slot.running.is_some()).map(|(replica, _)| replica).collect()
    }

    /// One request to one replica: status and body; `None` if it crashed first, or does not run.
    pub async fn ask(&self, replica: usize, request: axum::http::Request<Body>) -> Option<(u16, Vec<u8>)> {
        let handled = {
            let mut replicas = self.replicas.lock().expect("one thread");
            let running = replicas[replica].running.as_mut()?;
            let router = running.router.clone();
            let handled = tokio::spawn(async move {
                let response = router.oneshot(request).await.expect("a router answers everything");
                let status = response.status().as_u16();
                let body = response.into_body().collect().await.expect("bodies in memory").to_bytes();
                (status, body.to_vec())
            });
            running.requests.retain(|request| !request.is_finished());
            running.requests.push(handled.abort_handle());
            handled
        };
        match handled.await {
            Ok(answer) => Some(answer),
            Err(error) if error.is_panic() => {
                self.sim.violation(format_args!("a handler panicked: {error}"));
                None
            }
            Err(_) => None,
        }
    }

    /// Returns when every round of the task is over, looking at what must only grow meanwhile.
    pub async fn until_over(&self) {
        loop {
            super::watch::growth(&self.sim, &self.store, self.task).await;
            let tasks = self.store.tasks().await.expect("memory answers");
            if tasks.iter().all(|row| !row.open && row.counter == self.sim.plan.task.rounds) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
