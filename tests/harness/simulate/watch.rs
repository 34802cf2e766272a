//! What must hold in every simulation, whatever was injected; and the record of what was seen on the way.
//!
//! Looked at while it runs: one message a phase from every honest client, one statement a kind and round, one survivor
//! list behind all answers, a log and a ledger that only grow. Looked at in the end ([`judge`]): sums, accepted uploads,
//! names, and that a round with no more losses than it tolerates was released.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::Method;
use veilsum_aggregator::store::{FaultRow, Store as _};
use veilsum_crypto::ids::{ClientId, Digest, RoundId, TaskId};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::{CoreSet, Header, Roster, Survivors};
use veilsum_crypto::params::{RingOrder, RosterParams};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{Signed, Statement};
use veilsum_crypto::server::{PhaseKind, StatementKind};

use super::client::Device;
use super::network::Asked;
use super::server::Servers;
use super::{Sim, short, short_round};
use crate::memory_store::MemoryStore;
use crate::world::sha256;

/// The record.
#[derive(Default)]
pub struct Seen {
    /// What did not hold.
    pub violations: Vec<String>,
    /// Rounds that released a sum.
    pub released: u32,
    /// Rounds that ended without one.
    pub abandoned: u32,
    /// What a client sent first to a path.
    messages: BTreeMap<String, Digest>,
    /// What was served first under a path.
    statements: BTreeMap<String, Digest>,
    /// The survivor list behind the first answer of a round.
    survivors: BTreeMap<Digest, (usize, Digest)>,
    /// Paths of uploads that were answered 204.
    accepted: BTreeSet<String>,
    log: Vec<Digest>,
    spent: BTreeSet<u64>,
}

/// A request on its way to a replica.
pub fn sent(sim: &Sim, asked: &Asked) {
    if asked.method != Method::PUT || sim.plan.lie_of(asked.client).is_some() {
        return;
    }
    let digest = sha256(&asked.body);
    let mut found = Vec::new();
    {
        let mut seen = sim.seen.lock().expect("one thread");
        if *seen.messages.entry(asked.target.clone()).or_insert(digest) != digest {
            found.push(format!("c{} sent two different messages: {}", asked.client, asked.target));
        }
        if asked.target.contains("/unmask/") {
            let signed = Signed::decode(&asked.body, labels::ANSWER).expect("an honest client");
            let Statement { context, previous, .. } = *signed.statement();
            let (first, list) = *seen.survivors.entry(context).or_insert((asked.client, previous));
            if list != previous {
                found.push(format!("c{first} and c{} answered for different survivor lists", asked.client));
            }
        }
    }
    found.into_iter().for_each(|what| sim.violation(what));
}

/// A replica's answer, before the network may lose it.
pub fn answered(sim: &Sim, asked: &Asked, status: u16, body: &[u8]) {
    let mut what = None;
    {
        let mut seen = sim.seen.lock().expect("one thread");
        if asked.method == Method::PUT {
            let is_kept = !matches!(status, 425 | 500..);
            if status == 204 && asked.target.contains("/mask/") {
                seen.accepted.insert(asked.target.clone());
            } else if is_kept && seen.accepted.contains(&asked.target) && sim.plan.lie_of(asked.client).is_none() {
                what = Some(format!("an upload that had been accepted was answered {status}: {}", asked.target));
            }
        } else if status == 200 {
            let last = asked.target.rsplit('/').next().unwrap_or_default();
            if ["roster", "core", "survivors", "result", "header"].contains(&last) {
                let digest = sha256(body);
                if *seen.statements.entry(asked.target.clone()).or_insert(digest) != digest {
                    what = Some(format!("two different statements were served: {}", asked.target));
                }
            }
        }
        if status == 500 {
            what = Some(format!("a fault of the service: {} {}", asked.target, String::from_utf8_lossy(body)));
        }
    }
    if let Some(what) = what {
        sim.violation(what);
    }
}

/// What must only grow.
pub async fn growth(sim: &Sim, store: &MemoryStore, task: TaskId) {
    let size = store.log_head().await.expect("memory answers").size;
    let leaves = store.log_leaves(0, size).await.expect("memory answers");
    let ledger = store.ledger(task).await.expect("memory answers");
    let spent: BTreeSet<u64> = ledger.iter().filter(|row| row.spent).map(|row| row.counter).collect();
    let (log_grew, ledger_grew) = {
        let mut seen = sim.seen.lock().expect("one thread");
        let grew = (leaves.starts_with(&seen.log), spent.is_superset(&seen.spent));
        (seen.log, seen.spent) = (leaves, spent);
        grew
    };
    if !log_grew {
        sim.violation("the log lost or changed a leaf");
    }
    if !ledger_grew {
        sim.violation("the ledger lost a charge that was spent");
    }
}

/// A round that is over, as the store has it.
struct Ended<'a> {
    sim: &'a Sim,
    store: &'a MemoryStore,
    clients: &'a [Arc<Device>],
    round: RoundId,
    header: Header,
}

/// Judges every round.
pub async fn judge(sim: &Arc<Sim>, servers: &Servers, clients: &[Arc<Device>]) {
    let store = &*servers.store;
    growth(sim, store, servers.task).await;
    let spent: BTreeSet<u64> = sim.seen.lock().expect("one thread").spent.clone();
    for (round, counter, phase) in store.rounds(servers.task, None, u32::MAX).await.expect("memory answers") {
        let (bytes, _) = statement(store, round, StatementKind::Header).await.expect("every round has one");
        let header = Header::from_statement(&decode(&bytes, labels::HEADER)).expect("as it was fixed");
        let ended = Ended { sim, store, clients, round, header };
        ended.names().await;
        let masked = statement(store, round, StatementKind::Core).await.is_some();
        if masked != spent.contains(&counter) {
            sim.violation(format_args!("round {counter}: masking opened {masked}, but its charge was not booked so"));
        }
        let opened = phase == PhaseKind::Published && ended.sum().await;
        {
            let mut seen = sim.seen.lock().expect("one thread");
            let count = if opened { &mut seen.released } else { &mut seen.abandoned };
            *count += 1;
        }
        if !opened {
            ended.was_right_to_end().await;
        }
    }
}

async fn statement(store: &MemoryStore, round: RoundId, kind: StatementKind) -> Option<(Vec<u8>, Vec<u8>)> {
    store.statement(round, kind).await.expect("memory answers")
}

fn decode(bytes: &[u8], label: labels::Label) -> Statement {
    Statement::decode(bytes, label).expect("as it was fixed")
}

impl Ended<'_> {
    fn violation(&self, what: impl std::fmt::Display) {
        self.sim.violation(format_args!("round {}: {what}", short_round(&self.round)));
    }

    fn device(&self, client: ClientId) -> &Device {
        self.clients.iter().find(|device| device.client() == client).expect("nobody else is certified")
    }

    fn lies(&self, client: ClientId) -> bool {
        self.sim.plan.lie_of(self.device(client).number).is_some()
    }

    /// Nobody honest is ever named.
    async fn names(&self) {
        for FaultRow { client, rule, .. } in self.store.faults(self.round).await.expect("memory answers") {
            if self.lies(client) {
                self.sim.note(format_args!("{} is named under R-{rule:02}", short(&client)));
            } else {
                self.violation(format_args!("{} is honest and was named under R-{rule:02}", short(&client)));
            }
        }
    }

    async fn roster(&self) -> Option<Roster> {
        let (bytes, list) = statement(self.store, self.round, StatementKind::Roster).await?;
        Some(Roster::from_parts(decode(&bytes, labels::ROSTER), &list).expect("as it was fixed"))
    }

    /// The released sum is that of what its survivors wrote down, and everybody whose upload was accepted is in it; whether
    /// there is a sum.
    async fn sum(&self) -> bool {
        let (_, packed) = statement(self.store, self.round, StatementKind::Result).await.expect("published");
        if packed.is_empty() {
            return false;
        }
        let roster = self.roster().await.expect("published");
        let (bytes, _) = statement(self.store, self.round, StatementKind::Survivors).await.expect("published");
        let survivors = Survivors::from_statement(decode(&bytes, labels::SURVIVORS), roster.n()).expect("as fixed");
        let params = &self.header.params;
        let mut expected = RingVector::zeros(params.vector_len as usize, params.ring_bits);
        let mut listed = BTreeSet::new();
        for leaf in survivors.members().leaves() {
            let client = roster.client(leaf);
            listed.insert(client);
            match self.device(client).noised(self.round) {
                Some(values) => {
                    expected.add_assign(&RingVector::from_signed(&values, params.ring_bits)).expect("one ring");
                }
                None => self.violation(format_args!("{} is in the sum and wrote down no upload", short(&client))),
            }
        }
        if expected.pack() != packed {
            self.violation("the released sum is not that of its survivors");
        }
        let accepted = self.sim.seen.lock().expect("one thread").accepted.clone();
        let prefix = format!("/v1/rounds/{}/mask/", self.round);
        for client in accepted.iter().filter_map(|path| ClientId::from_hex(path.strip_prefix(&prefix)?)) {
            if !listed.contains(&client) {
                self.violation(format_args!("{}'s upload was accepted and is in no sum", short(&client)));
            }
        }
        true
    }

    async fn has_sent(&self, client: ClientId, phase: PhaseKind) -> bool {
        self.store.digest(self.round, phase, client).await.expect("memory answers").is_some()
    }

    /// P3: it ended without a sum only because more were lost, or lied, than it tolerates.
    async fn was_right_to_end(&self) {
        let Some(roster) = self.roster().await else {
            let mut adverts = 0;
            for device in self.clients {
                adverts += u32::from(self.has_sent(device.client(), PhaseKind::Advertising).await);
            }
            if adverts >= self.header.params.roster_min {
                self.violation(format_args!("{adverts} adverts were admitted, and there is no roster"));
            }
            return;
        };
        let n = roster.n();
        let params = RosterParams::derive(n, &self.header.params).expect("it was fixed");
        let order = RingOrder::new(&roster.statement().root(), &params);
        let mut members = roster.members().iter().map(|(client, _)| *client).collect::<BTreeSet<_>>();
        let mut lost: BTreeSet<ClientId> = members.iter().copied().filter(|client| self.lies(*client)).collect();
        let mut phases = vec![PhaseKind::Sharing, PhaseKind::Acknowledging];
        if let Some((bytes, _)) = statement(self.store, self.round, StatementKind::Core).await {
            let core = CoreSet::from_statement(decode(&bytes, labels::CORE), n).expect("as fixed");
            lost.extend(
                members.iter().filter(|client| !core.members().has(roster.leaf_of(**client).expect("a member"))),
            );
            phases.push(PhaseKind::Masking);
        }
        if statement(self.store, self.round, StatementKind::Survivors).await.is_some() {
            phases.extend([PhaseKind::Confirming, PhaseKind::Unmasking]);
        }
        for phase in phases {
            for client in members.clone() {
                let is_asked =
                    phase != PhaseKind::Confirming || order.agrees(roster.leaf_of(client).expect("a member"));
                if is_asked && !self.has_sent(client, phase).await {
                    lost.insert(client);
                    members.remove(&client);
                }
            }
        }
        let tolerated = self.header.params.tolerated(n);
        if lost.len() as u32 <= tolerated {
            let lost: Vec<String> = lost.iter().map(short).collect();
            self.violation(format_args!(
                "ended without a sum though only {lost:?} of {n} were lost, and {tolerated} may be"
            ));
        }
    }
}
