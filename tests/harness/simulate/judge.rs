//! What must hold in the end of every simulation, round by round: who is in the sum, who is named, who was lost.
//!
//! The released sum is that of what its survivors wrote down, and every accepted upload is in it; nobody honest is named,
//! and evidence convicts whoever is; a round ends without a sum only if it lost more than it tolerates; nobody is lost to
//! whom nothing happened. What must hold on the way is in [`watch`](super::watch), what rounds leave behind in
//! `records`.

use std::collections::BTreeSet;
use std::sync::Arc;

use veilsum_aggregator::store::{FaultRow, Store as _};
use veilsum_crypto::ids::{ClientId, LeafIndex, RoundId};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::{CoreSet, Header, Roster, Survivors};
use veilsum_crypto::params::{RingOrder, RosterParams};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Statement;
use veilsum_crypto::server::{PhaseKind, StatementKind};

use super::client::Device;
use super::server::Servers;
use super::{Sim, short, short_round};
use crate::blame::evidence::{Court, Public};
use crate::memory_store::MemoryStore;

/// A round that is over, as the store has it.
pub(super) struct Ended<'a> {
    pub sim: &'a Sim,
    pub servers: &'a Servers,
    pub store: &'a MemoryStore,
    pub clients: &'a [Arc<Device>],
    pub round: RoundId,
    pub counter: u64,
    pub header: Header,
}

/// Judges every round.
pub async fn judge(sim: &Arc<Sim>, servers: &Servers, clients: &[Arc<Device>]) {
    let store = &*servers.store;
    super::watch::growth(sim, store, servers.task).await;
    let mut rounds = store.rounds(servers.task, None, u32::MAX).await.expect("memory answers");
    rounds.reverse();
    if !rounds.iter().map(|(_, counter, _)| *counter).eq(1..=sim.plan.task.rounds) {
        let counters: Vec<u64> = rounds.iter().map(|(_, counter, _)| *counter).collect();
        sim.violation(format_args!("the task's rounds count {counters:?}"));
    }
    let mut all = Vec::new();
    for (round, counter, phase) in rounds {
        if !phase.is_over() {
            return; // a violation already: the rounds did not come to an end
        }
        let (bytes, _) = statement(store, round, StatementKind::Header).await.expect("every round has one");
        let header = Header::from_statement(&decode(&bytes, labels::HEADER)).expect("as it was fixed");
        let ended = Ended { sim, servers, store, clients, round, counter, header };
        ended.names().await;
        let sum = if phase == PhaseKind::Published { ended.sum().await } else { None };
        {
            let mut seen = sim.seen.lock().expect("one thread");
            let count = if sum.is_some() { &mut seen.released } else { &mut seen.abandoned };
            *count += 1;
        }
        if sum.is_none() {
            ended.was_right_to_end().await;
        }
        ended.nobody_fell_silent_for_nothing().await;
        all.push((ended, sum));
    }
    super::records::judge(&all).await;
}

pub(super) async fn statement(store: &MemoryStore, round: RoundId, kind: StatementKind) -> Option<(Vec<u8>, Vec<u8>)> {
    store.statement(round, kind).await.expect("memory answers")
}

fn decode(bytes: &[u8], label: labels::Label) -> Statement {
    Statement::decode(bytes, label).expect("as it was fixed")
}

impl Ended<'_> {
    pub fn violation(&self, what: impl std::fmt::Display) {
        self.sim.violation(format_args!("round {}: {what}", short_round(&self.round)));
    }

    fn device(&self, client: ClientId) -> &Device {
        self.clients.iter().find(|device| device.client() == client).expect("nobody else is certified")
    }

    fn lies(&self, client: ClientId) -> bool {
        self.sim.plan.lie_of(self.device(client).number).is_some()
    }

    /// Nobody honest is ever named, and whoever is named is convicted by what is kept.
    async fn names(&self) {
        let faults = self.store.faults(self.round).await.expect("memory answers");
        if faults.is_empty() {
            return;
        }
        let public = self.public().await;
        let court = Court::new(&public);
        for FaultRow { client, rule, evidence, .. } in faults {
            let name = short(&client);
            if !self.lies(client) {
                self.violation(format_args!("{name} is honest and was named under R-{rule:02}"));
            } else if let Err(why) = court.judge(client, rule, &evidence) {
                self.violation(format_args!("{name} was named under R-{rule:02}, and nothing proves it: {why}"));
            } else {
                self.sim.note(format_args!("{name} is named under R-{rule:02}"));
            }
        }
    }

    /// What everybody may read of the round.
    async fn public(&self) -> Public {
        let served = async |kind| {
            let (bytes, attachment) = statement(self.store, self.round, kind).await?;
            Some([self.servers.sign(&bytes, kind), attachment].concat())
        };
        Public {
            aggregator: self.servers.aggregator,
            authority: self.servers.authority.public(),
            header: served(StatementKind::Header).await.expect("every round has one"),
            roster: served(StatementKind::Roster).await,
            core: served(StatementKind::Core).await,
            survivors: served(StatementKind::Survivors).await,
        }
    }

    async fn roster(&self) -> Option<Roster> {
        let (bytes, list) = statement(self.store, self.round, StatementKind::Roster).await?;
        Some(Roster::from_parts(decode(&bytes, labels::ROSTER), &list).expect("as it was fixed"))
    }

    /// The released sum is that of what its survivors wrote down, and everybody whose upload was accepted is in it; the sum
    /// as it should be and how many are in it, if there is one.
    async fn sum(&self) -> Option<(RingVector, u32)> {
        let (_, packed) = statement(self.store, self.round, StatementKind::Result).await?;
        if packed.is_empty() {
            return None;
        }
        let roster = self.roster().await?;
        let (bytes, _) = statement(self.store, self.round, StatementKind::Survivors).await?;
        let survivors = Survivors::from_statement(decode(&bytes, labels::SURVIVORS), roster.n()).expect("as fixed");
        let params = &self.header.params;
        let mut expected = RingVector::zeros(params.vector_len as usize, params.ring_bits);
        for leaf in survivors.members().leaves() {
            let client = roster.client(leaf);
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
        for (client, leaf) in roster.members().iter().map(|(client, _)| *client).zip((0..).map(LeafIndex)) {
            let path = format!("/v1/rounds/{}/mask/{client}", self.round);
            let was_accepted = self.sim.seen.lock().expect("one thread").was_accepted(&path);
            if was_accepted && !survivors.members().has(leaf) {
                self.violation(format_args!("{}'s upload was accepted and is in no sum", short(&client)));
            }
        }
        Some((expected, survivors.members().count()))
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

    /// A client that nothing happened to says what it is asked, and is heard. Only where nothing happens to everybody.
    async fn nobody_fell_silent_for_nothing(&self) {
        if !self.sim.is_calm() {
            return;
        }
        let mut asked: BTreeSet<ClientId> = self.clients.iter().map(|device| device.client()).collect();
        asked.retain(|client| !self.lies(*client) && !self.sim.plan.is_afflicted(self.device(*client).number));
        let speaks = async |asked: &BTreeSet<ClientId>, phase| {
            for client in asked {
                if !self.has_sent(*client, phase).await {
                    let name = short(client);
                    self.violation(format_args!("nothing happened to {name}, and it was not heard in {phase:?}"));
                }
            }
        };
        speaks(&asked, PhaseKind::Advertising).await;
        let Some(roster) = self.roster().await else { return };
        speaks(&asked, PhaseKind::Sharing).await;
        // Rounds end without a core before or after acknowledgements were asked for.
        if self.any_sent(PhaseKind::Acknowledging).await {
            speaks(&asked, PhaseKind::Acknowledging).await;
        }
        let leaf = |client: &ClientId| roster.leaf_of(*client).expect("it was heard in time");
        let Some((bytes, _)) = statement(self.store, self.round, StatementKind::Core).await else { return };
        let core = CoreSet::from_statement(decode(&bytes, labels::CORE), roster.n()).expect("as fixed");
        asked.retain(|client| core.members().has(leaf(client)));
        speaks(&asked, PhaseKind::Masking).await;
        let Some((bytes, _)) = statement(self.store, self.round, StatementKind::Survivors).await else { return };
        let survivors = Survivors::from_statement(decode(&bytes, labels::SURVIVORS), roster.n()).expect("as fixed");
        asked.retain(|client| survivors.members().has(leaf(client)));
        if self.any_sent(PhaseKind::Unmasking).await {
            speaks(&asked, PhaseKind::Unmasking).await;
        }
    }

    async fn any_sent(&self, phase: PhaseKind) -> bool {
        self.store.admitted(self.round).await.expect("memory answers").contains_key(&phase)
    }
}
