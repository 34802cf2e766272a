//! A whole round in memory, for tests of this and other packages: the real phases of both sides, and nothing between.
//!
//! Never part of what is shipped (feature `testing`). Randomness is the operating system's; a world made with a seed
//! ([`World::seeded`]) is the same, byte for byte, each time.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::convert::Infallible;
use core::sync::atomic::{AtomicU64, Ordering};

use rand_core::{CryptoRng, TryCryptoRng, TryRng, UnwrapErr};

use crate::client::*;
use crate::ids::*;
use crate::math::ring::{RingBits, RingVector};
use crate::messages::certificate::CertificateBody;
use crate::messages::{Certificate, Header, RevocationList};
use crate::params::{RoundParams, Windows};
use crate::primitives::merkle::{self, TreeHead};
use crate::primitives::prg::{NoiseSeed, NoiseStream};
use crate::primitives::seal::SavingKey;
use crate::primitives::signature::{IdentitySecretKey, Statement};
use crate::privacy::accountant::RoundingBounds;
use crate::privacy::skellam::SkellamSampler;
use crate::server::*;
use crate::update::{ModelUpdate, Noised, Privacy, prepare};

/// The operating system's randomness.
pub fn os_rng() -> impl CryptoRng {
    UnwrapErr(getrandom::SysRng)
}

/// The same numbers each time: the keystream of a seed.
pub struct SeededRng(NoiseStream);

impl SeededRng {
    /// Of this seed, the stream with this number.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut bytes = [0x5e; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&stream.to_le_bytes());
        Self(NoiseSeed::from_bytes(bytes).into_stream())
    }
}

impl TryRng for SeededRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u64() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for eight in bytes.chunks_mut(8) {
            eight.copy_from_slice(&self.0.next_u64().to_le_bytes()[..eight.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for SeededRng {}

/// Where a world's randomness comes from: its seed, or the operating system.
#[derive(Default, Debug)]
pub struct Chance {
    seed: Option<u64>,
    drawn: AtomicU64,
}

impl Chance {
    /// A stream of its own for each who asks.
    fn rng(&self) -> TestRng {
        match self.seed {
            None => TestRng::System(UnwrapErr(getrandom::SysRng)),
            Some(seed) => TestRng::Seeded(SeededRng::new(seed, self.drawn.fetch_add(1, Ordering::SeqCst))),
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "lives for one call")]
enum TestRng {
    System(UnwrapErr<getrandom::SysRng>),
    Seeded(SeededRng),
}

impl TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        match self {
            Self::System(rng) => rng.try_next_u32(),
            Self::Seeded(rng) => rng.try_next_u32(),
        }
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        match self {
            Self::System(rng) => rng.try_next_u64(),
            Self::Seeded(rng) => rng.try_next_u64(),
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        match self {
            Self::System(rng) => rng.try_fill_bytes(bytes),
            Self::Seeded(rng) => rng.try_fill_bytes(bytes),
        }
    }
}

impl TryCryptoRng for TestRng {}

/// Noon of some day.
pub const NOON: Timestamp = Timestamp(1_790_000_000_000_000);

/// Parameters of the demo's round for rosters of exactly `n`: gamma 0.05, delta 0.25, sigma 80, z = 4.
pub fn demo_params(n: u32) -> RoundParams {
    let tolerated = n / 4;
    RoundParams {
        vector_len: 1_862,
        weight_max: 0,
        ring_bits: RingBits::new(16).expect("in range"),
        wrap_bits: 40,
        max_squared_norm: 109_717,
        scale: 165.0,
        clip_norm: 2.0,
        total_variance: 1_742_400,
        roster_min: n,
        roster_max: n,
        cohort_min: (n - tolerated).max(2),
        corrupt_fraction: 50_000,
        dropout_tolerance: 250_000,
        security_bits: 80,
        completion_bits: 30,
        dp_delta: 1e-5,
        windows: Windows([1_000; 7]),
    }
}

/// Small rosters tolerate less: the largest feasible dropout tolerance, and a ring wide enough.
pub fn small_params(n: u32, vector_len: u32) -> RoundParams {
    let demo = demo_params(n);
    let bounds = RoundingBounds::new(demo.clip_norm * demo.scale, vector_len.into(), libm::exp(-0.5));
    let mut params = RoundParams { vector_len, max_squared_norm: bounds.max_integer_squared_norm, ..demo };
    while crate::params::RosterParams::derive(n, &params).is_err() && params.dropout_tolerance > 0 {
        params.dropout_tolerance -= 10_000;
        params.cohort_min = (n - params.tolerated(n)).max(2);
    }
    params.ring_bits = params.ring_bits_needed().expect("a ring is wide enough");
    params
}

/// An authority, an aggregator and clients that trust them.
pub struct World {
    /// Certifies.
    pub authority: IdentitySecretKey,
    /// Signs statements.
    pub aggregator: IdentitySecretKey,
    /// Clients in the order of their ids.
    pub members: Vec<Arc<Membership>>,
    /// Seals saved states.
    pub saving: SavingKey,
    /// The round.
    pub facts: RoundFacts,
    /// Where its randomness comes from.
    pub chance: Chance,
}

/// The task of every test.
pub const TASK: TaskId = TaskId([0x7a; 16]);

/// A client's id by number.
pub fn client_id(number: u32) -> ClientId {
    let mut id = [0xc0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    ClientId(id)
}

impl World {
    /// `n` clients and the header of round 1.
    pub fn new(params: RoundParams) -> Self {
        Self::with_policy(params, |_| {})
    }

    /// The same with a policy that `change` altered.
    pub fn with_policy(params: RoundParams, change: impl Fn(&mut Policy)) -> Self {
        Self::by(Chance::default(), params, change)
    }

    /// The same clients, keys, shares, masks and noise each time, as long as the same is asked of it in the same order.
    pub fn seeded(params: RoundParams, seed: u64) -> Self {
        Self::seeded_with_policy(params, seed, |_| {})
    }

    /// The same with a policy that `change` altered.
    pub fn seeded_with_policy(params: RoundParams, seed: u64, change: impl Fn(&mut Policy)) -> Self {
        Self::by(Chance { seed: Some(seed), drawn: AtomicU64::new(0) }, params, change)
    }

    fn by(chance: Chance, params: RoundParams, change: impl Fn(&mut Policy)) -> Self {
        let mut rng = chance.rng();
        let authority = IdentitySecretKey::generate(&mut rng);
        let aggregator = IdentitySecretKey::generate(&mut rng);
        let mut policy = Policy::new(aggregator.public(), authority.public());
        change(&mut policy);
        let members = (0..params.roster_max)
            .map(|number| {
                let identity = IdentitySecretKey::generate(&mut rng);
                Arc::new(membership(number, params.roster_max, &authority, policy.clone(), identity))
            })
            .collect();
        let header = Header {
            task: TASK,
            counter: 1,
            opened_at: NOON,
            aggregator_key: aggregator.public(),
            authority_key: authority.public(),
            revocation_number: 0,
            revocation_digest: Digest::NONE,
            model_hash: Digest([1; 32]),
            log: TreeHead { size: 0, root: merkle::root(&[]) },
            layout_hash: Digest([2; 32]),
            params,
        };
        let facts = RoundFacts::new(header, RevocationList::none());
        Self { authority, aggregator, members, saving: SavingKey::from_bytes([5; 32]), facts, chance }
    }

    /// Randomness for one step.
    pub fn rng(&self) -> impl CryptoRng + use<> {
        self.chance.rng()
    }

    /// Signs a statement as the aggregator does when it reads it back.
    pub fn signed(&self, statement: Statement) -> Vec<u8> {
        statement.sign(&self.aggregator).encode()
    }

    /// The signed header.
    pub fn header(&self) -> Vec<u8> {
        self.signed(self.facts.header.statement())
    }

    /// A client that never took part.
    pub fn enrolled(&self, number: usize) -> Enrolled {
        Enrolled::new(self.members[number].clone(), Memory::new())
    }

    /// Persists to nowhere.
    #[allow(private_bounds, reason = "as `Turn::persist`")]
    pub fn turn<Next: saved::Saved, Sent: saved::Outgoing>(&self, turn: Turn<Next, Sent>) -> (Next, Vec<u8>) {
        turn.persist(&self.saving, &mut self.rng(), |_| Ok::<_, Infallible>(())).expect("writes nothing")
    }

    /// Persists, and forgets everything but what was written down: the sealed bytes. Beside them, what was sent.
    #[allow(private_bounds, reason = "as `Turn::persist`")]
    pub fn written<Next: saved::Saved, Sent: saved::Outgoing>(&self, turn: Turn<Next, Sent>) -> (Vec<u8>, Vec<u8>) {
        let mut disk = Vec::new();
        let write = |sealed: &Sealed| {
            disk.extend_from_slice(&sealed.0);
            Ok::<_, Infallible>(())
        };
        let (_, sent) = turn.persist(&self.saving, &mut self.rng(), write).expect("memory does not fail");
        (disk, sent)
    }

    /// A noised vector with this client's update: all zero but `value` at coordinate `at`.
    pub fn update(&self, value: f32, at: usize, share_variance: u64) -> Noised {
        let params = &self.facts.header.params;
        let mut values = alloc::vec![0.0; params.vector_len as usize];
        values[at] = value;
        let sampler = SkellamSampler::new(share_variance).expect("in range");
        let noise = sampler.noise(NoiseSeed::generate(&mut self.rng()), values.len());
        let privacy =
            Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm };
        prepare(ModelUpdate::new(values).expect("finite"), noise, &privacy, &mut self.rng()).expect("same length")
    }
}

/// Now, shortly after the header.
pub fn now() -> Moment {
    Moment { wall: NOON.plus_ms(100), monotonic_ms: 100 }
}

fn membership(
    number: u32,
    group_size: u32,
    authority: &IdentitySecretKey,
    policy: Policy,
    identity: IdentitySecretKey,
) -> Membership {
    let body = CertificateBody {
        client: client_id(number),
        identity: identity.public(),
        group: 0,
        group_size,
        not_before: Timestamp(NOON.0 - 1),
        not_after: NOON.plus_ms(24 * 60 * 60 * 1_000),
    };
    Membership { certificate: Certificate::issue(body, authority), identity, policy }
}

/// The aggregator of one round, with what a store would hold.
pub struct Aggregator {
    /// Where it stands.
    pub phase: Phase,
    /// Messages by phase.
    pub received: BTreeMap<PhaseKind, BTreeMap<ClientId, Vec<u8>>>,
    /// Mail by holder.
    pub mail: BTreeMap<ClientId, Vec<Vec<u8>>>,
    /// The sum of masked inputs.
    pub sum: RingVector,
    /// Statements fixed, with attachments.
    pub statements: BTreeMap<StatementKind, (Vec<u8>, Vec<u8>)>,
    /// Everything `close` returned.
    pub effects: Vec<Effect>,
}

impl Aggregator {
    /// Before the first advert.
    pub fn new(params: &RoundParams) -> Self {
        Self {
            phase: Phase::first(),
            received: BTreeMap::new(),
            mail: BTreeMap::new(),
            sum: RingVector::zeros(params.vector_len as usize, params.ring_bits),
            statements: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// Judges a message and keeps it as a store would.
    pub fn put(&mut self, world: &World, client: ClientId, body: &[u8]) -> Result<(), crate::rules::Rejection> {
        let kind = self.phase.kind();
        let accepted = accept(&world.facts, &self.phase, kind, client, body)?;
        let bodies = self.received.entry(kind).or_default();
        if bodies.contains_key(&client) {
            return Ok(());
        }
        match accepted.keep() {
            Keep::Body(body) => {
                bodies.insert(client, body.clone());
            }
            Keep::Mail { body, to } => {
                bodies.insert(client, body.clone());
                for (holder, item) in to {
                    self.mail.entry(*holder).or_default().push(item.clone());
                }
            }
            Keep::Sum { statement, vector } => {
                bodies.insert(client, statement.clone());
                self.sum.add_assign(vector).expect("one ring");
            }
        }
        Ok(())
    }

    /// Closes the phase; chance decides where a roster closes.
    pub fn close(&mut self, world: &World) {
        let mut nonce = [0; 32];
        rand_core::Rng::fill_bytes(&mut world.rng(), &mut nonce);
        self.close_with(world, nonce);
    }

    /// Closes the phase, through the bytes in which it would be stored.
    pub fn close_with(&mut self, world: &World, nonce: [u8; 32]) {
        let phase = Phase::decode(&self.phase.encode(), &world.facts).expect("as encoded");
        let kind = phase.kind();
        let of = |kind| self.received.get(&kind).cloned().unwrap_or_default();
        let earlier = Received::needs(kind).iter().map(|earlier| (*earlier, of(*earlier))).collect();
        let mut received = Received::new(of(kind), earlier);
        received.sum = (kind == PhaseKind::Unmasking).then(|| self.sum.clone());
        let (next, effects) = close(&world.facts, phase, received, nonce);
        for effect in &effects {
            if let Effect::Statement { kind, bytes, attachment } = effect {
                self.statements.insert(*kind, (bytes.clone(), attachment.clone()));
            }
        }
        self.effects.extend(effects);
        self.phase = next;
    }

    /// A statement as served: signed, then its attachment.
    pub fn served(&self, world: &World, kind: StatementKind) -> Vec<u8> {
        let (bytes, attachment) = &self.statements[&kind];
        let mut served = world.signed(Statement::decode(bytes, kind.label()).expect("as fixed"));
        served.extend_from_slice(attachment);
        served
    }

    /// Bodies of one phase.
    pub fn bodies(&self, kind: PhaseKind) -> Vec<Vec<u8>> {
        self.received.get(&kind).into_iter().flat_map(|bodies| bodies.values().cloned()).collect()
    }

    /// The upload statements that a client is shown.
    pub fn uploads_for(&self, client: ClientId) -> Vec<Vec<u8>> {
        let assembly = self.phase.assembly().expect("there is a roster");
        let (leaf, _) = assembly.find(client).expect("on the roster");
        let neighbours = assembly.order().neighbours(leaf);
        let uploads = self.received.get(&PhaseKind::Masking);
        neighbours
            .into_iter()
            .filter_map(|neighbour| uploads?.get(&assembly.roster().client(neighbour)).cloned())
            .collect()
    }

    /// The leaves asked for.
    pub fn leaves(&self, wanted: impl IntoIterator<Item = LeafIndex>) -> BTreeMap<LeafIndex, Vec<u8>> {
        let assembly = self.phase.assembly().expect("there is a roster");
        let adverts = &self.received[&PhaseKind::Advertising];
        wanted.into_iter().map(|leaf| (leaf, adverts[&assembly.roster().client(leaf)].clone())).collect()
    }
}

/// Clients by phase, while a test plays a round step by step. Leave a client out and it has vanished.
pub struct Play {
    /// The world.
    pub world: World,
    /// The aggregator.
    pub aggregator: Aggregator,
    /// What each client wrote down before masking.
    pub noised: BTreeMap<ClientId, Vec<i64>>,
}

impl Play {
    /// A round about to start.
    pub fn new(params: RoundParams) -> Self {
        Self::of(World::new(params))
    }

    /// The same in a given world.
    pub fn of(world: World) -> Self {
        Self { aggregator: Aggregator::new(&world.facts.header.params), world, noised: BTreeMap::new() }
    }

    /// All clients advertise; the roster is fixed.
    pub fn advertise(&mut self) -> BTreeMap<ClientId, AwaitingRoster> {
        let header = self.world.header();
        let mut next = BTreeMap::new();
        for number in 0..self.world.members.len() {
            let turn = self
                .world
                .enrolled(number)
                .advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut self.world.rng())
                .expect("an honest header");
            let (phase, body) = self.world.turn(turn);
            let client = self.world.members[number].client();
            self.put(client, &body);
            next.insert(client, phase);
        }
        self.aggregator.close(&self.world);
        next
    }

    /// One client examines the roster and deals; nothing is delivered.
    pub fn deal(&self, phase: AwaitingRoster) -> (AwaitingMail, Vec<u8>) {
        let roster = self.aggregator.served(&self.world, StatementKind::Roster);
        let evidence = phase.examine(&roster, now(), &mut self.world.rng()).expect("an honest roster");
        let (phase, _) = self.world.turn(phase.pin(&evidence));
        let leaves = self.aggregator.leaves(evidence.wanted().clone());
        self.world.turn(phase.share(evidence, &leaves, &mut self.world.rng()).expect("honest leaves"))
    }

    /// These clients deal; mailboxes are fixed.
    pub fn share(&mut self, clients: BTreeMap<ClientId, AwaitingRoster>) -> BTreeMap<ClientId, AwaitingMail> {
        self.step(clients, |play, _, phase| Some(play.deal(phase)))
    }

    /// These clients acknowledge; the core or the complaints are fixed.
    pub fn acknowledge(&mut self, clients: BTreeMap<ClientId, AwaitingMail>) -> BTreeMap<ClientId, ReadyToMask> {
        self.step(clients, |play, client, phase| {
            let mail = play.aggregator.mail.get(&client).cloned().unwrap_or_default();
            Some(play.world.turn(phase.acknowledge(&mail).expect("honest mail")))
        })
    }

    /// These clients mask an update that is 1 at a coordinate of their own; the survivors are fixed.
    pub fn mask(&mut self, clients: BTreeMap<ClientId, ReadyToMask>) -> BTreeMap<ClientId, AwaitingSurvivors> {
        let core = self.aggregator.served(&self.world, StatementKind::Core);
        let len = self.world.facts.header.params.vector_len as usize;
        let mut noised = BTreeMap::new();
        let next = self.step(clients, |play, client, phase| {
            let at = usize::from(client.0[3]) % len;
            let update = play.world.update(1.0, at, phase.share_variance());
            noised.insert(client, update.values().to_vec());
            Some(play.world.turn(phase.mask(&core, update).expect("an honest core")))
        });
        self.noised.extend(noised);
        next
    }

    /// These clients confirm; the agreement is fixed.
    pub fn confirm(&mut self, clients: BTreeMap<ClientId, AwaitingSurvivors>) -> BTreeMap<ClientId, ReadyToUnmask> {
        let survivors = self.aggregator.served(&self.world, StatementKind::Survivors);
        self.step(clients, |play, client, phase| {
            let uploads = play.aggregator.uploads_for(client);
            Some(play.world.turn(phase.confirm(&survivors, &uploads).expect("an honest list")))
        })
    }

    /// These clients answer; the round is over.
    pub fn unmask(&mut self, clients: BTreeMap<ClientId, ReadyToUnmask>) -> BTreeMap<ClientId, AwaitingResult> {
        let confirmations = self.aggregator.bodies(PhaseKind::Confirming);
        self.step(clients, |play, _, phase| Some(play.world.turn(phase.unmask(&confirmations).expect("they agree"))))
    }

    /// The plain sum, in the ring, of what these clients wrote down before masking.
    pub fn plain_sum(&self, survivors: impl IntoIterator<Item = ClientId>) -> RingVector {
        let params = &self.world.facts.header.params;
        let mut sum = RingVector::zeros(params.vector_len as usize, params.ring_bits);
        for client in survivors {
            let vector = RingVector::from_signed(&self.noised[&client], params.ring_bits);
            sum.add_assign(&vector).expect("one ring");
        }
        sum
    }

    /// Delivers one message, which must be accepted.
    pub fn put(&mut self, client: ClientId, body: &[u8]) {
        self.aggregator.put(&self.world, client, body).expect("an honest message");
    }

    fn step<From, To>(
        &mut self,
        clients: BTreeMap<ClientId, From>,
        mut act: impl FnMut(&mut Self, ClientId, From) -> Option<(To, Vec<u8>)>,
    ) -> BTreeMap<ClientId, To> {
        let mut next = BTreeMap::new();
        for (client, phase) in clients {
            if let Some((phase, body)) = act(self, client, phase) {
                if !body.is_empty() {
                    self.put(client, &body);
                }
                next.insert(client, phase);
            }
        }
        self.aggregator.close(&self.world);
        next
    }
}

/// Takes the first `count` clients away: they vanish.
pub fn lose<P>(clients: &mut BTreeMap<ClientId, P>, count: usize) -> Vec<ClientId> {
    (0..count).filter_map(|_| clients.pop_first().map(|(client, _)| client)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(mut play: Play, lost: [usize; 6]) -> Play {
        let mut clients = play.advertise();
        lose(&mut clients, lost[0]);
        let mut clients = play.share(clients);
        lose(&mut clients, lost[1]);
        let mut clients = play.acknowledge(clients);
        lose(&mut clients, lost[2]);
        let mut clients = play.mask(clients);
        lose(&mut clients, lost[3]);
        let mut clients = play.confirm(clients);
        lose(&mut clients, lost[4]);
        let clients = play.unmask(clients);
        let result = play.aggregator.served(&play.world, StatementKind::Result);
        for (_, phase) in clients {
            let (verified, _) = phase.verify(&result).expect("an honest result");
            let assembly = play.aggregator.phase.assembly().expect("there was a roster");
            let living = verified.survivors.members().leaves().map(|leaf| assembly.roster().client(leaf));
            assert_eq!(verified.sum.expect("released"), play.plain_sum(living), "bit for bit");
        }
        play
    }

    /// C-03: the sum is that of the survivors, bit for bit, whoever vanishes where.
    #[test]
    fn a_round_releases_exactly_the_sum_of_the_survivors() {
        for (n, lost) in [(3, [0; 6]), (12, [0, 0, 0, 0, 0, 0]), (64, [3, 3, 2, 3, 3, 0])] {
            let play = whole(Play::new(small_params(n, 40)), lost);
            assert_eq!(play.aggregator.phase.kind(), PhaseKind::Published);
        }
    }
}
