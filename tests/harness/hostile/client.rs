//! Clients that misbehave: one that keeps to the protocol by hand, so that a test can send something else first, and one
//! whose secrets the test knows and bends. Both speak HTTP as bytes on a socket, to the real aggregator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use curve25519_dalek::Scalar;
use curve25519_dalek::scalar::clamp_integer;
use sha2::{Digest as _, Sha512};

use veilsum_aggregator::clock::{Clock as _, SystemClock};
use veilsum_aggregator::round::View;
use veilsum_crypto::client::{Enrolled, HeaderEvidence, Membership, Memory, Moment, Opened, Resumed, Sealed};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex, RoundId};
use veilsum_crypto::math::shamir::{Polynomial, ShareScalar};
use veilsum_crypto::messages::acknowledgement::shares_digest;
use veilsum_crypto::messages::key_advertisement::RoundKeys;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{
    Acknowledgement, Confirmation, CoreSet, Edge, EdgeReport, Header, KeyAdvertisement, MaskedInput, Opening,
    ReadPermit, SealedShares,
};
use veilsum_crypto::primitives::agreement::{ChannelSecretKey, MailEdge, MaskingSecretKey, Point, SelfMaskSecret};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::context::{CoreContext, RosterContext};
use veilsum_crypto::primitives::labels::{self, Label};
use veilsum_crypto::primitives::prg::NoiseSeed;
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Place, Signed, Statement};
use veilsum_crypto::privacy::SkellamSampler;
use veilsum_crypto::server::{Phase, PhaseKind};
use veilsum_crypto::testing::os_rng;
use veilsum_crypto::update::{ModelUpdate, Noised, Privacy, prepare};

use super::wire::{Answer, request};
use crate::world::World;

/// X25519 keys that make an agreed secret guessable, or that have another encoding (RFC 7748; docs/protocol.md §2.2): the five
/// points of small order, one of them again unreduced, and the base point with its highest bit set.
pub static SMALL_ORDER: LazyLock<[[u8; 32]; 7]> = LazyLock::new(|| {
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0900000000000000000000000000000000000000000000000000000000000080",
    ]
    .map(|key| Digest::from_hex(key).expect("64 digits").0)
});

/// Ed25519 identity keys of small order: the identity, and the point of order two. docs/protocol.md §2.7
pub fn small_order_identity() -> [[u8; 32]; 2] {
    let identity = std::array::from_fn(|at| u8::from(at == 0));
    let order_two = SMALL_ORDER[4]; // y = -1; for X25519 the same bytes are u = p - 1
    [identity, order_two]
}

/// Adds the order of the group to a scalar: another encoding of the same signature, where canonical ones are not demanded.
pub fn add_group_order(scalar: &mut [u8]) {
    let order_less_one = Scalar::ZERO - Scalar::ONE;
    let mut carry = 1_u16;
    for (byte, of_order) in scalar.iter_mut().zip(order_less_one.as_bytes()) {
        carry += u16::from(*byte) + u16::from(*of_order);
        (*byte, carry) = (carry as u8, carry >> 8);
    }
}

/// A signature of whoever holds `key` with the identity for R: it verifies wherever R is only compared, not judged.
pub fn with_small_order_commitment(statement: &Statement, key: &IdentitySecretKey) -> Vec<u8> {
    let mut commitment = [0; 32];
    commitment[0] = 1; // the identity of edwards25519
    let expanded: [u8; 64] = Sha512::digest(*key.to_bytes()).into();
    let half = expanded[..32].try_into().expect("32 bytes");
    let secret = Scalar::from_bytes_mod_order(clamp_integer(half));
    let bytes = statement.encode();
    let challenge = Sha512::new_with_prefix(commitment).chain_update(key.public().as_bytes()).chain_update(&bytes);
    let response = Scalar::from_hash(challenge) * secret;
    [&bytes[..], &commitment, response.as_bytes()].concat()
}

/// A client that takes each step of the protocol as it should, and sends what the test likes.
pub struct Hand {
    /// Who it is.
    pub member: Arc<Membership>,
    /// Which round.
    pub round: RoundId,
    /// Its header.
    pub header: Header,
    address: SocketAddr,
    at: usize,
    stage: Option<Resumed>,
}

impl Hand {
    /// Of this client, before the round with this counter.
    pub async fn new(world: &World, number: usize, counter: u64) -> Self {
        let header = world.header(counter).await;
        let member = world.membership(number);
        let stage = Some(Resumed::Enrolled(Enrolled::new(member.clone(), Memory::new())));
        Self { member, round: header.round(), header, address: world.address, at: number, stage }
    }

    /// Its id.
    pub fn client(&self) -> ClientId {
        self.member.client()
    }

    /// The address of something in this round.
    pub fn path(&self, what: &str) -> String {
        format!("/v1/rounds/{}/{what}", self.round)
    }

    /// Sends a message as itself.
    pub async fn put(&self, phase: &str, body: &[u8]) -> Answer {
        self.put_as(self.client(), phase, body).await
    }

    /// Sends a message under somebody's name.
    pub async fn put_as(&self, client: ClientId, phase: &str, body: &[u8]) -> Answer {
        request(self.address, "PUT", &self.path(&format!("{phase}/{client}")), &[], body).await
    }

    /// A signed read statement for a path.
    pub fn permit(&self, path: &str) -> String {
        hex::encode(ReadPermit::sign(path, &self.header.chain(), self.client(), &self.member.identity).encode())
    }

    /// Reads with a permit of its own, or with another.
    pub async fn get(&self, target: &str, permit: Option<&str>) -> Answer {
        let fields: Vec<_> = permit.iter().map(|permit| ("veilsum-read", *permit)).collect();
        request(self.address, "GET", target, &fields, b"").await
    }

    /// Waits for something of this round.
    async fn read(&self, what: &str) -> Vec<u8> {
        let path = self.path(what);
        let joint = if path.contains('?') { '&' } else { '?' };
        loop {
            let answer = self.get(&format!("{path}{joint}wait=5000"), Some(&self.permit(&path))).await;
            match answer.status {
                200 => return answer.body,
                204 => {}
                _ => panic!("{path}: {answer:?} {}", String::from_utf8_lossy(&answer.body)),
            }
        }
    }

    async fn read_list(&self, what: &str) -> Vec<Vec<u8>> {
        let body = self.read(&format!("{what}/{}", self.client())).await;
        read_list(&body)
    }

    /// Signs an altered statement: valid in itself.
    pub fn sign(&self, message: &[u8], label: Label, alter: impl FnOnce(&mut Statement)) -> Vec<u8> {
        let mut reader = Reader::new(message);
        let mut statement = Signed::read(&mut reader, label).expect("its own").statement().clone();
        alter(&mut statement);
        [statement.sign(&self.member.identity).encode(), reader.rest().to_vec()].concat()
    }

    /// §5.1.
    pub async fn advert(&mut self) -> Vec<u8> {
        let header = request(self.address, "GET", &self.path("header"), &[], b"").await.body;
        let Some(Resumed::Enrolled(phase)) = self.stage.take() else { panic!("not enrolled") };
        let turn = phase.advertise(self.header.task, &header, &HeaderEvidence::default(), now(), &mut os_rng());
        let (next, message) = turned(turn.expect("an honest header"));
        self.stage = Some(Resumed::AwaitingRoster(next, message.clone()));
        message
    }

    /// §5.2.
    pub async fn deal(&mut self) -> Vec<u8> {
        let roster = self.read("roster").await;
        let Some(Resumed::AwaitingRoster(phase, _)) = self.stage.take() else { panic!("it did not advertise") };
        let evidence = phase.examine(&roster, now(), &mut os_rng()).expect("an honest roster");
        let (phase, _) = turned(phase.pin(&evidence));
        let wanted: Vec<LeafIndex> = evidence.wanted().iter().copied().collect();
        let list: Vec<String> = wanted.iter().map(|leaf| leaf.0.to_string()).collect();
        let body = self.read(&format!("leaves?i={}", list.join(","))).await;
        let mut reader = Reader::new(&body);
        let leaves = wanted.iter().map(|leaf| (*leaf, reader.prefixed("leaf").expect("in form").to_vec())).collect();
        let turn = phase.share(evidence, &leaves, &mut os_rng());
        let (next, message) = turned(turn.expect("honest leaves"));
        self.stage = Some(Resumed::AwaitingMail(next, message.clone()));
        message
    }

    /// §5.3.
    pub async fn acknowledge(&mut self) -> Vec<u8> {
        let mail = self.read_list("mail").await;
        let Some(Resumed::AwaitingMail(phase, _)) = self.stage.take() else { panic!("it did not deal") };
        let (next, message) = turned(phase.acknowledge(&mail).expect("honest mail"));
        self.stage = Some(Resumed::ReadyToMask(next, message.clone()));
        message
    }

    /// §5.4: its opening, if somebody complained.
    pub async fn open(&mut self) -> Option<Vec<u8>> {
        let complaints = self.read_list("complaints").await;
        let Some(Resumed::ReadyToMask(phase, last)) = self.stage.take() else { panic!("it did not acknowledge") };
        let (phase, message) = match phase.open(&complaints).expect("few complaints") {
            Opened::Nothing(phase) => (phase, None),
            Opened::Opening(turn) => {
                let (phase, message) = turned(turn);
                (phase, Some(message))
            }
        };
        self.stage = Some(Resumed::ReadyToMask(phase, last));
        message
    }

    /// §5.5; also what it wrote down before masking.
    pub async fn mask(&mut self) -> (Vec<u8>, Vec<i64>) {
        let core = self.read("core").await;
        let Some(Resumed::ReadyToMask(mut phase, _)) = self.stage.take() else { panic!("it did not acknowledge") };
        if phase.has_complained() {
            phase.take_openings(&self.read_list("openings").await);
        }
        let update = noised(&self.header, self.at, phase.share_variance());
        let values = update.values().to_vec();
        let (next, message) = turned(phase.mask(&core, update).expect("an honest core"));
        self.stage = Some(Resumed::AwaitingSurvivors(next, message.clone()));
        (message, values)
    }

    /// §5.6; empty where it is not of the agreement set.
    pub async fn confirm(&mut self) -> Vec<u8> {
        let survivors = self.read("survivors").await;
        let uploads = self.read_list("uploads").await;
        let Some(Resumed::AwaitingSurvivors(phase, _)) = self.stage.take() else { panic!("it did not upload") };
        let (next, message) = turned(phase.confirm(&survivors, &uploads).expect("an honest list"));
        self.stage = Some(Resumed::ReadyToUnmask(next, message.clone()));
        message
    }

    /// §5.7.
    pub async fn unmask(&mut self) -> Vec<u8> {
        let confirmations = read_list(&self.read("confirmations").await);
        let Some(Resumed::ReadyToUnmask(phase, _)) = self.stage.take() else { panic!("it did not confirm") };
        let (next, message) = turned(phase.unmask(&confirmations).expect("they agree"));
        self.stage = Some(Resumed::AwaitingResult(next, message.clone()));
        message
    }
}

/// Takes part by hand from where it stands to the end; its vector goes into the world's journal.
pub async fn finish(world: &World, mut hand: Hand) {
    loop {
        let (phase, message) = match hand.stage.as_ref().expect("a stage") {
            Resumed::Enrolled(_) => ("advertise", hand.advert().await),
            Resumed::AwaitingRoster(..) => ("share", hand.deal().await),
            Resumed::AwaitingMail(..) => ("acknowledge", hand.acknowledge().await),
            Resumed::ReadyToMask(..) => {
                if let Some(opening) = hand.open().await {
                    hand.put("open", &opening).await.is_admitted();
                }
                let (message, values) = hand.mask().await;
                world.noised.lock().expect("no panic").insert(hand.client(), values);
                ("mask", message)
            }
            Resumed::AwaitingSurvivors(..) => ("confirm", hand.confirm().await),
            Resumed::ReadyToUnmask(..) => ("unmask", hand.unmask().await),
            Resumed::AwaitingResult(..) => return,
        };
        if message.is_empty() {
            continue;
        }
        let answer = hand.put(phase, &message).await;
        // Enough others may have confirmed.
        assert!(answer.status == 204 || (phase == "confirm" && answer.status == 410), "{phase}: {answer:?}");
    }
}

fn now() -> Moment {
    Moment { wall: SystemClock.now(), monotonic_ms: 0 }
}

fn read_list(body: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(body);
    let count = reader.u16("count").expect("a count");
    (0..count).map(|_| reader.prefixed("item").expect("an item").to_vec()).collect()
}

/// Persists to nowhere; a macro's worth of types.
#[allow(private_bounds)]
fn turned<N, M>(turn: veilsum_crypto::client::Turn<N, M>) -> (N, Vec<u8>)
where
    veilsum_crypto::client::Turn<N, M>: Persist<N>,
{
    turn.persisted()
}

/// `Turn::persist` for all phases, which only the phases themselves can name.
trait Persist<N> {
    fn persisted(self) -> (N, Vec<u8>);
}

macro_rules! persist {
    ($($next:ty, $message:ty;)*) => { $(impl Persist<$next> for veilsum_crypto::client::Turn<$next, $message> {
        fn persisted(self) -> ($next, Vec<u8>) {
            let write = |_: &Sealed| Ok::<_, std::convert::Infallible>(());
            self.persist(&SavingKey::from_bytes([5; 32]), &mut os_rng(), write).expect("writes nothing")
        }
    })* };
}
persist! {
    veilsum_crypto::client::AwaitingRoster, KeyAdvertisement;
    veilsum_crypto::client::AwaitingRoster, veilsum_crypto::client::saved::Nothing;
    veilsum_crypto::client::AwaitingMail, SealedShares;
    veilsum_crypto::client::ReadyToMask, Acknowledgement;
    veilsum_crypto::client::ReadyToMask, Opening;
    veilsum_crypto::client::AwaitingSurvivors, MaskedInput;
    veilsum_crypto::client::ReadyToUnmask, Option<Confirmation>;
    veilsum_crypto::client::AwaitingResult, veilsum_crypto::messages::Answer;
}

/// An update that is 1 at one coordinate, noised.
pub fn noised(header: &Header, at: usize, share_variance: u64) -> Noised {
    let params = &header.params;
    let mut values = vec![0.0; params.vector_len as usize];
    let at = at % values.len();
    values[at] = 1.0;
    let sampler = SkellamSampler::new(share_variance).expect("in range");
    let noise = sampler.noise(NoiseSeed::generate(&mut os_rng()), values.len());
    let privacy =
        Privacy { clip_norm: params.clip_norm, scale: params.scale, max_squared_norm: params.max_squared_norm };
    prepare(ModelUpdate::new(values).expect("finite"), noise, &privacy, &mut os_rng()).expect("same length")
}

/// A leaf of these parts, whatever they say.
pub fn leaf_of(certificate: &[u8], advert: &[u8]) -> Vec<u8> {
    let mut leaf = Vec::new();
    veilsum_crypto::primitives::codec::write_prefixed(&mut leaf, certificate);
    veilsum_crypto::primitives::codec::write_prefixed(&mut leaf, advert);
    leaf
}

/// A certified member whose secrets the test knows and bends.
pub struct Liar {
    /// Who it is.
    pub hand: Hand,
    masking: MaskingSecretKey,
    self_mask: SelfMaskSecret,
    channel: ChannelSecretKey,
    polynomials: Option<[Polynomial; 2]>,
}

/// What a liar sends to one holder, to be bent before it is sealed and signed.
pub struct Dealt {
    /// To whom.
    pub holder: LeafIndex,
    /// What is sealed.
    pub pair: SharePair,
    /// P_s.
    pub masking_point: Point,
    /// P_b.
    pub self_mask_point: Point,
}

impl Liar {
    /// With fresh keys.
    pub fn new(hand: Hand) -> Self {
        let mut rng = os_rng();
        Self {
            hand,
            masking: MaskingSecretKey::generate(&mut rng),
            self_mask: SelfMaskSecret::generate(&mut rng),
            channel: ChannelSecretKey::generate(&mut rng),
            polynomials: None,
        }
    }

    fn identity(&self) -> &IdentitySecretKey {
        &self.hand.member.identity
    }

    /// s and b.
    pub fn secrets(&self) -> (ShareScalar, ShareScalar) {
        (self.masking.to_scalar(), self.self_mask.to_scalar())
    }

    /// Its leaf.
    pub fn advert(&self) -> Vec<u8> {
        let keys = RoundKeys {
            masking: self.masking.public(),
            self_mask: self.self_mask.public(),
            channel: self.channel.public(),
            nonce: [3; 32],
        };
        KeyAdvertisement::sign(self.hand.member.certificate.clone(), keys, &self.hand.header, self.identity()).encode()
    }

    /// The shares that an honest dealer would give this holder.
    pub fn pair(&self, holder: LeafIndex) -> SharePair {
        let [masking, self_mask] = self.polynomials.as_ref().expect("it has dealt");
        SharePair { masking: masking.share_for(holder), self_mask: self_mask.share_for(holder) }
    }

    /// Its neighbours, in its order.
    pub fn neighbours(&self, view: &View) -> Vec<LeafIndex> {
        let assembly = view.phase.assembly().expect("a roster");
        assembly.order().neighbours(assembly.find(self.hand.client()).expect("on it").0)
    }

    /// Deals, bending what it likes; the signature is its own and valid.
    pub fn deal(&mut self, view: &View, mut bend: impl FnMut(&mut Dealt)) -> Vec<u8> {
        let assembly = view.phase.assembly().expect("a roster");
        let chain = self.hand.header.chain();
        let threshold = assembly.params().threshold;
        let hide = |secret: ShareScalar| Polynomial::hide(secret, threshold, &mut os_rng());
        self.polynomials = Some([hide(self.masking.to_scalar()), hide(self.self_mask.to_scalar())]);
        let context = RosterContext { header: chain.context, roster: assembly.root() };
        let edge_to = |holder: LeafIndex| {
            let pair = self.pair(holder);
            let (masking_point, self_mask_point) = (Point::of(&pair.masking), Point::of(&pair.self_mask));
            let mut dealt = Dealt { holder, pair, masking_point, self_mask_point };
            bend(&mut dealt);
            let theirs = assembly.member(holder);
            let ends = MailEdge {
                dealer: self.hand.client(),
                holder: theirs.client,
                dealer_key: self.channel.public(),
                holder_key: theirs.channel,
            };
            let place = Place {
                context: chain.context,
                previous: assembly.root(),
                sender: self.hand.client().into(),
                receiver: theirs.client.into(),
            };
            let plaintext = [*dealt.pair.masking.as_bytes(), *dealt.pair.self_mask.as_bytes()].concat();
            let key = self.channel.mail_key(&theirs.channel, ends, &context);
            let aad = place.statement(labels::SHARE_MAIL, Vec::new()).before_body();
            let sealed = key.seal(plaintext.as_slice().try_into().expect("64 bytes"), &aad);
            let Dealt { masking_point, self_mask_point, .. } = dealt;
            Edge { holder, sealed, masking_point, self_mask_point }
        };
        let edges = self.neighbours(view).into_iter().map(edge_to).collect();
        SealedShares::sign(edges, &chain, assembly.root(), self.hand.client(), self.identity()).encode()
    }

    /// Acknowledges all its mail, whatever is in it.
    pub async fn acknowledgement(&self, world: &World, view: &View) -> Vec<u8> {
        let reports = self.neighbours(view).iter().map(|_| EdgeReport::Good).collect();
        self.acknowledgement_of(world, view, reports).await
    }

    /// Acknowledges with these reports on the messages that were admitted.
    pub async fn acknowledgement_of(&self, world: &World, view: &View, reports: Vec<EdgeReport>) -> Vec<u8> {
        let assembly = view.phase.assembly().expect("a roster");
        let dealt = world.rounds().bodies(self.hand.round, PhaseKind::Sharing, None).await.expect("the store answers");
        let roots = self.neighbours(view).into_iter().filter_map(|leaf| {
            let body = dealt.get(&assembly.roster().client(leaf))?;
            Some(Signed::read(&mut Reader::new(body), labels::SHARE).expect("admitted").root())
        });
        let (chain, me) = (self.hand.header.chain(), self.hand.client());
        Acknowledgement::sign(shares_digest(roots), reports, &chain, assembly.root(), me, self.identity()).encode()
    }

    /// Opens edges with these shares.
    pub fn opening(&self, view: &View, edges: BTreeMap<LeafIndex, SharePair>) -> Vec<u8> {
        let root = view.phase.assembly().expect("a roster").root();
        Opening::sign(edges, &self.hand.header.chain(), root, self.hand.client(), self.identity()).encode()
    }

    /// Masks as it should, from its own secrets; also what it masked.
    pub fn mask(&self, view: &View) -> (Vec<u8>, Vec<i64>) {
        let Phase::Masking(phase) = &view.phase else { panic!("the core is not fixed") };
        let (assembly, chain): (_, _) = (view.phase.assembly().expect("a roster"), self.hand.header.chain());
        let core: &CoreSet = phase.core();
        let context =
            CoreContext { roster: RosterContext { header: chain.context, roster: assembly.root() }, core: core.root() };
        let me = self.hand.client();
        let (leaf, _) = assembly.find(me).expect("on it");
        let update = noised(&self.hand.header, self.hand.at, assembly.params().share_variance);
        let values = update.values().to_vec();
        let mut vector = update.into_ring(self.hand.header.params.ring_bits);
        vector.add_mask(SelfMaskSecret::from_scalar(&self.self_mask.to_scalar()).into_mask_key(me, &context));
        for neighbour in self.neighbours(view).into_iter().filter(|leaf| core.members().has(*leaf)) {
            let peer = assembly.member(neighbour);
            let key = self.masking.pair_mask_key(me, (peer.client, &peer.masking), &context);
            if leaf < neighbour { vector.add_mask(key) } else { vector.sub_mask(key) }
        }
        (MaskedInput::sign(&vector, &chain, core.root(), me, self.identity()).encode(), values)
    }
}

/// The hash of the edge that a dealer's admitted message has for a holder.
pub fn edge_hash(message: &[u8], view: &View, holder: ClientId) -> Digest {
    let assembly = view.phase.assembly().expect("a roster");
    let (leaf, _) = assembly.find(holder).expect("on it");
    let message = SealedShares::decode(message, assembly.params().degree).expect("admitted");
    message.edge_to(leaf).expect("a neighbour").hash()
}
