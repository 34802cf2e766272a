//! The store in memory behind a line that is slow, fails, and loses answers; a crashed replica's line says nothing any more.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use veilsum_aggregator::store::{
    Beats, Committed, FaultRow, Fixed, Holder, Lease, LedgerRow, Loaded, LogHead, NewRound, Purged, Retention,
    RevocationRow, Standing, Store, StoreError, TaskRound, TaskRow, Version,
};
use veilsum_crypto::ids::{ClientId, Digest, Party, RoundId, TaskId, Timestamp};
use veilsum_crypto::server::{Accepted, Admitted, Effect, PhaseKind, Received, StatementKind};

use super::Sim;
use crate::dice::Dice;
use crate::memory_store::MemoryStore;

/// One replica's line to the store that all share.
pub struct FaultyStore {
    /// What all replicas share.
    pub inner: Arc<MemoryStore>,
    /// Which replica.
    pub replica: usize,
    /// Set when the replica crashed: nothing comes back any more.
    pub is_dead: Arc<AtomicBool>,
    sim: Arc<Sim>,
    dice: Mutex<Dice>,
}

impl FaultyStore {
    /// A line of a replica that just started.
    pub fn new(sim: Arc<Sim>, inner: Arc<MemoryStore>, replica: usize, dice: Dice) -> Self {
        Self { inner, replica, is_dead: Arc::default(), sim, dice: Mutex::new(dice) }
    }

    /// Returns while the replica lives, never once it has crashed.
    async fn alive(&self) {
        if self.is_dead.load(Ordering::SeqCst) {
            std::future::pending().await
        }
    }

    async fn pause(&self) {
        let pause_ms = {
            let mut dice = self.dice.lock().expect("one thread");
            let (often, longest_ms) = self.sim.plan.slow_store;
            if dice.permille(often) { dice.between(1, longest_ms) } else { dice.below(3) }
        };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        self.alive().await;
    }

    async fn through<T>(
        &self,
        verb: &'static str,
        act: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.pause().await;
        let fails_over = || {
            let now_ms = self.sim.now_ms();
            self.sim.plan.failovers.iter().any(|stretch| stretch.holds(now_ms))
        };
        if fails_over() {
            self.sim.fault("failover", format_args!("replica {}, {verb}", self.replica));
            return Err(StoreError::Away("the database is being taken over by another".to_string()));
        }
        let (is_away, is_ambiguous) = {
            let mut dice = self.dice.lock().expect("one thread");
            (dice.permille(self.sim.plan.away), dice.permille(self.sim.plan.ambiguous))
        };
        if is_away {
            self.sim.fault("store away", format_args!("replica {}, {verb}", self.replica));
            return Err(StoreError::Away("the line broke before anything was done".to_string()));
        }
        let done = act.await;
        self.pause().await;
        if is_ambiguous || fails_over() {
            self.sim.fault("store ambiguous", format_args!("replica {}, {verb}", self.replica));
            return Err(StoreError::Away("the line broke, and nobody knows what was done".to_string()));
        }
        done
    }
}

impl Store for FaultyStore {
    async fn create_task(
        &self,
        task: TaskId,
        file: &str,
        model: &[u8],
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.through("create_task", self.inner.create_task(task, file, model, now)).await
    }

    async fn tasks(&self) -> Result<Vec<TaskRow>, StoreError> {
        self.through("tasks", self.inner.tasks()).await
    }

    async fn open_round(&self, new: &NewRound) -> Result<Committed, StoreError> {
        let open = async {
            let done = self.inner.open_round(new).await;
            if matches!(done, Ok(Committed::Yes)) {
                super::watch::opened(&self.sim, new.round, PhaseKind::Advertising, new.opened);
            }
            done
        };
        self.through("open_round", open).await
    }

    async fn standing(&self) -> Result<Vec<Standing>, StoreError> {
        self.through("standing", self.inner.standing()).await
    }

    async fn load(&self, round: RoundId) -> Result<Option<Loaded>, StoreError> {
        self.through("load", self.inner.load(round)).await
    }

    async fn admit(
        &self,
        round: RoundId,
        phase: PhaseKind,
        accepted: &[Accepted],
        now: Timestamp,
    ) -> Result<Vec<Admitted>, StoreError> {
        self.through("admit", self.inner.admit(round, phase, accepted, now)).await
    }

    async fn fault(
        &self,
        round: RoundId,
        phase: PhaseKind,
        client: ClientId,
        rule: u8,
        evidence: &[u8],
    ) -> Result<(), StoreError> {
        self.through("fault", self.inner.fault(round, phase, client, rule, evidence)).await
    }

    async fn lease(
        &self,
        round: RoundId,
        version: Version,
        holder: Holder,
        stalled: Option<Beats>,
    ) -> Result<Lease, StoreError> {
        self.through("lease", self.inner.lease(round, version, holder, stalled)).await
    }

    async fn keep_lease(&self, round: RoundId, version: Version, holder: Holder) -> Result<(), StoreError> {
        self.through("keep_lease", self.inner.keep_lease(round, version, holder)).await
    }

    async fn fence(&self, round: RoundId, phase: PhaseKind) -> Result<Received, StoreError> {
        self.through("fence", self.inner.fence(round, phase)).await
    }

    async fn commit(
        &self,
        round: RoundId,
        expected: Version,
        phase: PhaseKind,
        state: &[u8],
        effects: &[Effect],
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let commit = async {
            let done = self.inner.commit(round, expected, phase, state, effects, now).await;
            if matches!(done, Ok(Committed::Yes)) {
                super::watch::opened(&self.sim, round, phase, now);
                let round = super::short_round(&round);
                self.sim.note(format_args!("replica {} commits {phase:?} of round {round}", self.replica));
            }
            done
        };
        self.through("commit", commit).await
    }

    async fn newest_header(&self, task: TaskId, after: u64) -> Result<Option<(RoundId, Vec<u8>)>, StoreError> {
        self.through("newest_header", self.inner.newest_header(task, after)).await
    }

    async fn statement(&self, round: RoundId, kind: StatementKind) -> Result<Option<Fixed>, StoreError> {
        self.through("statement", self.inner.statement(round, kind)).await
    }

    async fn bodies(
        &self,
        round: RoundId,
        phase: PhaseKind,
        clients: Option<&[ClientId]>,
    ) -> Result<BTreeMap<ClientId, Vec<u8>>, StoreError> {
        self.through("bodies", self.inner.bodies(round, phase, clients)).await
    }

    async fn digest(&self, round: RoundId, phase: PhaseKind, client: ClientId) -> Result<Option<Digest>, StoreError> {
        self.through("digest", self.inner.digest(round, phase, client)).await
    }

    async fn mail(&self, round: RoundId, recipient: ClientId) -> Result<Vec<Vec<u8>>, StoreError> {
        self.through("mail", self.inner.mail(round, recipient)).await
    }

    async fn model(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.through("model", self.inner.model(digest)).await
    }

    async fn ledger(&self, task: TaskId) -> Result<Vec<LedgerRow>, StoreError> {
        self.through("ledger", self.inner.ledger(task)).await
    }

    async fn log_head(&self) -> Result<LogHead, StoreError> {
        self.through("log_head", self.inner.log_head()).await
    }

    async fn log_leaves(&self, from: u64, to: u64) -> Result<Vec<Digest>, StoreError> {
        self.through("log_leaves", self.inner.log_leaves(from, to)).await
    }

    async fn faults(&self, round: RoundId) -> Result<Vec<FaultRow>, StoreError> {
        self.through("faults", self.inner.faults(round)).await
    }

    async fn rounds(
        &self,
        task: TaskId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(RoundId, u64, PhaseKind)>, StoreError> {
        self.through("rounds", self.inner.rounds(task, before, limit)).await
    }

    async fn admitted(&self, round: RoundId) -> Result<BTreeMap<PhaseKind, u32>, StoreError> {
        self.through("admitted", self.inner.admitted(round)).await
    }

    async fn has_bodies(&self, round: RoundId) -> Result<bool, StoreError> {
        self.through("has_bodies", self.inner.has_bodies(round)).await
    }

    async fn task_rounds(&self, task: TaskId) -> Result<Vec<TaskRound>, StoreError> {
        self.through("task_rounds", self.inner.task_rounds(task)).await
    }

    async fn put_model(&self, model: &[u8]) -> Result<bool, StoreError> {
        self.through("put_model", self.inner.put_model(model)).await
    }

    async fn put_revocations(&self, row: &RevocationRow) -> Result<Committed, StoreError> {
        self.through("put_revocations", self.inner.put_revocations(row)).await
    }

    async fn newest_revocations(&self, authority: Party) -> Result<Option<RevocationRow>, StoreError> {
        self.through("newest_revocations", self.inner.newest_revocations(authority)).await
    }

    async fn revocations(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.through("revocations", self.inner.revocations(digest)).await
    }

    async fn purge(&self, retention: Retention) -> Result<Purged, StoreError> {
        self.through("purge", self.inner.purge(retention)).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.through("ready", self.inner.ready()).await
    }
}
