//! The one loop of a replica: closes what is due or has enough, opens the next rounds, wakes who waits. §7.1, §8
//!
//! Two replicas may do the same at once; one commit wins. Leases spare them that (`lease.rs`). Nothing is remembered between
//! ticks but caches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use veilsum_crypto::ids::{Digest, RoundId, Timestamp};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::Header;
use veilsum_crypto::primitives::merkle::TreeHead;
use veilsum_crypto::privacy::accountant::RdpCurve;
use veilsum_crypto::privacy::budget::Ledger;
use veilsum_crypto::server::{self, Effect, Phase, PhaseKind, StatementKind};

use super::lease::{self, Leases};
use super::{RoundError, Rounds, View, learn};
use crate::store::{Committed, Holder, NewRound, Standing, Store, StoreError, TaskRow, Version};
use crate::task::Task;

/// How often a replica looks, where nothing wakes it.
const TICK: Duration = Duration::from_millis(50);

/// Runs until the service drains.
pub async fn run<S: Store>(rounds: Arc<Rounds<S>>) {
    let mut memory = None;
    while !rounds.is_draining() {
        if let Err(error) = rounds.tick(&mut memory).await {
            tracing::error!(%error, "a tick failed; the next one tries again");
            rounds.metrics.loop_failed("look");
            tokio::time::sleep(TICK * 10).await;
        }
        tokio::select! {
            biased; // one order of events for one order of causes
            () = rounds.nudge.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// What the loop remembers.
struct Memory {
    /// Rounds at the last tick, and their commits.
    known: BTreeMap<RoundId, Version>,
    leases: Leases,
}

impl<S: Store> Rounds<S> {
    async fn tick(self: &Arc<Self>, memory: &mut Option<Memory>) -> Result<(), RoundError> {
        let Memory { known, leases } = match memory {
            Some(memory) => memory,
            None => memory.insert(Memory { known: BTreeMap::new(), leases: Leases::new(self.draw_holder()?) }),
        };
        let standing = self.store.standing().await?;
        let now: BTreeMap<RoundId, Version> = standing.iter().map(|s| (s.round, s.version)).collect();
        if now != *known {
            // Another replica may have committed, or ended a round: who waits looks again.
            self.raise_floors(known, &now);
            self.commits.beat();
            leases.retain(&now);
            *known = now;
        }
        for stand in &standing {
            // One round that cannot be advanced must not hold up the others.
            if let Err(error) = self.look_at(stand, leases).await {
                tracing::error!(round = %stand.round, %error, "a round could not be advanced; the next tick tries again");
                self.metrics.loop_failed("advance");
            }
        }
        let busy: BTreeSet<_> = standing.iter().map(|stand| stand.task).collect();
        for row in self.store.tasks().await? {
            if row.open || busy.contains(&row.task) {
                continue;
            }
            if let Err(error) = self.open_next(&row).await {
                tracing::error!(task = %row.task, %error, "no round could be opened; the next tick tries again");
                self.metrics.loop_failed("open");
            }
        }
        self.metrics.looked(self.host.clock.now());
        Ok(())
    }

    fn draw_holder(&self) -> Result<Holder, RoundError> {
        let drawn = self.host.chance.draw().map_err(RoundError::Defect)?;
        Ok(Holder(*drawn.first_chunk().expect("16 of 32")))
    }

    /// Closes a round's phase if it is due or has enough, and no other replica is at it.
    async fn look_at(self: &Arc<Self>, stand: &Standing, leases: &mut Leases) -> Result<(), RoundError> {
        let view = self.view(stand.round).await?;
        if view.version != stand.version {
            return Ok(()); // moved on since the query; the next tick sees it
        }
        let invited = self.invited(stand).await?;
        let has_enough = view.phase.enough(invited).is_some_and(|enough| stand.clients >= enough);
        if !has_enough && self.due(&view, stand) > self.host.clock.now() {
            return Ok(());
        }
        let Some(attempts) = leases.take(&*self.store, view.round, view.version).await? else { return Ok(()) };
        self.metrics.closing_begun(attempts);
        if attempts > 1 {
            let phase = view.phase.kind();
            tracing::warn!(round = %view.round, ?phase, attempts, "a closing is begun again: who began it did not end it");
        }
        tokio::select! {
            done = self.advance(&view) => done,
            never = lease::keep(&*self.store, view.round, view.version, leases.holder()) => match never {},
        }
    }

    pub(super) async fn invited(&self, stand: &Standing) -> Result<u32, RoundError> {
        if self.task(stand.task).is_none() {
            self.load_tasks().await?;
        }
        Ok(self.task(stand.task).map_or(u32::MAX, |task| task.file.invited))
    }

    /// §7.1: min(max(opened + W, last + grace), opened + 10 W), W = window + n k / 4 ms.
    pub(super) fn due(&self, view: &View, stand: &Standing) -> Timestamp {
        let params = &view.facts.header.params;
        let (n, k) = match view.phase.assembly() {
            Some(assembly) => (assembly.params().n, assembly.params().degree),
            None => (params.roster_max, 0),
        };
        let window_ms = match params.windows.0.get(stand.phase as usize) {
            Some(window_ms) => u64::from(*window_ms) + u64::from(n) * u64::from(k) / 4,
            None => 0,
        };
        let grace_ms = self.task(stand.task).map_or(window_ms, |task| task.file.grace_ms);
        let quiet = stand.opened.plus_ms(window_ms).max(stand.last.plus_ms(grace_ms));
        quiet.min(stand.opened.plus_ms(10 * window_ms))
    }

    /// Shuts the gates, closes the phase, commits it with its effects. A conflict: another replica did it.
    async fn advance(self: &Arc<Self>, view: &Arc<View>) -> Result<(), RoundError> {
        let kind = view.phase.kind();
        let received = self.store.fence(view.round, kind).await?;
        let count = received.bodies.len();
        let nonce = self.host.chance.draw().map_err(RoundError::Defect)?;
        let (next, mut effects) = {
            let view = view.clone();
            let close = move || server::close(&view.facts, view.phase.clone(), received, nonce);
            self.host.workers.run(close).await.map_err(RoundError::Defect)?
        };
        if let Some(model) = self.learn(view, &next, &effects).await? {
            effects.push(model);
        }
        for effect in &effects {
            if let Effect::Fault { client, rule, .. } = effect {
                tracing::warn!(round = %view.round, %client, rule, "named by signed evidence");
            }
        }
        let state = next.encode();
        let committed =
            self.store.commit(view.round, view.version, next.kind(), &state, &effects, self.host.clock.now()).await?;
        if committed == Committed::Yes {
            tracing::info!(round = %view.round, phase = ?kind, admitted = count, next = ?next.kind(), "phase closed");
            self.metrics.closed(kind, &next);
            for effect in &effects {
                if let Effect::Fault { rule, .. } = effect {
                    self.metrics.named(*rule);
                }
            }
        }
        self.raise_floor(view.round, Version(view.version.0 + 1)); // won or lost, somebody has committed
        self.commits.beat();
        self.nudge.notify_one();
        Ok(())
    }

    /// The next model, where the round was just released.
    async fn learn(&self, view: &View, next: &Phase, effects: &[Effect]) -> Result<Option<Effect>, RoundError> {
        let Phase::Published(_) = next else { return Ok(None) };
        let Phase::Unmasking(phase) = &view.phase else { return Ok(None) };
        let sum = effects.iter().find_map(|effect| match effect {
            Effect::Statement { kind: StatementKind::Result, attachment, .. } => Some(attachment),
            _ => None,
        });
        let Some(packed) = sum else { return Ok(None) };
        let header = &view.facts.header;
        if self.task(header.task).is_none() {
            self.load_tasks().await?;
        }
        let task = self.task(header.task).ok_or(RoundError::Unknown("task"))?;
        let model = self.store.model(header.model_hash).await?.ok_or(RoundError::Unknown("model"))?;
        let sum = RingVector::unpack(packed, header.params.vector_len as usize, header.params.ring_bits)
            .map_err(|error| RoundError::Defect(error.to_string()))?;
        let count = phase.survivors().members().count();
        match learn::next_model(&task, header.counter, &model, &sum, count) {
            Ok(effect) => Ok(effect),
            Err(error) => {
                // The sum is released all the same; the model stays as it was.
                tracing::error!(round = %view.round, %error, "no next model");
                Ok(None)
            }
        }
    }

    /// Opens the next round of a task, if one is left and the budget covers it. R-26
    async fn open_next(&self, row: &TaskRow) -> Result<(), RoundError> {
        if self.task(row.task).is_none() {
            self.load_tasks().await?;
        }
        let Some(task) = self.task(row.task) else { return Ok(()) };
        if row.counter >= task.file.rounds || !self.budget_covers(&task, row).await? {
            return Ok(());
        }
        let head = self.store.log_head().await?;
        let revocations = self.newest_revocations().await?;
        let header = Header {
            task: row.task,
            counter: row.counter + 1,
            opened_at: self.host.clock.now(),
            aggregator_key: self.keys.aggregator.public(),
            authority_key: self.keys.authority,
            revocation_number: revocations.as_ref().map_or(0, |list| list.number),
            revocation_digest: revocations.as_ref().map_or(Digest::NONE, |list| list.digest),
            model_hash: row.model,
            log: TreeHead { size: head.size, root: head.root },
            layout_hash: task.layout,
            params: task.params,
        };
        let salt = self.host.chance.draw().map_err(RoundError::Defect)?;
        let new = NewRound {
            round: header.round(),
            task: row.task,
            counter: header.counter,
            header: header.statement().encode(),
            state: Phase::first().encode(),
            opened: header.opened_at,
            salt,
            charge: task.charge.as_ref().map(charge_bytes).unwrap_or_default(),
        };
        if self.store.open_round(&new).await? == Committed::Yes {
            tracing::info!(round = %new.round, task = %row.task, counter = new.counter, "round opened");
        }
        self.commits.beat();
        Ok(())
    }

    async fn budget_covers(&self, task: &Task, row: &TaskRow) -> Result<bool, RoundError> {
        let Some(charge) = &task.charge else { return Ok(true) };
        let mut ledger = Ledger::default();
        for entry in self.store.ledger(row.task).await? {
            match charge_from_bytes(&entry.charge) {
                Some(curve) => ledger.charge((row.task.0, entry.counter), curve),
                None if entry.charge.is_empty() => {} // a round without noise
                None => {
                    let what = format!("the charge of round {} of task {}", entry.counter, row.task);
                    return Err(StoreError::Damaged(what).into());
                }
            }
        }
        match ledger.can_open(charge, task.budget) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(task = %row.task, %error, "the budget does not cover another round");
                Ok(false)
            }
        }
    }
}

/// A charge as the ledger's rows hold it: divergences at the default orders, little-endian.
pub fn charge_bytes(curve: &RdpCurve) -> Vec<u8> {
    curve.divergences().iter().flat_map(|divergence| divergence.to_bits().to_le_bytes()).collect()
}

/// The inverse of [`charge_bytes`]; `None` for an empty charge (a round without noise) or damaged bytes.
pub fn charge_from_bytes(bytes: &[u8]) -> Option<RdpCurve> {
    let divergences = bytes
        .chunks(8)
        .map(|eight| eight.try_into().ok().map(|b| f64::from_bits(u64::from_le_bytes(b))))
        .collect::<Option<Vec<_>>>()?;
    RdpCurve::from_divergences(divergences)
}

/// The epsilon that a task has spent so far, at its delta; `None` where rounds carry no noise.
pub fn epsilon_spent(rows: &[crate::store::LedgerRow], dp_delta: f64) -> Option<f64> {
    let spent = rows.iter().filter(|row| row.spent).map(|row| charge_from_bytes(&row.charge));
    let sum = spent.reduce(|sum, curve| sum?.plus(&curve?).ok())??;
    Some(sum.epsilon(dp_delta).epsilon)
}

const _: () = assert!(PhaseKind::Advertising as usize == 0 && PhaseKind::Unmasking as usize == 6);
