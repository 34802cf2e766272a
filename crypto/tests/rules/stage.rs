//! What the attacks share: rounds small enough to play often, and a client that lies.

use std::collections::BTreeMap;
use std::sync::Arc;

use veilsum_crypto::client::*;
use veilsum_crypto::ids::*;
use veilsum_crypto::math::shamir::{Polynomial, ShareScalar};
use veilsum_crypto::messages::acknowledgement::shares_digest;
use veilsum_crypto::messages::certificate::CertificateBody;
use veilsum_crypto::messages::key_advertisement::{RoundKeys, leaf_digest};
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{self, *};
use veilsum_crypto::params::{RosterParams, RoundParams};
use veilsum_crypto::primitives::agreement::*;
use veilsum_crypto::primitives::context::RosterContext;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Place};
use veilsum_crypto::rules::{Rejection, ServerMisbehaved};
use veilsum_crypto::server::*;
use veilsum_crypto::testing::*;

/// Twelve clients and eight coordinates: c = 1, T = 3, k = 8, t = 5, at least 9 survivors, 2t - k - 1 = 1.
pub fn twelve() -> Play {
    Play::new(small_params(12, 8))
}

/// Twenty clients on a graph so thin (k = 6, t = 4) that T = 3 losses can leave one client without t neighbours. Policies
/// permit it for this test only.
pub fn thin() -> Play {
    let mut params = RoundParams {
        security_bits: 4,
        completion_bits: 1,
        dropout_tolerance: 150_000,
        cohort_min: 2,
        ..small_params(20, 8)
    };
    params.ring_bits = params.ring_bits_needed().expect("a ring is wide enough");
    Play::of(World::with_policy(params, |policy| {
        policy.security_bits_min = 4;
        policy.completion_bits_min = 1;
    }))
}

/// The error with which a client stops. It says so briefly where the client goes on.
#[track_caller]
pub fn stopped<T>(step: Result<T, ServerMisbehaved>) -> ServerMisbehaved {
    match step {
        Err(error) => error,
        Ok(_) => panic!("the client went on"),
    }
}

/// The error with which the aggregator refuses.
#[track_caller]
pub fn refused<T>(judged: Result<T, Rejection>) -> Rejection {
    match judged {
        Err(error) => error,
        Ok(_) => panic!("the aggregator accepted it"),
    }
}

/// Clients up to the point where they wait for the core.
pub fn acknowledged(play: &mut Play) -> BTreeMap<ClientId, ReadyToMask> {
    let clients = play.advertise();
    let clients = play.share(clients);
    play.acknowledge(clients)
}

/// Clients that uploaded.
pub fn uploaded(play: &mut Play) -> BTreeMap<ClientId, AwaitingSurvivors> {
    let clients = acknowledged(play);
    play.mask(clients)
}

/// The member of this name, with the identity key that signs for it.
pub fn member(play: &Play, client: ClientId) -> &Arc<Membership> {
    play.world.members.iter().find(|member| member.client() == client).expect("a client of this world")
}

pub fn assembly(play: &Play) -> &Assembly {
    play.aggregator.phase.assembly().expect("there is a roster")
}

pub fn leaf(play: &Play, client: ClientId) -> LeafIndex {
    assembly(play).roster().leaf_of(client).expect("on the roster")
}

pub fn client(play: &Play, leaf: LeafIndex) -> ClientId {
    assembly(play).roster().client(leaf)
}

/// In ring order.
pub fn neighbours(play: &Play, of: ClientId) -> Vec<ClientId> {
    let neighbours = assembly(play).order().neighbours(leaf(play, of));
    neighbours.into_iter().map(|leaf| client(play, leaf)).collect()
}

/// Everybody on the roster but these.
pub fn all_but(play: &Play, without: &[ClientId]) -> Bitmap {
    let members = assembly(play).roster().members();
    let inside = members.iter().filter(|(client, _)| !without.contains(client));
    Bitmap::of(assembly(play).params().n, inside.map(|(client, _)| leaf(play, *client)))
}

/// A core that the aggregator signs, honest or not.
pub fn core_of(play: &Play, members: Bitmap) -> CoreSet {
    CoreSet::fix(members, &play.world.facts.chain, assembly(play).root())
}

/// The core that is in force.
pub fn core_in_force(play: &Play) -> CoreSet {
    let (bytes, _) = &play.aggregator.statements[&StatementKind::Core];
    let statement = veilsum_crypto::primitives::signature::Statement::decode(bytes, labels::CORE).expect("as fixed");
    CoreSet::from_statement(statement, assembly(play).params().n).expect("as fixed")
}

/// A survivor list over the core in force, as served. Clients do not check its tree of uploads.
pub fn survivors_of(play: &Play, members: Bitmap) -> Vec<u8> {
    let core = core_in_force(play).root();
    let survivors = Survivors::fix(members, Digest([7; 32]), &play.world.facts.chain, core);
    play.world.signed(survivors.statement().clone())
}

/// What the aggregator shows this client of its neighbours' uploads.
pub fn uploads(play: &Play, client: ClientId) -> Vec<Vec<u8>> {
    play.aggregator.uploads_for(client)
}

/// This client masks some update under the core shown.
pub fn mask(
    play: &Play,
    phase: ReadyToMask,
    core: &[u8],
) -> Result<Turn<AwaitingSurvivors, MaskedInput>, ServerMisbehaved> {
    let update = play.world.update(1.0, 0, phase.share_variance());
    phase.mask(core, update)
}

/// A roster that the aggregator signs over any leaves, admitted by nobody; and the leaves as it shows them.
pub fn forged_roster(world: &World, leaves: &BTreeMap<ClientId, Vec<u8>>) -> (Vec<u8>, BTreeMap<LeafIndex, Vec<u8>>) {
    let params = RosterParams::derive(leaves.len() as u32, &world.facts.header.params).expect("feasible");
    let entries = leaves.iter().map(|(client, leaf)| (*client, leaf_digest(leaf))).collect();
    let roster = Roster::fix(&world.facts.chain, &params, [9; 32], entries);
    let shown = (0..).map(LeafIndex).zip(leaves.values().cloned()).collect();
    (served(world, &roster), shown)
}

pub fn served(world: &World, roster: &Roster) -> Vec<u8> {
    [world.signed(roster.statement().clone()), roster.list()].concat()
}

/// The client that judges this roster and these leaves.
pub fn deal(
    world: &World,
    phase: AwaitingRoster,
    roster: &[u8],
    leaves: &BTreeMap<LeafIndex, Vec<u8>>,
) -> Result<Turn<AwaitingMail, SealedShares>, ServerMisbehaved> {
    let evidence = phase.examine(roster, now(), &mut os_rng())?;
    let (phase, _) = world.turn(phase.pin(&evidence));
    phase.share(evidence, leaves, &mut os_rng())
}

/// Gives a client another certificate, with the same identity key.
pub fn certify(world: &mut World, number: usize, change: impl FnOnce(&mut CertificateBody)) {
    let before = &world.members[number];
    let mut body = *before.certificate.body();
    change(&mut body);
    let identity = IdentitySecretKey::from_bytes(&before.identity.to_bytes());
    let certificate = Certificate::issue(body, &world.authority);
    world.members[number] = Arc::new(Membership { identity, certificate, policy: before.policy.clone() });
}

/// Everybody advertises, these clients with the leaves given.
pub fn advertise_with(play: &mut Play, given: &[(ClientId, Vec<u8>)]) -> BTreeMap<ClientId, AwaitingRoster> {
    let header = play.world.header();
    let mut clients = BTreeMap::new();
    for number in 0..play.world.members.len() {
        let client = play.world.members[number].client();
        if let Some((_, leaf)) = given.iter().find(|(given, _)| *given == client) {
            play.put(client, leaf);
            continue;
        }
        let enrolled = play.world.enrolled(number);
        let turn = enrolled
            .advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng())
            .expect("an honest header");
        let (phase, body) = play.world.turn(turn);
        play.put(client, &body);
        clients.insert(client, phase);
    }
    play.aggregator.close(&play.world);
    clients
}

/// A client under the adversary's control: a certified member whose secrets the test knows and bends.
pub struct Liar {
    member: Arc<Membership>,
    pub keys: RoundKeys,
    masking: MaskingSecretKey,
    self_mask: SelfMaskSecret,
    channel: ChannelSecretKey,
    /// The honest polynomials of both secrets, once it has dealt.
    polynomials: Option<[Polynomial; 2]>,
}

/// What a liar sends to one holder, to be bent before it is sealed and signed.
pub struct Dealt {
    pub holder: LeafIndex,
    pub pair: SharePair,
    pub masking_point: Point,
    pub self_mask_point: Point,
    /// The ciphertext will not open.
    pub garbled: bool,
}

impl Liar {
    pub fn new(world: &World, number: usize) -> Self {
        let mut rng = os_rng();
        let masking = MaskingSecretKey::generate(&mut rng);
        let self_mask = SelfMaskSecret::generate(&mut rng);
        let channel = ChannelSecretKey::generate(&mut rng);
        let keys = RoundKeys {
            masking: masking.public(),
            self_mask: self_mask.public(),
            channel: channel.public(),
            nonce: [3; 32],
        };
        Self { member: world.members[number].clone(), keys, masking, self_mask, channel, polynomials: None }
    }

    pub fn client(&self) -> ClientId {
        self.member.client()
    }

    pub fn identity(&self) -> &IdentitySecretKey {
        &self.member.identity
    }

    /// Its leaf, with the keys it has now.
    pub fn advert(&self, world: &World) -> Vec<u8> {
        KeyAdvertisement::sign(self.member.certificate.clone(), self.keys, &world.facts.header, self.identity())
            .encode()
    }

    /// The shares that an honest dealer would give this holder.
    pub fn pair(&self, holder: LeafIndex) -> SharePair {
        let [masking, self_mask] = self.polynomials.as_ref().expect("it has dealt");
        SharePair { masking: masking.share_for(holder), self_mask: self_mask.share_for(holder) }
    }

    /// Deals, bending what it likes; the signature is its own and valid.
    pub fn deal(&mut self, play: &Play, mut bend: impl FnMut(&mut Dealt)) -> Vec<u8> {
        let (assembly, facts) = (assembly(play), &play.world.facts);
        let threshold = assembly.params().threshold;
        let hide = |secret: ShareScalar| Polynomial::hide(secret, threshold, &mut os_rng());
        self.polynomials = Some([hide(self.masking.to_scalar()), hide(self.self_mask.to_scalar())]);
        let (me, _) = assembly.find(self.client()).expect("on the roster");
        let context = RosterContext { header: facts.chain.context, roster: assembly.root() };
        let edge_to = |holder: LeafIndex| {
            let pair = self.pair(holder);
            let (masking_point, self_mask_point) = (Point::of(&pair.masking), Point::of(&pair.self_mask));
            let mut dealt = Dealt { holder, pair, masking_point, self_mask_point, garbled: false };
            bend(&mut dealt);
            let theirs = assembly.member(holder);
            let ends = MailEdge {
                dealer: self.client(),
                holder: theirs.client,
                dealer_key: self.keys.channel,
                holder_key: theirs.channel,
            };
            let place = Place {
                context: facts.chain.context,
                previous: assembly.root(),
                sender: self.client().into(),
                receiver: theirs.client.into(),
            };
            let plaintext = [*dealt.pair.masking.as_bytes(), *dealt.pair.self_mask.as_bytes()].concat();
            let key = self.channel.mail_key(&theirs.channel, ends, &context);
            let aad = place.statement(labels::SHARE_MAIL, Vec::new()).before_body();
            let mut sealed = key.seal(plaintext.as_slice().try_into().expect("64 bytes"), &aad);
            sealed[0] ^= u8::from(dealt.garbled);
            let Dealt { masking_point, self_mask_point, .. } = dealt;
            Edge { holder, sealed, masking_point, self_mask_point }
        };
        let edges = assembly.order().neighbours(me).into_iter().map(edge_to).collect();
        SealedShares::sign(edges, &facts.chain, assembly.root(), self.client(), self.identity()).encode()
    }

    /// Acknowledges all its mail, whatever is in it.
    pub fn acknowledgement(&self, play: &Play) -> Vec<u8> {
        acknowledgement(play, self.client(), |_| EdgeReport::Good)
    }

    /// Opens an edge with these shares.
    pub fn opening(&self, play: &Play, holder: LeafIndex, pair: SharePair) -> Vec<u8> {
        let edges = BTreeMap::from([(holder, pair)]);
        messages::Opening::sign(edges, &play.world.facts.chain, assembly(play).root(), self.client(), self.identity())
            .encode()
    }
}

/// An acknowledgement with these reports on the share messages admitted, signed by the holder named.
pub fn acknowledgement(play: &Play, holder: ClientId, report: impl Fn(ClientId) -> EdgeReport) -> Vec<u8> {
    let dealers = neighbours(play, holder);
    let reports: Vec<_> = dealers.iter().map(|dealer| report(*dealer)).collect();
    let reported = dealers.iter().zip(&reports).filter(|(_, report)| **report != EdgeReport::Missing);
    let shares = &play.aggregator.received[&PhaseKind::Sharing];
    let admitted = reported.filter(|(dealer, _)| shares.contains_key(dealer));
    let roots = shares_digest(admitted.map(|(dealer, _)| dealt(play, *dealer).signed().root()));
    let (chain, key) = (&play.world.facts.chain, &member(play, holder).identity);
    Acknowledgement::sign(roots, reports, chain, assembly(play).root(), holder, key).encode()
}

/// The hash of the edge that a dealer sent to a holder.
pub fn edge_hash(play: &Play, dealer: ClientId, holder: ClientId) -> Digest {
    dealt(play, dealer).edge_to(leaf(play, holder)).expect("neighbours").hash()
}

/// A dealer's admitted share message.
pub fn dealt(play: &Play, dealer: ClientId) -> SealedShares {
    let body = &play.aggregator.received[&PhaseKind::Sharing][&dealer];
    SealedShares::decode(body, assembly(play).params().degree).expect("admitted")
}

/// Whom the round named, and by which rule.
pub fn named(play: &Play) -> Vec<(ClientId, u8)> {
    let faults = play.aggregator.effects.iter().filter_map(|effect| match effect {
        Effect::Fault { client, rule, .. } => Some((*client, *rule)),
        _ => None,
    });
    faults.collect()
}

/// What the round keeps against this client.
#[track_caller]
pub fn evidence(play: &Play, named: ClientId) -> Evidence {
    let bytes = play.aggregator.effects.iter().find_map(|effect| match effect {
        Effect::Fault { client, evidence, .. } if *client == named => Some(evidence),
        _ => None,
    });
    Evidence::decode(bytes.expect("it is named")).expect("as kept")
}

/// The rest of the round, from the core on; every client that answers sees the exact sum of the survivors.
pub fn finish(play: &mut Play, clients: BTreeMap<ClientId, ReadyToMask>) {
    let clients = play.mask(clients);
    let clients = play.confirm(clients);
    let clients = play.unmask(clients);
    verify(play, clients);
}

/// Everybody verifies; the sum is that of the survivors, bit for bit.
#[track_caller]
pub fn verify(play: &Play, clients: BTreeMap<ClientId, AwaitingResult>) {
    assert_eq!(play.aggregator.phase.kind(), PhaseKind::Published, "the round ends with a sum");
    let result = play.aggregator.served(&play.world, StatementKind::Result);
    for phase in clients.into_values() {
        let (verified, _) = phase.verify(&result).expect("an honest result");
        let living = verified.survivors.members().leaves().map(|leaf| client(play, leaf));
        let exact = verified.sum.expect("released") == play.plain_sum(living);
        assert!(exact, "the sum is not that of the survivors");
    }
}
