//! The real thing, for the same lies: typed phases of `veilsum_crypto` on both sides, played in memory. Where an attack needs
//! an accomplice that really takes part, a gullible client with all its checks stands among the real ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use curve25519_dalek::Scalar;
use veilsum_crypto::client::*;
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::math::shamir::ShareScalar;
use veilsum_crypto::messages::{Bitmap, CoreSet, MaskedInput, SealedShares, Survivors};
use veilsum_crypto::primitives::agreement::{MaskingSecretKey, SelfMaskSecret};
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{Signed, Statement};
use veilsum_crypto::rules::{Rejection, ServerMisbehaved};
use veilsum_crypto::server::{Assembly, Effect, PhaseKind, StatementKind};
use veilsum_crypto::testing::{Play, TASK, now, os_rng};

use super::checks::{Checks, Kind, interpolate};
use super::gullible::{Client, Given};
use super::stage::{Shares, input, shares_of};

/// What the roster settled.
pub fn assembly(play: &Play) -> &Assembly {
    play.aggregator.phase.assembly().expect("there is a roster")
}

/// Where a client stands.
pub fn leaf(play: &Play, client: ClientId) -> LeafIndex {
    assembly(play).roster().leaf_of(client).expect("on the roster")
}

/// In the client's neighbour order.
pub fn neighbours(play: &Play, of: ClientId) -> Vec<ClientId> {
    let neighbours = assembly(play).order().neighbours(leaf(play, of));
    neighbours.into_iter().map(|leaf| assembly(play).roster().client(leaf)).collect()
}

/// Everybody who is neither the client nor its neighbour.
pub fn strangers(play: &Play, of: ClientId) -> Vec<ClientId> {
    let near = neighbours(play, of);
    let all = assembly(play).roster().members().iter().map(|(client, _)| *client);
    all.filter(|client| *client != of && !near.contains(client)).collect()
}

/// Everybody on the roster but these.
pub fn all_but(play: &Play, without: &[ClientId]) -> Bitmap {
    let inside = assembly(play).roster().members().iter().filter(|(client, _)| !without.contains(client));
    Bitmap::of(assembly(play).params().n, inside.map(|(client, _)| leaf(play, *client)))
}

/// These alone.
pub fn only(play: &Play, these: &[ClientId]) -> Bitmap {
    Bitmap::of(assembly(play).params().n, these.iter().map(|client| leaf(play, *client)))
}

/// A core that the aggregator signs, as served.
pub fn core_of(play: &Play, members: Bitmap) -> Vec<u8> {
    let core = CoreSet::fix(members, &play.world.facts.chain, assembly(play).root());
    play.world.signed(core.statement().clone())
}

/// The core in force.
pub fn core_in_force(play: &Play) -> CoreSet {
    let (bytes, _) = &play.aggregator.statements[&StatementKind::Core];
    let statement = Statement::decode(bytes, labels::CORE).expect("as fixed");
    CoreSet::from_statement(statement, assembly(play).params().n).expect("as fixed")
}

/// A survivor list over the core in force, as served.
pub fn list_of(play: &Play, members: Bitmap) -> Vec<u8> {
    let root = core_in_force(play).root();
    let list = Survivors::fix(members, Digest([7; 32]), &play.world.facts.chain, root);
    play.world.signed(list.statement().clone())
}

/// The member of this name, with the key that signs for it.
pub fn member(play: &Play, client: ClientId) -> &Arc<Membership> {
    play.world.members.iter().find(|member| member.client() == client).expect("of this world")
}

/// This client masks some update under the core shown.
pub fn mask(play: &Play, phase: ReadyToMask, core: &[u8]) -> Result<(AwaitingSurvivors, Vec<u8>), ServerMisbehaved> {
    let update = play.world.update(1.0, 0, phase.share_variance());
    Ok(play.world.turn(phase.mask(core, update)?))
}

/// One client judges the roster and the leaves that the aggregator fixed, and deals.
pub fn deal(play: &Play, phase: AwaitingRoster) -> Result<(AwaitingMail, Vec<u8>), ServerMisbehaved> {
    let roster = play.aggregator.served(&play.world, StatementKind::Roster);
    let evidence = phase.examine(&roster, now(), &mut os_rng())?;
    let (phase, _) = play.world.turn(phase.pin(&evidence));
    let leaves = play.aggregator.leaves(evidence.wanted().clone());
    Ok(play.world.turn(phase.share(evidence, &leaves, &mut os_rng())?))
}

/// Everybody deals and acknowledges.
pub fn deal_all(play: &mut Play, clients: BTreeMap<ClientId, AwaitingRoster>) -> BTreeMap<ClientId, ReadyToMask> {
    let clients = play.share(clients);
    play.acknowledge(clients)
}

/// Clients up to where they wait for the core.
pub fn acknowledged(play: &mut Play) -> BTreeMap<ClientId, ReadyToMask> {
    let clients = play.advertise();
    deal_all(play, clients)
}

/// Clients that uploaded.
pub fn uploaded(play: &mut Play) -> BTreeMap<ClientId, AwaitingSurvivors> {
    let clients = acknowledged(play);
    play.mask(clients)
}

/// From the core on; whoever answers sees the exact sum of the survivors.
pub fn finish(play: &mut Play, clients: BTreeMap<ClientId, ReadyToMask>) {
    let clients = play.mask(clients);
    let clients = play.confirm(clients);
    let clients = play.unmask(clients);
    verify(play, clients);
}

/// Everybody verifies; the sum is that of the survivors, bit for bit.
pub fn verify(play: &Play, clients: BTreeMap<ClientId, AwaitingResult>) {
    assert_eq!(play.aggregator.phase.kind(), PhaseKind::Published, "the round ends with a sum");
    let result = play.aggregator.served(&play.world, StatementKind::Result);
    for phase in clients.into_values() {
        let (verified, _) = phase.verify(&result).expect("an honest result");
        let living = verified.survivors.members().leaves().map(|leaf| assembly(play).roster().client(leaf));
        assert!(verified.sum.expect("released") == play.plain_sum(living), "the sum is exact");
    }
}

/// Whom the round named, and by which rule.
pub fn named(play: &Play) -> Vec<(ClientId, u8)> {
    let faults = play.aggregator.effects.iter().filter_map(|effect| match effect {
        Effect::Fault { client, rule, .. } => Some((*client, *rule)),
        _ => None,
    });
    faults.collect()
}

/// A real round in which some clients are gullible ones: accomplices, whose secrets and shares the attack knows.
pub struct Mixed {
    /// The real side.
    pub play: Play,
    /// The accomplices.
    pub liars: BTreeMap<ClientId, Client>,
}

impl Mixed {
    /// These numbers are accomplices.
    pub fn new(play: Play, liars: impl IntoIterator<Item = usize>) -> Self {
        let client = |number: usize| Client::new(play.world.members[number].clone(), Checks::all());
        let liars = liars.into_iter().map(client).map(|client| (client.id(), client)).collect();
        Self { play, liars }
    }

    /// Everybody advertises.
    pub fn advertise(&mut self) -> BTreeMap<ClientId, AwaitingRoster> {
        let header = self.play.world.header();
        let mut next = BTreeMap::new();
        for number in 0..self.play.world.members.len() {
            let client = self.play.world.members[number].client();
            let body = match self.liars.get_mut(&client) {
                Some(liar) => liar.advertise(TASK, &header, &[], now()).expect("an honest header"),
                None => {
                    let enrolled = self.play.world.enrolled(number);
                    let turn = enrolled.advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng());
                    let (phase, body) = self.play.world.turn(turn.expect("an honest header"));
                    next.insert(client, phase);
                    body
                }
            };
            self.play.put(client, &body);
        }
        self.play.aggregator.close(&self.play.world);
        next
    }

    /// The accomplices examine the roster.
    pub fn examine(&mut self) {
        let roster = self.play.aggregator.served(&self.play.world, StatementKind::Roster);
        for liar in self.liars.values_mut() {
            let leaves = |leaf| self.play.aggregator.leaves([leaf]).remove(&leaf).expect("it advertised");
            liar.examine(&roster, &leaves, now()).expect("an honest roster");
        }
    }

    /// Everybody deals honestly.
    pub fn share(&mut self, clients: BTreeMap<ClientId, AwaitingRoster>) -> BTreeMap<ClientId, AwaitingMail> {
        self.examine();
        self.share_with(clients, |liar| liar.deal().expect("it deals"))
    }

    /// The accomplices, who have examined the roster, deal as they like.
    pub fn share_with(
        &mut self,
        clients: BTreeMap<ClientId, AwaitingRoster>,
        mut deal: impl FnMut(&mut Client) -> SealedShares,
    ) -> BTreeMap<ClientId, AwaitingMail> {
        for (client, liar) in &mut self.liars {
            let message = deal(liar).encode();
            self.play.put(*client, &message);
        }
        self.play.share(clients)
    }

    /// Everybody acknowledges.
    pub fn acknowledge(&mut self, clients: BTreeMap<ClientId, AwaitingMail>) -> BTreeMap<ClientId, ReadyToMask> {
        for (client, liar) in &mut self.liars {
            let mail = self.play.aggregator.mail[client].clone();
            let message = liar.acknowledge(&mail).expect("honest mail").encode();
            self.play.put(*client, &message);
        }
        self.play.acknowledge(clients)
    }

    /// Everybody masks.
    pub fn mask(&mut self, clients: BTreeMap<ClientId, ReadyToMask>) -> BTreeMap<ClientId, AwaitingSurvivors> {
        let core = self.play.aggregator.served(&self.play.world, StatementKind::Core);
        for (client, liar) in &mut self.liars {
            let leaf = liar.view().me;
            let world = &self.play.world;
            let message = liar.mask(&core, &[], &|variance| input(world, leaf, variance)).expect("an honest core");
            let noised = liar.input.as_ref().expect("it masked").to_signed();
            self.play.noised.insert(*client, noised);
            self.play.put(*client, &message);
        }
        self.play.mask(clients)
    }

    /// Everybody confirms.
    pub fn confirm(&mut self, clients: BTreeMap<ClientId, AwaitingSurvivors>) -> BTreeMap<ClientId, ReadyToUnmask> {
        let list = self.play.aggregator.served(&self.play.world, StatementKind::Survivors);
        for (client, liar) in &mut self.liars {
            let uploads = self.play.aggregator.uploads_for(*client);
            if let Some(message) = liar.confirm(&list, &uploads).expect("an honest list") {
                self.play.put(*client, &message);
            }
        }
        self.play.confirm(clients)
    }

    /// What the accomplices answer.
    pub fn answers(&mut self) -> Vec<(ClientId, Given)> {
        let confirmations = self.play.aggregator.bodies(PhaseKind::Confirming);
        let answer =
            |(client, liar): (&ClientId, &mut Client)| (*client, liar.unmask(&confirmations).expect("they agree"));
        self.liars.iter_mut().map(answer).collect()
    }

    /// Everybody answers.
    pub fn unmask(&mut self, clients: BTreeMap<ClientId, ReadyToUnmask>) -> BTreeMap<ClientId, AwaitingResult> {
        for (client, given) in self.answers() {
            self.play.put(client, &given.signed.encode());
        }
        self.play.unmask(clients)
    }

    /// s and b of a real client, from the shares that its accomplice neighbours hold; `None` if they are too few.
    pub fn secrets_of(&self, client: ClientId) -> Option<[Scalar; 2]> {
        let owner = leaf(&self.play, client);
        let held = self.liars.values().filter_map(|liar| Some((liar.view().me, liar.held.get(&owner)?)));
        let threshold = assembly(&self.play).params().threshold as usize;
        let (masking, self_mask): (Vec<_>, Vec<_>) = held
            .take(threshold)
            .map(|(holder, pair)| ((holder, *pair.masking.scalar()), (holder, *pair.self_mask.scalar())))
            .unzip();
        let rebuild = |shares: &[(LeafIndex, Scalar)]| interpolate(shares, super::checks::decide::r12);
        (masking.len() == threshold).then(|| [rebuild(&masking), rebuild(&self_mask)])
    }

    /// The vector that a client uploaded.
    pub fn vector(&self, message: &[u8]) -> RingVector {
        let params = &self.play.world.facts.header.params;
        MaskedInput::decode(message, params).expect("as sent").vector(params).expect("in the ring")
    }
}

/// A share by owner and kind from answers that travelled.
pub fn shares(answers: &[(ClientId, Given)]) -> BTreeMap<(LeafIndex, Kind), Shares> {
    shares_of(&answers.iter().map(|(_, given)| given.clone()).collect::<Vec<_>>())
}

/// The upload that a real client, all of whose neighbours are accomplices, makes under a core, with what it masked; and both of
/// its secrets, rebuilt from what they hold.
pub struct Laid {
    /// The round.
    pub mixed: Mixed,
    /// The client.
    pub target: ClientId,
    /// What it masked.
    pub input: RingVector,
    /// Its masked vector.
    pub masked: RingVector,
    /// s and b.
    pub secrets: [Scalar; 2],
    /// The core it was shown.
    pub core: CoreSet,
}

impl Laid {
    /// The vector without the self mask and without the masks of these neighbours, derived for a core root.
    pub fn strip(&self, neighbours: &[LeafIndex], core: Digest) -> RingVector {
        let (assembly, chain) = (assembly(&self.mixed.play), &self.mixed.play.world.facts.chain);
        let roster = RosterContext { header: chain.context, roster: assembly.root() };
        let context = CoreContext { roster, core };
        let [s, b] = self.secrets.map(ShareScalar::from_scalar);
        let mut vector = self.masked.clone();
        vector.sub_mask(SelfMaskSecret::from_scalar(&b).into_mask_key(self.target, &context));
        let (me, masking) = (leaf(&self.mixed.play, self.target), MaskingSecretKey::from_scalar(&s));
        for near in neighbours {
            let peer = assembly.member(*near);
            let key = masking.pair_mask_key(self.target, (peer.client, &peer.masking), &context);
            if me < *near { vector.sub_mask(key) } else { vector.add_mask(key) }
        }
        vector
    }

    /// The target's neighbours in the core, all of whom it masked with.
    pub fn masked_with(&self) -> Vec<LeafIndex> {
        let neighbours = assembly(&self.mixed.play).order().neighbours(leaf(&self.mixed.play, self.target));
        neighbours.into_iter().filter(|leaf| self.core.members().has(*leaf)).collect()
    }
}

/// Client 0 is real, all others are accomplices; it masks under the honest core.
pub fn lay_open(play: Play) -> Result<Laid, ServerMisbehaved> {
    let others = 1..play.world.members.len();
    let mut mixed = Mixed::new(play, others);
    let clients = mixed.advertise();
    let clients = mixed.share(clients);
    let mut clients = mixed.acknowledge(clients);
    let (target, phase) = clients.pop_first().expect("client 0");
    let secrets = mixed.secrets_of(target).expect("all its neighbours are accomplices");
    let core = core_in_force(&mixed.play);
    let served = mixed.play.aggregator.served(&mixed.play.world, StatementKind::Core);
    let update = mixed.play.world.update(1.0, 0, phase.share_variance());
    let input = RingVector::from_signed(update.values(), mixed.play.world.facts.header.params.ring_bits);
    let (_, body) = mixed.play.world.turn(phase.mask(&served, update)?);
    let masked = mixed.vector(&body);
    Ok(Laid { mixed, target, input, masked, secrets, core })
}

/// A refusal as the store's part of the aggregator gives it.
pub fn refused(judged: Result<(), Rejection>) -> super::Played {
    judged.map_err(super::Stop::from).map(|()| "it was admitted".into())
}

/// The statement at the head of a signed one.
pub fn statement(bytes: &[u8], label: veilsum_crypto::primitives::labels::Label) -> Statement {
    Signed::decode(bytes, label).expect("signed").statement().clone()
}
