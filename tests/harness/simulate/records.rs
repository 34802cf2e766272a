//! What rounds leave behind in a simulation's store: log, ledger, model, and nothing that was to be erased.
//!
//! The log has a leaf for each statement, opening and charge of every round, in that order, and no other; a charge stands
//! for a round whose masking opened, and for no other; the next model follows from the sum, or is the one before.

use sha2::{Digest as _, Sha256};
use veilsum_aggregator::round::learn;
use veilsum_aggregator::store::{Charge, Store as _, ledger_entry, root_entry, statement_entry};
use veilsum_crypto::ids::Digest;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::merkle;
use veilsum_crypto::primitives::signature::Signed;
use veilsum_crypto::server::{PhaseKind, StatementKind};

use super::judge::{Ended, statement};
use super::short;

/// Judges what all rounds of the task left, by counter, with the sum of each and how many are in it.
pub(super) async fn judge(rounds: &[(Ended<'_>, Option<(RingVector, u32)>)]) {
    let mut log = Vec::new();
    for (at, (ended, sum)) in rounds.iter().enumerate() {
        log.extend(ended.leaves().await);
        ended.charge().await;
        ended.erased().await;
        ended.model(sum.as_ref(), rounds.get(at + 1).map(|(next, _)| next.header.model_hash)).await;
    }
    let Some((ended, _)) = rounds.first() else { return };
    let size = ended.store.log_head().await.expect("memory answers").size;
    let found = ended.store.log_leaves(0, size).await.expect("memory answers");
    if found != log {
        let first = found.iter().zip(&log).take_while(|(found, expected)| found == expected).count();
        let (found, expected) = (found.len(), log.len());
        ended
            .sim
            .violation(format_args!("the log has {found} leaves, {expected} were expected; leaf {first} is another"));
    }
}

impl Ended<'_> {
    /// What the log must hold of this round, in order. §9
    async fn leaves(&self) -> Vec<Digest> {
        let salt = self.store.load(self.round).await.expect("memory answers").expect("it is kept").salt;
        let context = self.header.statement().root();
        let charged = |charge| ledger_entry(&salt, self.header.task, self.counter, context, charge);
        let of = async |kind| Some(statement_entry(&salt, &statement(self.store, self.round, kind).await?.0));
        let mut entries: Vec<Digest> = of(StatementKind::Header).await.into_iter().collect();
        entries.push(charged(Charge::Reserved));
        entries.extend(of(StatementKind::Roster).await);
        match of(StatementKind::Core).await {
            Some(core) => {
                entries.push(core);
                let openings = self.store.bodies(self.round, PhaseKind::Opening, None).await.expect("memory answers");
                entries.extend(openings.values().map(|body| {
                    let signed = Signed::read(&mut Reader::new(body), labels::OPENING).expect("as it was admitted");
                    root_entry(&salt, signed.root())
                }));
                entries.push(charged(Charge::Spent));
            }
            None => entries.push(charged(Charge::Lapsed)),
        }
        entries.extend(of(StatementKind::Survivors).await);
        entries.extend(of(StatementKind::Result).await);
        entries.iter().map(|entry| merkle::leaf_hash(&[entry.as_bytes()])).collect()
    }

    /// A charge is spent if masking opened; else nothing is left of it. R-26
    async fn charge(&self) {
        let masked = statement(self.store, self.round, StatementKind::Core).await.is_some();
        let ledger = self.store.ledger(self.header.task).await.expect("memory answers");
        let spent = ledger.iter().find(|row| row.counter == self.counter).map(|row| row.spent);
        if spent != masked.then_some(true) {
            self.violation(format_args!("masking opened: {masked}; what its charge is booked as: spent {spent:?}"));
        }
    }

    /// Mail, answers and the partial sum end with the round.
    async fn erased(&self) {
        let mut left = Vec::new();
        for device in self.clients {
            if !self.store.mail(self.round, device.client()).await.expect("memory answers").is_empty() {
                left.push(format!("mail for {}", short(&device.client())));
            }
        }
        let received = self.store.fence(self.round, PhaseKind::Unmasking).await.expect("memory answers");
        left.extend((!received.bodies.is_empty()).then(|| "answers".to_string()));
        left.extend(received.sum.map(|_| "a partial sum".to_string()));
        if !left.is_empty() {
            self.violation(format_args!("it is over, and the store still has {}", left.join(", ")));
        }
    }

    /// FedAvg, once more: the model of the next header (or the task's, after the last round) is this round's and the mean. §6.4
    async fn model(&self, sum: Option<&(RingVector, u32)>, next: Option<Digest>) {
        let task = &self.sim.plan.task;
        let Some(before) = self.store.model(self.header.model_hash).await.expect("memory answers") else {
            return self.violation("the model that its header names is not there");
        };
        let mut model = learn::from_bytes(&before, task.model_len).expect("a model");
        if let Some((sum, count)) = sum {
            let sum = sum.to_signed();
            let step = match sum.last() {
                Some(weight) if task.weight_max > 0 && *weight <= 0 => 0.0, // noise outweighed everybody: no mean
                Some(weight) if task.weight_max > 0 => task.clip_norm / *weight as f64,
                _ => 1.0 / (task.scale * f64::from(*count)),
            };
            assert_eq!(task.server_rate, [1.0, 1.0], "the plan's");
            model.iter_mut().zip(&sum).for_each(|(value, sum)| *value += (*sum as f64 * step) as f32);
        }
        let expected = Digest(Sha256::digest(learn::to_bytes(&model)).into());
        let found = match next {
            Some(next) => next,
            None => self.store.tasks().await.expect("memory answers")[0].model,
        };
        if found != expected {
            self.violation("the next model does not follow from what was released");
        }
    }
}
